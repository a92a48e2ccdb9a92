//! What DataFusion's planner asks while it resolves names: relations, functions, settings.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DataFusionError, Result as DfResult, TableReference};
use datafusion_expr::planner::{ExprPlanner, RelationPlanner};
use datafusion_expr::{
    AggregateUDF, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF,
};
use datafusion_sql::planner::{ContextProvider, SqlToRel};
use driftline_operators::options::nearest_name;
use sqlparser::ast;

use super::{Planner, prepare};
use crate::catalog::{Catalog, Relation, RelationKind, TableRows, late_schema};
use crate::error::SqlError;
use crate::functions::{ASOF, asof};
use crate::plan::{Scan, ScanStream, TimeColumn};
use crate::statement::{Emit, Query};

/// Most views that read each other.
const VIEW_NESTING_MAX: usize = 16;
/// Most relations that one query reads, those of its views included: a view that reads another one twice doubles it.
const RELATIONS_MAX: usize = 1024;
/// Most nodes above each other in a plan; whoever walks or drops a plan recurses.
const PLAN_DEPTH_MAX: usize = 400;

/// One query being planned.
pub(super) struct Context<'a> {
    planner: &'a Planner,
    catalog: &'a dyn Catalog,
    views: Cell<usize>,
    relations: Cell<usize>,
    emit: Emit,
}

impl<'a> Context<'a> {
    pub(super) fn new(planner: &'a Planner, catalog: &'a dyn Catalog) -> Self {
        let emit = Emit::default();
        Self { planner, catalog, views: Cell::new(0), relations: Cell::new(0), emit }
    }

    /// For a query that answers in its own way: its sources may give it later rows than others.
    pub(super) fn emitting(self, emit: Emit) -> Self {
        Self { emit, ..self }
    }

    /// Resolves names; the query has been prepared.
    pub(super) fn plan(&self, query: &ast::Query) -> DfResult<LogicalPlan> {
        let statement = ast::Statement::Query(Box::new(query.clone()));
        let plan = SqlToRel::new(self).sql_statement_to_plan(statement)?;
        if depth(&plan) > PLAN_DEPTH_MAX {
            return Err(external(
                SqlError::query(format!("query has more than {PLAN_DEPTH_MAX} steps in a row"))
                    .hint("use fewer views and subqueries on top of each other"),
            ));
        }
        Ok(plan)
    }

    fn view(&self, name: &str, text: &str) -> DfResult<LogicalPlan> {
        if self.views.get() >= VIEW_NESTING_MAX {
            return Err(external(
                SqlError::query(format!(
                    "view \"{name}\" nests more than {VIEW_NESTING_MAX} views"
                ))
                .hint("use fewer views on top of each other"),
            ));
        }
        // Places in the view's own text would mislead whoever reads the query.
        let inside = |error: SqlError| {
            external(error.nowhere().rephrase(|message| format!("in view \"{name}\": {message}")))
        };
        let query = Query::parse(text).map_err(inside)?;
        let mut ast = query.ast.clone();
        prepare::prepare(&mut ast, &self.planner.functions).map_err(inside)?;
        self.views.set(self.views.get() + 1);
        let plan = self.plan(&ast).map_err(|error| inside(super::convert(error, &query.ast)));
        self.views.set(self.views.get() - 1);
        plan
    }

    /// A relation that a detector keeps beside its main one.
    fn side(&self, owner: &str, name: &str) -> DfResult<Arc<dyn TableSource>> {
        let Some(relation) = self.catalog.side_relation(owner, name) else {
            return Err(external(self.not_found(&format!("{owner}.{name}"))));
        };
        let mut source = RelationSource::rows(owner, relation);
        source.scan.stream = ScanStream::Side(name.to_owned());
        Ok(Arc::new(source))
    }

    fn not_found(&self, name: &str) -> SqlError {
        let mut names = self.catalog.relation_names();
        names.sort();
        let error = SqlError::query(format!("relation \"{name}\" not found"));
        match nearest_name(name, names.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean \"{near}\"?")),
            None if names.is_empty() => error.hint("create a source first"),
            None => error.hint(format!("relations are {}", list(&names))),
        }
    }
}

/// An error of ours on its way through DataFusion.
pub(super) fn external(error: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Names in quotes, not too many of them.
pub(super) fn list(names: &[String]) -> String {
    const NAMES_MAX: usize = 12;
    let mut text: Vec<String> = names.iter().take(NAMES_MAX).map(|n| format!("\"{n}\"")).collect();
    if names.len() > NAMES_MAX {
        text.push("...".to_owned());
    }
    text.join(", ")
}

fn depth(plan: &LogicalPlan) -> usize {
    let mut level: Vec<&LogicalPlan> = vec![plan];
    let mut depth = 0;
    while !level.is_empty() {
        depth += 1;
        level = level.into_iter().flat_map(LogicalPlan::inputs).collect();
    }
    depth
}

/// A relation as DataFusion sees it: a table that is only planned, never read.
#[derive(Debug)]
pub(crate) struct RelationSource {
    pub(crate) scan: Scan,
    is_source: bool,
    schema: SchemaRef,
    pub(crate) time: Option<TimeColumn>,
    pub(crate) window_bounds: Vec<usize>,
    /// The rows of a table.
    pub(crate) table: Option<TableRows>,
    inlined: Option<LogicalPlan>,
}

impl RelationSource {
    /// The rows of a relation.
    fn rows(name: &str, relation: Relation) -> Self {
        Self {
            scan: Scan { relation: name.to_owned(), stream: ScanStream::Rows, late_ns: 0 },
            is_source: relation.kind == RelationKind::Source,
            schema: relation.schema,
            time: relation.time,
            window_bounds: relation.window_bounds,
            table: match relation.kind {
                RelationKind::Table(rows) => Some(rows),
                _ => None,
            },
            inlined: None,
        }
    }

    /// Those of a source that are late by no more than so much as well.
    fn with_late(mut self, late_ns: i64) -> Self {
        if let Some(time) = self.time.as_mut().filter(|_| self.is_source) {
            time.lag_ns = time.lag_ns.saturating_add(late_ns);
            self.scan.late_ns = late_ns;
        }
        self
    }

    /// The rows that a source could not take; they have no order in time.
    pub(super) fn late(&self) -> Option<Self> {
        self.is_source.then(|| Self {
            scan: Scan {
                relation: self.scan.relation.clone(),
                stream: ScanStream::Late,
                late_ns: 0,
            },
            is_source: false,
            schema: late_schema(&self.schema),
            time: None,
            window_bounds: Vec::new(),
            table: None,
            inlined: None,
        })
    }
}

impl TableSource for RelationSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        self.inlined.as_ref().map(Cow::Borrowed)
    }
}

impl ContextProvider for Context<'_> {
    fn get_table_source(&self, name: TableReference) -> DfResult<Arc<dyn TableSource>> {
        self.relations.set(self.relations.get() + 1);
        if self.relations.get() > RELATIONS_MAX {
            return Err(external(
                SqlError::query(format!("query reads more than {RELATIONS_MAX} relations"))
                    .hint("use fewer joins and unions of views"),
            ));
        }
        let table = match &name {
            TableReference::Bare { table } => table,
            TableReference::Partial { schema, table } => return self.side(schema, table),
            TableReference::Full { .. } => {
                return Err(external(
                    SqlError::unsupported(format!("relation \"{name}\" has three parts"))
                        .hint("names have one part, or two: detector.relation"),
                ));
            }
        };
        let relation =
            self.catalog.relation(table).ok_or_else(|| external(self.not_found(table)))?;
        let source = match &relation.kind {
            RelationKind::Table(_) => RelationSource::rows(table, relation),
            RelationKind::Source | RelationKind::Detector => {
                let late_ns = self.emit.late_ns(self.catalog.allowed_lateness_ns(table));
                RelationSource::rows(table, relation).with_late(late_ns)
            }
            RelationKind::View(text) => {
                let plan = self.view(table, text)?;
                RelationSource {
                    scan: Scan {
                        relation: table.to_string(),
                        stream: ScanStream::Rows,
                        late_ns: 0,
                    },
                    is_source: false,
                    schema: Arc::clone(plan.schema().inner()),
                    time: None,
                    window_bounds: Vec::new(),
                    table: None,
                    inlined: Some(plan),
                }
            }
            RelationKind::Sink => {
                return Err(external(
                    SqlError::query(format!("sink \"{table}\" cannot be read"))
                        .hint("read what flows into it"),
                ));
            }
        };
        Ok(Arc::new(source))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planner.expr_planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.planner.relation_planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        if name == ASOF {
            return Some(asof());
        }
        self.planner.functions.scalar.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.planner.functions.aggregate.get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.planner.functions.window.get(name).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.planner.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.planner.functions.scalar.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.planner.functions.aggregate.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
