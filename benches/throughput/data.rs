//! Rows of many series, and engines that run a query over them.

use std::sync::Arc;

use driftline::Engine;
use driftline::arrow::array::{Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use driftline::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::BoxResult;
use crate::random::Random;
use crate::timing::{Took, Watch};

pub(super) const SECOND: i64 = 1_000_000_000;
pub(super) const DISORDER_NS: i64 = 2 * SECOND;
pub(super) const BATCH_ROWS: usize = 8192;
pub(super) const CREATE: &str =
    "CREATE SOURCE load (ts TIMESTAMP NOT NULL, host TEXT NOT NULL, value DOUBLE NOT NULL,
    WATERMARK FOR ts AS ts - INTERVAL '2 seconds')";

/// What rows there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) rows: usize,
    pub(super) keys: u64,
    /// Event time that they cover.
    pub(super) span_ns: i64,
    /// Whether keys come and go: a tenth of them in each tenth of the time.
    pub(super) moves_on: bool,
}

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
        Field::new("host", DataType::Utf8, false),
        Field::new("value", DataType::Float64, false),
    ]))
}

impl Load {
    /// Rows in order of arrival: event times advance evenly, each moved back by up to the disorder.
    pub(super) fn batches(&self) -> BoxResult<Vec<RecordBatch>> {
        let mut random = Random(42);
        let schema = schema();
        let mut batches = Vec::new();
        for start in (0..self.rows).step_by(BATCH_ROWS) {
            let (mut times, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
            for row in start..(start + BATCH_ROWS).min(self.rows) {
                let due = (row as i128 * i128::from(self.span_ns) / self.rows as i128) as i64;
                let time = due - (random.next() % DISORDER_NS as u64) as i64;
                times.push(time);
                let key = match self.moves_on {
                    true => {
                        let tenth = (time.max(0) as i128 * 10 / i128::from(self.span_ns)) as u64;
                        tenth * (self.keys / 10) + random.next() % (self.keys / 10)
                    }
                    false => random.next() % self.keys,
                };
                keys.push(format!("host-{key:04}"));
                values.push(random.unit());
            }
            batches.push(RecordBatch::try_new(
                Arc::clone(&schema),
                vec![
                    Arc::new(TimestampNanosecondArray::from(times)),
                    Arc::new(StringArray::from(keys)),
                    Arc::new(Float64Array::from(values)),
                ],
            )?);
        }
        Ok(batches)
    }
}

/// Runs a query over all batches, and reads its results as they come.
pub(super) fn stream(
    create: &str,
    query: &str,
    workers: usize,
    batches: &[RecordBatch],
) -> BoxResult<(Vec<RecordBatch>, Took)> {
    let engine = Engine::builder().workers(workers).build()?;
    engine.execute(create)?;
    let results = engine.subscribe(query)?;
    let reader = std::thread::spawn(move || results.collect::<driftline::Result<Vec<_>>>());
    let source = engine.source("load")?;
    let watch = Watch::start();
    for batch in batches {
        source.push(batch.clone())?;
    }
    engine.shutdown()?;
    let took = watch.took();
    Ok((reader.join().map_err(|_| "the reader panicked")??, took))
}
