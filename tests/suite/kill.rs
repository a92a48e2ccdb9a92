//! A pipeline that is killed again and again, and what is left of it. Shared with the bench of recovery.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftline::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use driftline::{Checkpoints, Engine, Result};

/// Where a child finds its folder, and how many workers it has.
const FOLDER: &str = "DRIFTLINE_KILL_FOLDER";
const WORKERS: &str = "DRIFTLINE_KILL_WORKERS";

const ROWS: usize = 8_000;
const ROWS_PER_PUSH: usize = 20;
const LINES: usize = 4_000;
const LINES_PER_PUSH: usize = 10;
const HOSTS: usize = 8;
/// So that a run takes a few lives.
const PAUSE: Duration = Duration::from_millis(2);
/// A child that takes longer has hung.
const LIFE_MAX: Duration = Duration::from_secs(120);

/// All numbers are whole, so that sums do not depend on the order of rows.
const SETUP: &str = "
    CREATE SOURCE load (host TEXT, ts TIMESTAMP, cpu BIGINT, WATERMARK FOR ts AS ts - INTERVAL '3 seconds');
    CREATE SOURCE logs (host TEXT, ts TIMESTAMP, line TEXT, WATERMARK FOR ts AS ts - INTERVAL '3 seconds');
    CREATE DETECTOR odd USING robust_zscore PARTITION BY host WITH (history = 64) AS
      SELECT host, window_end, sum(cpu) AS cpu FROM TUMBLE(load, ts, INTERVAL '5 seconds')
      GROUP BY host, window_start, window_end;
    CREATE DETECTOR drift USING drift_insight PARTITION BY host WITH (training = 60, evolve_min = 10) AS
      SELECT host, window_end, max(cpu) AS peak, sum(cpu) AS cpu FROM TUMBLE(load, ts, INTERVAL '5 seconds')
      GROUP BY host, window_start, window_end;";

/// Statements that write to files in a folder.
fn inserts(folder: &Path) -> String {
    let sink = |name: &str, file: &str| {
        let path = folder.join(file);
        let path = path.display();
        format!("CREATE SINK {name} WITH (path = '{path}', publish = 'checkpoint');\n")
    };
    [
        sink("windows", "windows.ndjson"),
        sink("judged", "judged.csv"),
        sink("keys", "keys.ndjson"),
        sink("templates", "templates.ndjson"),
        sink("counted", "counted.csv"),
        // Two queries into one sink.
        "INSERT INTO windows SELECT host, window_end, count(*) AS n, sum(cpu) AS s, max(cpu) AS m
           FROM HOP(load, ts, INTERVAL '2 seconds', INTERVAL '10 seconds') GROUP BY host, window_start, window_end;
         INSERT INTO windows SELECT host, window_end, count(*) AS n, sum(cpu) AS s, max(cpu) AS m
           FROM SESSION(load, ts, INTERVAL '2 seconds' PARTITION BY host) GROUP BY host, window_start, window_end;
         INSERT INTO judged SELECT host, window_end, score, is_anomaly FROM odd;
         INSERT INTO judged SELECT host, window_end, score, is_anomaly FROM drift;
         INSERT INTO keys SELECT ts, host, log_key, template, parameters, elapsed
           FROM LOG_KEYS(logs, line, session => host, parser => 'spell');
         INSERT INTO keys SELECT ts, host, log_key, template, parameters, elapsed
           FROM LOG_KEYS(logs, line, session => host, parser => 'drain');
         INSERT INTO templates SELECT * FROM LOG_TEMPLATES(logs, line, parser => 'spell');
         INSERT INTO counted SELECT log_key, window_end, count(*) AS n
           FROM TUMBLE(LOG_KEYS(logs, line), ts, INTERVAL '10 seconds') GROUP BY log_key, window_start, window_end;"
            .to_owned(),
    ]
    .concat()
}

/// Rows from a place on: hosts that pause now and then, times out of order by less than the source allows.
fn rows(from: usize) -> RecordBatch {
    let (mut hosts, mut times, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for row in from..(from + ROWS_PER_PUSH).min(ROWS) {
        let second = (row / HOSTS) as i64;
        let host = (row * 5 + (second as usize / 20)) % HOSTS;
        let pause = (second / 30 + host as i64) % 4 == 0;
        hosts.push(format!("host {}", if pause { 0 } else { host }));
        times.push((second - (row * 7 % 3) as i64) * 1_000_000_000);
        let busy = (second / 50 + host as i64) % 3 == 0;
        values.push((row * 31 % 17) as i64 + if busy { 40 } else { 0 });
    }
    RecordBatch::try_from_iter_with_nullable([
        ("host", Arc::new(StringArray::from(hosts)) as ArrayRef, true),
        ("ts", Arc::new(TimestampNanosecondArray::from(times)), true),
        ("cpu", Arc::new(Int64Array::from(values)), true),
    ])
    .expect("the columns are of one length")
}

/// Lines from a place on: some of one time, some out of order, and now and then one of a kind that was not there before, or
/// one that makes a template more general.
fn lines(from: usize) -> RecordBatch {
    let (mut hosts, mut times, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for line in from..(from + LINES_PER_PUSH).min(LINES) {
        let (user, host) = (line * 7 % 13, line * 5 % HOSTS);
        let age = line / 400;
        hosts.push(format!("host {host}"));
        times.push(((line / 4) as i64 - (line * 7 % 3) as i64) * 1_000_000_000);
        lines.push(match line % 7 {
            0 => format!("session {line} opened for user u{user}"),
            1 => format!("sent {} bytes to 10.0.0.{host}", line * 31 % 9973),
            2 => format!("Sent message to node{host} after {user} tries"),
            3 => format!(
                "stage {} of job finished in {} ms",
                ["one", "two", "three"][line % 3],
                line % 97
            ),
            4 => format!(
                "disk sd{} of age{age} is {} percent full",
                ["a", "b", "c"][line % 3],
                line % 101
            ),
            5 => format!("task{age} of kind{age} began again"),
            _ => "heartbeat".to_owned(),
        });
    }
    RecordBatch::try_from_iter_with_nullable([
        ("host", Arc::new(StringArray::from(hosts)) as ArrayRef, true),
        ("ts", Arc::new(TimestampNanosecondArray::from(times)), true),
        ("line", Arc::new(StringArray::from(lines)), true),
    ])
    .expect("the columns are of one length")
}

/// One life of the pipeline: goes on from where the last one was killed, to the end of the rows.
fn live(folder: &Path, workers: usize, pause: Duration) -> Result<()> {
    let checkpoints = Checkpoints::in_folder(folder.join("state"))?;
    let checkpoints = checkpoints.every(Duration::from_millis(7));
    let engine = Engine::builder().workers(workers).checkpoints(checkpoints).build()?;
    engine.execute(SETUP)?;
    engine.execute(&inserts(&folder.join("out")))?;
    let (load, logs) = (engine.source("load")?, engine.source("logs")?);
    let (mut row, mut line) = (load.resume_at() as usize, logs.resume_at() as usize);
    while row < ROWS || line < LINES {
        if row < ROWS {
            load.push(rows(row))?;
            row += ROWS_PER_PUSH;
        }
        if line < LINES {
            logs.push(lines(line))?;
            line += LINES_PER_PUSH;
        }
        std::thread::sleep(pause);
    }
    engine.shutdown()
}

/// The rows of all published files, and how often each is there. Each file begins with its sink's name.
fn published(folder: &Path) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder.join("out")).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("names are text");
        assert!(!name.ends_with(".set_aside"), "{name}: nothing was published too early");
        let Some((sink, ending)) = name.split_once('-') else { continue };
        if !ending.ends_with(".ndjson") && !ending.ends_with(".csv") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a published file is whole");
        let header = usize::from(ending.ends_with(".csv"));
        for line in text.lines().skip(header) {
            *found.entry(format!("{sink}: {line}")).or_insert(0) += 1;
        }
    }
    found
}

/// What killing has done.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) kills: usize,
    /// Rows that a run without a kill has published, and these have not.
    pub(crate) lost: usize,
    /// The other way about.
    pub(crate) doubled: usize,
    pub(crate) rows: usize,
    /// The first few rows of both kinds.
    pub(crate) examples: Vec<String>,
}

fn fresh() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    std::fs::create_dir(folder.path().join("out")).expect("a folder can be made");
    folder
}

/// Runs the pipeline as often as it takes for so many kills, each at a moment drawn from the seed.
pub(crate) fn kill_at_random(kills: usize, seed: u64, child: impl Fn() -> Command) -> Outcome {
    let whole = fresh();
    live(whole.path(), 2, Duration::ZERO).expect("nobody kills it");
    let expected = published(whole.path());
    let mut outcome = Outcome { rows: expected.values().sum(), ..Outcome::default() };
    let mut state = seed;
    while outcome.kills < kills {
        let folder = fresh();
        let mut is_over = false;
        while !is_over {
            let mut command = child();
            // Each life has workers of its own.
            let workers = 1 + (state >> 40) % 3;
            command.env(FOLDER, folder.path()).env(WORKERS, workers.to_string());
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let mut life = command.spawn().expect("this program can be started");
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            // Some die before they have begun.
            let length = match outcome.kills < kills {
                true => Duration::from_micros(20_000 + (state >> 33) % 600_000),
                false => LIFE_MAX,
            };
            let begun = Instant::now();
            loop {
                if let Some(status) = life.try_wait().expect("it is a child") {
                    assert!(status.success(), "a life ended by itself: {status}");
                    is_over = true;
                    break;
                }
                if begun.elapsed() >= length {
                    assert!(length < LIFE_MAX, "the last life hangs");
                    // On Unix, SIGKILL.
                    life.kill().expect("it runs");
                    life.wait().expect("it has been killed");
                    outcome.kills += 1;
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let found = published(folder.path());
        for row in expected.keys().chain(found.keys()).collect::<std::collections::BTreeSet<_>>() {
            let count = |rows: &BTreeMap<String, usize>| rows.get(row).copied().unwrap_or(0);
            let (wanted, is) = (count(&expected), count(&found));
            outcome.lost += wanted.saturating_sub(is);
            outcome.doubled += is.saturating_sub(wanted);
            if wanted != is && outcome.examples.len() < 20 {
                outcome.examples.push(format!("{is} instead of {wanted} times {row}"));
            }
        }
    }
    outcome
}

/// What a child does: one life in the folder that it is told, if it is told one.
pub(crate) fn live_as_child() -> Option<Result<()>> {
    let folder = std::env::var_os(FOLDER)?;
    let workers = std::env::var(WORKERS).ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    Some(live(Path::new(&folder), workers, PAUSE))
}
