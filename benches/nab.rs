//! The Numenta Anomaly Benchmark: every shipped detector over all 58 series, through the engine, beside the published
//! rows.
//!
//! ```text
//! cargo bench --bench nab
//! ```
//!
//! The data is found through `DRIFTLINE_DATA` (default `../shared/data`). As the benchmark's rule has it, one
//! threshold per detector and profile is chosen over all series, with the labels; nothing else sees them. Two columns
//! more say what that choice is worth: `held out` chooses the standard threshold for each folder on the other folders,
//! and `as shipped` takes the rows that the detector itself calls anomalous, with default options.

// A bench prints and reads the environment.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use driftline::Engine;
use driftline::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampSecondArray,
};
use driftline::arrow::compute::{cast, concat_batches};
use driftline::arrow::datatypes::{
    DataType, Float64Type, Int64Type, TimeUnit, TimestampSecondType,
};
use driftline::detector::DetectorKind;
use driftline::detectors::builtin_kinds;
use driftline::evaluate::{NabProfile, NabSeries, Segment, nab_best, nab_raw, random_scores};

type BoxResult<T> = Result<T, Box<dyn Error>>;

const PROFILES: [(NabProfile, &str, &str); 3] = [
    (NabProfile::STANDARD, "standard", "nab_standard"),
    (NabProfile::LOW_FALSE_POSITIVES, "reward_low_FP_rate", "nab_low_fp"),
    (NabProfile::LOW_FALSE_NEGATIVES, "reward_low_FN_rate", "nab_low_fn"),
];

/// One labelled series.
struct Series {
    file: String,
    times: Vec<String>,
    values: Vec<f64>,
    windows: Vec<Segment>,
}

/// What one detector said of all series, in their order.
struct Scored {
    name: String,
    scores: Vec<Vec<f64>>,
    /// 1 where the detector itself raised an anomaly, else 0; none for baselines.
    raised: Option<Vec<Vec<f64>>>,
    rows_per_second: Option<f64>,
}

fn main() -> BoxResult<()> {
    let Some(folder) = nab_folder() else { return Ok(()) };
    let series = load(&folder)?;
    let rows: usize = series.iter().map(|one| one.values.len()).sum();
    let windows: usize = series.iter().map(|one| one.windows.len()).sum();
    println!("{} series, {rows} rows, {windows} labelled windows\n", series.len());

    let mut ours = Vec::new();
    // Kinds that read numbers.
    let reads_features =
        |kind: &dyn DetectorKind| kind.options().iter().any(|o| o.name == "features");
    for kind in builtin_kinds().iter().filter(|kind| reads_features(&***kind)) {
        ours.push(run(kind.name(), &series)?);
    }
    let random = Scored {
        name: "random (baseline)".into(),
        scores: series
            .iter()
            .enumerate()
            .map(|(i, one)| random_scores(one.values.len(), i as u64))
            .collect(),
        raised: None,
        rows_per_second: None,
    };
    let all = Scored {
        name: "flag all (baseline)".into(),
        scores: series.iter().map(|one| vec![1.0; one.values.len()]).collect(),
        raised: None,
        rows_per_second: None,
    };

    println!(
        "{:<22} {:>8} {:>8} {:>8} {:>9} {:>11} {:>12}",
        "detector", "standard", "low FP", "low FN", "held out", "as shipped", "rows/s"
    );
    let mut best: Option<(String, [f64; 3])> = None;
    for scored in ours.iter().chain([&random, &all]) {
        let scores = PROFILES
            .map(|(profile, _, _)| nab_best(&nab_series(&series, &scored.scores), profile).score);
        let held_out = held_out(&series, &scored.scores);
        let shipped = scored.raised.as_ref().map(|raised| as_shipped(&series, raised));
        let text = |number: Option<f64>| number.map_or("-".to_owned(), |n| format!("{n:.2}"));
        println!(
            "{:<22} {:>8.2} {:>8.2} {:>8.2} {held_out:>9.2} {:>11} {:>12}",
            scored.name,
            scores[0],
            scores[1],
            scores[2],
            text(shipped),
            scored.rows_per_second.map_or("-".to_owned(), |n| format!("{n:.0}")),
        );
        let is_ours = scored.raised.is_some();
        if is_ours && best.as_ref().is_none_or(|(_, known)| scores[0] > known[0]) {
            best = Some((scored.name.clone(), scores));
        }
    }
    println!("\npublished (their thresholds chosen by the same rule)");
    print_published(&folder)?;

    if let Some((name, scores)) = best {
        println!("\nbest single shipped detector by the standard profile: {name}");
        for ((_, _, figure), score) in PROFILES.iter().zip(scores) {
            println!("figure: {figure} = {score:.2} points");
        }
    }
    Ok(())
}

/// Runs a detector, with default options, over all series at once: one model for each file.
fn run(kind: &str, series: &[Series]) -> BoxResult<Scored> {
    let engine = Engine::builder().build()?;
    engine.execute(&format!(
        "CREATE SOURCE nab (file TEXT, ts TIMESTAMP(0), line BIGINT, value DOUBLE, WATERMARK FOR ts);
         CREATE DETECTOR d USING {kind} PARTITION BY file WITH (features = 'value') AS SELECT * FROM nab"
    ))?;
    let results = engine.subscribe("SELECT file, line, score, is_anomaly FROM d")?;
    let (source, schema) = (engine.source("nab")?, results.schema());
    let begin = Instant::now();
    for one in series {
        source.push(batch(one)?)?;
    }
    engine.shutdown()?;
    let rows = concat_batches(&schema, &results.collect::<driftline::Result<Vec<_>>>()?)?;
    let seconds = begin.elapsed().as_secs_f64();

    let place: BTreeMap<&str, usize> =
        series.iter().enumerate().map(|(index, one)| (one.file.as_str(), index)).collect();
    let mut scores: Vec<Vec<f64>> =
        series.iter().map(|one| vec![f64::NAN; one.values.len()]).collect();
    let mut raised: Vec<Vec<f64>> = series.iter().map(|one| vec![0.0; one.values.len()]).collect();
    let files = rows.column(0).as_string::<i32>();
    let lines = rows.column(1).as_primitive::<Int64Type>();
    let score = rows.column(2).as_primitive::<Float64Type>();
    let flags = rows.column(3).as_boolean();
    for row in 0..rows.num_rows() {
        let (file, line) = (place[files.value(row)], lines.value(row) as usize);
        if score.is_valid(row) {
            scores[file][line] = score.value(row);
        }
        if flags.is_valid(row) && flags.value(row) {
            raised[file][line] = 1.0;
        }
    }
    Ok(Scored {
        name: kind.to_owned(),
        scores,
        raised: Some(raised),
        rows_per_second: Some(rows.num_rows() as f64 / seconds),
    })
}

fn batch(one: &Series) -> BoxResult<RecordBatch> {
    let rows = one.values.len();
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(&one.times));
    let times = cast(&texts, &DataType::Timestamp(TimeUnit::Second, None))?;
    // Two series hold a clock that goes back in autumn. Their rows keep the order in which they were recorded, which
    // is the order that the labels count in.
    let mut latest = i64::MIN;
    let times = times.as_primitive::<TimestampSecondType>().values().iter().map(|&time| {
        latest = latest.max(time);
        latest
    });
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("file", Arc::new(StringArray::from(vec![one.file.as_str(); rows])) as ArrayRef, true),
        ("ts", Arc::new(TimestampSecondArray::from_iter_values(times)), true),
        ("line", Arc::new(Int64Array::from_iter_values(0..rows as i64)), true),
        ("value", Arc::new(Float64Array::from(one.values.clone())), true),
    ])?)
}

fn nab_series<'a>(series: &'a [Series], scores: &'a [Vec<f64>]) -> Vec<NabSeries<'a>> {
    let pairs = series.iter().zip(scores);
    pairs.map(|(one, scores)| NabSeries { scores, windows: &one.windows }).collect()
}

/// The standard score with each folder's threshold chosen on the other folders.
fn held_out(series: &[Series], scores: &[Vec<f64>]) -> f64 {
    let folder = |one: &Series| one.file.split('/').next().unwrap_or_default().to_owned();
    let folders: BTreeSet<String> = series.iter().map(folder).collect();
    let profile = NabProfile::STANDARD;
    let all = nab_series(series, scores);
    let raw: f64 = folders
        .iter()
        .map(|held| {
            let (inside, outside): (Vec<_>, Vec<_>) =
                series.iter().zip(&all).partition(|(one, _)| folder(one) == *held);
            let threshold = nab_best(&scores_of(outside), profile).threshold;
            nab_raw(&scores_of(inside), profile, threshold)
        })
        .sum();
    on_scoreboard(raw, series)
}

fn scores_of<'a>(pairs: Vec<(&Series, &NabSeries<'a>)>) -> Vec<NabSeries<'a>> {
    pairs.into_iter().map(|(_, scores)| *scores).collect()
}

/// The standard score of the rows that the detector raised by itself.
fn as_shipped(series: &[Series], raised: &[Vec<f64>]) -> f64 {
    on_scoreboard(nab_raw(&nab_series(series, raised), NabProfile::STANDARD, 0.5), series)
}

/// A raw sum of the standard profile on the scale from 0, nothing raised, to 100, nothing but the right rows raised.
fn on_scoreboard(raw: f64, series: &[Series]) -> f64 {
    let windows: usize = series.iter().map(|one| one.windows.len()).sum();
    100.0 * (raw + windows as f64) / (2.0 * windows as f64)
}

fn print_published(folder: &Path) -> BoxResult<()> {
    let text = fs::read_to_string(folder.join("results/final_results.json"))?;
    let published: BTreeMap<String, BTreeMap<String, f64>> = serde_json::from_str(&text)?;
    let mut rows: Vec<(&String, [f64; 3])> = published
        .iter()
        .map(|(name, scores)| {
            (name, PROFILES.map(|(_, column, _)| scores.get(column).copied().unwrap_or(f64::NAN)))
        })
        .collect();
    rows.sort_by(|a, b| b.1[0].total_cmp(&a.1[0]));
    for (name, scores) in rows {
        println!("{name:<22} {:>8.2} {:>8.2} {:>8.2}", scores[0], scores[1], scores[2]);
    }
    Ok(())
}

fn nab_folder() -> Option<PathBuf> {
    let root = std::env::var_os("DRIFTLINE_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let folder = root.join("nab");
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "DRIFTLINE_DATA has no folder nab, and CI must not skip it"
    );
    eprintln!("SKIPPED: no folder nab under DRIFTLINE_DATA ({})", root.display());
    None
}

fn load(folder: &Path) -> BoxResult<Vec<Series>> {
    let labels: BTreeMap<String, Vec<(String, String)>> =
        serde_json::from_str(&fs::read_to_string(folder.join("labels/combined_windows.json"))?)?;
    let mut series = Vec::new();
    for (file, labelled) in labels {
        let text = fs::read_to_string(folder.join("data").join(&file))?;
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for line in text.lines().skip(1) {
            let (time, value) = line.split_once(',').ok_or("a line without a comma")?;
            times.push(time.to_owned());
            values.push(value.parse()?);
        }
        // Labels carry fractions of a second, rows do not; of rows with equal time the first is meant.
        let row = |time: &str| {
            let second = time.split('.').next().unwrap_or_default();
            times.iter().position(|known| known == second).ok_or("a label without a row")
        };
        let windows = labelled
            .iter()
            .map(|(first, last)| Ok(Segment { first: row(first)?, last: row(last)? }))
            .collect::<BoxResult<_>>()?;
        series.push(Series { file, times, values, windows });
    }
    Ok(series)
}
