//! Joins of rows that come and go, against a loop over both sides.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use proptest::prelude::*;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::vec::Map;

use super::*;
use crate::batch::Batch;
use crate::changes::changes_schema;
use crate::time::EventTime;
use crate::window::TimeType;
use timely::container::CapacityContainerBuilder;

/// Time, key and value.
type Row = (i64, Option<u8>, i64);

const RETAIN: i64 = 6;

fn batch(rows: &[Row]) -> RecordBatch {
    let times = TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| row.0));
    let keys: StringArray = rows.iter().map(|row| row.1.map(|key| key.to_string())).collect();
    let values = Int64Array::from_iter_values(rows.iter().map(|row| row.2));
    RecordBatch::try_from_iter_with_nullable([
        ("ts", Arc::new(times) as ArrayRef, true),
        ("key", Arc::new(keys), true),
        ("value", Arc::new(values), true),
    ])
    .unwrap()
}

/// A row of one side as text; of a missing side, nothing.
fn text(batch: &RecordBatch, first: usize, row: usize) -> Option<Row> {
    let times = batch.column(first).as_primitive::<TimestampNanosecondType>();
    let keys = batch.column(first + 1).as_string::<i32>();
    let values = batch.column(first + 2).as_primitive::<Int64Type>();
    let key = keys.is_valid(row).then(|| keys.value(row).parse().unwrap());
    times.is_valid(row).then(|| (times.value(row), key, values.value(row)))
}

type Pairs = BTreeMap<(Option<Row>, Option<Row>), i64>;

fn expected(kind: JoinKind, left: &[Row], right: &[Row]) -> Pairs {
    let mut pairs = Pairs::new();
    let mut add = |pair| *pairs.entry(pair).or_default() += 1;
    let meets = |a: &Row, b: &Row| a.1.is_some() && a.1 == b.1;
    for a in left {
        for b in right.iter().filter(|b| meets(a, b)) {
            add((Some(*a), Some(*b)));
        }
    }
    if matches!(kind, JoinKind::Left | JoinKind::Full) {
        let lone = left.iter().filter(|a| !right.iter().any(|b| meets(a, b)));
        lone.for_each(|a| add((Some(*a), None)));
    }
    if matches!(kind, JoinKind::Right | JoinKind::Full) {
        let lone = right.iter().filter(|b| !left.iter().any(|a| meets(a, b)));
        lone.for_each(|b| add((None, Some(*b))));
    }
    pairs
}

/// Runs epochs of rows for both sides, with the watermark after each, and sums the changes up. A row that no longer holds
/// must have held.
fn run(kind: JoinKind, epochs: Vec<(Vec<Row>, Vec<Row>, i64)>) -> Pairs {
    timely::execute_directly(move |worker| {
        let found = Rc::new(RefCell::new(Pairs::new()));
        let seen = Rc::clone(&found);
        let watermarks = Watermarks::default();
        let handle = InputHandle::<Epoch, CapacityContainerBuilder<Vec<Batch>>>::new_with_builder;
        let (mut left, mut right) = (handle(), handle());
        worker.dataflow::<Epoch, _, _>(|scope| {
            let schema = batch(&[]).schema();
            let side = || JoinSide {
                schema: schema.clone(),
                keys: vec![1],
                retention: Retention {
                    time_index: 0,
                    time: TimeType::new(schema.field(0).data_type()).unwrap(),
                    retain_ns: RETAIN,
                    every_ns: None,
                    lag_ns: 0,
                    rows_max: 1000,
                    watermarks: watermarks.clone(),
                },
            };
            let fields = schema.fields().iter().chain(schema.fields()).cloned();
            let both = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
            let stage = UpdatingJoinStage {
                left: side(),
                right: side(),
                kind,
                schema: changes_schema(&both),
                watermarks: watermarks.clone(),
                context: QueryContext::default(),
            };
            let (left, right) = (left.to_stream(scope), right.to_stream(scope));
            updating_join(left, right, stage).unwrap().map(move |batch| {
                let diffs = crate::changes::diffs(&batch.rows);
                for row in 0..batch.rows.num_rows() {
                    let pair = (text(&batch.rows, 0, row), text(&batch.rows, 3, row));
                    let mut seen = seen.borrow_mut();
                    let held = seen.entry(pair).or_default();
                    *held += diffs.value(row);
                    assert!(*held >= 0, "{pair:?} goes and was not there");
                    if *held == 0 {
                        seen.remove(&pair);
                    }
                }
            });
        });
        let mut epoch = 0;
        for (a, b, watermark) in epochs {
            for (input, rows) in [(&mut left, a), (&mut right, b)] {
                if !rows.is_empty() {
                    let rows = batch(&rows);
                    input.send_batch(&mut vec![Batch::from(rows)]);
                }
            }
            watermarks.record(epoch, EventTime(watermark));
            watermarks.record_end(EventTime(watermark));
            epoch += 1;
            left.advance_to(epoch);
            right.advance_to(epoch);
            worker.step();
        }
        left.close();
        right.close();
        while worker.step() {}
        found.take()
    })
}

fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec((0i64..5, prop::option::weighted(0.8, 0u8..3), 0i64..2), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn changes_sum_up_to_the_join_of_the_rows_that_are_left(
        kind in prop::sample::select(vec![JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full]),
        epochs in prop::collection::vec((any_rows(), any_rows(), 0i64..4), 1..8),
    ) {
        let mut watermark = 0;
        let mut all = (Vec::new(), Vec::new());
        let mut fed = Vec::new();
        for (left, right, step) in epochs {
            let later = |rows: Vec<Row>| -> Vec<Row> {
                rows.into_iter().map(|row| (watermark + row.0, row.1, row.2)).collect()
            };
            let (left, right) = (later(left), later(right));
            watermark += step;
            all.0.extend(left.clone());
            all.1.extend(right.clone());
            fed.push((left, right, watermark));
        }
        let stays = |row: &Row| row.0 + RETAIN > watermark;
        all.0.retain(stays);
        all.1.retain(stays);
        prop_assert_eq!(run(kind, fed), expected(kind, &all.0, &all.1));
    }
}
