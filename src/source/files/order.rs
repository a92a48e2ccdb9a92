//! Rows of many files in the order of event time: a survey first, then a merge that holds few rows.
//!
//! The survey reads the event times of every file and keeps two numbers of each: its earliest time, and its
//! disorder, which is how far a row lies below the latest row before it. So the merge knows what a file may still
//! bring: nothing below its earliest time while it is unopened, and nothing below its latest row less its disorder
//! afterwards. Rows below that bound of every file are handed out; the others are held, up to a stated number. A
//! sorted file holds about one batch, files one after another in time are open one at a time, and a shuffled file
//! is held whole.
//!
//! The order is that of (event time, file, row), whatever the size of batches.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::{interleave_record_batch, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};

use super::event_time::event_times;
use super::failure::data;
use super::malformed::MalformedRows;
use super::open::OpenFile;
use super::options::{FileReadOptions, MalformedPolicy};
use crate::error::{Error, ErrorKind, Result};

/// The fewest rows that are read of a file at once.
const STEP_ROWS_MIN: usize = 16;

/// Files merged by event time.
pub(super) struct Merge {
    schema: SchemaRef,
    /// The same with event times that are not null.
    timed_schema: SchemaRef,
    batch_rows: usize,
    rows_in_order_max: usize,
    read_options: FileReadOptions,
    time_index: usize,
    files: Vec<MergedFile>,
    /// Files that have rows to bring, by what they may still bring: the bound of time, then the file.
    unfinished: BinaryHeap<Reverse<(i64, usize)>>,
    runs: BTreeMap<u64, Run>,
    /// The first row of each run: time, file, number of the run.
    heads: BinaryHeap<Reverse<(i64, usize, u64)>>,
    next_run: u64,
    rows_held: usize,
}

struct MergedFile {
    path: PathBuf,
    disorder_ns: i64,
    latest: i64,
    open: Option<OpenFile>,
}

/// A batch whose rows are sorted by event time.
struct Run {
    file: usize,
    batch: RecordBatch,
    times: Vec<i64>,
    next: usize,
}

#[derive(Clone, Copy)]
struct Survey {
    earliest: i64,
    latest: i64,
    disorder_ns: i64,
}

impl Merge {
    /// Surveys `paths`.
    pub(super) fn survey(
        paths: &[PathBuf],
        schema: &SchemaRef,
        time_index: usize,
        options: &FileReadOptions,
    ) -> Result<Self> {
        // A row without event time has no place in this order: while reading it counts as malformed.
        let fields = schema.fields().iter().enumerate().map(|(index, field)| {
            let is_nullable = field.is_nullable() && index != time_index;
            field.as_ref().clone().with_nullable(is_nullable)
        });
        let mut spans = Vec::new();
        let mut merge = Self {
            schema: schema.clone(),
            timed_schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            batch_rows: options.batch_rows,
            rows_in_order_max: options.rows_in_order_max,
            read_options: options.clone(),
            time_index,
            files: Vec::new(),
            unfinished: BinaryHeap::new(),
            runs: BTreeMap::new(),
            heads: BinaryHeap::new(),
            next_run: 0,
            rows_held: 0,
        };
        for path in paths {
            let survey = survey_file(path, schema, time_index, options)?;
            spans.push((survey.earliest, survey.latest));
            merge.unfinished.push(Reverse((survey.earliest, merge.files.len())));
            merge.files.push(MergedFile {
                path: path.clone(),
                disorder_ns: survey.disorder_ns,
                latest: i64::MIN,
                open: None,
            });
        }
        // Where many files overlap in time, each is read in smaller steps, so that half the bound suffices.
        let rows = options.rows_in_order_max / (2 * overlap_of(&spans)).max(1);
        merge.read_options.batch_rows =
            rows.clamp(STEP_ROWS_MIN.min(options.batch_rows), options.batch_rows);
        Ok(merge)
    }

    /// The next batch in order; `None` when every file has ended.
    pub(super) fn next(&mut self, malformed: &mut MalformedRows) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.take_ordered()? {
                return Ok(Some(batch));
            }
            let Some(Reverse((bound, file))) = self.unfinished.pop() else { return Ok(None) };
            self.read_on(file, bound, malformed)?;
        }
    }

    /// Reads a batch of the file that holds the others back.
    fn read_on(&mut self, file: usize, bound: i64, malformed: &mut MalformedRows) -> Result<()> {
        let state = &mut self.files[file];
        if state.open.is_none() {
            let opened = OpenFile::open(&state.path, &self.timed_schema, &self.read_options)?;
            state.open = Some(opened);
        }
        let Some(open) = &mut state.open else { return Ok(()) };
        let Some(batch) = open.next(malformed)? else {
            state.open = None;
            return Ok(());
        };
        let times = event_times(batch.column(self.time_index))?;
        let times: Vec<i64> = times.into_iter().flatten().collect();
        let batch = batch.with_schema(self.schema.clone()).map_err(kernel_failed)?;
        let latest = times.iter().copied().fold(state.latest, i64::max);
        if times.iter().any(|time| *time < bound) {
            return Err(data(&state.path, "changed while it was read in order of event time"));
        }
        state.latest = latest;
        self.rows_held += times.len();
        self.unfinished.push(Reverse((latest.saturating_sub(state.disorder_ns), file)));
        if self.rows_held > self.rows_in_order_max {
            return Err(self.too_far_apart(file));
        }
        self.add_run(file, batch, times)
    }

    fn add_run(&mut self, file: usize, batch: RecordBatch, times: Vec<i64>) -> Result<()> {
        let Some(&first) = times.iter().min() else { return Ok(()) };
        let (batch, times) = if times.is_sorted() {
            (batch, times)
        } else {
            let mut rows: Vec<(i64, u64)> = times.iter().copied().zip(0..).collect();
            rows.sort_unstable();
            let times = rows.iter().map(|row| row.0).collect();
            let rows: UInt64Array = rows.into_iter().map(|row| row.1).collect();
            let sorted = take_record_batch(&batch, &rows).map_err(kernel_failed)?;
            (sorted, times)
        };
        self.heads.push(Reverse((first, file, self.next_run)));
        self.runs.insert(self.next_run, Run { file, batch, times, next: 0 });
        self.next_run += 1;
        Ok(())
    }

    /// Takes the rows that no unread row can precede.
    fn take_ordered(&mut self) -> Result<Option<RecordBatch>> {
        let safe = self.unfinished.peek().map(|Reverse(bound)| *bound);
        let is_safe = |time: i64, file: usize| safe.is_none_or(|safe| (time, file) <= safe);
        // Stretches of rows: run, first row, end.
        let mut stretches: Vec<(u64, usize, usize)> = Vec::new();
        let mut rows = 0;
        while rows < self.batch_rows {
            let Some(&Reverse((time, file, number))) = self.heads.peek() else { break };
            if !is_safe(time, file) {
                break;
            }
            self.heads.pop();
            let Some(run) = self.runs.get_mut(&number) else { break };
            let rival = self.heads.peek().map(|Reverse(head)| *head);
            let start = run.next;
            let most = run.times.len().min(start + self.batch_rows - rows);
            while run.next < most {
                let time = run.times[run.next];
                if !is_safe(time, file) || rival.is_some_and(|rival| (time, file, number) > rival) {
                    break;
                }
                run.next += 1;
            }
            if let Some(&time) = run.times.get(run.next) {
                self.heads.push(Reverse((time, run.file, number)));
            }
            rows += run.next - start;
            stretches.push((number, start, run.next));
        }
        if rows == 0 {
            return Ok(None);
        }
        self.rows_held -= rows;
        let batch = self.gather(&stretches)?;
        for (number, _, end) in stretches {
            if self.runs.get(&number).is_some_and(|run| end == run.times.len()) {
                self.runs.remove(&number);
            }
        }
        Ok(Some(batch))
    }

    fn gather(&self, stretches: &[(u64, usize, usize)]) -> Result<RecordBatch> {
        if let [(number, start, end)] = stretches {
            return Ok(self.runs[number].batch.slice(*start, end - start));
        }
        let mut places = BTreeMap::new();
        let mut batches = Vec::new();
        let mut rows = Vec::new();
        for (number, start, end) in stretches {
            let place = *places.entry(*number).or_insert_with(|| {
                batches.push(&self.runs[number].batch);
                batches.len() - 1
            });
            rows.extend((*start..*end).map(|row| (place, row)));
        }
        interleave_record_batch(&batches, &rows).map_err(kernel_failed)
    }

    fn too_far_apart(&self, file: usize) -> Error {
        let disordered =
            self.files.iter().filter(|file| file.open.is_some() && file.disorder_ns > 0);
        let hint = match disordered.max_by_key(|file| file.disorder_ns) {
            Some(worst) => format!(
                "rows of file \"{}\" are out of order by up to {} s; \
                 sort it, or raise rows_in_order_max",
                worst.path.display(),
                worst.disorder_ns / 1_000_000_000,
            ),
            None => "many files overlap in time; raise rows_in_order_max, or lower batch_rows"
                .to_owned(),
        };
        let held = self.rows_held;
        let max = self.rows_in_order_max;
        let problem = format!(
            "needs {held} rows in memory to be put in order, more than rows_in_order_max = {max}"
        );
        data(&self.files[file].path, problem).with_hint(hint)
    }
}

fn survey_file(
    path: &Path,
    schema: &SchemaRef,
    time_index: usize,
    options: &FileReadOptions,
) -> Result<Survey> {
    // Only the time column is read; what is malformed there is counted when the rows are read.
    let times_only: SchemaRef = Arc::new(Schema::new(vec![schema.field(time_index).clone()]));
    let mut malformed = MalformedRows::new(MalformedPolicy::Skip);
    let mut file = OpenFile::open(path, &times_only, options)?;
    let mut survey: Option<Survey> = None;
    while let Some(batch) = file.next(&mut malformed)? {
        for time in event_times(batch.column(0))?.into_iter().flatten() {
            let survey =
                survey.get_or_insert(Survey { earliest: time, latest: time, disorder_ns: 0 });
            survey.earliest = survey.earliest.min(time);
            survey.latest = survey.latest.max(time);
            survey.disorder_ns = survey.disorder_ns.max(survey.latest.saturating_sub(time));
        }
    }
    // A file without times still has its malformed rows to be counted, at the end.
    Ok(survey.unwrap_or(Survey { earliest: i64::MAX, latest: i64::MAX, disorder_ns: 0 }))
}

/// The most files whose spans of event time have a moment in common.
fn overlap_of(spans: &[(i64, i64)]) -> usize {
    let mut starts: Vec<i64> = spans.iter().map(|span| span.0).collect();
    let mut ends: Vec<i64> = spans.iter().map(|span| span.1).collect();
    starts.sort_unstable();
    ends.sort_unstable();
    let mut ended = 0;
    let open_at = |(begun, start): (usize, &i64)| {
        while ends[ended] < *start {
            ended += 1;
        }
        begun + 1 - ended
    };
    starts.iter().enumerate().map(open_at).max().unwrap_or(0)
}

fn kernel_failed(error: arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::Internal, "rows could not be put in order").with_source(error)
}
