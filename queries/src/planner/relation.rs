//! The FROM form of windows: `TUMBLE(t, ts, size [, offset])`, `HOP(t, ts, slide, size [, offset])`, Flink's spelling of
//! both, and `LATE(source)`.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::Result as DfResult;
use datafusion_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder};
use driftline_operators::window::WindowSpec;
use sqlparser::ast::{
    Expr as SqlExpr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName,
    Spanned, TableAlias, TableFactor, TableFunctionArgs,
};
use sqlparser::tokenizer::Span;

use super::context::{RelationSource, external, list};
use super::prepare::refuse;
use super::window::WindowNode;
use crate::error::{Result, SqlError};
use crate::lower::Traits;
use crate::parse::{fold, interval_ns, position};

/// Plans windows and side streams in FROM.
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
            "tumble" | "hop" => self.window(context),
            "late" => self.late(context),
            "session" | "cumulate" | "count_window" | "log_keys" => Err(external(
                SqlError::unsupported(format!("{} is not supported yet", self.name.to_uppercase()))
                    .at(position(self.span))
                    .hint("windows are TUMBLE(t, ts, size) and HOP(t, ts, slide, size)"),
            )),
            name => Err(external(
                SqlError::query(format!("table function \"{name}\" not found"))
                    .at(position(self.span))
                    .hint("functions in FROM are TUMBLE, HOP and LATE"),
            )),
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

    fn window(&self, context: &mut dyn RelationPlannerContext) -> DfResult<LogicalPlan> {
        let args = self.arguments().map_err(external)?;
        let window = args.spec(self.span).map_err(external)?;
        let input = context.plan(factor(args.relation).map_err(external)?)?;
        let traits = Traits::of(&input);
        let named = match args.time {
            Some(time) => {
                let span = time.span();
                match context.sql_to_expr(time.clone(), input.schema())? {
                    Expr::Column(column) => Some((input.schema().index_of_column(&column)?, span)),
                    _ => {
                        return Err(external(
                            SqlError::query("event time of a window is not a column")
                                .at(position(span))
                                .hint(
                                    "name the event-time column of the relation, or leave it away",
                                ),
                        ));
                    }
                }
            }
            None => None,
        };
        let time = self.time(&traits, named, &input).map_err(external)?;
        self.check_unit(window, input.schema().field(time).data_type()).map_err(external)?;
        let node = WindowNode::try_new(input, time, window)?;
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
            return Err(SqlError::query("relation under the window has no event time")
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

    /// Bounds must be whole numbers of the column's unit, or they would be rounded.
    fn check_unit(&self, window: WindowSpec, kind: &DataType) -> Result<()> {
        let unit_ns = match kind {
            DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
            DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
            DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
            DataType::Timestamp(TimeUnit::Nanosecond, _) => 1,
            _ => {
                return Err(SqlError::query(format!("event time of the window is a {kind}"))
                    .at(position(self.span))
                    .hint("event time is a TIMESTAMP"));
            }
        };
        let lengths = [window.size_ns(), window.slide_ns(), window.offset_ns()];
        if lengths.iter().all(|ns| ns % unit_ns == 0) {
            return Ok(());
        }
        Err(SqlError::query("window is finer than its event-time column")
            .at(position(self.span))
            .hint(format!("the column is a {kind}: use whole units of it")))
    }

    fn arguments(&self) -> Result<WindowArguments<'_>> {
        let hint = usage(&self.name);
        let problem = |message: String, span: Span| {
            SqlError::query(message).at(position(span)).at(position(self.span)).hint(hint)
        };
        let (mut plain, mut named) = (Vec::new(), Vec::new());
        for arg in &self.args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if named.is_empty() => {
                    plain.push(expr);
                }
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => {
                    named.push((fold(&name.value, name.quote_style), expr));
                }
                FunctionArg::ExprNamed {
                    name: SqlExpr::Identifier(name),
                    arg: FunctionArgExpr::Expr(expr),
                    ..
                } => named.push((fold(&name.value, name.quote_style), expr)),
                other => {
                    return Err(problem(
                        format!("window does not take \"{other}\""),
                        Span::empty(),
                    ));
                }
            }
        }
        let mut plain = plain.into_iter();
        let mut take = |names: &[&str]| {
            plain.next().or_else(|| {
                let index = named.iter().position(|(name, _)| names.contains(&name.as_str()))?;
                Some(named.remove(index).1)
            })
        };
        let relation = take(&["data"])
            .ok_or_else(|| problem("window has no relation".to_owned(), self.span))?;
        let mut next = take(&["timecol"]);
        let time = match next {
            Some(expr) if !is_interval(expr) => {
                next = None;
                Some(descriptor(expr).ok_or_else(|| {
                    problem("event time of a window is not a column".to_owned(), expr.span())
                })?)
            }
            _ => None,
        };
        let mut lengths = Vec::new();
        for names in [&["slide"], &["size"], &["offset"]] {
            if self.name == "tumble" && names == &["slide"] {
                continue;
            }
            let length = next.take().or_else(|| take(names.as_slice()));
            if let Some(expr) = length {
                lengths.push((interval_ns(expr).map_err(|e| e.at(position(self.span)))?, expr));
            } else if names != &["offset"] {
                return Err(problem(format!("window has no {}", names[0]), self.span));
            }
        }
        if let Some(extra) = take(&[]) {
            return Err(problem("window has too many arguments".to_owned(), extra.span()));
        }
        if let Some((name, expr)) = named.first() {
            return Err(problem(format!("window has no argument \"{name}\""), expr.span()));
        }
        let is_hop = self.name == "hop";
        Ok(WindowArguments { relation, time, lengths, is_hop })
    }
}

/// The arguments of a window, sorted out.
struct WindowArguments<'a> {
    relation: &'a SqlExpr,
    time: Option<SqlExpr>,
    /// Slide for a hop, size, and maybe offset.
    lengths: Vec<(i64, &'a SqlExpr)>,
    is_hop: bool,
}

impl WindowArguments<'_> {
    fn spec(&self, span: Span) -> Result<WindowSpec> {
        let length = |i: usize| self.lengths.get(i).map_or(0, |(ns, _)| *ns);
        let spec = if self.is_hop {
            WindowSpec::hop(length(0), length(1), length(2))
        } else {
            WindowSpec::tumble(length(0), length(1))
        };
        spec.map_err(|error| {
            let place = self.lengths.first().and_then(|(_, expr)| position(expr.span()));
            let described = SqlError::query(error.to_string()).at(place).at(position(span));
            match error.hint() {
                Some(hint) => described.hint(hint),
                None => described,
            }
        })
    }
}

fn usage(name: &str) -> &'static str {
    if name == "hop" {
        "write HOP(t, ts, slide, size [, offset]), or GROUP BY hop(slide, size)"
    } else {
        "write TUMBLE(t, ts, size [, offset]), or GROUP BY tumble(size)"
    }
}

fn single(name: &ObjectName) -> Option<&Ident> {
    match name.0.as_slice() {
        [part] => part.as_ident(),
        _ => None,
    }
}

fn is_interval(expr: &SqlExpr) -> bool {
    match expr {
        SqlExpr::Interval(_) => true,
        SqlExpr::Nested(inner) => is_interval(inner),
        _ => false,
    }
}

/// The column of `DESCRIPTOR(ts)` or of plain `ts`.
fn descriptor(expr: &SqlExpr) -> Option<SqlExpr> {
    match expr {
        SqlExpr::Identifier(_) | SqlExpr::CompoundIdentifier(_) => Some(expr.clone()),
        SqlExpr::Nested(inner) => descriptor(inner),
        SqlExpr::Function(Function { name, args: FunctionArguments::List(list), .. }) => {
            let is_descriptor =
                single(name).is_some_and(|ident| ident.value.eq_ignore_ascii_case("descriptor"));
            match list.args.as_slice() {
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(inner))] if is_descriptor => {
                    descriptor(inner)
                }
                _ => None,
            }
        }
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
