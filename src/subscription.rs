//! Results on their way to the host: an iterator, an async stream, or a callback on a thread of its own.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use driftline_operators::sync::Monitor;

use crate::engine::{Core, QueryRecord};
use crate::error::{Error, Result};
use crate::runtime::output::OutputPort;
use crate::runtime::threads::panic_text;

/// The results of a query, batch by batch, as an iterator that waits for the next one.
///
/// It ends when the query's source has been closed and everything has been given out. An error ends it too, and is
/// given once. Dropping it ends the query.
///
/// Rows of one key come in order of their windows or event times; batches of different keys may come in any order,
/// because workers do not wait for each other.
///
/// ```
/// use driftline::{Engine, Subscription};
///
/// let engine = Engine::builder().build()?;
/// engine.execute("CREATE SOURCE s (n BIGINT)")?;
/// let mut results: Subscription = engine.subscribe("SELECT n + 1 AS m FROM s")?;
/// assert_eq!(results.schema().field(0).name(), "m");
/// engine.execute("INSERT INTO s VALUES (1)")?;
/// engine.shutdown()?;
/// assert_eq!(results.next().transpose()?.map(|batch| batch.num_rows()), Some(1));
/// assert!(results.next().is_none());
/// # Ok::<(), driftline::Error>(())
/// ```
pub struct Subscription {
    core: Arc<Core>,
    record: Arc<QueryRecord>,
    schema: SchemaRef,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("query", &self.record.text).finish_non_exhaustive()
    }
}

impl Subscription {
    pub(crate) fn new(core: Arc<Core>, record: Arc<QueryRecord>, schema: SchemaRef) -> Self {
        Self { core, record, schema }
    }

    /// The name under which the query runs, such as `subscription 3`: what SHOW QUERIES lists, and what
    /// [`Engine::analyze`](crate::Engine::analyze) takes.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Columns of every batch.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The epoch of the batch that was given last; 0 before the first. Epochs count on over restarts: after one, what had
    /// come in epochs after [`Checkpoint::epoch`](crate::Checkpoint::epoch) of the checkpoint that the engine goes on from
    /// comes again, in epochs of other numbers; and so does what had come before and had not been taken when the checkpoint
    /// was made. [`Subscription::sequence`] tells exactly.
    ///
    /// ```
    /// use driftline::Engine;
    ///
    /// let engine = Engine::builder().build()?;
    /// engine.execute("CREATE SOURCE s (n BIGINT)")?;
    /// let mut results = engine.subscribe("s")?;
    /// engine.execute("INSERT INTO s VALUES (1)")?;
    /// engine.drain()?;
    /// results.try_next()?;
    /// assert!(results.epoch() > 0);
    /// # Ok::<(), driftline::Error>(())
    /// ```
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.port().taken().0
    }

    /// The number of the batch that was given last, counted from 1 over all lives of the query: after a restart, before the
    /// first batch, how many the host had taken when the checkpoint was made that the engine goes on from. A host that keeps
    /// each batch under its number, and after a restart drops those with greater numbers, has every row once.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use driftline::{Checkpoints, Engine, MemoryStore};
    ///
    /// let store = Arc::new(MemoryStore::default());
    /// let started = || {
    ///     let engine = Engine::builder().checkpoints(Checkpoints::new(store.clone())).build()?;
    ///     engine.execute("CREATE SOURCE s (n BIGINT)")?;
    ///     let results = engine.subscribe("s")?;
    ///     Ok::<_, driftline::Error>((engine, results))
    /// };
    /// let (engine, mut results) = started()?;
    /// engine.execute("INSERT INTO s VALUES (1)")?;
    /// results.next().transpose()?;
    /// engine.checkpoint()?;
    /// engine.execute("INSERT INTO s VALUES (2)")?;
    /// results.next().transpose()?;
    /// assert_eq!(results.sequence(), 2);
    /// drop((results, engine));
    /// // The second batch is not in the checkpoint: it comes again once the host has pushed its row again.
    /// let (engine, results) = started()?;
    /// assert_eq!(results.sequence(), 1);
    /// # Ok::<(), driftline::Error>(())
    /// ```
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.port().taken().1
    }

    fn port(&self) -> &OutputPort {
        self.record.port.as_ref().expect("a subscription's query has a port")
    }

    /// The next batch if there is one now, without waiting. `None` says that there is none yet, or that there will
    /// be none any more; the iterator tells these apart.
    ///
    /// ```
    /// use driftline::Engine;
    ///
    /// let engine = Engine::builder().build()?;
    /// engine.execute("CREATE SOURCE s (n BIGINT)")?;
    /// let mut results = engine.subscribe("s")?;
    /// assert!(results.try_next()?.is_none());
    /// engine.execute("INSERT INTO s VALUES (1)")?;
    /// engine.drain()?;
    /// assert_eq!(results.try_next()?.map(|rows| rows.num_rows()), Some(1));
    /// # Ok::<(), driftline::Error>(())
    /// ```
    ///
    /// # Errors
    /// What the query failed with.
    pub fn try_next(&mut self) -> Result<Option<RecordBatch>> {
        match self.port().try_next() {
            Poll::Ready(Some(next)) => next.map(Some),
            Poll::Ready(None) | Poll::Pending => Ok(None),
        }
    }

    /// The same results as an async stream, for any runtime.
    ///
    /// ```
    /// use std::task::{Context, Poll, Waker};
    /// use driftline::futures_core::Stream;
    /// use driftline::{Engine, ResultStream};
    ///
    /// let engine = Engine::builder().build()?;
    /// engine.execute("CREATE SOURCE s (n BIGINT)")?;
    /// let mut stream: std::pin::Pin<Box<ResultStream>> = Box::pin(engine.subscribe("s")?.into_stream());
    /// engine.shutdown()?;
    /// let mut context = Context::from_waker(Waker::noop());
    /// assert!(matches!(stream.as_mut().poll_next(&mut context), Poll::Ready(None)));
    /// # Ok::<(), driftline::Error>(())
    /// ```
    #[must_use]
    pub fn into_stream(self) -> ResultStream {
        ResultStream(self)
    }
}

impl Iterator for Subscription {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.port().next()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.core.cancel(&self.record);
    }
}

/// The results of a query as an async stream; see [`Subscription::into_stream`].
#[derive(Debug)]
pub struct ResultStream(Subscription);

impl futures_core::Stream for ResultStream {
    type Item = Result<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.port().poll_next(context.waker())
    }
}

/// A query whose results go to a callback. Dropping the handle leaves the callback running until the query ends.
///
/// ```
/// use std::sync::mpsc::channel;
/// use driftline::{Callback, Engine};
///
/// let engine = Engine::builder().build()?;
/// engine.execute("CREATE SOURCE s (n BIGINT)")?;
/// let (send, receive) = channel();
/// let callback: Callback = engine.subscribe_with("s", move |rows| send.send(rows).unwrap())?;
/// engine.execute("INSERT INTO s VALUES (1)")?;
/// assert_eq!(receive.recv().unwrap().num_rows(), 1);
/// callback.cancel();
/// callback.join()?;
/// // The closure has been dropped, and its end of the channel with it.
/// assert!(receive.recv().is_err());
/// # Ok::<(), driftline::Error>(())
/// ```
#[derive(Debug)]
pub struct Callback {
    core: Arc<Core>,
    record: Arc<QueryRecord>,
    ended: Arc<Ended>,
}

/// Set when the callback's thread has nothing more to do.
#[derive(Debug, Default)]
struct Ended(Monitor<Option<Result<()>>>);

impl Ended {
    fn set(&self, result: Result<()>) {
        *self.0.lock() = Some(result);
        self.0.ring();
    }

    fn wait(&self) -> Result<()> {
        let mut result = self.0.lock();
        loop {
            match &*result {
                Some(result) => return result.clone(),
                None => result = self.0.wait(result),
            }
        }
    }
}

impl Callback {
    pub(crate) fn start(
        core: &Arc<Core>,
        record: Arc<QueryRecord>,
        mut callback: impl FnMut(RecordBatch) + Send + 'static,
    ) -> Result<Self> {
        let ended = Arc::new(Ended::default());
        let (read, tell) = (Arc::clone(&record), Arc::clone(&ended));
        core.start_reader(&record, move || {
            let port = read.port.as_ref().expect("a callback's query has a port");
            let result = std::iter::from_fn(|| port.next()).try_for_each(|rows| {
                let rows = rows?;
                catch_unwind(AssertUnwindSafe(|| callback(rows))).map_err(|panic| {
                    let text = panic_text(&*panic);
                    Error::internal(format!("callback of {} panicked: {text}", read.name))
                })
            });
            tell.set(result.clone());
            result
        })?;
        Ok(Self { core: Arc::clone(core), record, ended })
    }

    /// Waits until the query has ended, because its source was closed, the engine stopped or it was cancelled.
    ///
    /// # Errors
    /// What the query failed with, or that the callback panicked.
    pub fn join(self) -> Result<()> {
        self.ended.wait()
    }

    /// Ends the query; the callback is not called again once this call of it returns.
    pub fn cancel(&self) {
        self.core.cancel(&self.record);
    }
}
