//! Lengths of time: `INTERVAL '5 minutes'`, `INTERVAL '5' MINUTE` and `INTERVAL 5 MINUTE`.

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use sqlparser::ast::{Expr, Interval, Spanned, Value};

use super::text::position;
use crate::error::{Result, SqlError};

const DAY_NS: i128 = 86_400 * 1_000_000_000;
const HINT: &str = "write a length of time such as INTERVAL '5 minutes' or INTERVAL '5' MINUTE";

/// The length of an interval in nanoseconds.
///
/// Months and years have no fixed length and are refused; a day has 24 hours.
pub(crate) fn interval_ns(expr: &Expr) -> Result<i64> {
    let problem = |message: String| SqlError::query(message).at(position(expr.span())).hint(HINT);
    let interval = match expr {
        Expr::Interval(interval) => interval,
        Expr::Nested(inner) => return interval_ns(inner),
        _ => return Err(problem("expected an INTERVAL".to_owned())),
    };
    let text = spelled(interval).ok_or_else(|| problem("interval is not a constant".to_owned()))?;
    let parsed = parse_interval_month_day_nano(&text)
        .map_err(|_| problem(format!("interval '{text}' is not understood")))?;
    if parsed.months != 0 {
        return Err(problem(format!("interval '{text}' has months, whose length varies"))
            .hint("write days, hours, minutes or seconds"));
    }
    i64::try_from(i128::from(parsed.days) * DAY_NS + i128::from(parsed.nanoseconds))
        .map_err(|_| problem(format!("interval '{text}' is too long")))
}

fn spelled(interval: &Interval) -> Option<String> {
    let Interval {
        value,
        leading_field,
        leading_precision,
        last_field,
        fractional_seconds_precision,
    } = interval;
    if leading_precision.is_some() || last_field.is_some() || fractional_seconds_precision.is_some()
    {
        return None;
    }
    let Expr::Value(value) = value.as_ref() else { return None };
    let (text, is_number) = match &value.value {
        Value::SingleQuotedString(text) => (text, false),
        Value::Number(text, _) => (text, true),
        _ => return None,
    };
    match leading_field {
        Some(unit) => Some(format!("{text} {unit}")),
        // A bare number would be taken for months.
        None if is_number || text.trim().parse::<f64>().is_ok() => None,
        None => Some(text.clone()),
    }
}
