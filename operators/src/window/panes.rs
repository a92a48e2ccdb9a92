//! Windowed aggregation: panes of group accumulators, merged into windows when the watermark passes.
//!
//! A key gets a dense number once for the stream, not once per window. A pane maps those numbers to its own groups,
//! numbered in order of first sight, and holds one accumulator per aggregate. A tumbling window is one pane and
//! finishes it in place; a hopping or cumulating window merges the partial states of its panes, so that a row costs one
//! update however many windows hold it. What a cumulating window has merged stays merged for the longer windows that
//! follow, so that they merge only what is new to them; a hop of many panes merges blocks of them that others share.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::KEYS_BEFORE_RENUMBERING;
use super::aggregate::{Accumulators, WindowedAggregate, take_arguments, take_arrays, take_places};
use super::blocks::{self, Blocks, FAN, Merging};
use super::groups::{GroupMap, REFUSED};
use super::spec::WindowSpec;
use crate::error::Result;
use crate::expression::{AggregateArguments, AggregateInput, AggregateProgram, finish_all};
use crate::key::{KeyId, KeyInterner};
use crate::state::{StateReader, StateWriter, Stateful};
use crate::time::EventTime;

/// Rows over more panes than this are sorted by pane with a map.
const PANES_AT_ONCE: i64 = 256;

/// A hop of more panes than this merges them by blocks.
const PANES_WITHOUT_BLOCKS: i64 = 4 * FAN;

/// What a partial state of a pane begins with: the pane's start in nanoseconds.
pub(crate) const PANE_COLUMNS: [&str; 1] = ["pane_start"];

/// The open panes of one windowed aggregation on one worker.
pub struct Panes {
    window: WindowSpec,
    aggregate: WindowedAggregate,
    keys: KeyInterner,
    panes: BTreeMap<i64, Pane>,
    blocks: Blocks,
    /// Accumulators of a window that has been answered: empty, with room for as many groups.
    spare: Option<Accumulators>,
    groups: usize,
    /// Groups that are held elsewhere and will be merged; see [`Panes::expect`].
    groups_to_come: usize,
    closed_until: EventTime,
    ids: Vec<KeyId>,
    local: Vec<usize>,
    rows_refused: u64,
}

impl std::fmt::Debug for Panes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Panes")
            .field("panes", &self.panes.len())
            .field("groups", &self.groups)
            .field("keys", &self.keys.len())
            .field("closed_until", &self.closed_until)
            .finish_non_exhaustive()
    }
}

struct Pane {
    map: GroupMap,
    accumulators: Accumulators,
    /// Partial states, once a window has read them; no row reaches the pane after that.
    sealed: Option<Vec<Vec<ArrayRef>>>,
    /// Rows added, but for those that came as partial states.
    rows: u64,
}

/// What was added to a pane, as a partial state for each of its groups.
#[derive(Debug)]
pub struct Partials {
    /// The states.
    pub states: RecordBatch,
    /// How many rows they were made of.
    pub rows: u64,
}

impl Pane {
    fn new(accumulators: Accumulators) -> Self {
        Self { map: GroupMap::default(), accumulators, sealed: None, rows: 0 }
    }

    fn states(&mut self) -> Result<&[Vec<ArrayRef>]> {
        if self.sealed.is_none() {
            let states = self.accumulators.iter_mut().map(|a| a.state()).collect::<Result<_>>()?;
            self.sealed = Some(states);
            self.accumulators.clear();
        }
        Ok(self.sealed.as_deref().unwrap_or_default())
    }

    /// The partial states, while rows may still come. An accumulator gives its state away, so that a new one takes it.
    fn copy_states(&mut self, program: &dyn AggregateProgram) -> Result<Vec<Vec<ArrayRef>>> {
        if let Some(sealed) = &self.sealed {
            return Ok(sealed.clone());
        }
        let states = self.accumulators.iter_mut().map(|a| a.state());
        let states: Vec<Vec<ArrayRef>> = states.collect::<Result<_>>()?;
        self.accumulators = program.accumulators()?;
        let groups: Vec<usize> = (0..self.map.ids().len()).collect();
        for (accumulator, state) in self.accumulators.iter_mut().zip(&states) {
            accumulator.merge(state, &groups, groups.len())?;
        }
        Ok(states)
    }

    fn bytes(&self) -> usize {
        let sealed = self.sealed.iter().flatten().flatten();
        self.map.bytes()
            + self.accumulators.iter().map(|a| a.bytes()).sum::<usize>()
            + sealed.map(Array::get_array_memory_size).sum::<usize>()
    }
}

/// What a batch brings to one pane.
enum Part<'a> {
    Rows(&'a [AggregateArguments]),
    States(&'a [Vec<ArrayRef>]),
}

impl Panes {
    /// No panes yet.
    ///
    /// # Errors
    /// If a key column's type cannot be a key.
    pub fn new(window: WindowSpec, aggregate: WindowedAggregate) -> Result<Self> {
        let keys = KeyInterner::new(&aggregate.program.key_fields())?;
        Ok(Self {
            window,
            aggregate,
            keys,
            panes: BTreeMap::new(),
            blocks: Blocks::default(),
            spare: None,
            groups: 0,
            groups_to_come: 0,
            closed_until: EventTime::MIN,
            ids: Vec::new(),
            local: Vec::new(),
            rows_refused: 0,
        })
    }

    /// Adds rows: their event times, and their keys and arguments as the program prepared them.
    ///
    /// # Errors
    /// If an aggregate refuses a value.
    pub fn update(&mut self, rows: &RecordBatch, input: &AggregateInput) -> Result<()> {
        let times = self.aggregate.time.read(rows.column(self.aggregate.time_index));
        self.keys.intern(&input.keys, rows.num_rows(), &mut self.ids)?;
        for (start, rows) in by_pane(self.window, &times) {
            let Some(rows) = rows else {
                self.add(start, None, Part::Rows(&input.arguments))?;
                continue;
            };
            let arguments =
                input.arguments.iter().map(|arguments| take_arguments(arguments, &rows));
            let arguments = arguments.collect::<Result<Vec<_>>>()?;
            self.add(start, Some(&rows), Part::Rows(&arguments))?;
        }
        Ok(())
    }

    /// Adds partial states made by [`Panes::take_partials`].
    ///
    /// # Errors
    /// If an aggregate refuses a state.
    pub fn merge(&mut self, partials: &RecordBatch) -> Result<()> {
        let starts = partials.column(0).as_primitive::<Int64Type>().values();
        let (keys, by_aggregate) = self.aggregate.keys_and_states(&partials.columns()[1..]);
        self.keys.intern(keys, partials.num_rows(), &mut self.ids)?;
        let Some(&first) = starts.first() else { return Ok(()) };
        if starts.iter().all(|&start| start == first) {
            return self.add(first, None, Part::States(&by_aggregate));
        }
        for (start, rows) in by_start(starts.iter().copied()) {
            let states = by_aggregate.iter().map(|arrays| take_arrays(arrays, &rows));
            let states = states.collect::<Result<Vec<_>>>()?;
            self.add(start, Some(&rows), Part::States(&states))?;
        }
        Ok(())
    }

    fn add(&mut self, start: i64, rows: Option<&UInt32Array>, part: Part<'_>) -> Result<()> {
        let count = rows.map_or(self.ids.len(), Array::len);
        let is_gap = self.window.starts(EventTime(start)).next().is_none();
        if is_gap {
            return Ok(());
        }
        if !self.panes.contains_key(&start) {
            if self.panes.len() >= self.aggregate.panes_max {
                self.rows_refused += count as u64;
                return Ok(());
            }
            let accumulators = match self.spare.take() {
                Some(spare) => spare,
                None => self.aggregate.program.accumulators()?,
            };
            self.panes.insert(start, Pane::new(accumulators));
        }
        let pane = self.panes.get_mut(&start).expect("inserted above");
        let room = self.aggregate.groups_max.saturating_sub(self.groups);
        let before = pane.map.len();
        let refused = match rows {
            None => pane.map.assign(self.ids.iter().copied(), room, &mut self.local),
            Some(rows) => {
                let ids = rows.values().iter().map(|&row| self.ids[row as usize]);
                pane.map.assign(ids, room, &mut self.local)
            }
        };
        self.groups += pane.map.len() - before;
        if let Part::Rows(_) = part {
            pane.rows += (count - refused) as u64;
        }
        if refused == 0 {
            return apply(pane, &part, &self.local);
        }
        self.rows_refused += refused as u64;
        let kept = take_places(&mut self.local, REFUSED);
        match part {
            Part::Rows(arguments) => {
                let arguments = arguments
                    .iter()
                    .map(|arguments| take_arguments(arguments, &kept))
                    .collect::<Result<Vec<_>>>()?;
                apply(pane, &Part::Rows(&arguments), &self.local)
            }
            Part::States(states) => {
                let states = states
                    .iter()
                    .map(|arrays| take_arrays(arrays, &kept))
                    .collect::<Result<Vec<_>>>()?;
                apply(pane, &Part::States(&states), &self.local)
            }
        }
    }

    /// Finishes every window that ends at or below `watermark`, in order of their ends.
    ///
    /// # Errors
    /// If an aggregate's result cannot be built.
    pub fn close(&mut self, watermark: EventTime) -> Result<Vec<RecordBatch>> {
        let mut closed = Vec::new();
        let Some((&first, _)) = self.panes.first_key_value() else {
            self.closed_until = self.closed_until.max(watermark);
            return Ok(closed);
        };
        let window = self.window;
        let mut end = window.first_end_after(EventTime(first).max(self.closed_until));
        while end <= watermark.0 {
            let start = window.start_of(end);
            match self.panes.range(start..).next() {
                None => break,
                Some((&pane, _)) if pane < end => {
                    closed.push(self.finish(start, end)?);
                    end += window.between_ends_ns();
                }
                Some((&pane, _)) => end = window.first_end_after(EventTime(pane)),
            }
        }
        self.closed_until = self.closed_until.max(watermark);
        self.drop_closed();
        self.forget_keys();
        Ok(closed)
    }

    /// The result of the window from `start` to `end`.
    fn finish(&mut self, start: i64, end: i64) -> Result<RecordBatch> {
        let is_longest = end - start == self.window.size_ns();
        let (ids, results) = if self.window.is_tumble() {
            let pane = self.panes.get_mut(&start).expect("the caller found the pane");
            let results = finish_all(&*self.aggregate.program, &mut pane.accumulators)?;
            self.spare = Some(std::mem::take(&mut pane.accumulators));
            (pane.map.take_ids(), results)
        } else if self.window.is_cumulate() && !is_longest {
            self.fold_panes(start, end)?;
            let pane = self.panes.get_mut(&start).expect("the panes were folded into it");
            let ids = pane.map.ids().to_vec();
            self.local.clear();
            self.local.extend(0..ids.len());
            let mut accumulators = self.aggregate.program.accumulators()?;
            for (accumulator, state) in accumulators.iter_mut().zip(pane.states()?) {
                accumulator.merge(state, &self.local, ids.len())?;
            }
            (ids, finish_all(&*self.aggregate.program, &mut accumulators)?)
        } else {
            let mut merged = self.merge_panes(start, end)?;
            let results = finish_all(&*self.aggregate.program, &mut merged.accumulators)?;
            (merged.map.take_ids(), results)
        };
        let keys = self.keys.columns(&ids)?;
        let bounds = (std::iter::repeat_n(start, ids.len()), std::iter::repeat_n(end, ids.len()));
        self.aggregate.result(bounds, keys, results)
    }

    /// The groups of all panes between two times.
    fn merge_panes(&mut self, start: i64, end: i64) -> Result<Merging> {
        let mut merging = Merging::new(&*self.aggregate.program)?;
        let pane = self.window.pane_ns();
        if self.window.is_cumulate() || (end - start) / pane <= PANES_WITHOUT_BLOCKS {
            for (_, pane) in self.panes.range_mut(start..end) {
                pane.states()?;
                merging.add(pane.map.ids(), pane.sealed.as_deref().unwrap_or_default())?;
            }
            return Ok(merging);
        }
        let (mut at, end) = (self.pane_number(start), self.pane_number(end));
        while at < end {
            let (level, length) = blocks::longest(at, end);
            self.add_block(level, at, &mut merging)?;
            at += length;
        }
        Ok(merging)
    }

    fn pane_number(&self, start: i64) -> i64 {
        (start - self.window.offset_ns()).div_euclid(self.window.pane_ns())
    }

    /// Adds the block of a level that begins at pane `at`; makes it, if this is the first window that holds it.
    fn add_block(&mut self, level: u32, at: i64, merging: &mut Merging) -> Result<()> {
        let (pane, length) = (self.window.pane_ns(), FAN.pow(level));
        let start = self.window.offset_ns() + at * pane;
        if level == 0 {
            let Some(pane) = self.panes.get_mut(&start) else { return Ok(()) };
            pane.states()?;
            return merging.add(pane.map.ids(), pane.sealed.as_deref().unwrap_or_default());
        }
        if self.panes.range(start..start + length * pane).next().is_none() {
            return Ok(());
        }
        if self.blocks.get(level, at).is_none() {
            let mut block = Merging::new(&*self.aggregate.program)?;
            for part in 0..FAN {
                self.add_block(level - 1, at + part * (length / FAN), &mut block)?;
            }
            self.blocks.insert(level, at, block)?;
        }
        self.blocks.get(level, at).map_or(Ok(()), |(ids, states)| merging.add(ids, states))
    }

    /// Makes one pane of all panes between two times: no window that is still open reads one without the others.
    fn fold_panes(&mut self, start: i64, end: i64) -> Result<()> {
        let starts: Vec<i64> = self.panes.range(start..end).map(|(&start, _)| start).collect();
        if starts == [start] {
            return Ok(());
        }
        let Merging { map, mut accumulators, .. } = self.merge_panes(start, end)?;
        let states = accumulators.iter_mut().map(|a| a.state()).collect::<Result<_>>()?;
        for start in starts {
            let pane = self.panes.remove(&start).expect("it was listed above");
            self.groups -= pane.map.opened();
        }
        self.groups += map.opened();
        let pane = Pane { map, sealed: Some(states), ..Pane::new(Vec::new()) };
        self.panes.insert(start, pane);
        Ok(())
    }

    /// Drops the panes that no open window reads.
    fn drop_closed(&mut self) {
        let window = self.window;
        while let Some(entry) = self.panes.first_entry() {
            let last_end = window.last_start(EventTime(*entry.key())) + window.size_ns();
            if last_end > self.closed_until.0 {
                break;
            }
            self.groups -= entry.remove().map.opened();
        }
        if self.panes.is_empty() {
            self.blocks = Blocks::default();
        } else if !self.blocks.is_empty() {
            let first_open = window.first_end_after(self.closed_until) - window.size_ns();
            self.blocks.drop_before(self.pane_number(first_open));
        }
    }

    /// Tells how many groups of open panes are held elsewhere, to be merged later: their keys are not forgotten meanwhile.
    pub fn expect(&mut self, groups: usize) {
        self.groups_to_come = groups;
    }

    /// Forgets keys that are in no open pane, once there are many of them.
    fn forget_keys(&mut self) {
        let groups = self.groups.max(self.groups_to_come);
        if self.keys.len() <= KEYS_BEFORE_RENUMBERING || groups * 4 > self.keys.len() {
            return;
        }
        let mut live: Vec<KeyId> =
            self.panes.values().flat_map(|pane| pane.map.ids().iter().copied()).collect();
        live.sort_unstable();
        live.dedup();
        self.keys.retain(&live);
        for pane in self.panes.values_mut() {
            pane.map.renumber(|id| live.binary_search(&id).expect("id is live") as KeyId);
        }
        // A block holds panes that are open, all of them.
        self.blocks.renumber(|id| live.binary_search(&id).expect("id is live") as KeyId);
    }

    /// Takes what was added to panes that end by a time as partial states; of [`EventTime::MAX`] all.
    ///
    /// # Errors
    /// If a state cannot be expressed as arrays.
    pub fn take_partials(&mut self, until: EventTime, schema: &SchemaRef) -> Result<Vec<Partials>> {
        let mut partials = Vec::new();
        while let Some(entry) = self.panes.first_entry() {
            let start = *entry.key();
            if start.saturating_add(self.window.pane_ns()) > until.0 {
                break;
            }
            let mut pane = entry.remove();
            self.groups -= pane.map.opened();
            let ids = pane.map.take_ids();
            let mut columns: Vec<ArrayRef> =
                vec![Arc::new(Int64Array::from_value(start, ids.len()))];
            columns.extend(self.keys.columns(&ids)?);
            columns.extend(pane.states()?.iter().flatten().cloned());
            let states = RecordBatch::try_new(schema.clone(), columns)?;
            partials.push(Partials { states, rows: pane.rows });
        }
        self.forget_keys();
        Ok(partials)
    }

    /// Rows refused since the last call, because a bound was reached.
    pub fn take_rows_refused(&mut self) -> u64 {
        std::mem::take(&mut self.rows_refused)
    }

    /// Groups held, over all open panes.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let panes = self.panes.values().map(Pane::bytes).sum::<usize>();
        let spare = self.spare.iter().flatten().map(|accumulator| accumulator.bytes());
        self.keys.bytes() + panes + self.blocks.bytes() + spare.sum::<usize>()
    }
}

impl Stateful for Panes {
    fn save(&mut self, out: &mut StateWriter) -> Result<()> {
        let schema = self.aggregate.partial_schema(&PANE_COLUMNS);
        let keys: Vec<usize> = (1..=self.aggregate.program.key_fields().len()).collect();
        for (&start, pane) in &mut self.panes {
            let ids = pane.map.ids().to_vec();
            let states = pane.copy_states(&*self.aggregate.program)?;
            let mut columns: Vec<ArrayRef> =
                vec![Arc::new(Int64Array::from_value(start, ids.len()))];
            columns.extend(self.keys.columns(&ids)?);
            columns.extend(states.into_iter().flatten());
            out.keyed("panes", RecordBatch::try_new(Arc::clone(&schema), columns)?, &keys)?;
        }
        out.note(&self.closed_until)
    }

    fn load(&mut self, saved: &StateReader<'_>) -> Result<()> {
        let schema = self.aggregate.partial_schema(&PANE_COLUMNS);
        // Fewer workers hold more groups each.
        let groups_max = std::mem::replace(&mut self.aggregate.groups_max, usize::MAX);
        for rows in saved.rows_as("panes", &schema)? {
            self.merge(&rows)?;
        }
        self.aggregate.groups_max = groups_max;
        // All workers close windows alike; one that had no panes may not have been asked.
        let closed: Vec<EventTime> = saved.notes()?;
        self.closed_until = closed.into_iter().max().unwrap_or(self.closed_until);
        Ok(())
    }
}

/// The panes of some times in their order, and which rows lie in each; `None` where all lie in one.
fn by_pane(window: WindowSpec, times: &[i64]) -> Vec<(i64, Option<UInt32Array>)> {
    let (least, most) =
        times.iter().fold((i64::MAX, i64::MIN), |(a, b), &time| (a.min(time), b.max(time)));
    if least > most {
        return Vec::new();
    }
    let (first, pane) = (window.pane_start(EventTime(least)), window.pane_ns());
    let span = most.saturating_sub(first);
    if span < pane {
        return vec![(first, None)];
    }
    if span / pane >= PANES_AT_ONCE {
        let starts = times.iter().map(|&time| window.pane_start(EventTime(time)));
        return by_start(starts).map(|(start, rows)| (start, Some(rows))).collect();
    }
    // Rows in disorder are each in another pane than the one before, and a division of integers for each would cost as
    // much as the rest of its way into the pane. So few panes off, a product of floats is wrong by one at most.
    let count = (span / pane + 1) as usize;
    let mut panes: Vec<Vec<u32>> = Vec::new();
    panes.resize_with(count, || Vec::with_capacity(times.len() / count * 2));
    let inverse = 1.0 / pane as f64;
    for (row, &time) in times.iter().enumerate() {
        let from_first = time - first;
        let near = (from_first as f64 * inverse) as i64;
        let rest = from_first - near * pane;
        let place = near + i64::from(rest >= pane) - i64::from(rest < 0);
        panes[place as usize].push(row as u32);
    }
    let starts = (0..).map(|place: i64| first + place * pane);
    let filled = starts.zip(panes).filter(|(_, rows)| !rows.is_empty());
    filled.map(|(start, rows)| (start, Some(UInt32Array::from(rows)))).collect()
}

/// Rows by the pane that each lies in.
fn by_start(starts: impl Iterator<Item = i64>) -> impl Iterator<Item = (i64, UInt32Array)> {
    let mut by_start: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (row, start) in starts.enumerate() {
        by_start.entry(start).or_default().push(row as u32);
    }
    by_start.into_iter().map(|(start, rows)| (start, UInt32Array::from(rows)))
}

fn apply(pane: &mut Pane, part: &Part<'_>, groups: &[usize]) -> Result<()> {
    let count = pane.map.len();
    match part {
        Part::Rows(arguments) => {
            pane.accumulators.iter_mut().zip(*arguments).try_for_each(|(accumulator, arguments)| {
                accumulator.update(arguments, groups, count)
            })
        }
        Part::States(states) => pane
            .accumulators
            .iter_mut()
            .zip(*states)
            .try_for_each(|(accumulator, state)| accumulator.merge(state, groups, count)),
    }
}

#[cfg(test)]
mod tests;
