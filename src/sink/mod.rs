//! Sinks: where results go that no handle of the host reads.

pub(crate) mod files;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

pub use files::{FileSink, FileWriteOptions, WriteMode};

use crate::error::{Error, ErrorKind, Result};

/// A sink by name. Its file is opened by the first INSERT that flows into it, whose columns it takes on, and put in
/// its place when the last one has ended.
#[derive(Debug)]
pub(crate) struct SinkObject {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) options: FileWriteOptions,
    state: Mutex<SinkState>,
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
    pub(crate) fn new(name: String, path: PathBuf, options: FileWriteOptions) -> Self {
        Self { name, path, options, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, SinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes on one more INSERT with columns `schema`.
    pub(crate) fn attach(&self, schema: &SchemaRef) -> Result<()> {
        let mut state = self.lock();
        match &mut *state {
            SinkState::Unopened => {
                let file = FileSink::create(&self.path, schema.clone(), &self.options)?;
                *state = SinkState::Open { file: file.into(), schema: schema.clone(), inserts: 1 };
                Ok(())
            }
            SinkState::Open { schema: known, inserts, .. } if known == schema => {
                *inserts += 1;
                Ok(())
            }
            SinkState::Open { .. } => Err(Error::new(
                ErrorKind::Query,
                format!("sink \"{}\" is being written with other columns", self.name),
            )
            .with_hint("select the same columns, with the same types, or create a second sink")),
            SinkState::Finished => Err(Error::closed(&format!("sink \"{}\"", self.name))
                .with_hint("its queries have ended and its file is complete; create another sink")),
            SinkState::Failed(error) => Err(error.clone()),
        }
    }

    pub(crate) fn write(&self, rows: &RecordBatch) -> Result<()> {
        let mut state = self.lock();
        match &mut *state {
            SinkState::Open { file, .. } => file.write(rows).inspect_err(|error| {
                *state = SinkState::Failed(error.clone());
            }),
            SinkState::Failed(error) => Err(error.clone()),
            SinkState::Unopened | SinkState::Finished => {
                Err(Error::closed(&format!("sink \"{}\"", self.name)))
            }
        }
    }

    /// An INSERT has ended, having given all its rows or not. The last one decides over the file: complete, it is
    /// put in its place; otherwise what was written stays beside it.
    pub(crate) fn detach(&self, end: InsertEnd) -> Result<()> {
        let mut state = self.lock();
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
            InsertEnd::CutShort => Ok(()),
        }
    }
}

/// How an INSERT ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InsertEnd {
    Complete,
    CutShort,
}
