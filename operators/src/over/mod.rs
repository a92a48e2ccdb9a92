//! Calls over frames: for each row an aggregate, a value or a rank over the rows around it that agree in some columns.
//!
//! ```text
//!   rows in order of event time
//!     -> partition of the row             (../keyed, bounded)
//!     -> rows that a frame still needs    (store.rs: columns in chunks; partition.rs: a key's places in them)
//!     -> partial states of 16 rows each, of 16 of these, and so on   (partition.rs)
//!     -> rows that have all they wait for, in order of event time    (frames.rs)
//!     -> aggregates, values, ranks: whole columns at a time          (aggregate.rs, frames.rs)
//! ```
//!
//! Nothing is ever taken back out of an aggregate. A frame of few rows is added up for each row; one of many is merged
//! from the partial states of the blocks that it covers and the rows at its ends. So every aggregate may be used, a NaN
//! or a huge number does not outlive its frame, and a result depends on the rows of the frame and their numbers alone,
//! not on when they came. A row costs as many additions as its frame has rows, or some 15 for each power of 16 in that.

mod aggregate;
mod frame;
mod frames;
mod partition;
mod store;

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;

use crate::expression::AggregateProgram;

pub use frame::{Frame, FrameUnits};
pub use frames::{Frames, Limits, Statistics};

/// Calls over the frames of rows that share a partition and an order.
#[derive(Clone, Debug)]
pub struct Over {
    /// Indexes of the columns in which rows of a partition agree.
    pub partition: Vec<usize>,
    /// Index of the event-time column, which orders rows.
    pub time_index: usize,
    /// Indexes of columns that order rows of equal time. Those that tie still keep their order of arrival.
    pub ties: Vec<(usize, SortOptions)>,
    /// Aggregates, those of one frame together.
    pub aggregates: Vec<FrameAggregates>,
    /// What is computed: one column each.
    pub calls: Vec<Call>,
    /// The input's columns, then those of the calls.
    pub schema: SchemaRef,
}

/// Aggregates over one frame.
#[derive(Clone, Debug)]
pub struct FrameAggregates {
    /// The frame.
    pub frame: Frame,
    /// Whether partial states may be merged in any order and are smaller than the rows that they stand for.
    pub combines: bool,
    /// Columns of the input that the program reads, in its order.
    pub arguments: Vec<usize>,
    /// Columns of the program, by that order.
    pub schema: SchemaRef,
    /// The aggregates; there are no keys.
    pub program: Arc<dyn AggregateProgram>,
}

/// One column of a result.
#[derive(Clone, Debug)]
pub enum Call {
    /// Aggregate `index` of `aggregates[group]`.
    Aggregate {
        /// Which frame.
        group: usize,
        /// Which aggregate of its program.
        index: usize,
    },
    /// The value of a column in another row of the partition.
    Value {
        /// The column.
        column: usize,
        /// Which row.
        row: OtherRow,
        /// One value for where there is no such row.
        missing: ArrayRef,
    },
    /// A number from 1 on.
    Rank(Rank),
}

/// Another row of the same partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherRow {
    /// So many rows after this one, or before it where negative.
    Shift(i64),
    /// The n-th row of a frame, counted from 1; from its end, and from -1 downwards, where negative.
    Nth(Frame, i64),
}

/// How rows are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// One after another.
    RowNumber,
    /// Rows that tie share the number of the first of them.
    Rank,
    /// As `Rank`, without gaps.
    DenseRank,
}

impl Over {
    fn ranks(&self) -> impl Iterator<Item = Rank> {
        self.calls.iter().filter_map(|call| match call {
            Call::Rank(rank) => Some(*rank),
            _ => None,
        })
    }

    /// The frames of all calls.
    fn frames(&self) -> impl Iterator<Item = &Frame> {
        let of_values = self.calls.iter().filter_map(|call| match call {
            Call::Value { row: OtherRow::Nth(frame, _), .. } => Some(frame),
            _ => None,
        });
        self.aggregates.iter().map(|aggregates| &aggregates.frame).chain(of_values)
    }

    /// How many rows of its partition a row waits for.
    #[must_use]
    pub fn rows_after(&self) -> u64 {
        let frames = self.frames().filter(|frame| frame.units == FrameUnits::Rows);
        let shifts = self.calls.iter().filter_map(|call| match call {
            Call::Value { row: OtherRow::Shift(shift), .. } => Some(*shift),
            _ => None,
        });
        frames.map(|frame| frame.end).chain(shifts).max().unwrap_or(0).max(0).unsigned_abs()
    }

    /// How much longer than for the rows before it a row waits, in nanoseconds of event time.
    #[must_use]
    pub fn range_after_ns(&self) -> i64 {
        let frames = self.frames().filter(|frame| frame.units == FrameUnits::Range);
        frames.map(|frame| frame.end).max().unwrap_or(0).max(0)
    }

    /// How long after its latest row a partition is of no more use; `None` if it always is.
    fn idle_after_ns(&self) -> Option<i64> {
        let is_ranged = |frame: &Frame| frame.units == FrameUnits::Range && frame.start.is_some();
        let by_time_only = self.calls.iter().all(|call| match call {
            Call::Aggregate { .. } | Call::Value { row: OtherRow::Nth(..), .. } => true,
            Call::Value { .. } | Call::Rank(_) => false,
        });
        if !by_time_only || !self.frames().all(is_ranged) {
            return None;
        }
        let back = self.frames().filter_map(|frame| frame.start).min().unwrap_or(0);
        Some(back.min(0).saturating_neg().max(self.range_after_ns()))
    }

    /// How many of the first rows of a partition are read as long as there are rows: those of frames that have no start.
    fn head_rows(&self) -> usize {
        let of_calls = self.calls.iter().map(|call| match call {
            Call::Value { row: OtherRow::Nth(Frame { start: None, .. }, n), .. } => *n,
            _ => 0,
        });
        usize::try_from(of_calls.max().unwrap_or(0).max(0)).unwrap_or(usize::MAX)
    }
}
