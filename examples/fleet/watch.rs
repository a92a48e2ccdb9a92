//! Listening: one callback for each query, all of them into one channel, and a table that grows while the fleet runs.

// An example prints.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::sync::mpsc;

use driftline::Engine;

use crate::pipeline::Topic;
use crate::record::{Alarm, Record};
use crate::{BoxResult, clock};

/// Results that wait for the table. Beyond them callbacks wait, then the engine, then the source: memory stays flat.
const WAITING_MAX: usize = 256;
/// A component that has not shown up for so many slots is not waited for.
const SILENT_SLOTS: i64 = 2880;

/// Runs the queries from `start` on until their source has come to its end.
pub fn run(
    engine: Engine,
    queries: &[(Topic, String)],
    mut record: Record,
    mut table: Table,
    start: impl FnOnce(&Engine) -> BoxResult<()>,
) -> BoxResult<Record> {
    let (send, results) = mpsc::sync_channel(WAITING_MAX);
    let mut callbacks = Vec::new();
    for (topic, query) in queries {
        let (topic, send) = (*topic, send.clone());
        callbacks.push(engine.subscribe_with(query, move |rows| {
            // After an error nobody listens any more.
            let _ = send.send((topic, rows));
        })?);
    }
    drop(send);
    start(&engine)?;
    head();
    for (topic, rows) in results {
        let alarms = record.alarms.len();
        record.take(topic, &rows)?;
        record.alarms[alarms..].iter().for_each(|alarm| table.keep(alarm));
        if topic == Topic::Slots {
            table.show(&record, record.complete_ms(SILENT_SLOTS * table.slot_ms));
        }
    }
    table.show(&record, i64::MAX);
    callbacks.into_iter().try_for_each(driftline::Callback::join)?;
    engine.shutdown()?;
    Ok(record)
}

fn head() {
    println!(
        "\n{:<14} {:>10}  {:<16} {:>14} {:>8} {:>7}",
        "event time", "slots", "phase", "steady", "models", "alarms"
    );
}

/// What is printed meanwhile, in order of event time. Rows of one component come in order, those of different
/// components as workers are ready: a line waits until every component has come so far.
pub struct Table {
    slot_ms: i64,
    /// A line of progress so often, in event time.
    every_ms: i64,
    /// Slots of each component before detection begins.
    training: i64,
    next_ms: Option<i64>,
    /// Alarms that wait for their turn.
    waiting: BTreeMap<(i64, String), Alarm>,
    /// When each component last raised an alarm: only the first of a run is news.
    raised: BTreeMap<String, i64>,
    runs: usize,
}

impl Table {
    pub fn new(slot_ms: i64, every_ms: i64, training: i64) -> Self {
        Self {
            slot_ms,
            every_ms,
            training,
            next_ms: None,
            waiting: BTreeMap::new(),
            raised: BTreeMap::new(),
            runs: 0,
        }
    }

    fn keep(&mut self, alarm: &Alarm) {
        self.waiting.insert((alarm.time_ms, alarm.component.clone()), alarm.clone());
    }

    /// Prints what belongs before `complete_ms`.
    fn show(&mut self, record: &Record, complete_ms: i64) {
        let Some(first_ms) = record.first_ms else { return };
        let mut next_ms = self.next_ms.unwrap_or(first_ms - self.slot_ms + self.every_ms);
        while let Some(entry) = self.waiting.first_entry() {
            let time_ms = entry.key().0;
            if time_ms > complete_ms.min(next_ms) {
                break;
            }
            let alarm = entry.remove();
            self.alarm(&alarm);
        }
        if next_ms <= complete_ms.min(record.last_ms) {
            self.progress(record, next_ms);
            // Results come in gulps: one line for each is enough.
            while next_ms <= complete_ms.min(record.last_ms) {
                next_ms += self.every_ms;
            }
        }
        self.next_ms = Some(next_ms);
        if self
            .waiting
            .first_key_value()
            .is_some_and(|((ms, _), _)| *ms <= complete_ms.min(next_ms))
        {
            self.show(record, complete_ms);
        }
    }

    fn progress(&self, record: &Record, time_ms: i64) {
        let (judged, steady) = record.judged_and_steady();
        let slot = record.slots as i64 / record.components.len().max(1) as i64;
        let (phase, found) = if judged == 0 {
            (format!("learning {:>3} %", (slot * 100 / self.training).min(100)), String::new())
        } else {
            ("detecting".to_owned(), format!("{steady} of {judged}"))
        };
        let models: i64 = record
            .components
            .values()
            .filter_map(|component| component.discovery.as_ref())
            .map(|found| found.model_version)
            .sum();
        println!(
            "{:<14} {:>10}  {phase:<16} {found:>14} {models:>8} {:>7}",
            clock::text(time_ms),
            record.slots,
            self.runs
        );
    }

    fn alarm(&mut self, alarm: &Alarm) {
        let last = self.raised.insert(alarm.component.clone(), alarm.time_ms);
        if last.is_some_and(|last| alarm.time_ms - last <= 10 * self.slot_ms) {
            return;
        }
        self.runs += 1;
        let why: Vec<String> = alarm
            .attribution
            .iter()
            .filter(|(_, share)| *share >= 0.05)
            .take(3)
            .map(|(metric, share)| format!("{metric} {:.0} %", share * 100.0))
            .collect();
        println!(
            "{:<14}   ! {:<16} states {}   {}",
            clock::text(alarm.time_ms),
            alarm.component,
            alarm.window,
            why.join(", ")
        );
    }
}
