//! Method 2: how often keys come near each other, and which of them make a task (DL-17, DL-18).

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, RUN_ENTRIES_MAX};

/// Keys that are looked at, the most frequent.
const KEYS_MAX: usize = 512;

/// How often keys come within some distance of each other.
///
/// # Examples
/// The two keys alternate: `b` always follows `a` at once, and `a` follows `b` but for the last.
/// ```
/// use driftline_operators::logs::workflow::{CoOccurrence, Entry};
///
/// let run = ["a", "b", "a", "b"].map(Entry::new).to_vec();
/// let found = CoOccurrence::of(&[run], 2);
/// assert_eq!(found.probability(1, "a", "b"), 1.0);
/// assert_eq!(found.probability(1, "b", "a"), 0.5);
/// assert_eq!(found.probability(2, "a", "a"), 0.25); // once within 2 of two occurrences, over the distance
/// ```
#[derive(Clone, Debug, Default)]
pub struct CoOccurrence {
    keys: Vec<String>,
    index: BTreeMap<String, usize>,
    counts: Vec<f64>,
    distance_max: usize,
    /// For each distance from 1 on: pairs at exactly that distance.
    exact: Vec<BTreeMap<(usize, usize), f64>>,
    /// For each distance from 1 on: occurrences of the first after which the second comes for the first time at exactly
    /// that distance; and the same looking back from the second.
    first_after: Vec<BTreeMap<(usize, usize), f64>>,
    first_before: Vec<BTreeMap<(usize, usize), f64>>,
}

impl CoOccurrence {
    /// Counts pairs in logs up to a distance. Each log is in the order of time; tasks may be interleaved in it.
    #[must_use]
    pub fn of(logs: &[Vec<Entry>], distance_max: usize) -> Self {
        let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
        for entry in logs.iter().flatten() {
            *counts.entry(entry.key.as_str()).or_default() += 1.0;
        }
        let mut counts: Vec<(&str, f64)> = counts.into_iter().collect();
        counts.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        counts.truncate(KEYS_MAX);
        counts.sort_by(|a, b| a.0.cmp(b.0));
        let keys: Vec<String> = counts.iter().map(|(key, _)| (*key).to_owned()).collect();
        let index: BTreeMap<String, usize> =
            keys.iter().enumerate().map(|(place, key)| (key.clone(), place)).collect();
        let distance_max = distance_max.clamp(1, RUN_ENTRIES_MAX);
        let empty = vec![BTreeMap::new(); distance_max];
        let mut found = Self {
            counts: counts.iter().map(|(_, count)| *count).collect(),
            exact: empty.clone(),
            first_after: empty.clone(),
            first_before: empty,
            keys,
            index,
            distance_max,
        };
        for log in logs {
            let numbers: Vec<Option<usize>> =
                log.iter().map(|entry| found.index.get(entry.key.as_str()).copied()).collect();
            found.add(&numbers);
        }
        found
    }

    fn add(&mut self, log: &[Option<usize>]) {
        for (place, key) in log.iter().enumerate() {
            let Some(key) = *key else { continue };
            let mut seen = BTreeSet::new();
            for distance in 1..=self.distance_max {
                let Some(later) = log.get(place + distance) else { break };
                let Some(later) = *later else { continue };
                *self.exact[distance - 1].entry((key, later)).or_default() += 1.0;
                if seen.insert(later) {
                    *self.first_after[distance - 1].entry((key, later)).or_default() += 1.0;
                }
            }
            seen.clear();
            for distance in 1..=self.distance_max.min(place) {
                let Some(earlier) = log[place - distance] else { continue };
                if seen.insert(earlier) {
                    *self.first_before[distance - 1].entry((earlier, key)).or_default() += 1.0;
                }
            }
        }
    }

    /// All keys, in order.
    #[must_use]
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The paper's co-occurrence matrix: `f_d(i, j) / (d f(i))`, where `f_d` counts how often `second` comes within
    /// `distance` after `first`, and `f` counts `first`. A row adds up to at most 1.
    #[must_use]
    pub fn probability(&self, distance: usize, first: &str, second: &str) -> f64 {
        let (Some(i), Some(j)) = (self.index.get(first), self.index.get(second)) else {
            return 0.0;
        };
        let distance = distance.clamp(1, self.distance_max);
        let pairs: f64 = self.exact[..distance].iter().filter_map(|at| at.get(&(*i, *j))).sum();
        pairs / (distance as f64 * self.counts[*i])
    }

    /// How surely two keys belong together within a distance: the share of the occurrences of either that the other
    /// goes with, the lesser of the two.
    ///
    /// The matrix divides by the distance, so that a key that follows once within 3 comes to a third, and no bound near
    /// 1 would ever be met beyond a distance of 1. What the clustering asks is how many occurrences have the other
    /// nearby.
    fn together(&self, distance: usize, first: usize, second: usize) -> f64 {
        let sum = |of: &[BTreeMap<(usize, usize), f64>]| -> f64 {
            of[..distance.min(self.distance_max)]
                .iter()
                .filter_map(|at| at.get(&(first, second)))
                .sum()
        };
        let after = sum(&self.first_after) / self.counts[first];
        let before = sum(&self.first_before) / self.counts[second];
        after.min(before)
    }
}

/// How keys are gathered into tasks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskSettings {
    /// Share of the occurrences that two keys of a task have the other nearby (theta in the paper).
    pub theta: f64,
    /// The greatest distance that is looked at.
    pub distance_max: usize,
}

impl Default for TaskSettings {
    fn default() -> Self {
        Self { theta: 0.9, distance_max: 16 }
    }
}

/// Keys that belong to one task each, and logs taken apart by them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tasks {
    /// Keys of each task, in order; the task with the most frequent keys first.
    pub keys: Vec<Vec<String>>,
}

impl Tasks {
    /// Gathers the keys of logs into tasks.
    ///
    /// Pairs that nearly always come together, at the least distance first, are joined into one task, as long as the
    /// distance is not above the number of its keys then (the paper extends a task up to its own length). Several keys
    /// that take turns after one (none of them alone, but their shares together are above theta) are a choice within its
    /// task. Keys that go with no other are tasks of their own. The paper leaves the order of joining open; this one does not
    /// depend on names.
    ///
    /// Order alone cannot part tasks that always come after one another in the same logs: give it logs in which they do not,
    /// such as those of a request rather than of a machine, which is made and then deleted.
    #[must_use]
    pub fn of(logs: &[Vec<Entry>], settings: &TaskSettings) -> Self {
        let found = CoOccurrence::of(logs, settings.distance_max);
        let count = found.keys.len();
        let mut task: Vec<usize> = (0..count).collect();
        let join = |task: &mut Vec<usize>, a: usize, b: usize| {
            let (kept, gone) = (task[a].min(task[b]), task[a].max(task[b]));
            task.iter_mut().filter(|t| **t == gone).for_each(|t| *t = kept);
        };
        for distance in 1..=found.distance_max {
            let mut pairs: Vec<(f64, usize, usize)> = Vec::new();
            for first in 0..count {
                for second in (0..count).filter(|second| *second != first) {
                    let share = found.together(distance, first, second);
                    if share > settings.theta {
                        pairs.push((share, first, second));
                    }
                }
            }
            pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
            for (_, first, second) in pairs {
                let size = |of: usize| task.iter().filter(|t| **t == task[of]).count();
                if distance <= size(first) + size(second) {
                    join(&mut task, first, second);
                }
            }
            found.join_choices(distance, settings.theta, &mut task, join);
        }
        let mut keys: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        task.iter().enumerate().for_each(|(key, task)| keys.entry(*task).or_default().push(key));
        let mut keys: Vec<Vec<usize>> = keys.into_values().collect();
        let most = |of: &Vec<usize>| of.iter().map(|key| found.counts[*key]).fold(0.0, f64::max);
        keys.sort_by(|a, b| most(b).total_cmp(&most(a)).then(a.cmp(b)));
        let names = |of: Vec<usize>| of.into_iter().map(|key| found.keys[key].clone()).collect();
        Self { keys: keys.into_iter().map(names).collect() }
    }

    /// Takes a log apart: the entries of each task, in their order.
    #[must_use]
    pub fn separate(&self, log: &[Entry]) -> Vec<Vec<Entry>> {
        let one = |keys: &Vec<String>| {
            log.iter().filter(|entry| keys.contains(&entry.key)).cloned().collect()
        };
        self.keys.iter().map(one).collect()
    }

    /// Cuts the entries of one task into its runs: a run begins where the key that begins most logs comes again.
    #[must_use]
    pub fn runs(entries: &[Entry]) -> Vec<Vec<Entry>> {
        let Some(first) = entries.first() else { return Vec::new() };
        let mut runs: Vec<Vec<Entry>> = Vec::new();
        for entry in entries {
            match runs.last_mut() {
                Some(run) if entry.key != first.key => run.push(entry.clone()),
                _ => runs.push(vec![entry.clone()]),
            }
        }
        runs
    }
}

impl CoOccurrence {
    /// Joins keys that take turns after a key: each comes nearly always after it, no single one of them follows it nearly
    /// always, and their shares add up. A choice is among the fewest that suffice, as the paper extends a task by a pair only
    /// where no single key will do: else every rare key would come along with the one that nearly always follows, such as
    /// the failures of one task that end in the clean-up of another.
    fn join_choices(
        &self,
        distance: usize,
        theta: f64,
        task: &mut Vec<usize>,
        join: impl Fn(&mut Vec<usize>, usize, usize),
    ) {
        for first in 0..self.keys.len() {
            let mut turns: Vec<(usize, f64)> = Vec::new();
            for second in (0..self.keys.len()).filter(|second| *second != first) {
                let share = |of: &BTreeMap<(usize, usize), f64>| {
                    of.get(&(first, second)).copied().unwrap_or(0.0)
                };
                let after: f64 = share(&self.exact[distance - 1]) / self.counts[first];
                let before: f64 = share(&self.first_before[distance - 1]) / self.counts[second];
                if before > theta && after > 0.0 {
                    turns.push((second, after));
                }
            }
            turns.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            let mut total = 0.0;
            let needed = turns.iter().position(|(_, share)| {
                total += share;
                total > theta
            });
            if let Some(last @ 1..) = needed {
                turns[..=last].iter().for_each(|(second, _)| join(task, first, *second));
            }
        }
    }
}
