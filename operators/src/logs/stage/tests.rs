//! Rows in, keyed rows out: columns, sessions, changes, snapshots.

use arrow::array::TimestampMillisecondArray;
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int64Type};

use super::*;
use crate::options::Options;

/// Rows of (milliseconds, session, message).
fn rows(lines: &[(i64, &str, Option<&str>)]) -> RecordBatch {
    let times = TimestampMillisecondArray::from_iter_values(lines.iter().map(|line| line.0));
    let hosts = StringArray::from_iter_values(lines.iter().map(|line| line.1));
    let texts: StringArray = lines.iter().map(|line| line.2).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("ts", Arc::new(times) as ArrayRef, false),
        ("host", Arc::new(hosts), false),
        ("message", Arc::new(texts), true),
    ])
    .unwrap()
}

fn plan(options: &Options, session: &[usize]) -> LogKeyPlan {
    let options = LogKeyOptions::new(options).unwrap();
    LogKeyPlan::new(&rows(&[]).schema(), 2, 0, session, options).unwrap()
}

fn process(stage: &mut LogKeyState, batches: &[RecordBatch]) -> (RecordBatch, RecordBatch) {
    let mut out = KeyedLines::default();
    batches.iter().for_each(|batch| stage.process(batch, &mut out).unwrap());
    let (rows, changes) = (stage.plan.output_schema(), stage.plan.changes_schema());
    (concat_batches(&rows, &out.rows).unwrap(), concat_batches(&changes, &out.changes).unwrap())
}

#[test]
fn the_vectors_of_the_slides_come_out() {
    // SP-10: k1 [t1 - t0, file1], k2 [t2 - t1, 0.61], k3 [t3 - t2].
    let batch = rows(&[
        (0, "a", Some("Deletion of file0 complete")),
        (1500, "a", Some("Deletion of file1 complete")),
        (1750, "b", Some("Deletion of file9 complete")),
        (2000, "a", Some("Took 0.61 seconds to deallocate network")),
        (2250, "a", None),
        (5000, "a", Some("VM Stopped (Lifecycle Event)")),
    ]);
    let mut stage = plan(&Options::new(), &[1]).stage().unwrap();
    let (found, changes) = process(&mut stage, &[batch]);
    let keys = found.column(3).as_primitive::<Int64Type>();
    assert_eq!(keys.iter().collect::<Vec<_>>(), [1, 1, 1, 2, 0, 3].map(|k| (k > 0).then_some(k)));
    let elapsed = found.column(6).as_primitive::<Float64Type>();
    let expected = [None, Some(1.5), None, Some(0.5), None, Some(3.0)];
    assert_eq!(elapsed.iter().collect::<Vec<_>>(), expected);
    let parameters = found.column(5).as_list::<i32>();
    assert!(parameters.is_null(4) && parameters.value(5).is_empty());
    let third = parameters.value(3);
    let third = third.as_struct();
    assert_eq!(third.column(0).as_string::<i32>().value(0), "0.61");
    assert_eq!(third.column(1).as_primitive::<Float64Type>().value(0), 0.61);
    assert_eq!(third.column(2).as_string::<i32>().value(0), "s");
    assert_eq!(found.column(4).as_string::<i32>().value(1), "Deletion of <*> complete");
    assert_eq!(changes.num_rows(), 3);
    assert_eq!(changes.column(2).as_string::<i32>().value(0), "created");
    assert_eq!(
        changes.column(0),
        &take(found.column(0), &UInt32Array::from(vec![0, 3, 5]), None).unwrap()
    );
}

#[test]
fn batches_do_not_show_and_a_restored_stage_goes_on() {
    let lines: Vec<(i64, String, String)> = (0..600)
        .map(|i| {
            let session = format!("s{}", i % 7);
            (
                i * 10,
                session,
                format!(
                    "user u{} logged {} x{}",
                    i % 5,
                    ["in", "out"][i as usize % 2],
                    "y".repeat(i as usize % 4)
                ),
            )
        })
        .collect();
    let lines: Vec<(i64, &str, Option<&str>)> =
        lines.iter().map(|(t, s, m)| (*t, s.as_str(), Some(m.as_str()))).collect();
    for parser in ["signature", "spell", "drain"] {
        // So few sessions that some are forgotten on the way.
        let options = Options::new().with("parser", parser).with("sessions_max", 5);
        let plan = plan(&options, &[1]);
        let whole = rows(&lines);
        let mut stage = plan.stage().unwrap();
        let (expected, _) = process(&mut stage, std::slice::from_ref(&whole));
        assert!(stage.sessions.latest.len() <= 5);
        let mut first = plan.stage().unwrap();
        let (head, _) = process(&mut first, &[whole.slice(0, 1), whole.slice(1, 250)]);
        let mut second = plan.stage().unwrap();
        second.restore(&first.snapshot().unwrap()).unwrap();
        let (tail, _) = process(&mut second, &[whole.slice(251, 9), whole.slice(260, 340)]);
        assert_eq!(concat_batches(&plan.output_schema(), [&head, &tail]).unwrap(), expected);
        assert_eq!(second.snapshot().unwrap(), stage.snapshot().unwrap(), "{parser}");
    }
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let mut stage = plan(&Options::new(), &[]).stage().unwrap();
    process(&mut stage, &[rows(&[(0, "", Some("a b 1"))])]);
    let snapshot = stage.snapshot().unwrap();
    for cut in 0..snapshot.len() {
        stage.restore(&snapshot[..cut]).unwrap_err();
    }
    let refused = |stage: &mut LogKeyState, options: Options, session: &[usize]| {
        let other = plan(&options, session).stage().unwrap();
        stage.restore(&other.snapshot().unwrap()).unwrap_err().to_string()
    };
    let others = [
        (Options::new().with("parser", "spell"), "parser = 'spell', not 'signature'"),
        (Options::new().with("masks", r"\d+"), r"masks = '\d+', not ''"),
        (Options::new().with("format", "HDFS"), "format = 'HDFS', not ''"),
        (Options::new().with("tokens_max", 7), "tokens_max = 7, not 128"),
    ];
    for (options, told) in others {
        let problem = refused(&mut stage, options, &[]);
        assert_eq!(problem, format!("snapshot of LOG_KEYS was taken with {told}"));
    }
    let problem = refused(&mut stage, Options::new(), &[1]);
    assert_eq!(problem, "snapshot of LOG_KEYS was taken with session = (host Utf8), not ()");
    assert_eq!(stage.snapshot().unwrap(), snapshot);
}

#[test]
fn a_snapshot_from_before_an_option_is_taken_up_where_the_option_is_not_given() {
    type Written = (Vec<(String, String)>, Vec<u8>, Sessions);
    let mut stage = plan(&Options::new(), &[]).stage().unwrap();
    process(&mut stage, &[rows(&[(0, "", Some("a b 1"))])]);
    let snapshot = stage.snapshot().unwrap();
    let (mut settings, parser, sessions): Written = snapshot::open(SNAPSHOT, &snapshot).unwrap();
    settings.retain(|(name, _)| !name.starts_with("split_"));
    let older = snapshot::seal(SNAPSHOT, &(settings, parser, sessions)).unwrap();
    let mut other = plan(&Options::new(), &[]).stage().unwrap();
    other.restore(&older).unwrap();
    assert_eq!(other.snapshot().unwrap(), snapshot);
    let mut other = plan(&Options::new().with("split_lines_min", 7), &[]).stage().unwrap();
    let problem = other.restore(&older).unwrap_err().to_string();
    assert_eq!(problem, "snapshot of LOG_KEYS says nothing of split_lines_min");
}

#[test]
fn bounds_may_differ_as_long_as_they_hold() {
    let mut stage = plan(&Options::new(), &[]).stage().unwrap();
    process(&mut stage, &[rows(&[(0, "", Some("alpha")), (1, "", Some("beta gamma"))])]);
    let snapshot = stage.snapshot().unwrap();
    let within =
        |most: i64| plan(&Options::new().with("templates_max", most), &[]).stage().unwrap();
    let mut enough = within(2);
    enough.restore(&snapshot).unwrap();
    assert_eq!(enough.snapshot().unwrap(), snapshot);
    let problem = within(1).restore(&snapshot).unwrap_err().to_string();
    assert_eq!(problem, "snapshot of LOG_KEYS holds 2 templates, and templates_max is 1");
}

#[test]
fn columns_that_do_not_fit_are_refused() {
    let schema = rows(&[]).schema();
    let options = || LogKeyOptions::new(&Options::new()).unwrap();
    let error = LogKeyPlan::new(&schema, 0, 0, &[], options()).unwrap_err();
    assert!(error.to_string().starts_with("LOG_KEYS reads messages from \"ts\""), "{error}");
    let twice = plan(&Options::new(), &[]).output_schema();
    let error = LogKeyPlan::new(&twice, 2, 0, &[], options()).unwrap_err();
    assert_eq!(error.to_string(), "LOG_KEYS would write column \"log_key\" twice");
    for (name, value) in [("parser", "magic"), ("format", "VMS"), ("masks", "("), ("format", "<A>")]
    {
        LogKeyOptions::new(&Options::new().with(name, value)).unwrap_err();
    }
}
