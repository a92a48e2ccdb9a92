//! The state of an OVER as tables of a checkpoint: partitions in order of use, the rows that they keep, the first rows that
//! are read for ever, and the blocks of each frame.
//!
//! Blocks cannot be worked out again: they outlive the rows that they stand for.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, UInt32Type, UInt64Type};

use super::{Frames, Owner, Partition, Place};
use crate::error::Result;
use crate::keyed::Key;
use crate::over::partition::{Blocks, Kept};
use crate::state::{StateReader, StateWriter, Stateful, problem};
use crate::time::EventTime;

/// What rows and first rows begin with; a row's own columns follow. Brackets keep them apart from columns of a query.
const ROW_COLUMNS: [(&str, DataType); 4] = [
    ("(key)", DataType::Binary),
    ("(number)", DataType::UInt64),
    ("(time)", DataType::Int64),
    ("(serial)", DataType::UInt64),
];

/// A partition as it is written.
struct SavedPartition {
    key: Option<Vec<u8>>,
    time: i64,
    partition: Partition,
}

/// A row or block that has been read, in the order in which partitions keep them.
type Placed = (u32, u32, u64, Place);

impl Frames {
    /// Columns of rows that are written, those of the query as they are kept.
    fn row_fields(&self) -> Vec<FieldRef> {
        let own = ROW_COLUMNS.map(|(name, kind)| Arc::new(Field::new(name, kind, true)));
        let of_query = self.columns.iter().map(|&column| {
            let field = self.over.schema.field(column);
            Arc::new(Field::new(field.name(), field.data_type().clone(), true))
        });
        own.into_iter().chain(of_query).collect()
    }

    /// With the ranks of rows that wait.
    fn kept_schema(&self) -> Arc<Schema> {
        let mut fields = self.row_fields();
        if self.waits {
            let ranks = 0..self.over.ranks().count();
            let rank = |rank| Field::new(format!("(rank {rank})"), DataType::UInt64, true);
            fields.extend(ranks.map(|index| Arc::new(rank(index))));
        }
        Arc::new(Schema::new(fields))
    }

    /// Adds rows to a table; they go where their partition lives.
    fn put(&self, out: &mut StateWriter, table: &str, rows: RecordBatch, keys: &[Key<'_>]) {
        match self.over.partition.is_empty() {
            true => out.unkeyed(table, rows),
            false => out.keyed_bytes(table, rows, keys.iter().copied()),
        }
    }

    fn save_partitions(&self, out: &mut StateWriter) -> Result<()> {
        let entries: Vec<_> = self.keys.by_use().collect();
        let keys: Vec<Key<'_>> = entries.iter().map(|entry| entry.key.as_deref()).collect();
        let of = |read: fn(&Partition) -> u64| -> ArrayRef {
            let number = |slot: u32| match self.partitions.get(slot as usize) {
                Some(partition) => read(partition),
                // Rows that are only numbered have no partition: all that is known is how many there were.
                None => self.counts[slot as usize],
            };
            Arc::new(UInt64Array::from_iter_values(entries.iter().map(|e| number(e.value))))
        };
        let latest = |slot: u32| Some(self.partitions.get(slot as usize)?.latest?.0);
        let times = entries.iter().map(|entry| entry.time.0);
        let columns: [(&str, ArrayRef); 7] = [
            ("key", Arc::new(keys.iter().copied().collect::<BinaryArray>())),
            ("time", Arc::new(Int64Array::from_iter_values(times))),
            ("count", of(|partition| partition.count)),
            ("given", of(|partition| partition.given)),
            ("rank", of(|partition| partition.rank)),
            ("dense_rank", of(|partition| partition.dense_rank)),
            ("latest", Arc::new(entries.iter().map(|e| latest(e.value)).collect::<Int64Array>())),
        ];
        let columns = columns.map(|(name, column)| (name, column, true));
        self.put(out, "partitions", RecordBatch::try_from_iter_with_nullable(columns)?, &keys);
        Ok(())
    }

    /// Partitions of all writers, those first that have been without a row for longest.
    fn read_partitions(saved: &StateReader<'_>) -> Result<Vec<SavedPartition>> {
        let mut all = Vec::new();
        for rows in saved.rows("partitions")? {
            let number = |i: usize| rows.column(i).as_primitive::<UInt64Type>().values();
            let time = |i: usize| rows.column(i).as_primitive::<Int64Type>();
            let (keys, times, latest) = (rows.column(0).as_binary::<i32>(), time(1), time(6));
            for row in 0..rows.num_rows() {
                let partition = Partition {
                    count: number(2)[row],
                    given: number(3)[row],
                    rank: number(4)[row],
                    dense_rank: number(5)[row],
                    // No later row shares the time of one that has been taken in.
                    latest: latest.is_valid(row).then(|| (latest.value(row), 0)),
                    ..Partition::default()
                };
                let key = keys.is_valid(row).then(|| keys.value(row).to_vec());
                all.push(SavedPartition { key, time: times.value(row), partition });
            }
        }
        // Stable: those of one writer stay in their order.
        all.sort_by_key(|partition| partition.time);
        Ok(all)
    }

    /// The slots of keys.
    fn slots_of(&self, keys: &BinaryArray) -> Result<Vec<u32>> {
        let slot = |key: Key<'_>| self.keys.peek(key).copied();
        let slots: Option<Vec<u32>> = keys.iter().map(slot).collect();
        slots.ok_or_else(|| problem("holds rows of no partition"))
    }

    fn load_rows(&mut self, saved: &StateReader<'_>) -> Result<()> {
        let mut kept: Vec<(Kept, u32, u64)> = Vec::new();
        for rows in saved.rows_as("rows", &self.kept_schema())? {
            let (own, columns) = rows.columns().split_at(ROW_COLUMNS.len());
            let slots = self.slots_of(own[0].as_binary::<i32>())?;
            let numbers = own[1].as_primitive::<UInt64Type>().values();
            let times = own[2].as_primitive::<Int64Type>().values();
            let serials = own[3].as_primitive::<UInt64Type>().values();
            let owner = |(&slot, &number)| Owner { slot, level: 0, number };
            let owners = slots.iter().zip(numbers).map(owner).collect();
            for (row, place) in self.rows.add(columns.to_vec(), owners).enumerate() {
                let row_kept = Kept { time: times[row], serial: serials[row], place };
                kept.push((row_kept, slots[row], numbers[row]));
            }
        }
        // Rows of several writers get one order, by which they leave.
        kept.sort_by_key(|(row, ..)| (row.time, row.serial));
        self.serial = kept.len() as u64;
        for (serial, (row, slot, number)) in (0..).zip(&mut kept) {
            row.serial = serial;
            let is_waiting = *number >= self.partitions[*slot as usize].given;
            if self.range_after_ns > 0 && is_waiting {
                self.waiting.push_back((row.time, *slot));
            }
        }
        kept.sort_by_key(|(_, slot, number)| (*slot, *number));
        let mut rest = kept.as_slice();
        for (slot, partition) in (0..).zip(&mut self.partitions) {
            let (own, others) = rest.split_at(rest.partition_point(|row| row.1 <= slot));
            rest = others;
            let is_whole = (0..)
                .zip(own.iter().rev())
                .all(|(back, (.., number))| partition.count.checked_sub(back + 1) == Some(*number));
            let first = partition.count.saturating_sub(own.len() as u64);
            let has_all = !self.waits || first <= partition.given;
            if !is_whole || !has_all || partition.given > partition.count {
                return Err(problem("holds rows that do not fit together"));
            }
            if self.keeps_rows {
                partition.take_up(own.iter().map(|(row, ..)| *row).collect());
            }
        }
        Ok(())
    }

    fn load_heads(&mut self, saved: &StateReader<'_>) -> Result<()> {
        let mut placed: Vec<Placed> = Vec::new();
        for rows in saved.rows_as("heads", &Arc::new(Schema::new(self.row_fields())))? {
            let (own, columns) = rows.columns().split_at(ROW_COLUMNS.len());
            let slots = self.slots_of(own[0].as_binary::<i32>())?;
            let numbers = own[1].as_primitive::<UInt64Type>().values();
            let owner = |(&slot, &number)| Owner { slot, level: 0, number };
            let owners: Vec<Owner> = slots.iter().zip(numbers).map(owner).collect();
            let places = self.heads.add(columns.to_vec(), owners.clone());
            placed.extend(owners.iter().zip(places).map(|(o, place)| (o.slot, 0, o.number, place)));
        }
        placed.sort_unstable_by_key(|head| (head.0, head.2));
        for (slot, _, number, place) in placed {
            let head = &mut self.partitions[slot as usize].head;
            if number != head.len() as u64 {
                return Err(problem("holds first rows that do not fit together"));
            }
            head.push(place);
        }
        let heads_max = self.head_rows as u64;
        match self.partitions.iter().all(|p| p.head.len() as u64 == p.count.min(heads_max)) {
            true => Ok(()),
            false => Err(problem("holds too few first rows")),
        }
    }

    fn load_blocks(&mut self, group: usize, saved: &StateReader<'_>) -> Result<()> {
        let mut placed: Vec<Placed> = Vec::new();
        for rows in saved.rows(&blocks_table(group))? {
            let slots = self.slots_of(rows.column(0).as_binary::<i32>())?;
            let levels = rows.column(1).as_primitive::<UInt32Type>().values();
            let numbers = rows.column(2).as_primitive::<UInt64Type>().values();
            let owner =
                |row: usize| Owner { slot: slots[row], level: levels[row], number: numbers[row] };
            let owners: Vec<Owner> = (0..rows.num_rows()).map(owner).collect();
            let states = rows.columns()[3..].to_vec();
            let places = self.groups[group].take_up(states, owners.clone())?;
            placed.extend(owners.iter().zip(places).map(|(o, p)| (o.slot, o.level, o.number, p)));
        }
        placed.sort_unstable_by_key(|block| (block.0, block.1, block.2));
        let mut rest = placed.as_slice();
        for (slot, partition) in (0..).zip(&mut self.partitions) {
            let (own, others) = rest.split_at(rest.partition_point(|block| block.0 <= slot));
            rest = others;
            let level = |level: u32| -> Option<Blocks> {
                let of_level = own.iter().filter(|block| block.1 == level);
                let blocks = of_level.map(|block| (block.2, block.3)).collect();
                Blocks::taken_up(partition.count, level as usize, blocks)
            };
            let levels = self.groups[group].levels_of(partition.count) as u32;
            let levels: Option<Vec<Blocks>> = (1..=levels).map(level).collect();
            let levels = levels.ok_or_else(|| problem("holds blocks that do not fit together"))?;
            partition.blocks.resize_with(group + 1, Vec::new);
            partition.blocks[group] = levels;
        }
        Ok(())
    }
}

fn blocks_table(group: usize) -> String {
    format!("blocks {group}")
}

fn numbers(owners: &[Owner]) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(owners.iter().map(|owner| owner.number)))
}

impl Stateful for Frames {
    fn save(&mut self, out: &mut StateWriter) -> Result<()> {
        let frames = &*self;
        frames.save_partitions(out)?;
        let mut key_of: Vec<Key<'_>> = vec![None; frames.slots as usize];
        frames.keys.by_use().for_each(|entry| key_of[entry.value as usize] = entry.key.as_deref());
        let keys_of = |owners: &[Owner]| -> Vec<Key<'_>> {
            owners.iter().map(|owner| key_of[owner.slot as usize]).collect()
        };
        let key_column = |keys: &[Key<'_>]| -> ArrayRef {
            Arc::new(keys.iter().copied().collect::<BinaryArray>())
        };
        let kept = |owner: Owner| frames.partitions[owner.slot as usize].kept(owner.number);
        let schema = frames.kept_schema();
        for (owners, own) in frames.rows.saved(|owner| Some(kept(owner)?.place))? {
            let keys = keys_of(&owners);
            let time = |owner: &Owner| kept(*owner).map(|row| row.time);
            let serial = |owner: &Owner| kept(*owner).map(|row| row.serial);
            let mut columns = vec![
                key_column(&keys),
                numbers(&owners),
                Arc::new(owners.iter().map(time).collect::<Int64Array>()),
                Arc::new(owners.iter().map(serial).collect::<UInt64Array>()),
            ];
            columns.extend(own);
            frames.put(out, "rows", RecordBatch::try_new(Arc::clone(&schema), columns)?, &keys);
        }
        let head = |owner: Owner| {
            let heads = &frames.partitions[owner.slot as usize].head;
            heads.get(owner.number as usize).copied()
        };
        let schema = Arc::new(Schema::new(frames.row_fields()));
        for (owners, own) in frames.heads.saved(head)? {
            let keys = keys_of(&owners);
            let mut columns = vec![
                key_column(&keys),
                numbers(&owners),
                Arc::new(Int64Array::new_null(owners.len())),
                Arc::new(UInt64Array::new_null(owners.len())) as ArrayRef,
            ];
            columns.extend(own);
            frames.put(out, "heads", RecordBatch::try_new(Arc::clone(&schema), columns)?, &keys);
        }
        for (group, blocks) in frames.groups.iter().enumerate() {
            for (owners, states) in blocks.saved(&frames.partitions)? {
                let keys = keys_of(&owners);
                let levels = owners.iter().map(|owner| owner.level);
                let mut columns = vec![
                    key_column(&keys),
                    Arc::new(UInt32Array::from_iter_values(levels)),
                    numbers(&owners),
                ];
                columns.extend(states);
                let named = (0..).zip(columns).map(|(i, c): (u32, _)| (i.to_string(), c, true));
                let rows = RecordBatch::try_from_iter_with_nullable(named)?;
                frames.put(out, &blocks_table(group), rows, &keys);
            }
        }
        Ok(())
    }

    fn load(&mut self, saved: &StateReader<'_>) -> Result<()> {
        for SavedPartition { key, time, partition } in Self::read_partitions(saved)? {
            self.keys.take_up(key.as_deref(), EventTime(time), self.slots);
            self.slots += 1;
            match self.only_counts {
                true => self.counts.push(partition.count),
                false => self.partitions.push(partition),
            }
        }
        if self.keeps_rows {
            self.load_rows(saved)?;
            self.load_heads(saved)?;
            for group in 0..self.groups.len() {
                self.load_blocks(group, saved)?;
            }
        }
        // Fewer workers hold more keys each.
        self.keys.bound(|slot| self.leaving.push(slot));
        Ok(())
    }
}
