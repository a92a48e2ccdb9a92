//! Checkpoints in an object store: S3 and its like, through the crate `object_store`.
//!
//! ```text
//!   thread that asked ── future ──> thread of the store: a runtime of its own ──> cloud
//!                     <── answer, or the time is up ──
//! ```
//!
//! Calls of that crate are futures, and those of cloud stores work only under a runtime of tokio's. An engine has none, and
//! the host's cannot be borrowed: it may have none either, or ask for a checkpoint from within it, where waiting for a
//! future panics. So a store has a small runtime for itself, on a thread of its own, and whoever calls waits for an
//! answer there as for that of a disk.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutOptions};
use tokio::runtime::{Builder, Handle};
use tokio::task::{AbortHandle, JoinSet};

use super::store::{CheckpointStore, check_name};

/// How long a call may take, unless the store is told otherwise.
const CALL_TIME_MAX: Duration = Duration::from_secs(60);
/// How many blobs a store may hold, unless it is told otherwise.
const BLOBS_MAX: usize = 1 << 20;

/// Objects below a prefix of an object store: a bucket of S3, a container of Azure, or anything else that the crate
/// `object_store` knows or a host implements. With the feature `object_store`.
///
/// Clouds are features of that crate, which a host switches on where it depends on it, in the version that Driftline
/// re-exports: `object_store = { version = "0.13", default-features = false, features = ["aws"] }`. An object is put whole
/// or not at all, as the crate promises. Below the prefix there should be nothing else, and one engine at a time.
///
/// It has a thread of its own, with a runtime for the calls, so that it can be used from any thread, those of a host's
/// runtime among them. Rows do not wait for it. [`Engine::shutdown`](crate::Engine::shutdown), and whoever asks for a checkpoint, do:
/// for each call at most [`BucketStore::call_time_max`].
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use driftline::object_store::ObjectStore;
/// use driftline::object_store::memory::InMemory;
/// use driftline::{BucketStore, CheckpointStore, Checkpoints, Engine};
///
/// // With the feature "aws" of the crate: AmazonS3Builder::from_env().with_bucket_name("telemetry").build()?
/// let bucket: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
/// let store = || -> std::io::Result<Arc<BucketStore>> {
///     let store = BucketStore::open(Arc::clone(&bucket), "checkpoints/fleet")?;
///     Ok(Arc::new(store.call_time_max(Duration::from_secs(20))))
/// };
/// let create = "CREATE SOURCE s (n BIGINT)";
///
/// let engine = Engine::builder().checkpoints(Checkpoints::new(store()?)).build()?;
/// engine.execute(create)?;
/// let numbers = engine.subscribe("SELECT n FROM s")?;
/// engine.execute("INSERT INTO s VALUES (1), (2)")?;
/// engine.checkpoint()?;
/// drop((engine, numbers));
///
/// let engine = Engine::builder().checkpoints(Checkpoints::new(store()?)).build()?;
/// engine.execute(create)?;
/// assert_eq!(engine.source("s")?.resume_at(), 2);
/// assert!(store()?.list()?.iter().any(|name| name.starts_with("manifest-")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BucketStore {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    runtime: Handle,
    /// Ends the thread.
    end: AbortHandle,
    call_time_max: Duration,
    blobs_max: usize,
}

impl BucketStore {
    /// Uses the objects below `prefix`, whose parts are divided by `/`; with an empty one all of them. Nothing is asked of
    /// the store yet.
    ///
    /// # Errors
    /// Of kind `InvalidInput` if the prefix is no path; if the thread cannot be started.
    pub fn open(objects: Arc<dyn ObjectStore>, prefix: &str) -> io::Result<Self> {
        let invalid = |error| io::Error::new(ErrorKind::InvalidInput, error);
        let prefix = Path::parse(prefix).map_err(invalid)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        // The thread works for as long as this task is there.
        let alive = runtime.spawn(std::future::pending::<()>());
        let end = alive.abort_handle();
        // It takes no turns in a simulation: the thread that waits for it has the turn meanwhile.
        std::thread::Builder::new().name("driftline-bucket".into()).spawn(move || {
            let _ = runtime.block_on(alive);
        })?;
        let (call_time_max, blobs_max) = (CALL_TIME_MAX, BLOBS_MAX);
        Ok(Self { objects, prefix, runtime: handle, end, call_time_max, blobs_max })
    }

    /// How long a call may take; a minute by default. One that takes longer is given up and tried again like one that has
    /// failed, five times in all; parts that are put together are one call at first. What a store does with it later does no
    /// harm: objects are named by their content, and a manifest is put after what it names.
    #[must_use]
    pub fn call_time_max(mut self, call_time_max: Duration) -> Self {
        self.call_time_max = call_time_max;
        self
    }

    /// How many objects there may be below the prefix; 1,048,576 by default. Their names are listed when an engine is built
    /// and after each checkpoint; more are refused.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use driftline::object_store::memory::InMemory;
    /// use driftline::{BucketStore, CheckpointStore};
    ///
    /// let store = BucketStore::open(Arc::new(InMemory::new()), "")?.blobs_max(1);
    /// store.put("a", b"1")?;
    /// assert_eq!(store.list()?, ["a"]);
    /// store.put("b", b"2")?;
    /// assert!(store.list().unwrap_err().to_string().contains("more than 1 object"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn blobs_max(mut self, blobs_max: usize) -> Self {
        self.blobs_max = blobs_max;
        self
    }

    fn path(&self, name: &str) -> io::Result<Path> {
        check_name(name)?;
        let whole = match self.prefix.is_root() {
            true => name.to_owned(),
            false => format!("{}/{name}", self.prefix),
        };
        Path::parse(whole).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))
    }

    /// Runs a call on the store's own thread. Waiting for it needs no runtime, and does not panic within one.
    fn call<T: Send + 'static>(
        &self,
        call: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        let (reply, answer) = bounded(1);
        let task = self.runtime.spawn(async move {
            // Nobody listens once the time is up.
            let _ = reply.send(call.await);
        });
        match answer.recv_timeout(self.call_time_max) {
            Ok(answered) => answered,
            Err(RecvTimeoutError::Timeout) => {
                task.abort();
                let text = format!("the object store gave no answer in {:?}", self.call_time_max);
                Err(io::Error::new(ErrorKind::TimedOut, text))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(io::Error::other("the object store panicked"))
            }
        }
    }
}

impl Drop for BucketStore {
    fn drop(&mut self) {
        // Nobody waits for the thread: a call that blocks it may never return.
        self.end.abort();
    }
}

impl CheckpointStore for BucketStore {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.put_all(&[(name, bytes)])
    }

    /// All at the same time.
    fn put_all(&self, blobs: &[(&str, &[u8])]) -> io::Result<()> {
        let mut puts = JoinSet::new();
        for (name, bytes) in blobs {
            let (objects, path) = (Arc::clone(&self.objects), self.path(name)?);
            let payload = bytes.to_vec().into();
            let put = async move { objects.put_opts(&path, payload, PutOptions::default()).await };
            puts.spawn_on(put, &self.runtime);
        }
        self.call(async move {
            while let Some(put) = puts.join_next().await {
                put.map_err(io::Error::other)?.map_err(as_io)?;
            }
            Ok(())
        })
    }

    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let (objects, path) = (Arc::clone(&self.objects), self.path(name)?);
        self.call(async move {
            match objects.get_opts(&path, GetOptions::default()).await {
                Ok(found) => Ok(Some(found.bytes().await.map_err(as_io)?.to_vec())),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(as_io(error)),
            }
        })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let (objects, prefix) = (Arc::clone(&self.objects), self.prefix.clone());
        let blobs_max = self.blobs_max;
        self.call(async move {
            let mut names = Vec::new();
            // Pages come as they are asked for; names alone are kept of them.
            let mut listed = objects.list(Some(&prefix).filter(|prefix| !prefix.is_root()));
            while let Some(found) = poll_fn(|context| listed.as_mut().poll_next(context)).await {
                let ObjectMeta { location, .. } = found.map_err(as_io)?;
                let Some(parts) = location.prefix_match(&prefix) else { continue };
                if names.len() == blobs_max {
                    let text = format!(
                        "there are more than {blobs_max} objects below \"{prefix}\": remove what \
                         is no checkpoint's, or raise blobs_max"
                    );
                    return Err(io::Error::new(ErrorKind::InvalidInput, text));
                }
                let parts: Vec<_> = parts.map(|part| part.as_ref().to_owned()).collect();
                names.push(parts.join("/"));
            }
            Ok(names)
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let (objects, path) = (Arc::clone(&self.objects), self.path(name)?);
        self.call(async move {
            match objects.delete(&path).await {
                Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(as_io(error)),
            }
        })
    }
}

/// An error as those of disks are, so that what waiting cannot change is told from what it may.
fn as_io(error: Error) -> io::Error {
    let kind = match &error {
        Error::NotFound { .. } => ErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            ErrorKind::PermissionDenied
        }
        Error::InvalidPath { .. } => ErrorKind::InvalidInput,
        Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::UnknownConfigurationKey { .. } => ErrorKind::Unsupported,
        // A disk that is full, below a store that knows of no such thing.
        other => disk_error(other).unwrap_or(ErrorKind::Other),
    };
    io::Error::new(kind, error)
}

fn disk_error(error: &Error) -> Option<ErrorKind> {
    let first = std::error::Error::source(error);
    let kinds = std::iter::successors(first, |error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    let mut told = kinds.filter(|kind| {
        let known = [
            ErrorKind::PermissionDenied,
            ErrorKind::ReadOnlyFilesystem,
            ErrorKind::StorageFull,
            ErrorKind::TimedOut,
        ];
        known.contains(kind)
    });
    told.next()
}
