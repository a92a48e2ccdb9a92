//! A fleet of hundreds of components is watched: which of them behave steadily, what their working states are, and when
//! one of them leaves its states or moves between them as it never did, long before a threshold is broken.
//!
//! ```text
//! cargo run --release --example fleet -- --report fleet.html
//! cargo run --release --example fleet -- --replay FILE --time COLUMN --key COLUMN --report fleet.html
//! ```
//!
//! It follows Meng et al., "DriftInsight: Detecting Anomalous Behaviors in Large-scale Cloud Platform": the metrics of
//! its Table I, its slots of five minutes, and in the report its figures. The fleet is simulated, days of it in
//! seconds; with `--replay` a recorded one is read. Read `pipeline.rs` first: it holds all the SQL. `watch.rs` shows
//! how a host listens, `send` below how it pushes; the rest is this example's own.

// An example prints and ends as a program does.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

mod clock;
mod columns;
mod options;
mod pipeline;
mod record;
mod replay;
mod report;
mod simulator;
mod summary;
mod watch;

use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use driftline::{Engine, Source};

use options::{Command, Options};
use pipeline::{Learning, Topic};
use record::{Known, Record};
use report::Report;
use simulator::{BEGIN_MS, Fleet, METRICS, SLOT_MS, Setup};
use summary::Summary;
use watch::Table;

type BoxResult<T> = Result<T, Box<dyn std::error::Error>>;

/// What monitoring asked before there were states: the rule that the lead time is measured against.
const RULE: &str = "cpu_total > 90 OR memory > 90";

/// How far the agents may be ahead: little, so that the table follows closely.
const INGRESS_BYTES_MAX: usize = 2 << 20;

fn main() -> ExitCode {
    let done = match options::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            println!("{}", options::HELP);
            Ok(())
        }
        Ok(Command::Run(options)) => run(&options),
        Err(problem) => Err(format!("{problem}\n\n{}", options::HELP).into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> BoxResult<()> {
    let mut builder = Engine::builder().ingress_bytes_max(INGRESS_BYTES_MAX);
    if let Some(workers) = options.workers {
        builder = builder.workers(workers);
    }
    let engine = builder.build()?;
    let learning = Learning {
        training: options.training(),
        steady_threshold: options.steady_threshold(),
        eps: options.eps(),
        evolve_min: options.evolve_min,
    };
    let mut seen = match &options.replay {
        None => simulate(engine, options, &learning)?,
        Some(recorded) => {
            let (source, metrics) = replay::source(recorded)?;
            let slot_ms = replay::slot_ms(&recorded.slot)?;
            let sql = [source, pipeline::detector(&metrics, &recorded.slot, &learning)];
            let queries = prepare(&engine, &sql, None)?;
            let table = Table::new(slot_ms, 288 * slot_ms, learning.training);
            let began = Instant::now();
            let record = watch::run(engine, &queries, Record::new(&metrics), table, |engine| {
                Ok(engine.start()?)
            })?;
            let seconds = began.elapsed().as_secs_f64();
            Seen { record, known: Vec::new(), slot_ms, seconds, sql: sql.join(";\n\n") }
        }
    };
    if seen.record.slots == 0 {
        return Err("no slot came out: the source held no row with a time".into());
    }
    seen.record.alarms.sort_by_key(|alarm| alarm.time_ms);
    let summary = Summary::new(&seen.record, &seen.known, seen.slot_ms);
    summary.print(&seen.record);
    let values = seen.record.slots * seen.record.metrics.len();
    println!("{} slots, {values} metric values in {:.1} s", seen.record.slots, seen.seconds);
    if let Some(path) = &options.report {
        let report = Report {
            record: &seen.record,
            summary: &summary,
            slot_ms: seen.slot_ms,
            steady_threshold: learning.steady_threshold,
            seconds: seen.seconds,
            sql: &seen.sql,
        };
        std::fs::write(path, report.page())
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        println!("drawn to {}", path.display());
    }
    Ok(())
}

/// What a run leaves.
struct Seen {
    record: Record,
    known: Vec<Known>,
    slot_ms: i64,
    seconds: f64,
    sql: String,
}

fn simulate(engine: Engine, options: &Options, learning: &Learning) -> BoxResult<Seen> {
    let fleet = Fleet::new(&Setup {
        components: options.components,
        days: options.days,
        training: learning.training,
        steady_threshold: learning.steady_threshold,
        seed: options.seed,
    });
    let known = known(&fleet);
    let metrics = METRICS.map(str::to_owned);
    let sql =
        [pipeline::pushed_source(&metrics), pipeline::detector(&metrics, "5 minutes", learning)];
    let queries = prepare(&engine, &sql, Some(RULE))?;
    let table = Table::new(SLOT_MS, 6 * 3_600_000, learning.training);
    let began = Instant::now();
    let mut agents = None;
    let record = watch::run(engine, &queries, Record::new(&metrics), table, |engine| {
        let source = engine.source("metrics")?;
        agents = Some(thread::spawn(move || send(fleet, &source)));
        Ok(())
    })?;
    if let Some(agents) = agents {
        agents.join().map_err(|_| "the thread of the agents panicked")??;
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(Seen { record, known, slot_ms: SLOT_MS, seconds, sql: sql.join(";\n\n") })
}

/// Pushes all that the agents read, and closes the source. A push waits when the engine is behind.
fn send(mut fleet: Fleet, source: &Source) -> driftline::Result<()> {
    while let Some(samples) = fleet.next() {
        source.push(fleet.rows(&samples, &source.schema()))?;
    }
    source.close()
}

/// Executes the statements and shows them; gives the queries over what they made.
fn prepare(engine: &Engine, sql: &[String], rule: Option<&str>) -> BoxResult<Vec<(Topic, String)>> {
    for statement in sql {
        println!("{statement};\n");
        engine.execute(statement)?;
    }
    Ok(pipeline::queries(rule))
}

fn known(fleet: &Fleet) -> Vec<Known> {
    let names = fleet.names();
    // Slots are known by their ends.
    let end_ms = |slot: i64| BEGIN_MS + (slot + 1) * SLOT_MS;
    let mut known: Vec<Known> = fleet
        .incidents()
        .iter()
        .map(|incident| Known {
            component: names[incident.component].clone(),
            fault: incident.fault.text().to_owned(),
            begins_ms: end_ms(incident.begins),
            ends_ms: end_ms(incident.ends),
        })
        .collect();
    known.sort_by_key(|known| known.begins_ms);
    known
}
