//! Queries over several relations, against DataFusion in one batch.

use driftline::Engine;
use driftline::arrow::array::RecordBatch;

use super::oracle::{Window, batch_of};
use super::support::{
    CREATE_SAMPLES, SECOND, assert_same, feeds, push_all, run_sources, samples, shuffled,
};

/// `samples` and another source of the same columns, some of which may be null in one only.
pub(super) fn create_both() -> String {
    let others = CREATE_SAMPLES
        .replace("samples", "others")
        .replace("service TEXT NOT NULL", "service TEXT")
        .replace("10 seconds", "3 seconds");
    format!("{CREATE_SAMPLES}; {others}")
}

const TUMBLE: Window = Window { slide: 5 * SECOND, size: 5 * SECOND, step: 5 * SECOND, offset: 0 };

/// Checks a query over both sources, where `{W:relation}` stands for windows over a relation.
pub(super) fn check(query: &str) {
    check_against(query, query);
}

/// Checks a query against another one that says the same in a batch.
pub(super) fn check_against(query: &str, in_a_batch: &str) {
    let (samples, others) = (samples(1, 300, 60), samples(2, 200, 90));
    let shuffled = (shuffled(&samples, 10 * SECOND, 3), shuffled(&others, 3 * SECOND, 4));
    let spell = |stream: bool| {
        let mut text = if stream { query } else { in_a_batch }.to_owned();
        while let Some(start) = text.find("{W:") {
            let end = start + text[start..].find('}').unwrap();
            let relation = text[start + 3..end].to_owned();
            let windows = match stream {
                true => TUMBLE.streaming(&relation, "ts"),
                false => TUMBLE.in_a_batch(&relation, "ts"),
            };
            text.replace_range(start..=end, &windows);
        }
        text
    };
    let expected = batch_of(&[("samples", &samples), ("others", &others)], &spell(false));
    assert!(expected.iter().map(RecordBatch::num_rows).sum::<usize>() > 0, "{query} finds nothing");
    for feed in feeds(300) {
        for (a, b) in [(&samples, &others), (&shuffled.0, &shuffled.1)] {
            let sources = [("samples", a), ("others", b)];
            let found = run_sources(feed, &create_both(), &spell(true), &sources).unwrap();
            assert_same(&found, &expected, &format!("{query}, {feed:?}"));
        }
    }
}

#[test]
fn all_rows_of_a_union() {
    check(
        "SELECT ts, service, value FROM samples WHERE bytes > 100
         UNION ALL SELECT ts, upper(service), value * 2 FROM others
         UNION ALL SELECT ts, host, -value FROM samples",
    );
}

#[test]
fn a_window_over_a_union() {
    check(
        "SELECT window_end, service, count(*) AS n, avg(bytes) AS mean
         FROM {W:(SELECT ts, service, bytes FROM samples UNION ALL SELECT ts, service, bytes FROM others)}
         GROUP BY service, window_start, window_end",
    );
}

#[test]
fn a_union_of_windows() {
    check(
        "SELECT window_end, service, count(*) AS n FROM {W:samples} GROUP BY service, window_start, window_end
         UNION ALL
         SELECT window_end, host, sum(bytes) FROM {W:others} GROUP BY host, window_start, window_end",
    );
}

#[test]
fn windows_over_a_union_wait_for_the_slower_source() {
    let engine = Engine::builder().workers(2).build().unwrap();
    engine.execute(&create_both()).unwrap();
    let sql = "SELECT window_end, count(*) AS n FROM TUMBLE((SELECT ts FROM samples UNION ALL SELECT ts FROM others),
               ts, INTERVAL '5 seconds') GROUP BY window_start, window_end";
    let mut results = engine.subscribe(sql).unwrap();
    push_all(&engine, "samples", &samples(1, 300, 60), 50).unwrap();
    engine.drain().unwrap();
    let early = results.try_next().unwrap();
    assert!(early.is_none(), "the other source may still have rows for any window");
    engine.source("others").unwrap().close().unwrap();
    engine.drain().unwrap();
    let mut closed = 0;
    while let Some(rows) = results.try_next().unwrap() {
        closed += rows.num_rows();
    }
    assert!(closed > 5, "{closed} windows have closed");
    engine.shutdown().unwrap();
}
