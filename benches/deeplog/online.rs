//! Online update (DL-13): a stream of normal sessions with abnormal ones among them as often as in the full test, through
//! the detector and its feedback. Every normal session that is raised is called normal in the next batch; abnormal ones
//! stay raised.
//!
//! Two streams: what the half of the normal sessions that is tested brings by itself; and a new normal path, which is
//! every session with one of the keys that a quarter of all sessions have and the model was kept from.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use driftline::arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use driftline_operators::detector::{
    Answers, Detector, DetectorKind, DetectorPlan, DetectorRequest, FeedbackTaken,
};
use driftline_operators::detectors::{DeepLog, DeepLogKind, DetectorBuilder};
use driftline_operators::options::OptionValue;
use driftline_operators::time::EventTime;

use super::Asked;
use super::data::{Hdfs, NORMAL, Session, Weighted, mean_and_spread};

/// Milliseconds between the beginnings of two sessions, and between two entries of one.
const APART: (i64, i64) = (20, 5);
/// A session that is silent for so long has ended.
const GAP: Duration = Duration::from_secs(2);
/// Sessions between two feedbacks.
const TOGETHER: usize = 100;
/// Verify, serve and receive: keys of normal paths that a quarter of all sessions take.
const NEW_KEYS: [&str; 2] = ["3", "4"];

/// Sessions as rows of a log; numbers and times go on from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Stream {
    next: i64,
}

impl Stream {
    fn rows<'a>(&mut self, sessions: impl Iterator<Item = &'a Session>) -> RecordBatch {
        // No entry of a batch is later than the first of the next.
        self.spread(sessions, |place| (APART.1 * place).min(APART.0 - 1))
    }

    /// Sessions whose entries are so many milliseconds after their beginning.
    pub(super) fn spread<'a>(
        &mut self,
        sessions: impl Iterator<Item = &'a Session>,
        after: impl Fn(i64) -> i64,
    ) -> RecordBatch {
        let mut rows: Vec<(i64, i64, i64)> = Vec::new();
        for session in sessions {
            for (place, key) in session.iter().enumerate() {
                let time = APART.0 * self.next + after(place as i64);
                rows.push((time, self.next, key.parse().unwrap_or(0)));
            }
            self.next += 1;
        }
        rows.sort_by_key(|row| row.0);
        let times = TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.0));
        let columns: [(&str, ArrayRef); 3] = [
            ("ts", Arc::new(times)),
            ("block", Arc::new(blocks(rows.iter().map(|row| row.1)))),
            ("log_key", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2)))),
        ];
        RecordBatch::try_from_iter(columns).expect("the columns are equally long")
    }

    /// A watermark by which all sessions so far have ended.
    fn end(&mut self) -> EventTime {
        self.next += 1_000 * GAP.as_secs() as i64 / APART.0 + 2;
        EventTime(APART.0 * self.next * 1_000_000)
    }
}

fn blocks(numbers: impl Iterator<Item = i64>) -> StringArray {
    StringArray::from_iter_values(numbers.map(|number| format!("blk_{number:019}")))
}

/// A detector over such rows that learns from so many sessions.
pub(super) fn plan(
    training: usize,
    epochs: usize,
    options: &[(&str, OptionValue)],
) -> Arc<dyn DetectorPlan> {
    let spec = DeepLog::new()
        .session("block")
        .training(training as i64)
        .option("gap", GAP)
        .option("swap_after", Duration::ZERO)
        .option("epochs", epochs as i64);
    let spec = options.iter().fold(spec, |spec, (name, value)| spec.option(name, value.clone()));
    let columns = Stream::default().rows(std::iter::empty()).schema();
    let spec = spec.build();
    let request =
        DetectorRequest::from_spec("odd", &spec, columns, 0, 1).expect("the columns are there");
    DeepLogKind.plan(&request).expect("the options are right")
}

/// Numbers of the sessions that ended and were raised.
fn raised(answers: &Answers) -> Vec<i64> {
    let mut found = Vec::new();
    for (_, rows) in &answers.side {
        let (names, odd) = (rows["session"].as_string::<i32>(), rows["is_anomaly"].as_boolean());
        let of = (0..rows.num_rows()).filter(|row| odd.value(*row));
        found.extend(of.map(|row| names.value(row)[4..].parse::<i64>().expect("it is a number")));
    }
    found
}

/// A detector that has learned, and its stream.
struct Learned {
    plan: Arc<dyn DetectorPlan>,
    model: Vec<u8>,
    next: i64,
}

impl Learned {
    fn from(sessions: &[Session], asked: Asked, seed: u64) -> Self {
        let seed = [("seed", OptionValue::Integer(seed as i64))];
        let plan = plan(sessions.len(), asked.epochs, &seed);
        let (mut detector, mut stream) = (plan.detector(), Stream::default());
        let mut answers = Answers::default();
        let rows = stream.rows(sessions.iter());
        detector.process(&rows, &mut answers).expect("the rows are right");
        detector.advance(stream.end(), &mut answers).expect("sessions can end");
        assert_eq!(detector.statistics().ready, 1, "the model is there");
        Self { plan, model: detector.snapshot().expect("it can be kept"), next: stream.next }
    }

    fn detector(&self, state: &[u8]) -> Box<dyn Detector> {
        let mut detector = self.plan.detector();
        detector.restore(state).expect("it was kept");
        detector
    }

    /// The share of sessions that are raised, weighted.
    fn share(&self, state: &[u8], (sessions, weights): &Weighted) -> f64 {
        let (mut detector, mut answers) = (self.detector(state), Answers::default());
        let mut stream = Stream { next: 1_000_000 };
        detector.process(&stream.rows(sessions.iter()), &mut answers).expect("the rows are right");
        detector.advance(stream.end(), &mut answers).expect("sessions can end");
        let raised: f64 = raised(&answers)
            .into_iter()
            .filter_map(|n| weights.get((n - 1_000_000) as usize))
            .sum();
        raised / weights.iter().sum::<f64>()
    }

    /// False alarms in a stream, with and without feedback, and the state at its end.
    fn run(&self, stream: &[(&Session, bool)], tells: bool) -> (usize, FeedbackTaken, Vec<u8>) {
        let mut detector = self.detector(&self.model);
        let mut rows = Stream { next: self.next };
        let (mut false_alarms, mut told) = (0, FeedbackTaken::default());
        for part in stream.chunks(TOGETHER) {
            let first = rows.next;
            let mut answers = Answers::default();
            let batch = rows.rows(part.iter().map(|(session, _)| *session));
            detector.process(&batch, &mut answers).expect("the rows are right");
            detector.advance(rows.end(), &mut answers).expect("sessions can end");
            let raised = raised(&answers);
            let normal: Vec<i64> =
                raised.into_iter().filter(|n| part[(n - first) as usize].1).collect();
            false_alarms += normal.len();
            if tells && !normal.is_empty() {
                let schema = self.plan.feedback_schema().expect("it takes feedback");
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(blocks(normal.iter().copied())),
                    Arc::new(TimestampMillisecondArray::from(vec![None; normal.len()])),
                ];
                let named = RecordBatch::try_new(schema, columns).expect("the columns fit");
                let taken = detector.feedback(&named).expect("the steps succeed");
                assert!(taken.found.iter().all(|found| *found), "all of it is remembered");
                told.anomalies += taken.anomalies;
                told.waiting = taken.waiting;
            }
        }
        (false_alarms, told, detector.snapshot().expect("it can be kept"))
    }
}

/// The tested normal sessions, and abnormal ones among them in proportion.
fn mixed(data: &Hdfs) -> Vec<(&Session, bool)> {
    let (normal, all) = (data.tested.len(), data.odd_in_order.len());
    let odd = (normal as f64 * all as f64 / NORMAL) as usize;
    let (every, of) = (normal / odd.max(1), all / odd.max(1));
    let mut odd = data.odd_in_order.iter().step_by(of);
    let mut stream = Vec::new();
    for (place, session) in data.tested.iter().enumerate() {
        stream.push((session, true));
        if place % every == every / 2 {
            stream.extend(odd.next().map(|session| (session, false)));
        }
    }
    stream
}

pub(crate) fn report(asked: Asked) {
    let Some(data) = Hdfs::read() else { return };
    let has_new = |session: &Session| session.iter().any(|key| NEW_KEYS.contains(&key.as_str()));
    let kept: Vec<Session> = data.train.iter().filter(|s| !has_new(s)).cloned().collect();
    let new: BTreeSet<&Session> = data.tested.iter().filter(|s| has_new(s)).collect();
    println!(
        "feedback every {TOGETHER} sessions; a new path is kept from training: {} of {} sessions left, {} new ones in \
         the stream",
        kept.len(),
        data.train.len(),
        new.len()
    );
    let stream = mixed(&data);
    for (name, sessions) in [("", &kept), ("_without_new_path", &data.train)] {
        let (mut ratios, mut changes) = (Vec::new(), Vec::new());
        for seed in 1..=asked.seeds {
            let learned = Learned::from(sessions, asked, seed);
            let (without, ..) = learned.run(&stream, false);
            let (with, told, after) = learned.run(&stream, true);
            let before = [&data.odd, &data.chooses].map(|all| learned.share(&learned.model, all));
            let after = [&data.odd, &data.chooses].map(|all| learned.share(&after, all));
            println!(
                "  seed {seed}: {without} false alarms without, {with} with ({} anomalies learned, {} wait); recall \
                 {:.4} to {:.4}; other normal sessions raised {:.5} to {:.5}",
                told.anomalies, told.waiting, before[0], after[0], before[1], after[1]
            );
            ratios.push(with as f64 / without.max(1) as f64);
            changes.push(after[0] - before[0]);
        }
        let ((ratio, spread), (change, _)) = (mean_and_spread(&ratios), mean_and_spread(&changes));
        println!(
            "figure: online_update_fp_ratio{name} = {ratio:.3} of those without (spread {spread:.3}); recall changes by \
             {change:+.4}"
        );
    }
}
