//! Batches, time, windows, detectors and dataflow operators of Driftline.
//!
//! This crate knows no SQL, no thread, no file and no wall clock. The `driftline` crate is the one to depend on; this
//! one has no stable interface of its own.

pub mod detector;
pub mod error;
pub mod expression;
pub mod time;
pub mod window;
