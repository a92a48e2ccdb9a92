//! Why a session is odd: workflows drawn from the sessions of training (DL-16 to DL-19), and the transitions at which
//! others left them (DL-20).
//!
//! ```text
//!   sessions of training ── ended ──> latest so many ── drawn off the worker ──> workflows ──> d.workflow
//!   sessions since ──────── ended ──> their way through the workflows ──────────────────────> d.diagnosis
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::detector::Trained;
use super::key_model::KeyModel;
use super::vocabulary::{BEGIN, END, FIRST, UNKNOWN, Vocabulary, symbol_of};
use crate::background::{Executor, Task};
use crate::logs::workflow::{
    Diagnosis, Entry, NO_NODE, RUN_ENTRIES_MAX, TaskSettings, Tasks, Visit, Walk, WalkSettings,
    Workflow,
};
use crate::time::EventTime;

/// Predictions after one history that a walk looks at.
const FOLLOWED_MAX: usize = 64;

/// What workflows are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// There are none.
    Off,
    /// Sessions of training: each is a run.
    Sessions,
    /// What the model predicts, walked from the begin marker (DL-16); times are those of the sessions.
    Predictions,
    /// Keys that come near each other in sessions of training, which may hold several tasks (DL-17, DL-18).
    CoOccurrence,
}

/// How workflows are drawn and used.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExplainSettings {
    pub(super) method: Method,
    /// Sessions that workflows are drawn from.
    pub(super) runs_max: usize,
    /// Odd transitions that are named for a session.
    pub(super) diagnoses_max: usize,
    /// Standard deviations beyond its mean at which a transition is slow.
    pub(super) deviations: f64,
    /// Keys of a history of the model.
    pub(super) history: usize,
}

/// The first entries of a session, with their times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Trace {
    entries: Vec<(u32, EventTime)>,
    /// Names of keys that the vocabulary does not have, by the place of their entry.
    strangers: Vec<(u32, String)>,
    /// Whether there were more entries than are kept.
    is_cut: bool,
}

impl Trace {
    fn push(&mut self, symbol: u32, key: &str, time: EventTime) {
        if self.entries.len() >= RUN_ENTRIES_MAX {
            self.is_cut = true;
            return;
        }
        if symbol == UNKNOWN {
            self.strangers.push((self.entries.len() as u32, key.to_owned()));
        }
        self.entries.push((symbol, time));
    }

    /// Goes on under the symbols of another vocabulary.
    pub(super) fn translate(&mut self, from: &Vocabulary, symbol: impl Fn(u32) -> u32) {
        for (place, (known, _)) in self.entries.iter_mut().enumerate() {
            let before = std::mem::replace(known, symbol(*known));
            if *known == UNKNOWN && before != UNKNOWN {
                self.strangers.push((place as u32, from.name(before).to_owned()));
            }
        }
        self.strangers.sort_unstable();
    }

    fn name(&self, place: usize, vocabulary: &Vocabulary) -> String {
        let stranger = self.strangers.iter().find(|(of, _)| *of as usize == place);
        match (stranger, self.entries.get(place)) {
            (Some((_, name)), _) => name.clone(),
            (None, Some((symbol, _))) => vocabulary.name(*symbol).to_owned(),
            (None, None) => String::new(),
        }
    }

    fn run(&self, vocabulary: &Vocabulary) -> Vec<Entry> {
        let entry = |(place, (_, time)): (usize, &(u32, EventTime))| {
            Entry::at(self.name(place, vocabulary), *time)
        };
        self.entries.iter().enumerate().map(entry).collect()
    }
}

/// An odd transition of a session that has ended.
#[derive(Clone, Debug)]
pub(super) struct SessionDiagnosis {
    pub(super) session: String,
    pub(super) end: EventTime,
    /// Whether the session was found anomalous.
    pub(super) is_anomaly: bool,
    /// Which of the workflows it is about.
    pub(super) task: usize,
    pub(super) diagnosis: Diagnosis,
}

/// Workflows, and the node of each symbol.
#[derive(Debug, Default)]
struct Drawn {
    workflows: Vec<Workflow>,
    /// For each symbol, its task and node.
    nodes: Vec<Option<(usize, usize)>>,
}

enum Stage {
    Gathering(VecDeque<Trace>),
    Drawing(Task<Vec<Workflow>>),
    Drawn(Drawn),
}

/// When workflows are told of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Tell {
    Done,
    /// As of this time.
    At(EventTime),
    /// As of the next row: they came from elsewhere.
    WithNextRow,
}

/// Draws workflows and keeps them.
pub(super) struct Explainer {
    settings: ExplainSettings,
    stage: Stage,
    tell: Tell,
}

impl Explainer {
    pub(super) fn new(settings: ExplainSettings) -> Self {
        Self { settings, stage: Stage::Gathering(VecDeque::new()), tell: Tell::Done }
    }

    fn is_on(&self) -> bool {
        self.settings.method != Method::Off
    }

    /// Notes an entry of an open session.
    pub(super) fn note(&mut self, trace: &mut Trace, symbol: u32, key: &str, time: EventTime) {
        if self.is_on() {
            trace.push(symbol, key, time);
        }
        if self.tell == Tell::WithNextRow {
            self.tell = Tell::At(time);
        }
    }

    /// Takes in a session that ended before the model was there.
    pub(super) fn ended(&mut self, trace: Trace) {
        if let Stage::Gathering(traces) = &mut self.stage
            && self.settings.method != Method::Off
        {
            if traces.len() >= self.settings.runs_max {
                traces.pop_front();
            }
            traces.push_back(trace);
        }
    }

    /// Draws workflows off the worker, from what was gathered and from the model that is being trained.
    pub(super) fn draw(
        &mut self,
        executor: &Arc<dyn Executor>,
        vocabulary: &Vocabulary,
        model: &Task<Result<Trained, String>>,
    ) {
        let Stage::Gathering(traces) = &mut self.stage else { return };
        let (traces, vocabulary) = (std::mem::take(traces), vocabulary.clone());
        let (settings, model) = (self.settings, model.clone());
        self.stage = Stage::Drawing(Task::start(executor, move || {
            let runs: Vec<Vec<Entry>> = traces.iter().map(|trace| trace.run(&vocabulary)).collect();
            match settings.method {
                Method::Off => Vec::new(),
                Method::Sessions => vec![Workflow::of_runs(&runs)],
                Method::CoOccurrence => by_co_occurrence(&runs),
                Method::Predictions => match &model.wait().value {
                    Ok(model) => {
                        let walk = WalkSettings { history: settings.history, ..Default::default() };
                        vec![model.keys.clone().walk(&walk).workflow().timed_by(&runs)]
                    }
                    // The detector ends with the model's error.
                    Err(_) => Vec::new(),
                },
            }
        }));
    }

    /// Takes the workflows up, together with the model.
    pub(super) fn take_up(&mut self, vocabulary: &Vocabulary, at: EventTime) {
        if let Stage::Drawing(task) = &self.stage {
            self.stage = Stage::Drawn(Drawn::new(task.wait().value.clone(), vocabulary));
            self.tell = if self.is_on() { Tell::At(at) } else { Tell::Done };
        }
    }

    /// Where a session that has ended left the workflows, the oddest transitions first.
    pub(super) fn diagnose(
        &self,
        name: &str,
        trace: &Trace,
        (end, is_anomaly): (EventTime, bool),
        vocabulary: &Vocabulary,
    ) -> Vec<SessionDiagnosis> {
        let Stage::Drawn(drawn) = &self.stage else { return Vec::new() };
        if self.settings.diagnoses_max == 0 || drawn.workflows.is_empty() {
            return Vec::new();
        }
        let mut found = drawn.diagnose(trace, self.settings.deviations, vocabulary);
        found.sort_by(|(_, a), (_, b)| {
            b.severity.total_cmp(&a.severity).then(a.place.cmp(&b.place))
        });
        found.truncate(self.settings.diagnoses_max);
        let of_session = |(task, diagnosis)| SessionDiagnosis {
            session: name.to_owned(),
            end,
            is_anomaly,
            task,
            diagnosis,
        };
        found.into_iter().map(of_session).collect()
    }

    /// Workflows that have not been told of yet, and as of when they hold.
    pub(super) fn news(&mut self) -> Option<(EventTime, &[Workflow])> {
        let (Stage::Drawn(drawn), Tell::At(at)) = (&self.stage, self.tell) else { return None };
        self.tell = Tell::Done;
        Some((at, &drawn.workflows))
    }

    /// Tells of the workflows once more: who reads here has not heard of them.
    pub(super) fn tell_again(&mut self) {
        if matches!(self.stage, Stage::Drawn(_)) && self.is_on() {
            self.tell = Tell::WithNextRow;
        }
    }

    pub(super) fn save(&self) -> SavedExplainer {
        let stage = match &self.stage {
            Stage::Gathering(traces) => SavedStage::Gathering(traces.iter().cloned().collect()),
            Stage::Drawing(task) => SavedStage::Drawing(task.wait().value.clone()),
            Stage::Drawn(drawn) => SavedStage::Drawn(drawn.workflows.clone()),
        };
        SavedExplainer { stage, tell: self.tell }
    }

    /// What was saved, for a model with this vocabulary if there is one yet; `None` if it cannot be.
    pub(super) fn restore(
        settings: ExplainSettings,
        executor: &Arc<dyn Executor>,
        saved: SavedExplainer,
        vocabulary: Option<&Vocabulary>,
    ) -> Option<Self> {
        let is_sound = |workflows: &[Workflow]| workflows.iter().all(Workflow::is_sound);
        let stage = match (saved.stage, vocabulary) {
            (SavedStage::Gathering(traces), None) => Stage::Gathering(traces.into()),
            (SavedStage::Drawing(workflows), None) if is_sound(&workflows) => {
                Stage::Drawing(Task::done(executor, workflows))
            }
            (SavedStage::Drawn(workflows), Some(vocabulary)) if is_sound(&workflows) => {
                Stage::Drawn(Drawn::new(workflows, vocabulary))
            }
            _ => return None,
        };
        Some(Self { settings, stage, tell: saved.tell })
    }
}

/// What of an explainer survives a restart.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedExplainer {
    stage: SavedStage,
    tell: Tell,
}

#[derive(Debug, Serialize, Deserialize)]
enum SavedStage {
    Gathering(Vec<Trace>),
    Drawing(Vec<Workflow>),
    Drawn(Vec<Workflow>),
}

/// One workflow for each task that shows in logs.
fn by_co_occurrence(logs: &[Vec<Entry>]) -> Vec<Workflow> {
    let tasks = Tasks::of(logs, &TaskSettings::default());
    let mut runs: Vec<Vec<Vec<Entry>>> = vec![Vec::new(); tasks.keys.len()];
    for log in logs {
        for (runs, entries) in runs.iter_mut().zip(tasks.separate(log)) {
            runs.extend(Tasks::runs(&entries));
        }
    }
    runs.iter().map(|runs| Workflow::of_runs(runs)).collect()
}

impl Drawn {
    fn new(workflows: Vec<Workflow>, vocabulary: &Vocabulary) -> Self {
        let place = |symbol: u32| {
            let name = vocabulary.name(symbol);
            let mut found = workflows.iter().enumerate();
            found.find_map(|(task, workflow)| Some((task, workflow.node(name)?)))
        };
        let nodes = (0..vocabulary.symbols() as u32)
            .map(|symbol| if symbol < FIRST { None } else { place(symbol) })
            .collect();
        Self { workflows, nodes }
    }

    /// The odd transitions of a session, each with the workflow that it is about.
    fn diagnose(
        &self,
        trace: &Trace,
        deviations: f64,
        vocabulary: &Vocabulary,
    ) -> Vec<(usize, Diagnosis)> {
        // Places of each task's entries; keys that no task has go with the entry before.
        let mut places: Vec<Vec<usize>> = vec![Vec::new(); self.workflows.len()];
        let node = |place: usize| -> Option<(usize, usize)> {
            self.nodes.get(trace.entries[place].0 as usize).copied().flatten()
        };
        let mut task = (0..trace.entries.len()).find_map(node).map_or(0, |(task, _)| task);
        for place in 0..trace.entries.len() {
            task = node(place).map_or(task, |(task, _)| task);
            places[task].push(place);
        }
        let mut found = Vec::new();
        for (task, (places, workflow)) in places.iter().zip(&self.workflows).enumerate() {
            let runs = match self.workflows.len() {
                1 => vec![places.as_slice()],
                _ => runs(places, workflow, |place| node(place).map(|(_, node)| node)),
            };
            for (number, run) in runs.iter().enumerate() {
                let nodes: Vec<usize> =
                    run.iter().map(|place| node(*place).map_or(NO_NODE, |(_, n)| n)).collect();
                let times: Vec<Option<EventTime>> =
                    run.iter().map(|place| Some(trace.entries[*place].1)).collect();
                let name = |at: usize| trace.name(run[at], vocabulary);
                let visit = Visit { nodes: &nodes, times: &times, name: &name };
                let is_whole = !(trace.is_cut && number + 1 == runs.len());
                for mut diagnosis in workflow.diagnose_nodes(&visit, deviations, is_whole) {
                    diagnosis.place =
                        run.get(diagnosis.place).copied().unwrap_or(trace.entries.len());
                    found.push((task, diagnosis));
                }
            }
        }
        found
    }
}

/// Cuts the places of one task into its runs: one begins where the key that usually begins them comes again.
fn runs<'a>(
    places: &'a [usize],
    workflow: &Workflow,
    node: impl Fn(usize) -> Option<usize>,
) -> Vec<&'a [usize]> {
    let begins = workflow.edges.iter().filter(|edge| edge.from.is_none());
    let first = begins.max_by(|a, b| a.count.total_cmp(&b.count)).and_then(|edge| edge.to);
    let mut runs = Vec::new();
    let mut start = 0;
    for at in 1..=places.len() {
        if at == places.len() || (first.is_some() && node(places[at]) == first) {
            runs.push(&places[start..at]);
            start = at;
        }
    }
    runs
}

impl KeyModel {
    /// Walks what the model predicts, from the begin marker on (DL-16). A model without begin markers, or that does not
    /// predict the end, has no whole paths.
    pub fn walk(&mut self, settings: &WalkSettings) -> Walk {
        let outputs = self.vocabulary.outputs();
        let mut places = Vec::new();
        Walk::new(settings, |history| {
            let symbol = |key: &Option<String>| match key {
                None => BEGIN,
                Some(key) => self.vocabulary.symbol(key),
            };
            let history: Vec<u32> = history.iter().map(symbol).collect();
            self.predictor.places(&history, outputs, &mut places);
            let Some(place) = places.first() else { return Vec::new() };
            let followed = self.predictor.ranked(*place).top(FOLLOWED_MAX);
            let key = |(output, p): (u32, f64)| match symbol_of(output) {
                END => (None, p),
                symbol => (Some(self.vocabulary.name(symbol).to_owned()), p),
            };
            followed.into_iter().map(key).collect()
        })
    }
}
