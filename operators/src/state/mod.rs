//! What operators hold between two epochs, taken out of them and put back: the content of a checkpoint.
//!
//! Between two epochs, when every operator has answered the first and no row of the second has come, all that a query
//! knows is in its operators. Each [`Stateful`] one gives it away as tables of rows, which share their buffers with it,
//! so that a worker is held up for as long as it takes to list them; and as a note, a small value for what is no row.
//!
//! Rows of a keyed table carry the [group](crate::key::KEY_GROUPS) of their key. A worker that takes state up gets the
//! rows whose groups it owns, whoever wrote them, so that the number of workers may differ. Rows without a key go to
//! the first worker, unless every worker holds the same of them. Notes are given to every worker, those of all writers.

mod keeper;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, RecordBatch, RecordBatchOptions, UInt8Array, UInt32Array, new_null_array,
};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Field, Fields, SchemaRef};
use arrow_row::{Row, RowConverter};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{OperatorError, Result};
use crate::key::{KeyEncoder, KeyShare, group_of};

pub(crate) use keeper::Keeper;
pub use keeper::{OperatorId, Registered, SavedOperator};

/// An operator's state, between two epochs.
pub trait Stateful {
    /// Writes all that is held. What is held stays as it was, as far as answers go.
    ///
    /// # Errors
    /// If a state cannot be expressed as arrays.
    fn save(&mut self, out: &mut StateWriter) -> Result<()>;

    /// Takes up this worker's share of what was written. Called once, before the first row.
    ///
    /// # Errors
    /// If it was written by something else.
    fn load(&mut self, saved: &StateReader<'_>) -> Result<()>;
}

impl<T: Stateful + ?Sized> Stateful for Box<T> {
    fn save(&mut self, out: &mut StateWriter) -> Result<()> {
        (**self).save(out)
    }

    fn load(&mut self, saved: &StateReader<'_>) -> Result<()> {
        (**self).load(saved)
    }
}

/// Rows of one table, all of one schema.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedRows {
    /// The rows.
    pub rows: RecordBatch,
    /// The group of each row's key; `None` where rows have no key.
    pub groups: Option<UInt8Array>,
}

/// What one operator holds on one worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SavedState {
    /// Tables by name.
    pub tables: BTreeMap<String, Vec<SavedRows>>,
    /// What is no row; empty where there is nothing of the kind.
    pub note: Vec<u8>,
}

/// Takes an operator's state down.
#[derive(Debug, Default)]
pub struct StateWriter {
    state: SavedState,
}

impl StateWriter {
    /// Adds rows that belong to the keys in the columns `keys`, those by which the operator's input is split. Without
    /// columns all rows are the first worker's.
    ///
    /// # Errors
    /// If a column's type cannot be a key.
    pub fn keyed(&mut self, table: &str, rows: RecordBatch, keys: &[usize]) -> Result<()> {
        if keys.is_empty() {
            self.add(table, SavedRows { rows, groups: None });
            return Ok(());
        }
        let fields: Fields = keys.iter().map(|&key| rows.schema_ref().field(key).clone()).collect();
        let columns: Vec<_> = keys.iter().map(|&key| rows.column(key).clone()).collect();
        self.keyed_by(table, rows, &fields, &columns)
    }

    /// Adds rows whose keys are not among their columns.
    ///
    /// # Errors
    /// If a column's type cannot be a key.
    pub fn keyed_by(
        &mut self,
        table: &str,
        rows: RecordBatch,
        fields: &Fields,
        keys: &[ArrayRef],
    ) -> Result<()> {
        if keys.is_empty() {
            self.add(table, SavedRows { rows, groups: None });
            return Ok(());
        }
        let encoded = KeyEncoder::new(fields)?.encode(keys)?;
        let groups = (0..rows.num_rows()).map(|row| group_of(encoded.bytes(row)) as u8);
        let groups = Some(groups.collect());
        self.add(table, SavedRows { rows, groups });
        Ok(())
    }

    /// Adds rows with the bytes of their keys.
    pub fn keyed_bytes<'k>(
        &mut self,
        table: &str,
        rows: RecordBatch,
        keys: impl Iterator<Item = Option<&'k [u8]>>,
    ) {
        let groups = Some(keys.map(|key| group_of(key) as u8).collect());
        self.add(table, SavedRows { rows, groups });
    }

    /// Adds rows without a key.
    pub fn unkeyed(&mut self, table: &str, rows: RecordBatch) {
        self.add(table, SavedRows { rows, groups: None });
    }

    fn add(&mut self, table: &str, rows: SavedRows) {
        if rows.rows.num_rows() > 0 {
            self.state.tables.entry(table.to_owned()).or_default().push(rows);
        }
    }

    /// Writes the note.
    ///
    /// # Errors
    /// If the value cannot be written.
    pub fn note(&mut self, value: &impl Serialize) -> Result<()> {
        self.state.note = postcard::to_stdvec(value)
            .map_err(|error| problem(format!("cannot be written: {error}")))?;
        Ok(())
    }

    /// Writes the note as bytes.
    pub fn bytes(&mut self, note: Vec<u8>) {
        self.state.note = note;
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> SavedState {
        self.state
    }
}

/// What one operator held on all workers, as one worker reads it.
#[derive(Clone, Copy, Debug)]
pub struct StateReader<'a> {
    states: &'a [SavedState],
    share: KeyShare,
}

impl<'a> StateReader<'a> {
    /// Reads what was written by as many workers as there are states.
    #[must_use]
    pub fn new(states: &'a [SavedState], share: KeyShare) -> Self {
        Self { states, share }
    }

    /// Which keys are asked for.
    #[must_use]
    pub fn share(&self) -> KeyShare {
        self.share
    }

    /// The rows of a table that fall to this worker.
    ///
    /// # Errors
    /// If a kernel fails, which would be a bug.
    pub fn rows(&self, table: &str) -> Result<Vec<RecordBatch>> {
        let mut own = Vec::new();
        for saved in self.states.iter().filter_map(|state| state.tables.get(table)).flatten() {
            let part = self.own_part(saved)?;
            own.extend(part.filter(|rows| rows.num_rows() > 0));
        }
        Ok(own)
    }

    /// As [`StateReader::rows`], with these columns: those that were not there yet are null.
    ///
    /// # Errors
    /// If the columns differ in another way.
    pub fn rows_as(&self, table: &str, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
        self.rows(table)?.into_iter().map(|rows| conform(rows, schema)).collect()
    }

    /// Reads what falls to a worker that is the only one.
    #[must_use]
    pub fn for_one_worker(&self) -> Self {
        Self { share: KeyShare { worker: 0, workers: 1 }, ..*self }
    }

    /// The rows of a table that every worker wrote, for each worker that reads: all alike, but where one had no room.
    #[must_use]
    pub fn of_fullest(&self, table: &str) -> Vec<RecordBatch> {
        let tables = self.states.iter().filter_map(|state| state.tables.get(table));
        let rows = |table: &&Vec<SavedRows>| {
            table.iter().map(|saved| saved.rows.num_rows()).sum::<usize>()
        };
        let fullest = tables.max_by_key(rows);
        fullest.into_iter().flatten().map(|saved| saved.rows.clone()).collect()
    }

    fn own_part(&self, saved: &SavedRows) -> Result<Option<RecordBatch>> {
        let Some(groups) = &saved.groups else {
            return Ok((self.share.worker == 0).then(|| saved.rows.clone()));
        };
        if self.share.workers == 1 {
            return Ok(Some(saved.rows.clone()));
        }
        let own: UInt32Array = (0..groups.len() as u32)
            .filter(|&row| self.share.owns_group(u64::from(groups.value(row as usize))))
            .collect();
        Ok(Some(take_record_batch(&saved.rows, &own)?))
    }

    /// The notes of all writers.
    ///
    /// # Errors
    /// If one holds something else.
    pub fn notes<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        let read = |state: &SavedState| {
            postcard::from_bytes(&state.note).map_err(|_| problem("holds something else"))
        };
        self.states.iter().filter(|state| !state.note.is_empty()).map(read).collect()
    }

    /// The notes of all writers, as bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<Vec<u8>> {
        self.states.iter().map(|state| state.note.clone()).collect()
    }
}

/// Rows with these columns.
fn conform(rows: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let count = rows.num_rows();
    let own = rows.schema();
    let column = |field: &Arc<Field>| match own.column_with_name(field.name()) {
        Some((index, found)) if found.data_type() == field.data_type() => {
            Ok(rows.column(index).clone())
        }
        None if field.is_nullable() => Ok(new_null_array(field.data_type(), count)),
        _ => Err(problem(format!(
            "has no column \"{}\" of type {}",
            field.name(),
            field.data_type()
        ))),
    };
    let are_in_place = own.fields().len() == schema.fields().len()
        && own.fields().iter().zip(schema.fields()).all(|(a, b)| a.data_type() == b.data_type());
    // Names may repeat; then places tell columns apart.
    let columns = match are_in_place {
        true => rows.columns().to_vec(),
        false => schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?,
    };
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// Columns of rows whose bytes may have come out of a checkpoint. Arrow believes the lengths in them, and panics where they
/// are not so.
pub(crate) fn decode_rows<'a>(
    converter: &RowConverter,
    rows: impl IntoIterator<Item = Row<'a>>,
) -> Result<Vec<ArrayRef>> {
    let decoded = catch_unwind(AssertUnwindSafe(|| converter.convert_rows(rows)));
    Ok(decoded.map_err(|_| problem("holds rows that are damaged"))??)
}

pub(crate) fn problem(text: impl Into<String>) -> OperatorError {
    OperatorError::Snapshot { owner: "an operator".into(), problem: text.into() }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, StringArray};

    use super::*;

    fn rows(keys: &[Option<&str>]) -> RecordBatch {
        let keys: ArrayRef = Arc::new(StringArray::from(keys.to_vec()));
        RecordBatch::try_from_iter([("k", keys)]).unwrap()
    }

    #[test]
    fn each_key_goes_to_the_one_worker_that_owns_it() {
        let names: Vec<String> = (0..100).map(|key| format!("key {key}")).collect();
        let mut keys: Vec<Option<&str>> = names.iter().map(|name| Some(name.as_str())).collect();
        keys.push(None);
        let mut writer = StateWriter::default();
        writer.keyed("a", rows(&keys), &[0]).unwrap();
        writer.unkeyed("b", rows(&[Some("x")]));
        writer.note(&7_u32).unwrap();
        let saved = [writer.finish()];
        for workers in [1, 2, 4] {
            let mut found = 0;
            for worker in 0..workers {
                let share = KeyShare { worker, workers };
                let reader = StateReader::new(&saved, share);
                for rows in reader.rows("a").unwrap() {
                    let keys = rows.column(0).as_string::<i32>();
                    found += keys.len();
                    for row in 0..keys.len() {
                        let key = keys.is_valid(row).then(|| keys.value(row).as_bytes());
                        assert!(share.owns(key, true));
                    }
                }
                assert_eq!(reader.rows("b").unwrap().len(), usize::from(worker == 0));
                assert_eq!(reader.notes::<u32>().unwrap(), [7]);
                assert!(reader.rows("c").unwrap().is_empty());
            }
            assert_eq!(found, 101);
        }
        let reader = StateReader::new(&saved, KeyShare::ALL);
        assert!(reader.notes::<String>().is_err());
    }
}
