//! A store that fails now and then: tried again, with pauses that grow, then an error.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use driftline_operators::sync::{Monitor, turns};

use super::store::CheckpointStore;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::threads::panic_text;

/// Pauses before a call is tried again. What cannot change by waiting is not.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_millis(1000),
];

/// A store whose calls are repeated when they fail.
#[derive(Debug)]
pub(super) struct Retrying {
    store: Arc<dyn CheckpointStore>,
    is_over: Monitor<bool>,
}

impl Retrying {
    pub(super) fn new(store: Arc<dyn CheckpointStore>) -> Self {
        Self { store, is_over: Monitor::default() }
    }

    /// Cuts pauses short: the engine ends.
    pub(super) fn end(&self) {
        *self.is_over.lock() = true;
        self.is_over.ring();
    }

    /// Waits; whether it is worth trying again.
    fn pause(&self, length: Duration) -> bool {
        self.is_over.wait_while(self.is_over.lock(), length, |is_over| !*is_over).1
    }

    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.attempt("written", name, || self.store.put(name, bytes))
    }

    /// Where they cannot be written together, one after another.
    pub(super) fn put_all(&self, blobs: &[(&str, &[u8])]) -> Result<()> {
        turns::pause();
        match caught(|| self.store.put_all(blobs)) {
            Ok(()) => Ok(()),
            Err(_) => blobs.iter().try_for_each(|(name, bytes)| self.put(name, bytes)),
        }
    }

    pub(super) fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.attempt("read", name, || self.store.get(name))
    }

    pub(super) fn list(&self) -> Result<Vec<String>> {
        self.attempt("listed", "", || self.store.list())
    }

    pub(super) fn remove(&self, name: &str) -> Result<()> {
        self.attempt("removed", name, || self.store.remove(name))
    }

    fn attempt<T>(&self, done: &str, name: &str, call: impl Fn() -> io::Result<T>) -> Result<T> {
        let mut pauses = PAUSES.iter();
        loop {
            turns::pause();
            let error = match caught(&call) {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            let is_final = matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::StorageFull
                    | io::ErrorKind::ReadOnlyFilesystem
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::Unsupported
            );
            let pause = pauses.next().filter(|_| !is_final);
            if !pause.is_some_and(|pause| self.pause(*pause)) {
                let text = format!("checkpoint store: \"{name}\" could not be {done}: {error}");
                return Err(Error::new(ErrorKind::Unavailable, text).with_source(error));
            }
        }
    }
}

/// A call of a store that may be the host's. One that panics has failed, and nothing else has.
fn caught<T>(call: impl Fn() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        Err(io::Error::other(format!("it panicked: {}", panic_text(&*panic))))
    })
}
