//! Slots of a key that brought no row: what its model is told in their place, once the next row ends the gap.

use std::time::Duration;

use crate::options::{OptionKind, OptionReader, OptionSpec};
use crate::time::{EventTime, SPAN_NS_MAX};

/// What stands for a slot without a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MissingSlots {
    /// A row whose values are all missing: nothing is learned, confidence falls.
    #[default]
    Mark,
    /// The values of the last row before the gap are learned again; confidence falls.
    Hold,
    /// Values on the line from the last row before the gap to the first behind it are learned; confidence falls.
    Interpolate,
}

impl MissingSlots {
    /// The word of the option.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Hold => "hold",
            Self::Interpolate => "interpolate",
        }
    }
}

/// Settings of a detector's slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    /// Length of a slot; 0 where rows come when they come.
    length_ns: i64,
    missing: MissingSlots,
    gap_max: i64,
}

impl Slots {
    pub(super) fn options() -> Vec<OptionSpec> {
        vec![
            OptionSpec::new(
                "slot",
                OptionKind::Interval(0, SPAN_NS_MAX),
                Duration::ZERO,
                "Time from one row of a key to the next, where rows come in step; 0 where they do not. Slots that bring \
                 no row are then filled in as `missing` says, when the next row comes.",
            ),
            OptionSpec::new(
                "missing",
                OptionKind::Choice(&["mark", "hold", "interpolate"]),
                "mark",
                "What a model is told of a slot without a row: that it is missing, the last values again, or values \
                 between the last and the next. Confidence falls with each.",
            ),
            OptionSpec::new(
                "gap_max",
                OptionKind::Integer(1, 100_000),
                1_000_i64,
                "Gaps of more slots than this are not filled in.",
            ),
        ]
    }

    pub(super) fn read(reader: &OptionReader) -> Self {
        Self {
            length_ns: reader.interval_ns("slot"),
            missing: match reader.text("missing") {
                "hold" => MissingSlots::Hold,
                "interpolate" => MissingSlots::Interpolate,
                _ => MissingSlots::Mark,
            },
            gap_max: reader.count("gap_max") as i64,
        }
    }

    /// Whether the last row of each key must be kept.
    pub(super) fn keep_last(&self) -> bool {
        self.length_ns > 0 && self.missing != MissingSlots::Mark
    }

    /// The slots between two rows of a key, as numbers; none where the gap is too long, or slots are off.
    pub(super) fn between(&self, last: EventTime, now: EventTime) -> std::ops::Range<i64> {
        if self.length_ns == 0 {
            return 0..0;
        }
        let slot = |time: EventTime| time.0.div_euclid(self.length_ns);
        let (first, end) = (slot(last) + 1, slot(now));
        if end - first > self.gap_max { 0..0 } else { first..end }
    }

    /// When a slot begins.
    pub(super) fn start(&self, slot: i64) -> EventTime {
        EventTime(slot.saturating_mul(self.length_ns))
    }

    /// The values of `slot`, between the last row's and the next one's.
    pub(super) fn fill(
        &self,
        slot: i64,
        last: (EventTime, &[f64]),
        next: (EventTime, &[f64]),
        out: &mut Vec<f64>,
    ) {
        let number = |time: EventTime| time.0.div_euclid(self.length_ns);
        let (first, end) = (number(last.0), number(next.0));
        let share = (slot - first) as f64 / (end - first) as f64;
        out.clear();
        out.extend(next.1.iter().enumerate().map(|(feature, next)| {
            let last = last.1.get(feature).copied().unwrap_or(f64::NAN);
            match self.missing {
                MissingSlots::Mark => f64::NAN,
                MissingSlots::Hold => last,
                MissingSlots::Interpolate => last + (next - last) * share,
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x_05_slots_between_rows_are_found_and_filled() {
        let slots = |missing| Slots { length_ns: 10, missing, gap_max: 5 };
        let hold = slots(MissingSlots::Hold);
        let between = |last, now| hold.between(EventTime(last), EventTime(now));
        assert_eq!(between(3, 9), 1..0, "one slot");
        assert!(between(3, 12).is_empty() && between(9, 10).is_empty(), "the next slot");
        assert_eq!(between(-15, 12), -1..1, "before 1970");
        assert_eq!(between(0, 69), 1..6);
        assert_eq!(between(0, 70), 0..0, "longer than gap_max");
        assert!(Slots { length_ns: 0, ..hold }.between(EventTime(0), EventTime(90)).is_empty());
        assert_eq!(hold.start(-1), EventTime(-10));

        let fill = |missing, slot| {
            let mut out = Vec::new();
            let (last, next) =
                ((EventTime(3), &[1.0, f64::NAN][..]), (EventTime(44), &[5.0, 2.0][..]));
            slots(missing).fill(slot, last, next, &mut out);
            out.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(fill(MissingSlots::Hold, 2), "1 NaN");
        assert_eq!(fill(MissingSlots::Interpolate, 1), "2 NaN");
        assert_eq!(fill(MissingSlots::Interpolate, 3), "4 NaN");
        assert_eq!(fill(MissingSlots::Mark, 3), "NaN NaN");
    }
}
