//! What the operators of one query share: counters, the first failure, and whether it was cancelled.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arrow::record_batch::RecordBatch;

use super::Meter;
use crate::error::{OperatorError, Result};

/// Shared by all operators of one query on all workers. An operator's own may have a [`Meter`] besides, for what it alone
/// does on one worker.
#[derive(Clone, Debug, Default)]
pub struct QueryContext {
    shared: Arc<Shared>,
    meter: Option<Arc<Meter>>,
}

#[derive(Debug, Default)]
struct Shared {
    counters: Counters,
    failure: OnceLock<OperatorError>,
    cancelled: AtomicBool,
    first_row_error: OnceLock<String>,
    meters: Mutex<Vec<Arc<Meter>>>,
}

/// Counts of one query, summed over workers, or of one of its operators on one worker.
#[derive(Debug, Default)]
pub struct Counters {
    /// Rows that reached the query from its relation.
    pub rows_in: AtomicU64,
    /// Rows that left it.
    pub rows_out: AtomicU64,
    /// Rows left out because an expression failed on them.
    pub rows_failed: AtomicU64,
    /// Rows left out because a bound on groups, panes or waiting rows was reached.
    pub rows_refused: AtomicU64,
    /// Windows finished; a window counts once for each worker that holds keys of it.
    pub windows_closed: AtomicU64,
    /// Models held by detectors.
    pub models: AtomicU64,
    /// Models that score, out of those.
    pub models_ready: AtomicU64,
    /// Models built as a whole, again or for the first time.
    pub rebuilds: AtomicU64,
    /// Nanoseconds that these took.
    pub rebuild_ns: AtomicU64,
    /// Models dropped by the bound on models.
    pub models_evicted: AtomicU64,
    /// Keys held by operators that keep state for a key as long as they run, models of detectors not among them.
    pub keys: AtomicU64,
    /// Keys of these that made room for others.
    pub keys_evicted: AtomicU64,
    /// Rows that a detector found anomalous.
    pub anomalies: AtomicU64,
    /// Bytes of state held by windows, detectors and rows that wait for their turn.
    pub state_bytes: AtomicU64,
}

impl QueryContext {
    /// The counts so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Adds to a counter.
    pub fn count(&self, counter: impl Fn(&Counters) -> &AtomicU64, by: u64) {
        if by > 0 {
            counter(&self.shared.counters).fetch_add(by, Ordering::Relaxed);
            if let Some(meter) = &self.meter {
                counter(&meter.counters).fetch_add(by, Ordering::Relaxed);
            }
        }
    }

    /// The same context for the operators of one part of the query on one worker, with a meter of their own.
    #[must_use]
    pub fn of_part(&self, part: usize, worker: usize) -> Self {
        self.metered(Meter::new(part, "", worker))
    }

    /// The same context for an operator of a part that is measured by itself, by its name in the dataflow.
    #[must_use]
    pub fn of_step(&self, step: &'static str) -> Self {
        match &self.meter {
            Some(meter) => self.metered(Meter::new(meter.part, step, meter.worker)),
            None => self.clone(),
        }
    }

    fn metered(&self, meter: Meter) -> Self {
        let meter = Arc::new(meter);
        self.lock_meters().push(Arc::clone(&meter));
        Self { shared: Arc::clone(&self.shared), meter: Some(meter) }
    }

    /// The meter of this context.
    #[must_use]
    pub fn meter(&self) -> Option<&Arc<Meter>> {
        self.meter.as_ref()
    }

    /// All meters of the query, on all workers.
    #[must_use]
    pub fn meters(&self) -> Vec<Arc<Meter>> {
        self.lock_meters().clone()
    }

    fn lock_meters(&self) -> MutexGuard<'_, Vec<Arc<Meter>>> {
        // Nothing is done under the lock that could panic.
        self.shared.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes batches that leave the query.
    pub(super) fn gave(&self, batches: usize) {
        if let Some(meter) = &self.meter {
            meter.batches_out.fetch_add(batches as u64, Ordering::Relaxed);
        }
    }

    /// Notes rows that have come from another worker, where the operator before cannot know how many came here.
    pub(super) fn received(&self, rows: &RecordBatch) {
        if let Some(meter) = &self.meter {
            meter.counters.rows_in.fetch_add(rows.num_rows() as u64, Ordering::Relaxed);
            meter.batches_in.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The failure that ended the query, if any.
    #[must_use]
    pub fn failure(&self) -> Option<&OperatorError> {
        self.shared.failure.get()
    }

    /// What the first row that an expression failed on had to say.
    #[must_use]
    pub fn first_row_error(&self) -> Option<&str> {
        self.shared.first_row_error.get().map(String::as_str)
    }

    /// Keeps the first failure; the engine ends the query on seeing it.
    pub fn fail(&self, error: OperatorError) {
        // A later failure is a consequence of the first as often as not.
        let _ = self.shared.failure.set(error);
    }

    /// Asks the query's operators to drop their state instead of finishing it.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Release);
    }

    /// Whether results no longer matter.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shared.cancelled.load(Ordering::Acquire) || self.shared.failure.get().is_some()
    }

    /// Applies `step` to the batch; where it fails, to its halves, so that only the rows it fails on are left out.
    /// They are counted.
    pub fn isolate(&self, batch: &RecordBatch, step: &mut impl FnMut(&RecordBatch) -> Result<()>) {
        let rows = batch.num_rows();
        match step(batch) {
            Ok(()) => {}
            Err(error) if rows <= 1 => {
                self.count(|c| &c.rows_failed, rows as u64);
                let _ = self.shared.first_row_error.set(describe(&error));
            }
            Err(_) => {
                self.isolate(&batch.slice(0, rows / 2), step);
                self.isolate(&batch.slice(rows / 2, rows - rows / 2), step);
            }
        }
    }

    /// Runs `step` unless the query is over; keeps its failure.
    pub fn attempt<T>(&self, step: impl FnOnce() -> Result<T>) -> Option<T> {
        if self.is_over() {
            return None;
        }
        step().map_err(|error| self.fail(error)).ok()
    }
}

/// The error and its causes in one line.
fn describe(error: &OperatorError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A worker's part of a gauge that all workers share: moves the total by how much its own part has changed, and takes
/// its part out when the operator that holds it is dropped.
#[derive(Debug)]
pub(super) struct Gauge {
    context: QueryContext,
    counter: fn(&Counters) -> &AtomicU64,
    part: u64,
}

impl Gauge {
    pub(super) fn new(context: &QueryContext, counter: fn(&Counters) -> &AtomicU64) -> Self {
        Self { context: context.clone(), counter, part: 0 }
    }

    pub(super) fn set(&mut self, value: u64) {
        let own = self.context.meter().map(|meter| (self.counter)(&meter.counters));
        for total in own.into_iter().chain([(self.counter)(self.context.counters())]) {
            if value >= self.part {
                total.fetch_add(value - self.part, Ordering::Relaxed);
            } else {
                total.fetch_sub(self.part - value, Ordering::Relaxed);
            }
        }
        self.part = value;
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.set(0);
    }
}
