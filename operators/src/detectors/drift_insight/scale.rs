//! Z-scores of one metric: where its values lie in the batch that a model was built from, and how far they spread.

use serde::{Deserialize, Serialize};

/// A metric that spreads less than this is flat: all its z-scores are 0 (DI-02).
const FLAT: f64 = 1e-9;
/// The same as a share of its level. The history keeps 24 bits of a value, so that a smaller spread is mere rounding.
const FLAT_RELATIVE: f64 = 1e-6;
/// Z-scores are held within this, so that their squares stay finite.
const Z_MAX: f32 = 1e9;
/// Values are held within this for the same reason.
const VALUE_MAX: f64 = 1e30;

/// Mean and population deviation of a metric over a batch; both stay as they are until the model evolves (DI-02).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Scale {
    /// NaN for a metric that was never present.
    pub(super) mean: f64,
    pub(super) sd: f64,
}

impl Scale {
    pub(super) fn of(values: &[f32]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / n;
        let squares = values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>();
        Self { mean, sd: (squares / n).sqrt() }
    }

    /// What turns values into z-scores.
    pub(super) fn axis(&self) -> Axis {
        let is_spread = self.sd >= FLAT && self.sd >= FLAT_RELATIVE * self.mean.abs();
        let inverse = if is_spread { self.sd.recip() as f32 } else { 0.0 };
        Axis { centre: if is_spread { self.mean as f32 } else { 0.0 }, inverse }
    }
}

/// A scale in the arithmetic of distances.
///
/// Batches and new rows are turned with the same operations in the same order, so that a row that was in the batch is
/// at distance 0 of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    centre: f32,
    /// 0 for a flat metric.
    inverse: f32,
}

impl Axis {
    pub(super) fn is_flat(self) -> bool {
        self.inverse == 0.0
    }

    /// The z-score of a value of the batch.
    pub(super) fn z(self, value: f32) -> f32 {
        (value - self.centre) * self.inverse
    }

    /// The z-score of any value.
    pub(super) fn z_held(self, value: f32) -> f32 {
        self.z(value).clamp(-Z_MAX, Z_MAX)
    }
}

/// A value as the history keeps it.
pub(super) fn narrow(value: f64) -> f32 {
    value.clamp(-VALUE_MAX, VALUE_MAX) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn di_02_z_scores_have_mean_0_and_variance_1() {
        let values: Vec<f32> = (0..864_u16).map(|i| f32::from(i * 37 % 101) * 3.0 + 5e4).collect();
        let axis = Scale::of(&values).axis();
        let z: Vec<f64> = values.iter().map(|value| f64::from(axis.z(*value))).collect();
        let n = z.len() as f64;
        let mean = z.iter().sum::<f64>() / n;
        let variance = z.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 1e-3 && (variance - 1.0).abs() < 1e-3, "{mean}, {variance}");
    }

    #[test]
    fn di_02_flat_metrics_are_zero_for_old_and_new_values() {
        for level in [0.0_f32, 0.1, -273.15, 1e12, -1e30] {
            let axis = Scale::of(&[level; 100]).axis();
            assert!(axis.is_flat(), "level {level}");
            assert_eq!((axis.z(level), axis.z_held(level + 1.0)), (0.0, 0.0));
        }
        let unknown = Scale::of(&[f32::NAN; 9]).axis();
        assert!(unknown.is_flat());
    }

    #[test]
    fn extreme_values_stay_finite() {
        let axis = Scale::of(&[1e-8, 2e-8, 0.0]).axis();
        for value in [1e150, -1e150, f64::MAX] {
            assert!(axis.z_held(narrow(value)).powi(2).is_finite());
        }
    }
}
