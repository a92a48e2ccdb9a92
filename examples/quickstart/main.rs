//! Watches the machine it runs on, learns for a short while, causes a burst of load, and shows what it finds.
//!
//! ```text
//! cargo run --release --example quickstart
//! cargo run --release --example quickstart -- --replay FILE --time COLUMN --value COLUMN [--key COLUMN]
//!                                             [--detector KIND] [--plot OUT.svg]
//! ```
//!
//! With `--replay` it does the same over a recorded file (CSV, NDJSON, Parquet or Arrow IPC, gzip too).

// An example prints, waits and ends as a program does.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

mod options;
mod plot;
mod replay;
mod watch;

use std::process::ExitCode;

use options::Command;

type BoxResult<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let done = match options::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            println!("{}", options::HELP);
            Ok(())
        }
        Ok(Command::Watch(watch)) => watch::run(&watch),
        Ok(Command::Replay(replay)) => replay::run(&replay),
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
