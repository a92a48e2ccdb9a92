//! Tails against their plain definition, and what is read back.

use proptest::prelude::*;

use super::*;

const FLOORS: [f64; VIEWS] = [1e-6; VIEWS];
const NONE: f64 = f64::NAN;

/// A row whose first view alone is there.
fn row(x: f64) -> [f64; VIEWS] {
    [x, NONE, NONE, NONE, NONE, NONE]
}

fn filled(values: impl IntoIterator<Item = f64>) -> Tails {
    let mut tails = Tails::new();
    values.into_iter().for_each(|x| tails.learn(&row(x), &FLOORS, 1e9, 1_000));
    tails
}

/// Of the tail upwards alone.
fn upwards(tails: &Tails, x: f64) -> f64 {
    let shape = tails.shapes[0];
    shape.surprise(x, FLOORS[0], shape.rarity(tails.counts[0].scored))
}

fn surprise(tails: &Tails, x: f64) -> f64 {
    tails.surprise(&row(x), &FLOORS).0
}

/// The tail upwards of one view as it is described: rows, and values in order.
#[derive(Clone, Default)]
struct Generation(usize, Vec<f64>, Option<f64>);

impl Generation {
    fn learn(&mut self, x: f64) {
        let most = kept(tail_of(self.0 as u32));
        self.0 += 1;
        if self.2.is_some_and(|least| x <= least) {
            return;
        }
        self.1.insert(self.1.partition_point(|value| *value < x), x);
        if self.1.len() > most {
            self.1.remove(0);
        }
        if self.1.len() >= most {
            self.2 = self.1.first().copied();
        }
    }
}

#[derive(Default)]
struct Plain {
    scored: Generation,
    young: Option<Generation>,
}

impl Plain {
    /// Where the tail begins, its mean excess, and its values.
    fn shape(&self) -> Option<(f64, f64, f64)> {
        let Generation(rows, values, _) = &self.scored;
        let wanted = (TAIL_SHARE * *rows as f64) as usize;
        let wanted = wanted.clamp(TAIL_LEAST, KEPT).min(values.len());
        let tail = (*rows >= TAIL_LEAST).then(|| &values[values.len() - wanted..])?;
        let excess: f64 = tail.iter().map(|x| x - tail[0]).sum();
        Some((tail[0], excess / tail.len() as f64, tail.len() as f64))
    }

    fn surprise(&self, x: f64) -> f64 {
        let Some((begin, mean_excess, values)) = self.shape() else { return 0.0 };
        let rarity = (self.scored.0 as f64 / values).ln();
        let excess = (x - begin) / mean_excess.max(FLOORS[0]);
        match excess > 0.0 {
            true => rarity + values * (excess / values).ln_1p(),
            false => rarity / (1.0 - excess),
        }
    }

    fn learn(&mut self, x: f64, clip: f64, generation_rows: usize) {
        let held = match self.shape() {
            Some((begin, excess, _)) if x > begin => x.min(begin + clip * excess.max(FLOORS[0])),
            _ => x,
        };
        self.scored.learn(held);
        self.young.iter_mut().for_each(|young| young.learn(held));
        if self.young.as_ref().unwrap_or(&self.scored).0 >= generation_rows {
            if let Some(young) = self.young.take() {
                self.scored = young;
            }
            self.young = Some(Generation::default());
        }
    }
}

/// Both tails of one view.
#[derive(Default)]
struct PlainView(Plain, Plain);

impl PlainView {
    fn surprise(&self, x: f64) -> f64 {
        if x.is_nan() { 0.0 } else { self.0.surprise(x).max(self.1.surprise(-x)) }
    }

    fn learn(&mut self, x: f64, clip: f64, generation_rows: u32) {
        if !x.is_nan() {
            self.0.learn(x, clip, generation_rows as usize);
            self.1.learn(-x, clip, generation_rows as usize);
        }
    }
}

proptest! {
    #[test]
    fn rows_may_be_entered_together(
        values in prop::collection::vec((0_i32..400, 0_usize..9), 1..2_500),
        generation_rows in 100_u32..900,
        saved in 0_usize..2_500,
        late in 0_usize..1_500,
        slope in -1_i32..=1,
    ) {
        let mut plain = [PlainView::default(), PlainView::default()];
        let mut tails = Tails::new();
        for (i, (x, other)) in values.iter().enumerate() {
            // Few steps, so that values are often equal; now and then one that is far away, or none.
            let x = f64::from(*x) / 4.0 * if i % 67 == 66 { 30.0 } else { 1.0 };
            let x = x + f64::from(slope) * i as f64;
            // Another view begins later, so that its generations end at other rows.
            let late = if i < late || *other == 2 { NONE } else { 5.0 * x.rem_euclid(37.0) };
            let both = [if *other == 0 { NONE } else { x }, late];
            let mut views = row(both[0]);
            views[4] = both[1];
            let clip = if *other == 1 { 7.0 } else { 50.0 };
            let expected = plain.iter().zip(both).map(|(view, x)| view.surprise(x));
            let expected = expected.fold(0.0, f64::max);
            let (found, _) = tails.surprise(&views, &FLOORS);
            prop_assert!((found - expected).abs() < 1e-9 * expected.max(1.0), "{i}: {found}, {expected}");
            for (view, x) in plain.iter_mut().zip(both) {
                view.learn(x, clip, generation_rows);
            }
            tails.learn(&views, &FLOORS, clip, generation_rows);
            if i == saved {
                tails = Tails::try_from(Vec::from(tails)).unwrap();
            }
        }
    }
}

#[test]
fn surprise_is_the_formula() {
    // The tail of 0..=399 are the 12 values from 388 on, on average 5.5 beyond.
    let tails = filled((0..400).map(f64::from));
    let expected = (400.0_f64 / 12.0).ln() + 12.0 * 2.0_f64.ln();
    assert!((surprise(&tails, 388.0 + 66.0) - expected).abs() < 1e-9);
    let (lower, upper) = tails.limits(expected, 1e-6);
    assert!((upper - 454.0).abs() < 1e-9 && (lower + 55.0).abs() < 1e-9, "{lower}, {upper}");
    // The middle is as far from both.
    let rank = (400.0_f64 / 12.0).ln() / (1.0 + 188.5 / 5.5);
    assert!((surprise(&tails, 199.5) - rank).abs() < 1e-9);
    assert_eq!(surprise(&tails, NONE).to_bits(), 0.0_f64.to_bits());
    assert!(tails.limits(1.0, 1e-6).0.is_nan() && tails.limits(1.0, 1e-6).1.is_nan());
}

#[test]
fn exponential_values_surprise_as_rarely_as_they_say() {
    let mut state = 1_u64;
    let mut draw = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        -(((state >> 11) as f64 + 1.0) / 9_007_199_254_740_993.0).ln()
    };
    let mut tails = filled(std::iter::repeat_with(&mut draw).take(2_000));
    let above = (0..200_000).filter(|_| {
        let x = draw();
        let surprise = upwards(&tails, x);
        tails.learn(&row(x), &FLOORS, 50.0, 4_000);
        surprise > 6.0
    });
    // One in e^6 = 403 is expected.
    let above = above.count();
    assert!((400..600).contains(&above), "{above} of 200000 above 6 nats");
}

#[test]
fn old_generations_are_forgotten() {
    let mut tails = filled((0..900).map(|i| 100.0 + f64::from(i % 50)));
    assert!(upwards(&tails, 50.0) < 3.0);
    (0..1_200).for_each(|i| tails.learn(&row(f64::from(i % 10)), &FLOORS, 50.0, 1_000));
    assert!(upwards(&tails, 50.0) > 9.0);
}

#[test]
fn one_value_is_held_and_equal_values_have_a_floor() {
    let mut tails = filled((0..400).map(f64::from));
    tails.learn(&row(1e150), &FLOORS, 20.0, 1_000);
    assert!(surprise(&tails, 1_000.0) > 15.0);
    let found = surprise(&filled([5.0; 100]), 5.0 + 1e-7);
    assert!(found > 0.0 && found < 3.0);
}

#[test]
fn what_was_saved_is_checked() {
    let sound = Vec::from(filled((0..400).map(f64::from)));
    assert!(Tails::try_from(sound.clone()).is_ok());
    let mut cases = vec![sound[1..].to_vec()];
    let spoils: [fn(&mut SavedGeneration); 5] = [
        |saved| saved.rows = 3,
        |saved| saved.tails[1] = vec![1.0; 81],
        |saved| saved.least[0] = f64::NAN,
        |saved| saved.tails[0][5] = f64::NAN,
        |saved| saved.tails[0].swap(3, 4),
    ];
    for spoil in spoils {
        let mut case = sound.clone();
        spoil(&mut case[0].scored);
        cases.push(case);
    }
    // Where nothing says up to where values are not kept, those below are still not.
    let mut full = sound.clone();
    full[0].scored.least = [f64::NEG_INFINITY; 2];
    let mut tails = Tails::try_from(full).unwrap();
    (0..40).for_each(|i| tails.learn(&row(f64::from(i)), &FLOORS, 50.0, 1_000));
    assert!(surprise(&tails, 200.0) < 9.0);
    for case in cases {
        assert!(Tails::try_from(case.clone()).is_err(), "{case:?}");
    }
}
