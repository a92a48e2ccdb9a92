//! What a checkpoint writes after a change to few keys: the parts that hold them, not all there is.
//!
//! Each state is filled with many keys, written once, changed in ten of them, and written again. Bytes are counted by the
//! engine and by a store of the test's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use driftline::arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampNanosecondArray};
use driftline::{CheckpointStore, Checkpoints, Engine, MemoryStore, Settings};

const KEYS: usize = 100_000;
const FEW: usize = 10;
const SECOND: i64 = 1_000_000_000;

const SOURCE: &str =
    "CREATE SOURCE load (ts TIMESTAMP NOT NULL, host BIGINT NOT NULL, value BIGINT NOT NULL,
    WATERMARK FOR ts AS ts - INTERVAL '2 seconds')";

/// Counts what is written.
#[derive(Debug, Default)]
struct Counting {
    inner: MemoryStore,
    bytes: AtomicU64,
    names: Mutex<Vec<String>>,
}

impl CheckpointStore for Counting {
    fn put(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.names.lock().unwrap().push(name.to_owned());
        self.inner.put(name, bytes)
    }

    fn get(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        self.inner.get(name)
    }

    fn list(&self) -> std::io::Result<Vec<String>> {
        self.inner.list()
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.inner.remove(name)
    }
}

impl Counting {
    /// Bytes and parts written since the last call.
    fn take(&self) -> (u64, usize) {
        let names = std::mem::take(&mut *self.names.lock().unwrap());
        let parts = names.iter().filter(|name| name.starts_with("parts/")).count();
        (self.bytes.swap(0, Ordering::Relaxed), parts)
    }
}

/// Rows of hosts, at the second `second`; each has three in the first seconds.
fn rows(hosts: impl Iterator<Item = usize> + Clone, second: i64) -> RecordBatch {
    let column = |value: &dyn Fn(usize) -> i64| -> Vec<i64> { hosts.clone().map(value).collect() };
    let value = |host: usize| (host as i64 * 7919 + second * 31) % 1013;
    RecordBatch::try_from_iter([
        ("ts", Arc::new(TimestampNanosecondArray::from(column(&|_| second * SECOND))) as ArrayRef),
        ("host", Arc::new(Int64Array::from(column(&|host| host as i64)))),
        ("value", Arc::new(Int64Array::from(column(&value)))),
    ])
    .unwrap()
}

/// An engine that goes on from what is in the store, if there is anything, and does what a test asks.
fn engine(store: &Arc<Counting>, workers: usize, create: &str) -> Engine {
    let settings = Settings {
        workers,
        window_groups_max: 4 * KEYS,
        reorder_rows_max: 8 * KEYS,
        models_max: 2 * KEYS,
        ..Settings::default()
    };
    let checkpoints = Checkpoints::new(Arc::clone(store) as Arc<dyn CheckpointStore>);
    let engine = Engine::builder().settings(settings).checkpoints(checkpoints).build().unwrap();
    engine.execute(SOURCE).unwrap();
    engine.execute(create).unwrap();
    engine
}

/// A state, and what a checkpoint of it may write.
struct Case {
    create: &'static str,
    query: &'static str,
    /// Bytes after ten changed keys, as a share of all.
    share_max: f64,
    /// Numbers of workers for which an engine that goes on writes no more than that with its first checkpoint.
    goes_on_with: &'static [usize],
}

/// Fills a state, changes ten keys of it, and looks at what each checkpoint writes; then once more in an engine that goes
/// on from the last.
#[track_caller]
fn writes_little(case: &Case) {
    let Case { create, query, share_max, goes_on_with } = *case;
    for workers in [1, 2] {
        let store = Arc::new(Counting::default());
        let run = |first: Option<i64>, last: i64| -> Vec<(u64, usize)> {
            let engine = engine(&store, workers, create);
            let results = engine.subscribe_with(query, drop).unwrap();
            let source = engine.source("load").unwrap();
            let push = |hosts: Vec<usize>, second: i64| {
                source.push(rows(hosts.iter().copied(), second)).unwrap();
            };
            if let Some(second) = first {
                for second in second..second + 3 {
                    for from in (0..KEYS).step_by(10_000) {
                        push((from..from + 10_000).collect(), second);
                    }
                }
                // The watermark passes them all.
                push(vec![0], second + 9);
            }
            engine.drain().unwrap();
            let mut written = Vec::new();
            let mut checkpoint = || {
                let checkpoint = engine.checkpoint().unwrap();
                let (bytes, parts) = store.take();
                assert!(checkpoint.bytes_written <= bytes, "the manifest comes on top");
                written.push((bytes, parts));
            };
            checkpoint();
            push((0..FEW).map(|n| n * 9_973 % KEYS).collect(), last);
            push(vec![0], last + 9);
            engine.drain().unwrap();
            checkpoint();
            results.cancel();
            written
        };
        let first = run(Some(1), 20);
        let again = run(None, 40);
        println!("{workers} workers, {query}: bytes and parts {first:?}, then {again:?}");
        let share = |bytes: u64| bytes as f64 / first[0].0 as f64;
        assert!(first[0].0 > 2_000_000, "{first:?} is too little to tell");
        assert!(first[1].1 >= FEW / 2 && share(first[1].0) < share_max, "{query}: {first:?}");
        let is_kept = goes_on_with.contains(&workers);
        assert!(!is_kept || share(again[0].0) < share_max, "{query}: {again:?}");
        assert!(again[1].1 >= FEW / 2 && share(again[1].0) < share_max, "{query}: {again:?}");
    }
}

/// What several workers have folded goes to the owners of its keys when an engine goes on.
#[test]
fn windows_write_the_groups_that_have_changed() {
    writes_little(&Case {
        create: "",
        query: "SELECT host, window_start, count(*) AS n, avg(value) AS mean, stddev(value) AS deviation,
             min(value) AS least, max(value) AS most
             FROM TUMBLE(load, ts, INTERVAL '10 minutes') GROUP BY host, window_start, window_end",
        share_max: 0.06,
        goes_on_with: &[1],
    });
    writes_little(&Case {
        create: "",
        query: "SELECT host, count(*) AS n, sum(value) AS s
             FROM TUMBLE(load, ts, INTERVAL '10 minutes') GROUP BY host, window_start, window_end",
        share_max: 0.2,
        goes_on_with: &[1],
    });
}

/// States of sessions come in chunks, which are merged when an engine goes on.
#[test]
fn sessions_write_the_groups_that_have_changed() {
    writes_little(&Case {
        create: "",
        query: "SELECT host, window_start, count(*) AS n, sum(value) AS s
             FROM SESSION(load, ts, INTERVAL '10 minutes' PARTITION BY host) GROUP BY host, window_start, window_end",
        share_max: 0.2,
        goes_on_with: &[],
    });
}

/// Rows stay with the worker that they came to, and go to that of their group when an engine goes on.
#[test]
fn retained_rows_are_written_once() {
    writes_little(&Case {
        create: "",
        query: "SELECT host, count(*) AS n, sum(value) AS s FROM load GROUP BY host
             EMIT ON UPDATE RETAIN INTERVAL '1 day'",
        share_max: 0.06,
        goes_on_with: &[1],
    });
}

#[test]
fn detectors_write_the_models_that_have_changed() {
    writes_little(&Case {
        create: "CREATE DETECTOR odd USING ewma PARTITION BY host AS SELECT host, ts, value FROM load",
        query: "SELECT host, score FROM odd WHERE is_anomaly",
        share_max: 0.06,
        goes_on_with: &[1, 2],
    });
}
