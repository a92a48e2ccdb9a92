//! The one place that reads wall time, and its stand-in for tests.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use driftline_operators::sync::{Monitor, lock};

/// Where the engine gets its time from. It serves to close epochs and to notice idle sources, and never touches
/// what rows mean: event time is in the rows.
///
/// A host may bring its own, here one that runs sixty times as fast as the system's:
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use driftline::{Alarm, Clock, Engine, SystemClock};
///
/// #[derive(Debug, Default)]
/// struct FastClock(SystemClock);
///
/// impl Clock for FastClock {
///     fn now(&self) -> Duration {
///         self.0.now() * 60
///     }
///
///     fn wait(&self, alarm: &Arc<Alarm>, deadline: Option<Duration>) {
///         // The alarm waits in real time, and notices a ring.
///         alarm.wait(deadline.map(|deadline| deadline.saturating_sub(self.now()) / 60));
///     }
/// }
///
/// let engine = Engine::builder().clock(Arc::new(FastClock::default())).build()?;
/// engine.execute(
///     "CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS ts IDLE TIMEOUT INTERVAL '1 second')",
/// )?;
/// let mut counts =
///     engine.subscribe("SELECT count(*) AS n FROM s GROUP BY tumble(interval '10 seconds')")?;
/// engine.execute("INSERT INTO s VALUES ('2024-01-01 00:00:04')")?;
/// // Nothing follows. Six seconds later by this clock, a tenth of one by the system's, the window closes all the same.
/// assert!(counts.next().transpose()?.is_some());
/// # Ok::<(), driftline::Error>(())
/// ```
pub trait Clock: Debug + Send + Sync {
    /// Time since the clock was made. May stand still. For the engine one that jumps back has stood still, and goes on from
    /// there; one that jumps ahead has let that much time pass, in which a source with an IDLE TIMEOUT was silent.
    fn now(&self) -> Duration;

    /// Waits until `alarm` rings, or until `deadline` if there is one.
    fn wait(&self, alarm: &Arc<Alarm>, deadline: Option<Duration>);
}

/// A bell that ends a wait early. It stays rung until the wait has noticed.
///
/// ```
/// let alarm = driftline::Alarm::default();
/// alarm.ring();
/// // It was rung before, so that there is nothing to wait for.
/// alarm.wait(None);
/// ```
#[derive(Debug, Default)]
pub struct Alarm(Monitor<bool>);

impl Alarm {
    /// Rings.
    pub fn ring(&self) {
        *self.0.lock() = true;
        self.0.ring();
    }

    /// Waits for a ring, at most as long as given, and quiets the bell.
    pub fn wait(&self, at_most: Option<Duration>) {
        let mut rung = self.0.lock();
        if !*rung {
            rung = match at_most {
                None => self.0.wait(rung),
                Some(time) => self.0.wait_for(rung, time),
            };
        }
        *rung = false;
    }
}

/// The system's monotonic clock.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        now().saturating_duration_since(self.0)
    }

    fn wait(&self, alarm: &Arc<Alarm>, deadline: Option<Duration>) {
        alarm.wait(deadline.map(|deadline| deadline.saturating_sub(self.now())));
    }
}

/// A clock of the host's whose steps back are left out.
#[derive(Debug)]
pub(crate) struct Steady {
    host: Arc<dyn Clock>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// What the host's clock said last.
    last: Duration,
    /// How far it has gone back in all.
    back: Duration,
}

impl Steady {
    pub(crate) fn new(host: Arc<dyn Clock>) -> Self {
        Self { host, seen: Mutex::default() }
    }
}

impl Clock for Steady {
    fn now(&self) -> Duration {
        let mut seen = lock(&self.seen);
        let now = self.host.now();
        seen.back = seen.back.saturating_add(seen.last.saturating_sub(now));
        seen.last = now;
        now.saturating_add(seen.back)
    }

    fn wait(&self, alarm: &Arc<Alarm>, deadline: Option<Duration>) {
        let back = lock(&self.seen).back;
        self.host.wait(alarm, deadline.map(|deadline| deadline.saturating_sub(back)));
    }
}

/// The instant that timely's own timers count from.
#[expect(clippy::disallowed_methods, reason = "this file is where the clock is read")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A clock that moves only when told to, so that tests need not sleep.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use driftline::{Engine, ManualClock};
///
/// let clock = Arc::new(ManualClock::default());
/// let engine = Engine::builder().clock(clock.clone()).build()?;
/// clock.advance(Duration::from_secs(60));
/// # Ok::<(), driftline::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct ManualClock(Mutex<Manual>);

#[derive(Debug, Default)]
struct Manual {
    now: Duration,
    waiting: Vec<Weak<Alarm>>,
}

impl ManualClock {
    /// Moves time forward.
    pub fn advance(&self, by: Duration) {
        let mut manual = lock(&self.0);
        manual.now = manual.now.saturating_add(by);
        for alarm in std::mem::take(&mut manual.waiting) {
            if let Some(alarm) = alarm.upgrade() {
                alarm.ring();
            }
        }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        lock(&self.0).now
    }

    fn wait(&self, alarm: &Arc<Alarm>, deadline: Option<Duration>) {
        {
            let mut manual = lock(&self.0);
            if deadline.is_some_and(|deadline| deadline <= manual.now) {
                return;
            }
            manual.waiting.push(Arc::downgrade(alarm));
        }
        alarm.wait(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Jumping(Mutex<Duration>);

    impl Clock for Jumping {
        fn now(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn wait(&self, _: &Arc<Alarm>, deadline: Option<Duration>) {
            *self.0.lock().unwrap() = deadline.unwrap();
        }
    }

    #[test]
    fn time_never_goes_back_and_goes_on_at_once() {
        let host = Arc::new(Jumping::default());
        let clock = Steady::new(host.clone());
        for (said, is) in [(100, 100), (40, 100), (50, 110), (0, 110), (7, 117), (1_000, 1_110)] {
            *host.0.lock().unwrap() = Duration::from_secs(said);
            assert_eq!(clock.now(), Duration::from_secs(is));
        }
        // A deadline is told to the host by its own clock.
        clock.wait(&Arc::default(), Some(Duration::from_secs(1_200)));
        assert_eq!(clock.now(), Duration::from_secs(1_200));
        *host.0.lock().unwrap() = Duration::MAX;
        assert_eq!(clock.now(), Duration::MAX);
    }
}
