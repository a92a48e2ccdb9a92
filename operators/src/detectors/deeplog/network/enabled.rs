//! The network of log keys: one-hot symbols in, a distribution over the end and all keys out (DL-02, DL-03).

use std::ops::ControlFlow;
use std::sync::Arc;

use super::{Fresh, NetworkSettings, Pairs, TrainingProgress, Watch};
use crate::detectors::deeplog::key_model::Bounds;
use crate::detectors::deeplog::ranking::missing;
use crate::error::Result;
use crate::inference;
use crate::neural::lstm::{
    DenseLearner, Examples, LstmInput, LstmShape, Progress, Scorer, ServedLstm, Targets, Training,
    Weights, train,
};

/// What is raised is raised by so much more than it takes, in nats: enough for rounding, and little more, because what
/// is like it rises with it, be it normal or not.
const MARGIN: f64 = 0.1;
/// Outputs that are looked at after each step, at most: a bound on the work where keys are many.
const CHECKED_MAX: usize = 1 << 24;

/// A trained network, ready for scoring.
#[derive(Clone, Debug)]
pub(in crate::detectors::deeplog) struct Network {
    weights: Weights,
    scorer: Scorer,
    /// This version, once it has been scored by a service.
    served: Option<Arc<ServedLstm>>,
    repeats_power: f64,
}

fn examples(history: usize, pairs: &Pairs, repeats_power: f64) -> Examples {
    let pairs =
        pairs.iter().map(|(history, output, weight)| (&history[..], *output, *weight as f32));
    Examples::gather(history, pairs).tempered(repeats_power)
}

/// For each history the outputs that followed it, and how much they weigh.
type Followed = Vec<Vec<(u32, f32)>>;

impl Network {
    // Without the feature it is an error.
    #[allow(clippy::unnecessary_wraps)]
    pub(in crate::detectors::deeplog) fn available() -> Result<()> {
        Ok(())
    }

    /// Trains a network over so many symbols, the first two of which are never predicted. Gives the number of passes
    /// that its weights took as well.
    pub(in crate::detectors::deeplog) fn train(
        symbols: usize,
        history: usize,
        pairs: &Pairs,
        held_out: &Pairs,
        settings: &NetworkSettings,
        watch: Watch<'_>,
    ) -> Result<(Self, usize)> {
        let shape = LstmShape {
            input: LstmInput::Symbols(symbols),
            layers: settings.layers,
            hidden: settings.hidden,
            outputs: symbols - 2,
        };
        let training = Training {
            learning_rate: settings.learning_rate,
            batch: settings.batch,
            epochs_max: settings.epochs,
            patience: settings.patience,
            seed: settings.seed,
            ..Training::default()
        };
        let mut tell = |progress: &Progress| -> ControlFlow<()> {
            let Progress { epoch, epochs_max, loss, held_out_loss, .. } = *progress;
            watch(&TrainingProgress { epoch, epochs_max, loss, held_out_loss })
        };
        let start = Weights::random(shape, settings.seed);
        let tempered = |pairs: &Pairs| examples(history, pairs, settings.repeats_power);
        let trained = train(&start, &tempered(pairs), &tempered(held_out), &training, &mut tell)?;
        Ok((Self::of(trained.weights, settings.repeats_power), trained.best.epoch))
    }

    fn of(weights: Weights, repeats_power: f64) -> Self {
        Self { scorer: Scorer::new(&weights), weights, served: None, repeats_power }
    }

    /// The states after histories, one after the other.
    fn states(&mut self, histories: &[u32], history: usize) -> Vec<f32> {
        let mut states = Vec::new();
        self.scorer.states_of_symbols(histories, history, &mut states);
        states
    }

    /// A learner of the dense layer, what it replays, and the states of that.
    fn learner(
        &mut self,
        history: usize,
        replay: &Pairs,
    ) -> Result<(DenseLearner, Followed, Vec<f32>)> {
        let replayed = examples(history, replay, self.repeats_power);
        let Targets::Outputs(followed) = replayed.targets else { return Err(lost()) };
        let states = self.states(&replayed.symbols, history);
        let weight = |followed: &Vec<(u32, f32)>| followed.iter().map(|(_, w)| f64::from(*w)).sum();
        let counts: Vec<f64> = followed.iter().map(weight).collect();
        Ok((DenseLearner::new(&self.weights, &states, &counts)?, followed, states))
    }

    /// Learns that fresh pairs are normal, by up to so many steps over them and over those of the replayed pairs that
    /// would cease to be normal.
    pub(in crate::detectors::deeplog) fn learn(
        &mut self,
        history: usize,
        fresh: &Fresh,
        replay: &Pairs,
        bounds: &Bounds,
        steps: usize,
    ) -> Result<()> {
        let hidden = self.weights.shape().hidden;
        let (mut learner, followed, states) = self.learner(history, replay)?;
        let symbols: Vec<u32> = fresh.iter().flat_map(|(history, _)| history.clone()).collect();
        let fresh_states = self.states(&symbols, history);
        let (mut outputs, mut others) = (Vec::new(), Vec::new());
        let mut missing_of = |learner: &DenseLearner, state: &[f32], output: usize| {
            learner.outputs(state, &mut outputs);
            missing(&outputs, output, bounds, &mut others)
        };
        let checked = (CHECKED_MAX / self.weights.shape().outputs.max(1)).min(followed.len());
        let replayed: Vec<(&[f32], usize)> = states
            .chunks_exact(hidden)
            .zip(&followed[..checked])
            .flat_map(|(state, all)| all.iter().map(move |(output, _)| (state, *output as usize)))
            .collect();
        // What feedback did not find normal before is none of its business.
        let kept: Vec<(&[f32], usize)> = replayed
            .into_iter()
            .filter(|(state, output)| missing_of(&learner, state, *output) <= 0.0)
            .collect();
        let news: Vec<(&[f32], usize)> = fresh_states
            .chunks_exact(hidden)
            .zip(fresh)
            .map(|(state, (_, output))| (state, *output as usize))
            .collect();
        for step in 0..steps {
            let mut moved = false;
            let again = if step == 0 { &[][..] } else { &kept[..] };
            for (state, output) in news.iter().chain(again) {
                let by = missing_of(&learner, state, *output);
                if by > 0.0 {
                    learner.raise(state, *output, by + MARGIN);
                    moved = true;
                }
            }
            if step > 0 && !moved {
                break;
            }
        }
        let mut weights = self.weights.clone();
        learner.write(&mut weights)?;
        *self = Self::of(weights, self.repeats_power);
        Ok(())
    }

    /// Makes room for more keys, which as input are taken like the symbol `like` (DL-14). As outputs they get the mean of
    /// what is there, and a bias that makes them the least probable of all after every history that is replayed: they
    /// are normal only where feedback says so.
    pub(in crate::detectors::deeplog) fn grow(
        &mut self,
        symbols: usize,
        like: u32,
        history: usize,
        replay: &Pairs,
    ) -> Result<()> {
        let known = self.weights.shape().outputs;
        self.weights.grow(symbols, like as usize);
        (self.scorer, self.served) = (Scorer::new(&self.weights), None);
        self.scorer = Scorer::new(&self.weights);
        let hidden = self.weights.shape().hidden;
        let (mut learner, _, states) = self.learner(history, replay)?;
        let mut outputs = Vec::new();
        let above = states.chunks_exact(hidden).map(|state| {
            learner.outputs(state, &mut outputs);
            let least = outputs[..known].iter().copied().fold(f64::INFINITY, f64::min);
            outputs[known] - least
        });
        let above = above.fold(0.0, f64::max);
        (known..known + symbols).for_each(|output| learner.shift(output, -above - MARGIN));
        learner.write(&mut self.weights)?;
        self.scorer = Scorer::new(&self.weights);
        Ok(())
    }

    /// The probability of each output after each history.
    pub(in crate::detectors::deeplog) fn probabilities(
        &mut self,
        histories: &[u32],
        history: usize,
        out: &mut Vec<f32>,
    ) {
        let from = out.len();
        self.scorer.score_symbols(histories, history, out);
        self.normalize(&mut out[from..]);
    }

    /// This version as a service scores it: a row for each history, and outputs that [`Network::normalize`] completes.
    pub(in crate::detectors::deeplog) fn served(
        &mut self,
        history: usize,
    ) -> Arc<dyn inference::Network> {
        let new = || Arc::new(ServedLstm::new(self.weights.clone(), history));
        Arc::clone(self.served.get_or_insert_with(new)) as Arc<dyn inference::Network>
    }

    /// Turns outputs of the network into probabilities.
    pub(in crate::detectors::deeplog) fn normalize(&self, outputs: &mut [f32]) {
        for row in outputs.chunks_exact_mut(self.weights.shape().outputs) {
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            row.iter_mut().for_each(|logit| *logit = (*logit - most).exp());
            let total: f32 = row.iter().sum();
            row.iter_mut().for_each(|p| *p /= total);
        }
    }

    /// The weights with the keys that they know, as bytes.
    pub(in crate::detectors::deeplog) fn save(&self, names: &[String]) -> Result<Vec<u8>> {
        self.weights.to_bytes(names)
    }

    pub(in crate::detectors::deeplog) fn restore(
        bytes: &[u8],
        repeats_power: f64,
    ) -> Result<(Self, Vec<String>)> {
        let (weights, names) = Weights::from_bytes(bytes, None)?;
        Ok((Self::of(weights, repeats_power), names))
    }

    /// Symbols that come in, and outputs.
    pub(in crate::detectors::deeplog) fn widths(&self) -> (usize, usize) {
        (self.weights.shape().input.width(), self.weights.shape().outputs)
    }

    pub(in crate::detectors::deeplog) fn heap_bytes(&self) -> usize {
        let served = self.served.as_ref().map_or(0, |served| served.heap_bytes());
        self.weights.heap_bytes() + self.scorer.heap_bytes() + served
    }
}

fn lost() -> crate::error::OperatorError {
    crate::error::OperatorError::evaluation("learning from feedback", "there is nothing to replay")
}
