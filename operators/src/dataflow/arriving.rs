//! Rows on their way into a collection, each with its key and the bucket of the key that it falls into.
//!
//! What is computed for a key is computed for its buckets first, so that a row that enters or leaves costs the rows of
//! its bucket and what the others have come to, not all rows of a key that has many.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, Int64Array};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use differential_dataflow::{AsCollection, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;
use twox_hash::XxHash3_64;

use super::context::Gauge;
use super::egress::RESTORED;
use super::retain::{Held, HeldRow, Retention, retain};
use super::{BatchStream, QueryContext};
use crate::changes::diffs;
use crate::error::Result;
use crate::state::{StateReader, StateWriter, Stateful};
use crate::time::Epoch;

/// Into how many buckets the rows of a key are cut, by time where they have one.
const BUCKETS: i64 = 32;

/// How rows enter and leave.
#[derive(Clone, Debug)]
pub enum Arriving {
    /// They enter as they come, and leave by event time.
    Rows(Retention),
    /// The last column says it.
    Changes,
}

/// A row: its key, its bucket, and the rest of it.
pub(super) type Row = ((Vec<u8>, i64), Vec<u8>);

impl Held for Row {
    fn bytes(&self) -> usize {
        self.0.0.len() + self.1.len()
    }
}

impl HeldRow for Row {
    fn parts(&self) -> (Option<&[u8]>, i64, &[u8]) {
        (Some(&self.0.0), self.0.1, &self.1)
    }

    fn of_parts(key: Option<Vec<u8>>, bucket: i64, row: Vec<u8>) -> Self {
        ((key.unwrap_or_default(), bucket), row)
    }
}

/// Turns a stream into the collection of its rows that are in. `encode` gives the key and the rest of each row.
pub(super) fn enter<'scope, I>(
    stream: BatchStream<'scope>,
    arriving: Arriving,
    context: QueryContext,
    mut encode: impl FnMut(&RecordBatch) -> Result<I> + 'static,
) -> Result<VecCollection<'scope, Epoch, Row, isize>>
where
    I: Iterator<Item = (Vec<u8>, Vec<u8>)>,
{
    let retention = match arriving {
        Arriving::Rows(retention) => retention,
        Arriving::Changes => return encode_changes(stream, context, encode),
    };
    let bucket_ns = (retention.retain_ns / BUCKETS).max(1);
    let (time, time_index) = (retention.time.clone(), retention.time_index);
    retain(stream, retention, "rows", context, move |rows, encoded| {
        let times = time.read(rows.column(time_index));
        encoded.extend(
            encode(rows)?
                .zip(times.iter())
                .map(|((key, row), &time)| (time, ((key, time.div_euclid(bucket_ns)), row))),
        );
        Ok(())
    })
}

/// Rows of changes enter and leave as their last column says.
fn encode_changes<'scope, I>(
    stream: BatchStream<'scope>,
    context: QueryContext,
    mut encode: impl FnMut(&RecordBatch) -> Result<I> + 'static,
) -> Result<VecCollection<'scope, Epoch, Row, isize>>
where
    I: Iterator<Item = (Vec<u8>, Vec<u8>)>,
{
    let entered = context.keep("changes", Entered::default())?;
    let encoded = stream.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        Pipeline,
        "EncodeChanges",
        |capability, _| {
            // Rows of a checkpoint enter before all others.
            let mut restored = context.is_restored().then_some(capability);
            let mut bytes = Gauge::new(&context, |c| &c.state_bytes);
            move |(input, _frontier), output| {
                let mut entered = entered.borrow_mut();
                if let Some(capability) = restored.take() {
                    let mut session = output.session(&capability);
                    for (row, count) in &entered.rows {
                        session.give((row.clone(), RESTORED, *count));
                    }
                }
                input.for_each(|capability, batches| {
                    let Some(&epoch) = capability.least() else { return };
                    let mut session = output.session(&capability);
                    for batch in batches.drain(..) {
                        context.isolate(&batch.rows, &mut |rows| {
                            for ((key, row), diff) in encode(rows)?.zip(diffs(rows).values()) {
                                // There is no time: a row's own bytes choose its bucket.
                                let bucket = XxHash3_64::oneshot(&row) % BUCKETS as u64;
                                let row = ((key, bucket as i64), row);
                                entered.change(&row, *diff as isize);
                                session.give((row, epoch, *diff as isize));
                            }
                            Ok(())
                        });
                    }
                });
                bytes.set(entered.bytes as u64);
            }
        },
    );
    Ok(encoded.as_collection())
}

/// How often each row has entered here and not left here, for a checkpoint: whoever sent the changes does not send them
/// again. A row may have entered on another worker than the one that it leaves on.
#[derive(Default)]
struct Entered {
    rows: BTreeMap<Row, isize>,
    bytes: usize,
}

impl Entered {
    fn change(&mut self, row: &Row, change: isize) {
        let size = row.bytes() + size_of::<(Row, isize)>();
        let Some(count) = self.rows.get_mut(row) else {
            if change != 0 {
                self.bytes += size;
                self.rows.insert(row.clone(), change);
            }
            return;
        };
        *count += change;
        if *count == 0 {
            self.rows.remove(row);
            self.bytes -= size;
        }
    }
}

impl Stateful for Entered {
    fn save(&mut self, out: &mut StateWriter) -> Result<()> {
        let parts = || self.rows.keys().map(HeldRow::parts);
        let counts = self.rows.values().map(|count| *count as i64);
        let columns: [(&str, ArrayRef); 4] = [
            ("key", Arc::new(parts().map(|(key, ..)| key).collect::<BinaryArray>())),
            ("bucket", Arc::new(Int64Array::from_iter_values(parts().map(|(_, b, _)| b)))),
            ("row", Arc::new(BinaryArray::from_iter_values(parts().map(|(.., row)| row)))),
            ("count", Arc::new(Int64Array::from_iter_values(counts))),
        ];
        let columns = columns.map(|(name, column)| (name, column, true));
        let rows = RecordBatch::try_from_iter_with_nullable(columns)?;
        // Rows are where they came in: any worker will do.
        out.keyed_bytes("rows", rows, parts().map(|(.., row)| Some(row)));
        Ok(())
    }

    fn load(&mut self, saved: &StateReader<'_>) -> Result<()> {
        for rows in saved.rows("rows")? {
            let bytes = |i: usize| rows.column(i).as_binary::<i32>();
            let number = |i: usize| rows.column(i).as_primitive::<Int64Type>().values();
            let (keys, buckets, own, counts) = (bytes(0), number(1), bytes(2), number(3));
            for at in 0..rows.num_rows() {
                let key = Some(keys.value(at).to_vec());
                let row = Row::of_parts(key, buckets[at], own.value(at).to_vec());
                self.change(&row, counts[at] as isize);
            }
        }
        Ok(())
    }
}
