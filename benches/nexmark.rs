//! Nexmark: events per second and core of each query, the cost of a hop of 3600 slides beside a tumble, and the bytes
//! that a window holds for each key.
//!
//! ```text
//! cargo bench --bench nexmark              # all queries
//! cargo bench --bench nexmark -- q5 q7     # these
//! ```
//!
//! Events are generated before the clock starts, 10,000 for each second of event time, in groups of 1,000 that are out of
//! order. One worker. A figure is the events of the sources that the query reads, divided by the processor time of the
//! whole process or by the time that passed, whichever is longer: the median of some rounds. What each query computes is
//! compared with one batch of DataFusion first, over fewer events.

// A bench prints and reads the clock.
#![allow(clippy::disallowed_methods)]

use std::error::Error;
use std::sync::Arc;

use driftline::Engine;
use driftline::arrow::array::{Array, Int64Array, RecordBatch, TimestampMillisecondArray};
use driftline::arrow::compute::concat_batches;
use driftline::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use driftline::arrow::util::display::array_value_to_string;

#[path = "../tests/conformance/asof.rs"]
mod asof;
// The matrix uses more of it.
#[allow(dead_code)]
#[path = "../tests/conformance/batch.rs"]
mod batch;
#[path = "../tests/conformance/changes.rs"]
mod changes;
#[path = "../tests/nexmark/events.rs"]
mod events;
#[path = "../tests/nexmark/queries.rs"]
mod queries;
#[allow(dead_code)]
#[path = "common/timing.rs"]
mod timing;
#[path = "../tests/conformance/windows.rs"]
mod windows;

use events::Load;
use queries::{QUERIES, Query};
use timing::{Watch, median};

type BoxResult<T> = Result<T, Box<dyn Error>>;
type Batches = Vec<(&'static str, RecordBatch)>;

const LOAD: Load = Load {
    events: 1_000_000,
    first_rate: 10_000,
    out_of_order_group_size: 1_000,
    batch_rows: 8192,
};
/// A thousand seconds.
const SAMPLE: Load =
    Load { events: 20_000, first_rate: 20, out_of_order_group_size: 60, batch_rows: 8192 };
const ROUNDS: usize = 3;

fn main() -> BoxResult<()> {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let takes = |name: &str| wanted.is_empty() || wanted.iter().any(|word| word == name);
    let (load, sample) = (LOAD.batches(), SAMPLE.batches());
    println!(
        "{} events, {} a second of event time, out of order in groups of {}; one worker",
        LOAD.events, LOAD.first_rate, LOAD.out_of_order_group_size
    );
    for query in QUERIES.iter().filter(|query| takes(query.name)) {
        check(query, &sample)?;
        let read = sources_of(query);
        let events: usize = load
            .iter()
            .filter(|(name, _)| read.contains(name))
            .map(|(_, rows)| rows.num_rows())
            .sum();
        let mut rates = Vec::new();
        let mut rows = 0;
        for _ in 0..ROUNDS {
            let run = run(events::CREATE, query.sql, &load)?;
            rows = run.results.iter().map(RecordBatch::num_rows).sum();
            rates.push(events as f64 / run.seconds);
        }
        println!("{:4} {}: {events} events, {rows} results", query.name, query.what);
        println!("figure: nexmark_{}_per_core = {:.0} events/s", query.name, median(&rates));
    }
    if takes("hop") {
        hop_over_tumble()?;
    }
    if takes("state") {
        state_per_key()?;
    }
    Ok(())
}

struct Run {
    results: Vec<RecordBatch>,
    /// Of processor time, or of time where that is more.
    seconds: f64,
}

/// Runs a query over all batches, and reads its results as they come.
fn run(create: &str, sql: &str, batches: &Batches) -> BoxResult<Run> {
    let engine = Engine::builder().workers(1).build()?;
    engine.execute(create)?;
    engine.create_table("side_input", events::side_input(), false)?;
    let results = engine.subscribe(sql)?;
    let reader = std::thread::spawn(move || results.collect::<driftline::Result<Vec<_>>>());
    let watch = Watch::start();
    for (source, rows) in batches {
        engine.source(source)?.push(rows.clone())?;
    }
    engine.shutdown()?;
    let seconds = watch.took().of_core();
    let results = reader.join().map_err(|_| "the reader panicked")??;
    Ok(Run { results, seconds })
}

fn sources_of(query: &Query) -> Vec<&'static str> {
    let words: Vec<&str> = query.sql.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let mut read = vec!["person", "auction", "bid"];
    // A source is named after FROM, JOIN or a window's parenthesis; a column of the same name is not.
    let is_read = |name: &&str| {
        words.windows(2).any(|pair| {
            ["FROM", "JOIN", "TUMBLE", "HOP", "SESSION", "CUMULATE"].contains(&pair[0])
                && pair[1] == *name
        })
    };
    read.retain(is_read);
    read
}

/// Compares a query with the batch.
fn check(query: &Query, sample: &Batches) -> BoxResult<()> {
    let batch = batch::Batch::new();
    for source in ["person", "auction", "bid"] {
        let own: Vec<&RecordBatch> =
            sample.iter().filter(|(name, _)| *name == source).map(|(_, rows)| rows).collect();
        batch.table(source, concat_batches(&own[0].schema(), own)?)?;
    }
    batch.table("side_input", events::side_input())?;
    let expected = batch.query(query.in_a_batch())?;
    let found = run(events::CREATE, query.sql, sample)?.results;
    let found = if query.is_changelog() { changes::summed_up(&found)? } else { found };
    let (found, expected) = (texts(&found)?, texts(&expected)?);
    if found.is_empty() || found != expected {
        let wrong = found.iter().zip(&expected).find(|(found, expected)| found != expected);
        let counts = format!("{} rows instead of {}", found.len(), expected.len());
        return Err(format!("{} is not the batch's: {counts}, {wrong:?}", query.name).into());
    }
    Ok(())
}

/// Rows as sorted texts; floats by nine digits, which is where sums in another order part.
fn texts(batches: &[RecordBatch]) -> BoxResult<Vec<String>> {
    let mut texts = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let mut text = String::new();
            for column in batch.columns() {
                let cell = array_value_to_string(column, row)?;
                let is_float = *column.data_type() == DataType::Float64 && !column.is_null(row);
                match is_float {
                    true => text.push_str(&format!("{:.9e} ", cell.parse::<f64>()?)),
                    false => text.push_str(&format!("{cell} ")),
                }
            }
            texts.push(text);
        }
    }
    texts.sort();
    Ok(texts)
}

const CREATE_LOAD: &str = "CREATE SOURCE load (ts TIMESTAMP(3) NOT NULL, k BIGINT NOT NULL, v BIGINT NOT NULL, WATERMARK FOR ts AS ts)";

/// Rows spread evenly over `seconds` of event time after `from` and `keys`.
fn even_load(rows: usize, keys: usize, from: i64, seconds: usize) -> BoxResult<Batches> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        Field::new("k", DataType::Int64, false),
        Field::new("v", DataType::Int64, false),
    ]));
    let mut batches = Vec::new();
    for start in (0..rows).step_by(8192) {
        let range = start..(start + 8192).min(rows);
        let times = range
            .clone()
            .map(|row| (row as u64 * seconds as u64 * 1000 / rows as u64) as i64 + from * 1000);
        // Keys come in another order each time around.
        let key = |row: usize| (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let columns: Vec<Arc<dyn Array>> = vec![
            Arc::new(TimestampMillisecondArray::from_iter_values(times)),
            Arc::new(Int64Array::from_iter_values(
                range.clone().map(|row| (key(row) % keys as u64) as i64),
            )),
            Arc::new(Int64Array::from_iter_values(range.map(|row| (row % 1000) as i64))),
        ];
        batches.push(("load", RecordBatch::try_new(Arc::clone(&schema), columns)?));
    }
    Ok(batches)
}

/// A hop of 1 s over 1 h against a tumble of 1 h, over the same rows: what they cost as a whole, results of 7,200 windows
/// among it, and what more rows cost in the same windows.
fn hop_over_tumble() -> BoxResult<()> {
    const KEYS: usize = 100;
    const ROWS: usize = 10_000_000;
    let few = hop_and_tumble(ROWS, KEYS)?;
    let many = hop_and_tumble(2 * ROWS, KEYS)?;
    println!("figure: hop_over_tumble_cost = {:.2} ratio", few.0 / few.1);
    let per_row = (many.0 - few.0) / (many.1 - few.1);
    println!("figure: hop_over_tumble_cost_per_row = {per_row:.2} ratio");
    Ok(())
}

/// Seconds of the hop and of the tumble.
fn hop_and_tumble(rows: usize, keys: usize) -> BoxResult<(f64, f64)> {
    let batches = even_load(rows, keys, 0, 3600)?;
    let select = "SELECT k, window_end, count(*) AS n, sum(v) AS v, max(v) AS most FROM";
    let by = "GROUP BY k, window_start, window_end";
    let tumble = format!("{select} TUMBLE(load, ts, INTERVAL '1 hour') {by}");
    let hop = format!("{select} HOP(load, ts, INTERVAL '1 second', INTERVAL '1 hour') {by}");
    let (mut hops, mut tumbles) = (Vec::new(), Vec::new());
    let mut results = 0;
    for _ in 0..ROUNDS {
        tumbles.push(run(CREATE_LOAD, &tumble, &batches)?.seconds);
        let run = run(CREATE_LOAD, &hop, &batches)?;
        results = run.results.iter().map(RecordBatch::num_rows).sum();
        hops.push(run.seconds);
    }
    let (hop, tumble) = (median(&hops), median(&tumbles));
    println!(
        "{rows} rows, {keys} keys, an hour: tumble {tumble:.2} s, hop {hop:.2} s with {results} results"
    );
    Ok((hop, tumble))
}

/// What an open window holds for each of many keys.
fn state_per_key() -> BoxResult<()> {
    const KEYS: usize = 200_000;
    // Estimates are made when a window closes: a window with one row does, while the next one holds all keys.
    let mut batches = even_load(1, 1, 0, 1)?;
    batches.extend(even_load(KEYS * 3, KEYS, 3600, 60)?);
    batches.extend(even_load(1, 1, 7201, 1)?);
    let engine = Engine::builder().workers(1).build()?;
    engine.execute(&CREATE_LOAD.replace("AS ts)", "AS ts - INTERVAL '1 hour')"))?;
    let sql = "SELECT k, window_end, count(*) AS n, sum(v) AS v, max(v) AS most FROM TUMBLE(load, ts, INTERVAL '1 hour')
               GROUP BY k, window_start, window_end";
    let results = engine.subscribe(sql)?;
    for (source, rows) in &batches {
        engine.source(source)?.push(rows.clone())?;
    }
    engine.drain()?;
    let bytes = engine.metrics().queries[0].state_bytes;
    engine.shutdown()?;
    let given = results.collect::<driftline::Result<Vec<_>>>()?;
    // All but the rows before and after.
    let held = given.iter().map(RecordBatch::num_rows).sum::<usize>() - 2;
    println!("{held} keys in one open window with three aggregates: {bytes} bytes");
    println!("figure: window_state_bytes_per_key = {:.0} bytes", bytes as f64 / held as f64);
    Ok(())
}
