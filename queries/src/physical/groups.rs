//! Grouped aggregation: keys and arguments evaluated once per batch, accumulators made on demand.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{Fields, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion_common::DFSchema;
use datafusion_common::cast::as_boolean_array;
use datafusion_expr::Expr;
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::utils::AggregateOrderSensitivity;
use datafusion_physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder};
use driftline_operators::error::{OperatorError, Result};
use driftline_operators::expression::{
    AggregateArguments, AggregateInput, AggregateProgram, GroupAccumulator,
};
use driftline_operators::moments::Moments;

use super::accumulator::{Accumulating, check_type};
use super::compile::{compile, refused};
use super::fused::{Kind, Part, parts};
use super::literal::Distinct;
use super::transform::field;
use crate::error;
use crate::lower::numbered_schema;

/// Keys and aggregates over one schema.
#[derive(Debug)]
pub(crate) struct GroupProgram {
    distinct: Distinct,
    /// Places of the keys.
    keys: Vec<usize>,
    key_fields: Fields,
    parts: Vec<Part>,
    /// For each aggregate its place among the results of all parts.
    order: Vec<usize>,
    output_fields: Fields,
    state_fields: Vec<Fields>,
}

/// An aggregate as it was written.
#[derive(Debug)]
pub(super) struct Aggregate {
    pub(super) function: Arc<AggregateFunctionExpr>,
    /// Places of the arguments.
    pub(super) values: Vec<usize>,
    /// Place of the FILTER clause.
    pub(super) filter: Option<usize>,
}

impl GroupProgram {
    /// Compiles keys and aggregates over numbered columns; each comes with its names.
    pub(crate) fn try_new(
        input: &SchemaRef,
        (keys, key_names): (&[Expr], &[String]),
        (aggregates, aggregate_names): (&[Expr], &[String]),
    ) -> error::Result<Self> {
        let schema = numbered_schema(input, 0..input.fields().len())?;
        let mut distinct = Distinct::default();
        let (mut key_places, mut key_fields) = (Vec::new(), Vec::new());
        for (key, name) in keys.iter().zip(key_names) {
            let compiled = compile(key, &schema)?;
            key_fields.push(field(&compiled, schema.as_arrow(), name)?);
            key_places.push(distinct.add(compiled));
        }
        let (mut output_fields, mut lowered) = (Vec::new(), Vec::new());
        for (aggregate, name) in aggregates.iter().zip(aggregate_names) {
            let aggregate = lower(aggregate, name, &schema, &mut distinct)?;
            let field = aggregate.function.field();
            output_fields.push(Arc::new(field.as_ref().clone().with_name(name)));
            lowered.push(aggregate);
        }
        let (parts, order) = parts(lowered, schema.as_arrow())?;
        let state_fields = parts.iter().map(|part| part.kind.state_fields());
        Ok(Self {
            distinct,
            keys: key_places,
            key_fields: Fields::from(key_fields),
            order,
            output_fields: Fields::from(output_fields),
            state_fields: state_fields.collect::<error::Result<_>>()?,
            parts,
        })
    }
}

fn lower(
    expr: &Expr,
    name: &str,
    schema: &DFSchema,
    distinct: &mut Distinct,
) -> error::Result<Aggregate> {
    let lowered = LoweredAggregateBuilder::new(
        expr,
        schema,
        schema.as_arrow(),
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )
    .with_name(name)
    .build()
    .map_err(refused)?;
    let function = lowered.aggregate;
    check_order(&function, &lowered.order_bys)?;
    let mut arguments = function.expressions();
    // As in DataFusion's own aggregation: those that sort for themselves find their sort keys behind the arguments.
    if !function.fun().supports_within_group_clause() {
        arguments.extend(function.order_bys().iter().map(|sort| Arc::clone(&sort.expr)));
    }
    let values = arguments.into_iter().map(|argument| distinct.add(argument)).collect();
    let filter = lowered.filter.map(|filter| distinct.add(filter));
    let aggregate = Aggregate { function, values, filter };
    // What cannot be built is refused now, not when the first row comes.
    let made = Accumulating::try_new(&aggregate.function);
    made.and_then(|_| check_type(&aggregate.function)).map_err(|error| match error {
        OperatorError::Evaluation { source, .. } => {
            crate::SqlError::unsupported(format!("aggregate \"{name}\" is not supported: {source}"))
        }
        other => crate::SqlError::unsupported(other.to_string()),
    })?;
    Ok(aggregate)
}

/// Rows come in no order: an aggregate that needs one must sort for itself.
fn check_order(
    function: &AggregateFunctionExpr,
    order_bys: &[datafusion_physical_expr::PhysicalSortExpr],
) -> error::Result<()> {
    let name = function.fun().name();
    if order_bys.is_empty() || function.fun().supports_within_group_clause() {
        return Ok(());
    }
    match function.order_sensitivity() {
        AggregateOrderSensitivity::HardRequirement => Err(crate::SqlError::unsupported(format!(
            "aggregate \"{name}\" with ORDER BY is not supported in a streaming query"
        ))
        .hint("leave ORDER BY away")),
        _ => Ok(()),
    }
}

impl AggregateProgram for GroupProgram {
    fn key_fields(&self) -> Fields {
        self.key_fields.clone()
    }

    fn output_fields(&self) -> Fields {
        self.output_fields.clone()
    }

    fn state_fields(&self) -> Vec<Fields> {
        self.state_fields.clone()
    }

    fn prepare(&self, batch: &RecordBatch) -> Result<AggregateInput> {
        let values = self.distinct.evaluate(batch)?;
        let pick = |places: &[usize]| places.iter().map(|i| Arc::clone(&values[*i])).collect();
        let arguments = self
            .parts
            .iter()
            .map(|part| {
                let filter: Option<BooleanArray> = part
                    .filter
                    .map(|place| as_boolean_array(&values[place]).cloned())
                    .transpose()
                    .map_err(|error| OperatorError::evaluation("FILTER", error))?;
                Ok(AggregateArguments { values: pick(&part.values), filter })
            })
            .collect::<Result<_>>()?;
        Ok(AggregateInput { keys: pick(&self.keys), arguments })
    }

    fn accumulators(&self) -> Result<Vec<Box<dyn GroupAccumulator>>> {
        self.parts
            .iter()
            .map(|part| {
                Ok(match &part.kind {
                    Kind::One(function) => Box::new(Accumulating::try_new(function)?) as _,
                    Kind::Moments(statistics) => {
                        Box::new(Moments::new(Arc::clone(statistics))) as _
                    }
                })
            })
            .collect()
    }

    fn arrange(&self, results: Vec<ArrayRef>) -> Vec<ArrayRef> {
        self.order.iter().map(|place| Arc::clone(&results[*place])).collect()
    }
}
