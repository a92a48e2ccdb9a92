//! Feedback through the public engine: anomalies that were none are taken back on whichever worker remembers them, in the
//! same place of the rows, and what cannot be meant is refused by name or counted.

use std::sync::Arc;

use driftline::arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use driftline::arrow::datatypes::Int64Type;
use driftline::detectors::{DeepLogKind, builtin_kinds};
use driftline::{Engine, ErrorKind, EventTime, FeedbackReport};

use super::support::{SECOND, assert_same, collect, push_all};

const SESSIONS: &str =
    "SELECT session, session_end, abnormal, unseen, score, threshold, is_anomaly FROM odd.sessions";

fn engine(workers: usize) -> Engine {
    let builder = Engine::builder().workers(workers);
    let is_known = builtin_kinds().iter().any(|kind| kind.name() == "deeplog");
    let builder =
        if is_known { builder } else { builder.with_detector_kind(Arc::new(DeepLogKind)) };
    let engine = builder.build().unwrap();
    engine
        .execute(
            "CREATE SOURCE log (ts TIMESTAMP, block TEXT, log_key TEXT, WATERMARK FOR ts AS ts);
             CREATE DETECTOR odd USING deeplog WITH (session = 'block', model = 'ngram', history = 3, top = 2,
               training = 60, gap = INTERVAL '20 seconds', swap_after = INTERVAL '5 seconds') AS SELECT * FROM log",
        )
        .unwrap();
    engine
}

/// Sessions of these keys, one every ten seconds with an entry each second, numbered from `first` on.
fn log(first: i64, sessions: &[&str]) -> RecordBatch {
    let (mut times, mut blocks, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for (number, session) in (first..).zip(sessions) {
        for (place, key) in (0..).zip(session.split_whitespace()) {
            times.push((10 * number + place) * SECOND);
            blocks.push(format!("s{number}"));
            keys.push(key.to_owned());
        }
    }
    RecordBatch::try_from_iter([
        ("ts", Arc::new(TimestampNanosecondArray::from(times)) as ArrayRef),
        ("block", Arc::new(StringArray::from(blocks))),
        ("log_key", Arc::new(StringArray::from(keys))),
    ])
    .unwrap()
}

const NORMAL: [&str; 3] =
    ["open disk net write close", "open net disk write close", "open disk net write write close"];
const NEW_PATH: &str = "open disk net sync write close";
const BACKWARDS: &str = "open close net disk write";

/// Sessions to learn from, then some that are odd: 95 and 96 take a new path, 97 goes backwards.
fn first() -> RecordBatch {
    let mut sessions: Vec<&str> = (0..95).map(|i| NORMAL[i % 3]).collect();
    sessions.extend([NEW_PATH, NEW_PATH, BACKWARDS]);
    log(0, &sessions)
}

fn second() -> RecordBatch {
    log(200, &[NEW_PATH, BACKWARDS, NORMAL[0], "open disk net sync sync", NEW_PATH])
}

/// Everything before the given second has been seen.
fn advance(engine: &Engine, second: i64) {
    engine.source("log").unwrap().watermark(EventTime(second * SECOND)).unwrap();
}

/// Names of the sessions that were raised.
fn raised(sessions: &RecordBatch) -> Vec<String> {
    let names = sessions["session"].as_string::<i32>();
    let odd = sessions["is_anomaly"].as_boolean();
    let of = (0..sessions.num_rows()).filter(|row| odd.value(*row));
    of.map(|row| names.value(row).to_owned()).collect()
}

#[test]
fn a_new_path_is_learned_the_same_on_any_number_of_workers() {
    let mut reference = None;
    for workers in [1, 2, 4] {
        let engine = engine(workers);
        let sessions = engine.subscribe(SESSIONS).unwrap();
        push_all(&engine, "log", &first(), 50).unwrap();
        advance(&engine, 1_500);
        let report = engine
            .execute(
                "ALTER DETECTOR odd FEEDBACK (block) VALUES ('s95'), ('s96'), ('s3'), ('nobody')",
            )
            .unwrap()
            .remove(0);
        let count = |name: &str| report[name].as_primitive::<Int64Type>().value(0);
        // Each session's key, and the session as a whole.
        assert_eq!(["rows", "unknown", "anomalies", "waiting"].map(count), [4, 2, 4, 0]);
        push_all(&engine, "log", &second(), 7).unwrap();
        engine.shutdown().unwrap();
        let found = collect(sessions);
        assert_eq!(raised(&found), ["s95", "s96", "s97", "s201", "s203"], "{workers} workers");
        let reference = reference.get_or_insert_with(|| vec![found.clone()]);
        assert_same(&[found], reference, &format!("{workers} workers"));
    }
}

#[test]
fn rows_of_the_detector_are_feedback_and_most_sessions_decide_on_a_key() {
    let engine = engine(2);
    let rows = engine.subscribe("SELECT ts, block, log_key FROM odd WHERE is_anomaly").unwrap();
    let sessions = engine.subscribe(SESSIONS).unwrap();
    let many = [NEW_PATH; 4].into_iter().chain([NORMAL[0]]).collect::<Vec<_>>();
    push_all(&engine, "log", &first(), 500).unwrap();
    push_all(&engine, "log", &log(98, &many), 500).unwrap();
    advance(&engine, 1_500);
    engine.drain().unwrap();
    let one = |block: &str, time: Option<i64>| {
        RecordBatch::try_from_iter_with_nullable([
            ("block", Arc::new(StringArray::from(vec![block])) as ArrayRef, false),
            ("ts", Arc::new(TimestampNanosecondArray::from(vec![time])), true),
        ])
        .unwrap()
    };
    // One of six sessions with the key: its entry is taken back, and waits.
    let time = (10 * 95 + 3) * SECOND;
    let report = engine.feedback("odd", &one("s95", Some(time))).unwrap();
    assert_eq!(report, FeedbackReport { rows: 1, waiting: 1, ..FeedbackReport::default() });
    // Nothing was raised a second later, but for the session as a whole.
    let report = engine.feedback("odd", &one("s95", Some(time + SECOND))).unwrap();
    assert_eq!((report.unknown, report.waiting), (1, 1));
    let report = engine.feedback("odd", &one("s95", None)).unwrap();
    assert_eq!((report.unknown, report.anomalies, report.waiting), (0, 0, 2));
    push_all(&engine, "log", &log(200, &[NEW_PATH]), 500).unwrap();
    advance(&engine, 2_500);
    engine.drain().unwrap();
    // All rows that were raised for the key, as the detector gave them.
    push_all(&engine, "log", &log(300, &[NORMAL[0]]), 500).unwrap();
    let sync = |rows: &RecordBatch| {
        let keys = rows["log_key"].as_string::<i32>();
        let chosen: Vec<bool> = (0..rows.num_rows()).map(|row| keys.value(row) == "sync").collect();
        driftline::arrow::compute::filter_record_batch(rows, &chosen.into()).unwrap()
    };
    let mut told = 0;
    let mut rows = rows;
    while told < 7 {
        let given = sync(&rows.next().unwrap().unwrap());
        told += given.num_rows();
        engine.feedback("odd", &given).unwrap();
    }
    push_all(&engine, "log", &log(400, &[NEW_PATH, BACKWARDS]), 500).unwrap();
    engine.shutdown().unwrap();
    let raised = raised(&collect(sessions));
    let expected = ["s95", "s96", "s97", "s98", "s99", "s100", "s101", "s200", "s401"];
    assert_eq!(raised, expected);
}

#[test]
fn what_cannot_be_meant_is_refused_by_name() {
    let engine = engine(1);
    engine
        .execute(
            "CREATE DETECTOR mute USING deeplog WITH (session = 'block', model = 'ngram', feedback_max = 0) AS
               SELECT * FROM log;
             CREATE DETECTOR whole USING deeplog WITH (model = 'ngram') AS SELECT * FROM log",
        )
        .unwrap();
    let refused = |sql: &str, message: &str, kind: ErrorKind| {
        let error = engine.execute(sql).unwrap_err();
        assert_eq!((error.message(), error.kind()), (message, kind), "{sql}");
        assert!(error.hint().is_some() && error.position().is_some(), "{sql}");
    };
    for (sql, message) in [
        (
            "ALTER DETECTOR odd FEEDBACK (block) VALUES ('s1'), (NULL)",
            "feedback for detector \"odd\" has NULL as \"block\" in row 2",
        ),
        (
            "ALTER DETECTOR odd FEEDBACK (ts) VALUES ('2024-01-01')",
            "feedback for detector \"odd\" has NULL as \"block\" in row 1",
        ),
        (
            "ALTER DETECTOR whole FEEDBACK (ts) VALUES (NULL)",
            "feedback for detector \"whole\" has NULL as \"ts\" in row 1",
        ),
        (
            "ALTER DETECTOR odd FEEDBACK (blocks) VALUES ('s1')",
            "column \"blocks\" not found in \"odd\"",
        ),
        ("ALTER DETECTOR ood FEEDBACK (block) VALUES ('s1')", "detector \"ood\" does not exist"),
    ] {
        refused(sql, message, ErrorKind::Query);
    }
    refused(
        "ALTER DETECTOR mute FEEDBACK (block) VALUES ('s1')",
        "detector \"mute\" is of kind \"deeplog\", which takes no feedback",
        ErrorKind::Unsupported,
    );
    let numbers = [("ts", Arc::new(Int64Array::from(vec![1])) as ArrayRef)];
    let error = engine.feedback("odd", &RecordBatch::try_from_iter(numbers).unwrap()).unwrap_err();
    assert_eq!(error.message(), "feedback for detector \"odd\" lacks the column \"block\"");
    assert_eq!(error.hint(), Some("its columns are block, ts"));
    // Before there is a model nothing has been raised.
    let named = RecordBatch::try_from_iter([(
        "block",
        Arc::new(StringArray::from(vec!["s1"])) as ArrayRef,
    )]);
    let report = engine.feedback("odd", &named.unwrap()).unwrap();
    assert_eq!((report.rows, report.unknown), (1, 1));
    engine.source("log").unwrap().close().unwrap();
    engine.drain().unwrap();
    let sql = "ALTER DETECTOR odd FEEDBACK (block) VALUES ('s1')";
    let ended = engine.execute(sql).unwrap_err();
    assert!(ended.message().contains("the detector has ended"), "{ended}");
}
