//! Sources: how rows get in, by push from the host or from files.

mod definition;
pub(crate) mod files;
mod reading;

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

pub use definition::SourceDefinition;
pub use driftline_operators::time::EventTime;
pub(crate) use files::batches_of;
pub use files::{
    CsvOptions, FileFormat, FileReadOptions, FileReader, MalformedPolicy, MalformedRow, Pace,
    PacedBatch, ReadOrder, infer_schema,
};
pub(crate) use reading::{FilePlan, read_files};

use crate::engine::{Core, SourceObject};
use crate::error::Result;
use crate::runtime::ingress::{Pushed, Wait};
use crate::runtime::source_state::SourceState;

/// A handle of one source. Clones push into the same source, from any thread.
///
/// Rows pushed before any query reads the source go nowhere: declare detectors and subscriptions first.
///
/// ```
/// use std::sync::Arc;
/// use driftline::arrow::array::{Float64Array, RecordBatch, TimestampNanosecondArray};
/// use driftline::{Engine, Source};
///
/// let engine = Engine::builder().build()?;
/// engine.execute("CREATE SOURCE load (ts TIMESTAMP, cpu DOUBLE, WATERMARK FOR ts AS ts)")?;
/// let hot = engine.subscribe("SELECT cpu FROM load WHERE cpu > 0.9")?;
///
/// let source: Source = engine.source("load")?;
/// let batch = RecordBatch::try_new(
///     source.schema(),
///     vec![
///         Arc::new(TimestampNanosecondArray::from(vec![1, 2])),
///         Arc::new(Float64Array::from(vec![0.5, 0.95])),
///     ],
/// )?;
/// source.push(batch)?;
/// source.close()?;
/// let rows: usize = hot.map(|batch| batch.map_or(0, |batch| batch.num_rows())).sum();
/// assert_eq!(rows, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Source {
    core: Arc<Core>,
    object: Arc<SourceObject>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// What became of a [`Source::try_push`].
#[derive(Clone, Debug)]
#[must_use]
pub enum TryPush {
    /// The engine has the rows.
    Accepted,
    /// There is no room now; here are the rows back.
    Full(RecordBatch),
}

impl Source {
    pub(crate) fn new(core: Arc<Core>, object: Arc<SourceObject>) -> Self {
        Self { core, object }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.object.spec.name
    }

    /// How many of its rows are in the checkpoint that the engine goes on from, in the order in which they were pushed,
    /// rows that were late or malformed among them. The host pushes those after them again. Files are read from there
    /// without being told.
    ///
    /// ```
    /// use driftline::Engine;
    ///
    /// let engine = Engine::builder().build()?;
    /// engine.execute("CREATE SOURCE s (n BIGINT)")?;
    /// assert_eq!(engine.source("s")?.resume_at(), 0);
    /// # Ok::<(), driftline::Error>(())
    /// ```
    #[must_use]
    pub fn resume_at(&self) -> u64 {
        self.object.resume_at
    }

    /// Its columns, which pushed batches must have, in this order.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        self.object.spec.schema.clone()
    }

    /// Pushes rows, and waits while more than [`Settings::ingress_bytes_max`](crate::Settings::ingress_bytes_max)
    /// bytes are being worked on. Do not wait in the thread that also reads the results: it may be what the engine
    /// waits for.
    ///
    /// Rows whose event time is null or out of range, and rows below the watermark, are counted and go to
    /// `LATE(source)`.
    ///
    /// # Errors
    /// Of kind `Data` if the columns are not the source's, `Closed` if the source or engine has been closed.
    pub fn push(&self, batch: RecordBatch) -> Result<()> {
        let rows = self.object.spec.conform(&batch)?;
        self.core.ingress.push(self.object.id, rows, Wait::Yes).map(|_| ())
    }

    /// Pushes rows if there is room now.
    ///
    /// ```
    /// use driftline::arrow::array::RecordBatch;
    /// use driftline::{Engine, TryPush};
    ///
    /// let engine = Engine::builder().build()?;
    /// engine.execute("CREATE SOURCE s (n BIGINT)")?;
    /// let source = engine.source("s")?;
    /// match source.try_push(RecordBatch::new_empty(source.schema()))? {
    ///     TryPush::Accepted => {}
    ///     TryPush::Full(batch) => assert_eq!(batch.num_rows(), 0),
    /// }
    /// # Ok::<(), driftline::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Source::push`].
    pub fn try_push(&self, batch: RecordBatch) -> Result<TryPush> {
        let rows = self.object.spec.conform(&batch)?;
        match self.core.ingress.push(self.object.id, rows, Wait::No)? {
            Pushed::Accepted => Ok(TryPush::Accepted),
            Pushed::Full => Ok(TryPush::Full(batch)),
        }
    }

    /// Promises that no row below `watermark` will be pushed from now on. A watermark below an earlier one changes
    /// nothing.
    ///
    /// ```
    /// use driftline::{Engine, EventTime};
    ///
    /// let engine = Engine::builder().build()?;
    /// engine.execute("CREATE SOURCE s (ts TIMESTAMP, n BIGINT, WATERMARK FOR ts)")?;
    /// let late = engine.subscribe("SELECT n, reason FROM LATE(s)")?;
    /// engine.source("s")?.watermark(EventTime(1_000_000_000))?;
    /// engine.drain()?;
    /// engine.execute("INSERT INTO s VALUES ('1970-01-01 00:00:00.5', 1), ('1970-01-01 00:00:02', 2)")?;
    /// engine.shutdown()?;
    /// assert_eq!(late.map(|batch| batch.map_or(0, |batch| batch.num_rows())).sum::<usize>(), 1);
    /// # Ok::<(), driftline::Error>(())
    /// ```
    ///
    /// # Errors
    /// Of kind `Closed` if the source or engine has been closed.
    pub fn watermark(&self, watermark: EventTime) -> Result<()> {
        self.core.ingress.with_source(self.object.id, |source| source.advance(watermark))
    }

    /// Says that nothing will be pushed for a while: until the next push the watermark goes on with the clock, so
    /// that windows close although the source is quiet.
    ///
    /// ```
    /// use driftline::Engine;
    ///
    /// let engine = Engine::builder().build()?;
    /// engine.execute("CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS ts)")?;
    /// let mut counts = engine.subscribe("SELECT count(*) AS n FROM s GROUP BY tumble(interval '1 second')")?;
    /// engine.execute("INSERT INTO s VALUES ('2024-01-01 00:00:00.95')")?;
    /// engine.source("s")?.idle()?;
    /// // The second is over 50 ms later, although no row says so.
    /// assert!(counts.next().transpose()?.is_some());
    /// # Ok::<(), driftline::Error>(())
    /// ```
    ///
    /// # Errors
    /// Of kind `Closed` if the source or engine has been closed.
    pub fn idle(&self) -> Result<()> {
        self.core.ingress.with_source(self.object.id, SourceState::declare_idle)
    }

    /// Ends the source: all its windows close, and its queries end. Closing it twice changes nothing.
    ///
    /// # Errors
    /// Of kind `Closed` if the engine has been closed.
    pub fn close(&self) -> Result<()> {
        self.core.ingress.with_source(self.object.id, |source| {
            source.close();
            Ok(())
        })
    }
}
