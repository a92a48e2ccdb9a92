//! Frames against a plain loop over all rows, however the rows are cut into batches.

use arrow::array::{AsArray, Int64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, UInt64Type};
use proptest::prelude::*;

use super::*;
use crate::key::{KeyShare, KeySplitter};
use crate::keyed::KeyedStatePolicy;
use crate::over::{FrameAggregates, FrameUnits};
use crate::state::{SavedState, StateReader, StateWriter, Stateful};
use crate::window::fixture::{Row, SumByName, batch};

fn frame(units: FrameUnits, start: Option<i64>, end: i64) -> Frame {
    Frame { units, start, end }
}

fn rows_frame(start: Option<i64>, end: i64) -> Frame {
    frame(FrameUnits::Rows, start, end)
}

/// A sum over each frame, then the other calls.
fn over(frames: &[Frame], others: Vec<Call>) -> Over {
    let input = batch(&[]).schema();
    let group = |frame: &Frame| FrameAggregates {
        frame: *frame,
        combines: true,
        arguments: vec![0, 1, 2],
        schema: input.clone(),
        program: Arc::new(SumByName),
    };
    let sums = (0..frames.len()).map(|group| Call::Aggregate { group, index: 0 });
    let calls: Vec<Call> = sums.chain(others).collect();
    let mut fields = input.fields().to_vec();
    for (index, call) in calls.iter().enumerate() {
        let kind = if matches!(call, Call::Rank(_)) { DataType::UInt64 } else { DataType::Int64 };
        fields.push(Arc::new(Field::new(format!("c{index}"), kind, true)));
    }
    Over {
        partition: vec![1],
        time_index: 0,
        ties: Vec::new(),
        aggregates: frames.iter().map(group).collect(),
        calls,
        schema: Arc::new(Schema::new(fields)),
    }
}

fn value(row: OtherRow) -> Call {
    Call::Value { column: 2, row, missing: Arc::new(Int64Array::from(vec![-1])) }
}

fn limits(keys_max: usize, policy: KeyedStatePolicy, rows_max: usize) -> Limits {
    Limits { keys: KeyLimit { keys_max, policy }, rows_max }
}

const WIDE: Limits = Limits {
    keys: KeyLimit { keys_max: 1_000, policy: KeyedStatePolicy::Refuse },
    rows_max: 1_000_000,
};

fn frames(over: Over, limits: Limits) -> Frames {
    let time = TimeType::new(&DataType::Timestamp(TimeUnit::Nanosecond, None)).unwrap();
    Frames::new(over, &batch(&[]).schema(), time, limits).unwrap()
}

/// Feeds rows in order, cut where a time is above the last of `cuts` by then; all that comes out.
fn feed(frames: &mut Frames, rows: &[Row], cuts: &[i64]) -> RecordBatch {
    let mut out = vec![RecordBatch::new_empty(frames.over.schema.clone())];
    let mut rest = rows;
    for &cut in cuts.iter().chain([&i64::MAX]) {
        let until = rest.partition_point(|row| row.0 < cut);
        let (now, later) = rest.split_at(until);
        rest = later;
        let now = (!now.is_empty()).then(|| batch(now));
        out.extend(frames.update(now, EventTime(cut)).unwrap());
    }
    concat_batches(&frames.over.schema, &out).unwrap()
}

fn numbers(rows: &RecordBatch, column: usize) -> Vec<i64> {
    let column = rows.column(column);
    match column.data_type() {
        DataType::UInt64 => {
            column.as_primitive::<UInt64Type>().iter().map(|n| n.unwrap() as i64).collect()
        }
        DataType::Timestamp(..) => {
            column.as_primitive::<arrow::datatypes::TimestampNanosecondType>().values().to_vec()
        }
        _ => column.as_primitive::<Int64Type>().values().to_vec(),
    }
}

/// The rows of `all` that a frame around row `at` holds.
fn held<'a>(all: &[&'a Row], frame: &Frame, at: usize) -> Vec<&'a Row> {
    let is_in = |(index, row): &(usize, &&Row)| {
        let distance = match frame.units {
            FrameUnits::Rows => *index as i64 - at as i64,
            FrameUnits::Range => row.0 - all[at].0,
        };
        frame.start.is_none_or(|start| start <= distance) && distance <= frame.end
    };
    all.iter().enumerate().filter(is_in).map(|(_, row)| *row).collect()
}

/// What comes out, by time, name and value, which are one row's alone.
fn expected(rows: &[Row], over: &Over) -> Vec<Vec<i64>> {
    let mut out = Vec::new();
    for row in rows {
        let all: Vec<&Row> = rows.iter().filter(|other| other.1 == row.1).collect();
        let at = all.iter().position(|other| other == &row).unwrap();
        let mut cells = vec![row.0, row.2];
        for call in &over.calls {
            cells.push(match call {
                Call::Aggregate { group, .. } => {
                    held(&all, &over.aggregates[*group].frame, at).iter().map(|row| row.2).sum()
                }
                Call::Value { row: OtherRow::Shift(shift), .. } => {
                    let other = at.checked_add_signed(*shift as isize);
                    other.and_then(|other| all.get(other)).map_or(-1, |row| row.2)
                }
                Call::Value { row: OtherRow::Nth(frame, n), .. } => {
                    let held = held(&all, frame, at);
                    let index = if *n > 0 { *n - 1 } else { held.len() as i64 + n };
                    usize::try_from(index).ok().and_then(|i| held.get(i)).map_or(-1, |row| row.2)
                }
                Call::Rank(Rank::RowNumber) => at as i64 + 1,
                Call::Rank(Rank::Rank) => {
                    1 + all.iter().filter(|other| other.0 < row.0).count() as i64
                }
                Call::Rank(Rank::DenseRank) => {
                    let mut times: Vec<i64> = all.iter().map(|row| row.0).collect();
                    times.retain(|time| *time <= row.0);
                    times.dedup();
                    times.len() as i64
                }
            });
        }
        out.push(cells);
    }
    out
}

fn found(rows: &RecordBatch) -> Vec<Vec<i64>> {
    let columns: Vec<usize> = (0..rows.num_columns()).filter(|column| *column != 1).collect();
    let columns: Vec<Vec<i64>> = columns.into_iter().map(|column| numbers(rows, column)).collect();
    (0..rows.num_rows()).map(|row| columns.iter().map(|column| column[row]).collect()).collect()
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let units = prop::sample::select(vec![FrameUnits::Rows, FrameUnits::Range]);
    let start = prop::option::weighted(0.8, -90i64..20);
    (units, start, -20i64..20).prop_map(|(units, start, end)| frame(units, start, end))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_frames_over_any_rows_are_what_a_loop_finds(
        first in any_frame(),
        second in any_frame(),
        third in any_frame(),
        shift in -40i64..8,
        nth in -4i64..5,
        mut times in prop::collection::vec((0i64..200, 0u8..3), 0..400),
        mut cuts in prop::collection::vec(0i64..220, 0..20),
        ranks in any::<bool>(),
    ) {
        times.sort_by_key(|row| row.0);
        cuts.sort_unstable();
        let rows: Vec<Row> = (1..).zip(&times).map(|(n, (time, key))| (*time, *key, n * n)).collect();
        let mut others = vec![value(OtherRow::Shift(shift)), value(OtherRow::Nth(third, nth))];
        if ranks {
            others.extend([Rank::Rank, Rank::RowNumber, Rank::DenseRank].map(Call::Rank));
        }
        let over = over(&[first, second], others);
        let mut expected = expected(&rows, &over);
        let in_time = over.rows_after() == 0;
        let out = feed(&mut frames(over, WIDE), &rows, &cuts);
        let mut found = found(&out);
        if !in_time {
            expected.sort();
            found.sort();
        }
        prop_assert_eq!(found, expected);
    }
}

/// What comes out where, after each cut, so many others take up what there is, each its share of the keys.
fn feed_others(over: &Over, bounds: Limits, rows: &[Row], cuts: &[(i64, usize)]) -> RecordBatch {
    let mut out = vec![RecordBatch::new_empty(over.schema.clone())];
    let mut states: Vec<SavedState> = Vec::new();
    let mut rest = rows;
    for &(cut, workers) in cuts.iter().chain([&(i64::MAX, 2)]) {
        let (now, later) = rest.split_at(rest.partition_point(|row| row.0 < cut));
        rest = later;
        let mut splitter = KeySplitter::new(&batch(&[]).schema(), vec![1], workers).unwrap();
        let mut shares = vec![None; workers];
        for (worker, part) in splitter.split(&batch(now)).unwrap() {
            shares[worker as usize] = Some(part).filter(|part| part.num_rows() > 0);
        }
        let mut written = Vec::new();
        for (worker, rows) in shares.into_iter().enumerate() {
            let mut frames = frames(over.clone(), bounds);
            let share = KeyShare { worker, workers };
            frames.load(&StateReader::new(&states, share)).unwrap();
            out.extend(frames.update(rows, EventTime(cut)).unwrap());
            let mut writer = StateWriter::default();
            frames.save(&mut writer).unwrap();
            written.push(writer.finish());
        }
        states = written;
    }
    concat_batches(&over.schema, &out).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn others_go_on_as_if_they_had_been_there_all_along(
        first in any_frame(),
        second in any_frame(),
        shift in -40i64..8,
        nth in -4i64..5,
        mut times in prop::collection::vec((0i64..200, 0u8..5), 0..600),
        mut cuts in prop::collection::vec((0i64..220, 1usize..4), 0..6),
        calls in 0..3,
    ) {
        times.sort_by_key(|row| row.0);
        cuts.sort_unstable();
        let rows: Vec<Row> = (1..).zip(&times).map(|(n, (time, key))| (*time, *key, n * n)).collect();
        let values = [value(OtherRow::Shift(shift)), value(OtherRow::Nth(second, nth))];
        let ranks = [Rank::Rank, Rank::RowNumber, Rank::DenseRank].map(Call::Rank);
        let over = match calls {
            0 => over(&[first, second], values.into_iter().chain(ranks).collect()),
            1 => over(&[], ranks.to_vec()),
            _ => over(&[], vec![Call::Rank(Rank::RowNumber)]),
        };
        let (mut expected, mut found) =
            (expected(&rows, &over), found(&feed_others(&over, WIDE, &rows, &cuts)));
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn keys_are_evicted_in_the_order_in_which_they_were_used_before() {
    let rows: Vec<Row> = (0..400).map(|n| (n, (n * n % 7) as u8, n)).collect();
    let bounds = limits(3, KeyedStatePolicy::EvictOldest, 1_000);
    for calls in [over(&[rows_frame(None, 0)], vec![]), over(&[rows_frame(Some(-1), 2)], vec![])] {
        let cuts: Vec<i64> = (1..40).map(|n| n * 10).collect();
        let expected = found(&feed(&mut frames(calls.clone(), bounds), &rows, &cuts));
        let cuts: Vec<(i64, usize)> =
            cuts.into_iter().chain([i64::MAX]).map(|cut| (cut, 1)).collect();
        assert_eq!(found(&feed_others(&calls, bounds, &rows, &cuts)), expected);
    }
}

#[test]
fn fewer_workers_keep_the_keys_that_were_used_last() {
    let rows: Vec<Row> = (0..8).map(|n| (i64::from(n), n, 1)).collect();
    let calls = over(&[rows_frame(None, 0)], vec![]);
    let mut states = Vec::new();
    for worker in 0..2 {
        let mut frames = frames(calls.clone(), WIDE);
        let own: Vec<Row> = rows.iter().filter(|row| row.0 % 2 == worker).copied().collect();
        frames.update(Some(batch(&own)), EventTime(8)).unwrap();
        let mut writer = StateWriter::default();
        frames.save(&mut writer).unwrap();
        states.push(writer.finish());
    }
    let mut one = frames(calls, limits(3, KeyedStatePolicy::EvictOldest, 100));
    one.load(&StateReader::new(&states, KeyShare::ALL)).unwrap();
    assert_eq!((one.keys(), one.take_statistics().keys_evicted), (3, 5));
    let out = one.update(Some(batch(&[(9, 5, 1), (10, 7, 1), (11, 0, 1)])), EventTime(12)).unwrap();
    assert_eq!(found(&out.unwrap()), [[9, 1, 2], [10, 1, 2], [11, 1, 1]]);
    assert_eq!((one.keys(), one.rows()), (3, 5));
}

/// A row of each of two keys at every time.
fn pairs(times: std::ops::Range<i64>) -> Vec<Row> {
    times.flat_map(|time| [(time, 1, time), (time, 2, -time)]).collect()
}

#[test]
fn what_no_later_row_reads_is_forgotten() {
    let cuts: Vec<i64> = (0..10_000).step_by(10).collect();
    let cases: Vec<(&str, Over, usize)> = vec![
        ("rows", over(&[rows_frame(Some(-9), 0)], vec![]), 40),
        ("a range", over(&[frame(FrameUnits::Range, Some(-50), 0)], vec![]), 200),
        ("a long range", over(&[frame(FrameUnits::Range, Some(-1_000), 0)], vec![]), 2_100),
        ("no start", over(&[frame(FrameUnits::Range, None, 0)], vec![]), 80),
        ("no start, and waiting", over(&[rows_frame(None, 3)], vec![]), 90),
        ("the row before", over(&[], vec![value(OtherRow::Shift(-1))]), 30),
        ("the first row", over(&[], vec![value(OtherRow::Nth(rows_frame(None, 0), 1))]), 30),
        ("numbers", over(&[], vec![Call::Rank(Rank::RowNumber)]), 0),
    ];
    for (what, over, rows_max) in cases {
        let mut frames = frames(over, WIDE);
        let mut rest = pairs(0..10_000);
        let mut bytes = 0;
        for &cut in &cuts {
            let later = rest.split_off(rest.partition_point(|row| row.0 < cut));
            let now = (!rest.is_empty()).then(|| batch(&rest));
            frames.update(now, EventTime(cut)).unwrap();
            rest = later;
            assert!(frames.rows() <= rows_max, "{what}: {} rows at {cut}", frames.rows());
            bytes = bytes.max(frames.bytes());
        }
        assert!(bytes < 30_000 + 400 * rows_max.max(100), "{what}: {bytes} bytes");
    }
}

#[test]
fn keys_that_no_later_row_can_see_are_forgotten() {
    let mut ranged = frames(over(&[frame(FrameUnits::Range, Some(-50), 0)], vec![]), WIDE);
    ranged.update(Some(batch(&pairs(0..10))), EventTime(10)).unwrap();
    assert_eq!(ranged.keys(), 2);
    ranged.update(None, EventTime(59)).unwrap();
    assert_eq!(ranged.keys(), 2);
    ranged.update(None, EventTime(60)).unwrap();
    assert_eq!((ranged.keys(), ranged.rows()), (0, 0));
    let mut numbered = frames(over(&[], vec![Call::Rank(Rank::RowNumber)]), WIDE);
    numbered.update(Some(batch(&pairs(0..10))), EventTime(10)).unwrap();
    numbered.update(None, EventTime(1_000)).unwrap();
    assert_eq!(numbered.keys(), 2);
}

#[test]
fn keys_beyond_the_bound_are_refused_or_take_the_oldest_place() {
    let rows = [(1, 1, 10), (2, 2, 20), (3, 1, 30), (4, 3, 40), (5, 2, 50), (6, 1, 60)];
    let calls = || over(&[rows_frame(None, 0)], vec![]);
    for cuts in [vec![], vec![1, 2, 3, 4, 5, 6]] {
        let mut refusing = frames(calls(), limits(2, KeyedStatePolicy::Refuse, 100));
        let out = feed(&mut refusing, &rows, &cuts);
        assert_eq!(numbers(&out, 3), [10, 20, 40, 70, 100]);
        assert_eq!(refusing.take_statistics(), Statistics { rows_refused: 1, keys_evicted: 0 });
        let mut evicting = frames(calls(), limits(2, KeyedStatePolicy::EvictOldest, 100));
        let out = feed(&mut evicting, &rows, &cuts);
        assert_eq!(numbers(&out, 3), [10, 20, 40, 40, 50, 60], "2 goes for 3, 1 for 2, 3 for 1");
        assert_eq!(evicting.take_statistics(), Statistics { rows_refused: 0, keys_evicted: 3 });
        assert_eq!(evicting.keys(), 2);
    }
}

#[test]
fn what_waits_leaves_when_its_key_is_evicted() {
    let rows = [(1, 1, 10), (2, 1, 20), (3, 2, 30), (4, 1, 40)];
    let calls = over(&[rows_frame(Some(0), 1)], vec![value(OtherRow::Shift(1))]);
    let mut evicting = frames(calls, limits(1, KeyedStatePolicy::EvictOldest, 100));
    let out = feed(&mut evicting, &rows, &[2, 3, 4, 5]);
    assert_eq!(found(&out), [[1, 10, 30, 20], [2, 20, 20, -1], [3, 30, 30, -1], [4, 40, 40, -1]]);
}

#[test]
fn rows_beyond_the_bound_are_refused_and_counted() {
    let mut bounded = frames(
        over(&[frame(FrameUnits::Range, Some(-50), 0)], vec![]),
        limits(10, KeyedStatePolicy::Refuse, 5),
    );
    let out = feed(&mut bounded, &pairs(1..11), &[]);
    assert_eq!(out.num_rows(), 5);
    assert_eq!(bounded.take_statistics().rows_refused, 15);
}

#[test]
fn rows_that_tie_are_ordered_as_asked() {
    let mut calls = over(&[], vec![Call::Rank(Rank::RowNumber), Call::Rank(Rank::Rank)]);
    calls.ties = vec![(2, arrow::compute::SortOptions { descending: true, nulls_first: false })];
    let rows = [(1, 1, 10), (1, 1, 30), (1, 1, 20), (1, 1, 30), (2, 1, 5)];
    let out = feed(&mut frames(calls, WIDE), &rows, &[]);
    assert_eq!(
        found(&out),
        [[1, 30, 1, 1], [1, 30, 2, 1], [1, 20, 3, 3], [1, 10, 4, 4], [2, 5, 5, 5]]
    );
}
