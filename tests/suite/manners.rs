//! How the engine fails: code of the host's that panics, stores and disks that refuse. What was in a
//! checkpoint before is in force, and an engine built on it gives what one without trouble gives.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use driftline::arrow::array::{ArrayRef, AsArray};
use driftline::arrow::datatypes::{DataType, Int64Type};
use driftline::detector::{
    DetectorKind, DetectorPlan, DetectorRequest, Judgement, KeyedPlan, Model, ModelFactory,
    OperatorError, OptionReader, OptionSpec, Phase, Row,
};
use driftline::{
    ArgumentTypes, BoxError, CheckpointStore, Checkpoints, Engine, Error, ErrorKind, FolderStore,
    MemoryStore, Result, ScalarFunction,
};

use super::staged::{COUNTS, SETUP, expected, published, push, sink};
use super::support::within_minutes;

/// The row that host code panics over, while it is told to.
const ODD: i64 = 45;

/// `picky(n)`: n, or a panic.
fn picky(is_broken: &Arc<AtomicBool>) -> ScalarFunction {
    let is_broken = Arc::clone(is_broken);
    ScalarFunction::new(
        "picky",
        ArgumentTypes::Exact(vec![DataType::Int64]),
        DataType::Int64,
        move |columns: &[ArrayRef]| -> Result<ArrayRef, BoxError> {
            let values = columns[0].as_primitive::<Int64Type>();
            let is_odd = values.iter().any(|value| value == Some(ODD));
            assert!(!is_odd || !is_broken.load(Ordering::SeqCst), "picky does not like it");
            Ok(Arc::clone(&columns[0]))
        },
    )
}

/// `USING sums`: the score is the sum of all values so far; a value may make it panic.
#[derive(Debug, Clone)]
struct Sums(Arc<AtomicBool>);

#[derive(Debug)]
struct Sum {
    is_broken: Arc<AtomicBool>,
    sum: f64,
    rows: u64,
}

impl DetectorKind for Sums {
    fn name(&self) -> &'static str {
        "sums"
    }

    fn summary(&self) -> &'static str {
        "sums of all values"
    }

    fn options(&self) -> Vec<OptionSpec> {
        KeyedPlan::options(1e9)
    }

    fn plan(&self, request: &DetectorRequest<'_>) -> Result<Arc<dyn DetectorPlan>, OperatorError> {
        let options =
            OptionReader::new("detector kind \"sums\"", request.options, &self.options())?;
        let sums = self.clone();
        let plan = KeyedPlan::new("sums", request, &options, move |_| Arc::new(sums.clone()))?;
        Ok(Arc::new(plan))
    }
}

impl ModelFactory for Sums {
    fn model(&self) -> Box<dyn Model> {
        Box::new(Sum { is_broken: Arc::clone(&self.0), sum: 0.0, rows: 0 })
    }

    fn restore(&self, bytes: &[u8]) -> Result<Box<dyn Model>, OperatorError> {
        let (sum, rows) = bytes.split_first_chunk().expect("it was written below");
        let rows = u64::from_le_bytes(rows.try_into().expect("it was written below"));
        Ok(Box::new(Sum { is_broken: Arc::clone(&self.0), sum: f64::from_le_bytes(*sum), rows }))
    }
}

impl Model for Sum {
    fn score(&self, row: &Row<'_>, judgement: &mut Judgement) {
        let is_odd = row.features[0] == ODD as f64;
        assert!(!is_odd || !self.is_broken.load(Ordering::SeqCst), "sums do not like it");
        judgement.score = self.sum;
    }

    fn learn(&mut self, row: &Row<'_>) {
        (self.sum, self.rows) = (self.sum + row.features[0], self.rows + 1);
    }

    fn phase(&self) -> Phase {
        Phase::Detecting
    }

    fn samples(&self) -> u64 {
        self.rows
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
    }

    fn snapshot(&self, out: &mut Vec<u8>) -> Result<(), OperatorError> {
        out.extend(self.sum.to_le_bytes());
        out.extend(self.rows.to_le_bytes());
        Ok(())
    }
}

/// Two queries that run code of the host's.
const CASES: [(&str, &str); 2] = [
    ("", "INSERT INTO out SELECT k, ts AS window_end, picky(n) AS n FROM s"),
    (
        "CREATE DETECTOR d USING sums PARTITION BY k AS SELECT k, ts, n FROM s",
        "INSERT INTO out SELECT k, ts AS window_end, CAST(score AS BIGINT) AS n FROM d",
    ),
];

fn engine_of(
    store: &Arc<MemoryStore>,
    is_broken: &Arc<AtomicBool>,
    folder: &Path,
    (detector, insert): (&str, &str),
) -> Engine {
    let checkpoints = Checkpoints::new(Arc::clone(store) as Arc<dyn CheckpointStore>);
    let builder = Engine::builder().workers(2).checkpoints(checkpoints);
    let builder = builder.with_function(picky(is_broken));
    let engine = builder.with_detector_kind(Arc::new(Sums(Arc::clone(is_broken)))).build().unwrap();
    for statement in [SETUP, &sink(folder), detector, insert] {
        if !statement.is_empty() {
            engine.execute(statement).unwrap();
        }
    }
    engine
}

/// A panic of a function or detector ends the engine with an error on every handle; the checkpoint before is in force.
#[test]
fn a_panic_in_a_function_or_a_detector_loses_nothing() {
    for case in CASES {
        within_minutes(move || {
            let is_broken = Arc::new(AtomicBool::new(false));
            let whole = tempfile::tempdir().unwrap();
            let engine = engine_of(&Arc::default(), &is_broken, whole.path(), case);
            push(&engine, 0..90);
            engine.shutdown().unwrap();
            let expected = published(whole.path());
            assert_eq!(expected.len(), 90);

            let (store, folder) = (Arc::default(), tempfile::tempdir().unwrap());
            let engine = engine_of(&store, &is_broken, folder.path(), case);
            push(&engine, 0..30);
            engine.checkpoint().unwrap();
            let first = published(folder.path());
            is_broken.store(true, Ordering::SeqCst);
            push(&engine, 30..60);
            // The watermark lets detectors judge it.
            let refused = [engine.drain(), engine.checkpoint().map(|_| ()), engine.shutdown()];
            for error in refused.map(Result::unwrap_err) {
                // The sink says that it has lost its query.
                let kinds = [ErrorKind::Internal, ErrorKind::Unavailable];
                assert!(kinds.contains(&error.kind()), "{error}");
                assert!(error.to_string().contains("not like it"), "{error}");
            }
            assert_eq!(published(folder.path()), first);

            is_broken.store(false, Ordering::SeqCst);
            let engine = engine_of(&store, &is_broken, folder.path(), case);
            assert_eq!(engine.source("s").unwrap().resume_at(), 30);
            push(&engine, 30..90);
            engine.shutdown().unwrap();
            assert_eq!(published(folder.path()), expected, "{case:?}");
        });
    }
}

/// A store of the host's that does as it is told.
#[derive(Debug, Default)]
struct Moody {
    inner: MemoryStore,
    mood: Mutex<Mood>,
    calls: AtomicUsize,
}

#[derive(Clone, Copy, Debug, Default)]
enum Mood {
    #[default]
    Fine,
    Panics,
    Fails(io::ErrorKind),
}

impl Moody {
    fn be(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        self.calls.store(0, Ordering::SeqCst);
    }

    fn call(&self) -> io::Result<&MemoryStore> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Fine => Ok(&self.inner),
            Mood::Panics => panic!("the store has lost its mind"),
            Mood::Fails(kind) => Err(kind.into()),
        }
    }
}

impl CheckpointStore for Moody {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.call()?.put(name, bytes)
    }

    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.call()?.get(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.call()?.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call()?.remove(name)
    }
}

#[track_caller]
fn assert_unavailable<T: std::fmt::Debug>(result: Result<T>, word: &str) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains(word), "{error} does not say {word}");
    error
}

#[test]
fn a_store_that_panics_or_refuses_fails_the_checkpoint_and_nothing_else() {
    within_minutes(|| {
        let store = Arc::new(Moody::default());
        let start = || {
            let checkpoints = Checkpoints::new(Arc::clone(&store) as Arc<dyn CheckpointStore>);
            Engine::builder().workers(2).checkpoints(checkpoints).build()
        };
        let engine = start().unwrap();
        engine.execute(SETUP).unwrap();
        push(&engine, 0..10);
        engine.checkpoint().unwrap();
        let denied = Mood::Fails(io::ErrorKind::PermissionDenied);
        let full = Mood::Fails(io::ErrorKind::StorageFull);
        let away = Mood::Fails(io::ErrorKind::ConnectionReset);
        // What may pass is tried again four times, with pauses that grow; what will not is told at once.
        for (mood, word, calls) in [
            (Mood::Panics, "lost its mind", 5),
            (away, "reset", 5),
            (denied, "denied", 1),
            (full, "storage", 1),
        ] {
            store.be(mood);
            push(&engine, 10..20);
            let begun = Instant::now();
            assert_unavailable(engine.checkpoint(), word);
            assert_eq!(store.calls.load(Ordering::SeqCst), calls, "{mood:?}");
            let took = begun.elapsed();
            assert_eq!(took >= Duration::from_millis(1_310), calls > 1, "{mood:?} took {took:?}");
            // The engine works on.
            engine.drain().unwrap();
        }
        assert_eq!(engine.metrics().checkpoints.unwrap().failed, 4);
        assert_unavailable(start(), "storage");
        store.be(Mood::Panics);
        assert_unavailable(start(), "lost its mind");
        store.be(Mood::Fine);
        let id = engine.checkpoint().unwrap().id;
        drop(engine);
        let engine = start().unwrap();
        assert_eq!(engine.restored().unwrap().id, id);
        engine.execute(SETUP).unwrap();
        assert_eq!(engine.source("s").unwrap().resume_at(), 50);
    });
}

/// By the clock likewise: the thread that takes checkpoints outlives the store's panic.
#[test]
fn checkpoints_by_the_clock_are_taken_again_when_the_store_has_come_to() {
    within_minutes(|| {
        let store = Arc::new(Moody::default());
        let checkpoints = Checkpoints::new(Arc::clone(&store) as Arc<dyn CheckpointStore>);
        let checkpoints = checkpoints.every(Duration::from_millis(5));
        let engine = Engine::builder().workers(1).checkpoints(checkpoints).build().unwrap();
        let figures = || engine.metrics().checkpoints.unwrap();
        let until = |is_so: &dyn Fn() -> bool| {
            while !is_so() {
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        until(&|| figures().taken > 0);
        store.be(Mood::Panics);
        until(&|| figures().failed > 0);
        assert!(figures().last_error.unwrap().contains("lost its mind"));
        store.be(Mood::Fine);
        let taken = figures().taken;
        until(&|| figures().taken > taken);
        engine.shutdown().unwrap();
    });
}

/// A disk that is full when a checkpoint is written into a folder: the one before is in force, nothing is left behind.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_on_a_full_disk_keeps_the_checkpoint_before() {
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = || {
        let checkpoints = Checkpoints::in_folder(state.path()).unwrap();
        let engine = Engine::builder().workers(2).checkpoints(checkpoints).build().unwrap();
        engine.execute(SETUP).unwrap();
        engine.execute(&sink(folder.path())).unwrap();
        engine.execute(COUNTS).unwrap();
        engine
    };
    let engine = start();
    push(&engine, 0..30);
    engine.checkpoint().unwrap();
    let first = published(folder.path());
    push(&engine, 30..60);
    // What is written until the manifest is whole leads to a device that is full.
    let unfinished = state.path().join("manifest-00000000000000000002.unfinished");
    std::os::unix::fs::symlink("/dev/full", unfinished).unwrap();
    let error = assert_unavailable(engine.checkpoint(), "manifest-00000000000000000002");
    assert!(error.to_string().contains("space"), "{error}");
    drop(engine);
    assert_eq!(published(folder.path()), first);
    let engine = start();
    assert_eq!(engine.restored().unwrap().id, 1);
    assert_eq!(engine.source("s").unwrap().resume_at(), 30);
    push(&engine, 30..90);
    engine.shutdown().unwrap();
    assert_eq!(published(folder.path()), expected(COUNTS, 90));
    let store = FolderStore::open(state.path()).unwrap();
    assert!(store.list().unwrap().iter().all(|name| !name.contains("unfinished")));
}

#[test]
fn a_folder_that_cannot_be_had_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("taken");
    std::fs::write(&taken, "a file").unwrap();
    assert_unavailable(Checkpoints::in_folder(&taken), "taken");
}

/// What is created when a later checkpoint has been taken already begins anew: rows have gone by, and parts may be gone.
#[test]
fn a_query_that_comes_after_the_next_checkpoint_begins_anew() {
    let store = Arc::new(MemoryStore::default());
    let counts = "SELECT k, count(*) AS n FROM s GROUP BY k, tumble(interval '1 hour')";
    let start = || {
        let checkpoints = Checkpoints::new(Arc::clone(&store) as Arc<dyn CheckpointStore>);
        let engine = Engine::builder().workers(2).checkpoints(checkpoints.keep(1)).build().unwrap();
        engine.execute(SETUP).unwrap();
        engine
    };
    let engine = start();
    let before = engine.subscribe(counts).unwrap();
    push(&engine, 0..30);
    engine.checkpoint().unwrap();
    drop((before, engine));
    let engine = start();
    assert_eq!(engine.not_restored().len(), 1, "{:?}", engine.not_restored());
    push(&engine, 30..60);
    let parts = store.list().unwrap();
    engine.checkpoint().unwrap();
    // Only one is kept.
    let now = store.list().unwrap();
    assert!(parts.iter().any(|name| name.starts_with("parts/") && !now.contains(name)));
    let results = engine.subscribe(counts).unwrap();
    push(&engine, 60..90);
    engine.shutdown().unwrap();
    let counted = results.map(|rows| {
        let rows = rows.unwrap();
        rows.column(1).as_primitive::<Int64Type>().values().iter().sum::<i64>()
    });
    assert_eq!(counted.sum::<i64>(), 30);
}
