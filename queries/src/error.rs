//! What is wrong with a text of SQL, and where.
//!
//! Every refusal of this crate has this one form: a message that names the thing, a hint that says what would be
//! right, and the place in the text. The facade turns it into its own public error by [`SqlError::kind`].

use std::fmt;

/// Result of anything in this crate that can fail.
pub type Result<T, E = SqlError> = std::result::Result<T, E>;

/// What the caller should do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlErrorKind {
    /// The text is wrong: change it.
    Query,
    /// The text means something that the engine does not do.
    Unsupported,
    /// A function or option handed in by the host is wrong.
    Settings,
}

/// A place in a text, both counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The character in the line.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// An error in a text of SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    kind: SqlErrorKind,
    message: String,
    hint: Option<String>,
    position: Option<Position>,
}

impl SqlError {
    /// An error of the given kind.
    pub fn new(kind: SqlErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), hint: None, position: None }))
    }

    /// The text is wrong.
    pub fn query(message: impl Into<String>) -> Self {
        Self::new(SqlErrorKind::Query, message)
    }

    /// The text asks for what the engine does not do.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(SqlErrorKind::Unsupported, message)
    }

    /// Something handed in by the host is wrong.
    pub fn settings(message: impl Into<String>) -> Self {
        Self::new(SqlErrorKind::Settings, message)
    }

    /// Adds what would be right.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the place, unless one is known already or none is given.
    #[must_use]
    pub fn at(mut self, position: impl Into<Option<Position>>) -> Self {
        self.0.position = self.0.position.or(position.into());
        self
    }

    /// Forgets the place: it belongs to another text than the caller's.
    #[must_use]
    pub fn nowhere(mut self) -> Self {
        self.0.position = None;
        self
    }

    /// Rewrites the message, keeping all else.
    #[must_use]
    pub(crate) fn rephrase(mut self, f: impl FnOnce(&str) -> String) -> Self {
        self.0.message = f(&self.0.message);
        self
    }

    /// What the caller should do.
    #[must_use]
    pub fn kind(&self) -> SqlErrorKind {
        self.0.kind
    }

    /// What is wrong: one sentence in lower case, without place and hint.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What would be right, where that is known.
    #[must_use]
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Where in the text, where that is known.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.0.position
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(position) = self.0.position {
            write!(f, " ({position})")?;
        }
        Ok(())
    }
}

impl std::error::Error for SqlError {}
