//! The seam between SQL and the dataflow: what a window or a projection computes, behind small traits.
//!
//! This crate knows no SQL. The `queries` crate implements these traits with DataFusion's synchronous expressions
//! and accumulators; tests implement them by hand.

use std::fmt::Debug;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{Fields, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::error::Result;

/// A stateless step from batch to batch: filter, projection, or both.
pub trait Transform: Debug + Send + Sync {
    /// Schema of the result.
    fn schema(&self) -> SchemaRef;

    /// Applies the step. The result may have fewer rows than the input, in the same order.
    ///
    /// # Errors
    /// If an expression fails on some row. The caller may try again with fewer rows to find it.
    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch>;
}

/// What one batch brings to a grouped aggregation, evaluated once per batch.
#[derive(Debug)]
pub struct AggregateInput {
    /// One array per key column, each as long as the batch.
    pub keys: Vec<ArrayRef>,
    /// One entry per accumulator: its arguments and its FILTER clause.
    pub arguments: Vec<AggregateArguments>,
}

/// Arguments of one accumulator for the rows of one batch.
#[derive(Clone, Debug)]
pub struct AggregateArguments {
    /// Values, one array per argument; empty for `count(*)` where the evaluator needs none.
    pub values: Vec<ArrayRef>,
    /// Rows to leave out: those where this is false or null.
    pub filter: Option<BooleanArray>,
}

/// What a grouped aggregation computes: keys, arguments and accumulators.
pub trait AggregateProgram: Debug + Send + Sync {
    /// Fields of the key columns, window bounds not among them.
    fn key_fields(&self) -> Fields;

    /// Fields of the finished aggregates, one each.
    fn output_fields(&self) -> Fields;

    /// Fields of the partial state of each accumulator.
    fn state_fields(&self) -> Vec<Fields>;

    /// Evaluates keys and arguments over a batch.
    ///
    /// # Errors
    /// If an expression fails on some row.
    fn prepare(&self, batch: &RecordBatch) -> Result<AggregateInput>;

    /// New, empty accumulators, one for each entry of the arguments. One may serve several aggregates.
    ///
    /// # Errors
    /// If an aggregate cannot be built, which planning has already ruled out.
    fn accumulators(&self) -> Result<Vec<Box<dyn GroupAccumulator>>>;

    /// Puts results, as the accumulators give them one after the other, into the order of
    /// [`AggregateProgram::output_fields`].
    fn arrange(&self, results: Vec<ArrayRef>) -> Vec<ArrayRef> {
        results
    }
}

/// Takes the results of all groups, one array per aggregate.
///
/// # Errors
/// If a result cannot be expressed as an array.
pub fn finish_all(
    program: &dyn AggregateProgram,
    accumulators: &mut [Box<dyn GroupAccumulator>],
) -> Result<Vec<ArrayRef>> {
    let mut results = Vec::with_capacity(accumulators.len());
    for accumulator in accumulators {
        results.extend(accumulator.finish()?);
    }
    Ok(program.arrange(results))
}

/// One aggregate, or several over the same values, over many groups, numbered densely from 0.
pub trait GroupAccumulator: Send {
    /// Adds rows: row `i` belongs to group `groups[i]`, and all groups are below `group_count`. Every group below it is in
    /// this call or was in an earlier one: accumulators take a group that was only announced for one with a value.
    ///
    /// # Errors
    /// If the aggregate refuses a value, such as a sum that overflows its type.
    fn update(
        &mut self,
        arguments: &AggregateArguments,
        groups: &[usize],
        group_count: usize,
    ) -> Result<()>;

    /// Adds partial states made by [`GroupAccumulator::state`], as [`GroupAccumulator::update`] adds rows.
    ///
    /// # Errors
    /// As for [`GroupAccumulator::update`].
    fn merge(&mut self, state: &[ArrayRef], groups: &[usize], group_count: usize) -> Result<()>;

    /// Takes the partial state of all groups, in group order; the accumulator is empty afterwards.
    ///
    /// # Errors
    /// If the state cannot be expressed as arrays.
    fn state(&mut self) -> Result<Vec<ArrayRef>>;

    /// Takes the results of all groups, in group order, an array for each aggregate; the accumulator is empty afterwards.
    ///
    /// # Errors
    /// If a result cannot be expressed as an array.
    fn finish(&mut self) -> Result<Vec<ArrayRef>>;

    /// Bytes held, for limits and metrics.
    fn bytes(&self) -> usize;
}
