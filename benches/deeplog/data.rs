//! The HDFS sessions of three sources, what a rule makes of them, and models over them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use driftline_operators::detectors::deeplog::{
    KeyModel, KeyModelKind, KeySettings, NetworkSettings, SessionJudgement,
};

pub(super) type Session = Vec<String>;

/// Distinct sessions, and how much each counts.
pub(super) type Weighted = (Vec<Session>, Vec<f64>);

/// Normal sessions of the full test.
pub(super) const NORMAL: f64 = 553_366.0;
/// Share of normal sessions that may be raised, by which bounds are chosen: the paper's own.
pub(super) const FALSE_ALARMS: f64 = 833.0 / NORMAL;
/// A laxer share, which shows how much hangs on it.
pub(super) const FALSE_ALARMS_LAX: f64 = 0.0025;
/// Surprises that bounds are chosen from. The least is that of a probability of 1 %, as in the detector.
pub(super) fn surprises() -> Vec<f64> {
    std::iter::once(4.605).chain((10..=60).map(|half| f64::from(half) / 2.0)).collect()
}
/// What `top` is chosen from.
pub(super) const TOPS: std::ops::RangeInclusive<u32> = 1..=14;

/// A folder of the data, if it is there; in CI it must be.
pub(super) fn folder(name: &str) -> Option<PathBuf> {
    let root = std::env::var("DRIFTLINE_DATA").unwrap_or_else(|_| "../shared/data".into());
    let folder = Path::new(&root).join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var("CI").is_err(), "no folder {name} under DRIFTLINE_DATA ({root})");
    eprintln!("SKIPPED: no folder {name} under DRIFTLINE_DATA ({root})");
    None
}

/// Sessions of a file, one a line; those of a file of columns under a head.
pub(super) fn sessions(file: &Path, column: Option<usize>, has_head: bool) -> Vec<Session> {
    let text = std::fs::read_to_string(file).expect("the file can be read");
    let keys = text.lines().skip(usize::from(has_head)).map(|line| match column {
        Some(column) => line.split(',').nth(column).unwrap_or_default(),
        None => line,
    });
    keys.map(|keys| keys.split_whitespace().map(str::to_owned).collect()).collect()
}

/// Distinct sessions with how often each occurs, times a factor.
pub(super) fn distinct(sessions: &[Session], factor: f64) -> Weighted {
    let mut counts: BTreeMap<Session, f64> = BTreeMap::new();
    sessions.iter().for_each(|session| *counts.entry(session.clone()).or_default() += factor);
    counts.into_iter().unzip()
}

pub(super) struct Hdfs {
    pub(super) train: Vec<Session>,
    pub(super) choosing: Vec<Session>,
    pub(super) chooses: Weighted,
    pub(super) tested: Vec<Session>,
    pub(super) normal: Weighted,
    pub(super) odd_in_order: Vec<Session>,
    pub(super) odd: Weighted,
}

impl Hdfs {
    pub(super) fn read() -> Option<Self> {
        let folder = folder("hdfs_sequences")?;
        let held_out = sessions(&folder.join("hdfs_heldout_normal_11k.csv"), Some(2), true);
        let half = |first: usize| -> Vec<Session> {
            held_out.iter().skip(first).step_by(2).cloned().collect()
        };
        let (choosing, tested) = (half(0), half(1));
        let odd = sessions(&folder.join("deeplog_hdfs_test_abnormal.txt"), None, false);
        Some(Self {
            train: sessions(&folder.join("deeplog_hdfs_train.txt"), None, false),
            chooses: distinct(&choosing, 1.0 / choosing.len() as f64),
            choosing,
            normal: distinct(&tested, NORMAL / tested.len() as f64),
            tested,
            odd: distinct(&odd, 1.0),
            odd_in_order: odd,
        })
    }

    pub(super) fn judge(&self, model: &mut KeyModel) -> Judged {
        let mut group = |(sessions, weights): &Weighted| -> Group {
            model.judge(sessions).into_iter().zip(weights.iter().copied()).collect()
        };
        Judged { chooses: group(&self.chooses), normal: group(&self.normal), odd: group(&self.odd) }
    }
}

/// Weighted judgements.
type Group = Vec<(SessionJudgement, f64)>;

pub(super) struct Judged {
    chooses: Group,
    normal: Group,
    odd: Group,
}

fn raised(group: &Group, is_odd: impl Fn(&SessionJudgement) -> bool) -> f64 {
    group.iter().filter(|(session, _)| is_odd(session)).map(|(_, weight)| weight).sum()
}

impl Judged {
    pub(super) fn new(normal: Group, odd: Group) -> Self {
        Self { chooses: Vec::new(), normal, odd }
    }

    /// With all normal sessions that were held out as tested ones: for rules that choose nothing by them.
    pub(super) fn of_all(&self) -> Self {
        let half = |group: &Group, factor: f64| -> Group {
            group.iter().map(|(session, weight)| (*session, weight * factor)).collect()
        };
        let mut normal = half(&self.normal, 0.5);
        normal.extend(half(&self.chooses, 0.5 * NORMAL));
        Self { chooses: self.chooses.clone(), normal, odd: self.odd.clone() }
    }

    /// Mean surprise of a prediction over the sessions that choose, each distinct one once.
    pub(super) fn surprise(&self) -> f64 {
        let sum = |of: fn(&SessionJudgement) -> f64| -> f64 {
            self.chooses.iter().map(|(session, _)| of(session)).sum()
        };
        sum(|s| s.nll_sum) / sum(|s| f64::from(s.predictions)).max(1.0)
    }

    /// Share of the sessions that choose that a rule raises.
    pub(super) fn share(&self, is_odd: impl Fn(&SessionJudgement) -> bool) -> f64 {
        raised(&self.chooses, is_odd)
    }

    /// With each distinct session counted once, however often it came: the protocol of `set()`.
    fn of_distinct(&self) -> Self {
        let once = |group: &Group| group.iter().map(|(session, _)| (*session, 1.0)).collect();
        Self { chooses: Vec::new(), normal: once(&self.normal), odd: once(&self.odd) }
    }

    /// False alarms, misses and F1.
    pub(super) fn f1(&self, is_odd: impl Fn(&SessionJudgement) -> bool + Copy) -> (f64, f64, f64) {
        let total = raised(&self.odd, |_| true);
        let (fp, tp) = (raised(&self.normal, is_odd), raised(&self.odd, is_odd));
        (fp, total - tp, 2.0 * tp / (total + tp + fp))
    }

    /// The least value of a rule's bound that raises few enough of the sessions that choose.
    pub(super) fn choose<B: Copy>(
        &self,
        share: f64,
        bounds: &[B],
        rule: impl Fn(&SessionJudgement, B) -> bool,
    ) -> B {
        let keeps = |bound: &&B| raised(&self.chooses, |session| rule(session, **bound)) <= share;
        *bounds.iter().find(keeps).unwrap_or(bounds.last().expect("there are bounds"))
    }

    /// Prints a rule's row: sessions weighted by how often they came, and F1 over distinct ones.
    pub(super) fn print(
        &self,
        name: &str,
        is_odd: impl Fn(&SessionJudgement) -> bool + Copy,
    ) -> f64 {
        let (fp, misses, f1) = self.f1(is_odd);
        let total = raised(&self.odd, |_| true);
        let (precision, recall) = ((total - misses) / (total - misses + fp), 1.0 - misses / total);
        let (.., distinct) = self.of_distinct().f1(is_odd);
        println!(
            "  {name:<44} fp {fp:>7.0} fn {misses:>6.0}  P {precision:.4} R {recall:.4} F1 {f1:.4}  distinct {distinct:.4}"
        );
        f1
    }

    /// F1 by `top`.
    pub(super) fn by_top(&self, rule: impl Fn(&SessionJudgement, u32) -> bool) -> String {
        TOPS.map(|top| format!("{top}:{:.3} ", self.f1(|s| rule(s, top)).2)).collect()
    }

    /// The bound of ends and `top` as the sessions that choose have them, with the rule of both.
    pub(super) fn settle(
        &self,
        share: f64,
    ) -> (f64, u32, impl Fn(&SessionJudgement, u32) -> bool + Copy + use<>) {
        let end = self.choose(share, &surprises(), |s, bound| s.end_nll > bound);
        let rule = move |s: &SessionJudgement, top: u32| {
            s.unseen > 0 || s.rank_max > top || s.end_nll > end
        };
        (end, self.choose(share, &TOPS.collect::<Vec<_>>(), rule), rule)
    }
}

pub(super) fn settings(model: KeyModelKind, framed: bool, seed: u64, epochs: usize) -> KeySettings {
    KeySettings {
        model,
        begin: framed,
        end: framed,
        network: NetworkSettings { seed, epochs, ..NetworkSettings::default() },
        ..KeySettings::default()
    }
}

/// A trained model, and the seconds that it took.
pub(super) fn train(sessions: &[Session], settings: &KeySettings) -> (KeyModel, f64) {
    let started = Instant::now();
    let model = KeyModel::train(sessions, settings, &mut |progress| {
        if progress.epoch % 20 == 0 {
            eprintln!("    {progress:?}");
        }
        ControlFlow::Continue(())
    });
    (model.expect("training succeeds"), started.elapsed().as_secs_f64())
}

/// The rule of invariants: unseen keys, lengths and counts.
pub(super) fn whole(model: &KeyModel) -> impl Fn(&SessionJudgement) -> bool + Copy + use<> {
    let bound = model.distance_bound();
    move |session| session.unseen > 0 || session.length_is_odd || session.distance > bound
}

pub(super) fn mean_and_spread(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt())
}

/// Prints a figure's mean and spread over seeds.
pub(super) fn figure(name: &str, values: &[f64], unit: &str) {
    let (mean, spread) = mean_and_spread(values);
    println!("figure: {name} = {mean:.4} {unit} (spread {spread:.4} over {} seeds)", values.len());
}
