//! Disks that fill and folders that go away while the engine runs: the host hears of it, and nothing else is touched.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use driftline::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use driftline::{Engine, Error, ErrorKind, ManualClock, Result};

use super::support::{collect, within_a_minute};

fn engine() -> Engine {
    let engine = Engine::builder().workers(2).build().unwrap();
    engine.execute("CREATE SOURCE s (n BIGINT)").unwrap();
    engine
}

fn rows(count: i64) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    RecordBatch::try_from_iter_with_nullable([("n", numbers, true)]).unwrap()
}

/// The error is one that may pass, and it names the file.
#[track_caller]
fn assert_unavailable(error: &Error, path: &Path) {
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let name = path.file_name().unwrap().to_string_lossy();
    assert!(error.to_string().contains(&*name), "{error} does not name {name}");
}

/// Lets rows flow into a sink at `path` beside a subscription, runs `trouble` in the middle, and returns the first
/// error that the host hears. Everybody else must have got all rows.
fn run_into_trouble(path: &Path, options: &str, trouble: impl FnOnce()) -> Result<()> {
    let engine = engine();
    let bystander = engine.subscribe("s").unwrap();
    let kept = tempfile::tempdir().unwrap();
    let other = kept.path().join("other.ndjson");
    engine
        .execute(&format!(
            "CREATE SINK other WITH (path = '{}') AS SELECT n FROM s",
            other.display()
        ))
        .unwrap();
    let source = engine.source("s").unwrap();
    let sink = format!("CREATE SINK out WITH (path = '{}'{options})", path.display());
    let started = engine.execute(&format!("{sink} AS SELECT n, n * 2 AS m FROM s"));
    for _ in 0..20 {
        source.push(rows(1_000)).unwrap();
    }
    engine.drain().unwrap();
    trouble();
    for _ in 0..20 {
        source.push(rows(1_000)).unwrap();
    }
    let ended = engine.shutdown();
    assert_eq!(collect(bystander).num_rows(), 40_000);
    assert_eq!(fs::read_to_string(other).unwrap().lines().count(), 40_000);
    started?;
    ended
}

/// Linux keeps a device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_is_told_by_every_format() {
    let full = Path::new("/dev/full");
    for name in [
        "out.csv",
        "out.csv.gz",
        "out.ndjson",
        "out.ndjson.gz",
        "out.arrow",
        "out.arrows",
        "out.parquet",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        // What is written until the file is whole leads to the full device.
        let partial = folder.path().join(format!("{name}.partial"));
        std::os::unix::fs::symlink(full, &partial).unwrap();
        let shown = path.clone();
        let error = within_a_minute(move || run_into_trouble(&shown, "", || {})).unwrap_err();
        assert_unavailable(&error, &path);
        assert!(error.hint().unwrap().contains("space"), "{name}: {error}");
        assert!(!path.exists(), "{name}: half a file takes no one's place");
    }
    let error = within_a_minute(|| {
        run_into_trouble(Path::new("/dev/full"), ", format = 'ndjson', mode = 'append'", || {})
    });
    assert_unavailable(&error.unwrap_err(), full);
}

/// A failed sink takes no more, says why, and can be dropped.
#[cfg(target_os = "linux")]
#[test]
fn a_sink_that_has_failed_refuses_the_next_insert_with_the_reason() {
    within_a_minute(|| {
        let engine = engine();
        engine
            .execute(
                "CREATE SINK out WITH (path = '/dev/full', format = 'ndjson', mode = 'append');
                 INSERT INTO out SELECT n FROM s; INSERT INTO out SELECT n + 1 AS n FROM s",
            )
            .unwrap();
        engine.source("s").unwrap().push(rows(10)).unwrap();
        // Both inserts end, each on its own thread.
        while !engine.metrics().queries.is_empty() {
            std::thread::yield_now();
        }
        let error = engine.execute("INSERT INTO out SELECT n FROM s").unwrap_err();
        assert_unavailable(&error, Path::new("/dev/full"));
        engine.execute("DROP SINK out").unwrap();
        engine.source("s").unwrap().push(rows(10)).unwrap();
        assert_unavailable(&engine.shutdown().unwrap_err(), Path::new("/dev/full"));
    });
}

#[test]
fn a_folder_that_goes_away_or_a_path_that_is_taken_is_told_at_the_end() {
    for name in ["out.csv", "out.ndjson.gz", "out.arrow", "out.parquet"] {
        for is_taken in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("sub").join(name);
            fs::create_dir(path.parent().unwrap()).unwrap();
            let shown = path.clone();
            let trouble = move |path: &Path| match is_taken {
                // A folder in the file's place, with something in it.
                true => fs::create_dir_all(path.join("mine")).unwrap(),
                false => fs::remove_dir_all(path.parent().unwrap()).unwrap(),
            };
            let ended = within_a_minute(move || {
                let at = shown.clone();
                run_into_trouble(&shown, "", move || trouble(&at))
            });
            assert_unavailable(&ended.unwrap_err(), &path);
            assert_eq!(path.join("mine").exists(), is_taken, "{name}: what was there stays");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_written_is_told_at_once() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(closed.join("probe"), "").is_ok() {
        eprintln!("SKIPPED: this user may write everywhere");
        return;
    }
    let engine = engine();
    let path = closed.join("out.csv");
    let error = engine
        .execute(&format!("CREATE SINK out WITH (path = '{}') AS SELECT n FROM s", path.display()))
        .unwrap_err();
    assert_unavailable(&error, &path);
    assert!(error.to_string().contains("permission"), "{error}");
}

#[test]
fn a_file_that_goes_away_before_its_turn_ends_its_source_and_nothing_else() {
    within_a_minute(|| {
        let folder = tempfile::tempdir().unwrap();
        let first = "ts,n\n2024-01-01 00:00:00,1\n2024-01-01 00:10:00,2\n";
        fs::write(folder.path().join("a.csv"), first).unwrap();
        fs::write(folder.path().join("b.csv"), "ts,n\n2024-01-01 00:20:00,3\n").unwrap();
        let clock = Arc::new(ManualClock::default());
        let engine = Engine::builder().workers(2).clock(clock.clone()).build().unwrap();
        engine
            .execute(&format!(
                "CREATE SOURCE s (n BIGINT);
                 CREATE SOURCE files (ts TIMESTAMP, n BIGINT, WATERMARK FOR ts AS ts)
                   WITH (path = '{}/*.csv', pace = 60)",
                folder.path().display()
            ))
            .unwrap();
        let mut read = engine.subscribe("SELECT n FROM files").unwrap();
        let bystander = engine.subscribe("s").unwrap();
        engine.start().unwrap();
        assert_eq!(read.next().unwrap().unwrap().num_rows(), 1);
        fs::remove_file(folder.path().join("b.csv")).unwrap();
        clock.advance(Duration::from_secs(60));
        // What was read counts, and the source ends.
        assert_eq!(read.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 1);
        engine.source("s").unwrap().push(rows(10)).unwrap();
        let error = engine.shutdown().unwrap_err();
        assert_unavailable(&error, Path::new("b.csv"));
        assert_eq!(collect(bystander).num_rows(), 10);
    });
}
