//! Errors of reading and writing files, each naming the path and what to do about it.

use std::any::Any;
use std::error::Error as StdError;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

type Cause = Box<dyn StdError + Send + Sync>;

/// The content of a file does not fit: `problem` is the rest of the sentence after the file's name.
pub(crate) fn data(path: &Path, problem: impl AsRef<str>) -> Error {
    Error::new(ErrorKind::Data, format!("file \"{}\" {}", path.display(), problem.as_ref()))
}

/// An option that is missing, unknown or out of range.
pub(crate) fn settings(message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new(ErrorKind::Settings, message).with_hint(hint)
}

/// The file system refused to open or read: kind `Data` where the bytes are at fault, else `Unavailable`.
pub(crate) fn read_failed(path: &Path, error: io::Error) -> Error {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::UnexpectedEof => data(path, "ends too early, it is truncated"),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => data(path, "is corrupt"),
        io::ErrorKind::NotFound => {
            Error::new(ErrorKind::Unavailable, format!("file \"{shown}\" does not exist"))
        }
        io::ErrorKind::PermissionDenied => Error::new(
            ErrorKind::Unavailable,
            format!("permission to read file \"{shown}\" is denied"),
        ),
        _ => Error::new(ErrorKind::Unavailable, format!("file \"{shown}\" cannot be read")),
    }
    .with_source(error)
}

/// The file system refused to create, write or rename.
pub(crate) fn write_failed(path: &Path, error: io::Error) -> Error {
    let shown = path.display();
    let (message, hint) = match error.kind() {
        io::ErrorKind::NotFound => (
            format!("the folder of file \"{shown}\" does not exist"),
            Some("create the folder first"),
        ),
        io::ErrorKind::PermissionDenied => {
            (format!("permission to write file \"{shown}\" is denied"), None)
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (
            format!("file \"{shown}\" cannot be written, its disk is full"),
            Some("free some space, or choose a path on another disk"),
        ),
        _ => (format!("file \"{shown}\" cannot be written"), None),
    };
    let failure = Error::new(ErrorKind::Unavailable, message).with_source(error);
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

/// A codec failed while reading: an I/O error inside it counts as one, all else as corrupt data.
pub(crate) fn decode_failed(path: &Path, format: &str, error: impl Into<Cause>) -> Error {
    let error = error.into();
    match io_kind(&*error) {
        None | Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) => {
            data(path, format!("is truncated or corrupt {format}")).with_source(error)
        }
        Some(kind) => read_failed(path, io::Error::new(kind, error)),
    }
}

/// A codec failed while writing: an I/O error inside it counts as one, all else as data that the format cannot hold.
pub(crate) fn encode_failed(path: &Path, format: &str, error: impl Into<Cause>) -> Error {
    let error = error.into();
    match io_kind(&*error) {
        None => data(path, format!("cannot hold this batch as {format}")).with_source(error),
        Some(kind) => write_failed(path, io::Error::new(kind, error)),
    }
}

/// Runs a decoder that may panic on corrupt input and turns such a panic into an error of kind `Data`.
///
/// Arrow's and Parquet's decoders index and unwrap on the strength of lengths that a corrupt file can falsify. A
/// file of the user's must not bring down the engine. The host's panic hook still hears of it. The decoder must not
/// be used again after an error.
pub(crate) fn without_panic<T>(
    path: &Path,
    format: &str,
    decode: impl FnOnce() -> Result<T>,
) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|panic| Err(decode_failed(path, format, panic_text(&*panic))))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the decoder panicked".to_owned())
}

fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        if let Some(arrow::error::ArrowError::IoError(_, io)) = inner.downcast_ref() {
            return Some(io.kind());
        }
        cause = inner.source();
    }
    None
}
