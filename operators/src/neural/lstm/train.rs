//! Training by Adam over mini-batches, with early stopping on what was held out.

use std::ops::ControlFlow;

use burn::optim::{Adam, AdamConfig, Optimizer};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};

use super::network::{Network, numbers};
use super::weights::Random;
use super::{Examples, Scorer, Targets, Weights};
use crate::error::{OperatorError, Result};
use crate::inference::Compute;
use crate::neural::gpu;

/// How a network is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// Adam's step; the paper leaves it open, .001 is usual.
    pub learning_rate: f64,
    /// What the step has shrunk to in the last epoch, as a share of the first; on a cosine in between.
    pub final_share: f64,
    /// Distinct sequences of a mini-batch.
    pub batch: usize,
    /// The most passes over all examples.
    pub epochs_max: usize,
    /// Passes without a better loss on what was held out, after which training stops; at the end the best weights are
    /// taken. Without examples held out the last weights are.
    pub patience: usize,
    /// Seed of the order of examples.
    pub seed: u64,
    /// Where steps are computed. What is held out is scored on the CPU.
    pub on: Compute,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            learning_rate: 0.003,
            final_share: 0.05,
            batch: 512,
            epochs_max: 100,
            patience: 15,
            seed: 1,
            on: Compute::Cpu,
        }
    }
}

/// How far training has come, after each pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Passes done.
    pub epoch: usize,
    /// The most passes.
    pub epochs_max: usize,
    /// Mean loss over the examples during the pass: cross-entropy in nats, or mean squared error.
    pub loss: f64,
    /// Mean loss over the examples held out, after the pass; NaN without any.
    pub held_out_loss: f64,
    /// The pass with the least such loss so far.
    pub best_epoch: usize,
}

/// Why training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// After the most passes allowed.
    Epochs,
    /// After so many passes without a better loss.
    Patience,
    /// Because whoever watches said so; the best weights so far are given.
    Cancelled,
}

/// What training came to.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The best weights.
    pub weights: Weights,
    /// The pass that they are from, its losses, and the passes allowed.
    pub best: Progress,
    /// Passes done.
    pub epochs: usize,
    /// Why it ended.
    pub stopped: Stopped,
}

/// Trains from given weights on; they may be random, or trained already and now to learn more.
///
/// The same weights, examples, settings and device give the same result. `watch` is told of every pass and may end the
/// training.
///
/// # Errors
/// If there are no examples, or their width does not fit the network, or numbers ceased to be finite; or if there is no
/// GPU where one was asked for.
pub fn train(
    weights: &Weights,
    examples: &Examples,
    held_out: &Examples,
    settings: &Training,
    watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Trained> {
    let outputs = weights.shape().outputs;
    let rows = examples.len(outputs);
    if rows == 0 || examples.steps == 0 {
        return Err(refused("has no examples"));
    }
    let device = match settings.on {
        Compute::Cpu => Device::flex(),
        Compute::Gpu => {
            gpu::device().map_err(|problem| refused(&format!("needs a GPU: {problem}")))?
        }
    };
    let mut steps = AdamSteps::new(Network::new(weights, &device));
    let mut random = Random::new(settings.seed);
    let mut order: Vec<usize> = (0..rows).collect();
    let batch = settings.batch.clamp(1, rows);
    let per_batch = examples.weight(outputs) / rows as f64 * batch as f64;
    let mut best: Option<(Weights, Progress)> = None;
    let mut progress = Progress {
        epoch: 0,
        epochs_max: settings.epochs_max.max(1),
        loss: f64::NAN,
        held_out_loss: f64::NAN,
        best_epoch: 0,
    };
    let stopped = loop {
        let done = progress.epoch as f64 / progress.epochs_max as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        let share = settings.final_share + (1.0 - settings.final_share) * cosine;
        random.shuffle(&mut order);
        let mut loss = 0.0;
        for rows in order.chunks(batch) {
            let part = Part::take(examples, rows, outputs);
            let tracked = steps.network.tracked();
            let device = device.clone().autodiff();
            let summed = part.loss(&tracked, &device);
            let scale = 1.0 / per_batch;
            let gradients = summed.clone().mul_scalar(scale).backward();
            loss +=
                f64::from(numbers(summed.inner().reshape([1, 1])).first().copied().unwrap_or(0.0));
            steps.step(&tracked, &gradients, settings.learning_rate * share);
        }
        progress.epoch += 1;
        progress.loss = loss / examples.weight(outputs);
        if !progress.loss.is_finite() {
            return Err(refused(
                "came to numbers that are not finite; take a smaller learning rate",
            ));
        }
        let now = steps.network.weights()?;
        progress.held_out_loss = mean_loss(&now, held_out);
        let is_better =
            best.as_ref().is_none_or(|(_, best)| !(progress.held_out_loss >= best.held_out_loss));
        if is_better {
            progress.best_epoch = progress.epoch;
            best = Some((now, progress));
        }
        if watch(&progress).is_break() {
            break Stopped::Cancelled;
        }
        if progress.epoch >= progress.epochs_max {
            break Stopped::Epochs;
        }
        if progress.epoch - progress.best_epoch >= settings.patience.max(1) {
            break Stopped::Patience;
        }
    };
    let (weights, best) = best.unwrap_or_else(|| (weights.clone(), progress));
    Ok(Trained { weights, best, epochs: progress.epoch, stopped })
}

fn refused(problem: &str) -> OperatorError {
    OperatorError::evaluation("training of a network", format!("it {problem}"))
}

/// A network that Adam moves.
struct AdamSteps {
    network: Network,
    adam: Adam,
    states: Vec<Option<<Adam as Optimizer>::State<2>>>,
}

impl AdamSteps {
    fn new(network: Network) -> Self {
        let states = network.parameters.iter().map(|_| None).collect();
        Self { network, adam: AdamConfig::new().with_epsilon(1e-8).build(), states }
    }

    fn step(&mut self, tracked: &Network, gradients: &burn::tensor::Gradients, rate: f64) {
        let parameters = self.network.parameters.iter_mut().zip(&tracked.parameters);
        for ((parameter, tracked), state) in parameters.zip(&mut self.states) {
            let Some(gradient) = tracked.grad(gradients) else { continue };
            let (moved, next) =
                self.adam.step(rate, parameter.clone(), gradient.inner(), state.take());
            (*parameter, *state) = (moved, next);
        }
    }
}

/// Some of the examples.
pub(super) struct Part {
    steps: usize,
    symbols: Vec<u32>,
    values: Vec<f32>,
    targets: Targets,
}

impl Part {
    pub(super) fn take(examples: &Examples, rows: &[usize], outputs: usize) -> Self {
        fn some<T: Copy>(all: &[T], width: usize, rows: &[usize]) -> Vec<T> {
            rows.iter()
                .flat_map(|row| all[row * width..(row + 1) * width].iter().copied())
                .collect()
        }
        let count = examples.len(outputs).max(1);
        let targets = match &examples.targets {
            Targets::Outputs(all) => {
                Targets::Outputs(rows.iter().map(|row| all[*row].clone()).collect())
            }
            Targets::Vectors(all) => Targets::Vectors(some(all, outputs, rows)),
        };
        Self {
            steps: examples.steps,
            symbols: some(&examples.symbols, examples.symbols.len() / count, rows),
            values: some(&examples.values, examples.values.len() / count, rows),
            targets,
        }
    }

    /// The summed loss.
    pub(super) fn loss(&self, network: &Network, device: &Device) -> Tensor<1> {
        let sequences = network.sequences(&self.symbols, &self.values);
        let (outputs, prefixes) = network.forward(sequences, self.steps, device);
        let [nodes, width] = outputs.dims();
        let mut wanted = vec![0.0_f32; nodes * width];
        match &self.targets {
            Targets::Outputs(followed) => {
                for (row, node) in prefixes.reached() {
                    for (output, weight) in &followed[row] {
                        if (*output as usize) < width {
                            wanted[node * width + *output as usize] += weight;
                        }
                    }
                }
                let wanted =
                    Tensor::<2>::from_data(TensorData::new(wanted, [nodes, width]), device);
                (log_softmax(outputs, 1) * wanted).sum().neg()
            }
            Targets::Vectors(vectors) => {
                for (row, node) in prefixes.reached() {
                    wanted[node * width..(node + 1) * width]
                        .copy_from_slice(&vectors[row * width..(row + 1) * width]);
                }
                let wanted =
                    Tensor::<2>::from_data(TensorData::new(wanted, [nodes, width]), device);
                (outputs - wanted).square().sum().mul_scalar(1.0 / width as f64)
            }
        }
    }
}

/// Mean loss of weights over examples; NaN over none.
pub(super) fn mean_loss(weights: &Weights, examples: &Examples) -> f64 {
    let width = weights.shape().outputs;
    let rows = examples.len(width);
    if rows == 0 || examples.steps == 0 {
        return f64::NAN;
    }
    let (mut scorer, mut found) = (Scorer::new(weights), Vec::new());
    match &examples.targets {
        Targets::Outputs(followed) => {
            scorer.score_symbols(&examples.symbols, examples.steps, &mut found);
            let mut loss = 0.0;
            for (logits, followed) in found.chunks_exact(width).zip(followed) {
                let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let total: f32 = logits.iter().map(|logit| (logit - most).exp()).sum();
                let base = f64::from(most) + f64::from(total).ln();
                for (output, weight) in followed {
                    let logit = logits.get(*output as usize).copied().unwrap_or(f32::MIN);
                    loss += f64::from(*weight) * (base - f64::from(logit));
                }
            }
            loss / examples.weight(width)
        }
        Targets::Vectors(vectors) => {
            scorer.score_values(&examples.values, examples.steps, &mut found);
            let squares = found.iter().zip(vectors).map(|(a, b)| f64::from(a - b).powi(2));
            squares.sum::<f64>() / vectors.len() as f64
        }
    }
}
