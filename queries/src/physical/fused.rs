//! Which accumulators a grouped aggregation runs: usual statistics of the same numbers share one.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use datafusion_physical_expr::expressions::Literal;
use driftline_operators::moments::{self, Statistic};

use super::compile::refused;
use super::groups::Aggregate;
use crate::error;

/// Aggregates of one column from which on they share an accumulator. Fewer take less room by themselves.
const SHARED_MIN: usize = 3;

/// What one accumulator works on.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) kind: Kind,
    /// Places of the arguments.
    pub(super) values: Vec<usize>,
    /// Place of the FILTER clause.
    pub(super) filter: Option<usize>,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// One aggregate of DataFusion or of the host.
    One(Arc<AggregateFunctionExpr>),
    /// Several statistics of one column.
    Moments(Arc<[Statistic]>),
}

impl Kind {
    pub(super) fn state_fields(&self) -> error::Result<Fields> {
        match self {
            Self::One(function) => {
                let fields = function.state_fields().map_err(refused)?;
                Ok(fields.iter().map(Arc::clone).collect::<Vec<Arc<Field>>>().into())
            }
            Self::Moments(_) => Ok(moments::state_fields()),
        }
    }
}

/// Place of a column, and of the FILTER clause.
type Column = (usize, Option<usize>);

/// The accumulators of some aggregates; and for each aggregate its place among the results of all accumulators.
pub(super) fn parts(
    aggregates: Vec<Aggregate>,
    schema: &Schema,
) -> error::Result<(Vec<Part>, Vec<usize>)> {
    // By column and filter, the aggregates that ask for statistics of it.
    let mut shared: BTreeMap<Column, Vec<(usize, Statistic)>> = BTreeMap::new();
    for (number, aggregate) in aggregates.iter().enumerate() {
        if let Some(statistic) = of_column(aggregate, schema)? {
            let key = (aggregate.values[0], aggregate.filter);
            shared.entry(key).or_default().push((number, statistic));
        }
    }
    // Rows are counted along with the first column that has the same filter.
    for (number, aggregate) in aggregates.iter().enumerate() {
        let column = shared.iter_mut().find(|((_, filter), _)| *filter == aggregate.filter);
        if let Some((_, asked)) = column.filter(|_| counts_rows(aggregate)) {
            asked.push((number, Statistic::Rows));
        }
    }
    shared.retain(|_, asked| asked.len() >= SHARED_MIN);
    let mut order = vec![0; aggregates.len()];
    let (mut parts, mut results) = (Vec::new(), 0);
    for ((column, filter), asked) in &shared {
        for (number, _) in asked {
            order[*number] = results;
            results += 1;
        }
        let statistics = asked.iter().map(|(_, statistic)| *statistic).collect();
        parts.push(Part {
            kind: Kind::Moments(statistics),
            values: vec![*column],
            filter: *filter,
        });
    }
    for (number, aggregate) in aggregates.into_iter().enumerate() {
        if shared.values().flatten().any(|(other, _)| *other == number) {
            continue;
        }
        order[number] = results;
        results += 1;
        let Aggregate { function, values, filter } = aggregate;
        parts.push(Part { kind: Kind::One(function), values, filter });
    }
    Ok((parts, order))
}

/// What an aggregate asks of a column of type Float64, if it is one of the usual statistics.
fn of_column(aggregate: &Aggregate, schema: &Schema) -> error::Result<Option<Statistic>> {
    let function = &*aggregate.function;
    let arguments = function.expressions();
    let [argument] = &*arguments else { return Ok(None) };
    let is_plain = !function.is_distinct() && function.order_bys().is_empty();
    if !is_plain || argument.data_type(schema).map_err(refused)? != DataType::Float64 {
        return Ok(None);
    }
    let statistic = match function.fun().name() {
        "count" => Statistic::Count,
        "sum" => Statistic::Sum,
        "avg" => Statistic::Mean,
        "min" => Statistic::Minimum,
        "max" => Statistic::Maximum,
        "var" | "var_samp" | "var_sample" => Statistic::Variance { sample: true },
        "var_pop" | "var_population" => Statistic::Variance { sample: false },
        "stddev" | "stddev_samp" => Statistic::Deviation { sample: true },
        "stddev_pop" => Statistic::Deviation { sample: false },
        _ => return Ok(None),
    };
    let expected = match statistic {
        Statistic::Count | Statistic::Rows => DataType::Int64,
        _ => DataType::Float64,
    };
    Ok((*function.field().data_type() == expected).then_some(statistic))
}

/// Whether it is `count(*)`, which is planned as the count of a constant.
fn counts_rows(aggregate: &Aggregate) -> bool {
    let function = &*aggregate.function;
    let is_constant = |argument: &Literal| !argument.value().is_null();
    let arguments = function.expressions();
    let [argument] = &*arguments else { return false };
    function.fun().name() == "count"
        && !function.is_distinct()
        && argument.downcast_ref::<Literal>().is_some_and(is_constant)
}
