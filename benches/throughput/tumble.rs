//! A tumbling window with five aggregates beside DataFusion's one-shot GROUP BY.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use driftline::arrow::array::{Array, AsArray, RecordBatch};
use driftline::arrow::compute::cast;
use driftline::arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampNanosecondType};

use super::data::{BATCH_ROWS, CREATE, Load, SECOND, schema, stream};
use crate::BoxResult;
use crate::timing::median;

const ROWS: usize = 5_000_000;
const ROUNDS: usize = 5;

const AGGREGATES: &str = "count(*) AS n, avg(value) AS mean, stddev(value) AS deviation, min(value) AS least, max(value) AS most";

pub(crate) fn report() -> BoxResult<()> {
    let streaming = format!(
        "SELECT host, window_start, {AGGREGATES} FROM TUMBLE(load, ts, INTERVAL '10 seconds')
         GROUP BY host, window_start, window_end"
    );
    let batch = format!(
        "SELECT host, date_bin(INTERVAL '10 seconds', ts) AS window_start, {AGGREGATES} FROM load
         GROUP BY host, date_bin(INTERVAL '10 seconds', ts)"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for (keys, name) in [(1_000, "1e3"), (100_000, "1e5"), (1_000_000, "1e6")] {
        // Of a million keys each window sees a tenth.
        let load = Load { rows: ROWS, keys, span_ns: 100 * SECOND, moves_on: keys > 100_000 };
        let batches = load.batches()?;
        println!(
            "tumble of 10 s, five aggregates: {ROWS} rows, {keys} keys, 2 s of disorder, batches of {BATCH_ROWS}"
        );
        let (mut shares, mut cores) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let (found, took) = stream(CREATE, &streaming, 1, &batches)?;
            let (expected, seconds) = runtime.block_on(one_shot(&batch, &batches))?;
            if round == 0 {
                check(&found, &expected)?;
            }
            println!(
                "round {}: driftline {:.2} M rows/s ({:.2} M per core), datafusion {:.2} M rows/s",
                round + 1,
                ROWS as f64 / took.seconds / 1e6,
                ROWS as f64 / took.of_core() / 1e6,
                ROWS as f64 / seconds / 1e6
            );
            cores.push(ROWS as f64 / took.of_core());
            shares.push(seconds / took.seconds);
        }
        println!("figure: tumble_{name}_per_core = {:.0} rows/s", median(&cores));
        println!("figure: tumble_share_of_batch_{name} = {:.2} ratio", median(&shares));
    }
    Ok(())
}

async fn one_shot(query: &str, batches: &[RecordBatch]) -> BoxResult<(Vec<RecordBatch>, f64)> {
    let config = SessionConfig::new().with_target_partitions(1);
    let context = SessionContext::new_with_config(config);
    let table = MemTable::try_new(schema(), vec![batches.to_vec()])?;
    context.register_table("load", Arc::new(table))?;
    let begin = Instant::now();
    let results = context.sql(query).await?.collect().await?;
    Ok((results, begin.elapsed().as_secs_f64()))
}

type Rows = HashMap<(String, i64), (i64, [f64; 4])>;

/// What there is by key and window.
fn rows(batches: &[RecordBatch]) -> BoxResult<Rows> {
    let mut rows = Rows::new();
    for batch in batches {
        let hosts = cast(batch.column(0), &DataType::Utf8)?;
        let hosts = hosts.as_string::<i32>();
        let starts = batch.column(1).as_primitive::<TimestampNanosecondType>();
        let counts = batch.column(2).as_primitive::<Int64Type>();
        let numbers =
            [3, 4, 5, 6].map(|column: usize| batch.column(column).as_primitive::<Float64Type>());
        for row in 0..batch.num_rows() {
            let key = (hosts.value(row).to_owned(), starts.value(row));
            // The deviation of one value is null, and whatever stands under it must not matter.
            let values =
                numbers.map(|column| if column.is_null(row) { -1.0 } else { column.value(row) });
            if rows.insert(key, (counts.value(row), values)).is_some() {
                return Err("a window came twice".into());
            }
        }
    }
    Ok(rows)
}

fn check(found: &[RecordBatch], expected: &[RecordBatch]) -> BoxResult<()> {
    let (found, expected) = (rows(found)?, rows(expected)?);
    let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * (1.0 + b.abs());
    let is_same = found.len() == expected.len()
        && expected.iter().all(|(key, (count, numbers))| {
            found
                .get(key)
                .is_some_and(|(own, values)| own == count && values.iter().zip(numbers).all(close))
        });
    if is_same { Ok(()) } else { Err("the stream's results are not the batch's".into()) }
}
