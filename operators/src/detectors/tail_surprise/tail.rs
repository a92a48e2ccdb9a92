//! The largest values of a stream, and how surprising one more is.

use serde::{Deserialize, Serialize};

/// Values kept of each generation.
const KEPT: usize = 80;
/// The share of rows that are the tail, and how many it takes at least.
const TAIL_SHARE: f64 = 0.03;
const TAIL_LEAST: usize = 10;

/// The largest values of the last generation of rows and the current one.
///
/// The current generation gathers its own largest values; when it is full it takes the place of the last one, so
/// that what is scored rests on one to two generations.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Tail {
    scored: Largest,
    young: Largest,
}

/// The largest among so many rows, ascending.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Largest {
    values: Vec<f64>,
    rows: u64,
}

/// Where a tail begins, how far its values lie beyond, and how many values and rows say so.
#[derive(Clone, Copy)]
struct Shape {
    begin: f64,
    mean_excess: f64,
    values: f64,
    /// The logarithm of rows per value of the tail.
    rarity: f64,
}

impl Shape {
    fn surprise(self, x: f64) -> f64 {
        let excess = (x - self.begin) / self.mean_excess;
        if excess > 0.0 {
            self.rarity + self.values * (excess / self.values).ln_1p()
        } else {
            self.rarity / (1.0 - excess)
        }
    }
}

impl Tail {
    pub(super) fn new() -> Self {
        let largest = Largest { values: Vec::with_capacity(KEPT + 1), rows: 0 };
        // A clone has no capacity to spare.
        Self { young: Largest { values: Vec::with_capacity(KEPT + 1), rows: 0 }, scored: largest }
    }

    /// How surprising `x` is, in nats; 0 while too little is known, NaN for NaN. Distances below `floor` do not matter.
    pub(super) fn surprise(&self, x: f64, floor: f64) -> f64 {
        self.scored.shape(floor).map_or(0.0, |shape| shape.surprise(x))
    }

    /// The value whose surprise is `surprise`, or NaN while too little is known or where it lies before the tail.
    pub(super) fn limit(&self, surprise: f64, floor: f64) -> f64 {
        match self.scored.shape(floor) {
            Some(shape) if surprise > shape.rarity => {
                let excess = shape.values * ((surprise - shape.rarity) / shape.values).exp_m1();
                shape.begin + excess * shape.mean_excess
            }
            _ => f64::NAN,
        }
    }

    /// Learns `x`, held within `clip` mean excesses of where the tail begins.
    pub(super) fn learn(&mut self, x: f64, floor: f64, clip: f64, generation_rows: u64) {
        let beyond = self.scored.begin().is_some_and(|begin| x > begin);
        let shape = if beyond { self.scored.shape(floor) } else { None };
        let held = shape.map_or(x, |shape| x.min(shape.begin + clip * shape.mean_excess));
        self.scored.learn(held);
        self.young.learn(held);
        if self.young.rows >= generation_rows {
            std::mem::swap(&mut self.scored, &mut self.young);
            self.young.values.clear();
            self.young.rows = 0;
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        (self.scored.values.capacity() + self.young.values.capacity()) * size_of::<f64>()
    }

    /// Whether a state that was read back has the shape that the code relies on.
    pub(super) fn is_sound(&self) -> bool {
        self.scored.is_sound() && self.young.is_sound()
    }
}

impl Largest {
    fn is_sound(&self) -> bool {
        self.values.len() <= KEPT
            && self.values.len() as u64 <= self.rows
            && self.values.iter().all(|value| value.is_finite())
            && self.values.is_sorted()
    }

    fn learn(&mut self, x: f64) {
        self.rows += 1;
        if self.values.len() < KEPT {
            let at = self.values.partition_point(|value| *value < x);
            self.values.insert(at, x);
        } else if x > self.values[0] {
            let at = self.values.partition_point(|value| *value < x);
            self.values.copy_within(1..at, 0);
            self.values[at - 1] = x;
        }
    }

    /// The values that are the tail.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A share of a count is an index.
    fn tail(&self) -> Option<&[f64]> {
        let most = self.values.len();
        let wanted = (TAIL_SHARE * self.rows as f64) as usize;
        (most >= TAIL_LEAST).then(|| &self.values[most - wanted.clamp(TAIL_LEAST, most)..])
    }

    fn begin(&self) -> Option<f64> {
        self.tail().map(|tail| tail[0])
    }

    fn shape(&self, floor: f64) -> Option<Shape> {
        let tail = self.tail()?;
        let (begin, values) = (tail[0], tail.len() as f64);
        let excess: f64 = tail.iter().map(|value| value - begin).sum();
        let rarity = (self.rows as f64 / values).ln();
        Some(Shape { begin, mean_excess: (excess / values).max(floor), values, rarity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(values: impl IntoIterator<Item = f64>) -> Tail {
        let mut tail = Tail::new();
        values.into_iter().for_each(|x| tail.learn(x, 1e-6, 1e9, 1_000));
        tail
    }

    #[test]
    fn surprise_is_the_formula() {
        // The tail of 0..=399 are the 12 values from 388 on, on average 5.5 beyond.
        let tail = filled((0..400).map(f64::from));
        let expected = (400.0_f64 / 12.0).ln() + 12.0 * 2.0_f64.ln();
        assert!((tail.surprise(388.0 + 66.0, 1e-6) - expected).abs() < 1e-9);
        assert!((tail.limit(expected, 1e-6) - 454.0).abs() < 1e-9);
        let rank = (400.0_f64 / 12.0).ln() / (1.0 + 88.0 / 5.5);
        assert!((tail.surprise(300.0, 1e-6) - rank).abs() < 1e-9);
        assert!(tail.surprise(f64::NAN, 1e-6).is_nan());
        assert!(tail.limit(1.0, 1e-6).is_nan());
    }

    #[test]
    fn exponential_values_surprise_as_rarely_as_they_say() {
        let mut state = 1_u64;
        let mut draw = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            -(((state >> 11) as f64 + 1.0) / 9_007_199_254_740_993.0).ln()
        };
        let mut tail = filled(std::iter::repeat_with(&mut draw).take(2_000));
        let above = (0..200_000).filter(|_| {
            let x = draw();
            let surprise = tail.surprise(x, 1e-6);
            tail.learn(x, 1e-6, 50.0, 4_000);
            surprise > 6.0
        });
        // One in e^6 = 403 is expected.
        let above = above.count();
        assert!((400..600).contains(&above), "{above} of 200000 above 6 nats");
    }

    #[test]
    fn old_generations_are_forgotten() {
        let mut tail = filled((0..900).map(|i| 100.0 + f64::from(i % 50)));
        assert!(tail.surprise(50.0, 1e-6) < 3.0);
        (0..1_200).for_each(|i| tail.learn(f64::from(i % 10), 1e-6, 50.0, 1_000));
        assert!(tail.surprise(50.0, 1e-6) > 9.0);
        assert!(tail.is_sound());
    }

    #[test]
    fn one_value_is_held_and_equal_values_have_a_floor() {
        let mut tail = filled((0..400).map(f64::from));
        tail.learn(1e150, 1e-6, 20.0, 1_000);
        assert!(tail.surprise(1_000.0, 1e-6) > 15.0);
        let flat = filled([5.0; 100]);
        let surprise = flat.surprise(5.0 + 1e-7, 1e-6);
        assert!(surprise > 0.0 && surprise < 3.0);
    }
}
