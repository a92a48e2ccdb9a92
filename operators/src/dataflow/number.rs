//! Numbers the results of a window: rows that leave in one epoch are ordered within their partition.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;

use super::closing::Closing;
use super::exchange::{by_target, split_by_key};
use super::{BatchStream, QueryContext};
use crate::batch::Batch;
use crate::key::KeySplitter;
use crate::time::{Epoch, Watermarks};
use crate::window::Numbering;

/// A numbering as a dataflow builds it.
#[derive(Debug)]
pub struct NumberStage {
    /// Moves rows to the worker that owns their partition.
    pub splitter: KeySplitter,
    /// How they are numbered. All rows of a partition come in one epoch, as rows of equal window end do.
    pub numbering: Numbering,
    /// Columns of the input.
    pub input: SchemaRef,
    /// Most rows that wait until their epoch has closed; those beyond are refused and counted.
    pub rows_max: usize,
    /// The watermarks of the source at the bottom of the query.
    pub watermarks: Watermarks,
    /// Shared state of the query.
    pub context: QueryContext,
}

/// Appends the number of each row within its partition.
pub fn number_rows<'scope>(stream: BatchStream<'scope>, stage: NumberStage) -> BatchStream<'scope> {
    let NumberStage { splitter, numbering, input: schema, rows_max, watermarks, context } = stage;
    let moved = split_by_key(stream, splitter, context.clone());
    moved.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        Exchange::new(by_target),
        "NumberRows",
        |capability, _| {
            let mut closing = Closing::new(capability, watermarks, 0);
            let mut waiting: Vec<(Epoch, RecordBatch)> = Vec::new();
            let mut rows_waiting = 0;
            move |(input, frontier), output| {
                input.for_each(|capability, batches| {
                    let Some(&epoch) = capability.least() else { return };
                    for batch in batches.drain(..) {
                        context.received(&batch.rows);
                        let rows = batch.rows.num_rows().min(rows_max - rows_waiting);
                        let refused = batch.rows.num_rows() - rows;
                        context.count(|c| &c.rows_refused, refused as u64);
                        rows_waiting += rows;
                        if rows > 0 {
                            waiting.push((epoch, batch.rows.slice(0, rows)));
                        }
                    }
                });
                while let Some((_, capability)) = closing.next_closed(frontier) {
                    let closed = *capability.time();
                    let is_over = |(epoch, _): &mut (Epoch, RecordBatch)| *epoch <= closed;
                    let batches: Vec<RecordBatch> =
                        waiting.extract_if(.., is_over).map(|(_, rows)| rows).collect();
                    if batches.is_empty() {
                        continue;
                    }
                    rows_waiting -= batches.iter().map(RecordBatch::num_rows).sum::<usize>();
                    if let Some(rows) = context.attempt(|| numbering.apply(&schema, &batches)) {
                        output.session(&capability).give(Batch::from(rows));
                    }
                }
            }
        },
    )
}
