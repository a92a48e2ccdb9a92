//! The inference service in the engine: whatever the device does, answers are the same and in order, nobody waits but the
//! query that asked, memory is bounded, and nothing is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use driftline::arrow::array::{
    ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use driftline::arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampNanosecondType};
use driftline::inference::{Device, DeviceChoice};
use driftline::{
    CheckpointStore, Checkpoints, Engine, EngineBuilder, ErrorKind, InferenceMetrics, MemoryStore,
    Settings, TryPush,
};

use super::inference_kind::{Chained, Gate, POISON, Whim, Whimsical};
use super::support::{assert_same, collect, push_all, within_minutes};

const DDL: &str = "
    CREATE SOURCE samples (ts TIMESTAMP NOT NULL, service TEXT NOT NULL, value DOUBLE NOT NULL, WATERMARK FOR ts AS ts);
    CREATE SOURCE other (ts TIMESTAMP NOT NULL, service TEXT NOT NULL, value DOUBLE NOT NULL, WATERMARK FOR ts AS ts);
    CREATE DETECTOR d USING chained PARTITION BY service AS SELECT ts, service, value FROM samples";

fn samples(rows: usize) -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
        Field::new("service", DataType::Utf8, false),
        Field::new("value", DataType::Float64, false),
    ]);
    let times = TimestampNanosecondArray::from_iter_values((0..rows as i64).map(|i| i * 1_000_000));
    let services = StringArray::from_iter_values((0..rows).map(|i| format!("s{}", i % 7)));
    let values = Float64Array::from_iter_values((0..rows).map(|i| (i * 37 % 101) as f64));
    let columns: Vec<ArrayRef> = vec![Arc::new(times), Arc::new(services), Arc::new(values)];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn builder(workers: usize) -> EngineBuilder {
    Engine::builder().workers(workers).epoch_millis(1).with_detector_kind(Arc::new(Chained))
}

fn tight(workers: usize) -> Settings {
    Settings {
        workers,
        epoch_millis: 1,
        inference_queue_rows_max: 100,
        inference_batch_rows_max: 64,
        inference_latency_micros: 200,
        ..Settings::default()
    }
}

fn on(device: Arc<dyn Device>, settings: Settings) -> Engine {
    let engine = builder(1).settings(settings).with_device(device).build().unwrap();
    engine.execute(DDL).unwrap();
    engine
}

/// The service's counts; there is one as soon as a detector was placed on it.
fn inference(engine: &Engine) -> InferenceMetrics {
    engine.metrics().inference.expect("a detector was placed on it")
}

/// What workers that score themselves answer.
fn reference(rows: &RecordBatch) -> RecordBatch {
    let engine = builder(1).settings(Settings { device: DeviceChoice::Cpu, ..tight(1) }).build();
    let engine = engine.unwrap();
    engine.execute(DDL).unwrap();
    let judged = engine.subscribe("d").unwrap();
    push_all(&engine, "samples", rows, 1_000).unwrap();
    assert!(engine.metrics().inference.is_none(), "nothing is placed on a service");
    engine.shutdown().unwrap();
    collect(judged)
}

/// Waits for something that must come to pass.
#[track_caller]
fn eventually(what: &str, is_true: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_true() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Rows of each key come in order of time.
fn assert_in_order(found: &RecordBatch) {
    let times = found.column(0).as_primitive::<TimestampNanosecondType>();
    let keys = found.column(1).as_string::<i32>();
    let mut last = std::collections::BTreeMap::new();
    for row in 0..found.num_rows() {
        let before = last.insert(keys.value(row).to_owned(), times.value(row));
        assert!(before.is_none_or(|before| before <= times.value(row)), "row {row}");
    }
}

#[test]
fn answers_are_the_same_whatever_the_device_does_on_1_2_and_4_workers() {
    within_minutes(|| {
        let rows = samples(4_000);
        let expected = [reference(&rows)];
        let whims: [&[Whim]; 6] = [
            &[Whim::Score],
            &[Whim::Wait(3), Whim::Score, Whim::Wait(1)],
            &[Whim::Fail, Whim::Score],
            &[Whim::Panic, Whim::Wait(1)],
            &[Whim::CutShort, Whim::Score],
            &[Whim::Fail],
        ];
        for workers in [1, 2, 4] {
            for whims in whims {
                for batch_rows in [40, 1_500] {
                    let engine = on(Whimsical::new(whims), tight(workers));
                    let judged = engine.subscribe("d").unwrap();
                    push_all(&engine, "samples", &rows, batch_rows).unwrap();
                    engine.drain().unwrap();
                    let metrics = inference(&engine);
                    engine.shutdown().unwrap();
                    let found = collect(judged);
                    let what = format!("{whims:?}, {workers} workers, {batch_rows} rows");
                    assert_in_order(&found);
                    assert_same(&[found], &expected, &what);
                    let always_fails = whims == [Whim::Fail] && metrics.launches >= 3;
                    let may_fail = !matches!(whims[0], Whim::Score | Whim::Wait(_));
                    assert_eq!(metrics.is_given_up, always_fails, "{what}: {metrics:?}");
                    assert_eq!(metrics.failures > 0, may_fail, "{what}: {metrics:?}");
                    assert!(metrics.fallbacks >= metrics.failures, "{what}: {metrics:?}");
                }
            }
        }
    });
}

#[test]
fn a_device_is_given_up_after_some_failures_and_the_processor_serves() {
    let device = Whimsical::new(&[Whim::Panic]);
    let settings = Settings { inference_failures_max: 2, ..tight(1) };
    let engine = on(device.clone(), settings);
    let judged = engine.subscribe("d").unwrap();
    let rows = samples(1_000);
    push_all(&engine, "samples", &rows, 50).unwrap();
    engine.drain().unwrap();
    let metrics = inference(&engine);
    engine.shutdown().unwrap();
    assert_eq!(device.launches.load(std::sync::atomic::Ordering::SeqCst), 2, "not asked again");
    assert_eq!((metrics.failures, metrics.is_given_up), (2, true));
    assert_eq!(metrics.fallbacks, metrics.launches, "{metrics:?}");
    assert_eq!(metrics.problem.as_deref(), Some("the driver has gone"));
    assert_eq!(collect(judged).num_rows(), 1_000);
}

#[test]
fn a_stuck_device_holds_up_nobody_else_and_memory_stays_bounded() {
    for workers in [1, 2, 4] {
        within_minutes(move || {
            let gate = Arc::new(Gate::default());
            let settings = Settings { ingress_bytes_max: 64 << 10, ..tight(workers) };
            let engine = on(gate.clone(), settings);
            let judged = engine.subscribe("d").unwrap();
            let mut free = engine.subscribe("SELECT ts, value FROM other").unwrap();
            let rows = samples(20_000);
            let samples = engine.source("samples").unwrap();
            samples.push(rows.slice(0, 60)).unwrap();
            gate.wait_for_launches(1);
            // Another query answers while the device is stuck.
            let other = engine.source("other").unwrap();
            for from in 0..3 {
                other.push(rows.slice(10 * from, 10)).unwrap();
                let mut found = 0;
                while found < 10 {
                    found += free.next().unwrap().unwrap().num_rows();
                }
            }
            // The host is held up in the end, by the bound on what it may push ahead.
            let mut pushed = 60;
            while pushed < rows.num_rows() {
                match samples.try_push(rows.slice(pushed, 40)).unwrap() {
                    TryPush::Accepted => pushed += 40,
                    TryPush::Full(_) => break,
                }
            }
            assert!(pushed < rows.num_rows(), "all of it was taken in");
            assert!(engine.metrics().ingress_bytes <= 64 << 10);
            assert!(inference(&engine).queued_rows <= 100 + 60, "{:?}", inference(&engine));
            gate.open();
            samples.push(rows.slice(pushed, rows.num_rows() - pushed)).unwrap();
            engine.shutdown().unwrap();
            let found = collect(judged);
            assert_in_order(&found);
            assert_same(&[found], &[reference(&rows)], &format!("{workers} workers"));
        });
    }
}

#[test]
fn a_full_queue_keeps_rows_with_their_worker_until_there_is_room() {
    within_minutes(|| {
        let gate = Arc::new(Gate::default());
        let settings = Settings { inference_queue_rows_max: 10, ..tight(4) };
        let engine = on(gate.clone(), settings);
        let judged = engine.subscribe("d").unwrap();
        let rows = samples(700);
        // All workers have more rows of one step than there is room for.
        engine.source("samples").unwrap().push(rows.clone()).unwrap();
        gate.wait_for_launches(1);
        eventually("somebody is refused", || inference(&engine).refused > 0);
        gate.open();
        engine.shutdown().unwrap();
        assert_same(&[collect(judged)], &[reference(&rows)], "four workers in a queue for one");
    });
}

#[test]
fn a_query_that_is_dropped_while_it_waits_holds_up_nobody() {
    for workers in [1, 2] {
        within_minutes(move || {
            let gate = Arc::new(Gate::default());
            let engine = on(gate.clone(), tight(workers));
            let judged = engine.subscribe("d").unwrap();
            let mut free = engine.subscribe("SELECT ts, value FROM other").unwrap();
            let rows = samples(700);
            let samples = engine.source("samples").unwrap();
            samples.push(rows.slice(0, 350)).unwrap();
            gate.wait_for_launches(1);
            drop(judged);
            engine.execute("DROP DETECTOR d").unwrap();
            // More epochs than may be in flight: those of the dropped query are over, stuck as the device is.
            let other = engine.source("other").unwrap();
            for from in 0..20 {
                other.push(rows.slice(10 * from, 10)).unwrap();
                engine.drain().unwrap();
            }
            let mut found = 0;
            while found < 200 {
                found += free.next().unwrap().unwrap().num_rows();
            }
            gate.open();
            engine.shutdown().unwrap();
        });
    }
}

#[test]
fn what_is_queued_at_shutdown_is_scored_first() {
    for workers in [1, 2, 4] {
        within_minutes(move || {
            let gate = Arc::new(Gate::default());
            let engine = on(gate.clone(), tight(workers));
            let judged = engine.subscribe("d").unwrap();
            let rows = samples(500);
            push_all(&engine, "samples", &rows, 500).unwrap();
            gate.wait_for_launches(1);
            let opens = Arc::clone(&gate);
            let opener = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(50));
                opens.open();
            });
            engine.shutdown().unwrap();
            opener.join().unwrap();
            assert_same(&[collect(judged)], &[reference(&rows)], &format!("{workers} workers"));
        });
    }
}

#[test]
fn an_engine_that_is_dropped_ends_with_its_launch() {
    within_minutes(|| {
        let gate = Arc::new(Gate::default());
        let engine = on(gate.clone(), tight(2));
        let judged = engine.subscribe("d").unwrap();
        push_all(&engine, "samples", &samples(500), 100).unwrap();
        gate.wait_for_launches(1);
        let opens = Arc::clone(&gate);
        let opener = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            opens.open();
        });
        drop(engine);
        opener.join().unwrap();
        // Whoever reads is told that there is no more.
        let ended: Vec<_> = judged.collect();
        assert!(ended.last().is_none_or(|last| last.is_err() || ended.len() < 500));
    });
}

#[test]
fn rows_that_no_device_can_score_end_their_query_alone() {
    for workers in [1, 4] {
        within_minutes(move || {
            let engine = on(Whimsical::new(&[Whim::Score]), tight(workers));
            let judged = engine.subscribe("d").unwrap();
            let free = engine.subscribe("SELECT ts, value FROM samples").unwrap();
            let rows = samples(100);
            push_all(&engine, "samples", &rows, 100).unwrap();
            engine.drain().unwrap();
            let insert =
                format!("INSERT INTO samples VALUES ('1970-01-01 00:01:00', 's1', {POISON})");
            engine.execute(&insert).unwrap();
            engine.execute("INSERT INTO samples VALUES ('1970-01-01 00:02:00', 's1', 1)").unwrap();
            engine.shutdown().unwrap();
            let error = judged.collect::<driftline::Result<Vec<_>>>().unwrap_err();
            assert!(error.to_string().contains("this number cannot be halved"), "{error}");
            assert_eq!(collect(free).num_rows(), 102);
        });
    }
}

#[test]
fn models_are_written_between_two_steps() {
    for workers in [1, 2] {
        within_minutes(move || {
            // So little room that pushing takes as long as scoring.
            let settings = Settings { ingress_bytes_max: 2 << 10, ..tight(workers) };
            let engine = Arc::new(on(Whimsical::new(&[Whim::Wait(3)]), settings));
            let judged = engine.subscribe("d").unwrap();
            let (pushes, rows) = (Arc::clone(&engine), samples(2_000));
            let pushing = std::thread::spawn(move || push_all(&pushes, "samples", &rows, 20));
            // A step is open nearly always; the detector itself says when it is asked in the middle of one.
            let mut written = 0;
            while !pushing.is_finished() {
                let models = engine.export_models("d").unwrap();
                if workers == 1 {
                    engine.import_models("d", &models).unwrap();
                }
                written += 1;
            }
            pushing.join().unwrap().unwrap();
            assert!(written > 0);
            Arc::into_inner(engine).expect("nobody else holds it").shutdown().unwrap();
            assert_eq!(collect(judged).num_rows(), 2_000);
        });
    }
}

#[test]
fn a_checkpoint_is_gone_on_from_where_there_is_another_device_or_none() {
    within_minutes(|| {
        let rows = samples(4_000);
        let detector = |device: &str| {
            format!(
                "CREATE SOURCE samples (ts TIMESTAMP NOT NULL, service TEXT NOT NULL, value DOUBLE NOT NULL,
                   WATERMARK FOR ts AS ts);
                 CREATE DETECTOR d USING chained {device} AS SELECT ts, service, value FROM samples"
            )
        };
        let store = Arc::new(MemoryStore::default());
        let mut found = Vec::new();
        let lives: [(Option<Arc<dyn Device>>, &str); 4] = [
            (Some(Whimsical::new(&[Whim::Wait(1)])), ""),
            (None, ""),
            (Some(Whimsical::new(&[Whim::Fail, Whim::Score])), "WITH (device = 'gpu')"),
            (None, "WITH (device = 'cpu')"),
        ];
        for (life, (device, options)) in lives.into_iter().enumerate() {
            let checkpoints = Checkpoints::new(Arc::clone(&store) as Arc<dyn CheckpointStore>);
            let mut builder = builder(1).settings(tight(1)).checkpoints(checkpoints);
            if let Some(device) = device {
                builder = builder.with_device(device);
            }
            let engine = builder.build().unwrap();
            engine.execute(&detector(options)).unwrap();
            let mut judged = engine.subscribe("d").unwrap();
            let source = engine.source("samples").unwrap();
            assert_eq!(source.resume_at(), life as u64 * 1_000);
            source.push(rows.slice(life * 1_000, 1_000)).unwrap();
            engine.drain().unwrap();
            while let Some(batch) = judged.try_next().unwrap() {
                found.push(batch);
            }
            engine.checkpoint().unwrap();
            if life == 3 {
                engine.shutdown().unwrap();
                found.extend(judged.map(Result::unwrap));
            }
        }
        assert_same(&found, &[reference(&rows)], "four lives");
    });
}

#[test]
fn figures_of_the_service_are_told() {
    let engine = on(Whimsical::new(&[Whim::Wait(2)]), tight(2));
    assert_eq!(inference(&engine).launches, 0, "its thread has nothing to do yet");
    let judged = engine.subscribe("d").unwrap();
    push_all(&engine, "samples", &samples(600), 100).unwrap();
    engine.drain().unwrap();
    let InferenceMetrics {
        rows,
        requests,
        launches,
        rows_per_launch,
        millis_per_launch,
        rows_per_second,
        ..
    } = inference(&engine);
    assert!(rows > 0 && rows <= 600, "what waits for the watermark was not asked: {rows}");
    assert!(launches > 0 && launches <= requests);
    assert!((rows_per_launch - rows as f64 / launches as f64).abs() < 1e-9);
    assert!(millis_per_launch >= 2.0, "{millis_per_launch}");
    assert!(rows_per_second > 0.0 && rows_per_second < 500.0 * rows_per_launch);
    let shown =
        engine.explain("CREATE DETECTOR e USING chained AS SELECT ts, service, value FROM samples");
    let shown = shown.unwrap();
    assert!(shown.contains("scored_by = the inference service on Whimsical"), "{shown}");
    assert!(shown.contains("until the inference service has scored its rows"), "{shown}");
    let analysis = engine.analyze("d").unwrap().to_string();
    assert!(analysis.contains("\nInference service on Whimsical"), "{analysis}");
    let reader = engine.analyze(judged.name()).unwrap();
    assert!(reader.inference.is_none(), "only what is placed on it");
}

#[test]
fn a_device_is_asked_for_by_setting_and_by_option() {
    let gate = Arc::new(Gate::default());
    // The option is stronger than the setting.
    let engine = on(gate, Settings { device: DeviceChoice::Cpu, ..tight(1) });
    assert!(engine.metrics().inference.is_none());
    let detector = |name: &str, device: &str| {
        format!(
            "CREATE DETECTOR {name} USING chained WITH (device = '{device}') AS \
             SELECT ts, service, value FROM samples"
        )
    };
    engine.execute(&detector("by_cpu", "cpu")).unwrap();
    assert!(engine.metrics().inference.is_none());
    engine.execute(&detector("by_auto", "auto")).unwrap();
    assert_eq!(inference(&engine).device, "a gate");
    let error = engine.execute(&detector("by_tpu", "tpu")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Settings);
    assert!(error.to_string().contains("device"), "{error}");

    // Without a device of the host's.
    let engine = builder(1).build().unwrap();
    engine.execute(DDL).unwrap();
    let shown = engine.explain(&detector("e", "auto")).unwrap();
    let is_placed = shown.contains("scored_by = the inference service on a GPU");
    assert!(is_placed || shown.contains("scored_by = the workers: "), "says why: {shown}");
    assert_eq!(engine.metrics().inference.is_some(), is_placed);
    let asked = engine.execute(&detector("by_gpu", "gpu"));
    if cfg!(feature = "wgpu") {
        asked.unwrap();
        let rows = samples(200);
        let judged = engine.subscribe("by_gpu").unwrap();
        push_all(&engine, "samples", &rows, 100).unwrap();
        engine.drain().unwrap();
        let metrics = inference(&engine);
        assert!(metrics.launches > 0, "{metrics:?}");
        engine.shutdown().unwrap();
        assert_eq!(collect(judged).num_rows(), 200);
    } else {
        let error = asked.unwrap_err();
        assert!(error.to_string().contains("needs the feature \"wgpu\""), "{error}");
    }
}

#[test]
fn bounds_of_the_service_at_their_ends_work() {
    within_minutes(|| {
        let rows = samples(300);
        let expected = [reference(&rows)];
        let least = Settings {
            inference_queue_rows_max: 1,
            inference_batch_rows_max: 1,
            inference_latency_micros: 0,
            inference_failures_max: 1,
            ..tight(2)
        };
        // So long a wait for others is cut short by the end.
        let most = Settings {
            inference_queue_rows_max: 1 << 40,
            inference_batch_rows_max: 100,
            inference_latency_micros: 2_000_000,
            inference_failures_max: 1_000_000,
            ..tight(2)
        };
        for settings in [least, most] {
            let what = format!("{settings:?}");
            let engine = on(Whimsical::new(&[Whim::Fail, Whim::Score]), settings);
            let judged = engine.subscribe("d").unwrap();
            push_all(&engine, "samples", &rows, 300).unwrap();
            engine.shutdown().unwrap();
            assert_same(&[collect(judged)], &expected, &what);
        }
    });
}

#[test]
fn bounds_of_the_service_are_checked() {
    for (name, settings) in [
        ("inference_queue_rows_max", Settings { inference_queue_rows_max: 0, ..tight(1) }),
        ("inference_batch_rows_max", Settings { inference_batch_rows_max: 0, ..tight(1) }),
        ("inference_failures_max", Settings { inference_failures_max: 0, ..tight(1) }),
        ("inference_latency_micros", Settings { inference_latency_micros: u64::MAX, ..tight(1) }),
    ] {
        let error = settings.validate().unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}
