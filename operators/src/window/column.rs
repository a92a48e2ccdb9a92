//! Event-time columns: reading them as nanoseconds and writing window bounds in their type.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{
    ArrowTimestampType, DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};

use super::Window;
use crate::error::{OperatorError, Result};
use crate::time::EventTime;

/// The type of an event-time column: a timestamp of some unit, with or without a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeType {
    unit: TimeUnit,
    zone: Option<Arc<str>>,
}

impl TimeType {
    /// The event-time type for an Arrow type.
    ///
    /// # Errors
    /// If the type is not a timestamp.
    pub fn new(data_type: &DataType) -> Result<Self> {
        match data_type {
            DataType::Timestamp(unit, zone) => Ok(Self { unit: *unit, zone: zone.clone() }),
            other => Err(OperatorError::Columns {
                owner: "event time".into(),
                problem: format!("is a column of type {other}"),
                hint: "event time must be a TIMESTAMP column".into(),
            }),
        }
    }

    /// The Arrow type.
    #[must_use]
    pub fn data_type(&self) -> DataType {
        DataType::Timestamp(self.unit, self.zone.clone())
    }

    /// Nanoseconds in one unit.
    #[must_use]
    pub fn unit_ns(&self) -> i64 {
        match self.unit {
            TimeUnit::Second => 1_000_000_000,
            TimeUnit::Millisecond => 1_000_000,
            TimeUnit::Microsecond => 1_000,
            TimeUnit::Nanosecond => 1,
        }
    }

    /// Checks that window bounds can be written in this type without rounding.
    ///
    /// # Errors
    /// If a length or the offset is not a whole number of units.
    pub fn check(&self, window: &Window) -> Result<()> {
        let unit = self.unit_ns();
        let fits = match window {
            Window::Aligned(window) => {
                [window.slide_ns(), window.size_ns(), window.step_ns(), window.offset_ns()]
                    .iter()
                    .all(|ns| ns % unit == 0)
            }
            Window::Session(session) => session.gap_ns() % unit == 0,
            Window::Count(_) => true,
        };
        if fits {
            return Ok(());
        }
        Err(OperatorError::Columns {
            owner: "window".into(),
            problem: format!("has bounds finer than its time column, which counts in {unit} ns"),
            hint: "use a TIMESTAMP of finer precision, or a window of whole units".into(),
        })
    }

    /// The column's values in nanoseconds; times beyond the range of nanoseconds stop at its ends. Nulls read as
    /// any value: the caller looks at the column's validity.
    #[must_use]
    pub fn read(&self, column: &ArrayRef) -> ScalarBuffer<i64> {
        let values = self.ticks(column);
        if self.unit == TimeUnit::Nanosecond {
            return values.clone();
        }
        let unit = self.unit_ns();
        values.iter().map(|value| value.saturating_mul(unit)).collect()
    }

    /// Whether every time of the column is one that a row may carry. Window arithmetic counts on it.
    ///
    /// A source has seen to its own rows, but the bounds of a window may lie beyond the last moment of a row.
    #[must_use]
    pub fn is_in_range(&self, column: &ArrayRef) -> bool {
        // In the column's own unit, with one comparison: before the earliest is, without a sign, far beyond the latest.
        let unit = self.unit_ns();
        let (earliest, latest) = (EventTime::EARLIEST.0 / unit, EventTime::LATEST.0 / unit);
        let span = latest.abs_diff(earliest);
        let is_in = |value: &i64| value.wrapping_sub(earliest).cast_unsigned() <= span;
        self.ticks(column).iter().fold(true, |all, value| all & is_in(value))
    }

    /// The latest time of a column without nulls; none of one without rows.
    #[must_use]
    pub fn latest(&self, column: &ArrayRef) -> Option<EventTime> {
        let latest = self.ticks(column).iter().max()?;
        Some(EventTime(latest.saturating_mul(self.unit_ns())))
    }

    /// The column's values in its own unit.
    fn ticks<'c>(&self, column: &'c ArrayRef) -> &'c ScalarBuffer<i64> {
        match self.unit {
            TimeUnit::Second => column.as_primitive::<TimestampSecondType>().values(),
            TimeUnit::Millisecond => column.as_primitive::<TimestampMillisecondType>().values(),
            TimeUnit::Microsecond => column.as_primitive::<TimestampMicrosecondType>().values(),
            TimeUnit::Nanosecond => column.as_primitive::<TimestampNanosecondType>().values(),
        }
    }

    /// A column of this type from nanoseconds.
    #[must_use]
    pub fn write(&self, ns: impl Iterator<Item = i64>) -> ArrayRef {
        match self.unit {
            TimeUnit::Second => self.array::<TimestampSecondType>(ns),
            TimeUnit::Millisecond => self.array::<TimestampMillisecondType>(ns),
            TimeUnit::Microsecond => self.array::<TimestampMicrosecondType>(ns),
            TimeUnit::Nanosecond => self.array::<TimestampNanosecondType>(ns),
        }
    }

    fn array<T: ArrowTimestampType>(&self, ns: impl Iterator<Item = i64>) -> ArrayRef {
        let unit = self.unit_ns();
        let values = ns.map(|ns| ns.div_euclid(unit));
        let array = PrimitiveArray::<T>::from_iter_values(values);
        Arc::new(array.with_timezone_opt(self.zone.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::{SessionSpec, WindowSpec};

    #[test]
    fn times_survive_the_way_there_and_back() {
        for unit in
            [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond]
        {
            for zone in [None, Some("Europe/Berlin".into())] {
                let time = TimeType::new(&DataType::Timestamp(unit, zone)).unwrap();
                let ns = [-2_000_000_000, 0, 86_400_000_000_000];
                let column = time.write(ns.into_iter());
                assert_eq!(*column.data_type(), time.data_type());
                assert_eq!(*time.read(&column), ns);
                assert_eq!(time.latest(&column), Some(EventTime(86_400_000_000_000)));
                assert_eq!(time.latest(&column.slice(0, 2)), Some(EventTime(0)));
                assert_eq!(time.latest(&column.slice(0, 0)), None);
            }
        }
    }

    #[test]
    fn bounds_finer_than_the_column_are_refused() {
        let seconds = TimeType::new(&DataType::Timestamp(TimeUnit::Second, None)).unwrap();
        let tumble = |size, offset| {
            seconds.check(&Window::Aligned(WindowSpec::tumble(size, offset).unwrap()))
        };
        assert!(tumble(1_500_000_000, 0).is_err());
        assert!(tumble(2_000_000_000, 1).is_err());
        assert!(tumble(2_000_000_000, 1_000_000_000).is_ok());
        let session = |gap| seconds.check(&Window::Session(SessionSpec::new(gap).unwrap()));
        assert!(session(1_500_000_000).is_err());
        assert!(session(1_000_000_000).is_ok());
    }

    #[test]
    fn times_that_no_row_may_carry_are_seen() {
        for unit in [TimeUnit::Second, TimeUnit::Nanosecond] {
            let time = TimeType::new(&DataType::Timestamp(unit, None)).unwrap();
            let at = |ns: i64| time.is_in_range(&time.write([0, ns].into_iter()));
            let step = time.unit_ns();
            for (edge, outwards) in [(EventTime::EARLIEST.0, -step), (EventTime::LATEST.0, step)] {
                assert!(at(edge / step * step) && !at(edge / step * step + outwards), "{unit:?}");
            }
            assert!(time.is_in_range(&time.write(std::iter::empty())));
        }
    }

    #[test]
    fn times_beyond_nanoseconds_stop_at_the_ends() {
        let seconds = TimeType::new(&DataType::Timestamp(TimeUnit::Second, None)).unwrap();
        let column = seconds.array::<TimestampSecondType>([0].into_iter());
        assert_eq!(*seconds.read(&column), [0]);
        let extreme: ArrayRef =
            Arc::new(PrimitiveArray::<TimestampSecondType>::from_iter_values([i64::MIN, i64::MAX]));
        assert_eq!(*seconds.read(&extreme), [i64::MIN, i64::MAX]);
    }
}
