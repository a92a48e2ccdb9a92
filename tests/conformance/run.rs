//! Runs scripts: prepares rows and answers once, then feeds one engine for each feed with all queries of a script.
//!
//! Queries of one engine are dataflows of their own that share nothing but the rows, so that many cells may share an
//! engine, and an answer is worked out once for all cells that differ in nothing it could depend on.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use driftline::arrow::array::RecordBatch;
use driftline::arrow::compute::concat_batches;
use driftline::arrow::datatypes::SchemaRef;
use driftline::{Engine, MemoryStore};

use super::axes::{Cell, Counted, Emit, Feed, Filter, Late, OFFSETS};
use super::batch::Batch;
use super::case::{Case, Fill, Query, Script};
use super::changes::{lines, one_spaced, summed_up};
use super::engines::{Running, engine, restarts, text};
use super::feed::{SourceRows, Step, steps};
use super::generate;
use super::report::Report;
use crate::support::{Cell as Value, cells, difference};

/// A feed that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a case must give.
#[derive(Debug)]
enum Answer {
    Rows(Vec<Vec<Value>>),
    Lines(Vec<String>),
    /// The file gives rows for a run without late rows that count.
    NotGiven,
}

/// A case, the place of its offset, and which rows count.
type AnswerKey = (usize, Option<usize>, Counted);

/// A script with everything that its cells share.
#[derive(Debug)]
struct Prepared {
    script: Script,
    sources: Vec<SourceRows>,
    answers: HashMap<AnswerKey, Result<Answer, String>>,
}

/// Runs all cells that the filter takes, on two threads: engines have threads of their own.
pub(crate) fn all(scripts: Vec<Script>, filter: &Filter) -> Report {
    let prepared = in_parallel(scripts, |script| Arc::new(Prepared::new(script)));
    let mut jobs = Vec::new();
    for prepared in &prepared {
        for feed in Feed::all() {
            let cells = prepared.cells(feed, filter);
            if !cells.is_empty() {
                jobs.push((Arc::clone(prepared), feed, cells));
            }
        }
    }
    let mut report = Report::default();
    let reports = in_parallel(jobs, |(prepared, feed, cells)| prepared.run(feed, &cells));
    reports.into_iter().for_each(|part| report.add(part));
    report
}

/// Applies `work` to all items on two threads, and gives up with a panic when one hangs or panics.
fn in_parallel<T: Send + 'static, R: Send + 'static>(
    items: Vec<T>,
    work: impl Fn(T) -> R + Send + Sync + 'static,
) -> Vec<R> {
    let count = items.len();
    let queue = Arc::new(Mutex::new(items.into_iter().enumerate().collect::<VecDeque<_>>()));
    let work = Arc::new(work);
    let (send, receive) = mpsc::channel();
    for _ in 0..2 {
        let (queue, work, send) = (Arc::clone(&queue), Arc::clone(&work), send.clone());
        std::thread::spawn(move || {
            loop {
                let next = queue.lock().expect("no thread panics with the queue").pop_front();
                let Some((index, item)) = next else { break };
                if send.send((index, work(item))).is_err() {
                    break;
                }
            }
        });
    }
    drop(send);
    let mut done = BTreeMap::new();
    while done.len() < count {
        match receive.recv_timeout(PATIENCE) {
            Ok((index, result)) => done.insert(index, result),
            Err(error) => {
                panic!("{} of {count} are done, the next one hangs or panics: {error}", done.len())
            }
        };
    }
    done.into_values().collect()
}

impl Prepared {
    fn new(script: Script) -> Self {
        let mut sources = Vec::new();
        for (source, schema) in script.sources.iter().zip(schemas(&script)) {
            let rows = match &source.fill {
                Fill::Nothing => RecordBatch::new_empty(schema),
                Fill::Generated { pattern, seed, rows, seconds } => {
                    generate::rows(&schema, *pattern, *seed, *rows, *seconds)
                }
                Fill::Inline(values) => {
                    let rows = Batch::new().values(values, &schema);
                    rows.unwrap_or_else(|error| panic!("{}: {error}", script.name))
                }
            };
            sources.push(SourceRows::new(
                &source.name,
                &rows,
                source.disorder_ns,
                source.behind_ns,
            ));
        }
        let mut answers = HashMap::new();
        let late = Emit::ALL.into_iter().filter(|emit| emit.takes_late_ns(0) > 0);
        let left = [false, true].map(|within| Counted::Left { within });
        let all = [Counted::InTime, Counted::Within].into_iter().chain(left);
        // When one source has ended, the watermark of two is that of the other.
        let end = sources.iter().filter_map(SourceRows::last_watermark).max().unwrap_or(i64::MIN);
        for counted in all.chain(late.map(Counted::Late)) {
            let batch = Batch::new();
            let mut made = Ok(());
            for source in &sources {
                let parts = source.counted(counted, end);
                let rows = concat_batches(&parts[0].schema(), &parts).expect("of one schema");
                made = made.and(batch.table(&source.name, rows));
            }
            for view in &script.views {
                made = made.and_then(|()| batch.query(view).map(|_| ()));
            }
            let asked = |case: &Case| match counted {
                Counted::InTime | Counted::Within => true,
                Counted::Left { .. } => case.is_retained(),
                Counted::Late(_) => !case.is_retained(),
            };
            for (index, case) in script.cases.iter().enumerate().filter(|(_, case)| asked(case)) {
                let all: BTreeSet<_> = case.queries.iter().flat_map(offsets).collect();
                for offset in all {
                    let answer = made.clone().and_then(|()| answer(case, offset, counted, &batch));
                    answers.insert((index, offset, counted), answer);
                }
            }
        }
        Self { script, sources, answers }
    }

    /// The cells of a feed that run, with their case and query.
    fn cells(&self, feed: Feed, filter: &Filter) -> Vec<(Cell, usize, usize)> {
        let mut cells = Vec::new();
        for (case_index, case) in self.script.cases.iter().enumerate() {
            for (query_index, query) in case.queries.iter().enumerate() {
                for offset in offsets(query) {
                    let retains = query.is_retained();
                    for emit in Emit::ALL.into_iter().filter(|emit| emit.retains() == retains) {
                        let name = format!("{}/{}", self.script.name, case.label);
                        let cell = Cell { case: name, offset, emit, feed };
                        let answer = self.answers.get(&(case_index, offset, cell.counted()));
                        let is_given = !matches!(answer, Some(Ok(Answer::NotGiven)));
                        let is_chosen =
                            filter.all_cells || case_index == 0 || cell.is_sampled(case_index);
                        if is_given
                            && is_chosen
                            && cell.meets(&query.conditions)
                            && filter.takes(&cell)
                        {
                            cells.push((cell, case_index, query_index));
                        }
                    }
                }
            }
        }
        cells
    }

    /// Runs all cells of a feed in one engine.
    fn run(&self, feed: Feed, cells: &[(Cell, usize, usize)]) -> Report {
        let mut report = Report { cells_of_cases: cells.len(), ..Report::default() };
        let query = |case: usize, query: usize| &self.script.cases[case].queries[query];
        let fed = self.feed(feed, cells.iter().map(|(cell, c, q)| (cell, query(*c, *q))).collect());
        let (results, late) = match fed {
            Ok(fed) => fed,
            Err(error) => {
                for (cell, c, q) in cells {
                    report.failed(cell, query(*c, *q).line, &format!("the engine: {error}"));
                }
                return report;
            }
        };
        for ((cell, case, place), result) in cells.iter().zip(results) {
            let key = (*case, cell.offset, cell.counted());
            let verdict = match &self.answers[&key] {
                Err(error) => Err(error.clone()),
                Ok(answer) => result.and_then(|found| compare(cell, found, answer)),
            };
            match verdict {
                Ok(()) => report.passed(),
                Err(what) => report.failed(cell, query(*case, *place).line, &what),
            }
        }
        for (source, found) in self.sources.iter().zip(late) {
            let expected = match feed.late {
                Late::Beyond => vec![source.beyond.clone()],
                Late::None | Late::Within => Vec::new(),
            };
            let verdict =
                found.map(|found| difference(&self::cells(&found), &self::cells(&expected)));
            let case = format!("{}/LATE({})", self.script.name, source.name);
            let cell = Cell { case, offset: None, emit: Emit::Close, feed };
            match verdict {
                Ok(None) => report.passed(),
                Ok(Some(what)) | Err(what) => report.failed(&cell, 0, &what),
            }
        }
        report
    }

    /// The results of each query, and the late rows of each source.
    #[allow(clippy::type_complexity)]
    fn feed(
        &self,
        feed: Feed,
        queries: Vec<(&Cell, &Query)>,
    ) -> Result<
        (Vec<Result<Vec<RecordBatch>, String>>, Vec<Result<Vec<RecordBatch>, String>>),
        String,
    > {
        let sql = |(cell, query): &(&Cell, &Query)| {
            format!("{} {}", with_offset(&query.sql, cell.offset), cell.emit.clause())
        };
        let queries: Vec<String> = queries.iter().map(sql).collect();
        let store = Arc::new(MemoryStore::default());
        let steps = steps(&self.sources, feed);
        let mut running = Running::start(&self.script, &queries, feed.workers, &store)?;
        let mut taken: Vec<Vec<RecordBatch>> = vec![Vec::new(); running.results.len()];
        let mut from = 0;
        for (place, until, workers) in restarts(feed, steps.len()) {
            running.push(&steps[from..until])?;
            if place % 2 == 1 {
                // What has been read is not in the checkpoint; in other places what has not been read comes again.
                running.take(&mut taken)?;
            }
            running.engine.checkpoint().map_err(text)?;
            // Rows that are lost with the engine, and pushed again.
            running.push(&steps[until..steps.len().min(until + 3)])?;
            drop(running);
            running = Running::start(&self.script, &queries, workers, &store)?;
            for source in &self.sources {
                let pushed = |step: &Step<'_>| match step {
                    Step::Push(name, rows) if *name == source.name => rows.num_rows(),
                    Step::Push(..) | Step::Drain => 0,
                };
                let pushed: usize = steps[..until].iter().map(pushed).sum();
                let resume_at = running.engine.source(&source.name).map_err(text)?.resume_at();
                if resume_at != pushed as u64 {
                    return Err(format!(
                        "source {} goes on at row {resume_at}, not {pushed}",
                        source.name
                    ));
                }
            }
            from = until;
        }
        running.push(&steps[from..])?;
        let mut results = running.finish(taken)?;
        let late = results.split_off(queries.len());
        Ok((results, late))
    }
}

fn schemas(script: &Script) -> Vec<SchemaRef> {
    let builder = Engine::builder().workers(1);
    let engine =
        engine(script, builder).unwrap_or_else(|error| panic!("{}.slt: {error}", script.name));
    let schema = |name: &str| engine.source(name).expect("it was created").schema();
    script.sources.iter().map(|source| schema(&source.name)).collect()
}

/// The values of the offset axis that a query runs with.
fn offsets(query: &Query) -> Vec<Option<usize>> {
    match query.sql.contains("$offset") {
        true => (0..OFFSETS.len()).map(Some).collect(),
        false => vec![None],
    }
}

fn with_offset(sql: &str, offset: Option<usize>) -> String {
    let millis = offset.map_or(0, |offset| OFFSETS[offset]);
    sql.replace("$offset", &format!("INTERVAL '{millis} milliseconds'"))
}

fn answer(
    case: &Case,
    offset: Option<usize>,
    counted: Counted,
    batch: &Batch,
) -> Result<Answer, String> {
    if let Some(lines) = &case.expected {
        if counted != Counted::InTime {
            return Ok(Answer::NotGiven);
        }
        let mut lines: Vec<String> = lines.iter().map(|line| one_spaced(line)).collect();
        lines.sort();
        return Ok(Answer::Lines(lines));
    }
    let sql = case.batch.as_ref().unwrap_or(&case.queries[0].sql);
    let rows = cells(&batch.query(&with_offset(sql, offset))?);
    match rows.is_empty() {
        true => Err("the batch gives no row: this case proves nothing".into()),
        false => Ok(Answer::Rows(rows)),
    }
}

/// Says what is wrong, if something is.
fn compare(cell: &Cell, found: Vec<RecordBatch>, answer: &Answer) -> Result<(), String> {
    let found = if cell.emit.is_changelog() { summed_up(&found)? } else { found };
    let wrong = match answer {
        Answer::Rows(expected) => difference(&cells(&found), expected),
        Answer::Lines(expected) => {
            let mut lines = lines(&found);
            lines.sort();
            (lines != *expected).then(|| {
                format!(
                    "   found {}\nexpected {}",
                    lines.join("\n         "),
                    expected.join("\n         ")
                )
            })
        }
        Answer::NotGiven => None,
    };
    wrong.map_or(Ok(()), Err)
}
