//! Heavy work off the worker threads: a model hands over a closure with frozen data, goes on, and takes the result up
//! when the rows say that it is due.
//!
//! What a task computes depends on its closure alone, and when its result counts is for its owner to declare, in rows or
//! event time. So answers never depend on how fast a task was. A worker that needs a result which nobody has begun to
//! compute does so itself; one that is being computed is waited for.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::sync::Monitor;

/// Runs closures on threads that the host lends.
pub trait Executor: fmt::Debug + Send + Sync {
    /// Runs `job` some time, or drops it when its queue is full or the engine ends: whoever needs the result will
    /// compute it.
    fn spawn(&self, job: Box<dyn FnOnce() + Send>);

    /// Time since some fixed moment, for measuring alone.
    fn now(&self) -> Duration;
}

/// Runs nothing ahead of time: each result is computed where it is first asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lazy;

impl Executor for Lazy {
    fn spawn(&self, _job: Box<dyn FnOnce() + Send>) {}

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

/// A result that is being computed.
pub struct Task<T>(Arc<Shared<T>>);

struct Shared<T> {
    executor: Arc<dyn Executor>,
    /// Rings when the work is done.
    state: Monitor<State<T>>,
}

enum State<T> {
    Waiting(Box<dyn FnOnce() -> T + Send>),
    Running,
    Done(Arc<Finished<T>>),
    Panicked(Option<Box<dyn Any + Send>>),
}

/// What a task came to.
#[derive(Debug)]
pub struct Finished<T> {
    /// The result.
    pub value: T,
    /// How long it took to compute.
    pub took: Duration,
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

impl<T> Clone for Task<T> {
    /// The same task once more: it is computed once, for all that ask.
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send + Sync + 'static> Task<T> {
    /// Hands `work` over.
    pub fn start(executor: &Arc<dyn Executor>, work: impl FnOnce() -> T + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            executor: Arc::clone(executor),
            state: Monitor::new(State::Waiting(Box::new(work))),
        });
        let theirs = Arc::clone(&shared);
        executor.spawn(Box::new(move || theirs.run()));
        Self(shared)
    }

    /// A task that is done, as one restored from a snapshot.
    pub fn done(executor: &Arc<dyn Executor>, value: T) -> Self {
        let finished = Arc::new(Finished { value, took: Duration::ZERO });
        Self(Arc::new(Shared {
            executor: Arc::clone(executor),
            state: Monitor::new(State::Done(finished)),
        }))
    }

    /// The result: computed here if nobody has begun, waited for if somebody has.
    ///
    /// # Panics
    /// With the panic of the work itself, on whichever thread asks first.
    #[must_use]
    pub fn wait(&self) -> Arc<Finished<T>> {
        self.0.run();
        let mut state = self.0.state.lock();
        loop {
            match &mut *state {
                State::Done(finished) => return Arc::clone(finished),
                State::Panicked(panic) => {
                    let panic = panic.take().unwrap_or_else(|| Box::new("a task panicked"));
                    drop(state);
                    resume_unwind(panic);
                }
                State::Waiting(_) | State::Running => {
                    state = self.0.state.wait(state);
                }
            }
        }
    }
}

impl<T> Shared<T> {
    /// Computes the result, if nobody has begun.
    fn run(&self) {
        let work = {
            let mut state = self.state.lock();
            if !matches!(*state, State::Waiting(_)) {
                return;
            }
            match std::mem::replace(&mut *state, State::Running) {
                State::Waiting(work) => work,
                _ => unreachable!("looked at under the same lock"),
            }
        };
        let started = self.executor.now();
        // Outside the lock, so that what it guards is whole even after a panic.
        let outcome = catch_unwind(AssertUnwindSafe(work));
        let took = self.executor.now().saturating_sub(started);
        *self.state.lock() = match outcome {
            Ok(value) => State::Done(Arc::new(Finished { value, took })),
            Err(panic) => State::Panicked(Some(panic)),
        };
        self.state.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs every job at once, before anybody asks.
    #[derive(Debug)]
    struct Eager;

    impl Executor for Eager {
        fn spawn(&self, job: Box<dyn FnOnce() + Send>) {
            job();
        }

        fn now(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[test]
    fn results_are_the_same_wherever_they_are_computed() {
        let executors: [Arc<dyn Executor>; 2] = [Arc::new(Lazy), Arc::new(Eager)];
        for executor in executors {
            let tasks: Vec<_> = (0..64).map(|i| Task::start(&executor, move || i * i)).collect();
            let values: Vec<i32> = tasks.iter().map(|task| task.wait().value).collect();
            assert_eq!(values, (0..64).map(|i| i * i).collect::<Vec<_>>());
            assert_eq!(tasks[3].wait().value, 9, "asking again is allowed");
            assert_eq!(Task::done(&executor, 5).wait().value, 5);
        }
    }

    #[test]
    fn a_panic_reaches_whoever_asks() {
        let executors: [Arc<dyn Executor>; 2] = [Arc::new(Lazy), Arc::new(Eager)];
        for executor in executors {
            let task = Task::<()>::start(&executor, || panic!("the work failed"));
            for expected in ["the work failed", "a task panicked"] {
                let panic = catch_unwind(AssertUnwindSafe(|| task.wait())).unwrap_err();
                assert_eq!(panic.downcast_ref::<&str>(), Some(&expected));
            }
        }
    }
}
