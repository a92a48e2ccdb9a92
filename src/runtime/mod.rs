//! Threads, clocks and queues: how rows get to the workers, and how epochs close.
//!
//! ```text
//!   host threads ── push ──> Ingress ── rows, epoch ends, queries ──> worker queues ──> workers (timely)
//!                              ^                                                           |
//!                              └──────────── epochs worked through ────────────────────────┤
//!   readers <── OutputPort (bounded in bytes) <────────────────────────────── results ─────┘
//! ```
//!
//! All workers get the same sequence of epoch ends and queries; each batch goes to one of them. A worker never waits
//! on a lock for long and never on a reader: results that a reader has no room for stay in the worker, and their
//! epoch counts as unfinished, so that no further epoch closes and in the end `push` waits.

pub(crate) mod background;
pub(crate) mod barrier;
mod busy;
pub(crate) mod clock;
pub(crate) mod ingress;
pub(crate) mod output;
pub(crate) mod source_state;
pub(crate) mod threads;
pub(crate) mod worker;

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use crossbeam_channel::Sender;
use driftline_operators::error::Result as ModelResult;
use driftline_operators::model::SavedModels;
use driftline_operators::time::{Epoch, EventTime};

use crate::graph::QuerySpec;
use barrier::Barrier;
use source_state::{SourceCounters, SourceSpec};

/// Names a source within its engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SourceId(pub(crate) u64);

/// Names a query within its engine. A query's upstream always has a lower number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct QueryId(pub(crate) u64);

/// What one worker writes of a detector.
#[derive(Debug)]
pub(crate) struct WorkerModels {
    pub(crate) models: Vec<u8>,
    pub(crate) log_keys: Vec<Vec<u8>>,
}

/// A worker, and what it has to say.
pub(crate) type Answer<T> = (usize, ModelResult<T>);

/// What workers are told, in the order in which they are told it.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// Rows of the open epoch.
    Rows(Rows),
    /// The open epoch ends. All sources whose watermark has moved are named.
    Close { epoch: Epoch, watermarks: Arc<[SourceWatermark]> },
    /// A query starts with the open epoch.
    Install(Arc<Installation>),
    /// Every worker writes the models of a detector, and what the `LOG_KEYS` below it have learned.
    Export { query: QueryId, reply: Sender<Answer<WorkerModels>> },
    /// Every worker takes up its share of models, written by as many workers as there are snapshots; the first, all of
    /// the log keys.
    Import { query: QueryId, models: Arc<SavedModels>, reply: Sender<Answer<()>> },
    /// Every worker gives the state of its operators away, as of the epoch that has just ended.
    Checkpoint(Arc<Barrier>),
    /// A query's results no longer matter.
    Cancel(QueryId),
    /// A source is forgotten; no query reads it.
    Forget(SourceId),
    /// The engine has ended.
    Stop,
}

/// A query and where its sources stand when it starts.
#[derive(Debug)]
pub(crate) struct Installation {
    pub(crate) query: Arc<QuerySpec>,
    pub(crate) sources: Vec<InstalledSource>,
}

/// A source and where it stands when a query over it starts.
#[derive(Debug)]
pub(crate) struct InstalledSource {
    pub(crate) id: SourceId,
    pub(crate) spec: Arc<SourceSpec>,
    pub(crate) counters: Arc<SourceCounters>,
    pub(crate) watermark: EventTime,
    /// Whether the workers have been told that the source has ended.
    pub(crate) ended: bool,
}

/// Rows of one source.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) source: SourceId,
    pub(crate) rows: RecordBatch,
    pub(crate) sequence: u64,
    /// The earliest usable event time among them; `None` where the source has no event time or no row has a usable
    /// one.
    pub(crate) earliest: Option<EventTime>,
    /// Whether some rows have no usable event time.
    pub(crate) has_unusable: bool,
}

/// Where a source's watermark stands once an epoch has closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceWatermark {
    pub(crate) source: SourceId,
    pub(crate) watermark: EventTime,
    /// Whether the source has ended, so that its queries end too.
    pub(crate) ended: bool,
    /// Where the watermark stood last while the source was open.
    pub(crate) while_open: EventTime,
}
