//! What workers send one another, counted: it does not depend on how many cores there are, so that what more workers would
//! cost can be told on a machine that has two.
//!
//! With `W` workers, `K` keys, windows of `P` panes that hold `R` rows each, and epochs of `E` rows:
//!
//! * rows that move: a pane's keys, once for each worker that has seen them, `min(R, W * K)` for `R` rows; all `R` of them
//!   where that is not an eighth of `R` or less, because folding does not pay then. Of these `(W - 1) / W` go to another worker;
//! * messages with rows: at most `W * (W - 1)` for a pane;
//! * progress: each worker tells all others what it has counted, once for a turn in which something changed, so that
//!   broadcasts grow with `W` for each epoch, and what all workers read of them with `W * W`.
//!
//! The last is what bounds the number of workers: an epoch has to hold enough rows. It closes by time, not by rows, so that
//! its cost is one of each second and worker, whatever the load.

use super::data::{CREATE, Load, SECOND};
use crate::BoxResult;
use driftline::{Engine, Metrics};

const ROWS: usize = 2_000_000;
const KEYS: u64 = 10_000;
const WORKERS: [usize; 5] = [1, 2, 4, 8, 16];
const QUERY: &str = "SELECT host, window_end, count(*) AS n, avg(value) AS mean FROM TUMBLE(load, ts, INTERVAL '10 seconds')
    GROUP BY host, window_start, window_end";

pub(crate) fn report() -> BoxResult<()> {
    let batches =
        Load { rows: ROWS, keys: KEYS, span_ns: 100 * SECOND, moves_on: false }.batches()?;
    println!("counting: {ROWS} rows of {KEYS} keys in windows of 10 s over 100 s of event time");
    for workers in WORKERS {
        let engine = Engine::builder().workers(workers).build()?;
        engine.execute(CREATE)?;
        let results = engine.subscribe(QUERY)?;
        let query = results.name().to_owned();
        let reader = std::thread::spawn(move || results.count());
        let source = engine.source("load")?;
        let before = engine.metrics();
        for batch in &batches {
            source.push(batch.clone())?;
        }
        engine.drain()?;
        let analysis = engine.analyze(&query)?;
        let moved: u64 = analysis
            .operators
            .iter()
            .filter(|operator| operator.name == "FoldPanes")
            .flat_map(|fold| &fold.workers)
            .map(|worker| worker.rows_out)
            .sum();
        let after = engine.metrics();
        engine.shutdown()?;
        reader.join().map_err(|_| "the reader panicked")?;
        let per_epoch = |of: fn(&Metrics) -> u64| {
            (of(&after) - of(&before)) as f64 / (after.epoch - before.epoch).max(1) as f64
        };
        let each = workers as f64;
        println!(
            "{workers} workers: {} epochs; for each and worker {:.2} messages with rows, {:.2} broadcasts of progress with {:.2} changes; {:.4} rows moved for each row",
            after.epoch - before.epoch,
            per_epoch(|metrics| metrics.traffic.messages) / each,
            per_epoch(|metrics| metrics.traffic.progress) / each,
            per_epoch(|metrics| metrics.traffic.progress_changes) / each,
            moved as f64 / ROWS as f64,
        );
        println!(
            "figure: progress_per_epoch_and_worker_{workers} = {:.2} broadcasts",
            per_epoch(|metrics| metrics.traffic.progress) / each
        );
        println!("figure: rows_moved_per_row_{workers} = {:.4} rows", moved as f64 / ROWS as f64);
    }
    Ok(())
}
