//! Watermarks of one source, and which rows it takes, without an engine around it.

use std::time::Duration;

use arrow::array::{AsArray, Int64Array, TimestampSecondArray};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};

use super::*;

const SECOND: i64 = 1_000_000_000;

fn spec(delay: Option<i64>, lateness: i64, idle: Option<u64>) -> Arc<SourceSpec> {
    let time = DataType::Timestamp(TimeUnit::Second, None);
    let schema = Schema::new(vec![
        Field::new("ts", time.clone(), false),
        Field::new("n", DataType::Int64, true),
    ]);
    Arc::new(SourceSpec {
        name: "s".into(),
        schema: Arc::new(schema),
        time: Some(SourceTime {
            index: 0,
            time: TimeType::new(&time).unwrap(),
            delay_ns: delay.map(|s| s * SECOND),
            lateness_ns: lateness * SECOND,
            idle_timeout: idle.map(Duration::from_secs),
        }),
    })
}

fn state(spec: &Arc<SourceSpec>) -> SourceState {
    SourceState::new(Arc::clone(spec), Arc::default(), Duration::ZERO)
}

fn range(latest: i64) -> TimeRange {
    let time = EventTime(latest * SECOND);
    TimeRange { bounds: Some((time, time)), has_unusable: false }
}

fn seconds(time: EventTime) -> i64 {
    time.0 / SECOND
}

#[test]
fn the_watermark_follows_the_latest_row_and_never_goes_back() {
    let mut source = state(&spec(Some(10), 5, None));
    assert_eq!(source.watermark(Duration::ZERO), EventTime::MIN);
    source.pushed(range(100), Duration::ZERO);
    assert_eq!(seconds(source.announce(Duration::ZERO).unwrap()), 85);
    source.pushed(range(50), Duration::ZERO);
    assert!(source.announce(Duration::ZERO).is_none());
    assert_eq!(seconds(source.watermark(Duration::ZERO)), 85);
}

#[test]
fn the_host_moves_a_watermark_that_rows_do_not() {
    let mut source = state(&spec(None, 0, None));
    source.pushed(range(100), Duration::ZERO);
    assert_eq!(source.watermark(Duration::ZERO), EventTime::MIN);
    source.advance(EventTime(7 * SECOND)).unwrap();
    source.advance(EventTime(3 * SECOND)).unwrap();
    assert_eq!(seconds(source.watermark(Duration::ZERO)), 7);
}

#[test]
fn an_idle_source_goes_on_with_the_clock_from_its_last_push() {
    let mut source = state(&spec(Some(10), 0, Some(30)));
    let at = Duration::from_secs;
    assert!(!source.is_idle(at(1000)), "a source that said nothing holds nothing up");
    source.pushed(range(100), at(5));
    assert_eq!(seconds(source.watermark(at(34))), 90);
    assert_eq!(source.idle_at(), Some(at(35)));
    assert_eq!(seconds(source.watermark(at(35))), 120);
    assert_eq!(seconds(source.announce(at(45)).unwrap()), 130);
    source.pushed(range(101), at(46));
    assert!(!source.is_idle(at(46)));
    assert_eq!(seconds(source.watermark(at(46))), 130, "what was announced stands");
    source.declare_idle().unwrap();
    assert_eq!(seconds(source.watermark(at(100))), 145);
}

#[test]
fn a_clock_that_goes_backwards_moves_nothing() {
    let mut source = state(&spec(Some(0), 0, Some(1)));
    source.pushed(range(100), Duration::from_secs(50));
    assert_eq!(seconds(source.watermark(Duration::from_secs(10))), 100);
}

#[test]
fn the_end_is_announced_once() {
    let mut source = state(&spec(Some(0), 3, None));
    source.close();
    assert_eq!(source.announce(Duration::ZERO), Some(EventTime::MAX));
    assert_eq!(source.announce(Duration::ZERO), None);
}

fn batch(times: Vec<Option<i64>>) -> RecordBatch {
    let n = Int64Array::from_iter_values(0..times.len() as i64);
    RecordBatch::try_from_iter_with_nullable([
        ("ts", Arc::new(TimestampSecondArray::from(times)) as ArrayRef, true),
        ("n", Arc::new(n), true),
    ])
    .unwrap()
}

#[test]
fn rows_without_a_usable_time_and_late_rows_go_aside_with_a_reason() {
    let spec = spec(Some(0), 0, None);
    let rows = spec.conform(&batch(vec![Some(5), None, Some(i64::MAX), Some(1), Some(7)])).unwrap();
    let range = spec.time_range(&rows);
    assert!(range.has_unusable);
    assert_eq!(range.bounds, Some((EventTime(SECOND), EventTime(7 * SECOND))));
    let counters = SourceCounters::default();
    let (kept, dropped) = spec.sort_out(&rows, EventTime(5 * SECOND), &counters).unwrap();
    let numbers = |rows: &RecordBatch| rows.column(1).as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(numbers(&kept), [0, 4]);
    assert_eq!(kept.schema(), spec.schema);
    assert_eq!(numbers(&dropped), [1, 2, 3]);
    let reasons = dropped.column(2).as_string::<i32>();
    assert_eq!(reasons.iter().flatten().collect::<Vec<_>>(), [MALFORMED, MALFORMED, LATE]);
    assert_eq!(counters.rows_late.load(Ordering::Relaxed), 1);
    assert_eq!(counters.rows_malformed.load(Ordering::Relaxed), 2);
}

#[test]
fn a_batch_of_other_columns_is_refused_with_the_difference() {
    let spec = spec(None, 0, None);
    let good = batch(vec![Some(1)]);
    let refusal = |batch: RecordBatch| spec.conform(&batch).unwrap_err().to_string();
    assert!(refusal(good.project(&[0]).unwrap()).contains("has 1 columns, not 2"));
    assert!(refusal(good.project(&[1, 0]).unwrap()).contains("has column \"n\" in place 1"));
    let typed = RecordBatch::try_from_iter([
        ("ts", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
        ("n", Arc::new(Int64Array::from(vec![1]))),
    ]);
    assert!(refusal(typed.unwrap()).contains("of type Int64, not Timestamp"));
}
