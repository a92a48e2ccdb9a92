//! What windows of every kind compute, and the moves over rows and partial states that they share.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::TimeType;
use crate::error::Result;
use crate::expression::{AggregateArguments, AggregateProgram, GroupAccumulator};

/// One accumulator per aggregate.
pub(super) type Accumulators = Vec<Box<dyn GroupAccumulator>>;

/// What a windowed aggregation is made of, but for its windows.
#[derive(Clone, Debug)]
pub struct WindowedAggregate {
    /// Index of the event-time column in the input.
    pub time_index: usize,
    /// Its type, which is also the type of the window bounds.
    pub time: TimeType,
    /// Keys and aggregates.
    pub program: Arc<dyn AggregateProgram>,
    /// Columns of the result: `window_start`, `window_end`, keys, aggregates.
    pub schema: SchemaRef,
    /// Most groups that are held at once: key and open pane, open session, or open pane of so many rows.
    pub groups_max: usize,
    /// Most panes that are open at once, of windows that all keys share.
    pub panes_max: usize,
}

impl WindowedAggregate {
    /// Columns of a partial state: numbers that say which one it is, keys, then the states of the aggregates.
    #[must_use]
    pub(crate) fn partial_schema(&self, numbers: &[&str]) -> SchemaRef {
        let number = |name: &&str| Arc::new(Field::new(*name, DataType::Int64, false));
        let mut fields: Vec<_> = numbers.iter().map(number).collect();
        fields.extend(self.program.key_fields().iter().cloned());
        fields.extend(self.program.state_fields().iter().flat_map(|f| f.iter().cloned()));
        // Names may repeat among states and keys: partial batches are read by position only.
        Arc::new(Schema::new(fields))
    }

    /// The columns behind the numbers of a partial state: keys, and the states of each aggregate.
    pub(super) fn keys_and_states<'a>(
        &self,
        columns: &'a [ArrayRef],
    ) -> (&'a [ArrayRef], Vec<Vec<ArrayRef>>) {
        let (keys, mut states) = columns.split_at(self.program.key_fields().len());
        let mut by_aggregate = Vec::new();
        for fields in self.program.state_fields() {
            let (own, rest) = states.split_at(fields.len());
            by_aggregate.push(own.to_vec());
            states = rest;
        }
        (keys, by_aggregate)
    }

    /// Rows of the result: starts and ends in nanoseconds, keys, and what the aggregates came to.
    pub(super) fn result(
        &self,
        (starts, ends): (impl Iterator<Item = i64>, impl Iterator<Item = i64>),
        keys: Vec<ArrayRef>,
        results: Vec<ArrayRef>,
    ) -> Result<RecordBatch> {
        let mut columns = vec![self.time.write(starts), self.time.write(ends)];
        columns.extend(keys);
        columns.extend(results);
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// Takes the entries that equal `gap` out of `groups`, and tells which places the others had.
pub(super) fn take_places(groups: &mut Vec<usize>, gap: usize) -> UInt32Array {
    let places = (0u32..).zip(&*groups).filter(|(_, group)| **group != gap).map(|(row, _)| row);
    let places = places.collect::<Vec<u32>>();
    groups.retain(|&group| group != gap);
    UInt32Array::from(places)
}

pub(super) fn take_arrays(arrays: &[ArrayRef], rows: &UInt32Array) -> Result<Vec<ArrayRef>> {
    Ok(arrays.iter().map(|array| take(array, rows, None)).collect::<Result<_, _>>()?)
}

pub(super) fn take_arguments(
    arguments: &AggregateArguments,
    rows: &UInt32Array,
) -> Result<AggregateArguments> {
    let filter = match &arguments.filter {
        Some(filter) => Some(take(filter, rows, None)?.as_boolean().clone()),
        None => None,
    };
    Ok(AggregateArguments { values: take_arrays(&arguments.values, rows)?, filter })
}

/// The arguments of some rows in a row, which are not copied.
pub(super) fn slice_arguments(
    arguments: &AggregateArguments,
    start: usize,
    rows: usize,
) -> AggregateArguments {
    AggregateArguments {
        values: arguments.values.iter().map(|values| values.slice(start, rows)).collect(),
        filter: arguments.filter.as_ref().map(|filter| filter.slice(start, rows)),
    }
}
