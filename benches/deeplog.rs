//! DeepLog over real key sequences: accuracy beside trivial baselines, learning from feedback, values of parameters, and
//! speed beside PyTorch.
//!
//! ```text
//! cargo bench --bench deeplog --features neural
//! cargo bench --bench deeplog --features neural -- accuracy seeds=5
//! cargo bench --bench deeplog --features wgpu -- devices        # a network on the processor and on the GPU
//! ```
//!
//! Name parts as arguments to run those alone: `speed`, `cached`, `devices`, `accuracy`, `online`, `hadoop`, `values`,
//! `nezha`; and `choose`, `sweep` and `curve`, which run only when they are asked for, and say first how often they train.
//! `seeds=` (3 unless given, so that it takes minutes; the published mean and spread are those of 5) and `epochs=` (60) may
//! be given, and for `accuracy` `history=` (15, as `sweep` chooses; 10 is published). `sweep` moves the settings that are
//! named beside it (`ngram_history`, `history`, `layers`, `repeats_power`, `hidden`), all of them where none is.
//!
//! The normal sessions held out from training are split in two by their order: one half chooses `top` and the bound of
//! ends, the other is tested. A false alarm in it stands for 553,366 normal sessions of the full test over those in the
//! half. The share that may be raised is that of the paper, 833 of these; a laxer one is printed beside. Labels choose
//! nothing, settings of the network included: see `choose`. Where `python3` has torch, the peer is timed as well.

// A bench prints and reads the clock and the environment.
#![allow(clippy::disallowed_methods)]

#[allow(dead_code)]
#[path = "common/random.rs"]
mod random;

mod deeplog {
    pub(crate) mod accuracy;
    pub(crate) mod choose;
    pub(crate) mod curve;
    mod data;
    pub(crate) mod devices;
    pub(crate) mod hadoop;
    pub(crate) mod nezha;
    pub(crate) mod online;
    pub(crate) mod speed;
    pub(crate) mod values;

    /// What the command line settles.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Asked {
        pub(crate) seeds: u64,
        pub(crate) epochs: usize,
        pub(crate) history: usize,
    }
}

use deeplog::{Asked, accuracy, choose, curve, devices, hadoop, nezha, online, speed, values};

/// A part: its name, what it does, and whether it runs unasked.
type Part = (&'static str, fn(Asked), bool);

const PARTS: [Part; 11] = [
    ("speed", speed::report, true),
    ("cached", speed::cached, true),
    ("devices", devices::report, true),
    ("accuracy", accuracy::report, true),
    ("online", online::report, true),
    ("hadoop", hadoop::report, true),
    ("values", values::report, true),
    ("nezha", nezha::report, true),
    ("choose", choose::report, false),
    ("sweep", choose::sweep, false),
    ("curve", curve::report, false),
];

fn main() {
    // Cargo passes `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let number = |name: &str, default: u64| {
        let given = arguments.iter().find_map(|a| a.strip_prefix(name)?.strip_prefix('='));
        given.and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let asked = Asked {
        seeds: number("seeds", 3).max(1),
        epochs: number("epochs", 60).max(1) as usize,
        history: number("history", 15).max(1) as usize,
    };
    let parts: Vec<&String> = arguments.iter().filter(|a| !a.contains('=')).collect();
    for (name, report, unasked) in PARTS {
        if parts.iter().any(|part| *part == name) || (parts.is_empty() && unasked) {
            report(asked);
        }
    }
}
