//! Aggregates over rows that enter and leave: changes of the result once per epoch.
//!
//! The rows of a key are reduced in two levels: to the partial state of each of some buckets, and from there to the
//! result. So a row that enters or leaves costs the rows of its bucket and the states of the others, not all rows of a
//! key that has many. differential-dataflow holds rows, states and results, and hands a bucket's rows over in the order
//! of their values, so that results do not depend on the order of arrival.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use differential_dataflow::{AsCollection, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;
use twox_hash::XxHash3_64;

use super::bytes::{Codec, give_changes};
use super::context::Gauge;
use super::egress::RESTORED;
use super::retain::{Held, HeldRow, Retention, retain};
use super::{BatchStream, QueryContext};
use crate::changes::diffs;
use crate::error::Result;
use crate::expression::{AggregateArguments, AggregateInput, AggregateProgram, GroupAccumulator};
use crate::state::{StateReader, StateWriter, Stateful};
use crate::time::{Epoch, Watermarks};

/// Into how many buckets the rows of a key are cut, by time where they have one.
const BUCKETS: i64 = 32;

/// An aggregation of rows that enter and leave, as a dataflow builds it.
#[derive(Clone, Debug)]
pub struct GroupStage {
    /// Keys and aggregates.
    pub program: Arc<dyn AggregateProgram>,
    /// Columns of the input.
    pub input: SchemaRef,
    /// How rows enter and leave.
    pub arriving: Arriving,
    /// Columns of the changes: keys, aggregates, and the change.
    pub schema: SchemaRef,
    /// The watermarks of the sources at the bottom.
    pub watermarks: Watermarks,
    /// Shared state of the query.
    pub context: QueryContext,
}

/// How rows enter and leave.
#[derive(Clone, Debug)]
pub enum Arriving {
    /// They enter as they come, and leave by event time.
    Rows(Retention),
    /// The last column says it.
    Changes,
}

/// A row: its key, its bucket, and what the aggregates read of it.
type Row = ((Vec<u8>, i64), Vec<u8>);

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

/// A key and its result.
type Answer = (Vec<u8>, Vec<u8>);

impl Held for Answer {
    fn bytes(&self) -> usize {
        self.0.len() + self.1.len()
    }
}

/// Aggregates rows by key.
///
/// # Errors
/// If a column's type cannot be compared.
pub fn update_groups<'scope>(
    stream: BatchStream<'scope>,
    stage: GroupStage,
) -> Result<BatchStream<'scope>> {
    let GroupStage { program, input, arriving, schema, watermarks, context } = stage;
    let encoder = RowEncoder::new(Arc::clone(&program), &input)?;
    let mut states = Fold::new(Arc::clone(&program), &input)?;
    let mut results = Fold::new(Arc::clone(&program), &input)?;
    let rows = match arriving {
        Arriving::Rows(retention) => {
            let bucket_ns = (retention.retain_ns / BUCKETS).max(1);
            let (time, time_index) = (retention.time.clone(), retention.time_index);
            retain(stream, retention, "rows", context.clone(), move |rows, encoded| {
                let times = time.read(rows.column(time_index));
                let made = encoder.encode(rows)?;
                encoded.extend(made.zip(times.iter()).map(|((key, arguments), &time)| {
                    (time, ((key, time.div_euclid(bucket_ns)), arguments))
                }));
                Ok(())
            })?
        }
        Arriving::Changes => encode_changes(stream, encoder, context.clone())?,
    };
    let failing = context.clone();
    let states = rows.reduce_named(
        "FoldBuckets",
        move |_bucket, rows: &[(&Vec<u8>, isize)], out: &mut Vec<(Vec<u8>, isize)>| {
            let state = failing.attempt(|| states.fold_rows(rows)).flatten();
            out.extend(state.map(|state| (state, 1)));
        },
    );
    let by_key = states.map(|((key, bucket), state)| (key, (bucket, state)));
    let failing = context.clone();
    let answers = by_key.reduce_named(
        "MergeBuckets",
        move |_key, buckets: &[(&(i64, Vec<u8>), isize)], out: &mut Vec<(Vec<u8>, isize)>| {
            let result = failing.attempt(|| results.merge_states(buckets)).flatten();
            out.extend(result.map(|result| (result, 1)));
        },
    );
    let keys = Codec::new(types(&program.key_fields()))?;
    let outputs = Codec::new(types(&program.output_fields()))?;
    let decode = move |rows: &[&Answer]| -> Result<Vec<ArrayRef>> {
        let mut columns = keys.decode(rows.iter().map(|row| row.0.as_slice()))?;
        columns.extend(outputs.decode(rows.iter().map(|row| row.1.as_slice()))?);
        Ok(columns)
    };
    Ok(give_changes(answers, schema, watermarks, context, decode))
}

/// Finds out whether an aggregation can be built.
///
/// # Errors
/// As for [`update_groups`].
pub fn check_groups(program: &Arc<dyn AggregateProgram>, input: &SchemaRef) -> Result<()> {
    Codec::new(types(&program.key_fields()))?;
    Codec::new(types(&program.output_fields()))?;
    Fold::new(Arc::clone(program), input).map(|_| ())
}

fn types(fields: &arrow::datatypes::Fields) -> impl Iterator<Item = &DataType> {
    fields.iter().map(|field| field.data_type())
}

/// Rows of changes enter and leave as their last column says.
fn encode_changes<'scope>(
    stream: BatchStream<'scope>,
    encoder: RowEncoder,
    context: QueryContext,
) -> Result<VecCollection<'scope, Epoch, Row, isize>> {
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
                            let made = encoder.encode(rows)?;
                            for ((key, row), diff) in made.zip(diffs(rows).values()) {
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

/// From columns to keys and to what the aggregates read.
struct RowEncoder {
    program: Arc<dyn AggregateProgram>,
    keys: Codec,
    arguments: Codec,
}

impl RowEncoder {
    fn new(program: Arc<dyn AggregateProgram>, input: &SchemaRef) -> Result<Self> {
        Ok(Self {
            keys: Codec::new(types(&program.key_fields()))?,
            arguments: arguments(&*program, input)?.0,
            program,
        })
    }

    fn encode(&self, rows: &RecordBatch) -> Result<impl Iterator<Item = Answer> + use<>> {
        let AggregateInput { keys, arguments } = self.program.prepare(rows)?;
        let keys = self.keys.encode(&keys, rows.num_rows())?;
        let columns: Vec<ArrayRef> = arguments.into_iter().flat_map(columns_of).collect();
        let arguments = self.arguments.encode(&columns, rows.num_rows())?;
        Ok(keys.into_iter().zip(arguments))
    }
}

fn columns_of(arguments: AggregateArguments) -> impl Iterator<Item = ArrayRef> {
    let filter = arguments.filter.map(|filter| Arc::new(filter) as ArrayRef);
    arguments.values.into_iter().chain(filter)
}

/// The codec of what aggregates read, and for each how many columns that are and whether a FILTER clause follows.
fn arguments(
    program: &dyn AggregateProgram,
    input: &SchemaRef,
) -> Result<(Codec, Vec<(usize, bool)>)> {
    let none = program.prepare(&RecordBatch::new_empty(input.clone()))?;
    let layout =
        none.arguments.iter().map(|a| (a.values.len(), a.filter.is_some())).collect::<Vec<_>>();
    let columns: Vec<ArrayRef> = none.arguments.into_iter().flat_map(columns_of).collect();
    Ok((Codec::new(columns.iter().map(Array::data_type))?, layout))
}

/// Accumulators of one group, used for one group after another.
struct Fold {
    accumulators: Vec<Box<dyn GroupAccumulator>>,
    arguments: Codec,
    layout: Vec<(usize, bool)>,
    states: Codec,
    /// How many columns the state of each aggregate has.
    state_columns: Vec<usize>,
    results: Codec,
}

impl Fold {
    fn new(program: Arc<dyn AggregateProgram>, input: &SchemaRef) -> Result<Self> {
        let (arguments, layout) = arguments(&*program, input)?;
        let states = program.state_fields();
        Ok(Self {
            accumulators: program.accumulators()?,
            arguments,
            layout,
            states: Codec::new(states.iter().flat_map(types))?,
            state_columns: states.iter().map(|fields| fields.len()).collect(),
            results: Codec::new(types(&program.output_fields()))?,
        })
    }

    /// The partial state of some rows, each of which is in so many times; `None` if none is.
    fn fold_rows(&mut self, rows: &[(&Vec<u8>, isize)]) -> Result<Option<Vec<u8>>> {
        let all = rows
            .iter()
            .flat_map(|(row, count)| std::iter::repeat_n(row.as_slice(), (*count).max(0) as usize));
        let groups = vec![0_usize; all.clone().count()];
        if groups.is_empty() {
            return Ok(None);
        }
        let mut columns = self.arguments.decode(all)?.into_iter();
        for (accumulator, (values, has_filter)) in self.accumulators.iter_mut().zip(&self.layout) {
            let values: Vec<ArrayRef> = columns.by_ref().take(*values).collect();
            let filter: Option<BooleanArray> = columns
                .by_ref()
                .take(usize::from(*has_filter))
                .next()
                .map(|f| f.as_boolean().clone());
            accumulator.update(&AggregateArguments { values, filter }, &groups, 1)?;
        }
        let mut state = Vec::new();
        for accumulator in &mut self.accumulators {
            state.extend(accumulator.state()?);
        }
        Ok(self.states.encode(&state, 1)?.pop())
    }

    /// The result of the partial states of buckets; `None` if there is none.
    fn merge_states(&mut self, buckets: &[(&(i64, Vec<u8>), isize)]) -> Result<Option<Vec<u8>>> {
        let all = buckets.iter().filter(|(_, count)| *count > 0).map(|((_, state), _)| state);
        let groups = vec![0_usize; all.clone().count()];
        if groups.is_empty() {
            return Ok(None);
        }
        let mut columns = self.states.decode(all.map(Vec::as_slice))?.into_iter();
        for (accumulator, count) in self.accumulators.iter_mut().zip(&self.state_columns) {
            let state: Vec<ArrayRef> = columns.by_ref().take(*count).collect();
            accumulator.merge(&state, &groups, 1)?;
        }
        let results = self.accumulators.iter_mut().map(|accumulator| accumulator.finish());
        Ok(self.results.encode(&results.collect::<Result<Vec<_>>>()?, 1)?.pop())
    }
}
