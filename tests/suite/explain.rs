//! EXPLAIN and EXPLAIN ANALYZE: their texts and drawings, and that the figures add up.

use driftline::arrow::array::{AsArray, RecordBatch};
use driftline::{Analysis, Engine, OperatorAnalysis, WorkerAnalysis};

use super::support::{CREATE_SAMPLES, collect, push_all, samples};

/// An engine whose bounds are numbers that a text shows well.
fn engine(workers: usize) -> Engine {
    let settings = driftline::Settings {
        workers,
        window_groups_max: 1000,
        window_panes_max: 100,
        reorder_rows_max: 2000,
        models_max: 50,
        table_bytes_max: 5000,
        ..driftline::Settings::default()
    };
    let engine = Engine::builder().settings(settings).build().unwrap();
    let others = CREATE_SAMPLES.replace("samples", "others").replace("10 seconds", "1 minute");
    engine.execute(&format!("{CREATE_SAMPLES}; {others}")).unwrap();
    engine
}

const TUMBLE: &str =
    "SELECT service, window_end, count(*) AS n FROM TUMBLE(samples, ts, INTERVAL '5 seconds')
                      WHERE bytes > 3 GROUP BY service, window_start, window_end";

/// Compares an explanation with a file under `tests/golden/explain`. With `DRIFTLINE_GOLDEN=write` the file is written
/// instead, to be read before it is committed.
#[track_caller]
fn golden(engine: &Engine, name: &str, statement: &str) {
    let found = format!("{}\n", engine.explain(statement).unwrap());
    let path = format!("{}/golden/explain/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var("DRIFTLINE_GOLDEN").as_deref() == Ok("write") {
        return std::fs::write(path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{path} differs from what is explained:\n{found}");
}

#[test]
fn plans_and_dataflows_are_told() {
    golden(&engine(1), "tumble_1_worker", TUMBLE);
    // Several workers fold before they exchange.
    golden(&engine(2), "tumble_2_workers", TUMBLE);
    let queries = [
        (
            "window_over_window",
            "SELECT window_end, max(n) AS most FROM TUMBLE((
               SELECT host, window_start AS begun, count(*) AS n FROM HOP(samples, ts, INTERVAL '2 seconds', INTERVAL '6 seconds')
               GROUP BY host, window_start, window_end), begun, INTERVAL '1 minute')
             GROUP BY window_start, window_end",
        ),
        (
            "session_of_two_sources",
            "SELECT service, count(*) AS n, window_end FROM (
               SELECT ts, service FROM samples UNION ALL SELECT ts, host FROM others)
             GROUP BY service, session(interval '30 seconds')",
        ),
        (
            "count_window",
            "SELECT host, max(bytes) AS most FROM samples GROUP BY host, count_window(10, 4)",
        ),
        (
            "top_rows_into_a_sink",
            "EXPLAIN CREATE SINK s WITH (path = 'x.csv') AS SELECT * FROM (
               SELECT service, n, ROW_NUMBER() OVER (PARTITION BY window_end ORDER BY n DESC) AS place FROM (
                 SELECT service, window_end, count(*) AS n FROM samples GROUP BY service, tumble(interval '1 minute')))
             WHERE place = 1",
        ),
        (
            "lookup",
            "SELECT s.ts, h.region FROM samples s LEFT JOIN hosts h ON s.host = h.host AND s.bytes > 3",
        ),
        (
            "interval_join",
            "SELECT s.ts, o.service FROM samples s JOIN others o
             ON s.host = o.host AND s.ts BETWEEN o.ts - INTERVAL '5 seconds' AND o.ts",
        ),
        (
            "join_with_one_row_per_window",
            "SELECT s.ts, o.n FROM samples s LEFT JOIN
               (SELECT window_end, count(*) AS n FROM others GROUP BY tumble(interval '10 seconds')) o
             ON s.ts BETWEEN o.window_end - INTERVAL '10 seconds' AND o.window_end",
        ),
        (
            "asof_join",
            "SELECT s.ts, o.value FROM samples s ASOF JOIN others o MATCH_CONDITION (s.ts >= o.ts) ON s.host = o.host",
        ),
        (
            "frames",
            "SELECT ts, avg(value) OVER (PARTITION BY host ORDER BY ts
               RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS mean FROM samples",
        ),
        ("distinct", "SELECT DISTINCT ts, host FROM samples"),
        (
            "updates",
            "SELECT host, count(*) AS n FROM samples GROUP BY host, tumble(interval '1 minute') EMIT ON UPDATE",
        ),
        (
            "retained_groups",
            "SELECT host, count(*) AS n FROM samples GROUP BY host EMIT ON UPDATE RETAIN INTERVAL '1 hour'",
        ),
        (
            "first_rows",
            "SELECT host, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY host ORDER BY value DESC, ts) AS place FROM samples)
             WHERE place <= 3 EMIT ON UPDATE RETAIN INTERVAL '1 hour'",
        ),
        (
            "detector",
            "CREATE DETECTOR d USING ewma PARTITION BY host AS SELECT ts, host, value FROM samples",
        ),
        (
            "detector_with_side_relations",
            "CREATE DETECTOR d USING drift_insight PARTITION BY host AS SELECT ts, host, value FROM samples",
        ),
    ];
    let engine = engine(2);
    engine
        .execute(
            "CREATE TABLE hosts (host TEXT, region TEXT); INSERT INTO hosts VALUES ('a', 'eu')",
        )
        .unwrap();
    for (name, query) in queries {
        golden(&engine, name, query);
    }
}

#[test]
fn dataflows_are_drawn() {
    golden(&engine(2), "tumble_mermaid", &format!("EXPLAIN (FORMAT MERMAID) {TUMBLE}"));
    golden(&engine(2), "tumble_dot", &format!("EXPLAIN (FORMAT dot) {TUMBLE}"));
    let engine = engine(1);
    let rows =
        engine.execute(&format!("EXPLAIN {TUMBLE}; EXPLAIN (FORMAT MERMAID) {TUMBLE}")).unwrap();
    assert_eq!(rows[1].column(0).as_string::<i32>().value(0), "flowchart LR");
    assert!(rows[0].num_rows() > 5);
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let engine = engine(1);
    for (statement, problem) in [
        ("EXPLAIN (FORMAT svg) SELECT * FROM samples", "expected a format, found \"svg\""),
        ("EXPLAIN ANALYZE SELECT * FROM samples", "EXPLAIN ANALYZE looks at a query that runs"),
        ("EXPLAIN ANALYZE QUERY 'subscription 9'", "query \"subscription 9\" does not exist"),
        ("EXPLAIN ANALYZE DETECTOR d", "does not exist"),
        ("EXPLAIN VERBOSE SELECT * FROM samples", "EXPLAIN has no VERBOSE"),
    ] {
        let error = engine.execute(statement).unwrap_err();
        assert!(error.to_string().contains(problem), "{statement}: {error}");
        assert!(error.position().is_some(), "{statement}: {error}");
    }
}

fn sum(operator: &OperatorAnalysis, figure: fn(&WorkerAnalysis) -> u64) -> u64 {
    operator.workers.iter().map(figure).sum()
}

/// What comes into each operator is what those before it gave.
#[track_caller]
fn check_sums(analysis: &Analysis) {
    for operator in analysis.operators.iter().filter(|operator| !operator.inputs.is_empty()) {
        let before = || operator.inputs.iter().map(|input| &analysis.operators[*input]);
        let given: u64 = before().map(|input| sum(input, |w| w.rows_out)).sum();
        assert_eq!(sum(operator, |w| w.rows_in), given, "rows into {}\n{analysis}", operator.name);
    }
}

#[test]
fn figures_add_up_whatever_the_number_of_workers() {
    let table = "CREATE TABLE hosts (host TEXT, region TEXT);
                 INSERT INTO hosts VALUES ('host-0', 'eu'), ('host-1', 'us'), ('host-1', 'ap')";
    let detector = "CREATE DETECTOR d USING ewma PARTITION BY service AS
                    SELECT window_end, service, count(*) AS n FROM samples GROUP BY service, tumble(interval '5 seconds')";
    let queries = [
        TUMBLE,
        "SELECT ts, region FROM samples JOIN hosts USING (host)",
        "SELECT service, count(*) AS n FROM samples GROUP BY service, session(interval '1 second')",
        "SELECT host, count(*) AS n FROM samples GROUP BY host, count_window(7)",
        "SELECT ts, host FROM samples UNION ALL SELECT ts, service FROM samples",
        "SELECT * FROM (SELECT service, n, ROW_NUMBER() OVER (PARTITION BY window_end ORDER BY n DESC) AS place FROM (
           SELECT service, window_end, count(*) AS n FROM samples GROUP BY service, tumble(interval '5 seconds')))
         WHERE place = 1",
        "SELECT * FROM d",
        "SELECT a.ts, b.service FROM samples a JOIN samples b
         ON a.host = b.host AND a.ts BETWEEN b.ts - INTERVAL '1 second' AND b.ts",
        "SELECT ts, max(bytes) OVER (PARTITION BY host ORDER BY ts
           RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS most FROM samples",
        "SELECT DISTINCT ts, host FROM samples WHERE bytes > 6000",
    ];
    let mut totals: Vec<Vec<u64>> = Vec::new();
    for workers in [1, 2, 4] {
        let engine = engine(workers);
        engine.execute(table).unwrap();
        engine.execute(detector).unwrap();
        let results: Vec<_> =
            queries.iter().map(|query| engine.subscribe(query).unwrap()).collect();
        push_all(&engine, "samples", &samples(5, 1500, 120), 100).unwrap();
        engine.drain().unwrap();
        let running = engine.analyze(results[0].name()).unwrap();
        let windows = running.operators.iter().find(|operator| operator.name == "Windows").unwrap();
        assert_eq!(windows.workers.len(), workers);
        for figures in &windows.workers {
            assert!(figures.watermark.is_some() && !figures.has_ended, "{running}");
            assert_eq!(figures.lag_seconds, Some(10.0), "{running}");
            assert!(figures.turns > 0 && figures.busy_millis > 0.0, "{running}");
        }
        assert!(sum(windows, |w| w.state_bytes) > 0, "{running}");
        engine.source("samples").unwrap().close().unwrap();
        engine.drain().unwrap();
        let mut given = Vec::new();
        for query in results {
            let analysis = engine.analyze(query.name()).unwrap();
            check_sums(&analysis);
            let last = analysis.operators.last().unwrap();
            assert_eq!(last.name, "Egress");
            let rows = sum(last, |w| w.rows_out);
            assert!(
                analysis.operators.iter().all(|operator| sum(operator, |w| w.state_bytes) == 0),
                "{analysis}"
            );
            assert_eq!(rows, collect(query).num_rows() as u64, "{analysis}");
            given.push(rows);
        }
        check_sums(&engine.analyze("d").unwrap());
        totals.push(given);
    }
    assert!(totals[0].iter().all(|rows| *rows > 0), "{totals:?}");
    assert!(totals.iter().all(|given| *given == totals[0]), "{totals:?}");
}

#[test]
fn a_running_query_is_analyzed_in_sql() {
    let engine = engine(2);
    engine
        .execute(
            "CREATE DETECTOR d USING ewma PARTITION BY host AS SELECT ts, host, value FROM samples",
        )
        .unwrap();
    let query = engine.subscribe(TUMBLE).unwrap();
    push_all(&engine, "samples", &samples(5, 1000, 120), 100).unwrap();
    engine.drain().unwrap();
    let number = query.name().rsplit(' ').next().unwrap();
    let text = |sql: String| -> String {
        let rows: RecordBatch = engine.execute(&sql).unwrap().remove(0);
        let lines: Vec<&str> = rows.column(0).as_string::<i32>().iter().flatten().collect();
        lines.join("\n")
    };
    let by_name = text(format!("EXPLAIN ANALYZE QUERY '{}'", query.name()));
    assert!(by_name.starts_with(query.name()), "{by_name}");
    assert!(by_name.contains("worker 1: "), "{by_name}");
    assert!(by_name.contains("10 s behind the latest row"), "{by_name}");
    assert!(text(format!("EXPLAIN ANALYZE QUERY {number}")).starts_with(query.name()));
    assert!(text("EXPLAIN ANALYZE DETECTOR d".to_owned()).contains("Detect"));
    let drawn = text("EXPLAIN ANALYZE (FORMAT MERMAID) DETECTOR d".to_owned());
    assert!(
        drawn.starts_with("flowchart LR") && drawn.contains("1000 rows in, 1000 out"),
        "{drawn}"
    );
    assert!(text("EXPLAIN ANALYZE (FORMAT DOT) DETECTOR d".to_owned()).ends_with('}'));
}
