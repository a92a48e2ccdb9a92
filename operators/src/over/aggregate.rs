//! Aggregates over frames: frames to rows and blocks, and all of a batch through the accumulators at once.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatchOptions, new_null_array};
use arrow::compute::{concat, interleave};
use arrow::record_batch::RecordBatch;

use super::FrameAggregates;
use super::frame::FrameUnits;
use super::frames::Given;
use super::partition::{BLOCK_ROWS, Blocks, Partition, fall_apart, rows_of};
use super::store::{Keeper, Owner, Place, Store};
use crate::error::Result;
use crate::expression::{AggregateArguments, AggregateInput, GroupAccumulator, finish_all};
use crate::state::problem;

/// Rows and blocks that are added up in one go; a frame of more is one go by itself.
const PARTS_MAX: usize = 1 << 18;
/// A frame of no more rows than this is added up row by row.
const ROWS_BEFORE_BLOCKS: u64 = 2 * BLOCK_ROWS;
/// Stands for the group of a frame without rows.
const NOTHING: usize = usize::MAX;

/// The aggregates of one frame, and the blocks that they merge.
pub(super) struct FrameGroup {
    spec: FrameAggregates,
    /// Its place among the groups.
    index: usize,
    /// The program's columns among those of the store of rows.
    columns: Vec<usize>,
    has_blocks: bool,
    blocks: Store,
    /// What the aggregates come to over no rows, one value each.
    over_nothing: Vec<ArrayRef>,
}

/// Frames on their way through the accumulators.
#[derive(Default)]
struct Parts {
    rows: Vec<Place>,
    /// For each row its group, among those that have rows.
    row_groups: Vec<usize>,
    /// For each group that has rows its group among all.
    with_rows: Vec<usize>,
    blocks: Vec<Place>,
    block_groups: Vec<usize>,
    groups: usize,
    /// The group of each result.
    results: Vec<usize>,
}

impl FrameGroup {
    /// No blocks yet. `columns` are the places of the program's columns in the store of rows.
    pub(super) fn new(spec: &FrameAggregates, index: usize, columns: Vec<usize>) -> Result<Self> {
        let is_long = match (spec.frame.units, spec.frame.start) {
            (_, None) | (FrameUnits::Range, _) => true,
            (FrameUnits::Rows, Some(start)) => {
                spec.frame.end.saturating_sub(start) >= ROWS_BEFORE_BLOCKS as i64
            }
        };
        let over_nothing = over_nothing(spec)?;
        let has_blocks = spec.combines && is_long;
        let (spec, blocks) = (spec.clone(), Store::default());
        Ok(Self { spec, index, columns, has_blocks, blocks, over_nothing })
    }

    pub(super) fn has_blocks(&self) -> bool {
        self.has_blocks
    }

    pub(super) fn frame(&self) -> &super::Frame {
        &self.spec.frame
    }

    pub(super) fn bytes(&self) -> usize {
        self.blocks.bytes()
    }

    /// What every aggregate comes to over the frame of each row.
    pub(super) fn results(
        &self,
        rows: &Store,
        partitions: &[Partition],
        given: &[Given],
    ) -> Result<Vec<ArrayRef>> {
        let (mut parts, mut pieces) = (Parts::default(), Vec::new());
        for row in given {
            let partition = &partitions[row.slot as usize];
            let bounds = partition.bounds(&self.spec.frame, row.number);
            parts.add(partition, bounds, self.has_blocks.then_some(self.index));
            if parts.rows.len() + parts.blocks.len() >= PARTS_MAX {
                pieces.push(self.work_through(rows, &parts)?);
                parts = Parts::default();
            }
        }
        if pieces.is_empty() || !parts.results.is_empty() {
            pieces.push(self.work_through(rows, &parts)?);
        }
        if pieces.len() == 1 {
            return Ok(pieces.remove(0));
        }
        let column = |index: usize| {
            let pieces: Vec<&dyn Array> =
                pieces.iter().map(|piece| piece[index].as_ref()).collect();
            Ok(concat(&pieces)?)
        };
        (0..self.over_nothing.len()).map(column).collect()
    }

    fn work_through(&self, rows: &Store, parts: &Parts) -> Result<Vec<ArrayRef>> {
        let program = &*self.spec.program;
        let mut results = Vec::new();
        if parts.groups > 0 {
            let mut accumulators = program.accumulators()?;
            if parts.blocks.is_empty() {
                self.add_rows(&mut accumulators, rows, parts)?;
            } else {
                self.merge(&mut accumulators, rows, parts)?;
            }
            results = finish_all(program, &mut accumulators)?;
        }
        if parts.groups == parts.results.len() && parts.groups > 0 {
            return Ok(results);
        }
        let places: Vec<(usize, usize)> = parts
            .results
            .iter()
            .map(|&group| if group == NOTHING { (0, 0) } else { (1, group) })
            .collect();
        let column = |(index, nothing): (usize, &ArrayRef)| {
            let found = results.get(index).map(|found: &ArrayRef| found.as_ref());
            let arrays: Vec<&dyn Array> = std::iter::once(nothing.as_ref()).chain(found).collect();
            Ok(interleave(&arrays, &places)?)
        };
        self.over_nothing.iter().enumerate().map(column).collect()
    }

    fn add_rows(
        &self,
        accumulators: &mut [Box<dyn GroupAccumulator>],
        rows: &Store,
        parts: &Parts,
    ) -> Result<()> {
        let input = self.prepare(rows, &parts.rows)?;
        for (accumulator, arguments) in accumulators.iter_mut().zip(&input.arguments) {
            accumulator.update(arguments, &parts.row_groups, parts.with_rows.len())?;
        }
        Ok(())
    }

    /// Merges the rows at the ends of frames, added up for each frame, and the blocks between them.
    fn merge(
        &self,
        accumulators: &mut [Box<dyn GroupAccumulator>],
        rows: &Store,
        parts: &Parts,
    ) -> Result<()> {
        let mut states = self.blocks.read(&self.state_columns(), &parts.blocks)?.into_iter();
        let mut ends = Vec::new();
        let mut groups = parts.with_rows.clone();
        groups.extend(&parts.block_groups);
        if !parts.rows.is_empty() {
            let mut of_ends = self.spec.program.accumulators()?;
            self.add_rows(&mut of_ends, rows, parts)?;
            ends = of_ends.iter_mut().map(|a| a.state()).collect::<Result<_>>()?;
        }
        let widths = self.spec.program.state_fields();
        for (index, accumulator) in accumulators.iter_mut().enumerate() {
            let width = widths.get(index).map_or(0, |fields| fields.len());
            let mut state: Vec<ArrayRef> = states.by_ref().take(width).collect();
            if let Some(ends) = ends.get(index) {
                for (blocks, ends) in state.iter_mut().zip(ends) {
                    *blocks = concat(&[ends.as_ref(), blocks.as_ref()])?;
                }
            }
            accumulator.merge(&state, &groups, parts.groups)?;
        }
        Ok(())
    }

    /// Adds up the blocks that are complete now, of partitions that have got rows.
    pub(super) fn build_blocks(
        &mut self,
        rows: &Store,
        partitions: &mut [Partition],
        slots: &[u32],
    ) -> Result<()> {
        if !self.has_blocks {
            return Ok(());
        }
        for level in 1.. {
            let mut wanted: Vec<Owner> = Vec::new();
            for &slot in slots {
                let partition = &mut partitions[slot as usize];
                let complete = partition.count / rows_of(level);
                if complete == 0 {
                    continue;
                }
                let levels = self.levels(partition);
                levels.resize_with(levels.len().max(level), Blocks::default);
                let known = levels[level - 1].count();
                let level = level as u32;
                wanted.extend((known..complete).map(|number| Owner { slot, level, number }));
            }
            if wanted.is_empty() {
                return Ok(());
            }
            for wanted in wanted.chunks(PARTS_MAX / BLOCK_ROWS as usize) {
                self.build(rows, partitions, wanted)?;
            }
        }
        Ok(())
    }

    /// Blocks of one level from those of the level below.
    fn build(
        &mut self,
        rows: &Store,
        partitions: &mut [Partition],
        wanted: &[Owner],
    ) -> Result<()> {
        let (mut places, mut groups) = (Vec::new(), Vec::new());
        let level = wanted.first().map_or(1, |owner| owner.level as usize);
        for (group, owner) in wanted.iter().enumerate() {
            let partition = &partitions[owner.slot as usize];
            let first = owner.number * BLOCK_ROWS;
            groups.resize(groups.len() + BLOCK_ROWS as usize, group);
            places.extend((first..first + BLOCK_ROWS).map(|number| match level {
                1 => partition.row(number).place,
                _ => partition.blocks[self.index][level - 2].place(number),
            }));
        }
        let mut accumulators = self.spec.program.accumulators()?;
        if level == 1 {
            let input = self.prepare(rows, &places)?;
            for (accumulator, arguments) in accumulators.iter_mut().zip(&input.arguments) {
                accumulator.update(arguments, &groups, wanted.len())?;
            }
        } else {
            let mut states = self.blocks.read(&self.state_columns(), &places)?.into_iter();
            let widths = self.spec.program.state_fields();
            for (accumulator, fields) in accumulators.iter_mut().zip(widths) {
                let state: Vec<ArrayRef> = states.by_ref().take(fields.len()).collect();
                accumulator.merge(&state, &groups, wanted.len())?;
            }
        }
        let states = accumulators.iter_mut().map(|a| a.state()).collect::<Result<Vec<_>>>()?;
        let states = states.into_iter().flatten().collect();
        for (place, owner) in self.blocks.add(states, wanted.to_vec()).zip(wanted) {
            self.levels(&mut partitions[owner.slot as usize])[level - 1].keep(place);
        }
        Ok(())
    }

    /// Forgets blocks that no later frame reads: for each level, those before a row.
    pub(super) fn let_go(
        &mut self,
        partition: &mut Partition,
        keep_from: impl Fn(&Partition, usize) -> u64,
    ) {
        let Some(levels) = partition.blocks.get(self.index).map(Vec::len) else { return };
        for level in 1..=levels {
            let number = keep_from(partition, level).div_ceil(rows_of(level));
            let blocks = &mut partition.blocks[self.index][level - 1];
            blocks.let_go(number, |place| self.blocks.let_go(place));
        }
    }

    /// Forgets all blocks of a partition.
    pub(super) fn let_go_of_all(&mut self, partition: &Partition) {
        let levels = partition.blocks.get(self.index).into_iter().flatten();
        levels.flat_map(Blocks::places).for_each(|place| self.blocks.let_go(place));
    }

    pub(super) fn tidy(&mut self, partitions: &mut [Partition]) -> Result<()> {
        self.blocks.tidy(&mut BlockKeeper { partitions, index: self.index })
    }

    /// All blocks that are kept, with their states.
    pub(super) fn saved(
        &self,
        partitions: &[Partition],
    ) -> Result<Vec<(Vec<Owner>, Vec<ArrayRef>)>> {
        self.blocks.saved(|owner| {
            let levels = partitions.get(owner.slot as usize)?.blocks.get(self.index)?;
            levels.get((owner.level as usize).checked_sub(1)?)?.kept(owner.number)
        })
    }

    /// Takes states of blocks; answers with their places.
    pub(super) fn take_up(
        &mut self,
        states: Vec<ArrayRef>,
        owners: Vec<Owner>,
    ) -> Result<impl Iterator<Item = Place> + use<>> {
        let fields = self.spec.program.state_fields();
        let types = fields.iter().flatten().map(|field| field.data_type());
        if !types.eq(states.iter().map(Array::data_type)) {
            return Err(problem("holds states of other aggregates"));
        }
        Ok(self.blocks.add(states, owners))
    }

    /// How many levels of blocks a partition of so many rows has.
    pub(super) fn levels_of(&self, count: u64) -> usize {
        let is_complete = |level: &usize| count >= rows_of(*level);
        if self.has_blocks { (1..64).take_while(is_complete).count() } else { 0 }
    }

    fn levels<'a>(&self, partition: &'a mut Partition) -> &'a mut Vec<Blocks> {
        let groups = &mut partition.blocks;
        groups.resize_with(groups.len().max(self.index + 1), Vec::new);
        &mut groups[self.index]
    }

    fn state_columns(&self) -> Vec<usize> {
        (0..self.spec.program.state_fields().iter().map(|fields| fields.len()).sum()).collect()
    }

    fn prepare(&self, rows: &Store, places: &[Place]) -> Result<AggregateInput> {
        let columns = rows.read(&self.columns, places)?;
        let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
        let schema = Arc::clone(&self.spec.schema);
        self.spec.program.prepare(&RecordBatch::try_new_with_options(schema, columns, &options)?)
    }
}

impl Parts {
    /// Adds the frame of one row; its blocks are those of the group `blocks`, if it merges any.
    fn add(&mut self, partition: &Partition, bounds: (u64, u64), blocks: Option<usize>) {
        if bounds.0 == bounds.1 {
            self.results.push(NOTHING);
            return;
        }
        let group = self.groups;
        self.groups += 1;
        self.results.push(group);
        let levels = blocks.and_then(|index| partition.blocks.get(index));
        fall_apart(bounds, levels.map_or(0, Vec::len), |level, number| {
            if level > 0
                && let Some(levels) = levels
            {
                self.blocks.push(levels[level - 1].place(number));
                self.block_groups.push(group);
                return;
            }
            if self.with_rows.last() != Some(&group) {
                self.with_rows.push(group);
            }
            self.rows.push(partition.row(number).place);
            self.row_groups.push(self.with_rows.len() - 1);
        });
    }
}

struct BlockKeeper<'a> {
    partitions: &'a mut [Partition],
    index: usize,
}

impl Keeper for BlockKeeper<'_> {
    fn place(&mut self, owner: Owner) -> Option<&mut Place> {
        let levels = self.partitions.get_mut(owner.slot as usize)?.blocks.get_mut(self.index)?;
        levels.get_mut(owner.level as usize - 1)?.place_mut(owner.number)
    }
}

/// What the aggregates come to over no rows: over one that their filter leaves out, since accumulators take a group that
/// was never shown a row for one with a value.
fn over_nothing(spec: &FrameAggregates) -> Result<Vec<ArrayRef>> {
    let none = spec.program.prepare(&RecordBatch::new_empty(Arc::clone(&spec.schema)))?;
    let mut accumulators = spec.program.accumulators()?;
    for (accumulator, arguments) in accumulators.iter_mut().zip(&none.arguments) {
        let one = |values: &ArrayRef| new_null_array(values.data_type(), 1);
        let values = arguments.values.iter().map(one).collect();
        let filter = Some(BooleanArray::from(vec![false]));
        accumulator.update(&AggregateArguments { values, filter }, &[0], 1)?;
    }
    finish_all(&*spec.program, &mut accumulators)
}
