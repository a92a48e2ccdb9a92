//! The count of rows that could not be read, with the first few as examples.

use std::fmt;
use std::path::{Path, PathBuf};

use super::failure::data;
use super::options::MalformedPolicy;
use crate::error::Result;

/// How many malformed rows are kept as examples.
const EXAMPLES_MAX: usize = 10;
/// A file whose first so many rows are all malformed is refused: its format or its columns are mistaken.
const ALL_MALFORMED_MAX: u64 = 100;

/// A row that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedRow {
    /// Its file.
    pub path: PathBuf,
    /// Its line, from 1; in parquet and arrow files its row, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for MalformedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of file \"{}\": {}", self.line, self.path.display(), self.reason)
    }
}

/// A row refused by a decoder, before it is counted.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) line: u64,
    pub(super) reason: String,
}

/// The malformed rows of one reader.
#[derive(Debug)]
pub(super) struct MalformedRows {
    policy: MalformedPolicy,
    count: u64,
    examples: Vec<MalformedRow>,
}

/// What is known of one file's rows so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FileTally {
    refused_rows: u64,
    has_good_row: bool,
}

impl MalformedRows {
    pub(super) fn new(policy: MalformedPolicy) -> Self {
        Self { policy, count: 0, examples: Vec::new() }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn examples(&self) -> &[MalformedRow] {
        &self.examples
    }

    /// Counts what one batch brought: `good_rows` and the refused ones, in the order of lines.
    pub(super) fn record(
        &mut self,
        path: &Path,
        tally: &mut FileTally,
        good_rows: usize,
        refused: Vec<Refusal>,
    ) -> Result<()> {
        let refused_rows = refused.len() as u64;
        self.count += refused_rows;
        tally.refused_rows += refused_rows;
        tally.has_good_row |= good_rows > 0;
        let mut first = None;
        for Refusal { line, reason } in refused {
            if first.is_some() && self.examples.len() >= EXAMPLES_MAX {
                break;
            }
            let row = MalformedRow { path: path.to_owned(), line, reason };
            first.get_or_insert_with(|| row.clone());
            if self.examples.len() < EXAMPLES_MAX {
                self.examples.push(row);
            }
        }
        let Some(first) = first else { return Ok(()) };
        if self.policy == MalformedPolicy::Refuse {
            return Err(data(
                path,
                format!("has a malformed row in line {}: {}", first.line, first.reason),
            )
            .with_hint("mend the line, or skip and count such rows with malformed = 'skip'"));
        }
        if !tally.has_good_row && tally.refused_rows >= ALL_MALFORMED_MAX {
            return Err(data(
                path,
                format!(
                    "has only malformed rows up to here, {} of them, such as line {}: {}",
                    tally.refused_rows, first.line, first.reason
                ),
            )
            .with_hint(
                "check the column types of the source and the options \"format\" and \"columns\"",
            ));
        }
        Ok(())
    }
}
