//! The rows as structs, for engines that are programmed in them.

use std::fs::File;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float64Type, Int64Type, TimestampMillisecondType, TimestampNanosecondType,
};
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;

use crate::{BoxResult, Job};

/// Times are milliseconds since 1970.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Bid {
    pub auction: i64,
    pub bidder: i64,
    pub price: i64,
    pub channel: String,
    pub url: String,
    pub date_time: i64,
    pub extra: String,
}

/// A new auction, as far as queries read it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Auction {
    pub seller: i64,
    pub date_time: i64,
}

/// A new person, as far as queries read it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Person {
    pub id: i64,
    pub name: String,
    pub date_time: i64,
}

/// A row of telemetry; its time is in nanoseconds since 1970.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Load {
    pub ts: i64,
    pub host: String,
    pub value: f64,
}

/// Batches of a file of the job's folder, in the order of arrival.
///
/// # Errors
/// When the file cannot be read.
pub fn batches(job: &Job, name: &str) -> BoxResult<Vec<RecordBatch>> {
    let path = job.data.join(format!("{name}.arrow"));
    let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(FileReader::try_new(file, None)?.collect::<Result<_, _>>()?)
}

/// Writes results as they are.
///
/// # Errors
/// When there are none, or they cannot be written.
pub fn write_batches(job: &Job, batches: Vec<RecordBatch>) -> BoxResult<()> {
    let first = batches.first().ok_or("no results")?;
    let file = File::create(job.results.with_extension("arrow"))?;
    let mut writer = FileWriter::try_new(file, &first.schema())?;
    for batch in &batches {
        writer.write(batch)?;
    }
    Ok(writer.finish()?)
}

fn number(batch: &RecordBatch, name: &str, row: usize) -> i64 {
    batch[name].as_primitive::<Int64Type>().value(row)
}

fn text(batch: &RecordBatch, name: &str, row: usize) -> String {
    batch[name].as_string::<i32>().value(row).to_owned()
}

fn time(batch: &RecordBatch, row: usize) -> i64 {
    batch["date_time"].as_primitive::<TimestampMillisecondType>().value(row)
}

fn rows<T>(job: &Job, name: &str, of: impl Fn(&RecordBatch, usize) -> T) -> BoxResult<Vec<T>> {
    let batches = batches(job, name)?;
    let all = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
    Ok(all.map(|(batch, row)| of(batch, row)).collect())
}

/// # Errors
/// When the file cannot be read, as for the functions below.
pub fn bids(job: &Job) -> BoxResult<Vec<Bid>> {
    rows(job, "bid", |batch, row| Bid {
        auction: number(batch, "auction", row),
        bidder: number(batch, "bidder", row),
        price: number(batch, "price", row),
        channel: text(batch, "channel", row),
        url: text(batch, "url", row),
        date_time: time(batch, row),
        extra: text(batch, "extra", row),
    })
}

/// # Errors
/// As above.
pub fn auctions(job: &Job) -> BoxResult<Vec<Auction>> {
    rows(job, "auction", |batch, row| Auction {
        seller: number(batch, "seller", row),
        date_time: time(batch, row),
    })
}

/// # Errors
/// As above.
pub fn people(job: &Job) -> BoxResult<Vec<Person>> {
    rows(job, "person", |batch, row| Person {
        id: number(batch, "id", row),
        name: text(batch, "name", row),
        date_time: time(batch, row),
    })
}

/// # Errors
/// As above.
pub fn load(job: &Job, keys: &str) -> BoxResult<Vec<Load>> {
    rows(job, &format!("load_{keys}"), |batch, row| Load {
        ts: batch["ts"].as_primitive::<TimestampNanosecondType>().value(row),
        host: text(batch, "host", row),
        value: batch["value"].as_primitive::<Float64Type>().value(row),
    })
}
