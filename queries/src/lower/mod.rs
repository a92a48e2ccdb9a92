//! Logical plans to dataflow nodes: one small function per kind of node.
//!
//! On the way up, filters and projections are not built but collected over the last built node, the base. Columns of
//! the base are named by number, so that expressions can be moved between steps by substitution alone.

mod aggregate;
mod columns;
mod emit;
mod join;
mod lookup;
mod number;
mod over;
mod state;
mod traits;
mod updates;
mod updating_join;
mod updating_top;

use datafusion_common::DataFusionError;
use datafusion_expr::{Distinct, Expr, LogicalPlan, Union};
use driftline_operators::logs::LogKeyOutput;

use crate::error::{Result, SqlError};
use crate::plan::{Node, Plan};
use crate::planner::RelationSource;
use crate::planner::log_keys::LogKeyNode;
use crate::planner::top_rows::UpdatingTopNode;
use crate::planner::updates::{UpdatingJoinNode, UpdatingNode};
use crate::planner::window::WindowNode;

use columns::numbered;
pub(crate) use columns::{numbered_schema, numbers};
pub(crate) use emit::emit;
use state::{Base, State};
pub(crate) use traits::Traits;
pub(crate) use updating_join::retain_joins;
pub(crate) use updating_top::numbers_for_good;

/// Turns an analyzed plan into dataflow nodes.
pub(crate) fn lower(plan: &LogicalPlan) -> Result<Plan> {
    node(plan)?.build(&Traits::of(plan), plan.schema().as_arrow())
}

fn node(plan: &LogicalPlan) -> Result<State> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let source = scan.source.downcast_ref::<RelationSource>();
            match source {
                Some(source) if scan.projection.is_none() && scan.filters.is_empty() => {
                    Ok(self::scan(source, plan))
                }
                _ => Err(internal("scan of an unknown relation")),
            }
        }
        LogicalPlan::SubqueryAlias(alias) => node(&alias.input),
        LogicalPlan::Join(join) if lookup::reads_table(plan) => lookup::lower(join),
        LogicalPlan::Join(join) => join::lower(join, &[]),
        LogicalPlan::Filter(filter) => {
            if let Some((join, above)) = join::above(&filter.predicate, &filter.input) {
                return join::lower(&join, &above);
            }
            let mut state = node(&filter.input)?;
            state.filter(&filter.predicate, &filter.input)?;
            Ok(state)
        }
        LogicalPlan::Projection(projection) => {
            node(&projection.input)?.project(&projection.expr, &projection.input)
        }
        LogicalPlan::Distinct(Distinct::All(input)) => distinct(input),
        LogicalPlan::Union(union) => self::union(union, plan),
        LogicalPlan::Window(window) => {
            let state = node(&window.input)?;
            match number::is_numbering(window, &Traits::of(&window.input)) {
                true => number::lower(window, state),
                false => over::lower(window, state),
            }
        }
        LogicalPlan::Aggregate(aggregate) => aggregate::lower(aggregate, node(&aggregate.input)?),
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any();
            if let Some(keys) = node.downcast_ref::<LogKeyNode>() {
                log_keys(keys, plan)
            } else if let Some(window) = node.downcast_ref::<WindowNode>() {
                self::window(window)
            } else if let Some(updating) = node.downcast_ref::<UpdatingNode>() {
                updates::lower(updating)
            } else if let Some(updating) = node.downcast_ref::<UpdatingJoinNode>() {
                updating_join::lower(updating)
            } else if let Some(updating) = node.downcast_ref::<UpdatingTopNode>() {
                updating_top::lower(updating)
            } else {
                Err(internal("unknown node"))
            }
        }
        other => Err(SqlError::unsupported(format!(
            "{} is not supported in a streaming query",
            kind(other)
        ))
        .hint("queries filter, compute, join, window and aggregate relations")),
    }
}

fn scan(source: &RelationSource, plan: &LogicalPlan) -> State {
    if let Some(rows) = &source.table {
        return State::over(Base::Table { name: source.scan.relation.clone(), rows: rows.clone() });
    }
    let schema = std::sync::Arc::clone(plan.schema().inner());
    let built = Plan {
        node: Node::Scan(source.scan.clone()),
        time: source.time,
        window_bounds: source.window_bounds.clone(),
        schema,
    };
    State::over(Base::Rows(built))
}

fn union(union: &Union, plan: &LogicalPlan) -> Result<State> {
    let traits = Traits::of(plan);
    let inputs = union
        .inputs
        .iter()
        .map(|input| self::node(input)?.build(&Traits::of(input), union.schema.as_arrow()));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    Ok(State::over(Base::Rows(Plan {
        node: Node::Union { inputs },
        time: traits.times.first().copied(),
        window_bounds: traits.bounds,
        schema: std::sync::Arc::clone(union.schema.inner()),
    })))
}

/// Equal rows are equal in their event time as well, which says how long one must be remembered.
fn distinct(input: &LogicalPlan) -> Result<State> {
    let traits = Traits::of(input);
    let Some(time) = traits.times.iter().copied().min_by_key(|time| time.lag_ns) else {
        return Err(SqlError::unsupported("DISTINCT without an event time is not supported").hint(
            "select the event-time column or the bounds of a window as well, so that a row need not be remembered for ever",
        ));
    };
    let input = node(input)?.build(&traits, input.schema().as_arrow())?;
    Ok(State::over(Base::Rows(Plan {
        schema: std::sync::Arc::clone(&input.schema),
        time: input.time,
        window_bounds: input.window_bounds.clone(),
        node: Node::Distinct { input: Box::new(input), time },
    })))
}

fn log_keys(node: &LogKeyNode, plan: &LogicalPlan) -> Result<State> {
    let traits = Traits::of(&node.input);
    let time = traits
        .times
        .iter()
        .copied()
        .find(|time| time.index == node.columns.time)
        .ok_or_else(|| internal("LOG_KEYS over a column that is not the event time"))?;
    let input = self::node(&node.input)?.build(&traits, node.input.schema().as_arrow())?;
    let traits = Traits::of(plan);
    Ok(State::over(Base::Rows(Plan {
        schema: match node.output {
            LogKeyOutput::Rows => node.plan.output_schema(),
            LogKeyOutput::Templates => node.plan.changes_schema(),
        },
        time: traits.times.first().copied(),
        window_bounds: traits.bounds,
        node: Node::LogKeys {
            input: Box::new(input),
            keys: Box::new(node.plan.clone()),
            output: node.output,
            time,
        },
    })))
}

fn window(node: &WindowNode) -> Result<State> {
    let traits = Traits::of(&node.input);
    let time = traits
        .times
        .iter()
        .copied()
        .find(|time| time.index == node.time)
        .ok_or_else(|| internal("window over a column that is not the event time"))?;
    let input = self::node(&node.input)?.build(&traits, node.input.schema().as_arrow())?;
    let width = input.schema.fields().len();
    let exprs = node.visible.iter().copied().chain([width, width + 1]).map(numbered).collect();
    let base = Base::Windowed { input, by: node.by.clone(), time };
    Ok(State { base, exprs, filters: Vec::new() })
}

fn kind(plan: &LogicalPlan) -> String {
    let text = plan.display().to_string();
    text.split([':', ' ']).next().unwrap_or_default().to_lowercase()
}

/// A plan that should not have come this far.
fn internal(message: &str) -> SqlError {
    SqlError::unsupported(format!("query cannot be planned: {message}"))
}

/// An expression that DataFusion refuses only now.
fn refused(error: &DataFusionError) -> SqlError {
    SqlError::query(error.strip_backtrace())
}

/// An expression without its alias.
pub(crate) fn unalias(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unalias(&alias.expr),
        other => other,
    }
}
