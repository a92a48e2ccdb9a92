//! The rows of one side that wait for partners, by time and key.
//!
//! Rows stay in the batches in which they came. Entries that point to them are kept in chunks of time, each with a hash
//! table over the keys in it: a look-up goes through the few chunks that hold possible partners, and meets rows of its
//! own key only. What is past leaves chunk by chunk, without a look at single rows or keys.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{interleave, take_record_batch};
use hashbrown::HashTable;

use crate::error::Result;

/// A chunk is a quarter as long as the times in which partners lie, so that a look-up meets at most six.
const CHUNKS_PER_REACH: i64 = 4;
/// The least length of a chunk, so that rows which are close share one.
const CHUNK_NS_MIN: i64 = 1_000_000;
/// The length where partners have equal times: keys hold the time then, so that a chunk may be longer.
const CHUNK_NS_EQUAL: i64 = 1_000_000_000;
/// A batch over more chunks than this is cut, because it is held as long as any of its rows.
const CHUNKS_PER_PIECE: i64 = 8;
/// No batch is cut into pieces of fewer rows.
const PIECE_ROWS_MIN: usize = 64;

const NONE: u32 = u32::MAX;

/// Where a held row is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Its chunk and the entry in it.
    pub(super) entry: (i64, u32),
    piece: u32,
    row: u32,
}

/// Rows that wait.
#[derive(Debug)]
pub(super) struct Held {
    span_ns: i64,
    /// Whether rows that find no partner are asked for.
    keeps: bool,
    chunks: BTreeMap<i64, Chunk>,
    pieces: Vec<Option<Piece>>,
    free: Vec<u32>,
    /// Times of the rows that may have to be given without a partner, the earliest on top.
    due: BinaryHeap<Reverse<(i64, i64, u32)>>,
    /// Rows below it are over, and stay only as long as their chunk does.
    past: i64,
    rows: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Piece {
    rows: RecordBatch,
    /// How many entries point to it.
    live: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Chunk {
    /// The first entry of each key.
    heads: HashTable<u32>,
    entries: Vec<Entry>,
    keys: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    key: (usize, usize),
    time: i64,
    piece: u32,
    row: u32,
    /// The next entry of the same key.
    next: u32,
    has_partner: bool,
}

impl Chunk {
    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let is_same = |&at: &u32| {
            let entry = &self.entries[at as usize];
            entry.hash == hash && self.keys[entry.key.0..entry.key.1] == *key
        };
        self.heads.find(hash, is_same).copied()
    }

    fn add(&mut self, mut entry: Entry, key: &[u8]) -> u32 {
        let (at, hash) = (self.entries.len() as u32, entry.hash);
        if let Some(head) = self.find(hash, key) {
            let head = &mut self.entries[head as usize];
            entry.key = head.key;
            entry.next = std::mem::replace(&mut head.next, at);
            self.entries.push(entry);
            return at;
        }
        entry.key = (self.keys.len(), self.keys.len() + key.len());
        self.keys.extend_from_slice(key);
        self.entries.push(entry);
        let entries = &self.entries;
        self.heads.insert_unique(hash, at, |&at| entries[at as usize].hash);
        at
    }
}

/// A row to be held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting<'a> {
    /// Its place in the batch.
    pub(super) row: u32,
    pub(super) time: i64,
    pub(super) hash: u64,
    pub(super) key: &'a [u8],
    pub(super) has_partner: bool,
}

impl Held {
    /// Holds rows whose partners lie within `reach_ns` of one another; `keeps` if it is to give rows without a partner.
    pub(super) fn new(reach_ns: i64, keeps: bool) -> Self {
        let span_ns = match reach_ns {
            ..=0 => CHUNK_NS_EQUAL,
            reach => (reach / CHUNKS_PER_REACH).max(CHUNK_NS_MIN),
        };
        Self {
            span_ns,
            keeps,
            chunks: BTreeMap::new(),
            pieces: Vec::new(),
            free: Vec::new(),
            due: BinaryHeap::new(),
            past: i64::MIN,
            rows: 0,
            bytes: 0,
        }
    }

    /// How many rows are held.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes held, estimated.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.rows * (size_of::<Entry>() + size_of::<u64>())
    }

    fn chunk_of(&self, time: i64) -> i64 {
        time.div_euclid(self.span_ns)
    }

    /// Holds rows of a batch, which are given in the order of the batch.
    pub(super) fn add(&mut self, batch: &RecordBatch, mut waiting: Vec<Waiting<'_>>) -> Result<()> {
        let long = |held: &Self, time: i64| held.chunk_of(time).div_euclid(CHUNKS_PER_PIECE);
        let is_whole = waiting.len() * 4 >= batch.num_rows();
        let is_short = waiting.windows(2).all(|w| long(self, w[0].time) == long(self, w[1].time));
        if is_whole && is_short {
            self.add_piece(batch.clone(), &waiting, |row| row);
            return Ok(());
        }
        waiting.sort_unstable_by_key(|row| (row.time, row.row));
        let mut rest = waiting.as_slice();
        while let Some(first) = rest.first() {
            let same = rest.partition_point(|row| long(self, row.time) == long(self, first.time));
            let (rows, tail) = rest.split_at(same.max(PIECE_ROWS_MIN.min(rest.len())));
            rest = tail;
            let places = UInt32Array::from_iter_values(rows.iter().map(|row| row.row));
            let piece = take_record_batch(batch, &places)?;
            let mut place = 0..;
            self.add_piece(piece, rows, |_| place.next().unwrap_or(NONE));
        }
        Ok(())
    }

    fn add_piece(
        &mut self,
        rows: RecordBatch,
        waiting: &[Waiting<'_>],
        mut place: impl FnMut(u32) -> u32,
    ) {
        if waiting.is_empty() {
            return;
        }
        let bytes = rows.get_array_memory_size();
        let piece = Some(Piece { rows, live: waiting.len(), bytes });
        let id = match self.free.pop() {
            Some(id) => {
                self.pieces[id as usize] = piece;
                id
            }
            None => {
                self.pieces.push(piece);
                (self.pieces.len() - 1) as u32
            }
        };
        self.bytes += bytes;
        self.rows += waiting.len();
        for row in waiting {
            let number = self.chunk_of(row.time);
            let entry = Entry {
                hash: row.hash,
                key: (0, 0),
                time: row.time,
                piece: id,
                row: place(row.row),
                next: NONE,
                has_partner: row.has_partner,
            };
            let chunk = self.chunks.entry(number).or_default();
            let before = chunk.keys.len();
            let at = chunk.add(entry, row.key);
            self.bytes += chunk.keys.len() - before;
            if self.keeps && !row.has_partner {
                self.due.push(Reverse((row.time, number, at)));
            }
        }
    }

    /// Calls `found` for the rows with a key and a time between two.
    pub(super) fn find(
        &self,
        hash: u64,
        key: &[u8],
        (from, to): (i64, i64),
        mut found: impl FnMut(Place),
    ) {
        if from > to {
            return;
        }
        for (&number, chunk) in self.chunks.range(self.chunk_of(from)..=self.chunk_of(to)) {
            let mut next = chunk.find(hash, key).unwrap_or(NONE);
            while let Some(entry) = chunk.entries.get(next as usize) {
                if (from..=to).contains(&entry.time) {
                    found(Place { entry: (number, next), piece: entry.piece, row: entry.row });
                }
                next = entry.next;
            }
        }
    }

    /// The key and the time of a row.
    pub(super) fn key(&self, place: Place) -> Option<(&[u8], i64)> {
        let chunk = self.chunks.get(&place.entry.0)?;
        let entry = chunk.entries.get(place.entry.1 as usize)?;
        Some((chunk.keys.get(entry.key.0..entry.key.1)?, entry.time))
    }

    /// A row has found a partner.
    pub(super) fn mark(&mut self, place: Place) {
        let (number, at) = place.entry;
        let entry = self.chunks.get_mut(&number).and_then(|c| c.entries.get_mut(at as usize));
        if let Some(entry) = entry {
            entry.has_partner = true;
        }
    }

    /// The columns of rows, in their order.
    pub(super) fn columns(&self, places: &[Place]) -> Result<Vec<ArrayRef>> {
        let mut dense = BTreeMap::new();
        let mut pieces: Vec<&RecordBatch> = Vec::new();
        let mut indices = Vec::with_capacity(places.len());
        for place in places {
            let at = *dense.entry(place.piece).or_insert_with(|| {
                let piece = self.pieces[place.piece as usize].as_ref();
                pieces.push(&piece.expect("entries point to pieces that are held").rows);
                pieces.len() - 1
            });
            indices.push((at, place.row as usize));
        }
        let Some(first) = pieces.first() else { return Ok(Vec::new()) };
        let column = |index: usize| {
            let arrays: Vec<_> = pieces.iter().map(|piece| piece.column(index).as_ref()).collect();
            Ok(interleave(&arrays, &indices)?)
        };
        (0..first.num_columns()).map(column).collect()
    }

    /// The rows that are not over, and whether each has found a partner.
    pub(super) fn saved(&self) -> Result<Vec<(RecordBatch, Vec<bool>)>> {
        let mut of_piece: Vec<Vec<(u32, bool)>> = vec![Vec::new(); self.pieces.len()];
        for entry in self.chunks.values().flat_map(|chunk| &chunk.entries) {
            if entry.time >= self.past {
                of_piece[entry.piece as usize].push((entry.row, entry.has_partner));
            }
        }
        let mut saved = Vec::new();
        for (piece, mut rows) in self.pieces.iter().zip(of_piece) {
            let Some(piece) = piece.as_ref().filter(|_| !rows.is_empty()) else { continue };
            rows.sort_unstable();
            let (places, partners): (Vec<u32>, Vec<bool>) = rows.into_iter().unzip();
            saved.push((take_record_batch(&piece.rows, &UInt32Array::from(places))?, partners));
        }
        Ok(saved)
    }

    /// Rows before `time` that have found no partner, each once. All rows, where there is no time.
    pub(super) fn take_due(&mut self, time: Option<i64>) -> Vec<Place> {
        let mut places = Vec::new();
        while let Some(Reverse((at, ..))) = self.due.peek()
            && time.is_none_or(|time| *at < time)
        {
            let Some(Reverse((_, number, at))) = self.due.pop() else { break };
            let entry = self.chunks.get(&number).and_then(|c| c.entries.get(at as usize));
            if let Some(Entry { piece, row, has_partner: false, .. }) = entry {
                places.push(Place { entry: (number, at), piece: *piece, row: *row });
            }
        }
        places
    }

    /// Forgets the chunks that lie before `time` as a whole; everything, where there is no time.
    pub(super) fn forget(&mut self, time: Option<i64>) {
        self.past = time.unwrap_or(self.past);
        let first = time.map(|time| self.chunk_of(time));
        while let Some(oldest) = self.chunks.first_entry()
            && first.is_none_or(|first| *oldest.key() < first)
        {
            let chunk = oldest.remove();
            self.rows -= chunk.entries.len();
            self.bytes -= chunk.keys.len();
            for entry in chunk.entries {
                let slot = &mut self.pieces[entry.piece as usize];
                if let Some(piece) = slot {
                    piece.live -= 1;
                    if piece.live == 0 {
                        self.bytes -= piece.bytes;
                        *slot = None;
                        self.free.push(entry.piece);
                    }
                }
            }
        }
    }
}
