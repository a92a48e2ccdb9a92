//! Proves what the views see and how silence works. What all kinds share is proved by the conformance suite.

use super::*;
use crate::time::EventTime;

const SETTINGS: Settings =
    Settings { threshold: 9.0, warm_up: 100, silence: 0.05, history: 4_000, features: 1 };
const STEP_NS: i64 = 300_000_000_000;

/// Rows of five minutes: a daily wave with deterministic noise.
fn wave(row: i64) -> f64 {
    let angle = std::f64::consts::TAU * (row % 288) as f64 / 288.0;
    let mixed = row.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    100.0 + 20.0 * angle.sin() + mixed as f64 / f64::from(1 << 24)
}

fn time(row: i64) -> EventTime {
    EventTime(row * STEP_NS)
}

fn trained(rows: i64) -> Feature {
    let mut feature = Feature::new();
    (0..rows).for_each(|row| feature.learn(&SETTINGS, time(row), wave(row), LEARN_CLIP));
    feature
}

/// The view that is surprised most by a value in place of the given row, and how much.
fn seen(feature: &Feature, row: i64, value: f64) -> (f64, &'static str) {
    let Seen { surprise, view, .. } = feature.see(time(row), value);
    (surprise, VIEW_NAMES[view])
}

#[test]
fn each_view_sees_what_it_is_for() {
    let feature = trained(2_000);
    assert!(seen(&feature, 2_000, wave(2_000)).0 < 9.0, "an ordinary row");
    let (surprise, _) = seen(&feature, 2_000, 200.0);
    assert!(surprise > 9.0, "beyond all values: {surprise}");

    // From row 2,160 on the wave is half a day late: its values are usual, but not at this time.
    let mut shifted = trained(2_160);
    let mut raised = Vec::new();
    for row in 2_160..2_220 {
        let value = wave(row - 144);
        let (surprise, view) = seen(&shifted, row, value);
        if surprise > 9.0 {
            raised.push(view);
        }
        shifted.learn(&SETTINGS, time(row), value, LEARN_CLIP);
    }
    assert!(!raised.is_empty(), "half a day late");

    let mut frozen = trained(2_000);
    let mut views = Vec::new();
    for row in 2_000..2_060 {
        views.push(seen(&frozen, row, wave(1_999)));
        frozen.learn(&SETTINGS, time(row), wave(1_999), LEARN_CLIP);
    }
    let seen_freezing =
        views.iter().any(|(surprise, view)| *surprise > 9.0 && view.ends_with("spread"));
    assert!(seen_freezing, "a frozen value shows in the spread");
}

#[test]
fn an_anomaly_is_reported_once() {
    let mut feature = trained(2_000);
    for row in 2_000..2_010 {
        feature.learn(&SETTINGS, time(row), 300.0, LEARN_CLIP);
        // 5 % of the rows scored before.
        let expected = 95 - (row - 2_000).unsigned_abs();
        assert_eq!(feature.silent_rows, expected);
    }
    let never = Settings { silence: 0.0, ..SETTINGS };
    let mut feature = trained(2_000);
    feature.learn(&never, time(2_000), 300.0, LEARN_CLIP);
    assert_eq!(feature.silent_rows, 0);
}

#[test]
fn unit_and_offset_do_not_matter() {
    let (mut plain, mut scaled) = (Feature::new(), Feature::new());
    for row in 0..2_000 {
        let value = wave(row) + if row == 1_500 { 40.0 } else { 0.0 };
        let other = 1024.0 * value;
        if row > 200 {
            let (one, two) = (seen(&plain, row, value), seen(&scaled, row, other));
            assert!((one.0 - two.0).abs() < 1e-6 * one.0.max(1.0), "row {row}: {one:?}, {two:?}");
        }
        plain.learn(&SETTINGS, time(row), value, LEARN_CLIP);
        scaled.learn(&SETTINGS, time(row), other, LEARN_CLIP);
    }
}

#[test]
fn false_alarms_on_noise_are_rare() {
    let mut feature = Feature::new();
    let mut alarms = 0;
    let noise =
        |row: i64| (0..12).map(|i| wave(row * 12 + i) - wave(row * 12 + i).floor()).sum::<f64>();
    for row in 0..20_000 {
        let raised = seen(&feature, row, noise(row)).0 > 9.0 && feature.silent_rows == 0;
        alarms += i32::from(raised && row >= 100);
        feature.learn(&SETTINGS, time(row), noise(row), LEARN_CLIP);
    }
    assert!(alarms <= 20, "{alarms} of 20000 rows");
}
