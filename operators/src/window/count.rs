//! The shape of a window of so many rows.

use serde::{Deserialize, Serialize};

use super::spec::{check_overlap, problem};
use crate::error::Result;

/// Most rows of one window, and most rows between the beginnings of two windows.
pub const WINDOW_ROWS_MAX: u64 = 1 << 30;

/// Windows of `rows` rows of a key in order of event time, of which one begins every `every` rows.
///
/// Its bounds are the event times of its first and of its last row. A window that has not got all its rows when the
/// input ends is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Serialize, Deserialize)]
pub struct CountSpec {
    rows: u64,
    every: u64,
}

impl CountSpec {
    /// Windows of `rows` rows that begin every `every` rows; an `every` above `rows` leaves rows out.
    ///
    /// # Errors
    /// If a number is not positive or too large, or a row would be in too many windows.
    pub fn new(rows: u64, every: u64) -> Result<Self> {
        for (what, number) in [("rows", rows), ("every", every)] {
            if !(1..=WINDOW_ROWS_MAX).contains(&number) {
                return Err(problem(
                    what,
                    format!("is {number}, outside 1 to {WINDOW_ROWS_MAX}"),
                    "give a number of rows such as 100".to_owned(),
                ));
            }
        }
        check_overlap("every", (rows / every) as i64)?;
        Ok(Self { rows, every })
    }

    /// Rows of one window.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows between the beginnings of two windows.
    #[must_use]
    pub fn every(&self) -> u64 {
        self.every
    }

    /// Rows of a pane: the greatest common divisor of both numbers.
    #[must_use]
    pub fn pane_rows(&self) -> u64 {
        let (mut a, mut b) = (self.rows, self.every);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_rows_are_checked() {
        for (rows, every) in [(0, 1), (1, 0), (WINDOW_ROWS_MAX + 1, 1), (1, u64::MAX), (4097, 1)] {
            assert!(CountSpec::new(rows, every).is_err(), "{rows} {every}");
        }
        let spec = CountSpec::new(10, 4).unwrap();
        assert_eq!((spec.rows(), spec.every(), spec.pane_rows()), (10, 4, 2));
    }
}
