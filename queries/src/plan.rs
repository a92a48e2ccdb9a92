//! What a query means to the dataflow: a short chain of nodes, with every expression already compiled.
//!
//! A plan names no SQL and no DataFusion type, so that the engine can wire it without knowing either.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use driftline_operators::expression::{AggregateProgram, Transform};
use driftline_operators::options::OptionValue;
use driftline_operators::window::WindowSpec;

/// A planned query.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The operator that makes the rows.
    pub node: Node,
    /// Columns of the result.
    pub schema: SchemaRef,
    /// The event-time column of the result, where one is left.
    pub time: Option<TimeColumn>,
    /// Indexes of result columns that carry window bounds.
    pub window_bounds: Vec<usize>,
}

/// The event-time column of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeColumn {
    /// Its index.
    pub index: usize,
    /// How far a row may lie below the watermark of the epochs before its own: 0 for a source or a window's end, the
    /// window's size for a window's start.
    pub lag_ns: i64,
}

/// One operator and its inputs.
#[derive(Clone, Debug)]
pub enum Node {
    /// Rows of a relation that lives in the engine.
    Scan(Scan),
    /// Filter and projection.
    Transform {
        /// Where rows come from.
        input: Box<Plan>,
        /// What is applied to them.
        program: Arc<dyn Transform>,
        /// What EXPLAIN prints.
        label: String,
    },
    /// Appends `window_start` and `window_end`, once per window that holds the row.
    AssignWindows {
        /// Where rows come from.
        input: Box<Plan>,
        /// The windows.
        window: WindowSpec,
        /// Index of the event-time column in the input.
        time: usize,
    },
    /// Groups rows by window and key. Columns: `window_start`, `window_end`, keys, aggregates.
    AggregateWindows {
        /// Where rows come from.
        input: Box<Plan>,
        /// The windows.
        window: WindowSpec,
        /// The event-time column of the input.
        time: TimeColumn,
        /// Keys and aggregates.
        program: Arc<dyn AggregateProgram>,
        /// What EXPLAIN prints.
        label: String,
    },
}

/// A leaf: rows of a source, of its side relation, or of a detector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Name of the relation.
    pub relation: String,
    /// Which of its streams.
    pub stream: ScanStream,
}

/// Which stream of a relation is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanStream {
    /// Its rows.
    Rows,
    /// The rows that a source could not take: late, or without a usable event time. Spelled `LATE(source)`.
    Late,
    /// A relation that a detector keeps beside its main one. Spelled `detector.name`.
    Side(String),
}

impl Plan {
    /// The relation at the bottom of the chain.
    #[must_use]
    pub fn scan(&self) -> &Scan {
        match &self.node {
            Node::Scan(scan) => scan,
            Node::Transform { input, .. }
            | Node::AssignWindows { input, .. }
            | Node::AggregateWindows { input, .. } => input.scan(),
        }
    }

    /// The plan as text: one node a line, the result first, inputs indented below it.
    #[must_use]
    pub fn explain(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut plan = self;
        loop {
            let indent = "  ".repeat(lines.len());
            lines.push(format!("{indent}{}", plan.node.describe(plan)));
            match &plan.node {
                Node::Scan(_) => return lines,
                Node::Transform { input, .. }
                | Node::AssignWindows { input, .. }
                | Node::AggregateWindows { input, .. } => plan = input,
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explain().join("\n"))
    }
}

impl Node {
    fn describe(&self, plan: &Plan) -> String {
        let column = |input: &Plan, index: usize| {
            input.schema.fields().get(index).map_or("?", |field| field.name().as_str()).to_owned()
        };
        match self {
            Self::Scan(Scan {
                relation,
                stream: stream @ (ScanStream::Rows | ScanStream::Side(_)),
            }) => format!(
                "Scan {relation}{}{}",
                match stream {
                    ScanStream::Side(name) => format!(".{name}"),
                    _ => String::new(),
                },
                plan.time.map_or(String::new(), |time| format!(
                    ", event time {}",
                    column(plan, time.index)
                ))
            ),
            Self::Scan(Scan { relation, stream: ScanStream::Late }) => {
                format!("Scan LATE({relation})")
            }
            Self::Transform { label, .. } => format!("Transform {label}"),
            Self::AssignWindows { input, window, time } => {
                format!("AssignWindows {} on {}", Window(window), column(input, *time))
            }
            Self::AggregateWindows { input, window, time, label, .. } => format!(
                "AggregateWindows {} on {}{}{label}",
                Window(window),
                column(input, time.index),
                if label.is_empty() { "" } else { ": " },
            ),
        }
    }
}

/// A window as EXPLAIN shows it.
struct Window<'a>(&'a WindowSpec);

impl fmt::Display for Window<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(window) = self;
        let length = |ns: i64| OptionValue::Interval(ns).to_string();
        if window.is_tumble() {
            write!(f, "tumble({})", length(window.size_ns()))?;
        } else {
            write!(f, "hop({}, {})", length(window.slide_ns()), length(window.size_ns()))?;
        }
        match window.offset_ns() {
            0 => Ok(()),
            offset => write!(f, " from {}", length(offset)),
        }
    }
}
