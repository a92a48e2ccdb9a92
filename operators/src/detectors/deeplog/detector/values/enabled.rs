//! Vectors are gathered by session until it ends, so that only sessions of training are learned from; then by key, in
//! the order of time. What comes while the model is trained goes on with its series when it is taken up.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::{At, ValueAnswer, ValueOptions};
use crate::detectors::deeplog::network::NetworkSettings;
use crate::detectors::deeplog::values::{ValueModel, ValueSettings};
use crate::error::Result;

pub(in crate::detectors::deeplog) use crate::detectors::deeplog::values::ValueModel as Learned;

/// Vectors of each key, in the order of time.
type Series = BTreeMap<String, BTreeMap<At, Vec<f64>>>;

/// Adds a vector; of each key the latest so many are kept.
fn add(series: &mut Series, key: String, at: At, vector: Vec<f64>, most: usize) {
    let of_key = series.entry(key).or_default();
    of_key.insert(at, vector);
    while of_key.len() > most {
        of_key.pop_first();
    }
}

/// Values of the entries of one detector.
#[derive(Clone, Debug)]
pub(in crate::detectors::deeplog) struct Values {
    /// `None` if the detector reads none.
    options: Option<ValueOptions>,
    /// While sessions are collected: vectors of open ones, with their keys.
    open: Open,
    /// While sessions are collected, vectors of those that ended; during training, what came too late for it.
    gathered: Series,
    model: Option<ValueModel>,
    /// Vectors whose key has no model.
    unjudged: u64,
}

type Open = BTreeMap<String, Vec<(String, At, Vec<f64>)>>;

/// Values as they are saved; `None` of a detector that reads none.
#[derive(Serialize, Deserialize)]
pub(in crate::detectors::deeplog) struct SavedValues(Option<(Open, Series, Option<Vec<u8>>, u64)>);

/// What there is to learn.
#[derive(Debug)]
pub(in crate::detectors::deeplog) struct Lesson {
    options: Option<ValueOptions>,
    series: Series,
}

impl Lesson {
    /// Trains the models, off the worker.
    pub(in crate::detectors::deeplog) fn learn(self) -> Result<Option<Learned>> {
        let Some(options) = self.options else { return Ok(None) };
        let usual = ValueSettings::default();
        let settings = ValueSettings {
            history: options.history,
            confidence: options.confidence,
            vectors_min: options.vectors_min,
            errors_min: options.errors_min,
            network: NetworkSettings { seed: options.seed, ..usual.network },
            ..usual
        };
        let vectors =
            self.series.into_iter().map(|(k, series)| (k, series.into_values().collect()));
        ValueModel::train(&vectors.collect(), &settings).map(Some)
    }
}

impl Values {
    // Without the feature it is an error.
    #[allow(clippy::unnecessary_wraps)]
    pub(in crate::detectors::deeplog) fn available() -> Result<()> {
        Ok(())
    }

    pub(in crate::detectors::deeplog) fn new(options: Option<&ValueOptions>) -> Self {
        Self {
            options: options.cloned(),
            open: Open::new(),
            gathered: Series::new(),
            model: None,
            unjudged: 0,
        }
    }

    /// Keeps the vector of an entry until its session ends.
    pub(in crate::detectors::deeplog) fn gather(
        &mut self,
        session: &str,
        key: &str,
        at: At,
        vector: Vec<f64>,
    ) {
        let entry = (key.to_owned(), at, vector);
        match self.open.get_mut(session) {
            Some(entries) => entries.push(entry),
            None => drop(self.open.insert(session.to_owned(), vec![entry])),
        }
    }

    /// A session of training has ended.
    pub(in crate::detectors::deeplog) fn ended(&mut self, session: &str) {
        let most = self.options.as_ref().map_or(0, |options| options.vectors_max);
        for (key, at, vector) in self.open.remove(session).unwrap_or_default() {
            add(&mut self.gathered, key, at, vector, most);
        }
    }

    /// What is to be learned, now that all sessions of training have ended.
    pub(in crate::detectors::deeplog) fn lesson(&mut self) -> Lesson {
        let series = std::mem::take(&mut self.gathered);
        for (key, at, vector) in std::mem::take(&mut self.open).into_values().flatten() {
            self.add_late(key, at, vector);
        }
        Lesson { options: self.options.clone(), series }
    }

    /// Keeps the vector of an entry that came during training.
    pub(in crate::detectors::deeplog) fn late(&mut self, key: &str, at: At, vector: Vec<f64>) {
        self.add_late(key.to_owned(), at, vector);
    }

    fn add_late(&mut self, key: String, at: At, vector: Vec<f64>) {
        // No prediction reads more.
        let most = self.options.as_ref().map_or(0, |options| options.history);
        add(&mut self.gathered, key, at, vector, most);
    }

    /// Takes the trained models up.
    pub(in crate::detectors::deeplog) fn take_up(&mut self, learned: Option<&Learned>) {
        self.model = learned.cloned();
        for (key, series) in std::mem::take(&mut self.gathered) {
            for vector in series.values() {
                self.model.as_mut().and_then(|model| model.judge(&key, vector));
            }
        }
    }

    /// Judges the vector of an entry; `None` if its key has no model.
    pub(in crate::detectors::deeplog) fn judge(
        &mut self,
        key: &str,
        vector: &[f64],
    ) -> Option<ValueAnswer> {
        let Some(found) = self.model.as_mut()?.judge(key, vector) else {
            self.unjudged += 1;
            return None;
        };
        let (mut expected, mut explanation) = (String::new(), String::new());
        if found.is_anomaly {
            for x in &found.expected {
                let comma = if expected.is_empty() { "" } else { ", " };
                let _ = write!(expected, "{comma}{x:.4}");
            }
            let came = vector.get(found.worst).copied().unwrap_or(f64::NAN);
            let usual = found.expected.get(found.worst).copied().unwrap_or(f64::NAN);
            explanation = format!(
                "values with an error of {:.3}, normal up to {:.3}; number {} is {came}, expected {usual:.4}",
                found.error,
                found.bound,
                found.worst + 1
            );
        }
        Some(ValueAnswer {
            error: found.error,
            bound: found.bound,
            is_anomaly: found.is_anomaly,
            expected,
            explanation,
        })
    }

    /// The latest vector of a key and those before it, to be learned from when feedback says so.
    pub(in crate::detectors::deeplog) fn run(&self, key: &str) -> Vec<f32> {
        let run = self.model.as_ref().and_then(|model| model.run(key));
        run.map_or(Vec::new(), <[f32]>::to_vec)
    }

    /// Learns that the last vector of a run is normal (DL-15).
    pub(in crate::detectors::deeplog) fn learn(&mut self, key: &str, run: &[f32]) -> Result<()> {
        self.model.as_mut().map_or(Ok(()), |model| model.learn_run(key, run))
    }

    pub(in crate::detectors::deeplog) fn save(&self) -> Result<SavedValues> {
        if self.options.is_none() {
            return Ok(SavedValues(None));
        }
        let model = self.model.as_ref().map(ValueModel::to_bytes).transpose()?;
        Ok(SavedValues(Some((self.open.clone(), self.gathered.clone(), model, self.unjudged))))
    }

    /// Takes up what was saved; `None` if it was saved with values and is to go on without, or the other way round.
    pub(in crate::detectors::deeplog) fn restore(
        options: Option<&ValueOptions>,
        saved: SavedValues,
    ) -> Result<Option<Self>> {
        let new = Self::new(options);
        Ok(match saved.0 {
            None => options.is_none().then_some(new),
            Some(_) if options.is_none() => None,
            Some((open, gathered, model, unjudged)) => {
                let model = model.map(|bytes| ValueModel::from_bytes(&bytes)).transpose()?;
                Some(Self { open, gathered, model, unjudged, ..new })
            }
        })
    }

    /// Vectors that were not judged because their key has no model.
    pub(in crate::detectors::deeplog) fn unjudged(&self) -> u64 {
        self.unjudged
    }

    pub(in crate::detectors::deeplog) fn heap_bytes(&self) -> usize {
        let numbers = |vector: &Vec<f64>| vector.len() * 8 + 96;
        let open = self.open.values().flatten().map(|(_, _, vector)| numbers(vector));
        let gathered = self.gathered.values().flat_map(BTreeMap::values).map(numbers);
        let model = self.model.as_ref().map_or(0, ValueModel::heap_bytes);
        open.chain(gathered).sum::<usize>() + model
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::EventTime;

    /// Only sessions that ended are learned from, in the order of time, and of each key the latest.
    #[test]
    fn lessons_are_of_sessions_that_ended() {
        let options = ValueOptions {
            columns: vec![0],
            vectors_max: 3,
            vectors_min: 1,
            errors_min: 2,
            history: 1,
            confidence: 0.99,
            seed: 1,
        };
        let mut values = Values::new(Some(&options));
        for (session, key, second) in [
            ("a", "x", 1),
            ("b", "x", 2),
            ("a", "x", 3),
            ("c", "x", 4),
            ("b", "x", 5),
            ("b", "y", 6),
        ] {
            values.gather(session, key, (EventTime(second), second as u64), vec![second as f64]);
        }
        values.ended("b");
        values.ended("a");
        let saved = values.save().unwrap();
        assert!(Values::restore(None, saved).unwrap().is_none(), "it has values");
        let mut back = Values::restore(Some(&options), values.save().unwrap()).unwrap().unwrap();
        let learned = |values: &mut Values| {
            let series = values.lesson().series.into_iter();
            let numbers =
                |of: BTreeMap<At, Vec<f64>>| of.into_values().flatten().collect::<Vec<_>>();
            series.map(|(key, of)| (key, numbers(of))).collect::<Vec<_>>()
        };
        let lesson = learned(&mut values);
        assert_eq!(lesson, [("x".to_owned(), vec![2.0, 3.0, 5.0]), ("y".to_owned(), vec![6.0])]);
        assert_eq!(learned(&mut back), lesson);
        values.late("x", (EventTime(7), 7), vec![7.0]);
        let late: Vec<&At> = values.gathered["x"].keys().collect();
        assert_eq!(late, [&(EventTime(7), 7)], "the open session's 4 came before, and one is kept");
    }
}
