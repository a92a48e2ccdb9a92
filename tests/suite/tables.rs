//! Joins of a stream with a table, against DataFusion in one batch, and what becomes of tables.

use std::sync::Arc;

use driftline::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use driftline::{Engine, ErrorKind, Settings};

use super::oracle::{Window, batch_of};
use super::support::{
    CREATE_SAMPLES, SECOND, assert_same, collect, feeds, push_all, samples, shuffled,
};

/// Hosts with their regions: one is there twice, one is null, and one that samples know is missing.
fn hosts() -> RecordBatch {
    let names =
        [Some("host-0"), Some("host-1"), None, Some("host-2"), Some("host-1"), Some("host-9")];
    let regions = [Some("eu"), Some("us"), Some("nowhere"), None, Some("ap"), Some("eu")];
    let limits = Int64Array::from(vec![Some(5000), Some(2000), Some(0), Some(7000), None, Some(1)]);
    RecordBatch::try_from_iter_with_nullable([
        ("host", Arc::new(StringArray::from(names.to_vec())) as ArrayRef, true),
        ("region", Arc::new(StringArray::from(regions.to_vec())), true),
        ("byte_limit", Arc::new(limits), true),
    ])
    .unwrap()
}

const TUMBLE: Window = Window { slide: 5 * SECOND, size: 5 * SECOND, step: 5 * SECOND, offset: 0 };

/// Joined rows with their event time, under a condition.
const JOINED: &str =
    "(SELECT ts, region, bytes FROM samples JOIN hosts USING (host) WHERE bytes > 10)";

/// Checks a query over `samples` and the table, where `{W}` stands for windows over the samples, and `{J}` for
/// windows over joined ones.
fn check(query: &str) {
    let streaming = &query
        .replace("{W}", &TUMBLE.streaming("samples", "ts"))
        .replace("{J}", &TUMBLE.streaming(JOINED, "ts"));
    let samples = samples(1, 300, 60);
    let (hosts, shuffled) = (hosts(), shuffled(&samples, 10 * SECOND, 3));
    let batch = query
        .replace("{W}", &TUMBLE.in_a_batch("samples", "ts"))
        .replace("{J}", &TUMBLE.in_a_batch(JOINED, "ts"));
    let expected = batch_of(&[("samples", &samples), ("hosts", &hosts)], &batch);
    assert!(expected.iter().map(RecordBatch::num_rows).sum::<usize>() > 0, "{batch} finds nothing");
    for feed in feeds(300) {
        for rows in [&samples, &shuffled] {
            let engine = Engine::builder().workers(feed.workers).build().unwrap();
            engine.execute(CREATE_SAMPLES).unwrap();
            engine.create_table("hosts", hosts.clone(), false).unwrap();
            let results =
                engine.subscribe(streaming).unwrap_or_else(|e| panic!("{streaming}: {e}"));
            push_all(&engine, "samples", rows, feed.batch_rows).unwrap();
            engine.shutdown().unwrap();
            let found: Vec<RecordBatch> = results.collect::<driftline::Result<_>>().unwrap();
            assert_same(&found, &expected, &format!("{streaming}, {feed:?}"));
        }
    }
}

#[test]
fn rows_are_looked_up_by_equal_columns() {
    check(
        "SELECT s.ts, s.host, h.region, s.bytes FROM samples AS s JOIN hosts AS h ON s.host = h.host",
    );
    check("SELECT ts, region, bytes, host FROM samples JOIN hosts USING (host) WHERE bytes > 100");
    check("SELECT * FROM hosts AS h JOIN samples AS s ON h.host = s.host");
    check(
        "SELECT s.ts, h.region FROM samples AS s
         JOIN hosts AS h ON upper(s.host) = upper(h.host) AND s.bytes < h.byte_limit",
    );
}

#[test]
fn a_left_join_keeps_rows_without_a_match() {
    check(
        "SELECT s.ts, s.host, h.region, s.bytes FROM samples AS s LEFT JOIN hosts AS h ON s.host = h.host",
    );
    check(
        "SELECT s.ts, s.host, h.region, h.byte_limit, s.bytes FROM samples AS s
         LEFT JOIN hosts AS h ON s.host = h.host AND s.bytes < h.byte_limit AND s.bytes > 50",
    );
    check("SELECT s.ts, h.region FROM hosts AS h RIGHT JOIN samples AS s ON s.host = h.host");
}

#[test]
fn the_side_of_the_table_may_be_filtered_and_computed() {
    check(
        "SELECT s.ts, h.place, s.bytes * 2 AS twice FROM samples AS s
         JOIN (SELECT host AS name, upper(region) AS place FROM hosts WHERE region IS NOT NULL) AS h
         ON s.host = h.name WHERE h.place <> 'AP'",
    );
    check(
        "SELECT s.ts, a.region, b.byte_limit FROM samples AS s
         JOIN hosts AS a ON s.host = a.host LEFT JOIN hosts AS b ON b.region = a.region",
    );
}

#[test]
fn windows_go_over_joined_rows_and_joins_over_windows() {
    check(
        "SELECT h.region, window_end, count(*) AS n, sum(s.bytes) AS bytes
         FROM {W} AS s JOIN hosts AS h ON s.host = h.host
         WHERE s.bytes > 10 GROUP BY h.region, window_start, window_end",
    );
    check(
        "SELECT region, window_end, count(*) AS n, sum(bytes) AS bytes FROM {J}
         GROUP BY region, window_start, window_end",
    );
    check(
        "SELECT region, window_end, samples, window_start FROM
           (SELECT host, window_start, window_end, count(*) AS samples FROM {W} GROUP BY host, window_start, window_end) AS w
         LEFT JOIN hosts ON w.host = hosts.host",
    );
}

#[test]
fn a_query_keeps_the_table_that_it_began_with() {
    let engine = Engine::builder().workers(2).build().unwrap();
    engine
        .execute(
            "CREATE SOURCE s (k BIGINT);
             CREATE TABLE names (k BIGINT NOT NULL, name TEXT);
             INSERT INTO names VALUES (1, 'one'), (2, 'two');
             INSERT INTO names (name, k) VALUES ('zwei', 2)",
        )
        .unwrap();
    let query = "SELECT name FROM s JOIN names ON s.k = names.k";
    let before = engine.subscribe(query).unwrap();
    engine
        .execute("INSERT INTO names VALUES (3, 'three'); CREATE OR REPLACE TABLE names (k BIGINT, name TEXT)")
        .unwrap();
    engine.execute("INSERT INTO names VALUES (3, 'drei')").unwrap();
    let after = engine.subscribe(query).unwrap();
    engine.execute("INSERT INTO s VALUES (1), (2), (3), (NULL)").unwrap();
    engine.shutdown().unwrap();
    assert_eq!(collect(before).num_rows(), 3);
    assert_eq!(collect(after).num_rows(), 1);
}

#[test]
fn tables_are_read_from_files_shown_and_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hosts.csv");
    std::fs::write(&path, "host,region,cores\nweb-1,eu,4\nweb-2,us,8\n").unwrap();
    let engine = Engine::builder().build().unwrap();
    let with = format!("WITH (path = '{}')", path.display());
    engine
        .execute(&format!(
            "CREATE TABLE inferred {with}; CREATE TABLE IF NOT EXISTS inferred (n BIGINT)"
        ))
        .unwrap();
    engine
        .execute(&format!("CREATE TABLE declared (HOST TEXT NOT NULL, cores DOUBLE) {with}"))
        .unwrap();
    let shown = engine.execute("SHOW TABLES").unwrap();
    assert_eq!(shown[0].num_rows(), 2);
    engine.execute("CREATE SOURCE s (host TEXT)").unwrap();
    let found = engine
        .subscribe("SELECT i.region, d.cores FROM s JOIN inferred i ON s.host = i.host JOIN declared d ON s.host = d.host")
        .unwrap();
    assert!(engine.execute("DROP TABLE declared").unwrap_err().to_string().contains("is used by"));
    engine.execute("INSERT INTO s VALUES ('web-2'), ('web-3')").unwrap();
    engine.source("s").unwrap().close().unwrap();
    engine.drain().unwrap();
    assert_eq!(collect(found).num_rows(), 1);
    engine.execute("DROP TABLE declared; DROP TABLE IF EXISTS declared").unwrap();
    std::fs::write(&path, "host,cores\nweb-1,many\n").unwrap();
    let error =
        engine.execute(&format!("CREATE TABLE bad (host TEXT, cores BIGINT) {with}")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data, "{error}");
}

#[test]
fn a_table_has_a_bound() {
    let settings = Settings { table_bytes_max: 4096, ..Settings::default() };
    let engine = Engine::builder().settings(settings).build().unwrap();
    engine.execute("CREATE TABLE t (n BIGINT)").unwrap();
    let rows: Vec<String> = (0..1000).map(|n| format!("({n})")).collect();
    let insert =
        |rows: &[String]| engine.execute(&format!("INSERT INTO t VALUES {}", rows.join(", ")));
    let error = insert(&rows).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Settings);
    assert!(error.hint().unwrap().contains("table_bytes_max"), "{error}");
    insert(&rows[..10]).unwrap();
    for row in rows.chunks(1).take(20) {
        insert(row).unwrap();
    }
    let big: ArrayRef = Arc::new(Int64Array::from(vec![0; 1000]));
    let big = RecordBatch::try_from_iter([("n", big)]).unwrap();
    assert!(engine.create_table("big", big, false).is_err());
}

#[test]
fn what_a_table_cannot_do_is_refused() {
    let engine = Engine::builder().build().unwrap();
    engine.execute(CREATE_SAMPLES).unwrap();
    engine.create_table("hosts", hosts(), false).unwrap();
    for (query, hint) in [
        ("SELECT * FROM hosts", "JOIN table"),
        ("SELECT host, count(*) AS n FROM hosts GROUP BY host", ""),
        ("SELECT s.ts, h.region FROM samples s RIGHT JOIN hosts h ON s.host = h.host", "LEFT JOIN"),
        ("SELECT s.ts, h.region FROM samples s FULL JOIN hosts h ON s.host = h.host", "LEFT JOIN"),
        ("SELECT s.ts, h.region FROM samples s JOIN hosts h ON s.bytes > h.byte_limit", "ON s.host = t.host"),
        ("SELECT a.host FROM hosts a JOIN hosts b ON a.host = b.host", "join the stream"),
        ("SELECT s.host, h.region FROM SESSION(samples, ts, INTERVAL '5 seconds' PARTITION BY host) s
          JOIN hosts h ON s.host = h.host", "join before"),
        ("SELECT s.ts, h.region FROM samples s JOIN hosts h ON s.host = h.host
          EMIT ON WINDOW CLOSE WITH DELAY INTERVAL '5 seconds'", "rows that only pass through wait for nothing"),
        ("SELECT s.ts, h.region FROM samples s JOIN hosts h ON s.host = h.host
          EMIT ON WINDOW CLOSE WITH CORRECTIONS", "rows are not corrected"),
        ("SELECT * FROM TUMBLE(hosts, INTERVAL '5 seconds')", ""),
        ("SELECT * FROM LATE(hosts)", ""),
    ] {
        let error = engine.subscribe(query).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Query), "{query}: {error}");
        let text = error.hint().unwrap_or_default();
        assert!(text.contains(hint), "{query}: {error}");
    }
    let error = engine.create_table("hosts", hosts(), false).unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
    engine.create_table("hosts", hosts(), true).unwrap();
    assert!(engine.create_table("samples", hosts(), true).is_err());
    assert!(engine.execute("INSERT INTO hosts VALUES (1)").is_err());
}
