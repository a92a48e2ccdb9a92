//! What a host may get wrong or bad luck may bring: each gives a clear error or a counted outcome, and nothing hangs.

use std::sync::Arc;

use driftline::arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
    TimestampSecondArray,
};
use driftline::{Engine, ErrorKind, EventTime, Settings};

use super::support::{SECOND, cells, collect};

const CREATE: &str = "CREATE SOURCE s (ts TIMESTAMP, k TEXT, x DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '1 second')";

fn batch(
    times: Vec<Option<i64>>,
    keys: Vec<Option<String>>,
    values: Vec<Option<f64>>,
) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([
        ("ts", Arc::new(TimestampNanosecondArray::from(times)) as ArrayRef, true),
        ("k", Arc::new(StringArray::from(keys)), true),
        ("x", Arc::new(Float64Array::from(values)), true),
    ])
    .unwrap()
}

fn engine(workers: usize) -> Engine {
    let engine = Engine::builder().workers(workers).build().unwrap();
    engine.execute(CREATE).unwrap();
    engine
}

#[test]
fn a_batch_of_another_schema_is_refused_and_the_source_lives_on() {
    let engine = engine(2);
    let results = engine.subscribe("s").unwrap();
    let source = engine.source("s").unwrap();
    let wrong =
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]);
    let error = source.push(wrong.unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.hint().unwrap().contains("ts Timestamp"), "{error}");
    source.push(batch(vec![Some(1)], vec![None], vec![None])).unwrap();
    engine.shutdown().unwrap();
    assert_eq!(collect(results).num_rows(), 1);
}

#[test]
fn empty_batches_are_nothing() {
    let engine = engine(2);
    let results = engine.subscribe("s").unwrap();
    let source = engine.source("s").unwrap();
    source.push(batch(vec![], vec![], vec![])).unwrap();
    source.push(batch(vec![], vec![], vec![])).unwrap();
    engine.shutdown().unwrap();
    assert_eq!(collect(results).num_rows(), 0);
}

#[test]
fn nulls_and_nan_go_through_windows_and_detectors_without_poisoning_them() {
    for workers in [1, 2, 4] {
        let engine = engine(workers);
        engine
            .execute(
                "CREATE DETECTOR d USING robust_zscore PARTITION BY k WITH (history = 32) AS
                   SELECT k, window_end, avg(x) AS x FROM TUMBLE(s, ts, INTERVAL '1 second')
                   GROUP BY k, window_start, window_end",
            )
            .unwrap();
        let anomalies = engine.subscribe("SELECT window_end, x FROM d WHERE is_anomaly").unwrap();
        let source = engine.source("s").unwrap();
        let value = |t: i64| match t {
            150..160 => Some(f64::NAN),
            160..170 => None,
            170..175 => Some(f64::INFINITY),
            175..180 => Some(f64::NEG_INFINITY),
            390 => Some(1e6),
            _ => Some((t % 10) as f64),
        };
        let keys = |n: usize| vec![None; n];
        source
            .push(batch(
                (0..400).map(|t| Some(t * SECOND)).collect(),
                keys(400),
                (0..400).map(value).collect(),
            ))
            .unwrap();
        engine.shutdown().unwrap();
        let found = collect(anomalies);
        let spike =
            cells(&[found]).iter().filter(|row| format!("{row:?}").contains("1000000")).count();
        assert_eq!(spike, 1, "the spike after the gap is still found");
    }
}

#[test]
fn timestamps_at_the_extremes_are_counted_and_routed() {
    for workers in [1, 2, 4] {
        let engine = engine(workers);
        let windows = engine
            .subscribe(
                "SELECT window_start, count(*) AS n FROM HOP(s, ts, INTERVAL '1 day', INTERVAL '400 days')
                 GROUP BY window_start, window_end",
            )
            .unwrap();
        let aside = engine.subscribe("SELECT reason FROM LATE(s)").unwrap();
        let source = engine.source("s").unwrap();
        let times = [i64::MIN, i64::MIN + 1, i64::MAX, i64::MAX - 1, -1, 0];
        let times: Vec<_> = times.into_iter().map(Some).chain([None]).collect();
        source.push(batch(times, vec![None; 7], vec![None; 7])).unwrap();
        engine.shutdown().unwrap();
        assert_eq!(collect(aside).num_rows(), 5);
        assert!(collect(windows).num_rows() >= 400);
    }
}

#[test]
fn times_that_nanoseconds_cannot_hold_are_malformed() {
    let engine = Engine::builder().workers(1).build().unwrap();
    engine.execute("CREATE SOURCE s (ts TIMESTAMP(0), WATERMARK FOR ts AS ts)").unwrap();
    let results = engine
        .subscribe("SELECT count(*) AS n FROM TUMBLE(s, ts, INTERVAL '1 minute') GROUP BY window_start, window_end")
        .unwrap();
    let times: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MIN, 0, i64::MAX]));
    let source = engine.source("s").unwrap();
    source.push(RecordBatch::try_new(source.schema(), vec![times]).unwrap()).unwrap();
    source.close().unwrap();
    assert_eq!(collect(results).num_rows(), 1);
    assert_eq!(engine.metrics().source("s").unwrap().rows_malformed, 2);
}

#[test]
fn two_million_keys_meet_the_bound_and_are_counted() {
    let settings = Settings {
        workers: 2,
        window_groups_max: 100_000,
        models_max: 10_000,
        ..Settings::default()
    };
    let engine = Engine::builder().settings(settings).build().unwrap();
    engine.execute(CREATE).unwrap();
    engine
        .execute("CREATE DETECTOR d USING ewma PARTITION BY k AS SELECT ts, k, x FROM s")
        .unwrap();
    let windows = engine
        .subscribe("SELECT k, count(*) AS n FROM TUMBLE(s, ts, INTERVAL '1 hour') GROUP BY k, window_start, window_end")
        .unwrap();
    let source = engine.source("s").unwrap();
    for part in 0..200i64 {
        let keys = (0..10_000).map(|n| Some(format!("key-{}", part * 10_000 + n))).collect();
        source
            .push(batch(vec![Some(part * SECOND); 10_000], keys, vec![Some(1.0); 10_000]))
            .unwrap();
    }
    source.close().unwrap();
    let counted = collect(windows).num_rows();
    engine.drain().unwrap();
    let metrics = engine.metrics();
    let windows = metrics.queries.iter().find(|query| query.name.starts_with("subscription"));
    // The subscription has been read to its end and dropped, so that its counts went with it.
    assert!(windows.is_none());
    assert!((100_000..=200_000).contains(&counted), "{counted} of 2,000,000 groups");
    let detector = metrics.detector("d");
    assert!(
        detector.is_none_or(|d| d.models <= 20_000 && d.models_evicted >= 1_900_000),
        "{detector:?}"
    );
}

#[test]
fn a_row_that_an_expression_fails_on_is_left_out_and_counted() {
    for workers in [1, 2, 4] {
        let engine = Engine::builder().workers(workers).build().unwrap();
        engine.execute("CREATE SOURCE s (a BIGINT, b BIGINT)").unwrap();
        let results = engine.subscribe("SELECT a / b AS q FROM s").unwrap();
        let b: Vec<i64> = (0..1000).map(|n| n % 100).collect();
        let columns = [
            ("a", Arc::new(Int64Array::from(vec![7; 1000])) as ArrayRef, true),
            ("b", Arc::new(Int64Array::from(b)), true),
        ];
        let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        engine.source("s").unwrap().push(rows).unwrap();
        engine.drain().unwrap();
        let metrics = engine.metrics();
        assert_eq!(metrics.queries[0].rows_failed, 10);
        assert!(metrics.queries[0].first_row_error.as_deref().unwrap().contains("zero"));
        engine.shutdown().unwrap();
        assert_eq!(collect(results).num_rows(), 990);
    }
}

#[test]
fn a_watermark_at_the_extremes_closes_everything_and_nothing_breaks() {
    let engine = engine(2);
    let mut results = engine
        .subscribe("SELECT count(*) AS n FROM TUMBLE(s, ts, INTERVAL '1 hour') GROUP BY window_start, window_end")
        .unwrap();
    let source = engine.source("s").unwrap();
    source.push(batch(vec![Some(0)], vec![None], vec![None])).unwrap();
    source.watermark(EventTime::MIN).unwrap();
    source.watermark(EventTime::MAX).unwrap();
    assert_eq!(results.next().unwrap().unwrap().num_rows(), 1);
    source.push(batch(vec![Some(5)], vec![None], vec![None])).unwrap();
    engine.drain().unwrap();
    assert_eq!(engine.metrics().source("s").unwrap().rows_late, 1);
}

#[test]
fn bounds_on_objects_and_settings_are_named() {
    let settings = Settings { objects_max: 2, ..Settings::default() };
    let engine = Engine::builder().settings(settings).build().unwrap();
    engine.execute("CREATE SOURCE a (n BIGINT); CREATE SOURCE b (n BIGINT)").unwrap();
    for refused in [
        engine.execute("CREATE SOURCE c (n BIGINT)").unwrap_err(),
        engine.subscribe("a").unwrap_err(),
    ] {
        assert_eq!(refused.kind(), ErrorKind::Settings);
        assert!(refused.hint().unwrap().contains("objects_max"), "{refused}");
    }
    for wrong in [
        Settings { workers: 0, ..Settings::default() },
        Settings { epoch_millis: 0, ..Settings::default() },
        Settings { ingress_bytes_max: 0, ..Settings::default() },
    ] {
        assert_eq!(
            Engine::builder().settings(wrong).build().unwrap_err().kind(),
            ErrorKind::Settings
        );
    }
}
