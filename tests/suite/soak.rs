//! A mixed load that runs for as long as it is told, and what memory does meanwhile. Shared with the bench of the same name.
//!
//! Keys come and go within a bounded domain, queries are created and dropped, one reader reads in bursts, rows are late or
//! have no time, a checkpoint is taken every second, and now and then the engine dies and goes on from the last of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use driftline::arrow::array::RecordBatch;
use driftline::{Callback, Checkpoints, Engine, QueryMetrics, Result, Settings, Source};

#[path = "soak_rows.rs"]
mod soak_rows;

use soak_rows::{ROWS_PER_PUSH, rows};

/// A push of a source, of two seconds of event time, is made so often: twenty times as fast as the clock.
const PUSH_EVERY: Duration = Duration::from_millis(100);
/// So many pushes are made as fast as they are taken, until every state is as large as it becomes.
const FIRST_PUSHES: u64 = 200;
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// How often a query that nobody else has comes, and for how long it stays.
const VISIT_EVERY: Duration = Duration::from_millis(2_500);
const VISIT: Duration = Duration::from_millis(1_500);
/// The slow reader takes nothing for so long, and then all there is.
const NAP: Duration = Duration::from_secs(2);
const GLANCE: Duration = Duration::from_millis(20);
/// An engine lives for a part of the run: of an hour twelve minutes, so that what grows within a life is seen to.
const LIVES: u32 = 5;

/// Has glibc serve all threads from one heap: each engine has new threads, and every heap keeps room for the most that the
/// threads before had needed. Read when a process starts.
pub(crate) const ONE_HEAP: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

/// What memory may have grown by, in percent of what it was: the last fifth of the run, or of a life, against its second.
pub(crate) const GROWTH_PERCENT_MAX: f64 = 10.0;

const SOURCES: [&str; 3] = ["load", "calls", "logs"];
const SETUP: &str = "
    CREATE SOURCE load (ts TIMESTAMP, host TEXT, cpu DOUBLE, mem DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '5 seconds');
    CREATE SOURCE calls (ts TIMESTAMP, host TEXT, caller TEXT, bytes BIGINT, WATERMARK FOR ts AS ts - INTERVAL '5 seconds');
    CREATE SOURCE logs (ts TIMESTAMP, host TEXT, line TEXT, WATERMARK FOR ts AS ts - INTERVAL '5 seconds');
    CREATE DETECTOR odd USING robust_zscore PARTITION BY host WITH (history = 64) AS
      SELECT host, window_end, avg(cpu) AS cpu FROM TUMBLE(load, ts, INTERVAL '2 seconds')
      GROUP BY host, window_start, window_end;
    CREATE DETECTOR drift USING drift_insight PARTITION BY host WITH (training = 60, evolve_min = 10) AS
      SELECT host, window_end, avg(cpu) AS cpu, max(mem) AS mem FROM TUMBLE(load, ts, INTERVAL '2 seconds')
      GROUP BY host, window_start, window_end";

/// Queries that live as long as their engine.
const QUERIES: [(&str, &str); 12] = [
    ("hop", "SELECT host, window_end, count(*) AS n, avg(cpu) AS cpu, max(mem) AS mem
       FROM HOP(load, ts, INTERVAL '5 seconds', INTERVAL '1 minute') GROUP BY host, window_start, window_end"),
    ("session", "SELECT host, caller, window_end, count(*) AS n, sum(bytes) AS bytes
       FROM SESSION(calls, ts, INTERVAL '10 seconds' PARTITION BY host, caller) GROUP BY host, caller, window_start, window_end"),
    ("join", "SELECT a.ts, a.host, a.cpu, b.caller, b.bytes FROM load a JOIN calls b
       ON a.host = b.host AND b.ts BETWEEN a.ts - INTERVAL '5 seconds' AND a.ts"),
    ("asof", "SELECT a.ts, a.host, b.bytes FROM load a ASOF JOIN calls b MATCH_CONDITION (a.ts >= b.ts) ON a.host = b.host"),
    ("over", "SELECT ts, host, avg(cpu) OVER (PARTITION BY host ORDER BY ts ROWS 20 PRECEDING) AS mean,
       max(mem) OVER (PARTITION BY host ORDER BY ts RANGE INTERVAL '1 minute' PRECEDING) AS most FROM load"),
    ("distinct", "SELECT DISTINCT host, ts FROM calls"),
    ("retained", "SELECT caller, count(*) AS n, sum(bytes) AS bytes FROM calls GROUP BY caller
       EMIT ON UPDATE RETAIN INTERVAL '2 minutes'"),
    ("late", "SELECT ts, reason FROM LATE(load)"),
    ("odd", "SELECT host, window_end, score, is_anomaly FROM odd"),
    ("drift", "SELECT host, window_end, score, is_anomaly FROM drift"),
    ("keys", "SELECT log_key, window_end, count(*) AS n, avg(elapsed) AS pause
       FROM TUMBLE(LOG_KEYS(logs, line, session => host, parser => 'drain', sessions_max => 60), ts, INTERVAL '10 seconds')
       GROUP BY log_key, window_start, window_end"),
    ("templates", "SELECT * FROM LOG_TEMPLATES(logs, line, parser => 'spell', templates_max => 100)"),
];

/// Read in bursts.
const SLOW: &str = "SELECT ts, host, caller, bytes * 2 AS bytes FROM calls";
/// What comes and goes.
const VISITOR: &str =
    "CREATE DETECTOR visitor USING ewma PARTITION BY host AS SELECT ts, host, mem FROM load";
const VISITS: [&str; 2] = [
    "SELECT host, ts, score FROM visitor",
    "SELECT host, window_end, count(*) AS n FROM TUMBLE(load, ts, INTERVAL '7 seconds') GROUP BY host, window_start, window_end",
];

/// What was seen at one moment. The bench draws all of it.
#[allow(dead_code)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Since the beginning of the run.
    pub(crate) seconds: f64,
    /// Bytes of this process that are in memory, its program file left out.
    pub(crate) resident: u64,
    /// Bytes that the engine charges: see `Metrics::memory_bytes`.
    pub(crate) charged: u64,
    /// Bytes on their way in.
    pub(crate) ingress: u64,
    /// Bytes that wait for readers.
    pub(crate) waiting: u64,
    /// Epochs closed and not worked through.
    pub(crate) epochs: u64,
}

/// What a run has come to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) samples: Vec<Sample>,
    /// Rows pushed, those that were pushed again among them.
    pub(crate) rows: u64,
    /// Rows that each query has given, and the slow reader.
    pub(crate) results: Vec<(&'static str, u64)>,
    /// When engines went on from a checkpoint, in seconds since the beginning.
    pub(crate) restarts: Vec<f64>,
    pub(crate) checkpoints: u64,
    pub(crate) late: u64,
    pub(crate) malformed: u64,
    pub(crate) visits: u64,
    /// State of each query at two fifths of the last life and at its end, in bytes. The bench tells it.
    #[allow(dead_code)]
    pub(crate) states: Vec<(String, u64, u64)>,
}

impl Sample {
    /// What the engine charges for state.
    pub(crate) fn state(&self) -> u64 {
        self.charged.saturating_sub(self.ingress + self.waiting)
    }
}

impl Outcome {
    /// By how many percent a quantity has grown over the run.
    pub(crate) fn growth_percent(&self, of: impl Fn(&Sample) -> u64) -> f64 {
        growth_percent(&self.samples, of)
    }

    /// By how many percent it has grown between two restarts, where it has grown most. The lives of a bench are long enough.
    #[allow(dead_code)]
    pub(crate) fn life_growth_percent(&self, of: impl Fn(&Sample) -> u64) -> f64 {
        let mut ends = self.restarts.clone();
        ends.push(f64::INFINITY);
        let mut rest = self.samples.as_slice();
        let lives = ends.into_iter().map(|end| {
            let (life, others) = rest.split_at(rest.partition_point(|sample| sample.seconds < end));
            rest = others;
            growth_percent(life, &of)
        });
        lives.fold(f64::NAN, f64::max)
    }

    /// What is wrong with it, beside memory: whatever has not happened has not been tested.
    pub(crate) fn problems(&self) -> Vec<String> {
        let silent = self.results.iter().filter(|(_, rows)| *rows == 0);
        let mut problems: Vec<String> =
            silent.map(|(query, _)| format!("query {query} has given no row")).collect();
        for (what, count) in [
            ("row was late", self.late),
            ("row had no time", self.malformed),
            ("query came and went", self.visits),
            ("engine went on from a checkpoint", self.restarts.len() as u64),
            ("checkpoint was taken", self.checkpoints),
        ] {
            if count == 0 {
                problems.push(format!("no {what}"));
            }
        }
        problems
    }
}

/// The median of the last fifth of some samples against that of the second.
fn growth_percent(samples: &[Sample], of: impl Fn(&Sample) -> u64) -> f64 {
    let fifth = samples.len() / 5;
    let median = |samples: &[Sample]| {
        let mut values: Vec<u64> = samples.iter().map(&of).collect();
        values.sort_unstable();
        values.get(values.len() / 2).map_or(f64::NAN, |&value| value as f64)
    };
    let before = median(&samples[fifth..2 * fifth]);
    100.0 * (median(&samples[samples.len() - fifth..]) - before) / before
}

/// Runs the load for so long, with checkpoints and a sink in a folder.
pub(crate) fn run(length: Duration, folder: &Path) -> Result<Outcome> {
    let begun = Instant::now();
    let mut outcome = Outcome::default();
    let counts: Vec<_> = QUERIES.iter().map(|_| Arc::new(AtomicU64::new(0))).collect();
    let slow = AtomicU64::new(0);
    while begun.elapsed() < length {
        let engine = start(folder)?;
        if engine.restored().is_some() {
            outcome.restarts.push(begun.elapsed().as_secs_f64());
        }
        let mut callbacks = Vec::new();
        for ((_, query), count) in QUERIES.iter().zip(&counts) {
            let count = Arc::clone(count);
            callbacks.push(engine.subscribe_with(query, move |rows: RecordBatch| {
                count.fetch_add(rows.num_rows() as u64, Ordering::Relaxed);
            })?);
        }
        let until = (begun.elapsed() + length / LIVES).min(length);
        live(&engine, &mut outcome, &slow, begun, until)?;
        end(engine, callbacks, &mut outcome, begun.elapsed() >= length)?;
    }
    let given =
        QUERIES.iter().zip(&counts).map(|((name, _), n)| (*name, n.load(Ordering::Relaxed)));
    outcome.results = given.chain([("slow reader", slow.load(Ordering::Relaxed))]).collect();
    Ok(outcome)
}

fn start(folder: &Path) -> Result<Engine> {
    let checkpoints = Checkpoints::in_folder(folder.join("state"))?;
    let checkpoints = checkpoints.every(Duration::from_secs(1));
    // Bounds that the load reaches, so that what is at a bound is run as well. Where the machine has other things to do rows
    // wait up to theirs, which must not look like growth.
    let settings = Settings {
        workers: 2,
        ingress_bytes_max: 256 << 10,
        subscription_bytes_max: 256 << 10,
        keyed_state_max: 40,
        models_max: 32,
        ..Settings::default()
    };
    let engine = Engine::builder().settings(settings).checkpoints(checkpoints).build()?;
    engine.execute(SETUP)?;
    let path = folder.join("minutes.csv");
    engine.execute(&format!(
        "CREATE SINK minutes WITH (path = '{}', publish = 'checkpoint');
         INSERT INTO minutes SELECT caller, window_end, count(*) AS n, sum(bytes) AS bytes
           FROM CUMULATE(calls, ts, INTERVAL '20 seconds', INTERVAL '1 minute') GROUP BY caller, window_start, window_end",
        path.display()
    ))?;
    Ok(engine)
}

/// One engine's life: rows flow, and this thread looks on.
fn live(
    engine: &Engine,
    outcome: &mut Outcome,
    slow: &AtomicU64,
    begun: Instant,
    until: Duration,
) -> Result<()> {
    let (stop, pushed, visits) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (early, mut states) = (begun.elapsed() + (until - begun.elapsed()) * 2 / 5, None);
    let ended = std::thread::scope(|scope| {
        let threads = [
            scope.spawn(|| push(engine, &stop, &pushed)),
            scope.spawn(|| visit(engine, &stop, &visits)),
            scope.spawn(|| read_slowly(engine, &stop, slow)),
        ];
        while begun.elapsed() < until && threads.iter().all(|thread| !thread.is_finished()) {
            std::thread::sleep(SAMPLE_EVERY);
            let metrics = engine.metrics();
            let of_query = |query: &QueryMetrics| (query.name.clone(), query.state_bytes);
            let now: BTreeMap<String, u64> = metrics.queries.iter().map(of_query).collect();
            if begun.elapsed() >= early {
                let first = states.get_or_insert_with(|| now.clone());
                let lasting = now
                    .iter()
                    .filter_map(|(name, bytes)| Some((name.clone(), *first.get(name)?, *bytes)));
                outcome.states = lasting.collect();
            }
            outcome.samples.push(Sample {
                seconds: begun.elapsed().as_secs_f64(),
                resident: resident(),
                charged: metrics.memory_bytes,
                ingress: metrics.ingress_bytes,
                waiting: metrics.queries.iter().map(|query| query.waiting_bytes).sum(),
                epochs: metrics.epochs_in_flight,
            });
        }
        stop.store(true, Ordering::Relaxed);
        let end = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.map(end)
    });
    outcome.rows += pushed.load(Ordering::Relaxed);
    outcome.visits += visits.load(Ordering::Relaxed);
    ended.into_iter().collect()
}

/// Counts what an engine has done, and lets it die, or end with the run.
fn end(
    engine: Engine,
    callbacks: Vec<Callback>,
    outcome: &mut Outcome,
    is_last: bool,
) -> Result<()> {
    let metrics = engine.metrics();
    let sources = metrics.sources.iter();
    // Counts go on over restarts.
    outcome.late = sources.clone().map(|source| source.rows_late).sum();
    outcome.malformed = sources.map(|source| source.rows_malformed).sum();
    let checkpoints = metrics.checkpoints.unwrap_or_default();
    outcome.checkpoints += checkpoints.taken;
    assert_eq!(checkpoints.failed, 0, "{:?}", checkpoints.last_error);
    if is_last {
        engine.shutdown()?;
        return callbacks.into_iter().try_for_each(Callback::join);
    }
    // As if the process had died: what came after the last checkpoint is pushed again.
    drop(engine);
    Ok(())
}

/// Pushes rows into all sources, from where each of them stands.
fn push(engine: &Engine, stop: &AtomicBool, pushed: &AtomicU64) -> Result<()> {
    let sources = SOURCES.map(|name| engine.source(name));
    let sources: Vec<Source> = sources.into_iter().collect::<Result<_>>()?;
    let mut places: Vec<u64> =
        sources.iter().map(|source| source.resume_at() / ROWS_PER_PUSH as u64).collect();
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        // A checkpoint may have come between two sources.
        let step = places.iter().copied().min().unwrap_or_default();
        for (index, (source, place)) in sources.iter().zip(&mut places).enumerate() {
            if *place == step {
                source.push(rows(index, step as usize))?;
                pushed.fetch_add(ROWS_PER_PUSH as u64, Ordering::Relaxed);
                *place += 1;
            }
        }
        if step >= FIRST_PUSHES {
            // Time lost to backpressure is not made up for.
            due = (due + PUSH_EVERY).max(Instant::now());
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    Ok(())
}

/// A detector and two queries that come and go.
fn visit(engine: &Engine, stop: &AtomicBool, visits: &AtomicU64) -> Result<()> {
    while !pause(stop, VISIT_EVERY - VISIT) {
        engine.execute(VISITOR)?;
        let guests = VISITS.map(|query| engine.subscribe(query));
        let mut guests = guests.into_iter().collect::<Result<Vec<_>>>()?;
        let begun = Instant::now();
        while begun.elapsed() < VISIT && !pause(stop, GLANCE) {
            for guest in &mut guests {
                while guest.try_next()?.is_some() {}
            }
        }
        drop(guests);
        engine.execute("DROP DETECTOR visitor")?;
        visits.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Takes nothing for a while, and then all there is.
fn read_slowly(engine: &Engine, stop: &AtomicBool, rows: &AtomicU64) -> Result<()> {
    let mut results = engine.subscribe(SLOW)?;
    while !pause(stop, NAP) {
        while let Some(batch) = results.try_next()? {
            rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Waits, not much beyond the end of a life; whether that has come.
fn pause(stop: &AtomicBool, length: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < length && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(GLANCE.min(length));
    }
    stop.load(Ordering::Relaxed)
}

/// Bytes of this process that are in memory, where the system tells; else 0. Pages of its program file are not among them:
/// they come with what is called first, and go when the system wants them.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}
