//! DataFusion's errors in our form: what, where, and what would be right.

use std::ops::ControlFlow;

use datafusion_common::{Column, DataFusionError, Diagnostic, SchemaError};
use driftline_operators::options::nearest_name;
use sqlparser::ast::{Expr, Query, Spanned, TableFactor, Visit, Visitor};

use super::context::list;
use crate::error::{Position, SqlError};
use crate::parse::{fold, position};

/// Turns an error around; `query` is where places are looked up.
pub(super) fn convert(error: DataFusionError, query: &Query) -> SqlError {
    locate(unwrap(error), query)
}

/// Looks for the place of an error that does not know it, by the name that it quotes.
pub(super) fn locate(error: SqlError, query: &Query) -> SqlError {
    if error.position().is_some() || error.message().starts_with("in view ") {
        return error;
    }
    let place = quoted(error.message()).and_then(|name| find(name, query));
    error.at(place).at(position(query.body.span()))
}

/// Whether an error is about an expression that it does not name.
pub(super) fn names_nothing(error: &SqlError) -> bool {
    error.position().is_none()
        && ["cannot compute ", "unsupported SQL type "]
            .iter()
            .any(|start| error.message().starts_with(start))
}

pub(super) fn unwrap(error: DataFusionError) -> SqlError {
    match error {
        DataFusionError::External(source) => match source.downcast::<SqlError>() {
            Ok(error) => *error,
            Err(other) => SqlError::query(polish(&other.to_string())),
        },
        DataFusionError::Diagnostic(diagnostic, inner) => {
            let place = diagnostic
                .span
                .map(|span| Position { line: span.start.line, column: span.start.column });
            explain(&diagnostic, unwrap(*inner)).at(place)
        }
        DataFusionError::Context(_, inner) => unwrap(*inner),
        DataFusionError::Collection(errors) => match errors.into_iter().next() {
            Some(first) => unwrap(first),
            None => SqlError::query("query cannot be planned"),
        },
        DataFusionError::Shared(shared) => SqlError::query(polish(&shared.strip_backtrace())),
        DataFusionError::SchemaError(error, _) => schema_error(&error),
        DataFusionError::Internal(message) => signature(&message)
            .unwrap_or_else(|| SqlError::query(polish(message.lines().next().unwrap_or_default()))),
        DataFusionError::NotImplemented(message) => split_hint(SqlError::unsupported, &message),
        DataFusionError::Plan(message) | DataFusionError::Execution(message) => {
            split_hint(SqlError::query, &message)
        }
        DataFusionError::ArrowError(error, _) => SqlError::query(polish(&error.to_string())),
        other => SqlError::query(polish(&other.strip_backtrace())),
    }
}

/// Some of DataFusion's sentences are better said otherwise.
fn explain(diagnostic: &Diagnostic, error: SqlError) -> SqlError {
    if diagnostic.message.contains("must appear in GROUP BY clause") {
        let column = quoted(&diagnostic.message).unwrap_or_default();
        return SqlError::query(format!(
            "column \"{}\" is neither grouped by nor inside an aggregate",
            column.rsplit('.').next().unwrap_or(column)
        ))
        .hint("add it to GROUP BY, or wrap it in an aggregate such as max");
    }
    error
}

fn schema_error(error: &SchemaError) -> SqlError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => not_found(field, valid_fields),
        SchemaError::AmbiguousReference { field } => {
            SqlError::query(format!("column \"{}\" is ambiguous", field.name()))
                .hint("write the relation's name before it")
        }
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => {
            SqlError::query(format!("column \"{name}\" is there twice"))
                .hint("give each column a name of its own, with AS")
        }
    }
}

fn not_found(field: &Column, known: &[Column]) -> SqlError {
    let mut names: Vec<String> = Vec::new();
    for column in known {
        if !names.iter().any(|name| name == column.name()) {
            names.push(column.name().to_owned());
        }
    }
    if let Some(relation) = &field.relation
        && let Some(same) = known.iter().find(|column| column.name() == field.name())
    {
        let error =
            SqlError::query(format!("column \"{}\" not found in \"{relation}\"", field.name()));
        return error.hint(format!("did you mean \"{}\"?", same.flat_name()));
    }
    let error = SqlError::query(format!("column \"{}\" not found", field.name()));
    if matches!(field.name(), "window_start" | "window_end") {
        return error.hint("read TUMBLE(t, ts, size), or GROUP BY tumble(size)");
    }
    match nearest_name(field.name(), names.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean \"{near}\"?")),
        None if names.is_empty() => error,
        None => error.hint(format!("columns are {}", list(&names))),
    }
}

/// Splits off DataFusion's suggestions and ends the sentence where its details begin.
fn split_hint(make: impl Fn(String) -> SqlError, message: &str) -> SqlError {
    let message = message.split("\n\nbacktrace:").next().unwrap_or(message);
    let rename = |text: &str| text.replace('\'', "\"");
    if let Some(rest) = message.strip_prefix("Invalid function '")
        && let Some((name, tail)) = rest.split_once('\'')
    {
        let near = tail.split('\'').nth(1).unwrap_or_default();
        let error = make(format!("function \"{name}\" not found"));
        return match nearest_name(name, [near]) {
            Some(near) => error.hint(format!("did you mean \"{near}\"?")),
            None => error.hint("SHOW FUNCTIONS lists them"),
        };
    }
    if let Some(error) = signature(message).or_else(|| types(message)) {
        return error;
    }
    match message.split_once('\n') {
        Some((first, rest)) => make(polish(first)).hint(rename(&polish(rest))),
        None => make(polish(message)),
    }
}

/// A function called with arguments that it does not take, which DataFusion reports as a bug of its own.
fn signature(message: &str) -> Option<SqlError> {
    let (_, rest) =
        message.split_once("No function matches the given name and argument types '")?;
    let (call, rest) = rest.split_once('\'')?;
    let (name, types) = call.split_once('(')?;
    let error = SqlError::query(format!(
        "function \"{name}\" does not take ({}",
        types.replace("Utf8", "TEXT")
    ));
    let candidates: Vec<&str> =
        rest.lines().skip(1).map(str::trim).filter(|l| l.ends_with(')')).collect();
    if candidates.is_empty() {
        return Some(error);
    }
    Some(error.hint(format!("it takes {}", candidates.join(" or "))))
}

/// Types that do not go together.
fn types(message: &str) -> Option<SqlError> {
    let sql = |name: &str| {
        name.replace("Utf8", "TEXT").replace("Float64", "DOUBLE").replace("Int64", "BIGINT")
    };
    if let Some((_, rest)) = message.split_once("Cannot coerce arithmetic expression ") {
        let operation = rest.split(" to valid types").next().unwrap_or(rest);
        return Some(
            SqlError::query(format!("cannot compute {}", sql(operation)))
                .hint("bring both sides to one type: CAST(column AS DOUBLE)"),
        );
    }
    let (_, rest) = message.split_once("Cannot create filter with non-boolean predicate '")?;
    let (predicate, kind) = rest.split_once("' returning ")?;
    let predicate = predicate.rsplit('.').next().unwrap_or(predicate);
    Some(
        SqlError::query(format!("condition \"{predicate}\" is {}, not a truth value", sql(kind)))
            .hint("compare it with a value"),
    )
}

/// One line, in lower case, without a period at the end.
fn polish(message: &str) -> String {
    let message = message.split("\n\nbacktrace:").next().unwrap_or(message);
    let line: Vec<&str> = message.split_whitespace().collect();
    let line = line.join(" ");
    let mut line = line.trim_end_matches(['.', ' ']);
    for prefix in
        ["Error during planning: ", "Invalid argument error: ", "Cast error: ", "Parser error: "]
    {
        line = line.strip_prefix(prefix).unwrap_or(line);
    }
    let first = line.split(' ').next().unwrap_or_default();
    let is_acronym = first.chars().skip(1).any(|c| c.is_ascii_uppercase());
    let mut letters = line.chars();
    match letters.next() {
        Some(c) if !is_acronym => c.to_lowercase().chain(letters).collect(),
        _ => line.to_owned(),
    }
}

/// The first quoted name of a message.
fn quoted(message: &str) -> Option<&str> {
    let start = message.find(['"', '\''])?;
    let quote = message.get(start..=start)?;
    let rest = message.get(start + 1..)?;
    rest.split_once(quote).map(|(name, _)| name)
}

/// Where a query first names a column or calls a function.
fn find(name: &str, query: &Query) -> Option<Position> {
    struct Find<'a>(&'a str);
    impl Visitor for Find<'_> {
        type Break = Option<Position>;

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
            let ident = match expr {
                Expr::Identifier(ident) => Some(ident),
                Expr::CompoundIdentifier(parts) => parts.last(),
                Expr::Function(function) => function.name.0.last().and_then(|p| p.as_ident()),
                _ => None,
            };
            match ident {
                Some(ident) if fold(&ident.value, ident.quote_style) == self.0 => {
                    ControlFlow::Break(position(ident.span))
                }
                _ => ControlFlow::Continue(()),
            }
        }

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
            let alias = match factor {
                TableFactor::Table { alias, .. }
                | TableFactor::Derived { alias, .. }
                | TableFactor::TableFunction { alias, .. } => alias.as_ref(),
                _ => None,
            };
            match alias {
                Some(alias) if fold(&alias.name.value, alias.name.quote_style) == self.0 => {
                    ControlFlow::Break(position(factor.span()))
                }
                _ => ControlFlow::Continue(()),
            }
        }

        fn pre_visit_relation(
            &mut self,
            relation: &sqlparser::ast::ObjectName,
        ) -> ControlFlow<Self::Break> {
            match relation.0.as_slice() {
                [part]
                    if part.as_ident().is_some_and(|i| fold(&i.value, i.quote_style) == self.0) =>
                {
                    ControlFlow::Break(position(part.span()))
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    query.visit(&mut Find(name)).break_value().flatten()
}
