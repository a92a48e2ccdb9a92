//! Rows of the side relations, and how their fields are called.

use std::cmp::Ordering;

use arrow::datatypes::{DataType, TimeUnit};

use super::Settings;
use super::state_model::StateModel;
use super::transitions::Count;
use crate::model::{Extra, ModelRelation, Reports, Upkeep};

const STATE_SERIES: usize = 0;
const STATES: usize = 1;
const COMPONENTS: usize = 2;
const TRANSITIONS: usize = 3;
const OCCUPANCY: usize = 4;
const STEADY: usize = 5;
const CONVERGENCE: usize = 6;

/// The relations, in the order of their indexes.
pub(super) fn relations() -> Vec<ModelRelation> {
    use DataType::{Boolean, Float64, Int64, Utf8};
    let time = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let relation = |name, upkeep, fields| ModelRelation { name, fields, upkeep };
    vec![
        relation("state_series", Upkeep::Append, vec![("state", Int64), ("distance", Float64)]),
        relation(
            "states",
            Upkeep::Append,
            vec![
                ("model_version", Int64),
                ("state", Int64),
                ("count", Int64),
                ("share", Float64),
                ("metric", Utf8),
                ("mean", Float64),
                ("sd", Float64),
            ],
        ),
        relation(
            "components",
            Upkeep::Append,
            vec![
                ("model_version", Int64),
                ("slots", Int64),
                ("states", Int64),
                ("converged_slot", Int64),
                ("converged_at", time),
                ("prefix_slot", Int64),
                ("steady", Boolean),
            ],
        ),
        relation("transitions", Upkeep::Counts, vec![("from_state", Int64), ("to_state", Int64)]),
        relation("occupancy", Upkeep::Counts, vec![("state", Int64)]),
        relation("steady", Upkeep::Keys, vec![]),
        relation("convergence", Upkeep::Running, vec![("converged_slot", Int64)]),
    ]
}

/// Reports of the latest row, until they are taken.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<(usize, Vec<Extra>, i64)>);

impl Waiting {
    pub(super) fn report(&mut self, reports: &mut Reports) {
        for (relation, values, change) in self.0.drain(..) {
            reports.change(relation, values, change);
        }
    }

    /// A slot was scored.
    pub(super) fn scored(&mut self, state: i32, distance: Option<f64>) {
        let distance = distance.map_or(Extra::Null, Extra::Number);
        self.push(STATE_SERIES, vec![integer(state), distance]);
    }

    /// A model was built, for a steady component or not.
    pub(super) fn built(
        &mut self,
        settings: &Settings,
        model: &StateModel,
        version: u64,
        is_steady: bool,
    ) {
        let convergence = model.core.convergence;
        let slot = |slot: Option<u32>| slot.map_or(Extra::Null, integer);
        let time = convergence.last_cluster.and_then(|slot| model.time_of(slot));
        let values = vec![
            Extra::Integer(version as i64),
            Extra::Integer(settings.training as i64),
            Extra::Integer(model.clusters() as i64),
            slot(convergence.last_cluster),
            time.map_or(Extra::Null, Extra::Time),
            slot(convergence.prefix),
            Extra::Flag(is_steady),
        ];
        self.push(COMPONENTS, values);
    }

    /// A component's slot of convergence changed.
    pub(super) fn converged(&mut self, before: Option<u32>, now: Option<u32>) {
        if before != now {
            let mut change = |slot: Option<u32>, change| {
                self.0.extend(slot.map(|slot| (CONVERGENCE, vec![integer(slot)], change)));
            };
            change(before, -1);
            change(now, 1);
        }
    }

    /// A model came into force.
    pub(super) fn swapped(
        &mut self,
        settings: &Settings,
        before: Option<&StateModel>,
        model: &StateModel,
        version: u64,
    ) {
        for profile in &model.profiles {
            for (metric, scale) in settings.metrics.iter().zip(&profile.metrics) {
                let values = vec![
                    Extra::Integer(version as i64),
                    integer(profile.state),
                    integer(profile.count),
                    Extra::Number(f64::from(profile.count) / model.core.states.len() as f64),
                    Extra::Text(metric.clone().into()),
                    Extra::Number(scale.mean),
                    Extra::Number(scale.sd),
                ];
                self.push(STATES, values);
            }
        }
        let (pairs, states) = before
            .map_or((&[][..], &[][..]), |model| (model.habits.pairs(), model.habits.states()));
        for ((from, to), change) in changes(pairs, model.habits.pairs()) {
            self.0.push((TRANSITIONS, vec![integer(from), integer(to)], change));
        }
        for (state, change) in changes(states, model.habits.states()) {
            self.0.push((OCCUPANCY, vec![integer(state)], change));
        }
        if before.is_none() {
            self.push(STEADY, Vec::new());
        }
    }

    fn push(&mut self, relation: usize, values: Vec<Extra>) {
        self.0.push((relation, values, 1));
    }
}

/// All that a component has in counted relations, as entering or leaving.
pub(super) fn standing(
    model: Option<&StateModel>,
    on_curve: Option<u32>,
    change: i64,
    reports: &mut Reports,
) {
    if let Some(model) = model {
        for ((from, to), count) in model.habits.pairs() {
            let values = [integer(*from), integer(*to)];
            reports.change(TRANSITIONS, values, change * i64::from(count.total));
        }
        for (state, count) in model.habits.states() {
            reports.change(OCCUPANCY, [integer(*state)], change * i64::from(count.total));
        }
        reports.change(STEADY, [], change);
    }
    if let Some(slot) = on_curve {
        reports.change(CONVERGENCE, [integer(slot)], change);
    }
}

fn integer(value: impl Into<i64>) -> Extra {
    Extra::Integer(value.into())
}

/// By how much counts differ, where they do.
fn changes<T: Copy + Ord>(before: &[(T, Count)], now: &[(T, Count)]) -> Vec<(T, i64)> {
    let (mut before, mut now) = (before.iter().peekable(), now.iter().peekable());
    let mut changes = Vec::new();
    loop {
        let order = match (before.peek(), now.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        let old = if order.is_le() { before.next() } else { None };
        let new = if order.is_ge() { now.next() } else { None };
        let count = |side: Option<&(T, Count)>| side.map_or(0, |(_, count)| i64::from(count.total));
        let change = count(new) - count(old);
        let thing = new.or(old).map(|(thing, _)| *thing);
        changes.extend(thing.filter(|_| change != 0).map(|thing| (thing, change)));
    }
}
