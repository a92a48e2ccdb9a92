//! A fleet that does not exist: hundreds of components with working states, some that never settle, some whose level
//! moves slowly, and a few that break. The same seed gives the same rows.

mod classes;
mod component;
mod faults;
mod random;

use std::sync::Arc;

use driftline::arrow::array::{
    ArrayRef, Float64Builder, RecordBatch, StringBuilder, TimestampMillisecondBuilder,
};
use driftline::arrow::datatypes::SchemaRef;

pub use classes::METRICS;
use classes::{BOSH_METRICS, CLASSES, Values};
use component::{Component, Plan};
pub use faults::Incident;
use random::Random;

/// A Monday, 2026-01-05 00:00 UTC.
pub const BEGIN_MS: i64 = 1_767_571_200_000;
pub const SLOT_MINUTES: i64 = 5;
pub const SLOT_MS: i64 = SLOT_MINUTES * MINUTE_MS;
pub const SLOTS_PER_DAY: i64 = 24 * 60 / SLOT_MINUTES;
const MINUTE_MS: i64 = 60_000;
/// Table I: the BOSH agent samples every 3 minutes, the network agent every 5.
const BOSH_MINUTES: i64 = 3;
const NETWORK_MINUTES: i64 = 5;
/// The paper looks at ten incidents.
const INCIDENTS: usize = 10;

pub struct Setup {
    pub components: usize,
    pub days: i64,
    /// Slots from which the first models are learned; faults come later.
    pub training: i64,
    /// A component whose last state shows up after this slot is not steady.
    pub steady_threshold: i64,
    pub seed: u64,
}

pub struct Fleet {
    components: Vec<Component>,
    incidents: Vec<Incident>,
    slots: i64,
    slot: i64,
}

/// Readings of one agent.
pub struct Sample {
    pub component: usize,
    pub time_ms: i64,
    /// NaN where another agent reads.
    pub values: Values,
}

impl Fleet {
    pub fn new(setup: &Setup) -> Self {
        let mut random = Random::new(setup.seed, u64::MAX);
        let slots = setup.days * SLOTS_PER_DAY;
        let plan =
            Plan { training: setup.training, steady_threshold: setup.steady_threshold, slots };
        let mut components = Vec::new();
        for (class, count) in CLASSES.iter().zip(head_counts(setup.components)) {
            for number in 0..count {
                let own = Random::new(setup.seed, components.len() as u64);
                components.push(Component::new(class, number, own, &plan));
            }
        }
        let candidates: Vec<usize> =
            (0..components.len()).filter(|i| components[*i].may_break()).collect();
        let count = INCIDENTS.min(candidates.len() / 3);
        let span = (setup.training + SLOTS_PER_DAY / 4, slots - 60);
        let incidents = faults::draw(&mut random, count, &candidates, span);
        Self { components, incidents, slots, slot: 0 }
    }

    pub fn names(&self) -> Vec<String> {
        self.components.iter().map(|component| component.name.clone()).collect()
    }

    pub fn incidents(&self) -> &[Incident] {
        &self.incidents
    }

    /// The samples as rows of `schema`: component, time and metrics.
    pub fn rows(&self, samples: &[Sample], schema: &SchemaRef) -> RecordBatch {
        let (mut names, mut times) = (StringBuilder::new(), TimestampMillisecondBuilder::new());
        let mut values: Vec<Float64Builder> = METRICS.map(|_| Float64Builder::new()).into();
        for sample in samples {
            names.append_value(&self.components[sample.component].name);
            times.append_value(sample.time_ms);
            for (builder, value) in values.iter_mut().zip(sample.values) {
                builder.append_option((!value.is_nan()).then_some(value));
            }
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(names.finish()), Arc::new(times.finish())];
        columns.extend(values.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
        RecordBatch::try_new(Arc::clone(schema), columns).expect("columns are the source's")
    }
}

impl Iterator for Fleet {
    /// Everything that the agents send in five minutes.
    type Item = Vec<Sample>;

    fn next(&mut self) -> Option<Vec<Sample>> {
        let index = self.slot;
        if index == self.slots {
            return None;
        }
        self.slot += 1;
        for component in &mut self.components {
            component.enter(index);
        }
        let mut samples = Vec::new();
        for minute in index * SLOT_MINUTES..(index + 1) * SLOT_MINUTES {
            for (number, component) in self.components.iter_mut().enumerate() {
                // Agents do not all read at the same moment.
                let at = minute + number as i64;
                let (bosh, network) = (at % BOSH_MINUTES == 0, at % NETWORK_MINUTES == 0);
                if !bosh && !network {
                    continue;
                }
                let incident =
                    self.incidents.iter().find(|i| i.component == number && i.covers(index));
                let values = component.read(index, incident);
                let time_ms = BEGIN_MS + minute * MINUTE_MS + (number as i64 * 7919) % MINUTE_MS;
                let part = |reads: std::ops::Range<usize>| {
                    let mut part = [f64::NAN; METRICS.len()];
                    part[reads.clone()].copy_from_slice(&values[reads]);
                    Sample { component: number, time_ms, values: part }
                };
                samples.extend(bosh.then(|| part(0..BOSH_METRICS)));
                samples.extend(network.then(|| part(BOSH_METRICS..METRICS.len())));
            }
        }
        Some(samples)
    }
}

/// Components of each class; the first takes what rounding leaves.
fn head_counts(components: usize) -> Vec<usize> {
    let mut counts: Vec<usize> =
        CLASSES.iter().map(|class| (components as f64 * class.share) as usize).collect();
    counts[0] += components - counts.iter().sum::<usize>();
    counts
}
