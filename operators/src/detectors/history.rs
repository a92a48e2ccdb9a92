//! A sliding history of numbers, and robust statistics over sorted ones.
//!
//! The history keeps its values twice: in the order of arrival, and sorted. A new value costs two binary searches
//! and moves at most `8 * history` bytes, which for a few hundred values beats heaps and trees; quantiles are then
//! array reads, and the median absolute deviation is one more binary search.

use std::cell::Cell;

use serde::{Deserialize, Serialize};

/// Values in a cache line.
const VALUES_PER_LINE: usize = 8;
/// So many steps of a search go by one from where it began; those after them halve what is left.
const NEAR_STEPS: usize = 3;

/// The factor that makes a median absolute deviation estimate the standard deviation of normal data.
const MAD_TO_DEVIATION: f64 = 1.4826;
/// The distance of the 5th and the 95th percentile of normal data, in standard deviations.
const CENTRAL_90_TO_DEVIATION: f64 = 3.2897;

/// The latest values, up to a number given with each call.
///
/// Its snapshot is the values from oldest to newest; the rest is rebuilt.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<f64>", into = "Vec<f64>")]
pub(crate) struct History {
    ring: Vec<f64>,
    /// The oldest value, once the ring is full.
    oldest: usize,
    sorted: Vec<f64>,
    /// How many of the smaller half of the distances from the median lay below it when that was last asked: as good as
    /// always, that has changed by one at most.
    below: Cell<usize>,
}

impl From<Vec<f64>> for History {
    fn from(ring: Vec<f64>) -> Self {
        let mut sorted = ring.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        Self { ring, oldest: 0, sorted, below: Cell::new(0) }
    }
}

impl From<History> for Vec<f64> {
    fn from(mut history: History) -> Self {
        history.ring.rotate_left(history.oldest);
        history.ring
    }
}

impl History {
    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }

    /// Values in ascending order.
    #[cfg(test)]
    pub(crate) fn sorted(&self) -> &[f64] {
        &self.sorted
    }

    /// [`location_scale`] of the values.
    pub(crate) fn location_scale(&self) -> (f64, f64) {
        location_scale_near(&self.sorted, &self.below)
    }

    /// Reads what a row will need, one value of each cache line, so that these come at the same time; the sum says nothing.
    pub(crate) fn warm(&self) -> f64 {
        let oldest = self.ring.get(self.oldest).copied().unwrap_or_default();
        self.sorted.iter().step_by(VALUES_PER_LINE).fold(oldest, |sum, value| sum + value)
    }

    pub(crate) fn bytes(&self) -> usize {
        (self.ring.capacity() + self.sorted.capacity()) * size_of::<f64>()
    }

    /// Adds a value; the oldest goes when there are `rows_max` already.
    pub(crate) fn push(&mut self, value: f64, rows_max: usize) {
        let value = value + 0.0; // One zero, so that equal values have equal bits.
        if self.ring.len() < rows_max {
            self.ring.push(value);
            let at = self.position(value);
            self.sorted.insert(at, value);
            return;
        }
        let gone = std::mem::replace(&mut self.ring[self.oldest], value);
        self.oldest = (self.oldest + 1) % self.ring.len();
        let (from, to) = (self.position(gone), self.position(value));
        if to > from {
            self.sorted.copy_within(from + 1..to, from);
            self.sorted[to - 1] = value;
        } else {
            self.sorted.copy_within(to..from, to + 1);
            self.sorted[to] = value;
        }
    }

    /// Where a value stands, or would stand, among the sorted ones.
    fn position(&self, value: f64) -> usize {
        self.sorted.partition_point(|x| *x < value)
    }
}

/// The median of sorted values; 0 of none.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => 0.0,
        n => f64::midpoint(sorted[(n - 1) / 2], sorted[n / 2]),
    }
}

/// The value at a share of the way through sorted values, without interpolation; 0 of none.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A share of a length is an index.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    match sorted.len() {
        0 => 0.0,
        n => sorted[((n - 1) as f64 * share).round() as usize],
    }
}

/// Median and robust deviation of sorted values.
///
/// The deviation is the scaled median absolute deviation. Where that is 0, because more than half of the values are
/// equal, the scaled distance of the 5th and 95th percentile stands in, so that a series of mostly zeros does not find
/// each of its ordinary bursts infinitely far away.
pub(crate) fn location_scale(sorted: &[f64]) -> (f64, f64) {
    location_scale_near(sorted, &Cell::new(sorted.len() / 4))
}

fn location_scale_near(sorted: &[f64], near: &Cell<usize>) -> (f64, f64) {
    let location = median(sorted);
    let deviation = median_absolute_deviation(sorted, location, near) * MAD_TO_DEVIATION;
    if deviation > 0.0 {
        return (location, deviation);
    }
    let central = quantile(sorted, 0.95) - quantile(sorted, 0.05);
    (location, central / CENTRAL_90_TO_DEVIATION)
}

/// The upper median of the distances from `location`, the median.
///
/// Distances below and above it are two ascending sequences; the median is found by how many of the smaller half come
/// from the first. The search begins `near` where it ended before.
fn median_absolute_deviation(sorted: &[f64], location: f64, near: &Cell<usize>) -> f64 {
    let n = sorted.len();
    if n == 0 {
        return 0.0;
    }
    // Below the median is the lower half, but for values that equal it.
    let half = if n.is_multiple_of(2) { n / 2 } else { (n - 1) / 2 };
    let split = match half.checked_sub(1).map(|last| sorted[last]) {
        Some(last) if last >= location => sorted.partition_point(|x| *x < location),
        _ => half,
    };
    let below = |i: usize| location - sorted[split - 1 - i];
    let above = |i: usize| sorted[split + i] - location;
    let (below_len, above_len) = (split, n - split);
    let wanted = n / 2 + 1;
    // The least number taken from below for which the next one below is not smaller than the last one above.
    let (mut least, mut most) = (wanted.saturating_sub(above_len), wanted.min(below_len));
    let (mut guess, mut steps) = (near.get(), 0);
    while least < most {
        let taken = guess.clamp(least, most - 1);
        let is_more = below(taken) < above(wanted - taken - 1);
        (least, most) = if is_more { (taken + 1, most) } else { (least, taken) };
        steps += 1;
        guess = match is_more {
            _ if steps > NEAR_STEPS => least.midpoint(most),
            true => taken + 1,
            false => taken.saturating_sub(1),
        };
    }
    near.set(least);
    let from_below = if least > 0 { below(least - 1) } else { 0.0 };
    let from_above = if wanted > least { above(wanted - least - 1) } else { 0.0 };
    from_below.max(from_above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn history_equals_a_sorted_tail(
            values in prop::collection::vec(-50_i32..50, 1..200),
            rows_max in 1_usize..40,
            near in 0_usize..50,
        ) {
            let values: Vec<f64> = values.into_iter().map(|x| f64::from(x) / 4.0).collect();
            let mut history = History::default();
            for (i, value) in values.iter().enumerate() {
                history.push(*value, rows_max);
                let mut tail = values[(i + 1).saturating_sub(rows_max)..=i].to_vec();
                prop_assert_eq!(&Vec::from(history.clone()), &tail);
                tail.sort_by(f64::total_cmp);
                prop_assert_eq!(history.sorted(), &tail[..]);

                let middle = median(&tail);
                let mut distances: Vec<f64> = tail.iter().map(|x| (x - middle).abs()).collect();
                distances.sort_by(f64::total_cmp);
                let slow = distances[distances.len() / 2];
                // Bit by bit as from the start, wherever the search begins.
                prop_assert_eq!(history.location_scale(), location_scale(&tail));
                prop_assert_eq!(median_absolute_deviation(&tail, middle, &Cell::new(near)), slow);
            }
        }
    }

    #[test]
    fn mostly_equal_values_still_have_a_scale() {
        let mut values = [0.0; 100];
        values[92..].fill(10.0);
        let (location, scale) = location_scale(&values);
        assert_eq!(location.to_bits(), 0.0_f64.to_bits());
        assert!(scale > 3.0);
        assert_eq!(location_scale(&[7.0; 9]).1.to_bits(), 0.0_f64.to_bits());
    }
}
