//! What each part of a query does on each worker: rows and batches given, how far it has come, how long it was busy.
//!
//! A part is what one node of a plan becomes, a detector, or the end of the query. Behind each stands an operator that
//! passes batches on as they are and counts them. Time is measured from outside: whoever runs the dataflow reads the
//! clock around each turn of an operator, and adds to [`Meter::busy_ns`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::{BatchStream, Counters, QueryContext};
use crate::batch::Batch;
use crate::time::{EventTime, Watermarks};
use crate::window::TimeType;

/// Figures of one part of a query on one worker, or of one operator of it.
#[derive(Debug)]
pub struct Meter {
    /// The part, in the order of wiring.
    pub part: usize,
    /// The operator's name, where a part has several that are measured; empty for the rest of the part.
    pub step: &'static str,
    /// The worker.
    pub worker: usize,
    /// Rows in, where they come from other workers; rows out; rows left out; bytes of state.
    pub counters: Counters,
    /// Batches in, where they come from other workers.
    pub batches_in: AtomicU64,
    /// Batches given.
    pub batches_out: AtomicU64,
    /// How often it was run.
    pub turns: AtomicU64,
    /// How long it was run, in nanoseconds.
    pub busy_ns: AtomicU64,
    watermark: AtomicI64,
    latest: AtomicI64,
}

impl Meter {
    pub(super) fn new(part: usize, step: &'static str, worker: usize) -> Self {
        Self {
            part,
            step,
            worker,
            counters: Counters::default(),
            batches_in: AtomicU64::new(0),
            batches_out: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            busy_ns: AtomicU64::new(0),
            watermark: AtomicI64::new(i64::MIN),
            latest: AtomicI64::new(i64::MIN),
        }
    }

    /// The watermark up to which it has given everything; [`EventTime::MAX`] at the end of the input.
    #[must_use]
    pub fn watermark(&self) -> EventTime {
        EventTime(self.watermark.load(Ordering::Relaxed))
    }

    /// The latest event time among the rows given, where it is a part that reads a relation.
    #[must_use]
    pub fn latest(&self) -> EventTime {
        EventTime(self.latest.load(Ordering::Relaxed))
    }

    /// Adds a turn that took so long.
    pub fn add_turn(&self, ns: u64) {
        self.turns.fetch_add(1, Ordering::Relaxed);
        self.busy_ns.fetch_add(ns, Ordering::Relaxed);
    }

    fn pass(&self, batches: &[Batch], time: Option<&(usize, TimeType)>) {
        let rows = batches.iter().map(|batch| batch.rows.num_rows() as u64).sum();
        self.counters.rows_out.fetch_add(rows, Ordering::Relaxed);
        self.batches_out.fetch_add(batches.len() as u64, Ordering::Relaxed);
        let Some((index, time)) = time else { return };
        for batch in batches {
            if let Some(latest) = time.latest(batch.rows.column(*index)) {
                self.latest.fetch_max(latest.0, Ordering::Relaxed);
            }
        }
    }
}

/// Counts what a part gives on the meter of its context; without one the stream is left as it is.
///
/// `time` is the event-time column of a part that reads a relation.
pub fn measure<'scope>(
    stream: BatchStream<'scope>,
    context: &QueryContext,
    watermarks: &Watermarks,
    time: Option<(usize, TimeType)>,
) -> BatchStream<'scope> {
    let Some(meter) = context.meter().map(Arc::clone) else { return stream };
    let watermarks = watermarks.clone();
    stream.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        Pipeline,
        "Measure",
        |_, _| {
            move |(input, frontier), output| {
                input.for_each(|capability, batches| {
                    meter.pass(batches, time.as_ref());
                    output.session(&capability).give_container(batches);
                });
                let watermark = match frontier.frontier().first() {
                    Some(open) => watermarks.at(open.saturating_sub(1)),
                    None => EventTime::MAX,
                };
                meter.watermark.store(watermark.0, Ordering::Relaxed);
            }
        },
    )
}
