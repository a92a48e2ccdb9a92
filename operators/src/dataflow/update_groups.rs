//! Aggregates over rows that enter and leave: changes of the result once per epoch.
//!
//! The rows of a key are reduced in two levels: to the partial state of each bucket, and from there to the
//! result. differential-dataflow holds rows, states and results, and hands a bucket's rows over in the order
//! of their values, so that results do not depend on the order of arrival.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};

use super::arriving::{Arriving, enter};
use super::bytes::{Codec, give_changes};
use super::retain::Held;
use super::{BatchStream, QueryContext};
use crate::error::Result;
use crate::expression::{
    AggregateArguments, AggregateInput, AggregateProgram, GroupAccumulator, finish_all,
};
use crate::time::Watermarks;

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
    let rows = enter(stream, arriving, context.clone(), move |rows| encoder.encode(rows))?;
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
    program: Arc<dyn AggregateProgram>,
    accumulators: Vec<Box<dyn GroupAccumulator>>,
    arguments: Codec,
    layout: Vec<(usize, bool)>,
    states: Codec,
    /// How many columns the state of each accumulator has.
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
            program,
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
        let results = finish_all(&*self.program, &mut self.accumulators)?;
        Ok(self.results.encode(&results, 1)?.pop())
    }
}
