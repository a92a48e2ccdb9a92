//! Method 1: the workflow of what a key model predicts, walked from the begin marker (DL-16).
//!
//! Where the most probable key has nearly all of the probability, the walk goes on to it alone: the keys are in
//! sequence. Where several keys share it, the walk takes each of them. Paths are followed until the end is predicted.
//! What the paths have in common tells the rest: keys that come in all orders run side by side, different
//! continuations are a choice, and a key that comes again closes a loop, which a path goes through once more only to
//! see what follows it.

use std::collections::BTreeMap;

use super::{Entry, Workflow};

/// How predictions are walked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WalkSettings {
    /// Keys of a history, which begins filled with begin markers.
    pub history: usize,
    /// The least probability of a key that is followed (the paper's eps: what is below is noise).
    pub least: f64,
    /// Paths that are followed at most, the most probable first.
    pub paths_max: usize,
    /// Entries of a path at most.
    pub entries_max: usize,
    /// How often a path may come to the same key.
    pub visits_max: usize,
}

impl Default for WalkSettings {
    fn default() -> Self {
        Self { history: 10, least: 0.05, paths_max: 1_000, entries_max: 64, visits_max: 2 }
    }
}

/// What a walk found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Walk {
    /// Whole paths with their probability.
    pub paths: Vec<(Vec<Entry>, f64)>,
    /// Probability of what was not followed: unlikely keys, and paths beyond the bounds.
    pub left_out: f64,
}

impl Walk {
    /// Walks predictions. `predict` gives keys with their probabilities after a history, of which `None` stands for the
    /// begin marker before the first key; `None` as a predicted key is the end.
    pub fn new(
        settings: &WalkSettings,
        mut predict: impl FnMut(&[Option<String>]) -> Vec<(Option<String>, f64)>,
    ) -> Self {
        let mut walk = Self::default();
        // The most probable open path is taken next; ties go to the one that was found first.
        let mut open: BTreeMap<(u64, usize), (Vec<String>, f64)> = BTreeMap::new();
        let rank = |p: f64| u64::MAX - p.max(0.0).to_bits();
        let mut found = 1;
        open.insert((0, 0), (Vec::new(), 1.0));
        while let Some((_, (path, p))) = open.pop_first() {
            if walk.paths.len() >= settings.paths_max {
                walk.left_out += p;
                continue;
            }
            let from = path.len().saturating_sub(settings.history);
            let mut history = vec![None; settings.history - (path.len() - from)];
            history.extend(path[from..].iter().cloned().map(Some));
            let mut followed = 0.0;
            for (key, share) in predict(&history) {
                // A loop goes on for ever: each further turn is less likely, and after some they are left out.
                let visits =
                    key.as_ref().map_or(0, |key| path.iter().filter(|k| *k == key).count());
                if !(share >= settings.least) || visits >= settings.visits_max {
                    continue;
                }
                match key {
                    None => {
                        let entries = path.iter().map(Entry::new).collect();
                        walk.paths.push((entries, p * share));
                        followed += share;
                    }
                    Some(key)
                        if path.len() < settings.entries_max && open.len() < settings.paths_max =>
                    {
                        let mut longer = path.clone();
                        longer.push(key);
                        open.insert((rank(p * share), found), (longer, p * share));
                        found += 1;
                        followed += share;
                    }
                    Some(_) => {}
                }
            }
            walk.left_out += p * (1.0 - followed).max(0.0);
        }
        walk
    }

    /// The workflow of all paths, each with its probability.
    #[must_use]
    pub fn workflow(&self) -> Workflow {
        Workflow::of_weighted_runs(self.paths.iter().map(|(path, p)| (path.as_slice(), *p)))
    }
}
