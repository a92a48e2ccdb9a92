//! A moment between two epochs at which every worker gives its state away.
//!
//! A barrier is a message like any other, right behind the end of an epoch. A worker that meets it takes no further
//! message until the epoch has been worked through, gives its state away, and waits for the others to have done so: what
//! it would take next could otherwise reach a worker that has not. Meanwhile hosts push; rows wait in the queues. The last
//! worker looks at what readers have not taken, and lets all go on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use crossbeam_channel::Sender;
use driftline_operators::state::{OperatorId, SavedState};
use driftline_operators::sync::lock;

use super::output::OutputPort;
use super::source_state::SourceCounters;
use super::{Answer, QueryId};

/// What the operators of one worker hold, by query.
pub(crate) type WorkerState = Vec<(QueryId, Vec<(OperatorId, SavedState)>)>;

/// What is known once all workers have given their state away.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// How many batches readers had taken, and those that they had not.
    pub(crate) unread: BTreeMap<QueryId, (u64, Vec<RecordBatch>)>,
    /// Rows that were late, and rows without a usable time, of each source in the order in which they were given.
    pub(crate) dropped: Vec<(u64, u64)>,
    /// When the first worker stood before the barrier, by the clock.
    pub(crate) since: Option<Duration>,
    /// When workers were let go.
    pub(crate) at: Duration,
}

/// How a query's reader takes part.
#[derive(Clone, Debug)]
pub(crate) enum Reader {
    /// What it has not taken is part of the checkpoint.
    Port(Arc<OutputPort>),
    /// It takes all that comes before the checkpoint, and then publishes it.
    Sink(Arc<OutputPort>),
}

/// A barrier on its way through the workers.
#[derive(Debug)]
pub(crate) struct Barrier {
    workers: usize,
    id: u64,
    saved: AtomicUsize,
    is_passed: AtomicBool,
    readers: BTreeMap<QueryId, Reader>,
    reply: Sender<Answer<WorkerState>>,
    /// Counts to which workers add while they work through what came before the barrier.
    counters: OnceLock<Vec<Arc<SourceCounters>>>,
    passed: Mutex<Passed>,
}

impl Barrier {
    pub(crate) fn new(
        id: u64,
        workers: usize,
        readers: BTreeMap<QueryId, Reader>,
        reply: Sender<Answer<WorkerState>>,
    ) -> Self {
        Self {
            workers,
            id,
            saved: AtomicUsize::new(0),
            is_passed: AtomicBool::new(false),
            readers,
            reply,
            counters: OnceLock::new(),
            passed: Mutex::default(),
        }
    }

    /// Says whose counts matter, before workers meet the barrier.
    pub(super) fn watch(&self, counters: Vec<Arc<SourceCounters>>) {
        let _ = self.counters.set(counters);
    }

    /// A worker stands before it: from now on it takes no rows.
    pub(super) fn meet(&self, now: Duration) {
        lock(&self.passed).since.get_or_insert(now);
    }

    /// Takes a worker's state; whether it was the last.
    pub(super) fn give(&self, state: Answer<WorkerState>, now: impl Fn() -> Duration) -> bool {
        let is_last = self.saved.fetch_add(1, Ordering::AcqRel) + 1 == self.workers;
        if is_last {
            let mut passed = lock(&self.passed);
            for (query, reader) in &self.readers {
                match reader {
                    Reader::Port(port) => drop(passed.unread.insert(*query, port.unread())),
                    Reader::Sink(port) => port.mark(self.id),
                }
            }
            // No worker takes rows in now.
            let counters = self.counters.get().into_iter().flatten();
            passed.dropped = counters.map(|counters| counters.dropped()).collect();
            passed.at = now();
            drop(passed);
            self.is_passed.store(true, Ordering::Release);
        }
        // Whoever asked may have gone.
        let _ = self.reply.send(state);
        is_last
    }

    /// Whether all workers have given their state away.
    pub(super) fn is_passed(&self) -> bool {
        self.is_passed.load(Ordering::Acquire)
    }

    /// What is known once it is passed.
    pub(crate) fn take_passed(&self) -> Passed {
        std::mem::take(&mut *lock(&self.passed))
    }
}
