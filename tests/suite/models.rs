//! Models as files: written in the middle by any number of workers, taken up by any other, and the answers go on as if
//! there had been no interruption.

use driftline::arrow::array::{AsArray, RecordBatch};
use driftline::arrow::datatypes::TimestampNanosecondType;
use driftline::detectors::builtin_kinds;
use driftline::{Engine, ErrorKind, EventTime};

use super::support::{CREATE_SAMPLES, assert_same, collect, push_all, samples, short_of};

const QUERY: &str =
    "SELECT service, ts, score, is_anomaly, phase, detail['samples'] AS samples FROM d";

fn engine(workers: usize, kind: &str) -> Engine {
    let engine = Engine::builder().workers(workers).build().unwrap();
    engine
        .execute(&format!(
            "{CREATE_SAMPLES};
             CREATE DETECTOR d USING {kind} PARTITION BY service {} AS
               SELECT ts, service, value, bytes FROM samples",
            short_of(kind)
        ))
        .unwrap();
    engine
}

/// Two parts of some rows with no row of equal time on both sides, and the time between them.
fn halves(rows: &RecordBatch, at: usize) -> (RecordBatch, RecordBatch, EventTime) {
    let times = rows.column(0).as_primitive::<TimestampNanosecondType>();
    let cut = (at..rows.num_rows()).find(|row| times.value(*row) > times.value(row - 1)).unwrap();
    let rest = rows.slice(cut, rows.num_rows() - cut);
    (rows.slice(0, cut), rest, EventTime(times.value(cut)))
}

#[test]
fn models_go_on_in_another_engine_on_any_number_of_workers() {
    let rows = samples(41, 4000, 8000);
    let (first, second, between) = halves(&rows, 2500);
    // The models of `deeplog` are not by key: `workflows.rs` has them.
    for kind in builtin_kinds().iter().filter(|kind| kind.name() != "deeplog") {
        let kind = kind.name();
        let reference = {
            let engine = engine(1, kind);
            let judged = engine.subscribe(QUERY).unwrap();
            push_all(&engine, "samples", &rows, 500).unwrap();
            engine.shutdown().unwrap();
            vec![collect(judged)]
        };
        for (before, after) in [(1, 1), (1, 4), (2, 1), (4, 2)] {
            let old = engine(before, kind);
            let judged_first = old.subscribe(QUERY).unwrap();
            push_all(&old, "samples", &first, 500).unwrap();
            // So that no row of the first part waits for its turn when the models are written.
            old.source("samples").unwrap().watermark(between).unwrap();
            let models = old.export_models("d").unwrap();
            old.shutdown().unwrap();

            let new = engine(after, kind);
            let judged_second = new.subscribe(QUERY).unwrap();
            new.import_models("d", &models).unwrap();
            push_all(&new, "samples", &second, 500).unwrap();
            new.drain().unwrap();
            assert_eq!(new.metrics().detector("d").unwrap().models, 3);
            new.shutdown().unwrap();
            let found = [collect(judged_first), collect(judged_second)];
            assert_same(&found, &reference, &format!("{kind}, {before} to {after} workers"));
        }
    }
}

#[test]
fn model_files_are_whole_or_refused_by_name() {
    let rows = samples(42, 1000, 2000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.models");
    let old = engine(2, "ewma");
    push_all(&old, "samples", &rows, 500).unwrap();
    old.source("samples").unwrap().watermark(EventTime::LATEST).unwrap();
    old.execute(&format!("EXPORT DETECTOR d TO '{}'", path.display())).unwrap();
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(files.len(), 1, "nothing else is left behind: {files:?}");

    let new = engine(4, "ewma");
    new.execute(&format!("IMPORT DETECTOR d FROM '{}'", path.display())).unwrap();
    new.drain().unwrap();
    let again = new.export_models("d").unwrap();

    let whole = std::fs::read(&path).unwrap();
    let refused = |bytes: &[u8], problem: &str| {
        let error = new.import_models("d", bytes).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
        assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    };
    refused(&whole[..whole.len() / 2], "cut short or damaged");
    refused(&[], "is empty");
    refused(&[&[9], &whole[1..]].concat(), "is of version 9");
    let mut damaged = whole.clone();
    damaged[40] ^= 4;
    refused(&damaged, "cut short or damaged");
    assert!(new.export_models("d").unwrap() == again, "a refused file changes nothing");

    let other = engine(1, "robust_zscore").import_models("d", &whole).unwrap_err();
    assert!(other.to_string().contains("is of \"ewma models\""), "{other}");
    let narrow = Engine::builder().workers(1).build().unwrap();
    narrow
        .execute(&format!(
            "{CREATE_SAMPLES};
             CREATE DETECTOR d USING ewma PARTITION BY service AS SELECT ts, service, value FROM samples"
        ))
        .unwrap();
    let other = narrow.import_models("d", &whole).unwrap_err();
    assert!(other.to_string().contains("other keys or features"), "{other}");

    let error = new.execute("EXPORT DETECTOR dd TO 'x'").unwrap_err();
    assert_eq!(error.hint(), Some("did you mean \"d\"?"));
    assert!(error.position().is_some());
    let missing = folder.path().join("none/d.models");
    let error = new.execute(&format!("EXPORT DETECTOR d TO '{}'", missing.display())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let error =
        new.execute(&format!("IMPORT DETECTOR d FROM '{}'", missing.display())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}
