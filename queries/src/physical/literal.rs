//! Evaluates each distinct expression of a step once, and constants not even that often.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef};
use arrow::record_batch::RecordBatch;
use datafusion_common::ScalarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Literal;
use driftline_operators::error::OperatorError;

use super::compile::evaluate;

/// Distinct expressions, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Distinct {
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    expr: Arc<dyn PhysicalExpr>,
    constant: Option<Constant>,
}

impl Distinct {
    /// Adds an expression, unless it is there already; returns its place.
    pub(super) fn add(&mut self, expr: Arc<dyn PhysicalExpr>) -> usize {
        if let Some(index) = self.slots.iter().position(|slot| slot.expr.as_ref() == expr.as_ref())
        {
            return index;
        }
        let constant = expr
            .downcast_ref::<Literal>()
            .map(|literal| Constant { value: literal.value().clone(), longest: Mutex::new(None) });
        self.slots.push(Slot { expr, constant });
        self.slots.len() - 1
    }

    /// One array per expression, each as long as the batch.
    pub(super) fn evaluate(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, OperatorError> {
        self.slots
            .iter()
            .map(|slot| match &slot.constant {
                Some(constant) => constant.array(batch.num_rows()),
                None => evaluate(&slot.expr, batch),
            })
            .collect()
    }
}

/// A constant and the longest array of it that was asked for, of which shorter ones are slices.
#[derive(Debug)]
struct Constant {
    value: ScalarValue,
    longest: Mutex<Option<ArrayRef>>,
}

impl Constant {
    fn array(&self, rows: usize) -> Result<ArrayRef, OperatorError> {
        let mut longest = self.longest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(array) = longest.as_ref().filter(|array| array.len() >= rows) {
            return Ok(array.slice(0, rows));
        }
        let array = self
            .value
            .to_array_of_size(rows.next_power_of_two())
            .map_err(|error| OperatorError::evaluation(self.value.to_string(), error))?;
        let slice = array.slice(0, rows);
        *longest = Some(array);
        Ok(slice)
    }
}
