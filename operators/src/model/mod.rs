//! Models of one key: small state that scores a row, then learns from it.
//!
//! A detector with one small model per key implements [`Model`] and [`ModelFactory`]. [`KeyedDetector`] does the
//! rest: it reads columns, finds keys, bounds and expires models, decides, writes the output and keeps snapshots.
//!
//! ```text
//!   batch -> features, keys, times          (columns.rs, once per batch)
//!     row -> model of its key               (../keyed, bounded)
//!         -> Model::score -> Judgement      (the kind)
//!         -> Decider::decide -> Verdict     (detectors/decide.rs)
//!         -> output columns                 (output.rs)
//!         -> Model::learn                   (the kind)
//!         -> Model::report -> side relations (side.rs)
//! ```

mod columns;
mod explain;
mod extra;
mod file;
mod keyed;
mod output;
mod side;
mod slots;
pub(crate) mod snapshot;

use std::borrow::Cow;
use std::fmt::Debug;

use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

pub use file::SavedModels;
pub use keyed::{KeyedDetector, KeyedPlan};
pub use slots::MissingSlots;

use crate::error::Result;
use crate::time::EventTime;

/// One row as a model sees it.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// When it happened.
    pub time: EventTime,
    /// One value per feature. NaN stands for a missing value: null, NaN or infinite in the input. No value is beyond
    /// [`VALUE_MAX`], so squares of differences stay finite.
    pub features: &'a [f64],
}

impl Row<'_> {
    /// Features that are present, with their index.
    pub fn present(&self) -> impl Iterator<Item = (usize, f64)> {
        self.features.iter().copied().enumerate().filter(|(_, x)| !x.is_nan())
    }
}

/// The largest magnitude of a feature; values beyond it count as this.
pub const VALUE_MAX: f64 = 1e150;

/// What stage of its life a model is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Collects rows; scores are NULL.
    WarmingUp,
    /// Builds its first model from what it collected; scores are NULL.
    Training,
    /// Scores every row.
    Detecting,
    /// Scores every row with the model at hand while the next one is built.
    Retraining,
}

impl Phase {
    /// The word in the `phase` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WarmingUp => "warming_up",
            Self::Training => "training",
            Self::Detecting => "detecting",
            Self::Retraining => "retraining",
        }
    }

    /// Whether rows are scored in this phase.
    #[must_use]
    pub fn scores(self) -> bool {
        matches!(self, Self::Detecting | Self::Retraining)
    }

    /// Whether a model may go from this phase to `next`: forward to detecting, then around retraining for ever. A first
    /// build that comes to nothing goes back to warming up.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::WarmingUp | Self::Training => next != Self::Retraining,
            Self::Detecting | Self::Retraining => next.scores(),
        }
    }
}

/// What a model says about one row. One value is reused for all rows of a detector.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// High = anomalous, at least 0. NaN while there is nothing to say.
    pub score: f64,
    /// The score above which the decider will raise the row, told to the model so that it can state bounds.
    pub threshold: f64,
    /// Whether each contribution is the score of that feature alone, the row's score being the largest of them.
    pub separable: bool,
    /// One entry per feature, in the order of [`Row::features`].
    pub features: Vec<FeatureJudgement>,
    /// One entry per extra field of [`ModelFactory::extra_fields`].
    pub extras: Vec<Extra>,
}

/// What a model says about one feature of a row. NaN where it has nothing to say.
#[derive(Clone, Copy, Debug)]
pub struct FeatureJudgement {
    /// The value that would have been normal.
    pub expected: f64,
    /// The lowest value that would not have been raised.
    pub lower: f64,
    /// The highest value that would not have been raised.
    pub upper: f64,
    /// How much the feature adds to the score, at least 0.
    pub contribution: f64,
}

impl FeatureJudgement {
    const UNKNOWN: Self =
        Self { expected: f64::NAN, lower: f64::NAN, upper: f64::NAN, contribution: f64::NAN };
}

/// The value of a kind's own field in `detail`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Extra {
    /// NULL.
    #[default]
    Null,
    /// For a Float64 field.
    Number(f64),
    /// For an Int64 field.
    Integer(i64),
    /// For a Utf8 field.
    Text(Cow<'static, str>),
    /// For a Boolean field.
    Flag(bool),
    /// For a Timestamp field, which takes the type of the input's event time.
    Time(EventTime),
}

impl Judgement {
    /// A judgement over this many features and extra fields.
    #[must_use]
    pub fn new(features: usize, extras: usize) -> Self {
        Self {
            score: f64::NAN,
            threshold: f64::NAN,
            separable: false,
            features: vec![FeatureJudgement::UNKNOWN; features],
            extras: vec![Extra::Null; extras],
        }
    }

    /// Forgets the previous row.
    pub fn reset(&mut self, threshold: f64) {
        self.score = f64::NAN;
        self.threshold = threshold;
        self.separable = false;
        self.features.fill(FeatureJudgement::UNKNOWN);
        self.extras.fill(Extra::Null);
    }
}

/// The small model of one key.
///
/// For each row the detector calls [`Model::score`], then either [`Model::learn`] or [`Model::pass`]. A model never
/// sees a batch, so how rows are cut into batches cannot matter.
pub trait Model: Debug + Send {
    /// Scores a row without changing anything. Called only for rows with at least one feature present; leaves the
    /// judgement's score NaN unless the phase scores.
    fn score(&self, row: &Row<'_>, judgement: &mut Judgement);

    /// Learns from a row that has just been scored.
    fn learn(&mut self, row: &Row<'_>);

    /// Lets a row go by without learning from its values: it was anomalous, or all its features are missing.
    fn pass(&mut self, _row: &Row<'_>) {}

    /// The stage that the model is in; it changes only in [`Model::learn`] and [`Model::pass`].
    fn phase(&self) -> Phase;

    /// Adds rows to the detector's side relations, see [`ModelFactory::relations`]; called after each
    /// [`Model::learn`] or [`Model::pass`].
    fn report(&mut self, _reports: &mut Reports) {}

    /// Reports all that stands in the kind's counted relations, as entering (`change` is 1) or leaving (-1): the model
    /// was brought here from elsewhere, or makes room for one that was, or for another key.
    fn report_standing(&self, _change: i64, _reports: &mut Reports) {}

    /// Reads what the next row will need, so that it is in the cache when the row comes; what is returned says nothing.
    /// Worth it where scoring a row waits for several places in memory one after the other.
    fn warm(&self) -> f64 {
        0.0
    }

    /// How often the model was built as a whole, and how long that took.
    fn rebuilds(&self) -> Rebuilds {
        Rebuilds::default()
    }

    /// Counts up whenever the model is replaced as a whole; models that only learn in place stay at 1.
    fn version(&self) -> u64 {
        1
    }

    /// Rows learned from.
    fn samples(&self) -> u64;

    /// Bytes held, estimated.
    fn bytes(&self) -> usize;

    /// Appends everything that [`ModelFactory::restore`] needs, floats exact.
    ///
    /// # Errors
    /// If the state cannot be written.
    fn snapshot(&self, out: &mut Vec<u8>) -> Result<()>;
}

/// Makes the models of one detector, all with the same settings.
pub trait ModelFactory: Debug + Send + Sync {
    /// A model that has seen nothing.
    fn model(&self) -> Box<dyn Model>;

    /// The model written by [`Model::snapshot`].
    ///
    /// # Errors
    /// If the bytes are cut short or do not fit this factory's settings; never a panic.
    fn restore(&self, snapshot: &[u8]) -> Result<Box<dyn Model>>;

    /// Fields that this kind adds at the end of `detail`: name and one of Float64, Int64, Utf8, Boolean.
    fn extra_fields(&self) -> Vec<(&'static str, DataType)> {
        Vec::new()
    }

    /// Relations that this kind keeps beside its main one; [`Report::relation`] is an index into them.
    fn relations(&self) -> Vec<ModelRelation> {
        Vec::new()
    }
}

/// How often a model was built as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilds {
    /// Builds, the first among them.
    pub count: u64,
    /// Nanoseconds that they took, off the worker or on it; measured, so that it is no part of a snapshot.
    pub ns: u64,
}

/// A relation beside the main one, read as `detector.name`.
#[derive(Clone, Debug)]
pub struct ModelRelation {
    /// Its name.
    pub name: &'static str,
    /// Its own columns, after the key columns: Float64, Int64, Utf8, Boolean, or Timestamp for the type of the
    /// input's event time.
    pub fields: Vec<(&'static str, DataType)>,
    /// How reported rows become rows of the relation.
    pub upkeep: Upkeep,
}

/// How reported rows become rows of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// As they are: key columns, event time of the row that gave rise to them, own columns.
    Append,
    /// Reports enter and leave ([`Report::change`]); the relation says how often each distinct one is in now. Key
    /// columns, own columns, `count`, `share` of all of the same key, and `_diff`: +1 for a row that holds from now on,
    /// -1 for one that no longer does.
    Counts,
    /// Like counts, over all keys: own columns (the first orders them), `count`, `running` (how many up to and with this
    /// one), `_diff`.
    Running,
    /// Keys enter and leave: key columns and `_diff`.
    Keys,
}

/// One row for a side relation.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Index into [`ModelFactory::relations`].
    pub relation: usize,
    /// One value per own column.
    pub values: Vec<Extra>,
    /// How many times the row enters, or, below 0, leaves; always 1 in an appended relation.
    pub change: i64,
}

/// Rows for side relations that wait to be written.
#[derive(Debug, Default)]
pub struct Reports {
    rows: Vec<Report>,
}

impl Reports {
    /// Adds a row to an appended relation.
    pub fn push(&mut self, relation: usize, values: impl Into<Vec<Extra>>) {
        self.change(relation, values, 1);
    }

    /// Lets a row enter, or leave, a counted relation.
    pub fn change(&mut self, relation: usize, values: impl Into<Vec<Extra>>, change: i64) {
        self.rows.push(Report { relation, values: values.into(), change });
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes what waits, in the order in which it came.
    pub fn drain(&mut self) -> impl Iterator<Item = Report> {
        self.rows.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::Phase::{Detecting, Retraining, Training, WarmingUp};

    #[test]
    fn phases_move_on_and_around_retraining() {
        let all = [WarmingUp, Training, Detecting, Retraining];
        let allowed = [
            (WarmingUp, [true, true, true, false]),
            (Training, [true, true, true, false]),
            (Detecting, [false, false, true, true]),
            (Retraining, [false, false, true, true]),
        ];
        for (from, expected) in allowed {
            assert_eq!(all.map(|to| from.may_become(to)), expected, "from {from:?}");
        }
        assert_eq!(all.map(super::Phase::scores), [false, false, true, true]);
    }
}
