//! Without the feature `neural` there are no values.

use serde::{Deserialize, Serialize};

use super::{At, ValueAnswer, ValueOptions};
use crate::error::{OperatorError, Result};

/// What was learned: nothing.
#[derive(Clone, Debug)]
pub(in crate::detectors::deeplog) enum Learned {}

impl Learned {
    pub(in crate::detectors::deeplog) fn to_bytes(&self) -> Result<Vec<u8>> {
        match *self {}
    }

    pub(in crate::detectors::deeplog) fn from_bytes(_bytes: &[u8]) -> Result<Self> {
        Values::available().map(|()| unreachable!("there is no model of values"))
    }
}

/// What is saved: nothing. Laid out as where there is something.
#[derive(Serialize, Deserialize)]
pub(in crate::detectors::deeplog) struct SavedValues(Option<()>);

/// What there is to learn: nothing.
#[derive(Debug)]
pub(in crate::detectors::deeplog) struct Lesson;

impl Lesson {
    #[allow(
        clippy::unnecessary_wraps,
        clippy::unused_self,
        reason = "as where there is something to learn"
    )]
    pub(in crate::detectors::deeplog) fn learn(self) -> Result<Option<Learned>> {
        Ok(None)
    }
}

/// Values: none.
#[derive(Clone, Debug)]
pub(in crate::detectors::deeplog) struct Values;

#[allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "as where there are values")]
impl Values {
    pub(in crate::detectors::deeplog) fn available() -> Result<()> {
        Err(OperatorError::Option {
            owner: "detector kind \"deeplog\"".into(),
            option: "values".into(),
            problem: "names values, whose model needs the feature \"neural\" of the crate".into(),
            hint: "build with the feature \"neural\", or leave values out".into(),
        })
    }

    pub(in crate::detectors::deeplog) fn new(_options: Option<&ValueOptions>) -> Self {
        Self
    }

    pub(in crate::detectors::deeplog) fn gather(
        &mut self,
        _session: &str,
        _key: &str,
        _at: At,
        _vector: Vec<f64>,
    ) {
    }

    pub(in crate::detectors::deeplog) fn ended(&mut self, _session: &str) {}

    pub(in crate::detectors::deeplog) fn lesson(&mut self) -> Lesson {
        Lesson
    }

    pub(in crate::detectors::deeplog) fn late(&mut self, _key: &str, _at: At, _vector: Vec<f64>) {}

    pub(in crate::detectors::deeplog) fn take_up(&mut self, _learned: Option<&Learned>) {}

    pub(in crate::detectors::deeplog) fn judge(
        &mut self,
        _key: &str,
        _vector: &[f64],
    ) -> Option<ValueAnswer> {
        None
    }

    pub(in crate::detectors::deeplog) fn run(&self, _key: &str) -> Vec<f32> {
        Vec::new()
    }

    pub(in crate::detectors::deeplog) fn learn(&mut self, _key: &str, _run: &[f32]) -> Result<()> {
        Ok(())
    }

    pub(in crate::detectors::deeplog) fn save(&self) -> Result<SavedValues> {
        Ok(SavedValues(None))
    }

    pub(in crate::detectors::deeplog) fn restore(
        _options: Option<&ValueOptions>,
        saved: SavedValues,
    ) -> Result<Option<Self>> {
        Ok(saved.0.is_none().then_some(Self))
    }

    pub(in crate::detectors::deeplog) fn unjudged(&self) -> u64 {
        0
    }

    pub(in crate::detectors::deeplog) fn heap_bytes(&self) -> usize {
        0
    }
}
