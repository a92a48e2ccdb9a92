//! The model of one component: discovers its states, scores its slots, and evolves.
//!
//! ```text
//!   warming_up --training slots--> training --swap_after slots--> steady? --yes--> detecting
//!       ^                                                            |                |  ^
//!       +------------------- no: further slots come in --------------+     mini-batch |  | swap_after slots
//!                                                                                     v  |
//!                                                                                  retraining
//! ```
//!
//! A build gets a frozen batch and runs off the worker. Its model counts from a slot on that is fixed when it starts,
//! so that answers do not depend on how long it took.

use std::cell::RefCell;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::evidence::{self, Alert};
use super::history::{Batch, MiniBatch};
use super::reports::{self, Waiting};
use super::score::{combine, novelty};
use super::state_model::{Before, Core, StateModel};
use super::{EXTRAS, NAME, Settings};
use crate::background::{Finished, Task};
use crate::error::Result;
use crate::model::{Extra, Judgement, Model, Phase, Rebuilds, Reports, Row, snapshot};

/// The model of one component.
#[derive(Debug)]
pub(super) struct DriftModel {
    settings: Arc<Settings>,
    fresh: MiniBatch,
    recent: Recent,
    /// The model in force; while the component is not steady, the one that showed it.
    current: Option<Arc<Finished<StateModel>>>,
    is_steady: bool,
    building: Option<Building>,
    alert: Option<Alert>,
    /// The slot of convergence that the fleet's curve has of this component.
    on_curve: Option<u32>,
    version: u64,
    builds: u64,
    build_ns: u64,
    samples: u64,
    waiting: Waiting,
    scratch: RefCell<Scratch>,
}

/// A build that was started.
#[derive(Debug)]
struct Building {
    task: Task<StateModel>,
    /// Slots until its model counts.
    slots_left: u32,
    bytes: usize,
}

/// The slots of the window before the next one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Recent {
    /// One slot after the other.
    rows: Vec<f32>,
    /// Their states, once there is a model in force.
    states: Vec<i32>,
}

/// Room for a row, and what its score found out until it is learned.
#[derive(Debug, Default)]
struct Scratch {
    slot: Vec<f32>,
    window: Vec<i32>,
    seen: Option<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    state: i32,
    distance: Option<f64>,
    is_anomalous: bool,
}

impl DriftModel {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self {
            fresh: MiniBatch::new(settings.recipe.metrics),
            recent: Recent::default(),
            current: None,
            is_steady: false,
            building: None,
            alert: None,
            on_curve: None,
            version: 0,
            builds: 0,
            build_ns: 0,
            samples: 0,
            waiting: Waiting::default(),
            scratch: RefCell::default(),
            settings,
        }
    }

    /// The model in force.
    pub(super) fn in_force(&self) -> Option<&StateModel> {
        self.current.as_ref().filter(|_| self.is_steady).map(|finished| &finished.value)
    }

    /// Slots after which the next model is built (DI-11, DI-20); `None` for never.
    fn slots_wanted(&self) -> Option<usize> {
        match &self.current {
            None => Some(self.settings.training),
            Some(_) if !self.is_steady => Some(self.settings.slots_to_retry()),
            Some(finished) => {
                let convergence = finished.value.core.convergence;
                self.settings.mini_batch(convergence.figure(self.settings.recipe.by_prefix))
            }
        }
    }

    fn follow(&mut self, row: &Row<'_>, is_learned: bool) {
        if row.present().next().is_none() {
            return;
        }
        let seen = self.scratch.get_mut().seen.take();
        let seen = match self.is_steady {
            true => seen.or_else(|| self.look(row)),
            false => None,
        };
        let Scratch { slot, .. } = self.scratch.get_mut();
        self.fresh.hold(row.features, slot);
        self.fresh.see(slot);
        if is_learned {
            self.samples += 1;
            if self.settings.evolve_share > 0.0 || !self.is_steady {
                self.fresh.push(row.time, slot, self.settings.training);
            }
        }
        let window = self.settings.recipe.window;
        self.recent.push(slot, window - 1);
        if let Some(Seen { state, distance, is_anomalous }) = seen {
            let before = self.recent.states.last().copied();
            Alert::follow(&mut self.alert, before, state, is_anomalous, window);
            self.recent.push_state(state, window - 1);
            self.waiting.scored(state, distance);
        }
        if let Some(building) = &mut self.building {
            building.slots_left -= 1;
            if building.slots_left == 0 {
                self.swap();
            }
        }
        let is_due = self.slots_wanted().is_some_and(|wanted| self.fresh.len() >= wanted);
        if self.building.is_none() && is_due {
            self.build();
        }
    }

    /// Scores a row that was not scored before it came to be learned.
    fn look(&self, row: &Row<'_>) -> Option<Seen> {
        let mut judgement = Judgement::new(row.features.len(), EXTRAS);
        judgement.reset(self.settings.threshold);
        self.score(row, &mut judgement);
        self.scratch.borrow_mut().seen.take()
    }

    /// Freezes a batch and hands it over; rows from now on are for the next one.
    fn build(&mut self) {
        let settings = &self.settings;
        let current = self.current.as_ref().map(|finished| &finished.value.core);
        let training = settings.training;
        let fresh = self.fresh.len().min(training);
        let before = match current {
            Some(core) if self.is_steady => {
                let kept = core.batch.kept(fresh, training);
                Before {
                    states: core.states[core.states.len() - kept..].to_vec(),
                    next_state: core.next_state,
                    is_steady: true,
                }
            }
            _ => Before::default(),
        };
        let batch = Batch::evolve(current.map(|core| &core.batch), &self.fresh, training);
        self.fresh.clear();
        let (recipe, bytes) = (settings.recipe, batch.heap_bytes());
        let task =
            Task::start(&settings.executor, move || StateModel::build(&recipe, batch, before));
        self.building = Some(Building { task, slots_left: settings.swap_after, bytes });
        if settings.swap_after == 0 {
            self.swap();
        }
    }

    /// Takes up the model that was built, if the component is steady.
    fn swap(&mut self) {
        let Some(building) = self.building.take() else { return };
        let settings = &self.settings;
        let finished = building.task.wait();
        let model = &finished.value;
        let is_steady = model.is_steady(&settings.recipe);
        self.builds += 1;
        self.build_ns += u64::try_from(finished.took.as_nanos()).unwrap_or(u64::MAX);
        let previous = self.current.take().filter(|_| self.is_steady);
        let before = previous.as_ref().map(|finished| &finished.value);
        // A component that was steady once remains scored: what has changed since is what the detector is there for.
        let counts = is_steady || before.is_some();
        self.version += u64::from(counts);
        self.waiting.built(settings, model, self.version, is_steady);
        let figure = model.core.convergence.figure(settings.recipe.by_prefix);
        self.waiting.converged(self.on_curve, figure);
        if counts {
            self.waiting.swapped(settings, before, model, self.version);
            // The window is read anew, so that old and new states do not mix in it.
            let rows = self.recent.rows.chunks_exact(settings.recipe.metrics);
            self.recent.states = rows.map(|slot| model.state_of(slot).0).collect();
        }
        self.on_curve = figure;
        self.is_steady = counts;
        self.current = Some(finished);
        self.fresh.make_room(self.slots_wanted().unwrap_or(0));
    }
}

impl Recent {
    fn push(&mut self, slot: &[f32], slots_max: usize) {
        if self.rows.len() >= slots_max * slot.len() {
            self.rows.drain(..slot.len());
        }
        self.rows.extend_from_slice(slot);
    }

    fn push_state(&mut self, state: i32, slots_max: usize) {
        if self.states.len() >= slots_max {
            self.states.remove(0);
        }
        self.states.push(state);
    }

    fn is_sound(&self, settings: &Settings, is_steady: bool) -> bool {
        let metrics = settings.recipe.metrics;
        let slots = self.rows.len() / metrics;
        self.rows.len() == slots * metrics
            && slots < settings.recipe.window
            && self.states.len() == if is_steady { slots } else { 0 }
            && !self.rows.iter().any(|value| value.is_infinite())
    }
}

impl Model for DriftModel {
    fn score(&self, row: &Row<'_>, judgement: &mut Judgement) {
        let Some(model) = self.in_force() else { return };
        let Scratch { slot, window, seen } = &mut *self.scratch.borrow_mut();
        self.fresh.hold(row.features, slot);
        let (state, nearest) = model.state_of(slot);
        window.clear();
        window.extend_from_slice(&self.recent.states);
        window.push(state);
        let oddity = model.habits.judge(window, self.settings.rules);
        let distance = nearest.map(|nearest| model.in_eps(nearest));
        let novelty = distance.map_or(0.0, |distance| novelty(distance, model.core.reach));
        judgement.score = combine(oddity.most(), novelty, judgement.threshold);
        let nearest_state = nearest.map(|nearest| nearest.state);
        let (threshold, features) = (judgement.threshold, &mut judgement.features);
        evidence::judge_features(model, nearest_state, row, threshold, features);

        let is_anomalous = judgement.score > judgement.threshold;
        let text = |text: Option<String>| text.map_or(Extra::Null, |text| Extra::Text(text.into()));
        let alert = (is_anomalous || self.alert.is_some()).then(|| {
            let mut alert = self.alert.clone();
            let before = self.recent.states.last().copied();
            Alert::follow(&mut alert, before, state, is_anomalous, self.settings.recipe.window);
            alert
        });
        let alert = alert.flatten();
        let extras: [Extra; EXTRAS] = [
            Extra::Integer(state.into()),
            nearest_state.map_or(Extra::Null, |state| Extra::Integer(state.into())),
            distance.map_or(Extra::Null, Extra::Number),
            Extra::Text(evidence::window_text(window).into()),
            text(evidence::transitions_text(&oddity.top)),
            text(alert.as_ref().map(Alert::states_text)),
            text(alert.as_ref().map(Alert::transitions_text)),
        ];
        for (place, extra) in judgement.extras.iter_mut().zip(extras) {
            *place = extra;
        }
        *seen = Some(Seen { state, distance, is_anomalous });
    }

    fn learn(&mut self, row: &Row<'_>) {
        self.follow(row, true);
    }

    fn pass(&mut self, row: &Row<'_>) {
        self.follow(row, false);
    }

    fn phase(&self) -> Phase {
        match (self.is_steady, self.building.is_some()) {
            (false, false) => Phase::WarmingUp,
            (false, true) => Phase::Training,
            (true, false) => Phase::Detecting,
            (true, true) => Phase::Retraining,
        }
    }

    fn report(&mut self, reports: &mut Reports) {
        self.waiting.report(reports);
    }

    fn report_standing(&self, change: i64, reports: &mut Reports) {
        reports::standing(self.in_force(), self.on_curve, change, reports);
    }

    fn rebuilds(&self) -> Rebuilds {
        Rebuilds { count: self.builds, ns: self.build_ns }
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn samples(&self) -> u64 {
        self.samples
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.fresh.heap_bytes()
            + self.recent.rows.capacity() * size_of::<f32>()
            + self.recent.states.capacity() * size_of::<i32>()
            + self.current.as_ref().map_or(0, |finished| finished.value.heap_bytes())
            + self.building.as_ref().map_or(0, |building| building.bytes)
            + self.alert.as_ref().map_or(0, Alert::heap_bytes)
    }

    fn snapshot(&self, out: &mut Vec<u8>) -> Result<()> {
        let built = self.building.as_ref().map(|building| building.task.wait());
        let slots_left = self.building.as_ref().map(|building| building.slots_left);
        let saved = Saved {
            fresh: &self.fresh,
            recent: &self.recent,
            current: self.current.as_ref().map(|finished| &finished.value.core),
            is_steady: self.is_steady,
            built: built.as_ref().map(|finished| &finished.value.core).zip(slots_left),
            alert: &self.alert,
            on_curve: self.on_curve,
            version: self.version,
            builds: self.builds,
            samples: self.samples,
        };
        snapshot::append(NAME, out, &saved)
    }
}

/// What a snapshot holds of a model, written from references and read into values.
#[derive(Serialize, Deserialize)]
struct Saved<M, R, C, A> {
    fresh: M,
    recent: R,
    current: Option<C>,
    is_steady: bool,
    /// A build under way is waited for: its result, and in how many slots it counts.
    built: Option<(C, u32)>,
    alert: A,
    on_curve: Option<u32>,
    version: u64,
    builds: u64,
    samples: u64,
}

impl DriftModel {
    /// The model that was written, if it is one under these settings.
    pub(super) fn restore(settings: Arc<Settings>, bytes: &[u8]) -> Result<Self> {
        let saved: Saved<MiniBatch, Recent, Core, Option<Alert>> = snapshot::read(NAME, bytes)?;
        let Settings { recipe, training, swap_after, executor, .. } = &*settings;
        let is_whole = |core: &Core| core.is_sound(recipe, *training);
        let is_due = |slots_left: u32| (1..=*swap_after).contains(&slots_left);
        let is_sound = saved.fresh.is_sound(*training, recipe.metrics)
            && saved.recent.is_sound(&settings, saved.is_steady)
            && saved.current.as_ref().is_none_or(is_whole)
            && (saved.current.is_some() || !saved.is_steady)
            && saved.built.as_ref().is_none_or(|(core, left)| is_whole(core) && is_due(*left))
            && saved.alert.as_ref().is_none_or(Alert::is_sound);
        if !is_sound {
            return Err(snapshot::problem(NAME, "was taken under other options"));
        }
        let complete = |core: Core| Task::done(executor, StateModel::complete(recipe, core));
        let building = saved.built.map(|(core, slots_left)| {
            let bytes = core.batch.heap_bytes();
            Building { task: complete(core), slots_left, bytes }
        });
        Ok(Self {
            fresh: saved.fresh,
            recent: saved.recent,
            current: saved.current.map(|core| complete(core).wait()),
            is_steady: saved.is_steady,
            building,
            alert: saved.alert,
            on_curve: saved.on_curve,
            version: saved.version,
            builds: saved.builds,
            samples: saved.samples,
            ..Self::new(Arc::clone(&settings))
        })
    }
}
