//! Where checkpoints are kept: named blobs, written whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use driftline_operators::sync::lock;

/// Named blobs. A folder is [`FolderStore`]; S3 and its like are `BucketStore`, with the feature `object_store`; a host may
/// bring a store of its own.
///
/// Names are made of lower-case letters, digits, `-`, `.` and `/`. Calls come from one thread at a time and may be slow:
/// the engine works on meanwhile. A call that fails is tried again some times, so that it must be safe to repeat.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::{Arc, Mutex};
/// use driftline::{CheckpointStore, Checkpoints, Engine};
///
/// #[derive(Debug, Default)]
/// struct InMemory(Mutex<BTreeMap<String, Vec<u8>>>);
///
/// impl CheckpointStore for InMemory {
///     fn put(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
///         self.0.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
///         Ok(())
///     }
///     fn get(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
///         Ok(self.0.lock().unwrap().get(name).cloned())
///     }
///     fn list(&self) -> std::io::Result<Vec<String>> {
///         Ok(self.0.lock().unwrap().keys().cloned().collect())
///     }
///     fn remove(&self, name: &str) -> std::io::Result<()> {
///         self.0.lock().unwrap().remove(name);
///         Ok(())
///     }
/// }
///
/// let engine = Engine::builder().checkpoints(Checkpoints::new(Arc::new(InMemory::default()))).build()?;
/// assert!(engine.restored().is_none(), "there was nothing to go on from");
/// # Ok::<(), driftline::Error>(())
/// ```
pub trait CheckpointStore: Debug + Send + Sync {
    /// Writes a blob, in place of one of that name. When it returns the blob is whole and durable; before, a reader sees
    /// what was there, or nothing.
    ///
    /// # Errors
    /// If it could not be written.
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Writes some blobs as [`put`](Self::put) does, in any order: when it returns all of them are durable, and before, or
    /// where it fails, any of them may be there. One after another, unless a store knows a quicker way. The engine gives
    /// it 64 at most, each of another name, and puts them one by one where this fails.
    ///
    /// # Errors
    /// If one could not be written.
    fn put_all(&self, blobs: &[(&str, &[u8])]) -> io::Result<()> {
        blobs.iter().try_for_each(|(name, bytes)| self.put(name, bytes))
    }

    /// A blob; `None` if there is none of that name.
    ///
    /// # Errors
    /// If it could not be read.
    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// The names of all blobs.
    ///
    /// # Errors
    /// If they could not be listed.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Removes a blob, if it is there.
    ///
    /// # Errors
    /// If it could not be removed.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A folder on a local disk.
///
/// A blob is written under another name, synced, and renamed; then the folder is synced. Of blobs that are written together
/// all are written before the first is synced, and the folder is synced once: a disk is asked to finish what it has begun
/// with the others already. What a crash has left under other names is removed when the folder is opened again.
#[derive(Debug)]
pub struct FolderStore {
    root: PathBuf,
}

/// What a file is called until it is whole.
const UNFINISHED: &str = ".unfinished";

impl FolderStore {
    /// Opens a folder, which is made if it is missing.
    ///
    /// ```
    /// use driftline::{CheckpointStore, FolderStore};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let store = FolderStore::open(folder.path().join("state"))?;
    /// store.put("a", b"bytes")?;
    /// assert_eq!(store.get("a")?.as_deref(), Some(&b"bytes"[..]));
    /// assert_eq!(store.list()?, ["a"]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// If it cannot be made or listed.
    pub fn open(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let store = Self { root: folder.into() };
        fs::create_dir_all(&store.root)?;
        for path in store.files(&store.root)? {
            if path.to_string_lossy().ends_with(UNFINISHED) {
                fs::remove_file(&path)?;
            }
        }
        Ok(store)
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        check_name(name)?;
        Ok(self.root.join(name))
    }

    /// All files below a folder; names have one slash at most.
    fn files(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            match path.is_dir() {
                true if folder == self.root => found.extend(self.files(&path)?),
                true => {}
                false => found.push(path),
            }
        }
        Ok(found)
    }
}

/// Refuses what is no name of a blob.
pub(super) fn check_name(name: &str) -> io::Result<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
    let is_whole = name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
    match is_whole && name.chars().all(is_plain) {
        true => Ok(()),
        false => Err(io::Error::new(ErrorKind::InvalidInput, format!("\"{name}\" is no name"))),
    }
}

impl CheckpointStore for FolderStore {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.put_all(&[(name, bytes)])
    }

    fn put_all(&self, blobs: &[(&str, &[u8])]) -> io::Result<()> {
        let paths: Vec<(PathBuf, PathBuf)> = blobs
            .iter()
            .map(|(name, _)| Ok((self.path(name)?, self.path(&format!("{name}{UNFINISHED}"))?)))
            .collect::<io::Result<_>>()?;
        let mut folders = BTreeSet::new();
        for (path, _) in &paths {
            folders.insert(path.parent().unwrap_or(&self.root));
        }
        for folder in &folders {
            if !folder.is_dir() {
                fs::create_dir_all(folder)?;
                sync_folder(&self.root)?;
            }
        }
        finish(&paths, blobs).inspect_err(|_| {
            for (_, unfinished) in &paths {
                // A second failure says nothing new; the file is removed when the folder is opened again.
                let _ = fs::remove_file(unfinished);
            }
        })?;
        folders.into_iter().try_for_each(sync_folder)
    }

    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(name)?) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let name = |path: PathBuf| {
            let name = path.strip_prefix(&self.root).ok()?.to_str()?.replace('\\', "/");
            (!name.ends_with(UNFINISHED)).then_some(name)
        };
        Ok(self.files(&self.root)?.into_iter().filter_map(name).collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)?) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Writes blobs under their second names, syncs them, and gives them their first.
fn finish(paths: &[(PathBuf, PathBuf)], blobs: &[(&str, &[u8])]) -> io::Result<()> {
    let mut files = Vec::new();
    for ((_, unfinished), (_, bytes)) in paths.iter().zip(blobs) {
        let mut file = File::create(unfinished)?;
        file.write_all(bytes)?;
        files.push(file);
    }
    files.iter().try_for_each(File::sync_all)?;
    paths.iter().try_for_each(|(path, unfinished)| fs::rename(unfinished, path))
}

/// Makes renames in a folder durable, where folders can be opened.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(folder)?.sync_all(),
        false => Ok(()),
    }
}

/// Blobs in memory, for tests.
///
/// ```
/// use driftline::{CheckpointStore, MemoryStore};
///
/// let store = MemoryStore::default();
/// store.put("a", b"bytes")?;
/// assert_eq!(store.list()?, ["a"]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<BTreeMap<String, Vec<u8>>>);

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        // No code panics while it holds the lock.
        lock(&self.0)
    }
}

impl CheckpointStore for MemoryStore {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.lock().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.lock().get(name).cloned())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.lock().remove(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_whole_blobs_only() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::open(folder.path()).unwrap();
        store.put("parts/a", b"1").unwrap();
        store.put("parts/a", b"2").unwrap();
        store.put("b", b"3").unwrap();
        fs::write(folder.path().join(format!("c{UNFINISHED}")), "half").unwrap();
        let mut names = store.list().unwrap();
        names.sort();
        assert_eq!(names, ["b", "parts/a"]);
        // One of several cannot be put: nothing unfinished is left, and all are there once it can.
        fs::create_dir_all(folder.path().join("parts/d/e")).unwrap();
        let several = [("parts/a", &b"4"[..]), ("parts/d", b"5"), ("parts/f", b"6")];
        assert!(store.put_all(&several).is_err());
        let unfinished = |path: &PathBuf| path.to_string_lossy().ends_with(UNFINISHED);
        let left = store.files(folder.path()).unwrap().into_iter().filter(unfinished);
        assert_eq!(left.count(), 1, "the half of c, which was there before");
        fs::remove_dir_all(folder.path().join("parts/d")).unwrap();
        store.put_all(&several).unwrap();
        assert_eq!(store.get("parts/d").unwrap().as_deref(), Some(&b"5"[..]));
        for name in ["parts/d", "parts/f"] {
            store.remove(name).unwrap();
        }
        store.put("parts/a", b"2").unwrap();
        assert_eq!(store.get("parts/a").unwrap().as_deref(), Some(&b"2"[..]));
        let again = FolderStore::open(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        again.remove("b").unwrap();
        again.remove("b").unwrap();
        assert_eq!(again.get("b").unwrap(), None);
        for name in ["../a", "/a", "", "a//b", "ä"] {
            assert_eq!(again.put(name, b"").unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
        }
    }
}
