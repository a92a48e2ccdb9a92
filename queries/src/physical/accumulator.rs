//! One of DataFusion's aggregates over many groups.

use std::sync::Arc;

use arrow::array::{ArrayRef, new_empty_array};
use datafusion_common::DataFusionError;
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_expr::GroupsAccumulatorAdapter;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use driftline_operators::error::{OperatorError, Result};
use driftline_operators::expression::{AggregateArguments, GroupAccumulator};

/// An aggregate and its running values.
pub(super) struct Accumulating {
    function: Arc<AggregateFunctionExpr>,
    inner: Box<dyn GroupsAccumulator>,
}

impl Accumulating {
    pub(super) fn try_new(function: &Arc<AggregateFunctionExpr>) -> Result<Self> {
        Ok(Self { function: Arc::clone(function), inner: make(function)? })
    }

    fn failed(&self, error: DataFusionError) -> OperatorError {
        OperatorError::evaluation(self.function.name(), error)
    }

    /// Not every accumulator is as good as new after it has given everything away.
    fn renew(&mut self) -> Result<()> {
        self.inner = make(&self.function)?;
        Ok(())
    }
}

/// Refuses an aggregate that could be made and would fail with its first rows.
///
/// `min` and `max` are made for columns of any type, and look at the type when they are given values; none will do.
/// Those of the host are not asked: what they do without rows is their own affair.
pub(super) fn check_type(function: &AggregateFunctionExpr) -> Result<()> {
    if !matches!(function.fun().name(), "min" | "max") {
        return Ok(());
    }
    let none = new_empty_array(function.field().data_type());
    let accumulator = function.create_accumulator();
    accumulator
        .and_then(|mut accumulator| accumulator.update_batch(&[none]))
        .map_err(|error| OperatorError::evaluation(function.name(), error))
}

fn make(function: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
    if function.groups_accumulator_supported() {
        return function
            .create_groups_accumulator()
            .map_err(|error| OperatorError::evaluation(function.name(), error));
    }
    // The adapter makes its first accumulator with the first row; a wrong one must show now.
    function
        .create_accumulator()
        .map_err(|error| OperatorError::evaluation(function.name(), error))?;
    let function = Arc::clone(function);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
}

impl GroupAccumulator for Accumulating {
    fn update(
        &mut self,
        arguments: &AggregateArguments,
        groups: &[usize],
        group_count: usize,
    ) -> Result<()> {
        self.inner
            .update_batch(&arguments.values, groups, arguments.filter.as_ref(), group_count)
            .map_err(|error| self.failed(error))
    }

    fn merge(&mut self, state: &[ArrayRef], groups: &[usize], group_count: usize) -> Result<()> {
        self.inner.merge_batch(state, groups, group_count).map_err(|error| self.failed(error))
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>> {
        let state = self.inner.state(EmitTo::All).map_err(|error| self.failed(error))?;
        self.renew()?;
        Ok(state)
    }

    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        let result = self.inner.evaluate(EmitTo::All).map_err(|error| self.failed(error))?;
        self.renew()?;
        Ok(vec![result])
    }

    fn bytes(&self) -> usize {
        self.inner.size()
    }
}
