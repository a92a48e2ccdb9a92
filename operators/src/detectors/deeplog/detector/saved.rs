//! The detector as bytes: its stage, open sessions, what was raised, and what explains.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::values::{Learned, SavedValues, Values};
use super::{Asked, DeepLogDetector, Stage, Trained};
use crate::background::Task;
use crate::detector::DetectorStatistics;
use crate::detectors::deeplog::NAME;
use crate::detectors::deeplog::explain::{Explainer, SavedExplainer};
use crate::detectors::deeplog::feedback::{Raised, SavedRaised};
use crate::detectors::deeplog::key_model::KeyModel;
use crate::detectors::deeplog::sessions::{Session, Sessions};
use crate::detectors::deeplog::vocabulary::Vocabulary;
use crate::error::Result;
use crate::inference::Asking;
use crate::key::KeyShare;
use crate::model::snapshot;
use crate::time::EventTime;

/// The version of what is written; its models have versions of their own. Version 1 knew no values.
const VERSION: u8 = 2;

#[derive(Serialize, Deserialize)]
struct Saved {
    stage: SavedStage,
    sessions: Vec<Session>,
    statistics: DetectorStatistics,
    raised: SavedRaised,
    now: EventTime,
    explainer: SavedExplainer,
    values: SavedValues,
}

/// A model of keys, and one of values.
type SavedTrained = (Vec<u8>, Option<Vec<u8>>);

#[derive(Serialize, Deserialize)]
enum SavedStage {
    Collecting { names: Vec<String>, ended: Vec<Vec<u32>> },
    Training { names: Vec<String>, model: Result<SavedTrained, String>, from: EventTime },
    Ready(Vec<u8>),
}

impl DeepLogDetector {
    /// All that must survive a restart.
    pub(super) fn written(&self) -> Result<Vec<u8>> {
        let stage = match &self.stage {
            Stage::Collecting { vocabulary, ended } => {
                SavedStage::Collecting { names: vocabulary.names().to_vec(), ended: ended.clone() }
            }
            // A model under way is waited for.
            Stage::Training { vocabulary, task, from } => SavedStage::Training {
                names: vocabulary.names().to_vec(),
                model: match &task.wait().value {
                    Ok(trained) => {
                        let values = trained.values.as_ref().map(Learned::to_bytes).transpose()?;
                        Ok((trained.keys.to_bytes()?, values))
                    }
                    Err(problem) => Err(problem.clone()),
                },
                from: *from,
            },
            Stage::Ready(model) => SavedStage::Ready(model.to_bytes()?),
        };
        let saved = Saved {
            stage,
            sessions: self.sessions.sorted().into_iter().cloned().collect(),
            statistics: DetectorStatistics { rebuild_ns: 0, ..self.statistics },
            raised: self.raised.save(),
            now: self.now,
            explainer: self.explainer.save(),
            values: self.values.save()?,
        };
        snapshot::seal_as(VERSION, NAME, &saved)
    }

    /// Takes up what was written.
    pub(super) fn take_up(&mut self, bytes: &[u8]) -> Result<()> {
        let saved: Saved = snapshot::open_as(VERSION, NAME, bytes)?;
        let keys = &self.settings.keys;
        let stage = match saved.stage {
            SavedStage::Collecting { names, ended } => {
                Stage::Collecting { vocabulary: Vocabulary::new(names), ended }
            }
            SavedStage::Training { names, model, from } => Stage::Training {
                vocabulary: Vocabulary::new(names),
                task: Task::done(
                    &self.settings.executor,
                    match model {
                        Ok((bytes, values)) => Ok(Trained {
                            keys: KeyModel::from_bytes(&bytes, keys)?,
                            values: values.map(|v| Learned::from_bytes(&v)).transpose()?,
                        }),
                        Err(problem) => Err(problem),
                    },
                ),
                from,
            },
            SavedStage::Ready(bytes) => Stage::Ready(Box::new(KeyModel::from_bytes(&bytes, keys)?)),
        };
        let history = keys.framing().history;
        if saved.sessions.iter().any(|session| session.window.len() > history) {
            return Err(snapshot::problem(NAME, "was taken under other options"));
        }
        let mut sessions = Sessions::default();
        for session in saved.sessions {
            sessions.open(session);
        }
        let empty = Raised::new(self.settings.feedback_max, self.settings.feedback_within_ns);
        let Some(raised) = empty.restore(saved.raised, history) else {
            return Err(snapshot::problem(NAME, "was taken under other options"));
        };
        let Some(values) = Values::restore(self.settings.values.as_ref(), saved.values)? else {
            return Err(snapshot::problem(NAME, "was taken with other values, or without any"));
        };
        let vocabulary = match &stage {
            Stage::Ready(model) => Some(&model.vocabulary),
            Stage::Collecting { .. } | Stage::Training { .. } => None,
        };
        let settings = &self.settings;
        let explainer =
            Explainer::restore(settings.explain, &settings.executor, saved.explainer, vocabulary)
                .ok_or_else(|| snapshot::problem(NAME, "holds workflows that do not fit it"))?;
        self.explainer = explainer;
        (self.stage, self.sessions, self.statistics) = (stage, sessions, saved.statistics);
        (self.raised, self.now, self.values) = (raised, saved.now, values);
        (self.asked, self.open) = (Asked::default(), VecDeque::new());
        self.asking = self.settings.placement.service.clone().map(Asking::new);
        Ok(())
    }

    /// All sessions are on the first worker, and what it wrote is all that there is; the others have to be whole.
    pub(super) fn take_share(&mut self, snapshots: &[Vec<u8>], share: KeyShare) -> Result<()> {
        let restored = |bytes: &Vec<u8>| -> Result<Self> {
            let mut detector = Self::new(Arc::clone(&self.settings));
            detector.take_up(bytes)?;
            Ok(detector)
        };
        let written = snapshots.iter().map(restored).collect::<Result<Vec<_>>>()?;
        let Some(mut first) = written.into_iter().next() else {
            return Err(snapshot::problem(NAME, "is of no worker"));
        };
        if share.owns(None, false) {
            // What it has done itself it has still done.
            first.statistics = self.statistics;
            *self = first;
        } else {
            *self = Self::new(Arc::clone(&self.settings));
        }
        Ok(())
    }
}
