//! What a detector must beat: chance, and raising every row.

/// Seeded scores, even over 0..1: the detector that knows nothing.
///
/// The same seed gives the same scores everywhere; report the mean over several seeds.
///
/// # Examples
/// ```
/// use driftline_operators::evaluate::random_scores;
///
/// assert_eq!(random_scores(3, 7), random_scores(3, 7));
/// assert_ne!(random_scores(3, 7), random_scores(3, 8));
/// ```
#[must_use]
pub fn random_scores(rows: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    (0..rows).map(|_| unit(split_mix(&mut state))).collect()
}

/// The F1 of raising every row, `2p / (1 + p)` for a share `p` of anomalous rows; 0 without rows.
///
/// # Examples
/// ```
/// use driftline_operators::evaluate::flag_all_f1;
///
/// assert_eq!(flag_all_f1(&[true, false, false]), 0.5);
/// ```
#[must_use]
pub fn flag_all_f1(labels: &[bool]) -> f64 {
    let share = super::ratio(labels.iter().filter(|&&label| label).count(), labels.len());
    2.0 * share / (1.0 + share)
}

/// The next number of the SplitMix64 sequence (Steele, Lea and Flood, OOPSLA 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The upper 53 bits as a fraction in 0..1, which is exact.
#[allow(clippy::cast_precision_loss)]
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{auc_roc, point_wise};

    #[test]
    fn the_generator_is_the_published_one() {
        let mut state = 1_234_567;
        assert_eq!(split_mix(&mut state), 6_457_827_717_110_365_317);
        assert_eq!(split_mix(&mut state), 3_203_168_211_198_807_973);
    }

    #[test]
    fn random_scores_are_even_and_know_nothing() {
        let scores = random_scores(20_000, 1);
        assert!(scores.iter().all(|score| (0.0..1.0).contains(score)));
        let mean = scores.iter().sum::<f64>() / 20_000.0;
        assert!((mean - 0.5).abs() < 0.01);
        let labels: Vec<bool> = (0..20_000).map(|row| row % 10 == 0).collect();
        assert!((auc_roc(&labels, &scores).expect("both classes") - 0.5).abs() < 0.02);
    }

    #[test]
    fn raising_every_row_gives_the_formula() {
        let labels = [true, false, false, true, false];
        let outcome = point_wise(&labels, &[true; 5]);
        assert!((outcome.f1() - flag_all_f1(&labels)).abs() < 1e-12);
        assert_eq!(flag_all_f1(&[]), 0.0);
    }
}
