//! One readable sentence about an anomalous row, for `detail.explanation`.

use std::fmt;

use super::output::Finding;

/// One sentence about an anomalous row.
pub(super) struct Explanation<'a> {
    pub(super) names: &'a [&'a str],
    pub(super) finding: &'a Finding<'a>,
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { row, judged, features, .. } = self.finding;
        match judged.verdict.feature {
            Some(i) => {
                let feature = &features[i];
                write!(f, "{} is {}", self.names[i], Short(row.features[i]))?;
                if !feature.expected.is_nan() {
                    write!(f, ", expected {}", Short(feature.expected))?;
                }
                if !feature.lower.is_nan() && !feature.upper.is_nan() {
                    write!(f, " ({} to {})", Short(feature.lower), Short(feature.upper))?;
                }
            }
            None => f.write_str("the row is unlike those before it")?,
        }
        write!(f, "; score {} is above ", Short(judged.score))?;
        write!(f, "the threshold {}", Short(judged.threshold))
    }
}

/// A number with about four digits that matter.
struct Short(f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.abs();
        if self.0.fract().abs() <= 0.0 && magnitude < 1e6 {
            write!(f, "{}", self.0)
        } else if (1e3..1e6).contains(&magnitude) {
            write!(f, "{:.0}", self.0)
        } else if (1.0..1e3).contains(&magnitude) {
            write!(f, "{:.2}", self.0)
        } else if (1e-3..1.0).contains(&magnitude) {
            write!(f, "{:.4}", self.0)
        } else {
            write!(f, "{:.3e}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Short;

    #[test]
    fn numbers_show_about_four_digits() {
        let shown =
            [0.0, -3.0, 12.3456, 1234.5, 0.01234, 1e-9, -1.5e12].map(|x| Short(x).to_string());
        assert_eq!(shown, ["0", "-3", "12.35", "1234", "0.0123", "1.000e-9", "-1.500e12"]);
    }
}
