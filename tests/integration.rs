//! One binary for all integration tests: each links DataFusion, so that more binaries would cost minutes.

// Tests find their data through the environment.
#![allow(clippy::disallowed_methods)]

mod suite {
    mod bad_input;
    mod behaviour;
    mod checkpoints;
    mod clocks;
    mod deeplog_device;
    mod drift;
    mod emit;
    mod ending;
    mod evaluate;
    mod explain;
    mod failing_files;
    mod faults;
    mod feedback;
    mod files;
    mod fuzz;
    mod hostile;
    mod incremental;
    mod inference;
    mod inference_kind;
    mod joins;
    mod kill;
    mod law;
    mod limits;
    mod log_keys;
    mod manners;
    mod memory;
    mod models;
    mod nexmark;
    mod oracle;
    mod over;
    mod property;
    mod readme;
    mod recovery;
    mod refusals;
    mod restored;
    mod several;
    mod shipped;
    mod side;
    mod simulation;
    mod soak;
    mod staged;
    mod stores;
    mod support;
    mod tables;
    mod tasks;
    mod tidy;
    #[cfg(feature = "neural")]
    mod values;
    mod windows;
    mod workflows;
}
