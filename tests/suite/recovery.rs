//! Engines that go on: files that are read on, counts, hosts that take their time, and processes that are killed.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use driftline::{CheckpointStore, Checkpoints, Engine, ErrorKind, ManualClock, MemoryStore};

use super::kill;
use super::staged::{COUNTS, SETUP, engine, expected, published, push, refused, sink};
use super::support::within_minutes;

/// Checkpoints by the clock wait for a host that has not created everything again: they would lose what is left.
#[test]
fn a_host_that_takes_its_time_to_create_things_loses_nothing() {
    let expected = expected(COUNTS, 90);
    let (store, folder) = (Arc::new(MemoryStore::default()), tempfile::tempdir().unwrap());
    let pause = || std::thread::sleep(Duration::from_millis(30));
    for from in [0, 30, 60] {
        let checkpoints = Checkpoints::new(Arc::clone(&store) as Arc<dyn CheckpointStore>);
        let checkpoints = checkpoints.every(Duration::from_millis(1));
        let engine = Engine::builder().checkpoints(checkpoints).build().unwrap();
        let before = engine.restored().map_or(0, |checkpoint| checkpoint.id);
        pause();
        engine.execute(SETUP).unwrap();
        pause();
        engine.execute(&sink(folder.path())).unwrap();
        pause();
        if before > 0 {
            assert_eq!(engine.metrics().checkpoints.unwrap().taken, 0);
        }
        engine.execute(COUNTS).unwrap();
        assert_eq!(engine.source("s").unwrap().resume_at(), u64::from(from));
        if from == 60 {
            push(&engine, from..from + 30);
            engine.shutdown().unwrap();
            break;
        }
        // The host dies over some of the rows.
        push(&engine, from..from + 30);
        engine.checkpoint().unwrap();
        drop(engine);
    }
    assert_eq!(published(folder.path()), expected);
}

#[test]
fn files_are_read_on_from_where_the_checkpoint_stood() {
    for order in ["as_they_lie", "event_time"] {
        let (store, folder) = (Arc::new(MemoryStore::default()), tempfile::tempdir().unwrap());
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        let mut written = 0_u32;
        for file in 0..3 {
            let mut text = "k,ts,n\n".to_owned();
            for _ in 0..40 {
                let (m, s) = (written / 60, written % 60);
                text += &format!("k{},2024-01-01 00:{m:02}:{s:02},{written}\n", written % 3);
                if written % 10 == 3 {
                    text += "k,no time at all,x\n";
                }
                written += 1;
            }
            fs::write(folder.path().join(format!("{file}.csv")), text).unwrap();
        }
        let clock = Arc::new(ManualClock::default());
        let start = || {
            let checkpoints = Checkpoints::new(Arc::clone(&store) as Arc<dyn CheckpointStore>);
            let builder = Engine::builder().workers(2).clock(Arc::clone(&clock) as Arc<_>);
            let engine = builder.checkpoints(checkpoints).build().unwrap();
            let files = folder.path().join("*.csv");
            let with = format!(" WITH (path = '{}', pace = 1, order = '{order}')", files.display());
            engine.execute(&format!("{SETUP}{with}")).unwrap();
            engine.execute(&sink(&out)).unwrap();
            engine.execute(COUNTS).unwrap();
            engine.start().unwrap();
            engine
        };
        let rows = |engine: &Engine| engine.metrics().sources[0].rows;
        let mut known = 0;
        for seconds in [25, 31] {
            let engine = start();
            assert_eq!(engine.source("s").unwrap().resume_at(), known);
            // Paced files wait for the clock: the rows of so many seconds come.
            let until = known + seconds;
            within_clock(&clock, || rows(&engine) >= until);
            let checkpoint = engine.checkpoint().unwrap();
            known = engine.metrics().sources[0].rows;
            assert!(known >= until && checkpoint.id > 0);
        }
        let engine = start();
        within_clock(&clock, || rows(&engine) == 120);
        let source = engine.metrics().sources[0].clone();
        engine.shutdown().unwrap();
        assert_eq!((source.rows, source.rows_malformed), (120, 12), "{order}");
        assert_eq!(published(&out), expected(COUNTS, 120), "{order}");
        // It has ended: nothing is read again.
        let engine = start();
        engine.shutdown().unwrap();
        assert_eq!(published(&out), expected(COUNTS, 120));
    }
}

/// Lets the clock go on until something is so.
fn within_clock(clock: &ManualClock, is_so: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if is_so() {
            return;
        }
        clock.advance(Duration::from_millis(100));
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it never was so");
}

#[test]
fn files_that_have_become_shorter_are_refused() {
    let (store, folder) = (Arc::default(), tempfile::tempdir().unwrap());
    let path = folder.path().join("a.csv");
    fs::write(&path, "n\n1\n2\n3\n").unwrap();
    // A second file that does not end: the source is open when the checkpoint is taken.
    let start = || {
        let engine = engine(&store);
        let with = format!("WITH (path = '{}')", path.display());
        engine.execute(&format!("CREATE SOURCE f (n BIGINT) {with}")).unwrap();
        engine
    };
    let engine = start();
    let source = engine.source("f").unwrap();
    let three = driftline::arrow::array::Int64Array::from(vec![1, 2, 3]);
    let rows =
        driftline::arrow::array::RecordBatch::try_new(source.schema(), vec![Arc::new(three)]);
    source.push(rows.unwrap()).unwrap();
    engine.checkpoint().unwrap();
    drop((engine, source));
    fs::write(&path, "n\n1\n").unwrap();
    let engine = start();
    engine.start().unwrap();
    let error = refused(engine.shutdown(), ErrorKind::Incompatible, "has read 3 rows");
    assert!(error.hint().unwrap().contains("put the files back"));
}

/// A file that cannot be read ends its source: no checkpoint says that this was its end.
#[test]
fn a_file_that_could_not_be_read_is_read_on_once_it_can() {
    within_minutes(|| {
        let (store, folder) = (Arc::default(), tempfile::tempdir().unwrap());
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        let file = |name: &str, seconds: std::ops::Range<u32>| {
            let row =
                |s: u32| format!("k{},2024-01-01 00:{:02}:{:02},{s}\n", s % 3, s / 60, s % 60);
            let text = std::iter::once("k,ts,n\n".to_owned()).chain(seconds.map(row));
            fs::write(folder.path().join(name), text.collect::<String>()).unwrap();
        };
        file("a.csv", 0..40);
        // Of other columns.
        fs::write(folder.path().join("b.csv"), "other\n1\n").unwrap();
        let start = || {
            let engine = engine(&store);
            let files = folder.path().join("*.csv");
            engine.execute(&format!("{SETUP} WITH (path = '{}')", files.display())).unwrap();
            engine.execute(&sink(&out)).unwrap();
            engine.execute(COUNTS).unwrap();
            engine.start().unwrap();
            engine
        };
        let engine = start();
        while !engine.metrics().queries.is_empty() {
            std::thread::yield_now();
        }
        let error = refused(engine.checkpoint(), ErrorKind::Unavailable, "source \"s\" has failed");
        assert!(error.hint().unwrap().contains("DROP SOURCE"));
        assert!(engine.shutdown().is_err());
        file("b.csv", 40..90);
        start().shutdown().unwrap();
        assert_eq!(published(&out), expected(COUNTS, 90));
    });
}

/// Late and malformed rows that are queued when the checkpoint is asked for are in it.
#[test]
fn counts_in_a_checkpoint_are_exact() {
    for round in 0..20 {
        let store = Arc::default();
        let start = || {
            let engine = engine(&store);
            engine.execute(SETUP).unwrap();
            engine
        };
        let engine = start();
        let all = engine.subscribe("SELECT n FROM s").unwrap();
        engine.execute("INSERT INTO s VALUES ('k', '2024-01-02 00:00:00', 1)").unwrap();
        engine.drain().unwrap();
        let late = |count: u32| {
            let rows = vec!["('k', '2024-01-01 00:00:00', 1), ('k', NULL, 2)"; count as usize];
            engine.execute(&format!("INSERT INTO s VALUES {}", rows.join(", "))).unwrap();
        };
        for _ in 0..30 {
            late(10);
        }
        let (engine_ref, stop) = (&engine, std::sync::atomic::AtomicBool::new(false));
        let mut taken = None;
        std::thread::scope(|scope| {
            // What is pushed after the barrier is not in it, though it is pushed meanwhile.
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    late(1);
                }
            });
            taken = Some(engine_ref.checkpoint());
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        taken.unwrap().unwrap();
        drop((all, engine));
        let engine = start();
        let source = engine.metrics().sources[0].clone();
        assert!(source.rows >= 601, "round {round}");
        let half = (source.rows - 1) / 2;
        assert_eq!((source.rows_late, source.rows_malformed), (half, half), "round {round}");
    }
}

/// Kills in one run; more are asked for by this variable.
const KILLS: &str = "DRIFTLINE_KILLS";

#[test]
fn a_process_that_is_killed_loses_and_doubles_nothing() {
    let kills = std::env::var(KILLS).ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let program = std::env::current_exe().unwrap();
    let outcome = kill::kill_at_random(kills, 6, || {
        let mut command = Command::new(&program);
        command.args(["--exact", "suite::recovery::a_life_of_the_kill_test", "--ignored"]);
        command
    });
    let kill::Outcome { kills, lost, doubled, rows, examples } = outcome;
    println!("kill_runs = {kills}\nkill_lost = {lost}\nkill_doubled = {doubled}\nrows = {rows}");
    assert!(rows > 500, "{rows} rows are too few to tell");
    assert_eq!((lost, doubled), (0, 0), "{examples:#?}");
}

/// Started by the kill test, as a process of its own.
#[test]
#[ignore = "the kill test starts it"]
fn a_life_of_the_kill_test() {
    if let Some(result) = kill::live_as_child() {
        result.unwrap();
    }
}
