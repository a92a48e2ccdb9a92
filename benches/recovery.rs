//! What checkpoints cost and what they are worth: processes that are killed, throughput and stalls, time and bytes by keys.
//!
//! ```text
//! cargo bench --bench recovery
//! cargo bench --bench recovery -- kill simulate cost keys          # these parts
//! DRIFTLINE_KILLS=1000 DRIFTLINE_ROUND_SECONDS=3 DRIFTLINE_KEYS=100000 cargo bench --bench recovery
//! ```
//!
//! `kill` starts this program again and again as a child with a pipeline, kills it at random moments (SIGKILL), and
//! compares what it has published with a run that nobody killed. `simulate` runs histories that a seed decides, in which the
//! store fails and the process dies (`DRIFTLINE_HISTORIES`). `cost` runs a tumble for some seconds, with a checkpoint every
//! second and without; rounds take turns in which comes first, and the median of the ratios of their rows per second is
//! taken. Stalls are those of one more run, with
//! a checkpoint every 50 ms. `keys` fills one window of as many keys, takes checkpoints of it into a folder, and builds
//! the engine again from the last.

// A bench prints and reads the clock and the environment.
#![allow(clippy::disallowed_methods)]

// Shared with the integration tests.
#[allow(dead_code, unreachable_pub)]
#[path = "../tests/suite/inference_kind.rs"]
mod inference_kind;
#[allow(dead_code, unreachable_pub)]
#[path = "../tests/suite/kill.rs"]
mod kill;
#[allow(dead_code, unreachable_pub)]
#[path = "../tests/suite/simulation.rs"]
mod simulation;

use std::error::Error;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftline::arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampNanosecondArray};
use driftline::{Checkpoints, Engine};

type BoxResult<T> = Result<T, Box<dyn Error>>;

const BATCH_ROWS: usize = 8192;
const ROUNDS: usize = 5;
/// Seconds of each half of a round, so that checkpoints come due ten times.
const ROUND_SECONDS: usize = 10;
/// Batches whose keys and values come again and again; times are new in each.
const BATCHES: usize = 64;
const ROWS_PER_SECOND: usize = 50_000;
/// Rows between two checkpoints of many keys.
const FEW: usize = 10;
const SECOND: i64 = 1_000_000_000;
const CREATE: &str =
    "CREATE SOURCE load (ts TIMESTAMP NOT NULL, host BIGINT NOT NULL, value BIGINT NOT NULL,
    WATERMARK FOR ts AS ts - INTERVAL '2 seconds')";

/// A number from the environment, so that a small machine can run small sizes.
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() -> BoxResult<()> {
    // A child of the part `kill`.
    if let Some(result) = kill::live_as_child() {
        return Ok(result?);
    }
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    type Part = (&'static str, fn() -> BoxResult<()>);
    let parts: [Part; 4] =
        [("kill", killed), ("simulate", simulated), ("cost", cost), ("keys", keys)];
    for (name, part) in parts {
        if asked.is_empty() || asked.iter().any(|part| part == name) {
            part()?;
        }
    }
    Ok(())
}

fn simulated() -> BoxResult<()> {
    let count = number("DRIFTLINE_HISTORIES", 2000) as u64;
    let (mut failures, mut lives) = (Vec::new(), 0);
    for seed in 0..count {
        match simulation::history(seed) {
            Ok(told) => lives += told.lives,
            Err(problem) => failures.push(format!("seed {seed}: {problem}")),
        }
        if (seed + 1) % 500 == 0 {
            eprintln!("    {} histories, {} failures", seed + 1, failures.len());
        }
    }
    println!("{count} simulated histories of {lives} lives, of up to three queries each");
    println!("figure: simulated_histories = {count} histories");
    println!("figure: simulated_failures = {} histories", failures.len());
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

fn killed() -> BoxResult<()> {
    let program = std::env::current_exe()?;
    let outcome =
        kill::kill_at_random(number("DRIFTLINE_KILLS", 300), 1, || Command::new(&program));
    println!(
        "a pipeline of windows, sessions, detectors and log keys publishes {} rows whether or not it is killed",
        outcome.rows
    );
    println!("figure: kill_runs = {} runs", outcome.kills);
    println!("figure: kill_lost = {} rows", outcome.lost);
    println!("figure: kill_doubled = {} rows", outcome.doubled);
    if outcome.lost + outcome.doubled > 0 {
        return Err(format!("rows were lost or came twice: {:#?}", outcome.examples).into());
    }
    Ok(())
}

/// A batch of rows from a place on; a second has `rows_per_second`.
fn batch(from: usize, rows: usize, keys: usize, rows_per_second: usize) -> BoxResult<RecordBatch> {
    let at = |row: usize| (row as i128 * i128::from(SECOND) / rows_per_second as i128) as i64;
    let column = |value: &dyn Fn(usize) -> i64| (from..from + rows).map(value).collect::<Vec<_>>();
    let host = |row: usize| (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    Ok(RecordBatch::try_from_iter([
        ("ts", Arc::new(TimestampNanosecondArray::from(column(&at))) as ArrayRef),
        ("host", Arc::new(Int64Array::from(column(&|row| (host(row) % keys as u64) as i64)))),
        ("value", Arc::new(Int64Array::from(column(&|row| (row % 1013) as i64)))),
    ])?)
}

const TUMBLE: &str =
    "SELECT host, window_start, count(*) AS n, avg(value) AS mean, stddev(value) AS deviation,
    min(value) AS least, max(value) AS most FROM TUMBLE(load, ts, INTERVAL '10 seconds')
    GROUP BY host, window_start, window_end";

/// One half of a round: rows for each second, and the stalls of checkpoints, in milliseconds.
fn tumble(
    batches: &[RecordBatch],
    length: Duration,
    with: Option<Checkpoints>,
) -> BoxResult<(f64, Vec<f64>)> {
    let has_checkpoints = with.is_some();
    // Little ahead of the workers, so that pushes take as long as the work does.
    let builder = Engine::builder().workers(1).ingress_bytes_max(4 << 20);
    let engine = match with {
        Some(checkpoints) => builder.checkpoints(checkpoints),
        None => builder,
    }
    .build()?;
    engine.execute(CREATE)?;
    let results = engine.subscribe_with(TUMBLE, drop)?;
    let source = engine.source("load")?;
    let begin = Instant::now();
    let (mut stalls, mut taken, mut pushed) = (Vec::new(), 0, 0);
    while begin.elapsed() < length {
        source.push(at_place(&batches[pushed % batches.len()], pushed)?)?;
        pushed += 1;
        if has_checkpoints
            && let Some(metrics) = engine.metrics().checkpoints
            && metrics.taken > taken
        {
            taken = metrics.taken;
            stalls.push(metrics.last_stall_millis);
        }
    }
    engine.drain()?;
    let rows_per_second = (pushed * BATCH_ROWS) as f64 / begin.elapsed().as_secs_f64();
    engine.shutdown()?;
    results.join()?;
    Ok((rows_per_second, stalls))
}

/// The rows of a batch with the times of this place.
fn at_place(batch: &RecordBatch, place: usize) -> BoxResult<RecordBatch> {
    let (first, step) = (place * BATCH_ROWS, SECOND / ROWS_PER_SECOND as i64);
    let times = (first..first + BATCH_ROWS).map(|row| row as i64 * step);
    let mut columns = batch.columns().to_vec();
    columns[0] = Arc::new(TimestampNanosecondArray::from_iter_values(times));
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

fn cost() -> BoxResult<()> {
    let keys = 1_000;
    let length = number("DRIFTLINE_ROUND_SECONDS", ROUND_SECONDS);
    let batches = (0..BATCHES).map(|n| batch(n * BATCH_ROWS, BATCH_ROWS, keys, ROWS_PER_SECOND));
    let batches: Vec<_> = batches.collect::<BoxResult<_>>()?;
    println!(
        "tumble of 10 s, five aggregates, {keys} keys, {length} s with a checkpoint every second and {length} s without"
    );
    let length = Duration::from_secs(length as u64);
    let mut shares = Vec::new();
    for round in 0..ROUNDS {
        let folder = tempfile::tempdir()?;
        let with = || -> BoxResult<_> {
            let checkpoints = Checkpoints::in_folder(folder.path())?;
            tumble(&batches, length, Some(checkpoints.every(Duration::from_secs(1))))
        };
        // What the machine does besides falls on both alike.
        let ((without, _), (with, found)) = match round % 2 {
            0 => (tumble(&batches, length, None)?, with()?),
            _ => {
                let with = with()?;
                (tumble(&batches, length, None)?, with)
            }
        };
        println!(
            "round {}: {without:.0} rows/s without, {with:.0} rows/s with {} checkpoints",
            round + 1,
            found.len()
        );
        shares.push(with / without);
    }
    let folder = tempfile::tempdir()?;
    let checkpoints = Checkpoints::in_folder(folder.path())?.every(Duration::from_millis(50));
    let (_, mut stalls) = tumble(&batches, length, Some(checkpoints))?;
    println!("figure: checkpoint_throughput_share = {:.3} ratio", at(&mut shares, 0.5));
    match stalls.is_empty() {
        true => println!("no checkpoint came due: let rounds last longer"),
        false => {
            println!("{} checkpoints, one every 50 ms", stalls.len());
            println!("figure: checkpoint_stall_p99_ms = {:.2} ms", at(&mut stalls, 0.99));
        }
    }
    Ok(())
}

fn keys() -> BoxResult<()> {
    let most = number("DRIFTLINE_KEYS", 1_000_000);
    for keys in [most / 10, most] {
        let folder = tempfile::tempdir()?;
        let start = || -> BoxResult<Engine> {
            let checkpoints = Checkpoints::in_folder(folder.path())?;
            let settings = driftline::Settings {
                workers: 2,
                window_groups_max: 2 * keys,
                ..driftline::Settings::default()
            };
            let engine = Engine::builder().settings(settings).checkpoints(checkpoints).build()?;
            engine.execute(CREATE)?;
            Ok(engine)
        };
        let engine = start()?;
        let callback = engine.subscribe_with(TUMBLE, drop)?;
        let source = engine.source("load")?;
        // All keys within one window.
        for n in 0..(keys * 3).div_ceil(BATCH_ROWS) {
            source.push(batch(n * BATCH_ROWS, BATCH_ROWS, keys, keys)?)?;
        }
        engine.drain()?;
        let first = engine.checkpoint()?;
        // Few keys change; each is in one of the parts.
        source.push(batch(keys * 3, FEW, keys, keys)?)?;
        let second = engine.checkpoint()?;
        let label = match keys {
            1_000_000 => "1e6".to_owned(),
            100_000 => "1e5".to_owned(),
            keys => keys.to_string(),
        };
        println!("figure: checkpoint_seconds_{label}_keys = {:.3} s", first.took.as_secs_f64());
        println!("figure: checkpoint_bytes_{label}_keys = {} bytes", first.bytes);
        println!(
            "figure: checkpoint_stall_{label}_keys = {:.2} ms",
            first.stall.as_secs_f64() * 1e3
        );
        println!(
            "figure: checkpoint_share_written_after_{FEW}_rows_{label}_keys = {:.3} ratio",
            second.bytes_written as f64 / second.bytes as f64
        );
        callback.cancel();
        drop((callback, source, engine));
        let begin = Instant::now();
        let engine = start()?;
        let callback = engine.subscribe_with(TUMBLE, drop)?;
        // Until the state is there: a row behind it is worked through.
        engine.source("load")?.push(batch(keys * 3 + FEW, 1, keys, keys)?)?;
        engine.drain()?;
        println!("figure: recovery_seconds_{label}_keys = {:.3} s", begin.elapsed().as_secs_f64());
        callback.cancel();
    }
    Ok(())
}

/// The value below which a share of the values lies.
fn at(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}
