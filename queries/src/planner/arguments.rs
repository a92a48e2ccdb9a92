//! The arguments of a window in FROM: by place or by name, in the order of Flink.

use driftline_operators::window::{CountSpec, SessionSpec, Window, WindowSpec};
use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Spanned, Value,
};
use sqlparser::tokenizer::Span;

use super::relation::single;
use crate::error::{Result, SqlError};
use crate::parse::{PARTITION_BY, fold, interval_ns, position};

/// What a window's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Tumble,
    Hop,
    Cumulate,
    Session,
    Count,
}

impl Shape {
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "tumble" => Some(Self::Tumble),
            "hop" => Some(Self::Hop),
            "cumulate" => Some(Self::Cumulate),
            "session" => Some(Self::Session),
            "count_window" => Some(Self::Count),
            _ => None,
        }
    }

    /// Names of the lengths, or numbers of rows, in their order; the last one may be missing.
    fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Tumble => &["size", "offset"],
            Self::Hop => &["slide", "size", "offset"],
            Self::Cumulate => &["step", "size", "offset"],
            Self::Session => &["gap"],
            Self::Count => &["rows", "every"],
        }
    }

    /// How many of them must be there.
    fn required(self) -> usize {
        match self {
            Self::Session => 1,
            other => other.parameters().len() - 1,
        }
    }

    /// How the window is written.
    pub(super) fn usage(self) -> &'static str {
        match self {
            Self::Tumble => "write TUMBLE(t, ts, size [, offset]), or GROUP BY tumble(size)",
            Self::Hop => "write HOP(t, ts, slide, size [, offset]), or GROUP BY hop(slide, size)",
            Self::Cumulate => {
                "write CUMULATE(t, ts, step, size [, offset]), or GROUP BY cumulate(step, size)"
            }
            Self::Session => {
                "write SESSION(t, ts, gap [PARTITION BY k]), or GROUP BY k, session(gap)"
            }
            Self::Count => {
                "write COUNT_WINDOW(t, rows [, every] [PARTITION BY k]), or GROUP BY k, count_window(rows)"
            }
        }
    }
}

/// The arguments of a window, sorted out.
pub(super) struct WindowArguments<'a> {
    shape: Shape,
    pub(super) relation: &'a Expr,
    pub(super) time: Option<Expr>,
    /// Lengths in nanoseconds, or numbers of rows, in the order of the shape's parameters.
    values: Vec<(i64, &'a Expr)>,
    pub(super) partition: PartitionArgument,
}

/// What stands behind PARTITION BY.
pub(super) enum PartitionArgument {
    /// All that the query groups by.
    GroupKeys,
    Columns(Vec<Expr>),
}

impl<'a> WindowArguments<'a> {
    pub(super) fn read(shape: Shape, span: Span, args: &'a [FunctionArg]) -> Result<Self> {
        let problem = |message: String, place: Span| {
            SqlError::query(message).at(position(place)).at(position(span)).hint(shape.usage())
        };
        let (mut plain, mut named) = (Vec::new(), Vec::new());
        let mut partition = PartitionArgument::Columns(Vec::new());
        for arg in args {
            match Argument::of(arg) {
                Some(Argument { name: None, value: Some(expr) }) if named.is_empty() => {
                    plain.push(expr);
                }
                Some(Argument { name: Some(name), value }) if name == PARTITION_BY => {
                    if matches!(shape, Shape::Tumble | Shape::Hop | Shape::Cumulate) {
                        return Err(problem(
                            "window takes no PARTITION BY".to_owned(),
                            value.map_or(Span::empty(), Spanned::span),
                        )
                        .hint("all keys share its bounds: GROUP BY keeps keys apart"));
                    }
                    partition = match value {
                        Some(columns) => PartitionArgument::Columns(listed(columns)),
                        None => PartitionArgument::GroupKeys,
                    };
                }
                Some(Argument { name: Some(name), value: Some(expr) }) => named.push((name, expr)),
                _ => {
                    return Err(problem(format!("window does not take \"{arg}\""), Span::empty()));
                }
            }
        }
        let mut plain = plain.into_iter();
        let mut take = |name: Option<&str>| {
            plain.next().or_else(|| {
                let index = named.iter().position(|(other, _)| Some(other.as_str()) == name)?;
                Some(named.remove(index).1)
            })
        };
        let relation =
            take(Some("data")).ok_or_else(|| problem("window has no relation".to_owned(), span))?;
        let mut next = take(Some("timecol"));
        let time = match next {
            Some(expr) if !is_value(expr, shape) => {
                next = None;
                Some(descriptor(expr).ok_or_else(|| {
                    problem("event time of a window is not a column".to_owned(), expr.span())
                })?)
            }
            _ => None,
        };
        let mut values = Vec::new();
        for (index, name) in shape.parameters().iter().enumerate() {
            if let Some(expr) = next.take().or_else(|| take(Some(*name))) {
                let value = if shape == Shape::Count { row_count(expr) } else { interval_ns(expr) };
                values.push((value.map_err(|error| error.at(position(span)))?, expr));
            } else if index < shape.required() {
                return Err(problem(format!("window has no {name}"), span));
            }
        }
        if let Some(extra) = take(None) {
            return Err(problem("window has too many arguments".to_owned(), extra.span()));
        }
        if let Some((name, expr)) = named.first() {
            return Err(problem(format!("window has no argument \"{name}\""), expr.span()));
        }
        Ok(Self { shape, relation, time, values, partition })
    }

    /// The window that they describe.
    pub(super) fn window(&self, span: Span) -> Result<Window> {
        let value = |i: usize| self.values.get(i).map(|(value, _)| *value);
        let length = |i: usize| value(i).unwrap_or(0);
        let rows = |i: usize| value(i).unwrap_or(length(0)).unsigned_abs();
        let window = match self.shape {
            Shape::Tumble => WindowSpec::tumble(length(0), length(1)).map(Window::Aligned),
            Shape::Hop => WindowSpec::hop(length(0), length(1), length(2)).map(Window::Aligned),
            Shape::Cumulate => {
                WindowSpec::cumulate(length(0), length(1), length(2)).map(Window::Aligned)
            }
            Shape::Session => SessionSpec::new(length(0)).map(Window::Session),
            Shape::Count => CountSpec::new(rows(0), rows(1)).map(Window::Count),
        };
        window.map_err(|error| {
            let place = self.values.first().and_then(|(_, expr)| position(expr.span()));
            let described = SqlError::query(error.to_string()).at(place).at(position(span));
            match error.hint() {
                Some(hint) => described.hint(hint),
                None => described,
            }
        })
    }
}

/// One argument: by name or by place, and what it is, unless it is `*`.
pub(super) struct Argument<'a> {
    pub(super) name: Option<String>,
    pub(super) value: Option<&'a Expr>,
}

impl<'a> Argument<'a> {
    pub(super) fn of(arg: &'a FunctionArg) -> Option<Self> {
        let folded = |name: &Ident| Some(fold(&name.value, name.quote_style));
        let (name, value) = match arg {
            FunctionArg::Unnamed(value) => (None, value),
            FunctionArg::Named { name, arg, .. }
            | FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => {
                (folded(name), arg)
            }
            FunctionArg::ExprNamed { .. } => return None,
        };
        let value = match value {
            FunctionArgExpr::Expr(expr) => Some(expr),
            FunctionArgExpr::Wildcard => None,
            _ => return None,
        };
        Some(Self { name, value })
    }
}

/// Whether an expression is meant as a length or as a number of rows.
fn is_value(expr: &Expr, shape: Shape) -> bool {
    match expr {
        Expr::Interval(_) => true,
        Expr::Value(_) | Expr::UnaryOp { .. } => shape == Shape::Count,
        Expr::Nested(inner) => is_value(inner, shape),
        _ => false,
    }
}

fn row_count(expr: &Expr) -> Result<i64> {
    let number = match expr {
        Expr::Nested(inner) => return row_count(inner),
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    };
    number.ok_or_else(|| {
        SqlError::query("expected a number of rows")
            .at(position(expr.span()))
            .hint("write a whole number such as 100")
    })
}

/// Columns in parentheses, or one without.
fn listed(expr: &Expr) -> Vec<Expr> {
    match expr {
        Expr::Tuple(columns) => columns.clone(),
        Expr::Nested(inner) => listed(inner),
        other => vec![descriptor(other).unwrap_or_else(|| other.clone())],
    }
}

/// The column of `DESCRIPTOR(ts)` or of plain `ts`.
fn descriptor(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => Some(expr.clone()),
        Expr::Nested(inner) => descriptor(inner),
        Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) => {
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
