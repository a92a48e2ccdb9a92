//! Arrow IPC, the stream format and the file format, which is a stream between a magic word and a footer.
//!
//! Both are read front to back as a stream. The lengths in a message are checked against the bytes that are left in
//! the file before memory is set aside for them: a corrupt length would otherwise abort the process.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::{Schema, SchemaRef};
use arrow_ipc::convert::fb_to_schema;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::{FieldNode, MessageHeader, root_as_message};

use super::failure::{data, decode_failed, read_failed, without_panic};
use super::options::FileReadOptions;
use super::table::{RawBatch, RowLines, Table, match_columns};
use crate::error::{Error, Result};

const FORMAT: &str = "arrow ipc";
const MAGIC: &[u8; 6] = b"ARROW1";
/// The longest padding after the magic word, in words of four bytes.
const MAGIC_PADDING_WORDS_MAX: usize = 16;
const CONTINUATION: [u8; 4] = [0xFF; 4];
/// The largest buffer that a compressed one may claim to expand to, and the most rows of one message.
const EXPANDED_BYTES_MAX: i64 = 4 << 30;
const MESSAGE_ROWS_MAX: i64 = 1 << 31;

/// An Arrow IPC file.
pub(super) struct IpcTable {
    messages: Messages<BufReader<File>>,
    columns: Vec<Option<usize>>,
    batch_rows: usize,
    row_number: u64,
    /// Slices of a batch that had more rows than were asked for.
    waiting: VecDeque<RecordBatch>,
}

impl IpcTable {
    /// Opens a file to read the columns of `target`.
    pub(super) fn open(path: &Path, target: &SchemaRef, options: &FileReadOptions) -> Result<Self> {
        let messages = Messages::open(path)?;
        let names: Vec<_> =
            messages.schema.fields().iter().map(|field| field.name().clone()).collect();
        Ok(Self {
            columns: match_columns(path, target, &names, &options.columns)?,
            messages,
            batch_rows: options.batch_rows,
            row_number: 1,
            waiting: VecDeque::new(),
        })
    }
}

impl Table for IpcTable {
    fn next(&mut self) -> Result<Option<RawBatch>> {
        while self.waiting.is_empty() {
            let Some(batch) = self.messages.next_batch()? else { return Ok(None) };
            for start in (0..batch.num_rows()).step_by(self.batch_rows) {
                let rows = self.batch_rows.min(batch.num_rows() - start);
                self.waiting.push_back(batch.slice(start, rows));
            }
        }
        Ok(self.waiting.pop_front().map(|batch| {
            let first = self.row_number;
            self.row_number += batch.num_rows() as u64;
            RawBatch::of_columns(&batch, &self.columns, first)
        }))
    }
}

impl RawBatch {
    /// Picks the columns of a batch that was decoded whole.
    pub(super) fn of_columns(batch: &RecordBatch, columns: &[Option<usize>], first: u64) -> Self {
        Self {
            columns: columns.iter().map(|at| at.map(|at| batch.column(at).clone())).collect(),
            rows: batch.num_rows(),
            lines: RowLines::From(first),
            refused: Vec::new(),
        }
    }
}

/// The schema of a file.
pub(super) fn schema_of(path: &Path) -> Result<SchemaRef> {
    Messages::open(path).map(|messages| messages.schema)
}

/// The batches of a stream that is in memory, under the name that errors tell.
pub(crate) fn batches_of(name: &str, bytes: Vec<u8>) -> Result<Vec<RecordBatch>> {
    let length = bytes.len() as u64;
    let mut messages = Messages::of(Path::new(name), Cursor::new(bytes), length)?;
    std::iter::from_fn(|| messages.next_batch().transpose()).collect()
}

/// The messages of a stream.
struct Messages<R> {
    path: PathBuf,
    input: R,
    bytes_left: u64,
    is_file_format: bool,
    has_ended: bool,
    decoder: StreamDecoder,
    schema: SchemaRef,
    /// Batches that are decoded and not handed out: at most two, as the decoder looks one message back.
    ready: VecDeque<RecordBatch>,
}

impl Messages<BufReader<File>> {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| read_failed(path, error))?;
        let length = file.metadata().map_err(|error| read_failed(path, error))?.len();
        Self::of(path, BufReader::new(file), length)
    }
}

impl<R: Read + Seek> Messages<R> {
    fn of(path: &Path, input: R, bytes_left: u64) -> Result<Self> {
        let mut messages = Self {
            path: path.to_owned(),
            input,
            bytes_left,
            is_file_format: false,
            has_ended: false,
            decoder: StreamDecoder::new().with_require_alignment(false),
            schema: Arc::new(Schema::empty()),
            ready: VecDeque::new(),
        };
        let mut head = messages.take::<4>()?;
        if head[..] == MAGIC[..4] {
            // "ARROW1" and zeros up to the writer's alignment, of 8 or 64 bytes; the stream follows.
            messages.is_file_format = true;
            messages.take::<4>()?;
            for _ in 0..MAGIC_PADDING_WORDS_MAX {
                head = messages.take::<4>()?;
                if head != [0; 4] {
                    break;
                }
            }
        }
        let Some(message) = messages.message(head)? else {
            return Err(data(path, "is an arrow stream without a schema"));
        };
        messages.schema = without_panic(path, FORMAT, || {
            let meta = root_as_message(&message[8..]);
            let meta = meta.map_err(|error| decode_failed(path, FORMAT, error.to_string()))?;
            let schema = meta.header_as_schema().map(fb_to_schema).map(Arc::new);
            schema.ok_or_else(|| data(path, "is an arrow stream without a schema"))
        })?;
        messages.decode(message)?;
        Ok(messages)
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        while self.ready.is_empty() && !self.has_ended {
            // The stream format may end without an end mark, the file format may not.
            let message = if self.bytes_left == 0 && !self.is_file_format {
                None
            } else {
                let head = self.take::<4>()?;
                self.message(head)?
            };
            self.has_ended = message.is_none();
            if self.has_ended && self.is_file_format {
                self.check_tail()?;
            }
            // The decoder hands out a message without a body when it sees the next one; the end mark is one.
            self.decode(message.unwrap_or_else(|| Buffer::from([CONTINUATION, [0; 4]].concat())))?;
        }
        Ok(self.ready.pop_front())
    }

    /// Refuses a file whose footer was cut off: its writer did not finish, or its copy did not.
    fn check_tail(&mut self) -> Result<()> {
        let mut tail = [0; MAGIC.len()];
        let to_tail = SeekFrom::End(-6);
        self.input.seek(to_tail).map_err(|error| read_failed(&self.path, error))?;
        self.fill(&mut tail)?;
        if tail == *MAGIC {
            Ok(())
        } else {
            Err(decode_failed(&self.path, FORMAT, "it has no footer"))
        }
    }

    fn decode(&mut self, message: Buffer) -> Result<()> {
        let Self { path, decoder, ready, .. } = self;
        without_panic(path, FORMAT, || {
            let mut rest = message;
            while !rest.is_empty() {
                let batch = decoder.decode(&mut rest);
                ready.extend(batch.map_err(|error| decode_failed(path, FORMAT, error))?);
            }
            Ok(())
        })
    }

    /// Reads the rest of a message whose first four bytes are `head`; `None` at the end mark.
    fn message(&mut self, head: [u8; 4]) -> Result<Option<Buffer>> {
        let length = if head == CONTINUATION { self.take::<4>()? } else { head };
        let meta_bytes = match i32::from_le_bytes(length) {
            0 => return Ok(None),
            length => self.checked(i64::from(length))?,
        };
        let mut meta = vec![0; meta_bytes];
        self.fill(&mut meta)?;
        let body_bytes = {
            let path = &self.path;
            let message = without_panic(path, FORMAT, || {
                root_as_message(&meta)
                    .map_err(|error| decode_failed(path, FORMAT, error.to_string()))
            })?;
            self.checked(message.bodyLength())?
        };
        let mut whole = MutableBuffer::from_len_zeroed(8 + meta_bytes + body_bytes);
        whole[..4].copy_from_slice(&CONTINUATION);
        whole[4..8].copy_from_slice(&length);
        whole[8..8 + meta_bytes].copy_from_slice(&meta);
        self.fill(&mut whole[8 + meta_bytes..])?;
        let path = &self.path;
        without_panic(path, FORMAT, || check_lengths(path, &meta, &whole[8 + meta_bytes..]))?;
        Ok(Some(whole.into()))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.input.read_exact(bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => decode_failed(&self.path, FORMAT, error),
            _ => read_failed(&self.path, error),
        })?;
        self.bytes_left = self.bytes_left.saturating_sub(bytes.len() as u64);
        Ok(())
    }

    fn checked(&self, length: i64) -> Result<usize> {
        match usize::try_from(length) {
            Ok(length) if length as u64 <= self.bytes_left => Ok(length),
            _ => Err(impossible(&self.path)),
        }
    }
}

fn impossible(path: &Path) -> Error {
    decode_failed(path, FORMAT, "a length in it is impossible")
}

/// Refuses row counts, buffers beyond the message and expanded sizes that no writer makes, before the decoder
/// relies on them.
fn check_lengths(path: &Path, meta: &[u8], body: &[u8]) -> Result<()> {
    let message =
        root_as_message(meta).map_err(|error| decode_failed(path, FORMAT, error.to_string()))?;
    let batch = match message.header_type() {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => {
            message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data())
        }
        _ => None,
    };
    let Some(batch) = batch else { return Ok(()) };
    let nodes = batch.nodes().into_iter().flatten().map(FieldNode::length);
    let are_rows_possible =
        nodes.chain([batch.length()]).all(|rows| (0..=MESSAGE_ROWS_MAX).contains(&rows));
    let is_compressed = batch.compression().is_some();
    let is_buffer_possible = |offset: i64, length: i64| {
        let (Ok(start), Ok(length)) = (usize::try_from(offset), usize::try_from(length)) else {
            return false;
        };
        let Some(bytes) = start.checked_add(length).and_then(|end| body.get(start..end)) else {
            return false;
        };
        // An empty buffer has no expanded length; -1 means that it is stored as it is.
        let expanded = bytes.first_chunk::<8>().map(|bytes| i64::from_le_bytes(*bytes));
        !is_compressed
            || bytes.is_empty()
            || expanded.is_some_and(|bytes| (-1..=EXPANDED_BYTES_MAX).contains(&bytes))
    };
    let mut buffers = batch.buffers().into_iter().flatten();
    let are_buffers_possible =
        buffers.all(|buffer| is_buffer_possible(buffer.offset(), buffer.length()));
    if are_rows_possible && are_buffers_possible { Ok(()) } else { Err(impossible(path)) }
}
