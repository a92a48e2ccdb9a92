//! Measures of time, run by hand: `cargo test -p driftline-operators drift_insight -- --ignored --nocapture`.

#![allow(clippy::print_stderr)] // A measure says what it found.

use super::super::history::{Batch, MiniBatch};
use super::super::state_model::{Before, StateModel};
use super::*;

/// Nanoseconds of a processor that this thread has had: other work on the machine is not ours.
fn thread_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(f64::NAN)
}

/// A component at three levels with noise and a few spikes.
fn slots(metrics: usize, count: usize) -> Vec<Vec<f64>> {
    let mut noise = Noise(99);
    let slot = |i: usize| {
        let level = [0.0, 12.0, 25.0][i / 60 % 3];
        let spike = if i % 211 == 210 { 40.0 } else { 0.0 };
        (0..metrics).map(|_| level + spike + noise.normal()).collect()
    };
    (0..count).map(slot).collect()
}

#[test]
#[ignore = "a measure of time"]
fn di_23_a_build_takes_milliseconds() {
    for (metrics, training, rounds) in [(12, 864, 20), (19, 8_640, 2)] {
        let options = Options::new().with("training", training as i64);
        let settings = settings(metrics, &options);
        let mut fresh = MiniBatch::new(metrics);
        let mut slot = Vec::new();
        for (i, features) in slots(metrics, training).iter().enumerate() {
            fresh.hold(features, &mut slot);
            fresh.push(EventTime(i as i64), &slot, training);
        }
        let batch = Batch::evolve(None, &fresh, training);
        for is_steady in [false, true] {
            let started = thread_ns();
            let mut states = 0;
            for _ in 0..rounds {
                let before = Before { is_steady, ..Before::default() };
                states = StateModel::build(&settings.recipe, batch.clone(), before).clusters();
            }
            let ms = (thread_ns() - started) / 1e6 / f64::from(rounds);
            eprintln!("{training} x {metrics}, steady {is_steady}: {ms:.2} ms, {states} states");
        }
    }
}

#[test]
#[ignore = "a measure of time"]
fn di_23_a_slot_takes_microseconds() {
    for metrics in [12, 19] {
        let settings = settings(metrics, &Options::new());
        let mut component = Component::new(&settings);
        let slots = slots(metrics, 4_000);
        component.feed_all(&slots[..1_000]);
        let (started, builds) = (thread_ns(), component.model.rebuilds().count);
        component.feed_all(&slots[1_000..]);
        let us = (thread_ns() - started) / 1e3 / 3_000.0;
        let builds = component.model.rebuilds().count - builds;
        let bytes = component.model.bytes();
        eprintln!("{metrics} metrics: {us:.1} us a slot with {builds} builds, {bytes} bytes");
        let settings = self::settings(metrics, &Options::new().with("evolve_share", 0.0));
        let mut fixed = Component::new(&settings);
        fixed.feed_all(&slots[..1_000]);
        let started = thread_ns();
        fixed.feed_all(&slots[1_000..]);
        let us = (thread_ns() - started) / 1e3 / 3_000.0;
        eprintln!("{metrics} metrics: {us:.1} us a slot without builds");
    }
}
