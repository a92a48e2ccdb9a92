//! The table of keys: one entry per key, a bound on their number, and the order in which they were used.
//!
//! Entries are linked from the most to the least recently used, so that touching, adding and dropping one take the
//! same time however many there are. The order of use is the order of rows, never of hashes.

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::key::hash_key;
use crate::time::EventTime;

const NONE: u32 = u32::MAX;

/// The bytes of a key; `None` is the NULL of a single text key.
pub(crate) type Key<'a> = Option<&'a [u8]>;

/// One key with its value.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub(crate) key: Option<Box<[u8]>>,
    /// Time of the key's latest row.
    pub(crate) time: EventTime,
    pub(crate) value: T,
    /// Counts up with each use that is not one of the newest: among keys of one time it says which was used before.
    pub(crate) used: u64,
    newer: u32,
    older: u32,
}

/// Keys with a value each, in order of use.
#[derive(Debug)]
pub(crate) struct KeyTable<T> {
    /// Fixed seeds: nothing that is visible depends on the hash, but neither should speed.
    hash: FixedState,
    index: HashTable<u32>,
    entries: Vec<Entry<T>>,
    newest: u32,
    oldest: u32,
    uses: u64,
    key_bytes: usize,
    /// How often an entry may have changed its slot.
    moves: u64,
}

/// Where the keys of some rows stand.
#[derive(Debug, Default)]
pub(crate) struct Found {
    slots: Vec<u32>,
    /// What the table had counted then.
    moves: u64,
}

impl<T> KeyTable<T> {
    pub(crate) fn new() -> Self {
        Self {
            hash: FixedState::with_seed(1),
            index: HashTable::new(),
            entries: Vec::new(),
            newest: NONE,
            oldest: NONE,
            uses: 0,
            key_bytes: 0,
            moves: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry of a key, which becomes the most recently used.
    pub(crate) fn touch(&mut self, key: Key<'_>) -> Option<&mut Entry<T>> {
        // Runs of one key are common, and need no hashing.
        let newest = self.newest;
        if newest == NONE {
            return None;
        }
        if self.entries[newest as usize].key.as_deref() == key {
            return Some(&mut self.entries[newest as usize]);
        }
        let slot = self.slot(key)?;
        Some(self.renew(slot))
    }

    /// Where a key stands.
    pub(super) fn slot(&self, key: Key<'_>) -> Option<u32> {
        let hash = hash_key(&self.hash, key);
        let is_key = |slot: &u32| self.entries[*slot as usize].key.as_deref() == key;
        self.index.find(hash, is_key).copied()
    }

    /// Makes an entry the most recently used.
    pub(super) fn renew(&mut self, slot: u32) -> &mut Entry<T> {
        if slot != self.newest {
            self.unlink(slot);
            self.link_newest(slot);
        }
        &mut self.entries[slot as usize]
    }

    /// Looks up the keys of some rows, and shows their values to `warm`. Where there are more keys than fit into a cache each
    /// step of this is a miss: one after the other between what is done with the rows they would add up, and in a loop of
    /// their own those of several rows overlap. So few rows at a time that they are still in the cache when it is their turn.
    pub(crate) fn find<'k>(
        &self,
        keys: impl Iterator<Item = Key<'k>>,
        found: &mut Found,
        mut warm: impl FnMut(&T),
    ) {
        found.moves = self.moves;
        found.slots.clear();
        found.slots.extend(keys.map(|key| self.slot(key).unwrap_or(NONE)));
        for &slot in found.slots.iter().filter(|slot| **slot != NONE) {
            warm(&self.entries[slot as usize].value);
        }
    }

    /// As [`KeyTable::touch`], for the key of a row that was looked up.
    pub(crate) fn touch_found(
        &mut self,
        found: &Found,
        row: usize,
        key: Key<'_>,
    ) -> Option<&mut Entry<T>> {
        match found.slots.get(row) {
            Some(&slot) if slot != NONE && found.moves == self.moves => Some(self.renew(slot)),
            // New then, and perhaps not any more; or it may stand elsewhere now.
            _ => self.touch(key),
        }
    }

    /// The entry in a slot, where [`KeyTable::group`] has put rows.
    pub(crate) fn in_slot(&self, slot: u32) -> &Entry<T> {
        &self.entries[slot as usize]
    }

    /// As [`KeyTable::in_slot`].
    pub(crate) fn in_slot_mut(&mut self, slot: u32) -> &mut Entry<T> {
        &mut self.entries[slot as usize]
    }

    /// The most recently used entry.
    pub(crate) fn newest_mut(&mut self) -> Option<&mut Entry<T>> {
        self.entries.get_mut(self.newest as usize)
    }

    /// The value of a key, wherever it is in the order of use.
    pub(crate) fn peek(&self, key: Key<'_>) -> Option<&T> {
        self.slot(key).map(|slot| &self.entries[slot as usize].value)
    }

    /// Adds a key that is not in the table, as the most recently used.
    pub(crate) fn insert(&mut self, key: Key<'_>, time: EventTime, value: T) -> &mut Entry<T> {
        let slot = u32::try_from(self.entries.len()).expect("the bound on keys fits u32");
        self.key_bytes += key.map_or(0, <[u8]>::len);
        let (key_of_entry, used) = (key.map(Box::from), self.uses);
        let entry = Entry { key: key_of_entry, time, value, used, newer: NONE, older: NONE };
        self.entries.push(entry);
        let hash = hash_key(&self.hash, key);
        let (entries, hasher) = (&self.entries, &self.hash);
        self.index.insert_unique(hash, slot, |slot| {
            hash_key(hasher, entries[*slot as usize].key.as_deref())
        });
        self.link_newest(slot);
        &mut self.entries[slot as usize]
    }

    /// As [`KeyTable::insert`], for a key that was used before, as its entry said then.
    pub(crate) fn insert_used(&mut self, key: Key<'_>, time: EventTime, value: T, used: u64) {
        self.insert(key, time, value).used = used;
        self.uses = self.uses.max(used.saturating_add(1));
    }

    /// The least recently used entry.
    pub(crate) fn oldest(&self) -> Option<&Entry<T>> {
        self.entries.get(self.oldest as usize)
    }

    /// Drops the least recently used entry, and hands its value over.
    pub(crate) fn drop_oldest(&mut self) -> Option<T> {
        let slot = self.oldest;
        if slot == NONE {
            return None;
        }
        self.moves += 1;
        self.unlink(slot);
        self.unindex(slot, slot);
        let dropped = self.entries.swap_remove(slot as usize);
        self.key_bytes -= dropped.key.as_ref().map_or(0, |key| key.len());
        let moved = u32::try_from(self.entries.len()).expect("the bound on keys fits u32");
        if moved != slot {
            self.reindex(moved, slot);
        }
        Some(dropped.value)
    }

    /// All entries, ordered by key, NULL first.
    pub(crate) fn sorted(&self) -> Vec<&Entry<T>> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        entries
    }

    /// All entries, the least recently used first.
    pub(crate) fn by_use(&self) -> impl Iterator<Item = &Entry<T>> {
        let mut slot = self.oldest;
        std::iter::from_fn(move || {
            let entry = self.entries.get(slot as usize)?;
            slot = entry.newer;
            Some(entry)
        })
    }

    /// Bytes of keys and table, the values' own heap not among them.
    pub(crate) fn bytes(&self) -> usize {
        self.key_bytes + self.entries.capacity() * size_of::<Entry<T>>() + self.index.capacity() * 5
    }

    fn link_newest(&mut self, slot: u32) {
        let second = std::mem::replace(&mut self.newest, slot);
        let entry = &mut self.entries[slot as usize];
        (entry.newer, entry.older, entry.used) = (NONE, second, self.uses);
        self.uses += 1;
        match second {
            NONE => self.oldest = slot,
            _ => self.entries[second as usize].newer = slot,
        }
    }

    fn unlink(&mut self, slot: u32) {
        let (newer, older) = (self.entries[slot as usize].newer, self.entries[slot as usize].older);
        match newer {
            NONE => self.newest = older,
            _ => self.entries[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            _ => self.entries[older as usize].newer = newer,
        }
    }

    /// Takes `slot` out of the index, where it stands under the key of `entry`.
    fn unindex(&mut self, slot: u32, entry: u32) {
        let hash = hash_key(&self.hash, self.entries[entry as usize].key.as_deref());
        if let Ok(found) = self.index.find_entry(hash, |candidate| *candidate == slot) {
            found.remove();
        }
    }

    /// Follows an entry that moved from one slot to another.
    fn reindex(&mut self, from: u32, to: u32) {
        let hash = hash_key(&self.hash, self.entries[to as usize].key.as_deref());
        if let Some(slot) = self.index.find_mut(hash, |candidate| *candidate == from) {
            *slot = to;
        }
        let (newer, older) = (self.entries[to as usize].newer, self.entries[to as usize].older);
        match newer {
            NONE => self.newest = to,
            _ => self.entries[newer as usize].older = to,
        }
        match older {
            NONE => self.oldest = to,
            _ => self.entries[older as usize].newer = to,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(table: &KeyTable<u8>) -> Vec<u8> {
        table.by_use().map(|entry| entry.value).collect()
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let mut table = KeyTable::new();
        for i in 0..4_u8 {
            table.insert(Some(&[i]), EventTime(0), i);
        }
        assert_eq!(table.touch(Some(&[0])).unwrap().value, 0);
        assert_eq!(keys(&table), [1, 2, 3, 0]);
        table.drop_oldest();
        assert!(table.touch(Some(&[1])).is_none());
        table.insert(None, EventTime(0), 9);
        assert_eq!(table.touch(Some(&[2])).unwrap().value, 2);
        assert_eq!(table.touch(None).unwrap().value, 9);
        assert_eq!(keys(&table), [3, 0, 2, 9]);
        assert_eq!(table.sorted().iter().map(|e| e.value).collect::<Vec<_>>(), [9, 0, 2, 3]);
        for _ in 0..5 {
            table.drop_oldest();
        }
        assert_eq!((table.len(), keys(&table)), (0, vec![]));
        assert!(table.oldest().is_none());
    }

    #[test]
    fn keys_that_were_looked_up_are_found_whatever_has_come_and_gone_since() {
        let mut table = KeyTable::new();
        for i in 0..3_u8 {
            table.insert(Some(&[i]), EventTime(0), i);
        }
        let rows = [[1], [7], [0], [2], [1]];
        let (mut found, mut warmed) = (Found::default(), Vec::new());
        table.find(rows.iter().map(|key| Some(&key[..])), &mut found, |value| warmed.push(*value));
        assert_eq!(warmed, [1, 0, 2, 1]);
        let touched = |table: &mut KeyTable<u8>, row: usize| {
            table.touch_found(&found, row, Some(&rows[row])).map(|entry| entry.value)
        };
        assert_eq!((touched(&mut table, 0), touched(&mut table, 1)), (Some(1), None));
        table.insert(Some(&[7]), EventTime(0), 7);
        assert_eq!((touched(&mut table, 1), touched(&mut table, 0)), (Some(7), Some(1)));
        assert_eq!(keys(&table), [0, 2, 7, 1]);
        // The last slot moves to the place of the one that is dropped.
        table.drop_oldest();
        assert_eq!((touched(&mut table, 2), touched(&mut table, 3)), (None, Some(2)));
        assert_eq!(touched(&mut table, 4), Some(1));
        assert_eq!(keys(&table), [7, 2, 1]);
        assert_eq!(table.newest_mut().map(|entry| entry.value), Some(1));
    }

    #[test]
    fn uses_are_numbered_and_go_on_where_they_stood() {
        let mut table = KeyTable::new();
        for i in 0..3_u8 {
            table.insert(Some(&[i]), EventTime(0), i);
        }
        table.touch(Some(&[0]));
        let uses = |table: &KeyTable<u8>| table.by_use().map(|e| e.used).collect::<Vec<_>>();
        assert_eq!((keys(&table), uses(&table)), (vec![1, 2, 0], vec![1, 2, 3]));
        let mut again = KeyTable::new();
        for entry in table.by_use() {
            again.insert_used(entry.key.as_deref(), entry.time, entry.value, entry.used);
        }
        assert_eq!((keys(&again), uses(&again)), (vec![1, 2, 0], vec![1, 2, 3]));
        again.touch(Some(&[1]));
        assert_eq!(uses(&again), [2, 3, 4]);
    }

    #[test]
    fn many_keys_come_and_go() {
        let mut table = KeyTable::new();
        for i in 0..1_000_u32 {
            if table.len() == 64 {
                table.drop_oldest();
            }
            table.insert(Some(&i.to_be_bytes()), EventTime(0), 0);
            let back = i.saturating_sub(i % 64);
            assert!(table.touch(Some(&back.to_be_bytes())).is_some(), "{back} at {i}");
        }
        assert_eq!((table.len(), table.by_use().count(), table.index.len()), (64, 64, 64));
    }
}
