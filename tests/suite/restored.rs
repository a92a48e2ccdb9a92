//! Operators of every kind in engines that go on from checkpoints, on other numbers of workers, against an engine that was
//! never interrupted.

use std::sync::Arc;
use std::time::Duration;

use driftline::arrow::array::RecordBatch;
use driftline::arrow::util::pretty::pretty_format_batches;
use driftline::detectors::builtin_kinds;
use driftline::{Checkpoints, Engine, ManualClock, MemoryStore, Result, Subscription};

use super::drift::{COUNTED, DRIFT, fleet};
use super::emit::settle;
use super::several::create_both;
use super::support::{CREATE_SAMPLES, SECOND, assert_same, samples, short_of, shuffled};
use super::workflows::{ROWS, SHORT, creations, deeplog_of};

/// What runs: statements, queries, and rows that are pushed step by step.
struct Story<'a> {
    setup: String,
    queries: Vec<String>,
    sources: Vec<(&'a str, RecordBatch)>,
    step: usize,
}

/// What each query gives.
type Results = Vec<Vec<RecordBatch>>;

/// After which of sixteen steps an engine ends, and how many workers it had; the last one has three.
const CUTS: [&[(usize, usize)]; 3] =
    [&[(8, 1)], &[(4, 1), (9, 4), (12, 2)], &[(1, 2), (7, 4), (15, 1)]];

impl Story<'_> {
    fn start(&self, workers: usize, store: &Arc<MemoryStore>) -> (Engine, Vec<Subscription>) {
        let checkpoints = Checkpoints::new(Arc::clone(store) as Arc<_>);
        let engine = Engine::builder().workers(workers).checkpoints(checkpoints).build().unwrap();
        engine.execute(&self.setup).unwrap();
        let subscribe = |query: &String| {
            engine.subscribe(query).unwrap_or_else(|error| panic!("{query}: {error}"))
        };
        let results = self.queries.iter().map(subscribe).collect();
        (engine, results)
    }

    /// Pushes the rows of some steps. Each batch is worked through by itself, so that epochs are the same in every run.
    fn push(&self, engine: &Engine, steps: std::ops::Range<usize>) {
        for step in steps {
            for (name, rows) in &self.sources {
                let start = step * self.step;
                if start < rows.num_rows() {
                    let length = self.step.min(rows.num_rows() - start);
                    engine.source(name).unwrap().push(rows.slice(start, length)).unwrap();
                    engine.drain().unwrap();
                }
            }
        }
    }

    fn steps(&self) -> usize {
        let longest = self.sources.iter().map(|(_, rows)| rows.num_rows()).max().unwrap_or(0);
        longest.div_ceil(self.step)
    }

    fn whole(&self) -> Results {
        let (engine, results) = self.start(2, &Arc::default());
        self.push(&engine, 0..self.steps());
        engine.shutdown().unwrap();
        results.into_iter().map(|results| results.collect::<Result<_>>().unwrap()).collect()
    }

    /// The same, with a checkpoint, a restart and rows that are pushed again at each of `cuts`.
    fn interrupted(&self, cuts: &[(usize, usize)]) -> Results {
        let store = Arc::new(MemoryStore::default());
        let mut found: Results = vec![Vec::new(); self.queries.len()];
        let mut from = 0;
        for (part, &(until, workers)) in cuts.iter().chain([&(self.steps(), 3)]).enumerate() {
            let (engine, mut results) = self.start(workers, &store);
            assert_eq!(engine.restored().map_or(0, |restored| restored.id), part as u64);
            assert_eq!(engine.not_restored(), Vec::<String>::new());
            for (name, rows) in &self.sources {
                let resume_at = engine.source(name).unwrap().resume_at();
                assert_eq!(resume_at, (from * self.step).min(rows.num_rows()) as u64);
            }
            self.push(&engine, from..until);
            if part == cuts.len() {
                engine.shutdown().unwrap();
                for (found, results) in found.iter_mut().zip(results) {
                    found.extend(results.map(|rows| rows.unwrap()));
                }
                break;
            }
            // What a reader has taken is not in the checkpoint; what it has not comes again.
            for (query, (found, results)) in found.iter_mut().zip(&mut results).enumerate() {
                while (part + query) % 2 == 0
                    && let Some(rows) = results.try_next().unwrap()
                {
                    found.push(rows);
                }
            }
            engine.checkpoint().unwrap();
            // Rows that are lost with the engine, and pushed again.
            self.push(&engine, until..until + 1);
            from = until;
        }
        found
    }

    /// Every query gives the same rows.
    #[track_caller]
    fn goes_on(&self) {
        assert!(self.steps() >= 16, "{} steps", self.steps());
        let expected = self.whole();
        for (query, rows) in self.queries.iter().zip(&expected) {
            let rows = rows.iter().map(RecordBatch::num_rows).sum::<usize>();
            assert!(rows > 2, "{query} gives {rows} rows, too few to compare");
        }
        for cuts in CUTS {
            let found = self.interrupted(cuts);
            for (query, (found, expected)) in self.queries.iter().zip(found.iter().zip(&expected)) {
                let what = format!("{query} at {cuts:?}");
                let is_change = |rows: &RecordBatch| rows.column_by_name("_diff").is_some();
                if found.first().is_some_and(is_change) {
                    // Each change makes sense where it comes.
                    assert_same(&settle(found, &what), &settle(expected, &what), &what);
                }
                assert_same(found, expected, &what);
            }
        }
    }
}

/// Rows that are out of order, and queries over them.
#[track_caller]
fn over_samples(ddl: &str, queries: &[&str]) {
    let rows = shuffled(&samples(51, 800, 400), 10 * SECOND, 8);
    Story {
        setup: format!("{CREATE_SAMPLES}; {ddl}"),
        queries: queries.iter().map(|query| (*query).to_owned()).collect(),
        sources: vec![("samples", rows)],
        step: 50,
    }
    .goes_on();
}

#[test]
fn frames_go_on() {
    over_samples(
        "",
        &[
            "SELECT ts, service, sum(bytes) OVER few AS total, count(*) OVER few AS rows, max(host) OVER few AS last_name,
               sum(bytes) OVER (PARTITION BY service ORDER BY ts ROWS BETWEEN 70 PRECEDING AND 3 PRECEDING) AS before
             FROM samples
             WINDOW few AS (PARTITION BY service ORDER BY ts ROWS BETWEEN 4 PRECEDING AND CURRENT ROW)",
            "SELECT ts, host, sum(bytes) OVER (PARTITION BY host ORDER BY ts
                 RANGE BETWEEN INTERVAL '20 seconds' PRECEDING AND CURRENT ROW) AS total,
               avg(bytes) OVER (PARTITION BY host ORDER BY ts
                 RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND INTERVAL '5 seconds' FOLLOWING) AS around
             FROM samples",
            "SELECT ts, service, sum(bytes) OVER (PARTITION BY service ORDER BY ts) AS total,
               max(bytes) OVER (PARTITION BY service ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND 5 PRECEDING) AS old,
               first_value(bytes) OVER (PARTITION BY service ORDER BY ts) AS opening,
               nth_value(bytes, 3) OVER (PARTITION BY service ORDER BY ts) AS third
             FROM samples",
            "SELECT ts, host, lag(bytes) OVER (PARTITION BY host ORDER BY ts) AS before,
               lead(bytes, 2) OVER (PARTITION BY host ORDER BY ts) AS next,
               row_number() OVER (PARTITION BY host ORDER BY ts) AS number
             FROM samples",
            "SELECT ts, row_number() OVER (PARTITION BY service, host ORDER BY ts) AS number FROM samples",
            "SELECT ts, rank() OVER (PARTITION BY host ORDER BY ts) AS place FROM samples",
            "SELECT ts, count(*) OVER (ORDER BY ts ROWS UNBOUNDED PRECEDING) AS number, lead(host) OVER (ORDER BY ts) AS next
             FROM samples",
            "SELECT window_end, service, n, n - lag(n) OVER (PARTITION BY service ORDER BY window_end) AS more FROM
               (SELECT window_end, service, count(*) AS n FROM TUMBLE(samples, ts, INTERVAL '5 seconds')
                GROUP BY service, window_start, window_end)",
        ],
    );
}

const LINES: &str = "CREATE VIEW lines AS
    SELECT ts, service,
      CASE WHEN value < 0 THEN 'service ' || service || ' restarted by ' || coalesce(host, 'nobody')
           WHEN value < 40 THEN 'sent ' || cast(bytes AS VARCHAR) || ' bytes to ' || coalesce(host, 'nobody')
           ELSE 'user ' || coalesce(host, 'nobody') || ' logged in' END AS line
    FROM samples";

#[test]
fn log_keys_go_on() {
    let keyed = |parser: &str| {
        format!(
            "SELECT ts, service, line, log_key, template, parameters, elapsed
             FROM LOG_KEYS(lines, line, session => service, parser => '{parser}')"
        )
    };
    let parsers = ["signature", "spell", "drain"].map(keyed);
    let mut queries: Vec<&str> = parsers.iter().map(String::as_str).collect();
    queries.extend([
        "SELECT * FROM LOG_TEMPLATES(lines, line, parser => spell)",
        "SELECT window_end, log_key, count(*) AS n, avg(elapsed) AS pause
         FROM TUMBLE(LOG_KEYS(lines, line), ts, INTERVAL '20 seconds') WHERE line IS NOT NULL
         GROUP BY log_key, window_start, window_end",
        "SELECT ts, service, log_key, score FROM d",
    ]);
    let ddl = format!(
        "{LINES}; CREATE DETECTOR d USING ewma PARTITION BY service WITH (features = 'log_key') AS
           SELECT date_trunc('second', ts) AS second, ts, service, log_key FROM LOG_KEYS(lines, line)"
    );
    over_samples(&ddl, &queries);
}

#[test]
fn detectors_of_every_kind_go_on() {
    let rows = shuffled(&samples(52, 4_000, 8_000), 10 * SECOND, 9);
    // `deeplog` reads log keys and has a test of its own.
    let kinds = builtin_kinds();
    let kinds: Vec<&str> =
        kinds.iter().map(|kind| kind.name()).filter(|kind| *kind != "deeplog").collect();
    let create = |kind: &&str| {
        let options = short_of(kind);
        format!(
            "CREATE DETECTOR d_{kind} USING {kind} PARTITION BY host {options} AS
               SELECT ts, coalesce(host, 'none') AS host, value, bytes FROM samples;
             CREATE DETECTOR all_{kind} USING {kind} {options} AS SELECT ts, value FROM samples"
        )
    };
    let created: Vec<String> = kinds.iter().map(create).collect();
    let query = |kind: &&str| {
        [
            format!(
                "SELECT host, ts, score, threshold, is_anomaly, phase, model_version, detail['samples'] AS samples
                 FROM d_{kind}"
            ),
            format!("SELECT ts, score, is_anomaly, phase FROM all_{kind}"),
        ]
    };
    Story {
        setup: format!("{CREATE_SAMPLES}; {}", created.join("; ")),
        queries: kinds.iter().flat_map(query).collect(),
        sources: vec![("samples", rows)],
        step: 250,
    }
    .goes_on();
}

#[test]
fn a_fleet_and_its_relations_go_on() {
    let mut queries: Vec<String> = vec![
        "SELECT component, window_end, score, is_anomaly, phase, model_version, detail['state'] AS state,
           detail['window'] AS states FROM drift"
            .into(),
        "SELECT * FROM drift.components".into(),
        "SELECT * FROM drift.states".into(),
        "SELECT * FROM drift.state_series".into(),
    ];
    queries.extend(COUNTED.iter().map(|name| format!("SELECT * FROM drift.{name}")));
    let rows = fleet();
    let step = rows.num_rows().div_ceil(16);
    Story { setup: DRIFT.into(), queries, sources: vec![("metrics", rows)], step }.goes_on();
}

#[test]
fn sessions_of_logs_go_on() {
    let rows = creations(150, 4);
    let queries = [
        ROWS,
        "SELECT * FROM odd.sessions",
        "SELECT * FROM odd.diagnosis",
        "SELECT * FROM odd.workflow",
    ];
    let step = rows.num_rows().div_ceil(16);
    Story {
        setup: deeplog_of(SHORT),
        queries: queries.map(str::to_owned).to_vec(),
        sources: vec![("logs", rows)],
        step,
    }
    .goes_on();
}

const COUNTS: &str = "SELECT service, window_start, window_end, count(*) AS n, avg(bytes) AS mean, min(host) AS least
    FROM {W} GROUP BY service, window_start, window_end";

#[test]
fn windows_that_answer_early_or_again_go_on() {
    let late = "CREATE SOURCE samples (
        ts TIMESTAMP NOT NULL, host TEXT, service TEXT NOT NULL, value DOUBLE, bytes BIGINT,
        WATERMARK FOR ts AS ts - INTERVAL '2 seconds') WITH (allowed_lateness = INTERVAL '8 seconds')";
    let windows = [
        "TUMBLE(samples, ts, INTERVAL '10 seconds')",
        "HOP(samples, ts, INTERVAL '4 seconds', INTERVAL '12 seconds')",
        "CUMULATE(samples, ts, INTERVAL '5 seconds', INTERVAL '20 seconds')",
        "SESSION(samples, ts, INTERVAL '1 second' PARTITION BY service)",
    ];
    let clauses = [
        "EMIT ON UPDATE",
        "EMIT EVERY INTERVAL '3 seconds'",
        "EMIT ON WINDOW CLOSE WITH CORRECTIONS",
        "EMIT ON WINDOW CLOSE WITH CORRECTIONS FOR INTERVAL '1 minute'",
        "EMIT ON UPDATE EVERY INTERVAL '1 hour'",
        "EMIT ON WINDOW CLOSE WITH DELAY INTERVAL '5 seconds'",
    ];
    let query = |window: &&str| {
        let query = COUNTS.replace("{W}", window);
        clauses.map(|clause| format!("{query} {clause}"))
    };
    let mut queries: Vec<String> = windows.iter().flat_map(query).collect();
    queries.push("SELECT service, ts, reason FROM LATE(samples)".into());
    // Some rows come later than is allowed.
    let rows = shuffled(&samples(53, 800, 400), 14 * SECOND, 8);
    Story { setup: late.into(), queries, sources: vec![("samples", rows)], step: 50 }.goes_on();
}

#[test]
fn aggregates_of_retained_rows_go_on() {
    let aggregates = [
        "SELECT service, count(*) AS n, avg(bytes) AS mean, max(bytes) AS most FROM samples GROUP BY service",
        "SELECT host, upper(service) AS name, sum(bytes) / 2 AS half, count(DISTINCT bytes % 5) AS kinds FROM samples
         WHERE bytes > 100 GROUP BY host, service HAVING count(*) > 3",
        "SELECT DISTINCT host, service FROM samples",
        "SELECT max(n) AS most, count(*) AS groups FROM (SELECT host, count(*) AS n FROM samples GROUP BY host)",
        "SELECT DISTINCT n % 7 AS n FROM (SELECT host, count(*) AS n FROM samples GROUP BY host)",
    ];
    let clauses = [
        "EMIT ON UPDATE RETAIN INTERVAL '20 seconds'",
        "EMIT ON UPDATE EVERY INTERVAL '7 seconds' RETAIN INTERVAL '15 seconds'",
        "EMIT ON UPDATE RETAIN INTERVAL '1 hour'",
    ];
    let query = |aggregate: &&str| clauses.map(|clause| format!("{aggregate} {clause}"));
    let queries: Vec<String> = aggregates.iter().flat_map(query).collect();
    over_samples("", &queries.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn joins_of_retained_rows_go_on() {
    let mut queries = Vec::new();
    for kind in ["JOIN", "LEFT JOIN", "FULL JOIN"] {
        for clause in [
            "EMIT ON UPDATE RETAIN INTERVAL '25 seconds'",
            "EMIT ON UPDATE EVERY INTERVAL '7 seconds' RETAIN INTERVAL '1 hour'",
        ] {
            queries.push(format!(
                "SELECT a.ts AS a_ts, b.ts AS b_ts, a.service, b.host, b.bytes FROM samples a {kind} others b
                 ON a.service = b.service AND a.host = b.host AND CAST(a.bytes % 5 AS INT) = b.bytes % 5 {clause}"
            ));
            queries.push(format!(
                "SELECT service, count(*) AS n, sum(other) AS total FROM
                   (SELECT a.service, a.host, b.bytes AS other FROM samples a {kind} others b
                    ON a.host = b.host AND a.service = b.service)
                 GROUP BY service {clause}"
            ));
        }
    }
    queries.push(
        "SELECT host, a.ts AS a_ts, n FROM samples a JOIN
           (SELECT window_end, host, count(*) AS n FROM TUMBLE(others, ts, INTERVAL '5 seconds')
            GROUP BY host, window_start, window_end) b USING (host)
         EMIT ON UPDATE RETAIN INTERVAL '1 minute'"
            .into(),
    );
    let (samples, others) = (samples(54, 160, 100), samples(55, 130, 130));
    let samples = shuffled(&samples, 10 * SECOND, 5);
    let others = shuffled(&others, 3 * SECOND, 6);
    let sources = vec![("samples", samples), ("others", others)];
    Story { setup: create_both(), queries, sources, step: 10 }.goes_on();
}

/// The windows of each second are held by every worker and written once.
#[test]
fn joins_with_one_row_per_window_go_on() {
    let queries = ["JOIN", "LEFT JOIN", "FULL JOIN"].map(|kind| {
        format!(
            "SELECT a.ts, a.host, a.bytes, m.most, m.window_end FROM samples a {kind}
               (SELECT window_end, max(bytes) AS most FROM others GROUP BY tumble(interval '2 seconds')) m
             ON a.bytes <= m.most AND a.ts BETWEEN m.window_end - INTERVAL '8 seconds' AND m.window_end"
        )
    });
    let (samples, others) = (samples(57, 160, 100), samples(58, 130, 130));
    let samples = shuffled(&samples, 10 * SECOND, 5);
    let others = shuffled(&others, 3 * SECOND, 6);
    let sources = vec![("samples", samples), ("others", others)];
    Story { setup: create_both(), queries: queries.into(), sources, step: 10 }.goes_on();
}

/// What windows over a source that falls silent and another one give, step by step; whether engines end in between.
fn beside_silence(is_restored: bool) -> Vec<String> {
    let store = Arc::new(MemoryStore::default());
    let start = |workers: usize| {
        let clock = Arc::new(ManualClock::default());
        let checkpoints = Checkpoints::new(Arc::clone(&store) as Arc<_>);
        let builder = Engine::builder().workers(workers).clock(clock.clone());
        let engine = builder.checkpoints(checkpoints).build().unwrap();
        engine
            .execute(
                "CREATE SOURCE a (ts TIMESTAMP, WATERMARK FOR ts AS ts IDLE TIMEOUT INTERVAL '30 seconds');
                 CREATE SOURCE b (ts TIMESTAMP, WATERMARK FOR ts AS ts);
                 CREATE VIEW ab AS SELECT ts FROM a UNION ALL SELECT ts FROM b",
            )
            .unwrap();
        let results = engine
            .subscribe(
                "SELECT window_end, count(*) AS n FROM TUMBLE(ab, ts, INTERVAL '10 seconds')
                 GROUP BY window_start, window_end",
            )
            .unwrap();
        (engine, clock, results)
    };
    let (mut engine, mut clock, mut results) = start(1);
    let mut said = Vec::new();
    for (step, (source, second, pause)) in
        [("a", 1, 0), ("b", 5, 30), ("b", 25, 4), ("b", 33, 9), ("b", 58, 20)]
            .into_iter()
            .enumerate()
    {
        engine
            .execute(&format!(
                "INSERT INTO {source} VALUES (TIMESTAMP '1970-01-01 00:00:{second:02}')"
            ))
            .unwrap();
        engine.drain().unwrap();
        clock.advance(Duration::from_secs(pause));
        engine.drain().unwrap();
        let mut given = Vec::new();
        while let Some(rows) = results.try_next().unwrap() {
            given.push(rows);
        }
        said.push(pretty_format_batches(&given).unwrap().to_string());
        if is_restored {
            engine.checkpoint().unwrap();
            (engine, clock, results) = start(1 + step % 3);
        }
    }
    said
}

#[test]
fn a_silent_source_stays_silent() {
    let said = beside_silence(false);
    assert_eq!(said.iter().filter(|said| said.contains("1970")).count(), 3, "{said:#?}");
    assert_eq!(beside_silence(true), said);
}
