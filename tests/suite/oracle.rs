//! Windows against DataFusion: the same SQL run once, in one batch, with windows spelled by `date_bin`.
//!
//! Every query here runs with 1, 2 and 4 workers, in batches of 1, 7 and 8192 rows, in order and out of order within
//! the source's disorder, and must give the batch's rows each time.

use datafusion::prelude::{SessionConfig, SessionContext};
use driftline::Engine;
use driftline::arrow::array::RecordBatch;
use proptest::prelude::*;

use super::support::{
    CREATE_SAMPLES, SECOND, assert_same, feeds, push_all, run, samples, shuffled,
};

/// Runs SQL once over `rows` as table `source`.
pub(super) fn batch(source: &str, rows: &RecordBatch, sql: &str) -> Vec<RecordBatch> {
    batch_of(&[(source, rows)], sql)
}

/// Runs SQL once over several tables.
pub(super) fn batch_of(tables: &[(&str, &RecordBatch)], sql: &str) -> Vec<RecordBatch> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut config = SessionConfig::new().with_target_partitions(1);
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        let context = SessionContext::new_with_config(config);
        for (name, rows) in tables {
            context.register_batch(*name, (*rows).clone()).unwrap();
        }
        context.sql(sql).await.unwrap().collect().await.unwrap()
    })
}

/// A window function and the subquery that does the same in a batch: every row once for each window that holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) slide: i64,
    pub(super) size: i64,
    /// The size, but for a CUMULATE.
    pub(super) step: i64,
    pub(super) offset: i64,
}

impl Window {
    pub(super) fn interval(ns: i64) -> String {
        format!("INTERVAL '{} milliseconds'", ns / 1_000_000)
    }

    /// The window over column `time` of `source`, as a stream computes it.
    pub(super) fn streaming(self, source: &str, time: &str) -> String {
        let Self { slide, size, step, offset } = self;
        let [slide_text, size_text, step_text, offset_text] =
            [slide, size, step, offset].map(Self::interval);
        if step < size {
            format!("CUMULATE({source}, {time}, {step_text}, {size_text}, {offset_text})")
        } else if slide == size {
            format!("TUMBLE({source}, {time}, {size_text}, {offset_text})")
        } else {
            format!("HOP({source}, {time}, {slide_text}, {size_text}, {offset_text})")
        }
    }

    /// The same over a table: every row once for each start and each step that could hold it, and those that do.
    pub(super) fn in_a_batch(self, source: &str, time: &str) -> String {
        let Self { slide, size, step, offset } = self;
        let [slide_text, offset_text] = [slide, offset].map(Self::interval);
        let mut copies = Vec::new();
        for back in (0..=size.div_euclid(slide)).map(|k| Self::interval(k * slide)) {
            let start = format!(
                "date_bin({slide_text}, {time}, TIMESTAMP '1970-01-01T00:00:00' + {offset_text}) - {back}"
            );
            for length in (1..=size / step).map(|k| Self::interval(k * step)) {
                copies.push(format!(
                    "SELECT *, {start} AS window_start, {start} + {length} AS window_end FROM {source}"
                ));
            }
        }
        format!("(SELECT * FROM ({}) WHERE {time} < window_end)", copies.join(" UNION ALL "))
    }
}

/// Checks one query, with `{W}` for the windowed relation, over all ways of feeding.
fn check(query: &str, window: Window, rows: &RecordBatch, what: &str) {
    let expected =
        batch("samples", rows, &query.replace("{W}", &window.in_a_batch("samples", "ts")));
    let streaming = query.replace("{W}", &window.streaming("samples", "ts"));
    let late_by_ten = shuffled(rows, 10 * SECOND, 99);
    for feed in feeds(rows.num_rows()) {
        for (order, rows) in [("in order", rows), ("shuffled", &late_by_ten)] {
            let found = run(feed, CREATE_SAMPLES, &streaming, "samples", rows)
                .unwrap_or_else(|error| panic!("{what}: {streaming}: {error}"));
            assert_same(&found, &expected, &format!("{what}, {feed:?}, {order}, {streaming}"));
        }
    }
}

const TUMBLE: Window = Window { slide: 5 * SECOND, size: 5 * SECOND, step: 5 * SECOND, offset: 0 };

const QUERIES: &[(&str, &str)] = &[
    (
        "five aggregates",
        "SELECT window_start, window_end, service, count(*) AS n, avg(value) AS mean,
                stddev(value) AS deviation, min(value) AS least, max(value) AS most
         FROM {W} WHERE NOT isnan(value) GROUP BY service, window_start, window_end",
    ),
    (
        "two keys, one with nulls, and expressions on both sides of the aggregate",
        "SELECT host, upper(service) AS name, window_end, sum(bytes) / 2 + 1 AS half,
                count(DISTINCT bytes % 5) AS kinds
         FROM {W} GROUP BY host, service, window_start, window_end",
    ),
    (
        "no key, a filter on the aggregate, and one after it",
        "SELECT window_start, count(*) FILTER (WHERE bytes > 5000) AS large, median(bytes) AS middle
         FROM {W} GROUP BY window_start, window_end HAVING count(bytes) > 2",
    ),
    (
        "a key that is computed, and no aggregate",
        "SELECT bytes % 3 AS third, window_start FROM {W}
         WHERE host IS NOT NULL GROUP BY bytes % 3, window_start, window_end",
    ),
    (
        "a subquery on top",
        "SELECT service, n * 2 AS doubled FROM
           (SELECT service, window_end, count(*) AS n FROM {W} GROUP BY service, window_start, window_end)
         WHERE n > 1",
    ),
    (
        "the first and last in time",
        "SELECT service, window_start, first_value(bytes ORDER BY ts, bytes) AS opening,
                last_value(bytes ORDER BY ts, bytes) AS closing
         FROM {W} GROUP BY service, window_start, window_end",
    ),
    ("no aggregate at all", "SELECT ts, window_start, window_end, bytes FROM {W} WHERE bytes > 9000"),
];

/// Rows of keys that have few of them in a pane move to their owners as they are, once a worker has found folding not to
/// pay; rows that an expression fails on are left out and counted all the same.
#[test]
fn many_keys_with_few_rows_each_equal_the_batch() {
    let rows = samples(5, 120_000, 300);
    let shuffled = shuffled(&rows, 10 * SECOND, 6);
    let select =
        "SELECT bytes % 500 + 1 AS key, service, window_end, count(*) AS n, avg(value) AS mean,
                    max(host) FILTER (WHERE value > 0) AS most";
    let by = "GROUP BY bytes % 500 + 1, service, window_start, window_end";
    let failing = "SELECT bytes % 500 AS key, window_end, sum(1000 / (bytes % 500)) AS total
                   FROM TUMBLE(samples, ts, INTERVAL '10 seconds') GROUP BY bytes % 500, window_start, window_end";
    let tumble = Window { slide: 10 * SECOND, size: 10 * SECOND, step: 10 * SECOND, offset: 0 };
    for window in [tumble, Window { size: 20 * SECOND, step: 20 * SECOND, ..tumble }] {
        let query = |relation: &str| format!("{select} FROM {relation} {by}");
        let expected = batch("samples", &rows, &query(&window.in_a_batch("samples", "ts")));
        let mut of_one_worker = None;
        for workers in [1, 2, 4] {
            let what = format!("{window:?}, {workers} workers");
            let engine = Engine::builder().workers(workers).build().unwrap();
            engine.execute(CREATE_SAMPLES).unwrap();
            let results = engine.subscribe(&query(&window.streaming("samples", "ts"))).unwrap();
            let failing = engine.subscribe(failing).unwrap();
            for start in (0..rows.num_rows()).step_by(2_000) {
                push_all(&engine, "samples", &shuffled.slice(start, 2_000), 500).unwrap();
                engine.drain().unwrap();
            }
            let analysis = engine.analyze(results.name()).unwrap();
            let fold = analysis.operators.iter().find(|operator| operator.name == "FoldPanes");
            assert_eq!(fold.is_some(), workers > 1);
            // Folding alone gives .55 rows for each row with two workers, and .73 with four.
            for worker in fold.iter().flat_map(|fold| &fold.workers) {
                assert!(worker.rows_out * 100 > worker.rows_in * 85, "{what}: {analysis}");
            }
            let failed =
                engine.metrics().queries.iter().map(|query| query.rows_failed).sum::<u64>();
            engine.shutdown().unwrap();
            let rest: Vec<RecordBatch> = failing.collect::<driftline::Result<_>>().unwrap();
            let (one, failed_one) = of_one_worker.get_or_insert((rest.clone(), failed));
            assert_same(&rest, one, &what);
            assert!(failed > 100 && failed == *failed_one, "{what}: {failed} rows failed");
            let found: Vec<RecordBatch> = results.collect::<driftline::Result<_>>().unwrap();
            assert_same(&found, &expected, &what);
        }
    }
}

#[test]
fn tumbles_equal_the_batch() {
    for (what, query) in QUERIES {
        check(query, TUMBLE, &samples(1, 300, 100), what);
    }
}

#[test]
fn hops_of_any_ratio_and_offset_equal_the_batch() {
    let windows = [
        (2 * SECOND, 6 * SECOND, 0),
        (4 * SECOND, 6 * SECOND, SECOND),
        (7 * SECOND, 3 * SECOND, -2 * SECOND),
    ];
    for (slide, size, offset) in windows {
        let window = Window { slide, size, step: size, offset };
        for (what, query) in &QUERIES[..3] {
            check(query, window, &samples(2, 200, 60), what);
        }
    }
}

#[test]
fn cumulates_of_any_offset_equal_the_batch() {
    for (step, size, offset) in
        [(2 * SECOND, 10 * SECOND, 0), (3 * SECOND, 9 * SECOND, -4 * SECOND)]
    {
        let window = Window { slide: size, size, step, offset };
        for (what, query) in QUERIES {
            check(query, window, &samples(4, 200, 60), what);
        }
    }
}

#[test]
fn many_rows_and_keys_equal_the_batch() {
    let rows = samples(3, 50_000, 3600);
    check(QUERIES[0].1, TUMBLE, &rows, QUERIES[0].0);
    check(
        QUERIES[1].1,
        Window { slide: 20 * SECOND, size: 60 * SECOND, step: 60 * SECOND, offset: 0 },
        &rows,
        QUERIES[1].0,
    );
    check(
        QUERIES[1].1,
        Window { slide: 60 * SECOND, size: 60 * SECOND, step: 20 * SECOND, offset: 0 },
        &rows,
        QUERIES[1].0,
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_window_over_any_rows_equals_the_batch(
        slide in 1i64..20,
        size in 1i64..30,
        steps in prop::option::of(2i64..6),
        offset in -30i64..30,
        seed in any::<u64>(),
        count in 0usize..200,
        query in 0..QUERIES.len(),
        workers in prop::sample::select(vec![1usize, 2, 4]),
        batch_rows in prop::sample::select(vec![1usize, 7, 8192]),
    ) {
        let [slide, size, offset] = [slide, size, offset].map(|halves| halves * SECOND / 2);
        let window = match steps {
            Some(steps) => Window { slide: slide * steps, size: slide * steps, step: slide, offset },
            None => Window { slide, size, step: size, offset },
        };
        let rows = samples(seed, count, 90);
        let (what, query) = QUERIES[query];
        let expected = batch("samples", &rows, &query.replace("{W}", &window.in_a_batch("samples", "ts")));
        let streaming = query.replace("{W}", &window.streaming("samples", "ts"));
        let feed = super::support::Feed { workers, batch_rows };
        let rows = shuffled(&rows, 10 * SECOND, seed);
        let found = run(feed, CREATE_SAMPLES, &streaming, "samples", &rows).unwrap();
        assert_same(&found, &expected, what);
    }
}
