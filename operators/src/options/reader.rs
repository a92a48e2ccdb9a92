//! Reads options against the specs of their owner: unknown names, other types and values out of range are refused.

use std::ops::Bound;

use super::{OptionKind, OptionSpec, OptionValue, Options};
use crate::error::{OperatorError, Result};

/// A number of rows or a length of time, for options that take either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsOrInterval {
    /// A number of rows.
    Rows(i64),
    /// Nanoseconds.
    Interval(i64),
}

/// Checked options: every value is of its type and in its range, and defaults fill the gaps.
///
/// # Examples
/// ```
/// use driftline_operators::options::{OptionKind, OptionReader, OptionSpec, Options};
///
/// let specs = [OptionSpec::new("alpha", OptionKind::number_above(0.0, 1.0), 0.1, "Smoothing.")];
/// let reader = OptionReader::new("detector kind \"ewma\"", &Options::new(), &specs).unwrap();
/// assert_eq!(reader.number("alpha"), 0.1);
///
/// let options = Options::new().with("alhpa", 0.5);
/// let error = OptionReader::new("detector kind \"ewma\"", &options, &specs).unwrap_err();
/// assert_eq!(error.to_string(), "option \"alhpa\" of detector kind \"ewma\" is unknown");
/// assert_eq!(error.hint(), Some("did you mean \"alpha\"? known options: alpha"));
/// ```
#[derive(Clone, Debug)]
pub struct OptionReader {
    owner: String,
    values: Vec<(&'static str, OptionValue)>,
}

impl OptionReader {
    /// Checks all of `options` against `specs`. The owner is named in errors, such as `detector kind "ewma"`.
    ///
    /// # Errors
    /// If an option is not among the specs, of another type, or out of range.
    pub fn new(owner: impl Into<String>, options: &Options, specs: &[OptionSpec]) -> Result<Self> {
        let owner = owner.into();
        for (name, _) in options.iter() {
            if !specs.iter().any(|spec| spec.name == name) {
                return Err(unknown(owner, name, specs));
            }
        }
        let values = specs
            .iter()
            .map(|spec| {
                let given = options.get(spec.name).unwrap_or(&spec.default);
                Ok((spec.name, check(&owner, spec, given)?))
            })
            .collect::<Result<_>>()?;
        Ok(Self { owner, values })
    }

    /// The owner named in errors.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Every option with its settled value, in the order of the specs.
    pub fn settled(&self) -> impl Iterator<Item = (&'static str, &OptionValue)> {
        self.values.iter().map(|(name, value)| (*name, value))
    }

    /// The value of a number option.
    ///
    /// # Panics
    /// If the specs hold no number option of this name.
    #[must_use]
    pub fn number(&self, name: &str) -> f64 {
        match self.value(name) {
            OptionValue::Number(number) => *number,
            other => mismatch(name, other),
        }
    }

    /// The value of an integer option.
    ///
    /// # Panics
    /// If the specs hold no integer option of this name.
    #[must_use]
    pub fn integer(&self, name: &str) -> i64 {
        match self.value(name) {
            OptionValue::Integer(integer) => *integer,
            other => mismatch(name, other),
        }
    }

    /// The value of an integer option whose range has nothing below zero.
    ///
    /// # Panics
    /// If the specs hold no integer option of this name, or its range reaches below zero.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        usize::try_from(self.integer(name)).expect("the range of a count begins at 0 or above")
    }

    /// The value of a boolean option.
    ///
    /// # Panics
    /// If the specs hold no boolean option of this name.
    #[must_use]
    pub fn boolean(&self, name: &str) -> bool {
        match self.value(name) {
            OptionValue::Boolean(boolean) => *boolean,
            other => mismatch(name, other),
        }
    }

    /// The value of an interval option, in nanoseconds.
    ///
    /// # Panics
    /// If the specs hold no interval option of this name.
    #[must_use]
    pub fn interval_ns(&self, name: &str) -> i64 {
        match self.value(name) {
            OptionValue::Interval(ns) => *ns,
            other => mismatch(name, other),
        }
    }

    /// The value of an option that takes rows or an interval.
    ///
    /// # Panics
    /// If the specs hold no such option of this name.
    #[must_use]
    pub fn rows_or_interval(&self, name: &str) -> RowsOrInterval {
        match self.value(name) {
            OptionValue::Integer(rows) => RowsOrInterval::Rows(*rows),
            OptionValue::Interval(ns) => RowsOrInterval::Interval(*ns),
            other => mismatch(name, other),
        }
    }

    /// The value of a text option, or the word of a choice.
    ///
    /// # Panics
    /// If the specs hold no text or choice option of this name.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        match self.value(name) {
            OptionValue::Text(text) => text,
            other => mismatch(name, other),
        }
    }

    /// An error about one option, for checks that involve more than its range.
    #[must_use]
    pub fn refuse(&self, option: &str, problem: String, hint: String) -> OperatorError {
        OperatorError::Option { owner: self.owner.clone(), option: option.into(), problem, hint }
    }

    fn value(&self, name: &str) -> &OptionValue {
        let found = self.values.iter().find(|(known, _)| *known == name);
        &found.expect("a kind reads only options that it has specified").1
    }
}

fn mismatch(name: &str, value: &OptionValue) -> ! {
    panic!("option \"{name}\" was specified as {}", value.type_name())
}

fn unknown(owner: String, name: &str, specs: &[OptionSpec]) -> OperatorError {
    let names: Vec<&str> = specs.iter().map(|spec| spec.name).collect();
    let known = format!("known options: {}", names.join(", "));
    let hint = match nearest_name(name, names.iter().copied()) {
        Some(nearest) => format!("did you mean \"{nearest}\"? {known}"),
        None => known,
    };
    OperatorError::Option { owner, option: name.into(), problem: "is unknown".into(), hint }
}

/// The value in the spec's own type, if it is one of its values.
fn check(owner: &str, spec: &OptionSpec, given: &OptionValue) -> Result<OptionValue> {
    let refuse = |problem: String| {
        Err(OperatorError::Option {
            owner: owner.into(),
            option: spec.name.into(),
            problem,
            hint: format!("give {}; the default is {}", spec.kind.range_text(), spec.default),
        })
    };
    let Some(value) = convert(&spec.kind, given) else {
        return refuse(format!("is {}, which it does not take", given.type_name()));
    };
    let fits = match (&spec.kind, &value) {
        (OptionKind::Number(least, most), OptionValue::Number(x)) => {
            x.is_finite() && is_above(*least, *x) && is_below(*most, *x)
        }
        (OptionKind::Integer(least, most), OptionValue::Integer(x))
        | (OptionKind::Interval(least, most), OptionValue::Interval(x)) => {
            (least..=most).contains(&x)
        }
        (OptionKind::RowsOrInterval(most, _), OptionValue::Integer(x))
        | (OptionKind::RowsOrInterval(_, most), OptionValue::Interval(x)) => {
            (0..=*most).contains(x)
        }
        (OptionKind::Choice(words), OptionValue::Text(word)) => words.contains(&word.as_str()),
        _ => true,
    };
    if fits { Ok(value) } else { refuse(format!("is {given}, outside its range")) }
}

/// Turns whole numbers into numbers and back, and lower-cases the words of a choice; `None` for another type.
fn convert(kind: &OptionKind, given: &OptionValue) -> Option<OptionValue> {
    Some(match (kind, given) {
        (OptionKind::Number(..), OptionValue::Number(x)) => OptionValue::Number(*x),
        #[allow(clippy::cast_precision_loss)] // No option is exact beyond 2^53.
        (OptionKind::Number(..), OptionValue::Integer(x)) => OptionValue::Number(*x as f64),
        (OptionKind::Integer(..) | OptionKind::RowsOrInterval(..), OptionValue::Integer(x)) => {
            OptionValue::Integer(*x)
        }
        #[allow(clippy::cast_possible_truncation)] // Guarded: a whole number below 2^53.
        (OptionKind::Integer(..) | OptionKind::RowsOrInterval(..), OptionValue::Number(x))
            if x.fract() == 0.0 && x.abs() < 9e15 =>
        {
            OptionValue::Integer(*x as i64)
        }
        (OptionKind::Interval(..) | OptionKind::RowsOrInterval(..), OptionValue::Interval(x)) => {
            OptionValue::Interval(*x)
        }
        (OptionKind::Boolean, OptionValue::Boolean(x)) => OptionValue::Boolean(*x),
        (OptionKind::Choice(_), OptionValue::Text(word)) => OptionValue::Text(word.to_lowercase()),
        (OptionKind::Text, OptionValue::Text(text)) => OptionValue::Text(text.clone()),
        _ => return None,
    })
}

fn is_above(bound: Bound<f64>, x: f64) -> bool {
    match bound {
        Bound::Included(least) => x >= least,
        Bound::Excluded(least) => x > least,
        Bound::Unbounded => true,
    }
}

fn is_below(bound: Bound<f64>, x: f64) -> bool {
    match bound {
        Bound::Included(most) => x <= most,
        Bound::Excluded(most) => x < most,
        Bound::Unbounded => true,
    }
}

/// The name closest to `name` by edit distance, if it is close enough to have been meant.
///
/// # Examples
/// ```
/// use driftline_operators::options::nearest_name;
///
/// assert_eq!(nearest_name("treshold", ["history", "threshold"]), Some("threshold"));
/// assert_eq!(nearest_name("colour", ["history", "threshold"]), None);
/// ```
pub fn nearest_name<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = name.chars().count().div_ceil(3);
    known
        .into_iter()
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance over characters, with one row of the table.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}
