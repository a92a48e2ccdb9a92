//! The network of log keys: one-hot symbols in, a distribution over the end and all keys out (DL-02, DL-03).

use std::ops::ControlFlow;
use std::sync::Arc;

use super::{NetworkSettings, Pairs, TrainingProgress, Watch};
use crate::error::Result;
use crate::inference;
use crate::neural::lstm::{
    Examples, LstmInput, LstmShape, Progress, Scorer, ServedLstm, Training, Weights, train,
};

/// A trained network, ready for scoring.
#[derive(Clone, Debug)]
pub(in crate::detectors::deeplog) struct Network {
    weights: Weights,
    scorer: Scorer,
    /// This version, once it has been scored by a service.
    served: Option<Arc<ServedLstm>>,
}

fn examples(history: usize, pairs: &Pairs) -> Examples {
    let pairs =
        pairs.iter().map(|(history, output, weight)| (&history[..], *output, *weight as f32));
    Examples::gather(history, pairs)
}

impl Network {
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
        let (pairs, held_out) = (examples(history, pairs), examples(history, held_out));
        let trained = train(&start, &pairs, &held_out, &training, &mut tell)?;
        Ok((Self::of(trained.weights), trained.best.epoch))
    }

    fn of(weights: Weights) -> Self {
        Self { scorer: Scorer::new(&weights), weights, served: None }
    }

    /// Takes some steps of gradient over pairs, all of them in each.
    pub(in crate::detectors::deeplog) fn learn(
        &mut self,
        history: usize,
        pairs: &Pairs,
        steps: usize,
        rate: f64,
    ) -> Result<()> {
        let training = Training {
            learning_rate: rate,
            final_share: 1.0,
            batch: usize::MAX,
            epochs_max: steps,
            ..Training::default()
        };
        let mut go = |_: &Progress| ControlFlow::Continue(());
        let examples = examples(history, pairs);
        let trained = train(&self.weights, &examples, &Examples::default(), &training, &mut go)?;
        *self = Self::of(trained.weights);
        Ok(())
    }

    /// Makes room for more keys, which as input are taken like the symbol `like` (DL-14).
    pub(in crate::detectors::deeplog) fn grow(&mut self, symbols: usize, like: u32) {
        self.weights.grow(symbols, like as usize);
        (self.scorer, self.served) = (Scorer::new(&self.weights), None);
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

    pub(in crate::detectors::deeplog) fn restore(bytes: &[u8]) -> Result<(Self, Vec<String>)> {
        let (weights, names) = Weights::from_bytes(bytes, None)?;
        Ok((Self::of(weights), names))
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
