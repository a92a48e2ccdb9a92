//! Affiliation precision and recall: how near alarms lie to anomalies, against a random alarm.
//!
//! Huet, Navarro and Rossi, "Local Evaluation of Time Series Anomaly Detection Algorithms", KDD 2022. The series is cut
//! into one zone per labelled run, at the middle between neighbours. In each zone a raised moment is worth the
//! chance that a random moment of the zone lies at least as far from the run, and an anomalous moment is worth the
//! chance that a random moment lies at least as far from it as the nearest alarm of the zone. Time is continuous: row
//! `i` is the interval from `i` to `i + 1`. The means of linear pieces are taken exactly.

use super::{PrecisionRecall, Segment, real, segments};

/// An interval of continuous time.
type Interval = (f64, f64);

/// Affiliation precision and recall, each in 0..=1; a random alarm gets about one half.
///
/// Precision is the mean over zones that hold an alarm, recall the mean over all zones, with 0 for a zone without one.
/// None where no row is labelled. Without any alarm both are 0.
///
/// # Examples
/// ```
/// use driftline_operators::evaluate::affiliation;
///
/// let labels = [false, false, true, false, false];
/// assert_eq!(affiliation(&labels, &labels).expect("labelled").f1(), 1.0);
/// let near = affiliation(&labels, &[false, true, false, false, false]).expect("labelled");
/// let far = affiliation(&labels, &[true, false, false, false, false]).expect("labelled");
/// assert!(near.precision > far.precision && near.recall > far.recall);
/// ```
///
/// # Panics
/// If both slices differ in length.
#[must_use]
pub fn affiliation(labels: &[bool], alarms: &[bool]) -> Option<PrecisionRecall> {
    assert_eq!(labels.len(), alarms.len(), "one alarm per label");
    let runs: Vec<Interval> = segments(labels).into_iter().map(interval).collect();
    let raised: Vec<Interval> = segments(alarms).into_iter().map(interval).collect();
    let mut precisions = Vec::new();
    let mut recalls = Vec::new();
    for (place, &run) in runs.iter().enumerate() {
        let zone = (
            if place == 0 { 0.0 } else { f64::midpoint(runs[place - 1].1, run.0) },
            runs.get(place + 1).map_or(real(labels.len()), |next| f64::midpoint(run.1, next.0)),
        );
        let inside: Vec<Interval> = raised
            .iter()
            .map(|alarm| (alarm.0.max(zone.0), alarm.1.min(zone.1)))
            .filter(|alarm| alarm.0 < alarm.1)
            .collect();
        if inside.is_empty() {
            recalls.push(0.0);
        } else {
            precisions.push(zone_precision(zone, run, &inside));
            recalls.push(zone_recall(zone, run, &inside));
        }
    }
    let mean = |worth: &[f64]| {
        if worth.is_empty() { 0.0 } else { worth.iter().sum::<f64>() / real(worth.len()) }
    };
    (!runs.is_empty())
        .then(|| PrecisionRecall { precision: mean(&precisions), recall: mean(&recalls) })
}

fn interval(run: Segment) -> Interval {
    (real(run.first), real(run.last + 1))
}

fn length(interval: Interval) -> f64 {
    (interval.1 - interval.0).max(0.0)
}

/// Distance of a moment from an interval.
fn distance(moment: f64, interval: Interval) -> f64 {
    (interval.0 - moment).max(moment - interval.1).max(0.0)
}

/// The mean over raised moments of the share of the zone that lies at least as far from the run.
fn zone_precision(zone: Interval, run: Interval, alarms: &[Interval]) -> f64 {
    let worth = |moment: f64| {
        let far = distance(moment, run);
        if far > 0.0 {
            (length((zone.0, run.0 - far)) + length((run.1 + far, zone.1))) / length(zone)
        } else {
            1.0
        }
    };
    // Bends where the run begins and ends, and where the other side of the zone runs out.
    let bends = [run.0, run.1, run.0 - (zone.1 - run.1), run.1 + (run.0 - zone.0)];
    let sum: f64 = alarms.iter().map(|&alarm| integral(alarm, &bends, worth)).sum();
    sum / alarms.iter().map(|&alarm| length(alarm)).sum::<f64>()
}

/// The mean over moments of the run of the share of the zone that lies at least as far from them as the nearest alarm.
fn zone_recall(zone: Interval, run: Interval, alarms: &[Interval]) -> f64 {
    let nearest = |moment: f64| {
        alarms.iter().map(|&alarm| distance(moment, alarm)).fold(f64::INFINITY, f64::min)
    };
    let worth = |moment: f64| {
        let far = nearest(moment);
        1.0 - length(((moment - far).max(zone.0), (moment + far).min(zone.1))) / length(zone)
    };
    // Bends at the ends of alarms, half-way between neighbours, and where a circle around the moment that touches an
    // alarm reaches an end of the zone, which is half-way between that alarm and that end.
    let mut bends = Vec::new();
    for (place, alarm) in alarms.iter().enumerate() {
        bends.extend([alarm.0, alarm.1]);
        bends.extend(alarms.get(place + 1).map(|next| f64::midpoint(alarm.1, next.0)));
        bends.extend([f64::midpoint(zone.0, alarm.0), f64::midpoint(alarm.1, zone.1)]);
    }
    integral(run, &bends, worth) / length(run)
}

/// The integral of a function that is linear between `bends`, where it may jump: exact by the value in the middle of
/// each piece.
fn integral(over: Interval, bends: &[f64], function: impl Fn(f64) -> f64) -> f64 {
    let mut ends: Vec<f64> =
        bends.iter().copied().filter(|&bend| over.0 < bend && bend < over.1).collect();
    ends.extend([over.0, over.1]);
    ends.sort_by(f64::total_cmp);
    ends.windows(2)
        .map(|piece| (piece[1] - piece[0]) * function(f64::midpoint(piece[0], piece[1])))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(rows: usize, at: &[usize]) -> Vec<bool> {
        (0..rows).map(|row| at.contains(&row)).collect()
    }

    #[test]
    fn one_alarm_beside_one_anomaly_by_hand() {
        // Zone 0..5, run 2..3, alarm 1..2. A moment x of the alarm is 2 - x away; moments at least as far away are
        // x - 0 on the left and 5 - (5 - x) = x on the right: 2x / 5, whose mean over 1..2 is 3 / 5.
        // A moment y of the run is y - 2 away from the alarm; nearer moments are 2 (y - 2), all inside: the mean of
        // 1 - 2 (y - 2) / 5 over 2..3 is 4 / 5.
        let found = affiliation(&flags(5, &[2]), &flags(5, &[1])).expect("labelled");
        assert!((found.precision - 0.6).abs() < 1e-12);
        assert!((found.recall - 0.8).abs() < 1e-12);
    }

    #[test]
    fn a_far_alarm_is_cut_by_the_end_of_the_zone() {
        // Zone 0..6, run 0..1, alarm 5..6. A moment x is x - 1 away; as far or farther are 6 - x: mean 1 / 12.
        // A moment y of the run is 5 - y away; the circle reaches from 0 to 5: 1 - 5 / 6.
        let found = affiliation(&flags(6, &[0]), &flags(6, &[5])).expect("labelled");
        assert!((found.precision - 1.0 / 12.0).abs() < 1e-12);
        assert!((found.recall - 1.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn a_zone_without_an_alarm_lowers_recall_alone() {
        let found = affiliation(&flags(20, &[4, 14]), &flags(20, &[4])).expect("labelled");
        assert_eq!((found.precision, found.recall), (1.0, 0.5));
        let silent = affiliation(&flags(20, &[4]), &[false; 20]).expect("labelled");
        assert_eq!((silent.precision, silent.recall), (0.0, 0.0));
        assert!(affiliation(&[false; 3], &[true; 3]).is_none());
    }

    #[test]
    fn the_exact_integral_agrees_with_a_fine_sum() {
        let labels = flags(60, &[10, 11, 12, 30, 31, 50]);
        let alarms = flags(60, &[3, 4, 13, 25, 29, 44, 45, 57]);
        let runs: Vec<Interval> = segments(&labels).into_iter().map(interval).collect();
        let raised: Vec<Interval> = segments(&alarms).into_iter().map(interval).collect();
        let zone = (0.0, f64::midpoint(runs[0].1, runs[1].0));
        let inside = &raised[..2];
        let exact = zone_recall(zone, runs[0], inside);
        let steps = 30_000;
        let fine: f64 = (0..steps)
            .map(|step| {
                let moment = 10.0 + 3.0 * (real(step) + 0.5) / real(steps);
                let far = distance(moment, inside[0]).min(distance(moment, inside[1]));
                let (low, high) = ((moment - far).max(zone.0), (moment + far).min(zone.1));
                1.0 - (high - low) / length(zone)
            })
            .sum::<f64>()
            / real(steps);
        assert!((exact - fine).abs() < 1e-6);
        let whole = affiliation(&labels, &alarms).expect("labelled");
        assert!(whole.precision > 0.0 && whole.precision < 1.0);
    }
}
