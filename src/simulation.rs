//! Runs of engines that a seed decides: whose turn it is, and how time passes.

use std::sync::Arc;
use std::time::Duration;

use driftline_operators::sync::turns;

use crate::runtime::clock::{Alarm, Clock};

/// Turns that a run may take, unless it is told otherwise.
const TURNS_MAX: u64 = 10_000_000;

/// A run in which the threads of engines take turns, in an order and at times that come from a seed alone: the same seed
/// gives the same run again, so that what went wrong once can be looked at as often as one likes.
///
/// Only one thread runs at a time. Where threads of the engine wait for each other, and at places where another thread might
/// have been faster, the seed says who goes on. Time stands still but for what the seed lets pass with the turns; an
/// engine that is given no clock goes by it. A test of a host runs its pipeline under many seeds, lets its
/// [`CheckpointStore`](crate::CheckpointStore) fail when [`History::random`] says so, and compares what comes out:
///
/// ```
/// use driftline::{Engine, Simulation};
///
/// for seed in 0..20 {
///     let simulation = Simulation::new(seed);
///     let run = || {
///         simulation.run(|history| {
///             let engine = Engine::builder().workers(2).build()?;
///             engine.execute("CREATE SOURCE s (n BIGINT)")?;
///             let results = engine.subscribe("SELECT n FROM s WHERE n % 2 = 0")?;
///             for n in 0..10 {
///                 engine.execute(&format!("INSERT INTO s VALUES ({n})"))?;
///                 if history.random(3) == 0 {
///                     engine.drain()?;
///                 }
///             }
///             engine.shutdown()?;
///             let rows = results.map(|rows| Ok(rows?.num_rows())).sum::<driftline::Result<usize>>()?;
///             Ok((rows, history.fingerprint()))
///         })
///     };
///     let once: driftline::Result<(usize, u64)> = run();
///     assert_eq!(once?.0, 5, "seed {seed}");
///     assert_eq!(run()?, run()?, "the same turns again");
/// }
/// # Ok::<(), driftline::Error>(())
/// ```
///
/// Not part of it: threads that the host starts itself, networks, which compute on threads of their own, and races between
/// two places at which turns pass; for those there are tests under load.
#[derive(Clone, Debug)]
#[must_use]
pub struct Simulation {
    seed: u64,
    turns_max: u64,
}

impl Simulation {
    /// A run of this seed, of ten million turns at most.
    pub fn new(seed: u64) -> Self {
        Self { seed, turns_max: TURNS_MAX }
    }

    /// How many turns it may take before it counts as stuck.
    ///
    /// ```
    /// let simulation = driftline::Simulation::new(1).turns_max(1_000);
    /// let stuck = || simulation.run(|history| history.wait(std::time::Duration::MAX));
    /// assert!(std::panic::catch_unwind(stuck).is_err());
    /// ```
    pub fn turns_max(self, turns_max: u64) -> Self {
        Self { turns_max, ..self }
    }

    /// Runs `body` on this thread. Engines that are built in it should end in it.
    ///
    /// # Panics
    /// With a panic of `body`; and with one that names the seed if the run is stuck.
    pub fn run<T>(&self, body: impl FnOnce(&History) -> T) -> T {
        turns::simulate(self.seed, self.turns_max, || body(&History(())))
    }
}

/// A simulated run, while it lasts.
#[derive(Debug)]
pub struct History(());

impl History {
    /// The run that this thread is in, for what the engine calls: a store, a callback, a function.
    ///
    /// ```
    /// use driftline::{History, Simulation};
    ///
    /// assert!(History::current().is_none());
    /// Simulation::new(1).run(|_| assert!(History::current().is_some()));
    /// ```
    #[must_use]
    pub fn current() -> Option<Self> {
        turns::are_taken().then_some(Self(()))
    }

    /// A number below `below`, out of the seed; 0 if that is 0.
    ///
    /// ```
    /// use driftline::{History, Simulation};
    ///
    /// let dice = |history: &History| [history.random(6) + 1, history.random(6) + 1];
    /// assert_eq!(Simulation::new(3).run(dice), Simulation::new(3).run(dice));
    /// ```
    #[must_use]
    pub fn random(&self, below: u64) -> u64 {
        turns::random(below).unwrap_or(0)
    }

    /// The time since the run began, as it passes in the run.
    #[must_use]
    pub fn now(&self) -> Duration {
        turns::now().unwrap_or_default()
    }

    /// Lets other threads have turns until so much time has passed in the run.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let passed = driftline::Simulation::new(5).run(|history| {
    ///     history.wait(Duration::from_secs(60));
    ///     history.now()
    /// });
    /// assert!(passed >= Duration::from_secs(60));
    /// ```
    pub fn wait(&self, time: Duration) {
        let due = self.now().saturating_add(time);
        let _ = turns::until(|| (self.now() >= due).then_some(()));
    }

    /// Stands for the order of all turns so far: two runs with the same went the same way.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        turns::fingerprint().unwrap_or(0)
    }
}

/// The clock of engines in a simulation.
#[derive(Debug)]
struct SimulatedClock;

impl Clock for SimulatedClock {
    fn now(&self) -> Duration {
        turns::now().unwrap_or_default()
    }

    fn wait(&self, alarm: &Arc<Alarm>, deadline: Option<Duration>) {
        // One wait of an alarm is one turn; whoever waits looks at the clock again.
        alarm.wait(deadline.map(|deadline| deadline.saturating_sub(self.now())));
    }
}

/// The clock of the simulation that this thread is in.
pub(crate) fn clock() -> Option<Arc<dyn Clock>> {
    turns::are_taken().then(|| Arc::new(SimulatedClock) as Arc<dyn Clock>)
}
