//! The shape of a session.

use serde::{Deserialize, Serialize};

use super::spec::check_length;
use crate::error::Result;

/// Sessions: rows of a key of which each comes less than the gap after the one before it.
///
/// A session covers `[first row, last row + gap)`, and as with every window its end is not part of it: a row exactly at
/// the end begins the next session. This is Beam's rule. In Flink such a row joins the session if it comes before the
/// session has been closed, and not if it comes later; the rule here gives one answer in any order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Serialize, Deserialize)]
pub struct SessionSpec {
    gap_ns: i64,
}

impl SessionSpec {
    /// Sessions that end once there has been no row for `gap_ns`.
    ///
    /// # Errors
    /// If the gap is not positive or over 400 days.
    pub fn new(gap_ns: i64) -> Result<Self> {
        check_length("gap", gap_ns, 1)?;
        Ok(Self { gap_ns })
    }

    /// How long there must be no row.
    #[must_use]
    pub fn gap_ns(&self) -> i64 {
        self.gap_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SPAN_NS_MAX;

    #[test]
    fn gaps_are_checked() {
        for bad in [i64::MIN, -1, 0, SPAN_NS_MAX + 1, i64::MAX] {
            assert!(SessionSpec::new(bad).is_err());
        }
        assert_eq!(SessionSpec::new(SPAN_NS_MAX).unwrap().gap_ns(), SPAN_NS_MAX);
    }
}
