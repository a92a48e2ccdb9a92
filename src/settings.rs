//! Every number that bounds or paces an engine, validated in one place.

use std::time::Duration;

use driftline_operators::inference::{DeviceChoice, ServiceSettings};
use driftline_operators::keyed::KeyedStatePolicy;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Numbers of an engine. The defaults suit a host with a few sources and some ten thousand keys.
///
/// ```
/// use driftline::{Engine, Settings};
///
/// let settings = Settings { ingress_bytes_max: 8 << 20, ..Settings::default() };
/// let engine = Engine::builder().settings(settings).build()?;
/// assert!(Settings { epochs_in_flight_max: 0, ..Settings::default() }.validate().is_err());
/// # Ok::<(), driftline::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Worker threads. Default: one for each core the process may use.
    pub workers: usize,
    /// Bytes of rows that have been pushed and not yet been worked through, over all sources. A push beyond them
    /// waits; one batch larger than all of it is let in alone. Default 64 MiB.
    pub ingress_bytes_max: usize,
    /// Bytes of everything that an engine holds for its queries: rows on their way in, state of windows, joins, keys and
    /// models, and results that wait for readers, as far as [`Metrics::memory_bytes`](crate::Metrics::memory_bytes) knows
    /// them. At the limit [`Source::push`](crate::Source::push) answers with an error of kind `Unavailable` and
    /// [`Source::try_push`](crate::Source::try_push) gives the rows back; watermarks are taken, so that windows can close
    /// and make room. Default none (the greatest number).
    pub memory_bytes_max: usize,
    /// An epoch closes when it has lasted this long, if earlier ones are still being worked on; if none is, it
    /// closes at once. In milliseconds, default 10.
    pub epoch_millis: u64,
    /// An epoch closes when it holds this many bytes. Default 16 MiB.
    pub epoch_bytes: usize,
    /// Epochs that are closed and not yet worked through. Default 4.
    pub epochs_in_flight_max: usize,
    /// Bytes of results that wait in one subscription, callback or sink before the engine waits for its reader.
    /// Default 16 MiB.
    pub subscription_bytes_max: usize,
    /// Groups (key and pane, open session, key and pane of a COUNT_WINDOW, row of a DISTINCT, or key and window where
    /// results are updated) that one worker holds for one query. Rows beyond them are refused and counted in
    /// [`QueryMetrics::rows_refused`](crate::QueryMetrics::rows_refused). With several workers each also folds rows of all
    /// keys into panes before it hands them over: up to 65,536 groups from epoch to epoch, and as many more within one as
    /// are set here. Default 4 million.
    pub window_groups_max: usize,
    /// Panes that one worker holds open for one query, with the same policy. Default 100,000.
    pub window_panes_max: usize,
    /// Rows that wait on one worker for one detector or COUNT_WINDOW until the watermark releases them, or that a RETAIN
    /// keeps there, with the same policy. Default 4 million.
    pub reorder_rows_max: usize,
    /// Rows that one worker holds for one join, of both its inputs, with the same policy; for a join of retained rows, half
    /// of them of each input. Default 4 million.
    pub join_rows_max: usize,
    /// Rows that one worker keeps for one OVER: those that frames still look at and those that wait for rows after them,
    /// with the same policy. Default 4 million.
    pub frame_rows_max: usize,
    /// Keys that one worker keeps for one operator whose state no window ends, such as the partitions of an OVER. Keys that
    /// only frames of an interval look at are forgotten when the interval has passed. Default 1 million.
    pub keyed_state_max: usize,
    /// What becomes of a row with one key more. Evicted keys are counted in
    /// [`QueryMetrics::keys_evicted`](crate::QueryMetrics::keys_evicted), refused rows in
    /// [`QueryMetrics::rows_refused`](crate::QueryMetrics::rows_refused). Default
    /// [`KeyedStatePolicy::EvictOldest`].
    pub keyed_state_policy: KeyedStatePolicy,
    /// Models that one worker keeps for one detector. Beyond them the longest unused one is dropped and counted
    /// in [`QueryMetrics::models_evicted`](crate::QueryMetrics::models_evicted); what it had in the detector's relations leaves
    /// them. Default 1 million.
    pub models_max: usize,
    /// Bytes of rows in one table. A file or an INSERT that would exceed them is refused. Default 256 MiB.
    pub table_bytes_max: usize,
    /// Sources, tables, views, detectors, sinks and queries that one engine holds at once. Default 10,000.
    pub objects_max: usize,
    /// Threads for heavy work of detectors, such as building a model anew; they start when there is such work. With 0
    /// the workers do it themselves, when it is due. Answers are the same either way. Default 1.
    pub background_threads: usize,
    /// Pieces of heavy work that wait for a background thread; those beyond are done by the worker that needs them.
    /// Default 10,000.
    pub background_tasks_max: usize,
    /// Where the networks of detectors are scored that do not say so themselves. Default [`DeviceChoice::Auto`].
    pub device: DeviceChoice,
    /// Rows that wait for the device, over all detectors. Those beyond stay with their worker, which keeps their epoch
    /// open and does other work meanwhile. Default 65,536.
    pub inference_queue_rows_max: usize,
    /// Rows that the device is given at once. Default 8,192.
    pub inference_batch_rows_max: usize,
    /// How long rows may wait for others to share a launch with, in microseconds. Default 2,000.
    pub inference_latency_micros: u64,
    /// Failures of the device in a row after which it is given up, and the processor scores for it. Default 3.
    pub inference_failures_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            ingress_bytes_max: 64 << 20,
            memory_bytes_max: usize::MAX,
            epoch_millis: 10,
            epoch_bytes: 16 << 20,
            epochs_in_flight_max: 4,
            subscription_bytes_max: 16 << 20,
            window_groups_max: 4_000_000,
            window_panes_max: 100_000,
            reorder_rows_max: 4_000_000,
            join_rows_max: 4_000_000,
            frame_rows_max: 4_000_000,
            keyed_state_max: 1_000_000,
            keyed_state_policy: KeyedStatePolicy::default(),
            models_max: 1_000_000,
            table_bytes_max: 256 << 20,
            objects_max: 10_000,
            background_threads: 1,
            background_tasks_max: 10_000,
            device: DeviceChoice::default(),
            inference_queue_rows_max: 65_536,
            inference_batch_rows_max: 8_192,
            inference_latency_micros: 2_000,
            inference_failures_max: 3,
        }
    }
}

impl Settings {
    /// Checks every number.
    ///
    /// # Errors
    /// Of kind [`ErrorKind::Settings`], naming the first number that is out of range.
    pub fn validate(&self) -> Result<()> {
        let ranges = [
            ("workers", self.workers as u64, 1, 1024),
            ("ingress_bytes_max", self.ingress_bytes_max as u64, 1, u64::MAX),
            ("memory_bytes_max", self.memory_bytes_max as u64, 1, u64::MAX),
            ("epoch_millis", self.epoch_millis, 1, 60_000),
            ("epoch_bytes", self.epoch_bytes as u64, 1, u64::MAX),
            ("epochs_in_flight_max", self.epochs_in_flight_max as u64, 1, 1024),
            ("subscription_bytes_max", self.subscription_bytes_max as u64, 1, u64::MAX),
            ("window_groups_max", self.window_groups_max as u64, 1, u64::from(u32::MAX)),
            ("window_panes_max", self.window_panes_max as u64, 1, u64::from(u32::MAX)),
            ("reorder_rows_max", self.reorder_rows_max as u64, 1, u64::from(u32::MAX)),
            ("join_rows_max", self.join_rows_max as u64, 1, u64::from(u32::MAX - 1)),
            ("frame_rows_max", self.frame_rows_max as u64, 1, u64::from(u32::MAX)),
            ("keyed_state_max", self.keyed_state_max as u64, 1, u64::from(u32::MAX)),
            ("models_max", self.models_max as u64, 1, u64::from(u32::MAX)),
            ("table_bytes_max", self.table_bytes_max as u64, 1, u64::MAX),
            ("objects_max", self.objects_max as u64, 1, u64::from(u32::MAX)),
            ("background_threads", self.background_threads as u64, 0, 1024),
            ("background_tasks_max", self.background_tasks_max as u64, 1, 10_000_000),
            ("inference_queue_rows_max", self.inference_queue_rows_max as u64, 1, 1 << 40),
            ("inference_batch_rows_max", self.inference_batch_rows_max as u64, 1, 1 << 30),
            ("inference_latency_micros", self.inference_latency_micros, 0, 60_000_000),
            ("inference_failures_max", u64::from(self.inference_failures_max), 1, 1_000_000),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                let message = format!("setting \"{name}\" is {value}");
                return Err(Error::new(ErrorKind::Settings, message)
                    .with_hint(format!("give a number from {least} to {most}")));
            }
        }
        Ok(())
    }

    /// The bounds of the inference service.
    pub(crate) fn service(&self) -> ServiceSettings {
        ServiceSettings {
            queue_rows_max: self.inference_queue_rows_max,
            launch_rows_max: self.inference_batch_rows_max,
            latency: Duration::from_micros(self.inference_latency_micros),
            failures_max: self.inference_failures_max,
        }
    }

    pub(crate) fn epoch_length(&self) -> Duration {
        Duration::from_millis(self.epoch_millis)
    }
}
