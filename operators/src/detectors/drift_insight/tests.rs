//! Proves what a component's model does over its life: which components are scored, what is anomalous, how the model
//! evolves, and that neither interruptions nor the speed of builds change an answer.

mod life;
mod measure;
mod scoring;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fixture::Noise;
use super::model::DriftModel;
use super::{DriftInsightKind, EXTRAS, NAME, Settings};
use crate::background::{Executor, Lazy};
use crate::detector::DetectorKind;
use crate::model::{Extra, Judgement, Model, Phase, Report, Reports, Row};
use crate::options::{OptionReader, Options};
use crate::time::EventTime;

const SLOT_NS: i64 = 300_000_000_000;

fn settings(metrics: usize, options: &Options) -> Arc<Settings> {
    settings_on(metrics, options, Arc::new(Lazy))
}

fn settings_on(metrics: usize, options: &Options, executor: Arc<dyn Executor>) -> Arc<Settings> {
    let reader = OptionReader::new(NAME, options, &DriftInsightKind.options()).unwrap();
    let names: Vec<String> = (0..metrics).map(|metric| format!("m{metric}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Arc::new(Settings::read(&reader, &names, executor))
}

/// Small models, so that tests are fast.
fn small() -> Options {
    Options::new().with("training", 200).with("evolve_min", 1)
}

/// What was said of one slot.
#[derive(Clone, Debug, PartialEq)]
struct Said {
    phase: Phase,
    version: u64,
    score: Option<f64>,
    extras: Vec<Extra>,
    contributions: Vec<Option<f64>>,
    reports: Vec<Report>,
}

impl Said {
    fn score(&self) -> f64 {
        self.score.expect("the slot was scored")
    }

    fn state(&self) -> i64 {
        let Extra::Integer(state) = self.extras[0] else { panic!("the slot has no state") };
        state
    }

    fn rows_of(&self, relation: usize) -> Vec<&Report> {
        self.reports.iter().filter(|report| report.relation == relation).collect()
    }
}

/// Whether anomalous slots are learned.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Learning {
    All,
    Normal,
}

/// A component: its model, fed slot by slot.
struct Component {
    settings: Arc<Settings>,
    model: DriftModel,
    slots: i64,
    learning: Learning,
}

impl Component {
    fn new(settings: &Arc<Settings>) -> Self {
        let model = DriftModel::new(Arc::clone(settings));
        Self { settings: Arc::clone(settings), model, slots: 0, learning: Learning::All }
    }

    fn feed(&mut self, features: &[f64]) -> Said {
        let row = Row { time: EventTime(self.slots * SLOT_NS), features };
        self.slots += 1;
        let mut judgement = Judgement::new(features.len(), EXTRAS);
        judgement.reset(self.settings.threshold);
        let is_present = row.present().next().is_some();
        if is_present {
            self.model.score(&row, &mut judgement);
        }
        let (phase, version) = (self.model.phase(), self.model.version());
        let is_anomalous = judgement.score > judgement.threshold;
        if is_present && !(is_anomalous && self.learning == Learning::Normal) {
            self.model.learn(&row);
        } else {
            self.model.pass(&row);
        }
        let mut reports = Reports::default();
        self.model.report(&mut reports);
        let known = |x: f64| (!x.is_nan()).then_some(x);
        Said {
            phase,
            version,
            score: known(judgement.score),
            contributions: judgement.features.iter().map(|f| known(f.contribution)).collect(),
            extras: judgement.extras,
            reports: reports.drain().collect(),
        }
    }

    fn feed_all(&mut self, slots: &[Vec<f64>]) -> Vec<Said> {
        slots.iter().map(|slot| self.feed(slot)).collect()
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.model.snapshot(&mut bytes).unwrap();
        bytes
    }

    fn restored(&self, settings: &Arc<Settings>) -> Self {
        let model = DriftModel::restore(Arc::clone(settings), &self.snapshot()).unwrap();
        Self { settings: Arc::clone(settings), model, slots: self.slots, learning: self.learning }
    }
}

/// Slots of a component that works at two levels in turn, ten slots each.
fn two_levels(slots: usize, noise: &mut Noise) -> Vec<Vec<f64>> {
    let slot = |i: usize| {
        let level = if (i / 10).is_multiple_of(2) { 20.0 } else { 60.0 };
        vec![level + noise.normal(), 3.0 * level + 2.0 * noise.normal(), 5.0 + noise.normal()]
    };
    (0..slots).map(slot).collect()
}
