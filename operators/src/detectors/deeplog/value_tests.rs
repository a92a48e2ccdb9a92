//! Proofs about values in the detector: slow steps are found behind keys that are normal, keys come first, batches and
//! snapshots do not matter, and feedback takes values back.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Float64Builder, ListBuilder, RecordBatch,
    StringArray, StringBuilder, StructBuilder, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Float64Type};

use super::*;
use crate::detector::Answers;
use crate::detectors::DetectorSpec;
use crate::time::EventTime;

/// Time in milliseconds, session, key, seconds since the session's entry before.
type Row = (i64, String, &'static str, Option<f64>);

const KEYS: [&str; 4] = ["open", "disk", "write", "close"];

/// Sessions of four steps. What is odd is told by number of session and step: another key, or another number of seconds.
fn log(sessions: usize, odd: &[(usize, usize, &'static str, f64)]) -> Vec<Row> {
    let mut state = 7_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f64 / f64::from(1 << 24)
    };
    let mut rows = Vec::new();
    for session in 0..sessions {
        let mut time = session as i64 * 3_000;
        for (step, usual) in KEYS.iter().enumerate() {
            let seconds = 1.0 + step as f64 + noise();
            let told = odd.iter().find(|odd| (odd.0, odd.1) == (session, step));
            let (key, seconds) = told.map_or((*usual, seconds), |odd| (odd.2, odd.3));
            time += (seconds * 1e3) as i64;
            rows.push((time, format!("s{session}"), key, (step > 0).then_some(seconds)));
        }
    }
    rows.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    rows
}

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("ts", Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|r| r.0)))),
        ("session", Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.1)))),
        ("log_key", Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.2)))),
        ("elapsed", Arc::new(rows.iter().map(|r| r.3).collect::<Float64Array>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap()
}

fn keys_alone() -> DetectorSpec {
    DeepLog::new()
        .session("session")
        .history(3)
        .top(1)
        .training(70)
        .ngram()
        .option("gap", Duration::from_secs(120))
        .option("end_keys", "close")
        .option("swap_after", Duration::from_secs(5))
        .build()
}

fn spec() -> DetectorSpec {
    let mut spec = keys_alone();
    spec.options.set("values", "elapsed");
    spec.options.set("values_history", 4);
    spec
}

fn plan_of(spec: &DetectorSpec, rows: &RecordBatch) -> Result<Arc<dyn DetectorPlan>> {
    DeepLogKind.plan(&DetectorRequest::from_spec("odd", spec, rows.schema(), 0, 10).unwrap())
}

fn plan(spec: &DetectorSpec) -> Arc<dyn DetectorPlan> {
    plan_of(spec, &batch(&[])).unwrap()
}

const END: EventTime = EventTime(10_000_000_000_000_000);

/// Batches with all that was said of rows in one, and of sessions in the other.
fn said(answers: &Answers) -> [RecordBatch; 2] {
    let one = |parts: Vec<&RecordBatch>| {
        arrow::compute::concat_batches(&parts[0].schema(), parts).unwrap()
    };
    let sessions = answers.side.iter().filter(|(relation, _)| *relation == 0);
    [one(answers.rows.iter().collect()), one(sessions.map(|(_, rows)| rows).collect())]
}

fn judged(plan: &Arc<dyn DetectorPlan>, rows: &[Row]) -> [RecordBatch; 2] {
    let (mut detector, mut answers) = (plan.detector(), Answers::default());
    detector.process(&batch(rows), &mut answers).unwrap();
    detector.advance(END, &mut answers).unwrap();
    said(&answers)
}

fn raised(rows: &RecordBatch) -> BooleanArray {
    rows["is_anomaly"].as_boolean().clone()
}

/// Reasons of a session, if it was raised.
fn reasons(sessions: &RecordBatch, name: &str) -> Option<String> {
    let names = sessions["session"].as_string::<i32>();
    let row = names.iter().position(|n| n == Some(name)).unwrap();
    let reasons = sessions["reasons"].as_string::<i32>();
    raised(sessions).value(row).then(|| reasons.value(row).to_owned())
}

const SLOW: (usize, usize, &str, f64) = (100, 2, "write", 40.0);

/// DL-11, DL-12: a slow step is found though its key is normal; where the key is not, the key is the reason.
#[test]
fn slow_steps_are_found_and_keys_come_first() {
    let odd = [SLOW, (110, 2, "burn", 40.0), (115, 2, "open", 40.0)];
    let [rows, sessions] = judged(&plan(&spec()), &log(120, &odd));
    assert_eq!(reasons(&sessions, "s100").as_deref(), Some("values"));
    assert_eq!(reasons(&sessions, "s110").as_deref(), Some("keys"));
    assert_eq!(reasons(&sessions, "s115").as_deref(), Some("keys"));
    let names = rows["session"].as_string::<i32>();
    let keys = rows["log_key"].as_string::<i32>();
    let detail = rows["detail"].as_struct();
    let number = |column: &ArrayRef| column.as_primitive::<Float64Type>().clone();
    let errors = number(detail.column_by_name("value_error").unwrap());
    let bounds = number(detail.column_by_name("value_bound").unwrap());
    let (scores, thresholds) = (number(&rows["score"]), number(&rows["threshold"]));
    let why = detail.column_by_name("explanation").unwrap().as_string::<i32>().clone();
    let find = |name: &str, key: &str| {
        let mut rows = (0..rows.num_rows()).rev();
        rows.find(|r| (names.value(*r), keys.value(*r)) == (name, key)).unwrap()
    };
    let (slow, is_odd) = (find("s100", "write"), raised(&rows));
    assert!(is_odd.value(slow) && errors.value(slow) > 10.0 * bounds.value(slow));
    assert_eq!(scores.value(slow), errors.value(slow));
    assert_eq!(thresholds.value(slow), bounds.value(slow));
    assert!(why.value(slow).contains("number 1 is 40, expected "), "{}", why.value(slow));
    for (name, key) in [("s110", "burn"), ("s115", "open")] {
        let row = find(name, key);
        assert!(is_odd.value(row) && errors.is_null(row), "{name}: values were not asked");
        assert!(!why.value(row).contains("values"), "{}", why.value(row));
    }
    assert!(errors.is_null(find("s105", "open")), "the first entry has no time");
    let usual = |row: &usize| errors.is_valid(*row) && errors.value(*row) > bounds.value(*row);
    let odd_values: Vec<String> = (0..rows.num_rows())
        .filter(usual)
        .map(|row| format!("{} {}: {}", names.value(row), keys.value(row), why.value(row)))
        .collect();
    let asked = errors.len() - errors.null_count();
    // One in a thousand is asked for, so that less than one beside the slow step is to be expected.
    assert!(asked > 100 && odd_values.len() <= 2, "raised of {asked}: {odd_values:#?}");
    for row in 0..rows.num_rows() {
        if scores.is_valid(row) {
            assert_eq!(scores.value(row) > thresholds.value(row), is_odd.value(row), "row {row}");
        }
    }
}

/// DL-10: where a bound would rest on too few errors nothing is said, but counted.
#[test]
fn keys_with_too_few_errors_are_not_judged_but_counted() {
    let mut few = spec();
    // Twice as many vectors are needed, and there are 70 sessions to learn from.
    few.options.set("values_errors_min", 40);
    let plan = plan(&few);
    let (mut detector, mut answers) = (plan.detector(), Answers::default());
    detector.process(&batch(&log(120, &[SLOW])), &mut answers).unwrap();
    detector.advance(END, &mut answers).unwrap();
    let [rows, sessions] = said(&answers);
    assert_eq!(raised(&rows).true_count() + raised(&sessions).true_count(), 0);
    let errors = rows["detail"].as_struct().column_by_name("value_error").unwrap().clone();
    assert_eq!(errors.null_count(), rows.num_rows());
    let (is_odd, elapsed) = (raised(&rows), &rows["elapsed"]);
    let asked = (0..rows.num_rows()).filter(|row| is_odd.is_valid(*row) && elapsed.is_valid(*row));
    let asked = asked.count() as u64;
    assert!(asked > 100, "{asked} entries have values");
    assert_eq!(detector.statistics().unjudged, asked);
    let mut again = plan.detector();
    again.restore(&detector.snapshot().unwrap()).unwrap();
    assert_eq!(again.statistics().unjudged, asked);
}

/// The same rows by keys alone: nothing is slow, and no column is there for it.
#[test]
fn without_values_nothing_is_said_of_them() {
    let [rows, sessions] = judged(&plan(&keys_alone()), &log(120, &[SLOW]));
    assert_eq!(raised(&rows).true_count() + raised(&sessions).true_count(), 0);
    assert!(rows["detail"].as_struct().column_by_name("value_error").is_none());
}

/// While sessions are gathered, while the model is trained, and after.
#[test]
fn batches_and_snapshots_do_not_matter_and_options_have_to_agree() {
    let rows = log(120, &[SLOW]);
    let plan = plan(&spec());
    let whole = judged(&plan, &rows);
    let (mut detector, mut answers) = (plan.detector(), Answers::default());
    let (mut phases, mut others) = (std::collections::BTreeSet::new(), 0);
    for (number, part) in rows.chunks(7).enumerate() {
        detector.process(&batch(part), &mut answers).unwrap();
        let said = answers.rows.last().unwrap()["phase"].as_string::<i32>().clone();
        let phase = said.value(said.len() - 1).to_owned();
        if phases.insert(phase) || number % 9 == 0 {
            let saved = detector.snapshot().unwrap();
            detector = plan.detector();
            detector.restore(&saved).unwrap();
            assert_eq!(detector.snapshot().unwrap(), saved);
            let mut other = super::value_tests::plan(&keys_alone()).detector();
            let problem = other.restore(&saved).unwrap_err().to_string();
            assert!(problem.contains("was taken with other values"), "{problem}");
            others += 1;
        }
    }
    detector.advance(END, &mut answers).unwrap();
    assert!(phases.len() == 3 && others >= 3, "{phases:?}");
    assert_eq!(said(&answers), whole);
}

/// DL-15: an open session is excused, and the same again is less of a surprise.
#[test]
fn feedback_takes_values_back() {
    let rows = log(140, &[(102, 2, "write", 40.0), (120, 2, "write", 40.0)]);
    let plan = plan(&spec());
    let at = rows.iter().position(|row| row.1 == "s102" && row.2 == "write").unwrap();
    let error_of_second = |told: bool| {
        let (mut detector, mut answers) = (plan.detector(), Answers::default());
        detector.process(&batch(&rows[..=at]), &mut answers).unwrap();
        if told {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from(vec!["s102", "s102"])),
                Arc::new(TimestampMillisecondArray::from(vec![rows[at].0, 1])),
            ];
            let told = RecordBatch::try_new(plan.feedback_schema().unwrap(), columns).unwrap();
            let taken = detector.feedback(&told).unwrap();
            assert_eq!((taken.found, taken.anomalies), (vec![true, false], 1));
        }
        detector.process(&batch(&rows[at + 1..]), &mut answers).unwrap();
        detector.advance(END, &mut answers).unwrap();
        let [rows, sessions] = said(&answers);
        let is_odd = raised(&rows);
        let of_first = rows["session"].as_string::<i32>().iter().zip(&is_odd).enumerate();
        let of_first: Vec<usize> = of_first
            .filter(|(_, (name, odd))| (*name, *odd) == (Some("s102"), Some(true)))
            .map(|(row, _)| row)
            .collect();
        assert_eq!(of_first, [at], "one entry of it is raised");
        assert_eq!(reasons(&sessions, "s102").is_none(), told, "{:?}", reasons(&sessions, "s102"));
        let (names, keys) =
            (rows["session"].as_string::<i32>(), rows["log_key"].as_string::<i32>());
        let is_second = |r: &usize| names.value(*r) == "s120" && keys.value(*r) == "write";
        let second = (0..rows.num_rows()).find(is_second).unwrap();
        let errors = rows["detail"].as_struct().column_by_name("value_error").unwrap();
        errors.as_primitive::<Float64Type>().value(second)
    };
    let (untold, told) = (error_of_second(false), error_of_second(true));
    assert!(told < untold, "{told} after feedback, {untold} without");
}

/// Parameters as `LOG_KEYS` gives them serve behind the elapsed time.
#[test]
fn parameters_are_values_and_other_columns_are_refused() {
    let rows = log(120, &[]);
    let size = Field::new("number", DataType::Float64, true);
    let fields = Fields::from(vec![Field::new("text", DataType::Utf8, true), size]);
    let mut lists = ListBuilder::new(StructBuilder::from_fields(fields, 0));
    let slow = rows.iter().position(|row| row.1 == "s100" && row.2 == "disk").unwrap();
    for (place, row) in rows.iter().enumerate() {
        if row.2 == "disk" {
            let item = lists.values();
            let number = if place == slow { 9_000.0 } else { f64::from(512 << (place % 3)) };
            item.field_builder::<StringBuilder>(0).unwrap().append_value("x");
            item.field_builder::<Float64Builder>(1).unwrap().append_value(number);
            item.append(true);
        }
        lists.append(true);
    }
    let plain = batch(&rows);
    let mut columns: Vec<(&str, ArrayRef)> = ["ts", "session", "log_key", "elapsed"]
        .map(|name| (name, Arc::clone(&plain[name])))
        .to_vec();
    columns.push(("parameters", Arc::new(lists.finish())));
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let mut both = spec();
    both.options.set("values", "elapsed, parameters");
    let mut detector = plan_of(&both, &rows).unwrap().detector();
    let mut answers = Answers::default();
    detector.process(&rows, &mut answers).unwrap();
    let why = answers.rows[0]["detail"].as_struct().column_by_name("explanation").unwrap().clone();
    let why = why.as_string::<i32>().value(slow).to_owned();
    assert!(why.contains("number 2 is 9000, expected "), "{why}");

    let refused = |option: &str, value: &str| {
        let mut spec = spec();
        spec.options.set(option, value);
        let error = plan_of(&spec, &rows).unwrap_err();
        (error.to_string(), error.hint().unwrap_or_default().to_owned())
    };
    let (problem, hint) = refused("values", "elapsed, session");
    assert_eq!(problem, "detector \"odd\" cannot read \"session\" as its values: it is Utf8");
    assert!(hint.contains("values = 'elapsed, parameters'"), "{hint}");
    let (problem, _) = refused("values", "nothing");
    assert_eq!(problem, "detector \"odd\" has no column \"nothing\" for its values");
    let mut few = spec();
    few.options.set("values_max", 20);
    let problem = plan_of(&few, &rows).unwrap_err().to_string();
    assert!(
        problem.contains("\"values_max\"") && problem.contains("from 60 vectors on"),
        "{problem}"
    );
}
