//! What every format's encoder does with a file, and the encoders of text and Arrow IPC.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_ipc::writer::{FileWriter, StreamWriter};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::output::is_regular;
use super::text::{encode_csv, encode_header, encode_ndjson};
use crate::error::Result;
use crate::source::files::CsvOptions;
use crate::source::files::failure::{encode_failed, write_failed};

/// Rows that are turned into text before they are written.
const ROWS_ENCODED_MAX: usize = 8_192;

/// A file being encoded.
pub(super) trait Writer: Send {
    /// Writes a batch whole, or fails.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;
    /// Hands everything written so far to the operating system.
    fn flush(&mut self) -> Result<()>;
    /// Ends the file.
    fn finish(self: Box<Self>) -> Result<File>;
    /// Whether the batch whose writing failed left no trace, so that it can be written again.
    fn is_intact(&self) -> bool {
        false
    }
}

/// A text format.
pub(super) enum TextFormat {
    Csv { csv: CsvOptions, delimiter: u8 },
    Ndjson,
}

/// Text, plain or gzip. Without gzip, a batch that could not be written whole is cut off again.
pub(super) struct TextWriter {
    path: PathBuf,
    format: TextFormat,
    output: TextOutput,
    text: Vec<u8>,
    is_intact: bool,
}

enum TextOutput {
    Plain(File),
    Gzip(Box<GzEncoder<File>>),
}

impl TextWriter {
    pub(super) fn new(
        path: &Path,
        file: File,
        schema: &Schema,
        format: TextFormat,
        is_gzip: bool,
        has_rows: bool,
    ) -> Result<Self> {
        let output = if is_gzip {
            TextOutput::Gzip(Box::new(GzEncoder::new(file, Compression::default())))
        } else {
            TextOutput::Plain(file)
        };
        let mut text = Vec::new();
        if let TextFormat::Csv { csv, delimiter } = &format
            && csv.header
            && !has_rows
        {
            encode_header(schema, csv, *delimiter, &mut text);
        }
        let mut writer = Self { path: path.to_owned(), format, output, text, is_intact: true };
        writer.write_text()?;
        Ok(writer)
    }

    fn write_text(&mut self) -> Result<()> {
        let written = match &mut self.output {
            TextOutput::Plain(file) => file.write_all(&self.text),
            TextOutput::Gzip(encoder) => encoder.write_all(&self.text),
        };
        self.text.clear();
        written.map_err(|error| write_failed(&self.path, error))
    }

    fn write_rows(&mut self, batch: &RecordBatch) -> Result<()> {
        for start in (0..batch.num_rows()).step_by(ROWS_ENCODED_MAX) {
            let rows = batch.slice(start, ROWS_ENCODED_MAX.min(batch.num_rows() - start));
            let (encoded, name) = match &self.format {
                TextFormat::Ndjson => (encode_ndjson(&rows, &mut self.text), "ndjson"),
                TextFormat::Csv { csv, delimiter } => {
                    (encode_csv(&rows, csv, *delimiter, &mut self.text), "csv")
                }
            };
            if let Err(error) = encoded {
                self.text.clear();
                return Err(encode_failed(&self.path, name, error));
            }
            self.write_text()?;
        }
        Ok(())
    }
}

impl Writer for TextWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let length = match &self.output {
            TextOutput::Plain(file) if is_regular(file) => file.metadata().ok().map(|it| it.len()),
            _ => None,
        };
        let written = self.write_rows(batch);
        if written.is_err() {
            self.is_intact = match (&self.output, length) {
                (TextOutput::Plain(file), Some(length)) => file.set_len(length).is_ok(),
                _ => false,
            };
        }
        written
    }

    fn flush(&mut self) -> Result<()> {
        let flushed = match &mut self.output {
            TextOutput::Plain(file) => file.flush(),
            TextOutput::Gzip(encoder) => encoder.flush(),
        };
        flushed.map_err(|error| write_failed(&self.path, error))
    }

    fn finish(self: Box<Self>) -> Result<File> {
        match self.output {
            TextOutput::Plain(file) => Ok(file),
            TextOutput::Gzip(encoder) => {
                encoder.finish().map_err(|error| write_failed(&self.path, error))
            }
        }
    }

    fn is_intact(&self) -> bool {
        self.is_intact
    }
}

/// Arrow IPC. Dictionary columns are written as plain values: the file format cannot change a dictionary midway.
pub(super) struct IpcWriter {
    path: PathBuf,
    schema: SchemaRef,
    output: IpcOutput,
}

enum IpcOutput {
    File(FileWriter<BufWriter<File>>),
    Stream(StreamWriter<BufWriter<File>>),
}

impl IpcWriter {
    pub(super) fn new(path: &Path, file: File, schema: &Schema, is_stream: bool) -> Result<Self> {
        let plain = |field: &Arc<arrow::datatypes::Field>| match field.data_type() {
            DataType::Dictionary(_, values) => {
                Arc::new(field.as_ref().clone().with_data_type(values.as_ref().clone()))
            }
            _ => field.clone(),
        };
        let fields: Vec<_> = schema.fields().iter().map(plain).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        let file = BufWriter::new(file);
        let output = if is_stream {
            StreamWriter::try_new(file, &schema).map(IpcOutput::Stream)
        } else {
            FileWriter::try_new(file, &schema).map(IpcOutput::File)
        };
        let output = output.map_err(|error| encode_failed(path, "arrow ipc", error))?;
        Ok(Self { path: path.to_owned(), schema, output })
    }

    fn failed(&self, error: ArrowError) -> crate::error::Error {
        encode_failed(&self.path, "arrow ipc", error)
    }
}

impl Writer for IpcWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = batch.columns().iter().zip(self.schema.fields());
        let written = columns
            .map(|(column, field)| cast(column, field.data_type()))
            .collect::<Result<Vec<_>, _>>()
            .and_then(|columns| RecordBatch::try_new(self.schema.clone(), columns))
            .and_then(|batch| match &mut self.output {
                IpcOutput::File(writer) => writer.write(&batch),
                IpcOutput::Stream(writer) => writer.write(&batch),
            });
        written.map_err(|error| self.failed(error))
    }

    fn flush(&mut self) -> Result<()> {
        let flushed = match &mut self.output {
            IpcOutput::File(writer) => writer.flush(),
            IpcOutput::Stream(writer) => writer.flush(),
        };
        flushed.map_err(|error| self.failed(error))
    }

    fn finish(self: Box<Self>) -> Result<File> {
        let path = self.path.clone();
        let failed = |error: ArrowError| encode_failed(&path, "arrow ipc", error);
        let buffered = match self.output {
            IpcOutput::File(mut writer) => {
                writer.finish().map_err(failed)?;
                writer.into_inner().map_err(failed)?
            }
            IpcOutput::Stream(mut writer) => {
                writer.finish().map_err(failed)?;
                writer.into_inner().map_err(failed)?
            }
        };
        let unwritten = |error: io::IntoInnerError<_>| write_failed(&path, error.into_error());
        buffered.into_inner().map_err(unwritten)
    }
}
