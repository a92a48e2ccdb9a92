//! Joins, DISTINCT and grouping by an event time, against DataFusion in one batch: with 1, 2 and 4 workers, in batches of
//! 1, 7 and 8192 rows, in order and out of order within each source's disorder.

use driftline::arrow::array::{AsArray, RecordBatch};
use driftline::{Engine, Settings};
use proptest::prelude::*;

use super::oracle::{Window, batch_of};
use super::several::{check, check_against, create_both};
use super::support::{Feed, SECOND, assert_same, cells, push_all, run_sources, samples, shuffled};

const KINDS: [&str; 4] = ["JOIN", "LEFT JOIN", "RIGHT OUTER JOIN", "FULL JOIN"];

#[test]
fn interval_joins_equal_the_batch() {
    for kind in KINDS {
        check(&format!(
            "SELECT a.ts AS a_ts, b.ts AS b_ts, a.service, a.value, b.bytes
             FROM samples a {kind} others b ON a.service = b.service
               AND a.ts BETWEEN b.ts - INTERVAL '2 seconds' AND b.ts + INTERVAL '1 second'"
        ));
    }
}

#[test]
fn conditions_on_one_side_and_on_both_equal_the_batch() {
    for kind in KINDS {
        check(&format!(
            "SELECT a.ts AS a_ts, b.ts AS b_ts, a.host, b.host AS b_host, a.bytes, b.bytes AS b_bytes
             FROM samples a {kind} others AS b ON a.host = b.host AND a.bytes + 1 < b.bytes * 2 AND b.value > 10
               AND a.bytes > 500 AND b.ts > a.ts AND b.ts - INTERVAL '5' SECOND <= a.ts"
        ));
    }
}

#[test]
fn joins_without_equal_keys_equal_the_batch() {
    for kind in KINDS {
        check(&format!(
            "SELECT a.ts AS a_ts, b.ts AS b_ts, a.bytes, b.bytes AS b_bytes
             FROM samples a {kind} others b ON a.ts >= b.ts + INTERVAL '300 milliseconds'
               AND a.ts < b.ts + INTERVAL '700 milliseconds' AND a.bytes <> b.bytes"
        ));
    }
}

#[test]
fn bounds_in_where_equal_the_batch() {
    check(
        "SELECT a.ts, b.ts AS b_ts, upper(a.service) AS name FROM samples a JOIN others b ON a.service = b.service
         WHERE a.ts >= b.ts AND b.ts > a.ts - INTERVAL '1 second' AND a.bytes > 100",
    );
}

#[test]
fn joins_of_rows_in_windows_equal_the_batch() {
    for kind in KINDS {
        check(&format!(
            "SELECT a.window_end, b.window_start, a.ts AS a_ts, b.ts AS b_ts, a.host, b.bytes
             FROM {{W:samples}} a {kind} {{W:others}} b
             ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.host = b.host"
        ));
    }
}

const COUNTS: &str = "SELECT window_start, window_end, service, count(*) AS n, sum(bytes) AS total
                      FROM {W:samples} GROUP BY service, window_start, window_end";
const OTHERS: &str =
    "SELECT window_start, window_end, service, count(*) AS n FROM {W:others} WHERE bytes > 4000
                      GROUP BY service, window_start, window_end";

#[test]
fn joins_of_windows_equal_the_batch() {
    for kind in KINDS {
        check(&format!(
            "SELECT a.window_end AS a_end, b.window_end AS b_end, a.service, a.n, b.n AS m, a.total
             FROM ({COUNTS}) a {kind} ({OTHERS}) b ON a.window_end = b.window_end AND a.service = b.service
               AND a.n > b.n"
        ));
    }
    check(&format!(
        "SELECT window_end, service, a.n, b.n AS m
         FROM ({COUNTS}) a JOIN ({OTHERS}) b USING (window_start, window_end, service)"
    ));
}

/// A side with one row per window goes to all workers, unless it is kept without a partner.
#[test]
fn joins_with_one_row_per_window_equal_the_batch() {
    const LARGEST: &str = "SELECT window_start, window_end, max(bytes) AS most FROM {W:samples} GROUP BY window_start, window_end";
    for kind in KINDS {
        check(&format!(
            "SELECT b.ts, b.service, b.bytes, m.most, m.window_end FROM others b {kind} ({LARGEST}) m
             ON b.bytes >= m.most AND b.ts >= m.window_end - INTERVAL '5 seconds' AND b.ts < m.window_end"
        ));
        check(&format!(
            "SELECT b.ts, b.host, m.most, m.window_end FROM (SELECT most - most % 50 AS most, window_end FROM ({LARGEST})) m
             {kind} samples b ON b.bytes - b.bytes % 50 = m.most
             AND b.ts BETWEEN m.window_end - INTERVAL '5 seconds' AND m.window_end"
        ));
    }
}

#[test]
fn a_join_of_a_source_with_itself_equals_the_batch() {
    check(
        "SELECT a.ts, b.ts AS later, a.host, b.value - a.value AS change FROM samples a JOIN samples b
         ON a.host = b.host AND a.service = b.service
         AND b.ts BETWEEN a.ts + INTERVAL '1 millisecond' AND a.ts + INTERVAL '4 seconds'",
    );
}

#[test]
fn chains_of_joins_equal_the_batch() {
    check(
        "SELECT a.ts, b.ts AS b_ts, c.ts AS c_ts, a.service, c.bytes FROM samples a
         JOIN others b ON a.service = b.service AND b.ts BETWEEN a.ts - INTERVAL '1 second' AND a.ts
         LEFT JOIN samples c ON c.service = b.service AND c.host = a.host
           AND c.ts BETWEEN b.ts AND b.ts + INTERVAL '2 seconds' AND c.bytes > 3000",
    );
    // The bound of the first join stands behind the second.
    check(
        "SELECT a.ts, b.ts AS b_ts, c.ts AS c_ts FROM samples a
         JOIN others b ON a.service = b.service JOIN others c ON c.ts = b.ts
         WHERE b.ts BETWEEN a.ts - INTERVAL '1 second' AND a.ts",
    );
}

#[test]
fn a_window_over_a_join_equals_the_batch() {
    check(
        "SELECT window_end, service, count(*) AS n, max(gap) AS most FROM {W:(SELECT b.ts AS ts, a.service, a.bytes - b.bytes AS gap
           FROM samples a JOIN others b ON a.service = b.service
           AND a.ts BETWEEN b.ts - INTERVAL '3 seconds' AND b.ts + INTERVAL '3 seconds')}
         GROUP BY service, window_start, window_end",
    );
    check(
        "SELECT window_end, service, count(*) AS n, count(other) AS m FROM {W:(SELECT a.ts AS ts, a.service, b.ts AS other
           FROM samples a LEFT JOIN others b ON a.service = b.service AND a.bytes < b.bytes
           AND a.ts BETWEEN b.ts - INTERVAL '3 seconds' AND b.ts + INTERVAL '1 second')}
         GROUP BY service, window_start, window_end",
    );
}

#[test]
fn top_rows_of_a_join_of_windows_equal_the_batch() {
    check(&format!(
        "SELECT window_end, service, total, place FROM (
           SELECT *, ROW_NUMBER() OVER (PARTITION BY window_end ORDER BY total DESC, service) AS place FROM (
             SELECT a.window_end, a.service, a.n + b.n AS total
             FROM ({COUNTS}) a JOIN ({OTHERS}) b ON a.window_end = b.window_end AND a.service = b.service))
         WHERE place <= 2"
    ));
}

#[test]
fn cascades_equal_the_batch() {
    check(&format!(
        "SELECT window_start, window_end, max(n) AS most, count(*) AS services FROM ({COUNTS})
         GROUP BY window_start, window_end"
    ));
    // The services with the most rows of each window, as Nexmark asks for auctions.
    check(&format!(
        "SELECT a.window_end, a.service, a.n FROM ({COUNTS}) a JOIN (
           SELECT window_start, window_end, max(n) AS most FROM ({COUNTS}) GROUP BY window_start, window_end) b
         ON a.window_start = b.window_start AND a.window_end = b.window_end WHERE a.n >= b.most"
    ));
    check(&format!(
        "SELECT b.window_end, count(*) AS n, sum(a.n) AS rows
         FROM ({COUNTS}) a JOIN ({OTHERS}) b ON a.window_end = b.window_end GROUP BY b.window_end"
    ));
}

#[test]
fn grouping_by_event_time_equals_the_batch() {
    check(
        "SELECT ts, service, count(*) AS n, min(bytes) AS least, max(ts) AS same
         FROM (SELECT ts, service, bytes FROM samples UNION ALL SELECT ts, service, -bytes FROM samples)
         WHERE bytes > -5000 GROUP BY service, ts HAVING count(*) > 1",
    );
}

#[test]
fn distinct_rows_equal_the_batch() {
    check("SELECT DISTINCT window_end, host FROM {W:samples}");
    check("SELECT DISTINCT service, a.ts FROM samples a");
    check(
        "SELECT window_end, service FROM {W:samples} UNION SELECT window_end, host FROM {W:others}",
    );
    check(
        "SELECT window_end, count(*) AS hosts, count(DISTINCT host) AS known
         FROM (SELECT DISTINCT window_end, host FROM {W:samples}) GROUP BY window_end",
    );
}

/// The latest row of `others` for each of `samples`, in SQL that a batch understands.
fn asof_in_a_batch(kind: &str, condition: &str, columns: &str) -> String {
    format!(
        "SELECT {columns} FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY a_ts, a_service, a_host ORDER BY b_ts DESC) AS place
           FROM (SELECT a.ts AS a_ts, a.service AS a_service, a.host AS a_host, a.value AS a_value,
                        b.ts AS b_ts, b.bytes AS b_bytes, b.service AS b_service
                 FROM samples a {kind} JOIN others b ON {condition}))
         WHERE place = 1"
    )
}

#[test]
fn asof_joins_equal_the_batch() {
    let columns = "a.ts AS a_ts, a.service AS a_service, a.value AS a_value, b.ts AS b_ts, b.bytes AS b_bytes";
    let names = "a_ts, a_service, a_value, b_ts, b_bytes";
    for (kind, matching, bound) in [
        ("", "a.ts >= b.ts", ""),
        ("LEFT", "a.ts > b.ts", ""),
        ("LEFT", "a.ts >= b.ts", " AND a.ts <= b.ts + INTERVAL '400 milliseconds'"),
        ("", "b.ts <= a.ts - INTERVAL '10 seconds'", ""),
    ] {
        let keys = "a.service = b.service";
        let expected = asof_in_a_batch(kind, &format!("{keys} AND {matching}{bound}"), names);
        let snowflake = format!(
            "SELECT {columns} FROM samples a ASOF {kind} JOIN others b MATCH_CONDITION ({matching}) ON {keys}{bound}"
        );
        check_against(&snowflake, &expected);
        let duckdb = format!(
            "SELECT {columns} FROM samples a ASOF {kind} JOIN others b ON {keys} AND {matching}{bound}"
        );
        check_against(&duckdb, &expected);
    }
    let expected = asof_in_a_batch("LEFT", "a.ts >= b.ts", names);
    check_against(
        &format!(
            "SELECT {columns} FROM samples a ASOF LEFT JOIN others b MATCH_CONDITION (a.ts >= b.ts)"
        ),
        &expected,
    );
}

#[test]
fn a_window_over_an_asof_join_equals_the_batch() {
    let windowed = |asof: &str| {
        format!(
            "SELECT window_end, count(*) AS n, count(b_bytes) AS known, sum(b_bytes) AS total
             FROM {{W:({asof})}} GROUP BY window_start, window_end"
        )
    };
    let matching = "a.service = b.service AND a.ts >= b.ts";
    let expected = asof_in_a_batch("LEFT", matching, "a_ts AS ts, b_bytes");
    let found = format!(
        "SELECT a.ts AS ts, b.bytes AS b_bytes FROM samples a ASOF LEFT JOIN others b ON {matching}"
    );
    check_against(&windowed(&found), &windowed(&expected));
}

#[test]
fn a_left_row_is_given_when_the_other_source_ends() {
    for workers in [1, 2] {
        let engine = Engine::builder().workers(workers).build().unwrap();
        engine.execute(&create_both()).unwrap();
        let mut results = engine
            .subscribe(
                "SELECT a.ts, b.ts AS other FROM samples a LEFT JOIN others b
                 ON a.service = b.service AND a.ts BETWEEN b.ts - INTERVAL '1 hour' AND b.ts",
            )
            .unwrap();
        let rows = samples(1, 100, 60);
        push_all(&engine, "samples", &rows, 50).unwrap();
        engine.drain().unwrap();
        assert!(results.try_next().unwrap().is_none(), "the other source may still have partners");
        engine.source("others").unwrap().close().unwrap();
        engine.drain().unwrap();
        let mut given = 0;
        while let Some(rows) = results.try_next().unwrap() {
            assert_eq!(rows.column(1).null_count(), rows.num_rows());
            given += rows.num_rows();
        }
        assert_eq!(given, 100);
        engine.shutdown().unwrap();
    }
}

#[test]
fn a_match_is_given_before_any_watermark() {
    let engine = Engine::builder().workers(2).build().unwrap();
    engine.execute(&create_both()).unwrap();
    let mut results =
        engine.subscribe("SELECT a.ts FROM samples a JOIN others b ON a.ts = b.ts").unwrap();
    let rows = samples(1, 1, 10);
    push_all(&engine, "samples", &rows, 1).unwrap();
    push_all(&engine, "others", &rows, 1).unwrap();
    engine.drain().unwrap();
    assert_eq!(results.try_next().unwrap().map(|rows| rows.num_rows()), Some(1));
    engine.shutdown().unwrap();
}

#[test]
fn rows_beyond_the_bound_are_refused_and_counted() {
    let settings = Settings { workers: 1, join_rows_max: 100, ..Settings::default() };
    let engine = Engine::builder().settings(settings).build().unwrap();
    engine.execute(&create_both()).unwrap();
    let results = engine
        .subscribe("SELECT a.ts FROM samples a JOIN others b ON a.ts = b.ts - INTERVAL '1 day'")
        .unwrap();
    push_all(&engine, "samples", &samples(1, 150, 60), 8192).unwrap();
    push_all(&engine, "others", &samples(2, 70, 60), 7).unwrap();
    engine.drain().unwrap();
    let metrics = engine.metrics();
    let query =
        metrics.queries.iter().find(|query| query.name.starts_with("subscription")).unwrap();
    assert!(query.state_bytes > 1000, "{query:?}");
    assert_eq!(query.rows_refused, 120);
    engine.shutdown().unwrap();
    drop(results);
}

#[test]
fn scores_of_a_detector_join_what_it_read() {
    for workers in [1, 4] {
        let engine = Engine::builder().workers(workers).build().unwrap();
        engine.execute(&create_both()).unwrap();
        engine
            .execute("CREATE DETECTOR d USING ewma PARTITION BY service AS SELECT ts, service, bytes FROM samples")
            .unwrap();
        let results = engine
            .subscribe(
                "SELECT d.ts, d.score, a.host FROM d JOIN samples a
                 ON d.service = a.service AND d.ts = a.ts AND a.bytes IS NOT DISTINCT FROM d.bytes",
            )
            .unwrap();
        let rows = samples(1, 300, 60);
        push_all(&engine, "samples", &shuffled(&rows, 10 * SECOND, 3), 7).unwrap();
        engine.shutdown().unwrap();
        let joined: usize = results.map(|rows| rows.unwrap().num_rows()).sum();
        assert_eq!(joined, 300, "{workers} workers");
    }
}

#[test]
fn state_leaves_with_the_watermark() {
    let engine = Engine::builder().workers(2).build().unwrap();
    engine.execute(&create_both()).unwrap();
    let results = engine
        .subscribe("SELECT a.ts, b.bytes FROM samples a JOIN others b ON a.host = b.host AND a.ts BETWEEN b.ts AND b.ts + INTERVAL '1 second'")
        .unwrap();
    let reader =
        std::thread::spawn(move || results.map(|rows| rows.unwrap().num_rows()).sum::<usize>());
    let mut most = [0, 0];
    for half in 0..2 {
        for part in 0..10_i64 {
            let rows = moved(&samples(7, 500, 20), (half * 10 + part) * 20 * SECOND);
            push_all(&engine, "samples", &rows, 100).unwrap();
            push_all(&engine, "others", &rows, 100).unwrap();
            engine.drain().unwrap();
            let metrics = engine.metrics();
            let query =
                metrics.queries.iter().find(|q| q.name.starts_with("subscription")).unwrap();
            most[half as usize] = most[half as usize].max(query.state_bytes);
        }
    }
    assert!(most[1] < most[0] * 3 / 2, "{most:?}");
    engine.shutdown().unwrap();
    assert!(reader.join().unwrap() > 1000);
}

/// The same rows at another time.
fn moved(rows: &RecordBatch, by_ns: i64) -> RecordBatch {
    use driftline::arrow::array::{ArrayRef, TimestampNanosecondArray};
    use driftline::arrow::datatypes::TimestampNanosecondType;
    let times = rows.column(0).as_primitive::<TimestampNanosecondType>();
    let times =
        TimestampNanosecondArray::from_iter_values(times.values().iter().map(|t| t + by_ns));
    let mut columns = rows.columns().to_vec();
    columns[0] = std::sync::Arc::new(times) as ArrayRef;
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

#[test]
fn numbers_of_rows_stay_as_they_are() {
    // Equal rows on both sides: each pair counts.
    let engine = Engine::builder().workers(2).build().unwrap();
    engine.execute(&create_both()).unwrap();
    let results = engine
        .subscribe("SELECT count(*) AS n FROM samples a JOIN others b ON a.ts = b.ts AND a.service = b.service GROUP BY a.ts")
        .unwrap();
    let row = samples(1, 1, 10);
    for _ in 0..3 {
        push_all(&engine, "samples", &row, 1).unwrap();
        push_all(&engine, "others", &row, 1).unwrap();
    }
    engine.shutdown().unwrap();
    let counts: Vec<RecordBatch> = results.map(Result::unwrap).collect();
    assert_eq!(format!("{:?}", cells(&counts)), "[[Text(\"9\")]]");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_join_over_any_rows_equals_the_batch(
        kind in prop::sample::select(KINDS.to_vec()),
        (lower, width) in (-40i64..40, 0i64..60),
        is_windowed in any::<bool>(),
        size in 1i64..20,
        seed in any::<u64>(),
        counts in (0usize..150, 0usize..150),
        workers in prop::sample::select(vec![1usize, 2, 4]),
        batch_rows in prop::sample::select(vec![1usize, 7, 8192]),
    ) {
        let window = Window { slide: size * SECOND, size: size * SECOND, step: size * SECOND, offset: SECOND };
        let spell = |stream: bool, relation: &str| match (is_windowed, stream) {
            (false, _) => relation.to_owned(),
            (true, true) => window.streaming(relation, "ts"),
            (true, false) => window.in_a_batch(relation, "ts"),
        };
        let query = |stream: bool| {
            let condition = if is_windowed { "a.window_end = b.window_end".to_owned() } else {
                let (from, to) = (lower * 100, (lower + width) * 100);
                format!("a.ts BETWEEN b.ts + INTERVAL '{from} milliseconds' AND b.ts + INTERVAL '{to} milliseconds'")
            };
            format!(
                "SELECT a.ts AS a_ts, b.ts AS b_ts, a.host, b.service, a.value FROM {} a {kind} {} b
                 ON a.host = b.host AND {condition} AND a.bytes < b.bytes + 5000",
                spell(stream, "samples"), spell(stream, "others"),
            )
        };
        let (a, b) = (samples(seed, counts.0, 60), samples(seed ^ 1, counts.1, 90));
        let expected = batch_of(&[("samples", &a), ("others", &b)], &query(false));
        let (a, b) = (shuffled(&a, 10 * SECOND, seed), shuffled(&b, 3 * SECOND, seed));
        let feed = Feed { workers, batch_rows };
        let found = run_sources(feed, &create_both(), &query(true), &[("samples", &a), ("others", &b)]).unwrap();
        assert_same(&found, &expected, &query(true));
    }
}
