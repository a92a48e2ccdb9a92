//! Windows of so many rows against a slow oracle: each key's rows in a list, and slices of it.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use proptest::prelude::*;

use super::*;
use crate::expression::AggregateProgram;
use crate::window::fixture::{Row, SumByName, aggregate, batch};

/// End, start, name and sum, in the order in which windows must come.
type Found = Vec<(i64, i64, String, i64)>;

fn oracle(rows: usize, every: usize, input: &[Row]) -> Found {
    let mut by_name: BTreeMap<u8, Vec<&Row>> = BTreeMap::new();
    let mut found = Found::new();
    for row in input {
        let own = by_name.entry(row.1).or_default();
        own.push(row);
        if own.len() >= rows && (own.len() - rows).is_multiple_of(every) {
            let window = &own[own.len() - rows..];
            let sum = window.iter().map(|row| row.2).sum();
            found.push((row.0, window[0].0, row.1.to_string(), sum));
        }
    }
    found
}

fn collect(into: &mut Found, batches: Vec<RecordBatch>) {
    for batch in batches {
        let bound = |i: usize| batch.column(i).as_primitive::<TimestampNanosecondType>();
        let (starts, ends) = (bound(0), bound(1));
        let names = batch.column(2).as_string::<i32>();
        let sums = batch.column(3).as_primitive::<Int64Type>();
        into.extend((0..batch.num_rows()).map(|row| {
            (ends.value(row), starts.value(row), names.value(row).to_owned(), sums.value(row))
        }));
    }
}

fn update(windows: &mut CountedWindows, rows: &[Row]) -> Vec<RecordBatch> {
    let batch = batch(rows);
    windows.update(&batch, &SumByName.prepare(&batch).unwrap()).unwrap()
}

fn counted(rows: u64, every: u64, groups_max: usize) -> CountedWindows {
    let aggregate = WindowedAggregate { groups_max, ..aggregate() };
    CountedWindows::new(CountSpec::new(rows, every).unwrap(), aggregate).unwrap()
}

proptest! {
    #[test]
    fn windows_equal_slices_of_each_keys_rows(
        rows in 1usize..9,
        every in 1usize..12,
        input in prop::collection::vec((-80i64..80, 0u8..4, -9i64..9), 0..120),
        cut in 1usize..30,
    ) {
        let mut input = input;
        input.sort_by_key(|row| row.0);
        let mut windows = counted(rows as u64, every as u64, usize::MAX);
        let mut found = Found::new();
        for part in input.chunks(cut) {
            collect(&mut found, update(&mut windows, part));
        }
        prop_assert_eq!(found, oracle(rows, every, &input));
        let open = 4 * (rows / windows.pane_rows as usize);
        prop_assert!(windows.panes() <= open, "{} panes", windows.panes());
    }
}

#[test]
fn many_overlapping_windows_come_in_several_batches() {
    let input: Vec<Row> = (0..3_000).map(|time| (time, 1, 1)).collect();
    let mut windows = counted(1_000, 1, usize::MAX);
    let batches = update(&mut windows, &input);
    assert!(batches.len() > 1);
    let mut found = Found::new();
    collect(&mut found, batches);
    assert_eq!(found, oracle(1_000, 1, &input));
}

#[test]
fn rows_beyond_the_bound_are_refused_and_counted() {
    let mut windows = counted(2, 2, 2);
    let rows = [(1, 1, 1), (2, 2, 10), (3, 3, 100), (4, 1, 2), (5, 1, 3), (6, 2, 20)];
    let mut found = Found::new();
    collect(&mut found, update(&mut windows, &rows));
    // Only the third key finds no room: a window that is given makes some.
    assert_eq!(windows.take_rows_refused(), 1);
    let name = |n: u8| n.to_string();
    assert_eq!(found, [(4, 1, name(1), 3), (6, 2, name(2), 30)]);
}

#[test]
fn keys_that_are_between_windows_are_forgotten() {
    let mut windows = counted(2, 2, usize::MAX);
    for round in 0..20i64 {
        let keys =
            (0..10_000).map(|i| if i == 0 { "odd".to_owned() } else { format!("{round}/{i}") });
        let names: Vec<String> = keys.collect();
        for half in 0..2 {
            // "odd" comes once a round, all others twice.
            let names: Vec<&String> = names.iter().skip(half).collect();
            let count = names.len();
            let rows = RecordBatch::try_from_iter([
                (
                    "ts",
                    std::sync::Arc::new(arrow::array::TimestampNanosecondArray::from_value(
                        round, count,
                    )) as arrow::array::ArrayRef,
                ),
                ("name", std::sync::Arc::new(arrow::array::StringArray::from_iter_values(names))),
                ("value", std::sync::Arc::new(arrow::array::Int64Array::from_value(1, count))),
            ])
            .unwrap();
            windows.update(&rows, &SumByName.prepare(&rows).unwrap()).unwrap();
        }
    }
    // Those of the latest round, and of the one before it, of 200,000.
    assert!(windows.keys.len() <= 2 * 10_000, "{}", windows.keys.len());
    assert_eq!(windows.keys.len(), windows.counters.len());
    // Twenty rows of "odd" are ten windows: the next row begins one, the row after it ends it.
    let mut found = Found::new();
    let rows = RecordBatch::try_from_iter([
        (
            "ts",
            std::sync::Arc::new(arrow::array::TimestampNanosecondArray::from(vec![30, 31]))
                as arrow::array::ArrayRef,
        ),
        ("name", std::sync::Arc::new(arrow::array::StringArray::from(vec!["odd", "odd"]))),
        ("value", std::sync::Arc::new(arrow::array::Int64Array::from(vec![1, 2]))),
    ])
    .unwrap();
    let closed = windows.update(&rows, &SumByName.prepare(&rows).unwrap()).unwrap();
    collect(&mut found, closed);
    assert_eq!(found, [(31, 30, "odd".to_owned(), 3)]);
}
