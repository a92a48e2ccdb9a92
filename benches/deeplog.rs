//! DeepLog over the HDFS key sequences: accuracy beside trivial baselines, learning from feedback, and speed beside
//! PyTorch.
//!
//! `cargo bench --bench deeplog`, with two optional numbers after `--`: seeds (5) and passes of training (60).
//! The normal sessions held out from training are split in two by their order: one half chooses `top` and bounds, the
//! other is tested. A false alarm in it stands for 553,366 normal sessions of the full test over those in the half.
//! Where `python3` has torch, the peer is timed as well.

// A bench prints and reads the environment.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use driftline_operators::detector::{Answers, DetectorKind, DetectorRequest};
use driftline_operators::detectors::deeplog::{
    KeyModel, KeyModelKind, KeySettings, NetworkSettings, SessionJudgement,
};
use driftline_operators::detectors::{DeepLog, DeepLogKind, DetectorBuilder};
use driftline_operators::neural::lstm::{LstmInput, LstmShape, Scorer, Weights};

type Session = Vec<String>;

/// Normal sessions of the full test.
const NORMAL: f64 = 553_366.0;
/// Share of normal sessions that may be raised, by which `top` is chosen.
const FALSE_ALARMS: f64 = 0.0025;

fn data() -> Option<PathBuf> {
    let root = std::env::var("DRIFTLINE_DATA").unwrap_or_else(|_| "../shared/data".into());
    let folder = Path::new(&root).join("hdfs_sequences");
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var("CI").is_err(), "no folder hdfs_sequences under DRIFTLINE_DATA ({root})");
    eprintln!("SKIPPED: no folder hdfs_sequences under DRIFTLINE_DATA ({root})");
    None
}

fn sessions(file: &Path, column: Option<usize>) -> Vec<Session> {
    let text = std::fs::read_to_string(file).expect("the file can be read");
    let lines = text.lines().skip(usize::from(column.is_some()));
    let keys = lines.map(|line| match column {
        Some(column) => line.split(',').nth(column).unwrap_or_default(),
        None => line,
    });
    keys.map(|keys| keys.split_whitespace().map(str::to_owned).collect()).collect()
}

/// Distinct sessions with how often each occurs, times a factor.
fn distinct(sessions: &[Session], factor: f64) -> (Vec<Session>, Vec<f64>) {
    let mut counts: BTreeMap<Session, f64> = BTreeMap::new();
    sessions.iter().for_each(|session| *counts.entry(session.clone()).or_default() += factor);
    counts.into_iter().unzip()
}

/// Weighted judgements.
type Group = Vec<(SessionJudgement, f64)>;

struct Judged {
    chooses: Group,
    normal: Group,
    odd: Group,
}

struct Data {
    train: Vec<Session>,
    chooses: (Vec<Session>, Vec<f64>),
    tested: Vec<Session>,
    normal: (Vec<Session>, Vec<f64>),
    odd: (Vec<Session>, Vec<f64>),
}

impl Data {
    fn read(folder: &Path) -> Self {
        let held_out = sessions(&folder.join("hdfs_heldout_normal_11k.csv"), Some(2));
        let half = |first: usize| -> Vec<Session> {
            held_out.iter().skip(first).step_by(2).cloned().collect()
        };
        let (chooses, tested) = (half(0), half(1));
        Self {
            train: sessions(&folder.join("deeplog_hdfs_train.txt"), None),
            chooses: distinct(&chooses, 1.0 / chooses.len() as f64),
            normal: distinct(&tested, NORMAL / tested.len() as f64),
            tested,
            odd: distinct(&sessions(&folder.join("deeplog_hdfs_test_abnormal.txt"), None), 1.0),
        }
    }

    fn judge(&self, model: &mut KeyModel) -> Judged {
        let mut group = |(sessions, weights): &(Vec<Session>, Vec<f64>)| -> Group {
            model.judge(sessions).into_iter().zip(weights.iter().copied()).collect()
        };
        Judged { chooses: group(&self.chooses), normal: group(&self.normal), odd: group(&self.odd) }
    }
}

fn raised(group: &Group, is_odd: impl Fn(&SessionJudgement) -> bool) -> f64 {
    group.iter().filter(|(session, _)| is_odd(session)).map(|(_, weight)| weight).sum()
}

impl Judged {
    /// With all normal sessions that were held out as tested ones.
    fn of_all(&self) -> Self {
        let half = |group: &Group, factor: f64| -> Group {
            group.iter().map(|(session, weight)| (*session, weight * factor)).collect()
        };
        let mut normal = half(&self.normal, 0.5);
        normal.extend(half(&self.chooses, 0.5 * NORMAL));
        Self { chooses: self.chooses.clone(), normal, odd: self.odd.clone() }
    }

    /// False alarms, misses and F1.
    fn f1(&self, is_odd: impl Fn(&SessionJudgement) -> bool + Copy) -> (f64, f64, f64) {
        let total = raised(&self.odd, |_| true);
        let (fp, tp) = (raised(&self.normal, is_odd), raised(&self.odd, is_odd));
        (fp, total - tp, 2.0 * tp / (total + tp + fp))
    }

    /// The least value of a rule's bound that raises few enough of the sessions that choose.
    fn choose<B: Copy>(&self, bounds: &[B], rule: impl Fn(&SessionJudgement, B) -> bool) -> B {
        let keeps =
            |bound: &&B| raised(&self.chooses, |session| rule(session, **bound)) <= FALSE_ALARMS;
        *bounds.iter().find(keeps).unwrap_or(bounds.last().expect("there are bounds"))
    }

    fn print(&self, name: &str, is_odd: impl Fn(&SessionJudgement) -> bool + Copy) -> f64 {
        let (fp, misses, f1) = self.f1(is_odd);
        let total = raised(&self.odd, |_| true);
        let (precision, recall) = ((total - misses) / (total - misses + fp), 1.0 - misses / total);
        println!(
            "  {name:<44} fp {fp:>7.0} fn {misses:>6.0}  P {precision:.4} R {recall:.4} F1 {f1:.4}"
        );
        f1
    }
}

fn settings(model: KeyModelKind, framed: bool, seed: u64, epochs: usize) -> KeySettings {
    KeySettings {
        model,
        begin: framed,
        end: framed,
        network: NetworkSettings { seed, epochs, ..NetworkSettings::default() },
        ..KeySettings::default()
    }
}

fn train(data: &Data, settings: &KeySettings) -> (KeyModel, f64) {
    let started = Instant::now();
    let model = KeyModel::train(&data.train, settings, &mut |progress| {
        if progress.epoch % 20 == 0 {
            eprintln!("    {progress:?}");
        }
        ControlFlow::Continue(())
    });
    (model.expect("training succeeds"), started.elapsed().as_secs_f64())
}

fn whole(model: &KeyModel) -> impl Fn(&SessionJudgement) -> bool + Copy + use<> {
    let bound = model.distance_bound();
    move |session| session.unseen > 0 || session.length_is_odd || session.distance > bound
}

fn mean_and_spread(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt())
}

const TOPS: std::ops::RangeInclusive<u32> = 1..=14;

fn accuracy(data: &Data, seeds: u64, epochs: usize) -> KeyModel {
    let tops: Vec<u32> = TOPS.collect();
    println!("flagging everything: F1 {:.4}", 2.0 * 16_838.0 / (2.0 * 16_838.0 + NORMAL));
    let (mut ngram, _) = train(data, &settings(KeyModelKind::Ngram, true, 1, 1));
    let judged = data.judge(&mut ngram);
    println!("baselines");
    let trivial = [
        judged.print("unseen key", |s| s.unseen > 0),
        judged.print("length outside training", |s| s.length_is_odd),
        judged.print("unseen key or length", |s| s.unseen > 0 || s.length_is_odd),
    ];
    let combined = judged.of_all().print("unseen key, length or counts", whole(&ngram));
    for history in [1, 2, 3, 10] {
        let settings = KeySettings { history, ..settings(KeyModelKind::Ngram, true, 1, 1) };
        let (mut ngram, _) = train(data, &settings);
        let (judged, end) = (data.judge(&mut ngram), ngram.end_bound());
        let rule = move |s: &SessionJudgement, top: u32| {
            s.unseen > 0 || s.rank_max > top || s.end_nll > end
        };
        let top = judged.choose(&tops, rule);
        judged.print(&format!("n-gram of {history}, top {top}"), |s| rule(s, top));
    }
    println!("figure: hdfs_f1_trivial = {:.4} F1", trivial.iter().copied().fold(0.0, f64::max));
    println!("figure: hdfs_f1_invariants = {combined:.4} F1");

    let (mut plain, mut best, mut skipped, mut together, mut seconds) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut kept = None;
    for seed in 1..=seeds {
        println!("seed {seed}");
        // Protocols (a) and (b): no markers; a session of up to ten keys is skipped, or flagged.
        let (mut model, _) = train(data, &settings(KeyModelKind::Lstm, false, seed, epochs));
        let judged = data.judge(&mut model);
        let history = 10;
        let keys = |s: &SessionJudgement, top: u32| s.unseen > 0 || s.rank_max > top;
        let flagged = |s: &SessionJudgement, top: u32| s.entries <= history || keys(s, top);
        let long = |s: &SessionJudgement, top: u32| s.entries > history && keys(s, top);
        println!("  by top, short sessions flagged: {}", sweep(&judged, &tops, flagged));
        let top = judged.choose(&tops, flagged);
        skipped.push(
            judged.print(&format!("(a) top {top}, short sessions skipped"), |s| long(s, top)),
        );
        plain.push(
            judged.print(&format!("(b) top {top}, short sessions flagged"), |s| flagged(s, top)),
        );
        // Protocol (c): begin markers, and the end as a key.
        let (mut model, took) = train(data, &settings(KeyModelKind::Lstm, true, seed, epochs));
        seconds.push(took);
        println!("  trained in {took:.1} s");
        let judged = data.judge(&mut model);
        let surprises: Vec<f64> = (8..=60).map(|half| f64::from(half) / 2.0).collect();
        let end = judged.choose(&surprises, |s, bound| s.end_nll > bound);
        let rule =
            |s: &SessionJudgement, top: u32| s.unseen > 0 || s.rank_max > top || s.end_nll > end;
        println!("  by top, begin and end: {}", sweep(&judged, &tops, rule));
        let top = judged.choose(&tops, rule);
        best.push(
            judged
                .print(&format!("(c) top {top}, begin and end (surprise {end})"), |s| rule(s, top)),
        );
        let bound = judged.choose(&surprises, |s, bound| s.nll_max > bound);
        judged.print(&format!("(c) greatest surprise {bound}"), |s| {
            s.unseen > 0 || s.nll_max > bound
        });
        // Nothing is chosen by the sessions held out here, so that all of them are tested. Beside the invariants a key
        // only has to say what is well beyond all that training held out.
        let (invariants, surest) = (whole(&model), 1.25 * model.nll_bound());
        together.push(
            judged.of_all().print(&format!("combined, greatest surprise {surest:.1}"), |s| {
                invariants(s) || s.nll_max > surest
            }),
        );
        kept = Some(model);
    }
    for (name, values, unit) in [
        ("hdfs_f1_topg", &plain, "F1"),
        ("hdfs_f1_topg_begin_end", &best, "F1"),
        ("hdfs_f1_topg_short_skipped", &skipped, "F1"),
        ("hdfs_f1_combined", &together, "F1"),
        ("train_seconds", &seconds, "s"),
    ] {
        let (mean, spread) = mean_and_spread(values);
        println!("figure: {name} = {mean:.4} {unit} (spread {spread:.4} over {seeds} seeds)");
    }
    kept.expect("there is a seed")
}

fn sweep(judged: &Judged, tops: &[u32], rule: impl Fn(&SessionJudgement, u32) -> bool) -> String {
    tops.iter().map(|top| format!("{top}:{:.3} ", judged.f1(|s| rule(s, *top)).2)).collect()
}

/// Normal sessions come one after the other, and each that is raised is reported back as normal.
fn feedback(data: &Data, model: &KeyModel) {
    let (top, end) = (model.top() as u32, model.end_bound());
    let is_odd = |s: &SessionJudgement| s.unseen > 0 || s.rank_max > top || s.end_nll > end;
    let (mut fixed, mut learning) = (model.clone(), model.clone());
    let before = data.judge(&mut fixed);
    let without = fixed.judge(&data.tested).iter().filter(|s| is_odd(s)).count();
    let mut with = 0;
    for session in &data.tested {
        let one = std::slice::from_ref(session);
        if is_odd(&learning.judge(one)[0]) {
            with += 1;
            learning.learn_normal(one, 10).expect("the steps succeed");
        }
    }
    let after = data.judge(&mut learning);
    let recall = |judged: &Judged| 1.0 - judged.f1(is_odd).1 / raised(&judged.odd, |_| true);
    println!(
        "feedback: {without} false alarms without, {with} with; recall {:.4} before, {:.4} after",
        recall(&before),
        recall(&after)
    );
    println!(
        "  sessions that choose, raised: {:.5} before, {:.5} after",
        raised(&before.chooses, is_odd),
        raised(&after.chooses, is_odd)
    );
    println!(
        "figure: online_update_fp_ratio = {:.3} of those without",
        f64::from(with) / (without.max(1) as f64)
    );
    println!("figure: online_update_recall_change = {:.4}", recall(&after) - recall(&before));
}

/// Symbols of distinct windows of ten keys with begin markers, from all test sessions.
fn windows(data: &Data) -> (Vec<u32>, usize) {
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

/// Seconds that this thread has had a processor for, so that what else runs on the machine does not count; where the
/// system does not tell, seconds of the clock.
fn processor_seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ns = told.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    ns.map_or_else(
        || std::time::UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_secs_f64()),
        |ns| ns / 1e9,
    )
}

fn speed(data: &Data) {
    let (windows, symbols) = windows(data);
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
fn end_to_end(data: &Data, epochs: usize) {
    use driftline::arrow::array::{
        ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
    };

    let all: Vec<(usize, &Session)> =
        data.train.iter().chain(data.tested.iter().cycle().take(40_000)).enumerate().collect();
    let mut rows: Vec<(i64, usize, i64)> = Vec::new();
    for (number, session) in &all {
        for (place, key) in session.iter().enumerate() {
            rows.push((
                20 * *number as i64 + 150 * place as i64,
                *number,
                key.parse().unwrap_or(0),
            ));
        }
    }
    rows.sort_unstable();
    let batches: Vec<RecordBatch> = rows
        .chunks(8_192)
        .map(|part| {
            let columns: [(&str, ArrayRef); 3] = [
                (
                    "ts",
                    Arc::new(TimestampMillisecondArray::from_iter_values(part.iter().map(|r| r.0))),
                ),
                (
                    "block",
                    Arc::new(StringArray::from_iter_values(
                        part.iter().map(|r| format!("blk_{:019}", r.1)),
                    )),
                ),
                ("log_key", Arc::new(Int64Array::from_iter_values(part.iter().map(|r| r.2)))),
            ];
            RecordBatch::try_from_iter(columns).expect("the columns are equally long")
        })
        .collect();
    let spec = DeepLog::new()
        .session("block")
        .training(data.train.len() as i64)
        .option("gap", std::time::Duration::from_secs(30))
        .option("swap_after", std::time::Duration::ZERO)
        .option("epochs", epochs as i64)
        .build();
    let request = DetectorRequest::from_spec("odd", &spec, batches[0].schema(), 0, 1)
        .expect("the columns are there");
    let plan = DeepLogKind.plan(&request).expect("the options are right");
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
        measured as f64 / seconds
    );
}

fn main() {
    let Some(folder) = data() else { return };
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (seeds, epochs) =
        (numbers.first().copied().unwrap_or(5), numbers.get(1).copied().unwrap_or(60) as usize);
    let data = Data::read(&folder);
    speed(&data);
    end_to_end(&data, 4);
    let model = accuracy(&data, seeds, epochs);
    feedback(&data, &model);
}
