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
//! # Values
//! With `values = 'elapsed'`, say, an entry whose key is normal is judged by its values as well (feature `neural`). The
//! columns named there, separated by commas, are numbers, lists of numbers, or the `parameters` of `LOG_KEYS`, of which
//! the numbers are read: what they hold, one after the other, is the vector of a row; a row without any number has none.
//! A network for each key predicts the next vector from the last `values_history` of the key, whatever their sessions.
//! It learns from the latest `values_max` vectors of the key in sessions of training, in the order of time and together
//! with the model of keys; a key with less than `values_min`, or whose values never vary, has none, and its rows are
//! counted as unjudged. The last of them, `values_errors_min` or more, tell how far predictions are off: an error beyond
//! the bound within which the next one lies with `confidence` is an anomaly. Score and threshold
//! of such a row are error and bound, which `detail` has as `value_error` and `value_bound` for every row so judged; its
//! session is raised for `values`, with `verdict = 'count'` if there are enough entries that are abnormal by either.
//! An entry with an abnormal key is not asked for its values, and they do not count as the last of its key.
//!
//! # Device
//! With `device = 'gpu'`, or where the engine finds a GPU, histories that have not come before are scored by the engine's
//! inference service; rows are answered in their order when it has answered. With `device = 'cpu'`, or without a GPU,
//! the worker scores them itself, which for the few that are new takes less time than to ask. Values are always scored by
//! the worker. Training is on the CPU whatever the device, off the worker, so that what is learned does not depend on it.
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
//! # Feedback
//! A row names a session, and the event time of one of its entries or NULL for all that was raised of it, its verdict
//! included. What was raised is remembered for `feedback_within`, and at most `feedback_max` of it. The network learns by
//! up to `feedback_steps` steps in its last layer that the keys were normal where they stood; every pair of training that
//! would cease to be normal by that is learned again. A key that training never saw becomes known once at least half of
//! the remembered sessions that were raised for it have been called normal; its entries wait until then. Lengths and
//! counts of a session that was raised as a whole are normal from then on. Of an entry that was raised for its values their
//! network learns, in its last layer too, as far as what was normal stays so. What was said already stays said; an open
//! session is no longer held guilty of entries that were taken back.
//!
//! # Source
//! Du, Li, Zheng and Srikumar, "DeepLog: anomaly detection and diagnosis from system logs through deep learning", 2017.
//! Begin markers, the end as a key, held-out bounds and the combined verdict are ours; see the parts.

mod counts;
mod detector;
mod explain;
mod feedback;
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
#[cfg(all(test, feature = "neural"))]
mod value_tests;
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
use crate::inference::DeviceChoice;
use crate::options::{OptionReader, OptionSpec};

const NAME: &str = "deeplog";

/// The kind behind `USING deeplog`.
///
/// # Examples
/// ```
/// use driftline_operators::detector::DetectorKind;
/// use driftline_operators::detectors::DeepLogKind;
///
/// assert_eq!(DeepLogKind.name(), "deeplog");
/// assert!(DeepLogKind.options().iter().any(|option| option.name == "feedback_within"));
/// ```
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
/// let timed = DeepLog::new().session("vm").values("elapsed").build();
/// assert_eq!(timed.to_string(), "USING deeplog WITH (session = 'vm', values = 'elapsed')");
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

    /// Where the network is scored, whatever the engine's setting says.
    #[must_use]
    pub fn device(self, device: DeviceChoice) -> Self {
        self.option("device", device.to_string())
    }

    /// Judges values beside keys: columns, separated by commas, of numbers, of lists of numbers, or the parameters of
    /// `LOG_KEYS`. Needs the feature `neural`.
    #[must_use]
    pub fn values(self, columns: &str) -> Self {
        self.option("values", columns)
    }

    /// Takes unseen keys, lengths and counts into the verdict of a session.
    #[must_use]
    pub fn combined(self) -> Self {
        self.option("combined", true)
    }
}

detector_builder!(DeepLog);
