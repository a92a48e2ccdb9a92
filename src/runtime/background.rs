//! Threads for heavy work of detectors, such as clustering a component's history again.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use driftline_operators::background::Executor;
use driftline_operators::sync::lock;
use driftline_operators::sync::turns::{self, Handle};

use super::{clock, threads};

type Job = Box<dyn FnOnce() + Send>;

/// A few threads behind a bounded queue. They start with the first job and end with the engine; a job that finds no
/// room, or no thread, is dropped, and computed by the worker that needs its result.
pub(crate) struct Background {
    threads: usize,
    tasks_max: usize,
    started: Instant,
    ended: Arc<AtomicBool>,
    pool: Mutex<Pool>,
}

enum Pool {
    NotStarted,
    Running(Sender<Job>, Vec<Handle<()>>),
    Ended,
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Background {
    pub(crate) fn new(threads: usize, tasks_max: usize) -> Self {
        Self {
            threads,
            tasks_max,
            started: clock::now(),
            ended: Arc::default(),
            pool: Mutex::new(Pool::NotStarted),
        }
    }

    /// Lets running jobs finish, drops waiting ones, and takes no more.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        let pool = std::mem::replace(&mut *self.lock(), Pool::Ended);
        if let Pool::Running(sender, handles) = pool {
            drop(sender);
            // A job keeps its panic for whoever asks for its result.
            handles.into_iter().for_each(|handle| drop(handle.join()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        lock(&self.pool)
    }

    fn start(&self) -> Pool {
        let (sender, receiver) = bounded::<Job>(self.tasks_max);
        let work = |receiver: Receiver<Job>| {
            let ended = Arc::clone(&self.ended);
            move || {
                let jobs = std::iter::from_fn(|| next(&receiver));
                jobs.take_while(|_| !ended.load(Ordering::Acquire)).for_each(|job| job());
            }
        };
        let handles = (0..self.threads).map_while(|i| {
            threads::spawn(format!("driftline-background-{i}"), work(receiver.clone())).ok()
        });
        Pool::Running(sender, handles.collect())
    }
}

/// The next job; none when there will be none.
fn next(receiver: &Receiver<Job>) -> Option<Job> {
    let polled = turns::until(|| match receiver.try_recv() {
        Ok(job) => Some(Some(job)),
        Err(TryRecvError::Empty) => None,
        Err(TryRecvError::Disconnected) => Some(None),
    });
    polled.unwrap_or_else(|| receiver.recv().ok())
}

impl Executor for Background {
    fn spawn(&self, job: Job) {
        let mut pool = self.lock();
        if matches!(*pool, Pool::NotStarted) && self.threads > 0 {
            *pool = self.start();
        }
        if let Pool::Running(sender, _) = &*pool {
            // Whoever needs the result of a job that is dropped here computes it.
            let _ = sender.try_send(job);
        }
    }

    fn now(&self) -> Duration {
        clock::now().saturating_duration_since(self.started)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use driftline_operators::background::Task;

    use super::*;

    #[test]
    fn results_do_not_depend_on_threads_or_room() {
        for (threads, room) in [(0, 1), (1, 1), (3, 64)] {
            let background = Arc::new(Background::new(threads, room));
            let executor: Arc<dyn Executor> = background.clone();
            let tasks: Vec<_> =
                (0..100_u64).map(|i| Task::start(&executor, move || i + 1)).collect();
            let sum: u64 = tasks.iter().map(|task| task.wait().value).sum();
            assert_eq!(sum, 5_050);
            background.end();
            assert_eq!(Task::start(&executor, || 7).wait().value, 7, "after the end");
            let task = Task::<()>::start(&executor, || panic!("the work failed"));
            let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task.wait()));
            assert_eq!(threads::panic_text(&*panic.unwrap_err()), "the work failed");
        }
    }
}
