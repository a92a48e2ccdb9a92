//! Proves that features are judged together, and that the right one is blamed.

use super::*;
use crate::time::EventTime;

fn noise(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 11) as f64 / (1_u64 << 53) as f64
}

fn trained(features: usize, row: impl Fn(&mut u64, &mut [f64])) -> Box<dyn Model> {
    let shape = Shape { trees: 25, depth: 7, window: 256, seed: 1 };
    let forest = Forest::grow(features, shape);
    let factory = Factory(Arc::new(Settings { window: 256, features, forest }));
    let mut model = factory.model();
    let (mut state, mut values) = (3, vec![0.0; features]);
    for i in 0..600 {
        row(&mut state, &mut values);
        model.learn(&Row { time: EventTime(i), features: &values });
    }
    model
}

fn judge(model: &dyn Model, features: &[f64]) -> Judgement {
    let mut judgement = Judgement::new(features.len(), 0);
    judgement.reset(1.75);
    model.score(&Row { time: EventTime(0), features }, &mut judgement);
    judgement
}

#[test]
fn a_pair_of_usual_values_may_be_unusual() {
    let model = trained(2, |state, row| {
        let common = 100.0 * noise(state);
        row.copy_from_slice(&[common + noise(state), common + noise(state)]);
    });
    let along = judge(&*model, &[80.0, 80.0]).score;
    let across = judge(&*model, &[80.0, 20.0]).score;
    assert!(across > 2.0 * along, "{across} against {along}");
}

#[test]
fn the_feature_that_is_off_contributes_most() {
    let model = trained(4, |state, row| row.fill_with(|| 10.0 + noise(state)));
    for off in 0..4 {
        let mut row = [10.5; 4];
        row[off] = 14.0;
        let judgement = judge(&*model, &row);
        let share = |i: usize| judgement.features[i].contribution;
        assert!((0..4).all(|i| i == off || share(i) * 4.0 < share(off)), "{judgement:?}");
        assert!(judgement.score > judgement.threshold);
    }
    let judgement = judge(&*model, &[f64::NAN, 10.5, 10.5, 14.0]);
    assert!(judgement.features[0].contribution.is_nan() && judgement.score > 1.75);
}

#[test]
fn scoring_changes_nothing() {
    let model = trained(2, |state, row| row.fill_with(|| noise(state)));
    let (mut before, mut after) = (Vec::new(), Vec::new());
    model.snapshot(&mut before).unwrap();
    let first = judge(&*model, &[0.3, 9.0]);
    let again = judge(&*model, &[0.3, 9.0]);
    model.snapshot(&mut after).unwrap();
    assert_eq!(first.score.to_bits(), again.score.to_bits());
    assert_eq!(before, after);
}

#[test]
fn the_version_counts_windows() {
    let model = trained(1, |state, row| row[0] = noise(state));
    assert_eq!((model.version(), model.samples(), model.phase()), (2, 600, Phase::Detecting));
}
