//! Moves rows to the workers that must see them.

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
                        session.give(batch.part(target, rows));
                    }
                }
            });
        }
    })
}

/// Where the rows of an input go.
#[derive(Debug)]
pub enum Route {
    /// To the worker that owns their key.
    ByKey(KeySplitter),
    /// To every worker.
    ToAll,
    /// Nowhere.
    Stay,
}

/// Marks batches with the workers that must see them; the operator that follows reads its input through [`by_target`].
pub(super) fn route<'scope>(
    stream: BatchStream<'scope>,
    route: Route,
    context: QueryContext,
) -> BatchStream<'scope> {
    let (own, workers) = (stream.scope().index() as u32, stream.scope().peers() as u32);
    let targets = match route {
        Route::ByKey(splitter) => return split_by_key(stream, splitter, context),
        Route::ToAll => 0..workers,
        Route::Stay => own..own + 1,
    };
    stream.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "Route", |_, _| {
        move |input, output| {
            input.for_each(|capability, batches| {
                let mut session = output.session(&capability);
                for batch in batches.drain(..) {
                    targets
                        .clone()
                        .for_each(|worker| session.give(batch.part(worker, batch.rows.clone())));
                }
            });
        }
    })
}

/// Where a batch goes.
pub(super) fn by_target(batch: &Batch) -> u64 {
    u64::from(batch.target)
}
