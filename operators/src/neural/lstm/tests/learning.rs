//! Gradients, weights of examples, and what training comes to.

use std::ops::ControlFlow;

use burn::tensor::Device;

use super::super::network::{Network, numbers};
use super::super::train::Part;
use super::*;

/// Summed loss by the definition, in 64 bits.
fn loss_by_definition(weights: &Weights, examples: &Examples) -> f64 {
    let width = weights.shape().input.width();
    let Targets::Outputs(followed) = &examples.targets else { unreachable!("made with outputs") };
    let loss = |(row, followed): (usize, &Vec<(u32, f32)>)| -> f64 {
        let inputs: Vec<_> = examples.history(row).iter().map(|s| one_hot(*s, width)).collect();
        let outputs = definition(weights, &inputs);
        let total = outputs.iter().map(|x| x.exp()).sum::<f64>().ln();
        followed.iter().map(|(o, w)| f64::from(*w) * (total - outputs[*o as usize])).sum()
    };
    followed.iter().enumerate().map(loss).sum()
}

fn gradients(weights: &Weights, examples: &Examples) -> Vec<Vec<f32>> {
    let device = Device::flex().autodiff();
    let network = Network::new(weights, &Device::flex()).tracked();
    let outputs = weights.shape().outputs;
    let rows: Vec<usize> = (0..examples.len(outputs)).collect();
    let loss = Part::take(examples, &rows, outputs).loss(&network, &device);
    let gradients = loss.backward();
    let of = |p: &burn::tensor::Tensor<2>| numbers(p.grad(&gradients).expect("it is used").inner());
    network.parameters.iter().map(of).collect()
}

fn small_examples() -> Examples {
    let symbols = histories(12, 4, 5, 8);
    let pairs = symbols.chunks(4).enumerate().map(|(row, h)| (h, (row % 4) as u32, 1.0));
    Examples::gather(4, pairs)
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let weights = Weights::random(symbols_shape(5, 2, 4), 3);
    let examples = small_examples();
    let found = gradients(&weights, &examples);
    let step = 1e-3_f32;
    for (index, matrix) in weights.matrices().iter().enumerate() {
        for place in (0..matrix.values.len()).step_by(3) {
            let moved = |by: f32| {
                let mut matrices = weights.matrices().to_vec();
                matrices[index].values[place] += by;
                let at = f64::from(matrices[index].values[place]);
                let moved = Weights::new(weights.shape(), matrices).unwrap();
                (at, loss_by_definition(&moved, &examples))
            };
            let ((above, more), (below, less)) = (moved(step), moved(-step));
            let expected = (more - less) / (above - below);
            let found = f64::from(found[index][place]);
            let close = 1e-3 + 1e-3 * expected.abs();
            assert!(
                (found - expected).abs() < close,
                "matrix {index} at {place}: {found} for {expected}"
            );
        }
    }
}

#[test]
fn weighted_examples_have_the_gradient_of_repeated_ones() {
    let weights = Weights::random(symbols_shape(5, 2, 6), 4);
    let (one, other) = ([0_u32, 1, 2], [0_u32, 1, 3]);
    let weighted =
        Examples::gather(3, [(&one[..], 1, 3.0), (&one[..], 2, 1.0), (&other[..], 0, 2.0)]);
    assert_eq!(weighted.len(4), 2, "equal histories are one sequence");
    let repeated = Examples {
        steps: 3,
        symbols: [one, one, one, one, other, other].concat(),
        values: Vec::new(),
        targets: Targets::Outputs([1, 1, 1, 2, 0, 0].map(|o| vec![(o, 1.0)]).to_vec()),
    };
    let pairs = gradients(&weights, &weighted)
        .concat()
        .into_iter()
        .zip(gradients(&weights, &repeated).concat());
    for (a, b) in pairs {
        assert!((a - b).abs() < 1e-5, "{a} and {b}");
    }
}

/// What follows depends on the symbol three steps before: only memory can tell.
fn recall_examples(seed: u64) -> Examples {
    let symbols = histories(300, 3, 4, seed);
    let pairs = symbols.chunks(3).map(|h| (h, h[0] % 3, 1.0));
    Examples::gather(3, pairs)
}

#[test]
fn training_learns_what_only_memory_can_tell_and_is_repeatable() {
    let start = Weights::random(symbols_shape(4, 1, 12), 1);
    let examples = recall_examples(5);
    let settings =
        Training { learning_rate: 0.02, epochs_max: 60, batch: 16, ..Training::default() };
    let mut epochs = Vec::new();
    let mut run = || {
        epochs.clear();
        train(&start, &examples, &examples, &settings, &mut |progress| {
            epochs.push(progress.epoch);
            ControlFlow::Continue(())
        })
        .unwrap()
    };
    let (trained, again) = (run(), run());
    assert!(trained.best.held_out_loss < 0.05, "{:?}", trained.best);
    assert_eq!(trained.weights, again.weights, "the same seed gives the same weights");
    assert_eq!(epochs.len(), trained.epochs, "each pass is told");
    let mut outputs = Vec::new();
    Scorer::new(&trained.weights).score_symbols(&[2, 0, 1], 3, &mut outputs);
    assert!(outputs[2] > outputs[0] && outputs[2] > outputs[1], "{outputs:?}");
}

#[test]
fn training_stops_early_or_when_told() {
    let start = Weights::random(symbols_shape(4, 1, 8), 1);
    let examples = recall_examples(5);
    // What is held out contradicts what is learned, so that the loss over it grows from early on.
    let Targets::Outputs(mut followed) = examples.targets.clone() else { unreachable!() };
    followed.rotate_left(1);
    let contrary = Examples { targets: Targets::Outputs(followed), ..examples.clone() };
    let settings = Training {
        learning_rate: 0.05,
        epochs_max: 100,
        patience: 3,
        batch: 16,
        ..Training::default()
    };
    let mut go = |_: &Progress| ControlFlow::Continue(());
    let stopped = train(&start, &examples, &contrary, &settings, &mut go).unwrap();
    assert_eq!(stopped.stopped, Stopped::Patience);
    assert_eq!(stopped.epochs, stopped.best.epoch + 3);

    let mut cancel = |progress: &Progress| match progress.epoch {
        2 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let cancelled = train(&start, &examples, &examples, &settings, &mut cancel).unwrap();
    assert_eq!((cancelled.stopped, cancelled.epochs), (Stopped::Cancelled, 2));

    let nothing = train(&start, &Examples::default(), &examples, &settings, &mut go);
    assert!(nothing.unwrap_err().to_string().contains("training of a network"));
}

#[test]
fn vectors_are_learned_too() {
    let shape = LstmShape { input: LstmInput::Values(1), layers: 1, hidden: 12, outputs: 1 };
    let series: Vec<f32> = (0..200).map(|i| (i as f32 * 0.5).sin()).collect();
    let examples = Examples {
        steps: 5,
        symbols: Vec::new(),
        values: series.windows(6).flat_map(|w| w[..5].to_vec()).collect(),
        targets: Targets::Vectors(series.windows(6).map(|w| w[5]).collect()),
    };
    let settings =
        Training { learning_rate: 0.02, batch: 32, epochs_max: 60, ..Training::default() };
    let start = Weights::random(shape, 1);
    let mut go = |_: &Progress| ControlFlow::Continue(());
    let trained = train(&start, &examples, &examples, &settings, &mut go).unwrap();
    assert!(trained.best.held_out_loss < 0.01, "{:?}", trained.best);
}
