//! The one public error: what went wrong, where, and what the caller should do about it.

use std::fmt;
use std::sync::Arc;

use driftline_operators::error::OperatorError;
use driftline_queries::{SqlError, SqlErrorKind};

/// Result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Mend the SQL text or a name in it. [`Error::position`] says where, [`Error::hint`] how.
    Query,
    /// Mend a setting or an option.
    Settings,
    /// Mend the data: a batch of another schema, a file that cannot be parsed.
    Data,
    /// Try again later: a queue is full, a file or store does not answer.
    Unavailable,
    /// The state or file was made by another version or another plan: choose another.
    Incompatible,
    /// The request makes sense, and this build cannot do it: rephrase it, or enable the feature that is named.
    Unsupported,
    /// The engine, source or subscription has been closed: make another.
    Closed,
    /// A bug of Driftline or of a function that the host registered: report it, and build the engine again.
    Internal,
}

/// A place in a SQL text: line and column, both counted from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
}

/// An error: a primary message and, where they help, detail, hint and place.
///
/// `Display` prints the message, the place and the hint; the cause is in
/// [`source`](std::error::Error::source).
///
/// ```
/// use driftline::{Engine, ErrorKind, Position};
///
/// let engine = Engine::builder().build()?;
/// engine.execute("CREATE SOURCE metrics (host TEXT)")?;
/// let error = engine.subscribe("SELECT hots FROM metrics").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Query);
/// assert!(error.message().contains("hots"));
/// assert_eq!(error.position(), Some(Position { line: 1, column: 8 }));
/// assert!(error.hint().unwrap().contains("host"));
/// # Ok::<(), driftline::Error>(())
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    position: Option<Position>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Arc::new(Inner { kind, message, hint: None, position: None, source: None }))
    }

    pub(crate) fn closed(what: &str) -> Self {
        Self::new(ErrorKind::Closed, format!("{what} is closed"))
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Changes an error that is being made: nobody else holds it yet.
    fn amend(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            change(inner);
        }
        self
    }

    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        self.amend(|inner| inner.hint = Some(hint.into()))
    }

    pub(crate) fn with_position(self, line: u64, column: u64) -> Self {
        self.amend(|inner| inner.position = Some(Position { line, column }))
    }

    pub(crate) fn with_source(
        self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let source = Arc::from(source.into());
        self.amend(|inner| inner.source = Some(source))
    }

    /// What the caller should do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What went wrong, in one sentence without a period.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// How to mend it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The place in the SQL text, where there is one.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.0.position
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(Position { line, column }) = self.0.position {
            write!(f, " (line {line}, column {column})")?;
        }
        if let Some(hint) = &self.0.hint {
            write!(f, "; hint: {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("hint", &self.0.hint)
            .field("position", &self.0.position)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

/// The error with its causes in its message: for a failure that many handles report.
impl From<&OperatorError> for Error {
    fn from(error: &OperatorError) -> Self {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        let converted = Self::new(kind_of(error), message);
        match error.hint() {
            Some(hint) => converted.with_hint(hint),
            None => converted,
        }
    }
}

impl From<OperatorError> for Error {
    fn from(error: OperatorError) -> Self {
        let converted = Self::new(kind_of(&error), error.to_string());
        let converted = match error.hint() {
            Some(hint) => converted.with_hint(hint),
            None => converted,
        };
        match error {
            OperatorError::Evaluation { source, .. } => converted.with_source(source),
            OperatorError::Arrow(source) => converted.with_source(source),
            _ => converted,
        }
    }
}

fn kind_of(error: &OperatorError) -> ErrorKind {
    match error {
        OperatorError::Option { .. } => ErrorKind::Settings,
        OperatorError::Columns { .. } => ErrorKind::Query,
        OperatorError::Snapshot { .. } => ErrorKind::Incompatible,
        _ => ErrorKind::Data,
    }
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        let kind = match error.kind() {
            SqlErrorKind::Query => ErrorKind::Query,
            SqlErrorKind::Unsupported => ErrorKind::Unsupported,
            SqlErrorKind::Settings => ErrorKind::Settings,
        };
        let mut converted = Self::new(kind, error.message());
        if let Some(hint) = error.hint_text() {
            converted = converted.with_hint(hint);
        }
        if let Some(place) = error.position() {
            converted = converted.with_position(place.line, place.column);
        }
        converted
    }
}
