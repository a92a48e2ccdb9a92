//! Rows that detectors take and score, by the number of their keys. Series of a million have four rows each: what is
//! measured there is what keys cost, not scores.

use std::process::Command;

use driftline::arrow::array::AsArray;
use driftline::arrow::datatypes::Float64Type;

use super::data::{CREATE, Load, SECOND, stream};
use crate::BoxResult;
use crate::timing::median;
use driftline::Engine;

const ROWS: usize = 4_000_000;
const ROUNDS: usize = 3;
/// River scores some five thousand in a second.
const RIVER_ROWS: usize = 50_000;
/// Those of one series without a network or a forest.
const LIGHT: [&str; 4] = ["ewma", "robust_zscore", "holt_winters", "tail_surprise"];
const OTHERS: [&str; 1] = ["half_space_trees"];

pub(crate) fn report() -> BoxResult<()> {
    // Some kinds alone may be asked for.
    let named: Vec<String> = std::env::args().skip(1).collect();
    let is_named = |kind: &str| named.iter().any(|other| other == kind);
    let any = LIGHT.iter().chain(&OTHERS).any(|kind| is_named(kind));
    let mut light = Vec::new();
    for (keys, size) in [(1_000, "1e3"), (10_000, "1e4"), (1_000_000, "1e6")] {
        let batches =
            Load { rows: ROWS, keys, span_ns: 100 * SECOND, moves_on: false }.batches()?;
        println!("detectors: {ROWS} rows of {keys} series, one worker, every score read");
        for kind in LIGHT.iter().chain(&OTHERS) {
            if !fits(kind, keys) || (any && !is_named(kind)) {
                continue;
            }
            let batches =
                if OTHERS.contains(kind) { &batches[..batches.len() / 8] } else { &batches };
            let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
            let create = format!(
                "{CREATE}; CREATE DETECTOR d USING {kind} PARTITION BY host AS SELECT host, ts, value FROM load"
            );
            let mut cores = Vec::new();
            for _ in 0..ROUNDS {
                let (found, took) = stream(&create, "SELECT host, ts, score FROM d", 1, batches)?;
                let scored: usize = found.iter().map(|batch| batch.num_rows()).sum();
                if scored != rows {
                    return Err(format!("{kind} scored {scored} of {rows} rows").into());
                }
                cores.push(rows as f64 / took.of_core());
            }
            let rate = median(&cores);
            println!("figure: {kind}_{size}_rows_per_core = {rate:.0} rows/s");
            if LIGHT.contains(kind) && size == "1e4" {
                light.push(rate);
            }
        }
        if !any {
            bytes_per_key(keys, &batches)?;
        }
    }
    if any {
        return Ok(());
    }
    // The slowest of them.
    let light = light.into_iter().fold(f64::MAX, f64::min);
    println!("figure: light_detector_rows_per_core = {light:.0} rows/s");
    match river()? {
        Some((rate, version)) => {
            println!(
                "river {version}, half-space trees for each of 1,000 series: {rate:.0} rows/s"
            );
            println!("figure: light_detector_over_river = {:.0} ratio", light / rate);
        }
        None => println!("SKIPPED: river is not there, so nothing is compared; pip install river"),
    }
    Ok(())
}

/// Rows that river's half-space trees score and learn per second of one core, and its version.
fn river() -> BoxResult<Option<(f64, String)>> {
    let batches = Load { rows: RIVER_ROWS, keys: 1_000, span_ns: 100 * SECOND, moves_on: false };
    let mut bytes = Vec::new();
    for batch in batches.batches()? {
        let hosts = batch.column(1).as_string::<i32>();
        let values = batch.column(2).as_primitive::<Float64Type>();
        for (host, value) in hosts.iter().flatten().zip(values.values()) {
            let number: u32 = host.trim_start_matches("host-").parse()?;
            bytes.extend(number.to_le_bytes());
            bytes.extend((*value as f32).to_le_bytes());
        }
    }
    let file = std::env::temp_dir().join(format!("driftline-river-{}.rows", std::process::id()));
    std::fs::write(&file, bytes)?;
    let script = [env!("CARGO_MANIFEST_DIR"), "/peers/half_space_trees.py"].concat();
    let output =
        Command::new("python3").arg(script).arg(&file).arg(RIVER_ROWS.to_string()).output();
    std::fs::remove_file(&file)?;
    let Ok(output) = output else { return Ok(None) };
    if !output.status.success() {
        println!("{}", String::from_utf8_lossy(&output.stderr));
        return Ok(None);
    }
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let rate = said["rows_per_second"].as_f64().ok_or("the peer said no number")?;
    Ok(Some((rate, said["version"].as_str().unwrap_or("").to_owned())))
}

/// A forest, or six views, for each of a million series do not fit into most machines.
fn fits(kind: &str, keys: u64) -> bool {
    match kind {
        // Of ten thousand, rows of an eighth would all be of a warm-up.
        kind if OTHERS.contains(&kind) => keys <= 1_000,
        "tail_surprise" => keys <= 10_000,
        _ => true,
    }
}

/// What each kind holds for a key, by the engine's own count.
fn bytes_per_key(keys: u64, batches: &[driftline::arrow::array::RecordBatch]) -> BoxResult<()> {
    for kind in LIGHT.into_iter().filter(|kind| fits(kind, keys)) {
        let engine = Engine::builder().workers(1).build()?;
        engine.execute(CREATE)?;
        engine.execute(&format!(
            "CREATE DETECTOR d USING {kind} PARTITION BY host AS SELECT host, ts, value FROM load"
        ))?;
        let source = engine.source("load")?;
        for batch in batches {
            source.push(batch.clone())?;
        }
        engine.drain()?;
        let bytes: u64 = engine.metrics().queries.iter().map(|query| query.state_bytes).sum();
        println!("{kind} over {keys} keys: {:.0} bytes a key", bytes as f64 / keys as f64);
    }
    Ok(())
}
