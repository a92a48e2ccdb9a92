//! Proves each rule of the decision on judgements written by hand.

use super::*;
use crate::model::FeatureJudgement;
use crate::options::{OptionValue, Options};

const THRESHOLD: f64 = 5.0;

fn settings(options: Options) -> DecisionSettings {
    let specs = DecisionSettings::options(THRESHOLD);
    DecisionSettings::read(&OptionReader::new("test", &options, &specs).unwrap())
}

/// A row at a second, whose features deviate from an expected 10, each with its own score.
fn judge(
    decider: &mut Decider,
    settings: &DecisionSettings,
    second: i64,
    deviations: &[f64],
) -> Verdict {
    let features: Vec<f64> = deviations.iter().map(|d| 10.0 + d).collect();
    let row = Row { time: EventTime(second * 1_000_000_000), features: &features };
    let mut judgement = Judgement::new(features.len(), 0);
    judgement.reset(decider.threshold(settings));
    judgement.separable = true;
    judgement.score = 0.0;
    for (feature, deviation) in judgement.features.iter_mut().zip(deviations) {
        let contribution = deviation.abs();
        *feature = FeatureJudgement {
            expected: 10.0,
            contribution,
            ..FeatureJudgement { lower: 0.0, upper: 0.0, ..*feature }
        };
        judgement.score = judgement.score.max(contribution);
    }
    decider.decide(settings, &row, &judgement)
}

fn rule(options: Options, deviations: &[f64]) -> (Option<bool>, Option<Rule>, Option<usize>) {
    let verdict = judge(&mut Decider::new(), &settings(options), 0, deviations);
    (verdict.is_anomaly, verdict.suppressed_by, verdict.feature)
}

#[test]
fn only_scores_above_the_threshold_are_raised() {
    assert_eq!(rule(Options::new(), &[5.0]), (Some(false), None, Some(0)));
    assert_eq!(rule(Options::new(), &[5.1]), (Some(true), None, Some(0)));
    assert_eq!(rule(Options::new().with("threshold", 9.0), &[5.1]).0, Some(false));
}

#[test]
fn small_deviations_are_suppressed_by_name() {
    let absolute = Options::new().with("min_deviation", 7.0);
    assert_eq!(rule(absolute.clone(), &[6.0]), (Some(false), Some(Rule::MinDeviation), Some(0)));
    assert_eq!(rule(absolute.clone(), &[8.0]).0, Some(true));
    assert_eq!(rule(absolute, &[1.0]), (Some(false), None, Some(0)));
    let relative = Options::new().with("min_deviation_relative", 0.7);
    let expected = (Some(false), Some(Rule::MinDeviationRelative), Some(0));
    assert_eq!(rule(relative.clone(), &[-6.0]), expected);
    assert_eq!(rule(relative, &[-8.0]).0, Some(true));
}

#[test]
fn one_feature_in_the_right_direction_is_enough() {
    let up = Options::new().with("direction", "up");
    assert_eq!(rule(up.clone(), &[-9.0, 1.0]), (Some(false), Some(Rule::Direction), Some(0)));
    assert_eq!(rule(up, &[-9.0, 6.0]), (Some(true), None, Some(1)));
    let down = Options::new().with("direction", "down");
    assert_eq!(rule(down, &[-9.0, 6.0]), (Some(true), None, Some(0)));
}

#[test]
fn hold_off_thins_out_but_does_not_end_the_episode() {
    let hold_off = OptionValue::Interval(3_000_000_000);
    let settings = settings(Options::new().with("hold_off", hold_off));
    let mut decider = Decider::new();
    let raised: Vec<bool> = (0..7)
        .map(|second| judge(&mut decider, &settings, second, &[9.0]).is_anomaly.unwrap())
        .collect();
    assert_eq!(raised, [true, false, false, true, false, false, true]);
    let held = judge(&mut decider, &settings, 7, &[9.0]);
    assert_eq!(held.suppressed_by, Some(Rule::HoldOff));
    assert_eq!(held.episode.unwrap().start, EventTime(0));
}

#[test]
fn an_episode_has_a_start_a_peak_and_an_end() {
    let settings = settings(Options::new());
    let mut decider = Decider::new();
    let mut at = |second, deviation| judge(&mut decider, &settings, second, &[deviation]);
    assert_eq!(at(0, 1.0).episode, None);
    at(1, 6.0);
    at(2, 9.0);
    let last = at(3, 7.0);
    assert!(!last.episode_is_over);
    let after = at(4, 1.0);
    let seconds = |n: i64| EventTime(n * 1_000_000_000);
    let whole = Episode { start: seconds(1), end: seconds(3), peak: seconds(2), peak_score: 9.0 };
    assert!(after.episode_is_over);
    assert_eq!(after.episode, Some(whole));
    assert_eq!(at(5, 1.0).episode, None);
}

#[test]
fn protection_is_bounded() {
    let learned = |options: Options| {
        let settings = settings(options);
        let mut decider = Decider::new();
        let mut learn = |deviation| judge(&mut decider, &settings, 0, &[deviation]).learn;
        [9.0, 9.0, 9.0, 9.0, 1.0, 9.0].map(&mut learn)
    };
    let bounded = Options::new().with("protect_rows_max", 2);
    assert_eq!(learned(bounded), [false, false, true, true, true, false]);
    assert_eq!(learned(Options::new().with("learn_anomalies", true)), [true; 6]);
    // What is too small to matter is learned, so that the model widens; the wrong direction is not.
    assert_eq!(learned(Options::new().with("min_deviation", 20.0)), [true; 6]);
    assert!(!learned(Options::new().with("direction", "down"))[0]);
}

#[test]
fn rate_drives_the_share_of_raised_rows() {
    for rate in [0.01, 0.05, 0.2] {
        let settings = settings(Options::new().with("rate", rate));
        let mut decider = Decider::new();
        let raised = (0..20_000_i32)
            .filter(|i| {
                let deviation = f64::from(i.wrapping_mul(7_919).rem_euclid(1_000)) / 300.0;
                judge(&mut decider, &settings, 0, &[deviation]).is_anomaly.unwrap()
            })
            .count();
        let share = f64::from(u32::try_from(raised).unwrap()) / 20_000.0;
        assert!((share - rate).abs() < rate * 0.25, "{share} for {rate}");
    }
}

#[test]
fn confidence_rises_with_rows_and_falls_with_gaps() {
    let mut decider = Decider::new();
    assert!(decider.confidence(10) < decider.confidence(1_000));
    let before = decider.confidence(100);
    let row = Row { time: EventTime(0), features: &[f64::NAN, 1.0] };
    decider.observe(&row);
    assert!(decider.confidence(100) < before);
}
