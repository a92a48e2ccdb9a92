//! `ROW_NUMBER() OVER (PARTITION BY ..., window_end ORDER BY ...)` over the results of a window: the first step of a
//! window's top rows.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_expr::expr::WindowFunction;
use datafusion_expr::logical_plan::Window;
use datafusion_expr::{Expr, LogicalPlan, WindowFunctionDefinition};
use driftline_operators::window::Numbering;

use super::state::{Base, State};
use super::traits::Traits;
use super::{internal, unalias};
use crate::error::{Result, SqlError};
use crate::plan::{Node, Plan};

/// Whether these are numbers within partitions that are complete in one epoch, whatever orders their rows.
pub(super) fn is_numbering(window: &Window, traits: &Traits) -> bool {
    window.window_expr.iter().all(|expr| match unalias(expr) {
        Expr::WindowFunction(call) => {
            let is_together = |expr: &Expr| {
                let index = column(expr, &window.input, "PARTITION BY");
                index.is_ok_and(|index| traits.together.contains(&index))
            };
            matches!(&call.fun, WindowFunctionDefinition::WindowUDF(udf) if udf.name() == "row_number")
                && !call.params.order_by.is_empty()
                && call.params.partition_by.iter().any(is_together)
        }
        _ => false,
    })
}

/// Numbers rows within partitions that are complete in one epoch.
pub(super) fn lower(window: &Window, state: State) -> Result<State> {
    let traits = Traits::of(&window.input);
    let mut plan = state.build(&traits, window.input.schema().as_arrow())?;
    for expr in &window.window_expr {
        let Expr::WindowFunction(call) = unalias(expr) else {
            return Err(internal("window function is not a call"));
        };
        let numbering = numbering(call, &window.input, &plan)?;
        plan = Plan {
            schema: Arc::clone(&numbering.schema),
            time: plan.time,
            window_bounds: plan.window_bounds.clone(),
            node: Node::NumberRows { input: Box::new(plan), numbering },
        };
    }
    Ok(State::over(Base::Rows(plan)))
}

/// How a call numbers the rows of an input, which has been built.
pub(super) fn numbering(
    call: &WindowFunction,
    input: &LogicalPlan,
    built: &Plan,
) -> Result<Numbering> {
    let partition = call.params.partition_by.iter();
    let partition = partition.map(|expr| column(expr, input, "PARTITION BY"));
    let order = call.params.order_by.iter().map(|sort| {
        let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
        Ok((column(&sort.expr, input, "ORDER BY")?, options))
    });
    let mut fields = built.schema.fields().to_vec();
    fields.push(Arc::new(Field::new("row_number", DataType::UInt64, false)));
    Ok(Numbering {
        partition: partition.collect::<Result<_>>()?,
        order: order.collect::<Result<_>>()?,
        schema: Arc::new(Schema::new(fields)),
    })
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
        SqlError::unsupported(format!("expression in {clause} of \"row_number\" is not supported"))
            .hint("compute it in a subquery, and name the column")
    })
}
