//! Runs the queries on Driftline, with the settings that it has by default but for the number of workers.
//!
//! The clock runs from the first batch pushed until the engine has shut down, and with it every window has closed.

use std::thread;

use driftline::Engine;
use driftline::arrow::array::{AsArray, RecordBatch};
use driftline::arrow::datatypes::TimestampMillisecondType;
use peers_common::{BoxResult, Clock, Job, Lap, measure, report, rows};

#[allow(dead_code)]
#[path = "../../../../tests/nexmark/events.rs"]
mod events;
#[allow(dead_code)]
#[path = "../../../../tests/nexmark/queries.rs"]
mod queries;

const CREATE_LOAD: &str =
    "CREATE SOURCE load (ts TIMESTAMP NOT NULL, host TEXT NOT NULL, value DOUBLE NOT NULL,
    WATERMARK FOR ts AS ts - INTERVAL '2 seconds')";

const TUMBLE: &str =
    "SELECT host, window_start, count(*) AS n, avg(value) AS mean, stddev(value) AS deviation,
      min(value) AS least, max(value) AS most
    FROM TUMBLE(load, ts, INTERVAL '10 seconds') GROUP BY host, window_start, window_end";

/// Batches with the name of their source, in the order in which they filled up.
type Feed = Vec<(&'static str, RecordBatch)>;

fn main() -> BoxResult<()> {
    let job = Job::from_args()?;
    let (create, sql, feed) = match job.keys() {
        Some(keys) => {
            let batches = rows::batches(&job, &format!("load_{keys}"))?;
            (CREATE_LOAD, TUMBLE, batches.into_iter().map(|batch| ("load", batch)).collect())
        }
        None => {
            let query = queries::QUERIES.iter().find(|query| query.name == job.query);
            let query = query.ok_or_else(|| format!("there is no query {}", job.query))?;
            let sources: &[&str] =
                if job.query == "q8" { &["person", "auction"] } else { &["bid"] };
            (events::CREATE, query.sql, nexmark(&job, sources)?)
        }
    };
    let events = feed.iter().map(|(_, batch)| batch.num_rows()).sum::<usize>();
    let round = || run(create, sql, &feed, job.workers);
    let count =
        |batches: &Vec<RecordBatch>| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
    let (rows, laps) = measure(&job, round, count, rows::write_batches)?;
    report(events, rows, &laps, "");
    Ok(())
}

fn nexmark(job: &Job, sources: &[&str]) -> BoxResult<Feed> {
    let mut feed = Feed::new();
    for name in ["person", "auction", "bid"] {
        if sources.contains(&name) {
            feed.extend(rows::batches(job, name)?.into_iter().map(|batch| (name, batch)));
        }
    }
    // A batch is there when its last row has come.
    feed.sort_by_key(|(_, batch)| {
        batch["date_time"].as_primitive::<TimestampMillisecondType>().value(batch.num_rows() - 1)
    });
    Ok(feed)
}

fn run(create: &str, sql: &str, feed: &Feed, workers: usize) -> BoxResult<(Lap, Vec<RecordBatch>)> {
    let engine = Engine::builder().workers(workers).build()?;
    engine.execute(create)?;
    let results = engine.subscribe(sql)?;
    let reader = thread::spawn(move || results.collect::<driftline::Result<Vec<_>>>());
    let clock = Clock::start();
    for (source, batch) in feed {
        engine.source(source)?.push(batch.clone())?;
    }
    engine.shutdown()?;
    let lap = clock.stop();
    let results = reader.join().map_err(|_| "the reader panicked")??;
    Ok((lap, results))
}
