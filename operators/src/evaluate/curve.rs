//! Areas under curves over all thresholds, and the best threshold.

use super::{PrecisionRecall, by_falling_score, ratio, real};

/// True and false alarms at one threshold.
struct Step {
    threshold: f64,
    hits: usize,
    misfires: usize,
}

/// One step per distinct score, from the highest threshold to the lowest; NaN rows are never raised.
fn steps(labels: &[bool], scores: &[f64]) -> Vec<Step> {
    assert_eq!(labels.len(), scores.len(), "one score per label");
    let mut steps: Vec<Step> = Vec::new();
    let (mut hits, mut misfires) = (0, 0);
    for row in by_falling_score(scores) {
        hits += usize::from(labels[row]);
        misfires += usize::from(!labels[row]);
        match steps.last_mut() {
            Some(step) if step.threshold == scores[row] => {
                (step.hits, step.misfires) = (hits, misfires);
            }
            _ => steps.push(Step { threshold: scores[row], hits, misfires }),
        }
    }
    steps
}

/// Area under the precision-recall curve, as average precision: precision weighted by the growth of recall.
///
/// In 0..=1; a random score gives the share of anomalies. Rows of equal score are raised together. None where no row
/// is labelled. Rows without a score are never raised, so recall may end below 1.
///
/// # Examples
/// ```
/// use driftline_operators::evaluate::auc_pr;
///
/// let area = auc_pr(&[false, false, true, true], &[0.1, 0.4, 0.35, 0.8]).expect("two anomalies");
/// assert!((area - (0.5 * 1.0 + 0.5 * 2.0 / 3.0)).abs() < 1e-12);
/// ```
///
/// # Panics
/// If both slices differ in length.
#[must_use]
pub fn auc_pr(labels: &[bool], scores: &[f64]) -> Option<f64> {
    let positives = labels.iter().filter(|&&label| label).count();
    let mut area = 0.0;
    let mut before = 0;
    for step in steps(labels, scores) {
        area += ratio(step.hits - before, positives) * ratio(step.hits, step.hits + step.misfires);
        before = step.hits;
    }
    (positives > 0).then_some(area)
}

/// Area under the receiver operating characteristic: the chance that an anomalous row outranks a normal one.
///
/// In 0..=1; ties count half, a random score gives one half. Rows without a score tie below all others. None where
/// the labels are all equal.
///
/// # Examples
/// ```
/// use driftline_operators::evaluate::auc_roc;
///
/// assert_eq!(auc_roc(&[false, false, true, true], &[0.1, 0.4, 0.35, 0.8]), Some(0.75));
/// ```
///
/// # Panics
/// If both slices differ in length.
#[must_use]
pub fn auc_roc(labels: &[bool], scores: &[f64]) -> Option<f64> {
    let positives = labels.iter().filter(|&&label| label).count();
    let negatives = labels.len() - positives;
    let everything = Step { threshold: f64::NAN, hits: positives, misfires: negatives };
    let mut area = 0.0;
    let (mut hits, mut misfires) = (0, 0);
    for step in steps(labels, scores).into_iter().chain([everything]) {
        area += real(step.misfires - misfires) * real(step.hits + hits) / 2.0;
        (hits, misfires) = (step.hits, step.misfires);
    }
    (positives > 0 && negatives > 0).then(|| area / (real(positives) * real(negatives)))
}

/// The threshold with the best point-wise F1 and what it gives; rows at or above the threshold are raised.
///
/// The threshold is chosen with the labels in hand, so this is an upper bound, not what a user will see. None where no
/// row is labelled or none has a score. Of equal thresholds the highest wins.
///
/// # Examples
/// ```
/// use driftline_operators::evaluate::best_f1;
///
/// let (threshold, outcome) = best_f1(&[false, true, true], &[0.2, 0.9, 0.7]).expect("labelled");
/// assert_eq!((threshold, outcome.f1()), (0.7, 1.0));
/// ```
///
/// # Panics
/// If both slices differ in length.
#[must_use]
pub fn best_f1(labels: &[bool], scores: &[f64]) -> Option<(f64, PrecisionRecall)> {
    let positives = labels.iter().filter(|&&label| label).count();
    let mut best: Option<(f64, PrecisionRecall)> = None;
    for step in steps(labels, scores) {
        let outcome = PrecisionRecall {
            precision: ratio(step.hits, step.hits + step.misfires),
            recall: ratio(step.hits, positives),
        };
        if best.is_none_or(|(_, found)| outcome.f1() > found.f1()) {
            best = Some((step.threshold, outcome));
        }
    }
    best.filter(|_| positives > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_score_is_as_good_as_chance() {
        let labels = [true, false, false, false];
        assert_eq!(auc_roc(&labels, &[7.0; 4]), Some(0.5));
        assert_eq!(auc_pr(&labels, &[7.0; 4]), Some(0.25));
        assert_eq!(auc_roc(&labels, &[f64::NAN; 4]), Some(0.5));
        assert_eq!(auc_pr(&labels, &[f64::NAN; 4]), Some(0.0));
    }

    #[test]
    fn a_perfect_score_has_area_one_and_its_opposite_zero() {
        let labels = [true, false, true, false];
        assert_eq!(auc_roc(&labels, &[2.0, 1.0, 2.0, 1.0]), Some(1.0));
        assert_eq!(auc_pr(&labels, &[2.0, 1.0, 2.0, 1.0]), Some(1.0));
        assert_eq!(auc_roc(&labels, &[1.0, 2.0, 1.0, 2.0]), Some(0.0));
    }

    #[test]
    fn a_row_without_a_score_ranks_lowest() {
        // The unscored anomaly loses against both normal rows, the other one wins against both.
        let labels = [true, false, true, false];
        assert_eq!(auc_roc(&labels, &[f64::NAN, 0.1, 0.9, 0.2]), Some(0.5));
        assert_eq!(auc_pr(&labels, &[f64::NAN, 0.1, 0.9, 0.2]), Some(0.5));
    }

    #[test]
    fn one_class_alone_has_no_area() {
        assert_eq!(auc_roc(&[true, true], &[1.0, 2.0]), None);
        assert_eq!(auc_roc(&[false, false], &[1.0, 2.0]), None);
        assert_eq!(auc_pr(&[false, false], &[1.0, 2.0]), None);
        assert!(best_f1(&[false, false], &[1.0, 2.0]).is_none());
        assert!(best_f1(&[true], &[f64::NAN]).is_none());
    }
}
