//! A join of two streams that is bounded in event time.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt32Type;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;

use super::closing::{Closing, earlier};
use super::context::Gauge;
use super::exchange::{Route, by_target, route};
use super::{BatchStream, QueryContext};
use crate::batch::Batch;
use crate::error::Result;
use crate::expression::Transform;
use crate::join::{Joining, Side};
use crate::time::{EventTime, Watermarks};

/// A join as a dataflow builds it.
#[derive(Debug)]
pub struct JoinStage {
    /// Where the rows of each side meet those of the other.
    pub routes: [Route; 2],
    /// What is joined.
    pub join: Box<dyn Joining>,
    /// The condition that a join asks about pairs.
    pub residual: Option<Arc<dyn Transform>>,
    /// How far rows of each side may lie below the watermark of earlier epochs.
    pub lags_ns: [i64; 2],
    /// The watermarks of the sources below each side.
    pub watermarks: [Watermarks; 2],
    /// Shared state of the query.
    pub context: QueryContext,
}

/// Joins two streams. The result follows the watermarks of both.
///
/// # Errors
/// If a checkpoint holds something else for it.
pub fn join<'scope>(
    left: BatchStream<'scope>,
    right: BatchStream<'scope>,
    stage: JoinStage,
) -> Result<BatchStream<'scope>> {
    let JoinStage { routes, join, residual, lags_ns, watermarks, context } = stage;
    let join = context.keep("join", join)?;
    let [left_route, right_route] = routes;
    let left = route(left, left_route, context.clone());
    let right = route(right, right_route, context.clone());
    Ok(left.binary_frontier::<_, CapacityContainerBuilder<Vec<_>>, _, _, _, _>(
        right,
        Exchange::new(by_target),
        Exchange::new(by_target),
        "Join",
        |capability, _| {
            let both = watermarks[0].clone().and(&watermarks[1]);
            let mut closing = Closing::new(capability, both, 0);
            let mut bytes = Gauge::new(&context, |c| &c.state_bytes);
            move |(left, left_frontier), (right, right_frontier), output| {
                let mut join = join.borrow_mut();
                left.for_each(|capability, batches| {
                    let Some(&epoch) = capability.least() else { return };
                    batches.drain(..).for_each(|batch| join.add(epoch, Side::Left, &batch.rows));
                });
                right.for_each(|capability, batches| {
                    let Some(&epoch) = capability.least() else { return };
                    batches.drain(..).for_each(|batch| join.add(epoch, Side::Right, &batch.rows));
                });
                context.count(|c| &c.rows_refused, join.take_refused());
                let mut accept = |pairs: &RecordBatch| {
                    let mut accepted = Vec::new();
                    context.isolate(pairs, &mut |pairs| {
                        if let Some(residual) = &residual {
                            let passed = residual.apply(pairs)?;
                            let numbers = passed.column(0).as_primitive::<UInt32Type>();
                            accepted.extend_from_slice(numbers.values());
                        }
                        Ok(())
                    });
                    accepted
                };
                let frontier = earlier(left_frontier, right_frontier);
                while let Some((time, capability)) = closing.next_closed(frontier) {
                    let epoch = *capability.time();
                    let complete = Side::BOTH.map(|side| match time {
                        // Both inputs have ended.
                        EventTime::MAX => time,
                        _ => {
                            let side = side as usize;
                            watermarks[side].at(epoch).minus_ns(lags_ns[side])
                        }
                    });
                    let joined = context.attempt(|| join.close(epoch, complete, &mut accept));
                    let mut session = output.session(&capability);
                    for rows in joined.unwrap_or_default() {
                        session.give(Batch::from(rows));
                    }
                }
                bytes.set(join.bytes() as u64);
            }
        },
    ))
}
