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

/// The watermarks of one relation by epoch, as one worker knows them.
///
/// The runtime records the watermark of an epoch before the dataflow's input leaves that epoch, so an operator
/// whose frontier has passed the epoch always finds it.
#[derive(Clone, Debug, Default)]
pub struct Watermarks(Rc<RefCell<BTreeMap<Epoch, EventTime>>>);

impl Watermarks {
    /// Records the watermark in force once `epoch` has closed.
    pub fn record(&self, epoch: Epoch, watermark: EventTime) {
        self.0.borrow_mut().insert(epoch, watermark);
    }

    /// The watermark in force once `epoch` has closed.
    #[must_use]
    pub fn at(&self, epoch: Epoch) -> EventTime {
        self.0.borrow().range(..=epoch).next_back().map_or(EventTime::MIN, |(_, w)| *w)
    }

    /// The first of these epochs that has a watermark of its own.
    #[must_use]
    pub fn next_change(&self, epochs: std::ops::RangeInclusive<Epoch>) -> Option<Epoch> {
        self.0.borrow().range(epochs).next().map(|(epoch, _)| *epoch)
    }

    /// The last epoch that has a watermark of its own.
    #[must_use]
    pub fn last_change(&self) -> Option<Epoch> {
        self.0.borrow().last_key_value().map(|(epoch, _)| *epoch)
    }

    /// Forgets all but the newest entry at or below `epoch`: nobody asks about earlier ones again.
    pub fn forget_before(&self, epoch: Epoch) {
        let mut table = self.0.borrow_mut();
        if let Some((&keep, _)) = table.range(..=epoch).next_back() {
            *table = table.split_off(&keep);
        }
    }
}
