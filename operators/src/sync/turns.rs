//! Threads that take turns: in a simulation only one of them runs at a time, and a seed says which.
//!
//! A thread has a seat or has none. One without is like any other thread, and nothing here costs it more than a look at a
//! thread-local. Those with a seat run one after the other. Whoever would wait (for a lock, a bell, a message, a thread's
//! end) passes its turn on and looks again when it has it back; at marked places threads pass it on of their own accord,
//! as the seed has it. Time moves only with turns. So what such threads do depends on the seed and on nothing else.
//!
//! What a simulation does not reach is what happens between two such places: there a thread has the machine to itself, so
//! that races on memory are not its business.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use fastrand::Rng;

thread_local! {
    static SEAT: RefCell<Option<Seat>> = const { RefCell::new(None) };
}

/// What every thread of a simulation shares.
struct Table {
    seed: u64,
    turns_max: u64,
    state: Mutex<State>,
    /// There were too many turns: all run freely, and whoever would wait panics.
    is_free: AtomicBool,
}

struct State {
    random: Rng,
    now: Duration,
    seats: Vec<Arc<Place>>,
    current: usize,
    /// In how many of 64 cases a thread goes on that need not wait. Some histories switch all the time, some rarely.
    goes_on: u8,
    turns: u64,
    fingerprint: u64,
}

/// Where a thread sits.
struct Place {
    number: usize,
    has_left: AtomicBool,
    /// Rings when it is this thread's turn.
    turn: Condvar,
}

/// A thread's part in a simulation. Made by whoever starts the thread, so that its number does not depend on when it
/// begins to run.
#[derive(Clone)]
pub struct Seat {
    table: Arc<Table>,
    place: Arc<Place>,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").field("number", &self.place.number).finish_non_exhaustive()
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_free(&self) -> bool {
        self.is_free.load(Ordering::Acquire)
    }
}

impl State {
    fn take_place(&mut self) -> Arc<Place> {
        let place = Arc::new(Place {
            number: self.seats.len(),
            has_left: AtomicBool::new(false),
            turn: Condvar::new(),
        });
        self.seats.push(Arc::clone(&place));
        place
    }

    /// Draws who is next among those who have not left; another one than `not`, if there is another.
    fn draw(&mut self, not: Option<usize>) -> Option<Arc<Place>> {
        let there = |place: &&Arc<Place>| !place.has_left.load(Ordering::Relaxed);
        let others = |place: &&Arc<Place>| Some(place.number) != not;
        let count = self.seats.iter().filter(there).filter(others).count();
        if count == 0 {
            return self.seats.iter().find(there).cloned();
        }
        let drawn = self.random.usize(..count);
        self.seats.iter().filter(there).filter(others).nth(drawn).cloned()
    }

    fn give_to(&mut self, next: &Place) {
        self.current = next.number;
        // FNV-1a over the numbers of those whose turn it was.
        self.fingerprint = (self.fingerprint ^ next.number as u64).wrapping_mul(0x100_0000_01b3);
        next.turn.notify_one();
    }

    /// Time moves now and then, mostly by microseconds, sometimes by more than a second.
    fn let_time_pass(&mut self) {
        if self.random.u8(..16) == 0 {
            let micros = 1_u64 << self.random.u32(..21);
            self.now += Duration::from_micros(micros);
        }
    }
}

impl Seat {
    /// Waits for this thread's turn.
    fn await_turn<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while state.current != self.place.number && !self.table.is_free() {
            state = self.place.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn pass(&self, must: bool) {
        let mut state = self.table.lock();
        state.turns += 1;
        if state.turns > self.table.turns_max && !self.table.is_free() {
            self.table.is_free.store(true, Ordering::Release);
            state.seats.iter().for_each(|place| place.turn.notify_all());
        }
        if self.table.is_free() {
            drop(state);
            std::thread::yield_now();
            let Table { seed, turns_max, .. } = &*self.table;
            assert!(
                !must || std::thread::panicking(),
                "simulation of seed {seed} has not come to its end in {turns_max} turns"
            );
            return;
        }
        state.let_time_pass();
        if !must {
            let goes_on = state.goes_on;
            if state.random.u8(..64) < goes_on {
                return;
            }
        }
        let not = must.then_some(self.place.number);
        if let Some(next) = state.draw(not)
            && next.number != self.place.number
        {
            state.give_to(&next);
            drop(self.await_turn(state));
        }
    }

    fn leave(&self) {
        let mut state = self.table.lock();
        self.place.has_left.store(true, Ordering::Release);
        if state.current == self.place.number
            && let Some(next) = state.draw(None)
        {
            state.give_to(&next);
        }
    }

    fn has_left(&self) -> bool {
        self.place.has_left.load(Ordering::Acquire)
    }
}

/// Gives the turn on when its thread ends, however it does.
struct Seated(Seat);

impl Drop for Seated {
    fn drop(&mut self) {
        SEAT.with_borrow_mut(Option::take);
        self.0.leave();
    }
}

fn seat() -> Option<Seat> {
    SEAT.with_borrow(Clone::clone)
}

/// Whether this thread takes turns with others.
#[must_use]
pub fn are_taken() -> bool {
    SEAT.with_borrow(Option::is_some)
}

/// This thread cannot go on before another one has done something.
pub fn wait() {
    if let Some(seat) = seat() {
        seat.pass(true);
    }
}

/// This thread could go on, and another one could be faster.
pub fn pause() {
    if let Some(seat) = seat() {
        seat.pass(false);
    }
}

/// What `poll` finds in the end; `None` at once if this thread takes no turns, and has to wait in its own way.
pub fn until<T>(mut poll: impl FnMut() -> Option<T>) -> Option<T> {
    let seat = seat()?;
    loop {
        if let Some(found) = poll() {
            return Some(found);
        }
        seat.pass(true);
    }
}

/// The time of the simulation that this thread is in.
#[must_use]
pub fn now() -> Option<Duration> {
    seat().map(|seat| seat.table.lock().now)
}

/// A number below `below` out of the seed of the simulation that this thread is in; 0 if that is 0.
#[must_use]
pub fn random(below: u64) -> Option<u64> {
    seat().map(|seat| if below == 0 { 0 } else { seat.table.lock().random.u64(..below) })
}

/// What tells one order of turns from another: who had them so far, one after the other.
#[must_use]
pub fn fingerprint() -> Option<u64> {
    seat().map(|seat| seat.table.lock().fingerprint)
}

/// A place for a thread that is about to be started, if this thread has one.
#[must_use]
pub fn reserve() -> Option<Seat> {
    let seat = seat()?;
    let place = seat.table.lock().take_place();
    Some(Seat { table: seat.table, place })
}

/// Gives up a place that no thread has taken.
pub fn release(seat: Option<&Seat>) {
    seat.into_iter().for_each(Seat::leave);
}

/// Runs `body` on this thread in a place that was reserved for it; without one, just runs it.
pub fn in_seat<T>(seat: Option<Seat>, body: impl FnOnce() -> T) -> T {
    let Some(seat) = seat else { return body() };
    drop(seat.await_turn(seat.table.lock()));
    SEAT.set(Some(seat.clone()));
    let _seated = Seated(seat);
    body()
}

/// Waits until the threads in these places have ended, all but for the little that comes after.
pub fn await_ends(seats: &[Seat]) {
    let _ = until(|| seats.iter().all(Seat::has_left).then_some(()));
}

/// Runs `body` as the first thread of a simulation. Threads that it starts are to have ended when it returns.
///
/// # Panics
/// With the panic of `body`, and if it takes more than `turns_max` turns.
pub fn simulate<T>(seed: u64, turns_max: u64, body: impl FnOnce() -> T) -> T {
    let mut random = Rng::with_seed(seed);
    let goes_on = [0, 32, 48, 60, 63][random.usize(..5)];
    let state = State {
        random,
        now: Duration::ZERO,
        seats: Vec::new(),
        current: 0,
        goes_on,
        turns: 0,
        fingerprint: 0xcbf2_9ce4_8422_2325,
    };
    let table =
        Table { seed, turns_max, state: Mutex::new(state), is_free: AtomicBool::new(false) };
    let place = table.lock().take_place();
    let seat = Seat { table: Arc::new(table), place };
    let before = SEAT.take();
    let outcome = catch_unwind(AssertUnwindSafe(|| in_seat(Some(seat), body)));
    SEAT.set(before);
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

/// A thread that was started with a place of its own if its starter had one.
#[derive(Debug)]
pub struct Handle<T> {
    handle: JoinHandle<T>,
    seat: Option<Seat>,
}

impl<T> Handle<T> {
    /// Puts together a thread and its place.
    #[must_use]
    pub fn new(handle: JoinHandle<T>, seat: Option<Seat>) -> Self {
        Self { handle, seat }
    }

    /// The thread.
    #[must_use]
    pub fn thread(&self) -> &Thread {
        self.handle.thread()
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.seat.as_ref().map_or_else(|| self.handle.is_finished(), Seat::has_left)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// What it panicked with.
    pub fn join(self) -> std::thread::Result<T> {
        await_ends(self.seat.as_slice());
        self.handle.join()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Monitor;

    fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> Handle<T> {
        let seat = reserve();
        let theirs = seat.clone();
        Handle::new(std::thread::spawn(move || in_seat(theirs, body)), seat)
    }

    /// Three threads write their names down, and a fourth waits until all have; the order, time and fingerprint.
    fn history(seed: u64) -> (Vec<usize>, Duration, u64) {
        simulate(seed, 100_000, || {
            let written = Arc::new(Monitor::new(Vec::new()));
            let threads: Vec<_> = (0..3)
                .map(|name| {
                    let written = Arc::clone(&written);
                    spawn(move || {
                        for _ in 0..20 {
                            written.lock().push(name);
                            written.ring();
                            pause();
                        }
                    })
                })
                .collect();
            let mut seen = written.lock();
            while seen.len() < 60 {
                seen = written.wait(seen);
            }
            let order = seen.clone();
            drop(seen);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            (order, now().unwrap(), fingerprint().unwrap())
        })
    }

    #[test]
    fn a_seed_is_a_history_and_another_is_another() {
        let mut orders = std::collections::HashSet::new();
        for seed in 0..50 {
            let once = history(seed);
            assert_eq!(once, history(seed), "seed {seed}");
            orders.insert(once.0);
        }
        assert!(orders.len() > 40, "{} orders of 50", orders.len());
        assert!(!are_taken(), "the simulation is over");
    }

    #[test]
    fn who_waits_for_what_never_comes_is_told_the_seed() {
        let stuck = || {
            let bell = Arc::new(Monitor::new(false));
            let other = Arc::clone(&bell);
            let thread =
                spawn(move || drop(other.wait_while(other.lock(), Duration::MAX, |rung| !*rung)));
            thread.join()
        };
        let panic = catch_unwind(|| simulate(7, 1_000, stuck)).unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.contains("seed 7") && text.contains("1000 turns"), "{text}");
    }

    #[test]
    fn time_passes_with_turns_alone() {
        let waited = simulate(1, 1_000_000, || {
            let bell = Monitor::new(());
            let (guard, is_over) =
                bell.wait_while(bell.lock(), Duration::from_secs(3600), |()| true);
            drop(guard);
            assert!(is_over);
            now().unwrap()
        });
        assert!(waited >= Duration::from_secs(3600));
        let bell = Monitor::new(());
        assert!(bell.wait_while(bell.lock(), Duration::from_millis(1), |()| true).1);
    }
}
