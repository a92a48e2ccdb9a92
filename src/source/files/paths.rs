//! Which files a path means: one file, the files of a folder, or those that match a pattern.

use std::fs;
use std::path::{Path, PathBuf};

use super::failure::{read_failed, settings};
use super::options::{FileFormat, FileReadOptions};
use crate::error::{Error, ErrorKind, Result};

/// The most files that one source may read; their names and event-time ranges are held in memory.
const FILES_MAX: usize = 100_000;

/// The files that `path` means, sorted by name. Subfolders and hidden files are left out.
pub(super) fn resolve(path: &Path, options: &FileReadOptions) -> Result<Vec<PathBuf>> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => files_of_folder(path, options),
        Ok(_) => Ok(vec![path.to_owned()]),
        Err(error) => match pattern_of(path) {
            Some(pattern) => files_of_pattern(path, pattern),
            None => Err(read_failed(path, error)),
        },
    }
}

fn files_of_folder(folder: &Path, options: &FileReadOptions) -> Result<Vec<PathBuf>> {
    let all = list(folder, |_| true)?;
    let known: Vec<PathBuf> = all
        .iter()
        .filter(|path| match (FileFormat::of_path(path), options.format) {
            (Some(found), Some(wanted)) => found == wanted,
            (found, None) => found.is_some(),
            (None, Some(_)) => false,
        })
        .cloned()
        .collect();
    // A folder whose files carry no telling extension, read in a stated format, is taken whole.
    let chosen = if known.is_empty()
        && options.format.is_some()
        && all.iter().all(|path| FileFormat::of_path(path).is_none())
    {
        all
    } else {
        known
    };
    match (chosen.is_empty(), options.format) {
        (false, _) => Ok(chosen),
        (true, None) => Err(nothing_matches(
            format!("folder \"{}\" has no file of a known format", folder.display()),
            "files end in .csv, .ndjson, .jsonl, .json, .parquet or .arrow; or add format = ...",
        )),
        (true, Some(format)) => Err(nothing_matches(
            format!("folder \"{}\" has no file of format {}", folder.display(), format.name()),
            "check the folder and the option \"format\"",
        )),
    }
}

fn files_of_pattern(path: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let folder = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("."),
    };
    if folder.to_string_lossy().contains(['*', '?']) && !folder.exists() {
        return Err(settings(
            format!("path \"{}\" has a pattern in its folder", path.display()),
            "`*` and `?` stand in the file name only: 'folder/*.csv'",
        ));
    }
    let files = list(folder, |name| matches_pattern(pattern, name))?;
    if files.is_empty() {
        return Err(nothing_matches(
            format!("no file matches \"{}\"", path.display()),
            "`*` stands for any characters, `?` for one; case counts",
        ));
    }
    Ok(files)
}

fn nothing_matches(message: String, hint: &str) -> Error {
    Error::new(ErrorKind::Unavailable, message).with_hint(hint)
}

fn list(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| read_failed(folder, error))? {
        let entry = entry.map_err(|error| read_failed(folder, error))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // A file that a sink is still writing beside its final name is not data yet.
        if name.starts_with('.') || name.ends_with(".partial") || !is_wanted(&name) {
            continue;
        }
        // Follows symbolic links; a link that leads nowhere is an error when it is opened.
        if fs::metadata(entry.path()).is_ok_and(|found| found.is_dir()) {
            continue;
        }
        files.push(entry.path());
        if files.len() > FILES_MAX {
            return Err(settings(
                format!("folder \"{}\" has more than {FILES_MAX} files", folder.display()),
                "narrow it with a pattern such as 'folder/2026-*.csv'",
            ));
        }
    }
    files.sort();
    Ok(files)
}

fn pattern_of(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| text.contains(['*', '?']))?;
    path.file_name()?.to_str()
}

/// Whether `name` matches `pattern`: `*` stands for any characters, `?` for one.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where the last star stood, and how far it reached: the only place to go back to.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((star_p, star_n)) => {
                    star = Some((star_p, star_n + 1));
                    p = star_p + 1;
                    n = star_n + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match() {
        for (pattern, name, expected) in [
            ("*.csv", "a.csv", true),
            ("*.csv", ".csv", true),
            ("*.csv", "a.csv.gz", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*ab", "aab", true),
            ("", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        }
    }
}
