//! Nexmark: every query that runs, against DataFusion in one batch.

use driftline::Engine;
use driftline::arrow::array::RecordBatch;
use driftline::arrow::compute::concat_batches;

use super::support::{cells, difference};

#[path = "../conformance/asof.rs"]
mod asof;
// The matrix uses more of it.
#[allow(dead_code)]
#[path = "../conformance/batch.rs"]
pub(super) mod batch;
#[path = "../conformance/changes.rs"]
pub(super) mod changes;
#[path = "../nexmark/events.rs"]
mod events;
#[path = "../nexmark/queries.rs"]
mod queries;
#[path = "../conformance/windows.rs"]
mod windows;

use events::Load;
use queries::QUERIES;

#[test]
fn every_nexmark_query_equals_the_batch() {
    // A second of event time for each 20 events: a thousand seconds, a hundred windows of ten.
    let load = |batch_rows| Load {
        events: 20_000,
        first_rate: 20,
        out_of_order_group_size: 60,
        batch_rows,
    };
    let mut failures = Vec::new();
    let batch = batch::Batch::new();
    for source in ["person", "auction", "bid"] {
        let rows = load(8192).batches();
        let own: Vec<&RecordBatch> =
            rows.iter().filter(|(name, _)| *name == source).map(|(_, rows)| rows).collect();
        batch.table(source, concat_batches(&own[0].schema(), own).unwrap()).unwrap();
    }
    batch.table("side_input", events::side_input()).unwrap();
    let expected: Vec<_> =
        QUERIES.iter().map(|query| cells(&batch.query(query.in_a_batch()).unwrap())).collect();
    for (workers, batch_rows) in [(1, 8192), (2, 100), (4, 1000)] {
        // All of them in one engine, as a host would run them.
        let engine = Engine::builder().workers(workers).build().unwrap();
        engine.execute(events::CREATE).unwrap();
        engine.create_table("side_input", events::side_input(), false).unwrap();
        let results: Vec<_> = QUERIES.iter().map(|query| engine.subscribe(query.sql)).collect();
        let (read, results): (Vec<_>, Vec<_>) = results
            .into_iter()
            .map(|results| match results {
                Ok(results) => {
                    let (send, receive) = std::sync::mpsc::channel();
                    // Readers that keep up: results of all queries are more than may wait.
                    std::thread::spawn(move || {
                        let _ = send.send(results.collect::<driftline::Result<Vec<_>>>());
                    });
                    (Ok(()), Some(receive))
                }
                Err(error) => (Err(error), None),
            })
            .unzip();
        for (source, rows) in load(batch_rows).batches() {
            engine.source(source).unwrap().push(rows).unwrap();
        }
        engine.drain().unwrap();
        let metrics = engine.metrics();
        assert!(metrics.sources.iter().all(|source| source.rows_late == 0), "{metrics:?}");
        engine.shutdown().unwrap();
        for (((query, expected), read), results) in
            QUERIES.iter().zip(&expected).zip(read).zip(results)
        {
            let name = format!("{} at {workers} workers", query.name);
            assert!(!expected.is_empty(), "{name}: {} finds nothing", query.what);
            let found = match (read, results) {
                (Ok(()), Some(results)) => results.recv().unwrap().unwrap(),
                (refused, _) => {
                    failures.push(format!("{name}: {refused:?}"));
                    continue;
                }
            };
            let found = match query.is_changelog() {
                true => {
                    changes::summed_up(&found).unwrap_or_else(|error| panic!("{name}: {error}"))
                }
                false => found,
            };
            let wrong = difference(&cells(&found), expected);
            failures.extend(wrong.map(|wrong| format!("{name}: {wrong}")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn no_nexmark_query_is_left_out() {
    let names: Vec<&str> = QUERIES.iter().map(|query| query.name).collect();
    let all: Vec<String> = (0..23).map(|number| format!("q{number}")).collect();
    assert_eq!(names, all);
}
