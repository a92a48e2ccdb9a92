//! What whole sessions have in common: their lengths, and how often each key is in them (DL-24).
//!
//! A session's distance to another is the number of entries that one has and the other lacks, over the entries of the
//! longer: 0 for the same keys as often, 1 for none in common. A session is as far off as its distance to the nearest
//! one of training. How far training sessions are from each other sets the bound: each distinct one that occurred once
//! is left out in turn, and the farthest of them is still normal.
//!
//! Landauer, Skopik and Wurzenberger, "A critical review of common log data sets used for evaluation of sequence-based
//! anomaly detection techniques", 2024, for length ranges and count vectors.

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

/// Keys of a session with how often each is there, ordered by symbol.
pub(super) type CountVector = Vec<(u32, u32)>;

/// The count vectors of training that are kept; the most frequent are.
const VECTORS_MAX: usize = 4_096;
/// Answers that are kept for sessions of the same counts.
const ANSWERS_MAX: usize = 16_384;

/// Counts up one more entry.
pub(super) fn count(vector: &mut CountVector, symbol: u32) {
    match vector.binary_search_by_key(&symbol, |(symbol, _)| *symbol) {
        Ok(place) => vector[place].1 = vector[place].1.saturating_add(1),
        Err(place) => vector.insert(place, (symbol, 1)),
    }
}

/// Counts under the symbols that models know.
pub(super) fn known(vector: &CountVector) -> CountVector {
    let mut counts = CountVector::new();
    for (symbol, times) in vector {
        let symbol = super::feedback::known(*symbol);
        match counts.binary_search_by_key(&symbol, |(symbol, _)| *symbol) {
            Ok(place) => counts[place].1 = counts[place].1.saturating_add(*times),
            Err(place) => counts.insert(place, (symbol, *times)),
        }
    }
    counts
}

/// What sessions of training have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Invariants {
    /// Entries of the shortest and of the longest session.
    pub(super) lengths: (u32, u32),
    /// Distinct count vectors with their entries, ordered by entries.
    vectors: Vec<(u32, CountVector)>,
    /// The greatest distance that is normal.
    pub(super) distance_max: f64,
}

impl Invariants {
    /// From the sessions of training, each with how often it occurred.
    pub(super) fn of<'a>(sessions: impl IntoIterator<Item = (&'a [u32], f64)>) -> Self {
        let mut weights: HashMap<CountVector, f64> = HashMap::new();
        let (mut shortest, mut longest) = (u32::MAX, 0);
        for (session, weight) in sessions {
            let mut vector = CountVector::new();
            session.iter().for_each(|symbol| count(&mut vector, *symbol));
            *weights.entry(vector).or_default() += weight;
            shortest = shortest.min(session.len() as u32);
            longest = longest.max(session.len() as u32);
        }
        let mut kept: Vec<(CountVector, f64)> = weights.into_iter().collect();
        kept.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        kept.truncate(VECTORS_MAX);
        let once: Vec<CountVector> =
            kept.iter().filter(|(_, weight)| *weight <= 1.0).map(|(v, _)| v.clone()).collect();
        let mut vectors: Vec<(u32, CountVector)> =
            kept.into_iter().map(|(vector, _)| (entries(&vector), vector)).collect();
        vectors.sort();
        let mut invariants =
            Self { lengths: (shortest.min(longest), longest), vectors, distance_max: 0.0 };
        // With a single kind of session there is nothing to be far from.
        let far = once.iter().filter_map(|vector| {
            invariants.nearest(vector, Some(vector)).map(|(distance, _)| distance)
        });
        invariants.distance_max = far.fold(0.0, f64::max);
        invariants
    }

    /// Distance to the nearest session of training, and its counts.
    pub(super) fn nearest(
        &self,
        vector: &[(u32, u32)],
        left_out: Option<&CountVector>,
    ) -> Option<(f64, &CountVector)> {
        let own = entries(vector);
        let mut best: Option<(f64, &CountVector)> = None;
        // Beginning with sessions of the same length: a distance is at least the difference in entries over the longer.
        let middle = self.vectors.partition_point(|(length, _)| *length < own);
        let (shorter, longer) = self.vectors.split_at(middle);
        let halves: [&mut dyn Iterator<Item = &(u32, CountVector)>; 2] =
            [&mut longer.iter(), &mut shorter.iter().rev()];
        for half in halves {
            for (length, other) in half {
                let longest = f64::from(own.max(*length).max(1));
                let least = f64::from(own.abs_diff(*length)) / longest;
                if best.is_some_and(|(distance, _)| least >= distance) {
                    break;
                }
                if left_out == Some(other) {
                    continue;
                }
                let distance = f64::from(apart(vector, other)) / longest;
                if best.is_none_or(|(nearest, _)| distance < nearest) {
                    best = Some((distance, other));
                }
            }
        }
        best
    }

    /// Takes another session in as normal.
    pub(super) fn learn(&mut self, vector: &CountVector) {
        let length = entries(vector);
        self.lengths = (self.lengths.0.min(length), self.lengths.1.max(length));
        let entry = (length, vector.clone());
        if let Err(place) = self.vectors.binary_search(&entry)
            && self.vectors.len() < VECTORS_MAX
        {
            self.vectors.insert(place, entry);
        }
    }

    pub(super) fn is_sound(&self) -> bool {
        let is_vector = |(length, vector): &(u32, CountVector)| {
            *length == entries(vector) && vector.windows(2).all(|pair| pair[0].0 < pair[1].0)
        };
        self.vectors.len() <= VECTORS_MAX
            && self.lengths.0 <= self.lengths.1
            && self.distance_max.is_finite()
            && self.vectors.iter().all(is_vector)
            && self.vectors.is_sorted()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.vectors.iter().map(|(_, vector)| vector.capacity() * 8 + 32).sum()
    }
}

/// Entries of a session.
pub(super) fn entries(vector: &[(u32, u32)]) -> u32 {
    vector.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

/// Entries that one has and the other lacks.
fn apart(a: &[(u32, u32)], b: &[(u32, u32)]) -> u32 {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut sum = 0_u32;
    loop {
        let difference = match (a.peek(), b.peek()) {
            (None, None) => return sum,
            (Some((_, count)), None) => {
                a.next();
                *count
            }
            (None, Some((_, count))) => {
                b.next();
                *count
            }
            (Some((left, n)), Some((right, m))) => {
                let ordering = left.cmp(right);
                if ordering.is_le() {
                    a.next();
                }
                if ordering.is_ge() {
                    b.next();
                }
                match ordering {
                    std::cmp::Ordering::Less => *n,
                    std::cmp::Ordering::Greater => *m,
                    std::cmp::Ordering::Equal => n.abs_diff(*m),
                }
            }
        };
        sum = sum.saturating_add(difference);
    }
}

/// Distances of sessions that came before, by their counts.
#[derive(Clone, Debug, Default)]
pub(super) struct DistanceCache(HashMap<CountVector, f64>);

impl DistanceCache {
    /// The distance to the nearest session of training, 1 if there is none.
    pub(super) fn distance(&mut self, invariants: &Invariants, vector: &CountVector) -> f64 {
        if let Some(distance) = self.0.get(vector) {
            return *distance;
        }
        let distance = invariants.nearest(vector, None).map_or(1.0, |(distance, _)| distance);
        if self.0.len() >= ANSWERS_MAX {
            self.0.clear();
        }
        self.0.insert(vector.clone(), distance);
        distance
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(session: &[u32]) -> CountVector {
        let mut vector = CountVector::new();
        session.iter().for_each(|symbol| count(&mut vector, *symbol));
        vector
    }

    #[test]
    fn distances_are_those_of_the_nearest_session() {
        let sessions: [&[u32]; 4] = [&[3, 4, 5], &[3, 4, 5, 5], &[3, 3, 3, 3, 3, 3], &[7]];
        let invariants = Invariants::of(sessions.map(|session| (session, 2.0)));
        assert_eq!(invariants.lengths, (1, 6));
        assert_eq!(invariants.distance_max, 0.0, "nothing occurred once");
        let by_search = |session: &[u32]| invariants.nearest(&vector(session), None).unwrap().0;
        for session in [&[3_u32, 4][..], &[9], &[3, 4, 5, 5, 5], &[7, 7], &[3; 40]] {
            let all = sessions.iter().map(|other| {
                let longest = session.len().max(other.len());
                f64::from(apart(&vector(session), &vector(other))) / longest as f64
            });
            assert_eq!(by_search(session), all.fold(f64::INFINITY, f64::min), "{session:?}");
        }
        assert_eq!(by_search(&[5, 4, 3]), 0.0, "order does not count");
    }

    #[test]
    fn the_farthest_session_of_training_is_normal() {
        let sessions: [(&[u32], f64); 3] =
            [(&[3, 4, 5, 5], 9.0), (&[3, 4, 5], 1.0), (&[3, 4], 1.0)];
        let invariants = Invariants::of(sessions);
        // Without itself, [3, 4] is one entry of three away from [3, 4, 5].
        assert_eq!(invariants.distance_max, 1.0 / 3.0);
        assert!(invariants.is_sound());
    }
}
