//! Queries that operators of telemetry write, over few and over many series.

use driftline::arrow::array::{ArrayRef, RecordBatch, StringArray};
use std::sync::Arc;

use super::data::{CREATE, Load, SECOND, stream};
use crate::BoxResult;
use crate::timing::median;

const ROWS: usize = 4_000_000;
const LINES: usize = 1_000_000;
const ROUNDS: usize = 3;

const QUERIES: [(&str, &str); 4] = [
    (
        "tumble_quantile",
        "SELECT host, window_end, count(*) AS n, avg(value) AS mean, stddev(value) AS deviation, min(value) AS least,
            max(value) AS most, approx_percentile_cont(value, 0.99) AS p99
         FROM TUMBLE(load, ts, INTERVAL '10 seconds') GROUP BY host, window_start, window_end",
    ),
    (
        "hop_60_panes",
        "SELECT host, window_end, count(*) AS n, avg(value) AS mean, max(value) AS most
         FROM HOP(load, ts, INTERVAL '1 second', INTERVAL '60 seconds') GROUP BY host, window_start, window_end",
    ),
    (
        "session",
        "SELECT host, window_end, count(*) AS n, avg(value) AS mean
         FROM SESSION(load, ts, INTERVAL '5 seconds' PARTITION BY host) GROUP BY host, window_start, window_end",
    ),
    (
        "fleet_roll_up",
        "WITH hosts AS (SELECT host, window_start, window_end, avg(value) AS mean
            FROM TUMBLE(load, ts, INTERVAL '1 second') GROUP BY host, window_start, window_end)
         SELECT window_end, count(*) AS hosts, avg(mean) AS mean, max(mean) AS most
         FROM TUMBLE(hosts, window_end, INTERVAL '10 seconds') GROUP BY window_start, window_end",
    ),
];

pub(crate) fn report() -> BoxResult<()> {
    for (keys, size) in [(1_000, "1e3"), (1_000_000, "1e6")] {
        let batches =
            Load { rows: ROWS, keys, span_ns: 100 * SECOND, moves_on: false }.batches()?;
        println!("telemetry: {ROWS} rows of {keys} series over 100 s, one worker");
        for (name, query) in QUERIES {
            // A million series in sixty panes of a second are sixty million groups.
            if (name, size) == ("hop_60_panes", "1e6") {
                println!(
                    "{name} over {keys} series: left out, its results alone are 160 million rows"
                );
                continue;
            }
            print(&format!("{name}_{size}"), CREATE, query, &batches, ROWS)?;
        }
    }
    let batches =
        with_lines(&Load { rows: LINES, keys: 100, span_ns: 100 * SECOND, moves_on: false })?;
    let create =
        CREATE.replace("value DOUBLE NOT NULL", "value DOUBLE NOT NULL, line TEXT NOT NULL");
    let query = "SELECT log_key, window_end, count(*) AS n FROM TUMBLE(LOG_KEYS(load, line), ts, INTERVAL '10 seconds')
         GROUP BY log_key, window_start, window_end";
    print("log_rate_by_template", &create, query, &batches, LINES)
}

fn print(
    name: &str,
    create: &str,
    query: &str,
    batches: &[RecordBatch],
    rows: usize,
) -> BoxResult<()> {
    let (mut cores, mut results) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let (found, took) = stream(create, query, 1, batches)?;
        results = found.iter().map(RecordBatch::num_rows).sum();
        cores.push(rows as f64 / took.of_core());
    }
    println!("{name}: {results} results");
    println!("figure: {name}_per_core = {:.0} rows/s", median(&cores));
    Ok(())
}

/// Rows with a line of a log each, of forty kinds.
fn with_lines(load: &Load) -> BoxResult<Vec<RecordBatch>> {
    let mut row = 0_usize;
    let mut line = || {
        row += 1;
        let (kind, number) = (row * 7 % 40, row * 31 % 1000);
        format!(
            "component-{kind} finished request {number} of client 10.0.{}.{} in {number} ms",
            row % 200,
            row % 250
        )
    };
    let mut lined = Vec::new();
    for batch in load.batches()? {
        let lines: StringArray = (0..batch.num_rows()).map(|_| Some(line())).collect();
        let mut columns: Vec<(&str, ArrayRef, bool)> = Vec::new();
        let schema = batch.schema();
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            columns.push((field.name(), Arc::clone(column), false));
        }
        columns.push(("line", Arc::new(lines), false));
        lined.push(RecordBatch::try_from_iter_with_nullable(columns)?);
    }
    Ok(lined)
}
