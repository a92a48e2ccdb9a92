//! Writes the rows that every engine reads, as files of Arrow IPC: `peers-rows FOLDER EVENTS ROWS`.
//!
//! EVENTS of Nexmark, 10,000 for each second of event time, out of order in groups of 1,000; and for each number of keys
//! ROWS of telemetry, 50,000 for each second of event time, each up to two seconds late. Fewer of either are the first of
//! more, so that an engine that is given fewer meets the same density.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field, Schema, TimeUnit};

#[allow(dead_code)]
#[path = "../../../../tests/nexmark/events.rs"]
mod events;

type BoxResult<T> = Result<T, Box<dyn std::error::Error>>;

const BATCH_ROWS: usize = 8192;
const KEYS: [(&str, u64); 3] = [("1e3", 1_000), ("1e5", 100_000), ("1e6", 1_000_000)];
const SECOND: i64 = 1_000_000_000;
const ROWS_PER_SECOND: usize = 50_000;
const DISORDER_NS: u64 = 2_000_000_000;

fn main() -> BoxResult<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [folder, events, rows] = &words[..] else {
        return Err("arguments: FOLDER EVENTS ROWS".into());
    };
    let (folder, events, rows) = (Path::new(folder), events.parse()?, rows.parse()?);
    std::fs::create_dir_all(folder)?;
    let load = events::Load {
        events,
        first_rate: 10_000,
        out_of_order_group_size: 1_000,
        batch_rows: BATCH_ROWS,
    };
    let batches = load.batches();
    for name in ["person", "auction", "bid"] {
        let own = batches.iter().filter(|(source, _)| *source == name).map(|(_, batch)| batch);
        write(folder, name, own.cloned())?;
    }
    for (spelled, keys) in KEYS {
        write(folder, &format!("load_{spelled}"), telemetry(rows, keys)?.into_iter())?;
    }
    Ok(())
}

fn write(folder: &Path, name: &str, batches: impl Iterator<Item = RecordBatch>) -> BoxResult<()> {
    let mut batches = batches.filter(|batch| batch.num_rows() > 0).peekable();
    let schema = batches.peek().ok_or("no rows")?.schema();
    let file = File::create(folder.join(format!("{name}.arrow")))?;
    let mut writer = FileWriter::try_new(file, &schema)?;
    for batch in batches {
        writer.write(&batch)?;
    }
    Ok(writer.finish()?)
}

/// Rows in order of arrival: event times advance evenly, each moved back by up to the disorder.
fn telemetry(rows: usize, keys: u64) -> BoxResult<Vec<RecordBatch>> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
        Field::new("host", DataType::Utf8, false),
        Field::new("value", DataType::Float64, false),
    ]));
    // Split-mix, as in the throughput bench.
    let mut state = 42u64;
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    // Not at 1970: the first rows would be before it. The time is that of Nexmark's first event.
    let base = 1_704_067_200 * SECOND;
    let mut batches = Vec::new();
    for start in (0..rows).step_by(BATCH_ROWS) {
        let (mut times, mut hosts, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for row in start..(start + BATCH_ROWS).min(rows) {
            let due = base + row as i64 * (SECOND / ROWS_PER_SECOND as i64);
            times.push(due - (random() % DISORDER_NS) as i64);
            hosts.push(format!("host-{:07}", random() % keys));
            values.push((random() >> 11) as f64 / (1u64 << 53) as f64);
        }
        batches.push(RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(TimestampNanosecondArray::from(times)),
                Arc::new(StringArray::from(hosts)),
                Arc::new(Float64Array::from(values)),
            ],
        )?);
    }
    Ok(batches)
}
