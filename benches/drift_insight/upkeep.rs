//! Counts over a history that moves on: one mini-batch by retraction beside counting everything anew.
//!
//! Both go through the engine's own operator for counted relations, on a timely worker without an engine around it, so
//! that nothing but the upkeep is timed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use driftline::arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use driftline::arrow::datatypes::{DataType, Field, Int64Type, Schema};
use driftline_operators::batch::Batch;
use driftline_operators::dataflow::{QueryContext, maintain};
use driftline_operators::detector::SideRelation;
use driftline_operators::model::Upkeep;
use driftline_operators::time::Epoch;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::{Inspect, Probe, probe};
use timely::worker::Worker;

use super::BoxResult;
use crate::random::Random;

const COMPONENTS: usize = 1_000;
/// Transitions in a component's history.
const HISTORY: usize = 864;
/// Transitions that leave, and that enter, with a mini-batch.
const MINI_BATCH: usize = HISTORY / 10;
const STATES: usize = 6;
/// A state is left in one slot of so many.
const STAY: usize = 12;
const ROUNDS: usize = 5;
const BATCH_ROWS: usize = 8_192;

pub(crate) fn report() -> BoxResult<()> {
    println!("== upkeep of counts: mini-batches of {MINI_BATCH}, medians of {ROUNDS} rounds ==");
    println!(
        "{:>10} {:>11} {:>15} {:>18}",
        "components", "transitions", "from scratch ms", "by retraction ms"
    );
    let mut retraction = Vec::new();
    for (components, history) in
        [(COMPONENTS, HISTORY), (COMPONENTS / 10, HISTORY), (COMPONENTS / 10, 10 * HISTORY)]
    {
        let walks: Vec<_> = (0..components).map(|component| walk(component, history)).collect();
        let (mut scratch, mut evolve) =
            timely::execute_directly(move |worker| measure(worker, &walks, history))?;
        let (anew, step) = (median(&mut scratch), median(&mut evolve));
        println!("{components:>10} {history:>11} {:>15.1} {:>18.1}", 1e3 * anew, 1e3 * step);
        retraction.push((step, step / anew));
    }
    println!("After each round the counts are those of a plain count.");
    println!("figure: evolve_cost_ratio = {:.3} ratio", retraction[0].1);
    println!("figure: evolve_cost_ratio_history_x10 = {:.3} ratio", retraction[2].1);
    println!(
        "figure: evolve_cost_growth_history_x10 = {:.2} times\n",
        retraction[2].0 / retraction[1].0
    );
    Ok(())
}

/// A component's transitions: its history, and the mini-batches of all rounds.
fn walk(component: usize, history: usize) -> Vec<(i64, i64)> {
    let mut random = Random(component as u64);
    let mut state = 0;
    let mut step = || {
        let before = state;
        if random.below(STAY) == 0 {
            state = random.below(STATES) as i64;
        }
        (before, state)
    };
    (0..history + ROUNDS * MINI_BATCH).map(|_| step()).collect()
}

type Walks = [Vec<(i64, i64)>];
type Seconds = Vec<f64>;

/// Seconds of each round, from scratch and by retraction.
fn measure(
    worker: &mut Worker,
    walks: &Walks,
    history: usize,
) -> Result<(Seconds, Seconds), String> {
    let (mut scratch, mut evolve) = (Vec::new(), Vec::new());
    let mut kept = Counts::new(worker)?;
    kept.change(worker, &[(rows(walks, 0, history)?, 1)])?;
    for round in 0..ROUNDS {
        let first = round * MINI_BATCH;
        let out = rows(walks, first, first + MINI_BATCH)?;
        let new = rows(walks, first + history, first + history + MINI_BATCH)?;
        evolve.push(kept.change(worker, &[(out, -1), (new, 1)])?);
        let all = rows(walks, first + MINI_BATCH, first + MINI_BATCH + history)?;
        let mut anew = Counts::new(worker)?;
        scratch.push(anew.change(worker, &[(all, 1)])?);
        let expected = plain(walks, first + MINI_BATCH, history);
        if kept.read() != expected || anew.read() != expected {
            return Err("maintained counts are not those of a plain count".into());
        }
    }
    Ok((scratch, evolve))
}

type Row = (String, i64, i64);

/// A counted relation on a dataflow of its own.
struct Counts {
    input: InputHandle<Epoch, CapacityContainerBuilder<Vec<Batch>>>,
    probe: probe::Handle<Epoch>,
    results: Rc<RefCell<Vec<RecordBatch>>>,
    counts: BTreeMap<Row, i64>,
    reported: Arc<Schema>,
}

impl Counts {
    fn new(worker: &mut Worker) -> Result<Self, String> {
        let relation = relation();
        let mut input = InputHandle::new_with_builder();
        let probe = probe::Handle::new();
        let results = Rc::new(RefCell::new(Vec::new()));
        let sink = Rc::clone(&results);
        worker.dataflow(|scope| {
            let stream = input.to_stream(scope);
            let counted = maintain(stream, &relation, QueryContext::default())
                .map_err(|error| error.to_string())?;
            counted
                .inspect(move |batch: &Batch| sink.borrow_mut().push(batch.rows.clone()))
                .probe_with(&probe);
            Ok::<(), String>(())
        })?;
        let reported = relation.reported_schema();
        Ok(Self { input, probe, results, counts: BTreeMap::new(), reported })
    }

    /// Lets rows enter and leave in one epoch, and says how long that took.
    fn change(
        &mut self,
        worker: &mut Worker,
        parts: &[(Vec<Columns>, i64)],
    ) -> Result<f64, String> {
        let mut batches = Vec::new();
        for (columns, change) in parts {
            for columns in columns {
                batches.push(columns.batch(&self.reported, *change)?);
            }
        }
        let begin = Instant::now();
        for rows in batches {
            self.input.send(Batch::from(rows));
        }
        let next = self.input.time() + 1;
        self.input.advance_to(next);
        worker.step_while(|| self.probe.less_than(&next));
        Ok(begin.elapsed().as_secs_f64())
    }

    /// The counts that hold now.
    fn read(&mut self) -> BTreeMap<Row, i64> {
        for batch in self.results.borrow_mut().drain(..) {
            let names = batch.column(0).as_string::<i32>();
            let integers = |column: usize| batch.column(column).as_primitive::<Int64Type>();
            let (from, to, counts, changes) = (integers(1), integers(2), integers(3), integers(5));
            for row in 0..batch.num_rows() {
                let name = (names.value(row).to_owned(), from.value(row), to.value(row));
                *self.counts.entry(name).or_default() += counts.value(row) * changes.value(row);
            }
        }
        self.counts.retain(|_, count| *count != 0);
        self.counts.clone()
    }
}

fn relation() -> SideRelation {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let schema = Schema::new(vec![
        field("component", DataType::Utf8),
        field("before", DataType::Int64),
        field("state", DataType::Int64),
        Field::new("count", DataType::Int64, false),
        Field::new("share", DataType::Float64, false),
        Field::new("_diff", DataType::Int64, false),
    ]);
    SideRelation {
        name: "transitions".into(),
        schema: Arc::new(schema),
        time: None,
        keys: 1,
        upkeep: Upkeep::Counts,
    }
}

/// Rows of one batch, without their change.
struct Columns {
    names: StringArray,
    from: Int64Array,
    to: Int64Array,
}

impl Columns {
    fn batch(&self, schema: &Arc<Schema>, change: i64) -> Result<RecordBatch, String> {
        let rows = self.from.len();
        RecordBatch::try_new(
            Arc::clone(schema),
            vec![
                Arc::new(self.names.clone()),
                Arc::new(self.from.clone()),
                Arc::new(self.to.clone()),
                Arc::new(Int64Array::from(vec![change; rows])),
            ],
        )
        .map_err(|error| error.to_string())
    }
}

/// The transitions `first..last` of all components, in batches.
fn rows(walks: &Walks, first: usize, last: usize) -> Result<Vec<Columns>, String> {
    let all: Vec<(String, i64, i64)> = walks
        .iter()
        .enumerate()
        .flat_map(|(component, walk)| {
            walk[first..last].iter().map(move |(from, to)| (name(component), *from, *to))
        })
        .collect();
    let columns = |rows: &[(String, i64, i64)]| Columns {
        names: StringArray::from_iter_values(rows.iter().map(|row| &row.0)),
        from: Int64Array::from_iter_values(rows.iter().map(|row| row.1)),
        to: Int64Array::from_iter_values(rows.iter().map(|row| row.2)),
    };
    Ok(all.chunks(BATCH_ROWS).map(columns).collect())
}

fn name(component: usize) -> String {
    format!("component-{component:05}")
}

/// The counts of the history of that length that begins with transition `first`.
fn plain(walks: &Walks, first: usize, history: usize) -> BTreeMap<Row, i64> {
    let mut counts = BTreeMap::new();
    for (component, walk) in walks.iter().enumerate() {
        for (from, to) in &walk[first..first + history] {
            *counts.entry((name(component), *from, *to)).or_default() += 1;
        }
    }
    counts
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
