//! What it was worth: which incidents were found, how long before a threshold said so, and how often it cried wolf.

// An example prints.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;

use crate::clock;
use crate::record::{Known, Record};

/// An alarm so long after the end of an incident still belongs to it: the detection window looks back this far.
const TAIL_SLOTS: i64 = 12;
/// Alarms of a component that are so close together are one episode.
const GAP_SLOTS: i64 = 10;

pub struct Outcome {
    pub known: Known,
    pub alarm_ms: Option<i64>,
    pub threshold_ms: Option<i64>,
}

impl Outcome {
    /// Minutes from the first alarm to the first broken threshold; below 0 if the threshold was first.
    pub fn lead_minutes(&self) -> Option<i64> {
        Some((self.threshold_ms? - self.alarm_ms?) / 60_000)
    }
}

/// A run of alarms of one component.
pub struct Episode {
    pub component: String,
    pub from_ms: i64,
    pub to_ms: i64,
    /// Which incident it belongs to.
    pub incident: Option<usize>,
}

pub struct Summary {
    pub outcomes: Vec<Outcome>,
    pub episodes: Vec<Episode>,
    /// Days of all steady components together, after training.
    pub watched_days: f64,
}

impl Summary {
    pub fn new(record: &Record, known: &[Known], slot_ms: i64) -> Self {
        let belongs = |known: &Known, component: &str, ms: i64| {
            known.component == component
                && (known.begins_ms..known.ends_ms + TAIL_SLOTS * slot_ms).contains(&ms)
        };
        let outcomes = known
            .iter()
            .map(|known| Outcome {
                known: known.clone(),
                alarm_ms: record
                    .alarms
                    .iter()
                    .filter(|alarm| belongs(known, &alarm.component, alarm.time_ms))
                    .map(|alarm| alarm.time_ms)
                    .min(),
                threshold_ms: record
                    .over_threshold
                    .iter()
                    .filter(|(component, ms)| belongs(known, component, *ms))
                    .map(|(_, ms)| *ms)
                    .min(),
            })
            .collect();
        let mut alarms: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for alarm in &record.alarms {
            alarms.entry(&alarm.component).or_default().push(alarm.time_ms);
        }
        let mut episodes: Vec<Episode> = Vec::new();
        for (component, mut times) in alarms {
            times.sort_unstable();
            for ms in times {
                let incident = known.iter().position(|known| belongs(known, component, ms));
                match episodes.last_mut() {
                    Some(last)
                        if last.component == component
                            && last.incident == incident
                            && ms - last.to_ms <= GAP_SLOTS * slot_ms =>
                    {
                        last.to_ms = ms;
                    }
                    _ => episodes.push(Episode {
                        component: component.to_owned(),
                        from_ms: ms,
                        to_ms: ms,
                        incident,
                    }),
                }
            }
        }
        let watched: usize = record
            .components
            .values()
            // Only slots of watched components have a state.
            .map(|component| component.states.len())
            .sum();
        let watched_days = watched as f64 * slot_ms as f64 / 86_400_000.0;
        Self { outcomes, episodes, watched_days }
    }

    pub fn found(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.alarm_ms.is_some()).count()
    }

    /// The median of the incidents that both alarm and threshold saw.
    pub fn lead_minutes(&self) -> Option<i64> {
        let mut leads: Vec<i64> = self.outcomes.iter().filter_map(Outcome::lead_minutes).collect();
        leads.sort_unstable();
        leads.get(leads.len() / 2).copied()
    }

    pub fn false_alarms(&self) -> usize {
        self.episodes.iter().filter(|episode| episode.incident.is_none()).count()
    }

    pub fn print(&self, record: &Record) {
        let (judged, steady) = record.judged_and_steady();
        println!(
            "\n{} of {judged} components were steady after training, {steady} are at the end",
            record.steady_at_first()
        );
        if self.outcomes.is_empty() {
            println!("{} runs of alarms", self.episodes.len());
            return;
        }
        println!(
            "\n{:<18} {:<16} {:<14} {:>12} {:>16} {:>9}",
            "incident", "component", "begins", "found after", "threshold after", "lead"
        );
        for outcome in &self.outcomes {
            let known = &outcome.known;
            let after = |ms: Option<i64>| {
                ms.map_or("never".to_owned(), |ms| {
                    format!("{} min", (ms - known.begins_ms) / 60_000)
                })
            };
            let lead = outcome.lead_minutes().map(|minutes| format!("{minutes} min"));
            println!(
                "{:<18} {:<16} {:<14} {:>12} {:>16} {:>9}",
                known.fault,
                known.component,
                clock::text(known.begins_ms),
                after(outcome.alarm_ms),
                after(outcome.threshold_ms),
                lead.unwrap_or_default()
            );
        }
        println!("\n{} of {} incidents found", self.found(), self.outcomes.len());
        if let Some(minutes) = self.lead_minutes() {
            println!("half of them {minutes} minutes or more before a threshold was broken");
        }
        println!(
            "{} false alarms in {:.0} days of components: one in {:.0} days of one component",
            self.false_alarms(),
            self.watched_days,
            self.watched_days / self.false_alarms().max(1) as f64
        );
    }
}
