//! What is known of one feature: its tails, and what its views are made of.

use std::cell::Cell;

use serde::{Deserialize, Serialize};

use super::Settings;
use super::tails::Tails;
use crate::detectors::univariate::ScaleFloor;
use crate::time::EventTime;

pub(super) const VIEWS: usize = 6;
const TIME_OF_DAY: usize = 5;

/// Rows after which mean and deviation of a feature can be relied on.
const SETTLED_ROWS: u64 = 50;
const LEVEL_ROWS: usize = 12;
const SHORT_SPREAD_ROWS: usize = 24;
const SPREAD_ROWS: usize = 48;
const SLOTS: usize = 48;
const DAY_NS: i64 = 86_400_000_000_000;
/// Days of history before the time of day counts.
const DAYS_LEAST: i64 = 3;
/// Rows of a slot before its mean counts.
const SLOT_ROWS_LEAST: u32 = 4;
/// With so many rows at the feature's mean deviation a slot's own deviation is mixed, a tenth of it in weight each.
const SLOT_PRIOR_ROWS: f64 = 10.0;
/// The least distance that matters in the time-of-day view, whose unit is a mean deviation.
const TIME_OF_DAY_FLOOR: f64 = 0.05;
/// Mean and deviation fade over so many rows, of a feature and of a slot.
const FADING_ROWS: u32 = 5_000;
const SLOT_FADING_ROWS: u32 = 200;
/// What enters level and spread stays within so many mean deviations of the mean.
const RECENT_CLIP: f64 = 50.0;

/// What is known of one feature. All but the tails' values lies in one place: a row of another feature pushes it out of the
/// caches.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Saved", into = "Saved")]
pub(super) struct Feature {
    /// Values learned.
    pub(super) rows: u64,
    /// Rows for which the feature still keeps silent.
    pub(super) silent_rows: u64,
    /// The time of the first value.
    since: Option<EventTime>,
    all: Fading,
    /// The latest values, oldest first, held within a wide range.
    recent: [f64; SPREAD_ROWS],
    recent_rows: usize,
    tails: Tails,
    slots: [Fading; SLOTS],
    /// How a row looked when it was scored, until it is learned.
    seen: Cell<Option<Seen>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Saved {
    rows: u64,
    silent_rows: u64,
    since: Option<EventTime>,
    all: Fading,
    recent: Vec<f64>,
    tails: Tails,
    slots: Vec<Fading>,
}

/// A row as a feature sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    time: EventTime,
    value: f64,
    rows: u64,
    /// NaN where a view is not there yet.
    views: [f64; VIEWS],
    /// The least distances that matter in them.
    floors: [f64; VIEWS],
    /// The largest surprise, and the view that it comes from.
    pub(super) surprise: f64,
    pub(super) view: usize,
}

impl Feature {
    pub(super) fn new() -> Self {
        Self {
            rows: 0,
            silent_rows: 0,
            since: None,
            all: Fading::default(),
            recent: [0.0; SPREAD_ROWS],
            recent_rows: 0,
            tails: Tails::new(),
            slots: [Fading::default(); SLOTS],
            seen: Cell::new(None),
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.tails.heap_bytes()
    }

    /// See [`Model::warm`](crate::model::Model::warm).
    pub(super) fn warm(&self) -> f64 {
        let recent: f64 = self.recent.iter().step_by(8).sum();
        self.rows as f64 + recent + self.tails.warm()
    }

    /// The value that the latest rows suggest.
    pub(super) fn expected(&self) -> f64 {
        match self.recent() {
            [.., first, second, third] => {
                first.min(*second).max(first.max(*second).min(*third)) // The median.
            }
            _ => f64::NAN,
        }
    }

    /// The values whose surprise in themselves is `surprise`, below and above.
    pub(super) fn limits(&self, surprise: f64, value: f64) -> (f64, f64) {
        self.tails.limits(surprise, floor_of(value))
    }

    /// The row in all views, and how much it surprises. Scoring and learning ask the same of a row, one after the other.
    pub(super) fn see(&self, time: EventTime, value: f64) -> Seen {
        let is_it = |seen: &Seen| {
            seen.time == time && seen.value.to_bits() == value.to_bits() && seen.rows == self.rows
        };
        if let Some(seen) = self.seen.get().filter(is_it) {
            return seen;
        }
        let views = self.views(time, value);
        let mut floors = [floor_of(value); VIEWS];
        floors[TIME_OF_DAY] = TIME_OF_DAY_FLOOR;
        let (surprise, view) = self.tails.surprise(&views, &floors);
        let seen = Seen { time, value, rows: self.rows, views, floors, surprise, view };
        self.seen.set(Some(seen));
        seen
    }

    pub(super) fn learn(&mut self, settings: &Settings, time: EventTime, value: f64, clip: f64) {
        self.since.get_or_insert(time);
        let seen = self.see(time, value);
        let anomalous = self.rows >= settings.warm_up
            && self.silent_rows == 0
            && seen.surprise > settings.threshold;
        self.tails.learn(&seen.views, &seen.floors, clip, settings.history);
        let held = self.hold(value);
        if self.recent_rows == SPREAD_ROWS {
            self.recent.copy_within(1.., 0);
            self.recent[SPREAD_ROWS - 1] = held;
        } else {
            self.recent[self.recent_rows] = held;
            self.recent_rows += 1;
        }
        self.all.learn(held, FADING_ROWS);
        self.slots[slot(time)].learn(held, SLOT_FADING_ROWS);
        self.rows = self.rows.saturating_add(1);
        self.silent_rows = match anomalous {
            true => settings.silence_rows(self.rows),
            false => self.silent_rows.saturating_sub(1),
        };
    }

    fn recent(&self) -> &[f64] {
        &self.recent[..self.recent_rows]
    }

    /// The value within a wide range around the mean.
    fn hold(&self, value: f64) -> f64 {
        if self.rows < SETTLED_ROWS {
            return value;
        }
        let Fading { mean, deviation, .. } = self.all;
        let reach = RECENT_CLIP * deviation.max(floor_of(mean));
        value.clamp(mean - reach, mean + reach)
    }

    /// The value as each view sees it, NaN where the view is not there yet.
    fn views(&self, time: EventTime, value: f64) -> [f64; VIEWS] {
        let held = self.hold(value);
        // The value is one of the latest, and each view's rows are some of the next one's.
        let latest = |rows: usize| {
            let begin = (self.recent_rows + 1).checked_sub(rows)?;
            Some(&self.recent()[begin..])
        };
        let (level, short, long) =
            (latest(LEVEL_ROWS), latest(SHORT_SPREAD_ROWS), latest(SPREAD_ROWS));
        let of_level = level.map(|values| held + sum(values, |x| x));
        let more = |values: &[f64], rows: usize| sum(&values[..values.len() + 1 - rows], |x| x);
        let of_short = short.zip(of_level).map(|(values, sum)| sum + more(values, LEVEL_ROWS));
        let of_long = long.zip(of_short).map(|(values, sum)| sum + more(values, SHORT_SPREAD_ROWS));
        let spread = |values: Option<&[f64]>, total: Option<f64>| {
            let Some((values, total)) = values.zip(total) else { return f64::NAN };
            let rows = (values.len() + 1) as f64;
            let square = |x: f64| (x - total / rows) * (x - total / rows);
            ((square(held) + sum(values, square)) / rows).sqrt()
        };
        [
            value,
            value - self.expected(),
            of_level.map_or(f64::NAN, |sum| sum / LEVEL_ROWS as f64),
            spread(short, of_short),
            spread(long, of_long),
            self.time_of_day(time, value).unwrap_or(f64::NAN),
        ]
    }

    fn time_of_day(&self, time: EventTime, value: f64) -> Option<f64> {
        let days = time.0.saturating_sub(self.since?.0) / DAY_NS;
        let slot = self.slots[slot(time)];
        if days < DAYS_LEAST || slot.rows < SLOT_ROWS_LEAST || self.rows < SETTLED_ROWS {
            return None;
        }
        let rows = f64::from(slot.rows);
        let deviation = (slot.deviation * rows + self.all.deviation) / (rows + SLOT_PRIOR_ROWS);
        Some((value - slot.mean) / deviation.max(floor_of(slot.mean)))
    }
}

impl From<Feature> for Saved {
    fn from(feature: Feature) -> Self {
        Self {
            rows: feature.rows,
            silent_rows: feature.silent_rows,
            since: feature.since,
            all: feature.all,
            recent: feature.recent().to_vec(),
            tails: feature.tails,
            slots: feature.slots.to_vec(),
        }
    }
}

impl TryFrom<Saved> for Feature {
    type Error = &'static str;

    fn try_from(saved: Saved) -> Result<Self, Self::Error> {
        let is_sound = saved.all.is_sound()
            && saved.slots.iter().all(Fading::is_sound)
            && saved.recent.iter().all(|value| value.is_finite());
        if !is_sound {
            return Err("numbers that are not finite");
        }
        let mut feature = Self::new();
        let room = feature.recent.get_mut(..saved.recent.len());
        room.ok_or("too many recent values")?.copy_from_slice(&saved.recent);
        Ok(Self {
            rows: saved.rows,
            silent_rows: saved.silent_rows,
            since: saved.since,
            all: saved.all,
            recent_rows: saved.recent.len(),
            tails: saved.tails,
            slots: saved.slots.try_into().map_err(|_| "another number of slots")?,
            ..feature
        })
    }
}

/// The sum of what `of` makes of the values. Four sums are added at a time.
fn sum(values: &[f64], of: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0.0; 4];
    let (fours, rest) = values.as_chunks::<4>();
    for four in fours {
        for (sum, x) in sums.iter_mut().zip(four) {
            *sum += of(*x);
        }
    }
    let rest: f64 = rest.iter().map(|x| of(*x)).sum();
    sums[0] + sums[2] + (sums[1] + sums[3]) + rest
}

/// The least distance from a value that matters.
fn floor_of(value: f64) -> f64 {
    ScaleFloor::DEFAULT.apply(0.0, value)
}

/// The half hour of the day that a time lies in.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A remainder is below the slots.
fn slot(time: EventTime) -> usize {
    (time.0.rem_euclid(DAY_NS) / (DAY_NS / SLOTS as i64)) as usize
}

/// Mean and mean deviation, over all rows at first and fading later.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Fading {
    rows: u32,
    mean: f64,
    deviation: f64,
}

impl Fading {
    fn is_sound(&self) -> bool {
        self.mean.is_finite() && self.deviation.is_finite() && self.deviation >= 0.0
    }

    fn learn(&mut self, value: f64, fading_rows: u32) {
        self.rows = self.rows.saturating_add(1).min(fading_rows);
        let weight = f64::from(self.rows).recip();
        let distance = value - self.mean;
        self.mean += weight * distance;
        self.deviation += weight * (distance.abs() - self.deviation);
    }
}
