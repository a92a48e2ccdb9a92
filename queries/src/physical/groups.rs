//! Grouped aggregation: keys and arguments evaluated once per batch, accumulators made on demand.

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::{Field, Fields, SchemaRef};
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

use super::accumulator::{Accumulating, check_type};
use super::compile::{compile, refused};
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
    aggregates: Vec<Aggregate>,
    output_fields: Fields,
    state_fields: Vec<Fields>,
}

#[derive(Debug)]
struct Aggregate {
    function: Arc<AggregateFunctionExpr>,
    /// Places of the arguments.
    values: Vec<usize>,
    /// Place of the FILTER clause.
    filter: Option<usize>,
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
        let (mut output_fields, mut state_fields) = (Vec::new(), Vec::new());
        let mut lowered = Vec::new();
        for (aggregate, name) in aggregates.iter().zip(aggregate_names) {
            let aggregate = lower(aggregate, name, &schema, &mut distinct)?;
            let field = aggregate.function.field();
            output_fields.push(Arc::new(field.as_ref().clone().with_name(name)));
            state_fields.push(state(&aggregate.function)?);
            lowered.push(aggregate);
        }
        Ok(Self {
            distinct,
            keys: key_places,
            key_fields: Fields::from(key_fields),
            aggregates: lowered,
            output_fields: Fields::from(output_fields),
            state_fields,
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

fn state(function: &AggregateFunctionExpr) -> error::Result<Fields> {
    let fields = function.state_fields().map_err(refused)?;
    Ok(fields.iter().map(Arc::clone).collect::<Vec<Arc<Field>>>().into())
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
            .aggregates
            .iter()
            .map(|aggregate| {
                let filter: Option<BooleanArray> = aggregate
                    .filter
                    .map(|place| as_boolean_array(&values[place]).cloned())
                    .transpose()
                    .map_err(|error| OperatorError::evaluation(aggregate.function.name(), error))?;
                Ok(AggregateArguments { values: pick(&aggregate.values), filter })
            })
            .collect::<Result<_>>()?;
        Ok(AggregateInput { keys: pick(&self.keys), arguments })
    }

    fn accumulators(&self) -> Result<Vec<Box<dyn GroupAccumulator>>> {
        self.aggregates
            .iter()
            .map(|aggregate| {
                let accumulating = Accumulating::try_new(&aggregate.function)?;
                Ok(Box::new(accumulating) as Box<dyn GroupAccumulator>)
            })
            .collect()
    }
}
