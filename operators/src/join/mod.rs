//! Joins of two streams that are bounded in event time: what a match is, and the rows that wait for one.
//!
//! A row of the left input and a row of the right one match if they agree in the key columns, if the left row's time
//! less the right row's lies between two bounds, and if the remaining condition holds. Both bounds at 0 are a join of
//! windows by their end; others are an interval join.
//!
//! Because of the bounds a row waits for a known time only: [`JoinSpec::reach`] says between which times its partners
//! lie, and once the other input is complete beyond them, none can come.

mod asof;
mod chunk;
mod held;
mod keys;
mod matching;
mod saved;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::error::{OperatorError, Result};
use crate::expression::Transform;
use crate::state::Stateful;
use crate::time::{Epoch, EventTime};
use crate::window::TimeType;

pub use asof::{AsOf, AsOfSpec};
use keys::Keys;
pub use matching::Join;

/// Decides which pairs satisfy the remaining condition: gets what [`JoinSpec::residual`] reads, and gives the numbers of
/// those that do.
pub type Accept<'a> = dyn FnMut(&RecordBatch) -> Vec<u32> + 'a;

/// The state of a join. Rows wait until their epoch is closed, so that results are a function of rows and epochs, and
/// rows that come in one epoch on both sides leave in one.
pub trait Joining: Stateful + Debug {
    /// Takes rows of an epoch. Those beyond the bound are refused and counted.
    fn add(&mut self, epoch: Epoch, side: Side, rows: &RecordBatch);

    /// Closes all epochs up to one. From now on no row of a side comes whose time is below what `complete` says.
    ///
    /// # Errors
    /// If a kernel fails, which would be a bug.
    fn close(
        &mut self,
        epoch: Epoch,
        complete: [EventTime; 2],
        accept: &mut Accept<'_>,
    ) -> Result<Vec<RecordBatch>>;

    /// Rows refused since the last call.
    fn take_refused(&mut self) -> u64;

    /// Bytes held, estimated.
    fn bytes(&self) -> usize;
}

/// One of the inputs of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that is named first.
    Left = 0,
    /// The other one.
    Right = 1,
}

impl Side {
    /// Both, the left one first.
    pub const BOTH: [Self; 2] = [Self::Left, Self::Right];

    /// The side across.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }
}

/// Which rows are given without a partner, with nulls in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    /// None.
    Inner,
    /// Those of the left input.
    Left,
    /// Those of the right input.
    Right,
    /// Those of both.
    Full,
}

impl JoinKind {
    /// Whether rows of a side are given without a partner.
    #[must_use]
    pub fn keeps(self, side: Side) -> bool {
        match self {
            Self::Inner => false,
            Self::Left => side == Side::Left,
            Self::Right => side == Side::Right,
            Self::Full => true,
        }
    }
}

/// What a join computes.
#[derive(Clone, Debug)]
pub struct JoinSpec {
    /// Which rows are given without a partner.
    pub kind: JoinKind,
    /// Columns of the left and of the right input that are equal in a match; both lists are of one length, with equal
    /// types. A null equals nothing.
    pub keys: [Vec<usize>; 2],
    /// Event-time columns of both inputs.
    pub times: [usize; 2],
    /// The least that the left time is above the right one in a match, in nanoseconds; negative if it may be below.
    pub lower_ns: i64,
    /// The most that it is above.
    pub upper_ns: i64,
    /// What else must hold. Reads the columns of the left input, those of the right, and one more with numbers of type
    /// `UInt32`; gives the numbers of the rows that pass.
    pub residual: Option<Arc<dyn Transform>>,
    /// The side of few rows that every worker holds whole, where the rows of the other stay where they are; never one whose
    /// rows are given without a partner. Without it, rows of both sides meet where their key lives.
    pub whole: Option<Side>,
    /// Columns of the left input, then of the right; those that may be missing are nullable.
    pub schema: SchemaRef,
}

impl JoinSpec {
    /// How far from the time of a side's row its partners lie, from the earliest to the latest.
    #[must_use]
    pub fn reach(&self, side: Side) -> (i64, i64) {
        match side {
            Side::Left => (self.upper_ns.saturating_neg(), self.lower_ns.saturating_neg()),
            Side::Right => (self.lower_ns, self.upper_ns),
        }
    }
}

/// A side's event-time column.
#[derive(Clone, Debug)]
struct SideTime {
    index: usize,
    kind: TimeType,
}

impl SideTime {
    /// Those of both sides, by the indexes of their columns.
    fn of_both(times: [usize; 2], inputs: [&SchemaRef; 2]) -> Result<[Self; 2]> {
        let of = |side: Side| {
            let index = times[side as usize];
            let kind = TimeType::new(inputs[side as usize].field(index).data_type())?;
            Ok::<_, OperatorError>(Self { index, kind })
        };
        Ok([of(Side::Left)?, of(Side::Right)?])
    }
}

/// Rows whose epoch is still open.
#[derive(Debug, Default)]
struct Pending {
    batches: Vec<(Epoch, Side, RecordBatch)>,
    rows: [usize; 2],
    refused: u64,
}

impl Pending {
    /// Takes rows for which there is room, and counts the others.
    fn add(&mut self, epoch: Epoch, side: Side, rows: &RecordBatch, room: usize) {
        let count = rows.num_rows().min(room);
        self.refused += (rows.num_rows() - count) as u64;
        if count > 0 {
            self.rows[side as usize] += count;
            self.batches.push((epoch, side, rows.slice(0, count)));
        }
    }

    /// The rows of epochs up to one.
    fn take(&mut self, epoch: Epoch) -> Vec<(Side, RecordBatch)> {
        let is_over = |(at, ..): &mut (Epoch, Side, RecordBatch)| *at <= epoch;
        let taken = self.batches.extract_if(.., is_over);
        let taken: Vec<_> = taken.map(|(_, side, rows)| (side, rows)).collect();
        taken.iter().for_each(|(side, rows)| self.rows[*side as usize] -= rows.num_rows());
        taken
    }

    fn rows(&self) -> usize {
        self.rows.iter().sum()
    }

    fn rows_of(&self, side: Side) -> usize {
        self.rows[side as usize]
    }

    fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }
}
