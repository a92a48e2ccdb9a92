//! Detectors: everything that may stand after USING, the decision that they share, and typed builders for them.
//!
//! A kind is one file, or one folder: its docs say what it finds, by which formula, under which options, and what it does with NaN
//! and NULL. To add one, write the file and add one line to [`builtin_kinds`]; the conformance suite then runs over it.
//!
//! | Kind | Reads | Finds |
//! |---|---|---|
//! | `robust_zscore` | each feature on its own | values far from the median of the latest rows |
//! | `ewma` | each feature on its own | values far from a fading mean; least memory, fastest |
//! | `holt_winters` | each feature on its own | values far from a forecast with trend and season |
//! | `tail_surprise` | each feature on its own | values far beyond all history, in six views; reports once |
//! | `half_space_trees` | all features together | rows in regions that held few rows before |
//! | `drift_insight` | all features together | states, and moves among them, that a component does not usually show |

pub(crate) mod anomaly;
mod builder;
pub(crate) mod calibrate;
#[cfg(test)]
mod conformance;
pub(crate) mod decide;
pub mod deeplog;
mod drift_insight;
mod ewma;
mod half_space_trees;
mod history;
mod holt_winters;
mod robust_zscore;
mod tail_surprise;
mod univariate;

use std::sync::Arc;

pub use crate::model::MissingSlots;
pub use anomaly::Anomaly;
pub use builder::{DetectorBuilder, DetectorSpec};
pub use decide::Direction;
pub use deeplog::{DeepLog, DeepLogKind};
pub use drift_insight::{DriftInsight, DriftInsightKind};
pub use ewma::{Ewma, EwmaKind};
pub use half_space_trees::{HalfSpaceTrees, HalfSpaceTreesKind};
pub use holt_winters::{HoltWinters, HoltWintersKind};
pub use robust_zscore::{RobustZScore, RobustZScoreKind};
pub use tail_surprise::{TailSurprise, TailSurpriseKind};

use crate::detector::DetectorKind;

/// All kinds that come with the engine, ordered by name.
///
/// # Examples
/// ```
/// use driftline_operators::detector::DetectorKind;
/// use driftline_operators::detectors::{
///     DriftInsightKind, EwmaKind, HalfSpaceTreesKind, HoltWintersKind, RobustZScoreKind, TailSurpriseKind,
///     builtin_kinds,
/// };
///
/// let kinds = builtin_kinds();
/// let known: [&dyn DetectorKind; 6] = [
///     &DriftInsightKind,
///     &EwmaKind,
///     &HalfSpaceTreesKind,
///     &HoltWintersKind,
///     &RobustZScoreKind,
///     &TailSurpriseKind,
/// ];
/// for kind in known {
///     let found = kinds.iter().find(|found| found.name() == kind.name()).expect("it is built in");
///     println!("{}: {}", found.name(), found.summary());
/// }
/// ```
#[must_use]
pub fn builtin_kinds() -> Vec<Arc<dyn DetectorKind>> {
    vec![
        Arc::new(DeepLogKind),
        Arc::new(DriftInsightKind),
        Arc::new(EwmaKind),
        Arc::new(HalfSpaceTreesKind),
        Arc::new(HoltWintersKind),
        Arc::new(RobustZScoreKind),
        Arc::new(TailSurpriseKind),
    ]
}
