//! Time that passed, processor time, and what several figures come to. Shared by benches.

use std::time::{Duration, Instant};

use cpu_time::ProcessTime;

/// Processor time of this process so far, all its threads and the system's work for them included.
pub(crate) fn processor_time() -> Duration {
    ProcessTime::now().as_duration()
}

/// How long something took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    /// By the clock.
    pub(crate) seconds: f64,
    /// Of processor time.
    pub(crate) busy: f64,
}

impl Took {
    /// Seconds of one core: processor time, or the time that passed where that is more, as when a thread waited.
    pub(crate) fn of_core(self) -> f64 {
        self.seconds.max(self.busy)
    }
}

/// Both clocks since a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch(Instant, Duration);

impl Watch {
    pub(crate) fn start() -> Self {
        Self(Instant::now(), processor_time())
    }

    pub(crate) fn took(self) -> Took {
        let busy = processor_time().saturating_sub(self.1);
        Took { seconds: self.0.elapsed().as_secs_f64(), busy: busy.as_secs_f64() }
    }
}

/// The value below which a share of all lies.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}
