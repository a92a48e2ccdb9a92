//! Lines of a text file, plain or gzip, read in bounded memory and numbered from 1.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::failure::{data, read_failed};
use crate::error::{Error, Result};

/// The longest record; a longer one is malformed and skipped without being held.
pub(super) const RECORD_BYTES_MAX: usize = 1 << 20;
const CHUNK_BYTES: usize = 64 << 10;

/// Where a line ends, in bytes after the start of the unread text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// After this line's line feed.
    Feed(usize),
    /// At the end of the file, without a line feed; zero where the file had ended before.
    File(usize),
    /// Further away than [`RECORD_BYTES_MAX`].
    TooFar,
}

/// A text file as a window of unread bytes, from which whole lines are consumed.
pub(super) struct Lines {
    path: PathBuf,
    input: Box<dyn Read + Send>,
    is_gzip: bool,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    number: u64,
}

impl Lines {
    /// Opens a text file; gzip is told by its first bytes, a byte order mark is passed over.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (input, is_gzip) = open_bytes(path)?;
        let mut lines = Self {
            path: path.to_owned(),
            input,
            is_gzip,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            number: 1,
        };
        while lines.unread().len() < 6 && lines.fill()? {}
        let head = lines.unread();
        if head.starts_with(b"\xEF\xBB\xBF") {
            lines.start += 3;
        } else if head.starts_with(b"\xFF\xFE") || head.starts_with(b"\xFE\xFF") {
            return Err(data(path, "is UTF-16 text").with_hint("convert it to UTF-8"));
        } else if let Some(format) = binary_format(head) {
            return Err(data(path, format!("is {format}, not text"))
                .with_hint("check the option \"format\" and the file's extension"));
        }
        Ok(lines)
    }

    /// The number of the next unread line.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes that were read and not yet consumed.
    pub(super) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Finds the end of the line that begins `from` bytes after the start of the unread text.
    pub(super) fn line_end(&mut self, from: usize) -> Result<LineEnd> {
        let mut scanned = from;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.unread()[scanned..]) {
                return Ok(LineEnd::Feed(scanned + at + 1));
            }
            scanned = self.unread().len();
            if scanned > RECORD_BYTES_MAX {
                return Ok(LineEnd::TooFar);
            }
            if !self.fill()? {
                return Ok(LineEnd::File(scanned));
            }
        }
    }

    /// Consumes `bytes` that span `lines` lines.
    pub(super) fn consume(&mut self, bytes: usize, lines: u64) {
        self.start += bytes;
        self.number += lines;
    }

    /// Consumes one line of any length, without holding it.
    pub(super) fn skip_line(&mut self) -> Result<()> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', self.unread()) {
                self.consume(at + 1, 1);
                return Ok(());
            }
            self.start = self.end;
            if !self.fill()? {
                self.number += 1;
                return Ok(());
            }
        }
    }

    /// Reads some more bytes; false at the end of the file.
    fn fill(&mut self) -> Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.buffer.len() - self.end < CHUNK_BYTES {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            self.buffer.resize(self.end + 2 * CHUNK_BYTES, 0);
        }
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(bytes) => {
                    self.end += bytes;
                    return Ok(bytes > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    fn failed(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof if self.is_gzip => {
                data(&self.path, "is a truncated gzip file").with_source(error)
            }
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput if self.is_gzip => {
                data(&self.path, "is a corrupt gzip file").with_source(error)
            }
            _ => read_failed(&self.path, error),
        }
    }
}

/// A line without its line end.
pub(super) fn trim_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn open_bytes(path: &Path) -> Result<(Box<dyn Read + Send>, bool)> {
    let mut file = File::open(path).map_err(|error| read_failed(path, error))?;
    let mut magic = [0; 2];
    let mut filled = 0;
    while filled < magic.len() {
        match file.read(&mut magic[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read_failed(path, error)),
        }
    }
    // The two bytes are put back in front instead of seeking, so that a named pipe can be read too.
    let whole = io::Cursor::new(magic).take(filled as u64).chain(file);
    if magic == [0x1f, 0x8b] {
        // Several members in a row are one file: log shippers append them.
        Ok((Box::new(MultiGzDecoder::new(io::BufReader::new(whole))), true))
    } else {
        Ok((Box::new(whole), false))
    }
}

fn binary_format(head: &[u8]) -> Option<&'static str> {
    [
        (&b"PAR1"[..], "a parquet file"),
        (b"ARROW1", "an arrow file"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x28\xB5\x2F\xFD", "zstd"),
        (b"BZh", "bzip2"),
        (b"\xFD7zXZ", "xz"),
    ]
    .into_iter()
    .find_map(|(magic, name)| head.starts_with(magic).then_some(name))
}
