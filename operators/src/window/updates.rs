//! Windows that answer before they close, or again afterwards: what is given are changes of their results.
//!
//! A group, a key in one window, holds its partial state as the cell of a session does, so that a change costs in
//! proportion to what has changed. It also holds the answer given last, as bytes, which is taken back when it changes.

mod place;
mod saved;

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_row::{RowConverter, SortField};

use super::KEYS_BEFORE_RENUMBERING;
use super::aggregate::WindowedAggregate;
use super::cells::{CellId, Cells};
use super::spec::{Window, problem};
use crate::changes::{changes_schema, with_changes};
use crate::error::Result;
use crate::key::{KeyId, KeyInterner};
use crate::rows::columns_of;
use crate::time::EventTime;

/// When a window answers, besides what is left to say when it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answering {
    /// Whenever its result has changed.
    OnUpdate,
    /// Whenever its result has changed and the watermark has passed a multiple of so many nanoseconds.
    Every(i64),
    /// When the watermark is so many nanoseconds before the one that closes it, and from then on whenever its result has
    /// changed.
    Ahead(i64),
}

/// The open groups of one windowed aggregation on one worker, and what has been said of them.
pub struct UpdatingWindows {
    window: Window,
    aggregate: WindowedAggregate,
    answering: Answering,
    schema: SchemaRef,
    /// The results of the aggregates as bytes; `None` where there is no aggregate.
    results: Option<RowConverter>,
    keys: KeyInterner,
    /// By key, start and end; by key and first row for sessions, which lie apart.
    index: BTreeMap<(KeyId, i64, i64), GroupId>,
    groups: Vec<Option<Group>>,
    free: Vec<GroupId>,
    /// All groups by their ends.
    ends: BTreeSet<(i64, GroupId)>,
    /// Those that have changed since they were last looked at, by their ends.
    changed: BTreeSet<(i64, GroupId)>,
    /// Those that have changed since the last epoch.
    touched: Vec<GroupId>,
    cells: Cells,
    complete: EventTime,
    ids: Vec<KeyId>,
    given_bytes: usize,
    rows_refused: u64,
}

type GroupId = u32;

struct Group {
    key: KeyId,
    start: i64,
    /// The end of the window; for a session, its last row.
    last: i64,
    cell: CellId,
    /// What has been given and not been taken back: one answer, or those of sessions that have become one.
    given: Vec<Given>,
}

/// A row of the result.
#[derive(Clone, PartialEq, Eq)]
struct Given {
    key: KeyId,
    start: i64,
    end: i64,
    results: Box<[u8]>,
}

impl std::fmt::Debug for UpdatingWindows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpdatingWindows")
            .field("answering", &self.answering)
            .field("groups", &self.index.len())
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

/// What an epoch comes to.
#[derive(Debug, Default)]
pub struct Update {
    /// Changes of the result: rows that no longer hold, then rows that now do.
    pub changes: Option<RecordBatch>,
    /// How many groups have closed.
    pub closed: u64,
}

impl UpdatingWindows {
    /// No groups yet.
    ///
    /// # Errors
    /// If the window is one of so many rows, or a column's type cannot be compared.
    pub fn new(window: Window, aggregate: WindowedAggregate, answering: Answering) -> Result<Self> {
        if let Window::Count(_) = window {
            return Err(problem(
                "count",
                "has no result before its last row".to_owned(),
                "a window of so many rows answers once".to_owned(),
            ));
        }
        let outputs = aggregate.program.output_fields();
        let sort = outputs.iter().map(|field| SortField::new(field.data_type().clone()));
        let results = match outputs.is_empty() {
            true => None,
            false => Some(RowConverter::new(sort.collect())?),
        };
        Ok(Self {
            window,
            keys: KeyInterner::new(&aggregate.program.key_fields())?,
            schema: changes_schema(&aggregate.schema),
            aggregate,
            answering,
            results,
            index: BTreeMap::new(),
            groups: Vec::new(),
            free: Vec::new(),
            ends: BTreeSet::new(),
            changed: BTreeSet::new(),
            touched: Vec::new(),
            cells: Cells::default(),
            complete: EventTime::MIN,
            ids: Vec::new(),
            given_bytes: 0,
            rows_refused: 0,
        })
    }

    /// Columns of the changes.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Answers for all that was added, now that the watermark stands at `complete`, and lets go of groups that end at or
    /// before it.
    ///
    /// # Errors
    /// If an aggregate's result cannot be built.
    pub fn advance(&mut self, complete: EventTime) -> Result<Update> {
        let until = self.answers_until(complete);
        let mut withdrawn = self.withdraw_grown(until);
        let mut due: Vec<GroupId> = Vec::new();
        while let Some(&(end, group)) = self.changed.first()
            && end <= until
        {
            self.changed.pop_first();
            due.push(group);
        }
        let given = self.answer(&due, &mut withdrawn)?;
        let changes = self.changes(&withdrawn, &given)?;
        let closed = self.close(complete);
        self.complete = self.complete.max(complete);
        self.cells.tidy(&*self.aggregate.program)?;
        self.renumber_keys();
        Ok(Update { changes, closed })
    }

    /// Groups that have changed and end up to here answer now.
    fn answers_until(&self, complete: EventTime) -> i64 {
        match self.answering {
            Answering::OnUpdate => i64::MAX,
            Answering::Every(interval) => {
                let turn = |time: EventTime| time.0.div_euclid(interval);
                let is_first = self.complete == EventTime::MIN && complete > EventTime::MIN;
                match is_first || turn(complete) > turn(self.complete) {
                    true => i64::MAX,
                    false => complete.0,
                }
            }
            Answering::Ahead(ns) => complete.0.saturating_add(ns),
        }
    }

    /// Takes back the answers of sessions that are not over any more, because a row has made them longer.
    fn withdraw_grown(&mut self, until: i64) -> Vec<Given> {
        let mut withdrawn = Vec::new();
        let is_session = matches!(self.window, Window::Session(_));
        for group in std::mem::take(&mut self.touched) {
            if !is_session || !matches!(self.answering, Answering::Ahead(_)) {
                continue;
            }
            let gap = self.gap_ns();
            let Some(group) = self.groups[group as usize].as_mut() else { continue };
            if group.last.saturating_add(gap) > until {
                withdrawn.append(&mut group.given);
            }
        }
        self.given_bytes -= withdrawn.iter().map(Given::bytes).sum::<usize>();
        withdrawn
    }

    /// What groups come to. Takes back what was given before; results that are as before stay.
    fn answer(&mut self, due: &[GroupId], withdrawn: &mut Vec<Given>) -> Result<Vec<Given>> {
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let gap = self.gap_ns();
        let group = |id: &GroupId| self.groups[*id as usize].as_ref().expect("it has changed");
        let cells: Vec<CellId> = due.iter().map(|id| group(id).cell).collect();
        let places: Vec<usize> = (0..due.len()).collect();
        let program = &*self.aggregate.program;
        let results = self.cells.finish(program, &cells, &places, due.len())?;
        let rows = self.results.as_ref().map(|rows| rows.convert_columns(&results)).transpose()?;
        let mut answers = Vec::new();
        for (place, id) in due.iter().enumerate() {
            let group = self.groups[*id as usize].as_mut().expect("it has changed");
            let results: Box<[u8]> =
                rows.as_ref().map_or_else(Box::default, |rows| rows.row(place).data().into());
            let end = group.last.saturating_add(gap);
            let now = Given { key: group.key, start: group.start, end, results };
            if group.given == [now.clone()] {
                continue;
            }
            self.given_bytes += now.bytes();
            self.given_bytes -= group.given.iter().map(Given::bytes).sum::<usize>();
            withdrawn.append(&mut group.given);
            group.given.push(now.clone());
            answers.push(now);
        }
        Ok(answers)
    }

    /// Rows that no longer hold and rows that now do, as a batch.
    fn changes(&self, withdrawn: &[Given], given: &[Given]) -> Result<Option<RecordBatch>> {
        if withdrawn.is_empty() && given.is_empty() {
            return Ok(None);
        }
        let all = || withdrawn.iter().chain(given);
        let ids: Vec<KeyId> = all().map(|row| row.key).collect();
        let outputs = self.aggregate.program.output_fields();
        let results = match &self.results {
            None => Vec::new(),
            Some(rows) => {
                let types = outputs.iter().map(|field| field.data_type());
                columns_of(rows, all().map(|row| &*row.results), types)?
            }
        };
        let bounds = (all().map(|row| row.start), all().map(|row| row.end));
        let rows = self.aggregate.result(bounds, self.keys.columns(&ids)?, results)?;
        let diffs =
            std::iter::repeat_n(-1, withdrawn.len()).chain(std::iter::repeat_n(1, given.len()));
        with_changes(&self.schema, &rows, diffs).map(Some)
    }

    /// Lets go of groups that have ended.
    fn close(&mut self, complete: EventTime) -> u64 {
        let mut closed = 0;
        let is_session = matches!(self.window, Window::Session(_));
        while let Some(&(end, id)) = self.ends.first()
            && end <= complete.0
        {
            self.ends.pop_first();
            self.changed.remove(&(end, id));
            let group = self.groups[id as usize].take().expect("every end has its group");
            self.free.push(id);
            let place = if is_session { i64::MIN } else { group.last };
            self.index.remove(&(group.key, group.start, place));
            self.given_bytes -= group.given.iter().map(Given::bytes).sum::<usize>();
            self.cells.close(group.cell);
            closed += 1;
        }
        closed
    }

    /// Forgets keys without an open group, once there are many of them.
    fn renumber_keys(&mut self) {
        if self.keys.len() <= KEYS_BEFORE_RENUMBERING || self.index.len() * 4 > self.keys.len() {
            return;
        }
        let mut live: Vec<KeyId> = self.index.keys().map(|(key, ..)| *key).collect();
        live.dedup();
        self.keys.retain(&live);
        let renamed = |key: KeyId| live.binary_search(&key).expect("key is live") as KeyId;
        let index = std::mem::take(&mut self.index);
        self.index = index
            .into_iter()
            .map(|((key, start, end), group)| ((renamed(key), start, end), group))
            .collect();
        for group in self.groups.iter_mut().flatten() {
            group.key = renamed(group.key);
            group.given.iter_mut().for_each(|given| given.key = group.key);
        }
    }

    /// What lies between the last row of a session and its end; 0 for windows whose end is known.
    fn gap_ns(&self) -> i64 {
        match self.window {
            Window::Session(session) => session.gap_ns(),
            Window::Aligned(_) | Window::Count(_) => 0,
        }
    }

    /// Rows refused since the last call, because a bound was reached.
    pub fn take_rows_refused(&mut self) -> u64 {
        std::mem::take(&mut self.rows_refused)
    }

    /// How many groups are open.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.index.len()
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let group = size_of::<((KeyId, i64, i64), GroupId)>()
            + size_of::<Option<Group>>()
            + 2 * size_of::<(i64, GroupId)>();
        self.keys.bytes() + self.cells.bytes() + self.given_bytes + self.index.len() * group
    }
}

impl Given {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.results.len()
    }
}

#[cfg(test)]
mod tests;
