//! `LOG_KEYS(relation, message [, session => column] [, option => value])` in FROM: its arguments, and the node of the
//! logical plan. `LOG_TEMPLATES` takes the same.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion_common::{DFSchema, DFSchemaRef, DataFusionError, Result as DfResult};
use datafusion_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use driftline_operators::error::OperatorError;
use driftline_operators::logs::{LogKeyOptions, LogKeyOutput, LogKeyPlan};
use driftline_operators::options::{OptionValue, Options};
use sqlparser::ast::{Expr as SqlExpr, FunctionArg, Spanned, UnaryOperator, Value};
use sqlparser::tokenizer::Span;

use super::arguments::Argument;
use crate::error::{Result, SqlError};
use crate::parse::{interval_ns, position};

const USAGE: &str =
    "write LOG_KEYS(relation, message [, session => column] [, parser => 'spell', ...])";

/// The arguments, sorted out.
pub(super) struct LogKeyArguments<'a> {
    span: Span,
    pub(super) relation: &'a SqlExpr,
    pub(super) message: &'a SqlExpr,
    /// Columns that tell sessions apart.
    pub(super) session: Vec<&'a SqlExpr>,
    pub(super) options: Options,
    /// Where each option stands.
    places: Vec<(String, Span)>,
}

impl<'a> LogKeyArguments<'a> {
    pub(super) fn read(span: Span, args: &'a [FunctionArg]) -> Result<Self> {
        let problem = |message: String, place: Span| {
            SqlError::query(message).at(position(place)).at(position(span)).hint(USAGE)
        };
        let (mut plain, mut session) = (Vec::new(), Vec::new());
        let (mut options, mut places) = (Options::new(), Vec::<(String, Span)>::new());
        for arg in args {
            match Argument::of(arg) {
                Some(Argument { name: None, value: Some(expr) }) if places.is_empty() => {
                    plain.push(expr);
                }
                Some(Argument { name: Some(name), value: Some(expr) }) => {
                    if places.iter().any(|(other, _)| *other == name) {
                        return Err(problem(
                            format!("option \"{name}\" is given twice"),
                            expr.span(),
                        ));
                    }
                    if name == "session" {
                        session = match expr {
                            SqlExpr::Tuple(columns) => columns.iter().collect(),
                            SqlExpr::Nested(inner) => vec![&**inner],
                            other => vec![other],
                        };
                    } else {
                        let value = option_value(expr).ok_or_else(|| {
                            let message = format!("option \"{name}\" is not a constant");
                            problem(message, expr.span())
                                .hint("options are text, numbers, TRUE or FALSE, or INTERVAL '...'")
                        })?;
                        options.set(&name, value);
                    }
                    places.push((name, expr.span()));
                }
                _ => {
                    return Err(problem(
                        format!("LOG_KEYS does not take \"{arg}\""),
                        Span::empty(),
                    ));
                }
            }
        }
        match plain.as_slice() {
            [relation, message] => Ok(Self { span, relation, message, session, options, places }),
            [_, _, extra, ..] => {
                Err(problem("LOG_KEYS has too many arguments".into(), extra.span()))
            }
            [_] => Err(problem("LOG_KEYS has no message".into(), span)),
            [] => Err(problem("LOG_KEYS has no relation".into(), span)),
        }
    }

    /// An error at a place among the arguments.
    pub(super) fn problem(&self, message: String, place: Span) -> SqlError {
        SqlError::query(message).at(position(place)).at(position(self.span)).hint(USAGE)
    }

    /// An error of the operator at the argument that it is about.
    pub(super) fn place(&self, error: LogKeyError) -> SqlError {
        let error = match error {
            LogKeyError::Operator(error) => error,
            LogKeyError::Plan(error) => {
                return SqlError::query(error.strip_backtrace()).at(position(self.span));
            }
        };
        let place = match &error {
            OperatorError::Option { option, .. } => {
                let found = self.places.iter().find(|(name, _)| name == option);
                // A format that cannot be read is named by its text.
                let format = || self.places.iter().find(|(name, _)| name == "format");
                found.or_else(format).map_or(self.span, |(_, span)| *span)
            }
            OperatorError::Columns { .. } => self.message.span(),
            _ => self.span,
        };
        let described =
            SqlError::query(error.to_string()).at(position(place)).at(position(self.span));
        match error.hint() {
            Some(hint) => described.hint(hint),
            None => described,
        }
    }
}

/// The constant that an expression spells, if it is one.
fn option_value(expr: &SqlExpr) -> Option<OptionValue> {
    let number = |digits: &str| match digits.parse::<i64>() {
        Ok(whole) => Some(OptionValue::Integer(whole)),
        Err(_) => digits.parse::<f64>().ok().filter(|x| x.is_finite()).map(OptionValue::Number),
    };
    match expr {
        SqlExpr::Nested(inner) => option_value(inner),
        SqlExpr::Interval(_) => interval_ns(expr).ok().map(OptionValue::Interval),
        SqlExpr::UnaryOp { op: UnaryOperator::Minus, expr } => match &**expr {
            SqlExpr::Value(value) => match &value.value {
                Value::Number(digits, _) => number(&format!("-{digits}")),
                _ => None,
            },
            _ => None,
        },
        SqlExpr::Value(value) => match &value.value {
            Value::Number(digits, _) => number(digits),
            Value::Boolean(boolean) => Some(OptionValue::Boolean(*boolean)),
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => {
                Some(OptionValue::Text(text.clone()))
            }
            Value::DollarQuotedString(text) => Some(OptionValue::Text(text.value.clone())),
            _ => None,
        },
        SqlExpr::Identifier(word) => Some(OptionValue::Text(word.value.clone())),
        _ => None,
    }
}

/// Indexes of the columns that are read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LogKeyColumns {
    pub(crate) message: usize,
    pub(crate) time: usize,
    pub(crate) session: Vec<usize>,
}

/// Why there is no node.
pub(crate) enum LogKeyError {
    Operator(OperatorError),
    Plan(DataFusionError),
}

impl From<OperatorError> for LogKeyError {
    fn from(error: OperatorError) -> Self {
        Self::Operator(error)
    }
}

impl From<DataFusionError> for LogKeyError {
    fn from(error: DataFusionError) -> Self {
        Self::Plan(error)
    }
}

/// Appends the keys of lines to rows, or gives what becomes of templates.
#[derive(Clone, Debug)]
pub(crate) struct LogKeyNode {
    pub(crate) input: LogicalPlan,
    pub(crate) columns: LogKeyColumns,
    pub(crate) output: LogKeyOutput,
    options: Options,
    pub(crate) plan: LogKeyPlan,
    schema: DFSchemaRef,
}

impl LogKeyNode {
    pub(crate) fn try_new(
        input: LogicalPlan,
        columns: LogKeyColumns,
        options: Options,
        output: LogKeyOutput,
    ) -> std::result::Result<Self, LogKeyError> {
        let from = input.schema();
        let plan = LogKeyPlan::new(
            from.inner(),
            columns.message,
            columns.time,
            &columns.session,
            LogKeyOptions::new(&options)?,
        )?;
        let (kept, all): (Vec<usize>, _) = match output {
            LogKeyOutput::Rows => ((0..from.fields().len()).collect(), plan.output_schema()),
            LogKeyOutput::Templates => (vec![columns.time], plan.changes_schema()),
        };
        let mut fields: Vec<_> = kept
            .iter()
            .map(|&index| {
                let (qualifier, field) = from.qualified_field(index);
                (qualifier.cloned(), Arc::clone(field))
            })
            .collect();
        let appended = all.fields().iter().skip(kept.len());
        fields.extend(appended.map(|field| (None, Arc::clone(field))));
        let schema = Arc::new(DFSchema::new_with_metadata(fields, from.metadata().clone())?);
        Ok(Self { input, columns, output, options, plan, schema })
    }
}

impl PartialEq for LogKeyNode {
    fn eq(&self, other: &Self) -> bool {
        self.columns == other.columns
            && self.output == other.output
            && self.options == other.options
            && self.input == other.input
    }
}

impl Eq for LogKeyNode {}

impl PartialOrd for LogKeyNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl Hash for LogKeyNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.columns.hash(state);
        self.output.hash(state);
        self.options.to_string().hash(state);
        self.input.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for LogKeyNode {
    fn name(&self) -> &'static str {
        "LogKeys"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogKeys: {}", self.options)
    }

    fn with_exprs_and_inputs(
        &self,
        _exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> DfResult<Self> {
        let input = inputs
            .pop()
            .ok_or_else(|| DataFusionError::Internal("LOG_KEYS has no input".to_owned()))?;
        Self::try_new(input, self.columns.clone(), self.options.clone(), self.output).map_err(
            |error| match error {
                LogKeyError::Operator(error) => DataFusionError::External(Box::new(error)),
                LogKeyError::Plan(error) => error,
            },
        )
    }
}
