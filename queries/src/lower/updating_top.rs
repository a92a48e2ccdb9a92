//! The first rows of each key among those that enter and leave: `ROW_NUMBER() OVER (PARTITION BY k ORDER BY x DESC) <= n`.

use datafusion_expr::Expr;
use datafusion_expr::logical_plan::Window;

use super::state::{Base, State};
use super::updates::entering;
use super::{Traits, internal, number, over, unalias};
use crate::error::{Result, SqlError};
use crate::plan::{Node, Plan};
use crate::planner::top_rows::UpdatingTopNode;

/// Most rows of one key. One that comes first changes the numbers of all others.
const TOP_ROWS_MAX: usize = 10_000;

/// Whether numbers once given stay right: within rows that are complete, or in the order of event time.
pub(crate) fn numbers_for_good(window: &Window) -> bool {
    let traits = Traits::of(&window.input);
    number::is_numbering(window, &traits) || over::delay(window, &traits).is_some()
}

/// Numbers the first rows. The plan has no `_diff` yet: what is above is planned as for rows.
pub(super) fn lower(node: &UpdatingTopNode) -> Result<State> {
    let UpdatingTopNode { window, rows, retaining } = node;
    let rows = usize::try_from(*rows).unwrap_or(usize::MAX);
    if rows > TOP_ROWS_MAX {
        return Err(SqlError::unsupported(format!(
            "\"row_number\" that keeps more than {TOP_ROWS_MAX} rows of each key is not supported"
        ))
        .hint("keep fewer, or group by the key"));
    }
    let [expr] = window.window_expr.as_slice() else {
        return Err(internal("several numbers of one row"));
    };
    let Expr::WindowFunction(call) = unalias(expr) else {
        return Err(internal("window function is not a call"));
    };
    let traits = Traits::of(&window.input);
    let input = super::node(&window.input)?.build(&traits, window.input.schema().as_arrow())?;
    let numbering = number::numbering(call, &window.input, &input)?;
    let schema = std::sync::Arc::clone(&numbering.schema);
    let (input, retained) = entering(input, &traits, *retaining)?;
    let plan = Plan {
        schema,
        time: None,
        window_bounds: Vec::new(),
        node: Node::UpdateTop { input: Box::new(input), retained, numbering, rows },
    };
    Ok(State::over(Base::Rows(plan)))
}
