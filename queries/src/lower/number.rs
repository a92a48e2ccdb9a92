//! `ROW_NUMBER() OVER (PARTITION BY ..., window_end ORDER BY ...)` over the results of a window: the first step of a
//! window's top rows.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_expr::logical_plan::Window;
use datafusion_expr::{Expr, LogicalPlan, WindowFunctionDefinition};
use driftline_operators::window::Numbering;

use super::state::{Base, State};
use super::traits::Traits;
use super::{internal, unalias};
use crate::error::{Result, SqlError};
use crate::plan::{Node, Plan};

/// Numbers rows within partitions that are complete in one epoch.
pub(super) fn lower(window: &Window, state: State) -> Result<State> {
    let traits = Traits::of(&window.input);
    let mut plan = state.build(&traits, window.input.schema().as_arrow())?;
    for expr in &window.window_expr {
        let Expr::WindowFunction(call) = unalias(expr) else {
            return Err(internal("window function is not a call"));
        };
        let is_known = matches!(&call.fun, WindowFunctionDefinition::WindowUDF(udf)
            if udf.name() == "row_number");
        if !is_known {
            return Err(internal("window function is not ROW_NUMBER"));
        }
        let partition = call.params.partition_by.iter();
        let partition = partition
            .map(|expr| column(expr, &window.input, "PARTITION BY"))
            .collect::<Result<Vec<_>>>()?;
        if !partition.iter().any(|index| traits.together.contains(index)) {
            return Err(SqlError::unsupported(
                "ROW_NUMBER that is not partitioned by window_end is not supported",
            )
            .hint(
                "group by a window, and number its results: PARTITION BY window_start, window_end",
            ));
        }
        let order = call.params.order_by.iter().map(|sort| {
            let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
            Ok((column(&sort.expr, &window.input, "ORDER BY")?, options))
        });
        let mut fields = plan.schema.fields().to_vec();
        fields.push(Arc::new(Field::new("row_number", DataType::UInt64, false)));
        let schema = Arc::new(Schema::new(fields));
        let numbering =
            Numbering { partition, order: order.collect::<Result<_>>()?, schema: schema.clone() };
        plan = Plan {
            schema,
            time: plan.time,
            window_bounds: plan.window_bounds.clone(),
            node: Node::NumberRows { input: Box::new(plan), numbering },
        };
    }
    Ok(State::over(Base::Rows(plan)))
}

fn column(expr: &Expr, input: &LogicalPlan, clause: &str) -> Result<usize> {
    let index = match unalias(expr) {
        Expr::Column(column) => input.schema().maybe_index_of_column(column),
        // What the input computes is named after how it is computed.
        computed => {
            input.schema().index_of_column_by_name(None, &computed.schema_name().to_string())
        }
    };
    index.ok_or_else(|| {
        SqlError::unsupported(format!("expression in {clause} of ROW_NUMBER is not supported"))
            .hint("compute it in a subquery, and name the column")
    })
}
