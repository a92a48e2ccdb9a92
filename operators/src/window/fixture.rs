//! A sum by name, for tests of windows.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Int64Array, Int64Builder, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, TimeUnit};

use super::{TimeType, WindowedAggregate};
use crate::error::Result;
use crate::expression::{AggregateArguments, AggregateInput, AggregateProgram, GroupAccumulator};

/// Sums the second column by the first.
#[derive(Debug)]
pub(crate) struct SumByName;

impl AggregateProgram for SumByName {
    fn key_fields(&self) -> Fields {
        vec![Field::new("name", DataType::Utf8, true)].into()
    }

    fn output_fields(&self) -> Fields {
        vec![Field::new("sum", DataType::Int64, true)].into()
    }

    fn state_fields(&self) -> Vec<Fields> {
        vec![self.output_fields()]
    }

    fn prepare(&self, batch: &RecordBatch) -> Result<AggregateInput> {
        Ok(AggregateInput {
            keys: vec![batch.column(1).clone()],
            arguments: vec![AggregateArguments {
                values: vec![batch.column(2).clone()],
                filter: None,
            }],
        })
    }

    fn accumulators(&self) -> Result<Vec<Box<dyn GroupAccumulator>>> {
        Ok(vec![Box::new(Sum(Vec::new()))])
    }
}

struct Sum(Vec<i64>);

impl GroupAccumulator for Sum {
    fn update(
        &mut self,
        arguments: &AggregateArguments,
        groups: &[usize],
        group_count: usize,
    ) -> Result<()> {
        self.merge(&arguments.values, groups, group_count)
    }

    fn merge(&mut self, state: &[ArrayRef], groups: &[usize], group_count: usize) -> Result<()> {
        let is_there = |group: usize| group < self.0.len() || groups.contains(&group);
        assert!((0..group_count).all(is_there), "a group was announced before its first row");
        self.0.resize(group_count, 0);
        for (value, group) in state[0].as_primitive::<Int64Type>().values().iter().zip(groups) {
            self.0[*group] += value;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>> {
        self.finish()
    }

    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        let mut builder = Int64Builder::new();
        builder.append_slice(&std::mem::take(&mut self.0));
        Ok(vec![Arc::new(builder.finish())])
    }

    fn bytes(&self) -> usize {
        self.0.capacity() * 8
    }
}

pub(super) fn aggregate() -> WindowedAggregate {
    let time = TimeType::new(&DataType::Timestamp(TimeUnit::Nanosecond, None)).unwrap();
    let bound = |name| Field::new(name, time.data_type(), false);
    let schema = Arc::new(Schema::new(vec![
        bound("window_start"),
        bound("window_end"),
        Field::new("name", DataType::Utf8, true),
        Field::new("sum", DataType::Int64, true),
    ]));
    let program = Arc::new(SumByName);
    WindowedAggregate {
        time_index: 0,
        time,
        program,
        schema,
        groups_max: usize::MAX,
        panes_max: usize::MAX,
    }
}

/// Time, name and value.
pub(crate) type Row = (i64, u8, i64);

pub(crate) fn batch(rows: &[Row]) -> RecordBatch {
    let times = TimestampNanosecondArray::from_iter_values(rows.iter().map(|r| r.0));
    let names = StringArray::from_iter_values(rows.iter().map(|r| r.1.to_string()));
    let values = Int64Array::from_iter_values(rows.iter().map(|r| r.2));
    RecordBatch::try_from_iter([
        ("ts", Arc::new(times) as ArrayRef),
        ("name", Arc::new(names)),
        ("value", Arc::new(values)),
    ])
    .unwrap()
}
