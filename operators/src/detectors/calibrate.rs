//! How unusual a score is among the scores before it, in a fixed number of bytes.
//!
//! Scores of different detectors, keys and data are not comparable, and assuming a distribution for them gives wrong
//! false-alarm rates. So the calibrator counts past scores in buckets whose width grows with the score (eight to
//! every doubling), and reads probabilities and quantiles from the counts. Old scores fade: when the counts reach
//! their limit, all are halved.

use serde::{Deserialize, Serialize};

const BUCKETS: usize = 128;
/// Bits of a float below its exponent and the first three bits of its fraction.
const SHIFT: u32 = 49;
/// The first edge; scores below it are as good as zero.
pub(crate) const SCORE_LEAST: f64 = 1.0 / 256.0;
/// The first edge, 2^-8; the last is near 2^7.75.
const FIRST_EDGE: u64 = (1023 - 8) << 3;
/// Counts are halved when their sum reaches this, so that each fits 16 bits.
const COUNT_MAX: u32 = 1 << 15;

/// The empirical distribution of past scores.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Calibrator {
    counts: Box<[u16]>,
    total: u32,
}

impl Calibrator {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS].into(), total: 0 }
    }

    /// Whether a state that was read back has the shape that the code relies on.
    pub(crate) fn is_sound(&self) -> bool {
        self.counts.len() == BUCKETS
            && self.total < COUNT_MAX
            && self.counts.iter().map(|c| u32::from(*c)).sum::<u32>() == self.total
    }

    pub(crate) fn bytes(&self) -> usize {
        self.counts.len() * size_of::<u16>()
    }

    /// Counts a score, which is at least 0 and not NaN.
    pub(crate) fn learn(&mut self, score: f64) {
        self.counts[bucket(score)] += 1;
        self.total += 1;
        if self.total == COUNT_MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().map(|count| u32::from(*count)).sum();
        }
    }

    /// The share of past scores below this one; NaN while there are none. Never 1: certainty takes infinite data.
    pub(crate) fn probability(&self, score: f64) -> f64 {
        if self.total == 0 {
            return f64::NAN;
        }
        let at = bucket(score);
        let below: u32 = self.counts[..at].iter().map(|count| u32::from(*count)).sum();
        let (low, high) = (edge(at), edge(at + 1));
        let inside = ((score - low) / (high - low)).clamp(0.0, 1.0);
        (f64::from(below) + inside * f64::from(self.counts[at])) / f64::from(self.total + 1)
    }

    /// A score that a share of `rate` of the past scores exceeds, or `None` while there are too few to tell.
    ///
    /// Scores below the first edge are left out: many zeros must not pull the quantile down.
    pub(crate) fn upper_quantile(&self, rate: f64) -> Option<f64> {
        let counted = self.total - u32::from(self.counts[0]);
        let most = rate * f64::from(counted);
        if !(counted >= 100 && most >= 1.0) {
            return None;
        }
        let mut above = 0.0;
        for at in (1..BUCKETS).rev() {
            let count = f64::from(self.counts[at]);
            if above + count > most {
                let share = (most - above) / count;
                return Some(edge(at + 1) - share * (edge(at + 1) - edge(at)));
            }
            above += count;
        }
        None
    }
}

fn bucket(score: f64) -> usize {
    let position = (score.to_bits() >> SHIFT).saturating_sub(FIRST_EDGE - 1);
    usize::try_from(position).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The lower edge of a bucket.
fn edge(bucket: usize) -> f64 {
    match bucket {
        0 => 0.0,
        _ => f64::from_bits((FIRST_EDGE + bucket as u64 - 1) << SHIFT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_and_edges_agree() {
        for at in 1..BUCKETS {
            assert_eq!(bucket(edge(at)), at);
            assert_eq!(bucket(edge(at).next_down()), at - 1);
        }
        assert_eq!((bucket(0.0), bucket(1e300), bucket(f64::INFINITY)), (0, 127, 127));
        assert_eq!(edge(1).to_bits(), SCORE_LEAST.to_bits());
        assert!(edge(127) > 200.0);
    }

    #[test]
    fn probability_is_the_share_of_lower_scores() {
        let mut calibrator = Calibrator::new();
        assert!(calibrator.probability(1.0).is_nan());
        for i in 0..10_000 {
            calibrator.learn(f64::from(i) / 1_000.0);
        }
        for score in [0.5, 2.5, 5.0, 9.0] {
            assert!((calibrator.probability(score) - score / 10.0).abs() < 0.01, "{score}");
        }
        let top = calibrator.probability(1e9);
        assert!(top < 1.0 && top > 0.999);
    }

    #[test]
    fn quantiles_fade_with_the_past_and_ignore_zeros() {
        let mut calibrator = Calibrator::new();
        assert_eq!(calibrator.upper_quantile(0.1), None);
        for i in 0..100_000_u32 {
            calibrator.learn(0.0);
            calibrator.learn(f64::from(i % 1_000) / 100.0);
        }
        let quantile = calibrator.upper_quantile(0.1).unwrap();
        assert!((quantile - 9.0).abs() < 0.2, "{quantile}");
        for i in 0..200_000_u32 {
            calibrator.learn(f64::from(i % 1_000) / 1_000.0);
        }
        let quantile = calibrator.upper_quantile(0.1).unwrap();
        assert!((quantile - 0.9).abs() < 0.1, "{quantile}");
        assert!(calibrator.is_sound());
    }
}
