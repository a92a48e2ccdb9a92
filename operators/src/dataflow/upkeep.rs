//! Relations whose rows enter and leave: how often each is in now, kept by differential-dataflow.
//!
//! A detector reports changes to a history: a point that enters, one that leaves, one that was judged anew. The counts
//! over that history follow at a cost in proportion to the changes, whatever the length of the history. Rows travel in
//! arrow's row format, whose bytes compare as the values do, so that one implementation serves all column types.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_row::{RowConverter, SortField};
use differential_dataflow::{AsCollection, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::context::Gauge;
use super::{BatchStream, QueryContext};
use crate::batch::Batch;
use crate::detector::SideRelation;
use crate::error::Result;
use crate::model::Upkeep;
use crate::time::Epoch;

/// Bytes of a row of a relation: its key, its own columns.
type RowBytes = (Vec<u8>, Vec<u8>);

/// A row that holds: its bytes, how often it is in, and the other figure of its kind of upkeep.
type Counted = (RowBytes, (i64, i64));

/// Turns reported changes into changes of the relation's rows. Batches of `stream` are of
/// [`SideRelation::reported_schema`]; those that come out are of the relation's own schema.
///
/// # Errors
/// If a column's type cannot be compared.
pub fn maintain<'scope>(
    stream: BatchStream<'scope>,
    relation: &SideRelation,
    context: QueryContext,
) -> Result<BatchStream<'scope>> {
    let changes = encode(stream, Codec::new(relation)?, context.clone());
    let counted = match relation.upkeep {
        Upkeep::Append | Upkeep::Counts => counts(changes),
        Upkeep::Running => running(changes),
        Upkeep::Keys => keys(changes),
    };
    Ok(decode(counted, Codec::new(relation)?, context))
}

/// How often each distinct row is in, beside how many rows its key has.
fn counts<'scope>(
    changes: VecCollection<'scope, Epoch, RowBytes, isize>,
) -> VecCollection<'scope, Epoch, Counted, isize> {
    let counted = changes.reduce(|_key, values: &[(&Vec<u8>, isize)], out| {
        let total: isize = values.iter().map(|(_, count)| count).sum();
        for (value, count) in values.iter().filter(|(_, count)| *count > 0) {
            out.push((((*value).clone(), (*count as i64, total as i64)), 1));
        }
    });
    counted.map(|(key, (value, counts))| ((key, value), counts))
}

/// How often each distinct row is in, beside how many rows come up to and with it.
fn running<'scope>(
    changes: VecCollection<'scope, Epoch, RowBytes, isize>,
) -> VecCollection<'scope, Epoch, Counted, isize> {
    let counted = changes.reduce(|_key, values: &[(&Vec<u8>, isize)], out| {
        let mut running = 0;
        for (value, count) in values.iter().filter(|(_, count)| *count > 0) {
            running += count;
            out.push((((*value).clone(), (*count as i64, running as i64)), 1));
        }
    });
    counted.map(|(key, (value, counts))| ((key, value), counts))
}

/// The keys that are in at least once.
fn keys<'scope>(
    changes: VecCollection<'scope, Epoch, RowBytes, isize>,
) -> VecCollection<'scope, Epoch, Counted, isize> {
    changes.threshold(|_row, count| isize::from(*count > 0)).map(|row| (row, (1, 1)))
}

/// Between columns and bytes.
struct Codec {
    keys: RowConverter,
    values: RowConverter,
    key_columns: usize,
    upkeep: Upkeep,
    schema: SchemaRef,
}

impl Codec {
    fn new(relation: &SideRelation) -> Result<Self> {
        let converter = |fields: &[arrow::datatypes::FieldRef]| {
            let fields = fields.iter().map(|f| SortField::new(f.data_type().clone())).collect();
            RowConverter::new(fields)
        };
        Ok(Self {
            keys: converter(&relation.schema.fields()[..relation.keys])?,
            values: converter(relation.own_fields())?,
            key_columns: relation.keys,
            upkeep: relation.upkeep,
            schema: relation.schema.clone(),
        })
    }

    /// Each reported row as bytes, with its change.
    fn encode(&self, rows: &RecordBatch, out: &mut Vec<(RowBytes, isize)>) -> Result<()> {
        let (columns, change) = rows.columns().split_at(rows.num_columns() - 1);
        let (keys, values) = columns.split_at(self.key_columns);
        let keys = (!keys.is_empty()).then(|| self.keys.convert_columns(keys)).transpose()?;
        let values =
            (!values.is_empty()).then(|| self.values.convert_columns(values)).transpose()?;
        let change = change[0].as_primitive::<Int64Type>().values();
        let bytes = |rows: &Option<arrow_row::Rows>, i: usize| {
            rows.as_ref().map_or_else(Vec::new, |rows| rows.row(i).data().to_vec())
        };
        out.extend(
            change
                .iter()
                .enumerate()
                .map(|(i, change)| ((bytes(&keys, i), bytes(&values, i)), *change as isize)),
        );
        Ok(())
    }

    /// Rows of the relation, from their bytes.
    fn decode(&self, changes: &[(Counted, isize)]) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::new();
        if self.key_columns > 0 {
            let parser = self.keys.parser();
            let rows = changes.iter().map(|(((key, _), _), _)| parser.parse(key));
            columns.extend(self.keys.convert_rows(rows)?);
        }
        if self.schema.fields().len() > self.key_columns + self.counted_columns() {
            let parser = self.values.parser();
            let rows = changes.iter().map(|(((_, value), _), _)| parser.parse(value));
            columns.extend(self.values.convert_rows(rows)?);
        }
        let counts = || changes.iter().map(|((_, counts), _)| *counts);
        let integers = |values: Vec<i64>| std::sync::Arc::new(Int64Array::from(values)) as ArrayRef;
        match self.upkeep {
            Upkeep::Counts => {
                let shares = counts().map(|(count, total)| count as f64 / total as f64);
                columns.push(integers(counts().map(|(count, _)| count).collect()));
                columns.push(std::sync::Arc::new(Float64Array::from_iter_values(shares)));
            }
            Upkeep::Running => {
                columns.push(integers(counts().map(|(count, _)| count).collect()));
                columns.push(integers(counts().map(|(_, running)| running).collect()));
            }
            Upkeep::Append | Upkeep::Keys => {}
        }
        columns.push(integers(changes.iter().map(|(_, change)| *change as i64).collect()));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn counted_columns(&self) -> usize {
        if self.upkeep == Upkeep::Keys { 1 } else { 3 }
    }
}

fn encode<'scope>(
    stream: BatchStream<'scope>,
    codec: Codec,
    context: QueryContext,
) -> VecCollection<'scope, Epoch, RowBytes, isize> {
    let encoded =
        stream.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "Encode", |_, _| {
            let mut changes = Vec::new();
            move |input, output| {
                input.for_each(|capability, batches| {
                    let Some(&epoch) = capability.least() else { return };
                    let mut session = output.session(&capability);
                    for batch in batches.drain(..) {
                        context.attempt(|| codec.encode(&batch.rows, &mut changes));
                        for (row, change) in changes.drain(..) {
                            session.give((row, epoch, change));
                        }
                    }
                });
            }
        });
    encoded.as_collection()
}

fn decode<'scope>(
    counted: VecCollection<'scope, Epoch, Counted, isize>,
    codec: Codec,
    context: QueryContext,
) -> BatchStream<'scope> {
    let mut bytes = Gauge::new(&context, |c| &c.state_bytes);
    let mut held = 0_i64;
    counted.inner.unary::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "Decode", |_, _| {
        move |input, output| {
            input.for_each(|capability, updates| {
                // One message may bring changes of several epochs; each must leave in its own.
                let mut by_epoch: BTreeMap<Epoch, Vec<(Counted, isize)>> = BTreeMap::new();
                for (row, epoch, change) in updates.drain(..) {
                    by_epoch.entry(epoch).or_default().push((row, change));
                }
                for (epoch, mut changes) in by_epoch {
                    // What no longer holds comes before what takes its place.
                    changes.sort_by(|(a, x), (b, y)| (&a.0, x, &a.1).cmp(&(&b.0, y, &b.1)));
                    for (((key, value), _), change) in &changes {
                        // Differential keeps a row's history and its count, each with its bytes.
                        let row = 2 * (key.len() + value.len()) + 96;
                        held += row as i64 * *change as i64;
                    }
                    bytes.set(held.max(0) as u64);
                    if let Some(rows) = context.attempt(|| codec.decode(&changes)) {
                        let batch = Batch::from(rows);
                        output.session(&capability.delayed(&epoch, 0)).give(batch);
                    }
                }
            });
        }
    })
}
