//! Windows that answer before they close, or again afterwards: rows in, changes of the result out.

use arrow::record_batch::RecordBatch;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;

use super::closing::Closing;
use super::context::Gauge;
use super::exchange::{by_target, split_by_key};
use super::{BatchStream, WindowStage};
use super::{folding, sessions};
use crate::batch::Batch;
use crate::error::Result;
use crate::key::KeySplitter;
use crate::time::Epoch;
use crate::window::{Answering, PANE_COLUMNS, SessionFold, UpdatingWindows, Window};

/// Aggregates rows by window and key, and gives the changes of the result once per epoch.
///
/// The rows of an epoch are folded into partial states where they arrive, and only these travel.
///
/// # Errors
/// If a column's type cannot be a key or cannot be compared, or the window is one of so many rows.
pub fn update_windows<'scope>(
    stream: BatchStream<'scope>,
    stage: WindowStage,
    answering: Answering,
) -> Result<BatchStream<'scope>> {
    let workers = stream.scope().peers();
    let groups = UpdatingWindows::new(stage.window, stage.aggregate.clone(), answering)?;
    let (partials, schema, keys) = match stage.window {
        Window::Session(session) => {
            let fold = SessionFold::new(session, stage.aggregate.clone())?;
            let (schema, keys) = fold.schema();
            (sessions::fold_epochs(stream, fold, &stage), schema, keys)
        }
        Window::Aligned(window) => {
            let schema = stage.aggregate.partial_schema(&PANE_COLUMNS);
            let keys = (1..=stage.aggregate.program.key_fields().len()).collect();
            (folding::fold_epochs(stream, window, &stage)?, schema, keys)
        }
        Window::Count(_) => unreachable!("refused above"),
    };
    let splitter = KeySplitter::new(&schema, keys, workers)?;
    let moved = split_by_key(partials, splitter, stage.context.clone());
    answer(moved, groups, stage)
}

/// Answers for each epoch once it has closed.
fn answer<'scope>(
    stream: BatchStream<'scope>,
    groups: UpdatingWindows,
    stage: WindowStage,
) -> Result<BatchStream<'scope>> {
    let WindowStage { lag_ns, watermarks, context, .. } = stage;
    let groups = context.keep("groups", groups)?;
    Ok(stream.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        Exchange::new(by_target),
        "UpdateWindows",
        |capability, _| {
            let mut closing = Closing::new(capability, watermarks, lag_ns);
            let mut bytes = Gauge::new(&context, |c| &c.state_bytes);
            // Partial states of open epochs, so that an answer holds the rows of its epoch and none beyond.
            let mut waiting: Vec<(Epoch, RecordBatch)> = Vec::new();
            move |(input, frontier), output| {
                let mut groups = groups.borrow_mut();
                input.for_each(|capability, batches| {
                    let Some(&epoch) = capability.least() else { return };
                    waiting.extend(batches.drain(..).map(|batch| (epoch, batch.rows)));
                });
                while let Some((complete, capability)) = closing.next_closed(frontier) {
                    let closed = *capability.time();
                    let is_over = |(epoch, _): &mut (Epoch, RecordBatch)| *epoch <= closed;
                    let update = context.attempt(|| {
                        for (_, partials) in waiting.extract_if(.., is_over) {
                            groups.merge(&partials)?;
                        }
                        groups.advance(complete)
                    });
                    let update = update.unwrap_or_default();
                    context.count(|c| &c.rows_refused, groups.take_rows_refused());
                    context.count(|c| &c.windows_closed, update.closed);
                    if let Some(rows) = update.changes {
                        output.session(&capability).give(Batch::from(rows));
                    }
                    bytes.set(groups.bytes() as u64);
                }
            }
        },
    ))
}
