//! Aggregates without a window, first rows of keys, and joins without a bound in time, of the rows of the last so long:
//! `EMIT ON UPDATE RETAIN`.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchemaRef, DataFusionError, Result as DfResult};
use datafusion_expr::logical_plan::Join;
use datafusion_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use sqlparser::ast::{Distinct, Query, SetExpr};

use super::top_rows;
use crate::error::{SqlError, SqlErrorKind};
use crate::lower::{Traits, retain_joins};
use crate::statement::Emit;

/// Rows grouped by key, for as long as they are retained.
#[derive(Clone, Debug)]
pub(crate) struct UpdatingNode {
    pub(crate) input: LogicalPlan,
    pub(crate) group_expr: Vec<Expr>,
    pub(crate) aggr_expr: Vec<Expr>,
    pub(crate) retaining: Retaining,
    schema: DFSchemaRef,
}

/// How a query retains rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Hash)]
pub(crate) struct Retaining {
    pub(crate) retain_ns: i64,
    pub(crate) every_ns: Option<i64>,
}

/// A join of two inputs whose rows are retained. It has the columns of the join.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Hash)]
pub(crate) struct UpdatingJoinNode {
    pub(crate) join: Join,
    /// Conditions from above that an inner join takes in, over its columns by number.
    pub(crate) above: Vec<Expr>,
    pub(crate) retaining: Retaining,
}

/// Takes a DISTINCT off the outermost SELECT, where rows are retained so that it has an end.
pub(super) fn take_distinct(query: &mut Query, emit: Emit) -> bool {
    let SetExpr::Select(select) = query.body.as_mut() else { return false };
    let is_retained = matches!(emit, Emit::Update { retain_ns: Some(_), .. });
    let is_plain = matches!(select.distinct, Some(Distinct::Distinct));
    if is_retained && is_plain {
        select.distinct = None;
    }
    is_retained && is_plain
}

/// Puts an [`UpdatingNode`] in place of each aggregate without a window, and of a DISTINCT on top, an
/// [`UpdatingTopNode`](super::top_rows::UpdatingTopNode) in place of each numbering that has no end of its own, and an
/// [`UpdatingJoinNode`] in place of each join without a bound in time.
pub(super) fn mark(plan: LogicalPlan, emit: Emit, is_distinct: bool) -> DfResult<LogicalPlan> {
    let Emit::Update { every_ns, retain_ns: Some(retain_ns) } = emit else { return Ok(plan) };
    let retaining = Retaining { retain_ns, every_ns };
    let make = |input: &Arc<LogicalPlan>, group_expr, aggr_expr, schema: &DFSchemaRef| {
        let input = input.as_ref().clone();
        let schema = Arc::clone(schema);
        let node = UpdatingNode { input, group_expr, aggr_expr, retaining, schema };
        LogicalPlan::Extension(Extension { node: Arc::new(node) })
    };
    let marked = plan.transform_up(|plan| {
        Ok(match &plan {
            LogicalPlan::Aggregate(aggregate) if !Traits::of(&aggregate.input).is_windowed() => {
                let (groups, aggregates) =
                    (aggregate.group_expr.clone(), aggregate.aggr_expr.clone());
                let node = make(&aggregate.input, groups, aggregates, &aggregate.schema);
                Transformed::yes(node)
            }
            LogicalPlan::Filter(filter) => match top_rows::mark(filter, retaining)? {
                Some(marked) => Transformed::yes(marked),
                None => Transformed::no(plan),
            },
            _ => Transformed::no(plan),
        })
    })?;
    let marked = retain_joins(marked.data, retaining)?;
    if !is_distinct {
        return Ok(marked);
    }
    Ok(match &marked {
        // Below the projection rows still have their event time.
        LogicalPlan::Projection(projection) => {
            make(&projection.input, projection.expr.clone(), Vec::new(), &projection.schema)
        }
        other => {
            let columns = other.schema().columns().into_iter().map(Expr::Column).collect();
            let schema = Arc::clone(other.schema());
            make(&Arc::new(other.clone()), columns, Vec::new(), &schema)
        }
    })
}

/// Says what an aggregate without a window needs to answer on update.
pub(super) fn hint(error: SqlError, emit: Emit) -> SqlError {
    let is_update = matches!(emit, Emit::Update { retain_ns: None, .. });
    let is_unbounded = error.kind() == SqlErrorKind::Unsupported
        && error.message().starts_with("aggregate without a window");
    match is_update && is_unbounded {
        true => SqlError::unsupported("aggregate without a window keeps its rows for ever").hint(
            "say for how long a row counts: EMIT ON UPDATE RETAIN INTERVAL '1 hour', or group by a window",
        ),
        false => error,
    }
}

impl UpdatingNode {
    /// The name of each column.
    pub(crate) fn names(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    fn exprs(&self) -> (&[Expr], &[Expr], Retaining) {
        (&self.group_expr, &self.aggr_expr, self.retaining)
    }
}

impl PartialEq for UpdatingNode {
    fn eq(&self, other: &Self) -> bool {
        self.exprs() == other.exprs() && self.input == other.input
    }
}

impl Eq for UpdatingNode {}

impl PartialOrd for UpdatingNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl Hash for UpdatingNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.exprs().hash(state);
        self.input.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for UpdatingNode {
    fn name(&self) -> &'static str {
        "Updating"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.group_expr.iter().chain(&self.aggr_expr).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Updating: retain {} ns", self.retaining.retain_ns)
    }

    fn with_exprs_and_inputs(
        &self,
        mut exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> DfResult<Self> {
        let input = inputs
            .pop()
            .ok_or_else(|| DataFusionError::Internal("aggregate has no input".to_owned()))?;
        let aggr_expr = exprs.split_off(self.group_expr.len().min(exprs.len()));
        Ok(Self { input, group_expr: exprs, aggr_expr, ..self.clone() })
    }
}

impl UserDefinedLogicalNodeCore for UpdatingJoinNode {
    fn name(&self) -> &'static str {
        "UpdatingJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.join.left, &self.join.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.join.schema
    }

    /// None: no rule of DataFusion runs once a plan is marked.
    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpdatingJoin: retain {} ns", self.retaining.retain_ns)
    }

    fn with_exprs_and_inputs(
        &self,
        _exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> DfResult<Self> {
        let (Some(right), Some(left)) = (inputs.pop(), inputs.pop()) else {
            return Err(DataFusionError::Internal("join has no inputs".to_owned()));
        };
        let join = Join { left: Arc::new(left), right: Arc::new(right), ..self.join.clone() };
        Ok(Self { join, ..self.clone() })
    }
}
