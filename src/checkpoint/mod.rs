//! Checkpoints: everything an engine knows between two epochs, written so that another engine goes on from there.
//!
//! ```text
//!   all workers       ── epoch ends ──│ state of operators, as tables that share their buffers │── go on ──>
//!   thread that asked                 └──> parts, by content ──> manifest (atomic) ──> sinks publish, old ones go
//! ```
//!
//! A host that starts again builds its engine with the same store, creates the same objects, and pushes rows from where
//! [`Source::resume_at`](crate::Source::resume_at) says. Sources are known by their names, detectors by theirs, a query
//! into a sink by the sink and its text, a subscription by its text. What is not created again is not in the next
//! checkpoint, and what is created after that begins anew. A source may get nullable columns behind its others; queries that do not read all of its columns go on.
//!
//! What that means for each source and sink is said at [`Checkpoints`].

#[cfg(feature = "object_store")]
mod bucket;
mod coordinator;
mod manifest;
mod parts;
mod restore;
mod retry;
mod schedule;
mod store;

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

#[cfg(feature = "object_store")]
pub use bucket::BucketStore;
pub(crate) use coordinator::{Coordinator, QueryToSave, ToSave, no_store};
pub(crate) use manifest::SourceRecord;
pub(crate) use schedule::run;
pub(crate) use store::sync_folder;
pub use store::{CheckpointStore, FolderStore, MemoryStore};

/// Where checkpoints go, and how often they are taken.
///
/// | reads results by | what is guaranteed after a crash |
/// |---|---|
/// | a file sink with `publish = 'checkpoint'` | each row once: files hold the rows of whole checkpoints, see [`WriteMode::Checkpoint`](crate::WriteMode::Checkpoint) |
/// | any other sink, or a callback | each row at least once: rows since the last checkpoint come again |
/// | a subscription | the same; [`Subscription::sequence`](crate::Subscription::sequence) tells which: a host that drops what it had taken beyond that number has each row once |
///
/// What a reader had not taken when the checkpoint was made is in it.
///
/// | pushes rows by | what has to be done after a crash |
/// |---|---|
/// | [`Source::push`](crate::Source::push), or INSERT ... VALUES | push again the rows from [`Source::resume_at`](crate::Source::resume_at) on, in the same order |
/// | files | nothing, if they are the same, in the same order, and nothing else pushes into the source; they may have grown at the end, or files may have been added behind |
///
/// | trouble | what it comes to |
/// |---|---|
/// | a write that is torn or lost, a part that is damaged or missing | refused by its name when the engine is built or the query created; who removes the newest manifest goes back one checkpoint |
/// | a store that fails or panics now and then | each call is tried again four times with growing pauses, over 1.3 s, then the checkpoint fails |
/// | a store that is full or may not be written | the checkpoint fails at once; the engine works on, and the checkpoint before is in force |
/// | a store that is slow | checkpoints take longer, rows do not wait |
/// | an object store that does not answer | each call is given up after `BucketStore::call_time_max`, a minute, then it is as one that fails |
/// | a function or detector of the host's that panics | every handle gives the error; build the engine again, and it goes on from the last checkpoint |
/// | a callback that panics | its query ends, nothing else |
/// | a clock that jumps back | it has stood still |
/// | a clock that jumps ahead | so much time has passed, in which sources with an IDLE TIMEOUT were silent |
///
/// [`Engine::shutdown`](crate::Engine::shutdown) is the end of all streams. With sinks that publish with checkpoints it takes
/// a last one, in which all sources are closed; otherwise it takes none. A sink that cannot write ends its query, and holds
/// all further checkpoints back until it is dropped: the one before has what gives rise to its rows.
///
/// ```
/// use std::time::Duration;
/// use driftline::{Checkpoints, Engine};
///
/// let folder = tempfile::tempdir()?;
/// let checkpoints = Checkpoints::in_folder(folder.path())?.every(Duration::from_secs(10)).keep(3);
/// let engine = Engine::builder().checkpoints(checkpoints).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Of state by key, parts are written that hold a key which has changed: a 256th of all keys each, or more where the state
/// is small. See [`Checkpoint::bytes_written`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Checkpoints {
    store: Arc<dyn CheckpointStore>,
    every: Option<Duration>,
    keep: usize,
}

impl Checkpoints {
    /// In a store, on demand, two of them kept.
    pub fn new(store: Arc<dyn CheckpointStore>) -> Self {
        Self { store, every: None, keep: 2 }
    }

    /// In a folder, which is made if it is missing.
    ///
    /// # Errors
    /// If the folder cannot be made or listed.
    pub fn in_folder(folder: impl Into<std::path::PathBuf>) -> Result<Self> {
        let folder = folder.into();
        let store = FolderStore::open(&folder).map_err(|error| {
            let text = format!("folder \"{}\" cannot be opened: {error}", folder.display());
            Error::new(ErrorKind::Unavailable, text).with_source(error)
        })?;
        Ok(Self::new(Arc::new(store)))
    }

    /// Takes one so often, besides those on demand. An engine that goes on from a checkpoint begins with it once everything
    /// in that one has been created again, or the first row is pushed.
    pub fn every(mut self, interval: Duration) -> Self {
        self.every = Some(interval);
        self
    }

    /// Keeps so many, at least one.
    pub fn keep(mut self, checkpoints: usize) -> Self {
        self.keep = checkpoints.max(1);
        self
    }
}

/// A checkpoint that has been taken, or that an engine goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its number, counted up from 1 for as long as the store lives.
    pub id: u64,
    /// The last epoch in it.
    pub epoch: u64,
    /// Bytes of all its parts.
    pub bytes: u64,
    /// Bytes of those that had to be written: the others had not changed.
    pub bytes_written: u64,
    /// For how long workers took no rows: from when the first had come as far until all went on.
    pub stall: Duration,
    /// How long it took until it was durable.
    pub took: Duration,
}
