//! When to act: the epochs that have closed since an operator last looked, and the capability to answer in them.

use timely::dataflow::operators::Capability;
use timely::order::PartialOrder;
use timely::progress::frontier::MutableAntichain;

use crate::time::{Epoch, EventTime, Watermarks};

/// Follows an operator's input frontier from epoch to epoch.
///
/// The operator may still answer in any epoch that has not closed, even one that brings no rows, because a window
/// can end by the watermark alone. So the capability of the oldest open epoch is held until that epoch has closed
/// and been answered, and given up for good when the input has ended.
#[derive(Debug)]
pub(super) struct Closing {
    capability: Option<Capability<Epoch>>,
    watermarks: Watermarks,
    lag_ns: i64,
}

impl Closing {
    /// Starts with the capability that timely hands to every operator.
    ///
    /// `lag_ns` is how far rows may lie below the watermark of earlier epochs.
    #[must_use]
    pub(super) fn new(capability: Capability<Epoch>, watermarks: Watermarks, lag_ns: i64) -> Self {
        Self { capability: Some(capability), watermarks, lag_ns }
    }

    /// If epochs have closed since the last call: what is complete now, and the capability to say so.
    ///
    /// The time is the watermark less the lag; [`EventTime::MAX`] when the input has ended.
    pub(super) fn next(
        &mut self,
        frontier: &MutableAntichain<Epoch>,
    ) -> Option<(EventTime, Capability<Epoch>)> {
        let capability = self.capability.as_mut()?;
        match frontier.frontier().first() {
            None => {
                let capability = self.capability.take().expect("present above");
                Some((EventTime::MAX, capability))
            }
            Some(open) if capability.time().less_than(open) => {
                let last_closed = open - 1;
                let now = capability.delayed(&last_closed);
                capability.downgrade(open);
                Some((self.watermarks.at(last_closed).minus_ns(self.lag_ns), now))
            }
            Some(_) => None,
        }
    }
}
