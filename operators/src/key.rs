//! Keys: which worker owns a row, and a dense number for every distinct key.
//!
//! Keys are compared as bytes: the text itself for a single text column, Arrow's row format for anything else.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow_row::{RowConverter, Rows, SortField};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use twox_hash::XxHash3_64;

use crate::error::{OperatorError, Result};
use crate::rows::columns_of;

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

/// A dense number for a key, unique within one [`KeyInterner`].
pub type KeyId = u32;

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

/// Gives every distinct key a dense number, once for the stream.
#[derive(Debug)]
pub struct KeyInterner {
    fields: Fields,
    encoder: KeyEncoder,
    hasher: FixedState,
    /// By the low half of a key's hash; with its high half, by which nearly all other keys are told without a look at them.
    table: HashTable<(u32, KeyId)>,
    /// Hashes of the keys of a batch.
    hashes: Vec<u64>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    null_text: Option<KeyId>,
}

/// Hashes with fixed seeds, so that two runs number keys alike.
pub(crate) fn fixed_hasher() -> FixedState {
    FixedState::with_seed(0x243f_6a88_85a3_08d3)
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
    fn likely(&mut self, hash: u64, key: &[u8]) -> KeyId {
        match self.table.find(hash, |(high, _)| *high == high_half(hash)) {
            Some((_, id)) => *id,
            None => self.add(hash, key),
        }
    }

    /// The number of a key.
    fn number(&mut self, hash: u64, key: &[u8]) -> KeyId {
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

/// The hash of a key's bytes; that of a slice would also go over its length. `None` is the NULL of a single text key.
pub(crate) fn hash_key(hasher: &FixedState, key: Option<&[u8]>) -> u64 {
    let Some(key) = key else { return 0 };
    let mut hasher = hasher.build_hasher();
    hasher.write(key);
    hasher.finish()
}

/// What the table does not go by to find a place.
fn high_half(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// Whether two keys are the same. Most are short, and cost less to compare here than a call would.
fn is_same(one: &[u8], other: &[u8]) -> bool {
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

/// Turns key columns into bytes.
#[derive(Debug)]
pub(crate) enum KeyEncoder {
    None,
    Text,
    Rows(Box<RowConverter>),
}

impl KeyEncoder {
    /// An encoder of keys with these columns.
    pub(crate) fn new(fields: &Fields) -> Result<Self> {
        if fields.is_empty() {
            return Ok(Self::None);
        }
        if fields.len() == 1 && *fields[0].data_type() == DataType::Utf8 {
            return Ok(Self::Text);
        }
        let fields = fields.iter().map(|f| SortField::new(f.data_type().clone())).collect();
        Ok(Self::Rows(Box::new(RowConverter::new(fields)?)))
    }

    /// The keys of some rows.
    pub(crate) fn encode(&self, columns: &[ArrayRef]) -> Result<EncodedKeys> {
        Ok(match self {
            Self::None => EncodedKeys::None,
            Self::Text => EncodedKeys::Text(columns[0].as_string::<i32>().clone()),
            Self::Rows(converter) => EncodedKeys::Rows(converter.convert_columns(columns)?),
        })
    }
}

/// Keys of some rows as bytes.
pub(crate) enum EncodedKeys {
    None,
    Text(StringArray),
    Rows(Rows),
}

impl EncodedKeys {
    /// The key of a row; `None` for a null text.
    #[inline]
    pub(crate) fn bytes(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::None => Some(&[]),
            Self::Text(array) if array.is_null(row) => None,
            Self::Text(array) => Some(array.value(row).as_bytes()),
            Self::Rows(rows) => Some(rows.row(row).data()),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::compute::cast;
    use arrow::datatypes::Schema;

    use super::*;

    fn text(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn equal_keys_share_a_number_and_come_back() {
        let number: ArrayRef = Arc::new(Int64Array::from(vec![1, 1, 2, 1]));
        let names = text(&[Some("a"), None, Some("a"), Some("a")]);
        let cases: [(Fields, Vec<ArrayRef>, [KeyId; 4]); 3] = [
            (Fields::empty(), vec![], [0, 0, 0, 0]),
            (vec![Field::new("k", DataType::Utf8, true)].into(), vec![names.clone()], [0, 1, 0, 0]),
            (
                vec![Field::new("k", DataType::Utf8, true), Field::new("n", DataType::Int64, true)]
                    .into(),
                vec![names, number],
                [0, 1, 2, 0],
            ),
        ];
        for (fields, columns, expected) in cases {
            let mut interner = KeyInterner::new(&fields).unwrap();
            let mut ids = Vec::new();
            interner.intern(&columns, 4, &mut ids).unwrap();
            assert_eq!(ids, expected);
            let back = interner.columns(&ids).unwrap();
            assert_eq!(back, columns);
        }
    }

    #[test]
    fn a_dictionary_comes_back_as_one_or_is_refused() {
        let keys = |index: DataType| -> (Fields, ArrayRef) {
            let kind = DataType::Dictionary(Box::new(index), Box::new(DataType::Utf8));
            let column = cast(&text(&[Some("a"), None, Some("b"), Some("a")]), &kind).unwrap();
            (vec![Field::new("k", kind, true)].into(), column)
        };
        let (fields, column) = keys(DataType::UInt32);
        let mut interner = KeyInterner::new(&fields).unwrap();
        let mut ids = Vec::new();
        interner.intern(std::slice::from_ref(&column), 4, &mut ids).unwrap();
        assert_eq!(ids, [0, 1, 2, 0]);
        let back = interner.columns(&ids).unwrap();
        assert_eq!(back[0].data_type(), column.data_type());
        let texts = |column: &ArrayRef| cast(column, &DataType::Utf8).unwrap();
        assert_eq!(&texts(&back[0]), &texts(&column));
        // A window may hold more keys than so small an index can tell apart.
        let error = KeyInterner::new(&keys(DataType::Int8).0).unwrap_err();
        assert!(error.hint().unwrap().contains("arrow_cast(k, 'Utf8')"), "{error}");
    }

    #[test]
    fn keys_of_one_hash_are_told_apart() {
        let fields: Fields = vec![Field::new("k", DataType::Utf8, true)].into();
        let mut interner = KeyInterner::new(&fields).unwrap();
        let hash = hash_key(&interner.hasher, Some(b"a"));
        assert_eq!(interner.likely(hash, b"a"), 0);
        // What has the same hash is taken for the same, until a look at the bytes says otherwise.
        assert_eq!(interner.likely(hash, b"b"), 0);
        assert_eq!((interner.number(hash, b"b"), interner.number(hash, b"a")), (1, 0));
        assert_eq!((interner.number(hash, b"b"), interner.len()), (1, 2));
        for (one, other) in [
            ("12345678", "12345679"),
            ("1234567x9", "1234567y9"),
            ("0123456789abcdef", "0123456789abcdeg"),
            ("0123456789abcdefg", "0123456789abcdefh"),
            ("12345678", "123456789"),
            ("1234567", "1234568"),
            ("", "1"),
        ] {
            assert!(is_same(one.as_bytes(), one.to_owned().as_bytes()), "{one}");
            assert!(!is_same(one.as_bytes(), other.as_bytes()), "{one} {other}");
        }
    }

    #[test]
    fn a_null_text_is_not_an_empty_text() {
        let fields: Fields = vec![Field::new("k", DataType::Utf8, true)].into();
        let mut interner = KeyInterner::new(&fields).unwrap();
        let mut ids = Vec::new();
        let keys = text(&[Some(""), None, Some(""), None]);
        interner.intern(std::slice::from_ref(&keys), 4, &mut ids).unwrap();
        assert_eq!(ids, [0, 1, 0, 1]);
        let keys = text(&[None, Some("")]);
        let mut other = KeyInterner::new(&fields).unwrap();
        other.intern(&[keys], 2, &mut ids).unwrap();
        assert_eq!(ids, [0, 1]);
    }

    #[test]
    fn retaining_renumbers_and_forgets() {
        let fields: Fields = vec![Field::new("k", DataType::Utf8, true)].into();
        let mut interner = KeyInterner::new(&fields).unwrap();
        let mut ids = Vec::new();
        let keys = text(&[Some("a"), None, Some("c"), Some("d")]);
        interner.intern(&[keys], 4, &mut ids).unwrap();
        interner.retain(&[1, 3]);
        let keys = text(&[Some("d"), Some("a"), None]);
        interner.intern(std::slice::from_ref(&keys), 3, &mut ids).unwrap();
        assert_eq!(ids, [1, 2, 0]);
        assert_eq!(interner.columns(&ids).unwrap(), [keys]);
    }

    #[test]
    fn a_split_keeps_every_row_and_all_rows_of_a_key_together() {
        let field = Field::new("k", DataType::Int64, false);
        let schema = Arc::new(Schema::new(vec![field]));
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values((0..1000).map(|i| i % 37)));
        let rows = RecordBatch::try_new(schema.clone(), vec![column]).unwrap();
        let mut splitter = KeySplitter::new(&schema, vec![0], 4).unwrap();
        let parts = splitter.split(&rows).unwrap();
        assert!(parts.len() > 1);
        let mut owner = std::collections::BTreeMap::new();
        let mut total = 0;
        for (worker, part) in parts {
            total += part.num_rows();
            for key in part.column(0).as_primitive::<arrow::datatypes::Int64Type>().values() {
                assert_eq!(*owner.entry(*key).or_insert(worker), worker);
            }
        }
        assert_eq!((total, owner.len()), (1000, 37));
    }
}
