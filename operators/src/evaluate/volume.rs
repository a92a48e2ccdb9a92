//! VUS-PR: the area under a precision-recall curve that forgives labels being a few rows off.
//!
//! Labels get a soft border on both sides, and the area is averaged over border widths from 0 to `buffer`. The rule is
//! that of the TSB-AD benchmark (Paparrizos et al., VLDB 2022, and Liu and Paparrizos, NeurIPS 2024), whose published
//! figures are taken over whole series, training prefix included:
//!
//! - For width `w` a row at distance `d <= w / 2` from a run gets the label `sqrt(1 - d / w)`; sums are cut at 1.
//! - Thresholds are the scores at 250 even places of the sorted scores.
//! - Recall is raised label over the mean of the hard label count and that count plus the soft label raised outside the
//!   runs, at most 1, times the share of bordered runs that are touched at all.
//! - The area is precision weighted by the growth of recall.

use super::{Segment, real, segments};

/// Thresholds per curve.
const THRESHOLDS: usize = 250;

/// Lags of the autocorrelation in which a period is looked for, and the first of them.
const LAGS: usize = 400;
const LAG_FIRST: usize = 3;

/// Rows of a series that are looked at for its period.
const PERIOD_ROWS: usize = 20_000;

/// The border of a series without a usable period.
const BUFFER_DEFAULT: usize = 125;

/// The volume under the precision-recall surface for border widths 0 to `buffer`; in 0..=1, about the share of
/// anomalies for a random score.
///
/// None where no row is labelled. A NaN score ranks below all others. Costs one sort, then per width one pass over the
/// rows near labels.
///
/// # Examples
/// ```
/// use driftline_operators::evaluate::vus_pr;
///
/// let labels = [false, false, true, false];
/// assert_eq!(vus_pr(&labels, &[0.1, 0.2, 0.9, 0.3], 0), Some(1.0));
/// assert_eq!(vus_pr(&labels, &[0.9, 0.8, 0.1, 0.7], 0), Some(0.25));
/// ```
///
/// # Panics
/// If both slices differ in length.
#[must_use]
pub fn vus_pr(labels: &[bool], scores: &[f64], buffer: usize) -> Option<f64> {
    assert_eq!(labels.len(), scores.len(), "one score per label");
    let runs = segments(labels);
    if runs.is_empty() {
        return None;
    }
    let steps = Steps::new(scores);
    let sum: f64 = (0..=buffer).map(|width| area(labels, &runs, &steps, width)).sum();
    Some(sum / real(buffer + 1))
}

/// The border width that TSB-AD gives a series: the lag of the highest local maximum of its autocorrelation.
///
/// Lags from 3 to 400 are searched over the first 20,000 rows. A series without such a maximum, or whose maximum lies
/// before lag 6 or behind lag 303, gets 125.
///
/// # Examples
/// ```
/// use driftline_operators::evaluate::vus_buffer;
///
/// let values: Vec<f64> = (0..500).map(|row| f64::from(row % 50)).collect();
/// assert_eq!(vus_buffer(&values), 50);
/// assert_eq!(vus_buffer(&[1.0; 500]), 125);
/// ```
#[must_use]
pub fn vus_buffer(values: &[f64]) -> usize {
    let values = &values[..values.len().min(PERIOD_ROWS)];
    let mean = values.iter().sum::<f64>() / real(values.len());
    let lags = LAGS.min(values.len().saturating_sub(1));
    let product = |lag: usize| -> f64 {
        values.iter().zip(&values[lag..]).map(|(left, right)| (left - mean) * (right - mean)).sum()
    };
    let spread = if values.is_empty() { 0.0 } else { product(0) };
    if !(spread > 0.0 && lags > LAG_FIRST) {
        return BUFFER_DEFAULT;
    }
    let correlations: Vec<f64> = (LAG_FIRST..=lags).map(|lag| product(lag) / spread).collect();
    let peaks = (1..correlations.len() - 1).filter(|&place| {
        correlations[place - 1] < correlations[place]
            && correlations[place] > correlations[place + 1]
    });
    // The first of equally high peaks.
    let highest = peaks.reduce(
        |best, place| {
            if correlations[place] > correlations[best] { place } else { best }
        },
    );
    match highest {
        Some(place) if (3..=300).contains(&place) => place + LAG_FIRST,
        _ => BUFFER_DEFAULT,
    }
}

/// At which of the thresholds each row is first raised, and how many rows each threshold raises.
struct Steps {
    first: Vec<usize>,
    raised: Vec<usize>,
}

impl Steps {
    fn new(scores: &[f64]) -> Self {
        let score = |row: usize| if scores[row].is_nan() { f64::NEG_INFINITY } else { scores[row] };
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&left, &right| score(right).total_cmp(&score(left)));

        let mut steps = Self { first: vec![0; scores.len()], raised: Vec::new() };
        let mut raised = 0;
        for step in 0..THRESHOLDS {
            let threshold = score(order[place(step, scores.len())]);
            while raised < order.len() && score(order[raised]) >= threshold {
                steps.first[order[raised]] = step;
                raised += 1;
            }
            steps.raised.push(raised);
        }
        steps
    }
}

/// The place of a threshold among `rows` sorted scores. Floating-point steps that are cut off, as the published rule
/// has it, which now and then lands one place before the exact fraction.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn place(step: usize, rows: usize) -> usize {
    if step == THRESHOLDS - 1 {
        return rows - 1;
    }
    (real(step) * (real(rows - 1) / real(THRESHOLDS - 1))) as usize
}

/// The area for one border width.
fn area(labels: &[bool], runs: &[Segment], steps: &Steps, width: usize) -> f64 {
    let hard: usize = runs.iter().map(|run| run.rows()).sum();
    let bordered = bordered(runs, width / 2, labels.len());
    // Per threshold: label raised for the first time, the part of it outside runs, and bordered runs first touched.
    let mut gain = vec![(0.0_f64, 0.0_f64, 0_usize); THRESHOLDS];
    for border in &bordered {
        let mut touched = usize::MAX;
        for row in border.first..=border.last {
            let step = steps.first[row];
            touched = touched.min(step);
            if labels[row] {
                gain[step].0 += 1.0;
            } else {
                let soft = soft_label(runs, row, width);
                gain[step].0 += soft;
                gain[step].1 += soft;
            }
        }
        gain[touched].2 += 1;
    }

    let mut area = 0.0;
    let mut before = 0.0;
    let (mut raised, mut outside, mut touched) = (0.0, 0.0, 0);
    for (step, gained) in gain.iter().enumerate() {
        raised += gained.0;
        outside += gained.1;
        touched += gained.2;
        let label = real(hard) + outside / 2.0;
        let recall = (raised / label).min(1.0) * real(touched) / real(bordered.len());
        area += (recall - before) * raised / real(steps.raised[step]);
        before = recall;
    }
    area
}

/// Runs with their borders, joined where borders meet and cut at the ends of the series.
fn bordered(runs: &[Segment], border: usize, rows: usize) -> Vec<Segment> {
    let mut joined: Vec<Segment> = Vec::with_capacity(runs.len());
    for run in runs {
        let first = run.first.saturating_sub(border);
        let last = (run.last + border).min(rows - 1);
        match joined.last_mut() {
            Some(before) if before.last >= first => before.last = last,
            _ => joined.push(Segment { first, last }),
        }
    }
    joined
}

/// The label of a row outside all runs: each run within half the width adds to it.
fn soft_label(runs: &[Segment], row: usize, width: usize) -> f64 {
    let near = runs.partition_point(|run| run.last + width / 2 < row);
    let mut label = 0.0;
    for run in runs[near..].iter().take_while(|run| run.first <= row + width / 2) {
        let distance = if row < run.first { run.first - row } else { row - run.last };
        label += (1.0 - real(distance) / real(width)).sqrt();
    }
    label.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_border_it_is_recall_times_touched_runs() {
        // Two runs of one row. The first threshold raises row 1: recall 1/2, of which 1/2 of the runs is touched.
        // Then row 3 joins, precision 1/2 and no growth, then row 5: recall 1, precision 2/3.
        let labels = [false, true, false, false, false, true];
        let scores = [0.0, 0.9, 0.0, 0.8, 0.0, 0.7];
        let area = vus_pr(&labels, &scores, 0).expect("labelled");
        assert!((area - (0.25 + 0.75 * 2.0 / 3.0)).abs() < 1e-12);
    }

    #[test]
    fn a_border_gives_credit_to_a_near_miss() {
        // Width 2 gives both neighbours sqrt(1/2). The first threshold raises row 1: raised label .7071, recall
        // .7071 / (1 + .7071 / 2) = .52241, precision .7071. The second raises row 2, too: label 1.7071 of 2 rows,
        // recall min(1, 1.7071 / 1.35355) = 1.
        let labels = [false, false, true, false, false];
        let scores = [0.0, 0.9, 0.8, 0.0, 0.0];
        let half = 0.5_f64.sqrt();
        let first = half / (1.0 + half / 2.0);
        let expected = first * half + (1.0 - first) * (1.0 + half) / 2.0;
        let runs = segments(&labels);
        let found = area(&labels, &runs, &Steps::new(&scores), 2);
        assert!((found - expected).abs() < 1e-12);
    }

    #[test]
    fn overlapping_borders_join() {
        let runs = [Segment { first: 3, last: 4 }, Segment { first: 9, last: 9 }];
        assert_eq!(bordered(&runs, 2, 12).len(), 2);
        assert_eq!(bordered(&runs, 3, 12), [Segment { first: 0, last: 11 }]);
        assert!((soft_label(&runs, 6, 8) - 1.0).abs() < 1e-12);
        assert!((soft_label(&runs, 11, 4) - 0.5_f64.sqrt()).abs() < 1e-12);
        assert_eq!(soft_label(&runs, 0, 4), 0.0);
    }

    #[test]
    fn a_constant_or_missing_score_gives_the_share_of_anomalies() {
        let labels: Vec<bool> = (0..100).map(|row| (40..50).contains(&row)).collect();
        assert!((vus_pr(&labels, &[3.0; 100], 0).expect("labelled") - 0.1).abs() < 1e-12);
        assert!((vus_pr(&labels, &[f64::NAN; 100], 0).expect("labelled") - 0.1).abs() < 1e-12);
        assert_eq!(vus_pr(&[false; 5], &[1.0; 5], 3), None);
        assert_eq!(vus_pr(&[], &[], 3), None);
    }

    #[test]
    fn short_and_empty_series_have_the_default_border() {
        assert_eq!(vus_buffer(&[]), BUFFER_DEFAULT);
        assert_eq!(vus_buffer(&[1.0, 2.0, 3.0]), BUFFER_DEFAULT);
        // A period of 4 lies below the range.
        let fast: Vec<f64> = (0..200).map(|row| f64::from(row % 4)).collect();
        assert_eq!(vus_buffer(&fast), BUFFER_DEFAULT);
    }
}
