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
    table.head();
    for (topic, rows) in results {
        let alarms = record.alarms.len();
        record.take(topic, &rows)?;
        table.progress(&record);
        record.alarms[alarms..].iter().for_each(|alarm| table.alarm(alarm));
    }
    callbacks.into_iter().try_for_each(driftline::Callback::join)?;
    engine.shutdown()?;
    Ok(record)
}

/// What is printed meanwhile.
pub struct Table {
    slot_ms: i64,
    /// A line so often, in event time.
    every_ms: i64,
    /// Slots of each component before detection begins.
    training: i64,
    next_ms: Option<i64>,
    /// When each component last raised an alarm: only the first of a run is news.
    raised: BTreeMap<String, i64>,
    episodes: usize,
}

impl Table {
    pub fn new(slot_ms: i64, every_ms: i64, training: i64) -> Self {
        let raised = BTreeMap::new();
        Self { slot_ms, every_ms, training, next_ms: None, raised, episodes: 0 }
    }

    fn head(&self) {
        println!(
            "\n{:<14} {:>10}  {:<14} {:>15} {:>9} {:>7}",
            "event time", "slots", "phase", "steady", "models", "alarms"
        );
    }

    fn progress(&mut self, record: &Record) {
        let Some(first_ms) = record.first_ms else { return };
        if record.last_ms < *self.next_ms.get_or_insert(first_ms + self.every_ms - self.slot_ms) {
            return;
        }
        self.next_ms = Some((record.last_ms / self.every_ms + 1) * self.every_ms);
        let (judged, steady) = record.judged_and_steady();
        let slot = (record.last_ms - first_ms) / self.slot_ms + 1;
        let (phase, found) = if judged == 0 {
            (format!("warming up {:>2} %", (slot * 100 / self.training).min(99)), "-".to_owned())
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
            "{:<14} {:>10}  {phase:<14} {found:>15} {models:>9} {:>7}",
            clock::text(record.last_ms),
            record.slots,
            self.episodes
        );
    }

    fn alarm(&mut self, alarm: &Alarm) {
        let last = self.raised.insert(alarm.component.clone(), alarm.time_ms);
        if last.is_some_and(|last| alarm.time_ms - last <= 10 * self.slot_ms) {
            return;
        }
        self.episodes += 1;
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
