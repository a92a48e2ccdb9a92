//! Steps over streams of changes, whose last column says whether a row now holds or no longer does.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::{BatchStream, QueryContext};
use crate::changes::{consolidate, transform, with_changes};
use crate::expression::Transform;

/// Filters and computes rows that no longer hold as those that now do, and leaves out those that have become equal.
/// Columns of the result are those of `schema`.
pub fn transform_changes<'scope>(
    stream: BatchStream<'scope>,
    program: Arc<dyn Transform>,
    schema: SchemaRef,
    context: QueryContext,
) -> BatchStream<'scope> {
    stream.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        Pipeline,
        "TransformChanges",
        |_, _| {
            move |input, output| {
                input.for_each(|capability, batches| {
                    let mut session = output.session(&capability);
                    for batch in batches.drain(..) {
                        let mut parts = Vec::new();
                        // What fails on a row that holds fails on it again when it no longer does.
                        context.isolate(&batch.rows, &mut |rows| {
                            parts.push(transform(&*program, &schema, rows)?);
                            Ok(())
                        });
                        let rows = context.attempt(|| {
                            consolidate(&arrow::compute::concat_batches(&schema, &parts)?)
                        });
                        if let Some(rows) = rows.filter(|rows| rows.num_rows() > 0) {
                            session.give(batch.with_rows(rows));
                        }
                    }
                });
            }
        },
    )
}

/// Marks rows as such that now hold and always will.
pub fn append_additions<'scope>(
    stream: BatchStream<'scope>,
    schema: SchemaRef,
    context: QueryContext,
) -> BatchStream<'scope> {
    stream.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "Additions", |_, _| {
        move |input, output| {
            input.for_each(|capability, batches| {
                let mut session = output.session(&capability);
                for batch in batches.drain(..) {
                    let ones = std::iter::repeat_n(1, batch.rows.num_rows());
                    let rows = context.attempt(|| with_changes(&schema, &batch.rows, ones));
                    if let Some(rows) = rows {
                        session.give(batch.with_rows(rows));
                    }
                }
            });
        }
    })
}
