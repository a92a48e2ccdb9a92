//! `robust_zscore`: values far from the median of the latest rows.
//!
//! # Meaning
//! The first detector to try: no assumption but that most of the latest rows are normal. Half of the history may be
//! anomalous before the median moves. It follows slow drift within `history` rows and knows no season.
//!
//! # Formula
//! ```text
//!   expected = median of the last `history` values
//!   scale    = 1.4826 * median of |value - expected|          (0 if over half are equal: then
//!              (95th - 5th percentile) / 3.29)
//!   score    = |value - expected| / max(scale, scale_floor, scale_floor_relative * |expected|)
//! ```
//!
//! # Options
//! Those of all keyed kinds (threshold 6), and:
//! * `history`: rows kept per feature, 256 (8 to 8192). Memory is 16 bytes times this, per key and feature.
//! * `warm_up`: rows before the first score, 32 (4 to 10000, at most `history`).
//! * `scale_floor`, `scale_floor_relative`: the least scale, 0.000001 and 0.0001. A constant series makes any change a
//!   large number of scales; raise the floor, or set `min_deviation`, where small changes do not matter.
//!
//! # NaN and NULL
//! Missing values (NULL, NaN, infinite) are neither scored nor learned; values beyond 1e150 count as 1e150.
//!
//! # Source
//! Iglewicz and Hoaglin, "How to detect and handle outliers", 1993; Leys et al., "Detecting outliers: do not use
//! standard deviation around the mean, use absolute deviation around the median", 2013.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::builder::{DetectorBuilder, DetectorSpec, detector_builder};
use super::history::History;
use super::univariate::{self, Forecast, ScaleFloor, Univariate, warm_up_option};
use crate::detector::{DetectorKind, DetectorPlan, DetectorRequest};
use crate::error::Result;
use crate::model::KeyedPlan;
use crate::options::{OptionKind, OptionReader, OptionSpec};
use crate::time::EventTime;

const NAME: &str = "robust_zscore";

/// The kind behind `USING robust_zscore`.
#[derive(Clone, Copy, Debug)]
pub struct RobustZScoreKind;

impl DetectorKind for RobustZScoreKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "values far from the median of the latest rows, in units of their median absolute deviation"
    }

    fn options(&self) -> Vec<OptionSpec> {
        let mut options = KeyedPlan::options(6.0);
        options.push(OptionSpec::new(
            "history",
            OptionKind::Integer(8, 8192),
            256,
            "Rows kept per key and feature.",
        ));
        options.push(warm_up_option(32));
        options.extend(ScaleFloor::options());
        options
    }

    fn plan(&self, request: &DetectorRequest<'_>) -> Result<Arc<dyn DetectorPlan>> {
        let owner = format!("detector kind \"{NAME}\"");
        let reader = OptionReader::new(owner, request.options, &self.options())?;
        let settings = Settings {
            history: reader.count("history"),
            warm_up: reader.count("warm_up"),
            floor: ScaleFloor::read(&reader),
        };
        if settings.warm_up > settings.history {
            let problem = format!("is {}, above history {}", settings.warm_up, settings.history);
            return Err(reader.refuse("warm_up", problem, "warm up within the history".into()));
        }
        univariate::plan::<SlidingMedian>(request, &reader, settings)
    }
}

/// Builds a `robust_zscore` detector.
#[derive(Clone, Debug)]
pub struct RobustZScore(DetectorSpec);

impl RobustZScore {
    /// With defaults for everything.
    #[must_use]
    pub fn new() -> Self {
        Self(DetectorSpec::new(NAME))
    }

    /// Rows kept per key and feature.
    #[must_use]
    pub fn history(self, rows: i64) -> Self {
        self.option("history", rows)
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

detector_builder!(RobustZScore);

#[derive(Debug)]
struct Settings {
    history: usize,
    warm_up: usize,
    floor: ScaleFloor,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SlidingMedian {
    history: History,
}

impl Univariate for SlidingMedian {
    type Settings = Settings;
    const KIND: &'static str = NAME;

    fn new(_settings: &Settings) -> Self {
        Self { history: History::default() }
    }

    fn is_ready(&self, settings: &Settings) -> bool {
        self.history.len() >= settings.warm_up
    }

    fn forecast(&self, settings: &Settings, _time: EventTime) -> Option<Forecast> {
        let (expected, scale) = self.history.location_scale();
        Some(Forecast { expected, scale: settings.floor.apply(scale, expected) })
    }

    fn learn(&mut self, settings: &Settings, _time: EventTime, value: f64) {
        self.history.push(value, settings.history);
    }

    fn warm(&self) -> f64 {
        self.history.warm()
    }

    fn heap_bytes(&self) -> usize {
        self.history.bytes()
    }

    fn is_sound(&self, settings: &Settings) -> bool {
        self.history.len() <= settings.history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_half_of_the_history_may_be_anomalous() {
        let settings = Settings { history: 99, warm_up: 10, floor: ScaleFloor::DEFAULT };
        let mut model = SlidingMedian::new(&settings);
        for i in 0..99_i32 {
            let value = if i % 9 < 4 { 1e6 } else { f64::from(i % 5) };
            model.learn(&settings, EventTime(0), value);
        }
        let Forecast { expected, scale } = model.forecast(&settings, EventTime(0)).unwrap();
        assert!(expected <= 4.0 && scale < 10.0, "{expected} {scale}");
    }
}
