//! One partition: how many rows it had, and the places of those that a frame still needs.
//!
//! Rows are numbered from 0. A block of level `l` is [`BLOCK_ROWS`] to the power of `l` rows whose numbers are the same
//! but for their last digits in that base; a row is a block of level 0. A block is complete as soon as its last row is
//! there, so that the rows `from..until` fall apart into blocks in one way only.

use std::collections::VecDeque;

use super::frame::{Frame, FrameUnits};
use super::store::Place;

/// How many blocks of a level make one of the next.
pub(super) const BLOCK_ROWS: u64 = 16;

/// What is known of one partition.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// Rows so far.
    pub(super) count: u64,
    /// Rows that have been given out; the others wait.
    pub(super) given: u64,
    /// Ranks of the latest row.
    pub(super) rank: u64,
    pub(super) dense_rank: u64,
    /// Time of the latest row, and its index in the batch that brought it.
    pub(super) latest: Option<(i64, u32)>,
    /// Whether no row will follow.
    pub(super) is_over: bool,
    /// Number of the first row that is kept.
    pub(super) first: u64,
    pub(super) rows: VecDeque<Kept>,
    /// The first rows of all, where they are needed for ever.
    pub(super) head: Vec<Place>,
    /// For each frame that merges blocks: its blocks from level 1 on.
    pub(super) blocks: Vec<Vec<Blocks>>,
}

/// A row that is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) time: i64,
    /// Its place in the order of all rows.
    pub(super) serial: u64,
    pub(super) place: Place,
}

/// Blocks of one level.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Number of the first block that is kept.
    first: u64,
    places: VecDeque<Place>,
}

impl Partition {
    /// Keeps the row that comes next; it has been counted.
    pub(super) fn keep(&mut self, row: Kept) {
        self.rows.push_back(row);
        debug_assert!(self.first + self.rows.len() as u64 <= self.count);
    }

    /// A row that is kept.
    pub(super) fn row(&self, number: u64) -> &Kept {
        &self.rows[(number - self.first) as usize]
    }

    pub(super) fn place_mut(&mut self, number: u64) -> Option<&mut Place> {
        let index = number.checked_sub(self.first)?;
        self.rows.get_mut(index as usize).map(|row| &mut row.place)
    }

    /// A row, if it is kept.
    pub(super) fn kept(&self, number: u64) -> Option<&Kept> {
        self.rows.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Keeps the latest of the rows that have been counted.
    pub(super) fn take_up(&mut self, rows: VecDeque<Kept>) {
        self.first = self.count.saturating_sub(rows.len() as u64);
        self.rows = rows;
    }

    /// The rows of a frame around row `number`, which is kept: from the first to before the last.
    pub(super) fn bounds(&self, frame: &Frame, number: u64) -> (u64, u64) {
        let (start, end) = match frame.units {
            FrameUnits::Rows => (
                frame.start.map_or(0, |start| number.saturating_add_signed(start)),
                (number + 1).saturating_add_signed(frame.end),
            ),
            FrameUnits::Range => {
                let time = self.row(number).time;
                let below = |bound: i64| self.rows.partition_point(|row| row.time < bound);
                let until = time.saturating_add(frame.end);
                (
                    frame
                        .start
                        .map_or(0, |start| self.first + below(time.saturating_add(start)) as u64),
                    self.first + self.rows.partition_point(|row| row.time <= until) as u64,
                )
            }
        };
        let end = end.min(self.count);
        (start.min(end), end)
    }

    /// Forgets rows before `number`.
    pub(super) fn let_go(&mut self, number: u64, mut gone: impl FnMut(Place)) {
        while self.first < number.min(self.count) {
            if let Some(row) = self.rows.pop_front() {
                gone(row.place);
            }
            self.first += 1;
        }
        if self.rows.capacity() > 64 && self.rows.len() * 4 < self.rows.capacity() {
            self.rows.shrink_to(self.rows.len() * 2);
        }
    }

    /// All places that are kept of rows.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.rows.iter().map(|row| row.place)
    }
}

impl Blocks {
    /// How many blocks there have been.
    pub(super) fn count(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    /// Keeps the block that comes next.
    pub(super) fn keep(&mut self, place: Place) {
        self.places.push_back(place);
    }

    /// A block that is kept.
    pub(super) fn place(&self, number: u64) -> Place {
        self.places[(number - self.first) as usize]
    }

    pub(super) fn place_mut(&mut self, number: u64) -> Option<&mut Place> {
        self.places.get_mut(number.checked_sub(self.first)? as usize)
    }

    /// A block, if it is kept.
    pub(super) fn kept(&self, number: u64) -> Option<Place> {
        self.places.get(usize::try_from(number.checked_sub(self.first)?).ok()?).copied()
    }

    /// The latest blocks of a level, by number, of a partition that has had so many rows; `None` if they are others.
    pub(super) fn taken_up(count: u64, level: usize, blocks: Vec<(u64, Place)>) -> Option<Self> {
        let complete = count / rows_of(level);
        let first = complete.checked_sub(blocks.len() as u64)?;
        let is_whole = (first..).zip(&blocks).all(|(number, block)| block.0 == number);
        let places = blocks.into_iter().map(|block| block.1).collect();
        is_whole.then_some(Self { first, places })
    }

    /// Forgets blocks before `number`.
    pub(super) fn let_go(&mut self, number: u64, mut gone: impl FnMut(Place)) {
        while self.first < number {
            let Some(place) = self.places.pop_front() else { return };
            gone(place);
            self.first += 1;
        }
    }

    /// All places that are kept.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.places.iter().copied()
    }
}

/// Rows in a block of some level; as good as endless where there could be no such block.
pub(super) fn rows_of(level: usize) -> u64 {
    BLOCK_ROWS.saturating_pow(u32::try_from(level).unwrap_or(u32::MAX))
}

/// The first row of the block of some level that holds row `number`.
pub(super) fn start_of_block(number: u64, level: usize) -> u64 {
    number - number % rows_of(level)
}

/// Calls `each` for the blocks that `from..until` falls apart into, with level and number, in order. None is of a level
/// above `level_max`.
pub(super) fn fall_apart(
    (from, until): (u64, u64),
    level_max: usize,
    mut each: impl FnMut(usize, u64),
) {
    let mut at = from;
    while at < until {
        let (mut level, mut rows) = (0, 1);
        while level < level_max {
            let next = rows_of(level + 1);
            if !at.is_multiple_of(next) || until - at < next {
                break;
            }
            (level, rows) = (level + 1, next);
        }
        each(level, at / rows);
        at += rows;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fall_apart_into_few_blocks_that_cover_them_once() {
        for (from, until) in [(0, 0), (3, 9), (0, 16), (1, 300), (15, 4_100), (4_096, 70_001)] {
            let (mut at, mut blocks) = (from, 0);
            fall_apart((from, until), 9, |level, number| {
                assert_eq!(number * rows_of(level), at, "{from}..{until}");
                at += rows_of(level);
                blocks += 1;
            });
            assert_eq!(at, until);
            assert!(blocks <= 30 * 5, "{blocks} blocks for {from}..{until}");
        }
        let mut rows = 0;
        fall_apart((0, 100), 0, |level, _| rows += usize::from(level == 0));
        assert_eq!(rows, 100, "no block above the highest level");
    }
}
