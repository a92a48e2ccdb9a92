//! Proves what is read from files of every kind, well formed or not, and in which order.
//!
//! `text` has the spellings of CSV and NDJSON, `many` folders, patterns, order and pace, `damage` broken files.

mod damage;
mod many;
mod text;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, TimeUnit, TimestampNanosecondType};
use tempfile::TempDir;

use super::*;

/// `ts TIMESTAMP NOT NULL, host TEXT, cpu DOUBLE`.
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
        Field::new("host", DataType::Utf8, true),
        Field::new("cpu", DataType::Float64, true),
    ]))
}

fn options() -> FileReadOptions {
    FileReadOptions::default()
}

fn put(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

fn gzip(content: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn open(path: &Path, options: FileReadOptions) -> FileReader {
    FileReader::open(path, schema(), options).unwrap()
}

fn read_all(reader: &mut FileReader) -> RecordBatch {
    let schema = reader.schema().clone();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

/// Rows as `seconds host cpu`.
fn shown(batch: &RecordBatch) -> Vec<String> {
    let times = batch.column(0).as_primitive::<TimestampNanosecondType>();
    let hosts = batch.column(1).as_string::<i32>();
    let cpus = batch.column(2).as_primitive::<Float64Type>();
    (0..batch.num_rows())
        .map(|row| {
            let host = hosts.iter().nth(row).unwrap().unwrap_or("null");
            let cpu = cpus.iter().nth(row).unwrap();
            let cpu = cpu.map_or("null".to_owned(), |cpu| cpu.to_string());
            format!("{} {host} {cpu}", times.value(row) / 1_000_000_000)
        })
        .collect()
}

fn rows_of(path: &Path) -> Vec<String> {
    let mut reader = open(path, options());
    let rows = shown(&read_all(&mut reader));
    assert_eq!(reader.malformed_rows(), 0, "{:?}", reader.malformed_examples());
    rows
}
