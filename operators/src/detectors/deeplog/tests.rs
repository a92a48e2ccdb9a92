//! Proofs about the detector and its model: batches and snapshots do not matter, what never followed is found, sessions
//! end where they should, and bounds hold.

mod verdicts;

use std::fmt::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::Float64Type;

use super::*;
use crate::detector::Answers;
use crate::detectors::DetectorSpec;
use crate::time::EventTime;

fn xorshift(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 33) as usize
}

/// One run of the normal task: begin, both sides of a fork in either order, some repetitions, end.
fn normal(state: &mut u64) -> Vec<String> {
    let mut keys = vec!["open"];
    keys.extend(if xorshift(state).is_multiple_of(2) { ["disk", "net"] } else { ["net", "disk"] });
    keys.extend(std::iter::repeat_n("write", 1 + xorshift(state) % 2));
    keys.push("close");
    keys.into_iter().map(str::to_owned).collect()
}

fn sessions(count: usize, seed: u64) -> Vec<Vec<String>> {
    let mut state = seed;
    (0..count).map(|_| normal(&mut state)).collect()
}

fn session(keys: &str) -> Vec<String> {
    keys.split_whitespace().map(str::to_owned).collect()
}

fn ngram() -> KeySettings {
    KeySettings { model: KeyModelKind::Ngram, history: 3, top: 2, ..KeySettings::default() }
}

fn trained(settings: &KeySettings) -> KeyModel {
    KeyModel::train(&sessions(200, 9), settings, &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn what_never_followed_is_abnormal() {
    let mut model = trained(&ngram());
    let judge = |model: &mut KeyModel, keys: &str| model.judge(&[session(keys)])[0];
    assert_eq!(judge(&mut model, "open disk net write close").abnormal, 0);
    let odd = judge(&mut model, "open close disk net write close");
    assert!(odd.abnormal > 0 && odd.unseen == 0, "{odd:?}");
    let unseen = judge(&mut model, "open disk net burn close");
    assert!(unseen.unseen == 1 && unseen.abnormal > 0, "{unseen:?}");
    let cut = judge(&mut model, "open disk");
    assert!(
        cut.abnormal > 0 && cut.length_is_odd && cut.distance > model.distance_bound(),
        "{cut:?}"
    );
}

#[test]
fn models_come_back_from_their_bytes_and_others_are_refused() {
    let mut model = trained(&ngram());
    let bytes = model.to_bytes().unwrap();
    let mut back = KeyModel::from_bytes(&bytes, &ngram()).unwrap();
    let asked = [session("open net disk write close"), session("open open burn")];
    assert_eq!(back.judge(&asked), model.judge(&asked));
    assert_eq!(back.to_bytes().unwrap(), bytes);
    let problem = |bytes: &[u8], settings: &KeySettings| {
        KeyModel::from_bytes(bytes, settings).map(|_| ()).unwrap_err().to_string()
    };
    for cut in (0..bytes.len()).step_by(7) {
        assert!(problem(&bytes[..cut], &ngram()).starts_with("snapshot of deeplog key model"));
    }
    assert_eq!(bytes[0], 2);
    let older = [&[1], &bytes[1..]].concat();
    assert_eq!(
        problem(&older, &ngram()),
        "snapshot of deeplog key model is of version 1, this is version 2"
    );
    let longer = KeySettings { history: 4, ..ngram() };
    assert_eq!(
        problem(&bytes, &longer),
        "snapshot of deeplog key model reads histories of 3 keys, not 4"
    );
    let network = KeySettings { model: KeyModelKind::Lstm, ..ngram() };
    assert_eq!(
        problem(&bytes, &network),
        "snapshot of deeplog key model is of kind Ngram, not Lstm"
    );
}

#[cfg(feature = "neural")]
mod lstm {
    use super::*;

    pub(super) fn small() -> KeySettings {
        KeySettings {
            model: KeyModelKind::Lstm,
            network: NetworkSettings {
                layers: 1,
                hidden: 16,
                learning_rate: 0.02,
                batch: 16,
                epochs: 60,
                ..NetworkSettings::default()
            },
            ..ngram()
        }
    }

    #[test]
    fn the_network_tells_what_never_followed() {
        let mut model = trained(&small());
        let judged = model.judge(&[
            session("open disk net write write close"),
            session("open net disk write close"),
            session("open close disk net write close"),
            session("open disk net burn close"),
        ]);
        let abnormal: Vec<bool> = judged.iter().map(|judged| judged.abnormal > 0).collect();
        assert_eq!(abnormal, [false, false, true, true], "{judged:?}");
        assert!(judged[2].nll_max > 2.0 * judged[0].nll_max);
        let back = KeyModel::from_bytes(&model.to_bytes().unwrap(), &small()).unwrap();
        let asked = [session("open net net disk write close")];
        assert_eq!(back.clone().judge(&asked), model.judge(&asked));
    }

    #[test]
    fn feedback_makes_a_new_path_normal_and_forgets_nothing() {
        let mut model = trained(&small());
        let normals = sessions(40, 77);
        let before: u32 = model.judge(&normals).iter().map(|judged| judged.abnormal).sum();
        let fresh = session("open disk net sync write close");
        assert!(model.judge(std::slice::from_ref(&fresh))[0].abnormal > 0);
        let mut rounds = 0;
        while model.judge(std::slice::from_ref(&fresh))[0].abnormal > 0 {
            model.learn_normal(std::slice::from_ref(&fresh), 10).unwrap();
            rounds += 1;
            assert!(rounds <= 20, "it is still abnormal: {:?}", model.judge(&[fresh]));
        }
        let after: u32 = model.judge(&normals).iter().map(|judged| judged.abnormal).sum();
        assert!(after <= before, "{after} abnormal keys among normal sessions, {before} before");
        assert!(model.judge(&[session("open close disk net write close")])[0].abnormal > 0);
    }
}

/// DL-14: a key that feedback made known is normal where it was, and nowhere else.
#[test]
fn a_new_key_is_normal_where_it_was_called_so() {
    let all = [
        ngram(),
        #[cfg(feature = "neural")]
        lstm::small(),
    ];
    for settings in all {
        let mut model = trained(&settings);
        let told = session("open disk net sync write close");
        model.learn_normal(std::slice::from_ref(&told), 10).unwrap();
        let judge = |model: &mut KeyModel, keys: &str| model.judge(&[session(keys)])[0];
        let again = judge(&mut model, "open disk net sync write close");
        assert_eq!((again.abnormal, again.unseen), (0, 0), "{:?}", settings.model);
        for keys in ["sync open disk net write close", "open disk net write close sync"] {
            let odd = judge(&mut model, keys);
            assert!(odd.abnormal > 0 && odd.unseen == 0, "{:?}: {keys}: {odd:?}", settings.model);
        }
        let back = KeyModel::from_bytes(&model.to_bytes().unwrap(), &settings).unwrap();
        assert_eq!(judge(&mut back.clone(), "open disk net sync write close"), again);
    }
}

/// Entries of sessions, some of which are open at once: rows of time in milliseconds, session and key.
fn log(all: &[Vec<String>]) -> Vec<(i64, String, String)> {
    let mut rows = Vec::new();
    for (number, keys) in all.iter().enumerate() {
        for (place, key) in keys.iter().enumerate() {
            let time = 3_000 * number as i64 + 1_000 * place as i64;
            rows.push((time, format!("s{number}"), key.clone()));
        }
    }
    rows.sort();
    rows
}

fn batch(rows: &[(i64, String, String)]) -> RecordBatch {
    let times = TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.0));
    let columns: [(&str, ArrayRef); 3] = [
        ("ts", Arc::new(times)),
        ("session", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.1)))),
        ("log_key", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.2)))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn spec() -> DetectorSpec {
    DeepLog::new()
        .session("session")
        .history(3)
        .top(2)
        .training(60)
        .ngram()
        .combined()
        .option("gap", std::time::Duration::from_secs(20))
        .option("swap_after", std::time::Duration::from_secs(5))
        .build()
}

fn plan(spec: &DetectorSpec) -> Arc<dyn DetectorPlan> {
    let request = DetectorRequest::from_spec("odd", spec, batch(&[]).schema(), 0, 10).unwrap();
    DeepLogKind.plan(&request).unwrap()
}

/// Everything said, as text: rows, then what is in side relations, one relation after the other.
fn text(answers: &Answers) -> (Vec<String>, Vec<String>) {
    let lines = |rows: &RecordBatch, from: usize| -> Vec<String> {
        (0..rows.num_rows())
            .map(|row| {
                let mut line = String::new();
                for column in &rows.columns()[from..] {
                    let shown = arrow::util::display::array_value_to_string(column, row).unwrap();
                    let _ = write!(line, "{shown}|");
                }
                line
            })
            .collect()
    };
    let rows = answers.rows.iter().flat_map(|rows| lines(rows, 0)).collect();
    let mut side: Vec<_> = answers.side.iter().collect();
    side.sort_by_key(|(relation, _)| *relation);
    (rows, side.into_iter().flat_map(|(_, rows)| lines(rows, 0)).collect())
}

fn stream() -> Vec<(i64, String, String)> {
    let mut all = sessions(100, 5);
    all[80] = session("open close disk net write close");
    all[85] = session("open disk net burn close");
    all[90] = session("open disk");
    log(&all)
}

const END: EventTime = EventTime(1_000_000_000_000_000);

#[test]
fn batches_watermarks_and_snapshots_do_not_matter() {
    let rows = stream();
    let plan = plan(&spec());
    let whole = {
        let (mut detector, mut answers) = (plan.detector(), Answers::default());
        detector.process(&batch(&rows), &mut answers).unwrap();
        detector.advance(END, &mut answers).unwrap();
        text(&answers)
    };
    for size in [1, 7, 64] {
        let (mut detector, mut answers) = (plan.detector(), Answers::default());
        for part in rows.chunks(size) {
            detector.process(&batch(part), &mut answers).unwrap();
            let last = part.last().unwrap().0;
            detector.advance(EventTime(last * 1_000_000), &mut answers).unwrap();
            let saved = detector.snapshot().unwrap();
            detector = plan.detector();
            detector.restore(&saved).unwrap();
            assert_eq!(detector.snapshot().unwrap(), saved);
        }
        detector.advance(END, &mut answers).unwrap();
        let found = text(&answers);
        assert_eq!(found.0, whole.0, "rows in batches of {size}");
        assert_eq!(found.1, whole.1, "sessions in batches of {size}");
    }
}

#[test]
fn odd_sessions_are_named_with_their_reasons() {
    let rows = stream();
    let (mut detector, mut answers) = (plan(&spec()).detector(), Answers::default());
    detector.process(&batch(&rows), &mut answers).unwrap();
    detector.advance(END, &mut answers).unwrap();
    let odd: Vec<(String, String)> = answers
        .side
        .iter()
        .filter(|(relation, _)| *relation == 0)
        .flat_map(|(_, rows)| {
            let column = |name: &str| rows.column_by_name(name).unwrap().as_string::<i32>().clone();
            let (names, reasons) = (column("session"), column("reasons"));
            let is_odd = rows.column_by_name("is_anomaly").unwrap().as_boolean().clone();
            (0..rows.num_rows())
                .filter(|row| is_odd.is_valid(*row) && is_odd.value(*row))
                .map(|row| (names.value(row).to_owned(), reasons.value(row).to_owned()))
                .collect::<Vec<_>>()
        })
        .collect();
    let names: Vec<&str> = odd.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["s80", "s85", "s90"], "{odd:?}");
    assert!(odd[0].1.contains("keys"), "{odd:?}");
    assert!(odd[1].1.contains("unseen key"), "{odd:?}");
    assert!(odd[2].1.contains("length"), "{odd:?}");
    // The rows that are raised are of these sessions, and say what was expected.
    let rows = &answers.rows[0];
    let is_odd = rows["is_anomaly"].as_boolean();
    let names = rows["session"].as_string::<i32>();
    let raised: Vec<usize> =
        (0..rows.num_rows()).filter(|row| is_odd.is_valid(*row) && is_odd.value(*row)).collect();
    assert!(raised.iter().any(|row| names.value(*row) == "s80"));
    assert!(raised.iter().all(|row| ["s80", "s85", "s90"].contains(&names.value(*row))));
    let detail = rows["detail"].as_struct();
    let expected = detail.column_by_name("expected").unwrap().as_string::<i32>();
    assert!(
        raised.iter().all(|row| expected.value(*row).contains("(0.")),
        "{:?}",
        expected.value(raised[0])
    );
    let scores = rows["score"].as_primitive::<Float64Type>();
    let thresholds = rows["threshold"].as_primitive::<Float64Type>();
    for row in 0..rows.num_rows() {
        if scores.is_valid(row) {
            assert_eq!(scores.value(row) > thresholds.value(row), is_odd.value(row), "row {row}");
        }
    }
    assert!(scores.is_null(0), "the first rows are not scored");
}

/// Rows of feedback: a session, and the time of one of its entries or all.
fn feedback(rows: &[(&str, Option<i64>)]) -> RecordBatch {
    let names = StringArray::from_iter_values(rows.iter().map(|row| row.0));
    let times: TimestampMillisecondArray = rows.iter().map(|row| row.1).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(names), Arc::new(times)];
    let schema = plan(&spec()).feedback_schema().expect("it takes feedback");
    RecordBatch::try_new(schema, columns).unwrap()
}

/// DL-13: what feedback does depends on the rows before it, however they came and whatever was restored between.
#[test]
fn feedback_does_not_depend_on_batches_and_snapshots() {
    let mut all = sessions(140, 5);
    for number in [80, 100, 120, 121] {
        all[number] = session("open disk net sync write close");
    }
    all[125] = session("open close disk net write close");
    let rows = log(&all);
    let cut = rows.iter().position(|row| row.1 == "s110").unwrap();
    let told = feedback(&[("s80", None), ("s100", None), ("s79", None)]);
    let plan = plan(&spec());
    let run = |size: usize, restores: bool| {
        let (mut detector, mut answers) = (plan.detector(), Answers::default());
        let mut push = |detector: &mut Box<dyn crate::detector::Detector>, rows: &[_]| {
            for part in rows.chunks(size) {
                detector.process(&batch(part), &mut answers).unwrap();
                if restores {
                    let saved = detector.snapshot().unwrap();
                    *detector = plan.detector();
                    detector.restore(&saved).unwrap();
                }
            }
        };
        push(&mut detector, &rows[..cut]);
        let taken = detector.feedback(&told).unwrap();
        push(&mut detector, &rows[cut..]);
        detector.advance(END, &mut answers).unwrap();
        (taken, text(&answers))
    };
    let (taken, whole) = run(10_000, false);
    assert_eq!(taken.found, [true, true, false]);
    assert_eq!((taken.anomalies > 2, taken.waiting), (true, 0), "{taken:?}");
    let odd = |sessions: &[String], name: &str| {
        sessions.iter().any(|row| row.starts_with(&format!("{name}|")) && row.contains("|true|"))
    };
    let found = ["s80", "s100", "s120", "s121", "s125"].map(|name| odd(&whole.1, name));
    assert_eq!(found, [true, true, false, false, true]);
    for size in [1, 50] {
        assert_eq!(run(size, true), (taken.clone(), whole.clone()), "batches of {size}");
    }
}

/// An entry that was taken back no longer speaks against its session while that is open; another does.
#[test]
fn open_sessions_are_excused_what_was_taken_back() {
    let mut spec = spec();
    spec.options.set("combined", false);
    let plan = plan(&spec);
    let mut all = sessions(100, 5);
    all[90] = session("open burn disk net write close");
    all[91] = session("open burn disk burn write close");
    let rows = log(&all);
    let (mut detector, mut answers) = (plan.detector(), Answers::default());
    // Until both are open, with all of their entries there.
    let cut = rows.iter().rposition(|row| row.1 == "s91").unwrap() + 1;
    detector.process(&batch(&rows[..cut]), &mut answers).unwrap();
    let time = |name: &str| rows.iter().find(|row| row.1 == name).unwrap().0 + 1_000;
    let told =
        feedback(&[("s90", None), ("s91", Some(time("s91"))), ("s91", Some(time("s91") + 1))]);
    let taken = detector.feedback(&told).unwrap();
    assert_eq!(taken.found, [true, true, false]);
    detector.process(&batch(&rows[cut..]), &mut answers).unwrap();
    detector.advance(END, &mut answers).unwrap();
    let raised = |name: &str| {
        let sessions = text(&answers).1;
        let row = sessions.iter().find(|row| row.starts_with(&format!("{name}|"))).unwrap().clone();
        row.contains("|true|")
    };
    assert!(!raised("s90") && raised("s91"), "{:?}", text(&answers).1);
}

#[test]
fn sessions_beyond_the_bound_end_and_are_counted() {
    let mut spec = spec();
    spec.options.set("sessions_max", 4);
    spec.options.set("gap", std::time::Duration::ZERO);
    let (mut detector, mut answers) = (plan(&spec).detector(), Answers::default());
    let rows: Vec<_> = (0..50).map(|i| (i, format!("s{i}"), "open".to_owned())).collect();
    detector.process(&batch(&rows), &mut answers).unwrap();
    assert_eq!(detector.statistics().evicted, 46);
    assert_eq!(text(&answers).1.len(), 46);
}

#[test]
fn end_keys_end_their_session() {
    let mut spec = spec();
    spec.options.set("end_keys", "close, abort");
    let (mut detector, mut answers) = (plan(&spec).detector(), Answers::default());
    detector.process(&batch(&log(&sessions(5, 3))), &mut answers).unwrap();
    assert_eq!(text(&answers).1.len(), 5, "no watermark is needed");
}

#[test]
fn rows_without_key_are_passed_over_and_numbers_serve_as_keys() {
    let times = TimestampMillisecondArray::from_iter_values(0..4);
    let columns: [(&str, ArrayRef); 2] = [
        ("ts", Arc::new(times)),
        ("log_key", Arc::new(Int64Array::from(vec![Some(1), None, Some(-7), Some(1)]))),
    ];
    let rows =
        RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap();
    let spec = DeepLog::new().ngram().build();
    let request = DetectorRequest::from_spec("odd", &spec, rows.schema(), 0, 10).unwrap();
    let plan = DeepLogKind.plan(&request).unwrap();
    let (mut detector, mut answers) = (plan.detector(), Answers::default());
    detector.process(&rows, &mut answers).unwrap();
    detector.advance(END, &mut answers).unwrap();
    assert_eq!(answers.rows[0].schema(), plan.output_schema());
    assert_eq!(answers.side[0].1.schema(), plan.relations()[0].schema);
    assert_eq!((detector.statistics().rows, detector.statistics().missing), (4, 1));
    let other = batch(&stream());
    assert!(detector.process(&other, &mut answers).is_err());
}

#[test]
fn columns_that_do_not_fit_are_refused() {
    let refused = |spec: DetectorSpec| {
        let request = DetectorRequest::from_spec("odd", &spec, batch(&[]).schema(), 0, 10).unwrap();
        DeepLogKind.plan(&request).unwrap_err().to_string()
    };
    assert_eq!(
        refused(DeepLog::new().ngram().partition_by(["session"]).build()),
        "detector \"odd\" has one model for all sessions, and takes no PARTITION BY"
    );
    assert_eq!(
        refused(DeepLog::new().ngram().session("nothing").build()),
        "detector \"odd\" has no column \"nothing\" for its session"
    );
    assert_eq!(
        refused(DeepLog::new().ngram().session("ts").build()),
        "detector \"odd\" cannot read \"ts\" as its session: it is Timestamp(ms)"
    );
    #[cfg(not(feature = "neural"))]
    assert_eq!(
        refused(DeepLog::new().build()),
        "option \"model\" of detector kind \"deeplog\" is 'lstm', which needs the feature \"neural\" of the crate"
    );
    #[cfg(not(feature = "neural"))]
    assert_eq!(
        refused(DeepLog::new().ngram().values("ts").build()),
        "option \"values\" of detector kind \"deeplog\" names values, whose model needs the feature \"neural\" of the crate"
    );
}
