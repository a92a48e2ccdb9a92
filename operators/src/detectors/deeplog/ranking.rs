//! What a model expects after a history, ranked, and kept for when the same history comes again (DL-04, DL-23).

use hashbrown::HashMap;

use super::key_model::Bounds;
use super::vocabulary::END_OUTPUT;

/// What is expected after one history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranked<'a> {
    /// The probability of each output.
    probabilities: &'a [f32],
    /// The rank of each output, the most probable being 1; ties by output.
    ranks: &'a [u32],
}

impl Ranked<'_> {
    /// The rank of an output, 1 for the most probable; one beyond the last for one that is not there.
    pub(super) fn rank(&self, output: u32) -> u32 {
        self.ranks.get(output as usize).copied().unwrap_or(self.ranks.len() as u32 + 1)
    }

    /// The probability of an output, 0 for one that is not there.
    pub(super) fn probability(&self, output: u32) -> f64 {
        self.probabilities.get(output as usize).map_or(0.0, |p| f64::from(*p))
    }

    /// The most probable outputs, in their order.
    pub(super) fn top(&self, count: usize) -> Vec<(u32, f64)> {
        let mut top: Vec<(u32, u32)> = (0_u32..)
            .zip(self.ranks)
            .filter(|(_, rank)| **rank as usize <= count)
            .map(|(output, rank)| (*rank, output))
            .collect();
        top.sort_unstable();
        top.into_iter().map(|(_, output)| (output, self.probability(output))).collect()
    }
}

/// How far the logarithm of an output's probability, up to a constant, has to rise for the output to be normal; 0 or less
/// if it is already. `outputs` has that of all, and `others` is room.
pub(super) fn missing(
    outputs: &[f64],
    output: usize,
    bounds: &Bounds,
    others: &mut Vec<f64>,
) -> f64 {
    let Some(own) = outputs.get(output) else { return f64::NEG_INFINITY };
    let rest = outputs.iter().enumerate().filter(|(other, _)| *other != output);
    others.clear();
    others.extend(rest.map(|(_, value)| *value));
    // A surprise of s is a probability of exp(-s).
    let by_surprise = |bound: f64| {
        let most = others.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total = most + others.iter().map(|other| (other - most).exp()).sum::<f64>().ln();
        total - bound.exp_m1().ln() - own
    };
    if output == END_OUTPUT as usize {
        return by_surprise(bounds.end_nll);
    }
    let surprise = if bounds.nll.is_finite() { by_surprise(bounds.nll) } else { f64::NEG_INFINITY };
    // The end is ranked behind all keys.
    others.swap_remove(END_OUTPUT as usize);
    let last = bounds.top.saturating_sub(1);
    if last >= others.len() {
        return surprise;
    }
    let (_, found, _) = others.select_nth_unstable_by(last, |a, b| b.total_cmp(a));
    surprise.max(*found - own)
}

/// Expectations by history, up to a bound. When it is full it is emptied: what comes often is soon there again.
#[derive(Clone, Debug)]
pub(super) struct RankingCache {
    history: usize,
    outputs: usize,
    places: HashMap<Box<[u32]>, u32>,
    probabilities: Vec<f32>,
    ranks: Vec<u32>,
    order: Vec<u32>,
    entries_max: usize,
}

impl RankingCache {
    /// For histories of so many symbols and so many outputs, in about `bytes_max` bytes, but at least 64 entries.
    pub(super) fn new(history: usize, outputs: usize, bytes_max: usize) -> Self {
        let entry = 4 * history + 8 * outputs + 64;
        Self {
            history,
            outputs,
            places: HashMap::new(),
            probabilities: Vec::new(),
            ranks: Vec::new(),
            order: Vec::new(),
            entries_max: (bytes_max / entry).max(64),
        }
    }

    /// The most histories that are held.
    pub(super) fn entries_max(&self) -> usize {
        self.entries_max
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.probabilities.clear();
        self.ranks.clear();
    }

    pub(super) fn place(&self, history: &[u32]) -> Option<u32> {
        self.places.get(history).copied()
    }

    pub(super) fn ranked(&self, place: u32) -> Ranked<'_> {
        let from = place as usize * self.outputs;
        Ranked {
            probabilities: &self.probabilities[from..from + self.outputs],
            ranks: &self.ranks[from..from + self.outputs],
        }
    }

    /// Adds what is expected after histories, one after the other. The output `unranked` is ranked behind all others.
    pub(super) fn insert(&mut self, histories: &[u32], probabilities: &[f32], unranked: u32) {
        let rows =
            histories.chunks_exact(self.history).zip(probabilities.chunks_exact(self.outputs));
        for (history, found) in rows {
            if self.places.contains_key(history) {
                continue;
            }
            let place = self.places.len() as u32;
            let from = self.probabilities.len();
            self.probabilities.extend_from_slice(found);
            let found = &self.probabilities[from..];
            self.order.clear();
            self.order.extend(0..self.outputs as u32);
            let key = |output: &u32| (unranked == *output, -found[*output as usize]);
            self.order.sort_by(|a, b| {
                let ((a_last, a), (b_last, b)) = (key(a), key(b));
                a_last.cmp(&b_last).then(a.total_cmp(&b))
            });
            self.ranks.resize(from + self.outputs, 0);
            for (rank, output) in (1..).zip(&self.order) {
                self.ranks[from + *output as usize] = rank;
            }
            self.places.insert(history.into(), place);
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.places.capacity() * 24
            + self.places.len() * 4 * self.history
            + 4 * (self.probabilities.capacity() + self.ranks.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_follow_probability_then_output() {
        let mut cache = RankingCache::new(2, 4, 0);
        cache.insert(&[1, 2, 3, 4], &[0.2, 0.5, 0.2, 0.1, 0.25, 0.25, 0.25, 0.25], 9);
        let ranked = cache.ranked(cache.place(&[1, 2]).unwrap());
        assert_eq!([0, 1, 2, 3, 9].map(|output| ranked.rank(output)), [2, 1, 3, 4, 5]);
        assert_eq!(ranked.top(2), [(1, 0.5), (0, f64::from(0.2_f32))]);
        let even = cache.ranked(cache.place(&[3, 4]).unwrap());
        assert_eq!([0, 1, 2, 3].map(|output| even.rank(output)), [1, 2, 3, 4]);
        assert_eq!(cache.place(&[9, 9]), None);
    }

    #[test]
    fn what_is_missing_makes_an_output_normal() {
        let bounds = Bounds { top: 2, nll: f64::INFINITY, end_nll: 3.0, beyond: 9.0 };
        let outputs = [9.0, 4.0, 1.0, 3.0, -2.0];
        let mut room = Vec::new();
        let mut of = |output: usize, bounds: &Bounds| missing(&outputs, output, bounds, &mut room);
        assert!(of(1, &bounds) < 0.0, "the most probable key");
        assert_eq!(of(2, &bounds), 2.0, "as the second key, since the end has no rank");
        assert_eq!(of(4, &bounds), 5.0);
        assert!(of(0, &bounds) < 0.0 && of(7, &bounds) < 0.0);
        let strict = Bounds { nll: 2.0, ..bounds };
        let rise = of(1, &strict);
        let mut risen = outputs;
        risen[1] += rise;
        let total: f64 = risen.iter().map(|x| x.exp()).sum();
        assert!((total.ln() - risen[1] - 2.0).abs() < 1e-9, "its surprise is 2 nats");
    }

    #[test]
    fn what_is_not_ranked_comes_last_with_its_probability() {
        let mut cache = RankingCache::new(1, 3, 0);
        cache.insert(&[1], &[0.9, 0.0, 0.1], 0);
        let ranked = cache.ranked(0);
        assert_eq!([0, 1, 2].map(|output| ranked.rank(output)), [3, 2, 1]);
        assert_eq!(ranked.probability(0), f64::from(0.9_f32));
    }
}
