//! Settings chosen by normal sessions alone (DL-06): neither labels nor sessions that are tested have a say.
//!
//! Of two models that raise equally few normal sessions, the better one raises more of what is not normal. Without labels
//! that is not known; but a normal session of which one entry was changed is near to it, and is easy to come by. So the
//! criterion is the power against such edits at the paper's share of false alarms, as a mass-volume curve has it against
//! uniform noise:
//!
//! 1. The sessions that choose settle the bound of ends and `top` by that share; where no `top` keeps it, nothing counts
//!    as found.
//! 2. Each of them is edited in four ways, at a place that a fixed seed gives: a key is replaced by another of training, a
//!    key is left out, two neighbours are swapped, the session is cut short. What is then a session of training, or one
//!    that chooses, is no edit.
//! 3. The share of edits that are raised, each way counting alike, is compared in the mean over seeds. The greatest wins;
//!    of equal ones, that with the least surprise per prediction over distinct sessions that choose.
//!
//! F1 stands beside it and chooses nothing.

use std::collections::BTreeSet;

use driftline_operators::detectors::deeplog::{
    KeyModel, KeyModelKind, KeySettings, NetworkSettings,
};

use super::Asked;
use super::data::{
    FALSE_ALARMS, Hdfs, Session, Weighted, distinct, mean_and_spread, settings, train, whole,
};
use crate::random::Random;

/// How many times the greatest surprise of training makes a session abnormal beside the invariants; the model has 1.
const BEYOND: [f64; 5] = [1.0, 1.1, 1.25, 1.5, 2.0];

/// Changes a session at a place, if it can be changed there; the last is another key.
type Edit = fn(&mut Session, usize, &str) -> bool;

const WAYS: [(&str, Edit); 4] = [
    ("replaced", |session, place, other| {
        other.clone_into(&mut session[place]);
        true
    }),
    ("left out", |session, place, _| {
        session.remove(place);
        true
    }),
    ("swapped", |session, place, _| {
        let can = place + 1 < session.len();
        if can {
            session.swap(place, place + 1);
        }
        can
    }),
    ("cut short", |session, place, _| {
        session.truncate(place);
        true
    }),
];

/// Edited sessions, by the way in which they were edited.
struct Edits(Vec<Weighted>);

impl Edits {
    fn of(data: &Hdfs) -> Self {
        let normal: BTreeSet<&Session> = data.train.iter().chain(&data.choosing).collect();
        let keys: BTreeSet<&String> = data.train.iter().flatten().collect();
        let keys: Vec<&String> = keys.into_iter().collect();
        let mut random = Random(1);
        let edited = WAYS.map(|(_, edit)| {
            let mut edited: Vec<Session> = Vec::new();
            for session in data.choosing.iter().filter(|session| !session.is_empty()) {
                let (place, other) = (random.below(session.len()), random.below(keys.len()));
                let mut session = session.clone();
                if edit(&mut session, place, keys[other])
                    && !session.is_empty()
                    && !normal.contains(&session)
                {
                    edited.push(session);
                }
            }
            distinct(&edited, 1.0 / edited.len().max(1) as f64)
        });
        Self(edited.into())
    }
}

/// What a trained model is worth.
#[derive(Clone)]
struct Worth {
    top: u32,
    end: f64,
    /// Share of the edits of each way that are raised.
    found: Vec<f64>,
    surprise: f64,
    /// By factor of [`BEYOND`], the share of sessions that choose that the combined verdict raises.
    combined: Vec<f64>,
    seconds: f64,
    /// Chooses nothing.
    f1: f64,
    by_top: String,
}

impl Worth {
    fn of(data: &Hdfs, edits: &Edits, model: &mut KeyModel, seconds: f64) -> Self {
        let judged = data.judge(model);
        let (end, top, rule) = judged.settle(FALSE_ALARMS);
        // Where no `top` keeps the share, edits would be found at the expense of normal sessions.
        let keeps = judged.share(|session| rule(session, top)) <= FALSE_ALARMS;
        let mut found = |(sessions, weights): &Weighted| -> f64 {
            let judged = model.judge(sessions);
            let raised = judged.iter().zip(weights).filter(|(s, _)| keeps && rule(s, top));
            raised.map(|(_, weight)| *weight).fold(0.0, |sum, weight| sum + weight)
        };
        let found = edits.0.iter().map(&mut found).collect();
        let (invariants, most) = (whole(model), model.beyond_bound());
        let combined = BEYOND.map(|factor| {
            judged.share(|session| invariants(session) || session.nll_max > factor * most)
        });
        Self {
            top,
            end,
            found,
            surprise: judged.surprise(),
            combined: combined.into(),
            seconds,
            f1: judged.f1(|session| rule(session, top)).2,
            by_top: judged.by_top(rule),
        }
    }

    fn found(&self) -> f64 {
        mean_and_spread(&self.found).0
    }
}

/// Trains and weighs settings, each of them once.
struct Bench {
    data: Hdfs,
    edits: Edits,
    seeds: u64,
    known: Vec<(KeySettings, Vec<Worth>)>,
}

impl Bench {
    fn new(data: Hdfs, seeds: u64) -> Self {
        let edits = Edits::of(&data);
        for ((way, _), (sessions, _)) in WAYS.iter().zip(&edits.0) {
            println!("  {way}: {} distinct edits", sessions.len());
        }
        Self { data, edits, seeds, known: Vec::new() }
    }

    fn weigh(&mut self, of: &KeySettings) -> Vec<Worth> {
        if let Some((_, found)) = self.known.iter().find(|(known, _)| known == of) {
            return found.clone();
        }
        let seeds = if of.model == KeyModelKind::Lstm { self.seeds } else { 1 };
        let found: Vec<Worth> = (1..=seeds)
            .map(|seed| {
                let network = NetworkSettings { seed, ..of.network };
                let (mut model, took) = train(&self.data.train, &KeySettings { network, ..*of });
                Worth::of(&self.data, &self.edits, &mut model, took)
            })
            .collect();
        self.known.push((*of, found.clone()));
        found
    }

    /// Prints the worth of each candidate for a setting, and which is chosen.
    fn choose(&mut self, name: &str, candidates: &[(String, KeySettings)]) -> Vec<Worth> {
        let mut best: Option<(f64, f64, &str, Vec<Worth>)> = None;
        for (value, settings) in candidates {
            let worth = self.weigh(settings);
            let all = |of: fn(&Worth) -> f64| -> Vec<f64> { worth.iter().map(of).collect() };
            let (found, spread) = mean_and_spread(&all(Worth::found));
            let (surprise, _) = mean_and_spread(&all(|w| w.surprise));
            let ((f1, apart), (took, _)) =
                (mean_and_spread(&all(|w| w.f1)), mean_and_spread(&all(|w| w.seconds)));
            println!(
                "  {name} {value}: edits found {found:.4} (spread {spread:.4}), surprise {surprise:.4}; {took:.0} s | \
                 F1, which chooses nothing: {f1:.4} (spread {apart:.4})"
            );
            for one in &worth {
                let ways = WAYS.iter().zip(&one.found);
                let ways: Vec<String> =
                    ways.map(|((way, _), found)| format!("{way} {found:.3}")).collect();
                println!("    top {}, end {}: {}", one.top, one.end, ways.join(", "));
                println!("      F1 by top: {}", one.by_top);
            }
            let is_better = best.as_ref().is_none_or(|(most, least, ..)| {
                found > *most || (found.total_cmp(most).is_eq() && surprise < *least)
            });
            if is_better {
                best = Some((found, surprise, value.as_str(), worth));
            }
        }
        let (_, _, value, worth) = best.expect("there are candidates");
        println!(
            "figure: chosen_{name} = {value} (by edits of sessions held out, {} seeds)",
            self.seeds
        );
        worth
    }
}

fn powers(base: &KeySettings) -> Vec<(String, KeySettings)> {
    let with = |repeats_power: f64| {
        let network = NetworkSettings { repeats_power, ..base.network };
        (repeats_power.to_string(), KeySettings { network, ..*base })
    };
    // The paper's first: it stays where nothing is better.
    [1.0, 0.5, 0.25, 0.0].map(with).into()
}

/// What the paper leaves open and a default has to settle.
pub(crate) fn report(asked: Asked) {
    let Some(data) = Hdfs::read() else { return };
    let base = settings(KeyModelKind::Lstm, true, 1, asked.epochs);
    println!(
        "choose: settings by edits of normal sessions held out; {} trainings",
        4 * asked.seeds
    );
    let mut bench = Bench::new(data, asked.seeds);
    let chosen = bench.choose("repeats_power", &powers(&base));
    println!("  sessions that choose and that the combined verdict raises, by its factor:");
    let mut least = None;
    for (place, factor) in BEYOND.iter().enumerate() {
        let shares: Vec<f64> = chosen.iter().map(|worth| worth.combined[place]).collect();
        let (share, spread) = mean_and_spread(&shares);
        println!("    {factor}: {share:.5} (spread {spread:.5}; asked {FALSE_ALARMS:.5})");
        least = least.or((share <= FALSE_ALARMS).then_some(factor));
    }
    match least {
        Some(factor) => {
            println!("figure: chosen_beyond = {factor} (the least that keeps the share)")
        }
        None => println!("figure: chosen_beyond = none (invariants alone raise more than asked)"),
    }
}

/// One setting moved at a time, with n-grams as a control.
pub(crate) fn sweep(asked: Asked) {
    let Some(data) = Hdfs::read() else { return };
    let base = settings(KeyModelKind::Lstm, true, 1, asked.epochs);
    println!(
        "sweep: one setting moved at a time; 16 trainings on one seed, the widest some ten times as long as others"
    );
    // One setting after another may be asked for by name: together they take hours.
    let named: Vec<String> = std::env::args().skip(1).collect();
    let names = ["ngram_history", "history", "layers", "repeats_power", "hidden"];
    let is_any = names.iter().any(|name| named.iter().any(|other| other == name));
    let mut bench = Bench::new(data, 1);
    let history = |model| {
        [10, 1, 2, 3, 5, 7, 12, 15]
            .map(|history: usize| (history.to_string(), KeySettings { model, history, ..base }))
    };
    let layers = [2, 1, 3].map(|layers: usize| {
        let network = NetworkSettings { layers, ..base.network };
        (layers.to_string(), KeySettings { network, ..base })
    });
    let units = [64, 32, 128, 256].map(|hidden: usize| {
        let network = NetworkSettings { hidden, ..base.network };
        (hidden.to_string(), KeySettings { network, ..base })
    });
    let candidates = [
        history(KeyModelKind::Ngram).to_vec(),
        history(KeyModelKind::Lstm).to_vec(),
        layers.to_vec(),
        powers(&base),
        units.to_vec(),
    ];
    for (name, candidates) in names.into_iter().zip(candidates) {
        if !is_any || named.iter().any(|other| other == name) {
            bench.choose(name, &candidates);
        }
    }
}
