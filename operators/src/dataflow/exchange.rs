//! Moves every row to the worker that owns its key.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::{BatchStream, QueryContext};
use crate::batch::Batch;
use crate::key::KeySplitter;

/// Splits batches by key and marks each part with its worker. The operator that follows reads its input through
/// [`by_target`], which moves the parts; a batch whose rows all go to one worker is not copied.
pub(super) fn split_by_key<'scope>(
    stream: BatchStream<'scope>,
    mut splitter: KeySplitter,
    context: QueryContext,
) -> BatchStream<'scope> {
    stream.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "SplitByKey", |_, _| {
        move |input, output| {
            input.for_each(|capability, batches| {
                let mut session = output.session(&capability);
                for batch in batches.drain(..) {
                    let parts = context.attempt(|| splitter.split(&batch.rows));
                    for (target, rows) in parts.into_iter().flatten() {
                        session.give(Batch { rows, sequence: batch.sequence, target });
                    }
                }
            });
        }
    })
}

/// Where a batch goes.
pub(super) fn by_target(batch: &Batch) -> u64 {
    u64::from(batch.target)
}
