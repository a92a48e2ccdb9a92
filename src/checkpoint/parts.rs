//! Tables of state as parts: Arrow IPC streams of some key groups each, named by their content.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt8Array, UInt32Array};
use arrow::compute::{concat, concat_batches, take, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow_ipc::writer::StreamWriter;
use driftline_operators::key::KEY_GROUPS;
use driftline_operators::state::{SavedRows, SavedState};

use super::manifest::{Note, PARTS, PartRef, WorkerRecord};
use super::retry::Retrying;
use crate::error::{Error, ErrorKind, Result};
use crate::source::batches_of;

/// A part holds rows of one key group alone, or no more than this. Larger parts would be fewer, and each key that changes
/// would have more of others written again with it.
const PART_BYTES_MAX: usize = 1 << 16;
/// Parts that are handed to the store together, and their bytes.
const TOGETHER: usize = 64;
const TOGETHER_BYTES: usize = 1 << 22;
/// A longer note is a part.
const NOTE_BYTES_MAX: usize = 1 << 12;
/// The column of key groups, where rows have a key.
const GROUP: &str = "key_group";

/// Writes parts that are not there yet.
pub(super) struct Writer<'a> {
    store: &'a Retrying,
    known: &'a mut HashSet<PartRef>,
    /// Parts that are not written yet.
    waiting: BTreeMap<String, (PartRef, Vec<u8>)>,
    waiting_bytes: usize,
    /// Bytes of all parts, and of those among them that had to be written.
    pub(super) bytes: u64,
    pub(super) bytes_written: u64,
}

impl<'a> Writer<'a> {
    /// `known` are the parts that the store has.
    pub(super) fn new(store: &'a Retrying, known: &'a mut HashSet<PartRef>) -> Self {
        let waiting = BTreeMap::new();
        Self { store, known, waiting, waiting_bytes: 0, bytes: 0, bytes_written: 0 }
    }

    pub(super) fn state(&mut self, state: SavedState) -> Result<WorkerRecord> {
        let mut tables = Vec::new();
        for (name, rows) in state.tables {
            let mut parts = Vec::new();
            // Batches of one schema go together; a table may have several.
            let (mut alike, mut rest) = (Vec::new(), rows);
            while let Some(first) = rest.first() {
                let schema = first.rows.schema();
                let keyed = first.groups.is_some();
                let is_alike = |rows: &SavedRows| {
                    rows.rows.schema() == schema && rows.groups.is_some() == keyed
                };
                let (same, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_alike);
                rest = others;
                alike.push(same);
            }
            for same in alike {
                parts.extend(self.table(&same)?);
            }
            tables.push((name, parts));
        }
        let note = match state.note.len() > NOTE_BYTES_MAX {
            true => Note::Part(self.part(&state.note)?),
            false => Note::Here(state.note),
        };
        Ok(WorkerRecord { note, tables })
    }

    /// Rows of one schema.
    fn table(&mut self, rows: &[SavedRows]) -> Result<Vec<PartRef>> {
        let schema = rows[0].rows.schema();
        let all = concat_batches(&schema, rows.iter().map(|rows| &rows.rows)).map_err(internal)?;
        let groups: Vec<&dyn Array> =
            rows.iter().filter_map(|rows| rows.groups.as_ref()).map(|g| g as &dyn Array).collect();
        if groups.is_empty() {
            return Ok(vec![self.batch(&all)?]);
        }
        let groups = concat(&groups).map_err(internal)?;
        let groups = groups.as_any().downcast_ref::<UInt8Array>().expect("groups are bytes");
        let mut rows_of = [0; KEY_GROUPS as usize];
        for &group in groups.values() {
            rows_of[usize::from(group)] += 1;
        }
        let (ranges, row_bytes) = (&mut Vec::new(), bytes_of_rows(&all) / all.num_rows() as f64);
        cut(&rows_of, 0..rows_of.len(), PART_BYTES_MAX as f64 / row_bytes, ranges);
        let mut part_of = [0; KEY_GROUPS as usize];
        for (part, range) in ranges.iter().enumerate() {
            part_of[range.clone()].fill(part);
        }
        let mut of_part: Vec<Vec<u32>> = vec![Vec::new(); ranges.len()];
        for (row, group) in groups.values().iter().enumerate() {
            of_part[part_of[usize::from(*group)]].push(row as u32);
        }
        let mut written = Vec::new();
        for rows in of_part {
            let rows = UInt32Array::from(rows);
            let part = take_record_batch(&all, &rows).map_err(internal)?;
            let groups = take(groups, &rows, None).map_err(internal)?;
            written.push(self.batch(&with_groups(part, groups)?)?);
        }
        Ok(written)
    }

    pub(super) fn batch(&mut self, rows: &RecordBatch) -> Result<PartRef> {
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, rows.schema_ref()).map_err(internal)?;
        writer.write(rows).and_then(|()| writer.finish()).map_err(internal)?;
        drop(writer);
        self.part(&bytes)
    }

    fn part(&mut self, bytes: &[u8]) -> Result<PartRef> {
        let part = PartRef::of(bytes);
        self.bytes += part.bytes;
        if !self.known.contains(&part) {
            let name = part.name();
            if self.waiting.insert(name, (part, bytes.to_vec())).is_none() {
                self.waiting_bytes += bytes.len();
            }
            if self.waiting.len() == TOGETHER || self.waiting_bytes >= TOGETHER_BYTES {
                self.finish()?;
            }
        }
        Ok(part)
    }

    /// Writes the parts that wait. The store has all parts then.
    pub(super) fn finish(&mut self) -> Result<()> {
        let blobs: Vec<(&str, &[u8])> =
            self.waiting.iter().map(|(name, (_, bytes))| (&name[..], &bytes[..])).collect();
        self.store.put_all(&blobs)?;
        self.bytes_written += self.waiting_bytes as u64;
        self.waiting_bytes = 0;
        let written = std::mem::take(&mut self.waiting);
        self.known.extend(written.into_values().map(|(part, _)| part));
        Ok(())
    }
}

/// Cuts key groups into ranges of at most `rows_max` rows, or of one group: a range that holds more is halved. What a range
/// holds decides about that range alone, so that a table that grows is cut anew only where it has grown too large.
fn cut(rows_of: &[usize], range: Range<usize>, rows_max: f64, ranges: &mut Vec<Range<usize>>) {
    let rows: usize = rows_of[range.clone()].iter().sum();
    if rows as f64 <= rows_max || range.len() == 1 {
        ranges.extend((rows > 0).then_some(range));
        return;
    }
    let half = range.start + range.len() / 2;
    cut(rows_of, range.start..half, rows_max, ranges);
    cut(rows_of, half..range.end, rows_max, ranges);
}

/// Bytes of what is in the rows. What arrays have set aside beyond that depends on how they came about.
fn bytes_of_rows(rows: &RecordBatch) -> f64 {
    let bytes = rows.columns().iter().map(|column| {
        let data = column.to_data();
        data.get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
    });
    bytes.sum::<usize>() as f64
}

fn with_groups(rows: RecordBatch, groups: ArrayRef) -> Result<RecordBatch> {
    let mut fields: Vec<Arc<Field>> = rows.schema_ref().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(GROUP, DataType::UInt8, false)));
    let schema = Schema::new_with_metadata(fields, rows.schema_ref().metadata().clone());
    let mut columns = rows.columns().to_vec();
    columns.push(groups);
    RecordBatch::try_new(Arc::new(schema), columns).map_err(internal)
}

/// Reads what [`Writer::state`] wrote.
pub(super) fn read_state(store: &Retrying, record: &WorkerRecord) -> Result<SavedState> {
    let note = match &record.note {
        Note::Here(note) => note.clone(),
        Note::Part(part) => read_part(store, part)?,
    };
    let mut tables: BTreeMap<String, Vec<SavedRows>> = BTreeMap::new();
    for (name, parts) in &record.tables {
        for part in parts {
            for rows in read_batches(store, part)? {
                tables.entry(name.clone()).or_default().push(without_groups(rows)?);
            }
        }
    }
    Ok(SavedState { tables, note })
}

fn without_groups(mut rows: RecordBatch) -> Result<SavedRows> {
    let last = rows.num_columns().checked_sub(1);
    let Some(last) = last.filter(|&last| rows.schema_ref().field(last).name() == GROUP) else {
        return Ok(SavedRows { rows, groups: None });
    };
    let groups = rows.remove_column(last);
    match groups.as_any().downcast_ref::<UInt8Array>() {
        Some(groups) => Ok(SavedRows { rows, groups: Some(groups.clone()) }),
        None => {
            Err(Error::new(ErrorKind::Incompatible, "a part of a checkpoint holds something else"))
        }
    }
}

/// The rows of a part.
pub(super) fn read_batches(store: &Retrying, part: &PartRef) -> Result<Vec<RecordBatch>> {
    let name = part.name();
    // Lengths in it are not believed before they are checked: memory is not set aside for what is not there.
    batches_of(&name, read_part(store, part)?).map_err(|error| {
        let text = format!("checkpoint part \"{name}\" holds something else");
        Error::new(ErrorKind::Incompatible, text).with_source(error)
    })
}

/// A part's bytes, which are those that were written.
fn read_part(store: &Retrying, part: &PartRef) -> Result<Vec<u8>> {
    let name = part.name();
    let refuse = |problem: &str| {
        Error::new(ErrorKind::Incompatible, format!("checkpoint part \"{name}\" {problem}"))
            .with_hint("restore the folder from a copy, or remove the newest manifest to go back one checkpoint")
    };
    let bytes = store.get(&name)?.ok_or_else(|| refuse("is missing"))?;
    if PartRef::of(&bytes) != *part {
        return Err(refuse("is cut short or damaged"));
    }
    Ok(bytes)
}

/// Removes parts that no checkpoint names.
pub(super) fn sweep(
    store: &Retrying,
    kept: &BTreeSet<PartRef>,
    known: &mut HashSet<PartRef>,
) -> Result<()> {
    let names: BTreeSet<String> = kept.iter().map(PartRef::name).collect();
    for name in store.list()? {
        if name.starts_with(PARTS) && !names.contains(&name) {
            store.remove(&name)?;
        }
    }
    known.retain(|part| kept.contains(part));
    Ok(())
}

fn internal(error: arrow::error::ArrowError) -> Error {
    Error::internal("state could not be written").with_source(error)
}

#[cfg(test)]
mod tests {
    #[test]
    fn groups_are_cut_where_there_is_too_much() {
        let cut = |rows_of: &[usize], rows_max: f64| {
            let mut ranges = Vec::new();
            super::cut(rows_of, 0..rows_of.len(), rows_max, &mut ranges);
            ranges
        };
        let whole = cut(&[1, 1, 1, 1], 4.0);
        assert_eq!((whole.len(), whole[0].clone()), (1, 0..4));
        assert_eq!(cut(&[1, 1, 1, 2], 4.0), [0..2, 2..4]);
        assert_eq!(cut(&[9, 0, 1, 2], 4.0), [0..1, 2..4], "what grows is cut by itself");
        assert!(cut(&[0, 0, 0, 0], 4.0).is_empty());
        assert_eq!(cut(&[9, 9, 9, 9], f64::NAN).len(), 4);
    }
}
