//! Open sessions: pieces come in, are joined to what they touch, and leave when the watermark has passed their end.

use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::KEYS_BEFORE_RENUMBERING;
use super::aggregate::WindowedAggregate;
use super::cells::{CellId, Cells};
use super::fold::PIECE_COLUMNS;
use super::session::SessionSpec;
use crate::error::Result;
use crate::key::{KeyId, KeyInterner};
use crate::state::{StateReader, StateWriter, Stateful};
use crate::time::EventTime;

/// Most sessions in one batch of results.
const SESSIONS_PER_BATCH: usize = 1 << 14;

/// The open sessions of one windowed aggregation on one worker.
pub struct Sessions {
    session: SessionSpec,
    aggregate: WindowedAggregate,
    keys: KeyInterner,
    /// By key and first row. Sessions of a key lie apart, so that they are in order of their ends as well.
    open: BTreeMap<(KeyId, i64), Open>,
    /// End, first row and key of each.
    ends: BTreeSet<(i64, i64, KeyId)>,
    cells: Cells,
    ids: Vec<KeyId>,
    rows_refused: u64,
}

#[derive(Clone, Copy)]
struct Open {
    last: i64,
    cell: CellId,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions")
            .field("open", &self.open.len())
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl Sessions {
    /// No sessions yet.
    ///
    /// # Errors
    /// If a key column's type cannot be a key.
    pub fn new(session: SessionSpec, aggregate: WindowedAggregate) -> Result<Self> {
        Ok(Self {
            session,
            keys: KeyInterner::new(&aggregate.program.key_fields())?,
            aggregate,
            open: BTreeMap::new(),
            ends: BTreeSet::new(),
            cells: Cells::default(),
            ids: Vec::new(),
            rows_refused: 0,
        })
    }

    /// Adds pieces made by [`SessionFold::take`](super::SessionFold::take), in any order.
    ///
    /// # Errors
    /// If an aggregate refuses a state.
    pub fn merge(&mut self, pieces: &RecordBatch) -> Result<()> {
        let (numbers, columns) = pieces.columns().split_at(PIECE_COLUMNS.len());
        let number = |i: usize| numbers[i].as_primitive::<Int64Type>().values();
        let (firsts, lasts, counts) = (number(0), number(1), number(2));
        let (keys, states) = self.aggregate.keys_and_states(columns);
        self.keys.intern(keys, pieces.num_rows(), &mut self.ids)?;
        let chunk = self.cells.store(states, pieces.num_rows());
        for row in 0..pieces.num_rows() {
            match self.place(self.ids[row], firsts[row], lasts[row]) {
                Some(cell) => self.cells.add(cell, chunk, row),
                None => self.rows_refused += counts[row] as u64,
            }
        }
        self.cells.tidy(&*self.aggregate.program)
    }

    /// The cell of the session that a piece belongs to, after all sessions that it touches have become one; `None` if
    /// there is no room for a new one.
    fn place(&mut self, key: KeyId, mut first: i64, mut last: i64) -> Option<CellId> {
        let gap = self.session.gap_ns();
        let mut cell = None;
        loop {
            let before = (key, i64::MIN)..(key, last.saturating_add(gap));
            let Some((&(_, start), &open)) = self.open.range(before).next_back() else { break };
            if open.last.saturating_add(gap) <= first {
                break;
            }
            self.open.remove(&(key, start));
            self.ends.remove(&(self.end(open.last), start, key));
            first = first.min(start);
            last = last.max(open.last);
            match cell {
                None => cell = Some(open.cell),
                Some(into) => self.cells.join(into, open.cell),
            }
        }
        if cell.is_none() && self.open.len() >= self.aggregate.groups_max {
            return None;
        }
        let cell = cell.unwrap_or_else(|| self.cells.open());
        self.open.insert((key, first), Open { last, cell });
        self.ends.insert((self.end(last), first, key));
        Some(cell)
    }

    fn end(&self, last: i64) -> i64 {
        last.saturating_add(self.session.gap_ns())
    }

    /// Finishes every session that ends at or below `watermark`, in order of end, start and key.
    ///
    /// # Errors
    /// If an aggregate's result cannot be built.
    pub fn close(&mut self, watermark: EventTime) -> Result<Vec<RecordBatch>> {
        let mut over: Vec<(i64, i64, KeyId, CellId)> = Vec::new();
        while let Some(&(end, start, key)) = self.ends.first() {
            if end > watermark.0 {
                break;
            }
            self.ends.pop_first();
            let open = self.open.remove(&(key, start)).expect("every end has its session");
            over.push((end, start, key, open.cell));
        }
        if over.is_empty() {
            self.renumber_keys();
            return Ok(Vec::new());
        }
        // Keys are numbered in order of arrival, which must not show.
        over.sort_unstable_by(|a, b| {
            (a.0, a.1, self.keys.key(a.2)).cmp(&(b.0, b.1, self.keys.key(b.2)))
        });
        let closed = over.chunks(SESSIONS_PER_BATCH).map(|part| self.finish(part));
        let closed = closed.collect::<Result<Vec<_>>>()?;
        over.into_iter().for_each(|(.., cell)| self.cells.close(cell));
        self.cells.tidy(&*self.aggregate.program)?;
        self.renumber_keys();
        Ok(closed)
    }

    fn finish(&self, over: &[(i64, i64, KeyId, CellId)]) -> Result<RecordBatch> {
        let ids: Vec<KeyId> = over.iter().map(|session| session.2).collect();
        let cells: Vec<CellId> = over.iter().map(|session| session.3).collect();
        let groups: Vec<usize> = (0..over.len()).collect();
        let program = &*self.aggregate.program;
        let results = self.cells.finish(program, &cells, &groups, over.len())?;
        let bounds = (over.iter().map(|session| session.1), over.iter().map(|session| session.0));
        self.aggregate.result(bounds, self.keys.columns(&ids)?, results)
    }

    /// Forgets keys without an open session, once there are many of them.
    fn renumber_keys(&mut self) {
        if self.keys.len() <= KEYS_BEFORE_RENUMBERING || self.open.len() * 4 > self.keys.len() {
            return;
        }
        let mut live: Vec<KeyId> = self.open.keys().map(|(key, _)| *key).collect();
        live.dedup();
        self.keys.retain(&live);
        let renamed = |key: KeyId| live.binary_search(&key).expect("key is live") as KeyId;
        let open = std::mem::take(&mut self.open);
        self.open =
            open.into_iter().map(|((key, start), open)| ((renamed(key), start), open)).collect();
        let ends = std::mem::take(&mut self.ends);
        self.ends = ends.into_iter().map(|(end, start, key)| (end, start, renamed(key))).collect();
    }

    /// Columns of the pieces that the state is written as.
    fn piece_schema(&self) -> SchemaRef {
        self.aggregate.partial_schema(&PIECE_COLUMNS)
    }

    /// Rows refused since the last call, because a bound was reached.
    pub fn take_rows_refused(&mut self) -> u64 {
        std::mem::take(&mut self.rows_refused)
    }

    /// How many sessions are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no session is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let session = size_of::<((KeyId, i64), Open)>() + size_of::<(i64, i64, KeyId)>();
        self.keys.bytes() + self.cells.bytes() + self.open.len() * session
    }
}

impl Stateful for Sessions {
    /// A session is written as pieces of its whole length, one for each partial state, which become one again.
    fn save(&mut self, out: &mut StateWriter) -> Result<()> {
        let mut of_cell: Vec<(KeyId, i64, i64)> = Vec::new();
        for (&(key, first), open) in &self.open {
            let cell = open.cell as usize;
            of_cell.resize(of_cell.len().max(cell + 1), (0, 0, 0));
            of_cell[cell] = (key, first, open.last);
        }
        let (schema, offset) = (self.piece_schema(), PIECE_COLUMNS.len());
        let keys: Vec<usize> =
            (0..self.aggregate.program.key_fields().len()).map(|key| offset + key).collect();
        for (cells, states) in self.cells.saved()? {
            let sessions: Vec<_> = cells.iter().map(|cell| of_cell[*cell as usize]).collect();
            let numbers = |of: fn(&(KeyId, i64, i64)) -> i64| -> ArrayRef {
                Arc::new(Int64Array::from_iter_values(sessions.iter().map(of)))
            };
            let ids: Vec<KeyId> = sessions.iter().map(|session| session.0).collect();
            let mut columns = vec![numbers(|s| s.1), numbers(|s| s.2), numbers(|_| 1)];
            columns.extend(self.keys.columns(&ids)?);
            columns.extend(states.into_iter().flatten());
            out.keyed("pieces", RecordBatch::try_new(Arc::clone(&schema), columns)?, &keys)?;
        }
        Ok(())
    }

    fn load(&mut self, saved: &StateReader<'_>) -> Result<()> {
        // Fewer workers hold more sessions each.
        let groups_max = std::mem::replace(&mut self.aggregate.groups_max, usize::MAX);
        for pieces in saved.rows_as("pieces", &self.piece_schema())? {
            self.merge(&pieces)?;
        }
        self.aggregate.groups_max = groups_max;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
