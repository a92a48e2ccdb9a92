//! The model of a component's states: what it is built from, and which state a new slot is in.

use serde::{Deserialize, Serialize};

use super::convergence::{last_cluster_slot, settled_slot};
use super::dbscan::{self, Clustering, NOISE};
use super::distance::{self, BLOCK, Points};
use super::history::Batch;
use super::identity::keep_states;
use super::knee;
use super::scale::{Axis, Scale};
use super::score;
use super::transitions::Habits;
use crate::time::EventTime;

/// What decides how a model is built, the same for all components.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipe {
    pub(super) metrics: usize,
    /// Slots of a detection window.
    pub(super) window: usize,
    /// 0 to take it from the data (DI-04).
    pub(super) eps: f32,
    /// Times the eps that is taken from the data.
    pub(super) eps_factor: f32,
    /// 0 to take it from metrics and slots (DI-04).
    pub(super) min_points: usize,
    /// A component whose states have all been seen before this slot is steady (DI-08).
    pub(super) steady_threshold: usize,
    /// Whether the stricter reading of convergence decides (DI-09).
    pub(super) by_prefix: bool,
}

/// What the next build takes over from the model before.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    /// States of the slots that stay, the first of the batch.
    pub(super) states: Vec<i32>,
    /// The number of the next new state.
    pub(super) next_state: i32,
    /// Whether the component has been scored before, so that the costlier figure is no longer needed.
    pub(super) is_steady: bool,
}

/// When a component's states have all been seen, in slots of its batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Convergence {
    /// When the last cluster appears (MCT, DI-07).
    pub(super) last_cluster: Option<u32>,
    /// When the clusterings of all prefixes settle (DI-09), where it was computed.
    pub(super) prefix: Option<u32>,
}

impl Convergence {
    /// The figure that decides.
    pub(super) fn figure(&self, by_prefix: bool) -> Option<u32> {
        if by_prefix { self.prefix } else { self.last_cluster }
    }
}

/// The part of a model that cannot be computed from its other parts at little cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Core {
    pub(super) batch: Batch,
    pub(super) scales: Vec<Scale>,
    pub(super) squared_radius: f32,
    /// The distance to the nearest core point, in eps, that counts as three deviations.
    pub(super) reach: f32,
    /// Per slot, whether it is a core point.
    is_core: Vec<bool>,
    /// Per slot, its state.
    pub(super) states: Vec<i32>,
    pub(super) next_state: i32,
    pub(super) convergence: Convergence,
}

/// Slots of a state, and where each metric lies in them, in its own unit (DI-05).
#[derive(Debug, PartialEq)]
pub(super) struct StateProfile {
    pub(super) state: i32,
    pub(super) count: u32,
    pub(super) metrics: Vec<Scale>,
}

/// A component's model: its states (DI-12) and how it moves among them (DI-14).
#[derive(Debug)]
pub(super) struct StateModel {
    pub(super) core: Core,
    pub(super) habits: Habits,
    /// Ordered by state.
    pub(super) profiles: Vec<StateProfile>,
    /// The metrics that are not flat.
    spread: Vec<(usize, Axis)>,
}

/// The core point next to a slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Nearest {
    pub(super) state: i32,
    pub(super) square: f32,
}

impl StateModel {
    /// Builds the model of a batch: DI-02 to DI-09, DI-14 and DI-21.
    pub(super) fn build(recipe: &Recipe, batch: Batch, before: Before) -> Self {
        let scales: Vec<Scale> = batch.columns(recipe.metrics).map(Scale::of).collect();
        let axes: Vec<Axis> = scales.iter().map(Scale::axis).collect();
        let points = Points::new(batch.len(), batch.columns(recipe.metrics), &axes);
        let min_points = match recipe.min_points {
            0 => knee::min_points(recipe.metrics, batch.len()),
            given => given,
        };
        let distances = knee::squared_distances(&points, min_points);
        let eps = match recipe.eps > 0.0 {
            true => recipe.eps,
            false => recipe.eps_factor * knee::radius(&distances, recipe.metrics),
        };
        let squared_radius = eps * eps;
        // More points than there are make no core point; the distance to the last one would say otherwise.
        let enough = min_points <= batch.len();
        let is_core: Vec<bool> =
            distances.iter().map(|square| enough && *square <= squared_radius).collect();
        drop(distances);
        let Clustering { labels: mut states, nearest } =
            dbscan::cluster(&points, squared_radius, &is_core);
        let reach = score::reach(nearest, squared_radius, states.contains(&NOISE));
        let last_cluster = last_cluster_slot(&states);
        let prefix = if recipe.by_prefix || !before.is_steady {
            settled_slot(&points, squared_radius, min_points)
        } else {
            None
        };
        let slot = |slot: Option<usize>| slot.map(|slot| slot as u32);
        let convergence = Convergence { last_cluster: slot(last_cluster), prefix: slot(prefix) };
        let mut next_state = before.next_state;
        keep_states(&mut states, &before.states, &mut next_state);
        let core =
            Core { batch, scales, squared_radius, reach, is_core, states, next_state, convergence };
        Self::complete(recipe, core)
    }

    /// Computes what follows from the core.
    pub(super) fn complete(recipe: &Recipe, core: Core) -> Self {
        let habits = Habits::learn(&core.states, recipe.window);
        let axes = core.scales.iter().map(Scale::axis).enumerate();
        let spread = axes.filter(|(_, axis)| !axis.is_flat()).collect();
        let profiles = profiles(&core.batch, &core.states, &habits, recipe.metrics);
        Self { core, habits, profiles, spread }
    }

    /// The state that a slot is in, and the core point next to it (DI-13); no such point if there are no clusters.
    pub(super) fn state_of(&self, slot: &[f32]) -> (i32, Option<Nearest>) {
        let nearest = self.nearest(slot);
        let inside = nearest.filter(|nearest| nearest.square <= self.core.squared_radius);
        (inside.map_or(NOISE, |nearest| nearest.state), nearest)
    }

    fn nearest(&self, slot: &[f32]) -> Option<Nearest> {
        let Core { batch, is_core, states, .. } = &self.core;
        let spread = &self.spread;
        let mut squares = [0.0_f32; BLOCK];
        let mut best = f32::INFINITY;
        let mut nearest = None;
        for start in (0..batch.len()).step_by(BLOCK) {
            let squares = &mut squares[..BLOCK.min(batch.len() - start)];
            squares.fill(0.0);
            let columns = spread.iter().map(|(metric, axis)| {
                (&batch.column(*metric)[start..], axis.z_held(slot[*metric]))
            });
            distance::add_squares(squares, columns, |number, value| spread[number].1.z(value));
            for (i, square) in squares.iter().enumerate() {
                // Of equally near ones the earliest.
                if *square < best && is_core[start + i] {
                    best = *square;
                    nearest = Some(start + i);
                }
            }
        }
        nearest.map(|i| Nearest { state: states[i], square: best })
    }

    /// A distance in units of eps.
    pub(super) fn in_eps(&self, nearest: Nearest) -> f64 {
        (f64::from(nearest.square) / f64::from(self.core.squared_radius)).sqrt()
    }

    pub(super) fn profile(&self, state: i32) -> Option<&StateProfile> {
        let at = self.profiles.binary_search_by_key(&state, |profile| profile.state).ok()?;
        Some(&self.profiles[at])
    }

    /// Clusters in the batch.
    pub(super) fn clusters(&self) -> usize {
        self.profiles.iter().filter(|profile| profile.state != NOISE).count()
    }

    /// The time of a slot of the batch.
    pub(super) fn time_of(&self, slot: u32) -> Option<EventTime> {
        self.core.batch.times.get(slot as usize).copied()
    }

    /// Whether the component is steady (DI-08, DI-11).
    pub(super) fn is_steady(&self, recipe: &Recipe) -> bool {
        let figure = self.core.convergence.figure(recipe.by_prefix);
        figure.is_some_and(|slot| (slot as usize) < recipe.steady_threshold)
    }

    /// Bytes on the heap, in time that does not grow with them.
    pub(super) fn heap_bytes(&self) -> usize {
        let Core { batch, scales, is_core, states, .. } = &self.core;
        let metrics = scales.len();
        batch.heap_bytes()
            + scales.capacity() * size_of::<Scale>()
            + is_core.capacity()
            + states.capacity() * size_of::<i32>()
            + self.spread.capacity() * size_of::<(usize, Axis)>()
            + self.profiles.capacity() * (size_of::<StateProfile>() + metrics * size_of::<Scale>())
            + self.habits.heap_bytes()
    }
}

impl Core {
    /// Whether a core that was read back is one that a build over so many slots could have left.
    pub(super) fn is_sound(&self, recipe: &Recipe, training: usize) -> bool {
        let known = NOISE..self.next_state.max(0);
        let in_batch = |slot: Option<u32>| slot.is_none_or(|slot| (slot as usize) < training);
        self.batch.is_sound(training, recipe.metrics)
            && self.scales.len() == recipe.metrics
            && self.scales.iter().all(|scale| scale.mean.is_finite() == scale.sd.is_finite())
            && self.scales.iter().all(|scale| !(scale.sd < 0.0))
            && self.squared_radius.is_finite()
            && self.squared_radius > 0.0
            && self.reach.is_finite()
            && self.reach >= 1.0
            && self.is_core.len() == training
            && self.states.len() == training
            && self.states.iter().all(|state| known.contains(state))
            && self.states.iter().zip(&self.is_core).all(|(state, core)| !core || *state != NOISE)
            && in_batch(self.convergence.last_cluster)
            && in_batch(self.convergence.prefix)
    }
}

/// Mean and deviation of each metric in each state.
fn profiles(batch: &Batch, states: &[i32], habits: &Habits, metrics: usize) -> Vec<StateProfile> {
    let known = habits.states();
    let place = |state: &i32| known.binary_search_by_key(state, |(known, _)| *known);
    let places: Vec<usize> = states.iter().filter_map(|state| place(state).ok()).collect();
    let blank = Scale { mean: 0.0, sd: 0.0 };
    let profile = |(state, count): &(i32, super::transitions::Count)| StateProfile {
        state: *state,
        count: count.total,
        metrics: vec![blank; metrics],
    };
    let mut profiles: Vec<StateProfile> = known.iter().map(profile).collect();
    for (metric, column) in batch.columns(metrics).enumerate() {
        let slots = || places.iter().zip(column).map(|(place, value)| (*place, f64::from(*value)));
        for (place, value) in slots() {
            profiles[place].metrics[metric].mean += value;
        }
        for profile in &mut profiles {
            profile.metrics[metric].mean /= f64::from(profile.count);
        }
        for (place, value) in slots() {
            let scale = &mut profiles[place].metrics[metric];
            scale.sd += (value - scale.mean).powi(2);
        }
        for profile in &mut profiles {
            let scale = &mut profile.metrics[metric];
            scale.sd = (scale.sd / f64::from(profile.count)).sqrt();
        }
    }
    profiles
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Noise;
    use super::super::history::MiniBatch;
    use super::*;

    fn recipe() -> Recipe {
        Recipe {
            metrics: 3,
            window: 10,
            eps: 0.0,
            eps_factor: 1.0,
            min_points: 0,
            steady_threshold: 200,
            by_prefix: false,
        }
    }

    /// Slots around three levels, 20 slots each in turn; the last metric is flat.
    fn batch(slots: usize) -> Batch {
        let mut noise = Noise(5);
        let mut new = MiniBatch::new(3);
        for i in 0..slots {
            let level = [0.0, 50.0, 90.0][i / 20 % 3];
            let slot =
                [(level + noise.normal()) as f32, (7.0 - level + noise.normal()) as f32, 4.0];
            new.push(EventTime(i as i64), &slot, slots);
        }
        Batch::evolve(None, &new, slots)
    }

    #[test]
    fn di_05_profiles_keep_the_original_units() {
        let model = StateModel::build(&recipe(), batch(400), Before::default());
        assert_eq!(model.clusters(), 3);
        for (state, level) in [(0, 0.0), (1, 50.0), (2, 90.0)] {
            let profile = model.profile(state).unwrap();
            let [cpu, memory, flat] = profile.metrics[..] else { panic!("three metrics") };
            assert!((cpu.mean - level).abs() < 0.5 && (cpu.sd - 1.0).abs() < 0.3, "{cpu:?}");
            assert!((memory.mean - 7.0 + level).abs() < 0.5);
            assert_eq!(flat, Scale { mean: 4.0, sd: 0.0 });
        }
        let counted: u32 = model.profiles.iter().map(|profile| profile.count).sum();
        assert_eq!(counted, 400);
    }

    #[test]
    fn di_06_to_di_08_convergence_of_three_levels() {
        let model = StateModel::build(&recipe(), batch(400), Before::default());
        let last = model.core.convergence.last_cluster.unwrap();
        assert!((40..43).contains(&last), "{last}");
        assert!(model.core.convergence.prefix.unwrap() >= last, "DI-09 is not before DI-07");
        assert!(model.is_steady(&recipe()));
        assert!(!model.is_steady(&Recipe { steady_threshold: last as usize, ..recipe() }));
        assert_eq!(model.time_of(last), Some(EventTime(i64::from(last))));
    }

    #[test]
    fn di_13_training_slots_are_in_their_states() {
        let model = StateModel::build(&recipe(), batch(400), Before::default());
        let Core { batch, states, is_core, .. } = &model.core;
        for i in 0..batch.len() {
            let slot: Vec<f32> = batch.columns(3).map(|column| column[i]).collect();
            let (state, nearest) = model.state_of(&slot);
            assert_eq!(state, states[i], "slot {i}");
            assert!(!is_core[i] || nearest.unwrap().square == 0.0);
        }
        let far = model.state_of(&[1e30, 0.0, 4.0]);
        assert!(far.0 == NOISE && model.in_eps(far.1.unwrap()).is_finite());
    }

    #[test]
    fn di_21_unchanged_data_gives_unchanged_states() {
        let first = StateModel::build(&recipe(), batch(400), Before::default());
        let before = Before {
            states: first.core.states.clone(),
            next_state: first.core.next_state,
            is_steady: true,
        };
        let second = StateModel::build(&recipe(), batch(400), before);
        assert_eq!(second.core.states, first.core.states);
        assert_eq!(second.core.next_state, 3);
        assert_eq!(second.habits, first.habits);
        assert_eq!(second.core.convergence.prefix, None);
    }

    #[test]
    fn without_clusters_every_slot_is_noise() {
        let lonely = Recipe { eps: 1e-6, min_points: 50, ..recipe() };
        let model = StateModel::build(&lonely, batch(100), Before::default());
        assert_eq!((model.clusters(), model.is_steady(&lonely)), (0, false));
        assert_eq!(model.state_of(&[0.0, 0.0, 4.0]), (NOISE, None));
        let too_many = Recipe { min_points: 101, eps: 1e9, ..recipe() };
        assert_eq!(StateModel::build(&too_many, batch(100), Before::default()).clusters(), 0);
    }
}
