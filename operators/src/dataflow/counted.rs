//! Windows of so many rows: rows are moved to where their key lives, put into order, and counted.

use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::Operator;

use super::closing::Closing;
use super::context::Gauge;
use super::exchange::by_target;
use super::range::within_range;
use super::{BatchStream, Keyed, Reorder, WindowStage, measure};
use crate::batch::Batch;
use crate::error::Result;
use crate::expression::AggregateProgram;
use crate::key::KeySplitter;
use crate::time::EventTime;
use crate::window::{CountSpec, CountedWindows, WindowedAggregate};

/// Aggregates rows by key, so many at a time.
pub(super) fn aggregate_counted<'scope>(
    stream: BatchStream<'scope>,
    count: CountSpec,
    stage: WindowStage,
) -> Result<BatchStream<'scope>> {
    let windows = CountedWindows::new(count, stage.aggregate.clone())?;
    let keys = stage.aggregate.program.key_fields();
    let splitter = KeySplitter::by_keys(&keys, stream.scope().peers())?;
    let splitting = WindowStage { context: stage.context.of_step("SplitRows"), ..stage.clone() };
    let rows = split_by_program(stream, splitter, &splitting);
    let rows = measure(rows, &splitting.context, &stage.watermarks, None);
    count_rows(rows, windows, stage)
}

/// Marks rows with the worker that owns their key. Rows that an expression fails on are left out here, before they could
/// be counted.
fn split_by_program<'scope>(
    stream: BatchStream<'scope>,
    mut splitter: KeySplitter,
    stage: &WindowStage,
) -> BatchStream<'scope> {
    let WindowStage { aggregate, context, .. } = stage.clone();
    stream.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "SplitRows", |_, _| {
        move |input, output| {
            input.for_each(|capability, batches| {
                let mut session = output.session(&capability);
                for batch in batches.drain(..) {
                    let WindowedAggregate { time, time_index, .. } = &aggregate;
                    let rows = within_range(&context, time, *time_index, &batch.rows);
                    let Some(rows) = rows else { continue };
                    context.isolate(&rows, &mut |rows| {
                        let input = aggregate.program.prepare(rows)?;
                        let parts = context.attempt(|| splitter.split_by(rows, &input.keys));
                        for (target, rows) in parts.into_iter().flatten() {
                            session.give(batch.part(target, rows));
                        }
                        Ok(())
                    });
                }
            });
        }
    })
}

/// Counts rows once the watermark has passed them, and gives the windows that are complete.
fn count_rows<'scope>(
    stream: BatchStream<'scope>,
    windows: CountedWindows,
    stage: WindowStage,
) -> Result<BatchStream<'scope>> {
    let WindowStage { aggregate, reorder_rows_max, lag_ns, watermarks, context, .. } = stage;
    let windows = context.keep("windows", windows)?;
    let reorder = Reorder::new(aggregate.time_index, aggregate.time.clone(), reorder_rows_max);
    let reorder = context
        .keep("waiting", reorder.keyed_by(Keyed::Program(Arc::clone(&aggregate.program))))?;
    let exchange = Exchange::new(by_target);
    Ok(stream.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        exchange,
        "CountRows",
        |capability, _| {
            let mut closing = Closing::new(capability, watermarks, lag_ns);
            let mut bytes = Gauge::new(&context, |c| &c.state_bytes);
            move |(input, frontier), output| {
                let (mut windows, mut reorder) = (windows.borrow_mut(), reorder.borrow_mut());
                input.for_each(|_, batches| {
                    for batch in batches.drain(..) {
                        context.received(&batch.rows);
                        context.attempt(|| reorder.push(&batch));
                    }
                });
                context.count(|c| &c.rows_refused, reorder.take_refused());
                while let Some((complete, capability)) = closing.next_closed(frontier) {
                    let program = &*aggregate.program;
                    let step = || release(&mut reorder, &mut windows, program, complete);
                    let closed = context.attempt(step).unwrap_or_default();
                    context.count(|c| &c.rows_refused, windows.take_rows_refused());
                    let mut session = output.session(&capability);
                    for rows in closed {
                        context.count(|c| &c.windows_closed, rows.num_rows() as u64);
                        session.give(Batch::from(rows));
                    }
                    bytes.set((windows.bytes() + reorder.bytes()) as u64);
                }
            }
        },
    ))
}

fn release(
    reorder: &mut Reorder,
    windows: &mut CountedWindows,
    program: &dyn AggregateProgram,
    complete: EventTime,
) -> Result<Vec<arrow::record_batch::RecordBatch>> {
    match reorder.release(complete)? {
        Some(rows) => windows.update(&rows, &program.prepare(&rows)?),
        None => Ok(Vec::new()),
    }
}
