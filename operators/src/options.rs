//! Options: the `name = value` pairs of a WITH clause, and how a kind states which ones it takes.
//!
//! A kind lists [`OptionSpec`]s once. The same list checks what users wrote, fills in defaults, feeds SHOW and
//! EXPLAIN, and tells the conformance suite what to try. Names are case-insensitive and kept in lower case.

mod reader;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use reader::{OptionReader, RowsOrInterval, nearest_name};

/// The value of one option.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OptionValue {
    /// Text, quoted in SQL.
    Text(String),
    /// A number with a fraction.
    Number(f64),
    /// A whole number.
    Integer(i64),
    /// TRUE or FALSE.
    Boolean(bool),
    /// A length of time in nanoseconds.
    Interval(i64),
}

impl OptionValue {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Number(_) => "a number",
            Self::Integer(_) => "an integer",
            Self::Boolean(_) => "a boolean",
            Self::Interval(_) => "an interval",
        }
    }
}

impl fmt::Display for OptionValue {
    /// The value as SQL would spell it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Self::Number(number) => write!(f, "{number:?}"),
            Self::Integer(integer) => write!(f, "{integer}"),
            Self::Boolean(boolean) => f.write_str(if *boolean { "TRUE" } else { "FALSE" }),
            Self::Interval(ns) => write!(f, "INTERVAL '{}'", IntervalText(*ns)),
        }
    }
}

impl From<&str> for OptionValue {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for OptionValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<f64> for OptionValue {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<i64> for OptionValue {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

impl From<bool> for OptionValue {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

impl From<Duration> for OptionValue {
    /// A length beyond 292 years becomes 292 years, which every range refuses.
    fn from(length: Duration) -> Self {
        Self::Interval(i64::try_from(length.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// Nanoseconds written in the largest unit that divides them.
struct IntervalText(i64);

impl fmt::Display for IntervalText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(i64, &str); 7] = [
            (86_400_000_000_000, "day"),
            (3_600_000_000_000, "hour"),
            (60_000_000_000, "minute"),
            (1_000_000_000, "second"),
            (1_000_000, "millisecond"),
            (1_000, "microsecond"),
            (1, "nanosecond"),
        ];
        if self.0 == 0 {
            return f.write_str("0 seconds");
        }
        let (length, unit) =
            UNITS.into_iter().find(|(length, _)| self.0 % length == 0).unwrap_or(UNITS[6]);
        let count = self.0 / length;
        write!(f, "{count} {unit}{}", if count == 1 { "" } else { "s" })
    }
}

/// Options by name, in the order of their names.
///
/// # Examples
/// ```
/// use driftline_operators::options::{OptionValue, Options};
///
/// let options = Options::new().with("Threshold", 5.0).with("history", 288);
/// assert_eq!(options.get("threshold"), Some(&OptionValue::Number(5.0)));
/// assert_eq!(options.to_string(), "history = 288, threshold = 5.0");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Options(BTreeMap<String, OptionValue>);

impl Options {
    /// No options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an option, in place of an earlier value.
    pub fn set(&mut self, name: &str, value: impl Into<OptionValue>) {
        self.0.insert(name.to_lowercase(), value.into());
    }

    /// Sets an option and hands the options on.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OptionValue>) -> Self {
        self.set(name, value);
        self
    }

    /// The value set for `name`, if any.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OptionValue> {
        self.0.get(&name.to_lowercase())
    }

    /// All options, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OptionValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Options {
    /// The inside of a WITH clause.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.iter().enumerate() {
            write!(f, "{}{name} = {value}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// What values an option takes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OptionKind {
    /// A finite number between the bounds. Integers are taken as well.
    Number(Bound<f64>, Bound<f64>),
    /// A whole number between the bounds, both included.
    Integer(i64, i64),
    /// TRUE or FALSE.
    Boolean,
    /// A length of time in nanoseconds between the bounds, both included.
    Interval(i64, i64),
    /// A number of rows, or a length of time: each with its largest value, 0 being the least.
    RowsOrInterval(i64, i64),
    /// One of the words.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
}

impl OptionKind {
    /// Numbers of a range.
    pub fn number(range: impl RangeBounds<f64>) -> Self {
        Self::Number(range.start_bound().cloned(), range.end_bound().cloned())
    }

    /// Numbers above `least`, up to and with `most`.
    #[must_use]
    pub fn number_above(least: f64, most: f64) -> Self {
        Self::Number(Bound::Excluded(least), Bound::Included(most))
    }

    /// The values taken, in words.
    #[must_use]
    pub fn range_text(&self) -> String {
        match self {
            Self::Number(least, most) => {
                let least = match least {
                    Bound::Included(least) => format!("from {least}"),
                    Bound::Excluded(least) => format!("above {least}"),
                    Bound::Unbounded => "any".into(),
                };
                match most {
                    Bound::Included(most) => format!("{least} to {most}"),
                    Bound::Excluded(most) => format!("{least} to below {most}"),
                    Bound::Unbounded => least,
                }
            }
            Self::Integer(least, most) => format!("from {least} to {most}"),
            Self::Boolean => "TRUE or FALSE".into(),
            Self::Interval(least, most) => {
                format!("from {} to {}", IntervalText(*least), IntervalText(*most))
            }
            Self::RowsOrInterval(rows, ns) => {
                format!("from 0 to {rows} rows, or up to INTERVAL '{}'", IntervalText(*ns))
            }
            Self::Choice(words) => format!("'{}'", words.join("', '")),
            Self::Text => "any text".into(),
        }
    }
}

/// One option that a kind takes.
#[derive(Clone, Debug, PartialEq)]
pub struct OptionSpec {
    /// The name, in lower case.
    pub name: &'static str,
    /// The values taken.
    pub kind: OptionKind,
    /// The value where none is given.
    pub default: OptionValue,
    /// What it does, in one sentence.
    pub doc: &'static str,
}

impl OptionSpec {
    /// An option with its default and one sentence about it.
    pub fn new(
        name: &'static str,
        kind: OptionKind,
        default: impl Into<OptionValue>,
        doc: &'static str,
    ) -> Self {
        Self { name, kind, default: default.into(), doc }
    }
}
