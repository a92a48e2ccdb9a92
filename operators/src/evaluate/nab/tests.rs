//! Proves the rule on series small enough to work out by hand, and the two ends of the scale on any series.

use super::*;
use crate::evaluate::random_scores;

const PROFILES: [NabProfile; 3] =
    [NabProfile::STANDARD, NabProfile::LOW_FALSE_POSITIVES, NabProfile::LOW_FALSE_NEGATIVES];

fn window(first: usize, last: usize) -> Segment {
    Segment { first, last }
}

/// Scores that are 1 in the given rows and 0 elsewhere.
fn raised(rows: usize, at: &[usize]) -> Vec<f64> {
    (0..rows).map(|row| f64::from(u8::from(at.contains(&row)))).collect()
}

fn raw(scores: &[f64], windows: &[Segment], profile: NabProfile) -> f64 {
    nab_raw(&[NabSeries { scores, windows }], profile, 1.0)
}

#[test]
fn the_first_row_of_a_window_is_worth_one_and_later_rows_less() {
    let windows = [window(10, 19)];
    assert_eq!(raw(&raised(40, &[10]), &windows, NabProfile::STANDARD), 1.0);
    // Place -0.5: (2 / (1 + exp(-2.5)) - 1) / (2 / (1 + exp(-5)) - 1) = 0.848284 / 0.986614.
    let middle = raw(&raised(40, &[15]), &windows, NabProfile::STANDARD);
    assert!((middle - 0.859_793).abs() < 1e-6);
    // Place -0.1: 0.244919 / 0.986614.
    let last = raw(&raised(40, &[19]), &windows, NabProfile::STANDARD);
    assert!((last - 0.248_242).abs() < 1e-6);
}

#[test]
fn only_the_earliest_row_of_a_window_counts() {
    let windows = [window(10, 19)];
    let several = raw(&raised(40, &[12, 15, 19]), &windows, NabProfile::STANDARD);
    assert_eq!(several, raw(&raised(40, &[12]), &windows, NabProfile::STANDARD));
}

#[test]
fn a_false_alarm_costs_more_the_farther_it_lies_behind_a_window() {
    let windows = [window(10, 19)];
    let cost = |row| raw(&raised(60, &[10, row]), &windows, NabProfile::STANDARD) - 1.0;
    assert!((cost(40) + 0.11 * 0.999_982).abs() < 1e-6); // place 21 / 9
    assert!((cost(46) + 0.11).abs() < 1e-6); // place 27 / 9 = 3
    assert!((cost(47) + 0.11).abs() < 1e-12); // beyond 3
}

#[test]
fn a_false_alarm_before_any_window_costs_its_weight() {
    let windows = [window(30, 34)];
    for profile in PROFILES {
        let sum = raw(&raised(40, &[10, 30]), &windows, profile);
        assert!((sum - (1.0 - profile.false_positive)).abs() < 1e-12);
    }
}

#[test]
fn probation_is_fifteen_percent_and_at_most_750_rows() {
    assert_eq!(probation(100), 15);
    assert_eq!(probation(4032), 604);
    assert_eq!(probation(5000), 750);
    assert_eq!(probation(22_695), 750);
    let windows = [window(10, 12)];
    // Rows before 15 do not count, so the window cannot be found and the alarm costs nothing.
    assert_eq!(raw(&raised(100, &[10]), &windows, NabProfile::STANDARD), -1.0);
    assert_eq!(raw(&raised(100, &[5]), &windows, NabProfile::STANDARD), -1.0);
}

#[test]
fn the_perfect_detector_gets_100_and_the_silent_one_0() {
    for (seed, profile) in (0..30).zip(PROFILES.into_iter().cycle()) {
        let draws = random_scores(6, seed);
        let rows = 300 + (draws[0] * 500.0) as usize;
        let first = rows / 4 + (draws[1] * 20.0) as usize;
        let second = rows / 2 + (draws[2] * 20.0) as usize;
        let windows = [
            window(first, first + (draws[3] * 30.0) as usize),
            window(second, second + (draws[4] * 30.0) as usize),
        ];
        let perfect = raised(rows, &[first, second]);
        let silent = vec![draws[5]; rows];
        let unready = vec![f64::NAN; rows];
        let best = |scores: &[f64]| nab_best(&[NabSeries { scores, windows: &windows }], profile);
        assert!((best(&perfect).score - 100.0).abs() < 1e-9);
        assert_eq!(best(&perfect).threshold, 1.0);
        assert!(best(&silent).score < 40.0);
        assert_eq!(best(&unready).score, 0.0);
        assert_eq!(best(&unready).threshold, f64::INFINITY);
    }
}

#[test]
fn the_sweep_finds_what_trying_every_threshold_finds() {
    for seed in 0..20 {
        let windows = [[window(60, 80), window(130, 131)], [window(40, 90), window(100, 140)]];
        let mut scores = [random_scores(200, seed), random_scores(150, seed + 100)];
        for score in scores.iter_mut().flatten() {
            *score = if *score < 0.1 { f64::NAN } else { (*score * 40.0).floor() };
        }
        let series = [0, 1].map(|i| NabSeries { scores: &scores[i], windows: &windows[i] });
        for profile in PROFILES {
            let best = nab_best(&series, profile);
            let tried = (0..=40).map(|step| nab_raw(&series, profile, f64::from(step)));
            let highest = tried.fold(nab_raw(&series, profile, f64::INFINITY), f64::max);
            assert!((best.raw - highest).abs() < 1e-9);
            assert!((nab_raw(&series, profile, best.threshold) - best.raw).abs() < 1e-9);
        }
    }
}

#[test]
fn a_window_of_one_row_can_be_found() {
    let windows = [window(50, 50)];
    assert_eq!(raw(&raised(100, &[50]), &windows, NabProfile::STANDARD), 1.0);
    let sum = raw(&raised(100, &[50, 51]), &windows, NabProfile::STANDARD);
    assert!((sum - 0.89).abs() < 1e-12);
}

#[test]
fn series_without_windows_only_cost() {
    let quiet = vec![0.0; 100];
    let outcome = nab_best(&[NabSeries { scores: &quiet, windows: &[] }], NabProfile::STANDARD);
    assert_eq!((outcome.raw, outcome.score), (0.0, 0.0));
    assert_eq!(nab_best(&[], NabProfile::STANDARD).score, 0.0);
}
