//! The smallest useful host: push rows, window them in SQL, name a detector, print what it finds.
//!
//! ```text
//! cargo run --example first_anomaly
//! ```

// An example prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::sync::Arc;

use driftline::Engine;
use driftline::arrow::array::{Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use driftline::detectors::Anomaly;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder().build()?;
    engine.execute(
        "CREATE SOURCE metrics (host TEXT, ts TIMESTAMP(3), cpu DOUBLE,
           WATERMARK FOR ts AS ts - INTERVAL '5 seconds');
         CREATE DETECTOR drift USING robust_zscore PARTITION BY host AS
           SELECT host, window_end, avg(cpu) AS cpu
           FROM HOP(metrics, ts, INTERVAL '10 seconds', INTERVAL '30 seconds')
           GROUP BY host, window_start, window_end",
    )?;
    let printed = engine.subscribe_with("SELECT * FROM drift WHERE is_anomaly", |rows| {
        match Anomaly::from_batch(&rows) {
            Ok(anomalies) => anomalies.iter().for_each(|anomaly| println!("{anomaly}")),
            Err(error) => eprintln!("{error}"),
        }
    })?;

    // Two hosts, a sample a second for an hour; one of them is busy for a minute.
    let source = engine.source("metrics")?;
    for second in 0..3600i64 {
        let usual = |host: i64| 0.2 + 0.02 * ((second * 7 + host * 3) % 11) as f64 / 10.0;
        let busy = if (3000..3060).contains(&second) { 0.95 } else { usual(1) };
        source.push(RecordBatch::try_new(
            source.schema(),
            vec![
                Arc::new(StringArray::from(vec!["web-0", "web-1"])),
                Arc::new(TimestampMillisecondArray::from(vec![second * 1000; 2])),
                Arc::new(Float64Array::from(vec![usual(0), busy])),
            ],
        )?)?;
    }
    engine.shutdown()?;
    Ok(printed.join()?)
}
