//! File sinks that publish with checkpoints.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use driftline::{CheckpointStore, Checkpoints, Engine, Error, ErrorKind, MemoryStore, Result};

use super::support::within_minutes;

pub(super) fn engine(store: &Arc<MemoryStore>) -> Engine {
    let checkpoints = Checkpoints::new(Arc::clone(store) as Arc<dyn CheckpointStore>);
    Engine::builder().workers(2).checkpoints(checkpoints).build().unwrap()
}

pub(super) const SETUP: &str = "CREATE SOURCE s (k TEXT, ts TIMESTAMP, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1 second')";

/// An engine with a source and a sink in a folder.
pub(super) fn started(store: &Arc<MemoryStore>, folder: &Path) -> Engine {
    let engine = engine(store);
    engine.execute(SETUP).unwrap();
    engine.execute(&sink(folder)).unwrap();
    engine
}

pub(super) fn sink(folder: &Path) -> String {
    let path = folder.join("out.ndjson");
    format!("CREATE SINK out WITH (path = '{}', publish = 'checkpoint')", path.display())
}

pub(super) const COUNTS: &str = "INSERT INTO out SELECT k, window_end, count(*) AS n
  FROM TUMBLE(s, ts, INTERVAL '10 seconds') GROUP BY k, window_start, window_end";

/// Pushes a row for each second.
pub(super) fn push(engine: &Engine, seconds: std::ops::Range<u32>) {
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
pub(super) fn published(folder: &Path) -> Vec<String> {
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
pub(super) fn expected(query: &str, seconds: u32) -> Vec<String> {
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
pub(super) fn refused(result: Result<impl Sized>, kind: ErrorKind, word: &str) -> Error {
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
    // What has never begun has lost nothing.
    engine.execute("CREATE SOURCE ended (n BIGINT)").unwrap();
    engine.source("ended").unwrap().close().unwrap();
    refused(engine.execute("INSERT INTO out SELECT n FROM ended"), ErrorKind::Closed, "source");
    engine.checkpoint().unwrap();
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

/// What is in the way of a file when its checkpoint is durable already.
#[test]
fn a_file_that_cannot_be_published_is_published_by_the_next_engine() {
    within_minutes(|| {
        let (store, folder) = (Arc::default(), tempfile::tempdir().unwrap());
        let engine = started(&store, folder.path());
        engine.execute(COUNTS).unwrap();
        push(&engine, 0..30);
        engine.checkpoint().unwrap();
        let first = published(folder.path());
        let taken = folder.path().join("out-00000000000000000002.ndjson");
        fs::create_dir(&taken).unwrap();
        push(&engine, 30..60);
        refused(engine.checkpoint(), ErrorKind::Unavailable, "00000000000000000002");
        refused(engine.checkpoint(), ErrorKind::Unavailable, "sink \"out\" has failed");
        drop(engine);
        fs::remove_dir(&taken).unwrap();
        assert_eq!(published(folder.path()), first);
        let engine = started(&store, folder.path());
        assert!(published(folder.path()).len() > first.len());
        engine.execute(COUNTS).unwrap();
        assert_eq!(engine.source("s").unwrap().resume_at(), 60);
        push(&engine, 60..90);
        engine.shutdown().unwrap();
        assert_eq!(published(folder.path()), expected(COUNTS, 90));
    });
}

#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_written_is_told_when_the_query_starts() {
    use std::os::unix::fs::PermissionsExt;
    let (store, folder) = (Arc::default(), tempfile::tempdir().unwrap());
    let engine = started(&store, folder.path());
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(folder.path().join("probe"), "").is_ok() {
        eprintln!("SKIPPED: this user may write everywhere");
        return;
    }
    refused(engine.execute(COUNTS), ErrorKind::Unavailable, "permission");
    // Nothing was written, so that nothing is lost.
    engine.checkpoint().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    engine.execute(COUNTS).unwrap();
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
