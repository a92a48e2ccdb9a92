//! How long each operator of a worker is busy, and what workers send one another, from what timely logs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use driftline_operators::dataflow::{Meter, QueryContext};
use driftline_operators::time::Epoch;
use timely::logging::{
    ScheduleEvent, StartStop, TimelyEvent, TimelyEventBuilder, TimelyProgressEventBuilder,
};
use timely::worker::Worker as TimelyWorker;

use crate::metrics::TrafficMetrics;

/// Counts of what workers have sent one another.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    messages: AtomicU64,
    progress: AtomicU64,
    progress_changes: AtomicU64,
}

impl Traffic {
    pub(crate) fn metrics(&self) -> TrafficMetrics {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        TrafficMetrics {
            messages: read(&self.messages),
            progress: read(&self.progress),
            progress_changes: read(&self.progress_changes),
        }
    }
}

/// Adds the turns of operators to their meters.
pub(super) struct BusyTimes(Rc<RefCell<Watched>>);

struct Watched {
    traffic: Arc<Traffic>,
    /// By timely's number of the operator.
    meters: HashMap<usize, Arc<Meter>>,
    /// Names of the operators that have been made since a query was watched.
    made: Vec<(usize, String)>,
    /// Operators that run now, the innermost last, and since when.
    running: Vec<(usize, Duration)>,
}

impl BusyTimes {
    /// Listens to what the worker logs.
    pub(super) fn of(timely: &TimelyWorker, traffic: Arc<Traffic>) -> Self {
        let progress = Arc::clone(&traffic);
        let watched =
            Watched { traffic, meters: HashMap::new(), made: Vec::new(), running: Vec::new() };
        let watched = Rc::new(RefCell::new(watched));
        let told = Rc::clone(&watched);
        if let Some(mut log) = timely.log_register() {
            log.insert::<TimelyEventBuilder, _>("timely", move |_, events| {
                let Some(events) = events else { return };
                let mut watched = told.borrow_mut();
                for (time, event) in events.drain(..) {
                    watched.see(time, event);
                }
            });
            // Scopes of this type of time log here; every dataflow is one.
            let name = format!("timely/progress/{}", std::any::type_name::<Epoch>());
            log.insert::<TimelyProgressEventBuilder<Epoch>, _>(&name, move |_, events| {
                let Some(events) = events else { return };
                for (_, event) in events.drain(..).filter(|(_, event)| event.is_send) {
                    let changes = event.messages.len() + event.internal.len();
                    progress.progress.fetch_add(1, Ordering::Relaxed);
                    progress.progress_changes.fetch_add(changes as u64, Ordering::Relaxed);
                }
            });
        }
        Self(watched)
    }

    /// Measures the operators of a query from now on.
    pub(super) fn watch(&self, context: &QueryContext, owners: Vec<(usize, Arc<Meter>)>) {
        let Some(worker) = owners.first().map(|(_, meter)| meter.worker) else { return };
        // timely numbers channels as well, which have no turns; and what is not an operator is never shut down.
        let owners: HashMap<usize, Arc<Meter>> = owners.into_iter().collect();
        // Those that are measured by themselves are told from the rest of their part by their names.
        let own = |meter: &Arc<Meter>| meter.worker == worker && !meter.step.is_empty();
        let steps: Vec<Arc<Meter>> = context.meters().into_iter().filter(own).collect();
        let mut watched = self.0.borrow_mut();
        for (operator, name) in std::mem::take(&mut watched.made) {
            let Some(part) = owners.get(&operator) else { continue };
            let step = steps.iter().find(|step| step.part == part.part && step.step == name);
            watched.meters.insert(operator, Arc::clone(step.unwrap_or(part)));
        }
    }
}

impl Watched {
    fn see(&mut self, time: Duration, event: TimelyEvent) {
        match event {
            TimelyEvent::Schedule(ScheduleEvent { id, start_stop: StartStop::Start }) => {
                self.running.push((id, time));
            }
            TimelyEvent::Schedule(ScheduleEvent { id, start_stop: StartStop::Stop }) => {
                let Some((started, since)) = self.running.pop() else { return };
                if let Some(meter) = self.meters.get(&id).filter(|_| started == id) {
                    let ns = time.saturating_sub(since).as_nanos();
                    meter.add_turn(u64::try_from(ns).unwrap_or(u64::MAX));
                }
            }
            TimelyEvent::Messages(sent) if sent.is_send && sent.source != sent.target => {
                self.traffic.messages.fetch_add(1, Ordering::Relaxed);
            }
            TimelyEvent::Operates(operator) => self.made.push((operator.id, operator.name)),
            TimelyEvent::Shutdown(operator) => {
                self.meters.remove(&operator.id);
            }
            _ => {}
        }
    }
}
