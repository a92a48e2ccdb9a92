//! What several test modules need: rows made from a seed, cells that compare with a tolerance, real data.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use driftline::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use driftline::arrow::compute::{cast, concat_batches, take_record_batch};
use driftline::arrow::datatypes::{DataType, Float64Type};
use driftline::arrow::util::display::array_value_to_string;
use driftline::{Engine, Result, Subscription};

pub(super) const SECOND: i64 = 1_000_000_000;

/// A small generator with a seed, so that a failing case can be run again.
#[derive(Clone, Debug)]
pub(super) struct Seeded(pub(super) u64);

impl Seeded {
    pub(super) fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The source that most tests read.
pub(super) const CREATE_SAMPLES: &str = "CREATE SOURCE samples (
    ts TIMESTAMP NOT NULL, host TEXT, service TEXT NOT NULL, value DOUBLE, bytes BIGINT,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds')";

/// Rows of `samples` over `seconds` of event time around 1970, in order of event time: some hosts and values are
/// null, some values NaN or negative.
pub(super) fn samples(seed: u64, rows: usize, seconds: i64) -> RecordBatch {
    let mut random = Seeded(seed);
    let mut times: Vec<i64> = (0..rows)
        .map(|_| random.below((seconds * SECOND) as u64) as i64 - seconds * SECOND / 3)
        .collect();
    times.sort_unstable();
    let (mut hosts, mut services, mut values, mut bytes) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rows {
        hosts.push((random.below(10) > 0).then(|| format!("host-{}", random.below(5))));
        services.push(format!("service-{}", random.below(3)));
        values.push(match random.below(20) {
            0 => None,
            1 => Some(f64::NAN),
            _ => Some(random.unit() * 100.0 - 20.0),
        });
        bytes.push((random.below(8) > 0).then(|| random.below(10_000) as i64));
    }
    RecordBatch::try_from_iter_with_nullable([
        ("ts", Arc::new(TimestampNanosecondArray::from(times)) as ArrayRef, false),
        ("host", Arc::new(StringArray::from(hosts)), true),
        ("service", Arc::new(StringArray::from(services)), false),
        ("value", Arc::new(Float64Array::from(values)), true),
        ("bytes", Arc::new(Int64Array::from(bytes)), true),
    ])
    .unwrap()
}

/// Moves rows around, none by more than `span_ns` of event time.
pub(super) fn shuffled(rows: &RecordBatch, span_ns: i64, seed: u64) -> RecordBatch {
    let mut random = Seeded(seed);
    let times = cast(rows.column(0), &DataType::Int64).unwrap();
    let times = times.as_primitive::<driftline::arrow::datatypes::Int64Type>();
    let mut order: Vec<(i64, u32)> = (0..rows.num_rows())
        .map(|row| (times.value(row) + random.below(span_ns as u64) as i64, row as u32))
        .collect();
    order.sort_unstable();
    let order: Vec<u32> = order.into_iter().map(|(_, row)| row).collect();
    take_record_batch(rows, &driftline::arrow::array::UInt32Array::from(order)).unwrap()
}

/// One value of a result.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    Text(String),
    Number(f64),
}

impl Cell {
    fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => {
                a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * (1.0 + a.abs())
            }
            _ => false,
        }
    }

    fn sort_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            // Numbers that agree must sort alike: they only break ties, coarsely.
            Self::Number(number) => format!("{number:.4}"),
        }
    }
}

/// Results as sorted rows, without regard to how they were cut into batches.
pub(super) fn cells(batches: &[RecordBatch]) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<(ArrayRef, bool)> = batch
            .columns()
            .iter()
            .map(|column| match column.data_type() {
                DataType::Float32 | DataType::Float64 => {
                    (cast(column, &DataType::Float64).unwrap(), true)
                }
                _ => (Arc::clone(column), false),
            })
            .collect();
        for row in 0..batch.num_rows() {
            let cell = |(column, is_number): &(ArrayRef, bool)| {
                if column.is_null(row) {
                    Cell::Text("NULL".into())
                } else if *is_number {
                    Cell::Number(column.as_primitive::<Float64Type>().value(row))
                } else {
                    Cell::Text(array_value_to_string(column, row).unwrap())
                }
            };
            rows.push(columns.iter().map(cell).collect::<Vec<_>>());
        }
    }
    rows.sort_by_cached_key(|row| {
        let (texts, numbers): (Vec<&Cell>, Vec<&Cell>) =
            row.iter().partition(|cell| matches!(cell, Cell::Text(_)));
        texts.into_iter().chain(numbers).map(Cell::sort_text).collect::<Vec<_>>()
    });
    rows
}

/// What keeps two results, as [`cells`] gives them, from holding the same rows, numbers within 1e-9.
pub(super) fn difference(found: &[Vec<Cell>], expected: &[Vec<Cell>]) -> Option<String> {
    let agrees = |(found, expected): (&Vec<Cell>, &Vec<Cell>)| {
        found.len() == expected.len()
            && found.iter().zip(expected).all(|(found, expected)| found.agrees(expected))
    };
    let wrong = found.iter().zip(expected).position(|pair| !agrees(pair));
    if wrong.is_none() && found.len() == expected.len() {
        return None;
    }
    let row = wrong.unwrap_or_else(|| found.len().min(expected.len()));
    Some(format!(
        "{} rows instead of {}; row {row}\n   found {:?}\nexpected {:?}",
        found.len(),
        expected.len(),
        found.get(row),
        expected.get(row)
    ))
}

/// Asserts that two results hold the same rows, numbers within 1e-9.
#[track_caller]
pub(super) fn assert_same(found: &[RecordBatch], expected: &[RecordBatch], what: &str) {
    if let Some(difference) = difference(&cells(found), &cells(expected)) {
        panic!("{what}: {difference}");
    }
}

/// How rows are fed to an engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Feed {
    pub(super) workers: usize,
    pub(super) batch_rows: usize,
}

/// Every way of feeding that results must not depend on.
pub(super) fn feeds(rows: usize) -> Vec<Feed> {
    let mut feeds = Vec::new();
    for workers in [1, 2, 4] {
        for batch_rows in [1, 7, 8192] {
            // Batches of one row are slow in number, not in kind: a few hundred rows of them will do.
            if batch_rows > 1 || rows <= 400 {
                feeds.push(Feed { workers, batch_rows });
            }
        }
    }
    feeds
}

/// Runs `ddl`, subscribes to `query`, pushes `rows` into `source`, and returns all results.
pub(super) fn run(
    feed: Feed,
    ddl: &str,
    query: &str,
    source: &str,
    rows: &RecordBatch,
) -> Result<Vec<RecordBatch>> {
    let engine = Engine::builder().workers(feed.workers).build()?;
    engine.execute(ddl)?;
    let results = engine.subscribe(query)?;
    push_all(&engine, source, rows, feed.batch_rows)?;
    engine.shutdown()?;
    results.collect()
}

/// Runs `ddl`, subscribes to `query`, pushes rows into several sources by turns, and returns all results.
pub(super) fn run_sources(
    feed: Feed,
    ddl: &str,
    query: &str,
    sources: &[(&str, &RecordBatch)],
) -> Result<Vec<RecordBatch>> {
    let engine = Engine::builder().workers(feed.workers).build()?;
    engine.execute(ddl)?;
    let results = engine.subscribe(query)?;
    let longest = sources.iter().map(|(_, rows)| rows.num_rows()).max().unwrap_or(0);
    for start in (0..longest).step_by(feed.batch_rows) {
        for (name, rows) in sources.iter().filter(|(_, rows)| start < rows.num_rows()) {
            let length = feed.batch_rows.min(rows.num_rows() - start);
            engine.source(name)?.push(rows.slice(start, length))?;
        }
    }
    engine.shutdown()?;
    results.collect()
}

/// Options that let a kind which trains for days score within some hundred rows, and name the columns that it needs:
/// services as log keys, in sessions of a minute.
pub(super) fn short_of(kind: &str) -> &'static str {
    match kind {
        "drift_insight" => "WITH (training = 120, steady_threshold = 120)",
        "deeplog" => {
            "WITH (key = 'service', session = 'session', model = 'ngram', history = 3, training = 20,
                   gap = INTERVAL '30 seconds', swap_after = INTERVAL '10 seconds')"
        }
        _ => "",
    }
}

/// One model for each service, where a kind has models by key.
pub(super) fn partition_of(kind: &str) -> &'static str {
    match kind {
        "deeplog" => "",
        _ => "PARTITION BY service",
    }
}

/// Pushes `rows` in batches.
pub(super) fn push_all(
    engine: &Engine,
    source: &str,
    rows: &RecordBatch,
    batch_rows: usize,
) -> Result<()> {
    let source = engine.source(source)?;
    for start in (0..rows.num_rows()).step_by(batch_rows) {
        source.push(rows.slice(start, batch_rows.min(rows.num_rows() - start)))?;
    }
    Ok(())
}

/// All that a subscription still gives, as one batch.
pub(super) fn collect(results: Subscription) -> RecordBatch {
    let schema = results.schema();
    let batches: Vec<RecordBatch> = results.collect::<Result<_>>().unwrap();
    concat_batches(&schema, &batches).unwrap()
}

/// Runs `body` on a thread of its own and returns what it returns; whoever hangs fails instead.
#[track_caller]
pub(super) fn within_minutes<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        // A body that panics drops the sender, and its panic is passed on below.
        let _ = send.send(body());
    });
    match receive.recv_timeout(Duration::from_secs(300)) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("not done after five minutes"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("a thread that has ended well has sent"),
        },
    }
}

/// The folder of labelled telemetry, or `None`, said loudly, where there is none. Under CI it must be there.
pub(super) fn data(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("DRIFTLINE_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let path = root.join(folder);
    if path.is_dir() {
        return Some(path);
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "DRIFTLINE_DATA has no folder {folder}, and CI must not skip it"
    );
    eprintln!("SKIPPED: no folder {folder} under DRIFTLINE_DATA ({})", root.display());
    None
}
