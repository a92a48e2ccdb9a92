//! The way in: rows from host threads become messages to workers, cut into epochs, bounded in bytes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::thread::Thread;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use crossbeam_channel::{Receiver, Sender};
use driftline_operators::dataflow::QueryShared;
use driftline_operators::error::Result as ModelResult;
use driftline_operators::sync::{Monitor, lock, turns};
use driftline_operators::time::{Epoch, EventTime};

use super::barrier::Barrier;
use super::busy::Traffic;
use super::clock::{Alarm, Clock};
use super::output::OutputPort;
use super::source_state::{SourceCounters, SourceSpec, SourceState, bytes_of};
use super::{
    Answer, Installation, InstalledSource, Message, QueryId, Rows, SourceId, SourceWatermark,
};
use crate::checkpoint::SourceRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::QuerySpec;
use crate::settings::Settings;

/// A batch of more rows than this is shared out between workers.
const ROWS_PER_SHARE_MIN: usize = 4096;

/// Shared by every handle of an engine and by its threads.
#[derive(Debug)]
pub(crate) struct Ingress {
    settings: Settings,
    first_epoch: Epoch,
    clock: Arc<dyn Clock>,
    /// Rings when bytes were given back, when all queries have ended, and when the engine fails.
    state: Monitor<State>,
    /// Wakes the thread that closes epochs by time.
    pub(super) alarm: Arc<Alarm>,
    senders: Vec<Sender<Message>>,
    threads: OnceLock<Vec<Thread>>,
    failure: OnceLock<Error>,
    ports: Mutex<Vec<Weak<OutputPort>>>,
    alarms: Mutex<Vec<Weak<Alarm>>>,
    traffic: Arc<Traffic>,
}

#[derive(Debug)]
struct State {
    open: Epoch,
    open_bytes: usize,
    /// Since when there has been something to close the epoch for.
    dirty_since: Option<Duration>,
    in_flight: VecDeque<(Epoch, usize)>,
    held_bytes: usize,
    sources: BTreeMap<SourceId, SourceState>,
    /// Queries that run, for what they hold.
    queries: BTreeMap<QueryId, QueryShared>,
    pushes_refused: u64,
    /// For each worker, the first epoch that it has not worked through.
    unfinished: Vec<Epoch>,
    /// For each worker, whether all its queries have ended.
    quiet: Vec<bool>,
    next_sequence: u64,
    next_id: u64,
    stopped: bool,
}

/// Where an engine begins to count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// The first epoch.
    pub(crate) epoch: Epoch,
    /// The number of the first batch.
    pub(crate) sequence: u64,
}

impl Default for Start {
    fn default() -> Self {
        // Operators may answer in the epoch before. It must not be 0, where what a checkpoint's rows come to is left out.
        Self { epoch: 2, sequence: 1 }
    }
}

/// Where an engine stood when an epoch had closed.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) epoch: Epoch,
    pub(crate) next_sequence: u64,
    pub(crate) sources: Vec<SourceRecord>,
}

/// How a push went.
#[derive(Debug)]
pub(crate) enum Pushed {
    Accepted,
    Full,
}

impl Ingress {
    pub(crate) fn new(
        settings: Settings,
        clock: Arc<dyn Clock>,
        senders: Vec<Sender<Message>>,
        start: Start,
    ) -> Self {
        let state = State {
            open: start.epoch,
            open_bytes: 0,
            dirty_since: None,
            in_flight: VecDeque::new(),
            held_bytes: 0,
            sources: BTreeMap::new(),
            queries: BTreeMap::new(),
            pushes_refused: 0,
            unfinished: vec![0; senders.len()],
            quiet: vec![true; senders.len()],
            next_sequence: start.sequence,
            next_id: 1,
            stopped: false,
        };
        Self {
            settings,
            first_epoch: start.epoch,
            clock,
            state: Monitor::new(state),
            alarm: Arc::default(),
            senders,
            threads: OnceLock::new(),
            failure: OnceLock::new(),
            ports: Mutex::default(),
            alarms: Mutex::default(),
            traffic: Arc::default(),
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The epoch that was open at the start.
    pub(super) fn first_epoch(&self) -> Epoch {
        self.first_epoch
    }

    pub(super) fn wake_workers(&self) {
        self.threads.get().into_iter().flatten().for_each(Thread::unpark);
    }

    /// Tells which threads to wake when a message waits for them.
    pub(crate) fn set_threads(&self, threads: Vec<Thread>) {
        let _ = self.threads.set(threads);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The failure that ended the engine, as an error for whoever asks.
    pub(crate) fn check(&self) -> Result<()> {
        self.failure.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Ends the engine with an error on every handle.
    pub(crate) fn fail(&self, error: Error) {
        let error = self.failure.get_or_init(|| error).clone();
        self.lock().stopped = true;
        self.fail_ports(&error);
        self.state.ring();
        self.ring_all();
        self.tell_all(&Message::Stop);
    }

    /// Gives every reader an error. The ports are taken out of their list first: a reader's waker may do anything.
    fn fail_ports(&self, error: &Error) {
        let ports: Vec<_> = lock(&self.ports).iter().filter_map(Weak::upgrade).collect();
        ports.iter().for_each(|port| port.fail(error));
    }

    /// An alarm that rings when the engine stops or fails, for one thread that waits by the clock.
    pub(crate) fn new_alarm(&self) -> Arc<Alarm> {
        let alarm = Arc::new(Alarm::default());
        let mut alarms = lock(&self.alarms);
        alarms.retain(|alarm| alarm.strong_count() > 0);
        alarms.push(Arc::downgrade(&alarm));
        alarm
    }

    fn ring_all(&self) {
        self.alarm.ring();
        lock(&self.alarms).iter().filter_map(Weak::upgrade).for_each(|alarm| alarm.ring());
    }

    fn tell(&self, worker: usize, message: Message) {
        // A worker that is gone has left a failure behind, which every handle reports.
        let _ = self.senders[worker].send(message);
        if let Some(threads) = self.threads.get() {
            threads[worker].unpark();
        }
    }

    fn tell_all(&self, message: &Message) {
        (0..self.senders.len()).for_each(|worker| self.tell(worker, message.clone()));
    }

    // ---- sources ----

    pub(crate) fn add_source(
        &self,
        spec: Arc<SourceSpec>,
        counters: Arc<SourceCounters>,
        restored: Option<&SourceRecord>,
    ) -> SourceId {
        let now = self.clock.now();
        let mut state = self.lock();
        let id = SourceId(state.take_id());
        let mut source = SourceState::new(spec, counters, now);
        if let Some(record) = restored {
            source.restore(record);
        }
        state.sources.insert(id, source);
        id
    }

    pub(crate) fn remove_source(&self, id: SourceId) {
        if self.lock().sources.remove(&id).is_some() {
            self.tell_all(&Message::Forget(id));
        }
    }

    /// Pushes rows that already have the source's schema. Waits for room if asked to.
    pub(crate) fn push(&self, id: SourceId, rows: RecordBatch, wait: Wait) -> Result<Pushed> {
        turns::pause();
        self.check()?;
        let spec = match self.lock().sources.get(&id) {
            Some(source) => Arc::clone(&source.spec),
            None => return Err(Error::closed("source")),
        };
        if rows.num_rows() == 0 {
            return Ok(Pushed::Accepted);
        }
        let bytes = bytes_of(&rows);
        let range = spec.time_range(&rows);
        let rows = if range.has_unusable { rows } else { spec.strict(rows)? };
        let mut state = self.lock();
        loop {
            self.check()?;
            let source = state.sources.get(&id).filter(|source| !source.closed);
            if source.is_none() || state.stopped {
                return Err(Error::closed(&format!("source \"{}\"", spec.name)));
            }
            if let Some(used) = self.beyond_limit(&state, bytes) {
                state.pushes_refused += 1;
                return match wait {
                    Wait::No => Ok(Pushed::Full),
                    Wait::Yes => Err(self.limit_reached(&state, used)),
                };
            }
            if state.held_bytes == 0 || state.held_bytes + bytes <= self.settings.ingress_bytes_max
            {
                break;
            }
            match wait {
                Wait::No => return Ok(Pushed::Full),
                Wait::Yes => {
                    state = self.state.wait(state);
                }
            }
        }
        let now = self.clock.now();
        let mut first_rows = false;
        // Workers take turns with the rows of each source by itself: with sources that are pushed to by turns one worker
        // would have all rows of one.
        let mut turn = id.0;
        if let Some(source) = state.sources.get_mut(&id) {
            first_rows = source.idle_at().is_none();
            source.pushed(range, now);
            let counters = &source.counters;
            counters.rows.fetch_add(rows.num_rows() as u64, std::sync::atomic::Ordering::Relaxed);
            turn += counters.batches.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        state.held_bytes += bytes;
        state.open_bytes += bytes;
        let earliest = range.bounds.map(|(earliest, _)| earliest);
        for (rows, turn) in shares(&rows, self.senders.len()).into_iter().zip(turn..) {
            let sequence = state.next_sequence;
            state.next_sequence += 1;
            let worker = (turn % self.senders.len() as u64) as usize;
            let has_unusable = range.has_unusable;
            let rows = Rows { source: id, rows, sequence, earliest, has_unusable };
            self.tell(worker, Message::Rows(rows));
        }
        self.mark_dirty(&mut state, now);
        if first_rows && state.sources.get(&id).is_some_and(|source| source.idle_at().is_some()) {
            // From here on silence means something; the clock's thread works out when.
            self.alarm.ring();
        }
        Ok(Pushed::Accepted)
    }

    /// Bytes that rows on their way in, state and waiting results take.
    fn memory(&self, state: &State) -> u64 {
        let queries = state.queries.values().map(state_bytes).sum::<u64>();
        let ports = lock(&self.ports);
        let waiting: usize = ports.iter().filter_map(Weak::upgrade).map(|port| port.bytes()).sum();
        (state.held_bytes + waiting) as u64 + queries
    }

    /// What is held, if so many bytes more would be too many.
    fn beyond_limit(&self, state: &State, bytes: usize) -> Option<u64> {
        let limit = self.settings.memory_bytes_max;
        if limit == usize::MAX {
            return None;
        }
        let used = self.memory(state);
        (used.saturating_add(bytes as u64) > limit as u64).then_some(used)
    }

    fn limit_reached(&self, state: &State, used: u64) -> Error {
        let limit = self.settings.memory_bytes_max;
        let largest = state.queries.iter().max_by_key(|(_, query)| state_bytes(query));
        let hint = match largest {
            Some((id, query)) => format!(
                "query {} holds {} bytes: move its watermark on, drop it, or raise \"memory_bytes_max\"",
                id.0,
                state_bytes(query)
            ),
            None => "raise \"memory_bytes_max\"".into(),
        };
        let text = format!("engine holds {used} bytes of {limit}");
        Error::new(ErrorKind::Unavailable, text).with_hint(hint)
    }

    /// What workers have sent one another.
    pub(crate) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Bytes held for queries; pushes refused because there would have been too many.
    pub(crate) fn memory_use(&self) -> (u64, u64) {
        let state = self.lock();
        (self.memory(&state), state.pushes_refused)
    }

    /// Changes what the host says of a source.
    pub(crate) fn with_source(
        &self,
        id: SourceId,
        change: impl FnOnce(&mut SourceState) -> Result<()>,
    ) -> Result<()> {
        self.check()?;
        let now = self.clock.now();
        let mut state = self.lock();
        if state.stopped {
            return Err(Error::closed("engine"));
        }
        let Some(source) = state.sources.get_mut(&id) else { return Err(Error::closed("source")) };
        change(source)?;
        if source.watermark(now) != source.announced() || (source.closed && !source.end_announced) {
            self.mark_dirty(&mut state, now);
        }
        // A source that was declared idle goes on with the clock.
        self.alarm.ring();
        Ok(())
    }

    /// Reads what is known of a source.
    pub(crate) fn read_source<T>(
        &self,
        id: SourceId,
        read: impl FnOnce(&SourceState) -> T,
    ) -> Option<T> {
        self.lock().sources.get(&id).map(read)
    }

    // ---- queries ----

    pub(crate) fn new_query_id(&self) -> QueryId {
        QueryId(self.lock().take_id())
    }

    /// Starts a query on all workers with the open epoch.
    pub(crate) fn install(&self, query: Arc<QuerySpec>) -> Result<()> {
        let mut state = self.lock();
        self.check()?;
        if state.stopped {
            return Err(Error::closed("engine"));
        }
        if let Some(port) = &query.port {
            let mut ports = lock(&self.ports);
            ports.retain(|port| port.strong_count() > 0);
            ports.push(Arc::downgrade(port));
        }
        let mut sources = Vec::new();
        for id in query.sources() {
            let Some(source) = state.sources.get(&id).filter(|source| source.is_readable()) else {
                return Err(Error::closed("source").with_hint("create it again to read it anew"));
            };
            sources.push(InstalledSource {
                id,
                spec: Arc::clone(&source.spec),
                counters: Arc::clone(&source.counters),
                watermark: source.announced(),
                ended: source.end_announced,
            });
        }
        state.queries.insert(query.id, query.context.clone());
        let installation = Installation { query, sources };
        self.tell_all(&Message::Install(Arc::new(installation)));
        Ok(())
    }

    /// Asks every worker for something, and waits for all answers; they come in the order of the workers.
    pub(crate) fn ask_all<T>(
        &self,
        question: impl Fn(Sender<Answer<T>>) -> Message,
    ) -> Result<Vec<T>> {
        let (reply, answers) = crossbeam_channel::bounded(self.senders.len());
        {
            // Under the lock, so that all workers are asked between the same two epochs.
            let state = self.lock();
            if state.stopped {
                return Err(Error::closed("engine"));
            }
            self.tell_all(&question(reply));
        }
        self.collect(&answers)
    }

    /// How many workers there are.
    pub(crate) fn workers(&self) -> usize {
        self.senders.len()
    }

    /// Waits for the answers of all workers, and puts them in order.
    pub(crate) fn collect<T>(&self, answers: &Receiver<Answer<T>>) -> Result<Vec<T>> {
        let mut found = Vec::with_capacity(self.senders.len());
        while found.len() < self.senders.len() {
            let answer = match turns::are_taken() {
                true => answers.try_recv().ok(),
                false => answers.recv_timeout(ANSWER_CHECK).ok(),
            };
            match answer {
                Some(answer) => found.push(answer),
                None => {
                    turns::wait();
                    self.check()?;
                    if self.is_stopped() {
                        return Err(Error::closed("engine"));
                    }
                }
            }
        }
        found.sort_unstable_by_key(|(worker, _): &Answer<T>| *worker);
        let answers = found.into_iter().map(|(_, answer)| answer);
        Ok(answers.collect::<ModelResult<_>>()?)
    }

    pub(crate) fn cancel(&self, id: QueryId) {
        // Under the lock, so that all workers see it between the same two epochs.
        let mut state = self.lock();
        state.queries.remove(&id);
        self.tell_all(&Message::Cancel(id));
    }

    // ---- epochs ----

    fn mark_dirty(&self, state: &mut State, now: Duration) {
        let was_clean = state.dirty_since.is_none();
        state.dirty_since.get_or_insert(now);
        let full = state.open_bytes >= self.settings.epoch_bytes;
        self.close_if(state, now, full);
        if was_clean && state.dirty_since.is_some() {
            self.alarm.ring();
        }
    }

    /// Closes the open epoch if there is a reason to, no epoch is being worked on or `due`, and there is room for
    /// one more in flight.
    fn close_if(&self, state: &mut State, now: Duration, due: bool) {
        let ready = state.in_flight.is_empty()
            || (due && state.in_flight.len() < self.settings.epochs_in_flight_max);
        if state.dirty_since.is_some() && ready && !state.stopped {
            self.close(state, now);
        }
    }

    fn close(&self, state: &mut State, now: Duration) {
        let mut watermarks = Vec::new();
        for (id, source) in &mut state.sources {
            if let Some(watermark) = source.announce(now) {
                watermarks.push(SourceWatermark {
                    source: *id,
                    watermark,
                    ended: source.closed,
                    while_open: source.while_open(),
                });
            }
        }
        let epoch = state.open;
        self.tell_all(&Message::Close { epoch, watermarks: watermarks.into() });
        state.in_flight.push_back((epoch, state.open_bytes));
        state.open += 1;
        state.open_bytes = 0;
        state.dirty_since = None;
    }

    /// Ends the open epoch, whatever is in flight, and sets up a barrier behind it.
    pub(crate) fn set_up(&self, barrier: &Arc<Barrier>) -> Result<Standing> {
        let now = self.clock.now();
        let mut state = self.lock();
        self.check()?;
        if state.stopped {
            return Err(Error::closed("engine"));
        }
        if state.dirty_since.is_some() {
            self.close(&mut state, now);
        }
        barrier.watch(state.sources.values().map(|source| Arc::clone(&source.counters)).collect());
        self.tell_all(&Message::Checkpoint(Arc::clone(barrier)));
        Ok(state.standing(now))
    }

    /// The number of the next batch.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.lock().next_sequence
    }

    /// Where an engine stands that has finished.
    pub(crate) fn standing(&self) -> Standing {
        let now = self.clock.now();
        self.lock().standing(now)
    }

    /// A worker tells the first epoch that it has not worked through, and whether all its queries have ended.
    pub(crate) fn progressed(&self, worker: usize, unfinished: Epoch, quiet: bool) {
        let mut state = self.lock();
        state.unfinished[worker] = unfinished;
        state.quiet[worker] = quiet;
        let least = state.unfinished.iter().copied().min().unwrap_or(Epoch::MAX);
        let mut freed = false;
        while let Some(&(epoch, bytes)) = state.in_flight.front() {
            if epoch >= least {
                break;
            }
            state.in_flight.pop_front();
            state.held_bytes -= bytes;
            freed = true;
        }
        if freed {
            let now = self.clock.now();
            let length = self.settings.epoch_length();
            let due = state.dirty_since.is_some_and(|since| since.saturating_add(length) <= now);
            self.close_if(&mut state, now, due);
            if state.dirty_since.is_some() {
                self.alarm.ring();
            }
        }
        if freed || quiet {
            self.state.ring();
        }
    }

    /// Closes epochs and notices idle sources by the clock; tells when to be called again.
    pub(super) fn tick(&self) -> Tick {
        let now = self.clock.now();
        let mut state = self.lock();
        if state.stopped {
            return Tick::Stop;
        }
        let moved = state.sources.values().any(|source| {
            source.is_idle(now) && !source.closed && source.watermark(now) != source.announced()
        });
        if moved {
            state.dirty_since.get_or_insert(now);
        }
        let length = self.settings.epoch_length();
        let due = state.dirty_since.is_some_and(|since| since.saturating_add(length) <= now);
        self.close_if(&mut state, now, due || moved);
        let epoch_due = match state.dirty_since {
            // With no room in flight, an epoch's end is what comes next, and closes this one.
            Some(since) if state.in_flight.len() < self.settings.epochs_in_flight_max => {
                Some(since.saturating_add(length))
            }
            _ => None,
        };
        let idle_due = state
            .sources
            .values()
            .filter(|source| !source.closed)
            .filter_map(|source| match source.is_idle(now) {
                // An idle source's watermark moves with the clock, a step at a time.
                true => Some(now.saturating_add(IDLE_STEP)),
                false => source.idle_at(),
            })
            .min();
        match (epoch_due, idle_due) {
            (Some(a), Some(b)) => Tick::Until(Some(a.min(b))),
            (a, b) => Tick::Until(a.or(b)),
        }
    }

    /// Waits until all that was pushed before the call has been worked through.
    pub(crate) fn drain(&self) -> Result<()> {
        let mut state = self.lock();
        let last = if state.dirty_since.is_some() { state.open } else { state.open - 1 };
        while state.open <= last || state.in_flight.front().is_some_and(|(epoch, _)| *epoch <= last)
        {
            self.check()?;
            state = self.state.wait(state);
        }
        self.check()
    }

    /// Lets results leave the engine although nobody reads them.
    pub(crate) fn lift_bounds(&self) {
        lock(&self.ports).iter().filter_map(Weak::upgrade).for_each(|port| port.lift_bound());
    }

    /// Ends all sources, lets every query finish, and stops the workers.
    pub(crate) fn finish(&self) -> Result<()> {
        let now = self.clock.now();
        let mut state = self.lock();
        for source in state.sources.values_mut() {
            source.closed = true;
        }
        self.mark_dirty(&mut state, now);
        loop {
            self.check()?;
            let closed = state.dirty_since.is_none() && state.in_flight.is_empty();
            if closed && state.quiet.iter().all(|&quiet| quiet) {
                break;
            }
            state = self.state.wait(state);
        }
        drop(state);
        self.stop();
        Ok(())
    }

    /// Whether the engine has ended or is ending.
    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Stops the workers where they are.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.state.ring();
        self.ring_all();
        self.tell_all(&Message::Stop);
    }

    /// Tells every reader that no more will come, because the engine was dropped.
    pub(crate) fn abandon_readers(&self) {
        self.fail_ports(&Error::closed("engine"));
    }

    /// Bytes pushed and not worked through; epochs in flight; the open epoch.
    pub(crate) fn levels(&self) -> (usize, usize, Epoch) {
        let state = self.lock();
        (state.held_bytes, state.in_flight.len(), state.open)
    }

    /// The watermark of a source as last told to the workers.
    pub(crate) fn watermark(&self, id: SourceId) -> EventTime {
        self.read_source(id, SourceState::announced).unwrap_or(EventTime::MIN)
    }
}

/// How far the clock takes an idle source's watermark at a time.
const IDLE_STEP: Duration = Duration::from_millis(100);

/// How often whoever waits for workers makes sure that they are still there.
const ANSWER_CHECK: Duration = Duration::from_millis(100);

/// Whether a push waits for room.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    Yes,
    No,
}

/// What the thread that watches the clock does next.
pub(super) enum Tick {
    Until(Option<Duration>),
    Stop,
}

/// Bytes of state of a query, on all workers.
fn state_bytes(query: &QueryShared) -> u64 {
    query.counters().state_bytes.load(std::sync::atomic::Ordering::Relaxed)
}

impl State {
    fn standing(&self, now: Duration) -> Standing {
        Standing {
            epoch: self.open - 1,
            next_sequence: self.next_sequence,
            sources: self.sources.values().map(|source| source.record(now)).collect(),
        }
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }
}

/// Cuts a large batch into one share for each worker; the shares keep its order.
fn shares(rows: &RecordBatch, workers: usize) -> Vec<RecordBatch> {
    let share = rows.num_rows().div_ceil(workers).max(ROWS_PER_SHARE_MIN);
    (0..rows.num_rows())
        .step_by(share)
        .map(|start| rows.slice(start, share.min(rows.num_rows() - start)))
        .collect()
}
