//! What every parser of log lines takes and gives.

use std::fmt::Debug;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Stands for a variable part in a template.
pub const WILDCARD: &str = "<*>";

/// A stretch of a text, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// From `start` to below `end`. Lines are cut long before 32 bits are too few.
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end.max(start) as u32 }
    }

    /// The stretch, or nothing where it is not one of this text.
    #[must_use]
    pub fn of(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize).unwrap_or("")
    }
}

/// A line as its parser understood it. One value is reused for all lines.
#[derive(Clone, Debug, Default)]
pub struct ParsedLine {
    /// The stable number of the line's template, counted from 1 and never used again.
    pub key: u64,
    /// The template, with `<*>` for each variable part.
    pub template: Arc<str>,
    /// The variable parts in the order of the template, within [`ParsedLine::text`]. As many as the template has `<*>`.
    pub parameters: Vec<Span>,
    /// A line of JSON, flattened to key paths; empty for any other line.
    pub flattened: String,
}

impl ParsedLine {
    /// The text that the spans of parameters mean: the message, or what it was flattened to.
    #[must_use]
    pub fn text<'a>(&'a self, message: &'a str) -> &'a str {
        if self.flattened.is_empty() { message } else { &self.flattened }
    }
}

/// What became of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// A key that was not there before.
    Created,
    /// The template of a key lost constant parts; the key stays.
    Changed,
    /// Lines of this key get the other, older key from now on.
    Merged {
        /// The key that goes on.
        into: u64,
    },
    /// Dropped to keep within the bound on templates. A line like it gets a fresh key.
    Removed,
}

impl ChangeKind {
    /// The word for it in a relation of changes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Merged { .. } => "merged",
            Self::Removed => "removed",
        }
    }
}

/// A change of one template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateChange {
    /// Whose template.
    pub key: u64,
    /// What became of it.
    pub kind: ChangeKind,
    /// The template after the change; for a key that is gone, its last one.
    pub template: Arc<str>,
}

/// One template of a parser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its stable number.
    pub key: u64,
    /// Its text, with `<*>` for each variable part.
    pub text: Arc<str>,
    /// How many lines it has had, those of templates merged into it among them.
    pub lines: u64,
}

impl Template {
    /// Templates in the order of their keys.
    pub(super) fn in_order(templates: impl Iterator<Item = Self>) -> Vec<Self> {
        let mut templates: Vec<Self> = templates.collect();
        templates.sort_unstable_by_key(|template| template.key);
        templates
    }
}

/// Gives each line the key of its template, learning templates on the way.
///
/// A function of the lines in their order alone: the same lines give the same keys.
pub trait LogParser: Debug + Send {
    /// Parses one message (a line without its header) and learns from it.
    fn parse(&mut self, message: &str, line: &mut ParsedLine);

    /// What has become of templates since the last call, in order.
    fn take_changes(&mut self) -> Vec<TemplateChange>;

    /// All templates, ordered by key.
    fn templates(&self) -> Vec<Template>;

    /// Bytes held, estimated.
    fn bytes(&self) -> usize;

    /// Everything that must survive a restart, in a versioned form. Changes not yet taken are not in it.
    ///
    /// # Errors
    /// If it cannot be written, which would be a bug.
    fn snapshot(&self) -> Result<Vec<u8>>;

    /// Takes up a snapshot of the same kind of parser: what follows is as if there had been no interruption.
    ///
    /// # Errors
    /// If the snapshot is cut short, damaged, or of another kind or version. The parser is then as it was before.
    fn restore(&mut self, snapshot: &[u8]) -> Result<()>;
}
