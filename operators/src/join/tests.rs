//! Joins against a loop over all pairs, with rows and watermarks made from a seed.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::array::{AsArray, Int64Array, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{Field, Int64Type, Schema, TimestampNanosecondType};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::key::KeyShare;
use crate::state::{SavedState, StateReader, StateWriter};
use crate::time::EventTime;

/// Key, time and number of a row.
type Row = (Option<u8>, i64, i64);

fn batch(rows: &[Row]) -> RecordBatch {
    let keys: StringArray = rows.iter().map(|row| row.0.map(|key| format!("k{key}"))).collect();
    let times = TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| row.1));
    let numbers = Int64Array::from_iter_values(rows.iter().map(|row| row.2));
    RecordBatch::try_from_iter_with_nullable([
        ("k", Arc::new(keys) as ArrayRef, true),
        ("t", Arc::new(times), false),
        ("n", Arc::new(numbers), false),
    ])
    .unwrap()
}

fn join(kind: JoinKind, (lower_ns, upper_ns): (i64, i64), rows_max: usize) -> Join {
    let schema = batch(&[]).schema();
    let fields = |missing: bool| {
        schema.fields().iter().map(move |field| {
            let nullable = missing || field.is_nullable();
            Field::new(field.name(), field.data_type().clone(), nullable)
        })
    };
    let both = fields(kind.keeps(Side::Right)).chain(fields(kind.keeps(Side::Left)));
    let spec = JoinSpec {
        kind,
        keys: [vec![0], vec![0]],
        times: [1, 1],
        lower_ns,
        upper_ns,
        residual: None,
        whole: None,
        schema: Arc::new(Schema::new(both.collect::<Vec<_>>())),
    };
    Join::new(spec, [&schema, &schema], rows_max).unwrap()
}

/// Pairs of row numbers, sorted; `-1` where there is no partner.
fn numbers(batches: &[RecordBatch]) -> Vec<(i64, i64)> {
    let mut found = Vec::new();
    for batch in batches {
        let [left, right] = [2, 5].map(|i| batch.column(i).as_primitive::<Int64Type>());
        let number = |column: &Int64Array, row| {
            if column.is_null(row) { -1 } else { column.value(row) }
        };
        found.extend((0..batch.num_rows()).map(|row| (number(left, row), number(right, row))));
    }
    found.sort_unstable();
    found
}

fn expected(sides: &[Vec<Row>; 2], kind: JoinKind, (lower, upper): (i64, i64)) -> Vec<(i64, i64)> {
    let matches =
        |l: &Row, r: &Row| l.0.is_some() && l.0 == r.0 && (lower..=upper).contains(&(l.1 - r.1));
    let [left, right] = sides;
    let mut pairs: Vec<(i64, i64)> = left
        .iter()
        .flat_map(|l| right.iter().filter(move |r| matches(l, r)).map(move |r| (l.2, r.2)))
        .collect();
    if kind.keeps(Side::Left) {
        let alone = left.iter().filter(|l| !right.iter().any(|r| matches(l, r)));
        pairs.extend(alone.map(|l| (l.2, -1)));
    }
    if kind.keeps(Side::Right) {
        let alone = right.iter().filter(|r| !left.iter().any(|l| matches(l, r)));
        pairs.extend(alone.map(|r| (-1, r.2)));
    }
    pairs.sort_unstable();
    pairs
}

const KINDS: [JoinKind; 4] = [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full];

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (proptest::option::weighted(0.9, 0..4_u8), -20..20_i64);
    // Times in order, but for a disorder of five. So many rows that batches over long times are cut more than once.
    let (few, many) = (vec(row.clone(), 0..60), vec(row, 200..300));
    prop_oneof![4 => few, 1 => many].prop_map(|rows| {
        let mut rows: Vec<Row> =
            rows.into_iter().enumerate().map(|(n, (key, time))| (key, time, n as i64)).collect();
        rows.sort_by_key(|row| row.1 + row.2 % 5);
        rows
    })
}

proptest! {
    #[test]
    fn joins_equal_a_loop_over_all_pairs(
        sides in [rows(), rows()],
        bounds in (-12..12_i64, 0..12_i64),
        steps in vec((1..20_usize, 1..300_usize), 1..10),
        scale in prop_oneof![Just(1_i64), Just(900_000), Just(40_000_000_000)],
    ) {
        let bounds = (bounds.0 * scale, (bounds.0 + bounds.1) * scale);
        let sides = sides.map(|rows| {
            rows.into_iter().map(|(k, t, n)| (k, t * scale, n)).collect::<Vec<_>>()
        });
        for kind in KINDS {
            let mut join = join(kind, bounds, 1000);
            let found = feed(&mut join, &sides, &steps);
            prop_assert_eq!(numbers(&found), expected(&sides, kind, bounds));
            prop_assert_eq!(join.rows(), 0);
            prop_assert_eq!(join.bytes(), 0);
        }
    }

    #[test]
    fn asof_joins_equal_a_search_of_all_rows(
        sides in [rows(), rows()],
        lower_ns in -3..4_i64,
        width_ns in proptest::option::of(0..12_i64),
        steps in vec((1..20_usize, 1..20_usize), 1..10),
        keeps_left in any::<bool>(),
    ) {
        let mut join = asof(keeps_left, lower_ns, width_ns.map(|width| lower_ns + width), 1000);
        let found = feed(&mut join, &sides, &steps);
        let [left, right] = &sides;
        let mut expected = Vec::new();
        for l in left {
            let is_near = |r: &&Row| {
                let above = l.1 - r.1;
                l.0.is_some() && l.0 == r.0 && above >= lower_ns
                    && width_ns.is_none_or(|width| above <= lower_ns + width)
            };
            // Rows that tie are ordered by their last column, the number.
            match right.iter().filter(is_near).max_by_key(|r| (r.1, r.2)) {
                Some(r) => expected.push((l.2, r.2)),
                None if keeps_left => expected.push((l.2, -1)),
                None => {}
            }
        }
        expected.sort_unstable();
        prop_assert_eq!(numbers(&found), expected);
        prop_assert_eq!(join.bytes(), 0);
    }
}

fn asof(keeps_left: bool, lower_ns: i64, upper_ns: Option<i64>, rows_max: usize) -> AsOf {
    let schema = batch(&[]).schema();
    let kind = if keeps_left { JoinKind::Left } else { JoinKind::Inner };
    let both = join(kind, (0, 0), 1).spec.schema;
    let spec = AsOfSpec {
        keeps_left,
        keys: [vec![0], vec![0]],
        times: [1, 1],
        lower_ns,
        upper_ns,
        schema: both,
    };
    AsOf::new(spec, [&schema, &schema], rows_max).unwrap()
}

#[test]
fn an_asof_join_keeps_the_latest_row_of_a_key_and_no_earlier_one() {
    let mut join = asof(true, 0, None, 200);
    let mut accept = |_: &RecordBatch| Vec::new();
    let rows: Vec<Row> = (0..150).map(|n| (Some((n % 3) as u8), n, n)).collect();
    join.add(1, Side::Right, &batch(&rows));
    let complete = [EventTime(1000), EventTime(1000)];
    join.close(1, complete, &mut accept).unwrap();
    let bytes = join.bytes();
    join.add(2, Side::Left, &batch(&[(Some(1), 2000, 7), (Some(9), 2000, 8)]));
    // With three rows held, there is room for 195 more; those beyond are refused and counted.
    join.add(2, Side::Right, &batch(&(0..200).map(|n| (Some(1), 1500, n)).collect::<Vec<_>>()));
    assert_eq!(join.take_refused(), 5);
    assert!(join.close(2, complete, &mut accept).unwrap().is_empty());
    let found = join.close(3, [EventTime(1000), EventTime(2001)], &mut accept).unwrap();
    assert_eq!(numbers(&found), [(7, 194), (8, -1)]);
    join.close(4, [EventTime(5_000_000_000); 2], &mut accept).unwrap();
    assert!(join.bytes() <= bytes, "{} bytes, and {bytes} before", join.bytes());
}

/// Feeds both sides in steps, with watermarks that know the future.
fn feed(
    join: &mut dyn Joining,
    sides: &[Vec<Row>; 2],
    steps: &[(usize, usize)],
) -> Vec<RecordBatch> {
    let mut found = Vec::new();
    let (mut next, mut steps) = ([0, 0], steps.iter().cycle());
    let mut accept = |_: &RecordBatch| unreachable!("there is no condition left");
    for epoch in 0.. {
        let (left, right) = *steps.next().unwrap();
        for (side, count) in Side::BOTH.into_iter().zip([left, right]) {
            let rows = &sides[side as usize][next[side as usize]..];
            let count = count.min(rows.len());
            next[side as usize] += count;
            join.add(epoch, side, &batch(&rows[..count]));
        }
        let complete = Side::BOTH.map(|side| {
            let rest = &sides[side as usize][next[side as usize]..];
            rest.iter().map(|row| EventTime(row.1)).min().unwrap_or(EventTime::MAX)
        });
        found.extend(join.close(epoch, complete, &mut accept).unwrap());
        if complete == [EventTime::MAX; 2] {
            break;
        }
    }
    found
}

#[test]
fn rows_leave_once_no_partner_can_come() {
    let mut join = join(JoinKind::Left, (-2_000_000_000, 3_000_000_000), 100);
    let second = |s: i64| s * 1_000_000_000;
    let mut accept = |_: &RecordBatch| Vec::new();
    let mut close = |join: &mut Join, epoch, left, right| {
        let complete = [EventTime(second(left)), EventTime(second(right))];
        numbers(&join.close(epoch, complete, &mut accept).unwrap())
    };
    join.add(1, Side::Left, &batch(&[(Some(1), second(10), 0), (None, second(10), 1)]));
    join.add(1, Side::Right, &batch(&[(Some(2), second(10), 0)]));
    // A row without a key has no partner, whatever comes.
    assert_eq!(close(&mut join, 1, 0, 0), [(1, -1)]);
    // Partners of the left row lie from 7 to 12, those of the right row from 8 to 13.
    assert_eq!(close(&mut join, 2, 13, 12), []);
    assert_eq!(join.rows(), 2);
    assert_eq!(close(&mut join, 3, 15, 13), [(0, -1)]);
    assert_eq!(close(&mut join, 4, 15, 15), []);
    assert_eq!((join.rows(), join.bytes()), (0, 0));
    // What comes after all its partners is given at once, and not held.
    join.add(5, Side::Left, &batch(&[(Some(1), second(12), 7)]));
    assert_eq!(close(&mut join, 5, 15, 15), [(7, -1)]);
}

#[test]
fn rows_beyond_the_bound_are_refused_and_counted() {
    let mut join = join(JoinKind::Inner, (0, 0), 2);
    let mut accept = |_: &RecordBatch| Vec::new();
    join.add(1, Side::Left, &batch(&[(Some(1), 5, 0), (Some(1), 5, 1), (Some(1), 5, 2)]));
    assert_eq!(join.take_refused(), 1);
    let found = join.close(1, [EventTime::MIN; 2], &mut accept).unwrap();
    assert!(found.is_empty());
    join.add(2, Side::Right, &batch(&[(Some(1), 5, 0)]));
    assert_eq!(join.take_refused(), 1);
    join.close(2, [EventTime(9); 2], &mut accept).unwrap();
    assert_eq!(join.rows(), 2, "a chunk leaves as a whole");
    join.close(3, [EventTime::MAX; 2], &mut accept).unwrap();
    assert_eq!(join.rows(), 0);
}

#[test]
fn the_remaining_condition_is_asked_about_each_pair() {
    #[derive(Debug)]
    struct Never(SchemaRef);
    impl Transform for Never {
        fn schema(&self) -> SchemaRef {
            self.0.clone()
        }
        fn apply(&self, rows: &RecordBatch) -> crate::error::Result<RecordBatch> {
            Ok(rows.clone())
        }
    }
    let mut join = join(JoinKind::Full, (0, 0), 100);
    join.spec.residual = Some(Arc::new(Never(batch(&[]).schema())));
    let rows = [(Some(1), 5, 1), (Some(1), 5, 2)];
    join.add(1, Side::Left, &batch(&rows));
    join.add(1, Side::Right, &batch(&rows));
    let mut asked = 0;
    // Only pairs of equal numbers pass.
    let mut accept = |pairs: &RecordBatch| {
        asked += pairs.num_rows();
        let [left, right] = [2, 5].map(|i| pairs.column(i).as_primitive::<Int64Type>().clone());
        let ids = pairs.column(6).as_primitive::<arrow::datatypes::UInt32Type>();
        (0..pairs.num_rows())
            .filter(|i| left.value(*i) == right.value(*i))
            .map(|i| ids.value(i))
            .collect()
    };
    let found = join.close(1, [EventTime::MAX; 2], &mut accept).unwrap();
    assert_eq!(numbers(&found), [(1, 1), (2, 2)]);
    assert_eq!(asked, 4);
}

/// Rows that are held, which have come so many at a time.
fn held(rows: impl Iterator<Item = Row>, at_once: usize) -> (held::Held, Keys) {
    let rows: Vec<Row> = rows.collect();
    let schema = batch(&[]).schema();
    let keys = Keys::new(&[vec![0], vec![0]], [&schema, &schema]).unwrap();
    let mut held = held::Held::new(1_000_000_000, false);
    for rows in rows.chunks(at_once) {
        let waiting = rows.iter().enumerate().map(|(row, &(_, time, _))| held::Waiting {
            time,
            row: row as u32,
            has_partner: false,
        });
        held.add(&batch(rows), None, waiting.collect()).unwrap();
    }
    (held, keys)
}

#[test]
fn a_look_up_meets_rows_of_its_own_key_in_their_order_indexed_or_not() {
    let (mut held, keys) = held((0..1000).map(|n| (Some((n % 100) as u8), n, n)), 300);
    let wanted = keys.read(Side::Left, batch(&[(Some(3), 0, 0)]).columns()).unwrap();
    for probes in [1, 1, 1, 100, 1] {
        let read = |rows: &RecordBatch| keys.read(Side::Right, rows.columns());
        assert!(held.expect(&vec![0; probes], (0, 1000), read).unwrap());
        let mut places = Vec::new();
        held.find(wanted.get(0).unwrap(), (103, 503), |place| places.push(place));
        let columns = held.columns(&places).unwrap();
        let times = columns[1].as_primitive::<TimestampNanosecondType>().values();
        assert_eq!(times[..], [103, 203, 303, 403, 503]);
    }
    assert_eq!(held.indexed_chunks(), 1);
    let read = |_: &RecordBatch| unreachable!("nothing is held there");
    assert!(!held.expect(&[5_000_000_000], (0, 1_000_000_000), read).unwrap());
}

#[test]
fn rows_that_few_look_up_are_not_indexed_and_their_keys_are_read_once() {
    let (mut held, keys) = held((0..1000).map(|n| (Some((n % 7) as u8), n, n)), 300);
    let unread = held.bytes();
    let reads = std::cell::Cell::new(0);
    let expect = |held: &mut held::Held, probes| {
        let read = |rows: &RecordBatch| {
            reads.set(reads.get() + 1);
            keys.read(Side::Right, rows.columns())
        };
        held.expect(&vec![0; probes], (0, 1000), read).unwrap();
        (reads.get(), held.indexed_chunks())
    };
    assert_eq!(expect(&mut held, 1), (4, 0), "a batch of rows each");
    assert_eq!(expect(&mut held, 1), (4, 0));
    assert!(held.bytes() > unread, "keys that were read are counted");
    assert_eq!(expect(&mut held, 20), (4, 1));
    held.forget(None);
    assert_eq!((held.rows(), held.bytes()), (0, 0));
}

#[test]
fn look_ups_that_are_far_apart_touch_nothing_between_them() {
    let (mut held, keys) = held((0..1000).map(|n| (Some(1), n * 1_000_000_000, n)), 1);
    let times: Vec<i64> = (0..20).map(|n| n % 2 * 999_000_000_000).collect();
    let reads = std::cell::Cell::new(0);
    let read = |rows: &RecordBatch| {
        reads.set(reads.get() + 1);
        keys.read(Side::Right, rows.columns())
    };
    assert!(held.expect(&times, (0, 0), read).unwrap());
    assert_eq!((reads.get(), held.indexed_chunks()), (2, 2));
}

/// One worker holds all rows of both sides; of two, each holds a half of the left side and the whole right one.
#[test]
fn a_side_that_every_worker_holds_is_saved_once_and_taken_up_by_all() {
    let of = || {
        let mut join = join(JoinKind::Left, (0, 1_000), 1000);
        join.spec.whole = Some(Side::Right);
        join
    };
    let rows: Vec<Row> = (0..40).map(|n| (Some((n % 4) as u8), n, n)).collect();
    let late: Vec<Row> = (0..40).map(|n| (Some((n % 5) as u8), 40 + n, 40 + n)).collect();
    let mut accept = |_: &RecordBatch| Vec::new();
    let open = [EventTime(0); 2];
    let mut expected = of();
    expected.add(1, Side::Left, &batch(&rows));
    expected.add(1, Side::Right, &batch(&rows));
    expected.add(1, Side::Left, &batch(&late));
    let expected = expected.close(1, [EventTime::MAX; 2], &mut accept).unwrap();
    for workers in [1, 2, 3] {
        let mut held = 0;
        let mut states = Vec::new();
        let mut found = Vec::new();
        for half in rows.chunks(20) {
            let mut join = of();
            join.add(1, Side::Left, &batch(half));
            join.add(1, Side::Right, &batch(&rows));
            found.extend(join.close(1, open, &mut accept).unwrap());
            let mut writer = StateWriter::default();
            join.save(&mut writer).unwrap();
            states.push(writer.finish());
        }
        for worker in 0..workers {
            let mut join = of();
            join.load(&StateReader::new(&states, KeyShare { worker, workers })).unwrap();
            held += join.rows();
            let own: Vec<Row> = late.iter().skip(worker).step_by(workers).copied().collect();
            join.add(2, Side::Left, &batch(&own));
            found.extend(join.close(2, [EventTime::MAX; 2], &mut accept).unwrap());
        }
        assert_eq!(numbers(&found), numbers(&expected), "{workers} workers go on");
        assert_eq!(held, 40 + workers * 40, "the left rows once, the right ones for each");
    }
}

#[test]
fn rows_that_were_split_by_key_are_taken_up_by_all() {
    let rows: Vec<Row> = (0..40).map(|n| (Some((n % 4) as u8), n, n)).collect();
    let states: Vec<SavedState> = rows
        .chunks(20)
        .map(|half| {
            let mut join = join(JoinKind::Left, (0, 1_000), 1000);
            join.add(1, Side::Right, &batch(half));
            join.close(1, [EventTime(0); 2], &mut |_| Vec::new()).unwrap();
            let mut writer = StateWriter::default();
            join.save(&mut writer).unwrap();
            writer.finish()
        })
        .collect();
    for worker in 0..2 {
        let mut join = join(JoinKind::Left, (0, 1_000), 1000);
        join.spec.whole = Some(Side::Right);
        join.load(&StateReader::new(&states, KeyShare { worker, workers: 2 })).unwrap();
        join.add(2, Side::Left, &batch(&rows));
        let found = join.close(2, [EventTime::MAX; 2], &mut |_| Vec::new()).unwrap();
        assert_eq!(
            numbers(&found).len(),
            220,
            "all pairs of a key in which the left row is the later one"
        );
    }
}

#[test]
fn a_side_that_every_worker_holds_has_room_of_its_own() {
    let rows: Vec<Row> = (0..12).map(|n| (Some(1), n, n)).collect();
    let mut join = join(JoinKind::Inner, (0, 1_000), 10);
    join.spec.whole = Some(Side::Right);
    join.add(1, Side::Left, &batch(&rows));
    assert_eq!(join.take_refused(), 2);
    join.close(1, [EventTime(0); 2], &mut |_| Vec::new()).unwrap();
    join.add(2, Side::Right, &batch(&rows));
    join.add(2, Side::Right, &batch(&rows[..1]));
    assert_eq!(join.take_refused(), 3);
    assert_eq!(join.rows(), 20);
}
