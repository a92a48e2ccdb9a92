//! How great an error is still normal, by the few errors of vectors that were held out.
//!
//! The paper takes errors to be Gaussian. But they are means of squares: where residuals are Gaussian they follow a
//! chi-squared distribution, of which two to five in a hundred lie beyond the paper's bound for one in a thousand. Its
//! cube root is all but Gaussian (Wilson and Hilferty 1931). And mean and deviation are those of twenty errors, say, so
//! that the next error lies within `t` deviations, not within `z`: the bound is that of a prediction interval.
//!
//! Where there are so many errors that they tell the share themselves, the bound is not below what they say: this helps
//! where residuals have heavier tails.

/// Errors below it are rounding: a thousandth of a deviation.
const ERROR_MIN: f64 = 1e-6;

/// The error below which the next one lies with probability `confidence`, from .5 to below 1, by at least two errors.
pub(super) fn bound(errors: &[f64], confidence: f64) -> f64 {
    let count = errors.len() as f64;
    let roots: Vec<f64> = errors.iter().map(|error| error.cbrt()).collect();
    let mean = roots.iter().sum::<f64>() / count;
    let square = roots.iter().map(|root| (root - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let t = student_quantile(confidence, errors.len() - 1);
    let predicted = (mean + t * (square * (1.0 + 1.0 / count)).sqrt()).powi(3);
    let mut sorted = errors.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let beyond = ((1.0 - confidence) * count) as usize;
    predicted.max(sorted.get(beyond).copied().unwrap_or(0.0)).max(ERROR_MIN)
}

/// The point below which Student's t lies with probability `p`, from .5 to below 1, by bisection.
fn student_quantile(p: f64, freedom: usize) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while within(high, freedom) < 2.0 * p - 1.0 && high < 1e12 {
        (low, high) = (high, 2.0 * high);
    }
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if within(middle, freedom) < 2.0 * p - 1.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The probability that Student's t lies between `-t` and `t`, by the finite series for whole degrees of freedom
/// (Abramowitz and Stegun, 26.7.3 and 26.7.4).
fn within(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sin, cos) = angle.sin_cos();
    let is_odd = !freedom.is_multiple_of(2);
    let (mut term, mut sum) = (if is_odd { cos } else { 1.0 }, 0.0);
    let mut factor = if is_odd { 2.0 } else { 1.0 };
    for _ in 0..freedom / 2 {
        sum += term;
        term *= cos * cos * factor / (factor + 1.0);
        factor += 2.0;
    }
    if is_odd { (angle + sin * sum) * std::f64::consts::FRAC_2_PI } else { sin * sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tabled ones; with many degrees of freedom those of the paper's Gaussian.
    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (p, freedom, t) in [
            (0.5, 3, 0.0),
            (0.975, 1, 12.706_2),
            (0.975, 2, 4.302_65),
            (0.98, 10, 2.359_31),
            (0.999, 17, 3.645_77),
            (0.999, 19, 3.579_40),
            (0.98, 1_000_000, 2.053_75),
            (0.99, 1_000_000, 2.326_35),
            (0.999, 1_000_001, 3.090_23),
        ] {
            let found = student_quantile(p, freedom);
            assert!((found - t).abs() < 1e-4 * t.max(1.0), "{p}, {freedom}: {found}");
        }
        assert!(student_quantile(0.999_999_999, 1).is_finite());
    }

    #[test]
    fn bounds_follow_the_errors_and_are_never_zero() {
        assert_eq!(bound(&[0.0; 20], 0.999), ERROR_MIN);
        let errors: Vec<f64> = (1..=20).map(f64::from).collect();
        let (lax, strict) = (bound(&errors, 0.98), bound(&errors, 0.999));
        assert!(20.0 < lax && lax < strict, "{lax}, {strict}");
        // Many errors tell the share: one in a thousand of these is far above the rest.
        let mut many = vec![1.0; 998];
        many.extend([400.0, 500.0]);
        assert_eq!(bound(&many, 0.999), 400.0);
        assert!(bound(&many, 0.98) < 400.0);
    }
}
