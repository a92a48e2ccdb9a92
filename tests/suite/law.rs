//! The law: same input, any number of workers, any batch size, any arrival order within the disorder: the same
//! anomalies, and scores equal within 1e-9.

use driftline::arrow::array::{AsArray, RecordBatch};
use driftline::arrow::compute::{cast, concat_batches};
use driftline::arrow::datatypes::{DataType, Float64Type};
use driftline::detectors::builtin_kinds;
use driftline::{Engine, FileReadOptions, FileReader, infer_schema};

use super::support::{
    CREATE_SAMPLES, Feed, SECOND, assert_same, data, feeds, partition_of, run, samples, short_of,
    shuffled,
};

const COLUMNS: &str = "score, is_anomaly, threshold, phase, detail['expected'] AS expected";

#[test]
fn every_detector_gives_the_same_anomalies_however_it_is_fed() {
    let rows = samples(11, 4000, 4000);
    let late_by_ten = shuffled(&rows, 10 * SECOND, 5);
    for kind in builtin_kinds() {
        let ddl = format!(
            "{CREATE_SAMPLES};
             CREATE DETECTOR d USING {} {} {} AS
               SELECT service, window_end, avg(value) AS value, count(*) AS n,
                 CAST(date_trunc('minute', window_end) AS TEXT) AS session
               FROM HOP(samples, ts, INTERVAL '5 seconds', INTERVAL '20 seconds')
               WHERE NOT isnan(value) GROUP BY service, window_start, window_end",
            kind.name(),
            partition_of(kind.name()),
            short_of(kind.name()),
        );
        let query = format!("SELECT service, window_end, value, {COLUMNS} FROM d");
        let reference =
            run(Feed { workers: 1, batch_rows: 8192 }, &ddl, &query, "samples", &rows).unwrap();
        let found: usize = reference.iter().map(RecordBatch::num_rows).sum();
        assert!(found > 2000, "{}: {found} rows", kind.name());
        assert!(
            reference.iter().any(|batch| batch.column_by_name("score").unwrap().null_count() < batch.num_rows()),
            "{} never left its warm-up",
            kind.name()
        );
        for feed in feeds(rows.num_rows()) {
            for rows in [&rows, &late_by_ten] {
                let found = run(feed, &ddl, &query, "samples", rows).unwrap();
                assert_same(&found, &reference, &format!("{}, {feed:?}", kind.name()));
            }
        }
    }
}

#[test]
fn rows_of_equal_time_are_judged_in_order_of_arrival() {
    // Many rows share a second; an EWMA over raw rows depends on their order.
    let rows = samples(12, 3000, 300);
    let whole_seconds = "date_trunc('second', ts)";
    let ddl = format!(
        "{CREATE_SAMPLES};
         CREATE DETECTOR d USING ewma PARTITION BY service WITH (features = 'bytes') AS
           SELECT ts, service, bytes, {whole_seconds} AS second FROM samples"
    );
    let query = "SELECT ts, service, bytes, score, is_anomaly FROM d";
    let reference =
        run(Feed { workers: 1, batch_rows: 8192 }, &ddl, query, "samples", &rows).unwrap();
    for feed in feeds(rows.num_rows()) {
        let found = run(feed, &ddl, query, "samples", &rows).unwrap();
        assert_same(&found, &reference, &format!("{feed:?}"));
    }
}

#[test]
fn typed_builders_and_sql_make_the_same_detector() {
    use driftline::detectors::{DetectorBuilder, RobustZScore};
    let rows = samples(13, 2000, 4000);
    let read = "SELECT service, ts, bytes FROM samples";
    let by_sql = format!(
        "{CREATE_SAMPLES};
         CREATE DETECTOR d USING robust_zscore PARTITION BY service WITH (history = 64, threshold = 2.5) AS {read}"
    );
    let query = format!("SELECT service, ts, {COLUMNS} FROM d");
    let feed = Feed { workers: 2, batch_rows: 100 };
    let expected = run(feed, &by_sql, &query, "samples", &rows).unwrap();

    let engine = Engine::builder().workers(2).build().unwrap();
    engine.execute(CREATE_SAMPLES).unwrap();
    let builder = RobustZScore::new().history(64).threshold(2.5).partition_by(["service"]);
    engine.create_detector("d", builder, read).unwrap();
    let results = engine.subscribe(&query).unwrap();
    super::support::push_all(&engine, "samples", &rows, 100).unwrap();
    engine.shutdown().unwrap();
    let found: Vec<RecordBatch> = results.collect::<driftline::Result<_>>().unwrap();
    assert_same(&found, &expected, "typed builder");
}

/// The rows of one recorded series.
fn recorded(file: &std::path::Path) -> RecordBatch {
    let options = FileReadOptions::default();
    let schema = infer_schema(file, &options).unwrap();
    let reader = FileReader::open(file, schema.clone(), options).unwrap();
    let batches: Vec<RecordBatch> = reader.collect::<driftline::Result<_>>().unwrap();
    concat_batches(&schema, &batches).unwrap()
}

#[test]
fn real_telemetry_gives_the_same_anomalies_on_1_2_and_4_workers() {
    let Some(folder) = data("nab/data/realAWSCloudwatch") else { return };
    let rows = recorded(&folder.join("ec2_cpu_utilization_5f5533.csv"));
    let times = rows.column_by_name("timestamp").unwrap();
    let nanoseconds = DataType::Timestamp(driftline::arrow::datatypes::TimeUnit::Nanosecond, None);
    let rows = RecordBatch::try_from_iter([
        ("ts", cast(times, &nanoseconds).unwrap()),
        ("value", rows.column_by_name("value").unwrap().clone()),
    ])
    .unwrap();
    let ddl = "CREATE SOURCE cpu (ts TIMESTAMP, value DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '1 hour');
               CREATE DETECTOR d USING robust_zscore AS
                 SELECT window_end, max(value) AS value
                 FROM HOP(cpu, ts, INTERVAL '5 minutes', INTERVAL '15 minutes')
                 GROUP BY window_start, window_end";
    let query = "SELECT window_end, value, score FROM d WHERE is_anomaly";
    let reference = run(Feed { workers: 1, batch_rows: 500 }, ddl, query, "cpu", &rows).unwrap();
    let scores: Vec<f64> = reference
        .iter()
        .flat_map(|batch| batch.column(2).as_primitive::<Float64Type>().values().to_vec())
        .collect();
    assert!(!scores.is_empty(), "a series with two labelled anomalies raises something");
    for workers in [1, 2, 4] {
        let feed = Feed { workers, batch_rows: 7 };
        let found = run(feed, ddl, query, "cpu", &shuffled(&rows, 3600 * SECOND, 3)).unwrap();
        assert_same(&found, &reference, &format!("{workers} workers"));
    }
}
