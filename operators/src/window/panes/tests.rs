//! Panes against a slow oracle: every row is added to every window that holds it, in plain Rust.

use std::collections::BTreeMap;

use arrow::array::{Int64Builder, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{Fields, TimeUnit};
use proptest::prelude::*;

use super::*;

/// Sums the second column by the first.
#[derive(Debug)]
struct SumByName;

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
        self.0.resize(group_count, 0);
        for (value, group) in state[0].as_primitive::<Int64Type>().values().iter().zip(groups) {
            self.0[*group] += value;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.finish()?])
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        let mut builder = Int64Builder::new();
        builder.append_slice(&std::mem::take(&mut self.0));
        Ok(Arc::new(builder.finish()))
    }

    fn bytes(&self) -> usize {
        self.0.capacity() * 8
    }
}

fn aggregate(window: WindowSpec) -> WindowedAggregate {
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
        window,
        time_index: 0,
        time,
        program,
        schema,
        groups_max: usize::MAX,
        panes_max: usize::MAX,
    }
}

type Row = (i64, u8, i64);

fn batch(rows: &[Row]) -> RecordBatch {
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

type Sums = BTreeMap<(i64, String), i64>;

fn collect(into: &mut Sums, batches: Vec<RecordBatch>) {
    for batch in batches {
        let starts = batch.column(0).as_primitive::<arrow::datatypes::TimestampNanosecondType>();
        let names = batch.column(2).as_string::<i32>();
        let sums = batch.column(3).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let key = (starts.value(row), names.value(row).to_owned());
            assert!(into.insert(key, sums.value(row)).is_none(), "a window was given twice");
        }
    }
}

fn oracle(window: WindowSpec, rows: &[Row]) -> Sums {
    let mut sums = Sums::new();
    for (time, name, value) in rows {
        for start in window.starts(EventTime(*time)) {
            *sums.entry((start, name.to_string())).or_default() += value;
        }
    }
    sums
}

fn update(panes: &mut Panes, rows: &[Row]) {
    let batch = batch(rows);
    let input = SumByName.prepare(&batch).unwrap();
    panes.update(&batch, &input).unwrap();
}

proptest! {
    #[test]
    fn panes_equal_adding_each_row_to_each_of_its_windows(
        slide in 1i64..12,
        size in 1i64..30,
        offset in -40i64..40,
        rows in prop::collection::vec((-60i64..60, 0u8..4, -9i64..9), 0..60),
        cut in 1usize..9,
        closes in prop::collection::vec(any::<bool>(), 60),
        through_partials in any::<bool>(),
    ) {
        let window = WindowSpec::hop(slide, size, offset).unwrap();
        let mut panes = Panes::new(aggregate(window)).unwrap();
        let mut partial = Panes::new(aggregate(window)).unwrap();
        let partial_schema = aggregate(window).partial_schema();
        let mut sums = Sums::new();
        let mut rows = rows;
        rows.sort_by_key(|r| r.0 / 5);
        for (part, close) in rows.chunks(cut).zip(&closes) {
            if through_partials {
                update(&mut partial, part);
                for batch in partial.take_partials(&partial_schema).unwrap() {
                    panes.merge(&batch).unwrap();
                }
            } else {
                update(&mut panes, part);
            }
            if *close {
                // Rows come sorted by their time in fives: none below the current five follows.
                let watermark = (part.last().unwrap().0 / 5) * 5 - 5;
                collect(&mut sums, panes.close(EventTime(watermark)).unwrap());
            }
        }
        collect(&mut sums, panes.close(EventTime::MAX).unwrap());
        prop_assert_eq!(sums, oracle(window, &rows));
        prop_assert_eq!(panes.groups(), 0);
    }
}

#[test]
fn groups_beyond_the_bound_are_refused_and_counted() {
    let mut bounded = aggregate(WindowSpec::tumble(10, 0).unwrap());
    bounded.groups_max = 2;
    let mut panes = Panes::new(bounded).unwrap();
    update(&mut panes, &[(1, 1, 1), (1, 2, 1), (1, 3, 1), (1, 1, 5)]);
    assert_eq!(panes.take_rows_refused(), 1);
    let mut sums = Sums::new();
    collect(&mut sums, panes.close(EventTime(10)).unwrap());
    assert_eq!(sums.values().copied().collect::<Vec<_>>(), [6, 1]);
    // Closing gives the room back.
    update(&mut panes, &[(11, 3, 1)]);
    assert_eq!(panes.take_rows_refused(), 0);
}

#[test]
fn panes_beyond_the_bound_are_refused_and_counted() {
    let mut bounded = aggregate(WindowSpec::tumble(10, 0).unwrap());
    bounded.panes_max = 2;
    let mut panes = Panes::new(bounded).unwrap();
    update(&mut panes, &[(1, 1, 1), (11, 1, 1), (21, 1, 1), (12, 1, 1)]);
    assert_eq!(panes.take_rows_refused(), 1);
}

#[test]
fn keys_that_no_pane_holds_are_forgotten() {
    let mut panes = Panes::new(aggregate(WindowSpec::tumble(10, 0).unwrap())).unwrap();
    for round in 0..20i64 {
        let times = TimestampNanosecondArray::from_value(round * 10, 10_000);
        let names = (0..10_000).map(|i| format!("{round}/{i}"));
        let batch = RecordBatch::try_from_iter([
            ("ts", Arc::new(times) as ArrayRef),
            ("name", Arc::new(StringArray::from_iter_values(names))),
            ("value", Arc::new(Int64Array::from_value(1, 10_000))),
        ])
        .unwrap();
        panes.update(&batch, &SumByName.prepare(&batch).unwrap()).unwrap();
        let closed = panes.close(EventTime(round * 10 + 10)).unwrap();
        assert_eq!(closed[0].num_rows(), 10_000);
    }
    assert!(panes.keys.len() <= KEYS_BEFORE_RENUMBERING + 10_000, "{}", panes.keys.len());
}
