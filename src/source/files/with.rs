//! The options of `CREATE SOURCE ... WITH (...)` and `CREATE SINK ... WITH (...)` for files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow::datatypes::TimeUnit;

use super::failure::settings;
use super::options::{CsvOptions, FileFormat, FileReadOptions, MalformedPolicy, Pace, ReadOrder};
use crate::error::{Error, Result};

/// The value of one option.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum WithValue {
    /// `'text'`
    Text(String),
    /// `1.5`
    Number(f64),
    /// `true`
    Bool(bool),
}

/// Options by name, as a statement spells them.
pub(crate) type WithOptions = BTreeMap<String, WithValue>;

/// The path and the options of a file source.
///
/// Known are: `path`, `format`, `order` (`'as_they_lie'`, `'event_time'`), `pace` (`'full_speed'`, `'as_recorded'` or
/// a number), `batch_rows`, `rows_in_order_max`, `malformed` (`'skip'`, `'refuse'`), `header`, `delimiter`,
/// `null_text`, `time_unit` (`'s'`, `'ms'`, `'us'`, `'ns'`), `time_column`, and `columns`
/// (`'source_column=file_column, ...'`).
pub(crate) fn source_options(with: &WithOptions) -> Result<(PathBuf, FileReadOptions)> {
    let mut with = Taker::new("file source", with);
    let path = with.path()?;
    let defaults = FileReadOptions::default();
    let options = FileReadOptions {
        format: with.format()?,
        batch_rows: with.whole("batch_rows")?.unwrap_or(defaults.batch_rows),
        order: with
            .choice(
                "order",
                &[("as_they_lie", ReadOrder::AsTheyLie), ("event_time", ReadOrder::EventTime)],
            )?
            .unwrap_or_default(),
        pace: with.pace()?,
        csv: with.csv()?,
        malformed: with.malformed()?.unwrap_or_default(),
        rows_in_order_max: with.whole("rows_in_order_max")?.unwrap_or(defaults.rows_in_order_max),
        columns: with.columns()?,
        time_unit: with.time_unit()?,
        time_column: with.text("time_column")?,
    };
    with.finish()?;
    options.validate()?;
    Ok((path, options))
}

/// The path and the options of a table's file.
///
/// Known are those of a file source that say how a file is read, not those that say when. Malformed rows are refused
/// unless the table says to skip them: a row that is missing would look like one that was never there.
pub(crate) fn table_options(with: &WithOptions) -> Result<(PathBuf, FileReadOptions)> {
    let mut with = Taker::new("table", with);
    let path = with.path()?;
    let options = FileReadOptions {
        format: with.format()?,
        csv: with.csv()?,
        malformed: with.malformed()?.unwrap_or(MalformedPolicy::Refuse),
        columns: with.columns()?,
        time_unit: with.time_unit()?,
        ..FileReadOptions::default()
    };
    with.finish()?;
    options.validate()?;
    Ok((path, options))
}

/// Takes options out of a map one by one; what is left at the end is unknown.
pub(crate) struct Taker<'w> {
    owner: &'static str,
    left: BTreeMap<&'w str, &'w WithValue>,
    known: Vec<&'static str>,
}

impl<'w> Taker<'w> {
    pub(crate) fn new(owner: &'static str, with: &'w WithOptions) -> Self {
        let left = with.iter().map(|(name, value)| (name.as_str(), value)).collect();
        Self { owner, left, known: Vec::new() }
    }

    fn take(&mut self, name: &'static str) -> Option<&'w WithValue> {
        self.known.push(name);
        self.left.remove(name)
    }

    fn wrong(&self, name: &str, value: &WithValue, hint: impl Into<String>) -> Error {
        let value = match value {
            WithValue::Text(text) => format!("'{text}'"),
            WithValue::Number(number) => number.to_string(),
            WithValue::Bool(is) => is.to_string(),
        };
        settings(format!("option \"{name}\" of a {} is {value}", self.owner), hint)
    }

    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(WithValue::Text(text)) => Ok(Some(text.clone())),
            Some(value) => Err(self.wrong(name, value, "write it as text: '...'")),
        }
    }

    pub(crate) fn bool(&mut self, name: &'static str) -> Result<Option<bool>> {
        match self.take(name) {
            None => Ok(None),
            Some(WithValue::Bool(is)) => Ok(Some(*is)),
            Some(value) => Err(self.wrong(name, value, "write true or false")),
        }
    }

    fn whole(&mut self, name: &'static str) -> Result<Option<usize>> {
        match self.take(name) {
            None => Ok(None),
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole and in range"
            )]
            Some(WithValue::Number(number))
                if (1.0..=4_294_967_295.0).contains(number) && number.fract() == 0.0 =>
            {
                Ok(Some(*number as usize))
            }
            Some(value) => {
                Err(self.wrong(name, value, "write a whole number from 1 to 4294967295"))
            }
        }
    }

    pub(crate) fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let chosen = match value {
            WithValue::Text(text) => {
                choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, it)| *it)
            }
            _ => None,
        };
        let words = || choices.iter().map(|(word, _)| format!("'{word}'")).collect::<Vec<_>>();
        match chosen {
            Some(chosen) => Ok(Some(chosen)),
            None => Err(self.wrong(name, value, format!("choose one of {}", words().join(", ")))),
        }
    }

    pub(crate) fn path(&mut self) -> Result<PathBuf> {
        match self.text("path")? {
            Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
            _ => Err(settings(
                format!("a {} has no option \"path\"", self.owner),
                "add path = 'folder/file.csv'",
            )),
        }
    }

    pub(crate) fn format(&mut self) -> Result<Option<FileFormat>> {
        let Some(name) = self.text("format")? else { return Ok(None) };
        let hint = "choose one of 'csv', 'ndjson', 'parquet', 'arrow_ipc'";
        let format = FileFormat::from_name(&name);
        format.map(Some).ok_or_else(|| self.wrong("format", &WithValue::Text(name), hint))
    }

    pub(crate) fn csv(&mut self) -> Result<CsvOptions> {
        let defaults = CsvOptions::default();
        let delimiter = match self.text("delimiter")? {
            None => None,
            Some(text) => match text.as_bytes() {
                [byte] => Some(*byte),
                br"\t" => Some(b'\t'),
                _ => {
                    let hint = "choose one ASCII character, or '\\t' for a tab";
                    return Err(self.wrong("delimiter", &WithValue::Text(text), hint));
                }
            },
        };
        let csv = CsvOptions {
            header: self.bool("header")?.unwrap_or(defaults.header),
            delimiter,
            null_text: self.text("null_text")?.unwrap_or(defaults.null_text),
        };
        csv.validate()?;
        Ok(csv)
    }

    fn malformed(&mut self) -> Result<Option<MalformedPolicy>> {
        self.choice(
            "malformed",
            &[("skip", MalformedPolicy::Skip), ("refuse", MalformedPolicy::Refuse)],
        )
    }

    fn time_unit(&mut self) -> Result<Option<TimeUnit>> {
        self.choice(
            "time_unit",
            &[
                ("s", TimeUnit::Second),
                ("ms", TimeUnit::Millisecond),
                ("us", TimeUnit::Microsecond),
                ("ns", TimeUnit::Nanosecond),
            ],
        )
    }

    fn pace(&mut self) -> Result<Pace> {
        match self.take("pace") {
            None => Ok(Pace::FullSpeed),
            Some(WithValue::Number(times)) => Ok(Pace::Times(*times)),
            Some(WithValue::Text(word)) if word.eq_ignore_ascii_case("full_speed") => {
                Ok(Pace::FullSpeed)
            }
            Some(WithValue::Text(word)) if word.eq_ignore_ascii_case("as_recorded") => {
                Ok(Pace::Times(1.0))
            }
            Some(value) => {
                let hint =
                    "choose 'full_speed', 'as_recorded', or how many times as fast as recorded";
                Err(self.wrong("pace", value, hint))
            }
        }
    }

    fn columns(&mut self) -> Result<BTreeMap<String, String>> {
        let Some(text) = self.text("columns")? else { return Ok(BTreeMap::new()) };
        let mut columns = BTreeMap::new();
        for pair in text.split(',') {
            let (to, from) =
                pair.split_once('=').map_or(("", ""), |(to, from)| (to.trim(), from.trim()));
            if to.is_empty() || from.is_empty() {
                let hint = "write 'column_of_the_source=column_of_the_file, ...'";
                return Err(self.wrong("columns", &WithValue::Text(text), hint));
            }
            columns.insert(to.to_owned(), from.to_owned());
        }
        Ok(columns)
    }

    /// Refuses options that nobody took.
    pub(crate) fn finish(self) -> Result<()> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => Err(settings(
                format!("a {} has no option \"{name}\"", self.owner),
                format!("its options are {}", self.known.join(", ")),
            )),
        }
    }
}
