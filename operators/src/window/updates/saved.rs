//! Open groups and what has been said of them, as tables of a checkpoint.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::{Given, Group, GroupId, UpdatingWindows};
use crate::error::Result;
use crate::key::KeyId;
use crate::state::{StateReader, StateWriter, Stateful};
use crate::window::cells::CellId;
use crate::window::spec::Window;

/// What a partial state begins with: its group.
const STATE_COLUMNS: [&str; 2] = ["start", "last"];
/// What a group begins with: its bounds, and whether it has changed since it was last looked at.
const GROUP_COLUMNS: [&str; 3] = ["start", "last", "changed"];
/// What an answer begins with: its group's start, its own bounds, and its results as bytes.
const GIVEN_COLUMNS: [&str; 4] = ["group", "start", "end", "results"];

impl UpdatingWindows {
    fn schema_of(&self, columns: &[(&str, DataType)]) -> SchemaRef {
        let own =
            columns.iter().map(|(name, kind)| Arc::new(Field::new(*name, kind.clone(), false)));
        let keys = self.aggregate.program.key_fields();
        Arc::new(Schema::new(own.chain(keys.iter().cloned()).collect::<Vec<_>>()))
    }

    fn group_schema(&self) -> SchemaRef {
        let [start, last, changed] = GROUP_COLUMNS;
        let number = DataType::Int64;
        self.schema_of(&[(start, number.clone()), (last, number), (changed, DataType::Boolean)])
    }

    fn given_schema(&self) -> SchemaRef {
        let [group, start, end, results] = GIVEN_COLUMNS;
        let number = DataType::Int64;
        self.schema_of(&[
            (group, number.clone()),
            (start, number.clone()),
            (end, number),
            (results, DataType::Binary),
        ])
    }

    fn key_columns(&self, offset: usize) -> Vec<usize> {
        (0..self.aggregate.program.key_fields().len()).map(|key| offset + key).collect()
    }

    fn end_of(&self, group: &Group) -> i64 {
        group.last.saturating_add(self.gap_ns())
    }

    /// What tells a key's groups apart: the start, and for windows that all keys share the end besides.
    fn place(&self, key: KeyId, start: i64, last: i64) -> (KeyId, i64, i64) {
        match self.window {
            Window::Session(_) => (key, start, i64::MIN),
            Window::Aligned(_) | Window::Count(_) => (key, start, last),
        }
    }
}

fn numbers(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

impl Stateful for UpdatingWindows {
    fn save(&mut self, out: &mut StateWriter) -> Result<()> {
        let groups: Vec<(GroupId, &Group)> =
            (0..).zip(&self.groups).filter_map(|(id, group)| Some((id, group.as_ref()?))).collect();
        let ids: Vec<KeyId> = groups.iter().map(|(_, group)| group.key).collect();
        let is_changed =
            groups.iter().map(|(id, group)| self.changed.contains(&(self.end_of(group), *id)));
        let mut columns = vec![
            numbers(groups.iter().map(|(_, group)| group.start)),
            numbers(groups.iter().map(|(_, group)| group.last)),
            Arc::new(BooleanArray::from(is_changed.collect::<Vec<_>>())) as ArrayRef,
        ];
        columns.extend(self.keys.columns(&ids)?);
        let rows = RecordBatch::try_new(self.group_schema(), columns)?;
        out.keyed("groups", rows, &self.key_columns(GROUP_COLUMNS.len()))?;

        let given: Vec<(&Group, &Given)> = groups
            .iter()
            .flat_map(|(_, group)| group.given.iter().map(|given| (*group, given)))
            .collect();
        let ids: Vec<KeyId> = given.iter().map(|(group, _)| group.key).collect();
        let results = given.iter().map(|(_, given)| &*given.results);
        let mut columns = vec![
            // With the end behind it the start names a group.
            numbers(given.iter().map(|(group, _)| group.last)),
            numbers(given.iter().map(|(_, given)| given.start)),
            numbers(given.iter().map(|(_, given)| given.end)),
            Arc::new(BinaryArray::from_iter_values(results)) as ArrayRef,
        ];
        columns.extend(self.keys.columns(&ids)?);
        let starts = numbers(given.iter().map(|(group, _)| group.start));
        let rows = with_column(RecordBatch::try_new(self.given_schema(), columns)?, starts)?;
        out.keyed("given", rows, &self.key_columns(GIVEN_COLUMNS.len()))?;

        let mut of_cell: HashMap<CellId, (KeyId, i64, i64)> = HashMap::new();
        for (_, group) in &groups {
            of_cell.insert(group.cell, (group.key, group.start, group.last));
        }
        let schema = self.aggregate.partial_schema(&STATE_COLUMNS);
        for (cells, states) in self.cells.saved()? {
            let groups: Vec<_> = cells.iter().map(|cell| of_cell[cell]).collect();
            let ids: Vec<KeyId> = groups.iter().map(|group| group.0).collect();
            let mut columns =
                vec![numbers(groups.iter().map(|g| g.1)), numbers(groups.iter().map(|g| g.2))];
            columns.extend(self.keys.columns(&ids)?);
            columns.extend(states.into_iter().flatten());
            let rows = RecordBatch::try_new(Arc::clone(&schema), columns)?;
            out.keyed("states", rows, &self.key_columns(STATE_COLUMNS.len()))?;
        }
        out.note(&self.complete)
    }

    fn load(&mut self, saved: &StateReader<'_>) -> Result<()> {
        self.complete = saved.notes()?.into_iter().max().unwrap_or(self.complete);
        for rows in saved.rows_as("groups", &self.group_schema())? {
            self.keys.intern(
                &rows.columns()[GROUP_COLUMNS.len()..],
                rows.num_rows(),
                &mut self.ids,
            )?;
            let number = |i: usize| rows.column(i).as_primitive::<Int64Type>().values();
            let (starts, lasts, changed) = (number(0), number(1), rows.column(2).as_boolean());
            for row in 0..rows.num_rows() {
                let (key, start, last) = (self.ids[row], starts[row], lasts[row]);
                let cell = self.cells.open();
                let id = self.open(Group { key, start, last, cell, given: Vec::new() });
                let end = last.saturating_add(self.gap_ns());
                self.index.insert(self.place(key, start, last), id);
                self.ends.insert((end, id));
                if changed.value(row) {
                    self.changed.insert((end, id));
                }
            }
        }
        for rows in saved.rows("given")? {
            let (offset, last) = (GIVEN_COLUMNS.len(), rows.num_columns() - 1);
            self.keys.intern(&rows.columns()[offset..last], rows.num_rows(), &mut self.ids)?;
            let number = |i: usize| rows.column(i).as_primitive::<Int64Type>().values();
            let (lasts, starts, ends, of) = (number(0), number(1), number(2), number(last));
            let results = rows.column(3).as_binary::<i32>();
            for row in 0..rows.num_rows() {
                let key = self.ids[row];
                let Some(&id) = self.index.get(&self.place(key, of[row], lasts[row])) else {
                    continue;
                };
                let results: Box<[u8]> = results.value(row).into();
                let given = Given { key, start: starts[row], end: ends[row], results };
                self.given_bytes += given.bytes();
                if let Some(group) = self.groups[id as usize].as_mut() {
                    group.given.push(given);
                }
            }
        }
        let schema = self.aggregate.partial_schema(&STATE_COLUMNS);
        for rows in saved.rows_as("states", &schema)? {
            let (bounds, columns) = rows.columns().split_at(STATE_COLUMNS.len());
            let number = |i: usize| bounds[i].as_primitive::<Int64Type>().values();
            let (starts, lasts) = (number(0), number(1));
            let (keys, states) = self.aggregate.keys_and_states(columns);
            self.keys.intern(keys, rows.num_rows(), &mut self.ids)?;
            let chunk = self.cells.store(states, rows.num_rows());
            for row in 0..rows.num_rows() {
                let place = self.place(self.ids[row], starts[row], lasts[row]);
                let group =
                    self.index.get(&place).and_then(|id| self.groups[*id as usize].as_ref());
                if let Some(cell) = group.map(|group| group.cell) {
                    self.cells.add(cell, chunk, row);
                }
            }
        }
        self.cells.tidy(&*self.aggregate.program)
    }
}

fn with_column(rows: RecordBatch, column: ArrayRef) -> Result<RecordBatch> {
    let (schema, mut columns, _) = rows.into_parts();
    let field = Arc::new(Field::new("group_start", column.data_type().clone(), false));
    columns.push(column);
    let fields: Vec<_> = schema.fields().iter().cloned().chain([field]).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
