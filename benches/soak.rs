//! A long run of mixed load, and a plot of what memory does meanwhile.
//!
//! ```text
//! cargo bench --bench soak                             # an hour
//! cargo bench --bench soak -- 300 plot.svg             # so many seconds, and where the plot goes
//! ```
//!
//! Windows, sessions, joins, frames, DISTINCT, retained rows, detectors and log keys run over three sources whose keys come
//! and go; queries are created and dropped, a reader reads in bursts, some rows are late or have no time, a checkpoint is
//! taken every second, and four times the engine dies and goes on from the last of them. Memory is looked at every second;
//! all threads share one heap, because engines come and go, and glibc would keep one for each thread that there was. It has
//! to be flat: the median of the last fifth of the samples is held against that of the second fifth, over the run and, for
//! what the engine charges, over each of the five lives.

// A bench prints and reads the clock.
#![allow(clippy::disallowed_methods)]

#[path = "soak/plot.rs"]
mod plot;
// Shared with the integration tests.
#[allow(dead_code, unreachable_pub)]
#[path = "../tests/suite/soak.rs"]
mod soak;

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const HOUR: u64 = 3_600;

fn main() -> Result<(), Box<dyn Error>> {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let seconds = asked.iter().find_map(|arg| arg.parse().ok()).unwrap_or(HOUR);
    let path = asked.iter().find(|arg| arg.ends_with(".svg"));
    let path = path.map_or_else(|| PathBuf::from("soak.svg"), PathBuf::from);
    let (name, value) = soak::ONE_HEAP;
    if std::env::var_os(name).is_none() {
        let mut again = Command::new(std::env::current_exe()?);
        let status = again.args(std::env::args().skip(1)).env(name, value).status()?;
        std::process::exit(status.code().unwrap_or(1));
    }
    let folder = tempfile::tempdir()?;
    let outcome = soak::run(Duration::from_secs(seconds), folder.path())?;
    plot::draw(&path, &outcome)?;
    let memory = outcome.growth_percent(|sample| sample.resident);
    let state = outcome.growth_percent(soak::Sample::state);
    let life = outcome.life_growth_percent(soak::Sample::state);
    for (query, rows) in &outcome.results {
        println!("{query}: {rows} rows");
    }
    for (query, early, late) in &outcome.states {
        println!(
            "{query}: {early} bytes of state at two fifths of the last life, {late} at its end"
        );
    }
    println!(
        "{} restarts, {} checkpoints, {} queries came and went, {} rows were late, {} had no time; drawn in {}",
        outcome.restarts.len(),
        outcome.checkpoints,
        outcome.visits,
        outcome.late,
        outcome.malformed,
        path.display()
    );
    println!("figure: soak_seconds = {seconds} s");
    println!("figure: soak_rows = {} rows", outcome.rows);
    println!("figure: soak_memory_growth_percent = {memory:.2} percent");
    println!("figure: soak_state_growth_percent = {state:.2} percent");
    println!("figure: soak_life_growth_percent = {life:.2} percent");
    let mut problems = outcome.problems();
    let limit = soak::GROWTH_PERCENT_MAX;
    for (what, percent) in
        [("resident", memory), ("charged", state), ("charged, in one life,", life)]
    {
        if percent.is_nan() || percent > limit {
            problems
                .push(format!("{what} memory has grown by {percent:.2} percent, above {limit}"));
        }
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.join("; ").into()),
    }
}
