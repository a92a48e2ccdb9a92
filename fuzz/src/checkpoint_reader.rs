//! Checkpoints: whatever the bytes of a manifest or a part, an engine goes on from them or refuses them by their name.

use std::sync::{Arc, LazyLock};

use driftline::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use driftline::{CheckpointStore, Checkpoints, Engine, ErrorKind, MemoryStore, Result};
use twox_hash::XxHash3_64;

/// Magic, version and checksum of a manifest.
const HEAD_BYTES: usize = 6 + 2 + 16;
/// In the second byte: sums are put right, so that what they guard is reached.
pub const MENDED: u8 = 0x80;

const SOURCE: &str = "CREATE SOURCE load (ts TIMESTAMP, host TEXT, value BIGINT, line TEXT, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')";

/// A detector, if there is one, and a query: one for each kind of state. Each has a checkpoint of its own.
const CASES: [(&str, &str); 16] = [
    ("", "SELECT host, window_end, count(*) AS n, avg(value) AS mean, max(line) AS line
       FROM HOP(load, ts, INTERVAL '2 seconds', INTERVAL '10 seconds') GROUP BY host, window_start, window_end"),
    ("", "SELECT host, window_end, count(*) AS n, median(value) AS middle
       FROM SESSION(load, ts, INTERVAL '9 seconds' PARTITION BY host) GROUP BY host, window_start, window_end"),
    ("", "SELECT host, window_end, sum(value) AS s
       FROM COUNT_WINDOW(load, ts, 7, 3 PARTITION BY host) GROUP BY host, window_start, window_end"),
    ("", "SELECT host, window_end, count(*) AS n FROM CUMULATE(load, ts, INTERVAL '5 seconds', INTERVAL '20 seconds')
       GROUP BY host, window_start, window_end EMIT ON UPDATE"),
    ("", "SELECT a.ts, a.host, b.value FROM load a LEFT JOIN load b
       ON a.host = b.host AND b.ts BETWEEN a.ts - INTERVAL '4 seconds' AND a.ts - INTERVAL '1 second'"),
    ("", "SELECT a.ts, a.host, b.value FROM load a
       ASOF JOIN (SELECT * FROM load WHERE value > 9) b MATCH_CONDITION (a.ts >= b.ts) ON a.host = b.host"),
    ("", "SELECT ts, host, sum(value) OVER (PARTITION BY host ORDER BY ts ROWS 20 PRECEDING) AS total,
         max(value) OVER (PARTITION BY host ORDER BY ts RANGE INTERVAL '9 seconds' PRECEDING) AS most FROM load"),
    ("", "SELECT DISTINCT host, ts FROM load"),
    ("", "SELECT host, count(*) AS n, max(value) AS most FROM load GROUP BY host EMIT ON UPDATE RETAIN INTERVAL '20 seconds'"),
    ("", "SELECT a.host, a.value, b.value AS other FROM load a JOIN load b ON a.host = b.host AND a.value = b.value
       EMIT ON UPDATE RETAIN INTERVAL '20 seconds'"),
    ("", "SELECT window_end, host, n FROM (SELECT window_end, host, n,
         ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY n DESC) AS place
         FROM (SELECT window_start, window_end, host, count(*) AS n FROM TUMBLE(load, ts, INTERVAL '10 seconds')
               GROUP BY host, window_start, window_end)) WHERE place <= 2"),
    ("", "SELECT ts, host, log_key, template, parameters FROM LOG_KEYS(load, line, session => host, parser => 'drain')"),
    ("", "SELECT * FROM LOG_TEMPLATES(load, line)"),
    ("CREATE DETECTOR d USING robust_zscore PARTITION BY host WITH (history = 32) AS SELECT ts, host, value FROM load",
     "SELECT host, ts, score FROM d"),
    ("CREATE DETECTOR d USING drift_insight PARTITION BY host WITH (training = 60, evolve_min = 10) AS
        SELECT ts, host, value FROM load", "SELECT * FROM d.states"),
    ("CREATE DETECTOR d USING deeplog WITH (session = 'host', key = 'log_key', model = 'ngram', training = 20) AS
        SELECT ts, host, log_key FROM LOG_KEYS(load, line, parser => 'spell')", "SELECT * FROM d.sessions"),
];

/// Names and bytes of a checkpoint, its manifest first.
type Blobs = Vec<(String, Vec<u8>)>;

/// Real checkpoints, one for each case.
static REAL: LazyLock<Vec<Blobs>> = LazyLock::new(|| CASES.iter().map(checkpoint_of).collect());

fn checkpoint_of((detector, query): &(&str, &str)) -> Blobs {
    let store = Arc::new(MemoryStore::default());
    let engine = engine(&store, detector).expect("the statements are right");
    let results = engine.subscribe(query).expect("the query is right");
    feed(&engine, 0, 240).expect("rows are taken");
    engine.checkpoint().expect("it can be written");
    drop((results, engine));
    let mut names = store.list().expect("it is in memory");
    names.sort_unstable();
    let blob = |name: String| {
        let bytes = store.get(&name).ok().flatten().expect("it is listed");
        (name, bytes)
    };
    names.into_iter().map(blob).collect()
}

/// All blobs as inputs, as they are, behind two bytes that say which one it is, and whether sums are put right.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (case, blobs) in REAL.iter().enumerate() {
        for (place, (_, bytes)) in blobs.iter().enumerate() {
            for mended in [0, MENDED] {
                seeds.push([&[case as u8, place as u8 | mended], bytes.as_slice()].concat());
            }
        }
    }
    seeds
}

/// The first byte chooses a checkpoint, the second which of its blobs the rest takes the place of. 1 if an engine went on
/// with all of it.
pub fn run(data: &[u8]) -> usize {
    let [case, choice, bytes @ ..] = data else { return 0 };
    let case = usize::from(*case) % CASES.len();
    let blobs = &REAL[case];
    let place = usize::from(choice & !MENDED) % blobs.len();
    let store = Arc::new(damaged(blobs, place, bytes, choice & MENDED != 0));
    match go_on(&store, CASES[case]) {
        Ok(()) => 1,
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
            0
        }
    }
}

/// Builds an engine on the store and lets rows flow.
fn go_on(store: &Arc<MemoryStore>, (detector, query): (&str, &str)) -> Result<()> {
    let engine = engine(store, detector)?;
    let reader = engine.subscribe_with(query, drop)?;
    feed(&engine, 240, 30)?;
    engine.shutdown()?;
    reader.join()
}

fn engine(store: &Arc<MemoryStore>, detector: &str) -> Result<Engine> {
    let checkpoints = Checkpoints::new(Arc::clone(store) as Arc<dyn CheckpointStore>);
    let engine = Engine::builder().workers(1).checkpoints(checkpoints).build()?;
    engine.execute(SOURCE)?;
    if !detector.is_empty() {
        engine.execute(detector)?;
    }
    Ok(engine)
}

/// Lets rows flow, one a second from second `from` on.
fn feed(engine: &Engine, from: i64, rows: i64) -> Result<()> {
    let seconds = from..from + rows;
    let times = seconds.clone().map(|second| second * 1_000_000_000);
    let line = |second: i64| match second % 4 {
        0 => format!("session {second} opened for u{}", second % 7),
        1 => format!("sent {} bytes to 10.0.0.{}", second * 31, second % 9),
        2 => format!("cache {} is cold", ["red", "blue", "green"][second as usize % 3]),
        _ => "restart.".to_owned(),
    };
    let columns: [ArrayRef; 4] = [
        Arc::new(TimestampNanosecondArray::from_iter_values(times)),
        Arc::new(StringArray::from_iter_values(seconds.clone().map(|s| format!("h{}", s % 3)))),
        Arc::new(Int64Array::from_iter_values(seconds.clone().map(|second| second * 7 % 23))),
        Arc::new(StringArray::from_iter_values(seconds.map(line))),
    ];
    let source = engine.source("load")?;
    let rows = RecordBatch::try_new(source.schema(), columns.to_vec()).expect("columns fit");
    source.push(rows)
}

/// The checkpoint with other bytes for one of its blobs.
fn damaged(real: &Blobs, place: usize, bytes: &[u8], is_mended: bool) -> MemoryStore {
    let store = MemoryStore::default();
    let put = |name: &str, bytes: &[u8]| store.put(name, bytes).expect("it is in memory");
    for (name, whole) in real {
        put(name, whole);
    }
    let (name, whole) = &real[place];
    if !is_mended {
        put(name, bytes);
    } else if place == 0 {
        let mut manifest = bytes.to_vec();
        seal(&mut manifest);
        put(name, &manifest);
    } else {
        // The manifest names the part by its content.
        let (before, now) = (reference(whole), reference(bytes));
        let (name, manifest) = &real[0];
        let mut manifest = replaced(manifest, &before.1, &now.1);
        seal(&mut manifest);
        put(name, &manifest);
        put(&now.0, bytes);
    }
    store
}

/// 128 bits of a content.
fn fingerprint(bytes: &[u8]) -> u128 {
    let (high, low) = (XxHash3_64::oneshot(bytes), XxHash3_64::oneshot_with_seed(1, bytes));
    u128::from(high) << 64 | u128::from(low)
}

/// Puts the checksum of a manifest right.
fn seal(manifest: &mut [u8]) {
    if let Some((head, content)) = manifest.split_at_mut_checked(HEAD_BYTES) {
        head[8..].copy_from_slice(&fingerprint(content).to_le_bytes());
    }
}

/// The name of a part with these bytes, and how a manifest refers to it: two integers of variable length.
fn reference(bytes: &[u8]) -> (String, Vec<u8>) {
    let hash = fingerprint(bytes);
    let mut referred = Vec::new();
    for mut number in [hash, bytes.len() as u128] {
        while number > 0x7f {
            referred.push(number as u8 | 0x80);
            number >>= 7;
        }
        referred.push(number as u8);
    }
    (format!("parts/{hash:032x}-{}", bytes.len()), referred)
}

/// Some bytes with each stretch replaced.
fn replaced(bytes: &[u8], stretch: &[u8], by: &[u8]) -> Vec<u8> {
    let (mut made, mut rest) = (Vec::new(), bytes);
    while let Some(at) = rest.windows(stretch.len()).position(|window| window == stretch) {
        made.extend(&rest[..at]);
        made.extend(by);
        rest = &rest[at + stretch.len()..];
    }
    made.extend(rest);
    made
}
