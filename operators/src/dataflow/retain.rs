//! Rows that enter a relation as they come and leave it when they are so old.

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;
use differential_dataflow::{AsCollection, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::closing::Closing;
use super::context::Gauge;
use super::range::within_range;
use super::{BatchStream, QueryContext};
use crate::batch::Batch;
use crate::error::Result;
use crate::time::{Epoch, EventTime, Watermarks};
use crate::window::TimeType;

/// For how long rows stay.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Index of the event-time column.
    pub time_index: usize,
    /// Its type.
    pub time: TimeType,
    /// A row leaves when the watermark has come so far beyond its time. At the end of the input the others stay.
    pub retain_ns: i64,
    /// Rows enter and leave when the watermark passes a multiple of this, and at the end; at once, where it is `None`.
    pub every_ns: Option<i64>,
    /// How far rows may lie below the watermark of earlier epochs.
    pub lag_ns: i64,
    /// Most rows that one worker holds; those beyond are refused and counted.
    pub rows_max: usize,
    /// The watermarks of the sources at the bottom.
    pub watermarks: Watermarks,
}

/// A row as the arrangements hold it.
pub(super) trait Held: Clone + 'static {
    /// Bytes on the heap.
    fn bytes(&self) -> usize;
}

/// Turns a stream into the collection of its rows that have not left yet. `encode` gives each row's time and the row.
pub(super) fn retain<'scope, D: Held>(
    stream: BatchStream<'scope>,
    retention: Retention,
    context: QueryContext,
    mut encode: impl FnMut(&RecordBatch, &mut Vec<(i64, D)>) -> Result<()> + 'static,
) -> VecCollection<'scope, Epoch, D, isize> {
    let held = stream.unary_frontier::<CapacityContainerBuilder<Vec<(D, Epoch, isize)>>, _, _, _>(
        Pipeline,
        "Retain",
        |capability, _| {
            let Retention { time_index, time, retain_ns, every_ns, lag_ns, rows_max, watermarks } =
                retention;
            let mut closing = Closing::new(capability, watermarks.clone(), lag_ns);
            let mut bytes = Gauge::new(&context, |c| &c.state_bytes);
            let mut turns = Turns { every_ns, last: EventTime::MIN };
            // Rows that have not entered yet, with their epochs, and those that will leave, by when they do.
            let mut arriving: Vec<(Epoch, i64, D)> = Vec::new();
            let mut leaving: BTreeMap<i64, Vec<D>> = BTreeMap::new();
            let (mut rows_held, mut bytes_held) = (0_usize, 0_usize);
            let mut encoded = Vec::new();
            move |(input, frontier), output| {
                input.for_each(|capability, batches| {
                    let Some(&epoch) = capability.least() else { return };
                    for Batch { rows, .. } in batches.drain(..) {
                        let Some(rows) = within_range(&context, &time, time_index, &rows) else {
                            continue;
                        };
                        context.isolate(&rows, &mut |rows| encode(rows, &mut encoded));
                        let room = rows_max.saturating_sub(rows_held);
                        let refused = encoded.len().saturating_sub(room);
                        context.count(|c| &c.rows_refused, refused as u64);
                        encoded.truncate(room);
                        rows_held += encoded.len();
                        bytes_held += encoded.iter().map(|(_, row)| row.bytes()).sum::<usize>();
                        arriving.extend(
                            encoded.drain(..).map(|(time, row)| (epoch, time + retain_ns, row)),
                        );
                    }
                });
                while let Some((complete, capability)) = closing.next_closed(frontier) {
                    if context.is_over() {
                        arriving.clear();
                        leaving.clear();
                        continue;
                    }
                    if !turns.is_due(complete) {
                        continue;
                    }
                    let (closed, is_end) = (*capability.time(), complete == EventTime::MAX);
                    let complete = match is_end {
                        true => watermarks.at_end().minus_ns(lag_ns),
                        false => complete,
                    };
                    let mut session = output.session(&capability);
                    for (_, leaves, row) in arriving.extract_if(.., |row| row.0 <= closed) {
                        session.give((row.clone(), closed, 1));
                        leaving.entry(leaves).or_default().push(row);
                    }
                    while let Some(first) = leaving.first_entry()
                        && *first.key() <= complete.0
                    {
                        for row in first.remove() {
                            rows_held -= 1;
                            bytes_held -= row.bytes();
                            session.give((row, closed, -1));
                        }
                    }
                    if is_end {
                        leaving.clear();
                    }
                    // A row is held here, and again with its epoch where it is arranged.
                    bytes.set((2 * bytes_held + rows_held * 3 * size_of::<D>()) as u64);
                }
            }
        },
    );
    held.as_collection()
}

/// When rows enter and leave.
struct Turns {
    every_ns: Option<i64>,
    last: EventTime,
}

impl Turns {
    fn is_due(&mut self, complete: EventTime) -> bool {
        let Some(every) = self.every_ns else { return true };
        let turn = |time: EventTime| time.0.div_euclid(every);
        let is_first = self.last == EventTime::MIN && complete > EventTime::MIN;
        let is_due = is_first || turn(complete) > turn(self.last);
        self.last = self.last.max(complete);
        is_due || complete == EventTime::MAX
    }
}
