//! Sinks: where results go that no handle of the host reads.

pub(crate) mod files;
mod names;
mod staged;

use std::path::PathBuf;
use std::sync::Mutex;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use driftline_operators::sync::lock;

pub use files::{FileSink, FileWriteOptions, WriteMode};

use crate::error::{Error, ErrorKind, Result};

pub(crate) use staged::{StagedFiles, takes_none};

/// A sink by name.
#[derive(Debug)]
pub(crate) struct SinkObject {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    output: Output,
}

/// When the rows of a sink can be seen.
#[derive(Debug)]
enum Output {
    /// As its mode says. The file is opened by the first INSERT, whose columns it takes on, and put in its place when the
    /// last one has ended.
    File { options: FileWriteOptions, state: Mutex<SinkState> },
    /// With checkpoints.
    Staged(StagedFiles),
}

#[derive(Debug, Default)]
enum SinkState {
    #[default]
    Unopened,
    Open {
        file: Box<FileSink>,
        schema: SchemaRef,
        inserts: usize,
    },
    Finished,
    Failed(Error),
}

impl SinkObject {
    pub(crate) fn new(name: String, path: PathBuf, options: FileWriteOptions) -> Result<Self> {
        let output = match options.mode {
            WriteMode::Checkpoint => Output::Staged(StagedFiles::new(&name, &path, &options)?),
            WriteMode::Replace | WriteMode::Append => {
                Output::File { options, state: Mutex::default() }
            }
        };
        Ok(Self { name, path, output })
    }

    /// Its files, if they are published with checkpoints.
    pub(crate) fn staged(&self) -> Option<&StagedFiles> {
        match &self.output {
            Output::Staged(files) => Some(files),
            Output::File { .. } => None,
        }
    }

    /// Takes on one more INSERT with columns `schema`, while checkpoint `barrier` is the last that was begun; the number of
    /// the INSERT.
    pub(crate) fn attach(&self, schema: &SchemaRef, barrier: u64) -> Result<u32> {
        let (options, state) = match &self.output {
            Output::Staged(files) => return files.attach(schema, barrier),
            Output::File { options, state } => (options, state),
        };
        let mut state = lock(state);
        match &mut *state {
            SinkState::Unopened => {
                let file = FileSink::create(&self.path, schema.clone(), options)?;
                *state = SinkState::Open { file: file.into(), schema: schema.clone(), inserts: 1 };
                Ok(1)
            }
            SinkState::Open { schema: known, inserts, .. } if known == schema => {
                *inserts += 1;
                Ok(1)
            }
            SinkState::Open { .. } => Err(other_columns(&self.name)),
            SinkState::Finished => Err(self
                .closed()
                .with_hint("its queries have ended and its file is complete; create another sink")),
            SinkState::Failed(error) => Err(error.clone()),
        }
    }

    fn closed(&self) -> Error {
        Error::closed(&format!("sink \"{}\"", self.name))
    }

    /// Writes what an INSERT has given.
    pub(crate) fn write(&self, insert: u32, rows: &RecordBatch) -> Result<()> {
        let state = match &self.output {
            Output::Staged(files) => return files.write(insert, rows),
            Output::File { state, .. } => state,
        };
        let mut state = lock(state);
        match &mut *state {
            SinkState::Open { file, .. } => file.write(rows).inspect_err(|error| {
                *state = SinkState::Failed(error.clone());
            }),
            SinkState::Failed(error) => Err(error.clone()),
            SinkState::Unopened | SinkState::Finished => Err(self.closed()),
        }
    }

    /// An INSERT has given all that belongs to a checkpoint.
    pub(crate) fn mark(&self, insert: u32, checkpoint: u64) -> Result<()> {
        self.staged().map_or(Ok(()), |files| files.mark(insert, checkpoint))
    }

    /// An INSERT has ended, having given all its rows or not. The last one decides over the file: complete, it is
    /// put in its place; otherwise what was written stays beside it.
    pub(crate) fn detach(&self, insert: u32, end: InsertEnd, error: Option<&Error>) -> Result<()> {
        let state = match &self.output {
            Output::Staged(files) => {
                files.detach(insert, end, error);
                return Ok(());
            }
            Output::File { state, .. } => state,
        };
        let mut state = lock(state);
        let SinkState::Open { inserts, .. } = &mut *state else { return Ok(()) };
        *inserts -= 1;
        if *inserts > 0 {
            return Ok(());
        }
        let SinkState::Open { file, .. } = std::mem::replace(&mut *state, SinkState::Finished)
        else {
            return Ok(());
        };
        match end {
            InsertEnd::Complete => file.finish().map(|_| ()).inspect_err(|error| {
                *state = SinkState::Failed(error.clone());
            }),
            InsertEnd::CutShort | InsertEnd::NeverBegan => Ok(()),
        }
    }
}

fn other_columns(sink: &str) -> Error {
    let message = format!("sink \"{sink}\" is being written with other columns");
    Error::new(ErrorKind::Query, message)
        .with_hint("select the same columns, with the same types, or create a second sink")
}

/// How an INSERT ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InsertEnd {
    Complete,
    CutShort,
    NeverBegan,
}
