//! Locks and waits of all threads of an engine, in one place, so that a simulation can take them over.
//!
//! Outside a simulation these are the standard library's, and a panic under a lock is no reason not to take it again: what
//! our locks guard is whole between any two statements. Inside one, whoever would wait passes its turn on instead.

pub mod turns;

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

/// Takes a lock.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    if !turns::are_taken() {
        return mutex.lock().unwrap_or_else(PoisonError::into_inner);
    }
    loop {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            // Whoever has it waits for something while it holds it.
            Err(TryLockError::WouldBlock) => turns::wait(),
        }
    }
}

/// Something behind a lock, and a bell for those who wait until it has changed.
#[derive(Debug, Default)]
pub struct Monitor<T> {
    state: Mutex<T>,
    bell: Condvar,
}

impl<T> Monitor<T> {
    /// Guards `state`.
    pub const fn new(state: T) -> Self {
        Self { state: Mutex::new(state), bell: Condvar::new() }
    }

    /// Takes the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        lock(&self.state)
    }

    /// Wakes all who wait.
    pub fn ring(&self) {
        self.bell.notify_all();
    }

    /// Gives the lock up until the bell rings. Like any such wait it may end without a reason.
    pub fn wait<'a>(&'a self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        if turns::are_taken() {
            drop(guard);
            turns::wait();
            return self.lock();
        }
        self.bell.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, for a time at most.
    pub fn wait_for<'a>(
        &'a self,
        guard: MutexGuard<'a, T>,
        at_most: Duration,
    ) -> MutexGuard<'a, T> {
        if turns::are_taken() {
            return self.wait(guard);
        }
        self.bell.wait_timeout(guard, at_most).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits while `condition` holds, for a time at most; whether it still holds.
    pub fn wait_while<'a>(
        &'a self,
        mut guard: MutexGuard<'a, T>,
        at_most: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> (MutexGuard<'a, T>, bool) {
        if let Some(now) = turns::now() {
            let deadline = now.saturating_add(at_most);
            while condition(&mut guard) {
                if turns::now().is_none_or(|now| now >= deadline) {
                    return (guard, true);
                }
                guard = self.wait(guard);
            }
            return (guard, false);
        }
        let waited = self.bell.wait_timeout_while(guard, at_most, condition);
        let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        (guard, timeout.timed_out())
    }
}
