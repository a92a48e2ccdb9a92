//! How rows reach the panes of the worker that owns their key: folded with others of their key and pane, or as they are.

use std::cell::RefCell;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::closing::Closing;
use super::range::within_range;
use super::windows::{Reading, add_rows};
use super::{BatchStream, QueryContext, WindowStage, measure};
use crate::batch::Batch;
use crate::error::Result;
use crate::key::KeySplitter;
use crate::state::{StateReader, StateWriter, Stateful};
use crate::time::EventTime;
use crate::window::{PANE_COLUMNS, Panes, WindowSpec, WindowedAggregate};

/// With several workers, each hands over what it has folded when an epoch closes and its panes hold more groups than this,
/// complete or not.
pub const FOLDED_GROUPS_MAX: usize = 1 << 16;

/// Folding pays where a group takes up at least so many rows: to hand a group over and merge it costs as much as to fold a
/// few rows, and to move a row a third of that.
const ROWS_PER_GROUP_MIN: u64 = 8;

/// Groups, of two panes or more, that are handed over before folding is judged.
const GROUPS_TRIED: u64 = 1 << 12;

/// Rows that are moved as they are before folding is tried again: at first, and at most after it has been found not to pay
/// several times, each of which doubles them.
const ROWS_MOVED_FIRST: u64 = 1 << 20;
const ROWS_MOVED_MOST: u64 = 1 << 24;

/// Each worker folds rows into panes of its own. A pane is moved to the workers that own its keys once it is complete, so
/// that each of its keys moves once for each worker however many rows it has; sooner where there are so many keys that
/// holding them would not pay. Where a key has few rows in a pane, rows are moved instead. Gives what moves, and the panes
/// that are folded.
pub(super) fn fold_panes<'scope>(
    stream: BatchStream<'scope>,
    window: WindowSpec,
    stage: &WindowStage,
    panes: Rc<RefCell<Panes>>,
) -> Result<(BatchStream<'scope>, Rc<RefCell<Panes>>)> {
    let stage = WindowStage { context: stage.context.of_step("FoldPanes"), ..stage.clone() };
    let aggregate = &stage.aggregate;
    // What they hold when an epoch begins takes no room from what its rows may open.
    let groups_max = aggregate.groups_max.saturating_add(FOLDED_GROUPS_MAX);
    let folded = Panes::new(window, WindowedAggregate { groups_max, ..aggregate.clone() })?;
    let folded = Rc::new(RefCell::new(folded));
    let both = Folding { folded: Rc::clone(&folded), panes };
    stage.context.keep_shared("panes", Rc::new(RefCell::new(both)))?;
    let held = Rc::clone(&folded);
    let schema = aggregate.partial_schema(&PANE_COLUMNS);
    let keys = aggregate.program.key_fields();
    let workers = stream.scope().peers();
    let columns = (1..=keys.len()).collect();
    let mut moving = Moving {
        partials: KeySplitter::new(&schema, columns, workers)?,
        rows: KeySplitter::by_keys(&keys, workers)?,
        reduction: Reduction::default(),
    };
    let WindowStage { aggregate, lag_ns, watermarks, context, .. } = stage.clone();
    let moved = stream.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        Pipeline,
        "FoldPanes",
        |capability, _| {
            let mut closing = Closing::new(capability, watermarks, lag_ns);
            let mut bytes = Reading::new(&context);
            move |(input, frontier), output| {
                let mut folded = folded.borrow_mut();
                input.for_each(|capability, batches| {
                    let mut session = output.session(&capability);
                    for batch in batches.drain(..) {
                        if moving.reduction.folds(batch.rows.num_rows()) {
                            add_rows(&context, &aggregate, &mut folded, &batch);
                        } else {
                            moving.split_rows(&context, &aggregate, &batch, |part| {
                                session.give(part);
                            });
                        }
                    }
                });
                context.count(|c| &c.rows_refused, folded.take_rows_refused());
                // Rows of an epoch that is still open may already be among them. They are in-time rows, so that no
                // window that closes now, and no pane that is complete now, can hold them.
                while let Some((complete, capability)) = closing.next_closed(frontier) {
                    let is_much = folded.groups() > FOLDED_GROUPS_MAX;
                    let until = if is_much { EventTime::MAX } else { complete };
                    let partials = context.attempt(|| folded.take_partials(until, &schema));
                    let partials = partials.unwrap_or_default();
                    let gave_any = !partials.is_empty();
                    let mut session = output.session(&capability);
                    for pane in partials {
                        moving.reduction.handed_over(pane.rows, pane.states.num_rows() as u64);
                        let parts = context.attempt(|| moving.partials.split(&pane.states));
                        for (target, states) in parts.into_iter().flatten() {
                            session.give(Batch { target, is_partial: true, ..Batch::from(states) });
                        }
                    }
                    let groups = folded.groups();
                    bytes.read(groups, gave_any, || folded.bytes());
                }
            }
        },
    );
    Ok((measure(moved, &stage.context, &stage.watermarks, None), held))
}

/// Folds the rows of each epoch into partial states, one batch per pane, when the epoch closes.
pub(super) fn fold_epochs<'scope>(
    stream: BatchStream<'scope>,
    window: WindowSpec,
    stage: &WindowStage,
) -> Result<BatchStream<'scope>> {
    let mut folded = Panes::new(window, stage.aggregate.clone())?;
    let WindowStage { aggregate, lag_ns, watermarks, context, .. } = stage.clone();
    let schema = aggregate.partial_schema(&PANE_COLUMNS);
    Ok(stream.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        Pipeline,
        "FoldEpochs",
        |capability, _| {
            let mut closing = Closing::new(capability, watermarks, lag_ns);
            let mut bytes = Reading::new(&context);
            move |(input, frontier), output| {
                input.for_each(|_, batches| {
                    for batch in batches.drain(..) {
                        add_rows(&context, &aggregate, &mut folded, &batch);
                    }
                });
                context.count(|c| &c.rows_refused, folded.take_rows_refused());
                while let Some((_, capability)) = closing.next_closed(frontier) {
                    let partials =
                        context.attempt(|| folded.take_partials(EventTime::MAX, &schema));
                    let partials = partials.unwrap_or_default();
                    let gave_any = !partials.is_empty();
                    let mut session = output.session(&capability);
                    partials.into_iter().for_each(|pane| session.give(Batch::from(pane.states)));
                    bytes.read(0, gave_any, || folded.bytes());
                }
            }
        },
    ))
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

/// Where rows and partial states go, and which of the two goes.
struct Moving {
    rows: KeySplitter,
    partials: KeySplitter,
    reduction: Reduction,
}

impl Moving {
    /// Gives the rows of a batch to the owners of their keys. Rows that an expression fails on are left out and counted.
    fn split_rows(
        &mut self,
        context: &QueryContext,
        aggregate: &WindowedAggregate,
        batch: &Batch,
        mut give: impl FnMut(Batch),
    ) {
        let WindowedAggregate { time, time_index, .. } = aggregate;
        let Some(rows) = within_range(context, time, *time_index, &batch.rows) else { return };
        context.isolate(&rows, &mut |rows| {
            let input = aggregate.program.prepare(rows)?;
            let parts = context.attempt(|| self.rows.split_by(rows, &input.keys));
            parts.into_iter().flatten().for_each(|(target, rows)| give(batch.part(target, rows)));
            Ok(())
        });
    }
}

/// How far folding brings rows down, and so whether it pays. Either way gives the same results.
#[derive(Debug)]
struct Reduction {
    /// Panes that were handed over since folding was last judged, and their groups.
    panes: u64,
    groups: u64,
    /// Groups and rows of the largest of them. What begins within a pane, the stream or a trial, leaves others small.
    largest: (u64, u64),
    /// Rows yet to be moved as they are, and how many the next time.
    to_move: u64,
    next_move: u64,
}

impl Default for Reduction {
    fn default() -> Self {
        Self { panes: 0, groups: 0, largest: (0, 0), to_move: 0, next_move: ROWS_MOVED_FIRST }
    }
}

impl Reduction {
    /// Whether the next rows are folded.
    fn folds(&mut self, rows: usize) -> bool {
        if self.to_move == 0 {
            return true;
        }
        self.to_move = self.to_move.saturating_sub(rows as u64);
        false
    }

    /// A pane of so many rows has been handed over as so many groups.
    fn handed_over(&mut self, rows: u64, groups: u64) {
        // What was folded before rows began to move has been judged.
        if self.to_move > 0 {
            return;
        }
        self.panes += 1;
        self.groups += groups;
        self.largest = self.largest.max((groups, rows));
        if self.panes < 2 || self.groups < GROUPS_TRIED {
            return;
        }
        let (groups, rows) = self.largest;
        let mut next = Self::default();
        if rows < groups.saturating_mul(ROWS_PER_GROUP_MIN) {
            next.to_move = self.next_move;
            next.next_move = (self.next_move * 2).min(ROWS_MOVED_MOST);
        }
        *self = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moves rows until folding is tried again, and tells how many.
    fn moved(reduction: &mut Reduction) -> u64 {
        let (mut moved, batch) = (0, 1 << 16);
        while !reduction.folds(batch) {
            moved += batch as u64;
            if reduction.to_move > 0 {
                // What was held before is still handed over once it is complete.
                reduction.handed_over(0, GROUPS_TRIED);
            }
        }
        moved
    }

    #[test]
    fn rows_are_folded_where_a_group_has_many_of_them() {
        let mut reduction = Reduction::default();
        for groups in [1_000, GROUPS_TRIED, 20_000, 1, 500].into_iter().cycle().take(100) {
            reduction.handed_over(groups * ROWS_PER_GROUP_MIN, groups);
            assert_eq!(moved(&mut reduction), 0);
        }
    }

    #[test]
    fn rows_move_where_a_group_has_few_and_folding_is_tried_again_ever_later() {
        let mut reduction = Reduction::default();
        for expected in [1, 2, 4, 8, 16, 16].map(|times| times * ROWS_MOVED_FIRST) {
            // Too few groups to judge by, then too few panes.
            reduction.handed_over(1_000, 1_000);
            reduction.handed_over(1_000, 1_000);
            assert_eq!(moved(&mut reduction), 0);
            reduction.handed_over(7 * GROUPS_TRIED, GROUPS_TRIED);
            assert_eq!(moved(&mut reduction), expected);
        }
        // One that pays: what is found after it counts from the beginning.
        for (rows, expected) in [(100, 0), (1, ROWS_MOVED_FIRST)] {
            reduction.handed_over(rows * GROUPS_TRIED, GROUPS_TRIED);
            reduction.handed_over(rows * GROUPS_TRIED, GROUPS_TRIED);
            assert_eq!(moved(&mut reduction), expected);
        }
    }

    /// The stream began within the first pane.
    #[test]
    fn the_largest_pane_says_whether_folding_pays() {
        let mut reduction = Reduction::default();
        reduction.handed_over(2 * GROUPS_TRIED, GROUPS_TRIED);
        assert_eq!(moved(&mut reduction), 0);
        reduction.handed_over(40 * GROUPS_TRIED, GROUPS_TRIED);
        assert_eq!(moved(&mut reduction), 0);
    }
}
