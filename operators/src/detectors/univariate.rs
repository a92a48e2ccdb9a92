//! Kinds that look at one number at a time: a row's score is the largest of its features' scores.
//!
//! Such a kind forecasts a feature's next value and how far values usually are from the forecast. The score of a value
//! is its distance from the forecast in units of that scale:
//!
//! ```text
//!   score = |actual - expected| / max(scale, scale_floor, scale_floor_relative * |expected|)
//! ```
//!
//! The floor is what keeps the smallest change of a constant series from being infinitely severe. Missing values
//! (NULL, NaN, infinite) leave their feature out of the row. Each feature warms up on its own rows.

use std::fmt::Debug;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::detector::{DetectorPlan, DetectorRequest};
use crate::error::Result;
use crate::model::{
    FeatureJudgement, Judgement, KeyedPlan, Model, ModelFactory, Phase, Row, snapshot,
};
use crate::options::{OptionKind, OptionReader, OptionSpec};
use crate::time::EventTime;

/// Changes beyond this many scales are learned as if they were this large, so that one value cannot ruin what was
/// learned. A lasting shift is learned all the same: each clipped value widens the scale.
pub(crate) const CLIP_SCALES: f64 = 6.0;

/// What a sub-model expects of the next value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forecast {
    pub(crate) expected: f64,
    pub(crate) scale: f64,
}

/// The least scale, absolute and as a share of the expected value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScaleFloor {
    absolute: f64,
    relative: f64,
}

impl ScaleFloor {
    /// For models whose options do not set a floor.
    pub(crate) const DEFAULT: Self = Self { absolute: 1e-6, relative: 1e-4 };

    pub(crate) fn options() -> [OptionSpec; 2] {
        [
            OptionSpec::new(
                "scale_floor",
                OptionKind::number(1e-12..=1e12),
                Self::DEFAULT.absolute,
                "The least scale in the feature's own unit: smaller changes than this never matter.",
            ),
            OptionSpec::new(
                "scale_floor_relative",
                OptionKind::number(0.0..=1.0),
                Self::DEFAULT.relative,
                "The least scale as a share of the expected value.",
            ),
        ]
    }

    pub(crate) fn read(reader: &OptionReader) -> Self {
        Self {
            absolute: reader.number("scale_floor"),
            relative: reader.number("scale_floor_relative"),
        }
    }

    /// The scale, or the floor where it is less.
    pub(crate) fn apply(&self, scale: f64, expected: f64) -> f64 {
        scale.max(self.absolute).max(self.relative * expected.abs())
    }
}

/// The option that says how long a feature warms up.
pub(crate) fn warm_up_option(default: i64) -> OptionSpec {
    OptionSpec::new(
        "warm_up",
        OptionKind::Integer(4, 10_000),
        default,
        "Rows of a feature that are learned before its first score.",
    )
}

/// A sub-model of one feature.
pub(crate) trait Univariate:
    Clone + Debug + Send + Serialize + DeserializeOwned + 'static
{
    /// Settings shared by all keys and features.
    type Settings: Debug + Send + Sync + 'static;
    /// The kind's name.
    const KIND: &'static str;

    fn new(settings: &Self::Settings) -> Self;

    /// Whether the warm-up is over; it never begins again.
    fn is_ready(&self, settings: &Self::Settings) -> bool;

    /// What is expected at `time`. Called only once ready; `None` where nothing is known of this time.
    fn forecast(&self, settings: &Self::Settings, time: EventTime) -> Option<Forecast>;

    fn learn(&mut self, settings: &Self::Settings, time: EventTime, value: f64);

    /// Lets a row go by from which nothing is learned.
    fn pass(&mut self, _settings: &Self::Settings, _time: EventTime) {}

    /// See [`Model::warm`].
    fn warm(&self) -> f64 {
        0.0
    }

    /// Bytes on the heap.
    fn heap_bytes(&self) -> usize;

    /// Whether a state that was read back has the shape that the code relies on.
    fn is_sound(&self, settings: &Self::Settings) -> bool;
}

/// Plans a detector with one sub-model per feature.
pub(crate) fn plan<U: Univariate>(
    request: &DetectorRequest<'_>,
    reader: &OptionReader,
    settings: U::Settings,
) -> Result<Arc<dyn DetectorPlan>> {
    let plan = KeyedPlan::new(U::KIND, request, reader, |features| {
        Arc::new(PerFeatureFactory::<U> { settings: Arc::new(settings), features: features.len() })
    })?;
    Ok(Arc::new(plan))
}

#[derive(Debug)]
struct PerFeatureFactory<U: Univariate> {
    settings: Arc<U::Settings>,
    features: usize,
}

impl<U: Univariate> ModelFactory for PerFeatureFactory<U> {
    fn model(&self) -> Box<dyn Model> {
        let features = (0..self.features).map(|_| U::new(&self.settings)).collect();
        let state = State { features, samples: 0 };
        Box::new(PerFeature::<U> { settings: self.settings.clone(), state })
    }

    fn restore(&self, bytes: &[u8]) -> Result<Box<dyn Model>> {
        let state: State<U> = snapshot::read(U::KIND, bytes)?;
        let sound = |feature: &U| feature.is_sound(&self.settings);
        if state.features.len() != self.features || !state.features.iter().all(sound) {
            return Err(snapshot::problem(U::KIND, "was taken under other options"));
        }
        Ok(Box::new(PerFeature { settings: self.settings.clone(), state }))
    }
}

#[derive(Debug)]
struct PerFeature<U: Univariate> {
    settings: Arc<U::Settings>,
    state: State<U>,
}

#[derive(Debug, Serialize, Deserialize)]
struct State<U> {
    features: Vec<U>,
    samples: u64,
}

impl<U: Univariate> Model for PerFeature<U> {
    fn score(&self, row: &Row<'_>, judgement: &mut Judgement) {
        judgement.separable = true;
        for (i, value) in row.present() {
            let feature = &self.state.features[i];
            if !feature.is_ready(&self.settings) {
                continue;
            }
            let Some(Forecast { expected, scale }) = feature.forecast(&self.settings, row.time)
            else {
                continue;
            };
            let margin = judgement.threshold * scale;
            let contribution = (value - expected).abs() / scale;
            judgement.features[i] = FeatureJudgement {
                expected,
                lower: expected - margin,
                upper: expected + margin,
                contribution,
            };
            // `max` ignores the NaN of a score not yet set.
            judgement.score = judgement.score.max(contribution);
        }
    }

    fn learn(&mut self, row: &Row<'_>) {
        self.state.samples += 1;
        for (feature, value) in self.state.features.iter_mut().zip(row.features) {
            if value.is_nan() {
                feature.pass(&self.settings, row.time);
            } else {
                feature.learn(&self.settings, row.time, *value);
            }
        }
    }

    fn pass(&mut self, row: &Row<'_>) {
        for feature in &mut self.state.features {
            feature.pass(&self.settings, row.time);
        }
    }

    fn warm(&self) -> f64 {
        self.state.samples as f64 + self.state.features.iter().map(U::warm).sum::<f64>()
    }

    fn phase(&self) -> Phase {
        let is_ready = |feature: &U| feature.is_ready(&self.settings);
        if self.state.features.iter().any(is_ready) { Phase::Detecting } else { Phase::WarmingUp }
    }

    fn samples(&self) -> u64 {
        self.state.samples
    }

    fn bytes(&self) -> usize {
        let heap: usize = self.state.features.iter().map(U::heap_bytes).sum();
        size_of::<Self>() + self.state.features.capacity() * size_of::<U>() + heap
    }

    fn snapshot(&self, out: &mut Vec<u8>) -> Result<()> {
        snapshot::append(U::KIND, out, &self.state)
    }
}
