//! `drift_insight`: components that leave the states they usually are in, or move among them in other ways.
//!
//! # Meaning
//! For many metrics of one component together, as in DriftInsight: the metrics of a slot become one state, and what a
//! component does is a series of states. It learns which states there are and how often one follows the other. Only
//! steady components are scored, those whose states were all seen early in training; others stay in discovery and are
//! tried again. One row is one slot (5 minutes in the paper); give it one row per key and slot.
//!
//! # Formula
//! A model is built from the latest `training` slots (DI: mechanisms of the paper as numbered in our notes):
//! ```text
//!   z        = (value - mean) / deviation, per metric over the slots; 0 for a flat metric                       DI-02
//!   state    = cluster of DBSCAN over z, numbered by discovery; -1 outside of all                               DI-03
//!   points   = max(4, metrics + 1), at most 5 % of the slots, within eps make a core point                      DI-04
//!   eps      = eps_factor * knee of the sorted distances to the points-th nearest slot                          DI-04
//!   steady  <=> the slot in which the last cluster appears (MCT) < steady_threshold                       DI-07, DI-08
//!   share    = count of a transition (a, b) / all transitions of the slots, -1 among the states                 DI-14
//! ```
//! A new slot is in the state of its nearest core point if that is within eps, else in -1 (DI-13). The latest `window`
//! slots are then compared with all windows of training (DI-15 to DI-17):
//! ```text
//!   deviations = |count - mean over windows| / max(deviation over windows, sqrt(n * p * (1 - p)), 1/3)
//!                for each state and each transition; n slots or transitions in a window, p its share in training;
//!                4 for a transition that training never saw, in the slot in which it happens
//!   held       = deviations                         where the slot itself adds to what is too much or too little
//!              = 3 * deviations / (3 + deviations)  where it does not: an earlier slot has been judged for that
//!   novelty    = 3 * distance to the nearest core point / (eps * reach)
//!   score      = (largest held ^ 4 + novelty ^ 4) ^ (1/4)     at most the threshold if neither is above it
//! ```
//! `reach` is 1 if training had no slot in -1: any such slot is then anomalous at once, and the farther the more. Where
//! training had some, it is how far out, in eps, an exponential tail through the last tenth and thirtieth of the training
//! slots' own distances has 0.135 % of them: slots in -1 must then be farther out than that, or too many in a window.
//!
//! The model evolves (DI-20): after `b = max(evolve_min, evolve_share * MCT)` further slots (MCT = 0: of all training
//! slots) the `b` oldest give way to them and everything is computed anew, off the worker, and counts from `swap_after`
//! slots later on, however long it took. Clusters keep the number of the state with which they share most slots, new
//! ones get new numbers (DI-21). A component that was found steady once remains scored.
//!
//! # Options
//! Those of all keyed kinds (threshold 3, as in three deviations; `learn_anomalies` is TRUE here, as the paper evolves
//! on everything: with FALSE anomalous slots stay out of the mini-batch, DI-22), and:
//! * `training`: slots that a model is built from, 864 (20 to 100000), three days of 5 minutes.
//! * `window`: slots of a detection window, 10 (2 to 1000, not above `training`).
//! * `steady_threshold`: the slot before which the last state must have appeared; 0, the default, for 488 of each 864.
//! * `convergence`: which reading of convergence decides, 'last_cluster' (MCT) or 'prefix': the slot from which on the
//!   clustering of all slots so far has as many clusters as that of the whole (DI-09). The latter is computed for every
//!   build of a component that is not yet steady, and where it decides.
//! * `eps`, `min_points`: of DBSCAN, in z-scores and points; 0, the default, to take them from the data.
//! * `eps_factor`: widens or narrows the eps that is taken from the data, 1 (0.1 to 10). The knee follows the densest
//!   state and leaves much of looser ones in -1. For components that are known to be steady a factor of 2 found faults
//!   better; but it makes one state of a random walk, which then counts as steady, so that it is not the default.
//! * `unseen_transitions`: whether a transition that training never saw is anomalous at once, TRUE.
//! * `bonferroni`: whether deviations shrink as the number of states and transitions that are tested grows, TRUE: by
//!   `3 / sqrt(9 + 2 ln(tests))`, so that three remain as rare among all tests as among one. FALSE is the paper to the
//!   letter; on normal noise in 2 or 3 metrics it raises about twice as many slots.
//! * `evolve_share`: slots of a mini-batch as a share of MCT, 0.1 (0 to 1; 0 for a model that never changes).
//! * `evolve_min`: the least mini-batch, 48 slots, four hours of 5 minutes (1 to 100000). A component whose states all appear in its first slots
//!   would otherwise be built anew in every slot; 1 is the paper to the letter.
//! * `swap_after`: slots from freezing a batch to the first that its model scores, beyond the next, 1 (0 to 1000).
//!
//! # NaN and NULL
//! A missing value (NULL, NaN, infinite) counts as the metric's last one in distances and in training, and before the
//! metric's first value as that; it is no evidence. Rows without any value are no slots. The history keeps 24 bits of a
//! value and holds it within 1e30: a metric that spreads less than a millionth of its level is flat.
//!
//! # Side relations
//! * `state_series`: state and distance, in eps, of each scored slot.
//! * `states`: for each model that came into force its states: count, share, and mean and deviation of each metric in
//!   the metric's own unit (DI-05).
//! * `components`: each build of a component: slots, clusters, convergence, and whether that is steady.
//! * `transitions`, `occupancy`: how often each transition and state is in the batch of the model in force (DI-14).
//! * `steady`: components that are scored (DI-11).
//! * `convergence`: how many components converged by a slot, steady or not (DI-10).
//!
//! What these say of a key does not leave them when the key is dropped, for being silent or for the bound on models.
//!
//! # Source
//! Meng, Zhang, Chen and Xu, "DriftInsight: detecting anomalous behaviors in large-scale cloud platform", 2017: states
//! in section IV-A, steadiness in IV-B, both models in IV-C, evolving in IV-D, evidence in V-D. Ester et al., 1996, for
//! DBSCAN. The paper leaves open eps, deviations of rare transitions, the numbers of states after a rebuild, and what
//! a slot is held to while an earlier anomaly is still in its window; the choices above are ours.

mod convergence;
mod dbscan;
mod distance;
mod evidence;
#[cfg(test)]
mod fixture;
mod history;
mod identity;
mod knee;
mod model;
mod reports;
mod scale;
mod score;
mod state_model;
#[cfg(test)]
mod tests;
mod transitions;

use std::sync::Arc;

use arrow::datatypes::DataType;

use self::model::DriftModel;
use self::state_model::Recipe;
use self::transitions::Rules;
use super::builder::{DetectorBuilder, DetectorSpec, detector_builder};
use crate::background::Executor;
use crate::detector::{DetectorKind, DetectorPlan, DetectorRequest};
use crate::error::Result;
use crate::model::{KeyedPlan, Model, ModelFactory, ModelRelation};
use crate::options::{OptionKind, OptionReader, OptionSpec, OptionValue};

const NAME: &str = "drift_insight";
/// Slots of training in the paper's unit, and the slot before which a steady component has converged (figure 6).
const PAPER_SLOTS: usize = 864;
const PAPER_THRESHOLD: usize = 488;
/// Fields of `detail` that the kind adds.
const EXTRAS: usize = 7;

/// The kind behind `USING drift_insight`.
#[derive(Clone, Copy, Debug)]
pub struct DriftInsightKind;

impl DetectorKind for DriftInsightKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "components that leave their usual states, or move among them in unusual ways"
    }

    fn options(&self) -> Vec<OptionSpec> {
        let integer = |name, least, most, default: i64, doc| {
            OptionSpec::new(name, OptionKind::Integer(least, most), default, doc)
        };
        let flag =
            |name, default: bool, doc| OptionSpec::new(name, OptionKind::Boolean, default, doc);
        let mut options = KeyedPlan::options(3.0);
        for option in options.iter_mut().filter(|option| option.name == "learn_anomalies") {
            option.default = OptionValue::Boolean(true);
        }
        options.extend([
            integer("training", 20, 100_000, 864, "Slots that a model is built from."),
            integer("window", 2, 1_000, 10, "Slots of a detection window."),
            integer(
                "steady_threshold",
                0,
                100_000,
                0,
                "A component is steady if its last state appears before this slot of training; 0 for 488 of each 864.",
            ),
            OptionSpec::new(
                "convergence",
                OptionKind::Choice(&["last_cluster", "prefix"]),
                "last_cluster",
                "What decides whether a component is steady: when its last cluster appears, or when the number of \
                 clusters of all slots so far settles.",
            ),
            OptionSpec::new(
                "eps",
                OptionKind::number(0.0..=1e6),
                0.0,
                "Radius of a neighbourhood in z-scores; 0 to take it from the data.",
            ),
            OptionSpec::new(
                "eps_factor",
                OptionKind::number(0.1..=10.0),
                1.0,
                "Widens or narrows the radius that is taken from the data.",
            ),
            integer(
                "min_points",
                0,
                100_000,
                0,
                "Slots that make a neighbourhood dense; 0 to take it from metrics and training.",
            ),
            flag(
                "unseen_transitions",
                true,
                "Whether a transition that training never saw is anomalous at once.",
            ),
            flag(
                "bonferroni",
                true,
                "Whether deviations shrink by the number of states and transitions that are tested.",
            ),
            OptionSpec::new(
                "evolve_share",
                OptionKind::number(0.0..=1.0),
                0.1,
                "Slots after which a model is built again, as a share of the slots in which its states appeared; 0 \
                 for a model that never changes.",
            ),
            integer("evolve_min", 1, 100_000, 48, "The least number of slots after which a model is built again."),
            integer(
                "swap_after",
                0,
                1_000,
                1,
                "Slots that a build has until its model counts, whether it takes less or more.",
            ),
        ]);
        options
    }

    fn plan(&self, request: &DetectorRequest<'_>) -> Result<Arc<dyn DetectorPlan>> {
        let owner = format!("detector kind \"{NAME}\"");
        let reader = OptionReader::new(owner, request.options, &self.options())?;
        let (window, training) = (reader.count("window"), reader.count("training"));
        if window > training {
            let problem = format!("is {window}, above the {training} slots of training");
            let hint = "give at most as many slots as training has".to_owned();
            return Err(reader.refuse("window", problem, hint));
        }
        let executor = Arc::clone(&request.executor);
        let plan = KeyedPlan::new(NAME, request, &reader, |features| {
            Arc::new(Factory(Arc::new(Settings::read(&reader, features, executor))))
        })?;
        Ok(Arc::new(plan))
    }
}

/// Builds a `drift_insight` detector.
///
/// # Examples
/// ```
/// use driftline_operators::detectors::{DetectorBuilder, DriftInsight};
///
/// let spec = DriftInsight::new().training(288).window(12).partition_by(["component"]).build();
/// assert_eq!(
///     spec.to_string(),
///     "USING drift_insight PARTITION BY component WITH (training = 288, window = 12)",
/// );
/// ```
#[derive(Clone, Debug)]
pub struct DriftInsight(DetectorSpec);

impl DriftInsight {
    /// With defaults for everything.
    #[must_use]
    pub fn new() -> Self {
        Self(DetectorSpec::new(NAME))
    }

    /// Slots that a model is built from.
    #[must_use]
    pub fn training(self, slots: i64) -> Self {
        self.option("training", slots)
    }

    /// Slots of a detection window.
    #[must_use]
    pub fn window(self, slots: i64) -> Self {
        self.option("window", slots)
    }

    /// The slot of training before which a steady component's last state appears.
    #[must_use]
    pub fn steady_threshold(self, slot: i64) -> Self {
        self.option("steady_threshold", slot)
    }

    /// Lets the clusterings of all prefixes decide which components are steady.
    #[must_use]
    pub fn converge_by_prefix(self) -> Self {
        self.option("convergence", "prefix")
    }

    /// Radius of a neighbourhood, in z-scores.
    #[must_use]
    pub fn eps(self, eps: f64) -> Self {
        self.option("eps", eps)
    }

    /// Widens or narrows the radius that is taken from the data.
    #[must_use]
    pub fn eps_factor(self, factor: f64) -> Self {
        self.option("eps_factor", factor)
    }

    /// Slots that make a neighbourhood dense.
    #[must_use]
    pub fn min_points(self, slots: i64) -> Self {
        self.option("min_points", slots)
    }

    /// Whether a transition that training never saw is anomalous at once.
    #[must_use]
    pub fn unseen_transitions(self, are_anomalous: bool) -> Self {
        self.option("unseen_transitions", are_anomalous)
    }

    /// Whether deviations shrink by the number of states and transitions that are tested.
    #[must_use]
    pub fn bonferroni(self, shrinks: bool) -> Self {
        self.option("bonferroni", shrinks)
    }

    /// Slots after which a model is built again, as a share of the slots in which its states appeared.
    #[must_use]
    pub fn evolve_share(self, share: f64) -> Self {
        self.option("evolve_share", share)
    }

    /// The least number of slots after which a model is built again.
    #[must_use]
    pub fn evolve_min(self, slots: i64) -> Self {
        self.option("evolve_min", slots)
    }

    /// Slots that a build has until its model counts.
    #[must_use]
    pub fn swap_after(self, slots: i64) -> Self {
        self.option("swap_after", slots)
    }

    /// Keeps anomalous slots out of the models.
    #[must_use]
    pub fn exclude_anomalies(self) -> Self {
        self.option("learn_anomalies", false)
    }
}

detector_builder!(DriftInsight);

/// Settings of a detector, the same for all components.
#[derive(Debug)]
struct Settings {
    recipe: Recipe,
    rules: Rules,
    training: usize,
    evolve_share: f64,
    evolve_min: usize,
    swap_after: u32,
    threshold: f64,
    metrics: Vec<String>,
    executor: Arc<dyn Executor>,
}

impl Settings {
    fn read(reader: &OptionReader, features: &[&str], executor: Arc<dyn Executor>) -> Self {
        let training = reader.count("training");
        let steady_threshold = match reader.count("steady_threshold") {
            0 => (training * PAPER_THRESHOLD + PAPER_SLOTS / 2) / PAPER_SLOTS,
            given => given,
        };
        Self {
            recipe: Recipe {
                metrics: features.len(),
                window: reader.count("window"),
                eps: reader.number("eps") as f32,
                eps_factor: reader.number("eps_factor") as f32,
                min_points: reader.count("min_points"),
                steady_threshold,
                by_prefix: reader.text("convergence") == "prefix",
            },
            rules: Rules {
                unseen_transitions: reader.boolean("unseen_transitions"),
                bonferroni: reader.boolean("bonferroni"),
            },
            training,
            evolve_share: reader.number("evolve_share"),
            evolve_min: reader.count("evolve_min"),
            swap_after: reader.count("swap_after") as u32,
            threshold: reader.number("threshold"),
            metrics: features.iter().map(|name| (*name).to_owned()).collect(),
            executor,
        }
    }

    /// Slots of a mini-batch, for a component that converged in this slot (DI-20); `None` if models never change.
    fn mini_batch(&self, converged: Option<u32>) -> Option<usize> {
        if !(self.evolve_share > 0.0) {
            return None;
        }
        let base = match converged {
            None | Some(0) => self.training,
            Some(slot) => slot as usize,
        };
        let share = (self.evolve_share * base as f64).round() as usize;
        Some(share.max(self.evolve_min).clamp(1, self.training))
    }

    /// Slots after which a component that is not steady is tried again (DI-11).
    fn slots_to_retry(&self) -> usize {
        self.recipe.steady_threshold.clamp(1, self.training)
    }
}

#[derive(Debug)]
struct Factory(Arc<Settings>);

impl ModelFactory for Factory {
    fn model(&self) -> Box<dyn Model> {
        Box::new(DriftModel::new(Arc::clone(&self.0)))
    }

    fn restore(&self, bytes: &[u8]) -> Result<Box<dyn Model>> {
        Ok(Box::new(DriftModel::restore(Arc::clone(&self.0), bytes)?))
    }

    fn extra_fields(&self) -> Vec<(&'static str, DataType)> {
        let fields: [(&str, DataType); EXTRAS] = [
            ("state", DataType::Int64),
            ("nearest_state", DataType::Int64),
            ("distance", DataType::Float64),
            ("window", DataType::Utf8),
            ("transitions", DataType::Utf8),
            ("alert_states", DataType::Utf8),
            ("alert_transitions", DataType::Utf8),
        ];
        fields.into()
    }

    fn relations(&self) -> Vec<ModelRelation> {
        reports::relations()
    }
}
