//! The GPU gives what the CPU gives, within the stated tolerance, and trains as well. On a machine without any adapter,
//! not even one of software, this is said, and what is proven is that the CPU serves.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use burn::tensor::Device;

use super::super::on_device::OnDevice;
use super::*;
use crate::inference::{Compute, InferenceService, Network, ServiceSettings};
use crate::neural::adapter;

/// Whether there is a GPU; says so if there is none.
#[expect(clippy::print_stderr, reason = "a test that proves less than it could must say so")]
fn has_gpu() -> bool {
    match adapter() {
        Ok(_) => true,
        Err(problem) => {
            eprintln!("NO GPU: {problem}; only the way back to the CPU is tested");
            false
        }
    }
}

fn as_rows(symbols: &[u32]) -> Vec<f32> {
    symbols.iter().map(|symbol| *symbol as f32).collect()
}

fn assert_near(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < TOLERANCE, "{what}: {apart} apart");
}

/// Sizes below, at and above those of a batch on a device.
const ROWS: [usize; 6] = [1, 63, 64, 65, 513, 4_097];

#[test]
fn symbols_are_scored_alike_everywhere() {
    let weights = Weights::random(symbols_shape(11, 2, 24), 3);
    let network = ServedLstm::new(weights.clone(), 5);
    let has_gpu = has_gpu();
    for count in ROWS {
        // Beyond the last symbol counts as the last.
        let rows = as_rows(&histories(count, 5, 13, count as u64));
        let (mut cpu, mut burn, mut gpu) = (Vec::new(), Vec::new(), Vec::new());
        network.score(Compute::Cpu, &rows, &mut cpu).unwrap();
        OnDevice::new(&weights, Device::flex()).score(&rows, 5, &mut burn).unwrap();
        assert_near(&burn, &cpu, &format!("{count} rows by burn on the CPU"));
        match network.score(Compute::Gpu, &rows, &mut gpu) {
            Ok(()) => assert_near(&gpu, &cpu, &format!("{count} rows on the GPU")),
            Err(problem) => assert!(!has_gpu, "{problem}"),
        }
    }
}

#[test]
fn values_are_scored_alike_everywhere() {
    let shape = LstmShape { input: LstmInput::Values(3), layers: 2, hidden: 10, outputs: 3 };
    let weights = Weights::random(shape, 5);
    let network = ServedLstm::new(weights.clone(), 4);
    let mut random = Random::new(1);
    let rows: Vec<f32> = (0..70 * 4 * 3).map(|_| random.uniform(3.0)).collect();
    let (mut cpu, mut burn, mut gpu) = (Vec::new(), Vec::new(), Vec::new());
    network.score(Compute::Cpu, &rows, &mut cpu).unwrap();
    OnDevice::new(&weights, Device::flex()).score(&rows, 4, &mut burn).unwrap();
    assert_near(&burn, &cpu, "burn on the CPU");
    if has_gpu() {
        network.score(Compute::Gpu, &rows, &mut gpu).unwrap();
        assert_near(&gpu, &cpu, "the GPU");
    }
}

#[test]
fn a_row_on_the_gpu_does_not_depend_on_the_rows_beside_it() {
    if !has_gpu() {
        return;
    }
    let network = ServedLstm::new(Weights::random(symbols_shape(9, 2, 32), 4), 6);
    let rows = as_rows(&histories(700, 6, 9, 8));
    let (mut all, mut alone) = (Vec::new(), Vec::new());
    network.score(Compute::Gpu, &rows, &mut all).unwrap();
    for row in [0, 100, 699] {
        alone.clear();
        network.score(Compute::Gpu, &rows[row * 6..][..6], &mut alone).unwrap();
        assert_near(&alone, &all[row * 8..][..8], &format!("row {row}"));
    }
}

#[test]
fn a_service_on_the_gpu_answers_with_and_without_one() {
    let network: Arc<dyn Network> =
        Arc::new(ServedLstm::new(Weights::random(symbols_shape(9, 1, 16), 2), 4));
    let rows = as_rows(&histories(90, 4, 9, 6));
    let mut expected = Vec::new();
    network.score(Compute::Cpu, &rows, &mut expected).unwrap();
    let service = InferenceService::new(ServiceSettings::default());
    let ticket = service.submit(&network, rows, Waker::noop()).unwrap();
    service.close();
    service.run(&Compute::Gpu, &|| Duration::ZERO);
    assert_near(&ticket.take().unwrap().unwrap(), &expected, "what the service gives");
    let fallbacks = u64::from(!has_gpu());
    assert_eq!(service.statistics().fallbacks, fallbacks, "{:?}", service.statistics());
}

#[test]
fn training_on_the_gpu_comes_to_what_it_comes_to_on_the_cpu() {
    // What follows is the symbol two steps before.
    let symbols = histories(120, 3, 4, 5);
    let examples = Examples::gather(3, symbols.chunks(3).map(|h| (h, h[1] % 3, 1.0)));
    let start = Weights::random(symbols_shape(4, 1, 8), 1);
    let run = |on: Compute, epochs_max: usize| {
        let settings =
            Training { learning_rate: 0.05, epochs_max, batch: 16, on, ..Training::default() };
        train(&start, &examples, &examples, &settings, &mut |_| ControlFlow::Continue(()))
    };
    if !has_gpu() {
        let refused = run(Compute::Gpu, 1).unwrap_err();
        assert!(refused.to_string().contains("training of a network"), "{refused}");
        return;
    }
    let flat = |trained: &Trained| -> Vec<f32> {
        trained.weights.matrices().iter().flat_map(|matrix| matrix.values.clone()).collect()
    };
    // After few steps the weights are the same; many amplify what little there is between two devices.
    let (cpu, gpu) = (run(Compute::Cpu, 2).unwrap(), run(Compute::Gpu, 2).unwrap());
    let apart = flat(&cpu).iter().zip(flat(&gpu)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-3, "{apart} apart after two passes");
    // Without knowing anything the loss is the logarithm of the three outputs.
    let learned = [Compute::Gpu, Compute::Cpu].map(|on| run(on, 12).unwrap().best.held_out_loss);
    assert!(learned[0] < 0.75 * 3.0_f64.ln(), "{learned:?}");
    assert!((learned[0] - learned[1]).abs() < 0.02, "{learned:?}");
}

/// Run by hand: `cargo test -p driftline-operators --all-features launches_take -- --ignored --nocapture`.
#[test]
#[ignore = "a measure of time"]
#[expect(clippy::disallowed_methods, clippy::print_stderr, reason = "a measure, run by hand")]
fn launches_take_milliseconds() {
    let network = ServedLstm::new(Weights::random(symbols_shape(30, 2, 64), 4), 10);
    for on in [Compute::Cpu, Compute::Gpu].into_iter().filter(|on| *on == Compute::Cpu || has_gpu())
    {
        for count in [1, 64, 512, 4_096] {
            let rows = as_rows(&histories(count, 10, 30, 8));
            let mut took = Vec::new();
            for _ in 0..6 {
                let started = std::time::Instant::now();
                let mut out = Vec::new();
                network.score(on, &rows, &mut out).unwrap();
                took.push(started.elapsed().as_secs_f64() * 1e3);
            }
            let best = took[1..].iter().copied().fold(f64::INFINITY, f64::min);
            eprintln!(
                "{on:?}, {count} rows: first {:.1} ms, then {best:.2} ms, {:.0} rows per second",
                took[0],
                count as f64 / best * 1e3,
            );
        }
    }
}
