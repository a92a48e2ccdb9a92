//! Engines that go on from a checkpoint.

use std::sync::Arc;

use driftline::arrow::array::RecordBatch;
use driftline::arrow::util::pretty::pretty_format_batches;
use driftline::{
    CheckpointStore, Checkpoints, Engine, MemoryStore, Result, Settings, Subscription,
};

/// Rows of a table as sorted lines.
fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let text = pretty_format_batches(batches).unwrap().to_string();
    let mut lines: Vec<String> =
        text.lines().filter(|line| line.starts_with('|')).map(str::to_owned).collect();
    // The header goes; each batch would be the same.
    if !lines.is_empty() {
        lines.remove(0);
    }
    lines.sort();
    lines
}

const SETUP: &str = "CREATE SOURCE load (host TEXT, ts TIMESTAMP, cpu BIGINT,
  WATERMARK FOR ts AS ts - INTERVAL '3 seconds')";

/// Rows of twenty hosts over five minutes, two seconds out of order.
fn rows(from: usize, to: usize) -> String {
    let row = |row: usize| {
        let second = row / 20;
        let shifted = second.saturating_sub((row * 7) % 3);
        let time = format!("2024-01-01 00:{:02}:{:02}", shifted / 60, shifted % 60);
        format!("('host {}', '{time}', {})", (row * 13) % 20, (row * 31) % 101)
    };
    let rows: Vec<String> = (from..to).map(row).collect();
    format!("INSERT INTO load VALUES {}", rows.join(", "))
}

const ROWS: usize = 4_000;
const STEP: usize = 250;

/// The results of a query over all rows, never interrupted.
fn whole(query: &str) -> Result<Vec<String>> {
    let engine = Engine::builder().workers(2).build()?;
    engine.execute(SETUP)?;
    let results = engine.subscribe(query)?;
    for from in (0..ROWS).step_by(STEP) {
        engine.execute(&rows(from, from + STEP))?;
    }
    engine.shutdown()?;
    Ok(lines(&results.collect::<Result<Vec<_>>>()?))
}

/// The same, with a checkpoint, a restart and rows that are pushed again at each of `at`, on as many workers as there.
fn interrupted(query: &str, at: &[(usize, usize)]) -> Result<Vec<String>> {
    let store = Arc::new(MemoryStore::default());
    interrupted_in(&|| Arc::clone(&store) as Arc<_>, query, at)
}

/// The same, with the checkpoints in a store that each engine opens for itself.
fn interrupted_in(
    open: &dyn Fn() -> Arc<dyn CheckpointStore>,
    query: &str,
    at: &[(usize, usize)],
) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut from = 0;
    for (part, &(until, workers)) in at.iter().chain([&(ROWS, 3)]).enumerate() {
        let checkpoints = Checkpoints::new(open());
        let engine = Engine::builder().workers(workers).checkpoints(checkpoints).build()?;
        assert_eq!(engine.restored().map_or(0, |restored| restored.id), part as u64);
        engine.execute(SETUP)?;
        let mut results = engine.subscribe(query)?;
        assert_eq!(engine.source("load")?.resume_at(), from as u64);
        for from in (from..until).step_by(STEP) {
            engine.execute(&rows(from, from + STEP))?;
        }
        if until == ROWS {
            engine.shutdown()?;
            found.extend(results.collect::<Result<Vec<_>>>()?);
            break;
        }
        // What the reader has taken is not in the checkpoint; what it has not comes again.
        engine.drain()?;
        if part % 2 == 0 {
            while let Some(rows) = results.try_next()? {
                found.push(rows);
            }
        }
        engine.checkpoint()?;
        // Rows that are lost with the engine, and pushed again.
        engine.execute(&rows(until, until + STEP))?;
        from = until;
    }
    Ok(lines(&found))
}

/// Windows of all hosts, with restarts on other numbers of workers, and checkpoints in a store of the caller's.
#[track_caller]
pub(super) fn goes_on_from(open: &dyn Fn() -> Arc<dyn CheckpointStore>) {
    let query = "SELECT host, window_end, count(*) AS n, sum(cpu) AS s
      FROM HOP(load, ts, INTERVAL '2 seconds', INTERVAL '10 seconds') GROUP BY host, window_start, window_end";
    let found = interrupted_in(open, query, &[(1_000, 1), (2_250, 4), (3_000, 2)]).unwrap();
    assert_eq!(found, whole(query).unwrap());
}

#[track_caller]
fn goes_on(query: &str) {
    let expected = whole(query).unwrap();
    assert!(expected.len() > 10, "{} rows are too few to compare", expected.len());
    for at in [&[(2_000, 1)][..], &[(1_000, 1), (2_250, 4), (3_000, 2)], &[(250, 2), (3_750, 1)]] {
        let found = interrupted(query, at).unwrap();
        assert_eq!(found, expected, "{query} at {at:?}");
    }
}

#[test]
fn windows_go_on() {
    for window in [
        "TUMBLE(load, ts, INTERVAL '10 seconds')",
        "HOP(load, ts, INTERVAL '2 seconds', INTERVAL '10 seconds')",
        "HOP(load, ts, INTERVAL '1 second', INTERVAL '40 seconds')",
        "CUMULATE(load, ts, INTERVAL '5 seconds', INTERVAL '30 seconds')",
        "SESSION(load, ts, INTERVAL '2 seconds' PARTITION BY host)",
    ] {
        goes_on(&format!(
            "SELECT host, window_end, count(*) AS n, sum(cpu) AS s, max(cpu) AS m, avg(cpu) AS a
             FROM {window} GROUP BY host, window_start, window_end"
        ));
    }
}

#[test]
fn counted_windows_go_on() {
    goes_on("SELECT host, window_end, sum(cpu) AS s
             FROM COUNT_WINDOW(load, ts, 7, 3 PARTITION BY host) GROUP BY host, window_start, window_end");
}

#[test]
fn detectors_go_on() {
    goes_on("SELECT host, ts, cpu FROM load WHERE cpu > 90");
}

#[test]
fn joins_go_on() {
    goes_on("SELECT a.host, a.ts, b.ts AS before, a.cpu FROM load a JOIN load b
             ON a.host = b.host AND b.ts BETWEEN a.ts - INTERVAL '4 seconds' AND a.ts - INTERVAL '1 second'
             WHERE a.cpu > 80 AND b.cpu > 80");
    goes_on("SELECT a.host, a.ts, b.ts AS before, a.cpu FROM load a LEFT JOIN load b
             ON a.host = b.host AND b.ts BETWEEN a.ts - INTERVAL '4 seconds' AND a.ts - INTERVAL '1 second'
             AND b.cpu > 95 WHERE a.cpu > 80");
    goes_on("SELECT a.host, a.ts, b.ts AS before FROM (SELECT * FROM load WHERE cpu > 60) a
             ASOF JOIN (SELECT * FROM load WHERE cpu < 30) b MATCH_CONDITION (a.ts >= b.ts) ON a.host = b.host");
}

#[test]
fn distinct_rows_go_on() {
    goes_on("SELECT DISTINCT host, ts FROM load");
}

#[test]
fn one_worker_holds_what_four_have_held() -> Result<()> {
    // Nothing is complete before the end.
    let setup = SETUP.replace("3 seconds", "10 minutes");
    let queries = [
        "SELECT host, window_end, sum(cpu) AS s FROM TUMBLE(load, ts, INTERVAL '1 second')
         GROUP BY host, window_start, window_end",
        "SELECT host, cpu, window_end, count(*) AS n FROM SESSION(load, ts, INTERVAL '1 second' PARTITION BY host, cpu)
         GROUP BY host, cpu, window_start, window_end",
        "SELECT DISTINCT host, ts, cpu FROM load",
        "SELECT host, ts, sum(cpu) OVER (PARTITION BY host ORDER BY ts ROWS 3 PRECEDING) AS s FROM load",
    ];
    let run = |bound: usize, workers: &[usize]| -> Result<Vec<Vec<String>>> {
        let store = Arc::new(MemoryStore::default());
        let settings = Settings {
            reorder_rows_max: bound,
            window_groups_max: bound,
            frame_rows_max: bound,
            ..Settings::default()
        };
        let start = |workers: usize| -> Result<(Engine, Vec<Subscription>)> {
            let checkpoints = Checkpoints::new(Arc::clone(&store) as Arc<_>);
            let builder = Engine::builder().settings(settings.clone()).workers(workers);
            let engine = builder.checkpoints(checkpoints).build()?;
            engine.execute(&setup)?;
            let results = queries.map(|query| engine.subscribe(query));
            Ok((engine, results.into_iter().collect::<Result<Vec<_>>>()?))
        };
        let (mut engine, mut results) = start(workers[0])?;
        for from in (0..2_000).step_by(STEP) {
            engine.execute(&rows(from, from + STEP))?;
        }
        for &workers in &workers[1..] {
            engine.checkpoint()?;
            drop((engine, results));
            (engine, results) = start(workers)?;
        }
        engine.shutdown()?;
        results.into_iter().map(|rows| Ok(lines(&rows.collect::<Result<Vec<_>>>()?))).collect()
    };
    let expected = run(100_000, &[2])?;
    assert!(expected.iter().all(|rows| rows.len() > 1_000), "{:?}", expected[0].len());
    assert_ne!(run(1_000, &[1])?, expected, "there is a bound");
    assert_eq!(run(1_000, &[4, 1, 3])?, expected);
    Ok(())
}
