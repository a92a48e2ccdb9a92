//! The pipeline: from readings to slots, to states, to anomalies. All of it is SQL.

/// Columns that every query below gives out.
pub const KEY: &str = "component";
pub const TIME: &str = "window_end";

/// What the host listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    Slots,
    OverThreshold,
    StateSeries,
    States,
    Components,
    Steady,
    Transitions,
    Occupancy,
    Convergence,
}

/// What the detector is told, in slots.
pub struct Learning {
    pub training: i64,
    pub steady_threshold: i64,
    /// How near slots of one state are, in deviations; 0 to let the detector take it from the data.
    pub eps: f64,
    /// A model takes new slots in when there are so many of them.
    pub evolve_min: i64,
}

/// The source that the simulator pushes into. Each agent fills its own columns and leaves the others NULL.
pub fn pushed_source(metrics: &[String]) -> String {
    let columns: Vec<String> =
        metrics.iter().map(|name| format!("{} DOUBLE", word(name))).collect();
    format!(
        "CREATE SOURCE metrics (
  component TEXT, ts TIMESTAMP(3),
  {},
  WATERMARK FOR ts AS ts - INTERVAL '1 minute'
)",
        columns.join(", ")
    )
}

/// Slots and the detector over them. `avg` ignores NULL, so that agents of any rhythm meet in one slot.
pub fn detector(metrics: &[String], slot: &str, learning: &Learning) -> String {
    let averages: Vec<String> =
        metrics.iter().map(|name| format!("avg({0}) AS {0}", word(name))).collect();
    format!(
        "CREATE DETECTOR drift USING drift_insight
PARTITION BY component
WITH (training = {}, steady_threshold = {}, eps = {:.2}, evolve_min = {}) AS
SELECT
  component, window_end,
  {}
FROM TUMBLE(metrics, ts, INTERVAL '{slot}')
GROUP BY component, window_start, window_end",
        learning.training,
        learning.steady_threshold,
        learning.eps,
        learning.evolve_min,
        averages.join(",\n  ")
    )
}

/// A query for each topic. `rule` is what monitoring would have asked before: fixed thresholds.
pub fn queries(rule: Option<&str>) -> Vec<(Topic, String)> {
    let mut queries = vec![
        // All slots, anomalous or not: one query, because the order of rows of two is not promised. What the kind has
        // of its own is in `detail`.
        (Topic::Slots, "SELECT *, detail['window'] AS states FROM drift".to_owned()),
        // What the detector tells beside its answers stands under its name and a dot.
        (Topic::StateSeries, "SELECT * FROM drift.state_series".to_owned()),
        (Topic::States, "SELECT * FROM drift.states".to_owned()),
        (Topic::Components, "SELECT * FROM drift.components".to_owned()),
        (Topic::Steady, "SELECT * FROM drift.steady".to_owned()),
        (Topic::Transitions, "SELECT * FROM drift.transitions".to_owned()),
        (Topic::Occupancy, "SELECT * FROM drift.occupancy".to_owned()),
        (Topic::Convergence, "SELECT * FROM drift.convergence".to_owned()),
    ];
    if let Some(rule) = rule {
        let query = format!("SELECT component, window_end FROM drift WHERE {rule}");
        queries.push((Topic::OverThreshold, query));
    }
    queries
}

/// A column as SQL names it: quoted where it is not a plain word.
pub fn word(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
