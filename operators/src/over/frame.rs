//! Which rows of a partition a row looks at.

use std::fmt;

/// A frame around a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// What the bounds count.
    pub units: FrameUnits,
    /// The first row, counted from the present one: negative before it. `None` is the partition's first.
    pub start: Option<i64>,
    /// The last row, likewise; it belongs to the frame.
    pub end: i64,
}

/// What the bounds of a frame count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameUnits {
    /// Rows.
    Rows,
    /// Nanoseconds of event time. Rows of one time are in a frame together.
    Range,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = |at: i64| {
            let distance = match self.units {
                FrameUnits::Rows => at.unsigned_abs().to_string(),
                FrameUnits::Range => {
                    crate::options::OptionValue::Interval(at.saturating_abs()).to_string()
                }
            };
            match at {
                0 => "CURRENT ROW".to_owned(),
                _ if at < 0 => format!("{distance} PRECEDING"),
                _ => format!("{distance} FOLLOWING"),
            }
        };
        let units = match self.units {
            FrameUnits::Rows => "ROWS",
            FrameUnits::Range => "RANGE",
        };
        let start = self.start.map_or_else(|| "UNBOUNDED PRECEDING".to_owned(), bound);
        write!(f, "{units} BETWEEN {start} AND {}", bound(self.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_spelled_as_in_sql() {
        let frame = |units, start, end| Frame { units, start, end }.to_string();
        assert_eq!(
            frame(FrameUnits::Rows, Some(-3), 0),
            "ROWS BETWEEN 3 PRECEDING AND CURRENT ROW"
        );
        let spelled = frame(FrameUnits::Range, None, 5_000_000_000);
        assert!(spelled.starts_with("RANGE BETWEEN UNBOUNDED PRECEDING AND "), "{spelled}");
        assert!(spelled.ends_with(" FOLLOWING"), "{spelled}");
    }
}
