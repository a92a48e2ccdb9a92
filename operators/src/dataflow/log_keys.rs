//! Log lines to log keys as an operator: one place parses all of them, in order.
//!
//! Keys are given in the order in which templates are met, so all rows of a `LOG_KEYS` go to one worker, wait for the
//! watermark, and are parsed by event time and arrival: the same keys on any number of workers. What it costs is that
//! parsing does not spread over workers; it does over a million lines a second on one. What reads the keys spreads again
//! with its own exchange.

use std::cell::RefCell;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;

use super::closing::Closing;
use super::context::Gauge;
use super::reorder::Reorder;
use super::{BatchStream, QueryContext};
use crate::batch::Batch;
use crate::error::Result;
use crate::logs::{KeyedLines, LogKeyOutput, LogKeyPlan, LogKeyState};
use crate::state::{StateReader, StateWriter, Stateful};
use crate::time::Watermarks;

/// `LOG_KEYS` as a dataflow builds it.
#[derive(Debug)]
pub struct LogKeyStage {
    /// Columns and options.
    pub plan: LogKeyPlan,
    /// Which of its relations comes out.
    pub output: LogKeyOutput,
    /// Most rows that wait for the watermark.
    pub reorder_rows_max: usize,
    /// How far rows may lie below the watermark of earlier epochs.
    pub lag_ns: i64,
    /// The watermarks of the input.
    pub watermarks: Watermarks,
    /// Shared state of the query.
    pub context: QueryContext,
}

/// What a `LOG_KEYS` has learned, which its worker can reach from outside the dataflow, between two steps of it. On all
/// workers but the first it has learned nothing.
pub type SharedLogKeys = Rc<RefCell<LogKeyState>>;

/// Gives each row the key of its line. Hands out what it learns, to be saved or replaced.
///
/// Rows leave in order of event time, those of equal time in order of arrival, and keep that order for whoever puts
/// them in order again.
///
/// # Errors
/// If the session columns cannot be a key.
pub fn log_keys<'scope>(
    stream: BatchStream<'scope>,
    stage: LogKeyStage,
) -> Result<(BatchStream<'scope>, SharedLogKeys)> {
    let LogKeyStage { plan, output: wanted, reorder_rows_max, lag_ns, watermarks, context } = stage;
    let shared = Rc::new(RefCell::new(plan.stage()?));
    let inside = Rc::clone(&shared);
    let reorder = Reorder::new(plan.time_index(), plan.time_type(), reorder_rows_max);
    let reorder = context.keep("waiting", reorder)?;
    let learned = context.keep("learned", Learned { keys: Rc::clone(&shared), sequence: 0 })?;
    let one_place = Exchange::new(|_: &Batch| 0);
    let keyed = stream.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        one_place,
        "LogKeys",
        |capability, _| {
            let mut closing = Closing::new(capability, watermarks, lag_ns);
            let mut bytes = Gauge::new(&context, |c| &c.state_bytes);
            move |(input, frontier), output| {
                let (mut reorder, mut learned) = (reorder.borrow_mut(), learned.borrow_mut());
                input.for_each(|_, batches| {
                    for batch in batches.drain(..) {
                        context.attempt(|| reorder.push(&batch));
                    }
                });
                context.count(|c| &c.rows_refused, reorder.take_refused());
                let mut keys = inside.borrow_mut();
                while let Some((complete, capability)) = closing.next_closed(frontier) {
                    let mut step = || {
                        let mut keyed = KeyedLines::default();
                        if let Some(rows) = reorder.release(complete)? {
                            keys.process(&rows, &mut keyed)?;
                        }
                        Ok(keyed)
                    };
                    let keyed = context.attempt(&mut step).unwrap_or_default();
                    let batches = match wanted {
                        LogKeyOutput::Rows => keyed.rows,
                        LogKeyOutput::Templates => keyed.changes,
                    };
                    let mut session = output.session(&capability);
                    for rows in batches {
                        // Later batches have later rows: their numbers stand for the order of arrival.
                        learned.sequence += 1;
                        session.give(Batch { sequence: learned.sequence, ..Batch::from(rows) });
                    }
                    bytes.set((keys.bytes() + reorder.bytes()) as u64);
                }
            }
        },
    );
    Ok((keyed, shared))
}

/// Templates and sessions, and how many batches have left, as state.
struct Learned {
    keys: SharedLogKeys,
    sequence: u64,
}

impl Stateful for Learned {
    fn save(&mut self, out: &mut StateWriter) -> Result<()> {
        let keys = self.keys.borrow();
        // On all workers but the first nothing is ever parsed.
        match self.sequence == 0 && keys.templates() == 0 {
            true => Ok(()),
            false => out.note(&(self.sequence, keys.snapshot()?)),
        }
    }

    fn load(&mut self, saved: &StateReader<'_>) -> Result<()> {
        let notes: Vec<(u64, Vec<u8>)> = saved.notes()?;
        if saved.share().worker == 0
            && let Some((sequence, bytes)) = notes.first()
        {
            self.keys.borrow_mut().restore(bytes)?;
            self.sequence = *sequence;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, TimestampSecondArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::Int64Type;
    use timely::container::CapacityContainerBuilder;
    use timely::dataflow::InputHandle;
    use timely::dataflow::operators::Inspect;
    use timely::dataflow::operators::Probe;

    use super::*;
    use crate::logs::LogKeyOptions;
    use crate::options::Options;
    use crate::time::{Epoch, EventTime};

    fn lines(count: i64) -> Vec<(i64, String)> {
        let line = |i: i64| match i % 5 {
            0 => {
                format!("session opened for user {} by root", ["a", "b", "c", "d"][i as usize % 4])
            }
            1 => format!("Took {i} ms to reach host{}", i % 3),
            2 => format!("cache {} is cold", ["red", "blue", "green"][i as usize % 3]),
            3 => "restart.".to_owned(),
            _ => format!("worker {} left", i % 7),
        };
        // Four lines share a second, and come in order.
        (0..count).map(|i| (i / 4, line(i))).collect()
    }

    fn batch(lines: &[(i64, String)]) -> RecordBatch {
        let times = TimestampSecondArray::from_iter_values(lines.iter().map(|line| line.0));
        let texts = StringArray::from_iter_values(lines.iter().map(|line| line.1.as_str()));
        let columns = [("ts", Arc::new(times) as ArrayRef), ("message", Arc::new(texts))];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    /// What comes out of so many workers, each given every so-many-th batch of so many rows.
    fn run(workers: usize, batch_rows: usize, output: LogKeyOutput) -> RecordBatch {
        let options = LogKeyOptions::new(&Options::new()).unwrap();
        let plan = LogKeyPlan::new(&batch(&[]).schema(), 1, 0, &[], options).unwrap();
        let schema = match output {
            LogKeyOutput::Rows => plan.output_schema(),
            LogKeyOutput::Templates => plan.changes_schema(),
        };
        let found = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&found);
        let config = timely::Config::process(workers);
        let guards = timely::execute(config, move |worker| {
            let watermarks = Watermarks::default();
            let mut input =
                InputHandle::<Epoch, CapacityContainerBuilder<Vec<Batch>>>::new_with_builder();
            let (told, plan, seen) = (watermarks.clone(), plan.clone(), Arc::clone(&seen));
            let probe = worker.dataflow::<Epoch, _, _>(|scope| {
                let stage = LogKeyStage {
                    plan,
                    output,
                    reorder_rows_max: 10_000,
                    lag_ns: 0,
                    watermarks: told,
                    context: QueryContext::default(),
                };
                let (keyed, _) = log_keys(input.to_stream(scope), stage).unwrap();
                let seen = Arc::clone(&seen);
                keyed
                    .inspect(move |batch: &Batch| {
                        seen.lock().unwrap().push((batch.sequence, batch.rows.clone()));
                    })
                    .probe()
                    .0
            });
            let lines = lines(400);
            for (index, part) in lines.chunks(batch_rows).enumerate() {
                if index % workers == worker.index() {
                    let sequence = index as u64 + 1;
                    input.send(Batch { sequence, ..Batch::from(batch(part)) });
                }
                if index % 3 == 2 {
                    let epoch = *input.time();
                    // Some of the rows stay below the watermark until later.
                    watermarks.record(epoch, EventTime((part[0].0 - 2) * 1_000_000_000));
                    input.advance_to(epoch + 1);
                    while probe.less_than(input.time()) {
                        worker.step();
                    }
                }
            }
            input.close();
            while worker.step() {}
        });
        drop(guards.unwrap());
        let mut batches = std::mem::take(&mut *found.lock().unwrap());
        batches.sort_by_key(|(sequence, _)| *sequence);
        let batches: Vec<RecordBatch> = batches.into_iter().map(|(_, rows)| rows).collect();
        concat_batches(&schema, &batches).unwrap()
    }

    #[test]
    fn the_same_keys_on_any_number_of_workers_and_in_any_batches() {
        let expected = run(1, 400, LogKeyOutput::Rows);
        assert_eq!(expected.num_rows(), 400);
        let keys = expected.column(2).as_primitive::<Int64Type>();
        assert!(keys.iter().all(|key| key.is_some()));
        for (workers, batch_rows) in [(1, 7), (2, 13), (4, 5)] {
            let found = run(workers, batch_rows, LogKeyOutput::Rows);
            assert_eq!(found, expected, "{workers} workers, {batch_rows} rows");
        }
    }

    #[test]
    fn changes_of_templates_come_out_as_a_relation_of_their_own() {
        let expected = run(1, 400, LogKeyOutput::Templates);
        let words: Vec<_> = expected.column(2).as_string::<i32>().iter().flatten().collect();
        assert!(
            words.contains(&"created") && words.contains(&"merged") && words.contains(&"changed")
        );
        assert_eq!(run(4, 5, LogKeyOutput::Templates), expected);
    }
}
