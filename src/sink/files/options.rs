//! How a file is written: its format, and whether it replaces the file before it or grows.

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::source::files::failure::settings;
use crate::source::files::options::is_gzip_name;
use crate::source::files::with::{Taker, WithOptions};
use crate::source::files::{CsvOptions, FileFormat};

/// What becomes of a file that is there already, and when rows can be seen.
///
/// ```
/// use driftline::{Checkpoints, Engine};
///
/// let folder = tempfile::tempdir()?;
/// let checkpoints = Checkpoints::in_folder(folder.path().join("state"))?;
/// let engine = Engine::builder().checkpoints(checkpoints).build()?;
/// engine.execute(&format!(
///     "CREATE SOURCE s (n BIGINT);
///      CREATE SINK seen WITH (path = '{}', publish = 'checkpoint');
///      INSERT INTO seen SELECT n FROM s; INSERT INTO s VALUES (1)",
///     folder.path().join("seen.ndjson").display()
/// ))?;
/// let file = folder.path().join("seen-00000000000000000001.ndjson");
/// assert!(!file.exists());
/// engine.checkpoint()?;
/// assert_eq!(std::fs::read_to_string(file)?, "{\"n\":1}\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteMode {
    /// Rows go to a file beside it, named `<path>.partial`, which takes its place when the sink is finished. So
    /// the path never holds half a file.
    #[default]
    Replace,
    /// Rows are added to the end of the file, each batch as it is written. For csv and ndjson without gzip.
    Append,
    /// Rows are published with checkpoints, a file for each that has rows, named after it: of `alerts.ndjson`, checkpoint
    /// 7 makes `alerts-00000000000000000007.ndjson`. Until the checkpoint is durable they are in files that end in
    /// `.partial` and `.staged`. Over crashes and restarts, the files together hold each row once. For sinks of an engine
    /// with [`EngineBuilder::checkpoints`](crate::EngineBuilder::checkpoints); in SQL `publish = 'checkpoint'`.
    Checkpoint,
}

/// How a [`FileSink`](super::FileSink) writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileWriteOptions {
    /// The format; by default told from the file's name. Arrow IPC is written as a stream if the name ends in
    /// `.arrows`, else in the file format.
    pub format: Option<FileFormat>,
    /// Whether text is compressed; by default if the file's name ends in `.gz`.
    pub gzip: Option<bool>,
    /// Whether the file is replaced or grows.
    pub mode: WriteMode,
    /// How delimited text is written down.
    pub csv: CsvOptions,
}

impl FileWriteOptions {
    pub(super) fn format_of(&self, path: &Path) -> Result<FileFormat> {
        self.format.or_else(|| FileFormat::of_path(path)).ok_or_else(|| {
            settings(
                format!("the format of file \"{}\" cannot be told from its name", path.display()),
                "add format = 'csv', 'ndjson', 'parquet' or 'arrow_ipc'",
            )
        })
    }

    pub(super) fn is_gzip(&self, path: &Path) -> bool {
        self.gzip.unwrap_or_else(|| is_gzip_name(path))
    }

    pub(super) fn validate(&self, path: &Path) -> Result<()> {
        self.csv.validate()?;
        let format = self.format_of(path)?;
        let is_text = matches!(format, FileFormat::Csv | FileFormat::Ndjson);
        if self.is_gzip(path) && !is_text {
            return Err(settings(
                format!("a file sink cannot gzip format {}", format.name()),
                "parquet compresses by itself; choose a path that does not end in .gz",
            ));
        }
        if self.mode == WriteMode::Append && (!is_text || self.is_gzip(path)) {
            let what = if is_text { "gzip" } else { format.name() };
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("a file sink cannot append to {what} files"),
            )
            .with_hint("append to csv or ndjson without gzip, or choose mode = 'replace'"));
        }
        Ok(())
    }
}

/// The path and the options of a file sink.
///
/// Known are: `path`, `format`, `gzip`, `mode` (`'replace'`, `'append'`), `publish` (`'end'`, `'checkpoint'`), `header`,
/// `delimiter` and `null_text`.
pub(crate) fn sink_options(with: &WithOptions) -> Result<(PathBuf, FileWriteOptions)> {
    let mut with = Taker::new("file sink", with);
    let path = with.path()?;
    let modes = [("replace", WriteMode::Replace), ("append", WriteMode::Append)];
    let (format, gzip) = (with.format()?, with.bool("gzip")?);
    let mode = with.choice("mode", &modes)?;
    let options = FileWriteOptions {
        format,
        gzip,
        mode: match with.choice("publish", &[("end", false), ("checkpoint", true)])? {
            Some(true) if mode.is_some() => {
                return Err(settings(
                    "option \"mode\" of a file sink does not go with publish = 'checkpoint'",
                    "leave mode out: each checkpoint has a file of its own",
                ));
            }
            Some(true) => WriteMode::Checkpoint,
            _ => mode.unwrap_or_default(),
        },
        csv: with.csv()?,
    };
    with.finish()?;
    options.validate(&path)?;
    Ok((path, options))
}
