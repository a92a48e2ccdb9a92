//! A recorded fleet instead of a simulated one: the same detector over the numeric columns of a file.

use driftline::arrow::datatypes::DataType;
use driftline::{FileReadOptions, infer_schema};

use crate::BoxResult;
use crate::options::Replay;
use crate::pipeline::{quoted, word};

/// The source over the file, and its metrics.
pub fn source(replay: &Replay) -> BoxResult<(String, Vec<String>)> {
    let schema = infer_schema(&replay.path, &FileReadOptions::default())?;
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    for column in [&replay.time, &replay.key] {
        if !names.contains(&column.as_str()) {
            let known = names.join(", ");
            return Err(format!("the file has no column \"{column}\"; it has: {known}").into());
        }
    }
    let is_number = |data_type: &DataType| data_type.is_numeric() || *data_type == DataType::Null;
    let metrics: Vec<String> = schema
        .fields()
        .iter()
        .filter(|field| is_number(field.data_type()))
        .map(|field| field.name().clone())
        .filter(|name| *name != replay.time && *name != replay.key)
        .collect();
    if metrics.is_empty() {
        return Err("the file has no numeric column beside its time and key".into());
    }
    let columns: Vec<String> =
        metrics.iter().map(|name| format!("{} DOUBLE", word(name))).collect();
    let sql = format!(
        "CREATE SOURCE metrics (
  component TEXT, ts TIMESTAMP(3),
  {},
  WATERMARK FOR ts AS ts
)
WITH (path = {}, order = 'event_time', columns = {})",
        columns.join(", "),
        quoted(&replay.path.display().to_string()),
        quoted(&format!("component={}, ts={}", replay.key, replay.time)),
    );
    Ok((sql, metrics))
}

/// Milliseconds of a slot such as `5 minutes`.
pub fn slot_ms(slot: &str) -> BoxResult<i64> {
    let (count, unit) =
        slot.trim().split_once(' ').ok_or("--slot needs a text such as '5 minutes'")?;
    let count: i64 = count.parse().map_err(|_| "--slot needs a whole number of its unit")?;
    let unit_ms = match unit.trim().trim_end_matches('s') {
        "second" => 1_000,
        "minute" => 60_000,
        "hour" => 3_600_000,
        _ => return Err("--slot is counted in seconds, minutes or hours".into()),
    };
    Ok(count * unit_ms)
}
