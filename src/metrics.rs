//! What an engine counts, as plain structs that a host can print, serialize or export.

use std::fmt;

use driftline_operators::detector::TrainingState;
use driftline_operators::inference::ServiceStatistics;
use serde::Serialize;

use crate::source::EventTime;

/// Counts and levels of an engine at one moment; see [`Engine::metrics`](crate::Engine::metrics).
///
/// ```
/// use driftline::{Engine, Metrics};
///
/// let engine = Engine::builder().build()?;
/// engine.execute("CREATE SOURCE s (n BIGINT); INSERT INTO s VALUES (1), (2)")?;
/// let metrics: Metrics = engine.metrics();
/// assert_eq!(metrics.source("s").map(|source| source.rows), Some(2));
/// # Ok::<(), driftline::Error>(())
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Metrics {
    /// The epoch that is open.
    pub epoch: u64,
    /// Epochs closed and not worked through.
    pub epochs_in_flight: u64,
    /// Bytes pushed and not worked through.
    pub ingress_bytes: u64,
    /// Bytes of rows on their way in, of state, and of results that wait for readers, estimated; what
    /// [`Settings::memory_bytes_max`](crate::Settings::memory_bytes_max) bounds.
    pub memory_bytes: u64,
    /// Pushes that were refused at that bound.
    pub pushes_refused: u64,
    /// What checkpoints have cost; `None` for an engine that takes none.
    pub checkpoints: Option<CheckpointMetrics>,
    /// One entry per source, by name.
    pub sources: Vec<SourceMetrics>,
    /// One entry per running query, detectors among them, in order of their start.
    pub queries: Vec<QueryMetrics>,
    /// What workers have sent one another.
    pub traffic: TrafficMetrics,
    /// The inference service; none before a detector's network was placed on it.
    pub inference: Option<InferenceMetrics>,
}

impl Metrics {
    /// The source called `name`.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<&SourceMetrics> {
        self.sources.iter().find(|source| source.name == name)
    }

    /// The detector called `name`.
    #[must_use]
    pub fn detector(&self, name: &str) -> Option<&QueryMetrics> {
        let name = format!("detector \"{name}\"");
        self.queries.iter().find(|query| query.name == name)
    }
}

/// What workers have sent one another since the engine started; one worker sends nothing but progress, to itself.
///
/// ```
/// use driftline::{Engine, TrafficMetrics};
///
/// let engine = Engine::builder().workers(2).build()?;
/// engine.execute("CREATE SOURCE s (k TEXT, ts TIMESTAMP, WATERMARK FOR ts)")?;
/// let counts = engine.subscribe(
///     "SELECT k, count(*) AS n FROM TUMBLE(s, ts, INTERVAL '1 minute') GROUP BY k, window_start, window_end",
/// )?;
/// engine.execute("INSERT INTO s VALUES ('a', '2024-01-01 00:00:00'), ('b', '2024-01-01 00:02:00')")?;
/// engine.drain()?;
/// let traffic: TrafficMetrics = engine.metrics().traffic;
/// assert!(traffic.progress > 0 && traffic.progress_changes >= traffic.progress);
/// # drop(counts);
/// # Ok::<(), driftline::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TrafficMetrics {
    /// Messages with rows, from one worker to another.
    pub messages: u64,
    /// Broadcasts of progress; each goes to every worker.
    pub progress: u64,
    /// Changes of counts in these, some 30 bytes each.
    pub progress_changes: u64,
}

/// Counts of checkpoints.
///
/// ```
/// use driftline::{CheckpointMetrics, Checkpoints, Engine};
///
/// let folder = tempfile::tempdir()?;
/// let engine = Engine::builder().checkpoints(Checkpoints::in_folder(folder.path())?).build()?;
/// engine.checkpoint()?;
/// let checkpoints: CheckpointMetrics = engine.metrics().checkpoints.unwrap();
/// assert_eq!((checkpoints.taken, checkpoints.failed), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CheckpointMetrics {
    /// Checkpoints taken by this engine.
    pub taken: u64,
    /// Checkpoints that could not be taken, on demand or when their time had come.
    pub failed: u64,
    /// What the last of these failed with.
    pub last_error: Option<String>,
    /// Bytes written, unchanged parts not among them.
    pub bytes_written: u64,
    /// How long the last one took until it was durable.
    pub last_millis: f64,
    /// For how long workers took no rows during the last one.
    pub last_stall_millis: f64,
}

/// Counts of one source.
///
/// ```
/// use driftline::{Engine, EventTime, SourceMetrics};
///
/// let engine = Engine::builder().build()?;
/// engine.execute("CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS ts)")?;
/// let read = engine.subscribe("s")?;
/// for time in ["1970-01-01 00:00:09", "1970-01-01 00:00:08"] {
///     engine.execute(&format!("INSERT INTO s VALUES ('{time}')"))?;
///     engine.drain()?;
/// }
/// let metrics = engine.metrics();
/// let source: &SourceMetrics = metrics.source("s").expect("it was created");
/// assert_eq!((source.rows, source.rows_late), (2, 1));
/// assert_eq!(source.watermark, EventTime(9_000_000_000));
/// # Ok::<(), driftline::Error>(())
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SourceMetrics {
    /// Its name.
    pub name: String,
    /// Rows pushed, late and malformed ones among them.
    pub rows: u64,
    /// Batches pushed.
    pub batches: u64,
    /// Rows below the watermark, as far as a query read the source when they came. They went to `LATE(source)`.
    pub rows_late: u64,
    /// Rows without a usable event time, likewise, and rows of files that could not be read.
    pub rows_malformed: u64,
    /// The watermark, allowed lateness taken off.
    pub watermark: EventTime,
}

/// Counts of one query, summed over workers.
///
/// ```
/// use driftline::{Engine, QueryMetrics};
///
/// let engine = Engine::builder().build()?;
/// engine.execute("CREATE SOURCE s (n BIGINT)")?;
/// let results = engine.subscribe("SELECT 10 / n AS share FROM s")?;
/// engine.execute("INSERT INTO s VALUES (0), (5)")?;
/// engine.drain()?;
/// let metrics = engine.metrics();
/// let query: &QueryMetrics = &metrics.queries[0];
/// assert_eq!((query.rows_in, query.rows_out, query.rows_failed), (2, 1, 1));
/// assert!(query.first_row_error.as_ref().unwrap().to_lowercase().contains("divide by zero"));
/// # Ok::<(), driftline::Error>(())
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct QueryMetrics {
    /// `detector "name"`, `subscription N` or `insert N into "name"`.
    pub name: String,
    /// Rows read.
    pub rows_in: u64,
    /// Rows given out.
    pub rows_out: u64,
    /// Rows left out because an expression failed on them; see [`QueryMetrics::first_row_error`].
    pub rows_failed: u64,
    /// Rows left out because a bound was reached: groups, panes, rows that wait for the watermark, or, in a window over
    /// windows, the last moment that a row may carry.
    pub rows_refused: u64,
    /// Windows closed; a window counts once for each worker that holds keys of it.
    pub windows_closed: u64,
    /// Models held.
    pub models: u64,
    /// Models that score, out of those: past warming up and, for `drift_insight`, steady.
    pub models_ready: u64,
    /// Models built as a whole, again or for the first time.
    pub rebuilds: u64,
    /// Milliseconds that these took in all, on background threads or workers.
    pub rebuild_millis: f64,
    /// How far a model has come that is being trained now.
    pub training: Option<TrainingState>,
    /// Models dropped because there were more keys than the bound allows.
    pub models_evicted: u64,
    /// Keys held by operators whose state no window ends, such as the partitions of an OVER; models of detectors are not
    /// among them.
    pub keys: u64,
    /// Keys of these that made room for others; see [`Settings::keyed_state_policy`](crate::Settings::keyed_state_policy).
    pub keys_evicted: u64,
    /// Rows found anomalous.
    pub anomalies: u64,
    /// Bytes of state, estimated as of the last closed window or epoch.
    pub state_bytes: u64,
    /// Bytes that wait for the reader.
    pub waiting_bytes: u64,
    /// What the first row that an expression failed on had to say.
    pub first_row_error: Option<String>,
}

/// Counts of the service that scores networks on a device; see [`inference`](crate::inference) for an example.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct InferenceMetrics {
    /// The device: the host's own by its `Debug`, or what kind of GPU there is.
    pub device: String,
    /// Rows that wait.
    pub queued_rows: u64,
    /// Requests of workers that were answered.
    pub requests: u64,
    /// Requests that found the queue full and came again later.
    pub refused: u64,
    /// Times that rows were scored together, on the device or in its stead.
    pub launches: u64,
    /// Rows scored.
    pub rows: u64,
    /// Rows of a launch, in the mean.
    pub rows_per_launch: f64,
    /// Milliseconds of a launch, in the mean, fallbacks among them.
    pub millis_per_launch: f64,
    /// Rows for each second of launches.
    pub rows_per_second: f64,
    /// Launches that failed on the device.
    pub failures: u64,
    /// Launches that the processor made up for: those that failed, and all since the device was given up.
    pub fallbacks: u64,
    /// Whether the device was given up.
    pub is_given_up: bool,
    /// What the device said when it failed last.
    pub problem: Option<String>,
}

impl InferenceMetrics {
    pub(crate) fn new(device: String, statistics: ServiceStatistics) -> Self {
        let ServiceStatistics { launches, rows, launch_ns, .. } = statistics;
        let share = |of: f64, by: f64| if by > 0.0 { of / by } else { 0.0 };
        Self {
            device,
            queued_rows: statistics.queued_rows,
            requests: statistics.requests,
            refused: statistics.refused,
            launches,
            rows,
            rows_per_launch: share(rows as f64, launches as f64),
            millis_per_launch: share(launch_ns as f64 / 1e6, launches as f64),
            rows_per_second: share(rows as f64, launch_ns as f64 / 1e9),
            failures: statistics.failures,
            fallbacks: statistics.fallbacks,
            is_given_up: statistics.is_given_up,
            problem: statistics.problem,
        }
    }
}

impl fmt::Display for InferenceMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Inference service on {}: {} rows in {} launches, {:.1} rows and {:.3} ms each, {:.0} rows per second, {} rows \
             wait",
            self.device,
            self.rows,
            self.launches,
            self.rows_per_launch,
            self.millis_per_launch,
            self.rows_per_second,
            self.queued_rows,
        )?;
        for (figure, what) in [
            (self.refused, "requests refused"),
            (self.failures, "failures"),
            (self.fallbacks, "fallbacks to the processor"),
        ] {
            if figure > 0 {
                write!(f, ", {figure} {what}")?;
            }
        }
        match &self.problem {
            Some(problem) => write!(f, "; the last failure: {problem}"),
            None => Ok(()),
        }
    }
}
