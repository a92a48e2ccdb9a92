//! When to act: the epochs that have closed since an operator last looked, and the capability to answer in them.

use timely::dataflow::operators::Capability;
use timely::progress::frontier::MutableAntichain;

use crate::time::{Epoch, EventTime, Watermarks};

/// Follows an operator's input frontier from epoch to epoch.
///
/// The operator may still answer in any epoch that has not closed, even one that brings no rows, because a window
/// can end by the watermark alone. So the capability of the oldest open epoch is held until that epoch has closed
/// and been answered, and given up for good when the input has ended.
///
/// Where several epochs have closed at once, those with a watermark of their own are answered one after another. So
/// what a watermark completes leaves every worker in the same epoch, however often timely ran the operator, and whoever
/// reads it may rely on that.
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

    /// The next closed epoch that has not been answered yet: what is complete in it, and the capability to say so. To be
    /// called until there is none.
    ///
    /// The time is the watermark less the lag; [`EventTime::MAX`] when the input has ended.
    pub(super) fn next_closed(
        &mut self,
        frontier: &MutableAntichain<Epoch>,
    ) -> Option<(EventTime, Capability<Epoch>)> {
        let capability = self.capability.as_mut()?;
        let epoch = *capability.time();
        let (last, is_end) = match frontier.frontier().first() {
            Some(open) if epoch < *open => (open - 1, false),
            Some(_) => return None,
            // Every worker has been told of the end in the same epoch.
            None => (self.watermarks.last_change().map_or(epoch, |last| last.max(epoch)), true),
        };
        let next = self.watermarks.next_change(epoch..=last).unwrap_or(last);
        let now = capability.delayed(&next);
        if is_end && next == last {
            self.capability = None;
            return Some((EventTime::MAX, now));
        }
        capability.downgrade(&(next + 1));
        Some((self.watermarks.at(next).minus_ns(self.lag_ns), now))
    }
}

/// The frontier of two inputs that is behind; an epoch has closed when both have left it.
pub(super) fn earlier<'a>(
    one: &'a MutableAntichain<Epoch>,
    other: &'a MutableAntichain<Epoch>,
) -> &'a MutableAntichain<Epoch> {
    match (one.frontier().first(), other.frontier().first()) {
        (Some(a), Some(b)) if a > b => other,
        (None, _) => other,
        _ => one,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use timely::container::CapacityContainerBuilder;
    use timely::dataflow::InputHandle;
    use timely::dataflow::channels::pact::Pipeline;
    use timely::dataflow::operators::generic::Operator;

    use super::*;

    #[test]
    fn every_watermark_is_answered_in_its_own_epoch() {
        let found = timely::execute_directly(move |worker| {
            let answers = Rc::new(RefCell::new(Vec::new()));
            let seen = Rc::clone(&answers);
            let watermarks = Watermarks::default();
            watermarks.record(6, EventTime(10));
            let told = watermarks.clone();
            let mut input =
                InputHandle::<Epoch, CapacityContainerBuilder<Vec<u64>>>::new_with_builder();
            worker.dataflow::<Epoch, _, _>(|scope| {
                let stream = input.to_stream(scope);
                stream.unary_frontier::<CapacityContainerBuilder<Vec<u64>>, _, _, _>(
                    Pipeline,
                    "Follow",
                    |capability, _| {
                        let mut closing = Closing::new(capability, told, 1);
                        move |(input, frontier), _output| {
                            input.for_each(|_, rows| rows.clear());
                            while let Some((time, capability)) = closing.next_closed(frontier) {
                                seen.borrow_mut().push((*capability.time(), time.0));
                            }
                        }
                    },
                );
            });
            // The query was installed in epoch 7; then three epochs close before the operator runs, one of them without
            // news, and two more as the input ends.
            input.advance_to(7);
            worker.step();
            for (epoch, watermark) in [(7, 20), (9, 40), (10, 50), (11, 60)] {
                watermarks.record(epoch, EventTime(watermark));
            }
            input.advance_to(10);
            worker.step();
            input.close();
            while worker.step() {}
            answers.take()
        });
        let end = i64::MAX;
        let expected = [(6, 9), (7, 19), (9, 39), (10, 49), (11, end)];
        assert_eq!(found, expected);
    }
}
