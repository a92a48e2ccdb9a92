//! Workflows: which log key leads to which, drawn from logs of normal operation, and where a session left the usual
//! way.
//!
//! ```text
//!   runs of one task ─────────────────────────────┐
//!   interleaved log ─> co-occurrence ─> tasks ─ runs ─> Workflow ─> Mermaid, DOT
//!   key model ─> walk of its predictions ──── paths ─┘        └──> diagnosis of a session
//! ```
//!
//! Both methods of DeepLog (Du et al. 2017, section 4; DL-16 to DL-20) come to runs, and one builder finds in them what
//! is in sequence, what is a choice, what runs side by side and what repeats.

mod build;
mod cooccurrence;
mod diagnose;
mod draw;
mod graph;
mod table;
#[cfg(test)]
mod tests;
mod walk;

pub use cooccurrence::{CoOccurrence, TaskSettings, Tasks};
pub use diagnose::{Diagnosis, Oddity};
pub(crate) use diagnose::{NO_NODE, Visit};
pub use graph::{Edge, EdgeKind, Node, Workflow};
pub(crate) use table::{workflow_columns, workflow_fields};
pub use walk::{Walk, WalkSettings};

use crate::time::EventTime;

/// One entry of a run: its log key, and when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The log key.
    pub key: String,
    /// When it was written; `None` where only the order is known.
    pub time: Option<EventTime>,
}

impl Entry {
    /// An entry of which only the order is known.
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), time: None }
    }

    /// An entry with its time.
    pub fn at(key: impl Into<String>, time: EventTime) -> Self {
        Self { key: key.into(), time: Some(time) }
    }
}

/// Entries of a run that are looked at; what comes after them is left out.
pub const RUN_ENTRIES_MAX: usize = 512;
