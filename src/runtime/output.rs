//! The queue between a query and its reader: bounded in bytes, readable by a thread or a task.

use std::collections::VecDeque;
use std::sync::MutexGuard;
use std::task::{Poll, Waker};
use std::thread::Thread;

use arrow::record_batch::RecordBatch;
use driftline_operators::sync::Monitor;
use driftline_operators::time::Epoch;

use crate::error::{Error, Result};

/// What a reader meets.
#[derive(Clone, Debug)]
pub(crate) enum Delivery {
    /// Results of an epoch.
    Rows(RecordBatch, Epoch),
    /// All that belongs to this checkpoint has been taken.
    Mark(u64),
}

/// Results of one query on their way to its reader.
#[derive(Debug)]
pub(crate) struct OutputPort {
    /// Rings when there is something to take.
    state: Monitor<State>,
    bytes_max: usize,
    workers: Vec<Thread>,
}

#[derive(Debug, Default)]
struct State {
    deliveries: VecDeque<Delivery>,
    /// Batches that were taken, and the epoch of the last.
    taken: u64,
    epoch: Epoch,
    bytes: usize,
    workers_done: usize,
    error: Option<Error>,
    reader_gone: bool,
    unbounded: bool,
    worker_waits: bool,
    waker: Option<Waker>,
}

impl State {
    /// Drops what is here and all that follows; whoever waits for a result sees the end.
    fn close(&mut self, workers: usize) {
        self.reader_gone = true;
        self.deliveries.clear();
        self.bytes = 0;
        self.workers_done = workers;
    }
}

impl OutputPort {
    /// A queue of at most `bytes_max` bytes, or of one batch that is larger, fed by `workers`.
    pub(crate) fn new(bytes_max: usize, workers: Vec<Thread>) -> Self {
        Self { state: Monitor::default(), bytes_max, workers }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Offers a batch; `false` if there is no room, in which case the worker is woken when there is. What must not wait
    /// finds room.
    pub(crate) fn offer(&self, rows: &RecordBatch, epoch: Epoch, must_not_wait: bool) -> bool {
        let bytes = rows.get_array_memory_size();
        let mut state = self.lock();
        if state.reader_gone || state.error.is_some() {
            return true;
        }
        let is_bounded = !state.unbounded && !must_not_wait;
        if is_bounded && state.bytes > 0 && state.bytes + bytes > self.bytes_max {
            state.worker_waits = true;
            return false;
        }
        state.bytes += bytes;
        state.deliveries.push_back(Delivery::Rows(rows.clone(), epoch));
        self.wake_reader(state);
        true
    }

    /// Puts what a reader of `taken` batches had not taken before it can take anything else.
    pub(crate) fn refill(&self, unread: Vec<RecordBatch>, epoch: Epoch, taken: u64) {
        let mut state = self.lock();
        state.taken = taken;
        for rows in unread {
            state.bytes += rows.get_array_memory_size();
            state.deliveries.push_back(Delivery::Rows(rows, epoch));
        }
    }

    /// How many batches the reader has taken, and those that it has not.
    pub(crate) fn unread(&self) -> (u64, Vec<RecordBatch>) {
        let rows = |delivery: &Delivery| match delivery {
            Delivery::Rows(rows, _) => Some(rows.clone()),
            Delivery::Mark(_) => None,
        };
        let state = self.lock();
        (state.taken, state.deliveries.iter().filter_map(rows).collect())
    }

    /// Marks the place of a checkpoint among what the reader takes.
    pub(crate) fn mark(&self, checkpoint: u64) {
        let mut state = self.lock();
        if !state.reader_gone {
            state.deliveries.push_back(Delivery::Mark(checkpoint));
            self.wake_reader(state);
        }
    }

    /// The epoch of the batch that was taken last, 0 before the first; and its number.
    pub(crate) fn taken(&self) -> (Epoch, u64) {
        let state = self.lock();
        (state.epoch, state.taken)
    }

    /// Tells that one worker has given all that it had.
    pub(crate) fn worker_done(&self) {
        let mut state = self.lock();
        state.workers_done += 1;
        self.wake_reader(state);
    }

    /// Ends the query with an error, after the batches that are already here.
    pub(crate) fn fail(&self, error: &Error) {
        let mut state = self.lock();
        if state.workers_done >= self.workers.len() || state.error.is_some() {
            return;
        }
        state.error = Some(error.clone());
        self.wake_reader(state);
        self.wake_workers();
    }

    /// Lifts the bound, so that what is left can leave the engine although nobody reads.
    pub(crate) fn lift_bound(&self) {
        self.lock().unbounded = true;
        self.wake_workers();
    }

    /// Drops what is here and all that follows.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.close(self.workers.len());
        self.wake_reader(state);
        self.wake_workers();
    }

    /// Gives up the lock before it wakes: what a waker does, or drops, may come back here.
    fn wake_reader(&self, mut state: MutexGuard<'_, State>) {
        let waker = state.waker.take();
        drop(state);
        self.state.ring();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wake_workers(&self) {
        self.workers.iter().for_each(Thread::unpark);
    }

    fn take(&self, state: &mut State) -> Poll<Option<Result<Delivery>>> {
        if let Some(delivery) = state.deliveries.pop_front() {
            if let Delivery::Rows(rows, epoch) = &delivery {
                state.epoch = *epoch;
                state.taken += 1;
                state.bytes -= rows.get_array_memory_size().min(state.bytes);
            }
            if std::mem::take(&mut state.worker_waits) {
                self.wake_workers();
            }
            return Poll::Ready(Some(Ok(delivery)));
        }
        if let Some(error) = state.error.take() {
            // Given once; after it the queue reads as ended, whatever workers still bring.
            state.close(self.workers.len());
            return Poll::Ready(Some(Err(error)));
        }
        if state.workers_done >= self.workers.len() { Poll::Ready(None) } else { Poll::Pending }
    }

    /// The next batch. A reader that does not publish has no use for marks.
    fn take_rows(&self, state: &mut State) -> Poll<Option<Result<RecordBatch>>> {
        loop {
            return match self.take(state) {
                Poll::Ready(Some(Ok(Delivery::Mark(_)))) => continue,
                Poll::Ready(Some(Ok(Delivery::Rows(rows, _)))) => Poll::Ready(Some(Ok(rows))),
                Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            };
        }
    }

    /// The next batch, if there is one now.
    pub(crate) fn try_next(&self) -> Poll<Option<Result<RecordBatch>>> {
        self.take_rows(&mut self.lock())
    }

    /// The next batch; waits for it.
    pub(crate) fn next(&self) -> Option<Result<RecordBatch>> {
        let mut state = self.lock();
        loop {
            if let Poll::Ready(next) = self.take_rows(&mut state) {
                return next;
            }
            state = self.state.wait(state);
        }
    }

    /// The next batch or mark; waits for it.
    pub(crate) fn next_delivery(&self) -> Option<Result<Delivery>> {
        let mut state = self.lock();
        loop {
            if let Poll::Ready(next) = self.take(&mut state) {
                return next;
            }
            state = self.state.wait(state);
        }
    }

    /// The next batch; `waker` is woken when it is worth asking again.
    pub(crate) fn poll_next(&self, waker: &Waker) -> Poll<Option<Result<RecordBatch>>> {
        let mut state = self.lock();
        let next = self.take_rows(&mut state);
        let before = match next.is_pending() {
            true => state.waker.replace(waker.clone()),
            false => None,
        };
        drop(state);
        // An earlier waker may run code when it is dropped, which must not find the lock taken.
        drop(before);
        next
    }

    /// Bytes that wait for the reader.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }
}
