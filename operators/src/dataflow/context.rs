//! What the operators of one query share: counters, the first failure, and whether it was cancelled.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::record_batch::RecordBatch;

use crate::error::{OperatorError, Result};

/// Shared by all operators of one query on all workers.
#[derive(Clone, Debug, Default)]
pub struct QueryContext(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    counters: Counters,
    failure: OnceLock<OperatorError>,
    cancelled: AtomicBool,
    first_row_error: OnceLock<String>,
}

/// Counts of one query, summed over workers.
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
        &self.0.counters
    }

    /// Adds to a counter.
    pub fn count(&self, counter: impl Fn(&Counters) -> &AtomicU64, by: u64) {
        if by > 0 {
            counter(&self.0.counters).fetch_add(by, Ordering::Relaxed);
        }
    }

    /// The failure that ended the query, if any.
    #[must_use]
    pub fn failure(&self) -> Option<&OperatorError> {
        self.0.failure.get()
    }

    /// What the first row that an expression failed on had to say.
    #[must_use]
    pub fn first_row_error(&self) -> Option<&str> {
        self.0.first_row_error.get().map(String::as_str)
    }

    /// Keeps the first failure; the engine ends the query on seeing it.
    pub fn fail(&self, error: OperatorError) {
        // A later failure is a consequence of the first as often as not.
        let _ = self.0.failure.set(error);
    }

    /// Asks the query's operators to drop their state instead of finishing it.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
    }

    /// Whether results no longer matter.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire) || self.0.failure.get().is_some()
    }

    /// Applies `step` to the batch; where it fails, to its halves, so that only the rows it fails on are left out.
    /// They are counted.
    pub fn isolate(&self, batch: &RecordBatch, step: &mut impl FnMut(&RecordBatch) -> Result<()>) {
        let rows = batch.num_rows();
        match step(batch) {
            Ok(()) => {}
            Err(error) if rows <= 1 => {
                self.count(|c| &c.rows_failed, rows as u64);
                let _ = self.0.first_row_error.set(describe(&error));
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
        let total = (self.counter)(self.context.counters());
        if value >= self.part {
            total.fetch_add(value - self.part, Ordering::Relaxed);
        } else {
            total.fetch_sub(self.part - value, Ordering::Relaxed);
        }
        self.part = value;
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.set(0);
    }
}
