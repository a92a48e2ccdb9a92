//! Event times of a batch, and its cutting by pace.

use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, Schema, TimeUnit};

use super::failure::settings;
use crate::error::{Error, ErrorKind, Result};

/// How much waiting one paced batch may stand for.
const PACED_SPAN: Duration = Duration::from_millis(100);

/// The place of the column of event times: the named one, else the only timestamp column.
pub(super) fn time_column_index(schema: &Schema, name: Option<&str>) -> Result<usize> {
    let is_time = |index: usize| matches!(schema.field(index).data_type(), DataType::Timestamp(..));
    let hint = "name the column of event times with time_column = '...'";
    let mut candidates = (0..schema.fields().len()).filter(|index| is_time(*index));
    let Some(name) = name else {
        return match (candidates.next(), candidates.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(settings(
                "a file source without a timestamp column cannot be ordered or paced by event time",
                "add a TIMESTAMP column, or read the rows as they lie and at full speed",
            )),
            _ => Err(settings("a file source has more than one timestamp column", hint)),
        };
    };
    match schema.index_of(name) {
        Ok(index) if is_time(index) => Ok(index),
        Ok(_) => Err(settings(format!("time column {name:?} is not a timestamp"), hint)),
        Err(_) => {
            Err(settings(format!("time column {name:?} is not a column of the source"), hint))
        }
    }
}

/// The event times of a column in nanoseconds; null where it is null.
pub(super) fn event_times(column: &ArrayRef) -> Result<Vec<Option<i64>>> {
    let as_ns = |column: &ArrayRef| {
        let zone = match column.data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let ns = cast(column, &DataType::Timestamp(TimeUnit::Nanosecond, zone))?;
        cast(&ns, &DataType::Int64)
    };
    let times = as_ns(column).map_err(|error| {
        Error::new(ErrorKind::Data, "event times do not fit nanoseconds").with_source(error)
    })?;
    Ok(times.as_primitive::<Int64Type>().iter().collect())
}

/// A batch and the moment at which it is due.
#[derive(Clone, Debug)]
pub struct PacedBatch {
    /// The rows.
    pub batch: RecordBatch,
    /// How long after the first row the batch is due, in real time; never less than that of the batch before.
    pub due: Duration,
}

/// Cuts batches so that each stands for little event time, and says when each is due. It reads no clock.
#[derive(Debug)]
pub(super) struct Pacer {
    times: f64,
    time_index: usize,
    span_ns: i64,
    /// The event time of the first row of all.
    origin: Option<i64>,
    due: Duration,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    batch: RecordBatch,
    event_times: Vec<Option<i64>>,
    start: usize,
}

impl Pacer {
    pub(super) fn new(times: f64, time_index: usize) -> Self {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a tenth of a second in nanoseconds is exact"
        )]
        let span = PACED_SPAN.as_nanos() as f64 * times;
        // The cast saturates, which is what a pace beyond all event time wants.
        #[expect(clippy::cast_possible_truncation, reason = "saturates")]
        let span_ns = (span as i64).max(1);
        Self { times, time_index, span_ns, origin: None, due: Duration::ZERO, waiting: None }
    }

    /// Takes a batch to cut; the one before must have been cut to its end.
    pub(super) fn put(&mut self, batch: RecordBatch) -> Result<()> {
        let event_times = event_times(batch.column(self.time_index))?;
        self.waiting = Some(Waiting { batch, event_times, start: 0 });
        Ok(())
    }

    /// The next piece of the batch that was put; `None` at its end.
    pub(super) fn next_piece(&mut self) -> Option<PacedBatch> {
        let waiting = self.waiting.as_mut()?;
        let start = waiting.start;
        if start >= waiting.event_times.len() {
            self.waiting = None;
            return None;
        }
        // Rows without a time go with their neighbours.
        let mut range: Option<(i64, i64)> = None;
        let mut end = start;
        for time in &waiting.event_times[start..] {
            if let Some(time) = *time {
                let (low, high) = range.unwrap_or((time, time));
                let (low, high) = (low.min(time), high.max(time));
                if high.saturating_sub(low) >= self.span_ns {
                    break;
                }
                range = Some((low, high));
            }
            end += 1;
        }
        waiting.start = end;
        if let Some((low, high)) = range {
            let origin = *self.origin.get_or_insert(low);
            #[expect(clippy::cast_precision_loss, reason = "a pace needs no exact nanoseconds")]
            let seconds = high.saturating_sub(origin) as f64 / 1e9 / self.times;
            let due = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
            self.due = self.due.max(due);
        }
        Some(PacedBatch { batch: waiting.batch.slice(start, end - start), due: self.due })
    }
}
