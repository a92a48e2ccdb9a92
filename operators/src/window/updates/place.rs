//! Where partial states belong: every window that holds a pane, or the session that a piece touches.

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::datatypes::Int64Type;

use super::{Group, GroupId, UpdatingWindows};
use crate::error::Result;
use crate::key::KeyId;
use crate::time::EventTime;
use crate::window::PANE_COLUMNS;
use crate::window::aggregate::take_arrays;
use crate::window::cells::CellId;
use crate::window::fold::PIECE_COLUMNS;
use crate::window::session::SessionSpec;
use crate::window::spec::{Window, WindowSpec};

impl UpdatingWindows {
    /// Adds partial states made by [`Panes::take_partials`](crate::window::Panes::take_partials), or pieces made by
    /// [`SessionFold::take`](crate::window::SessionFold::take).
    ///
    /// # Errors
    /// If an aggregate refuses a state.
    pub fn merge(&mut self, partials: &RecordBatch) -> Result<()> {
        match self.window {
            Window::Aligned(window) => self.merge_panes(window, partials),
            Window::Session(session) => self.merge_pieces(session, partials),
            Window::Count(_) => Ok(()),
        }
    }

    fn merge_panes(&mut self, window: WindowSpec, partials: &RecordBatch) -> Result<()> {
        let (numbers, columns) = partials.columns().split_at(PANE_COLUMNS.len());
        let panes = numbers[0].as_primitive::<Int64Type>().values();
        let (keys, states) = self.aggregate.keys_and_states(columns);
        self.keys.intern(keys, partials.num_rows(), &mut self.ids)?;
        let (mut rows, mut cells): (Vec<u32>, Vec<CellId>) = (Vec::new(), Vec::new());
        let complete = self.complete.0;
        for (row, &pane) in panes.iter().enumerate() {
            let pane = EventTime(pane);
            let mut is_refused = false;
            for start in window.starts(pane) {
                for end in window.ends(start, pane).filter(|end| *end > complete) {
                    match self.group_of_window(self.ids[row], start, end) {
                        Some(cell) => {
                            rows.push(row as u32);
                            cells.push(cell);
                        }
                        None => is_refused = true,
                    }
                }
            }
            self.rows_refused += u64::from(is_refused);
        }
        // A row of a hop or a cumulate is part of several windows, and each cell has rows of its own.
        let rows = UInt32Array::from(rows);
        let own = states.iter().map(|arrays| take_arrays(arrays, &rows)).collect::<Result<_>>()?;
        let chunk = self.cells.store(own, rows.len());
        for (row, cell) in cells.into_iter().enumerate() {
            self.cells.add(cell, chunk, row);
        }
        self.cells.tidy(&*self.aggregate.program)
    }

    /// The cell of a key in one window; `None` if there is no room for a new one.
    fn group_of_window(&mut self, key: KeyId, start: i64, end: i64) -> Option<CellId> {
        let id = match self.index.get(&(key, start, end)) {
            Some(id) => *id,
            None if self.index.len() >= self.aggregate.groups_max => return None,
            None => {
                let cell = self.cells.open();
                let id = self.open(Group { key, start, last: end, cell, given: Vec::new() });
                self.index.insert((key, start, end), id);
                self.ends.insert((end, id));
                id
            }
        };
        self.changed.insert((end, id));
        self.groups[id as usize].as_ref().map(|group| group.cell)
    }

    fn merge_pieces(&mut self, session: SessionSpec, pieces: &RecordBatch) -> Result<()> {
        let (numbers, columns) = pieces.columns().split_at(PIECE_COLUMNS.len());
        let number = |i: usize| numbers[i].as_primitive::<Int64Type>().values();
        let (firsts, lasts, counts) = (number(0), number(1), number(2));
        let (keys, states) = self.aggregate.keys_and_states(columns);
        self.keys.intern(keys, pieces.num_rows(), &mut self.ids)?;
        let chunk = self.cells.store(states, pieces.num_rows());
        for row in 0..pieces.num_rows() {
            match self.group_of_piece(session, self.ids[row], firsts[row], lasts[row]) {
                Some(cell) => self.cells.add(cell, chunk, row),
                None => self.rows_refused += counts[row] as u64,
            }
        }
        self.cells.tidy(&*self.aggregate.program)
    }

    /// The cell of the session that a piece belongs to, after all sessions that it touches have become one; `None` if
    /// there is no room for a new one.
    fn group_of_piece(
        &mut self,
        session: SessionSpec,
        key: KeyId,
        mut first: i64,
        mut last: i64,
    ) -> Option<CellId> {
        let gap = session.gap_ns();
        let mut joined: Option<Group> = None;
        loop {
            let before = (key, i64::MIN, i64::MIN)..(key, last.saturating_add(gap), i64::MIN);
            let Some((&place, &id)) = self.index.range(before).next_back() else { break };
            let other = self.groups[id as usize].as_ref().expect("the index names groups");
            let end = other.last.saturating_add(gap);
            if end <= first {
                break;
            }
            self.index.remove(&place);
            self.ends.remove(&(end, id));
            self.changed.remove(&(end, id));
            self.free.push(id);
            let mut other = self.groups[id as usize].take().expect("looked at above");
            first = first.min(other.start);
            last = last.max(other.last);
            joined = Some(match joined {
                None => other,
                Some(mut into) => {
                    self.cells.join(into.cell, other.cell);
                    into.given.append(&mut other.given);
                    into
                }
            });
        }
        if joined.is_none() && self.index.len() >= self.aggregate.groups_max {
            return None;
        }
        let (cell, given) = match joined {
            Some(group) => (group.cell, group.given),
            None => (self.cells.open(), Vec::new()),
        };
        let id = self.open(Group { key, start: first, last, cell, given });
        let end = last.saturating_add(gap);
        self.index.insert((key, first, i64::MIN), id);
        self.ends.insert((end, id));
        self.changed.insert((end, id));
        self.touched.push(id);
        Some(cell)
    }

    pub(super) fn open(&mut self, group: Group) -> GroupId {
        match self.free.pop() {
            Some(id) => {
                self.groups[id as usize] = Some(group);
                id
            }
            None => {
                self.groups.push(Some(group));
                (self.groups.len() - 1) as GroupId
            }
        }
    }
}
