//! `deeplog`: log keys that do not usually follow, by a model that learned what does.
//!
//! Entries belong to sessions. What followed the last `history` keys in sessions of normal operation is learned by
//! stacked LSTM layers, or by an n-gram model; a key that is not among the most probable is abnormal, and so is a
//! session with such a key. One model serves all sessions: the option `session` names their column, and several kinds
//! of logs are several detectors (DL-21).
//!
//! | `phase` | until |
//! |---|---|
//! | `warming_up` | `training` sessions have ended |
//! | `training` | the event time `swap_after` later: the network is trained off the worker |
//! | `detecting` | |
//!
//! Training sessions are taken to be normal. The last of them, a share of `held_out`, are not learned from at first:
//! training stops when predictions of them get no better, and they set the bounds that are not given. Then the network
//! learns from all of them.
//!
//! # Scores
//! By rank (`test = 'top'`): the key's place among what was expected, 1 for the most probable, above `top` an anomaly.
//! By surprise: the negative logarithm of its probability, in nats. A key that training never saw is an anomaly by
//! either. Rows whose key or session is NULL are not scored. `detail` has rank, probability, and what was expected.
//!
//! # Side relations
//! `sessions`: one row for each session that has ended, with its judgement and, with `combined`, the reasons: abnormal
//! `keys`, an `unseen key`, a `length` outside the range of training, or `counts` of keys too far from any of training.
//!
//! `workflow`: which key leads to which, how often and in what time, drawn from the sessions of training (option
//! `workflow`) and told when the model is taken up, and again after an import. A `parallel` row is no transition: its
//! two keys run side by side. [`Workflow::from_batch`](crate::logs::workflow::Workflow::from_batch) reads the rows, and
//! draws them as Mermaid or DOT.
//!
//! `diagnosis`: for a session that has ended, the transitions at which it left the workflow: `unusual` ones, keys that
//! are `unknown` to it, and those that were `slow`, whether or not the session is an anomaly by its keys.
//!
//! # Source
//! Du, Li, Zheng and Srikumar, "DeepLog: anomaly detection and diagnosis from system logs through deep learning", 2017.
//! Begin markers, the end as a key, held-out bounds and the combined verdict are ours; see the parts.

mod counts;
mod detector;
mod explain;
mod key_model;
mod network;
mod ngram;
mod output;
mod predictor;
mod ranking;
mod sessions;
mod settings;
#[cfg(test)]
mod tests;
#[cfg(feature = "neural")]
mod values;
mod vocabulary;
mod windows;

use std::sync::Arc;

pub use key_model::{KeyModel, KeyModelKind, KeySettings, SessionJudgement};
pub use network::{NetworkSettings, TrainingProgress, Watch};
#[cfg(feature = "neural")]
pub use values::{ValueJudgement, ValueModel, ValueSettings};

use self::detector::DeepLogPlan;
use self::settings::Settings;
use super::builder::{DetectorBuilder, DetectorSpec, detector_builder};
use crate::detector::{DetectorKind, DetectorPlan, DetectorRequest};
use crate::error::Result;
use crate::options::{OptionReader, OptionSpec};

const NAME: &str = "deeplog";

/// The kind behind `USING deeplog`.
#[derive(Clone, Copy, Debug)]
pub struct DeepLogKind;

impl DetectorKind for DeepLogKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "log keys, and sessions of them, that do not usually follow"
    }

    fn options(&self) -> Vec<OptionSpec> {
        settings::options()
    }

    fn plan(&self, request: &DetectorRequest<'_>) -> Result<Arc<dyn DetectorPlan>> {
        let reader = OptionReader::new(
            format!("detector kind \"{NAME}\""),
            request.options,
            &self.options(),
        )?;
        let settings = Settings::read(request, &reader)?;
        let time = request.schema.field(request.time).name();
        let mut described =
            vec![("kind".to_owned(), NAME.to_owned()), ("time".to_owned(), time.clone())];
        described
            .extend(reader.settled().map(|(name, value)| (name.to_owned(), value.to_string())));
        let names: Vec<String> = settings.relations().into_iter().map(|side| side.name).collect();
        described.push(("relations".to_owned(), names.join(", ")));
        Ok(Arc::new(DeepLogPlan { settings: Arc::new(settings), described }))
    }
}

/// Builds a `deeplog` detector.
///
/// # Examples
/// ```
/// use driftline_operators::detectors::{DeepLog, DetectorBuilder};
///
/// let spec = DeepLog::new().session("block").history(10).top(9).build();
/// assert_eq!(spec.to_string(), "USING deeplog WITH (history = 10, session = 'block', top = 9)");
/// ```
#[derive(Clone, Debug)]
pub struct DeepLog(DetectorSpec);

impl DeepLog {
    /// With defaults for everything.
    #[must_use]
    pub fn new() -> Self {
        Self(DetectorSpec::new(NAME))
    }

    /// The column that says which session an entry is of.
    #[must_use]
    pub fn session(self, column: &str) -> Self {
        self.option("session", column)
    }

    /// Keys that a prediction is made from.
    #[must_use]
    pub fn history(self, keys: i64) -> Self {
        self.option("history", keys)
    }

    /// A key among so many of the most probable is normal.
    #[must_use]
    pub fn top(self, keys: i64) -> Self {
        self.option("top", keys)
    }

    /// Sessions that the model is trained from.
    #[must_use]
    pub fn training(self, sessions: i64) -> Self {
        self.option("training", sessions)
    }

    /// Predicts by n-grams, without a network.
    #[must_use]
    pub fn ngram(self) -> Self {
        self.option("model", "ngram")
    }

    /// Takes unseen keys, lengths and counts into the verdict of a session.
    #[must_use]
    pub fn combined(self) -> Self {
        self.option("combined", true)
    }
}

detector_builder!(DeepLog);
