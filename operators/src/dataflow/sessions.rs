//! Sessions: rows are folded into pieces of sessions where they arrive, and pieces are joined where their key lives.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::Operator;

use super::closing::Closing;
use super::context::Gauge;
use super::exchange::{by_target, split_by_key};
use super::range::within_range;
use super::{BatchStream, QueryContext, WindowStage, measure};
use crate::batch::Batch;
use crate::error::Result;
use crate::key::KeySplitter;
use crate::window::{SessionFold, SessionSpec, Sessions, WindowedAggregate};

/// Aggregates rows by session and key.
///
/// One worker works as several do: the rows of an epoch become pieces, and only pieces reach the open sessions. A row
/// that bridges two sessions is a piece that touches both.
pub(super) fn aggregate_sessions<'scope>(
    stream: BatchStream<'scope>,
    session: SessionSpec,
    stage: WindowStage,
) -> Result<BatchStream<'scope>> {
    let fold = SessionFold::new(session, stage.aggregate.clone())?;
    let sessions = Sessions::new(session, stage.aggregate.clone())?;
    let (schema, keys) = fold.schema();
    let splitter = KeySplitter::new(&schema, keys, stream.scope().peers())?;
    let folding = WindowStage { context: stage.context.of_step("FoldSessions"), ..stage.clone() };
    let pieces = fold_epochs(stream, fold, &folding);
    let pieces = measure(pieces, &folding.context, &stage.watermarks, None);
    let moved = split_by_key(pieces, splitter, stage.context.clone());
    close_sessions(moved, sessions, stage)
}

/// Folds the rows of each epoch into pieces, when the epoch closes.
pub(super) fn fold_epochs<'scope>(
    stream: BatchStream<'scope>,
    mut fold: SessionFold,
    stage: &WindowStage,
) -> BatchStream<'scope> {
    let WindowStage { aggregate, lag_ns, watermarks, context, .. } = stage.clone();
    stream.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        Pipeline,
        "FoldSessions",
        |capability, _| {
            let mut closing = Closing::new(capability, watermarks, lag_ns);
            move |(input, frontier), output| {
                input.for_each(|_, batches| {
                    for batch in batches.drain(..) {
                        add_rows(&context, &aggregate, &mut fold, &batch);
                    }
                });
                context.count(|c| &c.rows_refused, fold.take_rows_refused());
                // Rows of an epoch that is still open may already be among the pieces. They are in-time rows, so that
                // they lie at or after the end of every session that closes now.
                while let Some((_, capability)) = closing.next_closed(frontier) {
                    if let Some(rows) = context.attempt(|| fold.take()).flatten() {
                        output.session(&capability).give(Batch::from(rows));
                    }
                }
            }
        },
    )
}

fn add_rows(
    context: &QueryContext,
    aggregate: &WindowedAggregate,
    fold: &mut SessionFold,
    batch: &Batch,
) {
    let WindowedAggregate { time, time_index, .. } = aggregate;
    let Some(rows) = within_range(context, time, *time_index, &batch.rows) else { return };
    context.isolate(&rows, &mut |rows| {
        let input = aggregate.program.prepare(rows)?;
        // A failure past this point has changed accumulators, so it ends the query rather than a row.
        context.attempt(|| fold.update(rows, &input));
        Ok(())
    });
}

/// Joins pieces, and gives the sessions that the watermark has passed.
fn close_sessions<'scope>(
    stream: BatchStream<'scope>,
    sessions: Sessions,
    stage: WindowStage,
) -> Result<BatchStream<'scope>> {
    let WindowStage { lag_ns, watermarks, context, .. } = stage;
    let sessions = context.keep("sessions", sessions)?;
    let exchange = Exchange::new(by_target);
    Ok(stream.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        exchange,
        "Sessions",
        |capability, _| {
            let mut closing = Closing::new(capability, watermarks, lag_ns);
            let mut bytes = Gauge::new(&context, |c| &c.state_bytes);
            move |(input, frontier), output| {
                let mut sessions = sessions.borrow_mut();
                input.for_each(|_, batches| {
                    for batch in batches.drain(..) {
                        context.received(&batch.rows);
                        context.attempt(|| sessions.merge(&batch.rows));
                    }
                });
                context.count(|c| &c.rows_refused, sessions.take_rows_refused());
                while let Some((complete, capability)) = closing.next_closed(frontier) {
                    let closed = context.attempt(|| sessions.close(complete)).unwrap_or_default();
                    let mut session = output.session(&capability);
                    for rows in closed {
                        context.count(|c| &c.windows_closed, rows.num_rows() as u64);
                        session.give(Batch::from(rows));
                    }
                    bytes.set(sessions.bytes() as u64);
                }
            }
        },
    ))
}
