//! Panes against a slow oracle: every row is added to every window that holds it, in plain Rust.

use std::collections::BTreeMap;

use arrow::array::{StringArray, TimestampNanosecondArray};
use proptest::prelude::*;

use super::*;
use crate::window::fixture::{Row, SumByName, aggregate, batch};

type Sums = BTreeMap<(i64, i64, String), i64>;

fn collect(into: &mut Sums, batches: Vec<RecordBatch>) {
    for batch in batches {
        let [starts, ends] = [0, 1]
            .map(|i| batch.column(i).as_primitive::<arrow::datatypes::TimestampNanosecondType>());
        let names = batch.column(2).as_string::<i32>();
        let sums = batch.column(3).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let key = (starts.value(row), ends.value(row), names.value(row).to_owned());
            assert!(into.insert(key, sums.value(row)).is_none(), "a window was given twice");
        }
    }
}

fn oracle(window: WindowSpec, rows: &[Row]) -> Sums {
    let mut sums = Sums::new();
    for (time, name, value) in rows {
        for start in window.starts(EventTime(*time)) {
            for end in window.ends(start, EventTime(*time)) {
                *sums.entry((start, end, name.to_string())).or_default() += value;
            }
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
        size in prop_oneof![1i64..30, 30i64..90],
        steps in prop::option::of(1i64..5),
        offset in -40i64..40,
        rows in prop::collection::vec((-60i64..60, 0u8..4, -9i64..9), 0..60),
        cut in 1usize..9,
        closes in prop::collection::vec(any::<bool>(), 60),
        through_partials in any::<bool>(),
    ) {
        let window = match steps {
            Some(steps) => WindowSpec::cumulate(slide, slide * steps, offset),
            None => WindowSpec::hop(slide, size, offset),
        };
        let window = window.unwrap();
        let mut panes = Panes::new(window, aggregate()).unwrap();
        let mut partial = Panes::new(window, aggregate()).unwrap();
        let partial_schema = aggregate().partial_schema(&PANE_COLUMNS);
        let mut sums = Sums::new();
        let mut rows = rows;
        rows.sort_by_key(|r| r.0 / 5);
        for (part, close) in rows.chunks(cut).zip(&closes) {
            if through_partials {
                update(&mut partial, part);
                for part in partial.take_partials(EventTime::MAX, &partial_schema).unwrap() {
                    panes.merge(&part.states).unwrap();
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
    let bounded = WindowedAggregate { groups_max: 2, ..aggregate() };
    let mut panes = Panes::new(WindowSpec::tumble(10, 0).unwrap(), bounded).unwrap();
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
    let bounded = WindowedAggregate { panes_max: 2, ..aggregate() };
    let mut panes = Panes::new(WindowSpec::tumble(10, 0).unwrap(), bounded).unwrap();
    update(&mut panes, &[(1, 1, 1), (11, 1, 1), (21, 1, 1), (12, 1, 1)]);
    assert_eq!(panes.take_rows_refused(), 1);
}

/// A tumble of 10 ns sees so many keys in its pane of that number, all of them new, and answers it.
fn see_keys(panes: &mut Panes, number: i64, keys: usize) {
    let times = TimestampNanosecondArray::from_value(number * 10, keys);
    let names = (0..keys).map(|i| format!("{number}/{i}"));
    let batch = RecordBatch::try_from_iter([
        ("ts", Arc::new(times) as ArrayRef),
        ("name", Arc::new(StringArray::from_iter_values(names))),
        ("value", Arc::new(Int64Array::from_value(1, keys))),
    ])
    .unwrap();
    panes.update(&batch, &SumByName.prepare(&batch).unwrap()).unwrap();
    let closed = panes.close(EventTime(number * 10 + 10)).unwrap();
    assert_eq!(closed[0].num_rows(), keys);
}

#[test]
fn keys_that_no_pane_holds_are_forgotten() {
    let mut panes = Panes::new(WindowSpec::tumble(10, 0).unwrap(), aggregate()).unwrap();
    for number in 0..20 {
        see_keys(&mut panes, number, 10_000);
        assert!(panes.keys.len() <= 10_000, "{} of 200,000", panes.keys.len());
    }
}

#[test]
fn keys_of_groups_that_are_to_come_are_kept() {
    let mut panes = Panes::new(WindowSpec::tumble(10, 0).unwrap(), aggregate()).unwrap();
    panes.expect(8_000);
    see_keys(&mut panes, 0, 8_000);
    assert_eq!((panes.groups(), panes.keys.len()), (0, 8_000));
    panes.expect(0);
    see_keys(&mut panes, 1, 1);
    assert_eq!(panes.keys.len(), 0);
}

proptest! {
    #[test]
    fn rows_are_sorted_by_the_pane_that_holds_them(
        pane in 1_i64..5_000_000_000,
        offset in 0_i64..1_000,
        from in -4_000_000_000_000_000_000_i64..4_000_000_000_000_000_000,
        // Near the edges of panes, where a product of floats is wrong, and far off.
        places in prop::collection::vec((0_i64..300, -2_i64..=2), 1..40),
    ) {
        let window = WindowSpec::tumble(pane, offset).unwrap();
        let first = window.pane_start(EventTime(from));
        let times: Vec<i64> = places.iter().map(|(place, by)| first + place * pane + by).collect();
        let mut expected: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, &time) in times.iter().enumerate() {
            expected.entry(window.pane_start(EventTime(time))).or_default().push(row as u32);
        }
        let found = by_pane(window, &times);
        prop_assert_eq!(found.len(), expected.len());
        for ((start, rows), (pane, expected)) in found.iter().zip(&expected) {
            prop_assert_eq!(start, pane);
            match rows {
                Some(rows) => prop_assert_eq!(rows.values().to_vec(), expected.clone()),
                None => prop_assert_eq!(times.len(), expected.len()),
            }
        }
    }
}
