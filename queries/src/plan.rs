//! What a query means to the dataflow: a tree of nodes, with every expression already compiled.
//!
//! A plan names no SQL and no DataFusion type, so that the engine can wire it without knowing either.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use driftline_operators::expression::{AggregateProgram, Transform};
use driftline_operators::join::{AsOfSpec, JoinKind, JoinSpec};
use driftline_operators::logs::{LogKeyOutput, LogKeyPlan};
use driftline_operators::lookup::Lookup;
use driftline_operators::options::OptionValue;
use driftline_operators::over::Over;
use driftline_operators::window::{Answering, Numbering, Window, WindowSpec};

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
        window: Window,
        /// The event-time column of the input.
        time: TimeColumn,
        /// Keys and aggregates.
        program: Arc<dyn AggregateProgram>,
        /// What EXPLAIN prints.
        label: String,
    },
    /// Appends the number of each row among the results of a window that agree with it in some columns.
    NumberRows {
        /// Where rows come from.
        input: Box<Plan>,
        /// How they are numbered. Rows of a partition leave the input together.
        numbering: Numbering,
    },
    /// The first of equal rows.
    Distinct {
        /// Where rows come from.
        input: Box<Plan>,
        /// The event-time column that says how long a row is remembered.
        time: TimeColumn,
    },
    /// Pairs of rows of two inputs that agree in keys and are close in event time.
    Join {
        /// Where rows come from: the left and the right input.
        inputs: Box<[Plan; 2]>,
        /// What is joined.
        join: JoinProgram,
        /// The event-time columns of both inputs.
        times: [TimeColumn; 2],
        /// What EXPLAIN prints.
        label: String,
    },
    /// Appends a column for each call over the frame of a row. Rows come out in order of event time.
    Over {
        /// Where rows come from.
        input: Box<Plan>,
        /// The event-time column of the input, which orders rows.
        time: TimeColumn,
        /// What is computed.
        over: Over,
        /// What EXPLAIN prints.
        label: String,
    },
    /// As `AggregateWindows`, and gives changes of the result: a last column `_diff` says whether a row now holds (1) or
    /// no longer does (-1).
    UpdateWindows {
        /// Where rows come from.
        input: Box<Plan>,
        /// The windows.
        window: Window,
        /// The event-time column of the input.
        time: TimeColumn,
        /// Keys and aggregates.
        program: Arc<dyn AggregateProgram>,
        /// When they answer.
        answering: Answering,
        /// What EXPLAIN prints.
        label: String,
    },
    /// Groups by key the rows that are in. Columns: keys, aggregates, `_diff`.
    UpdateGroups {
        /// Where rows come from; changes of them, if they have no retention.
        input: Box<Plan>,
        /// For how long rows are in.
        retained: Option<Retained>,
        /// Keys and aggregates.
        program: Arc<dyn AggregateProgram>,
        /// What EXPLAIN prints.
        label: String,
    },
    /// Pairs of the rows of two inputs that are in and agree in keys. Columns: those of the left, those of the right,
    /// `_diff`.
    UpdateJoin {
        /// Where rows come from: the left and the right input.
        inputs: Box<[Plan; 2]>,
        /// What becomes of rows that meet none.
        kind: JoinKind,
        /// Indexes of the columns of each input that agree.
        keys: [Vec<usize>; 2],
        /// For how long rows of each input are in.
        retained: [Retained; 2],
        /// What EXPLAIN prints.
        label: String,
    },
    /// Filter and projection of changes.
    TransformChanges {
        /// Where changes come from.
        input: Box<Plan>,
        /// What is applied to the rows.
        program: Arc<dyn Transform>,
        /// What EXPLAIN prints.
        label: String,
    },
    /// Appends `_diff`: each row holds from now on.
    Additions {
        /// Where rows come from.
        input: Box<Plan>,
    },
    /// Gives each row the key of its log line, or tells what becomes of templates.
    LogKeys {
        /// Where rows come from.
        input: Box<Plan>,
        /// Columns and options.
        keys: Box<LogKeyPlan>,
        /// Which of its relations comes out.
        output: LogKeyOutput,
        /// The event-time column of the input.
        time: TimeColumn,
    },
    /// Each row once for each row of a table that matches it. Columns: those of the input that are kept, those of the table.
    Lookup {
        /// Where rows come from.
        input: Box<Plan>,
        /// The table, by its keys, and what is a match.
        lookup: Arc<Lookup>,
        /// What EXPLAIN prints.
        label: String,
    },
    /// All rows of all inputs, which have the same columns.
    Union {
        /// Where rows come from.
        inputs: Vec<Plan>,
    },
}

/// How two inputs are joined.
#[derive(Clone, Debug)]
pub enum JoinProgram {
    /// Every pair that is close in time.
    Pairs(JoinSpec),
    /// The latest right row for each left one.
    AsOf(AsOfSpec),
}

/// For how long rows are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retained {
    /// Their event-time column.
    pub time: TimeColumn,
    /// They leave when the watermark has come so far beyond their time.
    pub retain_ns: i64,
    /// They enter and leave when the watermark passes a multiple of this; at once, where it is `None`.
    pub every_ns: Option<i64>,
}

/// A leaf: rows of a source, of its side relation, or of a detector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Name of the relation.
    pub relation: String,
    /// Which of its streams.
    pub stream: ScanStream,
    /// How far below the watermark rows of a source are taken in for this query.
    pub late_ns: i64,
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
    /// The relations at the leaves, from the first input to the last. One that is read twice is there twice.
    #[must_use]
    pub fn scans(&self) -> Vec<&Scan> {
        match &self.node {
            Node::Scan(scan) => vec![scan],
            node => node.inputs().into_iter().flat_map(Plan::scans).collect(),
        }
    }

    /// The plan as text: one node a line, the result first, inputs indented below it.
    #[must_use]
    pub fn explain(&self) -> Vec<String> {
        let mut lines = vec![self.node.describe(self)];
        for input in self.node.inputs() {
            lines.extend(input.explain().into_iter().map(|line| format!("  {line}")));
        }
        lines
    }
}

impl Plan {
    /// Each `LOG_KEYS` of the query: those that others read first, of two inputs the left one's first.
    #[must_use]
    pub fn log_keys(&self) -> Vec<&LogKeyPlan> {
        let mut found: Vec<&LogKeyPlan> =
            self.node.inputs().into_iter().flat_map(Plan::log_keys).collect();
        if let Node::LogKeys { keys, .. } = &self.node {
            found.push(keys);
        }
        found
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explain().join("\n"))
    }
}

impl Node {
    /// The plans that it takes rows from.
    #[must_use]
    pub fn inputs(&self) -> Vec<&Plan> {
        match self {
            Self::Scan(_) => Vec::new(),
            Self::Transform { input, .. }
            | Self::AssignWindows { input, .. }
            | Self::AggregateWindows { input, .. }
            | Self::NumberRows { input, .. }
            | Self::Distinct { input, .. }
            | Self::Over { input, .. }
            | Self::UpdateWindows { input, .. }
            | Self::UpdateGroups { input, .. }
            | Self::TransformChanges { input, .. }
            | Self::Additions { input }
            | Self::LogKeys { input, .. }
            | Self::Lookup { input, .. } => vec![input],
            Self::Join { inputs, .. } | Self::UpdateJoin { inputs, .. } => inputs.iter().collect(),
            Self::Union { inputs } => inputs.iter().collect(),
        }
    }

    fn describe(&self, plan: &Plan) -> String {
        let column = |input: &Plan, index: usize| {
            input.schema.fields().get(index).map_or("?", |field| field.name().as_str()).to_owned()
        };
        match self {
            Self::Scan(Scan {
                relation,
                stream: stream @ (ScanStream::Rows | ScanStream::Side(_)),
                late_ns,
            }) => format!(
                "Scan {relation}{}{}{}",
                match stream {
                    ScanStream::Side(name) => format!(".{name}"),
                    _ => String::new(),
                },
                plan.time.map_or(String::new(), |time| format!(
                    ", event time {}",
                    column(plan, time.index)
                )),
                match late_ns {
                    0 => String::new(),
                    late => format!(", rows up to {} late", length(*late)),
                }
            ),
            Self::Scan(Scan { relation, stream: ScanStream::Late, .. }) => {
                format!("Scan LATE({relation})")
            }
            Self::Transform { label, .. } => format!("Transform {label}"),
            Self::AssignWindows { input, window, time } => {
                format!("AssignWindows {} on {}", aligned(window), column(input, *time))
            }
            Self::AggregateWindows { input, window, time, label, .. } => format!(
                "AggregateWindows {} on {}{}{label}",
                spelled(window),
                column(input, time.index),
                if label.is_empty() { "" } else { ": " },
            ),
            Self::UpdateWindows { input, window, time, answering, label, .. } => format!(
                "UpdateWindows {} on {} {}{}{label}",
                spelled(window),
                column(input, time.index),
                match answering {
                    Answering::OnUpdate => "on update".to_owned(),
                    Answering::Every(ns) => format!("every {}", length(*ns)),
                    Answering::Ahead(0) => "on close".to_owned(),
                    Answering::Ahead(ns) => format!("{} before close, and on update", length(*ns)),
                },
                if label.is_empty() { "" } else { ": " },
            ),
            Self::UpdateGroups { input, retained, label, .. } => format!(
                "UpdateGroups{}: {label}",
                retained.map_or(String::new(), |retained| format!(
                    " retain {} on {}{}",
                    length(retained.retain_ns),
                    column(input, retained.time.index),
                    retained.every_ns.map_or(String::new(), |ns| format!(" every {}", length(ns))),
                )),
            ),
            Self::UpdateJoin { inputs, retained: [left, right], label, .. } => format!(
                "UpdateJoin retain {} on {} and {}{}: {label}",
                length(left.retain_ns),
                column(&inputs[0], left.time.index),
                column(&inputs[1], right.time.index),
                left.every_ns.map_or(String::new(), |ns| format!(" every {}", length(ns))),
            ),
            Self::TransformChanges { label, .. } => format!("TransformChanges {label}"),
            Self::Additions { .. } => "Additions".to_owned(),
            Self::NumberRows { input, numbering } => {
                let by = numbering.partition.iter().map(|index| column(input, *index));
                let order = numbering.order.iter().map(|(index, options)| {
                    let down = if options.descending { " DESC" } else { "" };
                    format!("{}{down}", column(input, *index))
                });
                format!(
                    "NumberRows ORDER BY {} PARTITION BY {}",
                    order.collect::<Vec<_>>().join(", "),
                    by.collect::<Vec<_>>().join(", "),
                )
            }
            Self::Distinct { input, time } => {
                format!("Distinct until {} is past", column(input, time.index))
            }
            Self::Join { label, .. } => format!("Join {label}"),
            Self::Over { input, time, over, label } => {
                let mut text = format!("Over {label} ORDER BY {}", column(input, time.index));
                for (index, options) in &over.ties {
                    let down = if options.descending { " DESC" } else { "" };
                    text = format!("{text}, {}{down}", column(input, *index));
                }
                let by = over.partition.iter().map(|index| column(input, *index));
                let by = by.collect::<Vec<_>>().join(", ");
                if by.is_empty() { text } else { format!("{text} PARTITION BY {by}") }
            }
            Self::LogKeys { input, keys, output, .. } => {
                let name = match output {
                    LogKeyOutput::Rows => "LogKeys",
                    LogKeyOutput::Templates => "LogTemplates",
                };
                let options = keys.options().given();
                let with = if options.is_empty() { "" } else { " WITH " };
                format!("{name} of {}{with}{options}", column(input, keys.message_index()))
            }
            Self::Lookup { label, .. } => format!("Lookup {label}"),
            Self::Union { .. } => "Union".to_owned(),
        }
    }
}

/// A window as EXPLAIN shows it.
#[must_use]
pub fn spelled(window: &Window) -> String {
    match window {
        Window::Aligned(window) => aligned(window),
        Window::Session(session) => format!("session({})", length(session.gap_ns())),
        Window::Count(count) if count.rows() == count.every() => {
            format!("count_window({})", count.rows())
        }
        Window::Count(count) => format!("count_window({}, {})", count.rows(), count.every()),
    }
}

fn aligned(window: &WindowSpec) -> String {
    let (slide, step, size) = (window.slide_ns(), window.step_ns(), window.size_ns());
    let shape = if window.is_tumble() {
        format!("tumble({})", length(size))
    } else if window.is_cumulate() {
        format!("cumulate({}, {})", length(step), length(size))
    } else {
        format!("hop({}, {})", length(slide), length(size))
    };
    match window.offset_ns() {
        0 => shape,
        offset => format!("{shape} from {}", length(offset)),
    }
}

fn length(ns: i64) -> String {
    OptionValue::Interval(ns).to_string()
}

/// A length of time in words: `1 minute 30 seconds`.
#[must_use]
pub fn duration_text(ns: i64) -> String {
    let text = length(ns);
    let inside = text.strip_prefix("INTERVAL '").and_then(|rest| rest.strip_suffix('\''));
    inside.unwrap_or(&text).to_owned()
}
