//! A generated fleet with a daily rhythm: the same values from the same seed everywhere.

use std::sync::Arc;

use driftline::arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};

use super::BoxResult;
use crate::random::Random;

/// Slots of 5 minutes in a day.
pub(crate) const DAY_SLOTS: usize = 288;

pub(crate) const SLOT_NS: i64 = 300 * 1_000_000_000;

/// Slots of one block of a component's day, during which its load stays the same.
const BLOCK_SLOTS: usize = 24;

/// Standard deviation of the noise; levels lie between 0 and 100.
const NOISE: f64 = 1.5;

/// One component in so many is faulty for [`FAULT_SLOTS`] on its last day.
const FAULTY_EVERY: usize = 50;
const FAULT_SLOTS: usize = 10;

/// How large a fleet is, and for how long.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) components: usize,
    pub(crate) metrics: usize,
    pub(crate) slots: usize,
}

pub(crate) struct Fleet {
    pub(crate) size: Size,
    /// Component by component, slot by slot, metric by metric.
    pub(crate) values: Vec<f64>,
}

impl Fleet {
    /// Each component has three to five levels of load, one for each block of its day, and a job of its own once a
    /// day, whose level nothing else has.
    pub(crate) fn generate(size: Size) -> Self {
        let mut values = Vec::with_capacity(size.components * size.slots * size.metrics);
        for component in 0..size.components {
            let mut random = Random(component as u64 + 1);
            let levels = 3 + component % 3;
            let mut level =
                || -> Vec<f64> { (0..size.metrics).map(|_| 100.0 * random.unit()).collect() };
            let loads: Vec<Vec<f64>> = (0..levels).map(|_| level()).collect();
            let (job, fault) = (level(), level());
            let day: Vec<usize> = (0..DAY_SLOTS / BLOCK_SLOTS)
                .map(|block| if block < levels { block } else { random.below(levels) })
                .collect();
            let job_slot = random.below(DAY_SLOTS);
            let job_slots = 6 + random.below(12);
            let fault_slot = size.slots.saturating_sub(2 * FAULT_SLOTS);
            for slot in 0..size.slots {
                let of_day = slot % DAY_SLOTS;
                let is_faulty = component % FAULTY_EVERY == 0
                    && (fault_slot..fault_slot + FAULT_SLOTS).contains(&slot);
                let level = if is_faulty {
                    &fault
                } else if (job_slot..job_slot + job_slots).contains(&of_day) {
                    &job
                } else {
                    &loads[day[of_day / BLOCK_SLOTS]]
                };
                values.extend(level.iter().map(|level| level + NOISE * random.normal()));
            }
        }
        Self { size, values }
    }

    /// The rows of all components in one slot.
    pub(crate) fn batch(&self, slot: usize) -> BoxResult<RecordBatch> {
        let Size { components, metrics, slots } = self.size;
        let names = (0..components).map(|component| format!("component-{component:05}"));
        let times = vec![slot as i64 * SLOT_NS; components];
        let mut columns: Vec<(String, ArrayRef)> = vec![
            ("component".into(), Arc::new(StringArray::from_iter_values(names))),
            ("ts".into(), Arc::new(TimestampNanosecondArray::from(times))),
        ];
        for metric in 0..metrics {
            let value =
                |component: usize| self.values[(component * slots + slot) * metrics + metric];
            let values = Float64Array::from_iter_values((0..components).map(value));
            columns.push((format!("m{}", metric + 1), Arc::new(values)));
        }
        let columns = columns.into_iter().map(|(name, values)| (name, values, true));
        Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
    }
}
