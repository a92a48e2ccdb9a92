//! Rows that enter a relation as they come and leave it when they are so old.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use differential_dataflow::{AsCollection, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::closing::Closing;
use super::context::Gauge;
use super::egress::RESTORED;
use super::range::within_range;
use super::{BatchStream, QueryContext};
use crate::batch::Batch;
use crate::error::Result;
use crate::state::{StateReader, StateWriter, Stateful};
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

/// A row that can be written into a checkpoint, as a key, a number and bytes.
pub(super) trait HeldRow: Held {
    /// Its parts.
    fn parts(&self) -> (Option<&[u8]>, i64, &[u8]);

    /// The row of these parts.
    fn of_parts(key: Option<Vec<u8>>, number: i64, row: Vec<u8>) -> Self;
}

/// Turns a stream into the collection of its rows that have not left yet. `encode` gives each row's time and the row; `name` is that of
/// its state.
pub(super) fn retain<'scope, D: HeldRow>(
    stream: BatchStream<'scope>,
    retention: Retention,
    name: &str,
    context: QueryContext,
    mut encode: impl FnMut(&RecordBatch, &mut Vec<(i64, D)>) -> Result<()> + 'static,
) -> Result<VecCollection<'scope, Epoch, D, isize>> {
    let Retention { time_index, time, retain_ns, every_ns, lag_ns, rows_max, watermarks } =
        retention;
    let rows = context.keep(name, Rows::<D>::new(every_ns))?;
    let held = stream.unary_frontier::<CapacityContainerBuilder<Vec<(D, Epoch, isize)>>, _, _, _>(
        Pipeline,
        "Retain",
        |capability, _| {
            // Rows of a checkpoint enter before all others.
            let mut restored = context.is_restored().then(|| capability.clone());
            let mut closing = Closing::new(capability, watermarks.clone(), lag_ns);
            let mut bytes = Gauge::new(&context, |c| &c.state_bytes);
            let mut encoded = Vec::new();
            move |(input, frontier), output| {
                let held = &mut *rows.borrow_mut();
                if let Some(capability) = restored.take() {
                    let mut session = output.session(&capability);
                    for row in held.leaving.values().flatten() {
                        session.give((row.clone(), RESTORED, 1));
                    }
                }
                input.for_each(|capability, batches| {
                    let Some(&epoch) = capability.least() else { return };
                    for Batch { rows, .. } in batches.drain(..) {
                        let Some(rows) = within_range(&context, &time, time_index, &rows) else {
                            continue;
                        };
                        context.isolate(&rows, &mut |rows| encode(rows, &mut encoded));
                        let room = rows_max.saturating_sub(held.count);
                        let refused = encoded.len().saturating_sub(room);
                        context.count(|c| &c.rows_refused, refused as u64);
                        encoded.truncate(room);
                        for (time, row) in encoded.drain(..) {
                            held.arrive(epoch, time + retain_ns, row);
                        }
                    }
                });
                while let Some((complete, capability)) = closing.next_closed(frontier) {
                    if context.is_over() {
                        held.arriving.clear();
                        held.leaving.clear();
                        continue;
                    }
                    if !held.turns.is_due(complete) {
                        continue;
                    }
                    let (closed, is_end) = (*capability.time(), complete == EventTime::MAX);
                    let complete = match is_end {
                        true => watermarks.at_end().minus_ns(lag_ns),
                        false => complete,
                    };
                    let mut session = output.session(&capability);
                    for (_, leaves, row) in held.arriving.extract_if(.., |row| row.0 <= closed) {
                        session.give((row.clone(), closed, 1));
                        held.leaving.entry(leaves).or_default().push(row);
                    }
                    while let Some(first) = held.leaving.first_entry()
                        && *first.key() <= complete.0
                    {
                        for row in first.remove() {
                            held.count -= 1;
                            held.bytes -= row.bytes();
                            session.give((row, closed, -1));
                        }
                    }
                    if is_end {
                        held.leaving.clear();
                    }
                    // A row is held here, and again with its epoch where it is arranged.
                    bytes.set((2 * held.bytes + held.count * 3 * size_of::<D>()) as u64);
                }
            }
        },
    );
    Ok(held.as_collection())
}

/// Rows that have not left.
struct Rows<D> {
    turns: Turns,
    /// Those that have not entered yet, with their epochs and when they leave.
    arriving: Vec<(Epoch, i64, D)>,
    /// Those that have entered, by when they leave.
    leaving: BTreeMap<i64, Vec<D>>,
    count: usize,
    bytes: usize,
}

impl<D: HeldRow> Rows<D> {
    fn new(every_ns: Option<i64>) -> Self {
        Self {
            turns: Turns { every_ns, last: EventTime::MIN },
            arriving: Vec::new(),
            leaving: BTreeMap::new(),
            count: 0,
            bytes: 0,
        }
    }

    fn arrive(&mut self, epoch: Epoch, leaves: i64, row: D) {
        self.count += 1;
        self.bytes += row.bytes();
        self.arriving.push((epoch, leaves, row));
    }
}

impl<D: HeldRow> Stateful for Rows<D> {
    fn save(&mut self, out: &mut StateWriter) -> Result<()> {
        let entered = self
            .leaving
            .iter()
            .flat_map(|(leaves, rows)| rows.iter().map(move |row| (*leaves, row)));
        let waiting = self.arriving.iter().map(|(_, leaves, row)| (*leaves, row));
        let all: Vec<(i64, &D)> = entered.chain(waiting).collect();
        let parts = || all.iter().map(|(_, row)| row.parts());
        let entered = all.len() - self.arriving.len();
        let columns: [(&str, ArrayRef); 5] = [
            (
                "leaves",
                Arc::new(Int64Array::from_iter_values(all.iter().map(|(leaves, _)| *leaves))),
            ),
            ("key", Arc::new(parts().map(|(key, ..)| key).collect::<BinaryArray>())),
            (
                "number",
                Arc::new(Int64Array::from_iter_values(parts().map(|(_, number, _)| number))),
            ),
            ("row", Arc::new(parts().map(|(.., row)| Some(row)).collect::<BinaryArray>())),
            (
                "entered",
                Arc::new((0..all.len()).map(|at| Some(at < entered)).collect::<BooleanArray>()),
            ),
        ];
        // Rows are where they came in: any worker will do.
        let rows =
            RecordBatch::try_from_iter_with_nullable(columns.map(|(name, c)| (name, c, true)))?;
        out.keyed_bytes("rows", rows, parts().map(|(.., row)| Some(row)));
        out.note(&self.turns.last)
    }

    fn load(&mut self, saved: &StateReader<'_>) -> Result<()> {
        self.turns.last = saved.notes()?.into_iter().max().unwrap_or(self.turns.last);
        for rows in saved.rows("rows")? {
            let number = |i: usize| rows.column(i).as_primitive::<Int64Type>().values().clone();
            let bytes = |i: usize| rows.column(i).as_binary::<i32>().clone();
            let (leaves, keys, numbers) = (number(0), bytes(1), number(2));
            let (own, entered) = (bytes(3), rows.column(4).as_boolean().clone());
            for at in 0..rows.num_rows() {
                let key = keys.is_valid(at).then(|| keys.value(at).to_vec());
                let row = D::of_parts(key, numbers[at], own.value(at).to_vec());
                self.count += 1;
                self.bytes += row.bytes();
                match entered.value(at) {
                    true => self.leaving.entry(leaves[at]).or_default().push(row),
                    false => self.arriving.push((RESTORED, leaves[at], row)),
                }
            }
        }
        Ok(())
    }
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
