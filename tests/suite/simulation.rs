//! Pipelines in simulated runs: crashes, failing stores and restarts where a seed puts them, with rows that are pushed or
//! read from files. Shared with the bench of recovery.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use driftline::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use driftline::arrow::util::display::array_value_to_string;
use driftline::inference::{Compute, Device, Network};
use driftline::{
    CheckpointStore, Checkpoints, Engine, ErrorKind, History, MemoryStore, Result, Settings,
    Simulation, Subscription,
};

use super::inference_kind::Chained;

const ROWS: usize = 480;
const HOSTS: usize = 4;
/// Lives after which the store fails no more, so that each history ends.
const LIVES_MAX: usize = 6;

const SOURCE: &str = "CREATE SOURCE load (host TEXT, ts TIMESTAMP, cpu BIGINT, line TEXT,
    WATERMARK FOR ts AS ts - INTERVAL '3 seconds');";

/// A query, and what it stands on. All numbers are whole, and no row is late: what comes out must not depend on when what
/// was worked on where.
struct Case {
    setup: &'static str,
    select: &'static str,
}

const CASES: [Case; 12] = [
    Case { setup: "", select: "SELECT host, ts, cpu FROM load WHERE cpu % 3 <> 0" },
    Case {
        setup: "",
        select: "SELECT host, window_end, count(*) AS n, sum(cpu) AS s, min(cpu) AS least
            FROM TUMBLE(load, ts, INTERVAL '4 seconds') GROUP BY host, window_start, window_end",
    },
    Case {
        setup: "",
        select: "SELECT host, window_end, count(DISTINCT cpu) AS n, max(cpu) AS m
            FROM HOP(load, ts, INTERVAL '2 seconds', INTERVAL '10 seconds') GROUP BY host, window_start, window_end",
    },
    Case {
        setup: "",
        select: "SELECT host, window_start, window_end, sum(cpu) AS s
            FROM SESSION(load, ts, INTERVAL '2 seconds' PARTITION BY host) GROUP BY host, window_start, window_end",
    },
    Case {
        setup: "",
        select: "SELECT host, ts, cpu, sum(cpu) OVER (PARTITION BY host ORDER BY ts
            ROWS BETWEEN 4 PRECEDING AND CURRENT ROW) AS s FROM load",
    },
    Case { setup: "", select: "SELECT DISTINCT host, window_end FROM TUMBLE(load, ts, INTERVAL '4 seconds')" },
    Case {
        setup: "",
        select: "SELECT a.ts, a.cpu, b.cpu AS other FROM load a JOIN load b
            ON a.host = b.host AND b.ts BETWEEN a.ts - INTERVAL '1 second' AND a.ts + INTERVAL '1 second'
            WHERE a.cpu > 40",
    },
    Case {
        setup: "",
        select: "SELECT host, count(*) AS n, sum(cpu) AS s FROM load GROUP BY host EMIT ON UPDATE RETAIN INTERVAL '1 day'",
    },
    Case {
        setup: "CREATE DETECTOR odd USING robust_zscore PARTITION BY host WITH (history = 16, warm_up = 8) AS
            SELECT host, window_end, sum(cpu) AS cpu FROM TUMBLE(load, ts, INTERVAL '2 seconds')
            GROUP BY host, window_start, window_end;",
        select: "SELECT host, window_end, score, is_anomaly FROM odd",
    },
    Case {
        setup: "CREATE DETECTOR drift USING drift_insight PARTITION BY host WITH (training = 20, evolve_min = 8) AS
            SELECT host, window_end, max(cpu) AS peak, sum(cpu) AS cpu FROM TUMBLE(load, ts, INTERVAL '2 seconds')
            GROUP BY host, window_start, window_end;",
        select: "SELECT host, window_end, score, is_anomaly FROM drift",
    },
    Case {
        setup: "",
        select: "SELECT log_key, ts FROM LOG_KEYS(load, line)",
    },
    // Scored by the inference service.
    Case {
        setup: "CREATE DETECTOR net USING chained PARTITION BY service AS
            SELECT host AS service, window_end, CAST(sum(cpu) AS DOUBLE) AS value
            FROM TUMBLE(load, ts, INTERVAL '2 seconds') GROUP BY host, window_start, window_end;",
        select: "SELECT service, window_end, score FROM net",
    },
];

/// Rows from one place to another: hosts that pause now and then, times out of order by less than the source allows.
fn rows(range: std::ops::Range<usize>) -> RecordBatch {
    let (mut hosts, mut times, mut values, mut lines) = (vec![], vec![], vec![], vec![]);
    for row in range {
        let second = (row / HOSTS) as i64;
        let host = (row * 5 + second as usize / 20) % HOSTS;
        let pause = (second / 15 + host as i64) % 4 == 0;
        hosts.push(format!("host {}", if pause { 0 } else { host }));
        // No two rows of a host are of one time, so that their order is settled.
        times.push((second - (row * 7 % 3) as i64) * 1_000_000_000 + row as i64);
        let busy = (second / 30 + host as i64) % 3 == 0;
        let value = (row * 31 % 17) as i64 + if busy { 40 } else { 0 };
        values.push(value);
        lines.push(match row % 5 {
            0 => format!("connection from 10.0.{}.{} closed", row % 7, row % 11),
            1 => format!("request {row} took {value} ms"),
            2 => format!("request {row} failed with code {}", row % 3),
            _ => format!("worker {host} is {}", if busy { "busy" } else { "idle" }),
        });
    }
    RecordBatch::try_from_iter_with_nullable([
        ("host", Arc::new(StringArray::from(hosts)) as ArrayRef, true),
        ("ts", Arc::new(TimestampNanosecondArray::from(times)), true),
        ("cpu", Arc::new(Int64Array::from(values)), true),
        ("line", Arc::new(StringArray::from(lines)), true),
    ])
    .expect("the columns are of one length")
}

/// Files that hold all rows, and how a source is to read them.
struct Feed {
    with: String,
}

impl Feed {
    /// Cuts the rows into files in `folder`, as the seed has it.
    fn write(history: &History, folder: &Path) -> io::Result<Self> {
        std::fs::create_dir(folder)?;
        let format = ["csv", "ndjson"][history.random(2) as usize];
        let (mut from, mut file) = (0, 0);
        while from < ROWS {
            let to = (from + 1 + history.random(160) as usize).min(ROWS);
            let path = folder.join(format!("{file:04}.{format}"));
            std::fs::write(path, text_of(&rows(from..to), format))?;
            (from, file) = (to, file + 1);
        }
        let path = folder.join(format!("*.{format}"));
        let mut with =
            format!("path = '{}', batch_rows = {}", path.display(), 1 + history.random(60));
        if history.random(2) == 0 {
            with += ", order = 'event_time'";
        }
        if history.random(2) == 0 {
            with += &format!(", pace = {}", 10 + history.random(200));
        }
        Ok(Self { with })
    }
}

/// Rows as a file has them.
fn text_of(rows: &RecordBatch, format: &str) -> String {
    let schema = rows.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let cell = |column: usize, row: usize| {
        array_value_to_string(rows.column(column), row).expect("rows can be shown")
    };
    let line = |row: usize| -> String {
        let cells = (0..names.len()).map(|column| match (format, names[column]) {
            ("csv", _) => cell(column, row),
            (_, "cpu") => format!("\"cpu\":{}", cell(column, row)),
            (_, name) => format!("\"{name}\":\"{}\"", cell(column, row)),
        });
        let cells = cells.collect::<Vec<_>>().join(",");
        if format == "csv" { cells + "\n" } else { format!("{{{cells}}}\n") }
    };
    let head = if format == "csv" { names.join(",") + "\n" } else { String::new() };
    head + &(0..rows.num_rows()).map(line).collect::<String>()
}

/// Rows as text and how often each is there; changes are added up.
#[derive(Debug, Default, PartialEq)]
struct Counted(BTreeMap<String, i64>);

impl Counted {
    fn add(&mut self, batch: &RecordBatch) {
        let schema = batch.schema();
        for row in 0..batch.num_rows() {
            let (mut text, mut change) = (String::new(), 1);
            for (field, column) in schema.fields().iter().zip(batch.columns()) {
                let cell = array_value_to_string(column, row).expect("results can be shown");
                match field.name().as_str() {
                    "_diff" => change = cell.parse().expect("a change is a number"),
                    _ => text.extend([cell.as_str(), "|"]),
                }
            }
            self.count(text, change);
        }
    }

    fn count(&mut self, row: String, change: i64) {
        let count = self.0.entry(row).or_default();
        *count += change;
    }

    fn settled(mut self) -> Self {
        self.0.retain(|_, count| *count != 0);
        self
    }

    /// What one has and the other has not.
    fn difference(&self, other: &Self) -> String {
        let lines = self.0.iter().filter(|(row, count)| other.0.get(*row) != Some(count));
        let lines: Vec<String> = lines.map(|(row, count)| format!("{count} x {row}")).collect();
        format!(
            "{} rows: {}",
            lines.len(),
            lines.iter().take(3).cloned().collect::<Vec<_>>().join(" ")
        )
    }
}

/// What each query gives in a run without threads that wait for each other, a store or a crash.
fn expected() -> &'static [Counted] {
    static EXPECTED: OnceLock<Vec<Counted>> = OnceLock::new();
    EXPECTED.get_or_init(|| {
        let of_case = |case: &Case| -> Result<Counted> {
            let builder = Engine::builder().workers(1).with_detector_kind(Arc::new(Chained));
            let engine = builder.build()?;
            engine.execute(SOURCE)?;
            engine.execute(case.setup)?;
            let results = engine.subscribe(case.select)?;
            engine.source("load")?.push(rows(0..ROWS))?;
            engine.shutdown()?;
            let mut counted = Counted::default();
            for batch in results {
                counted.add(&batch?);
            }
            Ok(counted.settled())
        };
        CASES
            .iter()
            .map(|case| of_case(case).unwrap_or_else(|e| panic!("{}: {e}", case.select)))
            .collect()
    })
}

/// What becomes of the write at which a store dies.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Before,
    /// Only parts: a manifest is put whole or not at all.
    Torn,
    After,
}

/// A store that is slow, fails now and then, is full for a while and dies, as the seed of the run has it.
#[derive(Debug, Default)]
struct Faulty {
    inner: MemoryStore,
    is_quiet: AtomicBool,
    is_dead: AtomicBool,
    /// Writes until it dies.
    writes_left: AtomicU64,
    failed: AtomicU64,
}

impl Faulty {
    fn call(&self) -> io::Result<()> {
        if self.is_dead.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the process is dead"));
        }
        let Some(history) = History::current().filter(|_| !self.is_quiet.load(Ordering::Relaxed))
        else {
            return Ok(());
        };
        match history.random(32) {
            0 => history.wait(Duration::from_millis(history.random(200))),
            1 | 2 => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                return Err(io::Error::other("the store is busy"));
            }
            3 => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                return Err(io::ErrorKind::StorageFull.into());
            }
            _ => {}
        }
        Ok(())
    }

    fn dies(&self, name: &str) -> Option<Manner> {
        let left = self.writes_left.fetch_sub(1, Ordering::Relaxed);
        if self.is_quiet.load(Ordering::Relaxed) || left != 1 {
            return None;
        }
        self.is_dead.store(true, Ordering::Relaxed);
        let manners = [Manner::Before, Manner::After, Manner::Torn];
        let known = if name.starts_with("manifest-") { 2 } else { 3 };
        History::current().map(|history| manners[history.random(known) as usize])
    }
}

impl CheckpointStore for Faulty {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.call()?;
        let manner = self.dies(name);
        match manner {
            None | Some(Manner::After) => self.inner.put(name, bytes)?,
            Some(Manner::Torn) => self.inner.put(name, &bytes[..bytes.len() / 2])?,
            Some(Manner::Before) => {}
        }
        manner.map_or(Ok(()), |_| self.call())
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
        self.call()?;
        let manner = self.dies(name);
        if !matches!(manner, Some(Manner::Before)) {
            self.inner.remove(name)?;
        }
        manner.map_or(Ok(()), |_| self.call())
    }
}

/// A device that is slow, fails, panics or gives too little, as the seed of the run has it.
#[derive(Debug, Default)]
struct Whims {
    failed: AtomicU64,
    launches: AtomicU64,
}

impl Device for Whims {
    fn score(
        &self,
        network: &dyn Network,
        rows: &[f32],
        out: &mut Vec<f32>,
    ) -> std::result::Result<(), String> {
        let Some(history) = History::current() else { return Err("there is no history".into()) };
        self.launches.fetch_add(1, Ordering::Relaxed);
        let whim = history.random(12);
        if whim < 3 {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        match whim {
            0 => return Err("the device is out of memory".into()),
            1 => std::panic::resume_unwind(Box::new("the driver has gone")),
            3..=6 => history.wait(Duration::from_millis(history.random(100))),
            _ => {}
        }
        network.score(Compute::Cpu, rows, out)?;
        if whim == 2 {
            out.pop();
        }
        Ok(())
    }
}

/// What a history came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) fingerprint: u64,
    pub(crate) lives: usize,
    pub(crate) checkpoints: u64,
    pub(crate) faults: u64,
    /// 1 if its rows were read from files.
    pub(crate) read: u64,
    /// What a device was asked for, and has not done.
    pub(crate) launches: u64,
    pub(crate) launches_failed: u64,
}

/// A host: what survives its crashes.
struct Host<'a> {
    history: &'a History,
    folder: &'a Path,
    store: Arc<Faulty>,
    device: Arc<Whims>,
    /// Where rows are read from, unless they are pushed.
    feed: Option<Feed>,
    /// Cases, and whether their results go to a file.
    chosen: Vec<(usize, bool)>,
    /// Batches of each query, by their numbers.
    kept: Vec<BTreeMap<u64, RecordBatch>>,
    /// Whether it forgets to drop what comes again.
    is_careless: bool,
    told: Told,
}

impl Host<'_> {
    fn start(&self) -> Result<Engine> {
        let draw = |below: u64| self.history.random(below);
        let mut checkpoints = Checkpoints::new(Arc::clone(&self.store) as Arc<dyn CheckpointStore>);
        if draw(3) > 0 {
            checkpoints = checkpoints.every(Duration::from_millis(1 + draw(400)));
        }
        checkpoints = checkpoints.keep(1 + draw(3) as usize);
        let settings = Settings {
            workers: 1 + draw(4) as usize,
            epoch_millis: 1 + draw(50),
            epoch_bytes: 1 << draw(18),
            epochs_in_flight_max: 1 + draw(4) as usize,
            background_threads: draw(2) as usize,
            // Full after a few batches, where somebody reads all the time.
            subscription_bytes_max: match self.chosen.iter().all(|(_, to_file)| *to_file) {
                true => 1 << draw(16),
                false => 16 << 20,
            },
            ..Settings::default()
        };
        let builder = Engine::builder().settings(settings).checkpoints(checkpoints);
        let device = Arc::clone(&self.device) as Arc<dyn Device>;
        let engine = builder.with_detector_kind(Arc::new(Chained)).with_device(device).build()?;
        match &self.feed {
            Some(Feed { with }) => {
                engine.execute(&SOURCE.replace(");", &format!(") WITH ({with});")))?
            }
            None => engine.execute(SOURCE)?,
        };
        Ok(engine)
    }

    /// One life of the process; whether it has come to the end of the rows.
    fn live(&mut self) -> Result<bool> {
        let engine = self.start()?;
        let mut results: Vec<Option<Subscription>> = Vec::new();
        for (place, (case, to_file)) in self.chosen.iter().enumerate() {
            let Case { setup, select } = &CASES[*case];
            engine.execute(setup)?;
            results.push(match to_file {
                true => {
                    let path = self.folder.join(format!("q{place}.csv"));
                    engine.execute(&format!(
                        "CREATE SINK q{place} WITH (path = '{}', publish = 'checkpoint'); INSERT INTO q{place} {select}",
                        path.display()
                    ))?;
                    None
                }
                false => Some(engine.subscribe(select)?),
            });
        }
        for (kept, results) in self.kept.iter_mut().zip(&results) {
            let sequence = results.as_ref().map_or(0, Subscription::sequence);
            kept.retain(|number, _| self.is_careless || *number <= sequence);
        }
        let source = engine.source("load")?;
        let mut from = source.resume_at() as usize;
        engine.start()?;
        while from < ROWS {
            match self.history.random(16) {
                0..=8 if self.feed.is_some() => {
                    self.history.wait(Duration::from_millis(1 + self.history.random(20)));
                    from = engine.metrics().sources[0].rows as usize;
                }
                0..=8 => {
                    let to = (from + 1 + self.history.random(40) as usize).min(ROWS);
                    source.push(rows(from..to))?;
                    from = to;
                }
                9 | 10 => self.read(&mut results, 1 + self.history.random(3))?,
                // What fails is counted by the engine, which goes on.
                11 => drop(engine.checkpoint()),
                12 => self.history.wait(Duration::from_millis(self.history.random(300))),
                13 => engine.drain()?,
                14 if self.history.random(4) == 0
                    && !self.store.is_quiet.load(Ordering::Relaxed) =>
                {
                    self.store.is_dead.store(true, Ordering::Relaxed);
                }
                _ => match engine.subscribe("SELECT cpu FROM load WHERE cpu > 3") {
                    // Files come to their end whenever they do.
                    Err(error) if self.feed.is_some() && error.kind() == ErrorKind::Closed => {}
                    guest => drop(guest?),
                },
            }
            if self.store.is_dead.load(Ordering::Relaxed) {
                self.told.checkpoints += engine.metrics().checkpoints.map_or(0, |c| c.taken);
                return Ok(false);
            }
        }
        self.told.checkpoints += engine.metrics().checkpoints.map_or(0, |c| c.taken);
        engine.shutdown()?;
        self.read(&mut results, u64::MAX)?;
        Ok(true)
    }

    /// Takes results, at most so many batches of each query.
    fn read(&mut self, results: &mut [Option<Subscription>], batches: u64) -> Result<()> {
        for (results, kept) in results.iter_mut().zip(&mut self.kept) {
            let Some(results) = results else { continue };
            for _ in 0..batches {
                let Some(batch) = results.try_next()? else { break };
                let life = if self.is_careless { self.told.lives as u64 } else { 0 };
                kept.insert((life << 32) + results.sequence(), batch);
            }
        }
        Ok(())
    }

    /// What has come out in the end.
    fn found(&self, place: usize) -> Counted {
        let mut counted = Counted::default();
        let (_, to_file) = self.chosen[place];
        if !to_file {
            self.kept[place].values().for_each(|batch| counted.add(batch));
            return counted.settled();
        }
        for entry in std::fs::read_dir(self.folder).expect("the folder is there") {
            let path = entry.expect("it can be listed").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("names are text");
            if !name.starts_with(&format!("q{place}-")) || !name.ends_with(".csv") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a published file is whole");
            for line in text.lines().skip(1) {
                counted.count(format!("{}|", line.replace(',', "|")), 1);
            }
        }
        counted
    }
}

/// A whole history: a pipeline with a few queries that dies and is started again until all rows have been through.
///
/// # Errors
/// What differs from a run in which nothing happened.
pub(crate) fn history(seed: u64) -> std::result::Result<Told, String> {
    history_of(seed, false)
}

fn history_of(seed: u64, is_careless: bool) -> std::result::Result<Told, String> {
    let expected = expected();
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let run = |history: &History| {
        let mut chosen: Vec<(usize, bool)> = Vec::new();
        for _ in 0..=history.random(3) {
            let case = history.random(CASES.len() as u64) as usize;
            // Changes go to a reader that folds them.
            let to_file = history.random(2) == 0 && !CASES[case].select.contains("EMIT ON UPDATE");
            if chosen.iter().all(|(other, _)| *other != case) {
                chosen.push((case, to_file));
            }
        }
        let kept = vec![BTreeMap::new(); chosen.len()];
        let store = Arc::new(Faulty::default());
        let feed =
            (history.random(3) == 0).then(|| Feed::write(history, &folder.path().join("in")));
        let feed = feed.transpose().map_err(|error| error.to_string())?;
        let read = u64::from(feed.is_some());
        let mut host = Host {
            history,
            folder: folder.path(),
            store,
            device: Arc::default(),
            feed,
            chosen,
            kept,
            is_careless,
            told: Told { read, ..Told::default() },
        };
        loop {
            host.told.lives += 1;
            let is_last = host.told.lives >= LIVES_MAX;
            host.store.is_dead.store(false, Ordering::Relaxed);
            host.store.is_quiet.store(is_last, Ordering::Relaxed);
            host.store.writes_left.store(1 + history.random(120), Ordering::Relaxed);
            match host.live() {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) if is_last => return Err(format!("the last life failed: {error}")),
                // The store failed for good in the middle of a start or an end, or died: the process ends.
                Err(_) => {}
            }
        }
        for (place, (case, to_file)) in host.chosen.iter().enumerate() {
            let (found, wanted) = (host.found(place), &expected[*case]);
            if found != *wanted {
                return Err(format!(
                    "{}{}: lost {}; doubled {}",
                    CASES[*case].select,
                    if *to_file { ", to a file" } else { "" },
                    wanted.difference(&found),
                    found.difference(wanted)
                ));
            }
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Told {
            fingerprint: history.fingerprint(),
            faults: count(&host.store.failed),
            launches: count(&host.device.launches),
            launches_failed: count(&host.device.failed),
            ..host.told
        })
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| Simulation::new(seed).run(run)));
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

/// More of them: `DRIFTLINE_HISTORIES=5000`; one of them again: `DRIFTLINE_SEED=17`.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn nothing_is_lost_or_doubled_in_any_history() {
    let seeds = match number("DRIFTLINE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DRIFTLINE_HISTORIES").unwrap_or(120),
    };
    let (mut failures, mut all) = (Vec::new(), Told::default());
    for seed in seeds.clone() {
        match history(seed) {
            Ok(told) => {
                all.lives += told.lives;
                all.checkpoints += told.checkpoints;
                all.faults += told.faults;
                all.read += told.read;
                all.launches += told.launches;
                all.launches_failed += told.launches_failed;
            }
            Err(problem) => failures.push(format!("DRIFTLINE_SEED={seed}: {problem}")),
        }
    }
    println!("{} histories: {all:?}", seeds.end - seeds.start);
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    if seeds.end - seeds.start >= 100 {
        let count = (seeds.end - seeds.start) as usize;
        assert!(all.lives > count * 2 && all.checkpoints > count as u64 * 3, "{all:?}");
        assert!(all.faults > count as u64 && all.read > count as u64 / 6, "{all:?}");
        assert!(
            all.launches > count as u64 / 2 && all.launches_failed > count as u64 / 8,
            "{all:?}"
        );
    }
}

/// A simulation that finds nothing could be one that looks at nothing.
#[test]
fn a_host_that_keeps_what_comes_again_is_found_out() {
    let found = (0..20).filter(|seed| history_of(*seed, true).is_err()).count();
    assert!(found > 3, "{found} of 20");
}

#[test]
fn a_seed_is_one_history() {
    for seed in 1000..1015 {
        assert_eq!(history(seed), history(seed), "seed {seed}");
    }
}
