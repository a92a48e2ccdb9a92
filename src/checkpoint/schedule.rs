//! Takes checkpoints by the clock.

use std::sync::Arc;

use super::{Checkpoint, Coordinator};
use crate::error::Result;
use crate::runtime::clock::Alarm;
use crate::runtime::ingress::Ingress;

/// Takes a checkpoint whenever the interval has passed since the last one began, until the engine ends. One that fails is
/// counted, and the next is tried when its time has come.
pub(crate) fn run(
    coordinator: &Coordinator,
    ingress: &Ingress,
    alarm: &Arc<Alarm>,
    take: impl Fn() -> Result<Checkpoint>,
) {
    let Some(every) = coordinator.every() else { return };
    let clock = ingress.clock();
    let mut due = clock.now().saturating_add(every);
    while !ingress.is_stopped() {
        if clock.now() < due {
            clock.wait(alarm, Some(due));
            continue;
        }
        due = clock.now().saturating_add(every);
        if coordinator.awaits_set_up(ingress) {
            continue;
        }
        // Whoever takes it counts a failure.
        let _ = take();
    }
}
