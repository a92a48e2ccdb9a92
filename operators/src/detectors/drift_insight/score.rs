//! One number from the tests of a window and the distance of its last slot.
//!
//! Both are in deviations: of counts in a window, and of a distance that as few training slots have.

use super::transitions::DEVIATIONS;

/// What a share of an exponential distribution is beyond, in its mean.
fn beyond(share: f64) -> f64 {
    -share.ln()
}

/// The distance from the core points, in eps, that counts as three deviations: as few slots are beyond it as beyond three
/// deviations of a normal distribution.
///
/// It is 1 if training had no slot outside of all states, so that any such slot is anomalous at once (DI-17). Else it is
/// what the tail of the training slots' own distances to other core points suggests, from its last tenth to its last
/// thirtieth. What is beyond that has no weight: it may be anomalies.
pub(super) fn reach(mut squares: Vec<f32>, squared_radius: f32, has_noise: bool) -> f32 {
    const TAIL: (f64, f64) = (0.1, 0.03);
    const THREE_DEVIATIONS: f64 = 0.00135;
    if !has_noise {
        return 1.0;
    }
    squares.sort_unstable_by(f32::total_cmp);
    let last = (squares.len() - 1) as f64;
    let beyond_share = |share: f64| {
        (f64::from(squares[(last * (1.0 - share)) as usize]) / f64::from(squared_radius)).sqrt()
    };
    let (begin, end) = (beyond_share(TAIL.0), beyond_share(TAIL.1));
    let slope = (end - begin) / (beyond(TAIL.1) - beyond(TAIL.0));
    let reach = end + slope * (beyond(THREE_DEVIATIONS) - beyond(TAIL.1));
    // Without any core point nothing is near and nothing far.
    if reach.is_finite() { reach.max(1.0) as f32 } else { 1.0 }
}

/// How far out a slot is, in deviations.
pub(super) fn novelty(distance: f64, reach: f32) -> f64 {
    DEVIATIONS * distance / f64::from(reach)
}

/// The score: next to the larger of the two and never below it, so that equal windows are ranked by distance. What
/// neither raises on its own, both together do not raise either.
pub(super) fn combine(oddity: f64, novelty: f64, threshold: f64) -> f64 {
    let most = oddity.max(novelty);
    if !(most > 0.0) {
        return 0.0;
    }
    let score = most * ((oddity / most).powi(4) + (novelty / most).powi(4)).sqrt().sqrt();
    if most <= threshold { score.min(threshold) } else { score }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn di_17_reach_is_eps_without_noise_and_follows_the_tail_with_it() {
        // Squared distances whose roots are exponentially distributed with mean 0.4 of eps.
        let tail = |outliers: usize| -> Vec<f32> {
            let share = |i: usize| (i as f64 + 0.5) / 1_000.0;
            let mut squares: Vec<f32> =
                (0..1_000).map(|i| (0.4 * beyond(share(i))).powi(2) as f32 * 0.25).collect();
            squares[..outliers].fill(1e6);
            squares
        };
        assert_eq!(reach(tail(0), 0.25, false), 1.0);
        for outliers in [0, 20] {
            let reach = f64::from(reach(tail(outliers), 0.25, true));
            let expected = 0.4 * beyond(0.00135);
            assert!((reach - expected).abs() < 0.05, "{reach} for {expected}");
        }
        assert_eq!(reach(vec![f32::INFINITY; 30], 0.25, true), 1.0);
    }

    #[test]
    fn scores_rank_by_both_and_raise_by_one() {
        assert_eq!(combine(3.0, 0.9, 3.0), 3.0);
        assert!(combine(2.9, 2.9, 3.0) <= 3.0);
        assert!(combine(2.0, 0.2, 3.0) < combine(2.0, 0.3, 3.0));
        assert!(combine(4.0, 0.0, 3.0) >= 4.0 && combine(0.0, 1e9, 3.0) >= 1e9);
        assert_eq!(combine(0.0, 0.0, 3.0), 0.0);
    }
}
