//! `tail_surprise`: values that go far beyond all that was seen, in themselves or for their context.
//!
//! # Meaning
//! For single series of any shape and unit: spiking, seasonal, drifting or constant. Looks at each feature in six
//! ways and takes the one that surprises most; `detail.view` names it. An anomaly is reported once: after a row above
//! the threshold the feature keeps silent for a while. What stays becomes normal, a lasting shift within some tens of rows.
//!
//! # Formula
//! Six views of a value, each watched upwards and downwards:
//! ```text
//!   value         the value
//!   step          value - median of the three before it
//!   level         mean of the latest 12
//!   short_spread  standard deviation of the latest 24: bursts above, freezing below
//!   spread        standard deviation of the latest 48
//!   time_of_day   (value - mean of its half hour of the day) / mean deviation in that half hour, from the third day on
//! ```
//! Each of the twelve has a tail: the largest `k` among `n` rows, 3 % of them, from 10 to 80. Kept are four times as many, so
//! that the tail grows with the rows, and 80 at most; `u` is the least of the tail and `m` the mean distance of the others
//! from `u`:
//! ```text
//!   surprise = ln(n / k) + k * ln(1 + (x - u) / (k * m))      for x above u
//!   surprise = ln(n / k) / (1 + (u - x) / m)                  else: a mere rank
//!   score    = the largest surprise of the twelve
//!   score    = threshold * score / (threshold + score)        while silent
//! ```
//! Above `u` this is the negative logarithm of the chance that a tail of exponential shape, of which only these `k`
//! examples are known, brings a value this large. The default threshold 9 is about one in 8,000 rows per side of a view.
//! Rows are learned after scoring, held within 50 `m` of `u`, so that no single value spoils a tail but each one
//! counts. Anomalous rows are held within 7 `m`: repeated spikes become normal only after dozens. History is forgotten in
//! generations: scores rest on the last `history` to twice as many rows.
//!
//! # Options
//! Those of all keyed kinds (threshold 9), and:
//! * `warm_up`: rows of a feature that are learned before its first score, 100 (20 to 10000).
//! * `silence`: for how long a feature keeps silent after a row above the threshold, as a share of the rows
//!   scored so far and at least 20 rows, 0.05 (0 to 0.5; 0 for never).
//! * `history`: rows after which a new generation begins, 4000 (500 to 1000000).
//!
//! Silence follows `threshold`, also where `rate` moves the threshold of the decision. With `learn_anomalies`,
//! anomalous rows are held within 50 `m` like others: fewer alarms from series that spike all the time.
//!
//! Costs 7 KB per key and feature at first, 11 KB after 400 rows, 19 KB from the second generation on, and half a microsecond
//! to one per row and feature.
//!
//! # NaN and NULL
//! Missing values (NULL, NaN, infinite) are neither scored nor learned; values beyond 1e150 count as 1e150.
//!
//! # Source
//! Peaks over a threshold with an exponential tail: Pickands, "Statistical inference using extreme order statistics",
//! 1975, streamed as in Siffer et al., "Anomaly detection in streams with extreme value theory", 2017; other than there
//! the tail's scale is integrated out, which is what makes small samples cautious. Views, calibration and silence are
//! ours, chosen on generated series and recorded server metrics. 37 designs and settings were also scored on the Numenta
//! Anomaly Benchmark on the way, and looking at where they failed there gave ideas: read its figure with that in mind.

mod feature;
mod tails;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

use self::feature::{Feature, Seen, VIEWS};
use super::builder::{DetectorBuilder, DetectorSpec, detector_builder};
use super::univariate::warm_up_option;
use crate::detector::{DetectorKind, DetectorPlan, DetectorRequest};
use crate::error::Result;
use crate::model::{
    Extra, FeatureJudgement, Judgement, KeyedPlan, Model, ModelFactory, Phase, Row, snapshot,
};
use crate::options::{OptionKind, OptionReader, OptionSpec};

const NAME: &str = "tail_surprise";
const VIEW_NAMES: [&str; VIEWS] =
    ["value", "step", "level", "short_spread", "spread", "time_of_day"];
/// Rows are learned within so many mean excesses of where the tail begins; anomalous ones within the second number.
const LEARN_CLIP: f64 = 50.0;
const PASS_CLIP: f64 = 7.0;
const SILENCE_ROWS_LEAST: u64 = 20;

/// The kind behind `USING tail_surprise`.
#[derive(Clone, Copy, Debug)]
pub struct TailSurpriseKind;

impl DetectorKind for TailSurpriseKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "values far beyond all history in themselves, their step, level, spread or time of day"
    }

    fn options(&self) -> Vec<OptionSpec> {
        let mut options = KeyedPlan::options(9.0);
        options.extend([
            OptionSpec { kind: OptionKind::Integer(20, 10_000), ..warm_up_option(100) },
            OptionSpec::new(
                "silence",
                OptionKind::number(0.0..=0.5),
                0.05,
                "How long a feature keeps silent after a row above the threshold, as a share of the rows scored so far.",
            ),
            OptionSpec::new(
                "history",
                OptionKind::Integer(500, 1_000_000),
                4_000,
                "Rows after which a new generation of history begins; the one before is kept as well.",
            ),
        ]);
        options
    }

    fn plan(&self, request: &DetectorRequest<'_>) -> Result<Arc<dyn DetectorPlan>> {
        let owner = format!("detector kind \"{NAME}\"");
        let reader = OptionReader::new(owner, request.options, &self.options())?;
        let plan = KeyedPlan::new(NAME, request, &reader, |features| {
            Arc::new(Factory(Arc::new(Settings {
                threshold: reader.number("threshold"),
                warm_up: reader.count("warm_up") as u64,
                silence: reader.number("silence"),
                history: u32::try_from(reader.count("history")).unwrap_or(u32::MAX),
                features: features.len(),
            })))
        })?;
        Ok(Arc::new(plan))
    }
}

/// Builds a `tail_surprise` detector.
///
/// # Examples
/// ```
/// use driftline_operators::detectors::{DetectorBuilder, TailSurprise};
///
/// let spec = TailSurprise::new().warm_up(500).history(10_000).partition_by(["host"]).build();
/// assert_eq!(spec.to_string(), "USING tail_surprise PARTITION BY host WITH (history = 10000, warm_up = 500)");
/// ```
#[derive(Clone, Debug)]
pub struct TailSurprise(DetectorSpec);

impl TailSurprise {
    /// With defaults for everything.
    #[must_use]
    pub fn new() -> Self {
        Self(DetectorSpec::new(NAME))
    }

    /// Rows of a feature that are learned before its first score.
    #[must_use]
    pub fn warm_up(self, rows: i64) -> Self {
        self.option("warm_up", rows)
    }

    /// How long a feature keeps silent after a row above the threshold, as a share of the rows scored so far.
    #[must_use]
    pub fn silence(self, share: f64) -> Self {
        self.option("silence", share)
    }

    /// Rows after which a new generation of history begins.
    #[must_use]
    pub fn history(self, rows: i64) -> Self {
        self.option("history", rows)
    }
}

detector_builder!(TailSurprise);

#[derive(Debug)]
struct Settings {
    threshold: f64,
    warm_up: u64,
    silence: f64,
    history: u32,
    features: usize,
}

#[derive(Debug)]
struct Factory(Arc<Settings>);

impl ModelFactory for Factory {
    fn model(&self) -> Box<dyn Model> {
        let features = (0..self.0.features).map(|_| Feature::new()).collect();
        let state = State { features, samples: 0 };
        Box::new(Surprise { settings: self.0.clone(), state })
    }

    fn restore(&self, bytes: &[u8]) -> Result<Box<dyn Model>> {
        let state: State = snapshot::read(NAME, bytes)?;
        if state.features.len() != self.0.features {
            return Err(snapshot::problem(NAME, "was taken under other options"));
        }
        Ok(Box::new(Surprise { settings: self.0.clone(), state }))
    }

    fn extra_fields(&self) -> Vec<(&'static str, DataType)> {
        vec![("view", DataType::Utf8)]
    }
}

#[derive(Debug)]
struct Surprise {
    settings: Arc<Settings>,
    state: State,
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    features: Vec<Feature>,
    samples: u64,
}

impl Model for Surprise {
    fn score(&self, row: &Row<'_>, judgement: &mut Judgement) {
        judgement.separable = true;
        let settings = &*self.settings;
        for (i, value) in row.present() {
            let feature = &self.state.features[i];
            if feature.rows < settings.warm_up {
                continue;
            }
            let Seen { surprise, view, .. } = feature.see(row.time, value);
            let contribution = match feature.silent_rows {
                0 => surprise,
                _ => settings.threshold * surprise / (settings.threshold + surprise),
            };
            let (lower, upper) = feature.limits(judgement.threshold, value);
            judgement.features[i] =
                FeatureJudgement { expected: feature.expected(), lower, upper, contribution };
            if !(judgement.score >= contribution) {
                judgement.score = contribution;
                judgement.extras[0] = Extra::Text(VIEW_NAMES[view].into());
            }
        }
    }

    fn learn(&mut self, row: &Row<'_>) {
        self.state.learn(&self.settings, row, LEARN_CLIP);
    }

    fn pass(&mut self, row: &Row<'_>) {
        // What is anomalous is learned as well, held tighter: else spikes that keep coming were news for ever.
        self.state.learn(&self.settings, row, PASS_CLIP);
    }

    fn phase(&self) -> Phase {
        match self.state.features.iter().any(|feature| feature.rows >= self.settings.warm_up) {
            true => Phase::Detecting,
            false => Phase::WarmingUp,
        }
    }

    fn samples(&self) -> u64 {
        self.state.samples
    }

    fn warm(&self) -> f64 {
        self.state.features.iter().map(Feature::warm).sum()
    }

    fn bytes(&self) -> usize {
        let heap: usize = self.state.features.iter().map(Feature::heap_bytes).sum();
        size_of::<Self>() + self.state.features.capacity() * size_of::<Feature>() + heap
    }

    fn snapshot(&self, out: &mut Vec<u8>) -> Result<()> {
        snapshot::append(NAME, out, &self.state)
    }
}

impl State {
    fn learn(&mut self, settings: &Settings, row: &Row<'_>, clip: f64) {
        self.samples = self.samples.saturating_add(u64::from(row.present().next().is_some()));
        for (i, value) in row.present() {
            self.features[i].learn(settings, row.time, value, clip);
        }
    }
}

impl Settings {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // At most half of a count.
    fn silence_rows(&self, rows: u64) -> u64 {
        if self.silence > 0.0 {
            let share = self.silence * rows.saturating_sub(self.warm_up) as f64;
            (share as u64).max(SILENCE_ROWS_LEAST)
        } else {
            0
        }
    }
}
