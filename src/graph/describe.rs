//! What a plan becomes, in words: its operators, how rows move between workers, and what each operator keeps.
//!
//! [`steps`] says for each kind of node what [`wire`](super::wire) builds for it. A new kind of node is described there,
//! and nowhere else; EXPLAIN, its drawings and EXPLAIN ANALYZE follow.

use std::collections::BTreeMap;
use std::fmt;

use arrow::datatypes::Fields;
use driftline_operators::dataflow::FOLDED_GROUPS_MAX;
use driftline_operators::detector::DetectorPlan;
use driftline_operators::join::Side;
use driftline_operators::logs::LogKeyOutput;
use driftline_operators::model::Upkeep;
use driftline_operators::window::{Window, WindowSpec};
use driftline_queries::plan::{duration_text, spelled};
use driftline_queries::{JoinProgram, Node, Plan, Retained, Scan, ScanStream, TimeColumn};

use super::DetectorStage;
use crate::settings::Settings;

/// A dataflow as EXPLAIN shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dataflow {
    /// How many workers each have a copy of it.
    pub(crate) workers: usize,
    /// Its operators, each after those that it takes rows from; the last one gives the results.
    pub(crate) operators: Vec<Operator>,
}

/// One operator of a dataflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operator {
    pub(crate) step: Step,
    /// Places of the operators that it takes rows from.
    pub(crate) inputs: Vec<usize>,
    /// The part of the query that it belongs to. Parts are numbered in the order in which they are wired.
    pub(crate) part: usize,
}

/// What an operator does and keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Its name in the dataflow.
    pub(crate) name: &'static str,
    /// What it does, where the name does not say it all.
    pub(crate) detail: String,
    /// By which columns rows are moved to another worker before they reach it, where they are moved.
    pub(crate) moved: Option<Moved>,
    pub(crate) keeps: Vec<Keeps>,
}

/// How rows move between workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// Rows that agree in these columns go to the same worker.
    By(Vec<String>),
    /// All go to the first worker.
    ToFirst,
    /// Those of one side go to all workers, and those of the other stay where they are.
    OneSide(Side),
}

impl Moved {
    /// Whether rows of an input, by its place, move.
    pub(crate) fn moves_input(&self, place: usize) -> bool {
        match self {
            Self::OneSide(side) => *side as usize == place,
            Self::By(_) | Self::ToFirst => true,
        }
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::By(columns) => write!(f, "by {}", columns.join(", ")),
            Self::ToFirst => f.write_str("to the first worker"),
            Self::OneSide(Side::Left) => f.write_str("from the left side to all workers"),
            Self::OneSide(Side::Right) => f.write_str("from the right side to all workers"),
        }
    }
}

/// What is kept, how long, and what caps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keeps {
    pub(crate) what: String,
    pub(crate) until: String,
    pub(crate) at_most: String,
}

impl fmt::Display for Keeps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, until {}; at most {}", self.what, self.until, self.at_most)
    }
}

/// The sources whose watermarks an operator follows: how far each watermark stays behind the source's latest row, or
/// `None` where the host moves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origins(pub(crate) BTreeMap<String, Option<i64>>);

impl Origins {
    fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// How far the watermark less `ns` lies behind what has come in.
    fn behind(&self, ns: i64) -> String {
        let mut sources = self.0.iter();
        match (sources.next(), sources.next()) {
            (None, _) => "at the end of the query".to_owned(),
            (Some((name, Some(delay))), None) => {
                format!("{} behind the latest row of {name}", words(ns.saturating_add(*delay)))
            }
            (Some((name, None)), None) if ns == 0 => {
                format!("where the host moves the watermark of {name} to")
            }
            (Some((name, None)), None) => {
                format!("{} behind the watermark that the host gives {name}", words(ns))
            }
            _ => {
                let delays = self.0.iter().map(|(name, delay)| match delay {
                    Some(delay) => format!("{name} ({} behind its latest row)", words(*delay)),
                    None => format!("{name} (by the host)"),
                });
                let delays = delays.collect::<Vec<_>>().join(", ");
                format!("{} behind the least watermark of {delays}", words(ns))
            }
        }
    }
}

fn words(ns: i64) -> String {
    match ns {
        0 => "0 seconds".to_owned(),
        ns => duration_text(ns),
    }
}

/// Describes the dataflow of a query. `leaves` holds the sources below each scan, in the order of [`Plan::scans`].
pub(crate) fn describe(
    plan: &Plan,
    detector: Option<&DetectorStage>,
    leaves: &[Origins],
    settings: &Settings,
) -> Dataflow {
    let dataflow = Dataflow { workers: settings.workers, operators: Vec::new() };
    let mut drawing = Drawing { dataflow, parts: 0, leaves: leaves.iter(), settings };
    let (mut last, origins) = drawing.add(plan);
    if let Some(stage) = detector {
        let part = drawing.next_part();
        last = drawing.append(part, detector_steps(stage, plan, &origins, settings), vec![last]);
    }
    let part = drawing.next_part();
    drawing.append(part, vec![step("Egress", "results")], vec![last]);
    drawing.dataflow
}

struct Drawing<'a> {
    dataflow: Dataflow,
    parts: usize,
    leaves: std::slice::Iter<'a, Origins>,
    settings: &'a Settings,
}

impl Drawing<'_> {
    /// Adds the operators of a plan, inputs first; the place of the last one, and the sources below.
    fn add(&mut self, plan: &Plan) -> (usize, Origins) {
        let part = self.next_part();
        let (mut inputs, mut origins) = (Vec::new(), Origins::default());
        for input in plan.node.inputs() {
            let (place, below) = self.add(input);
            inputs.push(place);
            origins = origins.and(below);
        }
        if matches!(plan.node, Node::Scan(_)) {
            origins = self.leaves.next().cloned().unwrap_or_default();
        }
        let steps = steps(plan, &origins, self.settings);
        (self.append(part, steps, inputs), origins)
    }

    /// Parts are numbered as they are when they are wired: before those below them.
    fn next_part(&mut self) -> usize {
        self.parts += 1;
        self.parts - 1
    }

    /// Adds operators one after another, the first over `inputs`; the place of the last one.
    fn append(&mut self, part: usize, steps: Vec<Step>, mut inputs: Vec<usize>) -> usize {
        for mut step in steps {
            step.moved = step.moved.filter(|_| self.settings.workers > 1);
            let place = self.dataflow.operators.len();
            self.dataflow.operators.push(Operator { step, inputs, part });
            inputs = vec![place];
        }
        self.dataflow.operators.len() - 1
    }
}

/// The operators of one node in the order in which rows pass them, and what each keeps.
fn steps(plan: &Plan, origins: &Origins, settings: &Settings) -> Vec<Step> {
    match &plan.node {
        Node::Scan(scan) => vec![step("Input", scanned(scan))],
        Node::Transform { label, .. } => vec![step("Transform", label.clone())],
        Node::AssignWindows { window, .. } => {
            vec![step("AssignWindows", spelled(&Window::Aligned(*window)))]
        }
        Node::AggregateWindows { window, time, program, .. } => {
            let stage =
                Aggregation { keys: program.key_fields(), lag_ns: time.lag_ns, origins, settings };
            match window {
                Window::Aligned(window) => stage.panes(*window),
                Window::Session(session) => stage.sessions(session.gap_ns(), spelled(window)),
                Window::Count(count) => {
                    stage.counted(count.rows(), count.pane_rows(), spelled(window))
                }
            }
        }
        Node::NumberRows { input, numbering } => {
            let columns = numbering.partition.iter().map(|index| column(input, *index)).collect();
            let keeps = Keeps {
                what: "rows of windows that have closed".to_owned(),
                until: "their epoch is over".to_owned(),
                at_most: cap("rows", "reorder_rows_max", settings.reorder_rows_max),
            };
            vec![Step { moved: Some(moved(columns)), keeps: vec![keeps], ..step("NumberRows", "") }]
        }
        Node::Distinct { input, time } => {
            let columns = input.schema.fields().iter().map(|field| field.name().clone()).collect();
            let keeps = Keeps {
                what: "each distinct row".to_owned(),
                until: format!(
                    "the watermark passes its {}, {}",
                    column(input, time.index),
                    origins.behind(time.lag_ns)
                ),
                at_most: cap("groups", "window_groups_max", settings.window_groups_max),
            };
            vec![Step { moved: Some(moved(columns)), keeps: vec![keeps], ..step("Distinct", "") }]
        }
        Node::Join { inputs, join, times, label } => {
            vec![joined(&inputs[0], join, times, label, origins, settings)]
        }
        Node::Over { input, time, over, label } => {
            let columns = over.partition.iter().map(|index| column(input, *index)).collect();
            let waiting = Keeps {
                what: "rows that wait to be put in order".to_owned(),
                until: format!("the watermark passes them, {}", origins.behind(time.lag_ns)),
                at_most: cap("rows", "reorder_rows_max", settings.reorder_rows_max),
            };
            let framed = Keeps {
                what: "rows that frames look at, and one state per partition".to_owned(),
                until: "no frame of a row to come can reach them".to_owned(),
                at_most: format!(
                    "{} and {}",
                    cap("rows", "frame_rows_max", settings.frame_rows_max),
                    cap("partitions", "keyed_state_max", settings.keyed_state_max)
                ),
            };
            let step = step("Over", label.clone());
            vec![Step { moved: Some(moved(columns)), keeps: vec![waiting, framed], ..step }]
        }
        Node::UpdateWindows { window, time, program, .. } => {
            let stage =
                Aggregation { keys: program.key_fields(), lag_ns: time.lag_ns, origins, settings };
            vec![stage.updated(*window)]
        }
        Node::UpdateGroups { retained, program, label, .. } => {
            let keys = program.key_fields().iter().map(|field| field.name().clone()).collect();
            let groups = Keeps {
                what: "partial states of each key, and its result".to_owned(),
                until: "none of its rows is in".to_owned(),
                at_most: "what the rows that are in make".to_owned(),
            };
            let keeps = rows_in(retained.as_ref(), origins, settings).chain([groups]).collect();
            let step = step("UpdateGroups", label.clone());
            vec![Step { moved: Some(moved(keys)), keeps, ..step }]
        }
        Node::UpdateTop { input, retained, numbering, rows } => {
            let columns = numbering.partition.iter().map(|index| column(input, *index)).collect();
            let changing = retained.is_none().then(|| Keeps {
                what: "all rows of each key".to_owned(),
                until: "they no longer hold".to_owned(),
                at_most: "what the operators below give".to_owned(),
            });
            let firsts = Keeps {
                what: "the first rows of each key and of its buckets".to_owned(),
                until: "none of its rows is in".to_owned(),
                at_most: format!("{rows} rows of each key, and as many of each of its buckets"),
            };
            let keeps = rows_in(retained.as_ref(), origins, settings);
            let keeps = keeps.chain(changing).chain([firsts]).collect();
            let step = step("UpdateTop", format!("first {rows} rows"));
            vec![Step { moved: Some(moved(columns)), keeps, ..step }]
        }
        Node::UpdateJoin { inputs, keys, retained, label, .. } => {
            let columns = keys[0].iter().map(|index| column(&inputs[0], *index)).collect();
            let sides = ["left", "right"].into_iter().zip(retained);
            let keeps = sides.map(|(side, retained)| Keeps {
                what: format!("the {side} rows that are in"),
                until: format!(
                    "the watermark is {} past them, {}",
                    words(retained.retain_ns),
                    origins.behind(retained.retain_ns.saturating_add(retained.time.lag_ns))
                ),
                at_most: cap("rows", "half of join_rows_max", settings.join_rows_max / 2),
            });
            let step = step("UpdateJoin", label.clone());
            vec![Step { moved: Some(moved(columns)), keeps: keeps.collect(), ..step }]
        }
        Node::TransformChanges { label, .. } => vec![step("TransformChanges", label.clone())],
        Node::Additions { .. } => vec![step("Additions", "")],
        Node::Lookup { lookup, label, .. } => {
            let keeps = Keeps {
                what: format!("the table ({} rows), once for all workers", lookup.table().len()),
                until: "the query ends".to_owned(),
                at_most: format!(
                    "table_bytes_max = {} bytes in the table",
                    settings.table_bytes_max
                ),
            };
            vec![Step { keeps: vec![keeps], ..step("Lookup", label.clone()) }]
        }
        Node::LogKeys { keys, output, time, .. } => {
            let name = match output {
                LogKeyOutput::Rows => "LogKeys",
                LogKeyOutput::Templates => "LogTemplates",
            };
            let options = keys.options();
            let waiting = Keeps {
                what: "lines that wait to be put in order".to_owned(),
                until: format!("the watermark passes them, {}", origins.behind(time.lag_ns)),
                at_most: cap("rows", "reorder_rows_max", settings.reorder_rows_max),
            };
            let known = Keeps {
                what: "templates, and the time of the last line of each session".to_owned(),
                until: "others have been used since".to_owned(),
                at_most: format!(
                    "{} and {}",
                    cap("templates", "templates_max", options.templates_max()),
                    cap("sessions", "sessions_max", options.sessions_max())
                ),
            };
            let step = step(name, options.parser_name());
            // All lines go to one worker, which numbers templates.
            vec![Step { moved: Some(moved(Vec::new())), keeps: vec![waiting, known], ..step }]
        }
        Node::Union { inputs } => {
            vec![step("Concatenate", format!("{} inputs", inputs.len()))]
        }
    }
}

/// The rows that are retained for what is computed over them, unless they come as changes.
fn rows_in(
    retained: Option<&Retained>,
    origins: &Origins,
    settings: &Settings,
) -> impl Iterator<Item = Keeps> {
    let rows = retained.map(|retained| Keeps {
        what: "the rows that are in".to_owned(),
        until: format!(
            "the watermark is {} past them, {}",
            words(retained.retain_ns),
            origins.behind(retained.retain_ns.saturating_add(retained.time.lag_ns))
        ),
        at_most: cap("rows", "reorder_rows_max", settings.reorder_rows_max),
    });
    rows.into_iter()
}

fn joined(
    left: &Plan,
    join: &JoinProgram,
    times: &[TimeColumn; 2],
    label: &str,
    origins: &Origins,
    settings: &Settings,
) -> Step {
    let lag_ns = times[0].lag_ns.max(times[1].lag_ns);
    let (keys, whole, until) = match join {
        JoinProgram::Pairs(spec) => {
            let reach = spec.upper_ns.saturating_abs().max(spec.lower_ns.saturating_abs());
            let behind = origins.behind(reach.saturating_add(lag_ns));
            (&spec.keys, spec.whole, format!("their last partner must have come, {behind}"))
        }
        JoinProgram::AsOf(spec) => {
            let behind = origins.behind(lag_ns.saturating_add(spec.lower_ns));
            let right = match spec.upper_ns {
                Some(upper) => format!("those of the right side {} longer", words(upper)),
                None => "the latest of the right side of each key for good".to_owned(),
            };
            (&spec.keys, None, format!("the right side is complete up to them, {behind}; {right}"))
        }
    };
    // What all workers hold has room of its own.
    let of_each = if whole.is_some() { "rows of each" } else { "rows" };
    let keeps = Keeps {
        what: "rows of both sides".to_owned(),
        until,
        at_most: cap(of_each, "join_rows_max", settings.join_rows_max),
    };
    let by_keys = || moved(keys[0].iter().map(|index| column(left, *index)).collect());
    let moved = Some(whole.map_or_else(by_keys, Moved::OneSide));
    Step { moved, keeps: vec![keeps], ..step("Join", label) }
}

fn detector_steps(
    stage: &DetectorStage,
    plan: &Plan,
    origins: &Origins,
    settings: &Settings,
) -> Vec<Step> {
    let columns = stage.partition_by.iter().map(|index| column(plan, *index)).collect();
    let rows = Keeps {
        what: "rows that wait for their turn".to_owned(),
        until: format!("the watermark passes them, {}", origins.behind(stage.time.lag_ns)),
        at_most: cap("rows", "reorder_rows_max", settings.reorder_rows_max),
    };
    let models = Keeps {
        what: "one model per key".to_owned(),
        until: "the detector is dropped, or expire_after or when_full makes it go".to_owned(),
        at_most: cap("models", "models_max", settings.models_max),
    };
    let mut detect = Step { moved: Some(moved(columns)), ..step("Detect", "") };
    detect.keeps = vec![rows, models];
    if stage.plan.placement().is_some_and(|placement| placement.service.is_some()) {
        detect.keeps.push(Keeps {
            what: "an epoch whose answers are on their way".to_owned(),
            until: "the inference service has scored its rows".to_owned(),
            at_most: cap("rows", "inference_queue_rows_max", settings.inference_queue_rows_max),
        });
    }
    detect.keeps.extend(side_relations(&*stage.plan));
    vec![detect]
}

/// Relations beside the main one whose counts are maintained.
fn side_relations(plan: &dyn DetectorPlan) -> Option<Keeps> {
    let relations = plan.relations();
    let counted = relations.iter().filter(|relation| relation.upkeep != Upkeep::Append);
    let names: Vec<String> = counted.map(|relation| relation.name.clone()).collect();
    (!names.is_empty()).then(|| Keeps {
        what: format!("the distinct rows of {} with their counts", names.join(", ")),
        until: "the models take them back".to_owned(),
        at_most: "what the models' histories hold".to_owned(),
    })
}

/// What the descriptions of all windowed aggregations need.
struct Aggregation<'a> {
    keys: Fields,
    lag_ns: i64,
    origins: &'a Origins,
    settings: &'a Settings,
}

impl Aggregation<'_> {
    fn moved(&self) -> Moved {
        moved(self.keys.iter().map(|field| field.name().clone()).collect())
    }

    fn groups(&self) -> String {
        cap("groups", "window_groups_max", self.settings.window_groups_max)
    }

    fn panes(self, window: WindowSpec) -> Vec<Step> {
        let panes = cap("panes", "window_panes_max", self.settings.window_panes_max);
        let at_most = format!("{} and {panes}", self.groups());
        let per = if self.keys.is_empty() { "pane" } else { "key and pane" };
        let pane = words(window.pane_ns());
        let until = format!(
            "the watermark passes the last window that holds the pane, {}",
            self.origins.behind(window.size_ns().saturating_add(self.lag_ns))
        );
        let what = format!("one partial state per {per} of {pane}");
        let closing = Step {
            moved: Some(self.moved()),
            keeps: vec![Keeps { what: what.clone(), until, at_most }],
            ..step("Windows", spelled(&Window::Aligned(window)))
        };
        if self.settings.workers == 1 {
            return vec![closing];
        }
        let complete = self.origins.behind(window.pane_ns().saturating_add(self.lag_ns));
        let until = format!(
            "the watermark passes the pane, {complete}, or more than {FOLDED_GROUPS_MAX} groups are held"
        );
        // What is held when an epoch begins takes no room from what its rows may open.
        let opened =
            cap("groups beyond these", "window_groups_max", self.settings.window_groups_max);
        let at_most = format!("{opened} and {panes}");
        let fold = Step {
            keeps: vec![Keeps { what, until, at_most }],
            ..step("FoldPanes", "rows to partial states, where keys have many")
        };
        vec![fold, closing]
    }

    fn updated(self, window: Window) -> Step {
        let until = match window {
            Window::Aligned(window) => {
                let behind = self.origins.behind(window.size_ns().saturating_add(self.lag_ns));
                format!("the watermark passes the window's end, {behind}")
            }
            Window::Session(session) => {
                let behind = self.origins.behind(session.gap_ns().saturating_add(self.lag_ns));
                format!("the watermark passes the session's end, {behind}")
            }
            Window::Count(_) => "the window has all its rows".to_owned(),
        };
        let keeps = Keeps {
            what: "one state per key and window, and what has been said of it".to_owned(),
            until,
            at_most: self.groups(),
        };
        let step = step("UpdateWindows", spelled(&window));
        Step { moved: Some(self.moved()), keeps: vec![keeps], ..step }
    }

    fn sessions(self, gap_ns: i64, detail: String) -> Vec<Step> {
        let fold = Keeps {
            what: "pieces of sessions".to_owned(),
            until: "the epoch is over".to_owned(),
            at_most: self.groups(),
        };
        let open = Keeps {
            what: "one partial state per key and open session".to_owned(),
            until: format!(
                "the watermark is {} past the session's last row, {}",
                words(gap_ns),
                self.origins.behind(gap_ns.saturating_add(self.lag_ns))
            ),
            at_most: self.groups(),
        };
        vec![
            Step { keeps: vec![fold], ..step("FoldSessions", "rows to pieces of sessions") },
            Step { moved: Some(self.moved()), keeps: vec![open], ..step("Sessions", detail) },
        ]
    }

    fn counted(self, rows: u64, pane_rows: u64, detail: String) -> Vec<Step> {
        let waiting = Keeps {
            what: "rows that wait to be put in order".to_owned(),
            until: format!("the watermark passes them, {}", self.origins.behind(self.lag_ns)),
            at_most: cap("rows", "reorder_rows_max", self.settings.reorder_rows_max),
        };
        let panes = Keeps {
            what: format!("one partial state per key and pane of {pane_rows} rows"),
            until: format!("the key has the {rows} rows of the pane's last window"),
            at_most: self.groups(),
        };
        let counting = Step { keeps: vec![waiting, panes], ..step("CountRows", detail) };
        vec![step("SplitRows", ""), Step { moved: Some(self.moved()), ..counting }]
    }
}

fn step(name: &'static str, detail: impl Into<String>) -> Step {
    Step { name, detail: detail.into(), ..Step::default() }
}

fn moved(columns: Vec<String>) -> Moved {
    if columns.is_empty() { Moved::ToFirst } else { Moved::By(columns) }
}

fn column(plan: &Plan, index: usize) -> String {
    plan.schema.fields().get(index).map_or_else(String::new, |field| field.name().clone())
}

/// A bound with its name. Every worker has one of its own.
fn cap(what: &str, setting: &str, value: usize) -> String {
    format!("{setting} = {value} {what} on each worker")
}

fn scanned(scan: &Scan) -> String {
    match &scan.stream {
        ScanStream::Rows => scan.relation.clone(),
        ScanStream::Late => format!("LATE({})", scan.relation),
        ScanStream::Side(name) => format!("{}.{name}", scan.relation),
    }
}
