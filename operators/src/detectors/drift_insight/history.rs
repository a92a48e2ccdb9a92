//! Slots of a component: the frozen batch that a model is built from, and the mini-batch that fills for the next one.

use serde::{Deserialize, Serialize};

use super::scale::narrow;
use crate::time::EventTime;

/// Slots in time order that do not change any more; a model's core points are slots of it.
///
/// A missing value counts as the metric's last one; before its first value a metric has that one, and NaN if it
/// has none in the whole batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Batch {
    pub(super) times: Vec<EventTime>,
    /// The slots' values, one metric after the other.
    columns: Vec<f32>,
}

impl Batch {
    /// The latest `training` slots of a batch and the mini-batch that follows it: as many of the oldest leave as new
    /// ones come (DI-20).
    pub(super) fn evolve(before: Option<&Self>, new: &MiniBatch, training: usize) -> Self {
        let metrics = new.last.len();
        let fresh = new.len().min(training);
        let skipped = new.len() - fresh;
        let (kept, length) =
            before.map_or((0, 0), |batch| (batch.kept(fresh, training), batch.len()));
        let mut times = Vec::with_capacity(kept + fresh);
        let mut columns = Vec::with_capacity((kept + fresh) * metrics);
        if let Some(batch) = before {
            times.extend_from_slice(&batch.times[length - kept..]);
        }
        times.extend_from_slice(&new.times[skipped..]);
        for metric in 0..metrics {
            let start = columns.len();
            if let Some(batch) = before {
                columns.extend_from_slice(&batch.column(metric)[length - kept..]);
            }
            columns.extend(new.rows.chunks_exact(metrics).skip(skipped).map(|row| row[metric]));
            let column = &mut columns[start..];
            let first = column.iter().position(|value| !value.is_nan()).unwrap_or(0);
            let value = column[first];
            column[..first].fill(value);
        }
        Self { times, columns }
    }

    /// How many of this batch's slots stay beside so many fresh ones.
    pub(super) fn kept(&self, fresh: usize, training: usize) -> usize {
        training.saturating_sub(fresh).min(self.len())
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    pub(super) fn column(&self, metric: usize) -> &[f32] {
        &self.columns[metric * self.len()..][..self.len()]
    }

    pub(super) fn columns(&self, metrics: usize) -> impl Iterator<Item = &[f32]> {
        (0..metrics).map(|metric| self.column(metric))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.times.capacity() * size_of::<EventTime>() + self.columns.capacity() * size_of::<f32>()
    }

    /// Whether a batch that was read back has this many slots of this many metrics.
    pub(super) fn is_sound(&self, slots: usize, metrics: usize) -> bool {
        let is_whole = |column: &[f32]| {
            column.iter().all(|value| value.is_finite()) || column.iter().all(|v| v.is_nan())
        };
        self.len() == slots
            && self.columns.len() == slots * metrics
            && self.columns(metrics).all(is_whole)
    }
}

/// Slots since the last batch was frozen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct MiniBatch {
    times: Vec<EventTime>,
    /// One slot after the other.
    rows: Vec<f32>,
    /// Each metric's last value; NaN before its first.
    last: Vec<f32>,
}

impl MiniBatch {
    pub(super) fn new(metrics: usize) -> Self {
        Self { times: Vec::new(), rows: Vec::new(), last: vec![f32::NAN; metrics] }
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// A row as a slot: narrowed to 24 bits, missing values held from before.
    pub(super) fn hold(&self, features: &[f64], slot: &mut Vec<f32>) {
        slot.clear();
        slot.extend(
            features
                .iter()
                .zip(&self.last)
                .map(|(value, last)| if value.is_nan() { *last } else { narrow(*value) }),
        );
    }

    /// Takes a slot up; the oldest leaves when there are `slots_max` already.
    pub(super) fn push(&mut self, time: EventTime, slot: &[f32], slots_max: usize) {
        if self.len() >= slots_max {
            self.times.drain(..1);
            self.rows.drain(..slot.len());
        }
        self.times.push(time);
        self.rows.extend_from_slice(slot);
    }

    /// Notes a slot's values as the last, whether or not it was taken up.
    pub(super) fn see(&mut self, slot: &[f32]) {
        self.last.copy_from_slice(slot);
    }

    pub(super) fn clear(&mut self) {
        self.times.clear();
        self.rows.clear();
    }

    /// Gives back what is beyond room for so many slots.
    pub(super) fn make_room(&mut self, slots: usize) {
        self.times.shrink_to(slots);
        self.rows.shrink_to(slots * self.last.len());
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.times.capacity() * size_of::<EventTime>()
            + (self.rows.capacity() + self.last.capacity()) * size_of::<f32>()
    }

    pub(super) fn is_sound(&self, slots_max: usize, metrics: usize) -> bool {
        self.len() <= slots_max
            && self.rows.len() == self.len() * metrics
            && self.last.len() == metrics
            && !self.rows.iter().chain(&self.last).any(|value| value.is_infinite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(new: &mut MiniBatch, rows: impl IntoIterator<Item = (i64, [f64; 2])>) {
        let mut slot = Vec::new();
        for (time, features) in rows {
            new.hold(&features, &mut slot);
            new.see(&slot);
            new.push(EventTime(time), &slot, 100);
        }
    }

    #[test]
    fn missing_values_are_held_from_before_and_at_the_start_from_after() {
        let nan = f64::NAN;
        let mut new = MiniBatch::new(2);
        fill(&mut new, [(1, [nan, nan]), (2, [3.0, nan]), (3, [nan, nan]), (4, [5.0, nan])]);
        let batch = Batch::evolve(None, &new, 4);
        assert_eq!(batch.column(0), [3.0, 3.0, 3.0, 5.0]);
        assert!(batch.column(1).iter().all(|value| value.is_nan()) && batch.is_sound(4, 2));
    }

    #[test]
    fn di_20_the_oldest_leave_and_the_length_stays() {
        let mut new = MiniBatch::new(2);
        fill(&mut new, (0..6).map(|i| (i, [i as f64, 10.0 * i as f64])));
        let mut batch = Batch::evolve(None, &new, 6);
        for (b, first) in [(1_i64, 1), (2, 3), (9, 9)] {
            new.clear();
            let from = first + 6 - b;
            fill(&mut new, (0..b).map(|i| from + i).map(|i| (i, [i as f64, 10.0 * i as f64])));
            batch = Batch::evolve(Some(&batch), &new, 6);
            let times: Vec<i64> = batch.times.iter().map(|time| time.0).collect();
            let last = from + b;
            assert_eq!(times, (last - 6..last).collect::<Vec<_>>(), "{b} new slots");
            let tens: Vec<f32> = batch.column(0).iter().map(|x| 10.0 * x).collect();
            assert_eq!(batch.column(1), tens);
        }
    }
}
