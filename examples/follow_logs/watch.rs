//! Listening: one callback for each query, all of them into one channel, and a thread that prints.

// An example prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use driftline::arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch};
use driftline::arrow::datatypes::Int64Type;
use driftline::arrow::util::display::array_value_to_string;
use driftline::logs::workflow::Workflow;
use driftline::{Callback, Engine};

use crate::BoxResult;
use crate::options::Options;
use crate::pipeline::{self, Topic};
use crate::report;

/// Results that wait to be printed. Beyond them callbacks wait, then the engine, then reading.
const WAITING_MAX: usize = 64;
/// Odd lines and sessions that are kept for the report.
const KEPT_MAX: usize = 10_000;
/// Characters of the bar.
const BAR: usize = 30;

/// A line that should not have come, or a session that should not have gone as it did.
#[derive(Clone, Debug)]
pub struct Odd {
    pub number: i64,
    pub session: String,
    /// Why, with templates in the place of keys.
    pub reason: String,
    /// The raw line.
    pub line: String,
}

/// What has been seen so far.
#[derive(Clone, Default)]
pub struct Seen {
    pub sql: String,
    pub lines: usize,
    pub templates: BTreeMap<String, String>,
    pub workflows: Vec<Workflow>,
    pub sessions: usize,
    /// Sessions that were judged, and those of them that were odd, with what makes them so.
    pub judged: usize,
    pub odd_sessions: BTreeMap<String, String>,
    pub odd: Vec<Odd>,
    /// Where odd sessions left the workflow.
    pub diagnoses: BTreeMap<String, Vec<String>>,
    /// Changes since the report was written.
    news: usize,
}

impl Seen {
    pub fn template(&self, key: &str) -> String {
        self.templates.get(key).cloned().unwrap_or_else(|| key.to_owned())
    }
}

pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    printer: JoinHandle<Result<(), String>>,
    callbacks: Vec<Callback>,
    report: Option<PathBuf>,
}

impl Watch {
    /// Subscribes to all that the detector says, and prints it.
    pub fn start(engine: &Engine, options: &Options, sql: String) -> BoxResult<Self> {
        let (send, results) = mpsc::sync_channel(WAITING_MAX);
        let mut callbacks = Vec::new();
        for (topic, query) in pipeline::queries() {
            let send = send.clone();
            callbacks.push(engine.subscribe_with(query, move |rows| {
                // After an error nobody listens any more.
                let _ = send.send((topic, rows));
            })?);
        }
        drop(send);
        let seen = Arc::new(Mutex::new(Seen { sql, ..Seen::default() }));
        let theirs = Arc::clone(&seen);
        let mut printer = Printer::new(options);
        let printer = std::thread::spawn(move || {
            for (topic, rows) in results {
                printer
                    .take(topic, &rows, &mut lock(&theirs))
                    .map_err(|error| error.to_string())?;
            }
            printer.end();
            Ok(())
        });
        Ok(Self { seen, printer, callbacks, report: options.report.clone() })
    }

    /// Writes the report anew if there is more to tell.
    pub fn report_news(&self) -> BoxResult<()> {
        let Some(path) = &self.report else { return Ok(()) };
        let seen = {
            let mut seen = lock(&self.seen);
            if seen.workflows.is_empty() || std::mem::take(&mut seen.news) == 0 {
                return Ok(());
            }
            seen.clone()
        };
        Ok(std::fs::write(path, report::text(path, &seen))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?)
    }

    /// Waits until all is printed, and sums up.
    pub fn finish(self) -> BoxResult<()> {
        let Self { seen, printer, callbacks, report } = self;
        callbacks.into_iter().try_for_each(Callback::join)?;
        printer.join().map_err(|_| "the thread that prints panicked")??;
        let seen = lock(&seen).clone();
        println!(
            "\n{} lines of {} templates; {} sessions, {} of them judged, {} odd",
            seen.lines,
            seen.templates.len(),
            seen.sessions,
            seen.judged,
            seen.odd_sessions.len()
        );
        if seen.workflows.is_empty() {
            println!("no workflow: fewer sessions ended than --training asks for");
        }
        if let Some(path) = report {
            std::fs::write(&path, report::text(&path, &seen))
                .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            println!("drawn to {}", path.display());
        }
        Ok(())
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    // Whoever holds it changes one thing at a time, so that it is whole even after a panic.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints findings, and how far learning has come.
struct Printer {
    training: usize,
    bar: Bar,
    show: usize,
    phase: String,
}

impl Printer {
    fn new(options: &Options) -> Self {
        Self {
            training: options.training as usize,
            bar: Bar::default(),
            show: options.show,
            phase: String::new(),
        }
    }

    fn take(&mut self, topic: Topic, rows: &RecordBatch, seen: &mut Seen) -> BoxResult<()> {
        match topic {
            Topic::Lines => self.lines(rows, seen),
            Topic::Sessions => self.sessions(rows, seen),
            Topic::Workflow => {
                seen.workflows = Workflow::from_batch(rows)?;
                seen.news += 1;
                Ok(())
            }
            Topic::Diagnosis => self.diagnoses(rows, seen),
        }
    }

    fn lines(&mut self, rows: &RecordBatch, seen: &mut Seen) -> BoxResult<()> {
        let cells = Cells(rows);
        let [numbers, keys, ranks] = ["number", "log_key", "rank"].map(|name| cells.integers(name));
        let (numbers, keys, ranks) = (numbers?, keys?, ranks?);
        let is_anomaly = cells.column("is_anomaly")?.as_boolean();
        let unseen = cells.column("unseen")?.as_boolean();
        for row in 0..rows.num_rows() {
            seen.lines += 1;
            let key = keys.value(row).to_string();
            let template = cells.text("template", row)?;
            if seen.templates.get(&key).is_none_or(|known| *known != template) {
                seen.templates.insert(key, template);
            }
            let phase = cells.text("phase", row)?;
            if phase != self.phase {
                self.enter(&phase, numbers.value(row));
            }
            if !(is_anomaly.is_valid(row) && is_anomaly.value(row)) {
                continue;
            }
            let expected = said(&cells.text("expected", row)?, seen);
            let reason = match unseen.value(row) {
                true => format!("a line of this kind was never seen; expected {expected}"),
                false => format!("place {} of what was expected: {expected}", ranks.value(row)),
            };
            seen.news += 1;
            if seen.odd.len() < KEPT_MAX {
                seen.odd.push(Odd {
                    number: numbers.value(row),
                    session: cells.text("session", row)?,
                    reason,
                    line: cells.text("line", row)?,
                });
            }
        }
        Ok(())
    }

    /// Lines are told with their session: one line out of place is rarely alone.
    fn sessions(&mut self, rows: &RecordBatch, seen: &mut Seen) -> BoxResult<()> {
        let cells = Cells(rows);
        let is_anomaly = cells.column("is_anomaly")?.as_boolean();
        for row in 0..rows.num_rows() {
            seen.sessions += 1;
            if is_anomaly.is_null(row) {
                self.bar.show("learning", seen.sessions, self.training, "sessions");
                continue;
            }
            seen.judged += 1;
            if !is_anomaly.value(row) {
                continue;
            }
            let session = cells.text("session", row)?;
            let reasons = cells.text("reasons", row)?;
            seen.news += 1;
            if seen.odd_sessions.len() < self.show {
                self.bar.clear();
                println!("session {session}: {reasons}");
                for odd in seen.odd.iter().filter(|odd| odd.session == session) {
                    println!("  line {}: {}", odd.number, odd.reason);
                    println!("    {}", short(&odd.line, 160));
                }
            } else if seen.odd_sessions.len() == self.show {
                self.bar.clear();
                println!("more odd sessions are counted only (--show)");
            }
            if seen.odd_sessions.len() < KEPT_MAX {
                seen.odd_sessions.insert(session, reasons);
            }
        }
        Ok(())
    }

    fn diagnoses(&mut self, rows: &RecordBatch, seen: &mut Seen) -> BoxResult<()> {
        let cells = Cells(rows);
        for row in 0..rows.num_rows() {
            let (from, to) = (cells.text("from_key", row)?, cells.text("to_key", row)?);
            let why = cells.text("explanation", row)?;
            // Keys stand for templates; the rest of the sentence is as it is.
            let rest = why.split_once(": ").map_or("", |(_, rest)| rest);
            let rest = match rest.strip_prefix("expected ") {
                Some(expected) => format!("expected {}", said(expected, seen)),
                None if rest.ends_with("is not part of the workflow") => {
                    "not part of the workflow".to_owned()
                }
                None => rest.to_owned(),
            };
            let told = format!("{} -> {}: {rest}", seen.template(&from), seen.template(&to));
            let session = cells.text("session", row)?;
            let place = seen.odd_sessions.keys().position(|odd| *odd == session);
            if place.is_none() || seen.odd_sessions.len() <= self.show {
                println!("  because of {told} ({session})");
            }
            if seen.diagnoses.len() < KEPT_MAX || seen.diagnoses.contains_key(&session) {
                seen.diagnoses.entry(session).or_default().push(told);
            }
            seen.news += 1;
        }
        Ok(())
    }

    fn enter(&mut self, phase: &str, line: i64) {
        self.bar.clear();
        match phase {
            "training" => eprintln!("line {line}: the model is trained, off the workers"),
            "detecting" => eprintln!("line {line}: the model is there, and judges from here on\n"),
            _ => {}
        }
        phase.clone_into(&mut self.phase);
    }

    fn end(&mut self) {
        self.bar.clear();
    }
}

/// Expected keys with their probabilities, `7 (0.930), 9 (0.020)`, with templates in the place of keys.
fn said(expected: &str, seen: &Seen) -> String {
    let one = |part: &str| match part.split_once(" (") {
        Some((key, p)) => format!("'{}' ({p}", short(&seen.template(key), 60)),
        None => part.to_owned(),
    };
    expected.split(", ").map(one).collect::<Vec<_>>().join(", ")
}

/// At most so many characters.
pub fn short(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Columns of one batch by name.
struct Cells<'a>(&'a RecordBatch);

impl<'a> Cells<'a> {
    fn column(&self, name: &str) -> BoxResult<&'a Arc<dyn Array>> {
        Ok(self.0.column_by_name(name).ok_or_else(|| format!("no column {name}"))?)
    }

    fn integers(&self, name: &str) -> BoxResult<&'a PrimitiveArray<Int64Type>> {
        Ok(self.column(name)?.as_primitive_opt().ok_or_else(|| format!("{name} is no number"))?)
    }

    fn text(&self, name: &str, row: usize) -> BoxResult<String> {
        Ok(array_value_to_string(self.column(name)?, row)?)
    }
}

/// A bar on one line of a terminal; elsewhere, a line for each tenth.
#[derive(Default)]
struct Bar {
    shown: Option<usize>,
}

impl Bar {
    fn show(&mut self, what: &str, done: usize, of: usize, unit: &str) {
        let is_terminal = std::io::stderr().is_terminal();
        let parts = if is_terminal { BAR } else { 10 };
        let part = (done * parts / of.max(1)).min(parts);
        if self.shown == Some(part) || done > of {
            return;
        }
        self.shown = Some(part);
        let bar = format!("[{}{}]", "#".repeat(part), ".".repeat(parts - part));
        let start = if is_terminal { "\r" } else { "" };
        let end = if is_terminal { "" } else { "\n" };
        eprint!("{start}{what} {bar} {done} of {of} {unit}{end}");
        // A terminal that is gone is no reason to stop.
        let _ = std::io::stderr().flush();
    }

    /// Leaves the bar's line, if there is one.
    fn clear(&mut self) {
        if self.shown.take().is_some() && std::io::stderr().is_terminal() {
            eprintln!();
        }
    }
}
