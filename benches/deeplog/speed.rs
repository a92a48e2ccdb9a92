//! Windows scored per second beside PyTorch, and log entries per second end to end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cpu_time::ThreadTime;
use driftline_operators::detector::Answers;
use driftline_operators::neural::lstm::{LstmInput, LstmShape, Scorer, Weights};
use driftline_operators::options::OptionValue;

use super::Asked;
use super::data::Hdfs;
use super::online::{Stream, plan};

/// Symbols of distinct windows of ten keys with begin markers, from all test sessions.
fn windows(data: &Hdfs) -> (Vec<u32>, usize) {
    let mut symbols: BTreeMap<&str, u32> = BTreeMap::new();
    let mut found: BTreeSet<Vec<u32>> = BTreeSet::new();
    for session in data.normal.0.iter().chain(&data.odd.0) {
        let mut padded = vec![0; 10];
        for key in session {
            let next = symbols.len() as u32 + 3;
            padded.push(*symbols.entry(key).or_insert(next));
        }
        found.extend(padded.windows(10).map(<[u32]>::to_vec));
    }
    // In no order that helps.
    let mut all: Vec<Vec<u32>> = found.into_iter().collect();
    all.sort_by_cached_key(|w| {
        w.iter().fold(7_u64, |h, s| {
            (h ^ u64::from(*s)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(9)
        })
    });
    (all.concat(), symbols.len() + 3)
}

/// Seconds that this thread has had a processor for, so that what else runs on the machine does not count.
fn processor_seconds() -> f64 {
    ThreadTime::now().as_duration().as_secs_f64()
}

pub(crate) fn report(_: Asked) {
    let Some(data) = Hdfs::read() else { return };
    let (windows, symbols) = windows(&data);
    let count = windows.len() / 10;
    let shape =
        LstmShape { input: LstmInput::Symbols(symbols), layers: 2, hidden: 64, outputs: symbols };
    let mut scorer = Scorer::new(&Weights::random(shape, 1));
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let (started, mut out) = (processor_seconds(), Vec::new());
        scorer.score_symbols(&windows, 10, &mut out);
        best = best.min(processor_seconds() - started);
    }
    let ours = count as f64 / best;
    println!(
        "figure: windows_per_core = {ours:.0} windows/s ({count} distinct windows, none cached)"
    );
    let probe = Command::new("python3").args(["-c", "import numpy, torch"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!(
            "SKIPPED: torch is not there, so nothing is compared. To compare: pip install torch"
        );
        return;
    }
    let file = std::env::temp_dir().join(format!("driftline-deeplog-{}.u32", std::process::id()));
    let bytes: Vec<u8> = windows.iter().flat_map(|symbol| symbol.to_le_bytes()).collect();
    std::fs::write(&file, bytes).expect("there is room for the windows");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/deeplog.py");
    let mut fastest: f64 = 0.0;
    for threads in ["1", "2"] {
        let output = Command::new("python3")
            .arg(&script)
            .arg(&file)
            .args(["10", &symbols.to_string(), threads])
            .output()
            .expect("python3 runs");
        let result: serde_json::Value =
            serde_json::from_slice(&output.stdout).expect("the peer prints one line of JSON");
        let peer = |name: &str| result[name].as_f64().unwrap_or(f64::NAN);
        let (clock, core) = (peer("windows_per_second"), peer("windows_per_core"));
        println!(
            "PyTorch {} on {threads} threads: {clock:.0} windows/s by the clock, {core:.0} per core",
            result["torch"]
        );
        fastest = fastest.max(clock).max(core);
    }
    let _ = std::fs::remove_file(&file);
    println!(
        "figure: share_of_pytorch = {:.2} of its fastest (one core to one or two threads)",
        ours / fastest
    );
}

/// Entries through the whole detector, sessions interleaved, most histories seen before.
pub(crate) fn cached(_: Asked) {
    let Some(data) = Hdfs::read() else { return };
    let sessions = data.train.iter().chain(data.tested.iter().cycle().take(40_000));
    let rows = Stream::default().spread(sessions, |place| 150 * place);
    let batches: Vec<_> = (0..rows.num_rows())
        .step_by(8_192)
        .map(|first| rows.slice(first, 8_192.min(rows.num_rows() - first)))
        .collect();
    // Four passes of training: what is measured does not depend on how well the model predicts.
    let gap = OptionValue::from(Duration::from_secs(30));
    let plan = plan(data.train.len(), 4, &[("gap", gap)]);
    let mut detector = plan.detector();
    let (mut measured, mut seconds) = (0, 0.0);
    for batch in &batches {
        let (started, mut answers) = (processor_seconds(), Answers::default());
        let is_ready = detector.statistics().ready > 0;
        detector.process(batch, &mut answers).expect("the rows are right");
        if is_ready {
            measured += batch.num_rows();
            seconds += processor_seconds() - started;
        }
    }
    println!(
        "figure: entries_per_core_cached = {:.0} entries/s ({measured} entries)",
        f64::from(u32::try_from(measured).unwrap_or(u32::MAX)) / seconds
    );
}
