//! Windowed aggregation: rows in, one row per window and key out, once the watermark has passed the window's end.
//!
//! Windows that all keys share are here; sessions and windows of so many rows have a file of their own.

use std::cell::RefCell;
use std::rc::Rc;

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
use crate::state::{StateReader, StateWriter, Stateful};
use crate::time::{EventTime, Watermarks};
use crate::window::{PANE_COLUMNS, Panes, Window, WindowSpec, WindowedAggregate};

/// The size of the state is read at least once in so many epochs, and whenever it has grown by a quarter.
const TURNS_PER_READING: u64 = 64;

/// With several workers, each hands over what it has folded when an epoch closes and its panes hold more groups than this,
/// complete or not.
pub const FOLDED_GROUPS_MAX: usize = 1 << 16;

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

/// With one worker rows go straight into the panes. With more, each worker first folds its rows into panes of its own. A
/// pane is moved to the workers that own its keys once it is complete, so that each of its keys moves once for each worker
/// however many rows it has; sooner where there are so many keys that holding them would not pay.
fn aggregate_panes<'scope>(
    stream: BatchStream<'scope>,
    window: WindowSpec,
    stage: WindowStage,
) -> Result<BatchStream<'scope>> {
    let workers = stream.scope().peers();
    let panes = Rc::new(RefCell::new(Panes::new(window, stage.aggregate.clone())?));
    if workers == 1 {
        stage.context.keep_shared("panes", Rc::clone(&panes) as Rc<RefCell<dyn Stateful>>)?;
        return Ok(close_windows(stream, panes, stage, Arrival::Rows));
    }
    let schema = stage.aggregate.partial_schema(&PANE_COLUMNS);
    let keys = (1..=stage.aggregate.program.key_fields().len()).collect();
    let splitter = KeySplitter::new(&schema, keys, workers)?;
    let folded = Rc::new(RefCell::new(folding(window, &stage.aggregate)?));
    let both = Folding { folded: Rc::clone(&folded), panes: Rc::clone(&panes) };
    stage.context.keep_shared("panes", Rc::new(RefCell::new(both)))?;
    let folds = WindowStage { context: stage.context.of_step("FoldPanes"), ..stage.clone() };
    let partials = fold(stream, folded, &folds, "FoldPanes", handed_over);
    let partials = measure(partials, &folds.context, &stage.watermarks, None);
    let moved = split_by_key(partials, splitter, stage.context.clone());
    Ok(close_windows(moved, panes, stage, Arrival::Partials))
}

/// Panes for the rows of one worker. What they hold when an epoch begins takes no room from what its rows may open.
fn folding(window: WindowSpec, aggregate: &WindowedAggregate) -> Result<Panes> {
    let groups_max = aggregate.groups_max.saturating_add(FOLDED_GROUPS_MAX);
    Panes::new(window, WindowedAggregate { groups_max, ..aggregate.clone() })
}

/// What several workers keep of one aggregation: the panes of a worker's keys, and what it has folded of all keys. It is
/// written as one table and taken up by the owners of its keys, so that any number of workers goes on from it.
struct Folding {
    folded: Rc<RefCell<Panes>>,
    panes: Rc<RefCell<Panes>>,
}

impl Stateful for Folding {
    fn save(&mut self, out: &mut StateWriter) -> Result<()> {
        self.folded.borrow_mut().save(out)?;
        self.panes.borrow_mut().save(out)
    }

    fn load(&mut self, saved: &StateReader<'_>) -> Result<()> {
        self.panes.borrow_mut().load(saved)
    }
}

#[derive(Clone, Copy)]
enum Arrival {
    Rows,
    Partials,
}

fn close_windows<'scope>(
    stream: BatchStream<'scope>,
    panes: Rc<RefCell<Panes>>,
    stage: WindowStage,
    arrival: Arrival,
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
                    let groups = panes.groups();
                    bytes.read(groups, closed_any, || panes.bytes());
                }
            }
        },
    )
}

/// Reads the size of state only now and then: adding up that of many panes takes longer than closing an epoch without a
/// window.
struct Reading {
    gauge: Gauge,
    turns: u64,
    groups: usize,
}

impl Reading {
    fn new(context: &QueryContext) -> Self {
        Self { gauge: Gauge::new(context, |c| &c.state_bytes), turns: 0, groups: 0 }
    }

    fn read(&mut self, groups: usize, is_due: bool, bytes: impl FnOnce() -> usize) {
        self.turns += 1;
        let has_grown = groups > self.groups + self.groups / 4;
        if is_due || has_grown || self.turns.is_multiple_of(TURNS_PER_READING) {
            self.groups = groups;
            self.gauge.set(bytes() as u64);
        }
    }
}

/// Folds the rows of each epoch into partial states, one batch per pane, when the epoch closes.
pub(super) fn fold_epochs<'scope>(
    stream: BatchStream<'scope>,
    window: WindowSpec,
    stage: &WindowStage,
) -> Result<BatchStream<'scope>> {
    let folded = Rc::new(RefCell::new(Panes::new(window, stage.aggregate.clone())?));
    Ok(fold(stream, folded, stage, "FoldEpochs", |_, _| EventTime::MAX))
}

/// The panes that are handed over when an epoch closes: those that are complete, or all where they hold many groups.
fn handed_over(folded: &Panes, complete: EventTime) -> EventTime {
    if folded.groups() > FOLDED_GROUPS_MAX { EventTime::MAX } else { complete }
}

/// Folds rows into panes, and gives those up to a time as partial states when an epoch closes.
fn fold<'scope>(
    stream: BatchStream<'scope>,
    folded: Rc<RefCell<Panes>>,
    stage: &WindowStage,
    name: &str,
    until: impl Fn(&Panes, EventTime) -> EventTime + 'static,
) -> BatchStream<'scope> {
    let WindowStage { aggregate, lag_ns, watermarks, context, .. } = stage.clone();
    let schema = aggregate.partial_schema(&PANE_COLUMNS);
    stream.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        Pipeline,
        name,
        |capability, _| {
            let mut closing = Closing::new(capability, watermarks, lag_ns);
            let mut bytes = Reading::new(&context);
            move |(input, frontier), output| {
                let mut folded = folded.borrow_mut();
                input.for_each(|_, batches| {
                    for batch in batches.drain(..) {
                        add_rows(&context, &aggregate, &mut folded, &batch);
                    }
                });
                context.count(|c| &c.rows_refused, folded.take_rows_refused());
                // Rows of an epoch that is still open may already be among them. They are in-time rows, so that no
                // window that closes now, and no pane that is complete now, can hold them.
                while let Some((complete, capability)) = closing.next_closed(frontier) {
                    let until = until(&folded, complete);
                    let partials = context.attempt(|| folded.take_partials(until, &schema));
                    let partials = partials.unwrap_or_default();
                    let gave_any = !partials.is_empty();
                    let mut session = output.session(&capability);
                    for rows in partials {
                        session.give(Batch { rows, sequence: 0, target: 0 });
                    }
                    let groups = folded.groups();
                    bytes.read(groups, gave_any, || folded.bytes());
                }
            }
        },
    )
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
