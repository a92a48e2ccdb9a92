//! Names of files that are published with checkpoints.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::source::files::failure::settings;

/// What a whole file that is not published ends in.
pub(super) const STAGED: &str = ".staged";
/// What a file that is being written ends in.
const PARTIAL: &str = ".partial";
/// Digits of a checkpoint's number, so that the order of names is that of checkpoints.
const DIGITS: usize = 20;

/// Names that are made of a sink's path: `alerts-00000000000000000007.ndjson` of `alerts.ndjson`.
#[derive(Debug)]
pub(super) struct FileNames {
    pub(super) folder: PathBuf,
    stem: String,
    /// With its point.
    ending: String,
}

/// What a file of such a name is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// Of this checkpoint.
    Published(u64),
    /// To be published under this name.
    Staged(&'a str),
    Unfinished,
}

impl FileNames {
    pub(super) fn of(path: &Path) -> Result<Self> {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            let message = format!("path \"{}\" of a file sink names no file", path.display());
            return Err(settings(message, "add a file name: 'folder/file.csv'"));
        };
        let inner = name.strip_suffix(".gz").unwrap_or(name);
        let stem = inner.rfind('.').map_or(inner, |point| &inner[..point]);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        Ok(Self {
            folder: folder.unwrap_or(Path::new(".")).to_owned(),
            stem: stem.to_owned(),
            ending: name[stem.len()..].to_owned(),
        })
    }

    /// The final name of what an INSERT gave to a checkpoint.
    pub(super) fn published(&self, checkpoint: u64, insert: u32) -> String {
        let Self { stem, ending, .. } = self;
        match insert {
            1 => format!("{stem}-{checkpoint:0DIGITS$}{ending}"),
            _ => format!("{stem}-{checkpoint:0DIGITS$}-{insert}{ending}"),
        }
    }

    /// Where a file is until it is published.
    pub(super) fn staged(&self, published: &str) -> PathBuf {
        self.folder.join(format!("{published}{STAGED}"))
    }

    /// Where an INSERT writes; what is added to it says that it is not whole.
    pub(super) fn unfinished(&self, insert: u32) -> PathBuf {
        let Self { stem, ending, .. } = self;
        self.folder.join(OsString::from(format!("{stem}{ending}.{insert}")))
    }

    /// What a file is, going by its name.
    pub(super) fn find<'a>(&self, name: &'a str) -> Option<Found<'a>> {
        let rest = name.strip_prefix(self.stem.as_str())?;
        let is_number = |text: &str| {
            !text.is_empty() && text.len() <= DIGITS && text.bytes().all(|b| b.is_ascii_digit())
        };
        if let Some(number) = rest.strip_suffix(PARTIAL).and_then(|rest| {
            rest.strip_prefix(self.ending.as_str()).and_then(|rest| rest.strip_prefix('.'))
        }) {
            return is_number(number).then_some(Found::Unfinished);
        }
        let published = rest.strip_suffix(STAGED).unwrap_or(rest);
        let numbers = published.strip_prefix('-')?.strip_suffix(self.ending.as_str())?;
        let (checkpoint, insert) = numbers.split_once('-').unwrap_or((numbers, "1"));
        if checkpoint.len() != DIGITS || !is_number(checkpoint) || !is_number(insert) {
            return None;
        }
        match published.len() == rest.len() {
            true => checkpoint.parse().ok().map(Found::Published),
            false => Some(Found::Staged(&name[..name.len() - STAGED.len()])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_a_file_is() {
        for (path, first) in [
            ("out/alerts.ndjson", "alerts-00000000000000000007.ndjson"),
            ("a.b.csv.gz", "a.b-00000000000000000007.csv.gz"),
            ("/plain", "plain-00000000000000000007"),
        ] {
            let names = FileNames::of(Path::new(path)).unwrap();
            assert_eq!(names.published(7, 1), first);
            for insert in [1, 12] {
                let name = names.published(7, insert);
                assert_eq!(names.find(&name), Some(Found::Published(7)));
                let staged = format!("{name}{STAGED}");
                assert_eq!(names.find(&staged), Some(Found::Staged(name.as_str())));
                let mut unfinished = names.unfinished(insert).into_os_string();
                unfinished.push(PARTIAL);
                let unfinished = PathBuf::from(unfinished);
                let name = unfinished.file_name().unwrap().to_str().unwrap();
                assert_eq!(names.find(name), Some(Found::Unfinished));
            }
        }
        let names = FileNames::of(Path::new("a.csv")).unwrap();
        for other in ["a.csv", "a.csv.partial", "a-7.csv", "b-00000000000000000007.csv", "a-x.csv"]
        {
            assert_eq!(names.find(other), None, "{other}");
        }
        assert!(FileNames::of(Path::new("folder/..")).is_err());
    }
}
