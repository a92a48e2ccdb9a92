//! One limit for all that an engine holds.

use std::sync::Arc;

use driftline::arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use driftline::arrow::datatypes::Int64Type;
use driftline::{Engine, ErrorKind, EventTime, Result, Settings, TryPush};

const SETUP: &str = "CREATE SOURCE load (host TEXT, ts TIMESTAMP, cpu BIGINT, WATERMARK FOR ts)";

/// The end of the minute that all rows are in.
const MINUTE: EventTime = EventTime(1_704_067_200_000_000_000 + 60_000_000_000);

/// An INSERT of a thousand rows of hosts that nobody has seen.
fn insert(step: usize) -> String {
    let row =
        |row| format!("('host {}', '2024-01-01 00:00:{:02}', {row})", step * 1000 + row, row % 60);
    let rows: Vec<String> = (0..1000).map(row).collect();
    format!("INSERT INTO load VALUES {}", rows.join(", "))
}

#[test]
fn pushes_are_refused_at_the_limit_and_taken_again_when_windows_have_closed() -> Result<()> {
    for workers in [1, 2, 4] {
        const LIMIT: usize = 2 << 20;
        let settings = Settings { workers, memory_bytes_max: LIMIT, ..Settings::default() };
        let engine = Engine::builder().settings(settings).build()?;
        engine.execute(SETUP)?;
        let mut counts = engine.subscribe(
            "SELECT host, count(*) AS n FROM load GROUP BY host, tumble(interval '1 minute')",
        )?;
        let mut taken = 0;
        let refused = loop {
            match engine.execute(&insert(taken)) {
                Ok(_) => taken += 1,
                Err(error) => break error,
            }
            // State is read now and then, by epochs.
            engine.drain()?;
            assert!(taken < 2_000, "nothing was refused");
        };
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(refused.hint().unwrap().contains("memory_bytes_max"), "{refused}");
        let metrics = engine.metrics();
        assert_eq!(metrics.pushes_refused, 1);
        assert!(metrics.memory_bytes < 2 * LIMIT as u64, "{} bytes", metrics.memory_bytes);
        let source = engine.source("load")?;
        let more = RecordBatch::new_empty(source.schema());
        assert!(matches!(source.try_push(more)?, TryPush::Accepted), "no rows need no room");

        // The watermark is taken at the limit, and makes room.
        source.watermark(MINUTE)?;
        engine.drain()?;
        let mut rows = 0;
        while let Some(batch) = counts.try_next()? {
            rows += batch.num_rows();
        }
        assert_eq!(rows, taken * 1000);
        engine.execute("INSERT INTO load VALUES ('host 0', '2024-01-01 00:02:00', 1)")?;
        engine.shutdown()?;
    }
    Ok(())
}

/// A key moves once for each worker and window, not once for each epoch.
#[test]
fn several_workers_hand_over_a_pane_when_it_is_complete() -> Result<()> {
    let engine = Engine::builder().workers(2).build()?;
    engine.execute(SETUP)?;
    let mut counts = engine.subscribe(
        "SELECT host, count(*) AS n FROM load GROUP BY host, tumble(interval '1 minute')",
    )?;
    for second in 0..50 {
        let time = format!("2024-01-01 00:00:{second:02}");
        let rows = (0..10).map(|host| format!("('{host}', '{time}', 1)"));
        let rows: Vec<String> = rows.collect();
        engine.execute(&format!("INSERT INTO load VALUES {}", rows.join(", ")))?;
        engine.drain()?;
    }
    engine.source("load")?.watermark(MINUTE)?;
    engine.drain()?;
    let analysis = engine.analyze(counts.name())?;
    let fold = analysis.operators.iter().find(|operator| operator.name == "FoldPanes").unwrap();
    let (rows_in, rows_out) = fold
        .workers
        .iter()
        .fold((0, 0), |(a, b), worker| (a + worker.rows_in, b + worker.rows_out));
    assert_eq!(rows_in, 500);
    assert!((10..=20).contains(&rows_out), "{analysis}");
    let mut rows = 0;
    while let Some(batch) = counts.try_next()? {
        rows += batch.num_rows();
    }
    assert_eq!(rows, 10);
    Ok(())
}

/// Groups of panes that stay open are not held twice over: beyond so many they are handed to their owners as they are.
#[test]
fn several_workers_hand_over_what_is_too_much_to_hold() -> Result<()> {
    /// `FOLDED_GROUPS_MAX`.
    const HELD: u64 = 65_536;
    let engine = Engine::builder().workers(2).build()?;
    engine.execute(SETUP)?;
    let mut counts = engine.subscribe(
        "SELECT host, count(*) AS n FROM load GROUP BY host, tumble(interval '1 minute')",
    )?;
    let source = engine.source("load")?;
    let (steps, rows) = (6, 60_000_i64);
    for step in 0..steps {
        // Each host twice, in steps that follow each other.
        let hosts = (0..rows).map(|row| format!("host {}", (step / 2) * rows + row));
        let times = (0..rows).map(|row| MINUTE.0 - 1_000_000_000 - row);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(hosts)),
            Arc::new(TimestampNanosecondArray::from_iter_values(times)),
            Arc::new(Int64Array::from(vec![1; rows as usize])),
        ];
        source.push(RecordBatch::try_new(source.schema(), columns).unwrap())?;
        engine.drain()?;
        let analysis = engine.analyze(counts.name())?;
        let fold = analysis.operators.iter().find(|operator| operator.name == "FoldPanes").unwrap();
        for worker in &fold.workers {
            assert!(worker.rows_in <= worker.rows_out * 2 + HELD * 2, "step {step}: {analysis}");
        }
    }
    let analysis = engine.analyze(counts.name())?;
    let fold = analysis.operators.iter().find(|operator| operator.name == "FoldPanes").unwrap();
    let given: u64 = fold.workers.iter().map(|worker| worker.rows_out).sum();
    assert!(given > 0, "nothing was handed over: {analysis}");
    source.watermark(MINUTE)?;
    engine.drain()?;
    let (mut found, mut sum) = (0, 0);
    while let Some(batch) = counts.try_next()? {
        found += batch.num_rows() as i64;
        sum += batch.column(1).as_primitive::<Int64Type>().values().iter().sum::<i64>();
    }
    assert_eq!((found, sum), (3 * rows, steps * rows));
    Ok(())
}
