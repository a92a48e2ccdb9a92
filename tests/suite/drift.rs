//! `drift_insight` through the engine: its side relations are the same however rows come, and survive a move of the
//! models to another engine in the middle.

use std::collections::BTreeMap;
use std::sync::Arc;

use driftline::arrow::array::{
    ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use driftline::arrow::datatypes::Int64Type;
use driftline::arrow::util::display::array_value_to_string;
use driftline::{Engine, EventTime, Subscription};

use super::support::{SECOND, Seeded, assert_same, collect, push_all, shuffled};

const SLOT: i64 = 300 * SECOND;
const SLOTS: i64 = 700;
const COMPONENTS: usize = 12;
pub(super) const COUNTED: [&str; 4] = ["transitions", "occupancy", "steady", "convergence"];

/// Components with two levels each, and noise; the last two wander and never settle.
pub(super) fn fleet() -> RecordBatch {
    let mut random = Seeded(77);
    let (mut ts, mut names, mut cpu, mut memory) = (vec![], vec![], vec![], vec![]);
    let mut wander = [0.0_f64; COMPONENTS];
    for slot in 0..SLOTS {
        for (component, wander) in wander.iter_mut().enumerate() {
            *wander += random.unit() - 0.3;
            let busy = (slot / (10 + component as i64)) % 5 == 2;
            let level = match component >= COMPONENTS - 2 {
                true => *wander,
                false => f64::from(u8::from(busy)) * 40.0,
            };
            let odd = if slot == 640 && component == 3 { 200.0 } else { 0.0 };
            ts.push(slot * SLOT);
            names.push(format!("c{component:02}"));
            cpu.push(20.0 + level + random.unit() + odd);
            memory.push(50.0 - level / 2.0 + random.unit());
        }
    }
    RecordBatch::try_from_iter([
        ("ts", Arc::new(TimestampNanosecondArray::from(ts)) as ArrayRef),
        ("component", Arc::new(StringArray::from(names))),
        ("cpu", Arc::new(Float64Array::from(cpu))),
        ("memory", Arc::new(Float64Array::from(memory))),
    ])
    .unwrap()
}

struct Watched {
    engine: Engine,
    main: Subscription,
    builds: Subscription,
    counted: Vec<Subscription>,
}

pub(super) const DRIFT: &str = "CREATE SOURCE metrics (ts TIMESTAMP NOT NULL, component TEXT NOT NULL,
       cpu DOUBLE NOT NULL, memory DOUBLE NOT NULL, WATERMARK FOR ts AS ts - INTERVAL '20 minutes');
     CREATE DETECTOR drift USING drift_insight PARTITION BY component WITH (training = 300, evolve_min = 20) AS
       SELECT component, window_end, avg(cpu) AS cpu, avg(memory) AS memory
       FROM TUMBLE(metrics, ts, INTERVAL '5 minutes') GROUP BY component, window_start, window_end";

fn watched(workers: usize) -> Watched {
    let engine = Engine::builder().workers(workers).build().unwrap();
    engine.execute(DRIFT).unwrap();
    let read = |query: &str| engine.subscribe(query).unwrap();
    Watched {
        main: read(
            "SELECT component, window_end, score, is_anomaly, phase, model_version,
                      detail['state'] AS state, detail['window'] AS states FROM drift",
        ),
        builds: read("SELECT * FROM drift.components"),
        counted: COUNTED.iter().map(|name| read(&format!("SELECT * FROM drift.{name}"))).collect(),
        engine,
    }
}

/// The rows that hold when all changes are added up.
fn add_up(standing: &mut BTreeMap<Vec<String>, i64>, changes: &RecordBatch) {
    let diff = changes.column_by_name("_diff").unwrap().as_primitive::<Int64Type>();
    for row in 0..changes.num_rows() {
        let columns = &changes.columns()[..changes.num_columns() - 1];
        let cells = columns.iter().map(|c| array_value_to_string(c, row).unwrap()).collect();
        *standing.entry(cells).or_insert(0) += diff.value(row);
    }
    standing.retain(|_, count| *count != 0);
}

#[test]
fn di_01_metrics_of_two_rates_become_slots_of_five_minutes() {
    let engine = Engine::builder().workers(2).build().unwrap();
    engine
        .execute(
            "CREATE SOURCE agents (ts TIMESTAMP NOT NULL, component TEXT NOT NULL, cpu DOUBLE, net DOUBLE,
               WATERMARK FOR ts AS ts);
             CREATE DETECTOR drift USING drift_insight PARTITION BY component WITH (training = 60) AS
               SELECT component, window_end, avg(cpu) AS cpu, avg(net) AS net
               FROM TUMBLE(agents, ts, INTERVAL '5 minutes') GROUP BY component, window_start, window_end",
        )
        .unwrap();
    let judged = engine.subscribe("SELECT window_end, cpu, net, score, phase FROM drift").unwrap();
    // One agent tells the processor every 3 minutes, another the network every 5; one network sample is lost.
    let mut random = Seeded(5);
    let mut rows: Vec<(i64, Option<f64>, Option<f64>)> = Vec::new();
    for minute in 0..600 {
        if minute % 3 == 0 {
            rows.push((minute, Some(20.0 + random.unit()), None));
        }
        if minute % 5 == 0 && minute != 400 {
            rows.push((minute, None, Some(900.0 + random.unit())));
        }
    }
    let batch = RecordBatch::try_from_iter([
        (
            "ts",
            Arc::new(TimestampNanosecondArray::from_iter_values(
                rows.iter().map(|r| r.0 * 60 * SECOND),
            )) as ArrayRef,
        ),
        ("component", Arc::new(StringArray::from(vec!["router"; rows.len()]))),
        ("cpu", Arc::new(Float64Array::from_iter(rows.iter().map(|r| r.1)))),
        ("net", Arc::new(Float64Array::from_iter(rows.iter().map(|r| r.2)))),
    ])
    .unwrap();
    push_all(&engine, "agents", &batch, 50).unwrap();
    engine.shutdown().unwrap();
    let judged = collect(judged);
    assert_eq!(judged.num_rows(), 120, "a row per slot, none for a source");
    let column = |i: usize| {
        judged.column(i).as_primitive::<driftline::arrow::datatypes::Float64Type>().clone()
    };
    let (cpu, net, score) = (column(1), column(2), column(3));
    let mean = |slot: i64| {
        let samples: Vec<f64> =
            rows.iter().filter(|r| r.0 / 5 == slot).filter_map(|r| r.1).collect();
        samples.iter().sum::<f64>() / samples.len() as f64
    };
    for slot in 0..120 {
        assert!((cpu.value(slot) - mean(slot as i64)).abs() < 1e-9, "slot {slot}");
        assert_eq!(driftline::arrow::array::Array::is_null(&net, slot), slot == 80);
    }
    // The slot without a network sample is judged by the last one.
    assert!(
        driftline::arrow::array::Array::is_valid(&score, 80) && score.value(80) < 3.0,
        "{}",
        score.value(80)
    );
}

#[test]
fn explain_tells_options_features_and_relations() {
    let engine = watched(1).engine;
    let plan = engine
        .explain(
            "CREATE DETECTOR other USING drift_insight PARTITION BY component WITH (eps = 0.5) AS SELECT * FROM metrics",
        )
        .unwrap();
    for line in [
        "  eps = 0.5",
        "  training = 864",
        "  features = cpu, memory",
        "  relations = state_series, states, components, transitions, occupancy, steady, convergence",
        "  Scan metrics, event time ts",
    ] {
        assert!(plan.lines().any(|found| found == line), "no line {line:?} in\n{plan}");
    }
}

#[test]
fn di_20_a_fleet_is_judged_the_same_however_it_comes_and_wherever_it_goes_on() {
    let rows = fleet();
    let disordered = shuffled(&rows, 4 * SLOT, 9);
    let run = |workers, rows: &RecordBatch, batch_rows| {
        let watched = watched(workers);
        push_all(&watched.engine, "metrics", rows, batch_rows).unwrap();
        watched.engine.drain().unwrap();
        let metrics = watched.engine.metrics();
        let detector = metrics.detector("drift").unwrap();
        assert_eq!(detector.models, COMPONENTS as u64);
        assert!(
            detector.rebuilds > COMPONENTS as u64 && detector.models_ready >= 10,
            "{detector:?}"
        );
        watched.engine.shutdown().unwrap();
        let counted: Vec<_> = watched.counted.into_iter().map(collect).collect();
        let mut standing = vec![BTreeMap::new(); COUNTED.len()];
        standing.iter_mut().zip(&counted).for_each(|(sum, changes)| add_up(sum, changes));
        (vec![collect(watched.main)], vec![collect(watched.builds)], standing)
    };
    let (main, builds, standing) = run(1, &rows, 8192);
    let anomalies = main[0].column_by_name("is_anomaly").unwrap().as_boolean().true_count();
    assert!((1..60).contains(&anomalies), "{anomalies} anomalies");
    assert!(standing.iter().all(|rows| !rows.is_empty()), "{standing:?}");
    for (workers, rows, batch_rows) in
        [(1, &disordered, 7), (2, &rows, 100), (4, &disordered, 8192)]
    {
        let found = run(workers, rows, batch_rows);
        assert_same(&found.0, &main, &format!("{workers} workers"));
        assert_same(&found.1, &builds, &format!("{workers} workers, components"));
        assert_eq!(found.2, standing, "{workers} workers");
    }

    // Moved in the middle, between two slots: what the first engine's relations held, the second one's hold at once.
    let cut = 450 * COMPONENTS;
    let (first, second) = (rows.slice(0, cut), rows.slice(cut, rows.num_rows() - cut));
    for (before, after) in [(1, 2), (4, 1)] {
        let old = watched(before);
        push_all(&old.engine, "metrics", &first, 1000).unwrap();
        // Past the last slot's end, which is the time of its row.
        old.engine.source("metrics").unwrap().watermark(EventTime(450 * SLOT + 1)).unwrap();
        let models = old.engine.export_models("drift").unwrap();
        old.engine.shutdown().unwrap();
        let new = watched(after);
        new.engine.import_models("drift", &models).unwrap();
        push_all(&new.engine, "metrics", &second, 1000).unwrap();
        new.engine.shutdown().unwrap();
        assert_same(&[collect(old.main), collect(new.main)], &main, "moved");
        for ((name, changes), expected) in COUNTED.iter().zip(new.counted).zip(&standing) {
            let mut found = BTreeMap::new();
            add_up(&mut found, &collect(changes));
            assert_eq!(&found, expected, "{name}, {before} to {after} workers");
        }
    }
}
