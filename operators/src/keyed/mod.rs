//! State by key with a bound on the number of keys: what every operator that keeps something for each key, for as long
//! as it runs, has in common.
//!
//! Windows hold keys until they close and count them among their groups; what is here is for state that no window ends.

mod grouped;
mod table;

use serde::{Deserialize, Serialize};

use crate::time::EventTime;
pub(crate) use grouped::Grouped;
pub(crate) use table::{Entry, Found, Key, KeyTable};

/// What becomes of a row whose key is new, when an operator holds as many keys as it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyedStatePolicy {
    /// The row is refused and counted. Keys that are held stay.
    Refuse,
    /// The key that has been without a row for longest, by event time, is forgotten and counted. If it comes again, it
    /// comes as a new one.
    #[default]
    EvictOldest,
}

/// How many keys an operator holds on one worker, and what it does about others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLimit {
    /// Most keys.
    pub keys_max: usize,
    /// What happens to a row with one more.
    pub policy: KeyedStatePolicy,
}

/// A value for each key, at most so many of them.
///
/// Rows must come in order of event time. Then the order in which keys were used is the order of the times of their
/// latest rows, and whom the bound hits depends on rows alone, not on how they were cut into batches.
#[derive(Debug)]
pub(crate) struct KeyedState<T> {
    table: KeyTable<T>,
    limit: KeyLimit,
    evicted: u64,
}

impl<T> KeyedState<T> {
    /// No keys yet.
    pub(crate) fn new(limit: KeyLimit) -> Self {
        let keys_max = limit.keys_max.clamp(1, u32::MAX as usize - 1);
        Self { table: KeyTable::new(), limit: KeyLimit { keys_max, ..limit }, evicted: 0 }
    }

    /// How many keys are held.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The value of a key that has a row at `time`; one that `make` makes if the key is new. `None` if the row is refused.
    /// The value of a key that is evicted is handed to `evicted`.
    pub(crate) fn at(
        &mut self,
        key: Key<'_>,
        time: EventTime,
        make: impl FnOnce() -> T,
        evicted: impl FnOnce(T),
    ) -> Option<&mut T> {
        if self.table.touch(key).is_none() {
            if self.table.len() >= self.limit.keys_max {
                if self.limit.policy == KeyedStatePolicy::Refuse {
                    return None;
                }
                self.table.drop_oldest().map(evicted);
                self.evicted += 1;
            }
            self.table.insert(key, time, make());
        }
        // The key is the newest now, which is found without hashing.
        let entry = self.table.touch(key)?;
        entry.time = time;
        Some(&mut entry.value)
    }

    /// The value of a key, which is not used by that.
    pub(crate) fn peek(&self, key: Key<'_>) -> Option<&T> {
        self.table.peek(key)
    }

    /// All keys with their values, the one first that has been without a row for longest.
    pub(crate) fn by_use(&self) -> impl Iterator<Item = &Entry<T>> {
        self.table.by_use()
    }

    /// Takes up a key that is not held, as the one that was used last, whatever the bound.
    pub(crate) fn take_up(&mut self, key: Key<'_>, time: EventTime, value: T) {
        if self.table.peek(key).is_none() {
            self.table.insert(key, time, value);
        }
    }

    /// Evicts keys beyond the bound, where keys are evicted.
    pub(crate) fn bound(&mut self, mut evicted: impl FnMut(T)) {
        let is_evicting = self.limit.policy == KeyedStatePolicy::EvictOldest;
        while is_evicting && self.table.len() > self.limit.keys_max {
            self.table.drop_oldest().map(&mut evicted);
            self.evicted += 1;
        }
    }

    /// Takes out the value of the key that has been without a row for longest, if its latest was before `time`.
    pub(crate) fn take_older(&mut self, time: EventTime) -> Option<T> {
        self.table.oldest().filter(|oldest| oldest.time < time)?;
        self.table.drop_oldest()
    }

    /// Keys evicted since the last call.
    pub(crate) fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// Bytes of keys and table, the values' own heap not among them.
    pub(crate) fn bytes(&self) -> usize {
        self.table.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(keys_max: usize, policy: KeyedStatePolicy) -> KeyedState<i64> {
        KeyedState::new(KeyLimit { keys_max, policy })
    }

    fn row(state: &mut KeyedState<i64>, key: u8, time: i64) -> (Option<i64>, Option<i64>) {
        let mut gone = None;
        let held = state.at(Some(&[key]), EventTime(time), || time, |value| gone = Some(value));
        (held.copied(), gone)
    }

    #[test]
    fn rows_of_new_keys_are_refused_at_the_bound() {
        let mut state = state(2, KeyedStatePolicy::Refuse);
        assert_eq!(row(&mut state, 1, 10), (Some(10), None));
        assert_eq!(row(&mut state, 2, 11), (Some(11), None));
        assert_eq!(row(&mut state, 3, 12), (None, None));
        assert_eq!(row(&mut state, 1, 13), (Some(10), None), "keys that are held stay");
        assert_eq!((state.len(), state.take_evicted()), (2, 0));
    }

    #[test]
    fn the_key_without_a_row_for_longest_makes_room() {
        let mut state = state(2, KeyedStatePolicy::EvictOldest);
        row(&mut state, 1, 10);
        row(&mut state, 2, 11);
        row(&mut state, 1, 12);
        assert_eq!(row(&mut state, 3, 13), (Some(13), Some(11)));
        assert_eq!(row(&mut state, 2, 14), (Some(14), Some(10)), "it comes as a new one");
        assert_eq!((state.len(), state.take_evicted(), state.take_evicted()), (2, 2, 0));
    }

    #[test]
    fn keys_are_taken_out_by_the_time_of_their_latest_row() {
        let mut state = state(9, KeyedStatePolicy::Refuse);
        row(&mut state, 1, 10);
        row(&mut state, 2, 11);
        row(&mut state, 1, 20);
        assert_eq!(state.take_older(EventTime(12)), Some(11));
        assert_eq!(state.take_older(EventTime(20)), None);
        assert_eq!(state.take_older(EventTime(21)), Some(10));
        assert_eq!((state.take_older(EventTime::MAX), state.len()), (None, 0));
    }
}
