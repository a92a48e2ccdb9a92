//! What the engine knows of one source: its columns, its event time, and how far its watermark has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use driftline_operators::time::EventTime;
use driftline_operators::window::TimeType;

use crate::checkpoint::SourceRecord;
use crate::error::{Error, ErrorKind, Result};

/// How a source was declared.
#[derive(Clone, Debug)]
pub(crate) struct SourceSpec {
    pub(crate) name: String,
    pub(crate) schema: SchemaRef,
    pub(crate) time: Option<SourceTime>,
}

/// Event time of a source.
#[derive(Clone, Debug)]
pub(crate) struct SourceTime {
    pub(crate) index: usize,
    pub(crate) time: TimeType,
    /// How far the watermark stays behind the latest row; `None` where only the host moves it.
    pub(crate) delay_ns: Option<i64>,
    pub(crate) lateness_ns: i64,
    pub(crate) idle_timeout: Option<Duration>,
}

/// Counts of one source, summed over workers.
#[derive(Debug, Default)]
pub(crate) struct SourceCounters {
    pub(crate) rows: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) rows_late: AtomicU64,
    pub(crate) rows_malformed: AtomicU64,
    /// Rows of its files that could not be read. Whoever reads files again counts them again.
    pub(crate) rows_unreadable: AtomicU64,
}

impl SourceCounters {
    /// Rows that workers left out: late ones, and those without a usable time.
    pub(crate) fn dropped(&self) -> (u64, u64) {
        (self.rows_late.load(Ordering::Relaxed), self.rows_malformed.load(Ordering::Relaxed))
    }

    /// All rows that could not be taken for what they were.
    pub(crate) fn malformed(&self) -> u64 {
        self.rows_malformed.load(Ordering::Relaxed) + self.rows_unreadable.load(Ordering::Relaxed)
    }
}

/// The earliest and latest usable event times of a batch, and whether some rows have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeRange {
    pub(crate) bounds: Option<(EventTime, EventTime)>,
    pub(crate) has_unusable: bool,
}

/// Why a row is on the side relation of its source.
const LATE: &str = "late";
const MALFORMED: &str = "event time is null or out of range";

impl SourceSpec {
    /// Columns of the side relation.
    pub(crate) fn late_schema(&self) -> SchemaRef {
        driftline_queries::late_schema(&self.schema)
    }

    /// Its columns, one a line, and its event time.
    pub(crate) fn declared(&self) -> String {
        let column = |field: &Arc<Field>| {
            let null = if field.is_nullable() { "" } else { " NOT NULL" };
            format!("{} {}{null}\n", field.name(), field.data_type())
        };
        let columns: String = self.schema.fields().iter().map(column).collect();
        match &self.time {
            None => columns,
            Some(time) => {
                let SourceTime { index, delay_ns, lateness_ns, .. } = time;
                let name = self.schema.field(*index).name();
                format!("{columns}WATERMARK FOR {name} {delay_ns:?} {lateness_ns}\n")
            }
        }
    }

    /// The batch with this source's own schema.
    pub(crate) fn conform(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (want, have) = (self.schema.fields(), batch.schema_ref().fields());
        let refuse = |problem: String| {
            Err(Error::new(
                ErrorKind::Data,
                format!("batch for source \"{}\" {problem}", self.name),
            )
            .with_hint(format!("push columns ({})", columns_text(&self.schema))))
        };
        if want.len() != have.len() {
            return refuse(format!("has {} columns, not {}", have.len(), want.len()));
        }
        for (index, (want, have)) in want.iter().zip(have).enumerate() {
            if want.name() != have.name() {
                return refuse(format!(
                    "has column \"{}\" in place {}, not \"{}\"",
                    have.name(),
                    index + 1,
                    want.name()
                ));
            }
            if want.data_type() != have.data_type() {
                return refuse(format!(
                    "has column \"{}\" of type {}, not {}",
                    have.name(),
                    have.data_type(),
                    want.data_type()
                ));
            }
            let nulls = batch.column(index).null_count();
            let is_time = self.time.as_ref().is_some_and(|time| time.index == index);
            // A null event time is a malformed row, not a malformed batch.
            if nulls > 0 && !want.is_nullable() && !is_time {
                return refuse(format!("has {nulls} nulls in column \"{}\"", want.name()));
            }
        }
        // Nullability is all that may differ; the side relation, where null times go, has its own schema.
        let schema = self.relaxed_schema();
        RecordBatch::try_new(schema, batch.columns().to_vec()).map_err(|error| {
            Error::new(
                ErrorKind::Data,
                format!("batch for source \"{}\" is inconsistent", self.name),
            )
            .with_source(error)
        })
    }

    /// The source's schema with a nullable event time, as rows have it before malformed ones are taken out.
    fn relaxed_schema(&self) -> SchemaRef {
        match &self.time {
            Some(time) if !self.schema.field(time.index).is_nullable() => {
                let mut fields: Vec<Arc<Field>> = self.schema.fields().iter().cloned().collect();
                let field = fields[time.index].as_ref().clone().with_nullable(true);
                fields[time.index] = Arc::new(field);
                Arc::new(Schema::new(fields))
            }
            _ => self.schema.clone(),
        }
    }

    /// Rows that all have a usable event time, with the source's own schema again.
    pub(crate) fn strict(&self, rows: RecordBatch) -> Result<RecordBatch> {
        if rows.schema_ref() == &self.schema {
            return Ok(rows);
        }
        let (_, columns, _) = rows.into_parts();
        RecordBatch::try_new(self.schema.clone(), columns).map_err(internal)
    }

    /// The range of event times in a batch.
    pub(crate) fn time_range(&self, batch: &RecordBatch) -> TimeRange {
        let Some(time) = &self.time else {
            return TimeRange { bounds: None, has_unusable: false };
        };
        let column = batch.column(time.index);
        let times = time.time.read(column);
        // The common case, in a loop that compilers turn into vector instructions.
        let extremes = times
            .iter()
            .fold((i64::MAX, i64::MIN), |(least, most), &ns| (least.min(ns), most.max(ns)));
        let (earliest, latest) = (EventTime(extremes.0), EventTime(extremes.1));
        if column.null_count() == 0 && earliest.is_in_range() && latest.is_in_range() {
            return TimeRange { bounds: Some((earliest, latest)), has_unusable: false };
        }
        let (mut least, mut most, mut unusable) = (i64::MAX, i64::MIN, false);
        for (row, &ns) in times.iter().enumerate() {
            if EventTime(ns).is_in_range() && column.is_valid(row) {
                least = least.min(ns);
                most = most.max(ns);
            } else {
                unusable = true;
            }
        }
        let bounds = (least <= most).then_some((EventTime(least), EventTime(most)));
        TimeRange { bounds, has_unusable: unusable }
    }

    /// The rows that are at or above a watermark and have a usable event time, with the source's schema.
    pub(crate) fn in_time(&self, rows: &RecordBatch, watermark: EventTime) -> Result<RecordBatch> {
        let time = self.time.as_ref().expect("only sources with event time sort rows out");
        let column = rows.column(time.index);
        let times = time.time.read(column);
        let keep: BooleanArray = times
            .iter()
            .enumerate()
            .map(|(row, &ns)| {
                let is_usable = EventTime(ns).is_in_range() && column.is_valid(row);
                Some(is_usable && ns >= watermark.0)
            })
            .collect();
        let kept = filter_record_batch(rows, &keep).map_err(internal)?;
        RecordBatch::try_new(self.schema.clone(), kept.columns().to_vec()).map_err(internal)
    }

    /// Splits rows into those that are in time, with the source's schema, and the others, with the schema of the
    /// side relation. Counts the others.
    pub(crate) fn sort_out(
        &self,
        rows: &RecordBatch,
        watermark: EventTime,
        counters: &SourceCounters,
    ) -> Result<(RecordBatch, RecordBatch)> {
        let time = self.time.as_ref().expect("only sources with event time sort rows out");
        let column = rows.column(time.index);
        let times = time.time.read(column);
        let usable: Vec<bool> = times
            .iter()
            .enumerate()
            .map(|(row, &ns)| EventTime(ns).is_in_range() && column.is_valid(row))
            .collect();
        let keep: BooleanArray =
            usable.iter().zip(&*times).map(|(ok, &ns)| Some(*ok && ns >= watermark.0)).collect();
        let drop = arrow::compute::not(&keep).map_err(internal)?;
        let kept = filter_record_batch(rows, &keep).map_err(internal)?;
        let kept = RecordBatch::try_new(self.schema.clone(), kept.columns().to_vec());
        let dropped = filter_record_batch(rows, &drop).map_err(internal)?;
        let reasons: StringArray = (0..rows.num_rows())
            .filter(|&row| drop.value(row))
            .map(|row| Some(if usable[row] { LATE } else { MALFORMED }))
            .collect();
        let late = reasons.iter().filter(|reason| *reason == Some(LATE)).count() as u64;
        counters.rows_late.fetch_add(late, Ordering::Relaxed);
        counters.rows_malformed.fetch_add(reasons.len() as u64 - late, Ordering::Relaxed);
        let mut columns: Vec<ArrayRef> = dropped.columns().to_vec();
        columns.push(Arc::new(reasons));
        let dropped = RecordBatch::try_new(self.late_schema(), columns);
        Ok((kept.map_err(internal)?, dropped.map_err(internal)?))
    }
}

fn internal(error: arrow::error::ArrowError) -> Error {
    Error::internal("rows could not be sorted by lateness").with_source(error)
}

/// Columns as CREATE SOURCE would list them.
pub(crate) fn columns_text(schema: &Schema) -> String {
    let columns = schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type()));
    columns.collect::<Vec<_>>().join(", ")
}

/// A source as the ingress follows it.
// Each says something of its own, and any may hold with any.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug)]
pub(crate) struct SourceState {
    pub(crate) spec: Arc<SourceSpec>,
    pub(crate) counters: Arc<SourceCounters>,
    latest: EventTime,
    by_host: EventTime,
    announced: EventTime,
    /// The latest watermark before the source was closed.
    while_open: EventTime,
    last_push: Duration,
    /// For how long it had been silent, if it was idle, when the checkpoint was taken that the engine goes on from.
    silent_before: Duration,
    idle_by_host: bool,
    pub(crate) closed: bool,
    /// Whether the workers have been told that it is closed.
    pub(crate) end_announced: bool,
    /// It had been closed when the checkpoint was taken that the engine goes on from.
    was_closed: bool,
}

impl SourceState {
    pub(crate) fn new(spec: Arc<SourceSpec>, counters: Arc<SourceCounters>, now: Duration) -> Self {
        Self {
            spec,
            counters,
            latest: EventTime::MIN,
            by_host: EventTime::MIN,
            announced: EventTime::MIN,
            while_open: EventTime::MIN,
            last_push: now,
            silent_before: Duration::ZERO,
            idle_by_host: false,
            closed: false,
            end_announced: false,
            was_closed: false,
        }
    }

    /// Goes on from where a source stood. Time without an engine is no silence.
    pub(crate) fn restore(&mut self, record: &SourceRecord) {
        self.latest = EventTime(record.latest);
        self.by_host = EventTime(record.by_host);
        self.announced = EventTime(record.announced);
        self.while_open = EventTime(record.while_open);
        self.silent_before = Duration::from_nanos(record.silent_ns);
        self.idle_by_host = record.idle;
        self.closed = record.closed;
        self.end_announced = record.closed;
        self.was_closed = record.closed;
        let counters = &self.counters;
        counters.rows.store(record.rows, Ordering::Relaxed);
        counters.batches.store(record.batches, Ordering::Relaxed);
        counters.rows_late.store(record.rows_late, Ordering::Relaxed);
        counters.rows_malformed.store(record.rows_malformed, Ordering::Relaxed);
        counters.rows_unreadable.store(record.rows_unreadable, Ordering::Relaxed);
    }

    /// Where the source stands, for a checkpoint.
    pub(crate) fn record(&self, now: Duration) -> SourceRecord {
        let counters = &self.counters;
        let (rows_late, rows_malformed) = counters.dropped();
        SourceRecord {
            name: self.spec.name.clone(),
            declared: self.spec.declared(),
            rows: counters.rows.load(Ordering::Relaxed),
            batches: counters.batches.load(Ordering::Relaxed),
            rows_late,
            rows_malformed,
            rows_unreadable: counters.rows_unreadable.load(Ordering::Relaxed),
            latest: self.latest.0,
            by_host: self.by_host.0,
            announced: self.announced.0,
            while_open: self.while_open.0,
            // One that is not idle gets its whole time again: rows that are pushed again need some of it.
            silent_ns: match self.is_idle(now) {
                true => u64::try_from(self.silence(now).as_nanos()).unwrap_or(u64::MAX),
                false => 0,
            },
            idle: self.idle_by_host,
            closed: self.closed,
        }
    }

    /// Whether queries may start to read it. One that was closed before a restart may be read by the queries that had
    /// read it: they have nothing more to say.
    pub(crate) fn is_readable(&self) -> bool {
        !self.closed || self.was_closed
    }

    /// Takes note of a push.
    pub(crate) fn pushed(&mut self, range: TimeRange, now: Duration) {
        if let Some((_, latest)) = range.bounds {
            self.latest = self.latest.max(latest);
        }
        self.last_push = now;
        self.silent_before = Duration::ZERO;
        self.idle_by_host = false;
    }

    /// Takes the host's word that no row below `watermark` will follow.
    pub(crate) fn advance(&mut self, watermark: EventTime) -> Result<()> {
        self.check_open()?;
        self.by_host = self.by_host.max(watermark);
        Ok(())
    }

    /// Takes the host's word that nothing will come for a while.
    pub(crate) fn declare_idle(&mut self) -> Result<()> {
        self.check_open()?;
        self.idle_by_host = true;
        Ok(())
    }

    /// Takes the host's word that nothing will come any more.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    fn check_open(&self) -> Result<()> {
        match self.closed {
            true => Err(Error::closed(&format!("source \"{}\"", self.spec.name))),
            false => Ok(()),
        }
    }

    /// When silence makes the source idle; `None` if it never does or has said nothing yet.
    pub(crate) fn idle_at(&self) -> Option<Duration> {
        let timeout = self.spec.time.as_ref()?.idle_timeout?;
        (!self.closed && self.latest > EventTime::MIN)
            .then(|| self.last_push.saturating_add(timeout.saturating_sub(self.silent_before)))
    }

    /// For how long nothing has been pushed.
    fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(self.last_push).saturating_add(self.silent_before)
    }

    /// Whether the source is idle.
    pub(crate) fn is_idle(&self, now: Duration) -> bool {
        self.idle_by_host || self.idle_at().is_some_and(|at| at <= now)
    }

    /// The watermark as of now, allowed lateness taken off; never less than what was announced before.
    ///
    /// While the source is idle the watermark goes on with the clock from the last push, so that windows close
    /// although nothing arrives; what arrives later with later times is not late.
    pub(crate) fn watermark(&self, now: Duration) -> EventTime {
        match self.closed {
            true => EventTime::MAX,
            false => self.open_watermark(now),
        }
    }

    /// The watermark as it is while the source is open.
    fn open_watermark(&self, now: Duration) -> EventTime {
        let Some(time) = &self.spec.time else { return EventTime::MIN };
        let mut watermark = self.by_host;
        if let Some(delay) = time.delay_ns.filter(|_| self.latest > EventTime::MIN) {
            let mut by_rows = self.latest.0.saturating_sub(delay);
            if self.is_idle(now) {
                let silence = self.silence(now).as_nanos();
                by_rows = by_rows.saturating_add(i64::try_from(silence).unwrap_or(i64::MAX));
            }
            // Only the end of a source says MAX.
            watermark = watermark.max(EventTime(by_rows.min(i64::MAX - 1)));
        }
        self.while_open.max(watermark.minus_ns(time.lateness_ns))
    }

    /// The watermark as last told to the workers.
    pub(crate) fn announced(&self) -> EventTime {
        self.announced
    }

    /// Where the watermark stood last while the source was open, as of what was told last.
    pub(crate) fn while_open(&self) -> EventTime {
        self.while_open
    }

    /// Remembers what the workers are being told; `None` if that is nothing new.
    pub(crate) fn announce(&mut self, now: Duration) -> Option<EventTime> {
        let watermark = self.watermark(now);
        self.while_open = self.open_watermark(now);
        let ends = self.closed && !self.end_announced;
        if watermark == self.announced && !ends {
            return None;
        }
        self.announced = watermark;
        self.end_announced = self.closed;
        Some(watermark)
    }
}

/// What a batch takes beside its values, and each of its columns: most of what a batch of one row takes.
const BYTES_PER_BATCH: usize = 512;
const BYTES_PER_COLUMN: usize = 384;

/// Rows of a batch that has a dictionary or view layout share buffers; this is what the batch alone would take.
pub(crate) fn bytes_of(rows: &RecordBatch) -> usize {
    let columns = rows.columns().iter().map(|column| {
        let data = column.to_data();
        let values = data.get_slice_memory_size();
        BYTES_PER_COLUMN + values.unwrap_or_else(|_| column.get_array_memory_size())
    });
    BYTES_PER_BATCH + columns.sum::<usize>()
}

#[cfg(test)]
mod tests;
