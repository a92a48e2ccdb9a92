//! Functions in FROM: windows such as `TUMBLE(t, ts, size [, offset])`, in Flink's spelling too, `LATE(source)`, and
//! `LOG_KEYS(source, message)`.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::Result as DfResult;
use datafusion_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder};
use driftline_operators::logs::LogKeyOutput;
use driftline_operators::window::{TimeType, Window};
use sqlparser::ast::{
    Expr as SqlExpr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName,
    Spanned, TableAlias, TableFactor, TableFunctionArgs,
};
use sqlparser::tokenizer::Span;

use super::arguments::{PartitionArgument, Shape, WindowArguments};
use super::context::{RelationSource, external, list};
use super::log_keys::{LogKeyArguments, LogKeyColumns, LogKeyNode};
use super::prepare::refuse;
use super::window::{Partition, WindowNode, Windowing};
use crate::error::{Result, SqlError};
use crate::lower::Traits;
use crate::parse::{fold, position};

const FUNCTIONS_HINT: &str = "functions in FROM are TUMBLE, HOP, CUMULATE, SESSION, COUNT_WINDOW, LATE, LOG_KEYS and LOG_TEMPLATES";

/// Plans windows, side streams and log keys in FROM.
#[derive(Debug)]
pub(super) struct WindowRelations;

impl RelationPlanner for WindowRelations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        match Call::read(relation) {
            Ok(call) => {
                let plan = call.plan(context)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, call.alias))))
            }
            Err(other) => Ok(RelationPlanning::Original(other)),
        }
    }
}

/// A function call in FROM.
struct Call {
    name: String,
    span: Span,
    args: Vec<FunctionArg>,
    alias: Option<TableAlias>,
}

impl Call {
    /// Takes a call apart, or hands the relation back.
    fn read(relation: TableFactor) -> std::result::Result<Self, Box<TableFactor>> {
        match relation {
            TableFactor::Table { ref name, args: Some(ref args), ref alias, .. } => {
                match single(name) {
                    Some(ident) => Ok(Self {
                        name: fold(&ident.value, ident.quote_style),
                        span: ident.span,
                        args: args.args.clone(),
                        alias: alias.clone(),
                    }),
                    None => Err(Box::new(relation)),
                }
            }
            TableFactor::TableFunction { expr: SqlExpr::Function(ref function), ref alias } => {
                match (single(&function.name), &function.args) {
                    (Some(ident), FunctionArguments::List(list)) => Ok(Self {
                        name: fold(&ident.value, ident.quote_style),
                        span: ident.span,
                        args: list.args.clone(),
                        alias: alias.clone(),
                    }),
                    _ => Err(Box::new(relation)),
                }
            }
            other => Err(Box::new(other)),
        }
    }

    fn plan(&self, context: &mut dyn RelationPlannerContext) -> DfResult<LogicalPlan> {
        match self.name.as_str() {
            "late" => self.late(context),
            "log_keys" => self.log_keys(LogKeyOutput::Rows, context),
            "log_templates" => self.log_keys(LogKeyOutput::Templates, context),
            name => match Shape::of(name) {
                Some(shape) => self.window(shape, context),
                None => Err(external(
                    SqlError::query(format!("table function \"{name}\" not found"))
                        .at(position(self.span))
                        .hint(FUNCTIONS_HINT),
                )),
            },
        }
    }

    /// The rows that a source could not take.
    fn late(&self, context: &mut dyn RelationPlannerContext) -> DfResult<LogicalPlan> {
        let problem = || {
            external(
                SqlError::query("LATE takes the name of one source")
                    .at(position(self.span))
                    .hint("write FROM LATE(source)"),
            )
        };
        let [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] = self.args.as_slice() else {
            return Err(problem());
        };
        let LogicalPlan::TableScan(scan) = context.plan(factor(argument).map_err(external)?)?
        else {
            return Err(problem());
        };
        match scan.source.downcast_ref::<RelationSource>().and_then(RelationSource::late) {
            Some(late) => LogicalPlanBuilder::scan(scan.table_name, Arc::new(late), None)?.build(),
            None => Err(problem()),
        }
    }

    fn window(
        &self,
        shape: Shape,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<LogicalPlan> {
        let args = WindowArguments::read(shape, self.span, &self.args).map_err(external)?;
        let window = args.window(self.span).map_err(external)?;
        let input = context.plan(factor(args.relation).map_err(external)?)?;
        let traits = Traits::of(&input);
        let mut column = |expr: SqlExpr, what: &str| -> DfResult<(usize, Span)> {
            let span = expr.span();
            match context.sql_to_expr(expr, input.schema())? {
                Expr::Column(column) => Ok((input.schema().index_of_column(&column)?, span)),
                _ => Err(external(
                    SqlError::query(format!("{what} of a window is not a column"))
                        .at(position(span))
                        .hint(shape.usage()),
                )),
            }
        };
        let named = args.time.map(|time| column(time, "event time")).transpose()?;
        let partition = match args.partition {
            PartitionArgument::GroupKeys => Partition::GroupKeys,
            PartitionArgument::Columns(columns) => Partition::Columns(
                columns
                    .into_iter()
                    .map(|expr| Ok(column(expr, "PARTITION BY")?.0))
                    .collect::<DfResult<_>>()?,
            ),
        };
        let time = self.time(&traits, named, &input).map_err(external)?;
        self.check_unit(window, input.schema().field(time).data_type()).map_err(external)?;
        let node = WindowNode::try_new(input, time, Windowing { window, partition })?;
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }

    /// The lines of a relation with their keys, or what becomes of their templates.
    fn log_keys(
        &self,
        output: LogKeyOutput,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<LogicalPlan> {
        let args = LogKeyArguments::read(self.span, &self.args).map_err(external)?;
        let input = context.plan(factor(args.relation).map_err(external)?)?;
        let mut column = |expr: &SqlExpr, what: &str| -> DfResult<(usize, Span)> {
            let span = expr.span();
            match context.sql_to_expr(expr.clone(), input.schema())? {
                Expr::Column(column) => Ok((input.schema().index_of_column(&column)?, span)),
                _ => Err(external(args.problem(format!("{what} is not a column"), span))),
            }
        };
        let (message, _) = column(args.message, "message of LOG_KEYS")?;
        let session = args.session.iter().map(|expr| Ok(column(expr, "session of LOG_KEYS")?.0));
        let session = session.collect::<DfResult<_>>()?;
        let traits = Traits::of(&input);
        let time = self.time(&traits, None, &input).map_err(external)?;
        let columns = LogKeyColumns { message, time, session };
        let node = LogKeyNode::try_new(input, columns, args.options.clone(), output)
            .map_err(|error| external(args.place(error)))?;
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }

    /// Index of the event-time column.
    fn time(
        &self,
        traits: &Traits,
        named: Option<(usize, Span)>,
        input: &LogicalPlan,
    ) -> Result<usize> {
        let name = |index: usize| input.schema().field(index).name().clone();
        let Some(first) = traits.times.first() else {
            return Err(SqlError::query(format!("relation under {} has no event time", self.what()))
                .at(position(named.map_or(self.span, |(_, span)| span)))
                .hint(
                    "add WATERMARK FOR ts AS ts - INTERVAL '10 seconds' to CREATE SOURCE, and keep the column in subqueries \
                     and views without computing on it",
                ));
        };
        let Some((index, span)) = named else { return Ok(first.index) };
        if traits.times.iter().any(|time| time.index == index) {
            return Ok(index);
        }
        let known: Vec<String> = traits.times.iter().map(|time| name(time.index)).collect();
        Err(SqlError::query(format!("column \"{}\" is not the event time", name(index)))
            .at(position(span))
            .hint(format!("event time is {}", list(&known))))
    }

    /// What the call is, in words.
    fn what(&self) -> &'static str {
        match self.name.as_str() {
            "log_keys" => "LOG_KEYS",
            "log_templates" => "LOG_TEMPLATES",
            _ => "the window",
        }
    }

    /// Bounds must be whole numbers of the column's unit, or they would be rounded.
    fn check_unit(&self, window: Window, kind: &DataType) -> Result<()> {
        let time = TimeType::new(kind).map_err(|_| {
            SqlError::query(format!("event time of the window is a {kind}"))
                .at(position(self.span))
                .hint("event time is a TIMESTAMP")
        })?;
        time.check(&window).map_err(|_| {
            SqlError::query("window is finer than its event-time column")
                .at(position(self.span))
                .hint(format!("the column is a {kind}: use whole units of it"))
        })
    }
}

pub(super) fn single(name: &ObjectName) -> Option<&Ident> {
    match name.0.as_slice() {
        [part] => part.as_ident(),
        _ => None,
    }
}

/// A relation that is written where an expression stands.
fn factor(expr: &SqlExpr) -> Result<TableFactor> {
    let table = |name: ObjectName, args: Option<TableFunctionArgs>| TableFactor::Table {
        name,
        alias: None,
        args,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    };
    match expr {
        SqlExpr::Identifier(ident) => Ok(table(ObjectName::from(vec![ident.clone()]), None)),
        SqlExpr::CompoundIdentifier(parts) => Ok(table(ObjectName::from(parts.clone()), None)),
        SqlExpr::Nested(inner) => factor(inner),
        SqlExpr::Subquery(query) => Ok(TableFactor::Derived {
            lateral: false,
            subquery: query.clone(),
            alias: None,
            sample: None,
        }),
        SqlExpr::Function(Function { name, args: FunctionArguments::List(list), .. }) => {
            let args = TableFunctionArgs { args: list.args.clone(), settings: None };
            Ok(table(name.clone(), Some(args)))
        }
        _ => Err(refuse("this expression in place of a relation", expr.span())
            .hint("name a relation, or put a query in parentheses")),
    }
}
