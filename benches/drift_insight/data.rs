//! The labelled telemetry: servers of ASD and pods of Nezha, as the same plain rows.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use driftline::evaluate::Segment;
use flate2::read::GzDecoder;

use super::BoxResult;

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;

/// One server or pod: its metrics over a training part and a test part, and what is known of the test part.
pub(crate) struct Component {
    pub(crate) name: String,
    /// Event times, in nanoseconds, one per row.
    pub(crate) times: Vec<i64>,
    /// One value per metric in each row; NaN where there is none.
    pub(crate) rows: Vec<Vec<f64>>,
    /// Rows that come before the test part.
    pub(crate) train_rows: usize,
    /// One per row of the test part.
    pub(crate) labels: Vec<bool>,
    /// Labelled runs of the test part with the metrics that caused them, where that is known.
    pub(crate) causes: Vec<(Segment, Vec<usize>)>,
}

impl Component {
    pub(crate) fn train(&self) -> &[Vec<f64>] {
        &self.rows[..self.train_rows]
    }

    pub(crate) fn test(&self) -> &[Vec<f64>] {
        &self.rows[self.train_rows..]
    }
}

/// A folder of the labelled telemetry, or `None`, said loudly, where there is none. Under CI it must be there.
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("DRIFTLINE_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let path = root.join(name);
    if path.is_dir() {
        return Some(path);
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "DRIFTLINE_DATA has no folder {name}, and CI must not skip it"
    );
    eprintln!("SKIPPED: no folder {name} under DRIFTLINE_DATA ({})", root.display());
    None
}

// ---- ASD ----

/// Twelve servers, 19 metrics, a slot each 5 minutes. The test parts of all servers begin at the same moment.
pub(crate) fn load_asd(folder: &Path) -> BoxResult<Vec<Component>> {
    let slot = 5 * MINUTE;
    let begin = 1_577_836_800 * SECOND;
    let mut servers = Vec::new();
    for number in 1..=12 {
        let file = |part: &str| folder.join(format!("omi-{number}_{part}"));
        let mut rows = numbers(&gunzip(&file("train.csv.gz"))?)?;
        let train_rows = rows.len();
        let mut labels = Vec::new();
        for mut row in numbers(&gunzip(&file("test.csv.gz"))?)? {
            labels.push(row.pop().ok_or("a row without a label")? > 0.0);
            rows.push(row);
        }
        let first = begin - train_rows as i64 * slot;
        let times = (0..rows.len() as i64).map(|row| first + row * slot).collect();
        let causes = causes(&fs::read_to_string(file("interpretation.txt"))?)?;
        let name = format!("omi-{number:02}");
        servers.push(Component { name, times, rows, train_rows, labels, causes });
    }
    Ok(servers)
}

/// Lines of `first-last:metric,metric`, metrics counted from 1.
fn causes(text: &str) -> BoxResult<Vec<(Segment, Vec<usize>)>> {
    let line = |line: &str| -> BoxResult<(Segment, Vec<usize>)> {
        let (run, metrics) = line.split_once(':').ok_or("a cause without a colon")?;
        let (first, last) = run.split_once('-').ok_or("a run without a dash")?;
        let metrics = metrics
            .split(',')
            .map(|metric| Ok(metric.trim().parse::<usize>()?.checked_sub(1).ok_or("metric 0")?))
            .collect::<BoxResult<_>>()?;
        Ok((Segment { first: first.trim().parse()?, last: last.trim().parse()? }, metrics))
    };
    text.lines().filter(|text| !text.trim().is_empty()).map(line).collect()
}

fn numbers(text: &str) -> BoxResult<Vec<Vec<f64>>> {
    let row = |line: &str| line.split(',').map(|field| Ok(field.trim().parse()?)).collect();
    text.lines().skip(1).map(row).collect()
}

// ---- Nezha ----

/// The day to train on, of which the part after its last fault is taken, and the day to test on.
const TRAIN_DAY: &str = "2022-08-22";
const TEST_DAY: &str = "2022-08-23";

/// How long each fault lasts, and how much later its effect may still show in metrics that look back over minutes.
pub(crate) const FAULT_MINUTES: i64 = 3;
pub(crate) const TOLERANCE_MINUTES: i64 = 2;

/// Minutes after a day's last fault that are left out of the training part.
const SETTLE_MINUTES: i64 = 30;

/// One injected fault.
pub(crate) struct Fault {
    pub(crate) service: String,
    pub(crate) kind: String,
    /// Nanoseconds.
    pub(crate) begin: i64,
}

/// Pods of OnlineBoutique, a slot each minute, with names of their metrics and the faults of the test day.
pub(crate) struct Nezha {
    pub(crate) pods: Vec<Component>,
    pub(crate) metrics: Vec<String>,
    pub(crate) faults: Vec<Fault>,
}

/// Trains on the fault-free end of the first day, tests on the second. A pod goes by the name of its service, because
/// one of them was restarted between the days.
pub(crate) fn load_nezha(folder: &Path) -> BoxResult<Nezha> {
    let (metrics, train) = pod_rows(&folder.join(TRAIN_DAY))?;
    let (_, mut test) = pod_rows(&folder.join(TEST_DAY))?;
    let before = faults(&folder.join(TRAIN_DAY))?;
    let faults = faults(&folder.join(TEST_DAY))?;
    let last = before.iter().map(|fault| fault.begin).max().ok_or("a day without faults")?;
    let calm = last + (FAULT_MINUTES + SETTLE_MINUTES) * MINUTE;
    let span = (FAULT_MINUTES + TOLERANCE_MINUTES) * MINUTE;
    let mut pods = Vec::new();
    for (name, rows) in train {
        let mut rows: Vec<_> = rows.into_iter().filter(|(time, _)| *time >= calm).collect();
        let train_rows = rows.len();
        rows.extend(test.remove(&name).ok_or("a pod that is there on one day only")?);
        let mine: Vec<i64> =
            faults.iter().filter(|fault| fault.service == name).map(|fault| fault.begin).collect();
        let is_fault = |time: i64| mine.iter().any(|begin| (*begin..begin + span).contains(&time));
        let labels = rows[train_rows..].iter().map(|(time, _)| is_fault(*time)).collect();
        let (times, rows) = rows.into_iter().unzip();
        pods.push(Component { name, times, rows, train_rows, labels, causes: Vec::new() });
    }
    Ok(Nezha { pods, metrics, faults })
}

type PodRows = BTreeMap<String, Vec<(i64, Vec<f64>)>>;

/// Names of the metrics, and the rows of each service. All pods have one row a minute, in order; the clock of one of
/// them is off by years and jumps, so that row `i` of every pod is given the time of row `i` of the frontend.
fn pod_rows(day: &Path) -> BoxResult<(Vec<String>, PodRows)> {
    let text = gunzip(&day.join("pod_metrics.csv.gz"))?;
    let mut lines = text.lines();
    let names = lines.next().ok_or("an empty file")?.split(',').skip(2).map(str::to_owned);
    let mut pods = PodRows::new();
    for line in lines {
        let mut fields = line.split(',');
        let time: f64 = fields.next().ok_or("no time")?.parse()?;
        let pod = fields.next().ok_or("no pod")?;
        let values = fields.map(|field| Ok(field.parse()?)).collect::<BoxResult<_>>()?;
        if time > 0.0 {
            pods.entry(service(pod)).or_default().push((time as i64 * SECOND, values));
        }
    }
    let clock: Vec<i64> =
        pods.get("frontend").ok_or("no frontend")?.iter().map(|(time, _)| *time).collect();
    for (pod, rows) in &mut pods {
        if rows.len() != clock.len() {
            return Err(format!("{pod} has {} rows, not {}", rows.len(), clock.len()).into());
        }
        rows.iter_mut().zip(&clock).for_each(|(row, time)| row.0 = *time);
    }
    Ok((names.collect(), pods))
}

fn faults(day: &Path) -> BoxResult<Vec<Fault>> {
    let text = fs::read_to_string(day.join("fault_list.json"))?;
    let hours: BTreeMap<String, Vec<BTreeMap<String, String>>> = serde_json::from_str(&text)?;
    let mut faults = Vec::new();
    for fault in hours.into_values().flatten() {
        let field = |name: &str| fault.get(name).ok_or_else(|| format!("a fault without {name}"));
        faults.push(Fault {
            service: service(field("inject_pod")?),
            kind: field("inject_type")?.clone(),
            begin: utc(field("inject_time")?)?,
        });
    }
    faults.sort_by_key(|fault| fault.begin);
    Ok(faults)
}

/// `checkoutservice-578fcf4766-9csqn` is a pod of `checkoutservice`.
fn service(pod: &str) -> String {
    pod.split('-').next().unwrap_or(pod).to_owned()
}

/// Nanoseconds of a text such as `2022-08-22 03:53:54`.
fn utc(text: &str) -> BoxResult<i64> {
    use driftline::arrow::array::{ArrayRef, AsArray, StringArray};
    use driftline::arrow::compute::cast;
    use driftline::arrow::datatypes::{DataType, TimeUnit, TimestampNanosecondType};
    let texts: ArrayRef = std::sync::Arc::new(StringArray::from(vec![text]));
    let times = cast(&texts, &DataType::Timestamp(TimeUnit::Nanosecond, None))?;
    Ok(times.as_primitive::<TimestampNanosecondType>().value(0))
}

fn gunzip(path: &Path) -> BoxResult<String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    GzDecoder::new(file).read_to_string(&mut text)?;
    Ok(text)
}
