//! The engine's own threads: the workers, and one that watches the clock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::Thread;

use driftline_operators::sync::lock;
use driftline_operators::sync::turns::{self, Handle, Seat};
use timely::WorkerConfig;
use timely::communication::{WorkerGuards, initialize_from};
use timely::worker::Worker as TimelyWorker;

use super::clock::{self, Clock};
use super::ingress::{Ingress, Start, Tick};
use super::worker::Worker;
use crate::error::{Error, ErrorKind, Result};
use crate::settings::Settings;

/// The threads of one engine.
pub(crate) struct Threads {
    workers: Mutex<Option<WorkerGuards<()>>>,
    handles: Vec<Thread>,
    seats: Vec<Seat>,
    clock: Mutex<Option<Handle<()>>>,
}

impl Threads {
    /// Starts the workers and the thread that watches the clock.
    pub(crate) fn start(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        start: Start,
    ) -> Result<(Arc<Ingress>, Self)> {
        let refuse = |problem| Error::internal(format!("workers could not start: {problem}"));
        let (builders, others) =
            timely::CommunicationConfig::Process(settings.workers).try_build().map_err(refuse)?;
        let (senders, receivers): (Vec<_>, Vec<_>) =
            builders.iter().map(|_| crossbeam_channel::unbounded()).unzip();
        let ingress = Arc::new(Ingress::new(settings.clone(), clock, senders, start));
        let shared = Arc::clone(&ingress);
        let seats: Vec<Seat> = receivers.iter().map_while(|_| turns::reserve()).collect();
        let theirs = seats.clone();
        let workers = initialize_from(builders, others, move |allocator| {
            let messages = receivers[allocator.index()].clone();
            let config = WorkerConfig::default();
            turns::in_seat(theirs.get(allocator.index()).cloned(), || {
                run_guarded(&shared, "worker", || {
                    let timely = TimelyWorker::new(config, allocator, Some(clock::now()));
                    Worker::new(timely, Arc::clone(&shared), messages).run();
                });
            });
        })
        .map_err(refuse)?;
        let handles: Vec<Thread> = workers.guards().iter().map(|h| h.thread().clone()).collect();
        ingress.set_threads(handles.clone());
        let shared = Arc::clone(&ingress);
        let clock = spawn("driftline-clock".into(), move || {
            run_guarded(&shared, "clock", || {
                while let Tick::Until(deadline) = shared.tick() {
                    shared.clock().wait(&shared.alarm, deadline);
                }
            });
        })?;
        let workers = Mutex::new(Some(workers));
        Ok((ingress, Self { workers, handles, seats, clock: Mutex::new(Some(clock)) }))
    }

    /// The workers' threads, to wake them by.
    pub(crate) fn workers(&self) -> Vec<Thread> {
        self.handles.clone()
    }

    /// Waits for all of them to end.
    pub(crate) fn join(&self) {
        // A panic has been caught and reported on the thread itself.
        let workers = lock(&self.workers).take();
        if let Some(workers) = workers {
            turns::await_ends(&self.seats);
            drop(workers.join());
        }
        let clock = lock(&self.clock).take();
        if let Some(clock) = clock {
            let _ = clock.join();
        }
    }
}

/// Starts a named thread.
pub(crate) fn spawn<T: Send + 'static>(
    name: String,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<Handle<T>> {
    let seat = turns::reserve();
    let theirs = seat.clone();
    let builder = std::thread::Builder::new().name(name.clone());
    match builder.spawn(move || turns::in_seat(theirs, body)) {
        Ok(handle) => Ok(Handle::new(handle, seat)),
        Err(error) => {
            turns::release(seat.as_ref());
            let text = format!("thread \"{name}\" could not be started");
            Err(Error::new(ErrorKind::Unavailable, text).with_source(error))
        }
    }
}

/// Runs `body`; a panic in it ends the engine with an error on every handle.
fn run_guarded(ingress: &Ingress, what: &str, body: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
        ingress.fail(Error::internal(format!("{what} panicked: {}", panic_text(&*panic))));
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}
