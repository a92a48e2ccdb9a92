//! What the host keeps of the results: a series per component, its model, alarms, and what the whole fleet shows.

use std::collections::BTreeMap;

use driftline::arrow::array::RecordBatch;
use driftline::detectors::Anomaly;

use crate::BoxResult;
use crate::columns::Columns;
use crate::pipeline::Topic;

/// A relation that is read as changes: each row with how often it is there. Rows whose changes cancel out are gone.
pub type Counted<Row> = BTreeMap<Row, i64>;

#[derive(Default)]
pub struct Record {
    pub metrics: Vec<String>,
    pub components: BTreeMap<String, Component>,
    pub alarms: Vec<Alarm>,
    /// Slots in which the rule with thresholds would have spoken.
    pub over_threshold: Vec<(String, i64)>,
    /// Components that are watched: once steady, they remain so.
    pub steady: Counted<String>,
    /// Slot in which components converged, how many did, and how many had by then.
    pub convergence: Counted<(i64, i64, i64)>,
    pub slots: usize,
    pub first_ms: Option<i64>,
    pub last_ms: i64,
}

#[derive(Default)]
pub struct Component {
    pub times: Vec<i64>,
    /// All metrics of the first slot, then of the next.
    pub values: Vec<f32>,
    pub states: BTreeMap<i64, i64>,
    /// What discovery said after training, and what it says now.
    pub discovered: Option<Discovery>,
    pub discovery: Option<Discovery>,
    pub models: Vec<StateOfModel>,
    /// From, to, count.
    pub transitions: Counted<(i64, i64, i64)>,
    /// State, count.
    pub occupancy: Counted<(i64, i64)>,
}

/// What discovery said of a component when its model was last built.
#[derive(Clone, Debug)]
pub struct Discovery {
    pub states: i64,
    pub converged_slot: Option<i64>,
    pub is_steady: bool,
    pub model_version: i64,
}

/// One metric of one state, as a model has it from `time_ms` on.
#[derive(Clone, Debug)]
pub struct StateOfModel {
    pub time_ms: i64,
    pub state: i64,
    pub metric: String,
    pub mean: f64,
    pub sd: f64,
}

#[derive(Clone, Debug)]
pub struct Alarm {
    pub component: String,
    pub time_ms: i64,
    /// States of the last slots, the newest at the end.
    pub window: String,
    pub explanation: String,
    /// Metrics by what they explain, the most first.
    pub attribution: Vec<(String, f64)>,
}

/// An incident that the simulator caused and that detection does not know of.
#[derive(Clone, Debug)]
pub struct Known {
    pub component: String,
    pub fault: String,
    pub begins_ms: i64,
    pub ends_ms: i64,
}

impl Record {
    pub fn new(metrics: &[String]) -> Self {
        Self { metrics: metrics.to_vec(), ..Self::default() }
    }

    pub fn take(&mut self, topic: Topic, rows: &RecordBatch) -> BoxResult<()> {
        let columns = Columns(rows);
        match topic {
            Topic::Slots => {
                self.take_slots(&columns)?;
                self.take_alarms(&columns)
            }
            Topic::OverThreshold => {
                let rows = columns.keys()?.into_iter().zip(columns.times()?);
                self.over_threshold.extend(rows);
                Ok(())
            }
            Topic::StateSeries => {
                let states = columns.integers("state")?;
                for ((key, time), state) in columns.keys()?.iter().zip(columns.times()?).zip(states)
                {
                    if let Some(state) = state {
                        self.component(key).states.insert(time, state);
                    }
                }
                Ok(())
            }
            Topic::States => self.take_states(&columns),
            Topic::Components => self.take_components(&columns),
            Topic::Steady => {
                for (key, diff) in columns.keys()?.into_iter().zip(columns.integers("_diff")?) {
                    apply(&mut self.steady, key, diff);
                }
                Ok(())
            }
            Topic::Transitions => {
                let (from, to) = (columns.integers("from_state")?, columns.integers("to_state")?);
                let (count, diff) = (columns.integers("count")?, columns.integers("_diff")?);
                for (row, key) in columns.keys()?.iter().enumerate() {
                    if let (Some(from), Some(to)) = (from[row], to[row]) {
                        let change = (from, to, count[row].unwrap_or(0));
                        apply(&mut self.component(key).transitions, change, diff[row]);
                    }
                }
                Ok(())
            }
            Topic::Occupancy => {
                let (state, count) = (columns.integers("state")?, columns.integers("count")?);
                let diff = columns.integers("_diff")?;
                for (row, key) in columns.keys()?.iter().enumerate() {
                    if let Some(state) = state[row] {
                        let change = (state, count[row].unwrap_or(0));
                        apply(&mut self.component(key).occupancy, change, diff[row]);
                    }
                }
                Ok(())
            }
            Topic::Convergence => {
                let (slot, count) =
                    (columns.integers("converged_slot")?, columns.integers("count")?);
                let (running, diff) = (columns.integers("running")?, columns.integers("_diff")?);
                for row in 0..slot.len() {
                    if let (Some(slot), Some(count), Some(running)) =
                        (slot[row], count[row], running[row])
                    {
                        apply(&mut self.convergence, (slot, count, running), diff[row]);
                    }
                }
                Ok(())
            }
        }
    }

    fn take_slots(&mut self, columns: &Columns<'_>) -> BoxResult<()> {
        let (keys, times) = (columns.keys()?, columns.times()?);
        let metrics = self.metrics.clone();
        let values: Vec<_> =
            metrics.iter().map(|name| columns.numbers(name)).collect::<BoxResult<_>>()?;
        for (row, (key, time)) in keys.iter().zip(times).enumerate() {
            let component = self.component(key);
            component.times.push(time);
            component.values.extend(values.iter().map(|values| values[row] as f32));
            self.slots += 1;
            self.last_ms = self.last_ms.max(time);
            self.first_ms = Some(self.first_ms.map_or(time, |first| first.min(time)));
        }
        Ok(())
    }

    fn take_alarms(&mut self, columns: &Columns<'_>) -> BoxResult<()> {
        let (keys, windows) = (columns.keys()?, columns.texts("states")?);
        let flags = columns.flags("is_anomaly")?;
        let rows = keys.into_iter().zip(windows).zip(flags).filter(|(_, is_anomaly)| *is_anomaly);
        // The records of the same rows, in the same order.
        let anomalies = Anomaly::from_batch(columns.0)?;
        for (((component, window), _), anomaly) in rows.zip(anomalies) {
            let mut attribution = anomaly.attribution;
            attribution.sort_by(|a, b| b.1.total_cmp(&a.1));
            self.alarms.push(Alarm {
                component,
                time_ms: anomaly.time.0 / 1_000_000,
                window,
                explanation: anomaly.explanation.unwrap_or_default(),
                attribution,
            });
        }
        Ok(())
    }

    fn take_states(&mut self, columns: &Columns<'_>) -> BoxResult<()> {
        let times = columns.times()?;
        let (states, metrics) = (columns.integers("state")?, columns.texts("metric")?);
        let (means, sds) = (columns.numbers("mean")?, columns.numbers("sd")?);
        for (row, key) in columns.keys()?.iter().enumerate() {
            self.component(key).models.push(StateOfModel {
                time_ms: times[row],
                state: states[row].unwrap_or(-1),
                metric: metrics[row].clone(),
                mean: means[row],
                sd: sds[row],
            });
        }
        Ok(())
    }

    fn take_components(&mut self, columns: &Columns<'_>) -> BoxResult<()> {
        let (states, slots) = (columns.integers("states")?, columns.integers("converged_slot")?);
        let (steady, versions) = (columns.flags("steady")?, columns.integers("model_version")?);
        for (row, key) in columns.keys()?.iter().enumerate() {
            let discovery = Discovery {
                states: states[row].unwrap_or(0),
                converged_slot: slots[row],
                is_steady: steady[row],
                model_version: versions[row].unwrap_or(0),
            };
            let component = self.component(key);
            component.discovered.get_or_insert_with(|| discovery.clone());
            component.discovery = Some(discovery);
        }
        Ok(())
    }

    fn component(&mut self, key: &str) -> &mut Component {
        if !self.components.contains_key(key) {
            self.components.insert(key.to_owned(), Component::default());
        }
        self.components.get_mut(key).expect("it was just put in")
    }

    /// Components that discovery has judged, and those that are watched.
    pub fn judged_and_steady(&self) -> (usize, usize) {
        let judged = self.components.values().filter(|component| component.discovery.is_some());
        (judged.count(), self.steady.len())
    }

    /// Steady components after training.
    pub fn steady_at_first(&self) -> usize {
        let found = self.components.values().filter_map(|c| c.discovered.as_ref());
        found.filter(|found| found.is_steady).count()
    }

    /// The latest slot that all components have, but for those that have been silent for longer than `silent_ms`.
    pub fn complete_ms(&self, silent_ms: i64) -> i64 {
        let latest = self.components.values().filter_map(|component| component.times.last());
        let awake = latest.filter(|ms| **ms >= self.last_ms - silent_ms);
        awake.min().copied().unwrap_or(self.last_ms)
    }

    /// The position of a metric among the values of a slot.
    pub fn metric(&self, name: &str) -> Option<usize> {
        self.metrics.iter().position(|metric| metric == name)
    }
}

impl Component {
    /// The values of one metric, slot by slot.
    pub fn series(&self, metric: usize) -> impl Iterator<Item = (i64, f64)> + '_ {
        let width = self.values.len() / self.times.len().max(1);
        self.times
            .iter()
            .enumerate()
            .map(move |(slot, time)| (*time, f64::from(self.values[slot * width + metric])))
    }

    /// The states of slots that end from `from_ms` on and before `to_ms`.
    pub fn states_within(&self, from_ms: i64, to_ms: i64) -> Vec<i64> {
        self.states.range(from_ms..to_ms.max(from_ms)).map(|(_, state)| *state).collect()
    }
}

fn apply<Row: Ord>(relation: &mut Counted<Row>, row: Row, change: Option<i64>) {
    use std::collections::btree_map::Entry;
    match relation.entry(row) {
        Entry::Vacant(entry) => {
            entry.insert(change.unwrap_or(0));
        }
        Entry::Occupied(mut entry) => {
            *entry.get_mut() += change.unwrap_or(0);
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}
