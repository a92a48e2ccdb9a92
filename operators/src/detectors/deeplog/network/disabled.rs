//! Without the feature `neural` there is no network, and nothing can make one.

use std::sync::Arc;

use super::{Fresh, NetworkSettings, Pairs, Watch};
use crate::detectors::deeplog::key_model::Bounds;
use crate::error::{OperatorError, Result};
use crate::inference;

/// A network: none.
#[derive(Clone, Debug)]
pub(in crate::detectors::deeplog) enum Network {}

impl Network {
    pub(in crate::detectors::deeplog) fn available() -> Result<()> {
        Err(OperatorError::Option {
            owner: "detector kind \"deeplog\"".into(),
            option: "model".into(),
            problem: "is 'lstm', which needs the feature \"neural\" of the crate".into(),
            hint: "build with the feature \"neural\", or set model = 'ngram'".into(),
        })
    }

    pub(in crate::detectors::deeplog) fn train(
        _symbols: usize,
        _history: usize,
        _pairs: &Pairs,
        _held_out: &Pairs,
        _settings: &NetworkSettings,
        _watch: Watch<'_>,
    ) -> Result<(Self, usize)> {
        Self::available().map(|()| unreachable!("there is no network"))
    }

    pub(in crate::detectors::deeplog) fn learn(
        &mut self,
        _history: usize,
        _fresh: &Fresh,
        _replay: &Pairs,
        _bounds: &Bounds,
        _steps: usize,
    ) -> Result<()> {
        match *self {}
    }

    pub(in crate::detectors::deeplog) fn grow(
        &mut self,
        _symbols: usize,
        _like: u32,
        _history: usize,
        _replay: &Pairs,
    ) -> Result<()> {
        match *self {}
    }

    pub(in crate::detectors::deeplog) fn probabilities(
        &mut self,
        _histories: &[u32],
        _history: usize,
        _out: &mut Vec<f32>,
    ) {
        match *self {}
    }

    pub(in crate::detectors::deeplog) fn served(
        &mut self,
        _history: usize,
    ) -> Arc<dyn inference::Network> {
        match *self {}
    }

    pub(in crate::detectors::deeplog) fn normalize(&self, _outputs: &mut [f32]) {
        match *self {}
    }

    pub(in crate::detectors::deeplog) fn save(&self, _names: &[String]) -> Result<Vec<u8>> {
        match *self {}
    }

    pub(in crate::detectors::deeplog) fn restore(
        _bytes: &[u8],
        _repeats_power: f64,
    ) -> Result<(Self, Vec<String>)> {
        Self::available().map(|()| unreachable!("there is no network"))
    }

    pub(in crate::detectors::deeplog) fn widths(&self) -> (usize, usize) {
        match *self {}
    }

    pub(in crate::detectors::deeplog) fn heap_bytes(&self) -> usize {
        match *self {}
    }
}
