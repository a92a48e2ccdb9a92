//! Calls over frames: rows go to where their partition lives, are put into order, and leave once they have all they wait
//! for.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;

use super::closing::Closing;
use super::context::Gauge;
use super::exchange::{by_target, split_by_key};
use super::range::within_range;
use super::{BatchStream, QueryContext, Reorder};
use crate::batch::Batch;
use crate::error::Result;
use crate::key::KeySplitter;
use crate::over::Frames;
use crate::time::Watermarks;
use crate::window::TimeType;

/// An OVER as a dataflow builds it.
#[derive(Debug)]
pub struct OverStage {
    /// Moves rows to the worker that owns their partition.
    pub splitter: KeySplitter,
    /// Puts them in order.
    pub reorder: Reorder,
    /// Index of the event-time column.
    pub time_index: usize,
    /// Its type.
    pub time: TimeType,
    /// The frames, without a row.
    pub frames: Frames,
    /// How far rows may lie below the watermark of earlier epochs.
    pub lag_ns: i64,
    /// The watermarks of the sources at the bottom of the query.
    pub watermarks: Watermarks,
    /// Shared state of the query.
    pub context: QueryContext,
}

/// Appends a column for each call to rows, which come out in order of event time.
///
/// # Errors
/// If a checkpoint holds the state of something else.
pub fn over_frames<'scope>(
    stream: BatchStream<'scope>,
    stage: OverStage,
) -> Result<BatchStream<'scope>> {
    let OverStage { splitter, reorder, time_index, time, frames, .. } = stage;
    let OverStage { lag_ns, watermarks, context, .. } = stage;
    let reorder = context.keep("waiting", reorder)?;
    let frames = context.keep("frames", frames)?;
    let moved = split_by_key(stream, splitter, context.clone());
    Ok(moved.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        Exchange::new(by_target),
        "Over",
        |capability, _| {
            let mut closing = Closing::new(capability, watermarks, lag_ns);
            let mut bytes = Gauge::new(&context, |c| &c.state_bytes);
            let mut keys = Gauge::new(&context, |c| &c.keys);
            move |(input, frontier), output| {
                let (mut reorder, mut frames) = (reorder.borrow_mut(), frames.borrow_mut());
                input.for_each(|_, batches| {
                    for batch in batches.drain(..) {
                        let rows = within_range(&context, &time, time_index, &batch.rows);
                        let Some(rows) = rows else { continue };
                        context.attempt(|| reorder.push(&batch.with_rows(rows)));
                    }
                });
                context.count(|c| &c.rows_refused, reorder.take_refused());
                while let Some((complete, capability)) = closing.next_closed(frontier) {
                    let step = || frames.update(reorder.release(complete)?, complete);
                    if let Some(rows) = context.attempt(step).flatten() {
                        output.session(&capability).give(Batch::from(rows));
                    }
                    let statistics = frames.take_statistics();
                    context.count(|c| &c.rows_refused, statistics.rows_refused);
                    context.count(|c| &c.keys_evicted, statistics.keys_evicted);
                    bytes.set((frames.bytes() + reorder.bytes()) as u64);
                    keys.set(frames.keys() as u64);
                }
            }
        },
    ))
}
