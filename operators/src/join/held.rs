//! The rows of one side that wait for partners, by time and key.
//!
//! Rows stay in the batches in which they came. Entries that point to them are kept in chunks of time: a look-up goes
//! through the few chunks that hold possible partners, and what is past leaves chunk by chunk, without a look at single
//! rows or keys.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{interleave, take_record_batch};
use foldhash::fast::FixedState;

use super::chunk::{Chunk, Entry};
use super::keys::KeyRows;
use crate::error::Result;
use crate::key::{fixed_hasher, hash_key};

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
    entry: (i64, u32),
    piece: u32,
    row: u32,
}

/// A row to be held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) time: i64,
    /// Its place in the batch.
    pub(super) row: u32,
    pub(super) has_partner: bool,
}

/// Rows that wait.
#[derive(Debug)]
pub(super) struct Held {
    span_ns: i64,
    /// Whether rows that find no partner are asked for.
    keeps: bool,
    hasher: FixedState,
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
    /// Read when somebody looks for partners.
    keys: Option<KeyRows>,
    /// How many entries point to it.
    live: usize,
    bytes: usize,
}

/// The key of an entry, once it has been read.
fn key_of(pieces: &[Option<Piece>], entry: Entry) -> Option<&[u8]> {
    pieces.get(entry.piece as usize)?.as_ref()?.keys.as_ref()?.get(entry.row as usize)
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
            hasher: fixed_hasher(),
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
        self.bytes + self.rows * Chunk::BYTES_PER_ROW
    }

    fn chunk_of(&self, time: i64) -> i64 {
        time.div_euclid(self.span_ns)
    }

    /// Holds rows of a batch, which are given in the order of the batch.
    pub(super) fn add(
        &mut self,
        batch: &RecordBatch,
        keys: Option<KeyRows>,
        mut waiting: Vec<Waiting>,
    ) -> Result<()> {
        let long = |held: &Self, time: i64| held.chunk_of(time).div_euclid(CHUNKS_PER_PIECE);
        let times = waiting.iter().map(|row| row.time);
        let Some((first, last)) = times.clone().min().zip(times.max()) else { return Ok(()) };
        let is_whole = waiting.len() * 4 >= batch.num_rows();
        if is_whole && long(self, first) == long(self, last) {
            self.add_piece(batch.clone(), keys, &waiting, |row| row);
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
            self.add_piece(piece, None, rows, |_| place.next().unwrap_or(NONE));
        }
        Ok(())
    }

    fn add_piece(
        &mut self,
        rows: RecordBatch,
        keys: Option<KeyRows>,
        waiting: &[Waiting],
        mut place: impl FnMut(u32) -> u32,
    ) {
        let bytes = rows.get_array_memory_size() + keys.as_ref().map_or(0, KeyRows::bytes);
        let piece = Some(Piece { rows, keys, live: waiting.len(), bytes });
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
        let mut rest = waiting;
        while let [first, others @ ..] = rest {
            let number = self.chunk_of(first.time);
            let times =
                number.saturating_mul(self.span_ns)..(number + 1).saturating_mul(self.span_ns);
            let same = 1 + others.iter().take_while(|row| times.contains(&row.time)).count();
            let chunk = self.chunks.entry(number).or_default();
            for row in &rest[..same] {
                if self.keeps && !row.has_partner {
                    self.due.push(Reverse((row.time, number, chunk.len())));
                }
                let entry = Entry { time: row.time, piece: id, row: place(row.row) };
                chunk.add(entry, row.has_partner);
            }
            rest = &rest[same..];
        }
    }

    /// Makes ready for look-ups by rows of some times, whose partners lie so far from them. Whether there can be any.
    pub(super) fn expect(
        &mut self,
        times: &[i64],
        (from, to): (i64, i64),
        read: impl Fn(&RecordBatch) -> Result<KeyRows>,
    ) -> Result<bool> {
        let around = |first: i64, last: i64| (first.saturating_add(from), last.saturating_add(to));
        let Some((first, last)) = times.iter().min().zip(times.iter().max()) else {
            return Ok(false);
        };
        if self.chunk_of(*last).saturating_sub(self.chunk_of(*first)) <= CHUNKS_PER_PIECE {
            return self.expect_between(times.len(), around(*first, *last), &read);
        }
        // What lies between times that are far apart is nobody's.
        let mut is_any = false;
        for time in times {
            is_any |= self.expect_between(1, around(*time, *time), &read)?;
        }
        Ok(is_any)
    }

    fn expect_between(
        &mut self,
        probes: usize,
        (from, to): (i64, i64),
        read: impl Fn(&RecordBatch) -> Result<KeyRows>,
    ) -> Result<bool> {
        if from > to {
            return Ok(false);
        }
        let mut is_any = false;
        for (_, chunk) in self.chunks.range_mut(self.chunk_of(from)..=self.chunk_of(to)) {
            is_any = true;
            for (piece, _) in chunk.take_unread() {
                if let Some(Piece { rows, keys: keys @ None, bytes, .. }) =
                    &mut self.pieces[*piece as usize]
                {
                    let found = read(rows)?;
                    *bytes += found.bytes();
                    self.bytes += found.bytes();
                    *keys = Some(found);
                }
            }
            let hash = |key: Option<&[u8]>| hash_key(&self.hasher, key);
            chunk.expect(probes, hash, |entry| key_of(&self.pieces, entry));
        }
        Ok(is_any)
    }

    /// Calls `found` for the rows with a key and a time between two, for which [`Held::expect`] has been called.
    pub(super) fn find(&self, key: &[u8], (from, to): (i64, i64), mut found: impl FnMut(Place)) {
        if from > to {
            return;
        }
        for (&number, chunk) in self.chunks.range(self.chunk_of(from)..=self.chunk_of(to)) {
            let key_of = |entry| key_of(&self.pieces, entry);
            let hash = |key: Option<&[u8]>| hash_key(&self.hasher, key);
            chunk.find(key, hash, key_of, |at, Entry { time, piece, row }| {
                if (from..=to).contains(&time) {
                    found(Place { entry: (number, at), piece, row });
                }
            });
        }
    }

    /// A row has found a partner.
    pub(super) fn mark(&mut self, place: Place) {
        let (number, at) = place.entry;
        if let Some(chunk) = self.chunks.get_mut(&number) {
            chunk.mark(at);
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
        for (entry, has_partner) in self.chunks.values().flat_map(Chunk::iter) {
            if entry.time >= self.past {
                of_piece[entry.piece as usize].push((entry.row, has_partner));
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
            let entry = self.chunks.get(&number).and_then(|chunk| chunk.get(at));
            if let Some((Entry { piece, row, .. }, false)) = entry {
                places.push(Place { entry: (number, at), piece, row });
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
            for &(id, count) in chunk.runs() {
                self.rows -= count;
                let slot = &mut self.pieces[id as usize];
                if let Some(piece) = slot {
                    piece.live -= count;
                    if piece.live == 0 {
                        self.bytes -= piece.bytes;
                        *slot = None;
                        self.free.push(id);
                    }
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn indexed_chunks(&self) -> usize {
        self.chunks.values().filter(|chunk| chunk.is_indexed()).count()
    }
}
