//! The largest values of each view, upwards and downwards, and how surprising one more is.
//!
//! Of each tail the largest values are kept in order, of the last generation of rows and of the current one: four times as
//! many as are the tail now, so that it is whole as well after four times as many rows of the same sort. Most rows change none
//! of what is asked of a tail: where it begins, and how far its values lie beyond. So that is kept beside the rows' counts, and
//! rows are written down first and entered together, a tail at a time; a value beyond the beginning of its tail is entered at
//! once. Answers are the same as if each row were entered as it comes.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::feature::VIEWS;

/// Each view has a tail upwards and one downwards.
const TAILS: usize = 2 * VIEWS;
/// Values kept of each generation, and how many there is room for at first.
const KEPT: usize = 80;
const KEPT_LEAST: usize = 4 * TAIL_LEAST;
/// The share of rows that are the tail, and how many it takes at least. It takes no more than are kept.
const TAIL_SHARE: f64 = 0.03;
const TAIL_LEAST: usize = 10;
/// Rows that are entered together.
const PENDING: usize = 16;

/// The tails of one feature.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<SavedView>", into = "Vec<SavedView>")]
pub(super) struct Tails {
    shapes: [Shape; TAILS],
    counts: [Count; VIEWS],
    /// Views of the latest rows. Those from `entered` on are not in the tail yet, and not beyond where it begins.
    pending: [[f64; VIEWS]; PENDING],
    pending_rows: usize,
    entered: [u8; TAILS],
    scored: Largest,
    /// Of the current generation; without room before the first ends, which is scored as it grows.
    young: Largest,
}

/// What is asked of a tail again and again.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// The least value that is of the tail; infinite while too little is known.
    begin: f64,
    /// The mean distance of its values from there, and their number; 0 while too little is known.
    mean_excess: f64,
    values: u8,
    /// Values up to here are not among the largest of the scored generation, and of the young one.
    least: f64,
    young_least: f64,
}

/// The rows of a view.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    scored: u32,
    /// None during the first generation.
    young: Option<u32>,
    /// How many values are its tails, where that many are kept; 0 while too little is known.
    tail: u8,
    /// As many as will be, of the young generation.
    young_tail: u8,
}

/// The largest values of each tail.
#[derive(Clone, Debug)]
struct Largest {
    lens: [u8; TAILS],
    /// So many for each tail, of which the first are used, in ascending order.
    room: usize,
    values: Vec<f64>,
}

/// What is written of a view: the rows and the largest values, ascending, of both tails.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedView {
    scored: SavedGeneration,
    young: Option<SavedGeneration>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedGeneration {
    rows: u32,
    /// For each tail, up to where values are not kept.
    least: [f64; 2],
    tails: [Vec<f64>; 2],
}

impl Tails {
    pub(super) fn new() -> Self {
        let shape = Shape {
            begin: f64::INFINITY,
            mean_excess: 0.0,
            values: 0,
            least: f64::NEG_INFINITY,
            young_least: f64::NEG_INFINITY,
        };
        Self {
            shapes: [shape; TAILS],
            counts: [Count::default(); VIEWS],
            pending: [[0.0; VIEWS]; PENDING],
            pending_rows: 0,
            entered: [0; TAILS],
            scored: Largest::with_room(),
            young: Largest { lens: [0; TAILS], room: 0, values: Vec::new() },
        }
    }

    /// The largest surprise, in nats, and the view that it comes from; 0 while too little is known. Distances below the floor
    /// of a view do not matter, and a view that is NaN is left out.
    pub(super) fn surprise(&self, views: &[f64; VIEWS], floors: &[f64; VIEWS]) -> (f64, usize) {
        let mut most = (0.0, 0);
        // Tails mostly have the same rows, and a logarithm costs.
        let mut last = ((0, 0), 0.0);
        for (view, (x, floor)) in views.iter().zip(floors).enumerate() {
            let rows = self.counts[view].scored;
            for (tail, x) in [(2 * view, *x), (2 * view + 1, -x)] {
                let shape = self.shapes[tail];
                if x.is_nan() || shape.values == 0 {
                    continue;
                }
                if last.0 != (rows, shape.values) {
                    last = ((rows, shape.values), shape.rarity(rows));
                }
                let surprise = shape.surprise(x, *floor, last.1);
                if surprise > most.0 {
                    most = (surprise, view);
                }
            }
        }
        most
    }

    /// The values of the first view whose surprise is `surprise`, below and above. NaN while too little is known or where they
    /// lie before the tail.
    pub(super) fn limits(&self, surprise: f64, floor: f64) -> (f64, f64) {
        let [up, down, ..] = self.shapes;
        let rows = self.counts[0].scored;
        let excess = up.excess(surprise, rows);
        // Mostly both have as many values, and logarithms cost.
        let below = if down.values == up.values { excess } else { down.excess(surprise, rows) };
        (-down.limit(below, floor), up.limit(excess, floor))
    }

    /// Learns a row, each value held within `clip` mean excesses of where its tail begins.
    pub(super) fn learn(
        &mut self,
        views: &[f64; VIEWS],
        floors: &[f64; VIEWS],
        clip: f64,
        generation_rows: u32,
    ) {
        self.pending[self.pending_rows] = *views;
        self.pending_rows += 1;
        let is_full = self.pending_rows == PENDING;
        for (view, x) in views.iter().enumerate() {
            let was = self.counts[view];
            let count = if x.is_nan() { was } else { was.with_row() };
            let is_over = count.generation() >= generation_rows;
            let is_other = (count.tail, count.young_tail) != (was.tail, was.young_tail);
            for (tail, x) in [(2 * view, *x), (2 * view + 1, -x)] {
                let shape = self.shapes[tail];
                let is_beyond = x > shape.begin;
                if is_beyond || is_full || is_other || is_over {
                    let reach = shape.begin + clip * shape.mean_excess.max(floors[view]);
                    self.enter(tail, if is_beyond { x.min(reach) } else { x });
                }
                if is_beyond {
                    self.shape(tail);
                }
            }
            self.counts[view] = count;
            if is_other {
                self.shape(2 * view);
                self.shape(2 * view + 1);
            }
            if is_over {
                self.begin_generation(view);
            }
        }
        if is_full {
            self.pending_rows = 0;
            self.entered = [0; TAILS];
        }
    }

    /// Reads what a row will need; see [`Model::warm`](crate::model::Model::warm).
    pub(super) fn warm(&self) -> f64 {
        let shapes: f64 = self.shapes.iter().step_by(2).map(|shape| shape.begin).sum();
        let counts: u32 = self.counts.iter().step_by(4).map(|count| count.scored).sum();
        shapes + f64::from(counts) + self.pending[self.pending_rows][0]
    }

    pub(super) fn heap_bytes(&self) -> usize {
        (self.scored.values.capacity() + self.young.values.capacity()) * size_of::<f64>()
    }

    /// Enters the values of a tail that wait; `last` stands for the latest of them.
    fn enter(&mut self, tail: usize, last: f64) {
        let (view, sign) = (tail / 2, if tail.is_multiple_of(2) { 1.0 } else { -1.0 });
        let count = self.counts[view];
        let shape = &mut self.shapes[tail];
        for row in usize::from(self.entered[tail])..self.pending_rows {
            let is_last = row + 1 == self.pending_rows;
            let x = if is_last { last } else { sign * self.pending[row][view] };
            if x > shape.least {
                self.scored.enter(tail, x, kept(count.tail), &mut shape.least);
            }
            if count.young.is_some() && x > shape.young_least {
                self.young.enter(tail, x, kept(count.young_tail), &mut shape.young_least);
            }
        }
        self.entered[tail] = index(self.pending_rows);
    }

    /// Looks at a tail all of whose rows are entered.
    fn shape(&mut self, tail: usize) {
        let (values, shape) = (self.scored.of(tail), &mut self.shapes[tail]);
        let wanted = usize::from(self.counts[tail / 2].tail).min(values.len());
        let values = &values[values.len() - wanted..];
        let Some(begin) = values.first() else { return };
        let excess: f64 = values.iter().map(|value| value - begin).sum();
        shape.begin = *begin;
        shape.mean_excess = excess / values.len() as f64;
        shape.values = index(values.len());
    }

    /// The young generation of a view takes the place of the scored one; the first goes on to be scored.
    fn begin_generation(&mut self, view: usize) {
        if let Some(rows) = self.counts[view].young {
            self.counts[view] = Count::of_scored(rows);
            self.scored.grow(self.young.room);
            self.young.grow(self.scored.room);
            for tail in [2 * view, 2 * view + 1] {
                self.scored.swap(&mut self.young, tail);
                self.shapes[tail].least = self.shapes[tail].young_least;
                self.shapes[tail].young_least = f64::NEG_INFINITY;
                self.shape(tail);
            }
        } else if self.young.values.is_empty() {
            self.young = Largest::with_room();
        }
        self.counts[view] = self.counts[view].with_young(0);
    }
}

impl Shape {
    /// The logarithm of rows per value of the tail.
    fn rarity(self, rows: u32) -> f64 {
        (f64::from(rows) / f64::from(self.values)).ln()
    }

    fn surprise(self, x: f64, floor: f64, rarity: f64) -> f64 {
        let (beyond, mean_excess) = (x - self.begin, self.mean_excess.max(floor));
        let values = f64::from(self.values);
        if beyond > 0.0 {
            rarity + values * (beyond / (values * mean_excess)).ln_1p()
        } else {
            rarity * mean_excess / (mean_excess - beyond)
        }
    }

    /// How many mean excesses beyond the beginning a value surprises so much; NaN where it does not get there.
    fn excess(self, surprise: f64, rows: u32) -> f64 {
        let (values, rarity) = (f64::from(self.values), self.rarity(rows));
        if self.values == 0 || !(surprise > rarity) {
            return f64::NAN;
        }
        values * ((surprise - rarity) / values).exp_m1()
    }

    fn limit(self, excess: f64, floor: f64) -> f64 {
        self.begin + excess * self.mean_excess.max(floor)
    }
}

impl Count {
    fn of_scored(rows: u32) -> Self {
        Self { scored: rows, young: None, tail: tail_of(rows), young_tail: 0 }
    }

    fn with_young(self, rows: u32) -> Self {
        Self { young: Some(rows), young_tail: tail_of(rows), ..self }
    }

    fn with_row(self) -> Self {
        let scored = Self::of_scored(self.scored.saturating_add(1));
        self.young.map_or(scored, |rows| scored.with_young(rows.saturating_add(1)))
    }

    /// Rows of the current generation.
    fn generation(self) -> u32 {
        self.young.unwrap_or(self.scored)
    }
}

/// How many values of so many rows are the tail.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A share of a count.
fn tail_of(rows: u32) -> u8 {
    let wanted = (TAIL_SHARE * f64::from(rows)) as usize;
    if (rows as usize) < TAIL_LEAST { 0 } else { index(wanted.clamp(TAIL_LEAST, KEPT)) }
}

/// How many values are kept where so many are the tail.
fn kept(tail: u8) -> usize {
    (4 * usize::from(tail)).clamp(KEPT_LEAST, KEPT)
}

#[allow(clippy::cast_possible_truncation)] // At most KEPT.
fn index(values: usize) -> u8 {
    values as u8
}

impl Largest {
    fn with_room() -> Self {
        Self { lens: [0; TAILS], room: KEPT_LEAST, values: vec![0.0; TAILS * KEPT_LEAST] }
    }

    fn of(&self, tail: usize) -> &[f64] {
        let begin = tail * self.room;
        self.values.get(begin..begin + usize::from(self.lens[tail])).unwrap_or_default()
    }

    /// Makes room for so many values of each tail.
    fn grow(&mut self, room: usize) {
        if room <= self.room {
            return;
        }
        let mut values = vec![0.0; TAILS * room];
        for (tail, len) in self.lens.iter().enumerate() {
            let len = usize::from(*len);
            values[tail * room..][..len].copy_from_slice(&self.values[tail * self.room..][..len]);
        }
        (self.room, self.values) = (room, values);
    }

    /// Enters a value that is among the largest `kept`. Once there are so many, none is taken that is not larger than the least
    /// of them, later neither: of those before it some may be gone.
    fn enter(&mut self, tail: usize, x: f64, kept: usize, least: &mut f64) {
        let len = usize::from(self.lens[tail]);
        if len == self.room && len < kept {
            self.grow((2 * len).min(KEPT));
        }
        let values = &mut self.values[tail * self.room..][..self.room];
        // A search by halves would wait for memory at each step; all of them are read at the same time.
        let at = values[..len].iter().filter(|value| **value < x).count();
        if len < kept {
            values.copy_within(at..len, at + 1);
            values[at] = x;
            self.lens[tail] += 1;
        } else if let Some(last) = at.checked_sub(1) {
            values.copy_within(1..at, 0);
            values[last] = x;
        }
        if len + 1 >= kept {
            *least = values[0];
        }
    }

    /// What `other` has of a tail, which has none then; both have room for as many.
    fn swap(&mut self, other: &mut Self, tail: usize) {
        let range = tail * self.room..(tail + 1) * self.room;
        self.values[range.clone()].swap_with_slice(&mut other.values[range]);
        self.lens[tail] = std::mem::take(&mut other.lens[tail]);
    }
}

impl From<Tails> for Vec<SavedView> {
    fn from(mut tails: Tails) -> Self {
        for tail in 0..TAILS {
            let latest = tails.pending_rows.saturating_sub(1);
            let x = tails.pending[latest][tail / 2];
            tails.enter(tail, if tail.is_multiple_of(2) { x } else { -x });
        }
        let sides = |view: usize| [2 * view, 2 * view + 1];
        let saved = tails.counts.iter().enumerate().map(|(view, count)| SavedView {
            scored: SavedGeneration {
                rows: count.scored,
                least: sides(view).map(|tail| tails.shapes[tail].least),
                tails: sides(view).map(|tail| tails.scored.of(tail).to_vec()),
            },
            young: count.young.map(|rows| SavedGeneration {
                rows,
                least: sides(view).map(|tail| tails.shapes[tail].young_least),
                tails: sides(view).map(|tail| tails.young.of(tail).to_vec()),
            }),
        });
        saved.collect()
    }
}

impl TryFrom<Vec<SavedView>> for Tails {
    type Error = &'static str;

    fn try_from(saved: Vec<SavedView>) -> Result<Self, Self::Error> {
        let is_sound = |view: &SavedView| {
            view.scored.is_sound() && view.young.iter().all(SavedGeneration::is_sound)
        };
        if saved.len() != VIEWS || !saved.iter().all(is_sound) {
            return Err("tails that are not sound");
        }
        let mut tails = Self::new();
        for (view, SavedView { scored, young }) in saved.iter().enumerate() {
            tails.counts[view] = Count::of_scored(scored.rows);
            tails.scored.read(view, scored);
            if let Some(young) = young {
                tails.counts[view] = tails.counts[view].with_young(young.rows);
                tails.young.read(view, young);
            }
            for (side, tail) in [2 * view, 2 * view + 1].into_iter().enumerate() {
                tails.shapes[tail].least = scored.least[side];
                if let Some(young) = young {
                    tails.shapes[tail].young_least = young.least[side];
                }
                tails.shape(tail);
            }
        }
        Ok(tails)
    }
}

impl Largest {
    fn read(&mut self, view: usize, saved: &SavedGeneration) {
        for (tail, values) in [2 * view, 2 * view + 1].into_iter().zip(&saved.tails) {
            self.grow(if values.len() > KEPT_LEAST { KEPT } else { KEPT_LEAST });
            self.values[tail * self.room..][..values.len()].copy_from_slice(values);
            self.lens[tail] = index(values.len());
        }
    }
}

impl SavedGeneration {
    fn is_sound(&self) -> bool {
        let is_sound = |(values, least): (&Vec<f64>, &f64)| {
            let known = self.rows as usize;
            (known.min(TAIL_LEAST)..=known.min(KEPT)).contains(&values.len())
                && *least < f64::INFINITY
                && values.iter().all(|value| value.is_finite() && value >= least)
                && values.is_sorted()
        };
        self.tails.iter().zip(&self.least).all(is_sound)
    }
}
