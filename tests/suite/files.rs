//! Files through the engine: what a source reads and what a sink leaves behind.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use driftline::arrow::array::RecordBatch;
use driftline::{
    Engine, ErrorKind, FileReadOptions, FileReader, ManualClock, Result, infer_schema,
};

use super::support::{assert_same, collect, data};

fn engine(ddl: &str) -> Engine {
    let engine = Engine::builder().workers(2).build().unwrap();
    engine.execute(ddl).unwrap();
    engine
}

/// Everything in the files at `path`.
fn read(path: &std::path::Path) -> Vec<RecordBatch> {
    let options = FileReadOptions::default();
    let schema = infer_schema(path, &options).unwrap();
    FileReader::open(path, schema, options).unwrap().collect::<Result<_>>().unwrap()
}

#[test]
fn a_folder_of_files_flows_in_order_of_event_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(
        path.join("a.csv"),
        "ts,n\n2024-01-01 00:00:00,1\n2024-01-01 00:00:02,3\nnonsense,4\n",
    )
    .unwrap();
    fs::write(path.join("b.csv"), "ts,n\n2024-01-01 00:00:01,2\n2024-01-01 00:00:03,5\n").unwrap();
    let engine = engine(&format!(
        "CREATE SOURCE s (ts TIMESTAMP(3), n BIGINT, WATERMARK FOR ts AS ts)
           WITH (path = '{}/*.csv', order = 'event_time', batch_rows = 1)",
        path.display()
    ));
    let windows = engine
        .subscribe("SELECT sum(n) AS n FROM TUMBLE(s, ts, INTERVAL '2 seconds') GROUP BY window_start, window_end")
        .unwrap();
    let rows = engine.subscribe("SELECT n FROM s").unwrap();
    engine.start().unwrap();
    assert_eq!(collect(rows).num_rows(), 4);
    assert_eq!(collect(windows).num_rows(), 2);
    let metrics = engine.metrics();
    let source = metrics.source("s").unwrap();
    assert_eq!((source.rows, source.rows_late, source.rows_malformed), (4, 0, 1));
    engine.shutdown().unwrap();
}

#[test]
fn what_a_sink_writes_a_source_reads_back_in_every_format() {
    for name in ["out.csv", "out.csv.gz", "out.ndjson", "out.ndjson.gz", "out.parquet", "out.arrow"]
    {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let engine = engine(&format!(
            "CREATE SOURCE s (ts TIMESTAMP(6), k TEXT, x DOUBLE, WATERMARK FOR ts AS ts);
             CREATE SINK out WITH (path = '{}');
             INSERT INTO out SELECT k, x * 2 AS y FROM s WHERE x > 1",
            path.display()
        ));
        let kept = engine.subscribe("SELECT k, x * 2 AS y FROM s WHERE x > 1").unwrap();
        engine
            .execute(
                "INSERT INTO s VALUES ('2024-01-01 00:00:00', 'a', 1.5), ('2024-01-01 00:00:01', 'b, \"c\"', 2.25);
                 INSERT INTO s (k, x) VALUES ('no time', 9);
                 INSERT INTO s VALUES ('2024-01-01 00:00:02', 'd', 0.5)",
            )
            .unwrap();
        assert!(!path.exists(), "{name}: nothing takes the file's place before it is whole");
        engine.shutdown().unwrap();
        let kept = collect(kept);
        assert_eq!(kept.num_rows(), 2);
        assert_same(&read(&path), &[kept], name);
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [name], "no partial file is left");
    }
}

#[test]
fn a_detector_flows_into_a_file_with_its_detail() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anomalies.ndjson");
    let engine = engine(&format!(
        "CREATE SOURCE s (ts TIMESTAMP, x DOUBLE, WATERMARK FOR ts AS ts);
         CREATE DETECTOR d USING ewma AS SELECT ts, x FROM s;
         CREATE SINK out WITH (path = '{}') AS SELECT * FROM d WHERE is_anomaly",
        path.display()
    ));
    let values: Vec<String> = (0..300)
        .map(|i| {
            format!("({}, {})", i * 1_000_000_000i64, if i == 250 { 1e4 } else { (i % 7) as f64 })
        })
        .map(|row| row.replacen('(', "(to_timestamp_nanos(", 1).replacen(',', "),", 1))
        .collect();
    engine.execute(&format!("INSERT INTO s VALUES {}", values.join(", "))).unwrap();
    engine.shutdown().unwrap();
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("\"attribution\"") && text.contains("\"x\":10000"), "{text}");
}

#[test]
fn an_engine_that_is_dropped_publishes_no_half_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.csv");
    let engine = engine(&format!(
        "CREATE SOURCE s (n BIGINT); CREATE SINK out WITH (path = '{}') AS SELECT n FROM s; INSERT INTO s VALUES (1)",
        path.display()
    ));
    engine.drain().unwrap();
    drop(engine);
    assert!(!path.exists());
}

#[test]
fn a_sink_that_cannot_be_written_says_so_at_once_and_leaves_nothing_behind() {
    let engine = engine("CREATE SOURCE s (n BIGINT)");
    let error = engine
        .execute("CREATE SINK out WITH (path = '/nonexistent-folder/out.csv') AS SELECT n FROM s")
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("/nonexistent-folder/out.csv"), "{error}");
    assert_eq!(engine.execute("SHOW SINKS").unwrap()[0].num_rows(), 0);
    assert!(engine.metrics().queries.is_empty());
    let error = engine.execute("CREATE SOURCE f (n BIGINT) WITH (pth = 'x.csv')").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Settings);
}

#[test]
fn a_file_that_is_missing_comes_out_of_shutdown() {
    let engine = engine("CREATE SOURCE s (n BIGINT) WITH (path = '/nonexistent-folder/in.csv')");
    let results = engine.subscribe("s").unwrap();
    engine.start().unwrap();
    assert_eq!(collect(results).num_rows(), 0);
    let error = engine.shutdown().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("in.csv"), "{error}");
}

#[test]
fn a_paced_file_waits_for_the_clock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.csv");
    fs::write(&path, "ts,n\n2024-01-01 00:00:00,1\n2024-01-01 00:10:00,2\n").unwrap();
    let clock = Arc::new(ManualClock::default());
    let engine = Engine::builder().workers(1).clock(clock.clone()).build().unwrap();
    engine
        .execute(&format!(
            "CREATE SOURCE s (ts TIMESTAMP, n BIGINT, WATERMARK FOR ts AS ts) WITH (path = '{}', pace = 60)",
            path.display()
        ))
        .unwrap();
    let mut results = engine.subscribe("SELECT n FROM s").unwrap();
    engine.start().unwrap();
    assert_eq!(results.next().unwrap().unwrap().num_rows(), 1);
    engine.drain().unwrap();
    assert!(results.try_next().unwrap().is_none());
    // Ten minutes at sixty times their speed.
    clock.advance(Duration::from_secs(10));
    assert_eq!(results.next().unwrap().unwrap().num_rows(), 1);
    assert!(results.next().is_none());
}

#[test]
fn recorded_telemetry_flows_from_file_to_anomalies() {
    let Some(folder) = data("nab/data/realAWSCloudwatch") else { return };
    let engine = engine(&format!(
        "CREATE SOURCE cpu (ts TIMESTAMP(0), value DOUBLE, WATERMARK FOR ts AS ts)
           WITH (path = '{}', columns = 'ts=timestamp', order = 'event_time');
         CREATE DETECTOR odd USING robust_zscore AS SELECT ts, value FROM cpu",
        folder.join("ec2_cpu_utilization_5f5533.csv").display()
    ));
    let all = engine.subscribe("SELECT ts FROM odd").unwrap();
    let found = engine.subscribe("SELECT ts FROM odd WHERE is_anomaly").unwrap();
    engine.start().unwrap();
    assert_eq!(collect(all).num_rows(), 4032);
    assert!(collect(found).num_rows() > 0);
    engine.shutdown().unwrap();
}
