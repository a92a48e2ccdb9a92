//! Sessions against a slow oracle: each key's rows, sorted, and cut wherever the gap is reached.

use std::collections::BTreeMap;

use arrow::array::Array;
use proptest::prelude::*;

use super::*;
use crate::expression::AggregateProgram;
use crate::window::SessionFold;
use crate::window::fixture::{Row, SumByName, aggregate, batch};

type Sums = BTreeMap<(i64, i64, String), i64>;

fn oracle(gap: i64, rows: &[Row]) -> Sums {
    let mut by_name: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    for (time, name, value) in rows {
        by_name.entry(name.to_string()).or_default().push((*time, *value));
    }
    let mut sums = Sums::new();
    for (name, mut rows) in by_name {
        rows.sort_unstable();
        for session in rows.chunk_by(|a, b| b.0 - a.0 < gap) {
            let (first, last) = (session[0].0, session[session.len() - 1].0);
            let sum = session.iter().map(|row| row.1).sum();
            sums.insert((first, last + gap, name.clone()), sum);
        }
    }
    sums
}

fn collect(into: &mut Sums, batches: Vec<RecordBatch>) {
    for batch in batches {
        let [starts, ends] = [0, 1]
            .map(|i| batch.column(i).as_primitive::<arrow::datatypes::TimestampNanosecondType>());
        let names = batch.column(2).as_string::<i32>();
        let sums = batch.column(3).as_primitive::<Int64Type>();
        let rows = (0..batch.num_rows())
            .map(|row| (starts.value(row), ends.value(row), names.value(row).to_owned()));
        let rows: Vec<_> = rows.collect();
        let in_order =
            |a: &(i64, i64, String), b: &(i64, i64, String)| (a.1, a.0, &a.2) < (b.1, b.0, &b.2);
        assert!(rows.windows(2).all(|pair| in_order(&pair[0], &pair[1])), "{rows:?}");
        for (row, key) in rows.into_iter().enumerate() {
            assert!(into.insert(key, sums.value(row)).is_none(), "a session was given twice");
        }
    }
}

fn pieces(gap: i64, groups_max: usize, rows: &[Row]) -> (Option<RecordBatch>, u64) {
    let aggregate = WindowedAggregate { groups_max, ..aggregate() };
    let mut fold = SessionFold::new(SessionSpec::new(gap).unwrap(), aggregate).unwrap();
    let batch = batch(rows);
    fold.update(&batch, &SumByName.prepare(&batch).unwrap()).unwrap();
    (fold.take().unwrap(), fold.take_rows_refused())
}

proptest! {
    #[test]
    fn sessions_equal_cutting_each_keys_rows_at_the_gaps(
        gap in 1i64..12,
        rows in prop::collection::vec((-80i64..80, 0u8..4, -9i64..9), 0..90),
        disorder in 1i64..30,
        cut in 1usize..9,
        closes in prop::collection::vec(any::<bool>(), 90),
    ) {
        let spec = SessionSpec::new(gap).unwrap();
        let mut fold = SessionFold::new(spec, aggregate()).unwrap();
        let mut sessions = Sessions::new(spec, aggregate()).unwrap();
        let mut sums = Sums::new();
        let mut rows = rows;
        rows.sort_by_key(|row| row.0.div_euclid(disorder));
        for (part, close) in rows.chunks(cut).zip(&closes) {
            let batch = batch(part);
            fold.update(&batch, &SumByName.prepare(&batch).unwrap()).unwrap();
            if *close {
                if let Some(pieces) = fold.take().unwrap() {
                    sessions.merge(&pieces).unwrap();
                }
                // Rows come sorted by their time in strides: none below the present one follows.
                let watermark = part.last().unwrap().0.div_euclid(disorder) * disorder;
                collect(&mut sums, sessions.close(EventTime(watermark)).unwrap());
            }
        }
        if let Some(pieces) = fold.take().unwrap() {
            sessions.merge(&pieces).unwrap();
        }
        collect(&mut sums, sessions.close(EventTime::MAX).unwrap());
        prop_assert_eq!(sums, oracle(gap, &rows));
        prop_assert!(sessions.is_empty());
        prop_assert_eq!(sessions.cells.len(), 0);
    }
}

#[test]
fn a_row_exactly_at_the_end_begins_the_next_session() {
    let mut sessions = Sessions::new(SessionSpec::new(5).unwrap(), aggregate()).unwrap();
    let rows = [(0, 1, 1), (5, 1, 10), (9, 1, 100)];
    sessions.merge(&pieces(5, 9, &rows).0.unwrap()).unwrap();
    assert_eq!(sessions.len(), 2);
    let mut sums = Sums::new();
    collect(&mut sums, sessions.close(EventTime(4)).unwrap());
    assert!(sums.is_empty());
    collect(&mut sums, sessions.close(EventTime(5)).unwrap());
    assert_eq!(sums, [((0, 5, "1".to_owned()), 1)].into());
}

#[test]
fn a_row_that_bridges_two_sessions_makes_them_one() {
    let mut sessions = Sessions::new(SessionSpec::new(5).unwrap(), aggregate()).unwrap();
    for rows in [[(0, 1, 1), (8, 1, 10)], [(4, 2, 7), (4, 1, 100)]] {
        sessions.merge(&pieces(5, 9, &rows).0.unwrap()).unwrap();
    }
    assert_eq!(sessions.len(), 2);
    let mut sums = Sums::new();
    collect(&mut sums, sessions.close(EventTime::MAX).unwrap());
    let expected = [((0, 13, "1".to_owned()), 111), ((4, 9, "2".to_owned()), 7)];
    assert_eq!(sums, expected.into());
}

#[test]
fn sessions_beyond_the_bound_are_refused_and_their_rows_counted() {
    let bounded = WindowedAggregate { groups_max: 2, ..aggregate() };
    let mut sessions = Sessions::new(SessionSpec::new(5).unwrap(), bounded).unwrap();
    let rows = [(0, 1, 1), (1, 2, 1), (2, 3, 1), (3, 3, 1), (4, 1, 5)];
    sessions.merge(&pieces(5, 9, &rows).0.unwrap()).unwrap();
    assert_eq!(sessions.take_rows_refused(), 2);
    let mut sums = Sums::new();
    collect(&mut sums, sessions.close(EventTime(9)).unwrap());
    assert_eq!(sums.values().copied().collect::<Vec<_>>(), [6, 1]);
    // Closing gives the room back.
    sessions.merge(&pieces(5, 9, &[(20, 3, 1)]).0.unwrap()).unwrap();
    assert_eq!(sessions.take_rows_refused(), 0);
    // Pieces of one epoch are bounded as well.
    assert_eq!(pieces(5, 2, &rows).1, 2);
}

#[test]
fn a_long_session_keeps_few_states() {
    let mut sessions = Sessions::new(SessionSpec::new(5).unwrap(), aggregate()).unwrap();
    let mut most = 0;
    for time in 0..5_000 {
        sessions.merge(&pieces(5, 9, &[(time, 1, 1), (time, 2, time)]).0.unwrap()).unwrap();
        most = most.max(sessions.bytes());
    }
    // Kept apart, the pieces would take more than five thousand times the smallest array.
    assert!(most < 100_000, "{most} bytes");
    let mut sums = Sums::new();
    collect(&mut sums, sessions.close(EventTime::MAX).unwrap());
    assert_eq!(sums.values().copied().collect::<Vec<_>>(), [5_000, 5_000 * 4_999 / 2]);
}

#[test]
fn keys_without_a_session_are_forgotten() {
    let mut sessions = Sessions::new(SessionSpec::new(5).unwrap(), aggregate()).unwrap();
    let mut closed = 0;
    for round in 0..20i64 {
        let names = arrow::array::StringArray::from_iter_values(
            // One key stays through all rounds.
            (0..10_000).map(|i| if i == 0 { "one".to_owned() } else { format!("{round}/{i}") }),
        );
        let numbers =
            |value| std::sync::Arc::new(arrow::array::Int64Array::from_value(value, 10_000));
        let columns: Vec<arrow::array::ArrayRef> = vec![
            numbers(round * 4),
            numbers(round * 4),
            numbers(1),
            std::sync::Arc::new(names),
            numbers(1),
        ];
        let schema = aggregate().partial_schema(&PIECE_COLUMNS);
        sessions.merge(&RecordBatch::try_new(schema, columns).unwrap()).unwrap();
        for rows in sessions.close(EventTime(round * 4 + 2)).unwrap() {
            assert_eq!(rows.column(2).null_count(), 0);
            closed += rows.num_rows();
        }
    }
    // Four times those with an open session, of 200,000.
    assert!(sessions.keys.len() <= 4 * 10_000, "{}", sessions.keys.len());
    let mut sums = Sums::new();
    collect(&mut sums, sessions.close(EventTime::MAX).unwrap());
    assert_eq!(closed + sums.len(), 20 * 9_999 + 1);
    assert_eq!(sums[&(0, 19 * 4 + 5, "one".to_owned())], 20);
}
