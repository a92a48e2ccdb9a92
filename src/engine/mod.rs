//! The engine: what a host holds, and what every handle shares.

mod builder;
mod core;
mod explain;
mod registry;
mod show;
mod statements;

use std::fmt;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use driftline_operators::detectors::DetectorSpec;
use driftline_queries::{ExplainFormat, Query, Statement};

pub use builder::EngineBuilder;
pub(crate) use core::Core;
pub(crate) use registry::{QueryRecord, SourceObject};

use crate::analysis::Analysis;
use crate::checkpoint::{Checkpoint, Coordinator};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::source::{Source, SourceDefinition};
use crate::subscription::{Callback, Subscription};
use crate::table::TableObject;

/// A running engine: worker threads, and the sources, views, detectors, sinks and queries that it holds.
///
/// All methods take `&self` and may be called from any thread. Dropping the engine stops it where it is; use
/// [`Engine::shutdown`] to let everything finish.
///
/// ```
/// use std::sync::Arc;
/// use driftline::arrow::array::{Float64Array, RecordBatch, TimestampNanosecondArray};
/// use driftline::Engine;
///
/// let engine = Engine::builder().workers(2).build()?;
/// engine.execute(
///     "CREATE SOURCE load (ts TIMESTAMP, cpu DOUBLE,
///        WATERMARK FOR ts AS ts - INTERVAL '1 second');
///      CREATE DETECTOR odd USING robust_zscore WITH (history = 64) AS
///        SELECT window_end, avg(cpu) AS cpu
///        FROM TUMBLE(load, ts, INTERVAL '10 seconds')
///        GROUP BY window_start, window_end",
/// )?;
/// let anomalies = engine.subscribe("SELECT window_end, cpu FROM odd WHERE is_anomaly")?;
///
/// let second = 1_000_000_000;
/// let times = TimestampNanosecondArray::from_iter_values((0..2000).map(|i| i * second));
/// let spike = |i: i64| if i / 10 == 150 { 0.99 } else { 0.2 + 0.001 * (i % 7) as f64 };
/// let cpu = Float64Array::from_iter_values((0..2000).map(spike));
/// let source = engine.source("load")?;
/// source.push(RecordBatch::try_new(source.schema(), vec![Arc::new(times), Arc::new(cpu)])?)?;
/// engine.shutdown()?;
///
/// let found: Vec<_> = anomalies.collect::<Result<_, _>>()?;
/// assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Engine {
    core: Arc<Core>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("settings", self.settings()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts to describe an engine.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// The numbers that it was built with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        self.core.ingress.settings()
    }

    /// Executes statements, separated by semicolons, one after the other. Statements that answer, such as SHOW and
    /// EXPLAIN, add a batch to the result; the others add nothing.
    ///
    /// A SELECT has no end, so that it is refused here: see [`Engine::subscribe`].
    ///
    /// ```
    /// use driftline::Engine;
    ///
    /// let engine = Engine::builder().build()?;
    /// let shown = engine.execute("CREATE SOURCE s (n BIGINT); SHOW SOURCES")?;
    /// assert_eq!(shown.len(), 1);
    /// assert_eq!(shown[0].num_rows(), 1);
    /// # Ok::<(), driftline::Error>(())
    /// ```
    ///
    /// # Errors
    /// Of the first statement that fails; those before it stay in force. A script that cannot be parsed has no
    /// effect at all.
    pub fn execute(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        self.core.ingress.check()?;
        let mut answers = Vec::new();
        for parsed in driftline_queries::parse_script(sql)? {
            answers.extend(statements::execute(&self.core, parsed)?);
        }
        Ok(answers)
    }

    /// Creates a source from a typed definition, as CREATE SOURCE does from text.
    ///
    /// # Errors
    /// If the definition is inconsistent or the name is taken.
    pub fn create_source(&self, definition: SourceDefinition) -> Result<Source> {
        let object = self.core.create_source(definition, None)?;
        Ok(Source::new(Arc::clone(&self.core), object))
    }

    /// Creates a table of these rows, as CREATE TABLE does from a file: what a stream is joined with. With `replace` one
    /// of the name may be there already; queries that run keep the rows that they began with.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use driftline::Engine;
    /// use driftline::arrow::array::{ArrayRef, RecordBatch, StringArray};
    ///
    /// let engine = Engine::builder().build()?;
    /// let text = |values: [&str; 2]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    /// let hosts = [("host", text(["web-1", "web-2"])), ("region", text(["eu", "us"]))];
    /// engine.create_table("hosts", RecordBatch::try_from_iter(hosts)?, false)?;
    /// engine.execute("CREATE SOURCE load (host TEXT, cpu DOUBLE)")?;
    /// let placed = engine.subscribe(
    ///     "SELECT h.region, l.cpu FROM load AS l JOIN hosts AS h ON l.host = h.host",
    /// )?;
    /// engine.execute("INSERT INTO load VALUES ('web-2', 0.5), ('web-3', 0.6)")?;
    /// engine.shutdown()?;
    /// let rows: usize = placed.map(|rows| rows.map_or(0, |rows| rows.num_rows())).sum();
    /// assert_eq!(rows, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the name is taken, or the rows have more bytes than [`Settings::table_bytes_max`].
    pub fn create_table(&self, name: &str, rows: RecordBatch, replace: bool) -> Result<()> {
        let mut table = TableObject::empty(rows.schema());
        table.append(name, rows, self.settings().table_bytes_max)?;
        self.core.put_table(name, table, replace)
    }

    /// Creates a detector from a typed builder, as CREATE DETECTOR does from text. `query` is the SELECT it reads,
    /// or the name of a relation.
    ///
    /// ```
    /// use driftline::detectors::{DetectorBuilder, Ewma};
    /// use driftline::Engine;
    ///
    /// let engine = Engine::builder().build()?;
    /// engine.execute("CREATE SOURCE load (host TEXT, ts TIMESTAMP, cpu DOUBLE, WATERMARK FOR ts AS ts)")?;
    /// engine.create_detector("odd", Ewma::new().partition_by(["host"]), "load")?;
    /// let anomalies = engine.subscribe("SELECT * FROM odd WHERE is_anomaly")?;
    /// # Ok::<(), driftline::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the query, the columns or an option do not fit, or the name is taken.
    pub fn create_detector(
        &self,
        name: &str,
        detector: impl Into<DetectorSpec>,
        query: &str,
    ) -> Result<()> {
        self.core.create_detector(name, detector.into(), &query_of(query)?)
    }

    /// A handle of the source called `name`.
    ///
    /// # Errors
    /// Of kind `Query` if there is none.
    pub fn source(&self, name: &str) -> Result<Source> {
        let object = self.core.source_object(name)?;
        Ok(Source::new(Arc::clone(&self.core), object))
    }

    /// Starts a query and returns its results as they come. `query` is a SELECT, or the name of a relation.
    ///
    /// The query sees the rows that are pushed after this call. It ends when its source is closed, and is dropped,
    /// with all its state, when the subscription is. A reader that falls behind holds the engine up: see
    /// [`Settings::subscription_bytes_max`].
    ///
    /// # Errors
    /// If the query cannot be planned: the error says where, why, and how to mend it.
    pub fn subscribe(&self, query: &str) -> Result<Subscription> {
        let query = query_of(query)?;
        let (record, schema) = self.core.start_query(&query, None)?;
        Ok(Subscription::new(Arc::clone(&self.core), record, schema))
    }

    /// Starts a query and calls `callback` with its results, on a thread of its own.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    /// use std::sync::Arc;
    /// use driftline::Engine;
    ///
    /// let engine = Engine::builder().build()?;
    /// engine.execute("CREATE SOURCE s (n BIGINT)")?;
    /// let rows = Arc::new(AtomicUsize::new(0));
    /// let counted = Arc::clone(&rows);
    /// let callback = engine.subscribe_with("s", move |batch| {
    ///     counted.fetch_add(batch.num_rows(), Ordering::Relaxed);
    /// })?;
    /// engine.execute("INSERT INTO s VALUES (1), (2)")?;
    /// engine.source("s")?.close()?;
    /// callback.join()?;
    /// assert_eq!(rows.load(Ordering::Relaxed), 2);
    /// # Ok::<(), driftline::Error>(())
    /// ```
    ///
    /// A callback that panics ends its query, with an error in [`Callback::join`] and in [`Engine::shutdown`];
    /// nothing else is touched.
    ///
    /// # Errors
    /// As for [`Engine::subscribe`].
    pub fn subscribe_with(
        &self,
        query: &str,
        callback: impl FnMut(RecordBatch) + Send + 'static,
    ) -> Result<Callback> {
        let query = query_of(query)?;
        let (record, _) = self.core.start_query(&query, None)?;
        Callback::start(&self.core, record, callback)
    }

    /// What a statement would do: the plan of a query, or of what a CREATE DETECTOR or INSERT reads, and the dataflow
    /// that it becomes, with what each operator keeps, how long, and which setting caps it. EXPLAIN may stand before the
    /// statement, and `(FORMAT MERMAID)` or `(FORMAT DOT)` after EXPLAIN for the dataflow as a drawing.
    ///
    /// ```
    /// use driftline::Engine;
    ///
    /// let engine = Engine::builder().workers(2).build()?;
    /// engine.execute("CREATE SOURCE s (host TEXT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')")?;
    /// let query = "SELECT host, count(*) AS n FROM s GROUP BY host, tumble(interval '10 seconds')";
    /// let plan = engine.explain(query)?;
    /// assert!(plan.contains("rows move by host"));
    /// assert!(plan.contains("15 seconds behind the latest row of s"));
    /// let drawing = engine.explain(&format!("EXPLAIN (FORMAT MERMAID) {query}"))?;
    /// assert!(drawing.starts_with("flowchart LR"));
    /// # Ok::<(), driftline::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the statement cannot be parsed or planned.
    pub fn explain(&self, sql: &str) -> Result<String> {
        let mut parsed = driftline_queries::parse_statements(sql)?;
        match (parsed.pop(), parsed.is_empty()) {
            (Some(Statement::Explain(explain)), true) => {
                explain::explain(&self.core, &explain.statement, explain.format)
            }
            (Some(Statement::Analyze(analyze)), true) => explain::analyze(&self.core, &analyze),
            (Some(statement), true) => {
                explain::explain(&self.core, &statement, ExplainFormat::Text)
            }
            _ => Err(Error::new(ErrorKind::Query, "EXPLAIN takes one statement")),
        }
    }

    /// What each operator of a running query has done on each worker so far; `EXPLAIN ANALYZE` in SQL. `query` is the
    /// name of a detector, the name of a query as SHOW QUERIES and [`Subscription::name`] give it, or its number.
    ///
    /// ```
    /// use driftline::{Analysis, Engine, OperatorAnalysis, WorkerAnalysis};
    ///
    /// let engine = Engine::builder().workers(2).build()?;
    /// engine.execute("CREATE SOURCE s (n BIGINT)")?;
    /// let results = engine.subscribe("SELECT n * 2 AS m FROM s WHERE n > 1")?;
    /// engine.execute("INSERT INTO s VALUES (1), (2), (3)")?;
    /// engine.drain()?;
    /// let analysis: Analysis = engine.analyze(results.name())?;
    /// let filter: &OperatorAnalysis = &analysis.operators[1];
    /// let rows = |count: fn(&WorkerAnalysis) -> u64| filter.workers.iter().map(count).sum::<u64>();
    /// assert_eq!(filter.name, "Transform");
    /// assert_eq!((rows(|worker| worker.rows_in), rows(|worker| worker.rows_out)), (3, 2));
    /// assert!(analysis.mermaid().starts_with("flowchart"));
    /// # Ok::<(), driftline::Error>(())
    /// ```
    ///
    /// # Errors
    /// If no such query runs.
    pub fn analyze(&self, query: &str) -> Result<Analysis> {
        self.core.analyze(query)
    }

    /// Counts and levels as of now.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.core.metrics()
    }

    /// Starts to read the files of all sources that were declared with a path and have not been started. Returns at
    /// once; each source closes when its files have been read.
    ///
    /// # Errors
    /// If a file cannot be opened. Errors further on end the source, and come out of [`Engine::shutdown`].
    pub fn start(&self) -> Result<()> {
        self.core.start_files()
    }

    /// The models of a detector, as bytes for a file: everything it has learned from the rows that were complete
    /// before the call. [`Engine::import_models`] takes them up, in this engine or another, on any number of workers.
    /// In SQL: `EXPORT DETECTOR name TO 'path'`.
    ///
    /// With it goes what each `LOG_KEYS` of the detector's query has learned, so that the same line has the same key and
    /// an unchanged score. A detector over another detector reads keys that are saved with that one.
    ///
    /// Rows that still wait for the watermark are not in it: this is a model, not a checkpoint. The form is described
    /// in ARCHITECTURE.md; it has a version and a checksum.
    ///
    /// ```
    /// use driftline::Engine;
    ///
    /// let engine = Engine::builder().workers(2).build()?;
    /// engine.execute(
    ///     "CREATE SOURCE load (host TEXT, ts TIMESTAMP, cpu DOUBLE, WATERMARK FOR ts AS ts);
    ///      CREATE DETECTOR odd USING ewma PARTITION BY host AS SELECT * FROM load",
    /// )?;
    /// let models = engine.export_models("odd")?;
    /// engine.import_models("odd", &models)?;
    /// assert!(engine.import_models("odd", &models[1..]).is_err());
    /// # Ok::<(), driftline::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there is no such detector, or its source has ended.
    pub fn export_models(&self, detector: &str) -> Result<Vec<u8>> {
        self.core.export_models(detector)
    }

    /// Replaces the models of a detector by those that [`Engine::export_models`] gave. Nothing changes if they do not
    /// fit. Call it while no rows are being pushed, so that it is clear which rows are judged by which models. In SQL:
    /// `IMPORT DETECTOR name FROM 'path'`.
    ///
    /// # Errors
    /// If the bytes are cut short or damaged, or of another kind, version, key or features, or of `LOG_KEYS` with other
    /// settings; or as for exporting.
    pub fn import_models(&self, detector: &str, models: &[u8]) -> Result<()> {
        self.core.import_models(detector, models)
    }

    /// Takes a checkpoint of everything that was pushed before the call, and waits until it is durable. Rows may be pushed
    /// meanwhile; workers stand still for [`Checkpoint::stall`].
    ///
    /// ```
    /// use driftline::{Checkpoint, Checkpoints, Engine};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let engine = Engine::builder().checkpoints(Checkpoints::in_folder(folder.path())?).build()?;
    /// let first: Checkpoint = engine.checkpoint()?;
    /// assert_eq!(first.id, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Of kind `Settings` for an engine that was built without [`EngineBuilder::checkpoints`], `Unavailable` if the store
    /// fails; then the one before stays in force.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        self.core.checkpoint()
    }

    /// The checkpoint that the engine goes on from.
    #[must_use]
    pub fn restored(&self) -> Option<&Checkpoint> {
        self.core.coordinator()?.restored()
    }

    /// What the checkpoint that the engine goes on from holds and nobody has created again. It is not in the next one.
    ///
    /// ```
    /// use driftline::{Checkpoints, Engine};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let start = || Engine::builder().checkpoints(Checkpoints::in_folder(folder.path())?).build();
    /// let engine = start()?;
    /// engine.execute("CREATE SOURCE s (n BIGINT)")?;
    /// engine.checkpoint()?;
    /// drop(engine);
    /// assert_eq!(start()?.not_restored(), ["source \"s\""]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn not_restored(&self) -> Vec<String> {
        self.core.coordinator().map(Coordinator::left).unwrap_or_default()
    }

    /// Waits until all rows pushed before the call have been worked through and their results handed to their
    /// readers' queues. Do not wait in the thread that reads the results.
    ///
    /// # Errors
    /// If the engine fails meanwhile.
    pub fn drain(&self) -> Result<()> {
        self.core.ingress.drain()
    }

    /// Lets file sources come to their end, closes all other sources, lets every window close, every callback and
    /// sink finish, and stops. Results that subscriptions have not read yet can be read afterwards.
    ///
    /// # Errors
    /// The first failure of a worker, a file, a callback or a sink.
    pub fn shutdown(self) -> Result<()> {
        self.core.shutdown()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.core.abandon();
    }
}

/// A SELECT from its text, or of all columns of the relation that the text names.
fn query_of(text: &str) -> Result<Query> {
    let name = text.trim();
    let is_name = !name.is_empty()
        && name.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    let text = if is_name { format!("SELECT * FROM {name}") } else { text.to_owned() };
    let mut statements = driftline_queries::parse_statements(&text)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(Statement::Query(query)), true) => Ok(query),
        _ => Err(Error::new(ErrorKind::Query, "a subscription takes one SELECT")
            .with_hint("run other statements with execute")),
    }
}
