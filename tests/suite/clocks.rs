//! Clocks of hosts that jump: no answer changes but what silence makes of it, and nothing waits.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use driftline::arrow::array::AsArray;
use driftline::arrow::datatypes::Int64Type;
use driftline::{Alarm, CheckpointStore, Checkpoints, Clock, Engine, MemoryStore, SystemClock};

use super::staged::{COUNTS, SETUP, expected, published, push, sink};
use super::support::within_minutes;

/// The system's clock, and what is added to it or taken off.
#[derive(Debug, Default)]
struct Jumping {
    system: SystemClock,
    /// Seconds ahead, and seconds back.
    moved: Mutex<(u64, u64)>,
}

impl Clock for Jumping {
    fn now(&self) -> Duration {
        let (ahead, back) = *self.moved.lock().unwrap();
        let now = self.system.now() + Duration::from_secs(ahead);
        now.saturating_sub(Duration::from_secs(back))
    }

    fn wait(&self, alarm: &Arc<Alarm>, deadline: Option<Duration>) {
        let at_most = deadline.map(|deadline| deadline.saturating_sub(self.now()));
        // Looks now and then whether it has jumped.
        let glance = Duration::from_millis(20);
        alarm.wait(Some(at_most.map_or(glance, |time| time.min(glance))));
    }
}

const YEAR: u64 = 365 * 24 * 3600;

#[test]
fn a_clock_that_jumps_changes_no_answer_and_holds_nothing_up() {
    within_minutes(|| {
        let (store, folder) = (Arc::<MemoryStore>::default(), tempfile::tempdir().unwrap());
        let clock = Arc::new(Jumping::default());
        let checkpoints = Checkpoints::new(Arc::clone(&store) as Arc<dyn CheckpointStore>);
        let checkpoints = checkpoints.every(Duration::from_millis(50));
        let builder = Engine::builder().workers(2).clock(clock.clone() as Arc<dyn Clock>);
        let engine = builder.checkpoints(checkpoints).build().unwrap();
        engine.execute(SETUP).unwrap();
        engine.execute(&sink(folder.path())).unwrap();
        engine.execute(COUNTS).unwrap();
        let taken = || engine.metrics().checkpoints.unwrap().taken;
        let jumps = [(0, 0), (10 * YEAR, 0), (10 * YEAR, YEAR), (YEAR, 0), (1, 0)];
        for (step, moved) in jumps.into_iter().enumerate() {
            *clock.moved.lock().unwrap() = moved;
            let step = step as u32 * 15;
            push(&engine, step..step + 15);
            engine.drain().unwrap();
            // Checkpoints go on coming.
            let before = taken();
            while taken() < before + 2 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        engine.shutdown().unwrap();
        assert_eq!(published(folder.path()), expected(COUNTS, 75));
    });
}

/// Time that a clock jumps ahead is silence for a source with a timeout; time that it jumps back is none at all.
#[test]
fn a_clock_that_jumps_ahead_is_silence_and_one_that_jumps_back_is_none() {
    within_minutes(|| {
        let clock = Arc::new(Jumping::default());
        *clock.moved.lock().unwrap() = (YEAR, 0);
        let builder = Engine::builder().workers(1).clock(clock.clone() as Arc<dyn Clock>);
        let engine = builder.build().unwrap();
        engine
            .execute("CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS ts IDLE TIMEOUT INTERVAL '60 seconds')")
            .unwrap();
        let mut counts = engine
            .subscribe("SELECT count(*) AS n FROM s GROUP BY tumble(interval '1 minute')")
            .unwrap();
        let row = |time: &str| {
            engine.execute(&format!("INSERT INTO s VALUES ('2024-01-01 {time}')")).unwrap();
            engine.drain().unwrap();
        };
        row("00:00:10");
        // Back by a year: nothing was silent.
        *clock.moved.lock().unwrap() = (0, 0);
        row("00:00:20");
        assert!(counts.try_next().unwrap().is_none());
        // Ahead by two minutes: the window closes without another row, and what comes below is late.
        *clock.moved.lock().unwrap() = (120, 0);
        let closed = counts.next().unwrap().unwrap();
        assert_eq!(closed.column(0).as_primitive::<Int64Type>().value(0), 2);
        row("00:00:30");
        assert_eq!(engine.metrics().source("s").unwrap().rows_late, 1);
        row("00:05:00");
        assert_eq!(engine.metrics().source("s").unwrap().rows_late, 1);
        engine.shutdown().unwrap();
        assert_eq!(counts.map(|rows| rows.unwrap().num_rows()).sum::<usize>(), 1);
    });
}
