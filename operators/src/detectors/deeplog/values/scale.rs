//! How the numbers of a vector become what the network reads: deviations from their mean, or from that of their
//! logarithms.

use serde::{Deserialize, Serialize};

/// Numbers lie at most so many deviations from their mean, so that errors stay finite.
const DEVIATIONS_MAX: f64 = 1e4;
/// A number that varies less than this share of its mean does not vary.
const VARIES: f64 = 1e-9;
/// How much less skewed logarithms have to be than the numbers.
const STRAIGHTER: f64 = 0.5;
/// Units of a logarithm to choose from, as shares of the median.
const UNITS: [f64; 2] = [1.0, 0.1];

/// What is known of each number of a vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Scale {
    numbers: Vec<Number>,
    /// Places of those that vary.
    pub(super) varying: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Number {
    mean: f64,
    /// 0 if it does not vary.
    deviation: f64,
    /// Where logarithms are read, what they are counted in; else 0.
    unit: f64,
}

/// The logarithm of a number, which goes through 0 and keeps the sign.
fn logarithm(x: f64, unit: f64) -> f64 {
    (x.abs() / unit).ln_1p().copysign(x)
}

fn mean_and_deviation(all: &[f64]) -> (f64, f64) {
    let count = all.len().max(1) as f64;
    let mean = all.iter().sum::<f64>() / count;
    (mean, (all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt())
}

fn skewness(all: &[f64]) -> f64 {
    let (mean, deviation) = mean_and_deviation(all);
    all.iter().map(|x| ((x - mean) / deviation).powi(3)).sum::<f64>() / all.len().max(1) as f64
}

impl Number {
    fn of(known: &[f64]) -> Self {
        let (mean, deviation) = mean_and_deviation(known);
        let is_sound = mean.is_finite() && deviation.is_finite();
        if !is_sound || deviation <= VARIES * mean.abs().max(VARIES) {
            return Self {
                mean: if mean.is_finite() { mean } else { 0.0 },
                deviation: 0.0,
                unit: 0.0,
            };
        }
        // Times and sizes spread by factors: one great one would hide what is odd among the small.
        let mut sorted = known.to_vec();
        sorted.sort_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        let mut best = (skewness(known).abs() - STRAIGHTER, Self { mean, deviation, unit: 0.0 });
        if sorted[0] >= 0.0 && median > 0.0 {
            for unit in UNITS.map(|share| share * median) {
                let logarithms: Vec<f64> = known.iter().map(|x| logarithm(*x, unit)).collect();
                let skewed = skewness(&logarithms).abs();
                let (mean, deviation) = mean_and_deviation(&logarithms);
                if skewed < best.0 && deviation > VARIES {
                    best = (skewed, Self { mean, deviation, unit });
                }
            }
        }
        best.1
    }

    fn scaled(&self, x: f64) -> f64 {
        let x = if self.unit > 0.0 { logarithm(x, self.unit) } else { x };
        (x - self.mean) / self.deviation
    }

    /// The number that is so many deviations from the mean.
    fn unscaled(&self, z: f64) -> f64 {
        let x = self.mean + z * self.deviation;
        if self.unit > 0.0 { (self.unit * x.abs().exp_m1()).copysign(x) } else { x }
    }
}

impl Scale {
    pub(super) fn of(vectors: &[Vec<f64>]) -> Self {
        let width = vectors.iter().map(Vec::len).max().unwrap_or(0);
        let numbers: Vec<Number> = (0..width)
            .map(|place| {
                let known = vectors.iter().filter_map(|v| v.get(place).copied());
                Number::of(&known.filter(|x| x.is_finite()).collect::<Vec<_>>())
            })
            .collect();
        let varying = (0..width).filter(|place| numbers[*place].deviation > 0.0).collect();
        Self { numbers, varying }
    }

    /// Appends the numbers that vary, in deviations.
    pub(super) fn scaled(&self, vector: &[f64], out: &mut Vec<f32>) {
        for place in &self.varying {
            let z = self.numbers[*place].scaled(vector.get(*place).copied().unwrap_or(f64::NAN));
            out.push(if z.is_finite() {
                z.clamp(-DEVIATIONS_MAX, DEVIATIONS_MAX) as f32
            } else {
                0.0
            });
        }
    }

    /// A whole vector in its own units; the mean for numbers that do not vary.
    pub(super) fn unscaled(&self, scaled: &[f32]) -> Vec<f64> {
        let mut vector: Vec<f64> = self.numbers.iter().map(|number| number.mean).collect();
        for (place, z) in self.varying.iter().zip(scaled) {
            vector[*place] = self.numbers[*place].unscaled(f64::from(*z));
        }
        vector
    }

    pub(super) fn is_sound(&self) -> bool {
        let is_varying =
            |place: &usize| self.numbers.get(*place).is_some_and(|number| number.deviation > 0.0);
        let is_known = |n: &Number| {
            n.mean.is_finite() && n.deviation.is_finite() && n.unit.is_finite() && n.unit >= 0.0
        };
        self.varying.iter().all(is_varying) && self.numbers.iter().all(is_known)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.numbers.capacity() * size_of::<Number>() + self.varying.capacity() * size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_spreads_by_factors_is_read_by_its_logarithm() {
        // Five decades, evenly; a number around 100; and one that stays.
        let spread = |i: u32| 10_f64.powf(f64::from(i % 50) / 10.0 - 2.0);
        let vectors: Vec<Vec<f64>> =
            (0..200).map(|i| vec![spread(i), 100.0 + f64::from(i % 7), 5.0]).collect();
        let scale = Scale::of(&vectors);
        assert_eq!(scale.varying, [0, 1]);
        assert!(scale.numbers[0].unit > 0.0 && scale.numbers[1].unit == 0.0, "{scale:?}");
        let (mut scaled, vector) = (Vec::new(), vec![1_000.0, 103.0, 5.0]);
        scale.scaled(&vector, &mut scaled);
        assert!(scaled.iter().all(|z| z.abs() < 3.0), "{scaled:?}");
        for (back, x) in scale.unscaled(&scaled).iter().zip(&vector) {
            assert!((back - x).abs() < 1e-3 * x, "{back} for {x}");
        }
        scaled.clear();
        scale.scaled(&[f64::INFINITY, f64::NAN], &mut scaled);
        assert_eq!(scaled, [0.0, 0.0], "what is missing is the mean");
        scaled.clear();
        scale.scaled(&[-1e300, 1e300], &mut scaled);
        assert!(scaled[0] < -3.0 && scaled[1] == 1e4, "{scaled:?}");
        assert!(scale.is_sound());
    }
}
