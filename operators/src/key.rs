//! Keys: which worker owns a row, and a dense number for every distinct key.
//!
//! Keys are compared as bytes: the text itself for a single text column, Arrow's row format for anything else.

mod encoder;
mod interner;
#[cfg(test)]
mod tests;

use arrow::array::ArrayRef;
use arrow::datatypes::{Fields, SchemaRef};
use arrow::record_batch::RecordBatch;
use twox_hash::XxHash3_64;

pub(crate) use encoder::{KeyEncoder, fixed_hasher, hash_key};
pub use interner::{KeyId, KeyInterner};

use crate::error::Result;

/// How many groups the keys are spread over. A key's group never changes; which worker owns a group may.
pub const KEY_GROUPS: u64 = 256;

/// The group of a key, from its bytes; `None` is the NULL of a single text key.
pub(crate) fn group_of(key: Option<&[u8]>) -> u64 {
    XxHash3_64::oneshot(key.unwrap_or(&[])) % KEY_GROUPS
}

/// The part of the keys that falls to one worker.
///
/// ```
/// use driftline_operators::key::KeyShare;
///
/// // Each key falls to one of three workers; what has no key to the first.
/// let owners = |key| (0..3).filter(move |&worker| KeyShare { worker, workers: 3 }.owns(key, true));
/// assert_eq!(owners(Some(b"web-1")).count(), 1);
/// assert!(KeyShare::ALL.owns(Some(b"web-1"), true));
/// assert!(!KeyShare { worker: 1, workers: 3 }.owns(None, false));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyShare {
    /// The worker.
    pub worker: usize,
    /// How many there are.
    pub workers: usize,
}

impl KeyShare {
    /// All keys.
    pub const ALL: Self = Self { worker: 0, workers: 1 };

    /// Whether a key falls to the worker, by the bytes that [`KeySplitter`] splits by: of one column of text they are those of
    /// the text, `None` is its NULL, and those of other keys are an encoding. Without key columns (`is_keyed` is false) the
    /// first worker has all.
    #[must_use]
    pub fn owns(self, key: Option<&[u8]>, is_keyed: bool) -> bool {
        match is_keyed && self.workers > 1 {
            true => self.owns_group(group_of(key)),
            false => self.worker == 0,
        }
    }

    /// Whether the keys of a group fall to the worker.
    #[must_use]
    pub fn owns_group(self, group: u64) -> bool {
        group % self.workers as u64 == self.worker as u64
    }
}

/// Splits rows over workers by their key.
#[derive(Debug)]
pub struct KeySplitter {
    columns: Vec<usize>,
    encoder: KeyEncoder,
    /// The worker that owns each group: a look at it costs less than a division.
    owners: Vec<u32>,
    indices: Vec<Vec<u32>>,
}

impl KeySplitter {
    /// Splits rows of `schema` over `workers` by `columns`; without columns the first worker takes all.
    ///
    /// # Errors
    /// If a column's type cannot be a key.
    pub fn new(schema: &SchemaRef, columns: Vec<usize>, workers: usize) -> Result<Self> {
        let fields: Fields = columns.iter().map(|&c| schema.fields()[c].clone()).collect();
        Ok(Self { columns, ..Self::by_keys(&fields, workers)? })
    }

    /// Splits rows by keys that are not among their columns, with [`KeySplitter::split_by`].
    ///
    /// # Errors
    /// If a key's type cannot be a key.
    pub fn by_keys(keys: &Fields, workers: usize) -> Result<Self> {
        Ok(Self {
            columns: Vec::new(),
            encoder: KeyEncoder::new(keys)?,
            owners: (0..KEY_GROUPS).map(|group| (group % workers as u64) as u32).collect(),
            indices: vec![Vec::new(); workers],
        })
    }

    /// The rows of each worker, in their order; workers without rows are left out.
    ///
    /// # Errors
    /// If a kernel fails, which would be a bug.
    pub fn split(&mut self, rows: &RecordBatch) -> Result<Vec<(u32, RecordBatch)>> {
        let keys: Vec<ArrayRef> = self.columns.iter().map(|&c| rows.column(c).clone()).collect();
        self.split_by(rows, &keys)
    }

    /// As [`KeySplitter::split`], with the key columns of the rows.
    ///
    /// # Errors
    /// If a kernel fails, which would be a bug.
    pub fn split_by(
        &mut self,
        rows: &RecordBatch,
        keys: &[ArrayRef],
    ) -> Result<Vec<(u32, RecordBatch)>> {
        if self.indices.len() == 1 || keys.is_empty() || rows.num_rows() == 0 {
            return Ok(vec![(0, rows.clone())]);
        }
        let keys = self.encoder.encode(keys)?;
        // Room at once: to grow step by step would copy each index twice.
        let even = rows.num_rows() / self.indices.len();
        for indices in &mut self.indices {
            indices.clear();
            indices.reserve(even + even / 4);
        }
        for row in 0..rows.num_rows() {
            let worker = self.owners[group_of(keys.bytes(row)) as usize];
            self.indices[worker as usize].push(row as u32);
        }
        let mut parts = Vec::new();
        for (worker, indices) in self.indices.iter_mut().enumerate() {
            if indices.len() == rows.num_rows() {
                return Ok(vec![(worker as u32, rows.clone())]);
            }
            if !indices.is_empty() {
                let indices = arrow::array::UInt32Array::from(std::mem::take(indices));
                let part = arrow::compute::take_record_batch(rows, &indices)?;
                parts.push((worker as u32, part));
            }
        }
        Ok(parts)
    }
}
