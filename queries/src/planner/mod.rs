//! Statements to plans: names and types resolved, windows found, everything refused that a stream cannot answer.
//!
//! A query goes through five steps: [`prepare`] refuses on the syntax tree and rewrites the GROUP BY form of windows;
//! DataFusion's `SqlToRel` resolves names, with FROM-form windows planned by [`relation`]; its analyzer settles types;
//! its simplifier folds constants; [`crate::lower`] turns the rest into dataflow nodes.

mod arguments;
mod context;
mod errors;
mod group_by;
mod joins;
pub(crate) mod log_keys;
mod place;
mod prepare;
mod relation;
mod rows;
pub(crate) mod top_rows;
mod types;
pub(crate) mod updates;
pub(crate) mod window;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::logical_plan::Aggregate;
use datafusion_expr::planner::{ExprPlanner, RelationPlanner};
use datafusion_expr::{Expr, LogicalPlan};
use datafusion_optimizer::analyzer::Analyzer;
use datafusion_optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion_optimizer::simplify_expressions::SimplifyExpressions;
use datafusion_optimizer::{Optimizer, OptimizerContext};
use sqlparser::ast;

use crate::catalog::Catalog;
use crate::error::{Result, SqlError};
use crate::functions::Functions;
use crate::plan::Plan;
use crate::statement::{InsertValues, Query};

use context::Context;
pub(crate) use context::RelationSource;
use errors::convert;
pub(crate) use types::field_of_type;

/// Plans queries; holds the functions and nothing of any query.
#[derive(Debug)]
pub struct Planner {
    functions: Functions,
    expr_planners: Vec<Arc<dyn ExprPlanner>>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
    options: Arc<ConfigOptions>,
}

impl Planner {
    /// A planner that knows these functions.
    #[must_use]
    pub fn new(functions: Functions) -> Self {
        Self {
            functions,
            expr_planners: vec![
                Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
                Arc::new(datafusion_functions_nested::planner::NestedFunctionPlanner),
                Arc::new(datafusion_functions_nested::planner::FieldAccessPlanner),
                Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
                Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
                Arc::new(datafusion_functions_aggregate::planner::AggregateFunctionPlanner),
                Arc::new(datafusion_functions_window::planner::WindowFunctionPlanner),
                Arc::new(datafusion_functions_window::planner::WindowFunctionPlanner),
            ],
            relation_planners: vec![Arc::new(relation::WindowRelations)],
            options: Arc::new(types::options()),
        }
    }

    /// Plans a query over the relations of a catalog.
    ///
    /// # Errors
    /// If a name is unknown, a type does not fit, or the query asks for what a stream cannot answer.
    pub fn plan_query(&self, query: &Query, catalog: &dyn Catalog) -> Result<Plan> {
        crate::stack::with_room(|| self.plan_with_room(query, catalog))
    }

    fn plan_with_room(&self, query: &Query, catalog: &dyn Catalog) -> Result<Plan> {
        let mut ast = query.ast.clone();
        let is_distinct = updates::take_distinct(&mut ast, query.emit);
        prepare::prepare(&mut ast, &self.functions)?;
        let context = Context::new(self, catalog).emitting(query.emit);
        let logical = context
            .plan(&ast)
            .and_then(|plan| self.analyze(plan))
            .and_then(|plan| updates::mark(plan, query.emit, is_distinct))
            .map_err(|error| self.located(errors::unwrap(error), (query, &ast), catalog))?;
        let plan = crate::lower::lower(&logical)
            .map_err(|error| errors::locate(updates::hint(error, query.emit), &query.ast))?;
        let lateness = |source: &str| catalog.allowed_lateness_ns(source);
        crate::lower::emit(plan, query.emit, &lateness).map_err(|error| error.at(query.emit_at))
    }

    /// An error with its place in the query; `ast` is what was planned.
    fn located(
        &self,
        error: SqlError,
        (query, ast): (&Query, &ast::Query),
        catalog: &dyn Catalog,
    ) -> SqlError {
        if !errors::names_nothing(&error) {
            return errors::locate(error, &query.ast);
        }
        let refusal = |query: &ast::Query| {
            let plan = Context::new(self, catalog).plan(query).and_then(|plan| self.analyze(plan));
            plan.err().map(|error| errors::unwrap(error).message().to_owned())
        };
        let place = place::of_expression(ast, error.message(), refusal);
        errors::locate(error.at(place), &query.ast)
    }

    /// Evaluates the constant rows of an INSERT as rows of a schema; columns that are not named are null.
    ///
    /// # Errors
    /// If a row has the wrong number of values, or a value is not constant, does not fit its column, or is null where
    /// the column takes none.
    pub fn evaluate_rows(&self, insert: &InsertValues, schema: SchemaRef) -> Result<RecordBatch> {
        crate::stack::with_room(|| rows::evaluate(self, insert, schema))
    }

    /// Names of all functions, sorted.
    #[must_use]
    pub fn function_names(&self) -> Vec<String> {
        self.functions.names()
    }

    /// Settles types and folds constants.
    fn analyze(&self, plan: LogicalPlan) -> datafusion_common::Result<LogicalPlan> {
        let plan = Analyzer::with_rules(vec![Arc::new(TypeCoercion::new())]).execute_and_check(
            plan.transform_up(group_once)?.data,
            &self.options,
            |_, _| (),
        )?;
        // Answers are a function of the rows: without a start time nothing can fold to a time of day.
        let context = OptimizerContext::new_with_config_options(Arc::clone(&self.options))
            .without_query_execution_start_time()
            .with_skip_failing_rules(false);
        Optimizer::with_rules(vec![Arc::new(SimplifyExpressions::new())]).optimize(
            plan,
            &context,
            |_, _| (),
        )
    }
}

/// Drops group keys that repeat: an aggregate has one column for all of them, and what counts columns would miscount.
fn group_once(plan: LogicalPlan) -> datafusion_common::Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Aggregate(aggregate) = plan else { return Ok(Transformed::no(plan)) };
    let mut seen = HashSet::new();
    let keys = aggregate.group_expr.iter().filter(|key| seen.insert(*key));
    let keys: Vec<Expr> = keys.cloned().collect();
    if keys.len() == aggregate.group_expr.len() {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let Aggregate { input, aggr_expr, schema, .. } = aggregate;
    let grouped = Aggregate::try_new_with_schema(input, keys, aggr_expr, schema)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(grouped)))
}
