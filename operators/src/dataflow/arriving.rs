//! Rows on their way into a collection, each with its key and the bucket of the key that it falls into.
//!
//! What is computed for a key is computed for its buckets first, so that a row that enters or leaves costs the rows of
//! its bucket and what the others have come to, not all rows of a key that has many.

use arrow::record_batch::RecordBatch;
use differential_dataflow::{AsCollection, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;
use twox_hash::XxHash3_64;

use super::retain::{Held, HeldRow, Retention, retain};
use super::{BatchStream, QueryContext};
use crate::changes::diffs;
use crate::error::Result;
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
        Arriving::Changes => return Ok(encode_changes(stream, context, encode)),
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
) -> VecCollection<'scope, Epoch, Row, isize>
where
    I: Iterator<Item = (Vec<u8>, Vec<u8>)>,
{
    let encoded = stream.unary::<CapacityContainerBuilder<Vec<(Row, Epoch, isize)>>, _, _, _>(
        Pipeline,
        "EncodeChanges",
        |_, _| {
            move |input, output| {
                input.for_each(|capability, batches| {
                    let Some(&epoch) = capability.least() else { return };
                    let mut session = output.session(&capability);
                    for batch in batches.drain(..) {
                        context.isolate(&batch.rows, &mut |rows| {
                            for ((key, row), diff) in encode(rows)?.zip(diffs(rows).values()) {
                                // There is no time: a row's own bytes choose its bucket.
                                let bucket = XxHash3_64::oneshot(&row) % BUCKETS as u64;
                                session.give((((key, bucket as i64), row), epoch, *diff as isize));
                            }
                            Ok(())
                        });
                    }
                });
            }
        },
    );
    encoded.as_collection()
}
