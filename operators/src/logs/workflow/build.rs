//! From runs of a task to its workflow.
//!
//! Two keys run **side by side** if both orders are seen in runs that hold each of them once. Entries of a run that are
//! not side by side are ordered, and a transition leads from one entry to another if no third lies between them in that
//! order. So a run's transitions are the same whichever way its side-by-side parts happened to be interleaved. A run
//! that comes back to a key takes a transition of a loop.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{Edge, EdgeKind, Node, Workflow};
use super::{Entry, RUN_ENTRIES_MAX};

/// Keys that are kept, the most frequent.
const KEYS_MAX: usize = 1_024;
/// Share of the runs with both keys that the rarer order needs, for the two to run side by side.
const BOTH_ORDERS: f64 = 0.05;
/// Share of the occurrences of a key after which two transitions have to be taken together, to be a fork and no choice.
const TOGETHER: f64 = 0.5;

/// Relations of keys over all runs.
#[derive(Debug, Default)]
struct Relations {
    side_by_side: BTreeSet<(usize, usize)>,
}

impl Relations {
    fn of(runs: &[(Vec<usize>, f64)]) -> Self {
        let mut before: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        for (run, weight) in runs {
            let mut once: Vec<usize> = Vec::new();
            for key in run {
                if run.iter().filter(|other| *other == key).count() == 1 {
                    once.push(*key);
                }
            }
            for (place, first) in once.iter().enumerate() {
                for second in &once[place + 1..] {
                    *before.entry((*first, *second)).or_default() += weight;
                }
            }
        }
        let is_seen_both_ways = |(pair, count): (&(usize, usize), &f64)| {
            let other = before.get(&(pair.1, pair.0))?;
            (count.min(*other) >= BOTH_ORDERS * (count + other)).then_some(*pair)
        };
        Self { side_by_side: before.iter().filter_map(is_seen_both_ways).collect() }
    }

    /// For each entry of a run, the entries that it comes after with none in between.
    fn predecessors(&self, run: &[usize]) -> Vec<Vec<usize>> {
        let mut after: Vec<Vec<bool>> = Vec::with_capacity(run.len());
        let mut direct = Vec::with_capacity(run.len());
        for (place, key) in run.iter().enumerate() {
            // All entries that come before this one in the order, found from the nearest back.
            let mut reached = vec![false; place];
            let mut nearest = Vec::new();
            for earlier in (0..place).rev() {
                if reached[earlier] || self.side_by_side.contains(&(run[earlier], *key)) {
                    continue;
                }
                nearest.push(earlier);
                reached[earlier] = true;
                for (further, is_before) in after[earlier].iter().enumerate() {
                    reached[further] |= is_before;
                }
            }
            nearest.reverse();
            after.push(reached);
            direct.push(nearest);
        }
        direct
    }
}

/// A transition of one run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Entries of the run; `None` for begin and end.
    pub(super) from: Option<usize>,
    pub(super) to: Option<usize>,
    /// Whether the key had been there before in the run, at or before `from`.
    pub(super) is_back: bool,
}

impl Relations {
    /// The transitions of a run.
    fn steps(&self, run: &[usize]) -> Vec<Step> {
        let direct = self.predecessors(run);
        let mut is_last = vec![true; run.len()];
        let mut steps = Vec::new();
        for (place, from) in direct.iter().enumerate() {
            if from.is_empty() {
                steps.push(Step { from: None, to: Some(place), is_back: false });
            }
            for earlier in from {
                is_last[*earlier] = false;
                let is_back = run[..=*earlier].contains(&run[place]);
                steps.push(Step { from: Some(*earlier), to: Some(place), is_back });
            }
        }
        let ends = is_last.iter().enumerate().filter(|(_, last)| **last);
        steps.extend(ends.map(|(place, _)| Step { from: Some(place), to: None, is_back: false }));
        steps
    }
}

/// What is gathered of one transition.
#[derive(Debug, Default)]
struct Gathered {
    count: f64,
    back: f64,
    /// Taken together with another from the same entry, or into the same entry.
    forked: f64,
    joined: f64,
    timed: f64,
    seconds: f64,
    squares: f64,
}

impl Workflow {
    /// The transitions of a run of this workflow, given as nodes.
    pub(super) fn steps(&self, run: &[usize]) -> Vec<Step> {
        let side_by_side = self.side_by_side.clone();
        Relations { side_by_side }.steps(run)
    }

    /// The workflow of the given runs of one task.
    #[must_use]
    pub fn of_runs(runs: &[Vec<Entry>]) -> Self {
        Self::of_weighted_runs(runs.iter().map(|run| (run.as_slice(), 1.0)))
    }

    /// The workflow of runs, each with how often it occurred.
    pub fn of_weighted_runs<'a>(runs: impl IntoIterator<Item = (&'a [Entry], f64)>) -> Self {
        let runs: Vec<(&[Entry], f64)> = runs
            .into_iter()
            .map(|(run, weight)| (&run[..run.len().min(RUN_ENTRIES_MAX)], weight))
            .filter(|(run, weight)| !run.is_empty() && *weight > 0.0)
            .collect();
        let nodes = nodes(&runs);
        let index: BTreeMap<&str, usize> =
            nodes.iter().enumerate().map(|(place, node)| (node.key.as_str(), place)).collect();
        // Entries of keys beyond the bound are left out of their runs.
        let kept: Vec<Vec<&Entry>> = runs
            .iter()
            .map(|(run, _)| run.iter().filter(|e| index.contains_key(e.key.as_str())).collect())
            .collect();
        let numbered: Vec<(Vec<usize>, f64)> = kept
            .iter()
            .zip(&runs)
            .map(|(run, (_, weight))| {
                (run.iter().map(|e| index[e.key.as_str()]).collect(), *weight)
            })
            .collect();
        let relations = Relations::of(&numbered);
        let mut gathered: BTreeMap<(Option<usize>, usize), Gathered> = BTreeMap::new();
        for ((run, weight), entries) in numbered.iter().zip(&kept) {
            gather(&relations, run, *weight, entries, &mut gathered);
        }
        let total: f64 = runs.iter().map(|(_, weight)| weight).sum();
        let edges = edges(&nodes, total, &gathered);
        Self { nodes, edges, side_by_side: relations.side_by_side }
    }
}

/// Keys in the order of their mean place in runs.
fn nodes(runs: &[(&[Entry], f64)]) -> Vec<Node> {
    let mut seen: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (run, weight) in runs {
        for (place, entry) in run.iter().enumerate() {
            let (count, places) = seen.entry(entry.key.as_str()).or_default();
            *count += weight;
            *places += weight * place as f64 / run.len() as f64;
        }
    }
    let mut seen: Vec<(&str, f64, f64)> =
        seen.into_iter().map(|(key, (count, places))| (key, count, places / count)).collect();
    seen.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    seen.truncate(KEYS_MAX);
    seen.sort_by(|a, b| a.2.total_cmp(&b.2).then(a.0.cmp(b.0)));
    seen.into_iter().map(|(key, count, _)| Node { key: key.to_owned(), count }).collect()
}

/// Adds the transitions of one run. The end is gathered under the number of nodes.
fn gather(
    relations: &Relations,
    run: &[usize],
    weight: f64,
    entries: &[&Entry],
    gathered: &mut BTreeMap<(Option<usize>, usize), Gathered>,
) {
    let steps = relations.steps(run);
    for step in &steps {
        let from = step.from.map(|place| run[place]);
        let to = step.to.map_or(usize::MAX, |place| run[place]);
        let one = gathered.entry((from, to)).or_default();
        one.count += weight;
        one.back += if step.is_back { weight } else { 0.0 };
        let forked = steps.iter().filter(|other| other.from == step.from).count() > 1;
        let joined = steps.iter().filter(|other| other.to == step.to).count() > 1;
        one.forked += if forked { weight } else { 0.0 };
        one.joined += if joined { weight } else { 0.0 };
        let time = |place: Option<usize>| place.and_then(|place| entries[place].time);
        if let (Some(earlier), Some(later)) = (time(step.from), time(step.to)) {
            let seconds = later.0.saturating_sub(earlier.0) as f64 / 1e9;
            one.timed += weight;
            one.seconds += weight * seconds;
            one.squares += weight * seconds * seconds;
        }
    }
}

fn edges(
    nodes: &[Node],
    runs: f64,
    gathered: &BTreeMap<(Option<usize>, usize), Gathered>,
) -> Vec<Edge> {
    let alternatives = |from: Option<usize>| {
        let is_choice = |one: &Gathered| one.back.max(one.forked) < TOGETHER * one.count;
        gathered.iter().filter(|((f, _), one)| *f == from && is_choice(one)).count()
    };
    gathered
        .iter()
        .map(|((from, to), one)| {
            let occurrences = from.map_or(runs, |from| nodes[from].count);
            let kind = if one.back >= TOGETHER * one.count {
                EdgeKind::Loop
            } else if one.forked >= TOGETHER * one.count {
                EdgeKind::Fork
            } else if one.joined >= TOGETHER * one.count {
                EdgeKind::Join
            } else if alternatives(*from) > 1 {
                EdgeKind::Branch
            } else {
                EdgeKind::Sequence
            };
            let mean = one.seconds / one.timed;
            Edge {
                from: *from,
                to: (*to != usize::MAX).then_some(*to),
                kind,
                count: one.count,
                probability: one.count / occurrences,
                seconds: mean,
                deviation: (one.squares / one.timed - mean * mean).max(0.0).sqrt(),
            }
        })
        .collect()
}
