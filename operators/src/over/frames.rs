//! Rows in, rows with their calls out: the state of an OVER on one worker.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{take, take_record_batch};
use arrow::datatypes::{Fields, SchemaRef};
use arrow_row::{RowConverter, Rows, SortField};

use super::aggregate::FrameGroup;
use super::partition::{Kept, Partition, start_of_block};
use super::store::{Keeper, Owner, Place, Store};
use super::{Call, Frame, OtherRow, Over, Rank};
use crate::error::Result;
use crate::key::KeyEncoder;
use crate::keyed::{KeyLimit, KeyedState};
use crate::time::EventTime;
use crate::window::TimeType;

/// Stands for the partition of a row that is refused.
const REFUSED: u32 = u32::MAX;

/// Bounds of the state of an OVER on one worker.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Partitions.
    pub keys: KeyLimit,
    /// Rows that frames look at or that wait; those beyond are refused.
    pub rows_max: usize,
}

/// What has happened since it was last asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Rows refused, because there were too many rows or partitions.
    pub rows_refused: u64,
    /// Partitions that made room for others.
    pub keys_evicted: u64,
}

/// A row that has all it waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    serial: u64,
    pub(super) slot: u32,
    pub(super) number: u64,
}

/// The frames of all partitions that live on one worker.
pub struct Frames {
    over: Over,
    time: TimeType,
    encoder: KeyEncoder,
    ties: Option<RowConverter>,
    keys: KeyedState<u32>,
    /// By slot; empty where rows are only numbered.
    partitions: Vec<Partition>,
    /// By slot, the rows of each partition, where they are only numbered: the first row of each key costs no more.
    counts: Vec<u64>,
    only_counts: bool,
    /// How many slots there are, and which of them are free.
    slots: u32,
    free: Vec<u32>,
    groups: Vec<FrameGroup>,
    rows_after: u64,
    range_after_ns: i64,
    idle_after_ns: Option<i64>,
    /// Whether rows of a batch may leave later than the batch's.
    waits: bool,
    /// Columns of the input that are kept of a row; after them, where rows wait, the ranks.
    columns: Vec<usize>,
    keeps_rows: bool,
    rows: Store,
    rows_max: usize,
    /// The first rows of each partition, where they are read for ever.
    heads: Store,
    head_rows: usize,
    /// Partitions with a row that waits for a time, in order of these rows.
    waiting: VecDeque<(i64, u32)>,
    /// Partitions that are no more found by their key, until their rows have been given out.
    leaving: Vec<u32>,
    serial: u64,
    rows_refused: u64,
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frames")
            .field("partitions", &self.keys.len())
            .field("rows", &self.rows.rows())
            .finish_non_exhaustive()
    }
}

impl Frames {
    /// No rows yet. `input` has the columns of the rows, `time` is the type of the one that orders them.
    ///
    /// # Errors
    /// If a column cannot partition or order rows.
    pub fn new(over: Over, input: &SchemaRef, time: TimeType, limits: Limits) -> Result<Self> {
        let fields: Fields = over.partition.iter().map(|&i| input.fields()[i].clone()).collect();
        let tie = |(i, options): &(usize, _)| {
            SortField::new_with_options(input.field(*i).data_type().clone(), *options)
        };
        let ties = match over.ties.as_slice() {
            [] => None,
            ties => Some(RowConverter::new(ties.iter().map(tie).collect())?),
        };
        let (rows_after, range_after_ns) = (over.rows_after(), over.range_after_ns());
        let waits = rows_after > 0 || range_after_ns > 0;
        let is_read = |call: &Call| !matches!(call, Call::Rank(_));
        let keeps_rows = waits || over.calls.iter().any(is_read);
        let columns = if waits {
            (0..input.fields().len()).collect()
        } else {
            let of_values = over.calls.iter().filter_map(|call| match call {
                Call::Value { column, .. } => Some(*column),
                _ => None,
            });
            let of_aggregates = over.aggregates.iter().flat_map(|a| a.arguments.iter().copied());
            let mut columns: Vec<usize> = of_values.chain(of_aggregates).collect();
            columns.sort_unstable();
            columns.dedup();
            columns
        };
        let groups = over.aggregates.iter().enumerate().map(|(index, spec)| {
            let own = spec.arguments.iter().map(|&column| place_of(&columns, column)).collect();
            FrameGroup::new(spec, index, own)
        });
        Ok(Self {
            groups: groups.collect::<Result<_>>()?,
            encoder: KeyEncoder::new(&fields)?,
            ties,
            time,
            keys: KeyedState::new(limits.keys),
            partitions: Vec::new(),
            counts: Vec::new(),
            only_counts: over.calls.iter().all(|call| matches!(call, Call::Rank(Rank::RowNumber))),
            slots: 0,
            free: Vec::new(),
            rows_after,
            range_after_ns,
            idle_after_ns: over.idle_after_ns(),
            waits,
            columns,
            keeps_rows,
            rows: Store::default(),
            rows_max: limits.rows_max,
            heads: Store::default(),
            head_rows: over.head_rows(),
            waiting: VecDeque::new(),
            leaving: Vec::new(),
            serial: 0,
            rows_refused: 0,
            over,
        })
    }

    /// Takes rows in, which must be in order of event time, these after the ones before. Gives those rows with their calls
    /// that have all they wait for, once all rows below `complete` have been taken in.
    ///
    /// # Errors
    /// If an aggregate refuses a value, or a kernel fails, which would be a bug.
    pub fn update(
        &mut self,
        rows: Option<RecordBatch>,
        complete: EventTime,
    ) -> Result<Option<RecordBatch>> {
        let (mut arrived, mut batch, mut ranks) = (Vec::new(), None, Vec::new());
        if let Some(rows) = rows {
            let rows = self.order_ties(rows)?;
            let (rows, slots) = self.find_partitions(rows)?;
            (arrived, ranks) = self.take_in(&rows, &slots)?;
            batch = Some(rows);
        }
        let touched = match self.keeps_rows {
            true => distinct(arrived.iter().map(|row| row.slot)),
            false => Vec::new(),
        };
        for group in &mut self.groups {
            group.build_blocks(&self.rows, &mut self.partitions, &touched)?;
        }
        self.leave_idle(complete);
        let given = if self.waits { self.ready(touched, complete) } else { arrived };
        let result = match batch {
            _ if given.is_empty() => None,
            Some(batch) if !self.waits => Some(self.results(&given, batch.columns(), &ranks)?),
            _ => {
                let places: Vec<Place> = given.iter().map(|row| self.place(row)).collect();
                let all: Vec<usize> = (0..self.columns.len() + self.over.ranks().count()).collect();
                let read = self.rows.read(&all, &places)?;
                let (columns, ranks) = read.split_at(self.columns.len());
                Some(self.results(&given, columns, ranks)?)
            }
        };
        self.forget(&given)?;
        Ok(result)
    }

    /// Puts rows of equal time into the order that the query asks for.
    fn order_ties(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let Some(ties) = self.encode_ties(&rows)? else { return Ok(rows) };
        let times = self.time.read(rows.column(self.over.time_index));
        let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
        let key = |row: u32| (times[row as usize], ties.row(row as usize));
        order.sort_by(|a, b| key(*a).cmp(&key(*b)));
        Ok(take_record_batch(&rows, &UInt32Array::from(order))?)
    }

    fn encode_ties(&self, rows: &RecordBatch) -> Result<Option<Rows>> {
        let Some(converter) = &self.ties else { return Ok(None) };
        let columns: Vec<ArrayRef> =
            self.over.ties.iter().map(|(column, _)| rows.column(*column).clone()).collect();
        Ok(Some(converter.convert_columns(&columns)?))
    }

    /// The partition of each row, and the rows without those that are refused.
    fn find_partitions(&mut self, rows: RecordBatch) -> Result<(RecordBatch, Vec<u32>)> {
        let keys: Vec<ArrayRef> =
            self.over.partition.iter().map(|&column| rows.column(column).clone()).collect();
        let keys = self.encoder.encode(&keys)?;
        let times = self.time.read(rows.column(self.over.time_index));
        let mut slots = Vec::with_capacity(rows.num_rows());
        let mut room = match self.keeps_rows {
            true => self.rows_max.saturating_sub(self.rows.rows()),
            false => usize::MAX,
        };
        for (row, &time) in times.iter().enumerate() {
            if room == 0 {
                slots.push(REFUSED);
                continue;
            }
            // A key that is of no more use must not keep another one out, whenever that is noticed.
            if let Some(idle) = self.idle_after_ns {
                let before = EventTime(time.saturating_sub(idle));
                while let Some(slot) = self.keys.take_older(before) {
                    self.leaving.push(slot);
                }
            }
            let (known, free, leaving) = (&mut self.slots, &mut self.free, &mut self.leaving);
            let make = || {
                free.pop().unwrap_or_else(|| {
                    *known += 1;
                    *known - 1
                })
            };
            let evicted = |slot| leaving.push(slot);
            let slot = self.keys.at(keys.bytes(row), EventTime(time), make, evicted);
            room -= usize::from(slot.is_some());
            slots.push(slot.map_or(REFUSED, |slot| *slot));
        }
        match self.only_counts {
            true => self.counts.resize(self.slots as usize, 0),
            false => self.partitions.resize_with(self.slots as usize, Partition::default),
        }
        let refused = slots.iter().filter(|slot| **slot == REFUSED).count();
        if refused == 0 {
            return Ok((rows, slots));
        }
        self.rows_refused += refused as u64;
        let kept = (0u32..).zip(&slots).filter(|(_, slot)| **slot != REFUSED).map(|(row, _)| row);
        let rows = take_record_batch(&rows, &kept.collect::<UInt32Array>())?;
        slots.retain(|slot| *slot != REFUSED);
        Ok((rows, slots))
    }

    /// Adds rows to their partitions. Answers with them, and with their ranks, one column for each call.
    fn take_in(
        &mut self,
        rows: &RecordBatch,
        slots: &[u32],
    ) -> Result<(Vec<Given>, Vec<ArrayRef>)> {
        if self.only_counts {
            return Ok(self.number(slots));
        }
        let times = self.time.read(rows.column(self.over.time_index));
        let ties = self.encode_ties(rows)?;
        let mut ranks: Vec<(Rank, Vec<u64>)> =
            self.over.ranks().map(|rank| (rank, Vec::with_capacity(slots.len()))).collect();
        let mut arrived = Vec::with_capacity(slots.len());
        for (row, (&slot, &time)) in slots.iter().zip(&*times).enumerate() {
            let partition = &mut self.partitions[slot as usize];
            let number = partition.count;
            partition.count += 1;
            // Rows of one time come in one batch.
            let is_peer = partition.latest.is_some_and(|(latest, at)| {
                let same = |ties: &Rows| ties.row(at as usize) == ties.row(row);
                latest == time && ties.as_ref().is_none_or(same)
            });
            if !is_peer {
                partition.rank = number + 1;
                partition.dense_rank += 1;
            }
            partition.latest = Some((time, row as u32));
            for (rank, numbers) in &mut ranks {
                numbers.push(match rank {
                    Rank::RowNumber => number + 1,
                    Rank::Rank => partition.rank,
                    Rank::DenseRank => partition.dense_rank,
                });
            }
            arrived.push(Given { serial: self.serial + row as u64, slot, number });
        }
        self.serial += slots.len() as u64;
        let ranks: Vec<ArrayRef> =
            ranks.into_iter().map(|(_, n)| Arc::new(UInt64Array::from(n)) as ArrayRef).collect();
        self.keep(rows, &times, &ranks, &arrived)?;
        Ok((arrived, ranks))
    }

    /// Numbers rows of partitions of which nothing else is known.
    fn number(&mut self, slots: &[u32]) -> (Vec<Given>, Vec<ArrayRef>) {
        let mut numbers = Vec::with_capacity(slots.len());
        let mut arrived = Vec::with_capacity(slots.len());
        for &slot in slots {
            let count = &mut self.counts[slot as usize];
            arrived.push(Given { serial: self.serial, slot, number: *count });
            *count += 1;
            numbers.push(*count);
        }
        let numbers: ArrayRef = Arc::new(UInt64Array::from(numbers));
        (arrived, vec![numbers; self.over.calls.len()])
    }

    /// Keeps what is read of rows later.
    fn keep(
        &mut self,
        rows: &RecordBatch,
        times: &[i64],
        ranks: &[ArrayRef],
        arrived: &[Given],
    ) -> Result<()> {
        if !self.keeps_rows {
            return Ok(());
        }
        let owner = |row: &Given| Owner { slot: row.slot, level: 0, number: row.number };
        let columns = self.columns.iter().map(|&column| rows.column(column).clone());
        let mut columns: Vec<ArrayRef> = columns.collect();
        self.keep_heads(&columns, arrived)?;
        if self.waits {
            columns.extend(ranks.iter().cloned());
        }
        let places = self.rows.add(columns, arrived.iter().map(owner).collect());
        for ((row, place), &time) in arrived.iter().zip(places).zip(times) {
            let partition = &mut self.partitions[row.slot as usize];
            partition.keep(Kept { time, serial: row.serial, place });
            if !self.waits {
                partition.given = partition.count;
            } else if self.range_after_ns > 0 {
                self.waiting.push_back((time, row.slot));
            }
        }
        Ok(())
    }

    /// Keeps those rows again that are among the first of their partition, where these are read for ever.
    fn keep_heads(&mut self, columns: &[ArrayRef], arrived: &[Given]) -> Result<()> {
        let is_head = |(_, row): &(u32, &Given)| row.number < self.head_rows as u64;
        let (at, heads): (Vec<u32>, Vec<&Given>) = (0u32..).zip(arrived).filter(is_head).unzip();
        if heads.is_empty() {
            return Ok(());
        }
        let at = UInt32Array::from(at);
        let columns = columns.iter().map(|column| take(column, &at, None));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let owner = |row: &&Given| Owner { slot: row.slot, level: 0, number: row.number };
        let places = self.heads.add(columns, heads.iter().map(owner).collect());
        for (row, place) in heads.into_iter().zip(places) {
            self.partitions[row.slot as usize].head.push(place);
        }
        Ok(())
    }

    /// Partitions that have had no row for so long that no later one would see it.
    fn leave_idle(&mut self, complete: EventTime) {
        if let (Some(idle), false) = (self.idle_after_ns, complete == EventTime::MAX) {
            while let Some(slot) = self.keys.take_older(complete.minus_ns(idle)) {
                self.leaving.push(slot);
            }
        }
    }

    /// Rows that have all they wait for, in order of event time.
    fn ready(&mut self, touched: Vec<u32>, complete: EventTime) -> Vec<Given> {
        let is_end = complete == EventTime::MAX;
        let mut slots = touched;
        if is_end {
            slots = (0..self.partitions.len() as u32).collect();
            self.waiting.clear();
        }
        let passed = |time: i64| is_end || time.saturating_add(self.range_after_ns) < complete.0;
        while let Some((_, slot)) = self.waiting.pop_front_if(|(time, _)| passed(*time)) {
            slots.push(slot);
        }
        for &slot in &self.leaving {
            self.partitions[slot as usize].is_over = true;
            slots.push(slot);
        }
        let mut given = Vec::new();
        for slot in distinct(slots.into_iter()) {
            let partition = &mut self.partitions[slot as usize];
            while partition.given < partition.count {
                let (number, row) = (partition.given, *partition.row(partition.given));
                let has_rows = number + self.rows_after < partition.count;
                let is_complete = is_end || partition.is_over || (has_rows && passed(row.time));
                if !is_complete {
                    break;
                }
                given.push(Given { serial: row.serial, slot, number });
                partition.given += 1;
            }
        }
        given.sort_unstable_by_key(|row| row.serial);
        given
    }

    fn place(&self, row: &Given) -> Place {
        self.partitions[row.slot as usize].row(row.number).place
    }

    /// Rows with their calls: the columns of the input, then one for each call.
    fn results(
        &self,
        given: &[Given],
        columns: &[ArrayRef],
        ranks: &[ArrayRef],
    ) -> Result<RecordBatch> {
        let groups = self.groups.iter();
        let aggregates = groups
            .map(|group| group.results(&self.rows, &self.partitions, given))
            .collect::<Result<Vec<_>>>()?;
        let mut columns = columns.to_vec();
        let mut ranks = ranks.iter();
        for call in &self.over.calls {
            columns.push(match call {
                Call::Aggregate { group, index } => Arc::clone(&aggregates[*group][*index]),
                Call::Value { column, row, missing } => {
                    self.values(*column, *row, missing, given)?
                }
                Call::Rank(_) => Arc::clone(ranks.next().expect("there is one for each call")),
            });
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.over.schema), columns)?)
    }

    fn values(
        &self,
        column: usize,
        row: OtherRow,
        missing: &ArrayRef,
        given: &[Given],
    ) -> Result<ArrayRef> {
        let column = place_of(&self.columns, column);
        let other = |row_given: &Given| {
            let partition = &self.partitions[row_given.slot as usize];
            other_row(partition, row, row_given.number)
        };
        if let OtherRow::Nth(Frame { start: None, .. }, 1..) = row {
            let head = |given: &Given| {
                let partition = &self.partitions[given.slot as usize];
                other(given).map(|number| partition.head[number as usize])
            };
            let places: Vec<Option<Place>> = given.iter().map(head).collect();
            return self.heads.read_or(column, &places, missing);
        }
        let place = |given: &Given| {
            let partition = &self.partitions[given.slot as usize];
            other(given).map(|number| partition.row(number).place)
        };
        let places: Vec<Option<Place>> = given.iter().map(place).collect();
        self.rows.read_or(column, &places, missing)
    }

    /// Forgets what no later row reads.
    fn forget(&mut self, given: &[Given]) -> Result<()> {
        if self.keeps_rows {
            for slot in distinct(given.iter().map(|row| row.slot)) {
                let Self { over, groups, partitions, rows, .. } = self;
                let partition = &mut partitions[slot as usize];
                let Some(latest) = partition.given.checked_sub(1) else { continue };
                let bounds: Vec<(u64, u64)> =
                    groups.iter().map(|group| partition.bounds(group.frame(), latest)).collect();
                let from = first_needed(over, partition, latest);
                let mut from_all = from;
                for (group, bounds) in groups.iter_mut().zip(bounds) {
                    let start = group.frame().start;
                    // A block is read until the block of the next level that it belongs to is read in its place.
                    let keep_from = |partition: &Partition, level: usize| {
                        let built = start_of_block(partition.count, level + 1);
                        match start {
                            Some(_) => bounds.0.min(built),
                            None => start_of_block(bounds.1, level + 1),
                        }
                    };
                    from_all = from_all.min(match group.has_blocks() {
                        true => keep_from(partition, 0),
                        false => bounds.0,
                    });
                    group.let_go(partition, keep_from);
                }
                partition.let_go(from_all, |place| rows.let_go(place));
            }
        }
        for slot in std::mem::take(&mut self.leaving) {
            self.free.push(slot);
            if self.only_counts {
                self.counts[slot as usize] = 0;
                continue;
            }
            let partition = std::mem::take(&mut self.partitions[slot as usize]);
            partition.places().for_each(|place| self.rows.let_go(place));
            partition.head.iter().for_each(|place| self.heads.let_go(*place));
            self.groups.iter_mut().for_each(|group| group.let_go_of_all(&partition));
        }
        let partitions = &mut self.partitions;
        self.rows.tidy(&mut RowKeeper(partitions))?;
        self.heads.tidy(&mut HeadKeeper(partitions))?;
        self.groups.iter_mut().try_for_each(|group| group.tidy(partitions))
    }

    /// What has happened since the last call.
    pub fn take_statistics(&mut self) -> Statistics {
        Statistics {
            rows_refused: std::mem::take(&mut self.rows_refused),
            keys_evicted: self.keys.take_evicted(),
        }
    }

    /// How many partitions are held.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// How many rows are held.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows.rows()
    }

    /// Bytes held, estimated.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let blocks: usize = self.groups.iter().map(FrameGroup::bytes).sum();
        let partitions =
            self.partitions.capacity() * size_of::<Partition>() + self.counts.capacity() * 8;
        let places = self.rows.rows() * size_of::<Kept>();
        self.keys.bytes() + partitions + places + self.rows.bytes() + self.heads.bytes() + blocks
    }
}

/// The row that a call reads for row `number`.
fn other_row(partition: &Partition, row: OtherRow, number: u64) -> Option<u64> {
    match row {
        OtherRow::Shift(shift) => {
            number.checked_add_signed(shift).filter(|other| *other < partition.count)
        }
        OtherRow::Nth(frame, n) => {
            let (start, end) = partition.bounds(&frame, number);
            let other = match n {
                1.. => start.checked_add(n.unsigned_abs() - 1),
                0 => None,
                _ => end.checked_sub(n.unsigned_abs()),
            };
            other.filter(|other| (start..end).contains(other))
        }
    }
}

/// The first row that waits, or that a value call reads for rows after row `latest`.
fn first_needed(over: &Over, partition: &Partition, latest: u64) -> u64 {
    let of_calls = over.calls.iter().filter_map(|call| match call {
        Call::Value { row: OtherRow::Shift(shift), .. } => {
            Some((latest + 1).saturating_add_signed(*shift))
        }
        Call::Value { row: OtherRow::Nth(frame, n), .. } => {
            let (start, end) = partition.bounds(frame, latest);
            match (frame.start, n) {
                (Some(_), _) => Some(start),
                (None, 0..) => None,
                (None, _) => Some(end.saturating_sub(n.unsigned_abs())),
            }
        }
        _ => None,
    });
    of_calls.fold(partition.given, u64::min)
}

/// Where a column of the input is among those that are kept.
fn place_of(columns: &[usize], column: usize) -> usize {
    columns.iter().position(|kept| *kept == column).expect("what calls read is kept")
}

/// Each slot once.
fn distinct(slots: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut slots: Vec<u32> = slots.collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}

struct RowKeeper<'a>(&'a mut [Partition]);

impl Keeper for RowKeeper<'_> {
    fn place(&mut self, owner: Owner) -> Option<&mut Place> {
        self.0.get_mut(owner.slot as usize)?.place_mut(owner.number)
    }
}

struct HeadKeeper<'a>(&'a mut [Partition]);

impl Keeper for HeadKeeper<'_> {
    fn place(&mut self, owner: Owner) -> Option<&mut Place> {
        self.0.get_mut(owner.slot as usize)?.head.get_mut(owner.number as usize)
    }
}

mod saved;
#[cfg(test)]
mod tests;
