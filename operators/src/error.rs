//! What can go wrong inside operators, windows and detectors.
//!
//! The facade crate turns these into its own public error, whose kind says what the caller should do.

use arrow::error::ArrowError;

/// Result of anything in this crate that can fail.
pub type Result<T, E = OperatorError> = std::result::Result<T, E>;

/// An error of the operators crate. Values are kept in fields, so that callers can match on them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// An option that the named kind does not know, or whose value is outside its range.
    #[error("option \"{option}\" of {owner} {problem}")]
    Option {
        /// What was being configured, such as `detector kind "ewma"`.
        owner: String,
        /// The option as the user spelled it.
        option: String,
        /// What is wrong with it, as the rest of the sentence.
        problem: String,
        /// What would be right.
        hint: String,
    },
    /// Columns that do not fit what a detector or a window reads.
    #[error("{owner} {problem}")]
    Columns {
        /// The detector or window.
        owner: String,
        /// What is wrong with the columns, as the rest of the sentence.
        problem: String,
        /// What would be right.
        hint: String,
    },
    /// An expression or aggregate failed on the data it was given.
    #[error("evaluation of {what} failed")]
    Evaluation {
        /// The expression or aggregate.
        what: String,
        /// The evaluator's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A snapshot that is cut short, of another version or of another kind.
    #[error("snapshot of {owner} {problem}")]
    Snapshot {
        /// The model or detector.
        owner: String,
        /// What is wrong with it, as the rest of the sentence.
        problem: String,
    },
    /// The relation that a query reads has failed.
    #[error("a relation that the query reads has failed: {problem}")]
    Upstream {
        /// That relation's own failure.
        problem: String,
    },
    /// An Arrow kernel refused its input.
    #[error("arrow kernel failed")]
    Arrow(#[from] ArrowError),
}

impl OperatorError {
    /// Wraps an evaluator's error.
    pub fn evaluation(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Evaluation { what: what.into(), source: source.into() }
    }

    /// The hint that goes with the error, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Option { hint, .. } | Self::Columns { hint, .. } => Some(hint),
            _ => None,
        }
    }
}
