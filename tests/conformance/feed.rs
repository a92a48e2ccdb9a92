//! The rows of a script, and how a feed cuts and orders them.

use driftline::arrow::array::{RecordBatch, UInt32Array};
use driftline::arrow::compute::{filter_record_batch, take_record_batch};
use driftline::arrow::datatypes::SchemaRef;

use super::axes::{Counted, FORGET_NS, Feed, Late, Order};
use super::generate::{rows_at, times_of};
use crate::support::{SECOND, Seeded, shuffled};

/// Rows of one source: two halves, and late rows that come between them or at the end.
#[derive(Clone, Debug)]
pub(crate) struct SourceRows {
    pub(crate) name: String,
    disorder_ns: i64,
    /// How far below the latest row the watermark is.
    behind_ns: i64,
    /// In order of event time.
    first: RecordBatch,
    second: RecordBatch,
    /// Not below the watermark of the first half, or of both.
    within: [RecordBatch; 2],
    /// Below the watermark of the first half.
    pub(crate) beyond: RecordBatch,
}

/// What is done to an engine, one after the other.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    Push(&'a str, RecordBatch),
    /// Lets the watermark come up.
    Drain,
}

impl SourceRows {
    /// `rows` are in order of event time.
    pub(crate) fn new(name: &str, rows: &RecordBatch, disorder_ns: i64, behind_ns: i64) -> Self {
        let half = rows.num_rows() / 2;
        let (first, second) = (rows.slice(0, half), rows.slice(half, rows.num_rows() - half));
        let mut random = Seeded(99);
        let schema = rows.schema();
        let latest = |rows: &RecordBatch| times_of(rows).last().copied();
        // Rows at the watermark itself count still, one nanosecond earlier they do not.
        let within = [&first, &second].map(|rows| match latest(rows) {
            Some(latest) => extra(&schema, &mut random, latest - behind_ns, latest - 1),
            None => RecordBatch::new_empty(schema.clone()),
        });
        let beyond = match latest(&first) {
            Some(latest) => {
                let watermark = latest - behind_ns;
                extra(&schema, &mut random, watermark - 20 * SECOND, watermark - 1)
            }
            None => RecordBatch::new_empty(schema.clone()),
        };
        Self { name: name.to_owned(), disorder_ns, behind_ns, first, second, within, beyond }
    }

    /// The watermark after all rows.
    pub(crate) fn last_watermark(&self) -> Option<i64> {
        let latest = |rows: &RecordBatch| times_of(rows).last().copied();
        latest(&self.second).or_else(|| latest(&self.first)).map(|latest| latest - self.behind_ns)
    }

    /// All rows that count, where the query's last watermark is `end`.
    pub(crate) fn counted(&self, counted: Counted, end: i64) -> Vec<RecordBatch> {
        let mut rows = vec![self.first.clone(), self.second.clone()];
        match counted {
            Counted::InTime => {}
            Counted::Within => rows.extend(self.within.clone()),
            Counted::Left { within } => {
                rows.extend(self.within.iter().filter(|_| within).cloned());
                for rows in &mut rows {
                    let is_left = |time: i64| Some(time + FORGET_NS > end);
                    let left = times_of(rows).into_iter().map(is_left).collect();
                    *rows = filter_record_batch(rows, &left).expect("one flag for each row");
                }
            }
            Counted::Late(emit) => {
                let ns = emit.takes_late_ns(self.behind_ns - self.disorder_ns);
                let least =
                    times_of(&self.first).last().map_or(0, |latest| latest - self.behind_ns - ns);
                let late =
                    times_of(&self.beyond).into_iter().map(|time| Some(time >= least)).collect();
                rows.push(filter_record_batch(&self.beyond, &late).expect("one flag for each row"));
            }
        }
        rows
    }

    /// In four phases; between them the watermark comes up if late rows are about to come.
    fn phases(&self, feed: Feed) -> [RecordBatch; 4] {
        let none = RecordBatch::new_empty(self.first.schema());
        let [between, end] = match feed.late {
            Late::None => [none.clone(), none],
            Late::Within => self.within.clone(),
            Late::Beyond => [self.beyond.clone(), none],
        };
        let first = ordered(&self.first, feed.order, self.disorder_ns);
        [first, between, ordered(&self.second, feed.order, self.disorder_ns), end]
    }
}

/// A dozen rows with times from `from` to `to`, both among them, none twice.
fn extra(schema: &SchemaRef, random: &mut Seeded, from: i64, to: i64) -> RecordBatch {
    let span = (to - from).max(0) as u64 + 1;
    let mut times = vec![from, to];
    times.extend((0..10).map(|_| from + random.below(span) as i64));
    times.sort_unstable();
    times.dedup();
    // Out of order as well.
    times.rotate_left(5);
    rows_at(schema, random, &times)
}

/// Rows in another order, none moved past one that lies further away than the disorder.
fn ordered(rows: &RecordBatch, order: Order, disorder_ns: i64) -> RecordBatch {
    if disorder_ns == 0 || rows.num_rows() == 0 {
        return rows.clone();
    }
    match order {
        Order::Sorted => rows.clone(),
        Order::Shuffled => {
            let time = super::generate::time_column(rows.schema_ref());
            assert_eq!(time, 0, "a source's event time is its first column");
            shuffled(rows, disorder_ns, 7)
        }
        Order::Reversed => {
            let times = times_of(rows);
            let mut places: Vec<u32> = (0..rows.num_rows() as u32).collect();
            let block = |row: u32| (times[row as usize] - times[0]).div_euclid(disorder_ns);
            places.sort_by_key(|row| (block(*row), -times[*row as usize]));
            take_record_batch(rows, &UInt32Array::from(places)).expect("places are rows")
        }
    }
}

/// Several sources take turns.
pub(crate) fn steps(sources: &[SourceRows], feed: Feed) -> Vec<Step<'_>> {
    let phases: Vec<[RecordBatch; 4]> = sources.iter().map(|source| source.phases(feed)).collect();
    let mut steps = Vec::new();
    for phase in 0..4 {
        let longest = phases.iter().map(|rows| rows[phase].num_rows()).max().unwrap_or(0);
        if feed.late != Late::None && longest > 0 {
            steps.push(Step::Drain);
        }
        for start in (0..longest).step_by(feed.batch_rows) {
            for (source, rows) in sources.iter().zip(&phases) {
                let rows = &rows[phase];
                if start < rows.num_rows() {
                    let length = feed.batch_rows.min(rows.num_rows() - start);
                    steps.push(Step::Push(&source.name, rows.slice(start, length)));
                }
            }
        }
    }
    steps
}
