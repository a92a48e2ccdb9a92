//! The file that a sink writes: opened, locked, and put in its place at the end.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::options::WriteMode;
use crate::checkpoint::sync_folder;
use crate::error::{Error, ErrorKind, Result};
use crate::source::files::failure::{settings, write_failed};

/// Where the bytes go until the sink is finished.
pub(super) struct Destination {
    /// Where they are in the end.
    pub(super) path: PathBuf,
    /// Where they are until then: beside it, or the same.
    written: PathBuf,
}

impl Destination {
    /// Opens the file for writing at its end, and locks it against other sinks.
    pub(super) fn open(path: &Path, mode: WriteMode) -> Result<(Self, File)> {
        if path.is_dir() {
            return Err(settings(
                format!("path \"{}\" of a file sink is a folder", path.display()),
                "add a file name: 'folder/file.csv'",
            ));
        }
        let written = match mode {
            WriteMode::Append => path.to_owned(),
            WriteMode::Replace | WriteMode::Checkpoint => {
                let mut name = OsString::from(path);
                name.push(".partial");
                name.into()
            }
        };
        let file = OpenOptions::new()
            .read(mode == WriteMode::Append)
            .append(true)
            .create(true)
            .open(&written)
            .map_err(|error| write_failed(&written, error))?;
        lock(&file, &written)?;
        if mode == WriteMode::Replace && is_regular(&file) {
            file.set_len(0).map_err(|error| write_failed(&written, error))?;
        }
        Ok((Self { path: path.to_owned(), written }, file))
    }

    /// Makes the bytes durable and puts the file in its place; `must_last` says that its name has to be durable too.
    pub(super) fn settle(&self, file: &File, must_last: bool) -> Result<()> {
        if is_regular(file) {
            file.sync_all().map_err(|error| write_failed(&self.written, error))?;
        }
        if self.written == self.path {
            return Ok(());
        }
        fs::rename(&self.written, &self.path).map_err(|error| write_failed(&self.path, error))?;
        // The rename is durable once the folder is; not every system can sync one, and the file is whole anyway.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        match sync_folder(folder.unwrap_or(Path::new("."))) {
            Err(error) if must_last => Err(write_failed(&self.path, error)),
            _ => Ok(()),
        }
    }

    /// Removes what is not in its place.
    pub(super) fn discard(&self) {
        if self.written != self.path {
            // It is in nobody's way, and is written over or removed when the sink is created again.
            let _ = fs::remove_file(&self.written);
        }
    }
}

/// Locks a file against other sinks.
pub(super) fn lock(file: &File, path: &Path) -> Result<()> {
    // A device or a pipe belongs to the whole machine: whoever locked it would shut all other processes out. File
    // systems without locks let two sinks collide; there is no remedy that works on all of them.
    if is_regular(file)
        && let Err(TryLockError::WouldBlock) = file.try_lock()
    {
        let message = format!("file \"{}\" is being written by another sink", path.display());
        return Err(Error::new(ErrorKind::Unavailable, message)
            .with_hint("finish the other sink first, or choose another path"));
    }
    Ok(())
}

pub(super) fn is_regular(file: &File) -> bool {
    file.metadata().is_ok_and(|found| found.is_file())
}

/// Ends a last line that has no line feed, as a crash may leave it; says whether the file holds anything.
pub(super) fn mend_last_line(file: &mut File, path: &Path) -> Result<bool> {
    let failed = |error| write_failed(path, error);
    if !is_regular(file) || file.metadata().map_err(failed)?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1)).map_err(failed)?;
    file.read_exact(&mut last).map_err(failed)?;
    if last != *b"\n" {
        file.write_all(b"\n").map_err(failed)?;
    }
    Ok(true)
}
