//! Event time, epochs and watermarks: when rows happened, and what is known to have arrived.
//!
//! The engine's timely timestamp is an epoch, a counter. Event time is a column. A watermark ties the two: when
//! epoch `e` has closed with watermark `w`, no later epoch holds an in-time row with an event time below `w`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

/// A counter that the engine advances every few milliseconds; the timely timestamp of every dataflow.
pub type Epoch = u64;

/// A point in event time: nanoseconds since 1970-01-01T00:00:00Z, negative before it.
///
/// Rows may carry times from [`EventTime::EARLIEST`] to [`EventTime::LATEST`], years 1679 to 2260. The margin to
/// the ends of `i64` is what window arithmetic needs to be free of overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventTime(pub i64);

impl EventTime {
    /// Below every row: the watermark of a source that has said nothing.
    pub const MIN: Self = Self(i64::MIN);
    /// Above every row: the watermark of a source that has ended.
    pub const MAX: Self = Self(i64::MAX);
    /// The earliest time that a row may carry.
    pub const EARLIEST: Self = Self(i64::MIN + SPAN_NS_MAX * 2);
    /// The latest time that a row may carry.
    pub const LATEST: Self = Self(i64::MAX - SPAN_NS_MAX * 2);

    /// Whether a row may carry this time.
    #[must_use]
    pub fn is_in_range(self) -> bool {
        Self::EARLIEST <= self && self <= Self::LATEST
    }

    /// This time moved back, staying at the ends once there.
    #[must_use]
    pub fn minus_ns(self, ns: i64) -> Self {
        match self {
            Self::MIN | Self::MAX => self,
            Self(t) => Self(t.saturating_sub(ns)),
        }
    }
}

/// The longest window, slide, offset, disorder or lateness: 400 days in nanoseconds.
pub const SPAN_NS_MAX: i64 = 400 * 86_400 * 1_000_000_000;

/// The watermarks of one or more sources by epoch, as one worker knows them. That of several is the least of theirs.
///
/// The runtime records the watermark of an epoch before the dataflow's input leaves that epoch, so an operator
/// whose frontier has passed the epoch always finds it.
#[derive(Clone, Debug)]
pub struct Watermarks(Vec<Table>);

/// The watermarks of one source; whoever follows the source shares it.
type Table = Rc<RefCell<Told>>;

/// What a source has said.
#[derive(Debug)]
struct Told {
    by_epoch: BTreeMap<Epoch, EventTime>,
    /// Where its watermark stood last before it ended.
    at_end: EventTime,
}

impl Default for Told {
    fn default() -> Self {
        Self { by_epoch: BTreeMap::new(), at_end: EventTime::MIN }
    }
}

impl Default for Watermarks {
    /// Those of one source that has said nothing yet.
    fn default() -> Self {
        Self(vec![Table::default()])
    }
}

impl Watermarks {
    /// Those of the sources of both.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        for table in &other.0 {
            if !self.0.iter().any(|own| Rc::ptr_eq(own, table)) {
                self.0.push(Rc::clone(table));
            }
        }
        self
    }

    /// Records the watermark in force once `epoch` has closed. Each source records its own.
    pub fn record(&self, epoch: Epoch, watermark: EventTime) {
        debug_assert_eq!(self.0.len(), 1, "sources record their watermarks one by one");
        self.0[0].borrow_mut().by_epoch.insert(epoch, watermark);
    }

    /// Records where the watermark stands while the source is open; the last word is that at its end.
    pub fn record_end(&self, watermark: EventTime) {
        debug_assert_eq!(self.0.len(), 1, "sources record their watermarks one by one");
        self.0[0].borrow_mut().at_end = watermark;
    }

    /// Where the watermark stood when the sources had ended: that of the one that came furthest, so that it does not
    /// matter which of them ended last.
    #[must_use]
    pub fn at_end(&self) -> EventTime {
        self.0.iter().map(|table| table.borrow().at_end).max().unwrap_or(EventTime::MIN)
    }

    /// The watermark in force once `epoch` has closed.
    #[must_use]
    pub fn at(&self, epoch: Epoch) -> EventTime {
        let of =
            |table: &Table| table.borrow().by_epoch.range(..=epoch).next_back().map(|(_, w)| *w);
        self.0
            .iter()
            .map(|table| of(table).unwrap_or(EventTime::MIN))
            .min()
            .unwrap_or(EventTime::MIN)
    }

    /// The first of these epochs in which a source has said something.
    #[must_use]
    pub fn next_change(&self, epochs: std::ops::RangeInclusive<Epoch>) -> Option<Epoch> {
        let first =
            |table: &Table| table.borrow().by_epoch.range(epochs.clone()).next().map(|(e, _)| *e);
        self.0.iter().filter_map(first).min()
    }

    /// The last epoch in which a source has said something.
    #[must_use]
    pub fn last_change(&self) -> Option<Epoch> {
        let last =
            |table: &Table| table.borrow().by_epoch.last_key_value().map(|(epoch, _)| *epoch);
        self.0.iter().filter_map(last).max()
    }

    /// Forgets all but the newest entry of each source at or below `epoch`: nobody asks about earlier ones again.
    pub fn forget_before(&self, epoch: Epoch) {
        for table in &self.0 {
            let table = &mut table.borrow_mut().by_epoch;
            if let Some((&keep, _)) = table.range(..=epoch).next_back() {
                *table = table.split_off(&keep);
            }
        }
    }
}
