//! Windowed aggregation: rows in, one row per window and key out, once the watermark has passed the window's end.
//!
//! Windows that all keys share are here; sessions and windows of so many rows have a file of their own.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::Operator;

use super::closing::Closing;
use super::context::Gauge;
use super::exchange::{by_target, split_by_key};
use super::range::within_range;
use super::{BatchStream, QueryContext, measure};
use super::{counted, sessions};
use crate::batch::Batch;
use crate::error::Result;
use crate::key::KeySplitter;
use crate::time::Watermarks;
use crate::window::{PANE_COLUMNS, Panes, Window, WindowSpec, WindowedAggregate};

/// The size of the state is read at least once in so many epochs, and whenever it has grown by a quarter.
const TURNS_PER_READING: u64 = 64;

/// A windowed aggregation as a dataflow builds it.
#[derive(Clone, Debug)]
pub struct WindowStage {
    /// The windows.
    pub window: Window,
    /// What is computed.
    pub aggregate: WindowedAggregate,
    /// Most rows that wait until those before them have come, where their order matters.
    pub reorder_rows_max: usize,
    /// How far rows may lie below the watermark of earlier epochs.
    pub lag_ns: i64,
    /// The watermarks of the source at the bottom of the query.
    pub watermarks: Watermarks,
    /// Shared state of the query.
    pub context: QueryContext,
}

/// Aggregates rows by window and key.
///
/// # Errors
/// If a key column's type cannot be a key.
pub fn aggregate_windows<'scope>(
    stream: BatchStream<'scope>,
    stage: WindowStage,
) -> Result<BatchStream<'scope>> {
    match stage.window {
        Window::Aligned(window) => aggregate_panes(stream, window, stage),
        Window::Session(session) => sessions::aggregate_sessions(stream, session, stage),
        Window::Count(count) => counted::aggregate_counted(stream, count, stage),
    }
}

/// With one worker rows go straight into the panes. With more, each worker first folds the rows of an epoch into
/// partial states, and only these are moved to the worker that owns the key.
fn aggregate_panes<'scope>(
    stream: BatchStream<'scope>,
    window: WindowSpec,
    stage: WindowStage,
) -> Result<BatchStream<'scope>> {
    let workers = stream.scope().peers();
    if workers == 1 {
        return close_windows(stream, window, stage, Arrival::Rows);
    }
    let schema = stage.aggregate.partial_schema(&PANE_COLUMNS);
    let keys = (1..=stage.aggregate.program.key_fields().len()).collect();
    let splitter = KeySplitter::new(&schema, keys, workers)?;
    let fold = WindowStage { context: stage.context.of_step("FoldEpochs"), ..stage.clone() };
    let partials = fold_epochs(stream, window, &fold)?;
    let partials = measure(partials, &fold.context, &stage.watermarks, None);
    let moved = split_by_key(partials, splitter, stage.context.clone());
    close_windows(moved, window, stage, Arrival::Partials)
}

#[derive(Clone, Copy)]
enum Arrival {
    Rows,
    Partials,
}

fn close_windows<'scope>(
    stream: BatchStream<'scope>,
    window: WindowSpec,
    stage: WindowStage,
    arrival: Arrival,
) -> Result<BatchStream<'scope>> {
    let WindowStage { aggregate, lag_ns, watermarks, context, .. } = stage;
    let panes = context.keep("panes", Panes::new(window, aggregate.clone())?)?;
    let exchange = Exchange::new(by_target);
    Ok(stream.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        exchange,
        "Windows",
        |capability, _| {
            let mut closing = Closing::new(capability, watermarks, lag_ns);
            let mut bytes = Gauge::new(&context, |c| &c.state_bytes);
            let (mut turns, mut groups) = (0u64, 0);
            move |(input, frontier), output| {
                let mut panes = panes.borrow_mut();
                input.for_each(|_, batches| {
                    for batch in batches.drain(..) {
                        context.received(&batch.rows);
                        match arrival {
                            Arrival::Rows => add_rows(&context, &aggregate, &mut panes, &batch),
                            Arrival::Partials => {
                                context.attempt(|| panes.merge(&batch.rows));
                            }
                        }
                    }
                });
                context.count(|c| &c.rows_refused, panes.take_rows_refused());
                while let Some((complete, capability)) = closing.next_closed(frontier) {
                    let closed = context.attempt(|| panes.close(complete)).unwrap_or_default();
                    let closed_any = !closed.is_empty();
                    context.count(|c| &c.windows_closed, closed.len() as u64);
                    let mut session = output.session(&capability);
                    for rows in closed {
                        session.give(Batch { rows, sequence: 0, target: 0 });
                    }
                    // Adding up the state of many panes takes longer than closing an epoch without a window.
                    turns += 1;
                    let has_grown = panes.groups() > groups + groups / 4;
                    if closed_any || has_grown || turns.is_multiple_of(TURNS_PER_READING) {
                        groups = panes.groups();
                        bytes.set(panes.bytes() as u64);
                    }
                }
            }
        },
    ))
}

/// Folds the rows of each epoch into partial states, one batch per pane, when the epoch closes.
pub(super) fn fold_epochs<'scope>(
    stream: BatchStream<'scope>,
    window: WindowSpec,
    stage: &WindowStage,
) -> Result<BatchStream<'scope>> {
    let WindowStage { aggregate, lag_ns, watermarks, context, .. } = stage.clone();
    let mut panes = Panes::new(window, aggregate.clone())?;
    let schema = aggregate.partial_schema(&PANE_COLUMNS);
    Ok(stream.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        Pipeline,
        "FoldEpochs",
        |capability, _| {
            let mut closing = Closing::new(capability, watermarks, lag_ns);
            move |(input, frontier), output| {
                input.for_each(|_, batches| {
                    for batch in batches.drain(..) {
                        add_rows(&context, &aggregate, &mut panes, &batch);
                    }
                });
                context.count(|c| &c.rows_refused, panes.take_rows_refused());
                // Rows of an epoch that is still open may already be among the partials. They are in-time rows, so
                // no window that closes now can hold them.
                while let Some((_, capability)) = closing.next_closed(frontier) {
                    let partials = context.attempt(|| panes.take_partials(&schema));
                    let mut session = output.session(&capability);
                    for rows in partials.unwrap_or_default() {
                        session.give(Batch { rows, sequence: 0, target: 0 });
                    }
                }
            }
        },
    ))
}

fn add_rows(
    context: &QueryContext,
    aggregate: &WindowedAggregate,
    panes: &mut Panes,
    batch: &Batch,
) {
    let WindowedAggregate { time, time_index, .. } = aggregate;
    let Some(rows) = within_range(context, time, *time_index, &batch.rows) else { return };
    context.isolate(&rows, &mut |rows| {
        let input = aggregate.program.prepare(rows)?;
        // A failure past this point has changed accumulators, so it ends the query rather than a row.
        context.attempt(|| panes.update(rows, &input));
        Ok(())
    });
}
