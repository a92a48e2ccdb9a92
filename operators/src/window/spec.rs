//! The shapes of windows: which windows a point of event time belongs to, and which panes they are made of.

use serde::{Deserialize, Serialize};

use super::count::CountSpec;
use super::session::SessionSpec;
use crate::error::{OperatorError, Result};
use crate::time::{EventTime, SPAN_NS_MAX};

/// Most windows that one row may belong to: an hour that slides by the second, a day that slides by the half minute.
pub const WINDOWS_PER_ROW_MAX: i64 = 4096;

/// A window of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Serialize, Deserialize)]
pub enum Window {
    /// Tumble, hop or cumulate: bounds are known before any row.
    Aligned(WindowSpec),
    /// Rows of a key that follow each other closely.
    Session(SessionSpec),
    /// So many rows of a key.
    Count(CountSpec),
}

/// A window over event time, aligned to 1970-01-01T00:00:00Z plus an offset.
///
/// A window covers `[start, end)`. Windows start every slide, and from each start as many end as a size has steps: one
/// for a tumble or a hop, whose step is the size; the first, the first two, ... of the steps for a cumulate. Every
/// window is a whole number of panes; a row belongs to exactly one pane, so that a row costs the same in a hop or a
/// cumulate as in a tumble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Serialize, Deserialize)]
pub struct WindowSpec {
    slide_ns: i64,
    size_ns: i64,
    step_ns: i64,
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
    /// If the size or slide is not positive, a length is over 400 days, or a row would be in too many windows.
    pub fn hop(slide_ns: i64, size_ns: i64, offset_ns: i64) -> Result<Self> {
        check_length("size", size_ns, 1)?;
        check_length("slide", slide_ns, 1)?;
        check_length("offset", offset_ns, -SPAN_NS_MAX)?;
        check_overlap("slide", size_ns / slide_ns)?;
        let offset_ns = offset_ns.rem_euclid(slide_ns);
        Ok(Self { slide_ns, size_ns, step_ns: size_ns, offset_ns })
    }

    /// Windows that start every `size_ns` and grow by `step_ns`, until they are `size_ns` long and the next ones start.
    ///
    /// # Errors
    /// If the size is not a whole number of steps, or as for [`WindowSpec::hop`].
    pub fn cumulate(step_ns: i64, size_ns: i64, offset_ns: i64) -> Result<Self> {
        check_length("size", size_ns, 1)?;
        check_length("step", step_ns, 1)?;
        check_length("offset", offset_ns, -SPAN_NS_MAX)?;
        if size_ns % step_ns != 0 {
            return Err(problem(
                "size",
                "is not a whole number of steps".to_owned(),
                "give a size that the step divides, such as a day by the hour".to_owned(),
            ));
        }
        check_overlap("step", size_ns / step_ns)?;
        let offset_ns = offset_ns.rem_euclid(size_ns);
        Ok(Self { slide_ns: size_ns, size_ns, step_ns, offset_ns })
    }

    /// Distance between the starts of neighbouring windows.
    #[must_use]
    pub fn slide_ns(&self) -> i64 {
        self.slide_ns
    }

    /// Length of the longest window from each start.
    #[must_use]
    pub fn size_ns(&self) -> i64 {
        self.size_ns
    }

    /// By how much the windows from one start differ in length; the size, where there is one window from each start.
    #[must_use]
    pub fn step_ns(&self) -> i64 {
        self.step_ns
    }

    /// Start of one of the windows relative to 1970, at least 0 and less than the slide.
    #[must_use]
    pub fn offset_ns(&self) -> i64 {
        self.offset_ns
    }

    /// Whether each row belongs to exactly one window.
    #[must_use]
    pub fn is_tumble(&self) -> bool {
        self.slide_ns == self.size_ns && !self.is_cumulate()
    }

    /// Whether several windows share a start.
    #[must_use]
    pub fn is_cumulate(&self) -> bool {
        self.step_ns < self.size_ns
    }

    /// Length of a pane: the greatest common divisor of slide and step.
    #[must_use]
    pub fn pane_ns(&self) -> i64 {
        let (mut a, mut b) = (self.slide_ns, self.step_ns);
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

    /// Start of the last windows that begin at or before `time`; some of them hold `time` unless it lies in a gap.
    #[must_use]
    pub fn last_start(&self, time: EventTime) -> i64 {
        (time.0 - self.offset_ns).div_euclid(self.slide_ns) * self.slide_ns + self.offset_ns
    }

    /// Starts of all windows that hold `time`, the latest first; none where `time` lies in a gap.
    pub fn starts(&self, time: EventTime) -> impl Iterator<Item = i64> + use<> {
        let (last, slide, size) = (self.last_start(time), self.slide_ns, self.size_ns);
        (0..).map(move |k: i64| last - k * slide).take_while(move |start| time.0 - start < size)
    }

    /// Ends of the windows that begin at `start` and hold `time`, the earliest first.
    pub fn ends(&self, start: i64, time: EventTime) -> impl Iterator<Item = i64> + use<> {
        let (step, steps) = (self.step_ns, self.size_ns / self.step_ns);
        let first = (time.0 - start).div_euclid(step) + 1;
        (first..=steps).map(move |k| start + k * step)
    }

    /// Distance between the ends of neighbouring windows.
    #[must_use]
    pub fn between_ends_ns(&self) -> i64 {
        if self.is_cumulate() { self.step_ns } else { self.slide_ns }
    }

    /// The first end of a window after `time`.
    pub(super) fn first_end_after(&self, time: EventTime) -> i64 {
        let (distance, one) = (self.between_ends_ns(), self.offset_ns + self.size_ns);
        ((time.0 - one).div_euclid(distance) + 1) * distance + one
    }

    /// Start of the one window that ends at `end`.
    pub(super) fn start_of(&self, end: i64) -> i64 {
        if self.is_cumulate() { self.last_start(EventTime(end - 1)) } else { end - self.size_ns }
    }
}

/// Refuses a length outside its range.
pub(super) fn check_length(what: &str, ns: i64, least: i64) -> Result<()> {
    if (least..=SPAN_NS_MAX).contains(&ns) {
        return Ok(());
    }
    Err(problem(
        what,
        format!("is {ns} ns, outside {least} ns to 400 days"),
        "give an interval such as INTERVAL '5 minutes'".to_owned(),
    ))
}

/// Refuses windows that overlap too often.
pub(super) fn check_overlap(what: &str, windows: i64) -> Result<()> {
    if windows <= WINDOWS_PER_ROW_MAX {
        return Ok(());
    }
    Err(problem(
        what,
        format!("puts each row into {windows} windows"),
        format!("a size of at most {WINDOWS_PER_ROW_MAX} {what}s keeps work bounded"),
    ))
}

pub(super) fn problem(option: &str, problem: String, hint: String) -> OperatorError {
    OperatorError::Option { owner: "window".into(), option: option.into(), problem, hint }
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
        assert_eq!(hop.ends(4, EventTime(7)).collect::<Vec<_>>(), [10]);
    }

    #[test]
    fn slide_above_size_leaves_gaps() {
        let hop = WindowSpec::hop(10, 4, 0).unwrap();
        assert_eq!(starts(hop, 13), [10]);
        assert!(starts(hop, 14).is_empty());
        assert_eq!(hop.pane_ns(), 2);
    }

    #[test]
    fn a_row_is_in_every_step_of_a_cumulate_that_ends_after_it() {
        let cumulate = WindowSpec::cumulate(2, 6, 1).unwrap();
        let ends = |time| {
            let [start] = starts(cumulate, time)[..] else { panic!("one start") };
            (start, cumulate.ends(start, EventTime(time)).collect::<Vec<_>>())
        };
        assert_eq!(ends(1), (1, vec![3, 5, 7]));
        assert_eq!(ends(3), (1, vec![5, 7]));
        assert_eq!(ends(6), (1, vec![7]));
        assert_eq!(ends(-1), (-5, vec![1]));
        assert_eq!(cumulate.pane_ns(), 2);
        assert!(!cumulate.is_tumble());
        assert!(WindowSpec::cumulate(6, 6, 0).unwrap().is_tumble());
    }

    #[test]
    fn every_end_has_one_start() {
        for (spec, time, end, start) in [
            (WindowSpec::hop(4, 6, 1).unwrap(), 7, 11, 5),
            (WindowSpec::hop(4, 6, 1).unwrap(), 10, 11, 5),
            (WindowSpec::hop(4, 6, 1).unwrap(), -6, -5, -11),
            (WindowSpec::cumulate(2, 6, 1).unwrap(), 1, 3, 1),
            (WindowSpec::cumulate(2, 6, 1).unwrap(), 6, 7, 1),
            (WindowSpec::cumulate(2, 6, 1).unwrap(), -6, -5, -11),
        ] {
            assert_eq!(spec.first_end_after(EventTime(time)), end, "{spec:?}");
            assert_eq!(spec.start_of(end), start, "{spec:?}");
        }
    }

    #[test]
    fn offsets_wrap_into_the_slide() {
        let tumble = WindowSpec::tumble(10, -3).unwrap();
        assert_eq!(tumble.offset_ns(), 7);
        assert_eq!(starts(tumble, 6), [-3]);
        assert_eq!(starts(tumble, 7), [7]);
        assert_eq!(tumble.pane_start(EventTime(-4)), -13);
        assert_eq!(WindowSpec::cumulate(2, 6, -1).unwrap().offset_ns(), 5);
    }

    #[test]
    fn lengths_are_checked() {
        for bad in [0, -1, i64::MIN, i64::MAX] {
            assert!(WindowSpec::tumble(bad, 0).is_err());
            assert!(WindowSpec::cumulate(bad, 10, 0).is_err());
            assert!(WindowSpec::cumulate(1, bad, 0).is_err());
        }
        assert!(WindowSpec::hop(1, 10, i64::MIN).is_err());
        assert!(WindowSpec::hop(1, WINDOWS_PER_ROW_MAX, 0).is_ok());
        assert!(WindowSpec::hop(1, WINDOWS_PER_ROW_MAX + 1, 0).is_err());
        assert!(WindowSpec::cumulate(1, WINDOWS_PER_ROW_MAX, 0).is_ok());
        assert!(WindowSpec::cumulate(1, WINDOWS_PER_ROW_MAX + 1, 0).is_err());
        assert!(WindowSpec::cumulate(4, 6, 0).is_err());
        assert!(WindowSpec::cumulate(6, 4, 0).is_err());
        let edge = WindowSpec::hop(SPAN_NS_MAX, SPAN_NS_MAX, -SPAN_NS_MAX).unwrap();
        for time in [EventTime::EARLIEST, EventTime::LATEST] {
            assert_eq!(edge.starts(time).count(), 1);
        }
    }
}
