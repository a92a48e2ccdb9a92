//! What a changelog comes to.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use driftline::arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use driftline::arrow::compute::{concat_batches, take_record_batch};
use driftline::arrow::datatypes::Int64Type;
use driftline::arrow::util::display::array_value_to_string;

/// Rows as text, cells apart by one space.
pub(crate) fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let mut line = String::new();
            for column in batch.columns() {
                let text = match column.is_null(row) {
                    true => "NULL".to_owned(),
                    false => array_value_to_string(column, row).expect("results can be shown"),
                };
                let _ = write!(line, "{text} ");
            }
            lines.push(one_spaced(&line));
        }
    }
    lines
}

/// The rows that hold after all changes. Each change must make sense when it comes: what does not hold cannot be taken
/// back.
pub(crate) fn summed_up(changes: &[RecordBatch]) -> Result<Vec<RecordBatch>, String> {
    let Some(first) = changes.first() else { return Ok(Vec::new()) };
    let all = concat_batches(&first.schema(), changes).map_err(|error| error.to_string())?;
    let width = all.num_columns() - 1;
    if all.schema().field(width).name() != "_diff" {
        return Err("changes end with _diff".into());
    }
    let diffs = all.column(width).as_primitive::<Int64Type>();
    let rows = all.project(&(0..width).collect::<Vec<_>>()).map_err(|error| error.to_string())?;
    let mut held: BTreeMap<String, (i64, u32)> = BTreeMap::new();
    for (row, line) in lines(std::slice::from_ref(&rows)).into_iter().enumerate() {
        let count = &mut held.entry(line.clone()).or_insert((0, row as u32)).0;
        *count += diffs.value(row);
        if *count < 0 {
            return Err(format!("change {row} takes back what does not hold: {line}"));
        }
    }
    let places = held.values().flat_map(|(count, row)| std::iter::repeat_n(*row, *count as usize));
    let places: UInt32Array = places.collect();
    Ok(vec![take_record_batch(&rows, &places).map_err(|error| error.to_string())?])
}

/// Words apart by one space.
pub(crate) fn one_spaced(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
