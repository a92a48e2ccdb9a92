//! Proves, over every builtin kind, what users and the engine rely on; a kind added to `builtin_kinds` is tested as well.
//!
//! `fixture.rs` makes the data and runs detectors; `answers.rs` proves what the output says, `cuts.rs` that it does not
//! hang on how rows are cut into batches, `state.rs` what detectors keep, `settings.rs` what they accept. A failure names
//! the kind.

mod answers;
mod cuts;
mod fixture;
mod settings;
mod state;
