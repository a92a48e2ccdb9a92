//! Evaluation of detectors: how well scores and alarms agree with labels.
//!
//! Pure functions over slices, one row per element. Nothing here reads a file, draws an unseeded number or knows a
//! detector, so that the tests, the benches and a host program judge alike.
//!
//! Two kinds of input recur. *Scores* are real numbers, high for anomalous; a NaN score means "not ready", ranks below
//! every number and is never an alarm. *Alarms* and *labels* are booleans. Point adjustment is left out on purpose: it
//! lifts random scores to an F1 above .6.

mod affiliation;
mod baseline;
mod curve;
mod delay;
mod grouping;
mod nab;
mod outcome;
mod segment;
mod volume;

pub use affiliation::affiliation;
pub use baseline::{flag_all_f1, random_scores};
pub use curve::{auc_pr, auc_roc, best_f1};
pub use delay::{detection_delays, lead_rows};
pub use grouping::{grouping_accuracy, grouping_pairs};
pub use nab::{NabOutcome, NabProfile, NabSeries, nab_best, nab_raw};
pub use outcome::{PrecisionRecall, event_wise, point_wise};
pub use segment::{Segment, segments};
pub use volume::{vus_buffer, vus_pr};

/// A count as a real number; counts of rows stay far below 2^53, where this is exact.
#[allow(clippy::cast_precision_loss)]
fn real(count: usize) -> f64 {
    count as f64
}

/// The ratio of two counts, and 0 where it is undefined.
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { real(part) / real(whole) }
}

/// Row numbers by falling score; rows whose score is NaN are left out, and rows of equal score keep their order.
fn by_falling_score(scores: &[f64]) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..scores.len()).filter(|&row| !scores[row].is_nan()).collect();
    rows.sort_by(|&left, &right| scores[right].total_cmp(&scores[left]));
    rows
}
