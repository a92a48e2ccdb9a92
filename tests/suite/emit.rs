//! The EMIT clause: changes, summed, against DataFusion in one batch, and what a reader sees on the way there.

use std::collections::HashMap;

use driftline::arrow::array::{Array, AsArray, RecordBatch, TimestampNanosecondArray, UInt32Array};
use driftline::arrow::compute::{cast, concat_batches, take_record_batch};
use driftline::arrow::datatypes::{DataType, Int64Type};
use driftline::arrow::util::display::array_value_to_string;
use driftline::{Engine, Subscription};

use super::oracle::{Window, batch, batch_of};
use super::several::create_both;
use super::support::{
    CREATE_SAMPLES, Feed, SECOND, assert_same, feeds, push_all, run, run_sources, samples, shuffled,
};

/// What holds after some changes; batches that follow each other may be added one by one.
#[derive(Default)]
struct Held {
    rows: HashMap<String, Vec<(usize, u32)>>,
    batches: Vec<RecordBatch>,
}

impl Held {
    /// Takes changes in. A row that no longer holds must have held.
    fn add(&mut self, changes: &RecordBatch, what: &str) {
        let last = changes.num_columns() - 1;
        assert_eq!(changes.schema().field(last).name(), "_diff", "{what}");
        let diffs = changes.column(last).as_primitive::<Int64Type>();
        assert_eq!(diffs.null_count(), 0, "{what}");
        for row in 0..changes.num_rows() {
            let text = |column: usize| {
                let column = changes.column(column);
                format!("{}{}", column.is_null(row), array_value_to_string(column, row).unwrap())
            };
            let key = (0..last).map(text).collect::<Vec<_>>().join("|");
            let places = self.rows.entry(key.clone()).or_default();
            match diffs.value(row) {
                1 => places.push((self.batches.len(), row as u32)),
                -1 => assert!(places.pop().is_some(), "{what}: {key} goes and was not there"),
                other => panic!("{what}: {key} changes by {other}"),
            }
        }
        let columns: Vec<usize> = (0..last).collect();
        self.batches.push(changes.project(&columns).unwrap());
    }

    fn rows(&self) -> Vec<RecordBatch> {
        let mut by_batch: HashMap<usize, Vec<u32>> = HashMap::new();
        for (batch, row) in self.rows.values().flatten() {
            by_batch.entry(*batch).or_default().push(*row);
        }
        let take = |(batch, rows): (usize, Vec<u32>)| {
            take_record_batch(&self.batches[batch], &UInt32Array::from(rows)).unwrap()
        };
        by_batch.into_iter().map(take).collect()
    }
}

/// Sums changes up, looking at every step on the way.
pub(super) fn settle(changes: &[RecordBatch], what: &str) -> Vec<RecordBatch> {
    let mut held = Held::default();
    changes.iter().for_each(|changes| held.add(changes, what));
    held.rows()
}

/// A source whose rows may be out of order by two seconds, and late by eight more.
const CREATE_LATE: &str = "CREATE SOURCE samples (
    ts TIMESTAMP NOT NULL, host TEXT, service TEXT NOT NULL, value DOUBLE, bytes BIGINT,
    WATERMARK FOR ts AS ts - INTERVAL '2 seconds') WITH (allowed_lateness = INTERVAL '8 seconds')";

const WINDOWS: [Window; 3] = [
    Window { slide: 5 * SECOND, size: 5 * SECOND, step: 5 * SECOND, offset: 0 },
    Window { slide: 4 * SECOND, size: 6 * SECOND, step: 6 * SECOND, offset: SECOND },
    Window { slide: 6 * SECOND, size: 6 * SECOND, step: 2 * SECOND, offset: 0 },
];

const WINDOWED: [&str; 3] = [
    "SELECT window_start, window_end, service, count(*) AS n, avg(value) FILTER (WHERE NOT isnan(value)) AS mean,
            min(bytes) AS least, stddev(bytes) AS deviation
     FROM {W} GROUP BY service, window_start, window_end",
    "SELECT upper(service) AS name, host, window_end, sum(bytes) / 2 + 1 AS half, count(DISTINCT bytes % 5) AS kinds
     FROM {W} WHERE bytes > 1000 GROUP BY host, service, window_start, window_end HAVING count(*) > 1",
    "SELECT n FROM (SELECT window_end, count(*) AS n, median(bytes) AS middle FROM {W}
     GROUP BY window_start, window_end) WHERE middle > 4000",
];

const CLAUSES: [&str; 5] = [
    "EMIT ON UPDATE",
    "EMIT EVERY INTERVAL '3 seconds'",
    "EMIT ON WINDOW CLOSE WITH CORRECTIONS",
    "EMIT ON WINDOW CLOSE WITH CORRECTIONS FOR INTERVAL '1 minute'",
    "EMIT ON UPDATE EVERY INTERVAL '1 hour'",
];

#[test]
fn changes_of_windows_sum_up_to_the_batch() {
    let rows = samples(31, 300, 60);
    let late_by_ten = shuffled(&rows, 10 * SECOND, 7);
    for (place, window) in WINDOWS.into_iter().enumerate() {
        for (number, query) in WINDOWED.iter().enumerate() {
            let expected =
                batch("samples", &rows, &query.replace("{W}", &window.in_a_batch("samples", "ts")));
            for (clause, emit) in CLAUSES.iter().enumerate() {
                let streaming = query.replace("{W}", &window.streaming("samples", "ts"));
                let streaming = format!("{streaming} {emit}");
                // All ways of feeding for a third of the combinations, one for the others.
                let ways = feeds(300);
                let ways = match (place + number + clause) % 3 {
                    0 => ways.as_slice(),
                    at => &ways[at * 3..at * 3 + 1],
                };
                for feed in ways {
                    for rows in [&rows, &late_by_ten] {
                        let what = format!("{feed:?}, {streaming}");
                        let found = run(*feed, CREATE_LATE, &streaming, "samples", rows).unwrap();
                        assert_same(&settle(&found, &what), &expected, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn changes_of_sessions_sum_up_to_sessions() {
    let rows = samples(32, 300, 100);
    let late_by_ten = shuffled(&rows, 10 * SECOND, 8);
    let query = "SELECT service, window_start, window_end, count(*) AS n, avg(bytes) AS mean
                 FROM SESSION(samples, ts, INTERVAL '400 milliseconds' PARTITION BY service)
                 GROUP BY service, window_start, window_end";
    // Sessions that answer once are checked against a plain reference elsewhere.
    let feed = Feed { workers: 1, batch_rows: 8192 };
    let expected = run(feed, CREATE_LATE, query, "samples", &rows).unwrap();
    assert!(expected.iter().map(RecordBatch::num_rows).sum::<usize>() > 20);
    for emit in CLAUSES {
        let streaming = format!("{query} {emit}");
        for feed in feeds(300) {
            let what = format!("{feed:?}, {streaming}");
            let found = run(feed, CREATE_LATE, &streaming, "samples", &late_by_ten).unwrap();
            assert_same(&settle(&found, &what), &expected, &what);
        }
    }
}

/// What a batch makes of a query over the rows that are left at the end: those less than so long before the last
/// watermark, ten seconds before the latest row.
fn retained(rows: &RecordBatch, seconds: i64) -> RecordBatch {
    let sql = format!(
        "SELECT * FROM samples WHERE ts > (SELECT max(ts) FROM samples) - INTERVAL '{} seconds'",
        seconds + 10
    );
    let left = batch("samples", rows, &sql);
    concat_batches(&rows.schema(), &left).unwrap()
}

const RETAINED: [&str; 7] = [
    "SELECT service, count(*) AS n, avg(value) FILTER (WHERE NOT isnan(value)) AS mean, max(bytes) AS most FROM samples
     GROUP BY service",
    "SELECT host, upper(service) AS name, sum(bytes) / 2 AS half, count(DISTINCT bytes % 5) AS kinds FROM samples
     WHERE bytes > 100 GROUP BY host, service HAVING count(*) > 3",
    "SELECT count(*) AS n, median(bytes) AS middle, first_value(bytes ORDER BY ts, bytes) AS opening FROM samples",
    "SELECT DISTINCT host, service FROM samples",
    "SELECT DISTINCT bytes % 3 AS third FROM samples WHERE bytes > 5",
    "SELECT max(n) AS most, count(*) AS groups FROM (SELECT host, count(*) AS n FROM samples GROUP BY host)",
    "SELECT DISTINCT n % 7 AS n FROM (SELECT host, count(*) AS n FROM samples GROUP BY host)",
];

#[test]
fn aggregates_of_retained_rows_sum_up_to_the_batch() {
    let rows = samples(33, 300, 60);
    let late_by_ten = shuffled(&rows, 10 * SECOND, 9);
    for (number, query) in RETAINED.into_iter().enumerate() {
        for (clause, (emit, seconds)) in [
            ("EMIT ON UPDATE RETAIN INTERVAL '20 seconds'", 20),
            ("EMIT ON UPDATE EVERY INTERVAL '7 seconds' RETAIN INTERVAL '15 seconds'", 15),
            ("EMIT ON UPDATE RETAIN INTERVAL '1 hour'", 3600),
        ]
        .into_iter()
        .enumerate()
        {
            let left = retained(&rows, seconds);
            assert!(left.num_rows() > 50 && (seconds == 3600) == (left.num_rows() == 300));
            let expected = batch("samples", &left, query);
            let streaming = format!("{query} {emit}");
            let ways = feeds(300);
            let ways = match (number + clause) % 3 {
                0 => ways.as_slice(),
                at => &ways[at * 3..at * 3 + 1],
            };
            for feed in ways {
                for rows in [&rows, &late_by_ten] {
                    let what = format!("{feed:?}, {streaming}");
                    let found = run(*feed, CREATE_SAMPLES, &streaming, "samples", rows).unwrap();
                    assert_same(&settle(&found, &what), &expected, &what);
                }
            }
        }
    }
}

const KINDS: [&str; 4] = ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"];

/// Joins without a bound in time; `{K}` stands for each kind.
const JOINED: [&str; 6] = [
    "SELECT a.ts AS a_ts, b.ts AS b_ts, a.service, b.host, a.value, b.bytes FROM samples a {K} others b
     ON a.service = b.service AND a.host = b.host AND CAST(a.bytes % 5 AS INT) = b.bytes % 5",
    "SELECT service, count(*) AS n, sum(other) AS total, count(DISTINCT other % 7) AS kinds FROM
       (SELECT a.service, a.host, b.bytes AS other FROM samples a {K} others b ON a.host = b.host AND a.service = b.service)
     GROUP BY service",
    "SELECT DISTINCT a.host, b.service FROM samples a {K} others b ON a.host = b.host AND a.bytes % 50 = b.bytes % 50",
    "SELECT a.ts AS a_ts, b.ts AS b_ts, upper(a.service) AS name FROM samples a JOIN others b
     ON a.service = b.service AND a.bytes < b.bytes AND b.value > 10 WHERE a.bytes > 5000 AND a.host <> b.host",
    "SELECT a.ts AS a_ts, b.ts AS b_ts, a.host FROM samples a LEFT JOIN others b ON b.bytes > 8000 AND a.host = b.host
     WHERE a.value > 0",
    "SELECT host, a.ts AS a_ts, n FROM samples a JOIN
       (SELECT window_end, host, count(*) AS n FROM {W} GROUP BY host, window_start, window_end) b USING (host)",
];

#[test]
fn joins_of_retained_rows_sum_up_to_the_batch() {
    let (samples, others) = (samples(41, 90, 60), samples(42, 60, 90));
    let shuffled = (shuffled(&samples, 10 * SECOND, 5), shuffled(&others, 3 * SECOND, 6));
    let ways = feeds(90);
    let mut turn = 0;
    for query in JOINED {
        let kinds = if query.contains("{K}") { &KINDS[..] } else { &KINDS[..1] };
        for kind in kinds {
            let query = query.replace("{K}", kind);
            let spell = |windows: &str| query.replace("{W}", windows);
            let sources = [("samples", &samples), ("others", &others)];
            let expected = batch_of(&sources, &spell(&WINDOWS[0].in_a_batch("others", "ts")));
            assert!(expected.iter().map(RecordBatch::num_rows).sum::<usize>() > 0, "{query}");
            let every = if turn % 2 == 0 { "" } else { "EVERY INTERVAL '7 seconds'" };
            let streaming = spell(&WINDOWS[0].streaming("others", "ts"));
            let streaming = format!("{streaming} EMIT ON UPDATE {every} RETAIN INTERVAL '1 hour'");
            // All ways of feeding for the plain joins, three for the others.
            let step = if query.starts_with("SELECT a.ts AS a_ts, b.ts AS b_ts, a.service") {
                1
            } else {
                4
            };
            for feed in ways.iter().skip(turn % step).step_by(step) {
                for (a, b) in [(&samples, &others), (&shuffled.0, &shuffled.1)] {
                    let what = format!("{feed:?}, {streaming}");
                    let sources = [("samples", a), ("others", b)];
                    let found = run_sources(*feed, &create_both(), &streaming, &sources).unwrap();
                    assert_same(&settle(&found, &what), &expected, &what);
                }
            }
            turn += 1;
        }
    }
}

/// Times and services of the rows that are less than so long before the end.
fn left_over(rows: &RecordBatch, retain_ns: i64, end: i64) -> Vec<(i64, String)> {
    let times = cast(rows.column(0), &DataType::Int64).unwrap();
    let times = times.as_primitive::<Int64Type>().clone();
    let services = rows.column(2).as_string::<i32>();
    let all = (0..rows.num_rows()).map(|row| (times.value(row), services.value(row).to_owned()));
    all.filter(|row| row.0 + retain_ns > end).collect()
}

#[test]
fn a_join_of_retained_rows_forgets_both_sides() {
    let (samples, others) = (samples(43, 120, 60), samples(44, 100, 70));
    let shuffled = (shuffled(&samples, 10 * SECOND, 5), shuffled(&others, 3 * SECOND, 6));
    let latest = |rows: &RecordBatch| {
        let times = cast(rows.column(0), &DataType::Int64).unwrap();
        times.as_primitive::<Int64Type>().values().iter().copied().max().unwrap()
    };
    let end = (latest(&samples) - 10 * SECOND).max(latest(&others) - 3 * SECOND);
    let left = left_over(&samples, 25 * SECOND, end);
    // Some services of the one side have no row left on the other.
    let right: Vec<(i64, String)> = left_over(&others, 25 * SECOND, end);
    let right: Vec<(i64, String)> = right.into_iter().filter(|row| row.0 % 3 == 0).collect();
    assert!(
        left.len() > 5 && left.len() < 120 && right.len() > 2,
        "{} {}",
        left.len(),
        right.len()
    );
    for kind in KINDS {
        let mut expected: Vec<(Option<i64>, Option<i64>)> = Vec::new();
        for (time, service) in &left {
            let meets = right.iter().filter(|other| other.1 == *service);
            let pairs: Vec<_> = meets.map(|other| (Some(*time), Some(other.0))).collect();
            if pairs.is_empty() && matches!(kind, "LEFT JOIN" | "FULL JOIN") {
                expected.push((Some(*time), None));
            }
            expected.extend(pairs);
        }
        if matches!(kind, "RIGHT JOIN" | "FULL JOIN") {
            let lone = right.iter().filter(|row| left.iter().all(|other| other.1 != row.1));
            expected.extend(lone.map(|row| (None, Some(row.0))));
        }
        expected.sort_unstable();
        let query = format!(
            "SELECT a.ts AS a_ts, b.ts AS b_ts FROM samples a {kind}
             (SELECT ts, service FROM others WHERE CAST(ts AS BIGINT) % 3 = 0) b ON a.service = b.service
             EMIT ON UPDATE RETAIN INTERVAL '25 seconds'"
        );
        for feed in feeds(120) {
            for (a, b) in [(&samples, &others), (&shuffled.0, &shuffled.1)] {
                let what = format!("{feed:?}, {query}");
                let sources = [("samples", a), ("others", b)];
                let found = run_sources(feed, &create_both(), &query, &sources).unwrap();
                let mut rows = Vec::new();
                for batch in settle(&found, &what) {
                    let times: Vec<_> = batch
                        .columns()
                        .iter()
                        .map(|c| cast(c, &DataType::Int64).unwrap())
                        .collect();
                    let [a, b] = [0, 1].map(|side| times[side].as_primitive::<Int64Type>());
                    rows.extend(a.iter().zip(b));
                }
                rows.sort_unstable();
                assert_eq!(rows, expected, "{what}");
            }
        }
    }
}

#[test]
fn a_row_of_an_outer_join_has_a_partner_for_a_while() {
    let query = "SELECT extract(second FROM a.ts) AS second, extract(second FROM b.ts) AS other FROM clicks a LEFT JOIN
                 (SELECT ts, extract(minute FROM ts) AS minute FROM clicks WHERE extract(second FROM ts) > 20) b
                 ON extract(minute FROM a.ts) = b.minute EMIT ON UPDATE RETAIN INTERVAL '30 seconds'";
    let mut clicks = Clicks::new("WATERMARK FOR ts AS ts)", query);
    let mut push = |second: i64| {
        let mut rows = clicks.push(second);
        rows.sort();
        rows
    };
    assert_eq!(push(10), ["10  1"]);
    assert_eq!(push(25), ["10  -1", "10 25 1", "25 25 1"]);
    assert_eq!(push(40), ["10 25 -1", "25 40 1", "40 25 1", "40 40 1"]);
    assert_eq!(push(60), ["0  1", "25 25 -1", "25 40 -1", "40 25 -1"]);
}

#[test]
fn rows_that_pass_through_hold_for_ever() {
    let rows = samples(34, 100, 60);
    let query = "SELECT service, bytes FROM samples WHERE bytes > 100";
    let expected = batch("samples", &rows, query);
    let streaming = format!("{query} EMIT ON UPDATE");
    for feed in feeds(100) {
        let found = run(feed, CREATE_SAMPLES, &streaming, "samples", &rows).unwrap();
        assert_same(&settle(&found, &streaming), &expected, &streaming);
    }
}

/// An engine with one source of times and numbers, to which rows are pushed one at a time.
struct Clicks {
    engine: Engine,
    results: Subscription,
}

impl Clicks {
    fn new(source: &str, query: &str) -> Self {
        let engine = Engine::builder().workers(2).build().unwrap();
        engine.execute(&format!("CREATE SOURCE clicks (ts TIMESTAMP NOT NULL, {source}")).unwrap();
        let results = engine.subscribe(query).unwrap();
        Self { engine, results }
    }

    /// Pushes a row of this second, and returns the rows of the result that come of it as text.
    fn push(&mut self, second: i64) -> Vec<String> {
        let source = self.engine.source("clicks").unwrap();
        let times = TimestampNanosecondArray::from(vec![second * SECOND]);
        let rows = RecordBatch::try_new(source.schema(), vec![std::sync::Arc::new(times)]).unwrap();
        source.push(rows).unwrap();
        self.rest()
    }

    fn rest(&mut self) -> Vec<String> {
        self.engine.drain().unwrap();
        let mut rows = Vec::new();
        while let Some(batch) = self.results.try_next().unwrap() {
            for row in 0..batch.num_rows() {
                let cells = batch.columns().iter().map(|c| array_value_to_string(c, row).unwrap());
                rows.push(cells.collect::<Vec<_>>().join(" "));
            }
        }
        rows
    }
}

const COUNT: &str = "SELECT extract(second FROM window_start) AS start, count(*) AS n
                     FROM TUMBLE(clicks, ts, INTERVAL '10 seconds') GROUP BY window_start, window_end";

#[test]
fn with_delay_windows_close_late_and_take_late_rows_in() {
    let query = format!("{COUNT} EMIT ON WINDOW CLOSE WITH DELAY INTERVAL '5 seconds'");
    let mut clicks = Clicks::new("WATERMARK FOR ts AS ts)", &query);
    let others = clicks.engine.subscribe(COUNT).unwrap();
    let late = clicks.engine.subscribe("SELECT ts, reason FROM LATE(clicks)").unwrap();
    assert!(clicks.push(1).is_empty());
    assert!(clicks.push(12).is_empty(), "the window is open for three more seconds");
    assert!(clicks.push(8).is_empty(), "a row four seconds late");
    assert!(clicks.push(6).is_empty(), "a row that is too late for this query as well");
    assert_eq!(clicks.push(15), ["0 2"]);
    assert!(clicks.push(9).is_empty(), "a row that is too late");
    clicks.engine.source("clicks").unwrap().close().unwrap();
    assert_eq!(clicks.rest(), ["10 2"]);
    clicks.engine.shutdown().unwrap();
    let count = |rows: Subscription| rows.map(|rows| rows.unwrap().num_rows()).sum::<usize>();
    assert_eq!(count(late), 3, "all rows that the source takes for late are listed");
    let others: Vec<RecordBatch> = others.collect::<Result<_, _>>().unwrap();
    let counts = others.iter().flat_map(|rows| rows.column(1).as_primitive::<Int64Type>().values());
    assert_eq!(counts.copied().collect::<Vec<_>>(), [1, 2], "other queries are not delayed");
}

#[test]
fn delayed_windows_equal_the_batch_of_all_rows() {
    let ddl = CREATE_SAMPLES.replace("10 seconds", "2 seconds");
    let rows = samples(35, 300, 60);
    let late_by_ten = shuffled(&rows, 10 * SECOND, 11);
    for window in WINDOWS {
        let query = WINDOWED[0];
        let expected =
            batch("samples", &rows, &query.replace("{W}", &window.in_a_batch("samples", "ts")));
        let streaming = query.replace("{W}", &window.streaming("samples", "ts"));
        let delayed = format!("{streaming} EMIT ON WINDOW CLOSE WITH DELAY INTERVAL '8 seconds'");
        for feed in feeds(300) {
            let found = run(feed, &ddl, &delayed, "samples", &late_by_ten).unwrap();
            assert_same(&found, &expected, &format!("{feed:?}, {delayed}"));
        }
    }
}

#[test]
fn with_corrections_a_window_answers_at_the_watermark_and_again_for_late_rows() {
    let lateness = "WATERMARK FOR ts AS ts) WITH (allowed_lateness = INTERVAL '5 seconds')";
    let corrected = format!("{COUNT} EMIT ON WINDOW CLOSE WITH CORRECTIONS");
    let longer = format!("{corrected} FOR INTERVAL '8 seconds'");
    for (source, query, late) in
        [(lateness, &corrected, 5), (lateness, &longer, 8), ("WATERMARK FOR ts AS ts)", &longer, 8)]
    {
        let mut clicks = Clicks::new(source, query);
        assert!(clicks.push(1).is_empty());
        assert!(clicks.push(9).is_empty());
        assert_eq!(clicks.push(10), ["0 2 1"], "the watermark is at the end: {query}");
        assert_eq!(clicks.push(7), ["0 2 -1", "0 3 1"], "{query}");
        assert!(clicks.push(10 + late - 1).is_empty());
        assert_eq!(clicks.push(9), ["0 3 -1", "0 4 1"], "late by {}: {query}", late);
        assert!(clicks.push(10 + late).is_empty(), "the window is dropped");
        assert!(clicks.push(9).is_empty(), "{query}");
        let state = clicks.engine.metrics().queries[0].state_bytes;
        assert_eq!(clicks.push(20), [format!("10 {} 1", 3)], "{query}");
        assert!(state < 10_000, "{state} bytes are held");
    }
}

/// The rows of a join with a table come as late as those of the stream, so that windows above it must wait for them.
#[test]
fn windows_over_a_join_with_a_table_are_corrected_and_delayed() {
    let source = "WATERMARK FOR ts AS ts); CREATE TABLE minutes (minute BIGINT, name TEXT);
                  INSERT INTO minutes VALUES (0, 'first'), (7, 'never')";
    let joined = "(SELECT c.ts, m.name FROM clicks c JOIN minutes m
                   ON CAST(extract(minute FROM c.ts) AS BIGINT) = m.minute)";
    let spellings = [
        format!(
            "SELECT name, extract(second FROM window_start) AS start, count(*) AS n
             FROM TUMBLE({joined}, ts, INTERVAL '10 seconds') GROUP BY name, window_start, window_end"
        ),
        "SELECT m.name, extract(second FROM window_start) AS start, count(*) AS n
         FROM TUMBLE(clicks, ts, INTERVAL '10 seconds') c
         JOIN minutes m ON CAST(extract(minute FROM c.ts) AS BIGINT) = m.minute
         GROUP BY m.name, window_start, window_end"
            .to_owned(),
    ];
    for query in spellings {
        let corrected =
            format!("{query} EMIT ON WINDOW CLOSE WITH CORRECTIONS FOR INTERVAL '8 seconds'");
        let mut clicks = Clicks::new(source, &corrected);
        assert!(clicks.push(1).is_empty() && clicks.push(9).is_empty());
        assert_eq!(clicks.push(10), ["first 0 2 1"], "the watermark is at the end: {query}");
        assert_eq!(clicks.push(7), ["first 0 2 -1", "first 0 3 1"], "{query}");
        assert!(clicks.push(17).is_empty());
        assert_eq!(clicks.push(9), ["first 0 3 -1", "first 0 4 1"], "late by eight: {query}");
        assert!(clicks.push(18).is_empty() && clicks.push(9).is_empty(), "{query}");
        let delayed = format!("{query} EMIT ON WINDOW CLOSE WITH DELAY INTERVAL '5 seconds'");
        let mut clicks = Clicks::new(source, &delayed);
        assert!(clicks.push(1).is_empty() && clicks.push(12).is_empty());
        assert!(clicks.push(8).is_empty(), "a row four seconds late");
        assert_eq!(clicks.push(15), ["first 0 2"], "{query}");
    }
}

#[test]
fn on_update_every_change_is_told_once() {
    let mut clicks = Clicks::new("WATERMARK FOR ts AS ts)", &format!("{COUNT} EMIT ON UPDATE"));
    assert_eq!(clicks.push(1), ["0 1 1"]);
    assert_eq!(clicks.push(2), ["0 1 -1", "0 2 1"]);
    assert_eq!(clicks.push(11), ["10 1 1"]);
    assert!(clicks.push(3).is_empty(), "late");
    clicks.engine.source("clicks").unwrap().close().unwrap();
    assert!(clicks.rest().is_empty(), "nothing has changed");
}

#[test]
fn every_interval_is_answered_once_and_the_end_as_well() {
    let query = format!("{COUNT} EMIT EVERY INTERVAL '4 seconds'");
    let mut clicks = Clicks::new("WATERMARK FOR ts AS ts)", &query);
    let mut said = Vec::new();
    for second in 0..14 {
        for _ in 0..2 {
            let rows = clicks.push(second);
            if !rows.is_empty() {
                said.push((second, rows.join(", ")));
            }
        }
    }
    let said: Vec<(i64, &str)> =
        said.iter().map(|(second, rows)| (*second, rows.as_str())).collect();
    let expected = [
        (0, "0 1 1"),
        (4, "0 1 -1, 0 9 1"),
        (8, "0 9 -1, 0 17 1"),
        (10, "0 17 -1, 0 20 1"),
        (12, "10 5 1"),
    ];
    assert_eq!(said, expected);
}

#[test]
fn rows_leave_an_aggregate_when_they_are_old() {
    let query = "SELECT count(*) AS n FROM clicks EMIT ON UPDATE RETAIN INTERVAL '10 seconds'";
    let mut clicks = Clicks::new("WATERMARK FOR ts AS ts)", query);
    assert_eq!(clicks.push(0), ["1 1"]);
    assert_eq!(clicks.push(5), ["1 -1", "2 1"]);
    assert_eq!(clicks.push(9), ["2 -1", "3 1"]);
    assert!(clicks.push(10).is_empty(), "one comes and one goes");
    assert_eq!(clicks.push(19), ["3 -1", "2 1"], "those of seconds 5 and 9 go");
    assert_eq!(clicks.push(60), ["2 -1", "1 1"]);
    clicks.engine.source("clicks").unwrap().close().unwrap();
    assert!(clicks.rest().is_empty(), "at the end of the input nothing more leaves");
}

#[test]
fn first_rows_come_and_go() {
    let query = "SELECT extract(second FROM ts) AS second, place FROM
                   (SELECT ts, ROW_NUMBER() OVER (ORDER BY extract_second DESC, ts) AS place FROM
                      (SELECT ts, extract(second FROM ts) AS extract_second FROM clicks))
                 WHERE place <= 2 EMIT ON UPDATE RETAIN INTERVAL '50 seconds'";
    let mut clicks = Clicks::new("WATERMARK FOR ts AS ts)", query);
    let mut push = |second: i64| {
        let mut rows = clicks.push(second);
        rows.sort();
        rows
    };
    assert_eq!(push(10), ["10 1 1"]);
    assert_eq!(push(30), ["10 1 -1", "10 2 1", "30 1 1"]);
    assert_eq!(push(40), ["10 2 -1", "30 1 -1", "30 2 1", "40 1 1"]);
    // Second 5 of the next minute: it is not among the first, and the row of second 10 is past.
    assert!(push(65).is_empty());
    // The row of second 30 is past, so that the one of second 20 takes its place.
    assert_eq!(push(80), ["20 2 1", "30 2 -1"]);
    clicks.engine.source("clicks").unwrap().close().unwrap();
    assert!(clicks.rest().is_empty(), "at the end of the input nothing more leaves");
}

#[test]
fn a_group_that_is_empty_is_gone() {
    let query = "SELECT extract(minute FROM ts) AS minute, count(*) AS n FROM clicks
                 GROUP BY extract(minute FROM ts) EMIT ON UPDATE RETAIN INTERVAL '30 seconds'";
    let mut clicks = Clicks::new("WATERMARK FOR ts AS ts)", query);
    assert_eq!(clicks.push(0), ["0 1 1"]);
    // Two keys may live on two workers, whose rows come in any order.
    let mut rows = clicks.push(70);
    rows.sort();
    assert_eq!(rows, ["0 1 -1", "1 1 1"]);
}

#[test]
fn rows_beyond_the_bound_are_refused_and_counted() {
    let settings = driftline::Settings {
        workers: 1,
        reorder_rows_max: 50,
        join_rows_max: 100,
        window_groups_max: 2,
        ..driftline::Settings::default()
    };
    for (query, refused) in [
        ("SELECT count(*) AS n FROM samples EMIT ON UPDATE RETAIN INTERVAL '1 hour'", 250),
        (
            "SELECT ts FROM samples QUALIFY ROW_NUMBER() OVER (PARTITION BY host ORDER BY bytes) = 1
             EMIT ON UPDATE RETAIN INTERVAL '1 hour'",
            250,
        ),
        (
            "SELECT a.ts FROM samples a JOIN samples b ON a.bytes = b.bytes
             EMIT ON UPDATE RETAIN INTERVAL '1 hour'",
            500,
        ),
        (
            "SELECT service, count(*) AS n FROM TUMBLE(samples, ts, INTERVAL '1 hour')
             GROUP BY service, window_start, window_end EMIT ON UPDATE",
            1,
        ),
    ] {
        let engine = Engine::builder().settings(settings.clone()).build().unwrap();
        engine.execute(CREATE_SAMPLES).unwrap();
        let results = engine.subscribe(query).unwrap();
        push_all(&engine, "samples", &samples(36, 300, 60), 300).unwrap();
        engine.drain().unwrap();
        let counted = engine.metrics().queries[0].rows_refused;
        assert!(counted >= refused, "{query}: {counted}");
        engine.shutdown().unwrap();
        let found: Vec<RecordBatch> = results.collect::<Result<_, _>>().unwrap();
        settle(&found, query);
    }
}

#[test]
fn changes_are_written_like_any_rows() {
    let folder = std::env::temp_dir().join(format!("driftline-emit-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("changes.csv");
    let engine = Engine::builder().workers(1).build().unwrap();
    engine.execute(CREATE_SAMPLES).unwrap();
    engine
        .execute(&format!(
            "CREATE SINK changes WITH (path = '{}') AS SELECT service, count(*) AS n FROM samples GROUP BY service
             EMIT ON UPDATE RETAIN INTERVAL '1 hour'",
            path.display()
        ))
        .unwrap();
    push_all(&engine, "samples", &samples(37, 50, 60), 10).unwrap();
    engine.shutdown().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("service,n,_diff"));
    let mut totals: HashMap<String, i64> = HashMap::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let (n, diff): (i64, i64) = (cells[1].parse().unwrap(), cells[2].parse().unwrap());
        *totals.entry(cells[0].to_owned()).or_default() += n * diff;
    }
    assert_eq!((totals.len(), totals.values().sum::<i64>()), (3, 50));
}
