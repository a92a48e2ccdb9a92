//! Runs of rows that belong together: the anomalies of a label column, the episodes of an alarm column.

/// A run of rows, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// First row of the run.
    pub first: usize,
    /// Last row of the run.
    pub last: usize,
}

impl Segment {
    /// The number of rows.
    ///
    /// # Panics
    /// If `last` comes before `first`.
    #[must_use]
    pub fn rows(self) -> usize {
        assert!(self.first <= self.last, "a segment ends before it begins");
        self.last - self.first + 1
    }

    /// Whether a row lies in the run.
    #[must_use]
    pub fn contains(self, row: usize) -> bool {
        self.first <= row && row <= self.last
    }
}

/// The runs of true rows, in order.
///
/// # Examples
/// ```
/// use driftline_operators::evaluate::{Segment, segments};
///
/// let runs = segments(&[true, false, true, true]);
/// assert_eq!(runs, [Segment { first: 0, last: 0 }, Segment { first: 2, last: 3 }]);
/// ```
#[must_use]
pub fn segments(flags: &[bool]) -> Vec<Segment> {
    let mut runs: Vec<Segment> = Vec::new();
    for row in (0..flags.len()).filter(|&row| flags[row]) {
        match runs.last_mut() {
            Some(run) if run.last + 1 == row => run.last = row,
            _ => runs.push(Segment { first: row, last: row }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_at_both_ends_are_found() {
        assert_eq!(segments(&[]), []);
        assert_eq!(segments(&[false]), []);
        assert_eq!(segments(&[true, true]), [Segment { first: 0, last: 1 }]);
        let last = segments(&[false, true]);
        assert_eq!(last, [Segment { first: 1, last: 1 }]);
        assert_eq!((last[0].rows(), last[0].contains(1), last[0].contains(0)), (1, true, false));
    }
}
