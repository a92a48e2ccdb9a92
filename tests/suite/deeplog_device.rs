//! `deeplog` in the engine: refused by name without its features, the same on any device and number of workers.

use driftline::detectors::DeepLog;
use driftline::{Engine, ErrorKind};

const CREATE_LINES: &str =
    "CREATE SOURCE lines (ts TIMESTAMP, block TEXT, log_key TEXT, WATERMARK FOR ts AS ts)";

#[test]
fn a_network_needs_its_feature_and_an_ngram_model_none() {
    let engine = Engine::builder().build().unwrap();
    engine.execute(CREATE_LINES).unwrap();
    engine.create_detector("odd", DeepLog::new().session("block").ngram(), "lines").unwrap();
    let by_network = engine.create_detector("deep", DeepLog::new().session("block"), "lines");
    if cfg!(feature = "neural") {
        by_network.unwrap();
    } else {
        let error = by_network.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Settings);
        assert!(error.to_string().contains("needs the feature \"neural\""), "{error}");
        assert!(error.hint().unwrap().contains("model = 'ngram'"));
    }
    let pointless = engine.execute(
        "CREATE DETECTOR n USING deeplog WITH (session = 'block', model = 'ngram', device = 'gpu') AS SELECT * FROM lines",
    );
    assert!(pointless.unwrap_err().to_string().contains("has no network"));
    let keyed =
        engine.execute("CREATE DETECTOR k USING deeplog PARTITION BY block AS SELECT * FROM lines");
    assert!(keyed.unwrap_err().to_string().contains("takes no PARTITION BY"));
}

/// Answers of a detector over the lines, and of its sessions, on some device.
#[cfg(feature = "neural")]
mod with_network {
    use std::fmt::Write;
    use std::sync::Arc;

    use driftline::arrow::array::{Array, AsArray, RecordBatch};
    use driftline::arrow::datatypes::{Float64Type, Int64Type};
    use driftline::inference::{Device, DeviceChoice};
    use driftline::{InferenceMetrics, Settings};

    use super::super::inference_kind::{Whim, Whimsical};
    use super::super::support::{assert_same, collect, within_minutes};
    use super::*;

    const DETECTOR: &str = "
        CREATE DETECTOR odd USING deeplog WITH (session = 'block', training = 40, gap = INTERVAL '20 seconds',
            swap_after = INTERVAL '5 seconds', hidden = 12, layers = 1, epochs = 30, learning_rate = 0.02, batch = 16,
            history = 4, cache_bytes = 0)
          AS SELECT * FROM lines";

    /// Lines of sessions that run a task with a fork and repetitions; every 17th after the first 60 does something odd.
    fn lines(sessions: usize) -> String {
        let mut rows = Vec::new();
        for session in 0..sessions {
            let mut keys = vec!["open"];
            keys.extend(if session % 3 == 0 { ["disk", "net"] } else { ["net", "disk"] });
            keys.extend(std::iter::repeat_n("write", 1 + session % 2));
            if session > 60 && session % 17 == 0 {
                keys.push(if session % 2 == 0 { "burn" } else { "open" });
            }
            keys.push("close");
            for (place, key) in keys.into_iter().enumerate() {
                // Sessions overlap.
                rows.push((4 * session + 3 * place, session, key));
            }
        }
        rows.sort_unstable();
        let mut sql = "INSERT INTO lines VALUES ".to_owned();
        for (i, (second, session, key)) in rows.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
            let time = format!("1970-01-01 {hour:02}:{minute:02}:{second:02}");
            write!(sql, "{comma}('{time}', 'b{session}', '{key}')").unwrap();
        }
        sql
    }

    struct Judged {
        rows: RecordBatch,
        sessions: RecordBatch,
        inference: Option<InferenceMetrics>,
    }

    fn judge(workers: usize, choice: DeviceChoice, device: Option<Arc<dyn Device>>) -> Judged {
        let settings = Settings {
            workers,
            device: choice,
            inference_batch_rows_max: 16,
            inference_queue_rows_max: 16,
            inference_latency_micros: 0,
            ..Settings::default()
        };
        let mut builder = Engine::builder().settings(settings);
        if let Some(device) = device {
            builder = builder.with_device(device);
        }
        let engine = builder.build().unwrap();
        engine.execute(CREATE_LINES).unwrap();
        engine.execute(DETECTOR).unwrap();
        let rows = engine
            .subscribe(
                "SELECT ts, block, log_key, score, is_anomaly, phase, detail['probability'] AS probability,
                        detail['rank'] AS rank FROM odd",
            )
            .unwrap();
        let sessions = engine.subscribe("SELECT * FROM odd.sessions").unwrap();
        engine.execute(&lines(150)).unwrap();
        engine.drain().unwrap();
        // What comes later is judged in other steps.
        engine.execute("INSERT INTO lines VALUES ('1970-01-01 02:00:00', 'late', 'disk')").unwrap();
        let models = engine.export_models("odd").unwrap();
        engine.import_models("odd", &models).unwrap();
        engine.execute("INSERT INTO lines VALUES ('1970-01-01 02:00:01', 'late', 'net')").unwrap();
        engine.drain().unwrap();
        let inference = engine.metrics().inference;
        engine.shutdown().unwrap();
        Judged { rows: collect(rows), sessions: collect(sessions), inference }
    }

    #[test]
    fn any_device_gives_the_same_answers_at_1_2_and_4_workers() {
        within_minutes(|| {
            let expected = judge(1, DeviceChoice::Cpu, None);
            assert!(expected.inference.is_none());
            let flags =
                expected.sessions.column_by_name("is_anomaly").unwrap().as_boolean().clone();
            assert!(flags.true_count() > 0, "some sessions are odd");
            assert!(flags.true_count() < 20, "and most are not");
            for workers in [1, 2, 4] {
                let found = judge(workers, DeviceChoice::Cpu, None);
                let what = format!("{workers} workers by themselves");
                assert_same(&[found.rows], std::slice::from_ref(&expected.rows), &what);
                assert_same(&[found.sessions], std::slice::from_ref(&expected.sessions), &what);
                for whims in [&[Whim::Score][..], &[Whim::Wait(2), Whim::Fail, Whim::Panic]] {
                    let device: Arc<dyn Device> = Whimsical::new(whims);
                    let found = judge(workers, DeviceChoice::Auto, Some(device));
                    let what = format!("{workers} workers, {whims:?}");
                    assert_same(&[found.rows], std::slice::from_ref(&expected.rows), &what);
                    assert_same(&[found.sessions], std::slice::from_ref(&expected.sessions), &what);
                    let inference = found.inference.expect("the detector is placed on the device");
                    // Of histories that come again the answer is known.
                    assert!(inference.rows > 5 && inference.launches > 5, "{what}: {inference:?}");
                    assert_eq!(inference.fallbacks > 0, whims.len() > 1, "{what}: {inference:?}");
                }
            }
        });
    }

    /// On the adapter that there is, or without any, by falling back.
    #[cfg(feature = "wgpu")]
    #[test]
    fn a_gpu_gives_the_answers_of_the_processor_within_a_tolerance() {
        within_minutes(|| {
            let expected = judge(1, DeviceChoice::Cpu, None);
            let found = judge(2, DeviceChoice::Gpu, None);
            let inference = found.inference.expect("it was placed on the service");
            match &inference.problem {
                None => assert_eq!(inference.fallbacks, 0, "{inference:?}"),
                Some(problem) => {
                    eprintln!("NO GPU: {problem}; what is tested is the way back to the CPU");
                    assert_eq!(inference.fallbacks, inference.launches, "{inference:?}");
                }
            }
            assert!(inference.rows > 5 && inference.launches > 5, "{inference:?}");
            let order = |rows: &RecordBatch| {
                let text = |row: usize| {
                    let columns = rows.columns()[..3].iter();
                    let text = |c: &Arc<dyn Array>| {
                        driftline::arrow::util::display::array_value_to_string(c, row).unwrap()
                    };
                    columns.map(text).collect::<Vec<_>>()
                };
                let mut order: Vec<usize> = (0..rows.num_rows()).collect();
                order.sort_by_cached_key(|row| text(*row));
                order
            };
            assert_eq!(found.rows.num_rows(), expected.rows.num_rows());
            let (mut compared, mut apart) = (0, 0.0_f64);
            for (a, b) in order(&found.rows).into_iter().zip(order(&expected.rows)) {
                let probability = |rows: &RecordBatch, row: usize| {
                    let column = rows.column(6).as_primitive::<Float64Type>().clone();
                    column.is_valid(row).then(|| column.value(row))
                };
                let rank = |rows: &RecordBatch, row: usize| {
                    let column = rows.column(7).as_primitive::<Int64Type>().clone();
                    column.is_valid(row).then(|| column.value(row))
                };
                let pair = (probability(&found.rows, a), probability(&expected.rows, b));
                assert_eq!(pair.0.is_some(), pair.1.is_some());
                assert_eq!(rank(&found.rows, a), rank(&expected.rows, b));
                if let (Some(a), Some(b)) = pair {
                    compared += 1;
                    apart = apart.max((a - b).abs());
                }
            }
            assert!(compared > 300, "{compared} rows with a probability");
            assert!(apart < 1e-3, "probabilities are up to {apart} apart");
        });
    }
}
