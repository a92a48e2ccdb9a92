//! Partial states of stretches of panes, so that a window of many panes merges few of them.
//!
//! Panes are numbered from the windows' offset. A block of level n covers `FAN` to the n panes and begins at a multiple
//! of that; a window is cut greedily into the longest blocks that lie within it, of which there are at most `2 * FAN` a
//! level. A block is merged once, from blocks of the level below, for all windows that hold it.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef};

use super::aggregate::Accumulators;
use super::groups::GroupMap;
use crate::error::Result;
use crate::expression::AggregateProgram;
use crate::key::KeyId;

/// Blocks that make one of the next level. A group is held once a level, so that more levels cost memory, and fewer
/// cost merges.
pub(super) const FAN: i64 = 4;

/// Groups as they are being merged.
pub(super) struct Merging {
    pub(super) map: GroupMap,
    pub(super) accumulators: Accumulators,
    local: Vec<usize>,
}

impl Merging {
    pub(super) fn new(program: &dyn AggregateProgram) -> Result<Self> {
        let accumulators = program.accumulators()?;
        Ok(Self { map: GroupMap::default(), accumulators, local: Vec::new() })
    }

    /// Adds partial states and their keys.
    pub(super) fn add(&mut self, ids: &[KeyId], states: &[Vec<ArrayRef>]) -> Result<()> {
        self.map.assign(ids.iter().copied(), usize::MAX, &mut self.local);
        for (accumulator, state) in self.accumulators.iter_mut().zip(states) {
            accumulator.merge(state, &self.local, self.map.len())?;
        }
        Ok(())
    }
}

/// A merged stretch of panes.
struct Block {
    ids: Vec<KeyId>,
    states: Vec<Vec<ArrayRef>>,
}

/// All blocks of levels above 0: for each level, by number of their first pane.
#[derive(Default)]
pub(super) struct Blocks(Vec<BTreeMap<i64, Block>>);

/// The longest block that begins at pane `at` and ends at or before pane `end`: its level and how many panes it covers.
pub(super) fn longest(at: i64, end: i64) -> (u32, i64) {
    let (mut level, mut length) = (0, 1);
    while at.rem_euclid(length * FAN) == 0 && at + length * FAN <= end {
        level += 1;
        length *= FAN;
    }
    (level, length)
}

impl Blocks {
    /// The keys and states of a block, if it has been made.
    pub(super) fn get(&self, level: u32, at: i64) -> Option<(&[KeyId], &[Vec<ArrayRef>])> {
        let block = self.0.get(level as usize)?.get(&at)?;
        Some((&block.ids, &block.states))
    }

    /// Keeps what has been merged.
    pub(super) fn insert(&mut self, level: u32, at: i64, mut merging: Merging) -> Result<()> {
        let states = merging.accumulators.iter_mut().map(|a| a.state()).collect::<Result<_>>()?;
        let level = level as usize;
        if self.0.len() <= level {
            self.0.resize_with(level + 1, BTreeMap::new);
        }
        self.0[level].insert(at, Block { ids: merging.map.take_ids(), states });
        Ok(())
    }

    /// Drops the blocks that begin before pane `first`: no window that begins there or later holds one of them.
    pub(super) fn drop_before(&mut self, first: i64) {
        for level in &mut self.0 {
            while level.first_key_value().is_some_and(|(at, _)| *at < first) {
                level.pop_first();
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(BTreeMap::is_empty)
    }

    /// Renames the keys.
    pub(super) fn renumber(&mut self, rename: impl Fn(KeyId) -> KeyId) {
        let blocks = self.0.iter_mut().flat_map(BTreeMap::values_mut);
        blocks.flat_map(|block| &mut block.ids).for_each(|id| *id = rename(*id));
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let of = |block: &Block| {
            let states = block.states.iter().flatten();
            block.ids.capacity() * size_of::<KeyId>()
                + states.map(Array::get_array_memory_size).sum::<usize>()
        };
        self.0.iter().flat_map(BTreeMap::values).map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_cut_into_few_blocks_that_cover_it() {
        for (start, end) in [(0, 3600), (1, 3601), (-1799, 1801), (63, 65), (5, 6)] {
            let (mut at, mut blocks) = (start, 0);
            while at < end {
                let (level, length) = longest(at, end);
                assert_eq!(length, FAN.pow(level));
                assert_eq!(at.rem_euclid(length), 0);
                at += length;
                blocks += 1;
            }
            assert_eq!(at, end);
            assert!(blocks <= 36, "{start}..{end} is {blocks} blocks");
        }
    }
}
