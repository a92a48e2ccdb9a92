//! The score of the Numenta Anomaly Benchmark: early detection in a window pays, every raised row outside costs.
//!
//! The rule (Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms", 2015; the weights and the relative
//! false-positive decay are those of its public scoreboard):
//!
//! - The first 15 % of a series, at most 750 rows, are probation and ignored.
//! - With `S(y) = 2 / (1 + exp(5 y)) - 1`, and -1 for y > 3, a raised row at place `y` in its window, from -1 at the
//!   begin to almost 0 at the end, is worth `S(y) / S(-1)`. Only the best row of a window counts. A window without a
//!   raised row costs the weight of a false negative.
//! - A raised row outside is worth the weight of a false positive times `S(y)`, where `y` is its distance from the
//!   end of the window before, measured in the length of that window (less one row). Without such a window it is -1.
//! - One threshold serves all series. It is the one with the highest sum: chosen with the labels in hand, for every
//!   detector on the scoreboard alike. [`nab_raw`] judges a threshold that was chosen elsewhere.

use super::{Segment, by_falling_score, real};

/// What errors cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NabProfile {
    /// Cost of a raised row far from any window.
    pub false_positive: f64,
    /// Cost of a window without a raised row.
    pub false_negative: f64,
}

impl NabProfile {
    /// The profile of the main column.
    pub const STANDARD: Self = Self { false_positive: 0.11, false_negative: 1.0 };
    /// Raised rows outside windows cost double.
    pub const LOW_FALSE_POSITIVES: Self = Self { false_positive: 0.22, false_negative: 1.0 };
    /// Missed windows cost double.
    pub const LOW_FALSE_NEGATIVES: Self = Self { false_positive: 0.11, false_negative: 2.0 };
}

/// One series of the benchmark: its scores, and the windows in which its anomalies lie, in order and apart.
#[derive(Clone, Copy, Debug)]
pub struct NabSeries<'a> {
    /// One score per row; NaN is never raised.
    pub scores: &'a [f64],
    /// Rows of the windows, ascending and without overlap.
    pub windows: &'a [Segment],
}

/// What the best threshold gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NabOutcome {
    /// Rows with at least this score are raised; infinite where raising nothing is best.
    pub threshold: f64,
    /// The sum over all series.
    pub raw: f64,
    /// The sum on the scale of the scoreboard: 0 for raising nothing, 100 for raising the first row of each window and
    /// no other. Never negative, as raising nothing is among the choices.
    pub score: f64,
}

/// Finds the threshold that is best over all series together.
///
/// Costs one sort of all rows. Of equally good thresholds the highest wins. Without any window the score is 0.
///
/// # Examples
/// ```
/// use driftline_operators::evaluate::{NabOutcome, NabProfile, NabSeries, Segment, nab_best};
///
/// let windows = [Segment { first: 4, last: 7 }];
/// let scores = [0.9, 0.1, 0.1, 0.1, 0.8, 0.1, 0.1, 0.1, 0.1, 0.1];
/// let series = NabSeries { scores: &scores, windows: &windows };
/// let outcome: NabOutcome = nab_best(&[series], NabProfile::STANDARD);
/// // Row 0 is probation, row 4 opens the window.
/// assert_eq!((outcome.threshold, outcome.score), (0.8, 100.0));
/// ```
///
/// # Panics
/// If windows overlap, are out of order or end behind the series.
#[must_use]
pub fn nab_best(series: &[NabSeries<'_>], profile: NabProfile) -> NabOutcome {
    let rows = values(series);
    let windows: usize = series.iter().map(|one| one.windows.len()).sum();
    let scores: Vec<f64> = rows.iter().map(|row| row.score).collect();
    let order = by_falling_score(&scores);

    let mut found: Vec<Option<f64>> = vec![None; windows];
    let mut sum = -profile.false_negative * real(windows);
    let mut best = NabOutcome { threshold: f64::INFINITY, raw: sum, score: 0.0 };
    for tied in order.chunk_by(|&left, &right| scores[left] == scores[right]) {
        for &row in tied {
            sum += rows[row].raise(&mut found, profile);
        }
        if sum > best.raw {
            (best.raw, best.threshold) = (sum, scores[tied[0]]);
        }
    }
    if windows > 0 {
        let nothing = -profile.false_negative * real(windows);
        best.score = 100.0 * (best.raw - nothing) / (real(windows) - nothing);
    }
    best
}

/// The sum over all series where rows with at least `threshold` are raised.
///
/// For a threshold that was not chosen on these series, such as one chosen on the others or a detector's own. Put it on
/// the scale of the scoreboard as `100 (raw - nothing) / (windows - nothing)`, where `nothing` is what an infinite
/// threshold gives.
///
/// # Examples
/// ```
/// use driftline_operators::evaluate::{NabProfile, NabSeries, Segment, nab_raw};
///
/// let windows = [Segment { first: 4, last: 7 }];
/// let series = NabSeries { scores: &[0.5; 10], windows: &windows };
/// assert_eq!(nab_raw(&[series], NabProfile::LOW_FALSE_NEGATIVES, 0.6), -2.0);
/// ```
///
/// # Panics
/// If windows overlap, are out of order or end behind the series.
#[must_use]
pub fn nab_raw(series: &[NabSeries<'_>], profile: NabProfile, threshold: f64) -> f64 {
    let windows: usize = series.iter().map(|one| one.windows.len()).sum();
    let mut found: Vec<Option<f64>> = vec![None; windows];
    let raised = values(series).into_iter().filter(|row| row.score >= threshold);
    let gain: f64 = raised.map(|row| row.raise(&mut found, profile)).sum();
    gain - profile.false_negative * real(windows)
}

/// A row behind probation: its score, what raising it is worth, and its window, counted over all series.
struct Value {
    score: f64,
    worth: f64,
    window: Option<usize>,
}

impl Value {
    /// What raising this row adds to the sum, given the best raised row of each window so far.
    fn raise(&self, found: &mut [Option<f64>], profile: NabProfile) -> f64 {
        let Some(window) = self.window else {
            return profile.false_positive * self.worth;
        };
        let before = found[window].unwrap_or(-profile.false_negative);
        let after = found[window].map_or(self.worth, |best| best.max(self.worth));
        found[window] = Some(after);
        after - before
    }
}

/// The rows of all series that count, in order.
fn values(series: &[NabSeries<'_>]) -> Vec<Value> {
    let mut values = Vec::with_capacity(series.iter().map(|one| one.scores.len()).sum());
    let mut windows_before = 0;
    for one in series {
        let ordered = one.windows.windows(2).all(|pair| pair[0].last < pair[1].first);
        assert!(ordered, "windows are in order and do not overlap");
        assert!(one.windows.last().is_none_or(|window| window.last < one.scores.len()));
        let mut next = 0;
        for row in 0..one.scores.len() {
            while next < one.windows.len() && row > one.windows[next].last {
                next += 1;
            }
            if row < probation(one.scores.len()) {
                continue;
            }
            let inside = one.windows.get(next).filter(|window| window.contains(row));
            let worth = match (inside, next.checked_sub(1)) {
                (Some(window), _) => worth_inside(row, *window),
                (None, Some(before)) => worth_behind(row, one.windows[before]),
                (None, None) => -1.0,
            };
            let window = inside.map(|_| windows_before + next);
            values.push(Value { score: one.scores[row], worth, window });
        }
        windows_before += one.windows.len();
    }
    values
}

/// Rows at the begin of a series that do not count.
fn probation(rows: usize) -> usize {
    (rows * 15 / 100).min(750)
}

/// The scaled sigmoid: 1 far below 0, -1 far above.
fn sigmoid(place: f64) -> f64 {
    if place > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * place).exp()) - 1.0 }
}

/// What raising a row of a window is worth: 1 in its first row.
fn worth_inside(row: usize, window: Segment) -> f64 {
    let place = -real(window.last + 1 - row) / real(window.rows());
    sigmoid(place) / sigmoid(-1.0)
}

/// What raising a row behind a window is worth, before weighting. A window of one row has no length to measure with,
/// so that every row behind it is far away.
fn worth_behind(row: usize, window: Segment) -> f64 {
    sigmoid(real(row - window.last) / real(window.rows() - 1))
}

#[cfg(test)]
mod tests;
