//! Filter and projection: a batch goes in, a batch with as many rows or fewer comes out.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::{BatchStream, QueryContext};
use crate::expression::Transform;

/// Applies `program` to every batch. Rows that it fails on are left out and counted.
pub fn transform<'scope>(
    stream: BatchStream<'scope>,
    program: Arc<dyn Transform>,
    context: QueryContext,
) -> BatchStream<'scope> {
    stream.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "Transform", |_, _| {
        move |input, output| {
            input.for_each(|capability, batches| {
                let mut session = output.session(&capability);
                for batch in batches.drain(..) {
                    context.isolate(&batch.rows, &mut |rows| {
                        let rows = program.apply(rows)?;
                        if rows.num_rows() > 0 {
                            session.give(batch.with_rows(rows));
                        }
                        Ok(())
                    });
                }
            });
        }
    })
}

/// Gives every batch this schema, which differs from its own in that more columns may hold nulls.
pub fn with_schema<'scope>(
    stream: BatchStream<'scope>,
    schema: SchemaRef,
    context: QueryContext,
) -> BatchStream<'scope> {
    stream.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "WithSchema", |_, _| {
        move |input, output| {
            input.for_each(|capability, batches| {
                let mut session = output.session(&capability);
                for batch in batches.drain(..) {
                    let columns = batch.rows.columns().to_vec();
                    let rows = RecordBatch::try_new(schema.clone(), columns);
                    if let Some(rows) = context.attempt(|| Ok(rows?)) {
                        session.give(batch.with_rows(rows));
                    }
                }
            });
        }
    })
}
