//! One component: which state it is in, and what its agents read.

use super::classes::{Class, METRICS, Values};
use super::faults::Incident;
use super::random::Random;
use super::{BOSH_METRICS, SLOTS_PER_DAY};

/// Relative noise of the nine free metrics.
const NOISE: [f64; 9] = [0.03, 0.03, 0.01, 0.0, 0.003, 0.0, 0.01, 0.03, 0.03];
/// How far the day moves them, to both sides.
const SWING: [f64; 9] = [0.02, 0.03, 0.01, 0.0, 0.0, 0.0, 0.0, 0.03, 0.03];
/// How far the slow growth of some components carries them by the end.
const GROWTH: [f64; 9] = [0.0, 0.0, 0.15, 0.0, 0.02, 0.0, 0.1, 0.45, 0.45];
/// Share of steady components that grow so.
const GROWING: f64 = 0.15;
/// Stands for a state that is another one each time.
const ODD: usize = usize::MAX;

/// What the run looks like, in slots.
pub struct Plan {
    pub training: i64,
    pub steady_threshold: i64,
    pub slots: i64,
}

pub struct Component {
    pub name: String,
    class: &'static Class,
    random: Random,
    conduct: Conduct,
    /// No two machines are alike: the class's values by these.
    scale: [f64; 9],
    /// Where its day begins.
    phase: f64,
    /// Slots over which it grows, if it does.
    grows: Option<(i64, i64)>,
    /// Values of the state that it is in now, before noise.
    now: [f64; 9],
}

enum Conduct {
    /// At home in state 0, from where it visits others.
    Cycles { visits: Vec<Visit>, at: usize, until: i64, rest_until: i64 },
    /// Applications come and go, and each lot looks different.
    Wanders { until: i64 },
}

struct Visit {
    state: usize,
    due: i64,
    every: (i64, i64),
    dwell: (i64, i64),
}

impl Component {
    pub fn new(class: &'static Class, number: usize, mut random: Random, plan: &Plan) -> Self {
        let conduct = Conduct::draw(class, &mut random, plan);
        let steady = matches!(&conduct, Conduct::Cycles { visits, .. }
            if visits.iter().all(|visit| visit.due < plan.steady_threshold));
        let grows = (steady && random.chance(GROWING))
            .then_some((plan.training + SLOTS_PER_DAY / 8, plan.slots));
        Self {
            name: format!("{}-{number:03}", class.name),
            class,
            conduct,
            scale: std::array::from_fn(|_| random.between(0.88, 1.12)),
            phase: random.unit(),
            grows,
            now: class.states[0],
            random,
        }
    }

    /// Whether an incident may be put here: settled, of several states, and not on the move already.
    pub fn may_break(&self) -> bool {
        self.grows.is_none()
            && matches!(&self.conduct, Conduct::Cycles { visits, .. }
                if !visits.is_empty() && visits.iter().all(|visit| visit.dwell.1 <= 3))
    }

    /// Goes on to the next slot.
    pub fn enter(&mut self, slot: i64) {
        let random = &mut self.random;
        match &mut self.conduct {
            Conduct::Wanders { until } if slot >= *until => {
                *until = slot + random.whole(30, 90);
                for metric in [0, 1, 2, 7, 8] {
                    let home = self.class.states[0][metric];
                    self.now[metric] = home * random.between(0.45, 1.7);
                }
                self.now[2] = self.now[2].min(70.0);
            }
            Conduct::Wanders { .. } => {}
            Conduct::Cycles { visits, at, until, rest_until } => {
                if slot >= *until {
                    *at = 0;
                }
                let due = visits.iter_mut().find(|visit| slot >= visit.due);
                if let Some(visit) = due.filter(|_| slot >= *rest_until) {
                    *at = visit.state;
                    *until = slot + random.whole(visit.dwell.0, visit.dwell.1);
                    *rest_until = *until + 3;
                    visit.due = slot + random.whole(visit.every.0, visit.every.1);
                }
                let state = self.class.states.get(*at);
                self.now = *state.unwrap_or(&self.class.states[0]);
                if *at == ODD {
                    for metric in [0, 1, 7, 8] {
                        self.now[metric] *= random.between(0.75, 1.25);
                    }
                }
            }
        }
    }

    /// What agents read now.
    pub fn read(&mut self, slot: i64, incident: Option<&Incident>) -> Values {
        let scaled = |values: &[f64; 9]| -> [f64; 9] {
            std::array::from_fn(|metric| values[metric] * self.scale[metric])
        };
        let mut free = scaled(&self.now);
        if let Some(incident) = incident {
            let home = scaled(&self.class.states[0]);
            free = incident.shape(slot, &home, &scaled(&self.class.states[1]));
        }
        let day = (slot as f64 / SLOTS_PER_DAY as f64 + self.phase) * std::f64::consts::TAU;
        let grown = self
            .grows
            .map_or(0.0, |(from, to)| ((slot - from) as f64 / (to - from) as f64).clamp(0.0, 1.0));
        for metric in 0..free.len() {
            let factor = 1.0 + SWING[metric] * day.sin() + GROWTH[metric] * grown;
            free[metric] *= factor * (1.0 + NOISE[metric] * self.random.noise());
        }
        let [system, user, memory, disk_system, persist, swap, ephemeral, rx, tx] = free;
        let percent = [
            system,
            user,
            system + user,
            memory,
            // The agent gives whole percents of what hardly moves.
            disk_system.round(),
            persist,
            swap.round(),
            ephemeral,
        ];
        let mut values = [0.0; METRICS.len()];
        for (value, percent) in values.iter_mut().zip(percent) {
            *value = (percent.clamp(0.0, 100.0) * 10.0).round() / 10.0;
        }
        for (value, rate) in values[BOSH_METRICS..].iter_mut().zip([rx, tx, rx + tx]) {
            *value = rate.max(0.0).round();
        }
        values
    }
}

impl Conduct {
    fn draw(class: &Class, random: &mut Random, plan: &Plan) -> Self {
        let home = |visits| Self::Cycles { visits, at: 0, until: 0, rest_until: 0 };
        let threshold = plan.steady_threshold;
        let others = class.states.len() as i64 - 1;
        let every = (18 + 4 * others, 26 + 4 * others);
        if random.chance(class.steady) {
            // The first visit comes soon for most and late for some.
            let mut due = || 24 + ((threshold as f64 * 0.75 - 24.0) * random.unit().powi(2)) as i64;
            let visit = |state| Visit { state, due: due(), every, dwell: (2, 3) };
            let mut visits: Vec<Visit> = (1..class.states.len()).map(visit).collect();
            if let Some(every) = class.odd {
                visits.push(Visit { state: ODD, due: every.0, every, dwell: (1, 1) });
            }
            return home(visits);
        }
        if random.chance(0.5) {
            return Self::Wanders { until: 0 };
        }
        // It would be steady, had its last state not come so late.
        let due = random.whole(threshold + 10, (plan.training - 110).max(threshold + 20));
        let last = others as usize;
        home(vec![Visit { state: last, due, every, dwell: (6, 8) }])
    }
}
