//! The model of parameter values: for each log key a network over its recent parameter vectors, which predicts the
//! next (DL-09 to DL-11).
//!
//! A vector holds the numbers of one entry: seconds since the entry before it, then the parameters that are numbers.
//! Each number is counted in standard deviations from its mean in training, or the logarithm from its mean where that is
//! clearly less skewed, as for times and sizes; a number that never varied there is left out. The mean squared error of
//! the prediction is compared with what it was on the last vectors of training, which were held out: an error beyond
//! the one-sided interval in which the next one lies with the confidence asked for is an anomaly.
//!
//! Missing numbers (NaN, infinite) count as the mean. Du et al. 2017, section 3.2; of the interval see `bound`.

mod bound;
mod scale;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use self::bound::bound;
use self::scale::Scale;
use super::network::NetworkSettings;
use crate::error::{OperatorError, Result};
use crate::model::snapshot;
use crate::neural::lstm::{
    DenseLearner, Examples, LstmInput, LstmShape, Scorer, Targets, Training, Weights, train,
};

const OWNER: &str = "deeplog value model";
/// Version 1 knew no logarithms.
const VERSION: u8 = 2;
/// Vectors of training that are kept for replay, the last ones.
const REPLAY_MAX: usize = 512;
/// Share of what is replayed that may be abnormal after feedback, if it was not more before (DL-15).
const SPOILED_MAX: f64 = 0.01;
/// How often a step is halved for that before nothing is learned.
const HALVINGS: u32 = 10;

/// How models of parameter values are trained and judge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueSettings {
    /// Vectors that a prediction is made from.
    pub history: usize,
    /// Confidence with which the next error of normal operation lies within the interval, between .5 and 1; .98, .99 and
    /// .999 in the paper.
    pub confidence: f64,
    /// Share of the vectors, the last, by which errors are measured.
    pub held_out: f64,
    /// Keys with fewer vectors get no model.
    pub vectors_min: usize,
    /// Errors that a bound rests on, at least: so many vectors are held out if the share of them is fewer, but no more
    /// than half. A key with fewer gets no model.
    pub errors_min: usize,
    /// The networks.
    pub network: NetworkSettings,
}

impl Default for ValueSettings {
    fn default() -> Self {
        Self {
            history: 10,
            confidence: 0.999,
            held_out: 0.3,
            vectors_min: 60,
            errors_min: 20,
            network: NetworkSettings {
                hidden: 32,
                layers: 1,
                batch: 64,
                epochs: 60,
                ..NetworkSettings::default()
            },
        }
    }
}

impl ValueSettings {
    /// The fewest vectors of which a key has a model, by all that is set.
    fn vectors_fewest(&self) -> usize {
        let errors = self.errors_min.saturating_mul(2).max(4);
        self.vectors_min.max(self.history.saturating_mul(3)).max(errors)
    }
}

/// What a model says about one vector.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueJudgement {
    /// Mean squared error of the prediction, in squared deviations of the numbers or of their logarithms.
    pub error: f64,
    /// The greatest error that is normal.
    pub bound: f64,
    /// Whether the error is beyond it.
    pub is_anomaly: bool,
    /// What was predicted, in the numbers' own units; the mean for numbers that never varied.
    pub expected: Vec<f64>,
    /// The number that adds most to the error.
    pub worst: usize,
}

/// Models of the parameter values of log keys.
#[derive(Clone, Debug, Default)]
pub struct ValueModel {
    keys: BTreeMap<String, Series>,
}

/// The model of one key, and its latest vectors.
#[derive(Clone, Debug)]
struct Series {
    scale: Scale,
    weights: Weights,
    scorer: Scorer,
    /// The greatest error that is normal.
    bound: f64,
    history: usize,
    /// The latest vectors, scaled, the oldest first.
    recent: Vec<f32>,
    /// The last vectors of training, scaled, in their order.
    replay: Vec<f32>,
}

impl ValueModel {
    /// Trains a model for each key from its vectors, in the order of time.
    ///
    /// # Errors
    /// If settings are out of range, or training fails.
    pub fn train(
        vectors: &BTreeMap<String, Vec<Vec<f64>>>,
        settings: &ValueSettings,
    ) -> Result<Self> {
        if !(0.5 <= settings.confidence && settings.confidence < 1.0) || settings.history == 0 {
            return Err(OperatorError::evaluation(
                "training of a value model",
                "its settings are out of range",
            ));
        }
        let mut keys = BTreeMap::new();
        for (key, vectors) in vectors {
            if vectors.len() >= settings.vectors_fewest()
                && let Some(series) = Series::train(vectors, settings)?
            {
                keys.insert(key.clone(), series);
            }
        }
        Ok(Self { keys })
    }

    /// Keys that have a model.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// Judges the next vector of a key and takes it in; `None` for a key without a model, or with too few vectors yet.
    pub fn judge(&mut self, key: &str, vector: &[f64]) -> Option<ValueJudgement> {
        self.keys.get_mut(key)?.judge(vector)
    }

    /// Learns that a vector which was just raised is normal, by a step towards it in the network's last layer (DL-15).
    /// The step is as long as it can be without leaving more than one in a hundred vectors of training abnormal, so that
    /// a vector far from all that followed such a history is not learned by one feedback. Nothing else is widened.
    ///
    /// # Errors
    /// If the steps fail.
    pub fn learn_normal(&mut self, key: &str) -> Result<()> {
        let Some(series) = self.keys.get_mut(key) else { return Ok(()) };
        let latest = series.recent.clone();
        series.learn(&latest)
    }

    /// The latest vectors of a key, scaled, the last of which was judged by those before it.
    pub(super) fn run(&self, key: &str) -> Option<&[f32]> {
        self.keys.get(key).map(|series| series.recent.as_slice())
    }

    /// [`ValueModel::learn_normal`] of a vector that is no longer the latest: of the last of a [`ValueModel::run`].
    pub(super) fn learn_run(&mut self, key: &str, run: &[f32]) -> Result<()> {
        self.keys.get_mut(key).map_or(Ok(()), |series| series.learn(run))
    }

    /// Bytes held, estimated.
    pub(super) fn heap_bytes(&self) -> usize {
        let of_series = |series: &Series| {
            series.weights.heap_bytes()
                + series.scorer.heap_bytes()
                + (series.recent.capacity() + series.replay.capacity()) * 4
                + series.scale.heap_bytes()
        };
        self.keys.iter().map(|(key, series)| key.len() + 256 + of_series(series)).sum()
    }

    /// All models as bytes: versioned, with a checksum, floats exact.
    ///
    /// # Errors
    /// If they cannot be written, which would be a bug.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let saved: Result<Vec<SavedSeries>> =
            self.keys.iter().map(|(key, series)| series.save(key)).collect();
        snapshot::seal_as(VERSION, OWNER, &saved?)
    }

    /// What [`ValueModel::to_bytes`] wrote.
    ///
    /// # Errors
    /// If the bytes are cut short, damaged, of another version, or do not fit together.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let saved: Vec<SavedSeries> = snapshot::open_as(VERSION, OWNER, bytes)?;
        let mut keys = BTreeMap::new();
        for series in saved {
            let (key, series) = Series::restore(series)?;
            keys.insert(key, series);
        }
        Ok(Self { keys })
    }
}

#[derive(Serialize, Deserialize)]
struct SavedSeries {
    key: String,
    scale: Scale,
    weights: Vec<u8>,
    bound: f64,
    history: usize,
    recent: Vec<f32>,
    replay: Vec<f32>,
}

impl Series {
    fn train(vectors: &[Vec<f64>], settings: &ValueSettings) -> Result<Option<Self>> {
        let held_out = ((vectors.len() as f64 * settings.held_out) as usize)
            .max(settings.errors_min.max(2))
            .min(vectors.len() / 2);
        let learned = vectors.len() - held_out;
        let scale = Scale::of(&vectors[..learned]);
        let width = scale.varying.len();
        if width == 0 {
            return Ok(None);
        }
        let shape = LstmShape {
            input: LstmInput::Values(width),
            layers: settings.network.layers,
            hidden: settings.network.hidden,
            outputs: width,
        };
        let mut all = Vec::new();
        vectors.iter().for_each(|vector| scale.scaled(vector, &mut all));
        let examples = |from: usize, to: usize| {
            examples(&all[from * width..to * width], width, settings.history)
        };
        let training = Training {
            learning_rate: settings.network.learning_rate,
            batch: settings.network.batch,
            epochs_max: settings.network.epochs,
            patience: settings.network.patience,
            seed: settings.network.seed,
            ..Training::default()
        };
        let mut go = |_: &_| ControlFlow::Continue(());
        let start = Weights::random(shape, settings.network.seed);
        let checked = examples(learned - settings.history, vectors.len());
        let trained = train(&start, &examples(0, learned), &checked, &training, &mut go)?;
        let mut scorer = Scorer::new(&trained.weights);
        let mut found = Vec::new();
        scorer.score_values(&checked.values, settings.history, &mut found);
        let Targets::Vectors(wanted) = &checked.targets else { return Ok(None) };
        let errors: Vec<f64> = found
            .chunks_exact(width)
            .zip(wanted.chunks_exact(width))
            .map(|(a, b)| error(a, b))
            .collect();
        Ok(Some(Self {
            scale,
            weights: trained.weights,
            scorer,
            bound: bound(&errors, settings.confidence),
            history: settings.history,
            recent: all[(vectors.len() - settings.history) * width..].to_vec(),
            replay: all[vectors.len().saturating_sub(REPLAY_MAX) * width..].to_vec(),
        }))
    }

    fn judge(&mut self, vector: &[f64]) -> Option<ValueJudgement> {
        let width = self.scale.varying.len();
        let mut now = Vec::with_capacity(width);
        self.scale.scaled(vector, &mut now);
        let history = self.history * width;
        let from = self.recent.len().checked_sub(history);
        let judgement = from.map(|from| {
            let mut found = Vec::new();
            self.scorer.score_values(&self.recent[from..], self.history, &mut found);
            let error = error(&found, &now);
            let apart = |place: &usize| (found[*place] - now[*place]).abs();
            let worst = (0..width).max_by(|a, b| apart(a).total_cmp(&apart(b))).unwrap_or(0);
            let expected = self.scale.unscaled(&found);
            let worst = self.scale.varying[worst];
            ValueJudgement {
                error,
                bound: self.bound,
                is_anomaly: !(error <= self.bound),
                expected,
                worst,
            }
        });
        // One more than a prediction needs, so that the latest can be learned.
        if self.recent.len() > history {
            self.recent.drain(..width);
        }
        self.recent.extend(now);
        judgement
    }

    fn learn(&mut self, run: &[f32]) -> Result<()> {
        let width = self.scale.varying.len();
        let hidden = self.weights.shape().hidden;
        // One prediction, of the last.
        if run.len() != (self.history + 1) * width {
            return Ok(());
        }
        let latest = examples(run, width, self.history);
        let replay = examples(&self.replay, width, self.history);
        let (Targets::Vectors(now), Targets::Vectors(then)) = (&latest.targets, &replay.targets)
        else {
            return Ok(());
        };
        let (mut state, mut states) = (Vec::new(), Vec::new());
        self.scorer.states_of_values(&latest.values, self.history, &mut state);
        self.scorer.states_of_values(&replay.values, self.history, &mut states);
        let counts = vec![1.0; replay.len(width)];
        let before = DenseLearner::new(&self.weights, &states, &counts)?;
        let mut found = Vec::new();
        let mut error_of = |learner: &DenseLearner, state: &[f32], wanted: &[f32]| {
            learner.outputs(state, &mut found);
            let squares = found.iter().zip(wanted).map(|(a, b)| (a - f64::from(*b)).powi(2));
            squares.sum::<f64>() / width as f64
        };
        let mut abnormal = |learner: &DenseLearner| {
            let pairs = states.chunks_exact(hidden).zip(then.chunks_exact(width));
            pairs.filter(|(state, wanted)| error_of(learner, state, wanted) > self.bound).count()
        };
        // Of all of training, so that one feedback after the other does not add up.
        let most = abnormal(&before).max((SPOILED_MAX * counts.len() as f64) as usize);
        let mut expected = Vec::new();
        before.outputs(&state, &mut expected);
        let apart: Vec<f64> = expected.iter().zip(now).map(|(a, b)| f64::from(*b) - a).collect();
        let error = apart.iter().map(|d| d * d).sum::<f64>() / width as f64;
        if !(error > self.bound) {
            return Ok(());
        }
        // So far that the error is within the bound, but for rounding.
        let mut share = 1.0 - 0.99 * (self.bound.max(0.0) / error).sqrt();
        for _ in 0..=HALVINGS {
            let mut learner = before.clone();
            for (output, apart) in apart.iter().enumerate() {
                learner.raise(&state, output, share * apart);
            }
            if abnormal(&learner) <= most {
                let mut weights = self.weights.clone();
                learner.write(&mut weights)?;
                self.scorer = Scorer::new(&weights);
                self.weights = weights;
                return Ok(());
            }
            share /= 2.0;
        }
        Ok(())
    }

    fn save(&self, key: &str) -> Result<SavedSeries> {
        Ok(SavedSeries {
            key: key.to_owned(),
            scale: self.scale.clone(),
            weights: self.weights.to_bytes(&[])?,
            bound: self.bound,
            history: self.history,
            recent: self.recent.clone(),
            replay: self.replay.clone(),
        })
    }

    fn restore(saved: SavedSeries) -> Result<(String, Self)> {
        let (weights, _) = Weights::from_bytes(&saved.weights, None)?;
        let width = saved.scale.varying.len();
        let shape = weights.shape();
        let fits = width > 0
            && shape.input == LstmInput::Values(width)
            && shape.outputs == width
            && saved.history > 0
            && saved.recent.len().is_multiple_of(width)
            && saved.replay.len().is_multiple_of(width)
            && saved.replay.len() / width <= REPLAY_MAX
            && saved.recent.len() / width <= saved.history + 1
            && saved.scale.is_sound()
            && saved.bound.is_finite();
        if !fits {
            return Err(snapshot::problem(OWNER, "holds parts that do not fit each other"));
        }
        let series = Self {
            scorer: Scorer::new(&weights),
            weights,
            scale: saved.scale,
            bound: saved.bound,
            history: saved.history,
            recent: saved.recent,
            replay: saved.replay,
        };
        Ok((saved.key, series))
    }
}

/// Each run of `history` vectors with the one that followed.
fn examples(all: &[f32], width: usize, history: usize) -> Examples {
    let count = (all.len() / width).saturating_sub(history);
    let span = history * width;
    Examples {
        steps: history,
        symbols: Vec::new(),
        values: (0..count).flat_map(|i| all[i * width..i * width + span].iter().copied()).collect(),
        targets: Targets::Vectors(all.get(span..).unwrap_or(&[]).to_vec()),
    }
}

/// Mean squared error.
fn error(found: &[f32], wanted: &[f32]) -> f64 {
    let squares = found.iter().zip(wanted).map(|(a, b)| f64::from(a - b).powi(2));
    squares.sum::<f64>() / wanted.len().max(1) as f64
}

#[cfg(test)]
mod tests;
