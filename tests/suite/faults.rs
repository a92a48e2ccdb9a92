//! Checkpoint stores that fail, tear, wait or die, and checkpoints that are damaged or of something else.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driftline::{
    CheckpointStore, Checkpoints, Engine, Error, ErrorKind, MemoryStore, Result, Subscription,
};

/// What becomes of the write at which the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Nothing is written.
    Before,
    /// Half of it is. Stores promise that this does not happen to what is there already.
    Torn,
    /// It was said to be written, and never was.
    Forgotten,
    /// The same, and what follows is written, up to the next manifest.
    Overtaken,
    /// All of it is written, and nobody hears of it.
    After,
}

const MANNERS: [Manner; 5] =
    [Manner::Before, Manner::Torn, Manner::Forgotten, Manner::Overtaken, Manner::After];

/// A store that misbehaves as it is told.
#[derive(Debug)]
pub(super) struct Faulty {
    inner: Box<dyn CheckpointStore>,
    /// Writes and removals so far.
    writes: AtomicU64,
    /// The write at which the process dies; from then on nothing is done.
    death: Mutex<Option<(u64, Manner)>>,
    /// The name that it died over.
    died_over: Mutex<Option<String>>,
    /// The name of what was overtaken.
    lost: Mutex<Option<String>>,
    /// Of so many calls, one fails in a way that may pass; 0 for none.
    one_fails_of: AtomicU64,
    calls: AtomicU64,
    is_full: AtomicBool,
    waits: Mutex<Duration>,
}

impl Default for Faulty {
    fn default() -> Self {
        Self::over(Box::new(MemoryStore::default()))
    }
}

impl Faulty {
    /// With its blobs in another store.
    pub(super) fn over(inner: Box<dyn CheckpointStore>) -> Self {
        Self {
            inner,
            writes: AtomicU64::new(0),
            death: Mutex::new(None),
            died_over: Mutex::new(None),
            lost: Mutex::new(None),
            one_fails_of: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            is_full: AtomicBool::new(false),
            waits: Mutex::new(Duration::ZERO),
        }
    }

    fn call(&self) -> io::Result<()> {
        std::thread::sleep(*self.waits.lock().unwrap());
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        match self.one_fails_of.load(Ordering::Relaxed) {
            0 => Ok(()),
            of if calls.is_multiple_of(of) => Err(io::Error::other("the store is busy")),
            _ => Ok(()),
        }
    }

    /// Writes, unless the process is dead or dies.
    fn write(
        &self,
        name: &str,
        half: impl Fn() -> io::Result<()>,
        whole: impl Fn() -> io::Result<()>,
    ) -> io::Result<()> {
        let dead = || io::Error::new(io::ErrorKind::PermissionDenied, "the process is dead");
        self.call()?;
        if self.is_full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if self.died_over.lock().unwrap().is_some() {
            return Err(dead());
        }
        let write = self.writes.fetch_add(1, Ordering::Relaxed);
        let due = |(at, manner): &(u64, Manner)| match manner {
            // It dies behind the manifest that overtakes.
            Manner::Overtaken => *at < write && name.starts_with("manifest-"),
            _ => *at == write,
        };
        let overtaken = Some((write, Manner::Overtaken));
        if *self.death.lock().unwrap() == overtaken {
            *self.lost.lock().unwrap() = Some(name.to_owned());
            return Ok(());
        }
        let Some((_, manner)) = self.death.lock().unwrap().filter(due) else {
            return whole();
        };
        *self.died_over.lock().unwrap() = Some(name.to_owned());
        match manner {
            Manner::Before => Err(dead()),
            Manner::Torn => half().and(Err(dead())),
            Manner::Forgotten => Ok(()),
            Manner::After | Manner::Overtaken => whole().and(Err(dead())),
        }
    }
}

impl CheckpointStore for Faulty {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let half = || self.inner.put(name, &bytes[..bytes.len() / 2]);
        self.write(name, half, || self.inner.put(name, bytes))
    }

    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.call()?;
        self.inner.get(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.call()?;
        self.inner.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.write(name, || Ok(()), || self.inner.remove(name))
    }
}

fn engine(store: &Arc<Faulty>) -> Result<Engine> {
    let checkpoints = Checkpoints::new(Arc::clone(store) as Arc<dyn CheckpointStore>);
    Engine::builder().workers(2).checkpoints(checkpoints).build()
}

const SOURCE: &str = "CREATE SOURCE s (k TEXT, ts TIMESTAMP, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1 second')";
const COUNTS: &str = "SELECT k, window_end, count(*) AS n, sum(n) AS s
  FROM TUMBLE(s, ts, INTERVAL '10 seconds') GROUP BY k, window_start, window_end";

fn started(store: &Arc<Faulty>, folder: &Path) -> Result<Engine> {
    let engine = engine(store)?;
    let path = folder.join("out.ndjson");
    engine.execute(&format!(
        "{SOURCE}; CREATE SINK out WITH (path = '{}', publish = 'checkpoint');
         INSERT INTO out {COUNTS}; INSERT INTO out {}",
        path.display(),
        COUNTS.replace("10 seconds", "4 seconds")
    ))?;
    Ok(engine)
}

fn push(engine: &Engine, seconds: std::ops::Range<u64>) -> Result<()> {
    let row = |s: u64| format!("('k{}', '2024-01-01 00:{:02}:{:02}', {s})", s % 3, s / 60, s % 60);
    let rows: Vec<String> = seconds.map(row).collect();
    engine.execute(&format!("INSERT INTO s VALUES {}", rows.join(", "))).map(|_| ())
}

/// Lines of all published files.
fn published(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "ndjson") {
            lines.extend(std::fs::read_to_string(path).unwrap().lines().map(str::to_owned));
        }
    }
    lines.sort();
    lines
}

const SECONDS: u64 = 120;
const STEP: u64 = 30;

/// Pushes what is left, a checkpoint after each step.
fn go_on(engine: Engine) -> Result<()> {
    let from = engine.source("s")?.resume_at();
    for from in (from..SECONDS).step_by(STEP as usize) {
        push(&engine, from..from + STEP)?;
        engine.checkpoint()?;
    }
    engine.shutdown()
}

#[test]
fn a_process_that_dies_at_any_write_goes_on_as_if_it_had_not() {
    goes_on_whenever_it_dies(&Faulty::default);
}

/// Lives of a pipeline with a store of the caller's, each of which ends at another write in another manner.
pub(super) fn goes_on_whenever_it_dies(make: &dyn Fn() -> Faulty) {
    let whole = tempfile::tempdir().unwrap();
    let store = Arc::new(make());
    go_on(started(&store, whole.path()).unwrap()).unwrap();
    let expected = published(whole.path());
    let writes = store.writes.load(Ordering::Relaxed);
    assert!(expected.len() > 20 && writes > 10, "{} rows, {writes} writes", expected.len());
    let (mut refused, mut missing) = (0, 0);
    for death in 0..writes {
        for manner in MANNERS {
            let folder = tempfile::tempdir().unwrap();
            let store = Arc::new(make());
            *store.death.lock().unwrap() = Some((death, manner));
            let first = started(&store, folder.path()).and_then(go_on);
            let Some(name) = store.died_over.lock().unwrap().take() else {
                assert_eq!(manner, Manner::Overtaken, "nothing overtook the last write {death}");
                continue;
            };
            *store.death.lock().unwrap() = None;
            let case = format!("write {death} of {writes}, {name}, {manner:?}");
            // What was never written is not missed if nothing is written after it.
            assert!(first.is_err() || manner == Manner::Forgotten || death + 1 == writes, "{case}");
            let mut second = started(&store, folder.path());
            if let (Err(error), Some(lost)) = (&second, store.lost.lock().unwrap().take()) {
                // A part that was said to be durable is missing: who removes the manifest goes back.
                assert_refused(error, &[&lost, "missing"], "remove the newest manifest");
                store.inner.remove(&name).unwrap();
                missing += 1;
                second = started(&store, folder.path());
            }
            if let (Err(error), Manner::Torn) = (&second, manner)
                && name.starts_with("manifest-")
            {
                // A store tears no blob; one that did is damaged, and is not taken for an older one.
                assert_refused(error, &[&name, "damaged"], "remove it");
                store.inner.remove(&name).unwrap();
                refused += 1;
                second = started(&store, folder.path());
            }
            let second = second.and_then(go_on);
            second.unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(published(folder.path()), expected, "{case}");
        }
    }
    assert!(refused > 2 && missing > 2, "torn {refused} times, missing {missing} times");
}

#[track_caller]
fn assert_refused(error: &Error, words: &[&str], hint: &str) {
    assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    for word in words {
        assert!(error.message().contains(word), "{error} does not say {word}");
    }
    assert!(error.hint().is_some_and(|found| found.contains(hint)), "{error} gives no hint {hint}");
}

#[test]
fn a_store_that_fails_now_and_then_is_asked_again() {
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    go_on(started(&Arc::default(), whole.path()).unwrap()).unwrap();
    let store = Arc::new(Faulty::default());
    store.one_fails_of.store(5, Ordering::Relaxed);
    go_on(started(&store, folder.path()).unwrap()).unwrap();
    assert_eq!(published(folder.path()), published(whole.path()));
}

#[test]
fn a_store_that_fails_for_good_is_told_and_the_engine_works_on() {
    let store = Arc::new(Faulty::default());
    let engine = engine(&store).unwrap();
    engine.execute(SOURCE).unwrap();
    let mut rows = engine.subscribe("SELECT n FROM s").unwrap();
    push(&engine, 0..10).unwrap();
    engine.checkpoint().unwrap();
    store.is_full.store(true, Ordering::Relaxed);
    push(&engine, 10..20).unwrap();
    let error = engine.checkpoint().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let metrics = engine.metrics().checkpoints.unwrap();
    assert_eq!((metrics.taken, metrics.failed), (1, 1));
    assert!(metrics.last_error.unwrap().contains("could not be written"));
    push(&engine, 20..30).unwrap();
    engine.drain().unwrap();
    let mut count = 0;
    while let Some(rows) = rows.try_next().unwrap() {
        count += rows.num_rows();
    }
    assert_eq!(count, 30);
    store.is_full.store(false, Ordering::Relaxed);
    let id = engine.checkpoint().unwrap().id;
    drop((rows, engine));
    let engine = self::engine(&store).unwrap();
    assert_eq!(engine.restored().unwrap().id, id);
    engine.execute(SOURCE).unwrap();
    assert_eq!(engine.source("s").unwrap().resume_at(), 30);
}

#[test]
fn a_store_that_is_slow_holds_no_rows_up() {
    let store = Arc::new(Faulty::default());
    let engine = engine(&store).unwrap();
    engine.execute(SOURCE).unwrap();
    let mut rows = engine.subscribe("SELECT n FROM s").unwrap();
    push(&engine, 0..10).unwrap();
    *store.waits.lock().unwrap() = Duration::from_millis(300);
    std::thread::scope(|scope| {
        let checkpoint = scope.spawn(|| engine.checkpoint().unwrap());
        let mut passed_meanwhile = 0;
        while !checkpoint.is_finished() {
            push(&engine, 10..11).unwrap();
            engine.drain().unwrap();
            passed_meanwhile += usize::from(!checkpoint.is_finished());
        }
        let checkpoint = checkpoint.join().unwrap();
        assert!(passed_meanwhile > 0, "rows waited for the store");
        assert!(checkpoint.stall < checkpoint.took);
    });
    assert!(rows.next().unwrap().unwrap().num_rows() > 0);
}

/// A store with one checkpoint of a window in it, and its names.
fn with_checkpoint() -> (Arc<Faulty>, String, Vec<String>) {
    let store = Arc::new(Faulty::default());
    let engine = engine(&store).unwrap();
    engine.execute(SOURCE).unwrap();
    let _windows = engine.subscribe(COUNTS).unwrap();
    push(&engine, 0..15).unwrap();
    engine.checkpoint().unwrap();
    let names = store.list().unwrap();
    let (parts, manifests): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| name.starts_with("parts/"));
    assert_eq!(manifests.len(), 1);
    assert!(!parts.is_empty());
    (store, manifests[0].clone(), parts)
}

#[test]
fn what_is_damaged_or_missing_is_refused_by_its_name() {
    let (store, manifest, parts) = with_checkpoint();
    let whole = store.inner.get(&manifest).unwrap().unwrap();
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        store.inner.put(&manifest, &bytes).unwrap();
        engine(&store).unwrap_err()
    };
    let last = whole.len() - 1;
    assert_refused(&damaged(&|bytes| bytes[last] ^= 1), &[&manifest, "damaged"], "remove it");
    assert_refused(&damaged(&|bytes| bytes.truncate(9)), &[&manifest, "cut short"], "remove it");
    assert_refused(&damaged(&|bytes| bytes[0] = 0), &[&manifest, "no manifest"], "remove it");
    assert_refused(&damaged(&|bytes| bytes[6] = 9), &[&manifest, "version 9"], "Driftline");
    store.inner.put(&manifest, &whole).unwrap();
    for part in &parts {
        let bytes = store.inner.get(part).unwrap().unwrap();
        let start = || -> Result<Subscription> {
            let engine = engine(&store)?;
            engine.execute(SOURCE)?;
            engine.subscribe(COUNTS)
        };
        store.inner.put(part, &bytes[1..]).unwrap();
        assert_refused(&start().unwrap_err(), &[part, "damaged"], "from a copy");
        store.inner.remove(part).unwrap();
        assert_refused(&start().unwrap_err(), &[part, "missing"], "from a copy");
        store.inner.put(part, &bytes).unwrap();
        start().unwrap();
    }
}

#[test]
fn a_checkpoint_of_something_else_is_refused_with_the_difference() {
    const DETECTOR: &str = "CREATE DETECTOR odd USING ewma PARTITION BY k WITH (threshold = 3) AS SELECT k, ts, n + 1 AS n FROM s";
    let store = Arc::new(Faulty::default());
    let engine = self::engine(&store).unwrap();
    engine.execute(SOURCE).unwrap();
    engine.execute(DETECTOR).unwrap();
    let windows = engine.subscribe(COUNTS).unwrap();
    push(&engine, 0..15).unwrap();
    engine.checkpoint().unwrap();
    drop((windows, engine));

    let start = || self::engine(&store).unwrap();
    for (declared, word) in [
        (SOURCE.replace("n BIGINT", "n DOUBLE"), "Float64"),
        (SOURCE.replace("n BIGINT,", ""), "nothing there"),
        (SOURCE.replace("n BIGINT", "n BIGINT, m BIGINT NOT NULL"), "m Int64 NOT NULL"),
        (SOURCE.replace("'1 second'", "'2 seconds'"), "WATERMARK"),
    ] {
        let error = start().execute(&declared).unwrap_err();
        assert_refused(&error, &["source \"s\"", word], "declare it as it was");
    }
    for (changed, word) in [
        (DETECTOR.replace("threshold = 3", "threshold = 4"), "threshold"),
        (DETECTOR.replace("FROM s", "FROM s WHERE n > 1"), "n >"),
    ] {
        let engine = start();
        engine.execute(SOURCE).unwrap();
        let error = engine.execute(&changed).unwrap_err();
        assert_refused(&error, &["detector \"odd\"", word], "another name");
    }
    // Queries come and go; those that stay go on.
    let engine = start();
    engine.execute(&SOURCE.replace("n BIGINT", "n BIGINT, more TEXT")).unwrap();
    engine.execute(DETECTOR).unwrap_or_else(|error| panic!("{error}"));
    let left = engine.not_restored();
    assert_eq!(left.len(), 1);
    assert!(left[0].contains("TUMBLE(s, ts"), "{left:?}");
    let windows = engine.subscribe(COUNTS).unwrap();
    let added = engine.subscribe("SELECT n, more FROM s").unwrap();
    assert_eq!(engine.not_restored(), [""; 0]);
    engine.execute("INSERT INTO s VALUES ('k0', '2024-01-01 00:00:15', 15, 'x')").unwrap();
    engine.shutdown().unwrap();
    let rows = |results: Subscription| -> Vec<_> { results.map(|rows| rows.unwrap()).collect() };
    // Rows from before the restart and the one after it, each counted once.
    let counted: i64 = rows(windows)
        .iter()
        .map(|rows| {
            use driftline::arrow::array::AsArray;
            use driftline::arrow::datatypes::Int64Type;
            let counts = rows.column_by_name("n").unwrap().as_primitive::<Int64Type>();
            counts.values().iter().sum::<i64>()
        })
        .sum();
    assert_eq!(counted, 16);
    assert_eq!(rows(added).iter().map(|rows| rows.num_rows()).sum::<usize>(), 1);
}
