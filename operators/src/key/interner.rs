//! A dense number for every distinct key.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};
use arrow::error::ArrowError;
use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::encoder::{EncodedKeys, KeyEncoder, fixed_hasher, hash_key};
use crate::error::{OperatorError, Result};
use crate::rows::columns_of;

/// A dense number for a key, unique within one [`KeyInterner`].
pub type KeyId = u32;

/// Gives every distinct key a dense number, once for the stream.
#[derive(Debug)]
pub struct KeyInterner {
    fields: Fields,
    encoder: KeyEncoder,
    pub(super) hasher: FixedState,
    /// By the low half of a key's hash; with its high half, by which nearly all other keys are told without a look at them.
    table: HashTable<(u32, KeyId)>,
    /// Hashes of the keys of a batch.
    hashes: Vec<u64>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    null_text: Option<KeyId>,
}

impl KeyInterner {
    /// An interner of keys with the given columns; with none, there is one key, numbered 0.
    ///
    /// # Errors
    /// If a column's type cannot be a key.
    pub fn new(fields: &Fields) -> Result<Self> {
        fields.iter().try_for_each(|field| check_room(field))?;
        Ok(Self {
            fields: fields.clone(),
            encoder: KeyEncoder::new(fields)?,
            hasher: fixed_hasher(),
            table: HashTable::new(),
            hashes: Vec::new(),
            bytes: Vec::new(),
            ends: Vec::new(),
            null_text: None,
        })
    }

    /// How many keys have a number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether no key has a number yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 8 + self.table.capacity() * 9
    }

    /// Writes the number of each row's key to `ids`, numbering keys not seen before.
    ///
    /// # Errors
    /// If a kernel fails, which would be a bug.
    pub fn intern(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        ids: &mut Vec<KeyId>,
    ) -> Result<()> {
        ids.clear();
        ids.reserve(rows);
        if self.fields.is_empty() {
            if self.ends.is_empty() {
                self.ends.push(0);
            }
            ids.resize(rows, 0);
            return Ok(());
        }
        // What a loop knows of its keys before it begins it need not ask of each.
        match self.encoder.encode(columns)? {
            EncodedKeys::Text(keys) if keys.null_count() == 0 => {
                let (offsets, bytes) = (keys.value_offsets(), keys.value_data());
                let key = |row: usize| &bytes[offsets[row] as usize..offsets[row + 1] as usize];
                self.intern_rows(rows, |row| Some(key(row)), ids);
            }
            EncodedKeys::Integers(keys) => self.intern_rows(rows, |row| Some(&keys[row]), ids),
            keys => self.intern_rows(rows, |row| keys.bytes(row), ids),
        }
        Ok(())
    }

    /// Where there are more keys than fit into a cache, each look at the table, and each at a key, is a miss. One after the
    /// other for each row they would add up; step by step for all rows of the batch, the misses of many overlap.
    fn intern_rows<'k>(
        &mut self,
        rows: usize,
        key: impl Fn(usize) -> Option<&'k [u8]>,
        ids: &mut Vec<KeyId>,
    ) {
        self.hashes.clear();
        self.hashes.extend((0..rows).map(|row| hash_key(&self.hasher, key(row))));
        for row in 0..rows {
            let id = match key(row) {
                Some(key) => self.likely(self.hashes[row], key),
                None => self.null_text(),
            };
            ids.push(id);
        }
        for row in 0..rows {
            let Some(key) = key(row) else { continue };
            if !is_same(slice(&self.bytes, &self.ends, ids[row]), key) {
                ids[row] = self.number(self.hashes[row], key);
            }
        }
    }

    fn null_text(&mut self) -> KeyId {
        let next = self.ends.len();
        let id = *self.null_text.get_or_insert(next as KeyId);
        if id as usize == next {
            self.ends.push(self.bytes.len());
        }
        id
    }

    /// The number of a key, or that of another with the same hash; a new one if no key has that hash.
    pub(super) fn likely(&mut self, hash: u64, key: &[u8]) -> KeyId {
        match self.table.find(hash, |(high, _)| *high == high_half(hash)) {
            Some((_, id)) => *id,
            None => self.add(hash, key),
        }
    }

    /// The number of a key.
    pub(super) fn number(&mut self, hash: u64, key: &[u8]) -> KeyId {
        let (bytes, ends) = (&self.bytes, &self.ends);
        let found = self.table.find(hash, |(_, id)| slice(bytes, ends, *id) == key);
        match found {
            Some((_, id)) => *id,
            None => self.add(hash, key),
        }
    }

    fn add(&mut self, hash: u64, key: &[u8]) -> KeyId {
        let id = self.ends.len() as KeyId;
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
        let (bytes, ends, hasher) = (&self.bytes, &self.ends, &self.hasher);
        let hash_of = |(_, id): &(u32, KeyId)| hash_key(hasher, Some(slice(bytes, ends, *id)));
        self.table.insert_unique(hash, (high_half(hash), id), hash_of);
        id
    }

    /// A key as bytes, for an order that does not depend on arrival; `None` for a null text.
    #[must_use]
    pub fn key(&self, id: KeyId) -> Option<&[u8]> {
        (Some(id) != self.null_text).then(|| slice(&self.bytes, &self.ends, id))
    }

    /// The key columns of the given keys.
    ///
    /// # Errors
    /// If a kernel fails, which would be a bug.
    pub fn columns(&self, ids: &[KeyId]) -> Result<Vec<ArrayRef>> {
        match &self.encoder {
            KeyEncoder::None => Ok(Vec::new()),
            KeyEncoder::Text => {
                // One check of all bytes costs less than one for each key.
                let (mut text, mut lengths) = (Vec::with_capacity(ids.len() * 16), Vec::new());
                lengths.reserve(ids.len());
                for &id in ids {
                    let key = slice(&self.bytes, &self.ends, id);
                    text.extend_from_slice(key);
                    lengths.push(key.len());
                }
                let nulls = self.null_text.filter(|id| ids.contains(id));
                let nulls = nulls.map(|null| ids.iter().map(|&id| id != null).collect());
                if i32::try_from(text.len()).is_err() {
                    return Err(ArrowError::OffsetOverflowError(text.len()).into());
                }
                let offsets = OffsetBuffer::from_lengths(lengths);
                let texts = StringArray::try_new(offsets, Buffer::from_vec(text), nulls)?;
                Ok(vec![Arc::new(texts)])
            }
            KeyEncoder::Rows(converter) => {
                let rows = ids.iter().map(|&id| slice(&self.bytes, &self.ends, id));
                columns_of(converter, rows, self.fields.iter().map(|field| field.data_type()))
            }
        }
    }

    /// Keeps only the keys in `live`, which must be sorted and free of repeats: key `live[i]` is numbered `i` from
    /// now on.
    pub fn retain(&mut self, live: &[KeyId]) {
        let old = std::mem::take(&mut self.bytes);
        let old_ends = std::mem::take(&mut self.ends);
        let old_null = self.null_text.take();
        self.table.clear();
        self.table.shrink_to(live.len(), |_| 0);
        for &id in live {
            let key = slice(&old, &old_ends, id);
            if Some(id) == old_null {
                self.null_text = Some(self.ends.len() as KeyId);
                self.ends.push(self.bytes.len());
            } else {
                self.add(hash_key(&self.hasher, Some(key)), key);
            }
        }
    }
}

/// Refuses a dictionary that might have no room for all keys: a key column is one dictionary for the keys of a window,
/// however small those of its batches were.
fn check_room(field: &Field) -> Result<()> {
    use DataType::{Dictionary, Int8, Int16, UInt8, UInt16};
    let Dictionary(index, values) = field.data_type() else { return Ok(()) };
    if !matches!(**index, Int8 | Int16 | UInt8 | UInt16) {
        return Ok(());
    }
    let name = field.name();
    Err(OperatorError::Columns {
        owner: format!("key \"{name}\""),
        problem: format!("is a dictionary with indexes of type {index}, too few for a key"),
        hint: format!("group by arrow_cast({name}, '{values}')"),
    })
}

/// What the table does not go by to find a place.
fn high_half(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// Whether two keys are the same. Most are short, and cost less to compare here than a call would.
pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    match (one.first_chunk::<8>(), one.last_chunk::<8>()) {
        (Some(first), Some(last)) if one.len() <= 16 && one.len() == other.len() => {
            other.first_chunk() == Some(first) && other.last_chunk() == Some(last)
        }
        _ => one == other,
    }
}

fn slice<'a>(bytes: &'a [u8], ends: &[usize], id: KeyId) -> &'a [u8] {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] };
    &bytes[start..ends[id]]
}
