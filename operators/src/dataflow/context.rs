//! What the operators of one query share: counters, the first failure, and whether it was cancelled.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use arrow::record_batch::RecordBatch;

use super::Meter;
use crate::error::{OperatorError, Result};
use crate::key::KeyShare;
use crate::state::{Keeper, Registered, SavedOperator, Stateful};
use crate::sync::lock;

/// What all operators of one query share, on all workers.
#[derive(Clone, Debug, Default)]
pub struct QueryShared(Arc<Shared>);

/// What an operator of a query has on one worker: what all share, a [`Meter`] for what it alone does, and a place where
/// its state is reached from outside the dataflow.
#[derive(Clone, Debug, Default)]
pub struct QueryContext {
    shared: QueryShared,
    meter: Option<Arc<Meter>>,
    keeper: Option<Keeper>,
}

impl Deref for QueryContext {
    type Target = QueryShared;

    fn deref(&self) -> &QueryShared {
        &self.shared
    }
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

impl QueryShared {
    /// The counts so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// All meters of the query, on all workers.
    #[must_use]
    pub fn meters(&self) -> Vec<Arc<Meter>> {
        self.lock_meters().clone()
    }

    fn lock_meters(&self) -> MutexGuard<'_, Vec<Arc<Meter>>> {
        // Nothing is done under the lock that could panic.
        lock(&self.0.meters)
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

    /// Applies `step` unless the query is over; keeps its failure.
    pub fn attempt<T>(&self, step: impl FnOnce() -> Result<T>) -> Option<T> {
        if self.is_over() {
            return None;
        }
        step().map_err(|error| self.fail(error)).ok()
    }
}

impl QueryContext {
    /// The context of a query's operators on one worker. They register in `registered` what they keep, after they have
    /// taken up this worker's share of `saved`.
    #[must_use]
    pub fn new(
        shared: QueryShared,
        registered: Registered,
        saved: Option<Arc<Vec<SavedOperator>>>,
        share: KeyShare,
    ) -> Self {
        let keeper = Some(Keeper::new(registered, saved, share));
        Self { shared, meter: None, keeper }
    }

    /// What all workers share.
    #[must_use]
    pub fn shared(&self) -> &QueryShared {
        &self.shared
    }

    /// Registers what an operator keeps from epoch to epoch, under a name of its own within the part, after it has taken
    /// up what a checkpoint has for it. If that is something else the query fails.
    ///
    /// # Errors
    /// If the name is there already, which would be a bug.
    pub fn keep<S: Stateful + 'static>(&self, name: &str, state: S) -> Result<Rc<RefCell<S>>> {
        let state = Rc::new(RefCell::new(state));
        self.keep_shared(name, Rc::clone(&state) as Rc<RefCell<dyn Stateful>>)?;
        Ok(state)
    }

    /// As [`QueryContext::keep`], for what is shared already.
    ///
    /// # Errors
    /// If the name is there already, which would be a bug.
    pub fn keep_shared(&self, name: &str, state: Rc<RefCell<dyn Stateful>>) -> Result<()> {
        let Some(keeper) = &self.keeper else { return Ok(()) };
        // The dataflow is built all the same: it has to be one on all workers, and this may be the only one that fails.
        if let Err(error) = keeper.load(name, &state) {
            self.fail(error);
        }
        keeper.register(name, state)
    }

    /// Whether the query goes on from a checkpoint.
    #[must_use]
    pub fn is_restored(&self) -> bool {
        self.keeper.as_ref().is_some_and(Keeper::is_restored)
    }

    /// Adds to a counter.
    pub fn count(&self, counter: impl Fn(&Counters) -> &AtomicU64, by: u64) {
        if by > 0 {
            counter(self.counters()).fetch_add(by, Ordering::Relaxed);
            if let Some(meter) = &self.meter {
                counter(&meter.counters).fetch_add(by, Ordering::Relaxed);
            }
        }
    }

    /// The same context for the operators of one part of the query on one worker, with a meter of their own.
    #[must_use]
    pub fn of_part(&self, part: usize, worker: usize) -> Self {
        let keeper = self.keeper.as_ref().map(|keeper| keeper.of_part(part));
        Self { keeper, ..self.metered(Meter::new(part, "", worker)) }
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
        Self { meter: Some(meter), ..self.clone() }
    }

    /// The meter of this context.
    #[must_use]
    pub fn meter(&self) -> Option<&Arc<Meter>> {
        self.meter.as_ref()
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

    /// Applies `step` to the batch; where it fails, to its halves, so that only the rows it fails on are left out.
    /// They are counted.
    pub fn isolate(&self, batch: &RecordBatch, step: &mut impl FnMut(&RecordBatch) -> Result<()>) {
        let rows = batch.num_rows();
        match step(batch) {
            Ok(()) => {}
            Err(error) if rows <= 1 => {
                self.count(|c| &c.rows_failed, rows as u64);
                let _ = self.shared.0.first_row_error.set(describe(&error));
            }
            Err(_) => {
                self.isolate(&batch.slice(0, rows / 2), step);
                self.isolate(&batch.slice(rows / 2, rows - rows / 2), step);
            }
        }
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
