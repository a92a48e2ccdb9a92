//! A detector as an operator: rows in order of event time go through the models of their keys.

use std::cell::RefCell;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;

use super::closing::Closing;
use super::context::Gauge;
use super::exchange::{by_target, split_by_key};
use super::reorder::Reorder;
use super::{BatchStream, QueryContext};
use crate::batch::Batch;
use crate::detector::{Answers, Detector, DetectorStatistics};
use crate::error::Result;
use crate::key::KeySplitter;
use crate::state::{StateReader, StateWriter, Stateful};
use crate::time::{EventTime, Watermarks};

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
pub type SharedDetector = Rc<RefCell<Box<dyn Detector>>>;

/// Marks batches of the main relation in [`Batch::target`]; those of side relations follow.
pub const MAIN: u32 = 0;

/// Scores rows, and learns from them, in order of event time per key. Side relations come out beside the main one.
pub fn detect<'scope>(
    stream: BatchStream<'scope>,
    stage: DetectStage,
    detector: SharedDetector,
) -> Result<BatchStream<'scope>> {
    let DetectStage { splitter, reorder, lag_ns, watermarks, context } = stage;
    let reorder = context.keep("waiting", reorder)?;
    let models = Models { detector: Rc::clone(&detector) };
    context.keep_shared("models", Rc::new(RefCell::new(models)))?;
    let moved = split_by_key(stream, splitter, context.clone());
    let exchange = Exchange::new(by_target);
    Ok(moved.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        exchange,
        "Detect",
        |capability, _| {
            // What restored models have in counted relations enters again before anything else.
            let mut restored = context.is_restored().then(|| capability.clone());
            let mut closing = Closing::new(capability, watermarks, lag_ns);
            let mut bytes = Gauge::new(&context, |c| &c.state_bytes);
            let mut models = Gauge::new(&context, |c| &c.models);
            let mut ready = Gauge::new(&context, |c| &c.models_ready);
            let mut before = DetectorStatistics::default();
            move |(input, frontier), output| {
                let mut reorder = reorder.borrow_mut();
                if let Some(capability) = restored.take() {
                    let mut standing = Answers::default();
                    context
                        .attempt(|| detector.borrow_mut().advance(EventTime::MIN, &mut standing));
                    let mut session = output.session(&capability);
                    batches_of(standing).for_each(|batch| session.give(batch));
                }
                input.for_each(|_, batches| {
                    for batch in batches.drain(..) {
                        context.received(&batch.rows);
                        context.attempt(|| reorder.push(&batch));
                    }
                });
                context.count(|c| &c.rows_refused, reorder.take_refused());
                let mut detector = detector.borrow_mut();
                let mut is_new = false;
                while let Some((complete, capability)) = closing.next_closed(frontier) {
                    is_new = true;
                    let step = || judge(&mut **detector, &mut reorder, complete);
                    let judged = context.attempt(step).unwrap_or_default();
                    let mut session = output.session(&capability);
                    batches_of(judged).for_each(|batch| session.give(batch));
                }
                if !is_new {
                    return;
                }
                let now = detector.statistics();
                context.count(|c| &c.anomalies, now.anomalies - before.anomalies);
                context.count(|c| &c.models_evicted, now.evicted - before.evicted);
                context.count(|c| &c.rebuilds, now.rebuilds - before.rebuilds);
                context.count(|c| &c.rebuild_ns, now.rebuild_ns - before.rebuild_ns);
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
    all.map(|(target, rows)| Batch { rows, sequence: 0, target })
}

/// The detector's models as state: what it writes for a file of models.
struct Models {
    detector: SharedDetector,
}

impl Stateful for Models {
    fn save(&mut self, out: &mut StateWriter) -> Result<()> {
        out.bytes(self.detector.borrow().snapshot()?);
        Ok(())
    }

    fn load(&mut self, saved: &StateReader<'_>) -> Result<()> {
        self.detector.borrow_mut().go_on(&saved.bytes(), saved.share())
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
