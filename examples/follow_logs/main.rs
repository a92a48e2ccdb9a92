//! A log file is followed as it grows: lines become log keys, a model learns what usually follows what, lines that do not
//! follow are flagged with their reason, and a workflow says where a session left the usual way.
//!
//! ```text
//! cargo run --release --features neural --example follow_logs -- nova.log --from-start --report nova.html
//! cargo run --release --example follow_logs -- /var/log/app.log --model ngram --session 'request=(\w+)'
//! ```
//!
//! It follows Du et al., "DeepLog: Anomaly Detection and Diagnosis from System Logs through Deep Learning". Read
//! `pipeline.rs` first: it holds all the SQL. `tail.rs` reads a file that grows, is rotated or cut; `watch.rs` listens;
//! the rest is this example's own.

// An example prints, waits and ends as a program does.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

mod layout;
mod options;
mod pipeline;
mod report;
mod stamp;
mod tail;
#[cfg(test)]
mod tests;
mod watch;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use driftline::arrow::array::{Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use driftline::{Engine, Source};

use options::{Command, Options};
use stamp::Stamps;
use tail::Tail;
use watch::Watch;

type BoxResult<T> = Result<T, Box<dyn std::error::Error>>;

/// How often a file that has not grown is looked at again.
const POLL: Duration = Duration::from_millis(200);
/// Lines that are pushed together at most.
const BATCH_LINES: usize = 1_000;
/// How far reading may be ahead: little, so that what is printed follows closely.
const INGRESS_BYTES_MAX: usize = 1 << 20;

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
    let sql = pipeline::statements(options);
    for statement in &sql {
        println!("{statement};\n");
        engine.execute(statement)?;
    }
    let mut tail = Tail::open(&options.path, options.from_start)?;
    let source = engine.source("log")?;
    let watch = Watch::start(&engine, options, sql.join(";\n\n"))?;

    let mut stamps = Stamps::new(stamp::now_ns(), tail.lines_before()?, options.step_ms);
    let (mut quiet_since, mut number) = (Instant::now(), 0);
    loop {
        let lines = tail.read(BATCH_LINES)?;
        if lines.is_empty() {
            // Whoever looks at the report meanwhile sees what has been found so far.
            watch.report_news()?;
            if options.until_idle.is_some_and(|idle| quiet_since.elapsed() >= idle) {
                break;
            }
            thread::sleep(POLL);
            continue;
        }
        push(&source, &lines, &mut number, &mut stamps)?;
        quiet_since = Instant::now();
    }
    let rest = tail.rest();
    push(&source, rest.as_slice(), &mut number, &mut stamps)?;
    engine.shutdown()?;
    watch.finish()
}

fn push(source: &Source, lines: &[String], number: &mut i64, stamps: &mut Stamps) -> BoxResult<()> {
    let lines: Vec<&String> = lines.iter().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let times = lines.iter().map(|line| stamps.next(line, stamp::now_ns()));
    let times = TimestampNanosecondArray::from_iter_values(times);
    let numbers = *number + 1..=*number + lines.len() as i64;
    *number += lines.len() as i64;
    source.push(RecordBatch::try_new(
        source.schema(),
        vec![
            Arc::new(times),
            Arc::new(Int64Array::from_iter_values(numbers)),
            Arc::new(StringArray::from_iter_values(lines)),
        ],
    )?)?;
    Ok(())
}
