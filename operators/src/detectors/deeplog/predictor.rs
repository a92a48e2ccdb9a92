//! What predicts the next key: the network or the n-gram model, with what it said before.

use std::task::{Poll, Waker};

use serde::{Deserialize, Serialize};

use super::KeyModelKind;
use super::key_model::Bounds;
use super::network::{Fresh, Network, Pairs};
use super::ngram::{Ngram, SavedNgram};
use super::ranking::{Ranked, RankingCache, missing};
use super::vocabulary::{END_OUTPUT, UNKNOWN, Vocabulary};
use super::windows::Framing;
use crate::error::{OperatorError, Result};
use crate::inference::Asking;

/// A model of what follows a history.
// There is one for each detector.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub(super) enum Rule {
    Ngram(Ngram),
    Network(Network),
}

/// Predicts, and remembers what it predicted.
#[derive(Clone, Debug)]
pub(super) struct Predictor {
    pub(super) rule: Rule,
    framing: Framing,
    cache: RankingCache,
    bytes_max: usize,
    /// Histories that were not in the cache, since the beginning.
    pub(super) scored: u64,
    misses: Vec<u32>,
    found: Vec<f32>,
}

/// A model as it is saved.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum SavedRule {
    Ngram(SavedNgram),
    Network(Vec<u8>),
}

impl Predictor {
    pub(super) fn new(rule: Rule, framing: Framing, outputs: usize, bytes_max: usize) -> Self {
        Self {
            rule,
            framing,
            cache: RankingCache::new(framing.history, outputs, bytes_max),
            bytes_max,
            scored: 0,
            misses: Vec::new(),
            found: Vec::new(),
        }
    }

    /// The most histories that may be asked for together.
    pub(super) fn together_max(&self) -> usize {
        self.cache.entries_max()
    }

    /// The places of histories, given one after the other, at most [`Predictor::together_max`] of them; they hold until
    /// the next call.
    pub(super) fn places(&mut self, histories: &[u32], outputs: usize, out: &mut Vec<u32>) {
        if self.look_up(histories, out) {
            return;
        }
        self.found.clear();
        match &mut self.rule {
            Rule::Network(network) => {
                network.probabilities(&self.misses, self.framing.history, &mut self.found);
            }
            Rule::Ngram(ngram) => {
                for one in self.misses.chunks_exact(self.framing.history) {
                    ngram.probabilities(one, outputs, &mut self.found);
                }
            }
        }
        self.take_up(histories, out);
    }

    /// The same, where a service scores the network. While it is pending, the next call must be the same.
    pub(super) fn poll_places(
        &mut self,
        histories: &[u32],
        out: &mut Vec<u32>,
        asking: &mut Asking,
        waker: &Waker,
    ) -> Poll<Result<()>> {
        if asking.is_idle() && self.look_up(histories, out) {
            return Poll::Ready(Ok(()));
        }
        let Rule::Network(network) = &mut self.rule else {
            let problem = "an n-gram model has no network to ask a service for";
            return Poll::Ready(Err(OperatorError::evaluation("scoring of deeplog", problem)));
        };
        if asking.is_idle() {
            let rows = self.misses.iter().map(|symbol| *symbol as f32).collect();
            asking.start(&network.served(self.framing.history), rows);
        }
        match asking.poll(waker) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(problem)) => Poll::Ready(Err(OperatorError::evaluation(
                "scoring of deeplog",
                problem.to_string(),
            ))),
            Poll::Ready(Ok(mut found)) => {
                network.normalize(&mut found);
                self.found = found;
                self.take_up(histories, out);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Finds the places of histories that have come before; whether that is all of them. The others are left in
    /// `misses`, for which there is room.
    fn look_up(&mut self, histories: &[u32], out: &mut Vec<u32>) -> bool {
        let history = self.framing.history;
        out.clear();
        self.misses.clear();
        for one in histories.chunks_exact(history) {
            let place = self.cache.place(one);
            if place.is_none() {
                self.misses.extend_from_slice(one);
            }
            out.push(place.unwrap_or(u32::MAX));
        }
        let missing = self.misses.len() / history;
        if missing > 0 && self.cache.len() + missing > self.cache.entries_max() {
            self.cache.clear();
            self.misses.clear();
            self.misses.extend_from_slice(histories);
            out.fill(u32::MAX);
        }
        self.misses.is_empty()
    }

    /// Keeps what was found for the misses, and gives them their places.
    fn take_up(&mut self, histories: &[u32], out: &mut [u32]) {
        let history = self.framing.history;
        self.scored += (self.misses.len() / history) as u64;
        self.cache.insert(&self.misses, &self.found, END_OUTPUT);
        for (place, one) in out.iter_mut().zip(histories.chunks_exact(history)) {
            if *place == u32::MAX {
                *place = self.cache.place(one).unwrap_or(0);
            }
        }
    }

    pub(super) fn ranked(&self, place: u32) -> Ranked<'_> {
        self.cache.ranked(place)
    }

    /// Makes room for keys that the vocabulary has got (DL-14).
    pub(super) fn grow(&mut self, vocabulary: &Vocabulary, replay: &Pairs) -> Result<()> {
        if let Rule::Network(network) = &mut self.rule {
            let added = vocabulary.symbols().saturating_sub(network.widths().0);
            if added > 0 {
                network.grow(added, UNKNOWN, self.framing.history, replay)?;
            }
        }
        self.cache = RankingCache::new(self.framing.history, vocabulary.outputs(), self.bytes_max);
        Ok(())
    }

    /// Learns in place that pairs are normal, by up to so many steps (DL-13). What was predicted is forgotten.
    pub(super) fn learn(
        &mut self,
        fresh: &Fresh,
        replay: &Pairs,
        bounds: &Bounds,
        steps: usize,
    ) -> Result<()> {
        let outputs = self.cache.outputs();
        self.cache.clear();
        match &mut self.rule {
            Rule::Network(network) => {
                network.learn(self.framing.history, fresh, replay, bounds, steps)
            }
            Rule::Ngram(ngram) => {
                // Counts do not forget, so that nothing needs to be repeated.
                let (mut found, mut others) = (Vec::new(), Vec::new());
                for (history, output) in fresh {
                    for _ in 0..steps {
                        found.clear();
                        ngram.probabilities(history, outputs, &mut found);
                        let logs: Vec<f64> = found.iter().map(|p| f64::from(*p).ln()).collect();
                        if missing(&logs, *output as usize, bounds, &mut others) <= 0.0 {
                            break;
                        }
                        ngram.learn(history, *output, 1.0);
                    }
                }
                Ok(())
            }
        }
    }

    pub(super) fn save(&self, vocabulary: &Vocabulary) -> Result<SavedRule> {
        Ok(match &self.rule {
            Rule::Ngram(ngram) => SavedRule::Ngram(ngram.save()),
            Rule::Network(network) => SavedRule::Network(network.save(vocabulary.names())?),
        })
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.cache.heap_bytes()
            + match &self.rule {
                Rule::Ngram(ngram) => ngram.heap_bytes(),
                Rule::Network(network) => network.heap_bytes(),
            }
    }
}

impl SavedRule {
    pub(super) fn kind(&self) -> KeyModelKind {
        match self {
            Self::Ngram(_) => KeyModelKind::Ngram,
            Self::Network(_) => KeyModelKind::Lstm,
        }
    }
}
