//! A detector as an operator: rows in order of event time go through the models of their keys.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};

use arrow::array::AsArray;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::scheduling::SyncActivator;

use super::closing::Closing;
use super::context::Gauge;
use super::exchange::{by_target, split_by_key};
use super::reorder::Reorder;
use super::{BatchStream, QueryContext};
use crate::batch::Batch;
use crate::detector::{Answers, Detector, DetectorStatistics, Pieces};
use crate::error::Result;
use crate::key::KeySplitter;
use crate::state::{StateReader, StateWriter, Stateful, problem};
use crate::time::{Epoch, EventTime, Watermarks};

/// A detector as a dataflow builds it.
#[derive(Debug)]
pub struct DetectStage {
    /// Moves rows to the worker that owns their key.
    pub splitter: KeySplitter,
    /// Puts them in order.
    pub reorder: Reorder,
    /// How far rows may lie below the watermark of earlier epochs.
    pub lag_ns: i64,
    /// The watermarks of the source at the bottom of the query.
    pub watermarks: Watermarks,
    /// Shared state of the query.
    pub context: QueryContext,
}

/// A detector that its worker can reach from outside the dataflow, between two steps of it.
#[derive(Clone)]
pub struct SharedDetector(Rc<Shared>);

struct Shared {
    detector: RefCell<Box<dyn Detector>>,
    /// Whether answers of its latest step are on their way.
    is_open: Cell<bool>,
    questions: RefCell<Vec<Question>>,
}

type Question = Box<dyn FnOnce(&mut dyn Detector)>;

impl SharedDetector {
    /// Shares a detector between its operator and its worker.
    #[must_use]
    pub fn new(detector: Box<dyn Detector>) -> Self {
        Self(Rc::new(Shared {
            detector: RefCell::new(detector),
            is_open: Cell::new(false),
            questions: RefCell::default(),
        }))
    }

    /// Asks the detector something: at once, or, while answers of a step are on their way, as soon as these are there.
    pub fn ask(&self, question: impl FnOnce(&mut dyn Detector) + 'static) {
        if self.0.is_open.get() {
            self.0.questions.borrow_mut().push(Box::new(question));
        } else {
            question(&mut **self.0.detector.borrow_mut());
        }
    }

    /// Notes whether a step is open; when none is, answers what was asked meanwhile.
    fn set_open(&self, is_open: bool) {
        self.0.is_open.set(is_open);
        if !is_open {
            let questions = std::mem::take(&mut *self.0.questions.borrow_mut());
            questions.into_iter().for_each(|question| self.ask(question));
        }
    }
}

impl fmt::Debug for SharedDetector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedDetector").field("is_open", &self.0.is_open).finish_non_exhaustive()
    }
}

/// Wakes the operator, from any thread.
struct Woken(SyncActivator);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        // A worker that has ended needs no waking.
        let _ = self.0.activate();
    }
}

/// A step whose answers are not complete. Its capability keeps the epoch open for whoever reads them, and for the source.
struct Step {
    capability: Capability<Epoch>,
    answers: Answers,
}

/// Marks batches of the main relation in [`Batch::target`]; those of side relations follow.
pub const MAIN: u32 = 0;

/// Scores rows, and learns from them, in order of event time per key. Side relations come out beside the main one.
///
/// A step whose answers are on their way keeps its epoch, and rows that come meanwhile wait in front of the operator; it
/// is run again when it is woken. So neither frontier nor watermark passes an answer, and backpressure reaches the source.
///
/// # Errors
/// If a checkpoint holds something else for it.
pub fn detect<'scope>(
    stream: BatchStream<'scope>,
    stage: DetectStage,
    shared: SharedDetector,
) -> Result<BatchStream<'scope>> {
    let DetectStage { splitter, reorder, lag_ns, watermarks, context } = stage;
    let reorder = context.keep("waiting", reorder)?;
    let models = Models { detector: shared.clone() };
    context.keep_shared("models", Rc::new(RefCell::new(models)))?;
    let moved = split_by_key(stream, splitter, context.clone());
    let exchange = Exchange::new(by_target);
    let scope = moved.scope();
    Ok(moved.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        exchange,
        "Detect",
        |capability, info| {
            let activator = scope.worker().sync_activator_for(info.address.to_vec());
            let waker = Waker::from(Arc::new(Woken(activator)));
            // What restored models have in counted relations enters again before anything else.
            let mut restored = context.is_restored().then(|| capability.clone());
            let mut closing = Closing::new(capability, watermarks, lag_ns);
            let mut open: Option<Step> = None;
            let mut bytes = Gauge::new(&context, |c| &c.state_bytes);
            let mut models = Gauge::new(&context, |c| &c.models);
            let mut ready = Gauge::new(&context, |c| &c.models_ready);
            let mut before = DetectorStatistics::default();
            move |(input, frontier), output| {
                let mut reorder = reorder.borrow_mut();
                if let Some(capability) = restored.take() {
                    let mut standing = Answers::default();
                    let mut detector = shared.0.detector.borrow_mut();
                    context.attempt(|| detector.advance(EventTime::MIN, &mut standing));
                    let mut session = output.session(&capability);
                    batches_of(standing).for_each(|batch| session.give(batch));
                }
                let mut is_new = false;
                loop {
                    let mut detector = shared.0.detector.borrow_mut();
                    let step = match open.take() {
                        Some(step) => step,
                        // Rows stay in front of the operator while a step is open.
                        None => {
                            input.for_each(|_, batches| {
                                for batch in batches.drain(..) {
                                    context.received(&batch.rows);
                                    context.attempt(|| reorder.push(&batch));
                                }
                            });
                            context.count(|c| &c.rows_refused, reorder.take_refused());
                            let Some((complete, capability)) = closing.next_closed(frontier) else {
                                break;
                            };
                            let judge = || judge(&mut **detector, &mut reorder, complete);
                            Step { capability, answers: context.attempt(judge).unwrap_or_default() }
                        }
                    };
                    let Step { capability, mut answers } = step;
                    // A query that is over needs no answers any more.
                    let polled = context.attempt(|| detector.poll(&waker, &mut answers));
                    if matches!(polled, Some(Poll::Pending)) {
                        open = Some(Step { capability, answers });
                        break;
                    }
                    is_new = true;
                    let mut session = output.session(&capability);
                    batches_of(answers).for_each(|batch| session.give(batch));
                    drop(detector);
                    // Between two steps it may be asked for its models.
                    shared.set_open(false);
                }
                shared.set_open(open.is_some());
                if !is_new {
                    return;
                }
                // Counts of a detector of the host's may fall when it is restored.
                let now = shared.0.detector.borrow().statistics();
                context.count(|c| &c.anomalies, now.anomalies.saturating_sub(before.anomalies));
                context.count(|c| &c.models_evicted, now.evicted.saturating_sub(before.evicted));
                context.count(|c| &c.rebuilds, now.rebuilds.saturating_sub(before.rebuilds));
                context.count(|c| &c.rebuild_ns, now.rebuild_ns.saturating_sub(before.rebuild_ns));
                models.set(now.models);
                ready.set(now.ready);
                bytes.set(now.bytes + reorder.bytes() as u64);
                before = now;
            }
        },
    ))
}

/// Answers as batches that are marked with their relation.
fn batches_of(answers: Answers) -> impl Iterator<Item = Batch> {
    let main = answers.rows.into_iter().map(|rows| (MAIN, rows));
    let side = answers.side.into_iter().map(|(i, rows)| (MAIN + 1 + i as u32, rows));
    let all = main.chain(side).filter(|(_, rows)| rows.num_rows() > 0);
    all.map(|(target, rows)| Batch { target, ..Batch::from(rows) })
}

/// The table of models by key.
const MODELS: &str = "models";

/// The detector's models as state.
struct Models {
    detector: SharedDetector,
}

impl Stateful for Models {
    fn save(&mut self, out: &mut StateWriter) -> Result<()> {
        let Pieces { rest, of_keys } = self.detector.0.detector.borrow().pieces()?;
        for rows in of_keys {
            let keys = rows.column(0).as_binary_opt::<i32>().cloned();
            let keys = keys.ok_or_else(|| problem("gives its models away without keys"))?;
            out.keyed_bytes(MODELS, rows, keys.iter());
        }
        out.bytes(rest);
        Ok(())
    }

    fn load(&mut self, saved: &StateReader<'_>) -> Result<()> {
        let (rests, of_keys) = (saved.bytes(), saved.rows(MODELS)?);
        self.detector.0.detector.borrow_mut().go_on_from(&rests, &of_keys, saved.share())
    }
}

fn judge(
    detector: &mut dyn Detector,
    reorder: &mut Reorder,
    complete: EventTime,
) -> Result<Answers> {
    let mut judged = Answers::default();
    if let Some(rows) = reorder.release(complete)? {
        detector.process(&rows, &mut judged)?;
    }
    detector.advance(complete, &mut judged)?;
    Ok(judged)
}
