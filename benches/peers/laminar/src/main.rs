//! Runs the queries on LaminarDB: rows are pushed to sources, results come from a subscription to the last stream.
//!
//! Nothing ends a stream there, so that a watermark of an hour later closes what is open after the last batch. The clock
//! stops with the last result; how many there are is known from the round that is not measured, which waits until nothing
//! more comes. The engine computes on one thread, whatever the number of workers.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, RecordBatch, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float64Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType,
};
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use laminar_db::subscription::{PortalFrame, SubscribeStart};
use laminar_db::{LaminarConfig, LaminarDB, UntypedSourceHandle};
use peers_common::{BoxResult, Clock, Job, Lap, cannot, measure, report};
use tokio::time::sleep;

mod queries;

use queries::{Query, SOURCES};

/// Each of the limits that its settings have; the default of some is a quarter of this.
const LIMIT_BYTES: usize = 1 << 30;
/// By how many rows those that are pushed may be ahead of results, where each has one.
const AHEAD_ROWS: usize = 4_096;
/// After this long no row is between the queue and the query.
const SETTLED: Duration = Duration::from_millis(5);
/// As long as nothing may come until the first round is over.
const QUIET: Duration = Duration::from_secs(5);
const TEN_SECONDS_US: i64 = 10_000_000;
const HOUR_MS: i64 = 3_600_000;

/// Batches with the name of their source and the time of their last row, in milliseconds.
type Feed = Vec<(&'static str, RecordBatch, i64)>;

fn main() -> BoxResult<()> {
    let job = Job::from_args()?;
    let query = queries::query(&job.query).ok_or("there is no such query")?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let feed = feed(&job, query.sources)?;
    if let Err(error) = runtime.block_on(create(&query)) {
        cannot(&error.to_string());
        return Ok(());
    }
    let mut expected = None;
    let round = || {
        let (lap, results) = runtime.block_on(run(&query, &feed, expected))?;
        expected = Some(count(&results));
        Ok((lap, results))
    };
    let write = |job: &Job, results: Vec<RecordBatch>| write(job, &query, &results);
    let (rows, laps) = measure(&job, round, count, write)?;
    let events = feed.iter().map(|(_, batch, _)| batch.num_rows()).sum();
    report(events, rows, &laps, "computes on one thread");
    Ok(())
}

fn count(batches: &Vec<RecordBatch>) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

/// Times as LaminarDB has them, in microseconds.
fn feed(job: &Job, sources: &[&'static str]) -> BoxResult<Feed> {
    let mut feed = Feed::new();
    for source in sources {
        let file = job.keys().map_or((*source).to_owned(), |keys| format!("load_{keys}"));
        let file = File::open(job.data.join(format!("{file}.arrow")))?;
        for batch in FileReader::try_new(file, None)? {
            let batch = batch?;
            let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
            let columns = batch.columns().iter().map(|column| match column.data_type() {
                DataType::Timestamp(..) => cast(column, &micros),
                _ => Ok(Arc::clone(column)),
            });
            let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
            let names = batch.schema();
            let named = names.fields().iter().map(|field| field.name()).zip(columns);
            let batch = RecordBatch::try_from_iter(named)?;
            let time = if *source == "load" { "ts" } else { "date_time" };
            let times = batch[time].as_primitive::<TimestampMicrosecondType>();
            let last = times.value(times.len() - 1) / 1_000;
            feed.push((source, batch, last));
        }
    }
    // A batch is there when its last row has come.
    feed.sort_by_key(|(.., last)| *last);
    Ok(feed)
}

async fn create(query: &Query) -> BoxResult<Arc<LaminarDB>> {
    let config = LaminarConfig {
        datafusion_memory_limit_bytes: LIMIT_BYTES,
        pipeline_max_managed_state_bytes: Some(4 * LIMIT_BYTES),
        event_time_max_future_skew: Duration::ZERO,
        ..LaminarConfig::default()
    };
    let db = LaminarDB::open_with_config(config)?;
    for (name, create) in SOURCES {
        if query.sources.contains(&name) {
            db.execute(create).await?;
        }
    }
    for stream in query.streams {
        db.execute(stream).await?;
    }
    Ok(db)
}

async fn run(
    query: &Query,
    feed: &Feed,
    expected: Option<usize>,
) -> BoxResult<(Lap, Vec<RecordBatch>)> {
    let db = create(query).await?;
    db.start().await?;
    let mut portal = db.open_subscription("result", None, SubscribeStart::Tail).await?;
    let mut ready = Vec::new();
    for (source, batch, _) in feed {
        let handle = db.source_untyped(source)?;
        let batch = RecordBatch::try_new(Arc::clone(handle.schema()), batch.columns().to_vec())?;
        ready.push((handle, batch));
    }
    let clock = Clock::start();
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let reader = tokio::spawn(async move {
        let (mut results, mut lap) = (Vec::new(), clock.stop());
        while expected.is_none_or(|expected| counter.load(Ordering::Relaxed) < expected) {
            let next = tokio::time::timeout(QUIET, portal.next_frame()).await;
            match next {
                Ok(Some(PortalFrame::Batch { batch, .. })) => {
                    counter.fetch_add(batch.num_rows(), Ordering::Relaxed);
                    results.push(batch);
                    lap = clock.stop();
                }
                Ok(Some(PortalFrame::Barrier { .. })) => {}
                Ok(Some(PortalFrame::Lagged(skipped))) => {
                    return Err(format!(
                        "the subscription fell behind, {skipped} batches are lost"
                    ));
                }
                Ok(Some(PortalFrame::Error { message })) => return Err(message),
                Ok(None) | Err(_) => break,
            }
        }
        Ok((lap, results))
    });
    let mut given = 0;
    for (handle, batch) in &ready {
        push(handle, batch).await?;
        given += batch.num_rows();
        while query.paced && given > seen.load(Ordering::Relaxed) + AHEAD_ROWS {
            if reader.is_finished() {
                break;
            }
            sleep(Duration::from_micros(50)).await;
        }
    }
    // A watermark overtakes rows that wait, and makes them late.
    while ready.iter().any(|(handle, _)| handle.pending() > 0) {
        sleep(Duration::from_micros(100)).await;
    }
    sleep(SETTLED).await;
    let end = feed.iter().map(|(.., last)| *last).max().unwrap_or(0) + HOUR_MS;
    ready.iter().for_each(|(handle, _)| handle.watermark(end));
    let (lap, results) = reader.await??;
    db.shutdown().await?;
    Ok((lap, results))
}

/// Waits while the source is full.
async fn push(handle: &UntypedSourceHandle, batch: &RecordBatch) -> BoxResult<()> {
    loop {
        match handle.push_arrow(batch.clone()) {
            Ok(()) => return Ok(()),
            Err(error) if error.to_string().contains("full") => {
                sleep(Duration::from_micros(100)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// From number, mean and sum of squares.
fn deviation(columns: &[ArrayRef]) -> BoxResult<ArrayRef> {
    let [n, mean, squares] = columns else { return Err("three columns are needed".into()) };
    let n = n.as_primitive::<Int64Type>().iter().flatten();
    let mean = mean.as_primitive::<Float64Type>().iter().flatten();
    let squares = squares.as_primitive::<Float64Type>().iter().flatten();
    let deviation = n.zip(mean).zip(squares).map(|((n, mean), squares)| {
        let n = n as f64;
        (n > 1.0).then(|| ((squares - n * mean * mean) / (n - 1.0)).max(0.0).sqrt())
    });
    Ok(Arc::new(deviation.collect::<Float64Array>()))
}

/// Results with the end of a window and the deviation, where the query leaves them out.
fn write(job: &Job, query: &Query, results: &[RecordBatch]) -> BoxResult<()> {
    let mut writer = None;
    for batch in results {
        let mut columns = batch.columns().to_vec();
        if let Some(place) = query.ends_after {
            let micros = cast(&columns[place], &DataType::Timestamp(TimeUnit::Microsecond, None))?;
            let ends: TimestampMicrosecondArray = micros
                .as_primitive::<TimestampMicrosecondType>()
                .unary(|time| time + TEN_SECONDS_US);
            match query.replaced {
                true => columns[place] = Arc::new(ends),
                false => columns.push(Arc::new(ends)),
            }
        }
        if let Ok(squares) = batch.schema().index_of("squares") {
            columns[squares] = deviation(&columns[squares - 2..=squares])?;
        }
        let field = |(place, column): (usize, &ArrayRef)| {
            Field::new(format!("c{place}"), column.data_type().clone(), true)
        };
        let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
        let batch = RecordBatch::try_new(Arc::new(schema), columns)?;
        if writer.is_none() {
            let file = File::create(job.results.with_extension("arrow"))?;
            writer = Some(FileWriter::try_new(file, &batch.schema())?);
        }
        writer.as_mut().ok_or("no file")?.write(&batch)?;
    }
    Ok(writer.ok_or("no results came")?.finish()?)
}
