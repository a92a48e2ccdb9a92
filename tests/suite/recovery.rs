//! Files that are published with checkpoints, files that are read on, and processes that are killed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use driftline::{CheckpointStore, Checkpoints, Engine, Error, ErrorKind, MemoryStore, Result};

use super::kill;
use super::support::within_minutes;

fn engine(store: &Arc<MemoryStore>) -> Engine {
    let checkpoints = Checkpoints::new(Arc::clone(store) as Arc<dyn CheckpointStore>);
    Engine::builder().workers(2).checkpoints(checkpoints).build().unwrap()
}

const SETUP: &str = "CREATE SOURCE s (k TEXT, ts TIMESTAMP, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1 second')";

/// An engine with a source and a sink in a folder.
fn started(store: &Arc<MemoryStore>, folder: &Path) -> Engine {
    let engine = engine(store);
    engine.execute(SETUP).unwrap();
    engine.execute(&sink(folder)).unwrap();
    engine
}

fn sink(folder: &Path) -> String {
    let path = folder.join("out.ndjson");
    format!("CREATE SINK out WITH (path = '{}', publish = 'checkpoint')", path.display())
}

const COUNTS: &str = "INSERT INTO out SELECT k, window_end, count(*) AS n
  FROM TUMBLE(s, ts, INTERVAL '10 seconds') GROUP BY k, window_start, window_end";

/// Pushes a row for each second.
fn push(engine: &Engine, seconds: std::ops::Range<u32>) {
    let row = |s: u32| format!("('k{}', '2024-01-01 00:{:02}:{:02}', {s})", s % 3, s / 60, s % 60);
    let rows: Vec<String> = seconds.map(row).collect();
    engine.execute(&format!("INSERT INTO s VALUES {}", rows.join(", "))).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Lines of all published files.
fn published(folder: &Path) -> Vec<String> {
    let whole = names(folder).into_iter().filter(|name| name.ends_with(".ndjson"));
    let mut lines: Vec<String> = whole
        .flat_map(|name| {
            let text = fs::read_to_string(folder.join(name)).unwrap();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    lines.sort();
    lines
}

/// What all rows give without any checkpoint.
fn expected(query: &str, seconds: u32) -> Vec<String> {
    let (store, folder) = (Arc::default(), tempfile::tempdir().unwrap());
    let engine = started(&store, folder.path());
    engine.execute(query).unwrap();
    push(&engine, 0..seconds);
    engine.shutdown().unwrap();
    let lines = published(folder.path());
    assert!(lines.len() > 3, "{lines:?}");
    lines
}

#[test]
fn rows_are_seen_with_their_checkpoint_and_once() {
    let expected = expected(COUNTS, 90);
    let (store, folder) = (Arc::default(), tempfile::tempdir().unwrap());
    let engine = started(&store, folder.path());
    engine.execute(COUNTS).unwrap();
    push(&engine, 0..30);
    engine.drain().unwrap();
    assert_eq!(published(folder.path()), [""; 0], "no checkpoint has been taken");
    engine.checkpoint().unwrap();
    let first = published(folder.path());
    assert!(!first.is_empty());
    // Nothing new, no file.
    let before = names(folder.path());
    engine.checkpoint().unwrap();
    assert_eq!(names(folder.path()).len(), before.len());
    // Lost with the engine, and pushed again.
    push(&engine, 30..60);
    engine.drain().unwrap();
    drop(engine);
    assert_eq!(published(folder.path()), first);

    let engine = started(&store, folder.path());
    engine.execute(COUNTS).unwrap();
    let from = engine.source("s").unwrap().resume_at();
    assert_eq!(from, 30);
    push(&engine, 30..90);
    engine.shutdown().unwrap();
    assert_eq!(published(folder.path()), expected);
    assert!(names(folder.path()).iter().all(|name| name.ends_with(".ndjson")));
}

#[test]
fn a_shutdown_publishes_the_rest_and_is_the_end() {
    let expected = expected(COUNTS, 60);
    let (store, folder) = (Arc::default(), tempfile::tempdir().unwrap());
    let engine = started(&store, folder.path());
    engine.execute(COUNTS).unwrap();
    push(&engine, 0..60);
    engine.shutdown().unwrap();
    assert_eq!(published(folder.path()), expected);
    for _ in 0..2 {
        let engine = started(&store, folder.path());
        engine.execute(COUNTS).unwrap();
        let source = engine.source("s").unwrap();
        assert_eq!(source.resume_at(), 60);
        let rows = driftline::arrow::array::RecordBatch::new_empty(source.schema());
        source.push(rows).unwrap();
        let refused = engine.execute("INSERT INTO s VALUES ('k', '2024-01-01 01:00:00', 1)");
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Closed);
        engine.shutdown().unwrap();
        assert_eq!(published(folder.path()), expected);
    }
}

/// Queries over sources that have ended say nothing when they are started again.
#[test]
fn nothing_comes_twice_after_a_shutdown_whatever_the_query() {
    for query in [
        "SELECT count(*) AS n FROM s EMIT ON UPDATE RETAIN INTERVAL '1 hour'",
        "SELECT k, sum(n) AS n FROM s GROUP BY k EMIT ON UPDATE RETAIN INTERVAL '1 hour'",
        "SELECT DISTINCT k FROM s EMIT ON UPDATE RETAIN INTERVAL '1 hour'",
        "SELECT a.k, a.n FROM s a LEFT JOIN s b ON a.k = b.k
           AND b.ts BETWEEN a.ts - INTERVAL '4 seconds' AND a.ts - INTERVAL '1 second'",
        "SELECT k, n, lag(n) OVER (PARTITION BY k ORDER BY ts) AS before FROM s",
        "SELECT k, window_end, count(*) AS n FROM SESSION(s, ts, INTERVAL '2 seconds' PARTITION BY k)
           GROUP BY k, window_start, window_end",
        "SELECT k, n FROM LATE(s)",
        "SELECT k, n FROM s UNION ALL SELECT k, n + 1 AS n FROM s",
    ] {
        let (store, folder) = (Arc::default(), tempfile::tempdir().unwrap());
        let mut first = None;
        for _ in 0..3 {
            let engine = started(&store, folder.path());
            engine.execute(&format!("INSERT INTO out {query}")).unwrap();
            if first.is_none() {
                push(&engine, 0..40);
                engine.execute("INSERT INTO s VALUES ('k', NULL, 2)").unwrap();
            }
            engine.shutdown().unwrap();
            let found = published(folder.path());
            assert!(!found.is_empty(), "{query}");
            assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "{query}");
        }
    }
}

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
fn an_insert_that_has_ended_is_published_by_the_next_checkpoint() {
    let (store, folder) = (Arc::default(), tempfile::tempdir().unwrap());
    let engine = started(&store, folder.path());
    engine.execute("CREATE SOURCE other (n BIGINT)").unwrap();
    engine.execute(COUNTS).unwrap();
    push(&engine, 0..60);
    engine.source("s").unwrap().close().unwrap();
    while !engine.metrics().queries.is_empty() {
        std::thread::yield_now();
    }
    let refused = engine.execute("DROP SINK out").unwrap_err();
    assert!(refused.to_string().contains("no checkpoint has published"), "{refused}");
    engine.checkpoint().unwrap();
    assert_eq!(published(folder.path()), expected(COUNTS, 60));
    engine.execute("DROP SINK out").unwrap();
    // The same path again: what is published stays.
    engine.execute(&sink(folder.path())).unwrap();
    engine.execute("INSERT INTO out SELECT n FROM other").unwrap();
    engine.execute("INSERT INTO other VALUES (1)").unwrap();
    engine.shutdown().unwrap();
    assert_eq!(published(folder.path()).len(), expected(COUNTS, 60).len() + 1);
}

#[test]
fn several_inserts_in_every_format() {
    for (name, options) in [
        ("out.csv", ""),
        ("out.csv.gz", ""),
        ("out.ndjson.gz", ""),
        ("out.arrow", ""),
        ("out.arrows", ""),
        ("out.parquet", ""),
        ("out", ", format = 'ndjson'"),
    ] {
        let (store, folder) = (Arc::default(), tempfile::tempdir().unwrap());
        let engine = engine(&store);
        let path = folder.path().join(name);
        engine.execute(SETUP).unwrap();
        engine
            .execute(&format!(
                "CREATE SINK out WITH (path = '{}', publish = 'checkpoint'{options});
                 INSERT INTO out SELECT k, n FROM s WHERE n % 2 = 0;
                 INSERT INTO out SELECT k, n FROM s WHERE n % 2 = 1;
                 INSERT INTO out SELECT k, n FROM s WHERE n < 0",
                path.display()
            ))
            .unwrap();
        push(&engine, 0..20);
        engine.checkpoint().unwrap();
        push(&engine, 20..40);
        engine.checkpoint().unwrap();
        drop(engine);
        let mut whole = names(folder.path());
        // Whoever has no rows has an empty file open until the engine is gone.
        whole.retain(|name| !name.ends_with(".partial"));
        assert_eq!(whole.len(), 4, "{whole:?}");
        // Read back by a source of another engine.
        let engine = Engine::builder().build().unwrap();
        let format = if name == "out" { ", format = 'ndjson'" } else { "" };
        let files = folder.path().join(name.replace("out", "out-0*"));
        let read = format!(
            "CREATE SOURCE r (k TEXT, n BIGINT) WITH (path = '{}'{format})",
            files.display()
        );
        if name == "out" {
            // Its files cannot be told from those that are not whole by a pattern.
            continue;
        }
        engine.execute(&read).unwrap();
        let rows = engine.subscribe("r").unwrap();
        engine.start().unwrap();
        engine.shutdown().unwrap();
        assert_eq!(rows.map(|rows| rows.unwrap().num_rows()).sum::<usize>(), 40, "{name}");
    }
}

#[track_caller]
fn refused(result: Result<impl Sized>, kind: ErrorKind, word: &str) -> Error {
    let Err(error) = result else { panic!("it is not refused") };
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(word), "{error} does not say {word}");
    error
}

#[test]
fn what_does_not_go_together_is_refused_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Engine::builder().build().unwrap();
    let error = refused(plain.execute(&sink(folder.path())), ErrorKind::Settings, "takes none");
    assert!(error.hint().unwrap().contains(".checkpoints("));
    let engine = engine(&Arc::default());
    let both = sink(folder.path()).replace(")", ", mode = 'append')");
    refused(engine.execute(&both), ErrorKind::Settings, "leave mode out");
    let unknown = sink(folder.path()).replace("'checkpoint'", "'never'");
    refused(engine.execute(&unknown), ErrorKind::Settings, "'checkpoint'");
    engine.execute(&sink(folder.path())).unwrap();
    let twice = sink(folder.path()).replace("SINK out", "SINK second");
    refused(engine.execute(&twice), ErrorKind::Settings, "already");
    let gone = sink(&folder.path().join("gone")).replace("SINK out", "SINK third");
    refused(engine.execute(&gone), ErrorKind::Unavailable, "create the folder");
    engine.execute("CREATE SOURCE s (n BIGINT); INSERT INTO out SELECT n FROM s").unwrap();
    refused(engine.execute("INSERT INTO out SELECT n, n AS m FROM s"), ErrorKind::Query, "columns");
}

#[cfg(target_os = "linux")]
#[test]
fn a_sink_that_cannot_write_holds_checkpoints_back() {
    within_minutes(|| {
        let (store, folder) = (Arc::default(), tempfile::tempdir().unwrap());
        let engine = started(&store, folder.path());
        engine.execute(COUNTS).unwrap();
        push(&engine, 0..30);
        engine.checkpoint().unwrap();
        let first = published(folder.path());
        // The disk is full from now on: the next file leads to a device that is.
        std::os::unix::fs::symlink("/dev/full", folder.path().join("out.ndjson.1.partial"))
            .unwrap();
        push(&engine, 30..60);
        engine.drain().unwrap();
        let error = refused(engine.checkpoint(), ErrorKind::Unavailable, "out");
        assert_ne!(error.hint(), None);
        while !engine.metrics().queries.is_empty() {
            std::thread::yield_now();
        }
        let error = refused(engine.checkpoint(), ErrorKind::Unavailable, "disk is full");
        assert!(error.hint().unwrap().contains("DROP SINK"), "{error}");
        assert_eq!(engine.metrics().checkpoints.unwrap().failed, 2);
        refused(engine.execute(COUNTS), ErrorKind::Unavailable, "disk is full");
        refused(engine.shutdown(), ErrorKind::Unavailable, "disk is full");
        assert_eq!(published(folder.path()), first, "the checkpoint before is in force");
        // With room again, an engine goes on from it.
        let engine = started(&store, folder.path());
        engine.execute(COUNTS).unwrap();
        assert_eq!(engine.source("s").unwrap().resume_at(), 30);
        push(&engine, 30..90);
        engine.shutdown().unwrap();
        assert_eq!(published(folder.path()), expected(COUNTS, 90));
    });
}

#[test]
fn a_folder_that_goes_away_ends_the_query_and_no_checkpoint_is_taken() {
    within_minutes(|| {
        let (store, folder) = (Arc::default(), tempfile::tempdir().unwrap());
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        let engine = started(&store, &out);
        engine.execute(COUNTS).unwrap();
        engine.checkpoint().unwrap();
        push(&engine, 0..30);
        fs::remove_dir_all(&out).unwrap();
        refused(engine.checkpoint(), ErrorKind::Unavailable, "folder");
        // Who gives the rows up may go on.
        while !engine.metrics().queries.is_empty() {
            std::thread::yield_now();
        }
        engine.execute("DROP SINK out").unwrap();
        assert_eq!(engine.checkpoint().unwrap().id, 3);
    });
}

/// A crash between a durable checkpoint and the new names of its files.
#[test]
fn files_that_a_checkpoint_names_are_published_when_it_is_restored() {
    let (store, folder) = (Arc::default(), tempfile::tempdir().unwrap());
    let engine = started(&store, folder.path());
    engine.execute(COUNTS).unwrap();
    push(&engine, 0..30);
    engine.checkpoint().unwrap();
    let first = published(folder.path());
    drop(engine);
    let name = names(folder.path()).into_iter().find(|name| name.ends_with(".ndjson")).unwrap();
    let path = folder.path().join(&name);
    fs::rename(&path, folder.path().join(format!("{name}.staged"))).unwrap();
    // An engine that does not create the sink keeps them for one that does.
    let engine = self::engine(&store);
    engine.checkpoint().unwrap();
    drop(engine);
    assert!(!path.exists());
    drop(started(&store, folder.path()));
    assert_eq!(published(folder.path()), first);
    // A store that goes back, or is emptied: what was published later is set aside, and not lost.
    drop(started(&Arc::default(), folder.path()));
    assert_eq!(published(folder.path()), [""; 0]);
    assert!(names(folder.path()).contains(&format!("{name}.set_aside")));
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
        let clock = Arc::new(driftline::ManualClock::default());
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
fn within_clock(clock: &driftline::ManualClock, is_so: impl Fn() -> bool) {
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
