//! The detector kind `drift_insight` on real labelled telemetry, beside simple baselines, and its speed beside
//! scikit-learn's.
//!
//! ```text
//! cargo bench --bench drift_insight
//! ```
//!
//! Everything goes through the public engine. The data is found through `DRIFTLINE_DATA` (default `../shared/data`).
//! No option of the detector was chosen with labels: it runs with its defaults, the training length apart. Name parts
//! as arguments to run those alone: `asd`, `nezha`, `speed`, `upkeep`,
//! `peer`; and `choose` and `large`, which run only when they are asked for.

// A bench prints and reads the clock and the environment.
#![allow(clippy::disallowed_methods)]

#[allow(dead_code)]
#[path = "common/memory.rs"]
mod memory;
#[allow(dead_code)]
#[path = "common/random.rs"]
mod random;
#[allow(dead_code)]
#[path = "common/timing.rs"]
mod timing;

mod drift_insight {
    pub(crate) mod asd;
    mod baseline;
    pub(crate) mod choose;
    mod data;
    mod detector;
    mod fleet;
    mod judge;
    pub(crate) mod nezha;
    pub(crate) mod peer;
    pub(crate) mod speed;
    pub(crate) mod upkeep;

    pub(crate) type BoxResult<T> = Result<T, Box<dyn std::error::Error>>;
}

use drift_insight::{BoxResult, asd, choose, nezha, peer, speed, upkeep};

/// A part: its name, what it does, and whether it runs unasked.
type Part = (&'static str, fn() -> BoxResult<()>, bool);

const PARTS: [Part; 7] = [
    ("choose", choose::report, false),
    ("asd", asd::report, true),
    ("nezha", nezha::report, true),
    ("speed", speed::report, true),
    ("large", speed::large, false),
    ("upkeep", upkeep::report, true),
    ("peer", peer::report, true),
];

fn main() -> BoxResult<()> {
    // Cargo passes `--bench`.
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, report, unasked) in PARTS {
        if asked.iter().any(|part| part == name) || (asked.is_empty() && unasked) {
            report()?;
        }
    }
    Ok(())
}
