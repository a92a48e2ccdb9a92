//! How soon a window is answered once its last row is in, and what an engine costs without rows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use driftline::Engine;
use driftline::arrow::array::{AsArray, RecordBatch};
use driftline::arrow::datatypes::TimestampNanosecondType;

use super::data::{CREATE, DISORDER_NS, Load, SECOND, stream};
use crate::BoxResult;
use crate::timing::{Watch, quantile};

const ROWS: usize = 8_000_000;
/// Rows of a batch while latency is measured: what a host gathers in some milliseconds.
const PUSH_ROWS: usize = 1024;
const QUERY: &str =
    "SELECT host, window_end, count(*) AS n, avg(value) AS mean, stddev(value) AS deviation,
    min(value) AS least, max(value) AS most FROM TUMBLE(load, ts, INTERVAL '1 second')
    GROUP BY host, window_start, window_end";

pub(crate) fn report() -> BoxResult<()> {
    let load = Load { rows: ROWS, keys: 1_000, span_ns: 400 * SECOND, moves_on: false };
    let whole = load.batches()?;
    let batches: Vec<RecordBatch> = whole
        .iter()
        .flat_map(|batch| {
            (0..batch.num_rows())
                .step_by(PUSH_ROWS)
                .map(move |row| batch.slice(row, PUSH_ROWS.min(batch.num_rows() - row)))
        })
        .collect();
    let (_, took) = stream(CREATE, QUERY, 1, &batches)?;
    let peak = ROWS as f64 / took.seconds;
    println!(
        "windows of 1 s over 1,000 keys, batches of {PUSH_ROWS}: peak {:.2} M rows/s, pushed at half of that",
        peak / 1e6
    );
    let engine = Engine::builder().workers(1).build()?;
    engine.execute(CREATE)?;
    let mut results = engine.subscribe(QUERY)?;
    // When the row that lets a window close was pushed.
    let due: Arc<Mutex<HashMap<i64, Instant>>> = Arc::default();
    let told = Arc::clone(&due);
    let reader = std::thread::spawn(move || -> driftline::Result<Vec<f64>> {
        let mut waits = Vec::new();
        while let Some(batch) = results.next().transpose()? {
            let now = Instant::now();
            let ends = batch.column(1).as_primitive::<TimestampNanosecondType>();
            let end = ends.value(batch.num_rows() - 1);
            if let Some(pushed) = told.lock().expect("nobody panics").remove(&end) {
                waits.push(now.saturating_duration_since(pushed).as_secs_f64() * 1e3);
            }
        }
        Ok(waits)
    });
    let source = engine.source("load")?;
    let begin = Instant::now();
    let (mut pushed, mut latest, mut next_end) = (0, i64::MIN, SECOND);
    for batch in &batches {
        let pause =
            Duration::from_secs_f64(pushed as f64 / (peak / 2.0)).saturating_sub(begin.elapsed());
        if pause > Duration::from_micros(200) {
            std::thread::sleep(pause);
        }
        let times = batch.column(0).as_primitive::<TimestampNanosecondType>();
        latest = times.values().iter().copied().fold(latest, i64::max);
        while latest - DISORDER_NS >= next_end {
            due.lock().expect("nobody panics").insert(next_end, Instant::now());
            next_end += SECOND;
        }
        pushed += batch.num_rows();
        source.push(batch.clone())?;
    }
    let kept = pushed as f64 / begin.elapsed().as_secs_f64();
    engine.shutdown()?;
    let waits = reader.join().map_err(|_| "the reader panicked")??;
    println!(
        "{} windows answered at {:.2} M rows/s, p50 {:.2} ms",
        waits.len(),
        kept / 1e6,
        quantile(&waits, 0.5)
    );
    println!("figure: close_latency_p99_ms = {:.2} ms", quantile(&waits, 0.99));
    Ok(())
}

/// An engine with queries that nobody pushes to.
pub(crate) fn idle() -> BoxResult<()> {
    const SECONDS: u64 = 20;
    let engine = Engine::builder().build()?;
    engine.execute(CREATE)?;
    let _results = engine.subscribe(QUERY)?;
    engine.execute("INSERT INTO load VALUES ('2024-01-01 00:00:00', 'a', 1.0)")?;
    engine.drain()?;
    let watch = Watch::start();
    std::thread::sleep(Duration::from_secs(SECONDS));
    let percent = 100.0 * watch.took().busy / SECONDS as f64;
    println!(
        "an engine of {} workers with a query and no rows, for {SECONDS} s",
        engine.settings().workers
    );
    println!("figure: idle_cpu_percent = {percent:.3} percent of a core");
    Ok(())
}
