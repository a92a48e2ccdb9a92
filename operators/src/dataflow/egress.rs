//! The end of a query's dataflow: results leave it epoch by epoch, in order, once an epoch is complete.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use arrow::record_batch::RecordBatch;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::{BatchStream, MAIN, QueryContext};
use crate::batch::Batch;
use crate::time::Epoch;

/// Results of one query on one worker that wait to be handed on.
///
/// It is bounded by what the epochs in flight can produce: the engine closes no further epoch while results of
/// earlier ones wait here.
#[derive(Clone, Debug, Default)]
pub struct Outbox(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    results: RefCell<VecDeque<Outgoing>>,
    open: Cell<Epoch>,
}

/// Rows that leave a query.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The epoch that they belong to.
    pub epoch: Epoch,
    /// The relation that they are of: [`MAIN`](super::MAIN), or one more than the index of a side relation.
    pub relation: u32,
    /// The rows.
    pub rows: RecordBatch,
}

impl Outbox {
    /// The oldest result, left in place.
    #[must_use]
    pub fn peek(&self) -> Option<Outgoing> {
        self.0.results.borrow().front().cloned()
    }

    /// Takes the oldest result.
    pub fn pop(&self) -> Option<Outgoing> {
        self.0.results.borrow_mut().pop_front()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.results.borrow().is_empty()
    }

    /// Says that nothing comes: the dataflow could not be built.
    pub fn end(&self) {
        self.0.open.set(Epoch::MAX);
    }

    /// The first epoch that is not complete: all results of earlier ones have been put here. [`Epoch::MAX`] when
    /// the query has ended.
    #[must_use]
    pub fn open_epoch(&self) -> Epoch {
        self.0.open.get()
    }
}

/// The epoch before all others. What a checkpoint has kept of rows that enter and leave enters again in it; what they
/// come to was given before.
pub(super) const RESTORED: Epoch = 0;

/// Collects results into `outbox`.
pub fn collect_into(stream: BatchStream<'_>, outbox: Outbox, context: QueryContext) {
    let mut waiting: BTreeMap<Epoch, Vec<Batch>> = BTreeMap::new();
    stream.sink(Pipeline, "Egress", move |(input, frontier)| {
        input.for_each(|capability, batches| {
            let Some(&epoch) = capability.least() else { return };
            waiting.entry(epoch).or_default().append(batches);
        });
        let open = frontier.frontier().first().copied().unwrap_or(Epoch::MAX);
        let still_open = waiting.split_off(&open);
        let complete = std::mem::replace(&mut waiting, still_open);
        if !context.is_over() {
            let mut results = outbox.0.results.borrow_mut();
            for (epoch, batches) in complete {
                if epoch == RESTORED && context.is_restored() {
                    continue;
                }
                let main = batches.iter().filter(|batch| batch.target == MAIN);
                context
                    .count(|c| &c.rows_out, main.map(|batch| batch.rows.num_rows() as u64).sum());
                context.gave(batches.len());
                results.extend(batches.into_iter().map(|batch| Outgoing {
                    epoch,
                    relation: batch.target,
                    rows: batch.rows,
                }));
            }
        }
        outbox.0.open.set(open);
    });
}
