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

/// Pairs of keys that run side by side, over all runs.
fn side_by_side(runs: &[(Vec<usize>, f64)]) -> BTreeSet<(usize, usize)> {
    let mut before: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    for (run, weight) in runs {
        let mut times: BTreeMap<usize, usize> = BTreeMap::new();
        run.iter().for_each(|key| *times.entry(*key).or_default() += 1);
        let once: Vec<usize> = run.iter().copied().filter(|key| times[key] == 1).collect();
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
    before.iter().filter_map(is_seen_both_ways).collect()
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

/// The distinct keys of one run, numbered from 0, and which of them run side by side.
struct Local {
    /// The number of each entry's key.
    numbers: Vec<usize>,
    /// Where each number comes first.
    first: Vec<usize>,
    beside: Vec<bool>,
}

impl Local {
    fn of(run: &[usize], side_by_side: &BTreeSet<(usize, usize)>) -> Self {
        let mut keys = run.to_vec();
        keys.sort_unstable();
        keys.dedup();
        let number = |key: usize| keys.binary_search(&key).ok();
        let numbers: Vec<usize> = run.iter().filter_map(|key| number(*key)).collect();
        let mut first = vec![usize::MAX; keys.len()];
        for (place, number) in numbers.iter().enumerate().rev() {
            first[*number] = place;
        }
        let mut beside = vec![false; keys.len() * keys.len()];
        for (a, key) in keys.iter().enumerate() {
            let partners = side_by_side.range((*key, 0)..=(*key, usize::MAX));
            for b in partners.filter_map(|(_, other)| number(*other)) {
                beside[a * keys.len() + b] = true;
            }
        }
        Self { numbers, first, beside }
    }

    fn is_beside(&self, a: usize, b: usize) -> bool {
        self.beside[self.numbers[a] * self.first.len() + self.numbers[b]]
    }
}

/// The transitions of a run: from each entry to those that come after it with none in between.
pub(super) fn steps(run: &[usize], side_by_side: &BTreeSet<(usize, usize)>) -> Vec<Step> {
    let local = Local::of(run, side_by_side);
    // For each entry, a bit for each of those that come before it in the order.
    let words = run.len().div_ceil(64);
    let mut before = vec![0_u64; run.len() * words];
    let mut is_last = vec![true; run.len()];
    let (mut steps, mut nearest) = (Vec::with_capacity(run.len() + 1), Vec::new());
    for place in 0..run.len() {
        nearest.clear();
        let (earlier_rows, rest) = before.split_at_mut(place * words);
        let reached = &mut rest[..words];
        for earlier in (0..place).rev() {
            let is_reached = reached[earlier / 64] >> (earlier % 64) & 1 == 1;
            if is_reached || local.is_beside(earlier, place) {
                continue;
            }
            nearest.push(earlier);
            reached[earlier / 64] |= 1 << (earlier % 64);
            let further = &earlier_rows[earlier * words..(earlier + 1) * words];
            reached.iter_mut().zip(further).for_each(|(all, more)| *all |= more);
        }
        if nearest.is_empty() {
            steps.push(Step { from: None, to: Some(place), is_back: false });
        }
        for earlier in nearest.iter().rev() {
            is_last[*earlier] = false;
            let is_back = local.first[local.numbers[place]] <= *earlier;
            steps.push(Step { from: Some(*earlier), to: Some(place), is_back });
        }
    }
    let ends = is_last.iter().enumerate().filter(|(_, last)| **last);
    steps.extend(ends.map(|(place, _)| Step { from: Some(place), to: None, is_back: false }));
    steps
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
        let side_by_side = side_by_side(&numbered);
        let mut gathered: BTreeMap<(Option<usize>, usize), Gathered> = BTreeMap::new();
        for ((run, weight), entries) in numbered.iter().zip(&kept) {
            gather(&side_by_side, run, *weight, entries, &mut gathered);
        }
        let total: f64 = runs.iter().map(|(_, weight)| weight).sum();
        let edges = edges(&nodes, total, &gathered);
        Self { nodes, edges, side_by_side }
    }

    /// The same workflow with the times that its transitions take in runs.
    #[must_use]
    pub fn timed_by(mut self, runs: &[Vec<Entry>]) -> Self {
        let mut gathered: BTreeMap<(Option<usize>, usize), Gathered> = BTreeMap::new();
        for run in runs {
            let known = |entry: &&Entry| self.node(&entry.key).is_some();
            let entries: Vec<&Entry> = run.iter().take(RUN_ENTRIES_MAX).filter(known).collect();
            let nodes: Vec<usize> = entries.iter().filter_map(|e| self.node(&e.key)).collect();
            gather(&self.side_by_side, &nodes, 1.0, &entries, &mut gathered);
        }
        for edge in &mut self.edges {
            let found = gathered.get(&(edge.from, edge.to.unwrap_or(usize::MAX)));
            if let Some(found) = found {
                (edge.seconds, edge.deviation) = found.times();
            }
        }
        self
    }
}

impl Gathered {
    /// Mean and standard deviation of the seconds taken; NaN where none was timed.
    fn times(&self) -> (f64, f64) {
        if self.timed <= 0.0 {
            return (f64::NAN, f64::NAN);
        }
        let mean = self.seconds / self.timed;
        (mean, (self.squares / self.timed - mean * mean).max(0.0).sqrt())
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

/// Adds the transitions of one run. The end is gathered under the greatest number.
fn gather(
    side_by_side: &BTreeSet<(usize, usize)>,
    run: &[usize],
    weight: f64,
    entries: &[&Entry],
    gathered: &mut BTreeMap<(Option<usize>, usize), Gathered>,
) {
    let steps = steps(run, side_by_side);
    let (mut from_many, mut to_many) = (BTreeMap::new(), BTreeMap::new());
    for step in &steps {
        *from_many.entry(step.from).or_insert(0) += 1;
        *to_many.entry(step.to).or_insert(0) += 1;
    }
    for step in &steps {
        let from = step.from.map(|place| run[place]);
        let to = step.to.map_or(usize::MAX, |place| run[place]);
        let one = gathered.entry((from, to)).or_default();
        one.count += weight;
        one.back += if step.is_back { weight } else { 0.0 };
        one.forked += if from_many[&step.from] > 1 { weight } else { 0.0 };
        one.joined += if to_many[&step.to] > 1 { weight } else { 0.0 };
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
            let (seconds, deviation) = one.times();
            Edge {
                from: *from,
                to: (*to != usize::MAX).then_some(*to),
                kind,
                count: one.count,
                probability: one.count / occurrences,
                seconds,
                deviation,
            }
        })
        .collect()
}
