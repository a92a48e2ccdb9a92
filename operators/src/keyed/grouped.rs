//! Rows of a batch by their keys, so that what is done with a key's rows is done while its value is in the cache.

use super::table::{Key, KeyTable};
use crate::time::EventTime;

/// The rows of a batch, those of one key next to one another and in their order.
#[derive(Debug, Default)]
pub(crate) struct Grouped {
    /// Where the key of each row stands.
    slots: Vec<u32>,
    /// Where the rows of each slot end in `rows`; those of the next begin there.
    ends: Vec<u32>,
    rows: Vec<u32>,
}

impl Grouped {
    /// The slots of all keys that have rows.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> {
        (0..self.ends.len() as u32).filter(|slot| !self.of(*slot).is_empty())
    }

    /// The rows of a key.
    pub(crate) fn of(&self, slot: u32) -> &[u32] {
        let slot = slot as usize;
        let begin = slot.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.rows[begin as usize..self.ends[slot] as usize]
    }

    /// Sorts rows by their slots, of which there are so many.
    fn sort(&mut self, slots: usize) {
        self.ends.clear();
        self.ends.resize(slots + 1, 0);
        for slot in &self.slots {
            self.ends[*slot as usize + 1] += 1;
        }
        for slot in 1..self.ends.len() {
            self.ends[slot] += self.ends[slot - 1];
        }
        // Where the rows of each slot begin, and in the end where they end.
        self.ends.pop();
        self.rows.clear();
        self.rows.resize(self.slots.len(), 0);
        for (row, slot) in self.slots.iter().enumerate() {
            let at = &mut self.ends[*slot as usize];
            self.rows[*at as usize] = row as u32;
            *at += 1;
        }
    }
}

impl<T> KeyTable<T> {
    /// Groups rows by their keys, which are used by that as if the rows came one after the other. A key that is new gets the
    /// time and the value that `make` gives for its first row. Nothing is done, and `false` returned, where there might not be
    /// room for all new keys among `keys_max`.
    pub(crate) fn group<'k>(
        &mut self,
        rows: usize,
        key: impl Fn(usize) -> Key<'k>,
        keys_max: usize,
        grouped: &mut Grouped,
        mut make: impl FnMut(usize) -> (EventTime, T),
    ) -> bool {
        grouped.slots.clear();
        grouped.slots.extend((0..rows).map(|row| self.slot(key(row)).unwrap_or(u32::MAX)));
        let is_new = |slot: &&mut u32| **slot == u32::MAX;
        if self.len() + grouped.slots.iter_mut().filter(is_new).count() > keys_max {
            return false;
        }
        for (row, slot) in grouped.slots.iter_mut().enumerate() {
            if *slot == u32::MAX {
                let known = self.slot(key(row));
                *slot = known.unwrap_or_else(|| {
                    let (time, value) = make(row);
                    let slot = self.len() as u32;
                    self.insert(key(row), time, value);
                    slot
                });
            }
        }
        grouped.sort(self.len());
        let last = |slot: u32| grouped.of(slot).last().map(|row| (*row, slot));
        let mut used: Vec<(u32, u32)> = grouped.slots().filter_map(last).collect();
        used.sort_unstable();
        used.into_iter().for_each(|(_, slot)| {
            self.renew(slot);
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(table: &mut KeyTable<usize>, keys: &[u8], keys_max: usize) -> Option<Vec<Vec<u32>>> {
        let mut grouped = Grouped::default();
        let key = |row: usize| keys.get(row..=row);
        table
            .group(keys.len(), key, keys_max, &mut grouped, |row| (EventTime(row as i64), row))
            .then(|| grouped.slots().map(|slot| grouped.of(slot).to_vec()).collect())
    }

    fn uses(table: &KeyTable<usize>) -> Vec<Option<Box<[u8]>>> {
        table.by_use().map(|entry| entry.key.clone()).collect()
    }

    #[test]
    fn rows_of_a_key_stand_together_in_their_order_and_keys_are_used_by_their_last() {
        let (mut grouped, mut single) = (KeyTable::new(), KeyTable::new());
        for keys in [&[7, 3, 7, 7, 1][..], &[3, 9, 3, 7], &[9], &[]] {
            let rows = group(&mut grouped, keys, 10).unwrap();
            let mut places: Vec<u32> = rows.concat();
            for rows in &rows {
                assert!(rows.is_sorted());
                assert!(rows.iter().all(|row| keys[*row as usize] == keys[rows[0] as usize]));
            }
            places.sort_unstable();
            assert_eq!(places, (0..keys.len() as u32).collect::<Vec<_>>());
            for (row, key) in keys.iter().enumerate() {
                let key = Some(std::slice::from_ref(key));
                if single.touch(key).is_none() {
                    single.insert(key, EventTime(row as i64), row);
                }
            }
            assert_eq!(uses(&grouped), uses(&single));
        }
        // Values are those of first rows.
        let values = |table: &KeyTable<usize>| table.by_use().map(|e| e.value).collect::<Vec<_>>();
        assert_eq!(values(&grouped), values(&single));
    }

    #[test]
    fn nothing_is_done_where_keys_may_lack_room() {
        let mut table = KeyTable::new();
        assert!(group(&mut table, &[1, 2], 2).is_some());
        let before = uses(&table);
        assert!(group(&mut table, &[1, 3], 2).is_none());
        // Two rows of one new key might be two keys.
        assert!(group(&mut table, &[1, 3, 3], 3).is_none());
        assert_eq!(uses(&table), before);
        assert!(group(&mut table, &[1, 3], 3).is_some());
        assert_eq!(table.len(), 3);
    }
}
