//! The join itself: rows meet those of the other side that wait, then wait themselves.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::held::{Held, Place, Waiting};
use super::saved::{load_held, load_whole, save_held, save_whole};
use super::{Accept, JoinSpec, Joining, Keys, Pending, Side, SideTime};
use crate::error::Result;
use crate::state::{StateReader, StateWriter, Stateful};
use crate::time::{Epoch, EventTime};

/// Most pairs that are looked at together.
const PAIRS_MAX: usize = 8192;

/// A join and the rows that it holds.
#[derive(Debug)]
pub struct Join {
    pub(super) spec: JoinSpec,
    times: [SideTime; 2],
    keys: Keys,
    /// Columns that the residual condition reads.
    pair_schema: SchemaRef,
    held: [Held; 2],
    /// Up to where each side is complete.
    complete: [EventTime; 2],
    pending: Pending,
    rows_max: usize,
}

impl Join {
    /// Joins rows of two schemas; holds at most `rows_max` of them.
    ///
    /// # Errors
    /// If a key column's type cannot be compared, the key columns' types differ, or a time column is no timestamp.
    pub fn new(spec: JoinSpec, inputs: [&SchemaRef; 2], rows_max: usize) -> Result<Self> {
        let mut pair: Vec<_> = spec.schema.fields().iter().map(Arc::clone).collect();
        pair.push(Arc::new(Field::new("pair", DataType::UInt32, false)));
        let reach_ns = spec.upper_ns.saturating_sub(spec.lower_ns);
        let held = Side::BOTH.map(|side| Held::new(reach_ns, spec.kind.keeps(side)));
        Ok(Self {
            times: SideTime::of_both(spec.times, inputs)?,
            keys: Keys::new(&spec.keys, inputs)?,
            pair_schema: Arc::new(Schema::new(pair)),
            held,
            spec,
            complete: [EventTime::MIN; 2],
            pending: Pending::default(),
            rows_max,
        })
    }

    /// The time before which rows of a side can find no partner any more; `None` if no row can.
    fn past(&self, side: Side) -> Option<i64> {
        let (_, latest) = self.spec.reach(side);
        match self.complete[side.other() as usize] {
            EventTime::MAX => None,
            EventTime(complete) => Some(complete.saturating_sub(latest)),
        }
    }

    /// Rows look for partners among those that are held, then are held, unless all their partners have been there.
    fn meet(
        &mut self,
        side: Side,
        rows: &RecordBatch,
        accept: &mut Accept<'_>,
        results: &mut Vec<RecordBatch>,
    ) -> Result<()> {
        let SideTime { index, kind } = &self.times[side as usize];
        let times = kind.read(rows.column(*index));
        let present = self.keys.present(side, rows, *index);
        let past = self.past(side);
        let mut has_partner = vec![false; rows.num_rows()];
        let (mut keys, across) = (None, side.other());
        let (from, to) = self.spec.reach(side);
        let read = |rows: &RecordBatch| self.keys.read(across, rows.columns());
        let asking = present.times(&times);
        if self.held[across as usize].expect(&asking, (from, to), read)? {
            let own = self.keys.read(side, rows.columns())?;
            let mut pairs = Vec::new();
            for (row, time) in times.iter().enumerate() {
                let Some(key) = own.get(row).filter(|_| present.has(row)) else { continue };
                let between = (time.saturating_add(from), time.saturating_add(to));
                let held = &self.held[across as usize];
                held.find(key, between, |place| pairs.push((row as u32, place)));
                if pairs.len() >= PAIRS_MAX {
                    self.give(side, rows, &pairs, &mut has_partner, accept, results)?;
                    pairs.clear();
                }
            }
            self.give(side, rows, &pairs, &mut has_partner, accept, results)?;
            keys = Some(own);
        }
        let (mut waiting, mut alone) = (Vec::new(), Vec::new());
        for (row, (&time, &has_partner)) in times.iter().zip(&has_partner).enumerate() {
            if present.has(row) && past.is_some_and(|past| time >= past) {
                waiting.push(Waiting { time, row: row as u32, has_partner });
            } else if self.spec.kind.keeps(side) && !has_partner {
                alone.push(row as u32);
            }
        }
        self.held[side as usize].add(rows, keys, waiting)?;
        if !alone.is_empty() {
            let columns = pick(rows, &UInt32Array::from(alone.clone()))?;
            results.push(self.alone(side, columns, alone.len())?);
        }
        Ok(())
    }

    /// Gives the pairs that satisfy the remaining condition.
    fn give(
        &mut self,
        side: Side,
        rows: &RecordBatch,
        pairs: &[(u32, Place)],
        has_partner: &mut [bool],
        accept: &mut Accept<'_>,
        results: &mut Vec<RecordBatch>,
    ) -> Result<()> {
        let across = side.other();
        for pairs in pairs.chunks(PAIRS_MAX) {
            let own = pick(rows, &pairs.iter().map(|(row, _)| Some(*row)).collect())?;
            let places: Vec<Place> = pairs.iter().map(|(_, place)| *place).collect();
            let partners = self.held[across as usize].columns(&places)?;
            let mut columns = in_order(side, own, partners);
            let mut accepted: Vec<u32> = (0..pairs.len() as u32).collect();
            if self.spec.residual.is_some() {
                let numbers = Arc::new(UInt32Array::from(accepted)) as ArrayRef;
                let all = columns.iter().cloned().chain([numbers]).collect();
                accepted = accept(&RecordBatch::try_new(self.pair_schema.clone(), all)?);
                if accepted.len() < pairs.len() {
                    let numbers = UInt32Array::from(accepted.clone());
                    for column in &mut columns {
                        *column = take(column, &numbers, None)?;
                    }
                }
            }
            for number in &accepted {
                let Some((row, place)) = pairs.get(*number as usize) else { continue };
                has_partner[*row as usize] = true;
                if self.spec.kind.keeps(across) {
                    self.held[across as usize].mark(*place);
                }
            }
            if !accepted.is_empty() {
                results.push(self.batch(columns, accepted.len())?);
            }
        }
        Ok(())
    }

    /// Rows of a side with nulls in place of a partner.
    fn alone(&self, side: Side, own: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let fields = self.spec.schema.fields();
        let missing = match side {
            Side::Left => own.len()..fields.len(),
            Side::Right => 0..fields.len() - own.len(),
        };
        let nulls = fields[missing].iter().map(|f| new_null_array(f.data_type(), rows)).collect();
        self.batch(in_order(side, own, nulls), rows)
    }

    fn batch(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.spec.schema.clone(), columns, &options)?)
    }

    fn rows_of(&self, side: Side) -> usize {
        self.pending.rows_of(side) + self.held[side as usize].rows()
    }

    /// Rows held on both sides and waiting for their epoch to close.
    #[must_use]
    pub fn rows(&self) -> usize {
        Side::BOTH.map(|side| self.rows_of(side)).iter().sum()
    }
}

impl Stateful for Join {
    fn save(&mut self, out: &mut StateWriter) -> Result<()> {
        for side in Side::BOTH {
            let held = &self.held[side as usize];
            match self.spec.whole {
                Some(whole) if whole == side => save_whole(held, side, out)?,
                _ => save_held(held, side, &self.spec.keys[side as usize], out)?,
            }
        }
        out.note(&self.complete)
    }

    fn load(&mut self, saved: &StateReader<'_>) -> Result<()> {
        // Workers follow the same watermarks.
        self.complete = saved.notes()?.into_iter().max().unwrap_or(self.complete);
        for side in Side::BOTH {
            let held = match self.spec.whole {
                Some(whole) if whole == side => load_whole(saved, side)?,
                _ => load_held(saved, side)?,
            };
            for (rows, partners) in held {
                let SideTime { index, kind } = &self.times[side as usize];
                let times = kind.read(rows.column(*index));
                // Only rows with a key and a time have been held.
                let waiting = partners.into_iter().zip(times.iter()).enumerate();
                let waiting = waiting.map(|(row, (has_partner, &time))| Waiting {
                    time,
                    row: row as u32,
                    has_partner,
                });
                self.held[side as usize].add(&rows, None, waiting.collect())?;
            }
        }
        Ok(())
    }
}

impl Joining for Join {
    fn add(&mut self, epoch: Epoch, side: Side, rows: &RecordBatch) {
        // What all workers hold has room of its own, so that they refuse alike, however many rows of the other side each has.
        let used = match self.spec.whole {
            Some(_) => self.rows_of(side),
            None => self.rows(),
        };
        let room = self.rows_max.saturating_sub(used);
        self.pending.add(epoch, side, rows, room);
    }

    fn close(
        &mut self,
        epoch: Epoch,
        complete: [EventTime; 2],
        accept: &mut Accept<'_>,
    ) -> Result<Vec<RecordBatch>> {
        let mut results = Vec::new();
        for (side, rows) in self.pending.take(epoch) {
            self.meet(side, &rows, accept, &mut results)?;
        }
        self.complete = complete;
        for side in Side::BOTH {
            let past = self.past(side);
            let due = self.held[side as usize].take_due(past);
            for places in due.chunks(PAIRS_MAX) {
                let columns = self.held[side as usize].columns(places)?;
                results.push(self.alone(side, columns, places.len())?);
            }
            self.held[side as usize].forget(past);
        }
        Ok(results)
    }

    fn take_refused(&mut self) -> u64 {
        self.pending.take_refused()
    }

    fn bytes(&self) -> usize {
        self.held.iter().map(Held::bytes).sum()
    }
}

fn pick(rows: &RecordBatch, places: &UInt32Array) -> Result<Vec<ArrayRef>> {
    rows.columns().iter().map(|column| Ok(take(column, places, None)?)).collect()
}

/// The left side's columns, then the right side's.
fn in_order(side: Side, own: Vec<ArrayRef>, partners: Vec<ArrayRef>) -> Vec<ArrayRef> {
    let (mut first, second) = match side {
        Side::Left => (own, partners),
        Side::Right => (partners, own),
    };
    first.extend(second);
    first
}
