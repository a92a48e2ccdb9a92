//! The model of parameter values: for each log key a network over its recent parameter vectors, which predicts the
//! next (DL-09 to DL-11).
//!
//! A vector holds the numbers of one entry: seconds since the entry before it, then the parameters that are numbers.
//! Each number is counted in standard deviations from its mean in training; a number that never varied there is left
//! out. The mean squared error of the prediction is compared with what it was on the last vectors of training, which
//! were held out: these errors are taken to be Gaussian, and an error beyond the one-sided confidence interval is an
//! anomaly.
//!
//! Missing numbers (NaN, infinite) count as the mean. Du et al. 2017, section 3.2.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::network::NetworkSettings;
use crate::error::{OperatorError, Result};
use crate::model::snapshot;
use crate::neural::lstm::{
    DenseLearner, Examples, LstmInput, LstmShape, Scorer, Targets, Training, Weights, train,
};

const OWNER: &str = "deeplog value model";
/// Numbers lie at most so many deviations from their mean, so that errors stay finite.
const DEVIATIONS_MAX: f64 = 1e4;
/// A number that varies less than this share of its mean does not vary.
const VARIES: f64 = 1e-9;
/// Vectors of training that are kept for replay, the last ones.
const REPLAY_MAX: usize = 512;
/// Share of what is replayed that feedback may make abnormal (DL-15).
const SPOILED_MAX: f64 = 0.01;
/// How often a step is halved for that before nothing is learned.
const HALVINGS: u32 = 10;

/// How models of parameter values are trained and judge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueSettings {
    /// Vectors that a prediction is made from.
    pub history: usize,
    /// Confidence that an error within the interval is normal, between .5 and 1; .98, .99 and .999 in the paper.
    pub confidence: f64,
    /// Share of the vectors, the last, by which errors are measured.
    pub held_out: f64,
    /// Keys with fewer vectors get no model.
    pub vectors_min: usize,
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

/// What a model says about one vector.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueJudgement {
    /// Mean squared error of the prediction, in squared deviations.
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
    /// Mean and standard deviation of errors, and the greatest that is normal.
    errors: (f64, f64),
    bound: f64,
    history: usize,
    /// The latest vectors, scaled, the oldest first.
    recent: Vec<f32>,
    /// The last vectors of training, scaled, in their order.
    replay: Vec<f32>,
}

/// How numbers become what the network reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Scale {
    means: Vec<f64>,
    deviations: Vec<f64>,
    /// Numbers that vary.
    varying: Vec<usize>,
}

impl Scale {
    fn of(vectors: &[Vec<f64>]) -> Self {
        let width = vectors.iter().map(Vec::len).max().unwrap_or(0);
        let mut scale = Self { means: Vec::new(), deviations: Vec::new(), varying: Vec::new() };
        for place in 0..width {
            let known = || vectors.iter().filter_map(|v| v.get(place)).filter(|x| x.is_finite());
            let count = known().count().max(1) as f64;
            let mean = known().sum::<f64>() / count;
            let deviation = (known().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
            let is_sound = mean.is_finite() && deviation.is_finite();
            if is_sound && deviation > VARIES * mean.abs().max(VARIES) {
                scale.varying.push(place);
            }
            scale.means.push(if mean.is_finite() { mean } else { 0.0 });
            scale.deviations.push(if is_sound { deviation } else { 0.0 });
        }
        scale
    }

    fn scaled(&self, vector: &[f64], out: &mut Vec<f32>) {
        for place in &self.varying {
            let x = vector.get(*place).copied().unwrap_or(f64::NAN);
            let z = (x - self.means[*place]) / self.deviations[*place];
            out.push(if z.is_finite() {
                z.clamp(-DEVIATIONS_MAX, DEVIATIONS_MAX) as f32
            } else {
                0.0
            });
        }
    }
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
            if vectors.len() >= settings.vectors_min.max(3 * settings.history)
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
    /// The step is as long as it can be without making more than one in a hundred vectors of training abnormal, so that
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
                + series.scale.means.len() * 24
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
        snapshot::seal(OWNER, &saved?)
    }

    /// What [`ValueModel::to_bytes`] wrote.
    ///
    /// # Errors
    /// If the bytes are cut short, damaged, of another version, or do not fit together.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let saved: Vec<SavedSeries> = snapshot::open(OWNER, bytes)?;
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
    errors: (f64, f64),
    bound: f64,
    history: usize,
    recent: Vec<f32>,
    replay: Vec<f32>,
}

impl Series {
    fn train(vectors: &[Vec<f64>], settings: &ValueSettings) -> Result<Option<Self>> {
        let held_out = ((vectors.len() as f64 * settings.held_out) as usize)
            .clamp(settings.history + 2, vectors.len() / 2);
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
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        let square = errors.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / errors.len() as f64;
        let deviation = square.sqrt();
        Ok(Some(Self {
            scale,
            weights: trained.weights,
            scorer,
            errors: (mean, deviation),
            bound: mean + normal_quantile(settings.confidence) * deviation,
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
            let mut expected = self.scale.means.clone();
            for (place, z) in self.scale.varying.iter().zip(&found) {
                expected[*place] += f64::from(*z) * self.scale.deviations[*place];
            }
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
        let mut spoiled = |after: &DenseLearner| {
            let pairs = states.chunks_exact(hidden).zip(then.chunks_exact(width));
            let is_spoiled = |(state, wanted): &(&[f32], &[f32])| {
                error_of(&before, state, wanted) <= self.bound
                    && error_of(after, state, wanted) > self.bound
            };
            pairs.filter(is_spoiled).count() as f64
        };
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
            if spoiled(&learner) <= SPOILED_MAX * counts.len() as f64 {
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
            errors: self.errors,
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
        let scale = &saved.scale;
        let fits = shape.input == LstmInput::Values(width)
            && shape.outputs == width
            && saved.history > 0
            && saved.recent.len().is_multiple_of(width)
            && saved.replay.len().is_multiple_of(width)
            && saved.replay.len() / width <= REPLAY_MAX
            && saved.recent.len() / width <= saved.history + 1
            && scale.means.len() == scale.deviations.len()
            && scale
                .varying
                .iter()
                .all(|place| scale.deviations.get(*place).is_some_and(|d| *d > 0.0))
            && saved.bound.is_finite();
        if !fits {
            return Err(snapshot::problem(OWNER, "holds parts that do not fit each other"));
        }
        let series = Self {
            scorer: Scorer::new(&weights),
            weights,
            scale: saved.scale,
            errors: saved.errors,
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

/// The point below which a standard normal variable lies with probability `p` (Acklam's approximation, relative error
/// below 2e-9), for `p` from .5 on.
fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
    ];
    let polynomial = |of: &[f64], x: f64| of.iter().fold(0.0, |sum, c| sum * x + c);
    if p <= 0.975_75 {
        let q = p - 0.5;
        let r = q * q;
        polynomial(&A, r) * q / (polynomial(&B, r) * r + 1.0)
    } else {
        let q = (-2.0 * (1.0 - p).ln()).sqrt();
        -polynomial(&C, q) / (polynomial(&D, q) * q + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_paper() {
        for (p, z) in [(0.5, 0.0), (0.98, 2.053_749), (0.99, 2.326_348), (0.999, 3.090_232)] {
            assert!((normal_quantile(p) - z).abs() < 1e-5, "{p}: {}", normal_quantile(p));
        }
    }

    /// Durations of a step with a rhythm and some noise, and a size that never varies.
    fn durations(count: usize) -> Vec<Vec<f64>> {
        let mut state = 3_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f64 / f64::from(1 << 24) - 0.5
        };
        (0..count).map(|i| vec![20.0 + 3.0 * (i as f64 * 0.7).sin() + noise(), 512.0]).collect()
    }

    fn trained() -> ValueModel {
        let settings = ValueSettings {
            history: 6,
            network: NetworkSettings {
                learning_rate: 0.01,
                epochs: 40,
                ..ValueSettings::default().network
            },
            ..ValueSettings::default()
        };
        let vectors = BTreeMap::from([
            ("build".to_owned(), durations(300)),
            ("rare".to_owned(), durations(5)),
            ("same".to_owned(), vec![vec![1.0]; 300]),
        ]);
        ValueModel::train(&vectors, &settings).unwrap()
    }

    #[test]
    fn slow_builds_are_found_and_named() {
        let mut model = trained();
        assert_eq!(model.keys().collect::<Vec<_>>(), ["build"]);
        let mut raised = 0;
        for vector in &durations(400)[300..] {
            raised += usize::from(model.judge("build", vector).unwrap().is_anomaly);
        }
        // Squared errors are not quite Gaussian, so that more than one in a thousand is beyond the interval.
        assert!(raised <= 8, "{raised} of 100 usual builds are raised");
        let slow = model.clone().judge("build", &[301.0, 512.0]).unwrap();
        assert!(slow.is_anomaly && slow.worst == 0 && slow.expected.len() == 2, "{slow:?}");
        assert!((slow.expected[0] - 20.0).abs() < 5.0 && slow.expected[1] == 512.0, "{slow:?}");
        assert_eq!(model.judge("rare", &[20.0]), None);
        for odd in [[f64::NAN, 512.0], [f64::INFINITY, -1.0], [1e300, 0.0]] {
            assert!(model.judge("build", &odd).unwrap().error.is_finite());
        }
    }

    #[test]
    fn feedback_brings_the_error_down() {
        let mut model = trained();
        let before = model.judge("build", &[40.0, 512.0]).unwrap();
        let mut again = model.clone();
        again.learn_normal("build").unwrap();
        // The same vectors once more, by the model before and after.
        let series = again.keys.get_mut("build").unwrap();
        series.recent.pop();
        let after = again.judge("build", &[40.0, 512.0]).unwrap();
        assert!(after.error < before.error, "{} after {}", after.error, before.error);
        assert_eq!(after.bound, before.bound, "nothing else is widened");
    }

    /// DL-15: what is normal stays normal, however far off the vector is that feedback is about.
    #[test]
    fn feedback_leaves_what_is_normal_alone() {
        let raised = |model: &mut ValueModel| {
            let usual = &durations(400)[300..];
            usual.iter().filter(|v| model.judge("build", v).unwrap().is_anomaly).count()
        };
        let model = trained();
        let before = raised(&mut model.clone());
        for odd in [30.0, 60.0, 1e6] {
            let mut told = model.clone();
            for _ in 0..5 {
                told.judge("build", &[odd, 512.0]).unwrap();
                told.learn_normal("build").unwrap();
                // The rhythm begins anew behind it.
                durations(320)[300..].iter().for_each(|v| {
                    told.judge("build", v).unwrap();
                });
            }
            let after = raised(&mut told);
            assert!(after <= before + 4, "{odd}: {after} of 100 are raised, {before} before");
        }
    }

    #[test]
    fn models_come_back_as_they_were() {
        let mut model = trained();
        let bytes = model.to_bytes().unwrap();
        let mut back = ValueModel::from_bytes(&bytes).unwrap();
        assert_eq!(back.judge("build", &[25.0, 512.0]), model.judge("build", &[25.0, 512.0]));
        let problem = ValueModel::from_bytes(&bytes[..bytes.len() - 3]).map(|_| ()).unwrap_err();
        assert!(problem.to_string().starts_with("snapshot of deeplog value model"), "{problem}");
    }
}
