//! `half_space_trees`: rows in regions of the feature space that held few rows before.
//!
//! # Meaning
//! Sees features together: a row may be anomalous although each of its values is usual. Needs no assumption about
//! distributions. It learns in windows, so it follows drift with a delay of up to two windows, and has no season.
//!
//! # Formula
//! Each tree halves the space at random features, down to `depth`. Over the last full window of `window` rows every
//! node knows its mass, the number of rows in it. A row descends until a node holds at most a tenth of the window:
//! ```text
//!   density  = (mass + 0.5) * 2^level / window      1 if rows were spread evenly over the work space
//!   bits     = mean over trees of log2(1 + 1 / density)
//!   isolated = outside / (outside + features)       outside: summed distance from the box of usual values, each in
//!                                                   widths of the box
//!   rarity   = isolated * log2(1 + window) + (1 - isolated) * bits
//!   score    = rarity / max(typical rarity, 0.25)   typical: mean of the window's own rarities from their 95th to
//!                                                   99th percentile, each without the row's own mass
//! ```
//! A score of 1 is as rare as the rarest twentieth of the last window. `isolated` is the chance that one random cut
//! separates the row from all others; the trees alone could not tell a far row from a very far one. The work space is scaled to the 1st and 99th
//! percentile of each feature in the window (the box), and both scale and masses are replaced when the next window is full;
//! `model_version` counts these. The contribution of a feature is how much its halvings took away from the mass,
//! beyond one half each, in bits, and its part in `outside`.
//!
//! # Options
//! Those of all keyed kinds (threshold 1.75), and:
//! * `window`: rows from which masses are counted, and the warm-up, 256 (32 to 8192).
//! * `trees`: number of trees, 25 (1 to 200).
//! * `depth`: levels of each tree, 7 (2 to 12). Memory per key is 2 bytes * trees * 2^(depth + 1), and 8 bytes for
//!   each feature of each row of the window.
//! * `seed`: seed of the random halvings, 1; the trees are the same for all keys.
//!
//! # NaN and NULL
//! Missing values (NULL, NaN, infinite) count as the feature's median in the last window and contribute nothing;
//! values beyond 1e150 count as 1e150.
//!
//! # Source
//! Tan, Ting and Liu, "Fast anomaly detection for streaming data", 2011. Other than there, masses are counted once per
//! window rather than kept twice, and the score is a mean of logarithms, relative to the window's own. The chance of
//! isolation is the first step of Guha et al., "Robust random cut forest based anomaly detection on streams", 2016.

mod forest;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::forest::{Forest, Shape};
use super::builder::{DetectorBuilder, DetectorSpec, detector_builder};
use super::history::{median, quantile};
use super::univariate::ScaleFloor;
use crate::detector::{DetectorKind, DetectorPlan, DetectorRequest};
use crate::error::Result;
use crate::model::{
    FeatureJudgement, Judgement, KeyedPlan, Model, ModelFactory, Phase, Row, snapshot,
};
use crate::options::{OptionKind, OptionReader, OptionSpec};

const NAME: &str = "half_space_trees";
/// The least rarity, in bits, against which others are measured.
const RARITY_FLOOR: f64 = 0.25;

/// The kind behind `USING half_space_trees`.
#[derive(Clone, Copy, Debug)]
pub struct HalfSpaceTreesKind;

impl DetectorKind for HalfSpaceTreesKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "rows in regions of the feature space that held few rows before"
    }

    fn options(&self) -> Vec<OptionSpec> {
        let integer = |name, least, most, default: i64, doc| {
            OptionSpec::new(name, OptionKind::Integer(least, most), default, doc)
        };
        let mut options = KeyedPlan::options(1.75);
        options.extend([
            integer("window", 32, 8192, 256, "Rows from which masses are counted."),
            integer("trees", 1, 200, 25, "Number of trees."),
            integer("depth", 2, 12, 7, "Levels of each tree."),
            integer("seed", 0, i64::MAX, 1, "Seed of the random halvings."),
        ]);
        options
    }

    fn plan(&self, request: &DetectorRequest<'_>) -> Result<Arc<dyn DetectorPlan>> {
        let owner = format!("detector kind \"{NAME}\"");
        let reader = OptionReader::new(owner, request.options, &self.options())?;
        let plan = KeyedPlan::new(NAME, request, &reader, |features| {
            let shape = Shape {
                trees: reader.count("trees"),
                depth: reader.count("depth"),
                window: reader.count("window"),
                seed: reader.integer("seed").unsigned_abs(),
            };
            let forest = Forest::grow(features.len(), shape);
            Arc::new(Factory(Arc::new(Settings {
                window: shape.window,
                features: features.len(),
                forest,
            })))
        })?;
        Ok(Arc::new(plan))
    }
}

/// Builds a `half_space_trees` detector.
///
/// # Examples
/// ```
/// use driftline_operators::detectors::{DetectorBuilder, HalfSpaceTrees};
///
/// let spec = HalfSpaceTrees::new().trees(50).depth(6).partition_by(["host"]).build();
/// assert_eq!(spec.to_string(), "USING half_space_trees PARTITION BY host WITH (depth = 6, trees = 50)");
/// ```
#[derive(Clone, Debug)]
pub struct HalfSpaceTrees(DetectorSpec);

impl HalfSpaceTrees {
    /// With defaults for everything.
    #[must_use]
    pub fn new() -> Self {
        Self(DetectorSpec::new(NAME))
    }

    /// Rows from which masses are counted.
    #[must_use]
    pub fn window(self, rows: i64) -> Self {
        self.option("window", rows)
    }

    /// Number of trees.
    #[must_use]
    pub fn trees(self, trees: i64) -> Self {
        self.option("trees", trees)
    }

    /// Levels of each tree.
    #[must_use]
    pub fn depth(self, levels: i64) -> Self {
        self.option("depth", levels)
    }

    /// Seed of the random halvings.
    #[must_use]
    pub fn seed(self, seed: i64) -> Self {
        self.option("seed", seed)
    }
}

detector_builder!(HalfSpaceTrees);

#[derive(Debug)]
struct Settings {
    window: usize,
    features: usize,
    forest: Forest,
}

#[derive(Debug)]
struct Factory(Arc<Settings>);

impl ModelFactory for Factory {
    fn model(&self) -> Box<dyn Model> {
        let state = State { pending: Vec::new(), profile: None, samples: 0, version: 0 };
        Box::new(Trees { settings: self.0.clone(), state })
    }

    fn restore(&self, bytes: &[u8]) -> Result<Box<dyn Model>> {
        let state: State = snapshot::read(NAME, bytes)?;
        if !state.is_sound(&self.0) {
            return Err(snapshot::problem(NAME, "was taken under other options"));
        }
        Ok(Box::new(Trees { settings: self.0.clone(), state }))
    }
}

#[derive(Debug)]
struct Trees {
    settings: Arc<Settings>,
    state: State,
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    /// Rows of the window that is filling, one after the other.
    pending: Vec<f64>,
    /// What the last full window taught.
    profile: Option<Profile>,
    samples: u64,
    version: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Profile {
    scales: Vec<Scale>,
    masses: Vec<u16>,
    typical_rarity: f64,
}

/// Where a feature's values lay in the last window.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Scale {
    low: f64,
    high: f64,
    median: f64,
    /// The value at 0 of the work space.
    origin: f64,
    /// Work space per unit of the value; the work space of a constant feature is wider than its values.
    per_unit: f64,
}

impl Scale {
    fn new(sorted: &[f64]) -> Self {
        let (low, high) = (quantile(sorted, 0.01), quantile(sorted, 0.99));
        let median = median(sorted);
        let width = ScaleFloor::DEFAULT.apply(high - low, median);
        let origin = f64::midpoint(low, high) - width / 2.0;
        Self { low, high, median, origin, per_unit: width.recip() }
    }

    /// The value in the work space, 0 at `low` and 1 at `high`; a missing one is the median.
    fn place(&self, value: f64) -> f64 {
        let value = if value.is_nan() { self.median } else { value };
        (value - self.origin) * self.per_unit
    }
}

impl Profile {
    fn learn(settings: &Settings, rows: &[f64]) -> Self {
        let mut column = Vec::with_capacity(settings.window);
        let scales: Vec<Scale> = (0..settings.features)
            .map(|feature| {
                column.clear();
                let values = rows[feature..].iter().step_by(settings.features);
                column.extend(values.filter(|value| !value.is_nan()));
                column.sort_unstable_by(f64::total_cmp);
                Scale::new(&column)
            })
            .collect();
        let mut profile =
            Self { masses: vec![0; settings.forest.nodes()], typical_rarity: RARITY_FLOOR, scales };
        for row in rows.chunks_exact(settings.features) {
            settings
                .forest
                .count(&mut profile.masses, |feature| profile.scales[feature].place(row[feature]));
        }
        column.clear();
        let rarities = rows.chunks_exact(settings.features);
        column.extend(rarities.map(|row| profile.rarity(settings, row, 1, |_, _| ())));
        column.sort_unstable_by(f64::total_cmp);
        profile.typical_rarity = typical_rarity(&column);
        profile
    }

    /// Rarity of a row in bits. `own` is how often the row itself is among the masses; `contribute` gets features
    /// and the bits that they added.
    fn rarity(
        &self,
        settings: &Settings,
        row: &[f64],
        own: u16,
        mut contribute: impl FnMut(usize, f64),
    ) -> f64 {
        let place = |feature: usize| self.scales[feature].place(row[feature]);
        let outside = |feature: usize| (place(feature) - 1.0).max(-place(feature)).max(0.0);
        let all_outside: f64 = (0..settings.features).map(outside).sum();
        let isolated = all_outside / (all_outside + settings.features as f64);
        let isolated_bits = isolated * (1.0 + settings.window as f64).log2();
        if all_outside > 0.0 {
            for feature in 0..settings.features {
                contribute(feature, isolated_bits * outside(feature) / all_outside);
            }
        }
        let inside = 1.0 - isolated;
        let bits = settings.forest.rarity(&self.masses, own, place, |feature, bits| {
            contribute(feature, inside * bits);
        });
        isolated_bits + inside * bits
    }
}

/// What rarity a tail row of a window has: the mean of those from the 95th to the 99th percentile. The rarest
/// hundredth is left out, for anomalies among the rows.
fn typical_rarity(sorted: &[f64]) -> f64 {
    let at = |share: usize| sorted.len() * share / 100;
    let tail = &sorted[at(95)..at(99).max(at(95) + 1)];
    (tail.iter().sum::<f64>() / tail.len() as f64).max(RARITY_FLOOR)
}

impl State {
    fn is_sound(&self, settings: &Settings) -> bool {
        let profile_fits = |profile: &Profile| {
            profile.scales.len() == settings.features
                && profile.masses.len() == settings.forest.nodes()
                && profile.masses.iter().all(|mass| usize::from(*mass) <= settings.window)
        };
        self.pending.len().is_multiple_of(settings.features)
            && self.pending.len() < settings.window * settings.features
            && self.profile.as_ref().is_none_or(profile_fits)
    }
}

impl Model for Trees {
    fn score(&self, row: &Row<'_>, judgement: &mut Judgement) {
        let Some(profile) = &self.state.profile else {
            return;
        };
        for (i, _) in row.present() {
            let Scale { low, high, median, .. } = profile.scales[i];
            judgement.features[i] =
                FeatureJudgement { expected: median, lower: low, upper: high, contribution: 0.0 };
        }
        let features = &mut judgement.features;
        // The contribution of a missing feature stays NaN.
        let rarity = profile.rarity(&self.settings, row.features, 0, |feature, bits| {
            features[feature].contribution += bits;
        });
        judgement.score = rarity / profile.typical_rarity;
    }

    fn learn(&mut self, row: &Row<'_>) {
        let state = &mut self.state;
        state.samples += 1;
        state.pending.extend_from_slice(row.features);
        if state.pending.len() >= self.settings.window * self.settings.features {
            state.profile = Some(Profile::learn(&self.settings, &state.pending));
            state.version += 1;
            state.pending.clear();
        }
    }

    fn phase(&self) -> Phase {
        if self.state.profile.is_some() { Phase::Detecting } else { Phase::WarmingUp }
    }

    fn version(&self) -> u64 {
        self.state.version
    }

    fn samples(&self) -> u64 {
        self.state.samples
    }

    fn bytes(&self) -> usize {
        let profile = self.state.profile.as_ref().map_or(0, |profile| {
            profile.masses.capacity() * size_of::<u16>()
                + profile.scales.capacity() * size_of::<Scale>()
        });
        size_of::<Self>() + self.state.pending.capacity() * size_of::<f64>() + profile
    }

    fn snapshot(&self, out: &mut Vec<u8>) -> Result<()> {
        snapshot::append(NAME, out, &self.state)
    }
}
