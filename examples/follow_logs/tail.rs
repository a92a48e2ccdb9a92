//! A file that grows: whole lines as they come, across rotation and truncation.
//!
//! A file that is rotated is read to its end before the new one of its name is begun. One that is shorter than before was
//! cut, and is read from its start. What is cut or rotated twice between two looks is lost, as for any reader by name.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes of a line; what is longer is cut into several.
const LINE_BYTES_MAX: usize = 1 << 20;

pub struct Tail {
    path: PathBuf,
    file: BufReader<File>,
    /// Bytes of this file that were read.
    position: u64,
    /// A line whose end has not been written yet.
    part: Vec<u8>,
}

impl Tail {
    pub fn open(path: &Path, from_start: bool) -> Result<Self, String> {
        let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
        let mut file = File::open(path).map_err(failed)?;
        let position = if from_start { 0 } else { file.seek(SeekFrom::End(0)).map_err(failed)? };
        Ok(Self { path: path.to_owned(), file: BufReader::new(file), position, part: Vec::new() })
    }

    /// Lines that are there now and have not been read.
    pub fn lines_before(&self) -> io::Result<u64> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.position))?;
        let mut lines = 0;
        let mut reader = BufReader::new(file);
        loop {
            let read = reader.fill_buf()?;
            if read.is_empty() {
                return Ok(lines);
            }
            lines += read.split(|byte| *byte == b'\n').count() as u64 - 1;
            let length = read.len();
            reader.consume(length);
        }
    }

    /// Lines that have been written since, at most so many. None: there is nothing new.
    pub fn read(&mut self, most: usize) -> io::Result<Vec<String>> {
        let mut lines = self.read_file(most)?;
        if !lines.is_empty() {
            return Ok(lines);
        }
        // The end of the file at hand, which may be no longer the one of that name.
        let Ok(named) = std::fs::metadata(&self.path) else { return Ok(lines) };
        let held = self.file.get_ref().metadata()?;
        if is_other(&named, &held) {
            lines.extend(self.rest());
            self.file = BufReader::new(File::open(&self.path)?);
            self.position = 0;
        } else if held.len() < self.position {
            lines.extend(self.rest());
            self.file.seek(SeekFrom::Start(0))?;
            self.position = 0;
        }
        if lines.is_empty() && self.position > 0 {
            return Ok(lines);
        }
        lines.extend(self.read_file(most)?);
        Ok(lines)
    }

    fn read_file(&mut self, most: usize) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        while lines.len() < most {
            let room = LINE_BYTES_MAX - self.part.len();
            let read = (&mut self.file).take(room as u64).read_until(b'\n', &mut self.part)?;
            self.position += read as u64;
            let is_whole = self.part.last() == Some(&b'\n');
            if !is_whole && self.part.len() < LINE_BYTES_MAX {
                // The end for now. The reader remembers no end: it asks the file again.
                break;
            }
            lines.extend(self.rest());
        }
        Ok(lines)
    }

    /// The line whose end was never written.
    pub fn rest(&mut self) -> Option<String> {
        let bytes = std::mem::take(&mut self.part);
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end_matches(['\r', '\n']);
        (!bytes.is_empty()).then(|| line.to_owned())
    }
}

/// Whether two files of one name are not the same.
#[cfg(unix)]
fn is_other(named: &Metadata, held: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (named.dev(), named.ino()) != (held.dev(), held.ino())
}

/// Without numbers of files, a new one shows by its time of creation.
#[cfg(not(unix))]
fn is_other(named: &Metadata, held: &Metadata) -> bool {
    matches!((named.created(), held.created()), (Ok(a), Ok(b)) if a != b)
}
