//! The join with a table as an operator: every worker looks up its own rows in the same table.

use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::{BatchStream, QueryContext};
use crate::lookup::Lookup;

/// Joins every batch with a table. Rows that the condition fails on are left out and counted.
pub fn look_up<'scope>(
    stream: BatchStream<'scope>,
    lookup: Arc<Lookup>,
    context: QueryContext,
) -> BatchStream<'scope> {
    stream.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "Lookup", |_, _| {
        move |input, output| {
            input.for_each(|capability, batches| {
                let mut session = output.session(&capability);
                for batch in batches.drain(..) {
                    context.isolate(&batch.rows, &mut |rows| {
                        for joined in lookup.apply(rows)? {
                            session.give(batch.with_rows(joined));
                        }
                        Ok(())
                    });
                }
            });
        }
    })
}
