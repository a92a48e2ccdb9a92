//! Logs: what leads to what in them.

pub mod workflow;
