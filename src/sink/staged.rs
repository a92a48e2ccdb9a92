//! Files that are published with checkpoints: staged until a checkpoint names them, then renamed.
//!
//! ```text
//!   rows of an INSERT ──> alerts.ndjson.1.partial ── mark of checkpoint 7 ──> alerts-00000000000000000007.ndjson.staged
//!   checkpoint 7 durable, and names it ──> alerts-00000000000000000007.ndjson
//! ```
//!
//! So whatever is under a final name belongs to a checkpoint, and whatever a checkpoint holds is under a final name or,
//! after a crash between the two, is put there when the sink is created again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::time::Duration;
use std::{fs, io};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use driftline_operators::sync::{Monitor, turns};

use super::InsertEnd;
use super::files::{FileSink, FileWriteOptions, WriteMode};
use super::names::{FileNames, Found};
use crate::checkpoint::sync_folder;
use crate::error::{Error, ErrorKind, Result};
use crate::source::files::failure::{read_failed, write_failed};

/// How often whoever waits for an INSERT makes sure that the engine is still there.
const CHECK: Duration = Duration::from_millis(100);

/// The files of one sink.
#[derive(Debug)]
pub(crate) struct StagedFiles {
    sink: String,
    path: PathBuf,
    names: FileNames,
    options: FileWriteOptions,
    /// Rings when an INSERT has met a checkpoint, has ended or has failed.
    state: Monitor<State>,
}

#[derive(Debug, Default)]
struct State {
    schema: Option<SchemaRef>,
    inserts: BTreeMap<u32, Insert>,
    /// Files that are whole and not published: the checkpoint that they belong to, and their final names.
    sealed: Vec<(u64, String)>,
    /// Why the sink takes nothing more.
    failure: Option<Error>,
}

/// An INSERT that runs, or that has ended with rows which no checkpoint holds yet.
#[derive(Debug)]
struct Insert {
    /// The last checkpoint that it has met, or that was on its way when it began.
    met: u64,
    /// Rows since then.
    file: Option<FileSink>,
    ended: bool,
}

impl State {
    fn check(&self) -> Result<()> {
        self.failure.as_ref().map_or(Ok(()), |error| Err(error.clone()))
    }
}

impl StagedFiles {
    pub(crate) fn new(sink: &str, path: &Path, options: &FileWriteOptions) -> Result<Self> {
        let options = FileWriteOptions { mode: WriteMode::Replace, ..options.clone() };
        Ok(Self {
            sink: sink.to_owned(),
            path: path.to_owned(),
            names: FileNames::of(path)?,
            options,
            state: Monitor::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Whether the sink can still be written.
    pub(crate) fn check(&self) -> Result<()> {
        self.lock().check()
    }

    /// Whether it holds rows that no checkpoint has published.
    pub(crate) fn holds_rows(&self) -> bool {
        let state = self.lock();
        state.failure.is_none() && !(state.inserts.is_empty() && state.sealed.is_empty())
    }

    // ---- the life of an INSERT ----

    /// Takes on one more INSERT with columns `schema`, while checkpoint `barrier` is the last that was begun. Its file is
    /// opened at once, so that what is wrong with it is told at once.
    pub(crate) fn attach(&self, schema: &SchemaRef, barrier: u64) -> Result<u32> {
        let mut state = self.lock();
        state.check()?;
        if state.schema.as_ref().is_some_and(|known| known != schema) {
            return Err(super::other_columns(&self.sink));
        }
        let number = state.inserts.keys().max().map_or(1, |last| last + 1);
        let file = Some(self.open(number, schema)?);
        state.inserts.insert(number, Insert { met: barrier, file, ended: false });
        state.schema = Some(schema.clone());
        Ok(number)
    }

    fn open(&self, insert: u32, schema: &SchemaRef) -> Result<FileSink> {
        let unfinished = self.names.unfinished(insert);
        FileSink::create_like(unfinished, &self.path, schema.clone(), &self.options)
    }

    pub(crate) fn write(&self, insert: u32, rows: &RecordBatch) -> Result<()> {
        self.with_insert(insert, |_, found| {
            let file = match found.file.take() {
                Some(file) => file,
                None => self.open(insert, &rows.schema())?,
            };
            found.file.insert(file).write(rows)
        })
    }

    /// An INSERT has given all its rows that belong to a checkpoint: they become a file, if there are any.
    pub(crate) fn mark(&self, insert: u32, checkpoint: u64) -> Result<()> {
        self.with_insert(insert, |sealed, found| {
            found.met = checkpoint;
            let Some(file) = found.file.take_if(|file| file.rows_written() > 0) else {
                return Ok(());
            };
            sealed.push((checkpoint, self.seal_file(file, insert, checkpoint)?));
            Ok(())
        })
    }

    /// Works on an INSERT. An error is the end of the sink: a checkpoint without these rows would lose them.
    fn with_insert(
        &self,
        insert: u32,
        work: impl FnOnce(&mut Vec<(u64, String)>, &mut Insert) -> Result<()>,
    ) -> Result<()> {
        let mut state = self.lock();
        state.check()?;
        let State { inserts, sealed, .. } = &mut *state;
        let Some(found) = inserts.get_mut(&insert) else {
            return Err(Error::closed(&format!("sink \"{}\"", self.sink)));
        };
        let done = work(sealed, found);
        if let Err(error) = &done {
            state.failure = Some(error.clone());
        }
        drop(state);
        self.state.ring();
        done
    }

    /// An INSERT has ended. If it gave all its rows, the next checkpoint publishes those that are left.
    pub(crate) fn detach(&self, insert: u32, end: InsertEnd, error: Option<&Error>) {
        let mut state = self.lock();
        let Some(mut found) = state.inserts.remove(&insert) else { return };
        let has_rows = found.file.as_ref().is_some_and(|file| file.rows_written() > 0);
        match end {
            InsertEnd::Complete if has_rows && state.failure.is_none() => {
                found.ended = true;
                state.inserts.insert(insert, found);
            }
            InsertEnd::Complete | InsertEnd::NeverBegan => {
                found.file.into_iter().for_each(FileSink::discard);
            }
            InsertEnd::CutShort => {
                let closed = || Error::closed(&format!("sink \"{}\"", self.sink));
                state.failure.get_or_insert_with(|| error.cloned().unwrap_or_else(closed));
                found.file.into_iter().for_each(FileSink::discard);
            }
        }
        drop(state);
        self.state.ring();
    }

    // ---- checkpoints ----

    /// Waits until every INSERT has met a checkpoint; the files that it has to publish, whole and durable.
    pub(crate) fn seal(&self, checkpoint: u64, is_over: impl Fn() -> bool) -> Result<Vec<String>> {
        let mut state = self.lock();
        loop {
            state.check()?;
            let has_met = |insert: &Insert| insert.ended || insert.met >= checkpoint;
            if state.inserts.values().all(has_met) {
                break;
            }
            if is_over() {
                return Err(Error::closed("engine"));
            }
            state = self.state.wait_for(state, CHECK);
        }
        let is_done = |insert: &Insert| insert.ended && insert.met < checkpoint;
        let done: Vec<u32> =
            state.inserts.iter().filter(|(_, it)| is_done(it)).map(|(number, _)| *number).collect();
        for number in done {
            let Some(file) = state.inserts.remove(&number).and_then(|insert| insert.file) else {
                continue;
            };
            match self.seal_file(file, number, checkpoint) {
                Ok(name) => state.sealed.push((checkpoint, name)),
                Err(error) => {
                    state.failure = Some(error.clone());
                    return Err(error);
                }
            }
        }
        Ok(state.sealed.iter().map(|(_, name)| name.clone()).collect())
    }

    fn seal_file(&self, file: FileSink, insert: u32, checkpoint: u64) -> Result<String> {
        let name = self.names.published(checkpoint, insert);
        file.finish_as(&self.names.staged(&name))?;
        Ok(name)
    }

    /// A checkpoint is durable that names these files: they get their final names.
    pub(crate) fn publish(&self) -> Result<()> {
        turns::pause();
        let mut state = self.lock();
        let sealed = std::mem::take(&mut state.sealed);
        if sealed.is_empty() {
            return Ok(());
        }
        let renamed = sealed.iter().try_for_each(|(_, name)| self.rename(name));
        renamed.and_then(|()| self.sync()).inspect_err(|error| {
            // They are published when the sink is created by an engine that goes on from that checkpoint.
            state.failure = Some(error.clone());
        })
    }

    fn rename(&self, name: &str) -> Result<()> {
        let path = self.names.folder.join(name);
        fs::rename(self.names.staged(name), &path).map_err(|error| write_failed(&path, error))
    }

    fn sync(&self) -> Result<()> {
        sync_folder(&self.names.folder).map_err(|error| write_failed(&self.path, error))
    }

    // ---- after a crash ----

    /// Puts the folder into the state of a checkpoint, or of none if that is 0: the files that it names are published,
    /// other staged ones are removed, and what was published by a later one is set aside under another name.
    pub(crate) fn recover(&self, checkpoint: u64, named: &[String]) -> Result<()> {
        let named: BTreeSet<&str> = named.iter().map(String::as_str).collect();
        let folder = &self.names.folder;
        let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        for entry in entries.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => write_failed(&self.path, error),
            _ => read_failed(folder, error),
        })? {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let path = entry.path();
            let failed = |error| write_failed(&path, error);
            match self.names.find(name) {
                Some(Found::Staged(published)) if named.contains(published) => {
                    self.rename(published)?;
                }
                Some(Found::Staged(_)) => fs::remove_file(&path).map_err(failed)?,
                Some(Found::Unfinished) => {
                    // Refuses a file that another process writes.
                    FileSink::refuse_locked(&path)?;
                    fs::remove_file(&path).map_err(failed)?;
                }
                Some(Found::Published(id)) if id > checkpoint => {
                    fs::rename(&path, free_name(&path)).map_err(failed)?;
                }
                Some(Found::Published(_)) | None => {}
            }
        }
        self.sync()
    }
}

/// A name beside a file that nothing has.
fn free_name(path: &Path) -> PathBuf {
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(
            ".set_aside{}",
            if number == 1 { String::new() } else { format!("-{number}") }
        ));
        PathBuf::from(name)
    };
    (1..u32::MAX).map(name).find(|name| !name.exists()).unwrap_or_else(|| name(u32::MAX))
}

/// What a sink that publishes with checkpoints is told by an engine that takes none.
pub(crate) fn takes_none(sink: &str) -> Error {
    let message = format!("sink \"{sink}\" publishes with checkpoints, and the engine takes none");
    Error::new(ErrorKind::Settings, message).with_hint(
        "build the engine with .checkpoints(Checkpoints::in_folder(path)?), or leave publish = 'checkpoint' out",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::super::names::STAGED;
    use super::*;

    fn rows(values: &[i64]) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        RecordBatch::try_from_iter([("n", column)]).unwrap()
    }

    fn files(path: &Path) -> StagedFiles {
        StagedFiles::new("out", path, &FileWriteOptions::default()).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn rows_are_seen_once_their_checkpoint_is_durable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ndjson");
        let sink = files(&path);
        let (one, two) = (rows(&[1]), rows(&[2]));
        let first = sink.attach(&one.schema(), 0).unwrap();
        let second = sink.attach(&one.schema(), 0).unwrap();
        sink.write(first, &one).unwrap();
        sink.mark(first, 1).unwrap();
        // A row of the next checkpoint, while the other INSERT has not met this one.
        sink.write(first, &two).unwrap();
        assert!(sink.seal(1, || true).is_err(), "the other INSERT has not met it");
        sink.write(second, &two).unwrap();
        sink.mark(second, 1).unwrap();
        let staged = sink.seal(1, || true).unwrap();
        assert_eq!(staged, ["a-00000000000000000001.ndjson", "a-00000000000000000001-2.ndjson"]);
        assert!(!folder.path().join(&staged[0]).exists());
        sink.publish().unwrap();
        assert_eq!(fs::read_to_string(folder.path().join(&staged[0])).unwrap(), "{\"n\":1}\n");
        assert_eq!(fs::read_to_string(folder.path().join(&staged[1])).unwrap(), "{\"n\":2}\n");
        // No rows, no file; what an INSERT leaves at its end waits for the next checkpoint.
        sink.detach(second, InsertEnd::Complete, None);
        sink.detach(first, InsertEnd::Complete, None);
        assert!(sink.holds_rows());
        assert_eq!(sink.seal(2, || true).unwrap(), ["a-00000000000000000002.ndjson"]);
        sink.publish().unwrap();
        assert!(!sink.holds_rows());
        assert_eq!(names(folder.path()).len(), 3);
    }

    #[test]
    fn a_folder_is_put_into_the_state_of_a_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| fs::write(folder.path().join(name), name).unwrap();
        let id = |id: u64| format!("a-{id:020}.ndjson");
        file(&id(1));
        file(&format!("{}{STAGED}", id(2)));
        file(&format!("{}{STAGED}", id(3)));
        file(&id(4));
        file("a.ndjson.1.partial");
        for other in ["a.ndjson", "b-00000000000000000004.ndjson", "a-4.ndjson"] {
            file(other);
        }
        let sink = files(&folder.path().join("a.ndjson"));
        sink.recover(2, &[id(1), id(2)]).unwrap();
        let set_aside = format!("{}.set_aside", id(4));
        let mut expected = [id(1), id(2), set_aside].to_vec();
        expected
            .extend(["a.ndjson", "b-00000000000000000004.ndjson", "a-4.ndjson"].map(str::to_owned));
        expected.sort();
        assert_eq!(names(folder.path()), expected);
        let gone = files(&folder.path().join("gone").join("a.ndjson"));
        assert!(gone.recover(2, &[]).unwrap_err().hint().unwrap().contains("create the folder"));
    }
}
