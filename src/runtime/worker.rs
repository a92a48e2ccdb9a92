//! One worker: a thread that steps a timely dataflow per query and carries rows to and results from them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use crossbeam_channel::{Receiver, Sender};
use driftline_operators::batch::Batch;
use driftline_operators::dataflow::{
    MAIN, Outbox, Outgoing, QueryContext, SharedDetector, SharedLogKeys,
};
use driftline_operators::detector::Detector;
use driftline_operators::error::{OperatorError, Result as ModelResult};
use driftline_operators::key::KeyShare;
use driftline_operators::state::Registered;
use driftline_operators::sync::turns;
use driftline_operators::time::{Epoch, EventTime, Watermarks};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::worker::Worker as TimelyWorker;

use super::barrier::{Barrier, WorkerState};
use super::busy::BusyTimes;
use super::ingress::Ingress;
use super::output::OutputPort;
use super::source_state::{SourceCounters, SourceSpec};
use super::{
    Answer, Installation, Message, QueryId, Rows, SourceId, SourceWatermark, WorkerModels,
};
use crate::error::Error;
use crate::graph::{self, Flow, Leaf, Parts, Upstream, Wiring};

/// A worker looks around at least this often, whether or not it was woken.
const LOOK_AROUND: Duration = Duration::from_millis(250);

/// Messages that a worker takes before it lets its dataflows run.
const MESSAGES_PER_TURN: usize = 64;

type Input = InputHandle<Epoch, CapacityContainerBuilder<Vec<Batch>>>;

pub(super) struct Worker {
    timely: TimelyWorker,
    ingress: Arc<Ingress>,
    messages: Receiver<Message>,
    open: Epoch,
    sources: BTreeMap<SourceId, WorkerSource>,
    queries: BTreeMap<QueryId, Running>,
    busy: BusyTimes,
    /// The barrier that this worker stands before, and whether it has given its state away.
    barrier: Option<(Arc<Barrier>, bool)>,
    reported: (Epoch, bool),
}

struct WorkerSource {
    spec: Arc<SourceSpec>,
    counters: Arc<SourceCounters>,
    watermarks: Watermarks,
    watermark: EventTime,
    ended: bool,
}

struct Running {
    leaves: Vec<RunningLeaf>,
    outbox: Outbox,
    detector: Option<SharedDetector>,
    /// What each `LOG_KEYS` of the query has learned; on the first worker all, elsewhere nothing.
    log_keys: Vec<SharedLogKeys>,
    context: QueryContext,
    registered: Registered,
    port: Option<Arc<OutputPort>>,
    downstream: Vec<QueryId>,
    ended: bool,
}

/// One way into a running query; closed when its relation has ended.
struct RunningLeaf {
    leaf: Leaf,
    input: Option<Input>,
}

impl RunningLeaf {
    /// Whether it takes rows of this source, of the kind that `upstream` names.
    fn takes(&self, source: SourceId, upstream: Upstream) -> bool {
        self.leaf.upstream == upstream && self.leaf.sources.contains(&source)
    }

    fn send(&mut self, rows: &RecordBatch, sequence: u64, context: &QueryContext) {
        let Some(input) = self.input.as_mut().filter(|_| rows.num_rows() > 0) else { return };
        context.count(|c| &c.rows_in, rows.num_rows() as u64);
        input.send_batch(&mut vec![Batch { sequence, ..Batch::from(rows.clone()) }]);
    }

    /// Says that nothing before `epoch` follows; whether that is news.
    fn advance_to(&mut self, epoch: Epoch) -> bool {
        match &mut self.input {
            Some(input) if *input.time() < epoch => {
                input.advance_to(epoch);
                true
            }
            _ => false,
        }
    }
}

impl Running {
    fn close_inputs(&mut self) {
        self.leaves.iter_mut().for_each(|leaf| leaf.input = None);
    }
}

impl Worker {
    pub(super) fn new(
        timely: TimelyWorker,
        ingress: Arc<Ingress>,
        messages: Receiver<Message>,
    ) -> Self {
        let busy = BusyTimes::of(&timely, Arc::clone(ingress.traffic()));
        Self {
            timely,
            busy,
            open: ingress.first_epoch(),
            ingress,
            messages,
            barrier: None,
            sources: BTreeMap::new(),
            queries: BTreeMap::new(),
            reported: (0, true),
        }
    }

    /// Works until told to stop.
    pub(super) fn run(&mut self) {
        loop {
            for _ in 0..MESSAGES_PER_TURN {
                if self.barrier.is_some() {
                    break;
                }
                match self.messages.try_recv() {
                    Ok(Message::Stop) => return,
                    Ok(message) => self.handle(message),
                    Err(_) => break,
                }
            }
            let moved = self.pass_on();
            self.report();
            let passed = self.stand_before_barrier();
            if moved || passed || (self.barrier.is_none() && !self.messages.is_empty()) {
                self.timely.step();
                turns::pause();
            } else if turns::are_taken() {
                self.timely.step();
                turns::wait();
            } else {
                // Whoever sends a message, makes room for results or sends rows from another worker unparks this
                // thread, and an unpark that comes before the park is remembered.
                self.timely.step_or_park(Some(LOOK_AROUND));
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Rows(rows) => self.take_rows(&rows),
            Message::Close { epoch, watermarks } => self.close(epoch, &watermarks),
            Message::Install(installation) => self.install(&installation),
            Message::Export { query, reply } => {
                self.ask_detector(query, reply, |detector, log_keys, share| {
                    let states = log_keys.iter().filter(|_| share.worker == 0);
                    Ok(WorkerModels {
                        models: detector.snapshot()?,
                        log_keys: states
                            .map(|state| state.borrow().snapshot())
                            .collect::<ModelResult<_>>()?,
                    })
                });
            }
            Message::Import { query, models, reply } => {
                self.ask_detector(query, reply, move |detector, log_keys, share| {
                    detector.adopt(&models.models, share)?;
                    let states = log_keys.iter().zip(&models.log_keys);
                    states
                        .filter(|_| share.worker == 0)
                        .try_for_each(|(state, bytes)| state.borrow_mut().restore(bytes))
                });
            }
            Message::Checkpoint(barrier) => {
                barrier.meet(self.ingress.clock().now());
                self.barrier = Some((barrier, false));
            }
            Message::Feedback { query, rows, reply } => {
                self.ask_detector(query, reply, move |detector, _, _| detector.feedback(&rows));
            }
            Message::Cancel(id) => self.cancel(id),
            Message::Forget(id) => {
                self.sources.remove(&id);
            }
            Message::Stop => unreachable!("the loop returns on it"),
        }
    }

    /// Gives the worker's state away once the epoch before the barrier has been worked through; whether the barrier has
    /// been passed.
    fn stand_before_barrier(&mut self) -> bool {
        let Some((barrier, has_given)) = &mut self.barrier else { return false };
        let barrier = Arc::clone(barrier);
        if !*has_given && self.reported.0 >= self.open {
            *has_given = true;
            let state = (self.timely.index(), self.save());
            if barrier.give(state, || self.ingress.clock().now()) {
                self.ingress.wake_workers();
            }
        }
        let is_over = barrier.is_passed() || self.ingress.is_stopped();
        if is_over {
            self.barrier = None;
        }
        is_over
    }

    fn save(&self) -> ModelResult<WorkerState> {
        let queries = self.queries.iter().filter(|(_, query)| !query.context.is_over());
        queries.map(|(id, query)| Ok((*id, query.registered.save()?))).collect()
    }

    fn take_rows(&mut self, rows: &Rows) {
        // A source that no query has read is not known here, and its rows are of no interest.
        let Some(source) = self.sources.get(&rows.source) else { return };
        let is_late = rows.earliest.is_none_or(|earliest| earliest < source.watermark);
        let needs_sorting_out = source.spec.time.is_some()
            && (rows.has_unusable || (is_late && rows.earliest.is_some()));
        let (kept, dropped) = if needs_sorting_out {
            match source.spec.sort_out(&rows.rows, source.watermark, &source.counters) {
                Ok((kept, dropped)) => (kept, Some(dropped)),
                Err(error) => return self.ingress.fail(error),
            }
        } else {
            (rows.rows.clone(), None)
        };
        let (spec, watermark) = (Arc::clone(&source.spec), source.watermark);
        // Queries that take late rows in get them besides, each as late as it says.
        let mut by_lateness = BTreeMap::from([(0, kept)]);
        for Running { leaves, context, .. } in self.queries.values_mut() {
            for leaf in leaves.iter_mut() {
                if leaf.takes(rows.source, Upstream::Late)
                    && let Some(dropped) = &dropped
                {
                    leaf.send(dropped, rows.sequence, context);
                }
                if !leaf.takes(rows.source, Upstream::Source) {
                    continue;
                }
                let late_ns = if dropped.is_some() { leaf.leaf.late_ns } else { 0 };
                let part = match by_lateness.entry(late_ns) {
                    Entry::Occupied(part) => part.into_mut(),
                    Entry::Vacant(place) => {
                        match spec.in_time(&rows.rows, watermark.minus_ns(late_ns)) {
                            Ok(part) => place.insert(part),
                            Err(error) => return self.ingress.fail(error),
                        }
                    }
                };
                leaf.send(part, rows.sequence, context);
            }
        }
    }

    fn close(&mut self, epoch: Epoch, watermarks: &[SourceWatermark]) {
        for told in watermarks {
            if let Some(source) = self.sources.get_mut(&told.source) {
                source.watermark = told.watermark;
                source.watermarks.record(epoch, told.watermark);
                source.watermarks.record_end(told.while_open);
                source.ended |= told.ended;
            }
        }
        self.open = epoch + 1;
        for leaf in self.queries.values_mut().flat_map(|query| &mut query.leaves) {
            if matches!(leaf.leaf.upstream, Upstream::Query(..)) {
                continue;
            }
            let ended = |id| self.sources.get(id).is_none_or(|source| source.ended);
            if leaf.leaf.sources.iter().all(ended) {
                leaf.input = None;
            } else {
                leaf.advance_to(self.open);
            }
        }
    }

    fn install(&mut self, installation: &Installation) {
        let Installation { query, sources } = installation;
        for source in sources {
            self.sources.entry(source.id).or_insert_with(|| {
                let watermarks = Watermarks::default();
                watermarks.record(self.open - 1, source.watermark);
                WorkerSource {
                    spec: Arc::clone(&source.spec),
                    counters: Arc::clone(&source.counters),
                    watermarks,
                    watermark: source.watermark,
                    ended: source.ended,
                }
            });
        }
        let ingress = Arc::clone(&self.ingress);
        let (outbox, registered) = (Outbox::default(), Registered::default());
        let share = KeyShare { worker: self.timely.index(), workers: self.timely.peers() };
        let context = QueryContext::new(
            query.context.clone(),
            registered.clone(),
            query.saved.clone(),
            share,
        );
        let (parts, log_keys) = (Parts::default(), RefCell::default());
        let wiring = Wiring {
            settings: ingress.settings(),
            workers: self.timely.peers(),
            worker: self.timely.index(),
            context: context.clone(),
            parts: &parts,
            log_keys: &log_keys,
        };
        let mut inputs: Vec<Input> =
            query.leaves.iter().map(|_| Input::new_with_builder()).collect();
        let watermarks: Vec<Watermarks> =
            query.leaves.iter().map(|leaf| self.watermarks(leaf)).collect();
        let built = self.timely.dataflow_named(&format!("query {}", query.id.0), |scope| {
            let flows = inputs
                .iter_mut()
                .zip(watermarks)
                .map(|(input, watermarks)| Flow { stream: input.to_stream(scope), watermarks });
            graph::build(query, flows.collect(), &wiring, outbox.clone())
        });
        let detector = built.unwrap_or_else(|error| {
            // Planning has checked that it can be built, so that this is a bug. Nothing will come to the outbox.
            context.fail(error);
            outbox.end();
            None
        });
        self.busy.watch(&context, parts.into_owners());
        let mut leaves = Vec::with_capacity(inputs.len());
        for (mut input, leaf) in inputs.into_iter().zip(&query.leaves) {
            input.advance_to(self.open);
            let is_open = match leaf.upstream {
                Upstream::Query(id, _) => match self.queries.get_mut(&id) {
                    Some(upstream) if !upstream.ended => {
                        if !upstream.downstream.contains(&query.id) {
                            upstream.downstream.push(query.id);
                        }
                        true
                    }
                    _ => false,
                },
                Upstream::Source | Upstream::Late => leaf
                    .sources
                    .iter()
                    .any(|id| self.sources.get(id).is_some_and(|source| !source.ended)),
            };
            leaves.push(RunningLeaf { leaf: leaf.clone(), input: is_open.then_some(input) });
        }
        let running = Running {
            leaves,
            outbox,
            detector,
            log_keys: log_keys.into_inner(),
            context,
            registered,
            port: query.port.clone(),
            downstream: Vec::new(),
            ended: false,
        };
        self.queries.insert(query.id, running);
    }

    /// The watermarks that the rows of a leaf follow.
    fn watermarks(&self, leaf: &Leaf) -> Watermarks {
        let tables = leaf.sources.iter().filter_map(|id| self.sources.get(id));
        let tables = tables.map(|source| source.watermarks.clone());
        tables.reduce(|all, one| all.and(&one)).unwrap_or_default()
    }

    /// Asks a detector something, when none of its answers are on their way.
    fn ask_detector<T: 'static>(
        &self,
        id: QueryId,
        reply: Sender<Answer<T>>,
        act: impl FnOnce(&mut dyn Detector, &[SharedLogKeys], KeyShare) -> ModelResult<T> + 'static,
    ) {
        let share = KeyShare { worker: self.timely.index(), workers: self.timely.peers() };
        let running = self.queries.get(&id);
        let found =
            running.and_then(|query| Some((query.detector.as_ref()?, query.log_keys.clone())));
        // Whoever asked has gone when nobody takes the reply.
        match found {
            Some((detector, log_keys)) => detector.ask(move |detector| {
                let _ = reply.send((share.worker, act(detector, &log_keys, share)));
            }),
            None => {
                let ended = OperatorError::Snapshot {
                    owner: "detector".into(),
                    problem: "cannot be taken or changed: the detector has ended".into(),
                };
                let _ = reply.send((share.worker, Err(ended)));
            }
        }
    }

    fn cancel(&mut self, id: QueryId) {
        if let Some(query) = self.queries.get_mut(&id) {
            query.context.cancel();
            query.close_inputs();
        }
    }

    /// Hands results on to readers and to the queries that read them; whether anything moved.
    fn pass_on(&mut self) -> bool {
        let mut moved = false;
        // Before a barrier everything has to come out, however slow its reader is.
        let is_held_up = self.barrier.is_some();
        // A query's readers have higher numbers than the query itself, so that one pass carries rows all the way.
        let ids: Vec<QueryId> = self.queries.keys().copied().collect();
        for id in ids {
            let Some(query) = self.queries.get(&id).filter(|query| !query.ended) else { continue };
            let (outbox, port) = (query.outbox.clone(), query.port.clone());
            let (context, downstream) = (query.context.clone(), query.downstream.clone());
            if let Some(error) = context.failure() {
                let told = Error::from(error);
                if let Some(port) = &port {
                    port.fail(&told);
                }
                if let Some(query) = self.queries.get_mut(&id) {
                    query.close_inputs();
                }
                let problem = match std::error::Error::source(&told) {
                    Some(cause) => format!("{}: {cause}", told.message()),
                    None => told.message().to_owned(),
                };
                for reader in downstream.iter().filter_map(|reader| self.queries.get(reader)) {
                    reader.context.fail(OperatorError::Upstream { problem: problem.clone() });
                }
            }
            while let Some(Outgoing { epoch, relation, rows }) = outbox.peek() {
                if port
                    .as_ref()
                    .is_some_and(|port| relation == MAIN && !port.offer(&rows, epoch, is_held_up))
                {
                    break;
                }
                for reader in &downstream {
                    let Some(Running { leaves, context, .. }) = self.queries.get_mut(reader) else {
                        continue;
                    };
                    let wanted = Upstream::Query(id, relation);
                    for leaf in leaves.iter_mut().filter(|leaf| leaf.leaf.upstream == wanted) {
                        leaf.advance_to(epoch);
                        leaf.send(&rows, 0, context);
                    }
                }
                outbox.pop();
                moved = true;
            }
            if !outbox.is_empty() {
                continue;
            }
            let open = outbox.open_epoch();
            for reader in &downstream {
                let Some(reader) = self.queries.get_mut(reader) else { continue };
                let of_query = |leaf: &&mut RunningLeaf| matches!(leaf.leaf.upstream, Upstream::Query(of, _) if of == id);
                for leaf in reader.leaves.iter_mut().filter(of_query) {
                    moved |= match open {
                        Epoch::MAX => leaf.input.take().is_some(),
                        open => leaf.advance_to(open),
                    };
                }
            }
            if open == Epoch::MAX {
                self.end(id);
                moved = true;
            }
        }
        moved
    }

    /// A query has given all that it had.
    fn end(&mut self, id: QueryId) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        query.ended = true;
        if let Some(port) = &query.port {
            port.worker_done();
        }
        let Some(query) = self.queries.remove(&id) else { return };
        for leaf in query.leaves {
            if let Upstream::Query(upstream, _) = leaf.leaf.upstream
                && let Some(upstream) = self.queries.get_mut(&upstream)
            {
                upstream.downstream.retain(|reader| *reader != id);
            }
        }
    }

    /// Tells the ingress how far this worker has come, if that has changed.
    fn report(&mut self) {
        let unfinished = self
            .queries
            .values()
            .map(|query| match query.outbox.peek() {
                Some(outgoing) => outgoing.epoch,
                None => query.outbox.open_epoch(),
            })
            .fold(self.open, Epoch::min);
        let now = (unfinished, self.queries.is_empty());
        if now != self.reported {
            self.reported = now;
            for source in self.sources.values() {
                source.watermarks.forget_before(unfinished.saturating_sub(1));
            }
            self.ingress.progressed(self.timely.index(), now.0, now.1);
        }
    }
}
