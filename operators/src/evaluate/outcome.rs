//! Precision, recall and F1 of alarms, counted by rows or by events.

use super::{ratio, segments};

/// How much of what was raised was right, and how much of what was right was raised; both in 0..=1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrecisionRecall {
    /// Share of alarms that are right; 0 where there is no alarm.
    pub precision: f64,
    /// Share of anomalies that are found; 0 where there is no anomaly.
    pub recall: f64,
}

impl PrecisionRecall {
    /// The harmonic mean of both; 0 where both are 0.
    #[must_use]
    pub fn f1(self) -> f64 {
        let sum = self.precision + self.recall;
        if sum > 0.0 { 2.0 * self.precision * self.recall / sum } else { 0.0 }
    }
}

/// Precision and recall of single rows.
///
/// # Examples
/// ```
/// use driftline_operators::evaluate::{PrecisionRecall, point_wise};
///
/// let outcome = point_wise(&[true, true, false, false], &[true, false, true, false]);
/// assert_eq!(outcome, PrecisionRecall { precision: 0.5, recall: 0.5 });
/// ```
///
/// # Panics
/// If both slices differ in length.
#[must_use]
pub fn point_wise(labels: &[bool], alarms: &[bool]) -> PrecisionRecall {
    assert_eq!(labels.len(), alarms.len(), "one alarm per label");
    let hits = labels.iter().zip(alarms).filter(|&(&label, &alarm)| label && alarm).count();
    PrecisionRecall {
        precision: ratio(hits, alarms.iter().filter(|&&alarm| alarm).count()),
        recall: ratio(hits, labels.iter().filter(|&&label| label).count()),
    }
}

/// Precision and recall of events, where an event is a run of labelled rows and an alarm is a run of raised rows.
///
/// An event is found if any of its rows is raised. An alarm is right if any of its rows is labelled. A single alarm
/// over everything is therefore right and finds all: read it beside [`point_wise`].
///
/// # Examples
/// ```
/// use driftline_operators::evaluate::event_wise;
///
/// let labels = [false, true, true, true, false, true];
/// let alarms = [true, false, false, true, false, false];
/// let outcome = event_wise(&labels, &alarms);
/// assert_eq!((outcome.precision, outcome.recall), (0.5, 0.5));
/// ```
///
/// # Panics
/// If both slices differ in length.
#[must_use]
pub fn event_wise(labels: &[bool], alarms: &[bool]) -> PrecisionRecall {
    assert_eq!(labels.len(), alarms.len(), "one alarm per label");
    let (right, raised) = touched(alarms, labels);
    let (found, events) = touched(labels, alarms);
    PrecisionRecall { precision: ratio(right, raised), recall: ratio(found, events) }
}

/// Counts the runs of `flags` that hold a row of `others`, and all runs.
fn touched(flags: &[bool], others: &[bool]) -> (usize, usize) {
    let runs = segments(flags);
    let hit = runs.iter().filter(|run| others[run.first..=run.last].contains(&true)).count();
    (hit, runs.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_raised_scores_zero_without_dividing_by_zero() {
        let none = point_wise(&[true, false], &[false, false]);
        assert_eq!((none.precision, none.recall, none.f1()), (0.0, 0.0, 0.0));
        let clean = event_wise(&[false, false], &[false, true]);
        assert_eq!((clean.precision, clean.recall, clean.f1()), (0.0, 0.0, 0.0));
    }

    #[test]
    fn equal_alarms_and_labels_are_perfect() {
        let labels = [true, false, true, true];
        assert_eq!(point_wise(&labels, &labels).f1(), 1.0);
        assert_eq!(event_wise(&labels, &labels).f1(), 1.0);
    }

    #[test]
    fn a_long_event_counts_once() {
        // Three of four labelled rows are found, but only one of two events; one of two alarms is right.
        let labels = [true, true, true, false, true, false, false];
        let alarms = [true, true, true, false, false, true, true];
        let points = point_wise(&labels, &alarms);
        assert_eq!((points.precision, points.recall), (0.6, 0.75));
        let events = event_wise(&labels, &alarms);
        assert_eq!((events.precision, events.recall), (0.5, 0.5));
    }
}
