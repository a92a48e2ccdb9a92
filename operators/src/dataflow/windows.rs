//! Windowed aggregation: rows in, one row per window and key out, once the watermark has passed the window's end.
//!
//! Windows that all keys share are here; sessions and windows of so many rows have a file of their own.

use std::cell::RefCell;
use std::rc::Rc;

use arrow::record_batch::RecordBatch;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;

use super::closing::Closing;
use super::context::Gauge;
use super::exchange::by_target;
use super::range::within_range;
use super::{BatchStream, QueryContext};
use super::{counted, folding, sessions};
use crate::batch::Batch;
use crate::error::Result;
use crate::state::Stateful;
use crate::time::Watermarks;
use crate::window::{Panes, Window, WindowSpec, WindowedAggregate};

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

/// With one worker rows go straight into the panes. With more, they reach the panes of the workers that own their keys by
/// way of [`folding`].
fn aggregate_panes<'scope>(
    stream: BatchStream<'scope>,
    window: WindowSpec,
    stage: WindowStage,
) -> Result<BatchStream<'scope>> {
    let panes = Rc::new(RefCell::new(Panes::new(window, stage.aggregate.clone())?));
    if stream.scope().peers() == 1 {
        stage.context.keep_shared("panes", Rc::clone(&panes) as Rc<RefCell<dyn Stateful>>)?;
        return Ok(close_windows(stream, panes, None, stage));
    }
    let (stream, folded) = folding::fold_panes(stream, window, &stage, Rc::clone(&panes))?;
    Ok(close_windows(stream, panes, Some(folded), stage))
}

fn close_windows<'scope>(
    stream: BatchStream<'scope>,
    panes: Rc<RefCell<Panes>>,
    folded: Option<Rc<RefCell<Panes>>>,
    stage: WindowStage,
) -> BatchStream<'scope> {
    let WindowStage { aggregate, lag_ns, watermarks, context, .. } = stage;
    let exchange = Exchange::new(by_target);
    stream.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        exchange,
        "Windows",
        |capability, _| {
            let mut closing = Closing::new(capability, watermarks, lag_ns);
            let mut bytes = Reading::new(&context);
            move |(input, frontier), output| {
                let mut panes = panes.borrow_mut();
                input.for_each(|_, batches| {
                    for batch in batches.drain(..) {
                        context.received(&batch.rows);
                        if batch.is_partial {
                            context.attempt(|| panes.merge(&batch.rows));
                        } else if folded.is_some() {
                            // Whoever did not fold them has looked at their times.
                            add_in_range(&context, &aggregate, &mut panes, &batch.rows);
                        } else {
                            add_rows(&context, &aggregate, &mut panes, &batch);
                        }
                    }
                });
                context.count(|c| &c.rows_refused, panes.take_rows_refused());
                if let Some(folded) = &folded {
                    // Of all keys and one worker, which is about those of one owner and all workers.
                    panes.expect(folded.borrow().groups());
                }
                while let Some((complete, capability)) = closing.next_closed(frontier) {
                    let closed = context.attempt(|| panes.close(complete)).unwrap_or_default();
                    let closed_any = !closed.is_empty();
                    context.count(|c| &c.windows_closed, closed.len() as u64);
                    let mut session = output.session(&capability);
                    for rows in closed {
                        session.give(Batch::from(rows));
                    }
                    let groups = panes.groups();
                    bytes.read(groups, closed_any, || panes.bytes());
                }
            }
        },
    )
}

/// Reads the size of state only now and then: adding up that of many panes takes longer than closing an epoch without a
/// window.
pub(super) struct Reading {
    gauge: Gauge,
    turns: u64,
    groups: usize,
}

impl Reading {
    pub(super) fn new(context: &QueryContext) -> Self {
        Self { gauge: Gauge::new(context, |c| &c.state_bytes), turns: 0, groups: 0 }
    }

    pub(super) fn read(&mut self, groups: usize, is_due: bool, bytes: impl FnOnce() -> usize) {
        self.turns += 1;
        let has_grown = groups > self.groups + self.groups / 4;
        if is_due || has_grown || self.turns.is_multiple_of(TURNS_PER_READING) {
            self.groups = groups;
            self.gauge.set(bytes() as u64);
        }
    }
}

pub(super) fn add_rows(
    context: &QueryContext,
    aggregate: &WindowedAggregate,
    panes: &mut Panes,
    batch: &Batch,
) {
    let WindowedAggregate { time, time_index, .. } = aggregate;
    if let Some(rows) = within_range(context, time, *time_index, &batch.rows) {
        add_in_range(context, aggregate, panes, &rows);
    }
}

fn add_in_range(
    context: &QueryContext,
    aggregate: &WindowedAggregate,
    panes: &mut Panes,
    rows: &RecordBatch,
) {
    context.isolate(rows, &mut |rows| {
        let input = aggregate.program.prepare(rows)?;
        // A failure past this point has changed accumulators, so it ends the query rather than a row.
        context.attempt(|| panes.update(rows, &input));
        Ok(())
    });
}
