//! Batches, time, windows, detectors and dataflow operators of Driftline.
//!
//! This crate knows no SQL, no thread but those that take turns in a simulation, no file and no wall clock. The `driftline` crate is the one to depend on; this
//! one has no stable interface of its own.

pub mod background;
pub mod batch;
pub mod changes;
pub mod dataflow;
pub mod detector;
pub mod detectors;
pub mod distinct;
pub mod error;
pub mod evaluate;
pub mod expression;
pub mod inference;
pub mod join;
pub mod key;
pub mod keyed;
pub mod logs;
pub mod lookup;
pub mod model;
pub mod moments;
#[cfg(feature = "neural")]
pub mod neural;
pub mod options;
pub mod over;
mod rows;
pub mod state;
pub mod sync;
pub mod time;
pub mod window;
