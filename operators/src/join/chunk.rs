//! Rows that wait for partners and are close in time, and the way to those of one key.
//!
//! Many rows are never asked for: of the bids of ten seconds one query wants the highest. So nothing is made of a key when
//! its row comes. The first few look-ups go through the rows one by one; only when there are more is there a hash table.

use hashbrown::HashTable;

/// So many look-ups cost less than a hash table.
const SCANS_MAX: usize = 8;

const NONE: u32 = u32::MAX;

/// Rows of a stretch of time.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    entries: Vec<Entry>,
    has_partner: Vec<bool>,
    /// The pieces that entries point to in turn, and how many do.
    runs: Vec<(u32, usize)>,
    /// The keys of so many runs have been read.
    read: usize,
    /// How many rows may have looked for partners here.
    asked: usize,
    /// The first and the last entry of each key, among those that have a link.
    ends: HashTable<(u32, u32)>,
    /// One for each entry, from the first on, as far as they are linked.
    links: Vec<Link>,
}

/// Where a row is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) time: i64,
    pub(super) piece: u32,
    pub(super) row: u32,
}

#[derive(Debug)]
struct Link {
    hash: u64,
    /// The next entry of the same key.
    next: u32,
}

impl Chunk {
    /// Bytes for each row, estimated: with a link and an end.
    pub(super) const BYTES_PER_ROW: usize =
        size_of::<Entry>() + size_of::<bool>() + size_of::<Link>() + 2 * size_of::<(u32, u32)>();

    pub(super) fn add(&mut self, entry: Entry, has_partner: bool) {
        match self.runs.last_mut() {
            Some((piece, count)) if *piece == entry.piece => *count += 1,
            _ => self.runs.push((entry.piece, 1)),
        }
        self.entries.push(entry);
        self.has_partner.push(has_partner);
    }

    pub(super) fn len(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(super) fn get(&self, at: u32) -> Option<(Entry, bool)> {
        let at = at as usize;
        Some((*self.entries.get(at)?, *self.has_partner.get(at)?))
    }

    /// Entries and whether they have found a partner.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Entry, bool)> {
        self.entries.iter().copied().zip(self.has_partner.iter().copied())
    }

    pub(super) fn mark(&mut self, at: u32) {
        if let Some(has_partner) = self.has_partner.get_mut(at as usize) {
            *has_partner = true;
        }
    }

    /// The pieces that entries point to, and how many do; a piece may be there more than once.
    pub(super) fn runs(&self) -> &[(u32, usize)] {
        &self.runs
    }

    /// The pieces that have come since the last time.
    pub(super) fn take_unread(&mut self) -> &[(u32, usize)] {
        let from = std::mem::replace(&mut self.read, self.runs.len());
        &self.runs[from..]
    }

    /// Makes the hash table, if with `probes` more rows enough have asked. Keys must have been read.
    pub(super) fn expect<'k>(
        &mut self,
        probes: usize,
        hash: impl Fn(Option<&[u8]>) -> u64,
        key: impl Fn(Entry) -> Option<&'k [u8]>,
    ) {
        self.asked = self.asked.saturating_add(probes);
        if self.asked <= SCANS_MAX {
            return;
        }
        let Self { entries, ends, links, .. } = self;
        for at in links.len()..entries.len() {
            let own = key(entries[at]);
            let hash = hash(own);
            let is_same = |(first, _): &(u32, u32)| {
                let first = *first as usize;
                links[first].hash == hash && key(entries[first]) == own
            };
            let number = at as u32;
            match ends.find_mut(hash, is_same) {
                Some((_, last)) => {
                    let last = std::mem::replace(last, number);
                    links[last as usize].next = number;
                }
                None => {
                    let hash_of = |(first, _): &(u32, u32)| links[*first as usize].hash;
                    ends.insert_unique(hash, (number, number), hash_of);
                }
            }
            links.push(Link { hash, next: NONE });
        }
    }

    /// The entries of a key, in the order in which they came.
    pub(super) fn find<'k>(
        &self,
        wanted: &[u8],
        hash: impl Fn(Option<&[u8]>) -> u64,
        key: impl Fn(Entry) -> Option<&'k [u8]>,
        mut found: impl FnMut(u32, Entry),
    ) {
        if !self.links.is_empty() {
            let hash = hash(Some(wanted));
            let is_same = |(first, _): &(u32, u32)| {
                let first = *first as usize;
                self.links[first].hash == hash && key(self.entries[first]) == Some(wanted)
            };
            let mut next = self.ends.find(hash, is_same).map_or(NONE, |(first, _)| *first);
            while let Some(link) = self.links.get(next as usize) {
                found(next, self.entries[next as usize]);
                next = link.next;
            }
        }
        for (at, entry) in self.entries.iter().enumerate().skip(self.links.len()) {
            if key(*entry) == Some(wanted) {
                found(at as u32, *entry);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_indexed(&self) -> bool {
        !self.links.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys that share a hash are told apart, before there is a table, as it grows, and behind what it holds.
    #[test]
    fn keys_with_one_hash_are_told_apart() {
        let keys: Vec<Option<&[u8]>> =
            [Some(&b"a"[..]), Some(b"b"), None, Some(b"a"), Some(b""), Some(b"b")].to_vec();
        let (hash, key) = (|_: Option<&[u8]>| 7, |entry: Entry| keys[entry.row as usize]);
        let mut chunk = Chunk::default();
        let mut added = 0;
        for (rows, probes) in [(3, 1), (5, SCANS_MAX), (6, 0)] {
            while added < rows {
                chunk.add(Entry { time: 0, piece: 0, row: added }, false);
                added += 1;
            }
            if probes > 0 {
                chunk.expect(probes, hash, key);
            }
            for wanted in [&b"a"[..], b"b", b"", b"c"] {
                let mut found = Vec::new();
                chunk.find(wanted, hash, key, |at, _| found.push(at));
                let all = 0..rows;
                let expected = all.filter(|row| keys[*row as usize] == Some(wanted));
                assert_eq!(found, expected.collect::<Vec<u32>>(), "{wanted:?} of {rows}");
            }
        }
        assert_eq!(chunk.links.len(), 5, "the last row came after the table was made");
    }
}
