//! Rows per second of whole queries, beside DataFusion computing the same once, in one batch, in the same run; what a second
//! worker brings; how soon a window is answered; what an engine costs that has nothing to do.
//!
//! ```text
//! cargo bench --bench throughput                       # all but `cold`
//! cargo bench --bench throughput -- tumble scaling     # these parts
//! cargo bench --bench throughput -- scaling hop        # one query of that part
//! cargo bench --bench throughput -- detectors ewma     # one kind of that part
//! cargo bench --bench throughput -- cold               # a release build into an empty folder: many minutes
//! ```
//!
//! Rows are generated before the clock starts. Rounds alternate between the two sides of a ratio and the median is taken,
//! because machines are noisy. Results are compared with the batch before a figure is printed. "Per core" divides by the
//! processor time of the whole process, or by the time that passed where that is more.

// A bench prints and reads the clock.
#![allow(clippy::disallowed_methods)]

#[allow(dead_code)]
#[path = "common/memory.rs"]
mod memory;
#[allow(dead_code)]
#[path = "common/random.rs"]
mod random;
#[path = "common/timing.rs"]
mod timing;

mod throughput {
    pub(crate) mod cold;
    pub(crate) mod counting;
    pub(crate) mod data;
    pub(crate) mod detectors;
    pub(crate) mod latency;
    pub(crate) mod scaling;
    pub(crate) mod telemetry;
    pub(crate) mod tumble;
}

use throughput::{cold, counting, detectors, latency, scaling, telemetry, tumble};

type BoxResult<T> = Result<T, Box<dyn std::error::Error>>;

/// A part: its name, what it does, and whether it runs unasked.
type Part = (&'static str, fn() -> BoxResult<()>, bool);

const PARTS: [Part; 8] = [
    ("tumble", tumble::report, true),
    ("telemetry", telemetry::report, true),
    ("scaling", scaling::report, true),
    ("counting", counting::report, true),
    ("latency", latency::report, true),
    ("idle", latency::idle, true),
    ("detectors", detectors::report, true),
    ("cold", cold::report, false),
];

fn main() -> BoxResult<()> {
    // Cargo passes `--bench`.
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    for (name, report, unasked) in PARTS {
        if asked.iter().any(|part| part == name) || (asked.is_empty() && unasked) {
            report()?;
            // Generated rows and what they are compared with are in it, so that a part by itself says most.
            if let Some(bytes) = memory::peak_bytes() {
                println!("figure: peak_memory_mib_{name} = {:.0} MiB", bytes / 1024.0 / 1024.0);
            }
        }
    }
    Ok(())
}
