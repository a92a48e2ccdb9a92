//! Windows of so many rows: a key's rows are counted in order of event time, and a window leaves with its last row.
//!
//! As in a hop, rows are added to panes, here of the greatest common divisor of both numbers of rows, and a window merges
//! its panes, so that a row costs one update however many windows hold it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::KEYS_BEFORE_RENUMBERING;
use super::aggregate::{
    Accumulators, WindowedAggregate, slice_arguments, take_arguments, take_places,
};
use super::cells::{CellId, Cells};
use super::count::CountSpec;
use super::groups::REFUSED;
use crate::error::Result;
use crate::expression::AggregateInput;
use crate::key::{KeyId, KeyInterner};
use crate::state::{StateReader, StateWriter, Stateful};

/// Panes that the windows of one batch of results may have; one window may have more.
const PANES_PER_BATCH: usize = 1 << 16;
/// Stands for the group of a row that no window holds.
const LEFT_OUT: usize = REFUSED;

/// The open windows of one windowed aggregation on one worker.
pub struct CountedWindows {
    count: CountSpec,
    pane_rows: u64,
    aggregate: WindowedAggregate,
    keys: KeyInterner,
    /// By the key's number.
    counters: Vec<Counter>,
    /// Counters are looked through when there are so many.
    look_at: usize,
    cells: Cells,
    ids: Vec<KeyId>,
    pending: Pending,
    /// Grows with every flush; says whether a pane has a group of the present one.
    flush: u64,
    rows_refused: u64,
}

/// Where a key is.
#[derive(Default)]
struct Counter {
    /// Rows so far.
    rows: u64,
    /// Panes that a window still to come will read, the oldest first.
    panes: VecDeque<Pane>,
}

#[derive(Clone, Copy)]
struct Pane {
    /// Its place among the key's panes.
    number: u64,
    cell: CellId,
    first: i64,
    last: i64,
    /// Its group among the rows of one flush.
    group: usize,
    flush: u64,
}

/// What has been counted and not yet been aggregated.
#[derive(Default)]
struct Pending {
    /// The group of each row, from the first row on that is pending.
    groups: Vec<usize>,
    /// The cell of each group.
    group_cells: Vec<CellId>,
    /// Windows that have got their last row.
    windows: Vec<Complete>,
    /// The cells of all of these, one after another.
    window_cells: Vec<CellId>,
    /// The window of each of these.
    window_of: Vec<usize>,
    /// Cells that no later window reads.
    done: Vec<CellId>,
}

struct Complete {
    key: KeyId,
    start: i64,
    end: i64,
}

impl std::fmt::Debug for CountedWindows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CountedWindows")
            .field("panes", &self.cells.len())
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl CountedWindows {
    /// No windows yet.
    ///
    /// # Errors
    /// If a key column's type cannot be a key.
    pub fn new(count: CountSpec, aggregate: WindowedAggregate) -> Result<Self> {
        Ok(Self {
            count,
            pane_rows: count.pane_rows(),
            keys: KeyInterner::new(&aggregate.program.key_fields())?,
            aggregate,
            counters: Vec::new(),
            look_at: KEYS_BEFORE_RENUMBERING,
            cells: Cells::default(),
            ids: Vec::new(),
            pending: Pending::default(),
            flush: 0,
            rows_refused: 0,
        })
    }

    /// Adds rows, which must come in order of event time, this batch after the ones before it. Answers with the windows
    /// that are complete, in order of their last rows.
    ///
    /// # Errors
    /// If an aggregate refuses a value.
    pub fn update(
        &mut self,
        rows: &RecordBatch,
        input: &AggregateInput,
    ) -> Result<Vec<RecordBatch>> {
        let times = self.aggregate.time.read(rows.column(self.aggregate.time_index));
        self.keys.intern(&input.keys, rows.num_rows(), &mut self.ids)?;
        let (mut results, mut from) = (Vec::new(), 0);
        self.flush += 1;
        for (row, &time) in times.iter().enumerate() {
            let is_full = self.cells.len() >= self.aggregate.groups_max;
            let has_done = !self.pending.done.is_empty();
            if self.pending.window_cells.len() >= PANES_PER_BATCH || (is_full && has_done) {
                results.extend(self.aggregate_rows(input, from)?);
                from = row;
            }
            let group = self.count_row(self.ids[row], time);
            self.pending.groups.push(group);
        }
        results.extend(self.aggregate_rows(input, from)?);
        self.cells.tidy(&*self.aggregate.program)?;
        self.forget_idle_keys();
        Ok(results)
    }

    /// Counts a row, and answers with its group among the pending rows.
    fn count_row(&mut self, key: KeyId, time: i64) -> usize {
        let (rows, every, pane_rows) = (self.count.rows(), self.count.every(), self.pane_rows);
        let groups_max = self.aggregate.groups_max;
        if key as usize >= self.counters.len() {
            // Numbers are given in order, so that at most those of refused keys are skipped here.
            if key as usize >= groups_max {
                self.rows_refused += 1;
                return LEFT_OUT;
            }
            self.counters.resize_with(key as usize + 1, Counter::default);
        }
        let counter = &mut self.counters[key as usize];
        let place = counter.rows;
        let number = place / pane_rows;
        let is_held = place % every < rows;
        if is_held && counter.panes.back().is_none_or(|pane| pane.number < number) {
            if self.cells.len() >= groups_max {
                self.rows_refused += 1;
                return LEFT_OUT;
            }
            let cell = self.cells.open();
            let pane = Pane { number, cell, first: time, last: time, group: 0, flush: 0 };
            counter.panes.push_back(pane);
        }
        counter.rows += 1;
        if !is_held {
            return LEFT_OUT;
        }
        let pane = counter.panes.back_mut().expect("there is one, or it was opened above");
        pane.last = time;
        if pane.flush != self.flush {
            (pane.flush, pane.group) = (self.flush, self.pending.group_cells.len());
            self.pending.group_cells.push(pane.cell);
        }
        let group = pane.group;
        if counter.rows >= rows && (counter.rows - rows).is_multiple_of(every) {
            complete(counter, key, self.count, pane_rows, &mut self.pending);
        }
        group
    }

    /// Aggregates the pending rows, which are those of the batch from `from` on, and finishes the windows that are
    /// complete.
    fn aggregate_rows(
        &mut self,
        input: &AggregateInput,
        from: usize,
    ) -> Result<Option<RecordBatch>> {
        let mut pending = std::mem::take(&mut self.pending);
        self.flush += 1;
        let program = &*self.aggregate.program;
        let rows = pending.groups.len();
        if !pending.group_cells.is_empty() {
            let kept = take_places(&mut pending.groups, LEFT_OUT);
            let mut accumulators: Accumulators = program.accumulators()?;
            for (accumulator, arguments) in accumulators.iter_mut().zip(&input.arguments) {
                let mut arguments = slice_arguments(arguments, from, rows);
                if pending.groups.len() < rows {
                    arguments = take_arguments(&arguments, &kept)?;
                }
                accumulator.update(&arguments, &pending.groups, pending.group_cells.len())?;
            }
            let states = accumulators.iter_mut().map(|a| a.state()).collect::<Result<_>>()?;
            let chunk = self.cells.store(states, pending.group_cells.len());
            for (row, &cell) in pending.group_cells.iter().enumerate() {
                self.cells.add(cell, chunk, row);
            }
        }
        let mut result = None;
        if !pending.windows.is_empty() {
            let ids: Vec<KeyId> = pending.windows.iter().map(|window| window.key).collect();
            let (cells, groups) = (&pending.window_cells, &pending.window_of);
            let results = self.cells.finish(program, cells, groups, ids.len())?;
            let bounds = (
                pending.windows.iter().map(|window| window.start),
                pending.windows.iter().map(|window| window.end),
            );
            result = Some(self.aggregate.result(bounds, self.keys.columns(&ids)?, results)?);
        }
        pending.done.drain(..).for_each(|cell| self.cells.close(cell));
        pending.clear();
        self.pending = pending;
        Ok(result)
    }

    /// Forgets keys of which no row is held and the next row begins a window, as the first one did.
    fn forget_idle_keys(&mut self) {
        if self.keys.len() < self.look_at.min(self.aggregate.groups_max) {
            return;
        }
        let every = self.count.every();
        let is_idle =
            |counter: &Counter| counter.panes.is_empty() && counter.rows.is_multiple_of(every);
        let live: Vec<KeyId> = (0..)
            .zip(&self.counters)
            .filter(|(_, counter)| !is_idle(counter))
            .map(|(key, _)| key)
            .collect();
        self.keys.retain(&live);
        self.counters.retain(|counter| !is_idle(counter));
        self.look_at = KEYS_BEFORE_RENUMBERING.max(2 * live.len());
    }

    /// Rows refused since the last call, because a bound was reached.
    pub fn take_rows_refused(&mut self) -> u64 {
        std::mem::take(&mut self.rows_refused)
    }

    /// How many panes are open.
    #[must_use]
    pub fn panes(&self) -> usize {
        self.cells.len()
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let counters = self.counters.capacity() * size_of::<Counter>();
        self.keys.bytes() + self.cells.bytes() + counters + self.cells.len() * size_of::<Pane>()
    }
}

/// Notes the window whose last row has just been counted, and lets go of panes that no later one reads.
fn complete(
    counter: &mut Counter,
    key: KeyId,
    count: CountSpec,
    pane_rows: u64,
    pending: &mut Pending,
) {
    let first_row = counter.rows - count.rows();
    let window = pending.windows.len();
    let first_pane = first_row / pane_rows;
    let panes = counter.panes.iter().skip_while(|pane| pane.number < first_pane);
    let before = pending.window_cells.len();
    pending.window_cells.extend(panes.clone().map(|pane| pane.cell));
    pending.window_of.resize(pending.window_cells.len(), window);
    debug_assert!(pending.window_cells.len() > before, "a window has rows");
    if let (Some(first), Some(last)) = (panes.clone().next(), counter.panes.back()) {
        pending.windows.push(Complete { key, start: first.first, end: last.last });
    }
    let next_pane = (first_row + count.every()) / pane_rows;
    while counter.panes.front().is_some_and(|pane| pane.number < next_pane) {
        pending.done.extend(counter.panes.pop_front().map(|pane| pane.cell));
    }
}

impl Pending {
    fn clear(&mut self) {
        self.groups.clear();
        self.group_cells.clear();
        self.windows.clear();
        self.window_cells.clear();
        self.window_of.clear();
        self.done.clear();
    }
}

/// What a saved count begins with: the key's rows so far.
const COUNT_COLUMNS: [&str; 1] = ["rows"];
/// What a saved pane begins with: its number, and its first and last time.
const SAVED_PANE_COLUMNS: [&str; 3] = ["pane", "first", "last"];

impl CountedWindows {
    fn key_columns(&self, offset: usize) -> Vec<usize> {
        (0..self.aggregate.program.key_fields().len()).map(|key| offset + key).collect()
    }

    fn count_schema(&self) -> SchemaRef {
        let panes = self.aggregate.partial_schema(&COUNT_COLUMNS);
        let fields = COUNT_COLUMNS.len() + self.aggregate.program.key_fields().len();
        Arc::new(Schema::new(panes.fields()[..fields].to_vec()))
    }
}

impl Stateful for CountedWindows {
    fn save(&mut self, out: &mut StateWriter) -> Result<()> {
        let ids: Vec<KeyId> = (0..self.counters.len() as KeyId).collect();
        let rows = self.counters.iter().map(|counter| counter.rows as i64);
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(rows))];
        columns.extend(self.keys.columns(&ids)?);
        let counts = RecordBatch::try_new(self.count_schema(), columns)?;
        out.keyed("counts", counts, &self.key_columns(COUNT_COLUMNS.len()))?;
        let mut of_cell: HashMap<CellId, (KeyId, Pane)> = HashMap::new();
        for (key, counter) in self.counters.iter().enumerate() {
            of_cell.extend(counter.panes.iter().map(|pane| (pane.cell, (key as KeyId, *pane))));
        }
        let schema = self.aggregate.partial_schema(&SAVED_PANE_COLUMNS);
        let keys = self.key_columns(SAVED_PANE_COLUMNS.len());
        for (cells, states) in self.cells.saved()? {
            let panes: Vec<(KeyId, Pane)> = cells.iter().map(|cell| of_cell[cell]).collect();
            let numbers = |of: fn(&Pane) -> i64| -> ArrayRef {
                Arc::new(Int64Array::from_iter_values(panes.iter().map(|(_, pane)| of(pane))))
            };
            let ids: Vec<KeyId> = panes.iter().map(|(key, _)| *key).collect();
            let mut columns =
                vec![numbers(|p| p.number as i64), numbers(|p| p.first), numbers(|p| p.last)];
            columns.extend(self.keys.columns(&ids)?);
            columns.extend(states.into_iter().flatten());
            out.keyed("panes", RecordBatch::try_new(Arc::clone(&schema), columns)?, &keys)?;
        }
        Ok(())
    }

    fn load(&mut self, saved: &StateReader<'_>) -> Result<()> {
        for counts in saved.rows_as("counts", &self.count_schema())? {
            let (numbers, keys) = counts.columns().split_at(COUNT_COLUMNS.len());
            self.keys.intern(keys, counts.num_rows(), &mut self.ids)?;
            self.counters.resize_with(self.keys.len(), Counter::default);
            let rows = numbers[0].as_primitive::<Int64Type>().values();
            for (id, rows) in self.ids.iter().zip(rows) {
                self.counters[*id as usize].rows = *rows as u64;
            }
        }
        let schema = self.aggregate.partial_schema(&SAVED_PANE_COLUMNS);
        for panes in saved.rows_as("panes", &schema)? {
            let (numbers, columns) = panes.columns().split_at(SAVED_PANE_COLUMNS.len());
            let number = |i: usize| numbers[i].as_primitive::<Int64Type>().values();
            let (panes_of, firsts, lasts) = (number(0), number(1), number(2));
            let (keys, states) = self.aggregate.keys_and_states(columns);
            self.keys.intern(keys, panes.num_rows(), &mut self.ids)?;
            self.counters.resize_with(self.keys.len(), Counter::default);
            let chunk = self.cells.store(states, panes.num_rows());
            for row in 0..panes.num_rows() {
                let number = panes_of[row] as u64;
                let counter = &mut self.counters[self.ids[row] as usize];
                let known = counter.panes.iter().find(|pane| pane.number == number);
                let cell = known.map_or_else(|| self.cells.open(), |pane| pane.cell);
                if known.is_none() {
                    let (first, last) = (firsts[row], lasts[row]);
                    let pane = Pane { number, cell, first, last, group: 0, flush: 0 };
                    let place = counter.panes.partition_point(|pane| pane.number < number);
                    counter.panes.insert(place, pane);
                }
                self.cells.add(cell, chunk, row);
            }
        }
        self.cells.tidy(&*self.aggregate.program)
    }
}

#[cfg(test)]
mod tests;
