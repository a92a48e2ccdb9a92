//! What the operating system sees: memory comes back when a query is dropped, and stays flat when nobody reads.
//!
//! Each proof runs in a process of its own, because tests share theirs and its memory.

#![cfg(target_os = "linux")]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use driftline::arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use driftline::{Engine, Settings, TryPush};

use super::soak;
use super::support::{SECOND, within_minutes};

/// Set in the process that runs one proof.
const ALONE: &str = "DRIFTLINE_TEST_ALONE";

const MIB: u64 = 1 << 20;

const CREATE: &str = "CREATE SOURCE s (ts TIMESTAMP, k TEXT, x DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '1 second')";

/// Runs `proof`, the body of the test called `name`, in a process where nothing else happens.
fn alone(name: &str, proof: impl FnOnce() + Send + 'static) {
    if std::env::var_os(ALONE).is_some() {
        return within_minutes(proof);
    }
    let (_, room) = module_path!().split_once("::").unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{room}::{name}"), "--nocapture"])
        .env(ALONE, "1")
        .envs([soak::ONE_HEAP].into_iter().filter(|_| name == FLAT))
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// One row for each of `keys`, all at `second`.
fn rows(second: i64, keys: std::ops::Range<usize>) -> RecordBatch {
    let count = keys.len();
    RecordBatch::try_from_iter_with_nullable([
        (
            "ts",
            Arc::new(TimestampNanosecondArray::from(vec![second * SECOND; count])) as ArrayRef,
            true,
        ),
        (
            "k",
            Arc::new(StringArray::from_iter_values(keys.map(|key| format!("key-{key:08}")))),
            true,
        ),
        ("x", Arc::new(Float64Array::from(vec![1.0; count])), true),
    ])
    .unwrap()
}

#[test]
fn a_dropped_query_gives_its_memory_back() {
    alone("a_dropped_query_gives_its_memory_back", || {
        const KEYS: usize = 20_000;
        let engine = Engine::builder().workers(2).build().unwrap();
        engine.execute(CREATE).unwrap();
        let source = engine.source("s").unwrap();
        let (stop, second) = (AtomicBool::new(false), AtomicI64::new(0));
        std::thread::scope(|scope| {
            // Rows keep flowing while queries come and go, no faster than they are worked through.
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    source.push(rows(second.load(Ordering::SeqCst), 0..1)).unwrap();
                    engine.drain().unwrap();
                }
            });
            let (mut settled, mut held) = (0, 0);
            for round in 0..24 {
                engine
                    .execute(
                        "CREATE DETECTOR d USING robust_zscore PARTITION BY k AS SELECT ts, k, x FROM s;
                         CREATE DETECTOR w USING ewma PARTITION BY k AS
                           SELECT k, window_end, sum(x) AS x FROM HOP(s, ts, INTERVAL '1 second', INTERVAL '1 hour')
                           GROUP BY k, window_start, window_end",
                    )
                    .unwrap();
                let unread = engine.subscribe("SELECT k, x FROM d").unwrap();
                for _ in 0..3 {
                    let now = second.fetch_add(10, Ordering::SeqCst) + 10;
                    source.push(rows(now, 0..KEYS)).unwrap();
                }
                engine.drain().unwrap();
                let metrics = engine.metrics();
                let models = metrics.detector("d").unwrap();
                assert!(models.models >= KEYS as u64, "{models:?}");
                let state = metrics.queries.iter().map(|query| query.state_bytes).sum::<u64>();
                let waiting = metrics.queries.iter().map(|query| query.waiting_bytes).sum::<u64>();
                assert!(state > 4 * MIB && waiting > 0, "{metrics:?}");
                drop(unread);
                engine.execute("DROP DETECTOR d; DROP DETECTOR w").unwrap();
                assert!(engine.metrics().queries.is_empty());
                // What was dropped is gone from the workers once they have worked through what follows.
                engine.drain().unwrap();
                if round == 8 {
                    (settled, held) = (resident(), state + waiting);
                }
            }
            stop.store(true, Ordering::SeqCst);
            let now = resident();
            println!("resident {settled} -> {now}, a round held {held}");
            assert!(
                now < settled + 2 * held,
                "{settled} grew to {now} in rounds that each held {held}"
            );
        });
        engine.shutdown().unwrap();
    });
}

#[test]
fn queries_that_come_and_go_leave_nothing_behind() {
    alone("queries_that_come_and_go_leave_nothing_behind", || {
        const ROUNDS: u64 = 1_500;
        let engine = Engine::builder().workers(2).build().unwrap();
        engine.execute(CREATE).unwrap();
        let source = engine.source("s").unwrap();
        let mut settled = 0;
        for round in 0..ROUNDS {
            let window = engine
                .subscribe("SELECT k, count(*) AS n FROM TUMBLE(s, ts, INTERVAL '1 hour') GROUP BY k, window_start, window_end")
                .unwrap();
            source.push(rows(1, 0..10)).unwrap();
            engine.drain().unwrap();
            drop(window);
            if round == ROUNDS / 3 {
                settled = resident();
            }
        }
        let each = resident().saturating_sub(settled) / (ROUNDS - ROUNDS / 3);
        println!("{each} bytes stay behind for each query");
        assert!(each < 2 << 10, "{each} bytes stay behind for each query");
    });
}

/// Pushes batches as `rows` makes them against a reader that does not read, until nothing more is let in; then reads
/// everything. Memory follows the bounds, whatever the size of the batches.
fn stalled_reader(batch: &RecordBatch, total: u64) {
    let settings = Settings {
        workers: 2,
        ingress_bytes_max: 8 << 20,
        subscription_bytes_max: 2 << 20,
        epoch_bytes: 1 << 20,
        ..Settings::default()
    };
    let bounds = (settings.ingress_bytes_max + settings.subscription_bytes_max) as u64;
    let engine = Engine::builder().settings(settings).build().unwrap();
    engine.execute(CREATE).unwrap();
    let mut results = engine.subscribe("s").unwrap();
    let source = engine.source("s").unwrap();
    let pushed = AtomicU64::new(0);
    let before = resident();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let source = source.clone();
            for _ in 0..total {
                // A deep copy: batches that shared their buffers would cost nothing.
                source.push(copy(batch)).unwrap();
                pushed.fetch_add(1, Ordering::SeqCst);
            }
            source.close().unwrap();
        });
        // Full, and full again for as long as the pusher has not moved for a thousand looks.
        let (mut looks, mut seen, mut most) = (0, 0, 0);
        while looks < 1_000 {
            most = most.max(resident());
            let now = pushed.load(Ordering::SeqCst);
            assert!(now < total, "all {total} batches went into an engine that nobody reads");
            let waiting = engine.metrics().queries[0].waiting_bytes > 0;
            if waiting && now == seen && now > 0 {
                looks += 1;
            } else {
                (looks, seen) = (0, now);
            }
            std::thread::yield_now();
        }
        assert!(matches!(source.try_push(batch.clone()).unwrap(), TryPush::Full(_)));
        let levels = engine.metrics();
        assert!(levels.ingress_bytes <= bounds, "{levels:?}");
        let grown = most.saturating_sub(before);
        println!("{seen} batches of {} rows let in, {grown} bytes grown", batch.num_rows());
        assert!(grown < 4 * bounds, "{grown} bytes for bounds of {bounds}");
        // The reader goes on, and everything arrives.
        let (mut arrived, mut most) = (0, 0);
        for (index, rows) in results.by_ref().enumerate() {
            arrived += rows.unwrap().num_rows() as u64;
            if index % 256 == 0 {
                most = most.max(resident());
            }
        }
        assert_eq!(arrived, total * batch.num_rows() as u64);
        let grown = most.saturating_sub(before);
        assert!(grown < 4 * bounds, "{grown} bytes for bounds of {bounds} while the reader reads");
    });
    engine.shutdown().unwrap();
}

/// The same rows in memory of their own.
fn copy(batch: &RecordBatch) -> RecordBatch {
    let all = driftline::arrow::array::UInt32Array::from_iter_values(0..batch.num_rows() as u32);
    driftline::arrow::compute::take_record_batch(batch, &all).unwrap()
}

#[test]
fn memory_follows_the_bounds_when_nobody_reads() {
    alone("memory_follows_the_bounds_when_nobody_reads", || {
        // 400 batches of about 400 kB.
        stalled_reader(&rows(1, 0..12_000), 400);
    });
}

#[test]
fn memory_follows_the_bounds_when_batches_are_tiny() {
    alone("memory_follows_the_bounds_when_batches_are_tiny", || {
        stalled_reader(&rows(1, 0..1), 300_000);
    });
}

/// The proof that is about memory alone, not about what an allocator keeps for threads that have ended.
const FLAT: &str = "memory_stays_flat_under_a_mixed_load";

/// A minute has few samples of a machine that does other things besides; the bench allows half of it over an hour.
const GROWTH_PERCENT_MAX: f64 = 2.0 * soak::GROWTH_PERCENT_MAX;

/// How long the mixed load runs. The bench of the same load runs for an hour.
const SOAK: Duration = Duration::from_secs(75);

#[test]
fn memory_stays_flat_under_a_mixed_load() {
    alone(FLAT, || {
        let folder = tempfile::tempdir().unwrap();
        let outcome = soak::run(SOAK, folder.path()).unwrap();
        let resident = outcome.growth_percent(|sample| sample.resident);
        let state = outcome.growth_percent(soak::Sample::state);
        println!(
            "{:?}\n{} rows, {resident:.2} % grown, {state:.2} % of state",
            outcome.results, outcome.rows
        );
        assert_eq!(outcome.problems(), [""; 0]);
        let is_flat = resident <= GROWTH_PERCENT_MAX && state <= GROWTH_PERCENT_MAX;
        assert!(is_flat, "{resident} and {state} percent grown");
    });
}
