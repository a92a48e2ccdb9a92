//! The inference service: scores rows of all workers on one device, on a thread that the host lends.
//!
//! ```text
//!   worker 1 ── submit(network, rows) ──> queue, bounded ──┐
//!   worker 2 ── submit(network, rows) ──>  in rows         ├─> one launch ─> device ──(fails)──> CPU
//!   worker n ── ...                                        ┘        │
//!      ^── wake ── ticket holds the outputs <───────────────────────┘
//! ```
//!
//! A worker never waits here. It submits rows, keeps the capability of their epoch, and goes on; it is woken when its
//! ticket holds the outputs. A full queue refuses: the worker keeps its rows, and with them the epoch, until it is
//! woken next, so that backpressure reaches the source. Requests for one network that come within a latency bound share
//! a launch. An output depends on its own row alone, so what shared a launch does not show.
//!
//! A device that fails, by error or by panic, costs nothing but time: the same rows are scored on the CPU, and the
//! failure is counted. After [`ServiceSettings::failures_max`] in a row the device is not asked again. When the service
//! ends, what is queued is scored first; whatever cannot be is answered with an error. No ticket stays empty. Rows whose
//! ticket was dropped are forgotten, as those of a query that was dropped.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use crate::sync::{Monitor, lock};

/// A network that rows can be scored by. One version of a model is one value of it: what is submitted with an older
/// version is scored by that, whatever has come since.
pub trait Network: fmt::Debug + Send + Sync {
    /// Numbers of an input row.
    fn inputs(&self) -> usize;

    /// Numbers of an output row.
    fn outputs(&self) -> usize;

    /// Appends an output row for each input row.
    ///
    /// # Errors
    /// If the device fails, with its own words.
    fn score(&self, on: Compute, rows: &[f32], out: &mut Vec<f32>) -> Result<(), String>;
}

/// Where networks are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compute {
    /// On the processor.
    Cpu,
    /// On a GPU.
    Gpu,
}

/// Something that scores rows; the engine's own is [`Compute`], a host may bring another. It is asked from one thread
/// only, and may take its time: nobody waits for it but those who asked.
pub trait Device: fmt::Debug + Send + Sync {
    /// Appends an output row for each input row, that depends on this row alone.
    ///
    /// # Errors
    /// If it fails, with its own words; the rows are then scored on the CPU. A panic counts as such a failure.
    fn score(&self, network: &dyn Network, rows: &[f32], out: &mut Vec<f32>) -> Result<(), String>;
}

impl Device for Compute {
    fn score(&self, network: &dyn Network, rows: &[f32], out: &mut Vec<f32>) -> Result<(), String> {
        network.score(*self, rows, out)
    }
}

/// Bounds of a service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServiceSettings {
    /// Rows that may wait. A single larger request is taken when nothing waits.
    pub queue_rows_max: usize,
    /// Rows of one launch. A single larger request is a launch of its own.
    pub launch_rows_max: usize,
    /// How long a request may wait for others to share its launch.
    pub latency: Duration,
    /// Failures in a row after which the device is given up.
    pub failures_max: u32,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            queue_rows_max: 1 << 16,
            launch_rows_max: 1 << 13,
            latency: Duration::from_millis(2),
            failures_max: 3,
        }
    }
}

/// What a service has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceStatistics {
    /// Rows that wait now.
    pub queued_rows: u64,
    /// Requests answered.
    pub requests: u64,
    /// Requests refused because the queue was full.
    pub refused: u64,
    /// Launches on the device or the CPU.
    pub launches: u64,
    /// Rows scored.
    pub rows: u64,
    /// Nanoseconds of all launches.
    pub launch_ns: u64,
    /// Launches that failed on the device.
    pub failures: u64,
    /// Launches that the CPU made up for: those that failed, and all since the device was given up.
    pub fallbacks: u64,
    /// Whether the device was given up.
    pub is_given_up: bool,
    /// What the device said when it failed last.
    pub problem: Option<String>,
}

/// Why rows were not taken or not scored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// The queue is full: submit again when woken.
    #[error("the inference queue is full")]
    Full,
    /// The service has ended.
    #[error("the inference service has ended")]
    Closed,
    /// The rows do not fit the network.
    #[error("{rows} numbers are no rows of {inputs}")]
    Rows {
        /// Numbers given.
        rows: usize,
        /// Numbers of a row.
        inputs: usize,
    },
    /// Device and CPU both failed.
    #[error("scoring failed: {0}")]
    Failed(String),
}

/// Outputs that are on their way.
#[derive(Clone)]
pub struct Ticket(Arc<Mutex<Option<Outputs>>>);

/// Output rows, or why there are none.
type Outputs = Result<Vec<f32>, ServiceError>;

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&lock(&self.0).is_some()).finish()
    }
}

impl Ticket {
    /// The outputs, once they are there; they are given once.
    ///
    /// # Errors
    /// If they could not be computed.
    pub fn take(&self) -> Option<Result<Vec<f32>, ServiceError>> {
        lock(&self.0).take()
    }
}

struct Request {
    network: Arc<dyn Network>,
    rows: Vec<f32>,
    ticket: Ticket,
    waker: Waker,
}

impl Request {
    fn count(&self) -> usize {
        self.rows.len() / self.network.inputs().max(1)
    }

    fn answer(self, outputs: Result<Vec<f32>, ServiceError>) {
        *lock(&self.ticket.0) = Some(outputs);
        self.waker.wake();
    }

    /// Whether anybody still waits for the outputs.
    fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.ticket.0) > 1
    }
}

/// One service, shared by all workers of an engine.
pub struct InferenceService {
    settings: ServiceSettings,
    /// Rings when a request has come.
    queue: Monitor<Queue>,
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    /// Who was refused, each once, to be woken when there is room.
    waiting: Vec<Waker>,
    statistics: ServiceStatistics,
    is_closed: bool,
    /// The loop has ended: nothing will be answered any more.
    is_over: bool,
}

impl Queue {
    /// Forgets requests that nobody waits for.
    fn forget_unwanted(&mut self) {
        let mut forgotten = 0;
        self.requests.retain(|request| {
            let is_wanted = request.is_wanted();
            forgotten += if is_wanted { 0 } else { request.count() as u64 };
            is_wanted
        });
        self.statistics.queued_rows -= forgotten;
    }
}

impl fmt::Debug for InferenceService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InferenceService")
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}

impl InferenceService {
    /// A service with nothing to do; a thread has to [run](InferenceService::run) it.
    #[must_use]
    pub fn new(settings: ServiceSettings) -> Self {
        Self { settings, queue: Monitor::default() }
    }

    /// The bounds.
    #[must_use]
    pub fn settings(&self) -> ServiceSettings {
        self.settings
    }

    /// Asks for the outputs of rows. `waker` is woken, from the service's thread, when the ticket holds them, or when
    /// there may be room after a refusal.
    ///
    /// # Errors
    /// If the queue is full, the service has ended, or the numbers are no whole rows. The rows are given back.
    pub fn submit(
        &self,
        network: &Arc<dyn Network>,
        rows: Vec<f32>,
        waker: &Waker,
    ) -> Result<Ticket, (ServiceError, Vec<f32>)> {
        let inputs = network.inputs();
        if inputs == 0 || !rows.len().is_multiple_of(inputs) {
            return Err((ServiceError::Rows { rows: rows.len(), inputs }, rows));
        }
        let count = (rows.len() / inputs) as u64;
        let mut queue = self.queue.lock();
        if queue.is_closed || queue.is_over {
            return Err((ServiceError::Closed, rows));
        }
        let most = self.settings.queue_rows_max as u64;
        let is_full = |queue: &Queue| {
            let queued = queue.statistics.queued_rows;
            queued > 0 && queued + count > most
        };
        if is_full(&queue) {
            queue.forget_unwanted();
        }
        if is_full(&queue) {
            queue.statistics.refused += 1;
            // One for each operator that asks: as many as the engine has.
            if !queue.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
                queue.waiting.push(waker.clone());
            }
            return Err((ServiceError::Full, rows));
        }
        let ticket = Ticket(Arc::default());
        queue.statistics.queued_rows += count;
        queue.requests.push_back(Request {
            network: Arc::clone(network),
            rows,
            ticket: ticket.clone(),
            waker: waker.clone(),
        });
        drop(queue);
        self.queue.ring();
        Ok(ticket)
    }

    /// What the service has done so far.
    #[must_use]
    pub fn statistics(&self) -> ServiceStatistics {
        self.queue.lock().statistics.clone()
    }

    /// Takes no further requests; the loop ends when those that wait are answered.
    pub fn close(&self) {
        self.queue.lock().is_closed = true;
        self.queue.ring();
    }

    /// Answers requests until the service is closed and none is left. `now` is the time since some fixed moment, for
    /// measuring alone.
    pub fn run(&self, device: &dyn Device, now: &dyn Fn() -> Duration) {
        // However the loop ends, nobody waits for ever.
        let _over = Over(self);
        let mut failures = 0;
        while let Some(launch) = self.next_launch() {
            let network = Arc::clone(&launch[0].network);
            let mut rows = Vec::new();
            launch.iter().for_each(|request| rows.extend_from_slice(&request.rows));
            let started = now();
            let is_given_up = failures >= self.settings.failures_max;
            let on_device = match is_given_up {
                true => Err("the device was given up".to_owned()),
                false => attempt(device, &*network, &rows),
            };
            let has_failed = on_device.is_err() && !is_given_up;
            failures = match (&on_device, is_given_up) {
                (_, true) => failures,
                (Ok(_), _) => 0,
                (Err(_), _) => failures + 1,
            };
            let is_fallback = on_device.is_err();
            let problem = on_device.as_ref().err().filter(|_| has_failed).cloned();
            let outputs = on_device.or_else(|_| attempt(&Compute::Cpu, &*network, &rows));
            let took = now().saturating_sub(started);
            let mut queue = self.queue.lock();
            let statistics = &mut queue.statistics;
            let count: usize = launch.iter().map(Request::count).sum();
            statistics.launches += 1;
            statistics.rows += count as u64;
            statistics.requests += launch.len() as u64;
            statistics.queued_rows -= count as u64;
            statistics.launch_ns += u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            statistics.failures += u64::from(has_failed);
            statistics.fallbacks += u64::from(is_fallback);
            statistics.problem = problem.or(statistics.problem.take());
            statistics.is_given_up = failures >= self.settings.failures_max;
            let waiting = std::mem::take(&mut queue.waiting);
            drop(queue);
            let shared = launch.len() > 1;
            let mut from = 0;
            for request in launch {
                let width = request.count() * network.outputs();
                let own = match &outputs {
                    Ok(all) => Ok(all[from..from + width].to_vec()),
                    // One request must not fail for the rows of another.
                    Err(_) if shared => attempt(&Compute::Cpu, &*network, &request.rows),
                    Err(problem) => Err(problem.clone()),
                };
                from += width;
                request.answer(own.map_err(ServiceError::Failed));
            }
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    /// Requests for the next launch: the oldest, and those for the same network that come within the latency bound.
    fn next_launch(&self) -> Option<Vec<Request>> {
        let mut queue = self.queue.lock();
        loop {
            queue.forget_unwanted();
            if queue.requests.is_empty() {
                if queue.is_closed {
                    return None;
                }
                queue = self.queue.wait(queue);
                continue;
            }
            // One wait for all: more requests do not prolong it.
            let is_short = |queue: &mut Queue| {
                let rows = queue.statistics.queued_rows;
                rows < self.settings.launch_rows_max as u64 && !queue.is_closed
            };
            if !self.settings.latency.is_zero() && is_short(&mut queue) {
                (queue, _) = self.queue.wait_while(queue, self.settings.latency, is_short);
                queue.forget_unwanted();
            }
            if !queue.requests.is_empty() {
                break;
            }
        }
        let mut launch: Vec<Request> = queue.requests.pop_front().into_iter().collect();
        let mut rows: usize = launch.iter().map(Request::count).sum();
        let mut left = VecDeque::new();
        while let Some(request) = queue.requests.pop_front() {
            let is_same =
                launch.first().is_some_and(|first| Arc::ptr_eq(&first.network, &request.network));
            if is_same && rows + request.count() <= self.settings.launch_rows_max {
                rows += request.count();
                launch.push(request);
            } else {
                left.push_back(request);
            }
        }
        queue.requests = left;
        Some(launch)
    }
}

/// Scores, and takes a panic or a wrong number of outputs for a failure.
fn attempt(device: &dyn Device, network: &dyn Network, rows: &[f32]) -> Result<Vec<f32>, String> {
    let mut out = Vec::new();
    let scored = catch_unwind(AssertUnwindSafe(|| device.score(network, rows, &mut out)));
    let wanted = rows.len() / network.inputs().max(1) * network.outputs();
    match scored {
        Ok(Ok(())) if out.len() == wanted => Ok(out),
        Ok(Ok(())) => Err(format!("{} numbers came out instead of {wanted}", out.len())),
        Ok(Err(problem)) => Err(problem),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            Err(text
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "it panicked".into()))
        }
    }
}

/// Answers what is left when the loop has ended.
struct Over<'a>(&'a InferenceService);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.is_over = true;
        queue.statistics.queued_rows = 0;
        let (requests, waiting) =
            (std::mem::take(&mut queue.requests), std::mem::take(&mut queue.waiting));
        drop(queue);
        requests.into_iter().for_each(|request| request.answer(Err(ServiceError::Closed)));
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests;
