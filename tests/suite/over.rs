//! Calls over frames against DataFusion in one batch, with the same SQL.
//!
//! Every query here runs with 1, 2 and 4 workers, in batches of 1, 7 and 8192 rows, in order and out of order within
//! the source's disorder. Times are random nanoseconds, so that no two rows tie, unless a test makes them.

use std::sync::Arc;

use driftline::arrow::array::{
    ArrayRef, AsArray, Float64Array, RecordBatch, TimestampNanosecondArray,
};
use driftline::arrow::compute::concat_batches;
use driftline::arrow::datatypes::{Float64Type, Int64Type, TimestampNanosecondType};
use driftline::{Engine, KeyedStatePolicy, Settings};
use proptest::prelude::*;

use super::oracle::{Window, batch};
use super::support::{
    CREATE_SAMPLES, Feed, SECOND, assert_same, collect, feeds, push_all, run, samples, shuffled,
};

/// Checks that a stream's answer is the batch's, for which SQL may be spelled otherwise.
#[track_caller]
fn check_as(what: &str, streaming: &str, in_a_batch: &str, rows: &RecordBatch) {
    let expected = batch("samples", rows, in_a_batch);
    let found = expected.iter().map(RecordBatch::num_rows).sum::<usize>();
    assert!(found > 0 || rows.num_rows() == 0, "{what} finds nothing");
    let late_by_ten = shuffled(rows, 10 * SECOND, 99);
    for feed in feeds(rows.num_rows()) {
        for (order, rows) in [("in order", rows), ("shuffled", &late_by_ten)] {
            let found = run(feed, CREATE_SAMPLES, streaming, "samples", rows)
                .unwrap_or_else(|error| panic!("{what}: {streaming}: {error}"));
            assert_same(&found, &expected, &format!("{what}, {feed:?}, {order}"));
        }
    }
}

#[track_caller]
fn check(what: &str, query: &str, rows: &RecordBatch) {
    check_as(what, query, query, rows);
}

/// Values without NaN, which DataFusion's sliding sums never get rid of.
const VALUE: &str = "CASE WHEN isnan(value) THEN NULL ELSE value END";

#[test]
fn aggregates_over_frames_of_rows() {
    let query = format!(
        "SELECT ts, service, sum(bytes) OVER few AS total, count(*) OVER few AS rows, avg({VALUE}) OVER few AS mean,
            min({VALUE}) OVER few AS least, max(host) OVER few AS last_name, stddev({VALUE}) OVER few AS deviation,
            count(bytes) OVER (PARTITION BY service ORDER BY ts ROWS 60 PRECEDING) AS many,
            sum(bytes) FILTER (WHERE bytes > 5000) OVER few AS large,
            sum(bytes) OVER (PARTITION BY service ORDER BY ts ROWS BETWEEN 70 PRECEDING AND 3 PRECEDING) AS before
         FROM samples
         WINDOW few AS (PARTITION BY service ORDER BY ts ROWS BETWEEN 4 PRECEDING AND CURRENT ROW)"
    );
    check("rows before", &query, &samples(11, 300, 100));
}

#[test]
fn aggregates_over_frames_of_an_interval() {
    let query = format!(
        "SELECT ts, host, sum(bytes) OVER (PARTITION BY host ORDER BY ts
                RANGE BETWEEN INTERVAL '20 seconds' PRECEDING AND CURRENT ROW) AS total,
            avg({VALUE}) OVER (PARTITION BY host ORDER BY ts
                RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND INTERVAL '5 seconds' FOLLOWING) AS around,
            count(*) OVER (PARTITION BY host ORDER BY ts
                RANGE BETWEEN INTERVAL '8 seconds' PRECEDING AND INTERVAL '2 seconds' PRECEDING) AS before,
            max(bytes) OVER (PARTITION BY host ORDER BY ts
                RANGE BETWEEN INTERVAL '1 second' FOLLOWING AND INTERVAL '9 seconds' FOLLOWING) AS next
         FROM samples"
    );
    check("an interval", &query, &samples(12, 300, 100));
}

#[test]
fn aggregates_over_frames_without_a_start() {
    let query = format!(
        "SELECT ts, service, sum(bytes) OVER (PARTITION BY service ORDER BY ts) AS total,
            avg({VALUE}) OVER (PARTITION BY service ORDER BY ts ROWS UNBOUNDED PRECEDING) AS mean,
            max(bytes) OVER (PARTITION BY service ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND 5 PRECEDING) AS old,
            count(*) OVER (PARTITION BY service ORDER BY ts
                RANGE BETWEEN UNBOUNDED PRECEDING AND INTERVAL '3 seconds' FOLLOWING) AS soon
         FROM samples"
    );
    check("from the start on", &query, &samples(13, 300, 100));
}

#[test]
fn aggregates_that_keep_all_rows_of_their_frame() {
    let query = "SELECT ts, service, median(bytes) OVER w AS middle, count(DISTINCT bytes % 5) OVER w AS kinds,
            array_agg(bytes) OVER w AS all_of_them
         FROM samples WINDOW w AS (PARTITION BY service ORDER BY ts RANGE BETWEEN INTERVAL '30 seconds' PRECEDING AND CURRENT ROW)";
    check("whole frames", query, &samples(14, 200, 100));
}

#[test]
fn values_of_other_rows() {
    let query = "SELECT ts, service, lag(bytes) OVER w AS one, lag(bytes, 3, -1) OVER w AS three, lead(host) OVER w AS next,
            lead(bytes * 2, 2, 7) OVER w AS later, bytes - lag(bytes) OVER w AS difference, lag(bytes, 0) OVER w AS own
         FROM samples WINDOW w AS (PARTITION BY service ORDER BY ts)";
    check("lag and lead", query, &samples(15, 300, 100));
    let query = "SELECT ts, service, first_value(bytes) OVER few AS first, last_value(bytes) OVER few AS last,
            nth_value(bytes, 3) OVER few AS third, nth_value(bytes, 2) OVER running AS second,
            first_value(host) OVER running AS opening, last_value(bytes) OVER running AS present
         FROM samples
         WINDOW few AS (PARTITION BY service ORDER BY ts ROWS BETWEEN 5 PRECEDING AND 2 FOLLOWING),
                running AS (PARTITION BY service ORDER BY ts)";
    check("first, last and nth", query, &samples(16, 300, 100));
}

#[test]
fn ranks() {
    let query =
        "SELECT ts, service, row_number() OVER w AS n, rank() OVER w AS r, dense_rank() OVER w AS d
         FROM samples WINDOW w AS (PARTITION BY service ORDER BY ts)";
    check("ranks", query, &samples(17, 300, 100));
}

#[test]
fn partitions_of_every_sort() {
    let query = "SELECT ts, bytes, sum(bytes) OVER (ORDER BY ts ROWS 9 PRECEDING) AS of_all,
            count(*) OVER (PARTITION BY host ORDER BY ts ROWS 9 PRECEDING) AS of_host,
            sum(bytes) OVER (PARTITION BY host, service ORDER BY ts ROWS 3 PRECEDING) AS of_both,
            lag(bytes) OVER (PARTITION BY bytes % 3 ORDER BY ts) AS of_third
         FROM samples WHERE bytes > 100";
    check("partitions", query, &samples(18, 300, 100));
}

/// Times in whole seconds, so that rows tie.
fn with_ties(rows: &RecordBatch) -> RecordBatch {
    let times = rows.column(0).as_primitive::<TimestampNanosecondType>().values();
    let whole = times.iter().map(|time| time.div_euclid(SECOND) * SECOND);
    let times: ArrayRef = Arc::new(TimestampNanosecondArray::from_iter_values(whole));
    let mut columns = rows.columns().to_vec();
    columns[0] = times;
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

#[test]
fn rows_of_equal_time_are_in_a_range_together() {
    let rows = with_ties(&samples(19, 300, 60));
    let query = "SELECT ts, host, bytes, sum(bytes) OVER (PARTITION BY service ORDER BY ts) AS total,
            count(*) OVER (PARTITION BY service ORDER BY ts RANGE BETWEEN CURRENT ROW AND CURRENT ROW) AS peers,
            max(bytes) OVER (PARTITION BY service ORDER BY ts
                RANGE BETWEEN INTERVAL '2 seconds' PRECEDING AND INTERVAL '1 second' FOLLOWING) AS around,
            rank() OVER (PARTITION BY service ORDER BY ts) AS r, dense_rank() OVER (PARTITION BY service ORDER BY ts) AS d
         FROM samples";
    check("peers", query, &rows);
    // What the order of ties decides is decided by more columns.
    let query = "SELECT ts, host, bytes, row_number() OVER w AS n, lag(bytes) OVER w AS before, rank() OVER w AS r
         FROM samples WHERE bytes IS NOT NULL WINDOW w AS (PARTITION BY service ORDER BY ts, bytes DESC)";
    check("ties", query, &rows);
}

#[test]
fn a_value_that_is_no_number_does_not_outlive_its_frame() {
    let rows = samples(20, 200, 60);
    let streaming = "SELECT ts, service, sum(value) OVER w AS total, max(value) OVER w AS most, count(value) OVER w AS n
         FROM samples WINDOW w AS (PARTITION BY service ORDER BY ts RANGE INTERVAL '4 seconds' PRECEDING)";
    let in_a_batch =
        "SELECT a.ts, a.service, sum(b.value) AS total, max(b.value) AS most, count(b.value) AS n
         FROM samples a JOIN samples b
           ON a.service = b.service AND b.ts <= a.ts AND b.ts >= a.ts - INTERVAL '4 seconds'
         GROUP BY a.ts, a.service";
    check_as("NaN", streaming, in_a_batch, &rows);
}

#[test]
fn a_huge_value_leaves_no_trace() {
    let mut rows = samples(21, 400, 60);
    let mut columns = rows.columns().to_vec();
    let values = (0..400).map(|row| if row % 50 == 0 { 1e18 } else { f64::from(row) / 10.0 });
    columns[3] = Arc::new(Float64Array::from_iter_values(values)) as ArrayRef;
    rows = RecordBatch::try_new(rows.schema(), columns).unwrap();
    let query = "SELECT ts, sum(value) OVER (ORDER BY ts ROWS 40 PRECEDING) AS total FROM samples";
    let found = run(Feed { workers: 1, batch_rows: 64 }, CREATE_SAMPLES, query, "samples", &rows);
    let found = found.unwrap();
    let found = concat_batches(&found[0].schema(), &found).unwrap();
    let totals = found.column(1).as_primitive::<Float64Type>();
    for row in (41..400).filter(|row| (row - 40) % 50 >= 1 && row % 50 >= 41) {
        let expected: f64 = (row - 40..=row).map(|row| f64::from(row as u32) / 10.0).sum();
        assert!((totals.value(row) - expected).abs() < 1e-9, "{row}: {}", totals.value(row));
    }
}

#[test]
fn the_first_row_of_each_key() {
    let query = "SELECT ts, host, service, bytes FROM
           (SELECT *, row_number() OVER (PARTITION BY host, service ORDER BY ts) AS n FROM samples) WHERE n = 1";
    check("deduplicated", query, &samples(22, 300, 100));
    let qualified = "SELECT ts, host, service, bytes FROM samples
         QUALIFY row_number() OVER (PARTITION BY host, service ORDER BY ts) = 1";
    check_as("deduplicated, with QUALIFY", qualified, query, &samples(22, 300, 100));
}

const TUMBLE: Window = Window { slide: 5 * SECOND, size: 5 * SECOND, step: 5 * SECOND, offset: 0 };

#[test]
fn frames_over_windows_and_windows_over_frames() {
    let rows = samples(23, 300, 100);
    let over = "SELECT service, window_end, n, n - lag(n) OVER w AS more, avg(n) OVER (PARTITION BY service ORDER BY window_end
             RANGE BETWEEN INTERVAL '20 seconds' PRECEDING AND CURRENT ROW) AS mean
         FROM (SELECT service, window_start, window_end, count(*) AS n FROM {W} GROUP BY service, window_start, window_end)
         WINDOW w AS (PARTITION BY service ORDER BY window_end)";
    let spelled = |text: String| over.replace("{W}", &text);
    check_as(
        "a frame of windows",
        &spelled(TUMBLE.streaming("samples", "ts")),
        &spelled(TUMBLE.in_a_batch("samples", "ts")),
        &rows,
    );
    let inner = "(SELECT ts, service, sum(bytes) OVER (PARTITION BY service ORDER BY ts
             RANGE BETWEEN INTERVAL '7 seconds' PRECEDING AND INTERVAL '3 seconds' FOLLOWING) AS total FROM samples)";
    let outer = "SELECT service, window_end, max(total) AS most, count(*) AS n FROM {W}
         GROUP BY service, window_start, window_end";
    check_as(
        "a window of frames",
        &outer.replace("{W}", &TUMBLE.streaming(inner, "ts")),
        &outer.replace("{W}", &TUMBLE.in_a_batch(inner, "ts")),
        &rows,
    );
}

#[test]
fn frames_over_what_a_detector_found() {
    let rows = samples(24, 400, 100);
    let ddl = format!(
        "{CREATE_SAMPLES}; CREATE DETECTOR judged USING ewma PARTITION BY service AS
         SELECT service, ts, bytes FROM samples WHERE bytes IS NOT NULL"
    );
    let query = "SELECT ts, service, bytes, sum(bytes) OVER (PARTITION BY service ORDER BY ts ROWS 5 PRECEDING) AS total,
           max(score) OVER (PARTITION BY service ORDER BY ts RANGE INTERVAL '30 seconds' PRECEDING) AS worst FROM judged";
    let plain = "SELECT ts, service, bytes, score FROM judged";
    let feed = Feed { workers: 1, batch_rows: 8192 };
    let judged = run(feed, &ddl, plain, "samples", &rows).unwrap();
    let judged = concat_batches(&judged[0].schema(), &judged).unwrap();
    let expected = batch("judged", &judged, query);
    for feed in feeds(400) {
        let found = run(feed, &ddl, query, "samples", &shuffled(&rows, 10 * SECOND, 5)).unwrap();
        assert_same(&found, &expected, &format!("{feed:?}"));
    }
}

#[test]
fn many_rows_of_few_and_of_many_keys() {
    let rows = samples(25, 30_000, 3600);
    let query = format!(
        "SELECT ts, sum(bytes) OVER (PARTITION BY service ORDER BY ts RANGE INTERVAL '10 minutes' PRECEDING) AS total,
            avg({VALUE}) OVER (PARTITION BY service ORDER BY ts ROWS 1000 PRECEDING) AS mean,
            lag(bytes, 500) OVER (PARTITION BY service ORDER BY ts) AS old,
            count(*) OVER (PARTITION BY bytes % 1000 ORDER BY ts) AS running
         FROM samples"
    );
    check("many rows", &query, &rows);
}

#[test]
fn rows_leave_in_order_of_time_and_as_soon_as_they_can() {
    let engine = Engine::builder().workers(1).build().unwrap();
    engine.execute(CREATE_SAMPLES).unwrap();
    let subscribe = |frame: &str| {
        let sql = format!("SELECT ts, count(*) OVER (ORDER BY ts {frame}) AS n FROM samples");
        engine.subscribe(&sql).unwrap()
    };
    let mut now = subscribe("ROWS 3 PRECEDING");
    let mut later = subscribe("RANGE BETWEEN CURRENT ROW AND INTERVAL '20 seconds' FOLLOWING");
    let mut next = subscribe("ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING");
    let rows = samples(26, 100, 100);
    push_all(&engine, "samples", &shuffled(&rows, 10 * SECOND, 7), 10).unwrap();
    engine.drain().unwrap();
    let times = |rows: &mut driftline::Subscription| {
        let mut times = Vec::new();
        while let Some(batch) = rows.try_next().unwrap() {
            times.extend_from_slice(
                batch.column(0).as_primitive::<TimestampNanosecondType>().values(),
            );
        }
        assert!(times.is_sorted());
        times
    };
    let all = rows.column(0).as_primitive::<TimestampNanosecondType>().values();
    // The source may still bring rows that are 10 seconds older than its newest.
    let until = |bound: i64| all.partition_point(|time| *time < all[99] - bound);
    assert_eq!(times(&mut now), all[..until(10 * SECOND)]);
    assert_eq!(times(&mut later), all[..until(30 * SECOND)]);
    assert_eq!(times(&mut next), all[..until(10 * SECOND) - 1]);
    engine.shutdown().unwrap();
    assert_eq!(collect(now).num_rows(), 100 - until(10 * SECOND));
    assert_eq!(collect(later).num_rows(), 100 - until(30 * SECOND));
    assert_eq!(collect(next).num_rows(), 101 - until(10 * SECOND));
}

#[test]
fn keys_are_bounded_by_the_settings() {
    let rows = samples(27, 300, 100);
    let query = "SELECT ts, row_number() OVER (PARTITION BY service ORDER BY ts) AS n FROM samples";
    for (policy, refused, evicted) in
        [(KeyedStatePolicy::Refuse, true, false), (KeyedStatePolicy::EvictOldest, false, true)]
    {
        let settings = Settings {
            workers: 1,
            keyed_state_max: 2,
            keyed_state_policy: policy,
            ..Settings::default()
        };
        let engine = Engine::builder().settings(settings).build().unwrap();
        engine.execute(CREATE_SAMPLES).unwrap();
        let results = engine.subscribe(query).unwrap();
        push_all(&engine, "samples", &rows, 50).unwrap();
        engine.source("samples").unwrap().close().unwrap();
        engine.drain().unwrap();
        let metrics = engine.metrics();
        let found = collect(results);
        let numbers = found.column(1).as_primitive::<driftline::arrow::datatypes::UInt64Type>();
        let counts = metrics.queries.first().cloned();
        engine.shutdown().unwrap();
        if let Some(counts) = counts {
            assert_eq!(counts.rows_refused + found.num_rows() as u64, 300, "{policy:?}");
            assert_eq!((counts.rows_refused > 0, counts.keys_evicted > 0), (refused, evicted));
        }
        let begun = numbers.values().iter().filter(|n| **n == 1).count();
        assert_eq!(begun > 2, evicted, "{begun} keys began");
    }
}

/// A call and whether it has a frame.
const CALLS: [(&str, bool); 9] = [
    ("sum(bytes)", true),
    ("avg(CASE WHEN isnan(value) THEN NULL ELSE value END)", true),
    ("count(host)", true),
    ("min(bytes)", true),
    ("median(bytes)", true),
    ("last_value(bytes)", true),
    ("nth_value(bytes, 2)", true),
    ("lag(bytes, 2)", false),
    ("row_number()", false),
];

#[derive(Clone, Copy, Debug)]
struct AnyFrame {
    is_range: bool,
    start: Option<i64>,
    length: i64,
}

impl AnyFrame {
    fn spelled(self) -> String {
        let bound = |at: i64| {
            let distance = match self.is_range {
                true => format!("INTERVAL '{} milliseconds'", at.abs() * 700),
                false => at.abs().to_string(),
            };
            match at {
                0 => "CURRENT ROW".to_owned(),
                ..0 => format!("{distance} PRECEDING"),
                1.. => format!("{distance} FOLLOWING"),
            }
        };
        let start = self.start.map_or_else(|| "UNBOUNDED PRECEDING".to_owned(), bound);
        let end = bound(self.start.unwrap_or(-5) + self.length);
        format!("{} BETWEEN {start} AND {end}", if self.is_range { "RANGE" } else { "ROWS" })
    }
}

fn any_frame() -> impl Strategy<Value = AnyFrame> {
    (any::<bool>(), prop::option::weighted(0.8, -60i64..4), 0i64..70)
        .prop_map(|(is_range, start, length)| AnyFrame { is_range, start, length })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_calls_over_any_frames_equal_the_batch(
        calls in prop::collection::vec((0..CALLS.len(), any_frame()), 1..4),
        partition in prop::sample::select(vec!["", "PARTITION BY service", "PARTITION BY host, service"]),
        seed in any::<u64>(),
        count in 0usize..250,
        workers in prop::sample::select(vec![1usize, 2, 4]),
        batch_rows in prop::sample::select(vec![1usize, 7, 8192]),
    ) {
        let calls = calls.iter().enumerate().filter_map(|(index, (call, frame))| {
            let (call, has_frame) = CALLS[*call];
            // Those that keep every row need a start.
            let is_endless = call.starts_with("median") && frame.start.is_none();
            let frame = if has_frame { frame.spelled() } else { String::new() };
            (!is_endless).then(|| format!(", {call} OVER ({partition} ORDER BY ts {frame}) AS c{index}"))
        });
        let query = format!("SELECT ts, service{} FROM samples", calls.collect::<String>());
        let rows = samples(seed, count, 60);
        let expected = batch("samples", &rows, &query);
        let rows = shuffled(&rows, 10 * SECOND, seed);
        let found = run(Feed { workers, batch_rows }, CREATE_SAMPLES, &query, "samples", &rows).unwrap();
        assert_same(&found, &expected, &query);
    }
}

#[test]
fn a_moving_average_of_a_counter_that_starts_again() {
    let engine = Engine::builder().workers(1).build().unwrap();
    engine
        .execute("CREATE SOURCE counters (ts TIMESTAMP, requests BIGINT, WATERMARK FOR ts AS ts)")
        .unwrap();
    let results = engine
        .subscribe(
            "SELECT ts, CASE WHEN requests >= lag(requests) OVER w THEN requests - lag(requests) OVER w ELSE requests END AS new
             FROM counters WINDOW w AS (ORDER BY ts)",
        )
        .unwrap();
    let rows = "(0, 5), (10, 9), (20, 2), (30, 2)";
    for row in rows.split("), (") {
        let row = row.trim_matches(|c| "()".contains(c));
        let (seconds, requests) = row.split_once(", ").unwrap();
        let sql = format!(
            "INSERT INTO counters VALUES (TIMESTAMP '1970-01-01T00:00:{seconds:0>2}', {requests})"
        );
        engine.execute(&sql).unwrap();
    }
    engine.shutdown().unwrap();
    let rows = collect(results);
    assert_eq!(rows.column(1).as_primitive::<Int64Type>().values(), &[5, 4, 2, 0]);
}
