//! The shape of a window: which windows a point of event time belongs to, and which panes they are made of.

use serde::{Deserialize, Serialize};

use crate::error::{OperatorError, Result};
use crate::time::{EventTime, SPAN_NS_MAX};

/// Most windows that one row may belong to: an hour that slides by the second, a day that slides by the half minute.
pub const WINDOWS_PER_ROW_MAX: i64 = 4096;

/// A window over event time, aligned to 1970-01-01T00:00:00Z plus an offset.
///
/// A window covers `[start, end)`. Every window is a whole number of panes; a row belongs to exactly one pane, so
/// that a row costs the same in a hop as in a tumble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Serialize, Deserialize)]
pub struct WindowSpec {
    slide_ns: i64,
    size_ns: i64,
    offset_ns: i64,
}

impl WindowSpec {
    /// Windows of `size_ns` that follow each other without gap or overlap.
    ///
    /// # Errors
    /// If the size is not positive, or a length is over 400 days.
    pub fn tumble(size_ns: i64, offset_ns: i64) -> Result<Self> {
        Self::hop(size_ns, size_ns, offset_ns)
    }

    /// Windows of `size_ns` that start every `slide_ns`; a slide above the size leaves gaps.
    ///
    /// # Errors
    /// If the size or slide is not positive, or a length is over 400 days.
    pub fn hop(slide_ns: i64, size_ns: i64, offset_ns: i64) -> Result<Self> {
        let check = |what: &str, ns: i64, least: i64| {
            if (least..=SPAN_NS_MAX).contains(&ns) {
                Ok(())
            } else {
                Err(OperatorError::Option {
                    owner: "window".into(),
                    option: what.into(),
                    problem: format!("is {ns} ns, outside {least} ns to 400 days"),
                    hint: "give an interval such as INTERVAL '5 minutes'".into(),
                })
            }
        };
        check("size", size_ns, 1)?;
        check("slide", slide_ns, 1)?;
        check("offset", offset_ns, -SPAN_NS_MAX)?;
        if size_ns / slide_ns > WINDOWS_PER_ROW_MAX {
            return Err(OperatorError::Option {
                owner: "window".into(),
                option: "slide".into(),
                problem: format!("puts each row into {} windows", size_ns / slide_ns),
                hint: format!("a size of at most {WINDOWS_PER_ROW_MAX} slides keeps work bounded"),
            });
        }
        Ok(Self { slide_ns, size_ns, offset_ns: offset_ns.rem_euclid(slide_ns) })
    }

    /// Distance between the starts of neighbouring windows.
    #[must_use]
    pub fn slide_ns(&self) -> i64 {
        self.slide_ns
    }

    /// Length of a window.
    #[must_use]
    pub fn size_ns(&self) -> i64 {
        self.size_ns
    }

    /// Start of one of the windows relative to 1970, at least 0 and less than the slide.
    #[must_use]
    pub fn offset_ns(&self) -> i64 {
        self.offset_ns
    }

    /// Whether each row belongs to exactly one window.
    #[must_use]
    pub fn is_tumble(&self) -> bool {
        self.slide_ns == self.size_ns
    }

    /// Length of a pane: the greatest common divisor of slide and size.
    #[must_use]
    pub fn pane_ns(&self) -> i64 {
        let (mut a, mut b) = (self.slide_ns, self.size_ns);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    }

    /// Start of the pane that holds `time`.
    #[must_use]
    pub fn pane_start(&self, time: EventTime) -> i64 {
        let pane = self.pane_ns();
        (time.0 - self.offset_ns).div_euclid(pane) * pane + self.offset_ns
    }

    /// Start of the last window that begins at or before `time`; it holds `time` unless it lies in a gap.
    #[must_use]
    pub fn last_start(&self, time: EventTime) -> i64 {
        (time.0 - self.offset_ns).div_euclid(self.slide_ns) * self.slide_ns + self.offset_ns
    }

    /// Starts of all windows that hold `time`, the latest first; none where `time` lies in a gap.
    pub fn starts(&self, time: EventTime) -> impl Iterator<Item = i64> + use<> {
        let (last, slide, size) = (self.last_start(time), self.slide_ns, self.size_ns);
        (0..).map(move |k: i64| last - k * slide).take_while(move |start| time.0 - start < size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(spec: WindowSpec, time: i64) -> Vec<i64> {
        spec.starts(EventTime(time)).collect()
    }

    #[test]
    fn a_row_is_in_size_over_slide_windows() {
        let hop = WindowSpec::hop(2, 6, 0).unwrap();
        assert_eq!(starts(hop, 7), [6, 4, 2]);
        assert_eq!(starts(hop, -1), [-2, -4, -6]);
        assert_eq!(starts(WindowSpec::tumble(5, 0).unwrap(), 10), [10]);
    }

    #[test]
    fn slide_above_size_leaves_gaps() {
        let hop = WindowSpec::hop(10, 4, 0).unwrap();
        assert_eq!(starts(hop, 13), [10]);
        assert!(starts(hop, 14).is_empty());
        assert_eq!(hop.pane_ns(), 2);
    }

    #[test]
    fn offsets_wrap_into_the_slide() {
        let tumble = WindowSpec::tumble(10, -3).unwrap();
        assert_eq!(tumble.offset_ns(), 7);
        assert_eq!(starts(tumble, 6), [-3]);
        assert_eq!(starts(tumble, 7), [7]);
        assert_eq!(tumble.pane_start(EventTime(-4)), -13);
    }

    #[test]
    fn lengths_are_checked() {
        for bad in [0, -1, i64::MIN, i64::MAX] {
            assert!(WindowSpec::tumble(bad, 0).is_err());
        }
        assert!(WindowSpec::hop(1, 10, i64::MIN).is_err());
        assert!(WindowSpec::hop(1, WINDOWS_PER_ROW_MAX, 0).is_ok());
        assert!(WindowSpec::hop(1, WINDOWS_PER_ROW_MAX + 1, 0).is_err());
        let edge = WindowSpec::hop(SPAN_NS_MAX, SPAN_NS_MAX, -SPAN_NS_MAX).unwrap();
        for time in [EventTime::EARLIEST, EventTime::LATEST] {
            assert_eq!(edge.starts(time).count(), 1);
        }
    }
}
