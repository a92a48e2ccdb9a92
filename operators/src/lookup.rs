//! The join of rows with a table that does not change: an index over the table's keys, built once.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::take;
use arrow::datatypes::{Field, Fields, Schema, SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;
use arrow_row::{RowConverter, Rows, SortField};
use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::error::{OperatorError, Result};
use crate::expression::Transform;
use crate::key::hash_key;

/// Pairs of a row and a match that are looked at together, unless a single row has more.
const PAIRS_MAX: usize = 1 << 16;
/// Ends the list of rows that share a key.
const NONE: u32 = u32::MAX;

/// The rows of a table by their keys. It is not changed once it has been built, so that all workers share it.
pub struct LookupTable {
    rows: RecordBatch,
    converter: RowConverter,
    /// The key of each row.
    keys: Rows,
    hasher: FixedState,
    /// The first row of each distinct key.
    first: HashTable<u32>,
    /// The next row with the key of this one.
    next: Vec<u32>,
}

impl fmt::Debug for LookupTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookupTable").field("rows", &self.rows.num_rows()).finish_non_exhaustive()
    }
}

impl LookupTable {
    /// Indexes `rows` by `keys`, arrays as long as the rows. Rows of which a key is null are never found.
    ///
    /// # Errors
    /// If there is no key, a key's type cannot be one, or the table has too many rows to number them.
    pub fn new(rows: RecordBatch, keys: &[ArrayRef]) -> Result<Self> {
        let count = rows.num_rows();
        if keys.is_empty() || count >= NONE as usize {
            return Err(OperatorError::Columns {
                owner: "lookup".into(),
                problem: format!("has {} keys and {count} rows", keys.len()),
                hint: "join by at least one column, with fewer rows".into(),
            });
        }
        let fields = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let nulls = nulls_of(keys);
        let keys = converter.convert_columns(keys)?;
        let hasher = FixedState::with_seed(0x9e37_79b9_7f4a_7c15);
        let mut table = Self {
            rows,
            converter,
            keys,
            hasher,
            first: HashTable::new(),
            next: vec![NONE; count],
        };
        // From the last row to the first, so that each list is in the order of the table.
        for row in (0..count).rev().filter(|row| nulls.as_ref().is_none_or(|n| n.is_valid(*row))) {
            table.add(row as u32);
        }
        Ok(table)
    }

    fn add(&mut self, row: u32) {
        let Self { keys, hasher, first, next, .. } = self;
        let key = |row: u32| keys.row(row as usize).data();
        let hash = hash_key(hasher, Some(key(row)));
        match first.find_mut(hash, |other| key(*other) == key(row)) {
            Some(head) => next[row as usize] = std::mem::replace(head, row),
            None => {
                first.insert_unique(hash, row, |row| hash_key(hasher, Some(key(*row))));
            }
        }
    }

    /// The rows with this key, in the order of the table.
    fn find(&self, key: &[u8]) -> impl Iterator<Item = u32> {
        let hash = hash_key(&self.hasher, Some(key));
        let is_key = |row: &u32| self.keys.row(*row as usize).data() == key;
        let head = self.first.find(hash, is_key).copied().unwrap_or(NONE);
        let next =
            move |row: &u32| self.next.get(*row as usize).copied().filter(|row| *row != NONE);
        std::iter::successors((head != NONE).then_some(head), next)
    }

    /// How many rows it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether it has no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let index = self.keys.size() + self.next.capacity() * 4 + self.first.capacity() * 5;
        self.rows.get_array_memory_size() + index
    }
}

/// Rows of which some key is null.
fn nulls_of(keys: &[ArrayRef]) -> Option<NullBuffer> {
    keys.iter().fold(None, |all, key| NullBuffer::union(all.as_ref(), key.logical_nulls().as_ref()))
}

/// A join of rows with a table: each row once for each row of the table that matches it.
#[derive(Clone, Debug)]
pub struct Lookup {
    table: Arc<LookupTable>,
    keys: Vec<usize>,
    width: usize,
    residual: Option<Arc<dyn Transform>>,
    keeps_unmatched: bool,
    schema: SchemaRef,
}

impl Lookup {
    /// Joins rows of `input` with a table. `keys` are the input's columns that are compared with the table's keys, in
    /// their order and of their types; a null matches nothing. The result has the first `width` columns of the input, then
    /// those of the table. With `keeps_unmatched` a row without a match is there once, with nulls for the table.
    #[must_use]
    pub fn new(
        table: Arc<LookupTable>,
        input: &Schema,
        keys: Vec<usize>,
        width: usize,
        keeps_unmatched: bool,
    ) -> Self {
        let nullable = |field: &Arc<Field>| match keeps_unmatched {
            true => Arc::new(field.as_ref().clone().with_nullable(true)),
            false => Arc::clone(field),
        };
        let own = input.fields().iter().take(width).map(Arc::clone);
        let fields: Fields =
            own.chain(table.rows.schema_ref().fields().iter().map(nullable)).collect();
        let schema = Arc::new(Schema::new(fields));
        Self { table, keys, width, residual: None, keeps_unmatched, schema }
    }

    /// Takes only matches that `residual` lets through. It reads rows of [`Lookup::candidates`], and gives back the last
    /// column alone.
    #[must_use]
    pub fn with_residual(self, residual: Arc<dyn Transform>) -> Self {
        Self { residual: Some(residual), ..self }
    }

    /// Columns of the result.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Columns of what the residual condition reads: those of the result, then the number of the match.
    #[must_use]
    pub fn candidates(&self) -> SchemaRef {
        let number = Field::new("match", arrow::datatypes::DataType::UInt64, false);
        let fields = self.schema.fields().iter().map(Arc::clone);
        Arc::new(Schema::new(fields.chain([Arc::new(number)]).collect::<Fields>()))
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &LookupTable {
        &self.table
    }

    /// Whether rows without a match are kept.
    #[must_use]
    pub fn keeps_unmatched(&self) -> bool {
        self.keeps_unmatched
    }

    /// The joined rows, in the order of the input and then of the table.
    ///
    /// # Errors
    /// If the residual condition fails on some row.
    pub fn apply(&self, rows: &RecordBatch) -> Result<Vec<RecordBatch>> {
        let keys: Vec<ArrayRef> =
            self.keys.iter().map(|key| Arc::clone(rows.column(*key))).collect();
        let nulls = nulls_of(&keys);
        let keys = self.table.converter.convert_columns(&keys)?;
        let (mut own, mut found) = (Vec::new(), Vec::new());
        let (mut joined, mut start) = (Vec::new(), 0);
        for row in 0..rows.num_rows() {
            if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
                found.extend(self.table.find(keys.row(row).data()));
                own.resize(found.len(), row as u32);
            }
            if found.len() >= PAIRS_MAX || row + 1 == rows.num_rows() {
                let pairs = (std::mem::take(&mut own), std::mem::take(&mut found));
                let pairs = self.filter(rows, pairs)?;
                let batch = self.join(rows, start..row as u32 + 1, pairs)?;
                joined.extend(Some(batch).filter(|batch| batch.num_rows() > 0));
                start = row as u32 + 1;
            }
        }
        Ok(joined)
    }

    /// The pairs that the residual condition lets through.
    fn filter(&self, rows: &RecordBatch, pairs: Pairs) -> Result<Pairs> {
        let Some(residual) = self.residual.as_ref().filter(|_| !pairs.0.is_empty()) else {
            return Ok(pairs);
        };
        let (own, found) = pairs;
        let mut columns = self.columns(rows, &own, &UInt32Array::from(found.clone()))?;
        columns.push(Arc::new(UInt64Array::from_iter_values(0..own.len() as u64)));
        let passed = residual.apply(&RecordBatch::try_new(self.candidates(), columns)?)?;
        let numbers = passed.column(0).as_primitive::<UInt64Type>().values().iter();
        Ok(numbers.map(|number| (own[*number as usize], found[*number as usize])).unzip())
    }

    /// Puts pairs together, and rows of `range` that are in none, if these are kept.
    fn join(&self, rows: &RecordBatch, range: Range<u32>, pairs: Pairs) -> Result<RecordBatch> {
        let (own, found) = pairs;
        if !self.keeps_unmatched {
            let columns = self.columns(rows, &own, &UInt32Array::from(found))?;
            return Ok(RecordBatch::try_new(self.schema(), columns)?);
        }
        let mut pairs = own.into_iter().zip(found).peekable();
        let (mut own, mut found) = (Vec::new(), Vec::new());
        for row in range {
            let before = own.len();
            while let Some((_, place)) = pairs.next_if(|(of, _)| *of == row) {
                own.push(row);
                found.push(Some(place));
            }
            if own.len() == before {
                own.push(row);
                found.push(None);
            }
        }
        let columns = self.columns(rows, &own, &UInt32Array::from(found))?;
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }

    fn columns(
        &self,
        rows: &RecordBatch,
        own: &[u32],
        found: &UInt32Array,
    ) -> Result<Vec<ArrayRef>> {
        let own = UInt32Array::from(own.to_vec());
        let taken = rows.columns().iter().take(self.width).map(|column| take(column, &own, None));
        let mut columns = taken.collect::<std::result::Result<Vec<_>, _>>()?;
        for column in self.table.rows.columns() {
            columns.push(take(column, found, None)?);
        }
        Ok(columns)
    }
}

/// Rows of the input, and beside each a row of the table.
type Pairs = (Vec<u32>, Vec<u32>);

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn text(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn numbers(values: Vec<i64>) -> ArrayRef {
        Arc::new(Int64Array::from(values))
    }

    fn hosts() -> Arc<LookupTable> {
        let names = text(&[Some("a"), Some("b"), None, Some("a")]);
        let rows = [("region", text(&[Some("x"), Some("y"), Some("none"), Some("z")]))];
        let rows = RecordBatch::try_from_iter(rows).unwrap();
        Arc::new(LookupTable::new(rows, &[names]).unwrap())
    }

    fn samples() -> RecordBatch {
        let hosts = text(&[Some("b"), Some("a"), None, Some("c")]);
        RecordBatch::try_from_iter([("n", numbers(vec![1, 2, 3, 4])), ("host", hosts)]).unwrap()
    }

    /// Results as `n:region`.
    fn joined(lookup: &Lookup, rows: &RecordBatch) -> Vec<String> {
        let show = |batch: &RecordBatch| -> Vec<String> {
            let numbers = batch.column(0).as_primitive::<arrow::datatypes::Int64Type>();
            let regions = batch.column(1).as_string::<i32>();
            let pairs = numbers.values().iter().zip(regions.iter());
            pairs.map(|(n, region)| format!("{n}:{}", region.unwrap_or("-"))).collect()
        };
        lookup.apply(rows).unwrap().iter().flat_map(show).collect()
    }

    #[test]
    fn duplicates_multiply_and_null_matches_nothing() {
        let rows = samples();
        let inner = Lookup::new(hosts(), &rows.schema(), vec![1], 1, false);
        assert_eq!(joined(&inner, &rows), ["1:y", "2:x", "2:z"]);
        let left = Lookup::new(hosts(), &rows.schema(), vec![1], 1, true);
        assert_eq!(joined(&left, &rows), ["1:y", "2:x", "2:z", "3:-", "4:-"]);
        assert!(left.schema().field(1).is_nullable());
        assert!(left.apply(&rows.slice(0, 0)).unwrap().is_empty());
        assert!(inner.apply(&rows.slice(2, 2)).unwrap().is_empty());
    }

    /// Lets matches through whose region comes after a letter.
    #[derive(Debug)]
    struct After(&'static str);

    impl Transform for After {
        fn schema(&self) -> SchemaRef {
            Arc::new(Schema::new(vec![Field::new(
                "match",
                arrow::datatypes::DataType::UInt64,
                false,
            )]))
        }

        fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
            let regions = batch.column(1).as_string::<i32>();
            let passed =
                (0..batch.num_rows() as u64).filter(|i| regions.value(*i as usize) > self.0);
            let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(passed));
            Ok(RecordBatch::try_new(self.schema(), vec![numbers])?)
        }
    }

    #[test]
    fn a_residual_condition_decides_what_is_a_match() {
        let rows = samples();
        let inner = Lookup::new(hosts(), &rows.schema(), vec![1], 1, false);
        assert_eq!(joined(&inner.with_residual(Arc::new(After("x"))), &rows), ["1:y", "2:z"]);
        let left = Lookup::new(hosts(), &rows.schema(), vec![1], 1, true);
        let left = left.with_residual(Arc::new(After("y")));
        assert_eq!(joined(&left, &rows), ["1:-", "2:z", "3:-", "4:-"]);
    }

    #[test]
    fn many_matches_come_in_several_batches_and_all_of_them_come() {
        let count = 40_000;
        let keys = numbers(vec![7; count]);
        let table =
            RecordBatch::try_from_iter([("t", numbers((0..count as i64).collect()))]).unwrap();
        let table = Arc::new(LookupTable::new(table, &[keys]).unwrap());
        let rows = RecordBatch::try_from_iter([("k", numbers(vec![7, 8, 7, 7]))]).unwrap();
        let lookup = Lookup::new(table, &rows.schema(), vec![0], 1, true);
        let batches = lookup.apply(&rows).unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 3 * count + 1);
        assert!(batches.len() > 1);
        assert!(lookup.table().bytes() > count * 8);
    }

    #[test]
    fn several_keys_of_any_type_are_compared() {
        let table = RecordBatch::try_from_iter([("t", numbers(vec![1, 2, 3]))]).unwrap();
        let keys = [text(&[Some("a"), Some("a"), Some("b")]), numbers(vec![1, 2, 1])];
        let table = Arc::new(LookupTable::new(table, &keys).unwrap());
        let rows = RecordBatch::try_from_iter([
            ("name", text(&[Some("a"), Some("b"), Some("b")])),
            ("n", numbers(vec![2, 1, 2])),
        ]);
        let rows = rows.unwrap();
        let lookup = Lookup::new(table, &rows.schema(), vec![0, 1], 0, false);
        let found = lookup.apply(&rows).unwrap();
        assert_eq!(found[0].column(0), &numbers(vec![2, 3]));
        let empty = RecordBatch::try_from_iter([("t", numbers(vec![]))]).unwrap();
        assert!(LookupTable::new(empty.clone(), &[]).is_err());
        assert!(LookupTable::new(empty, &[numbers(vec![])]).unwrap().is_empty());
    }
}
