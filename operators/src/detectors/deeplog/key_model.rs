//! The model of log keys: what follows what, and what whole sessions have in common.
//!
//! Training takes sessions of normal operation. The last of them are held out: by them training is stopped, and the
//! bounds are set that the rest of the sessions keep within. Then the network learns from all of them.

use serde::{Deserialize, Serialize};

use super::counts::{self, CountVector, DistanceCache, Invariants};
use super::network::{Fresh, Network, NetworkSettings, Pairs, Watch};
use super::ngram::Ngram;
use super::predictor::{Predictor, Rule, SavedRule};
use super::vocabulary::{END, UNKNOWN, Vocabulary, output_of, symbol_of};
use super::windows::Framing;
use crate::error::{OperatorError, Result};
use crate::model::snapshot;

const OWNER: &str = "deeplog key model";
/// Version 1 did not say how repeats count, and had no bound beside the invariants.
const VERSION: u8 = 2;
/// Fewer sessions are not split: all of them are learned from, and bounds are set by the same ones.
const SPLIT_MIN: usize = 20;
/// The least probability that counts, so that surprises stay finite.
const PROBABILITY_MIN: f64 = 1e-12;

/// What has a probability of 1 % or more is never out of place, however sure predictions were in training: neither an
/// end, nor a key beside the invariants.
const NLL_MIN: f64 = 4.605;
/// Pairs of training that are kept for replay.
const REPLAY_MAX: usize = 8_192;

/// What predicts the next key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyModelKind {
    /// Stacked LSTM layers (DL-02).
    Lstm,
    /// An n-gram model with backoff (DL-07), the baseline.
    Ngram,
}

/// How a key model is trained and judges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeySettings {
    /// What predicts.
    pub model: KeyModelKind,
    /// Keys that a prediction is made from (h in the paper).
    pub history: usize,
    /// A key among so many of the most probable is normal (g in the paper); 0 to choose it by sessions held out.
    pub top: usize,
    /// Whether sessions are preceded by begin markers, so that their first keys are predicted as well (DL-01).
    pub begin: bool,
    /// Whether the end of a session is predicted like a key (DL-01).
    pub end: bool,
    /// Share of the sessions of training, the last ones, that are held out.
    pub held_out: f64,
    /// Share of the sessions held out that bounds may raise.
    pub false_alarms: f64,
    /// Whether the model learns from all sessions in the end, with what was held out.
    pub refit: bool,
    /// The network.
    pub network: NetworkSettings,
    /// Bytes for what was predicted after histories that may come again (DL-23).
    pub cache_bytes: usize,
}

impl Default for KeySettings {
    fn default() -> Self {
        Self {
            model: KeyModelKind::Lstm,
            history: 10,
            top: 0,
            begin: true,
            end: true,
            held_out: 0.1,
            false_alarms: 0.01,
            refit: true,
            network: NetworkSettings::default(),
            cache_bytes: 64 << 20,
        }
    }
}

impl KeySettings {
    pub(super) fn framing(&self) -> Framing {
        Framing { history: self.history.max(1), begin: self.begin, end: self.end }
    }
}

/// What a model has to say about one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionJudgement {
    /// Entries of the session.
    pub entries: u32,
    /// Predictions made, that of the end among them.
    pub predictions: u32,
    /// Keys, or the end, that were not among the most probable.
    pub abnormal: u32,
    /// Keys that training never saw.
    pub unseen: u32,
    /// Entries whose key was normal and whose values were not.
    pub values: u32,
    /// The greatest rank of what came, 1 being the most probable; keys that training never saw have none.
    pub rank_max: u32,
    /// The greatest surprise: the negative logarithm, in nats, of the probability of what came.
    pub nll_max: f64,
    /// The sum of all surprises.
    pub nll_sum: f64,
    /// The surprise of the end; 0 where it is not predicted.
    pub end_nll: f64,
    /// Whether the session is shorter or longer than any of training; known at its end.
    pub length_is_odd: bool,
    /// How far it is from the nearest session of training, from 0 to 1; known at its end.
    pub distance: f64,
}

impl SessionJudgement {
    /// The mean surprise.
    #[must_use]
    pub fn nll_mean(&self) -> f64 {
        if self.predictions == 0 { 0.0 } else { self.nll_sum / f64::from(self.predictions) }
    }

    /// Takes an abnormal entry back: what it did to the greatest and the sum of surprises stays, unless the whole session
    /// was called normal so far.
    pub(super) fn excuse(&mut self, is_unseen: bool, is_whole: bool) {
        self.abnormal = self.abnormal.saturating_sub(1);
        self.unseen = self.unseen.saturating_sub(u32::from(is_unseen));
        if is_whole {
            (self.rank_max, self.nll_max, self.nll_sum, self.end_nll) = (0, 0.0, 0.0, 0.0);
        }
    }

    /// Takes one more prediction in.
    pub(super) fn see(&mut self, entry: EntryJudgement, bounds: Bounds) {
        self.predictions = self.predictions.saturating_add(1);
        self.nll_max = self.nll_max.max(entry.nll());
        self.nll_sum += entry.nll();
        match entry.rank {
            Rank::Unseen => self.unseen = self.unseen.saturating_add(1),
            Rank::Key(rank) => self.rank_max = self.rank_max.max(rank),
            Rank::End => self.end_nll = entry.nll(),
        }
        self.abnormal = self.abnormal.saturating_add(u32::from(entry.is_abnormal(bounds)));
    }
}

/// What came, among what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// The place of a key among all keys, 1 for the most probable.
    Key(u32),
    /// A key that training never saw.
    Unseen,
    /// The end of the session, which has no rank: it comes once in a session, and where it is out of place its rank is
    /// that of a frequent symbol all the same.
    End,
}

/// What is still normal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Bounds {
    /// Rank of a key.
    pub(super) top: usize,
    /// Surprise of a key.
    pub(super) nll: f64,
    /// Surprise of the end.
    pub(super) end_nll: f64,
    /// Surprise that nothing in training comes near.
    pub(super) beyond: f64,
}

/// What a model says about one key, or the end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct EntryJudgement {
    pub(super) rank: Rank,
    pub(super) probability: f64,
}

impl EntryJudgement {
    pub(super) fn nll(self) -> f64 {
        -self.probability.max(PROBABILITY_MIN).ln()
    }

    /// DL-04: not among the most probable, or never seen. The end is abnormal by its surprise.
    pub(super) fn is_abnormal(self, bounds: Bounds) -> bool {
        match self.rank {
            Rank::Key(rank) => rank as usize > bounds.top,
            Rank::Unseen => true,
            Rank::End => self.nll() > bounds.end_nll,
        }
    }
}

/// A trained model of log keys.
#[derive(Clone, Debug)]
pub struct KeyModel {
    settings: KeySettings,
    pub(super) vocabulary: Vocabulary,
    pub(super) predictor: Predictor,
    invariants: Invariants,
    distances: DistanceCache,
    pub(super) bounds: Bounds,
    /// Pairs of training that are repeated when something new is learned.
    replay: Pairs,
    places: Vec<u32>,
}

impl KeyModel {
    /// Trains a model by sessions of normal operation, in the order in which they ended.
    ///
    /// # Errors
    /// If the network is not built in, there is nothing to learn from, or training fails.
    pub fn train<S: AsRef<[String]>>(
        sessions: &[S],
        settings: &KeySettings,
        watch: Watch<'_>,
    ) -> Result<Self> {
        let mut vocabulary = Vocabulary::default();
        let symbols: Vec<Vec<u32>> = sessions
            .iter()
            .map(|session| session.as_ref().iter().map(|key| vocabulary.add(key)).collect())
            .collect();
        Self::train_symbols(vocabulary, &symbols, settings, watch)
    }

    pub(super) fn train_symbols(
        vocabulary: Vocabulary,
        sessions: &[Vec<u32>],
        settings: &KeySettings,
        watch: Watch<'_>,
    ) -> Result<Self> {
        let framing = settings.framing();
        let held_out = match sessions.len() {
            0..SPLIT_MIN => 0,
            count => ((count as f64 * settings.held_out).round() as usize).min(count / 2),
        };
        let (learned, checked) = sessions.split_at(sessions.len() - held_out);
        let whole = pairs(framing, sessions);
        if whole.is_empty() {
            return Err(OperatorError::evaluation(
                "training of a key model",
                "no session is longer than a history",
            ));
        }
        let outputs = vocabulary.outputs();
        let mut epochs = settings.network.epochs;
        let rule = |pairs: &Pairs, held_out: &Pairs, epochs: &mut usize, watch: Watch<'_>| {
            Ok::<_, OperatorError>(match settings.model {
                KeyModelKind::Ngram => {
                    let mut ngram = Ngram::new(framing.history);
                    pairs.iter().for_each(|(h, output, weight)| ngram.learn(h, *output, *weight));
                    Rule::Ngram(ngram)
                }
                KeyModelKind::Lstm => {
                    let network = NetworkSettings { epochs: *epochs, ..settings.network };
                    let symbols = vocabulary.symbols();
                    let (network, taken) =
                        Network::train(symbols, framing.history, pairs, held_out, &network, watch)?;
                    *epochs = taken;
                    Rule::Network(network)
                }
            })
        };
        let predictor = |rule| Predictor::new(rule, framing, outputs, settings.cache_bytes);
        let first = match held_out {
            0 => rule(&whole, &Pairs::new(), &mut epochs, watch)?,
            _ => rule(&pairs(framing, learned), &pairs(framing, checked), &mut epochs, watch)?,
        };
        let mut model = Self {
            settings: *settings,
            predictor: predictor(first),
            invariants: Invariants::of(sessions.iter().map(|session| (&session[..], 1.0))),
            distances: DistanceCache::default(),
            bounds: Bounds {
                top: settings.top,
                nll: f64::INFINITY,
                end_nll: f64::INFINITY,
                beyond: f64::INFINITY,
            },
            replay: replayed(&whole),
            places: Vec::new(),
            vocabulary: vocabulary.clone(),
        };
        let unlearned = model.set_bounds(if checked.is_empty() { sessions } else { checked });
        if held_out > 0 && settings.refit {
            model.predictor = predictor(rule(&whole, &Pairs::new(), &mut epochs, watch)?);
        }
        // Beside the invariants, a key makes a session abnormal that is more improbable than anything in training.
        let learned = model.judge_symbols(sessions).into_iter().map(|session| session.nll_max);
        model.bounds.beyond = learned.fold(unlearned, f64::max).max(NLL_MIN);
        Ok(model)
    }

    /// Sets the bounds that sessions held out keep within, but for the share of false alarms. Gives their greatest
    /// surprise.
    fn set_bounds(&mut self, sessions: &[Vec<u32>]) -> f64 {
        let judged = self.judge_symbols(sessions);
        let allowed = (self.settings.false_alarms * judged.len() as f64).floor() as usize;
        let at = |mut values: Vec<f64>| -> f64 {
            values.sort_by(|a, b| b.total_cmp(a));
            values.get(allowed).or(values.last()).copied().unwrap_or(0.0)
        };
        if self.settings.top == 0 {
            let ranks = judged.iter().map(|session| f64::from(session.rank_max)).collect();
            self.bounds.top = (at(ranks) as usize).max(1);
        }
        self.bounds.nll = at(judged.iter().map(|session| session.nll_max).collect());
        let ends = at(judged.iter().map(|session| session.end_nll).collect());
        self.bounds.end_nll = ends.max(NLL_MIN);
        judged.iter().map(|session| session.nll_max).fold(0.0, f64::max)
    }

    /// Judges whole sessions.
    pub fn judge<S: AsRef<[String]>>(&mut self, sessions: &[S]) -> Vec<SessionJudgement> {
        let symbols: Vec<Vec<u32>> = sessions
            .iter()
            .map(|session| session.as_ref().iter().map(|key| self.vocabulary.symbol(key)).collect())
            .collect();
        self.judge_symbols(&symbols)
    }

    pub(super) fn judge_symbols(&mut self, sessions: &[Vec<u32>]) -> Vec<SessionJudgement> {
        let framing = self.settings.framing();
        let mut judged = vec![SessionJudgement::default(); sessions.len()];
        let together = self.predictor.together_max().min(4_096);
        let (mut histories, mut asked) = (Vec::new(), Vec::new());
        for (index, session) in sessions.iter().enumerate() {
            framing.pairs(session, |history, next| {
                histories.extend_from_slice(history);
                asked.push((index, next));
                if asked.len() >= together {
                    self.answer(&mut histories, &mut asked, &mut judged);
                }
            });
        }
        self.answer(&mut histories, &mut asked, &mut judged);
        for (session, judgement) in sessions.iter().zip(&mut judged) {
            let mut vector = CountVector::new();
            session.iter().for_each(|symbol| counts::count(&mut vector, *symbol));
            let first = session.len().min(if framing.begin { 0 } else { framing.history });
            // Keys that nothing was predicted before are at least known or not.
            let unseen = session[..first].iter().filter(|symbol| **symbol == UNKNOWN).count();
            judgement.unseen += unseen as u32;
            judgement.abnormal += unseen as u32;
            self.close(&vector, judgement);
        }
        judged
    }

    fn answer(
        &mut self,
        histories: &mut Vec<u32>,
        asked: &mut Vec<(usize, u32)>,
        judged: &mut [SessionJudgement],
    ) {
        let mut places = std::mem::take(&mut self.places);
        self.predictor.places(histories, self.vocabulary.outputs(), &mut places);
        for ((session, next), place) in asked.drain(..).zip(&places) {
            let entry = self.entry(*place, next);
            judged[session].see(entry, self.bounds);
        }
        self.places = places;
        histories.clear();
    }

    /// What is to be said about `symbol` where the history at `place` was before it.
    pub(super) fn entry(&self, place: u32, symbol: u32) -> EntryJudgement {
        let ranked = self.predictor.ranked(place);
        let Some(output) = output_of(symbol) else {
            return EntryJudgement { rank: Rank::Unseen, probability: 0.0 };
        };
        let rank = if symbol == END { Rank::End } else { Rank::Key(ranked.rank(output)) };
        EntryJudgement { rank, probability: ranked.probability(output) }
    }

    /// The most probable keys after the history at `place`, with their probabilities (DL-08).
    pub(super) fn expected(&self, place: u32, count: usize) -> Vec<(&str, f64)> {
        let top = self.predictor.ranked(place).top(count);
        top.into_iter().map(|(output, p)| (self.vocabulary.name(symbol_of(output)), p)).collect()
    }

    /// Completes the judgement of a session that has ended by what is to be said of it as a whole.
    pub(super) fn close(&mut self, vector: &CountVector, judgement: &mut SessionJudgement) {
        let entries = counts::entries(vector);
        let (shortest, longest) = self.invariants.lengths;
        judgement.entries = entries;
        judgement.length_is_odd = !(shortest..=longest).contains(&entries);
        judgement.distance = self.distances.distance(&self.invariants, vector);
    }

    /// Learns that sessions which were raised are normal (DL-13): what was abnormal in them, by up to `steps` steps over
    /// it and over what of training would become abnormal by them, and lengths and counts of the sessions as they are.
    /// Keys that training never saw become known (DL-14).
    ///
    /// # Errors
    /// If the steps fail; the model is then as it was.
    pub fn learn_normal<S: AsRef<[String]>>(&mut self, sessions: &[S], steps: usize) -> Result<()> {
        let mut changed = self.clone();
        changed.admit(sessions.iter().flat_map(|session| session.as_ref().iter()))?;
        let (framing, mut fresh) = (changed.settings.framing(), Fresh::new());
        for session in sessions {
            let session = session.as_ref();
            let symbols: Vec<u32> =
                session.iter().map(|key| changed.vocabulary.symbol(key)).collect();
            framing.pairs(&symbols, |history, next| fresh.push((history.to_vec(), next)));
            let mut vector = CountVector::new();
            symbols.iter().for_each(|symbol| counts::count(&mut vector, *symbol));
            changed.learn_counts(&vector);
        }
        changed.learn_pairs(fresh, f64::INFINITY, steps)?;
        *self = changed;
        Ok(())
    }

    /// Makes keys known, which are still normal nowhere (DL-14).
    pub(super) fn admit<'a>(&mut self, keys: impl IntoIterator<Item = &'a String>) -> Result<()> {
        let before = self.vocabulary.outputs();
        for key in keys {
            self.vocabulary.add(key);
        }
        if self.vocabulary.outputs() == before {
            return Ok(());
        }
        self.predictor.grow(&self.vocabulary, &self.replay)
    }

    /// Learns that each symbol is normal after its history, and no more of a surprise than `nll` (DL-13).
    pub(super) fn learn_pairs(
        &mut self,
        pairs: impl IntoIterator<Item = (Vec<u32>, u32)>,
        nll: f64,
        steps: usize,
    ) -> Result<()> {
        let mut fresh: Fresh = Fresh::new();
        for (history, symbol) in pairs {
            if let Some(output) = output_of(symbol).filter(|_| symbol != UNKNOWN) {
                fresh.push((history, output));
            }
        }
        fresh.sort_unstable();
        fresh.dedup();
        if fresh.is_empty() {
            return Ok(());
        }
        let bounds = Bounds { nll, ..self.bounds };
        self.predictor.learn(&fresh, &self.replay, &bounds, steps)
    }

    /// Learns that a session with these counts of keys is normal.
    pub(super) fn learn_counts(&mut self, vector: &CountVector) {
        self.invariants.learn(vector);
        self.distances.clear();
    }

    /// A key among so many of the most probable is normal: as set, or as chosen by sessions held out.
    #[must_use]
    pub fn top(&self) -> usize {
        self.bounds.top
    }

    /// The greatest surprise, in nats, of the sessions held out.
    #[must_use]
    pub fn nll_bound(&self) -> f64 {
        self.bounds.nll
    }

    /// The greatest surprise, in nats, of the ends of sessions held out.
    #[must_use]
    pub fn end_bound(&self) -> f64 {
        self.bounds.end_nll
    }

    /// A surprise, in nats, that nothing in training comes near: a quarter more than the greatest there, be it of sessions
    /// held out or learned from, and at least that of a probability of 1 %. With `combined`, keys make a session abnormal beyond it.
    #[must_use]
    pub fn beyond_bound(&self) -> f64 {
        self.bounds.beyond
    }

    /// The greatest distance that is normal.
    #[must_use]
    pub fn distance_bound(&self) -> f64 {
        self.invariants.distance_max
    }

    /// Histories that were scored because they had not come before.
    #[must_use]
    pub fn scored(&self) -> u64 {
        self.predictor.scored
    }

    /// Bytes held, estimated.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.vocabulary.heap_bytes() + self.predictor.heap_bytes() + self.invariants.heap_bytes()
    }

    /// The model as bytes: versioned, with a checksum, floats exact.
    ///
    /// # Errors
    /// If it cannot be written, which would be a bug.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let Framing { history, begin, end } = self.settings.framing();
        let saved = Saved {
            framing: (history, begin, end),
            names: self.vocabulary.names().to_vec(),
            rule: self.predictor.save(&self.vocabulary)?,
            invariants: self.invariants.clone(),
            bounds: self.bounds,
            replay: self.replay.clone(),
            repeats_power: self.settings.network.repeats_power,
        };
        snapshot::seal_as(VERSION, OWNER, &saved)
    }

    /// The model of [`KeyModel::to_bytes`], to judge under `settings`.
    ///
    /// # Errors
    /// If the bytes are cut short, damaged or of another version; or if the model is of another kind, history or
    /// framing than `settings`, or needs the network where it is not built in. The error says which.
    pub fn from_bytes(bytes: &[u8], settings: &KeySettings) -> Result<Self> {
        let saved: Saved = snapshot::open_as(VERSION, OWNER, bytes)?;
        let framing = settings.framing();
        let refuse = |problem: String| Err(snapshot::problem(OWNER, problem));
        if saved.rule.kind() != settings.model {
            return refuse(format!("is of kind {:?}, not {:?}", saved.rule.kind(), settings.model));
        }
        if saved.framing.0 != framing.history {
            let (found, wanted) = (saved.framing.0, framing.history);
            return refuse(format!("reads histories of {found} keys, not {wanted}"));
        }
        if saved.framing != (framing.history, framing.begin, framing.end) {
            return refuse("marks the begin or the end of sessions in another way".into());
        }
        let vocabulary = Vocabulary::new(saved.names.iter().cloned());
        let rule = match saved.rule {
            SavedRule::Ngram(ngram) => Ngram::restore(ngram).map(Rule::Ngram),
            SavedRule::Network(bytes) => {
                let (network, names) = Network::restore(&bytes, saved.repeats_power)?;
                let widths = (vocabulary.symbols(), vocabulary.outputs());
                let fits = names == saved.names && network.widths() == widths;
                fits.then_some(Rule::Network(network))
            }
        };
        let is_sound = vocabulary.names() == saved.names
            && saved.invariants.is_sound()
            && ![saved.bounds.nll, saved.bounds.end_nll, saved.bounds.beyond]
                .iter()
                .any(|b| b.is_nan())
            && (0.0..=1.0).contains(&saved.repeats_power)
            && saved.replay.len() <= REPLAY_MAX
            && saved.replay.iter().all(|(h, o, w)| {
                h.len() == framing.history && (*o as usize) < vocabulary.outputs() && w.is_finite()
            })
            && saved.bounds.top > 0;
        match rule.filter(|_| is_sound) {
            None => refuse("holds parts that do not fit each other".into()),
            Some(rule) => Ok(Self {
                predictor: Predictor::new(
                    rule,
                    framing,
                    vocabulary.outputs(),
                    settings.cache_bytes,
                ),
                settings: KeySettings {
                    network: NetworkSettings {
                        repeats_power: saved.repeats_power,
                        ..settings.network
                    },
                    ..*settings
                },
                vocabulary,
                invariants: saved.invariants,
                distances: DistanceCache::default(),
                bounds: saved.bounds,
                replay: saved.replay,
                places: Vec::new(),
            }),
        }
    }
}

/// A model as it is saved.
#[derive(Serialize, Deserialize)]
struct Saved {
    framing: (usize, bool, bool),
    names: Vec<String>,
    rule: SavedRule,
    invariants: Invariants,
    bounds: Bounds,
    replay: Pairs,
    repeats_power: f64,
}

/// Distinct pairs with their weight, in an order that depends on them alone; at most [`REPLAY_MAX`].
fn replayed(pairs: &Pairs) -> Pairs {
    let mut distinct: std::collections::BTreeMap<(&[u32], u32), f64> =
        std::collections::BTreeMap::new();
    for (history, output, weight) in pairs {
        *distinct.entry((history, *output)).or_default() += weight;
    }
    let mut found: Pairs =
        distinct.into_iter().map(|((h, output), weight)| (h.to_vec(), output, weight)).collect();
    // Strides through the order of histories, so that neighbours are not repeated together.
    let mixed = |(history, output, _): &(Vec<u32>, u32, f64)| {
        let mix =
            |hash: u64, symbol: u32| (hash ^ u64::from(symbol)).wrapping_mul(0x0100_0000_01b3);
        history.iter().copied().chain([*output]).fold(0xcbf2_9ce4_8422_2325, mix)
    };
    found.sort_by_cached_key(mixed);
    found.truncate(REPLAY_MAX);
    found
}

/// Each history of the sessions with the output that followed.
pub(super) fn pairs(framing: Framing, sessions: &[Vec<u32>]) -> Pairs {
    let mut pairs = Pairs::new();
    let mut distinct: hashbrown::HashMap<&[u32], f64> = hashbrown::HashMap::new();
    for session in sessions {
        *distinct.entry(session.as_slice()).or_default() += 1.0;
    }
    let mut distinct: Vec<(&[u32], f64)> = distinct.into_iter().collect();
    distinct.sort_by(|a, b| a.0.cmp(b.0));
    for (session, weight) in distinct {
        framing.pairs(session, |history, next| {
            if let Some(output) = output_of(next).filter(|_| next != UNKNOWN) {
                pairs.push((history.to_vec(), output, weight));
            }
        });
    }
    pairs
}

/// The symbol that stands for the end, for callers that predict it.
pub(super) const SESSION_END: u32 = END;
