//! Statements as the engine sees them: what was asked, with names, options and places settled.

use arrow::datatypes::FieldRef;
use driftline_operators::options::OptionValue;
use sqlparser::ast;

use crate::error::{Position, Result};

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// `CREATE SOURCE`.
    CreateSource(CreateSource),
    /// `CREATE TABLE`.
    CreateTable(CreateTable),
    /// `CREATE VIEW`.
    CreateView(CreateView),
    /// `CREATE DETECTOR`.
    CreateDetector(CreateDetector),
    /// `CREATE SINK`.
    CreateSink(CreateSink),
    /// `DROP ...`.
    Drop(DropObject),
    /// `INSERT INTO name SELECT ...`.
    InsertSelect(InsertSelect),
    /// `INSERT INTO name VALUES ...`.
    InsertValues(InsertValues),
    /// `ALTER DETECTOR name FEEDBACK [(columns)] VALUES ...`: the target is the detector.
    Feedback(InsertValues),
    /// `SHOW ...`.
    Show(Show),
    /// `EXPLAIN statement`; the statement is a query, a `CREATE DETECTOR` or an `INSERT`.
    Explain(Explain),
    /// `EXPLAIN ANALYZE DETECTOR name`, `EXPLAIN ANALYZE QUERY 'name'`.
    Analyze(Analyze),
    /// `EXPORT DETECTOR name TO 'path'`.
    ExportDetector(ModelFile),
    /// `IMPORT DETECTOR name FROM 'path'`.
    ImportDetector(ModelFile),
    /// `SELECT ...`.
    Query(Query),
}

/// `EXPLAIN [(FORMAT TEXT | MERMAID | DOT)] statement`.
#[derive(Clone, Debug, PartialEq)]
pub struct Explain {
    /// What is to be explained.
    pub statement: Box<Statement>,
    /// In which form.
    pub format: ExplainFormat,
}

/// `EXPLAIN ANALYZE [(FORMAT TEXT | MERMAID | DOT)] query`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Analyze {
    /// The query, by the name under which it runs: `detector "name"`, `subscription 3`; or by its number.
    pub query: Name,
    /// In which form.
    pub format: ExplainFormat,
}

/// The form of an explanation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExplainFormat {
    /// Lines of text.
    #[default]
    Text,
    /// A Mermaid flowchart.
    Mermaid,
    /// A graph in the DOT language.
    Dot,
}

/// A name and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name: folded to lower case unless it was quoted.
    pub text: String,
    /// Where it stands.
    pub position: Position,
}

/// `CREATE SOURCE [IF NOT EXISTS] name (columns, WATERMARK FOR ...) [WITH (...)]`.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateSource {
    /// Its name.
    pub name: Name,
    /// Whether an existing source of the name is left as it is.
    pub if_not_exists: bool,
    /// Its columns.
    pub columns: Vec<FieldRef>,
    /// Which column is event time.
    pub watermark: Option<Watermark>,
    /// The WITH clause.
    pub options: Vec<OptionEntry>,
}

/// `CREATE [OR REPLACE] TABLE [IF NOT EXISTS] name [(columns)] [WITH (...)]`.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateTable {
    /// Its name.
    pub name: Name,
    /// Whether an existing table of the name is replaced.
    pub or_replace: bool,
    /// Whether an existing table of the name is left as it is.
    pub if_not_exists: bool,
    /// Its columns; none where they are to be those of the file.
    pub columns: Vec<FieldRef>,
    /// The WITH clause, which names the file; empty for a table that starts without rows.
    pub options: Vec<OptionEntry>,
}

/// `WATERMARK FOR column [AS column [- INTERVAL ...]] [IDLE TIMEOUT INTERVAL ...]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// The event-time column, one of the source's.
    pub column: Name,
    /// How far the watermark stays behind the latest row; `None` where only the host moves it.
    pub delay_ns: Option<i64>,
    /// After which silence the source is idle.
    pub idle_timeout_ns: Option<i64>,
}

/// `CREATE [OR REPLACE] VIEW name AS SELECT ...`.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateView {
    /// Its name.
    pub name: Name,
    /// Whether an existing view of the name is replaced.
    pub or_replace: bool,
    /// Whether an existing relation of the name is left as it is.
    pub if_not_exists: bool,
    /// What it stands for.
    pub query: Query,
}

/// `CREATE DETECTOR name USING kind [PARTITION BY ...] [WITH (...)] AS SELECT ...`.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateDetector {
    /// Its name.
    pub name: Name,
    /// Whether an existing detector of the name is left as it is.
    pub if_not_exists: bool,
    /// What kind of detector, in lower case.
    pub kind: Name,
    /// Columns of the query that select the model.
    pub partition_by: Vec<Name>,
    /// The WITH clause.
    pub options: Vec<OptionEntry>,
    /// What it reads.
    pub query: Query,
}

/// `CREATE SINK name [WITH (...)] [AS SELECT ...]`.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateSink {
    /// Its name.
    pub name: Name,
    /// Whether an existing sink of the name is left as it is.
    pub if_not_exists: bool,
    /// The WITH clause.
    pub options: Vec<OptionEntry>,
    /// What flows into it from the start.
    pub query: Option<Query>,
}

/// `DROP kind [IF EXISTS] name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropObject {
    /// What is dropped.
    pub kind: ObjectKind,
    /// Its name.
    pub name: Name,
    /// Whether a missing object is no error.
    pub if_exists: bool,
}

/// What a DROP names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A source.
    Source,
    /// A view.
    View,
    /// A detector.
    Detector,
    /// A sink.
    Sink,
    /// A table.
    Table,
}

/// `INSERT INTO target SELECT ...`.
#[derive(Clone, Debug, PartialEq)]
pub struct InsertSelect {
    /// A sink or a source.
    pub target: Name,
    /// The columns named after the target; empty where none are.
    pub columns: Vec<Name>,
    /// What flows into it.
    pub query: Query,
}

/// `INSERT INTO target [(columns)] VALUES (...), ...`, and what follows `FEEDBACK`; see
/// [`crate::Planner::evaluate_rows`].
#[derive(Clone, Debug, PartialEq)]
pub struct InsertValues {
    /// A source or a table; a detector for feedback.
    pub target: Name,
    /// The columns named after the target; empty where none are.
    pub columns: Vec<Name>,
    pub(crate) rows: Vec<Vec<ast::Expr>>,
}

impl InsertValues {
    /// How many rows are written.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }
}

/// A detector and the file of its models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFile {
    /// The detector.
    pub name: Name,
    /// The file.
    pub path: String,
}

/// What `SHOW` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// `SHOW SOURCES`.
    Sources,
    /// `SHOW TABLES`.
    Tables,
    /// `SHOW VIEWS`.
    Views,
    /// `SHOW DETECTORS`.
    Detectors,
    /// `SHOW SINKS`.
    Sinks,
    /// `SHOW QUERIES`.
    Queries,
    /// `SHOW FUNCTIONS`.
    Functions,
    /// `SHOW KINDS`: what may stand after USING.
    Kinds,
}

/// One entry of a WITH clause.
#[derive(Clone, Debug, PartialEq)]
pub struct OptionEntry {
    /// Its name, in lower case.
    pub name: Name,
    /// Its value.
    pub value: OptionValue,
    /// Where the value stands.
    pub position: Position,
}

/// A SELECT that has been parsed but not yet planned.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub(crate) ast: Box<ast::Query>,
    pub(crate) text: String,
    pub(crate) emit: Emit,
    /// Where the EMIT clause stands, if there is one.
    pub(crate) emit_at: Option<Position>,
}

/// When a query answers: its EMIT clause. With any form but the first the result is a changelog, with a last column
/// `_diff`: 1 for a row that now holds, -1 for one that no longer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// `ON WINDOW CLOSE [WITH DELAY INTERVAL ..]`: once, when a window closes, so much later than it would.
    WindowClose {
        /// By how much later, which is also how much later rows are still taken in.
        delay_ns: i64,
    },
    /// `ON WINDOW CLOSE WITH CORRECTIONS [FOR INTERVAL ..]`: at the watermark, and again when a late row changes the
    /// answer.
    Corrections {
        /// How late rows may be, where that is more than the source allows.
        for_ns: i64,
    },
    /// `ON UPDATE [EVERY INTERVAL ..] [RETAIN INTERVAL ..]`, or `EVERY INTERVAL ..` for short: whenever the answer has
    /// changed.
    Update {
        /// At most once in so much event time.
        every_ns: Option<i64>,
        /// For how long rows count, where no window says it.
        retain_ns: Option<i64>,
    },
}

impl Default for Emit {
    fn default() -> Self {
        Self::WindowClose { delay_ns: 0 }
    }
}

impl Emit {
    /// How late a row of a source may be for the query, beyond what the source allows.
    pub(crate) fn late_ns(self, allowed_lateness_ns: i64) -> i64 {
        match self {
            Self::WindowClose { delay_ns } => delay_ns,
            Self::Corrections { for_ns } => (for_ns - allowed_lateness_ns).max(0),
            Self::Update { .. } => 0,
        }
    }
}

impl Query {
    /// Parses one SELECT.
    ///
    /// # Errors
    /// If the text is not exactly one query.
    pub fn parse(sql: &str) -> Result<Self> {
        crate::parse::parse_query(sql)
    }

    /// The text; [`Query::parse`] takes it back. An EMIT clause that says what holds anyway is left out.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// When it answers.
    #[must_use]
    pub fn emit(&self) -> Emit {
        self.emit
    }
}
