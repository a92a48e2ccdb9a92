//! The conformance matrix: every case of `tests/slt/*.slt` over every axis that answers must not depend on.
//!
//! ```text
//! cargo test --workspace --all-features --test conformance                                   # a choice of cells
//! cargo test --workspace --all-features --test conformance -- --all-cells                    # all cells
//! cargo test --workspace --all-features --test conformance -- tumble order=reversed          # cells whose name has all the words
//! ```
//!
//! A case is a streaming query and its answer: what DataFusion makes of the same SQL in one batch, with each window call
//! replaced by a plain subquery (or, for windows that depend on rows, by an assignment in plain Rust); or of another form
//! of it, or rows that stand in the file. A cell is a case under one choice from each axis. The first case of a file runs
//! in all cells; the others in a third of them, such that any values of all axes but one meet. `tests/slt/README.md`
//! describes the files.
//!
//! This is a program, not a libtest: it prints figures and a line for each cell that fails, and begins with cases that
//! must fail.

// Prints, and finds files through the environment.
#![allow(clippy::disallowed_methods)]

mod conformance {
    pub(super) mod asof;
    pub(super) mod axes;
    pub(super) mod batch;
    pub(super) mod case;
    pub(super) mod changes;
    pub(super) mod engines;
    pub(super) mod feed;
    pub(super) mod generate;
    pub(super) mod report;
    pub(super) mod run;
    pub(super) mod windows;
}
// Shared with the integration tests, which use more of it.
#[allow(dead_code)]
#[path = "suite/support.rs"]
mod support;

use std::path::Path;
use std::process::ExitCode;

use conformance::axes::Filter;
use conformance::case::Script;
use conformance::report::Report;
use conformance::run;

fn main() -> ExitCode {
    let filter = Filter::from_arguments(std::env::args().skip(1));
    if filter.lists {
        return ExitCode::SUCCESS;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("slt");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("tests/slt is a folder")
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "slt"))
        .collect();
    files.sort();
    let scripts: Result<Vec<Script>, String> =
        files.iter().map(|path| Script::read(path)).collect();
    let scripts = match scripts {
        Ok(scripts) => scripts,
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = must_fail() {
        println!("the runner passes what is wrong: {error}");
        return ExitCode::FAILURE;
    }
    let report = run::all(scripts, &filter);
    report.print();
    if report.failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A runner that cannot fail proves nothing: each of these cases must be found wrong in each of its cells.
fn must_fail() -> Result<(), String> {
    let text = include_str!("conformance/must_fail.slt");
    let script = Script::parse("must_fail", text)?;
    let cases = script.cases.len();
    let report: Report = run::all(vec![script], &Filter::default());
    let cells = report.cells_of_cases;
    if cases == 0 || cells == 0 || report.failures != cells {
        return Err(format!("{} of {cells} cells of {cases} wrong cases fail", report.failures));
    }
    Ok(())
}
