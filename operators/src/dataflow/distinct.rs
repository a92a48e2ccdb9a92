//! Lets the first of equal rows pass, at once.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;

use super::closing::Closing;
use super::context::Gauge;
use super::exchange::{by_target, split_by_key};
use super::{BatchStream, QueryContext};
use crate::batch::Batch;
use crate::distinct::Distinct;
use crate::error::Result;
use crate::key::KeySplitter;
use crate::time::Watermarks;

/// A DISTINCT as a dataflow builds it.
#[derive(Debug)]
pub struct DistinctStage {
    /// Moves equal rows to one worker.
    pub splitter: KeySplitter,
    /// The rows that have been seen.
    pub distinct: Distinct,
    /// How far rows may lie below the watermark of earlier epochs.
    pub lag_ns: i64,
    /// The watermarks of the sources at the bottom of the query.
    pub watermarks: Watermarks,
    /// Shared state of the query.
    pub context: QueryContext,
}

/// Lets the first of equal rows pass. Which one does not show, because they are equal in all columns.
///
/// # Errors
/// If a checkpoint holds something else for it.
pub fn distinct_rows<'scope>(
    stream: BatchStream<'scope>,
    stage: DistinctStage,
) -> Result<BatchStream<'scope>> {
    let DistinctStage { splitter, distinct, lag_ns, watermarks, context } = stage;
    let distinct = context.keep("distinct", distinct)?;
    let moved = split_by_key(stream, splitter, context.clone());
    Ok(moved.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        Exchange::new(by_target),
        "Distinct",
        |capability, _| {
            let mut closing = Closing::new(capability, watermarks, lag_ns);
            let mut bytes = Gauge::new(&context, |c| &c.state_bytes);
            move |(input, frontier), output| {
                let mut distinct = distinct.borrow_mut();
                input.for_each(|capability, batches| {
                    let mut session = output.session(&capability);
                    for batch in batches.drain(..) {
                        let first = context.attempt(|| distinct.add(&batch.rows)).flatten();
                        if let Some(rows) = first {
                            session.give(Batch::from(rows));
                        }
                    }
                });
                context.count(|c| &c.rows_refused, distinct.take_refused());
                while let Some((complete, _)) = closing.next_closed(frontier) {
                    distinct.forget(complete);
                }
                bytes.set(distinct.bytes() as u64);
            }
        },
    ))
}
