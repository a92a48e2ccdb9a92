//! Rows of an epoch as pieces of sessions, before they are moved to the worker that owns their key.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::aggregate::{Accumulators, WindowedAggregate, take_arguments, take_places};
use super::groups::REFUSED;
use super::session::SessionSpec;
use crate::error::Result;
use crate::expression::AggregateInput;
use crate::key::{KeyId, KeyInterner};

/// What a piece begins with: times of its first and last row in nanoseconds, and how many rows it has.
pub(super) const PIECE_COLUMNS: [&str; 3] = ["first", "last", "rows"];

/// Pieces of a key that are looked at, the newest first, before a row begins a new one. Where rows are far out of order
/// a session may then be in more pieces than it need be; whoever joins them does not mind.
const PIECES_TRIED: usize = 4;
/// Keys are forgotten between two epochs once there are so many.
const KEYS_MAX: usize = 1 << 16;

/// Folds rows into pieces of sessions: rows of a key that are connected, each less than the gap from another.
pub struct SessionFold {
    session: SessionSpec,
    aggregate: WindowedAggregate,
    schema: SchemaRef,
    keys: KeyInterner,
    /// The newest piece of each key.
    newest: Vec<u32>,
    pieces: Vec<Piece>,
    accumulators: Accumulators,
    ids: Vec<KeyId>,
    groups: Vec<usize>,
    rows_refused: u64,
}

struct Piece {
    key: KeyId,
    first: i64,
    last: i64,
    rows: i64,
    /// The key's piece before this one.
    older: u32,
}

const NONE: u32 = u32::MAX;

impl std::fmt::Debug for SessionFold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionFold").field("pieces", &self.pieces.len()).finish_non_exhaustive()
    }
}

impl SessionFold {
    /// No rows yet.
    ///
    /// # Errors
    /// If a key column's type cannot be a key.
    pub fn new(session: SessionSpec, aggregate: WindowedAggregate) -> Result<Self> {
        Ok(Self {
            session,
            schema: aggregate.partial_schema(&PIECE_COLUMNS),
            keys: KeyInterner::new(&aggregate.program.key_fields())?,
            newest: Vec::new(),
            pieces: Vec::new(),
            accumulators: aggregate.program.accumulators()?,
            aggregate,
            ids: Vec::new(),
            groups: Vec::new(),
            rows_refused: 0,
        })
    }

    /// Columns of [`SessionFold::take`], and the indexes of the keys among them.
    #[must_use]
    pub fn schema(&self) -> (SchemaRef, Vec<usize>) {
        let first = PIECE_COLUMNS.len();
        let keys = first..first + self.aggregate.program.key_fields().len();
        (Arc::clone(&self.schema), keys.collect())
    }

    /// Adds rows: their event times, and their keys and arguments as the program prepared them.
    ///
    /// # Errors
    /// If an aggregate refuses a value.
    pub fn update(&mut self, rows: &RecordBatch, input: &AggregateInput) -> Result<()> {
        let times = self.aggregate.time.read(rows.column(self.aggregate.time_index));
        self.keys.intern(&input.keys, rows.num_rows(), &mut self.ids)?;
        self.newest.resize(self.keys.len().max(self.newest.len()), NONE);
        self.groups.clear();
        for (row, &time) in times.iter().enumerate() {
            let group = self.piece(self.ids[row], time);
            self.groups.push(group);
        }
        let count = self.pieces.len();
        let mut kept = None;
        if self.groups.contains(&REFUSED) {
            let places = take_places(&mut self.groups, REFUSED);
            self.rows_refused += (rows.num_rows() - self.groups.len()) as u64;
            kept = Some(places);
        }
        if self.groups.is_empty() {
            return Ok(());
        }
        for (accumulator, arguments) in self.accumulators.iter_mut().zip(&input.arguments) {
            match &kept {
                None => accumulator.update(arguments, &self.groups, count)?,
                Some(kept) => {
                    accumulator.update(&take_arguments(arguments, kept)?, &self.groups, count)?;
                }
            }
        }
        Ok(())
    }

    /// The piece that a row belongs to, a new one if need be.
    fn piece(&mut self, key: KeyId, time: i64) -> usize {
        let gap = self.session.gap_ns();
        let newest = self.newest[key as usize];
        let mut number = newest;
        for _ in 0..PIECES_TRIED {
            let Some(piece) = self.pieces.get_mut(number as usize) else { break };
            if piece.first.saturating_sub(gap) < time && time < piece.last.saturating_add(gap) {
                piece.first = piece.first.min(time);
                piece.last = piece.last.max(time);
                piece.rows += 1;
                return number as usize;
            }
            number = piece.older;
        }
        if self.pieces.len() >= self.aggregate.groups_max {
            return REFUSED;
        }
        self.newest[key as usize] = self.pieces.len() as u32;
        self.pieces.push(Piece { key, first: time, last: time, rows: 1, older: newest });
        self.pieces.len() - 1
    }

    /// Takes all pieces, and starts afresh.
    ///
    /// # Errors
    /// If a state cannot be expressed as arrays.
    pub fn take(&mut self) -> Result<Option<RecordBatch>> {
        if self.pieces.is_empty() {
            return Ok(None);
        }
        let pieces = std::mem::take(&mut self.pieces);
        let numbers = |of: fn(&Piece) -> i64| {
            Arc::new(Int64Array::from_iter_values(pieces.iter().map(of))) as ArrayRef
        };
        let mut columns = vec![numbers(|p| p.first), numbers(|p| p.last), numbers(|p| p.rows)];
        let ids: Vec<KeyId> = pieces.iter().map(|piece| piece.key).collect();
        columns.extend(self.keys.columns(&ids)?);
        for accumulator in &mut self.accumulators {
            columns.extend(accumulator.state()?);
        }
        if self.keys.len() > KEYS_MAX {
            self.keys.retain(&[]);
            self.newest.clear();
        } else {
            ids.iter().for_each(|&id| self.newest[id as usize] = NONE);
        }
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.schema), columns)?))
    }

    /// Rows refused since the last call, because a bound was reached.
    pub fn take_rows_refused(&mut self) -> u64 {
        std::mem::take(&mut self.rows_refused)
    }
}
