//! `ewma`: values far from an exponentially weighted mean.
//!
//! # Meaning
//! The cheapest detector: two numbers per key and feature. Recent rows count most. It follows drift at a speed set by
//! `alpha` and knows no season.
//!
//! # Formula
//! ```text
//!   expected  = mean
//!   scale     = sqrt(variance)
//!   score     = |value - mean| / max(scale, scale_floor, scale_floor_relative * |mean|)
//!   then, with d = value - mean held within 6 scales:
//!   mean     += alpha * d
//!   variance  = (1 - alpha) * (variance + alpha * d * d)
//! ```
//! Mean and variance begin as median and squared robust deviation of the first `warm_up` values, so that an outlier
//! among them does no harm.
//!
//! # Options
//! Those of all keyed kinds (threshold 6), and:
//! * `alpha`: weight of the newest value, 0.05 (above 0, to 0.5); its half-life is about 0.69 / alpha rows.
//! * `warm_up`: rows before the first score, 32 (4 to 10000).
//! * `scale_floor`, `scale_floor_relative`: the least scale, 0.000001 and 0.0001.
//!
//! # NaN and NULL
//! Missing values (NULL, NaN, infinite) are neither scored nor learned; values beyond 1e150 count as 1e150.
//!
//! # Source
//! Roberts, "Control chart tests based on geometric moving averages", 1959; Finch, "Incremental calculation of
//! weighted mean and variance", 2009.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::builder::{DetectorBuilder, DetectorSpec, detector_builder};
use super::history::location_scale;
use super::univariate::{self, CLIP_SCALES, Forecast, ScaleFloor, Univariate, warm_up_option};
use crate::detector::{DetectorKind, DetectorPlan, DetectorRequest};
use crate::error::Result;
use crate::model::KeyedPlan;
use crate::options::{OptionKind, OptionReader, OptionSpec};
use crate::time::EventTime;

const NAME: &str = "ewma";

/// The kind behind `USING ewma`.
#[derive(Clone, Copy, Debug)]
pub struct EwmaKind;

impl DetectorKind for EwmaKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "values far from an exponentially weighted mean, in units of the weighted deviation"
    }

    fn options(&self) -> Vec<OptionSpec> {
        let mut options = KeyedPlan::options(6.0);
        options.push(OptionSpec::new(
            "alpha",
            OptionKind::number_above(0.0, 0.5),
            0.05,
            "Weight of the newest value in mean and variance.",
        ));
        options.push(warm_up_option(32));
        options.extend(ScaleFloor::options());
        options
    }

    fn plan(&self, request: &DetectorRequest<'_>) -> Result<Arc<dyn DetectorPlan>> {
        let owner = format!("detector kind \"{NAME}\"");
        let reader = OptionReader::new(owner, request.options, &self.options())?;
        let settings = Settings {
            alpha: reader.number("alpha"),
            warm_up: reader.count("warm_up"),
            floor: ScaleFloor::read(&reader),
        };
        univariate::plan::<WeightedMean>(request, &reader, settings)
    }
}

/// Builds an `ewma` detector.
///
/// # Examples
/// ```
/// use driftline_operators::detectors::{DetectorBuilder, Ewma};
///
/// let spec = Ewma::new().alpha(0.1).threshold(8.0).partition_by(["host"]).build();
/// assert_eq!(spec.to_string(), "USING ewma PARTITION BY host WITH (alpha = 0.1, threshold = 8.0)");
/// ```
#[derive(Clone, Debug)]
pub struct Ewma(DetectorSpec);

impl Ewma {
    /// With defaults for everything.
    #[must_use]
    pub fn new() -> Self {
        Self(DetectorSpec::new(NAME))
    }

    /// Weight of the newest value in mean and variance.
    #[must_use]
    pub fn alpha(self, alpha: f64) -> Self {
        self.option("alpha", alpha)
    }

    /// Rows of a feature before its first score.
    #[must_use]
    pub fn warm_up(self, rows: i64) -> Self {
        self.option("warm_up", rows)
    }

    /// The least scale, in the feature's own unit.
    #[must_use]
    pub fn scale_floor(self, floor: f64) -> Self {
        self.option("scale_floor", floor)
    }
}

detector_builder!(Ewma);

#[derive(Debug)]
struct Settings {
    alpha: f64,
    warm_up: usize,
    floor: ScaleFloor,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum WeightedMean {
    WarmingUp { values: Vec<f64> },
    Ready { mean: f64, variance: f64 },
}

impl Univariate for WeightedMean {
    type Settings = Settings;
    const KIND: &'static str = NAME;

    fn new(_settings: &Settings) -> Self {
        Self::WarmingUp { values: Vec::new() }
    }

    fn is_ready(&self, _settings: &Settings) -> bool {
        matches!(self, Self::Ready { .. })
    }

    fn forecast(&self, settings: &Settings, _time: EventTime) -> Option<Forecast> {
        match self {
            Self::WarmingUp { .. } => None,
            Self::Ready { mean, variance } => Some(Forecast {
                expected: *mean,
                scale: settings.floor.apply(variance.sqrt(), *mean),
            }),
        }
    }

    fn learn(&mut self, settings: &Settings, _time: EventTime, value: f64) {
        match self {
            Self::WarmingUp { values } => {
                values.push(value);
                if values.len() >= settings.warm_up {
                    values.sort_unstable_by(f64::total_cmp);
                    let (mean, scale) = location_scale(values);
                    *self = Self::Ready { mean, variance: scale * scale };
                }
            }
            Self::Ready { mean, variance } => {
                let clip = CLIP_SCALES * settings.floor.apply(variance.sqrt(), *mean);
                let change = (value - *mean).clamp(-clip, clip);
                *mean += settings.alpha * change;
                *variance = (1.0 - settings.alpha) * (*variance + settings.alpha * change * change);
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::WarmingUp { values } => values.capacity() * size_of::<f64>(),
            Self::Ready { .. } => 0,
        }
    }

    fn is_sound(&self, settings: &Settings) -> bool {
        match self {
            Self::WarmingUp { values } => values.len() < settings.warm_up,
            Self::Ready { mean, variance } => mean.is_finite() && *variance >= 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_variance_follow_the_formula() {
        let settings = Settings { alpha: 0.5, warm_up: 4, floor: ScaleFloor::DEFAULT };
        let mut model = WeightedMean::new(&settings);
        for value in [1.0, 2.0, 3.0, 1e9] {
            assert!(!model.is_ready(&settings));
            model.learn(&settings, EventTime(0), value);
        }
        // The median of the first four; the outlier among them has no weight.
        let first = model.forecast(&settings, EventTime(0)).unwrap();
        assert!((first.expected - 2.5).abs() < 1e-12 && first.scale < 10.0);
        model = WeightedMean::Ready { mean: 10.0, variance: 4.0 };
        model.learn(&settings, EventTime(0), 14.0);
        let Forecast { expected, scale } = model.forecast(&settings, EventTime(0)).unwrap();
        assert!((expected - 12.0).abs() < 1e-12 && (scale * scale - 6.0).abs() < 1e-12);
    }

    #[test]
    fn one_value_moves_the_mean_no_further_than_its_clip() {
        let settings = Settings { alpha: 0.5, warm_up: 4, floor: ScaleFloor::DEFAULT };
        let mut model = WeightedMean::Ready { mean: 10.0, variance: 1.0 };
        model.learn(&settings, EventTime(0), 1e150);
        let expected = model.forecast(&settings, EventTime(0)).unwrap().expected;
        assert!((expected - 13.0).abs() < 1e-12);
    }
}
