//! Queries and rows that nobody thought of: both are generated, and shrink when they fail.

use std::sync::Arc;

use driftline::arrow::array::{
    ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use driftline::arrow::compute::filter_record_batch;
use driftline::arrow::datatypes::TimestampNanosecondType;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::nexmark::batch::Batch;
use super::nexmark::changes::summed_up;
use super::support::{CREATE_SAMPLES, Feed, SECOND, cells, difference, run, shuffled};

mod emission;
mod retained;

use emission::{Emission, interval};
use retained::retained;

/// One row of `samples`; times in quarters of a second.
#[derive(Clone, Debug)]
struct Row {
    at: i64,
    host: Option<u8>,
    service: u8,
    value: Option<i16>,
    bytes: Option<i16>,
}

fn row() -> impl Strategy<Value = Row> {
    let host = prop::option::weighted(0.8, 0u8..3);
    let value = prop::option::weighted(0.8, -40i16..40);
    let bytes = prop::option::weighted(0.8, any::<i16>());
    (-60i64..120, host, 0u8..3, value, bytes).prop_map(|(at, host, service, value, bytes)| Row {
        at,
        host,
        service,
        value,
        bytes,
    })
}

/// Rows in order of event time; where `apart`, no two at the same.
fn batch_of(rows: &[Row], apart: bool) -> RecordBatch {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| row.at);
    let mut times: Vec<i64> = rows.iter().map(|row| row.at * SECOND / 4).collect();
    if apart {
        for row in 1..times.len() {
            times[row] = times[row].max(times[row - 1] + 1);
        }
    }
    let quarters = |value: i16| f64::from(value) / 4.0;
    RecordBatch::try_from_iter_with_nullable([
        ("ts", Arc::new(TimestampNanosecondArray::from(times)) as ArrayRef, false),
        (
            "host",
            Arc::new(StringArray::from_iter(
                rows.iter().map(|row| row.host.map(|host| format!("h{host}"))),
            )),
            true,
        ),
        (
            "service",
            Arc::new(StringArray::from_iter_values(
                rows.iter().map(|row| format!("s{}", row.service)),
            )),
            false,
        ),
        (
            "value",
            Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.value.map(quarters)))),
            true,
        ),
        (
            "bytes",
            Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.bytes.map(i64::from)))),
            true,
        ),
    ])
    .unwrap()
}

/// Lengths in quarters of a second, or rows.
#[derive(Clone, Debug)]
enum Window {
    Tumble { size: i64, offset: i64 },
    Hop { slide: i64, size: i64, offset: i64 },
    Cumulate { step: i64, steps: i64, offset: i64 },
    Session { gap: i64 },
    Count { rows: usize, every: usize },
}

impl Window {
    /// Whether its bounds depend on its rows, so that it knows its keys.
    fn is_keyed(&self) -> bool {
        matches!(self, Self::Session { .. } | Self::Count { .. })
    }

    fn call(&self, relation: &str, keys: &[&str]) -> String {
        let text = interval;
        let by = match keys {
            [] => String::new(),
            keys => format!(" PARTITION BY {}", keys.join(", ")),
        };
        match *self {
            Self::Tumble { size, offset } => {
                format!("TUMBLE({relation}, ts, {}, {})", text(size), text(offset))
            }
            Self::Hop { slide, size, offset } => {
                let [slide, size, offset] = [slide, size, offset].map(text);
                format!("HOP({relation}, ts, {slide}, {size}, {offset})")
            }
            Self::Cumulate { step, steps, offset } => {
                let [step, size, offset] = [step, step * steps, offset].map(text);
                format!("CUMULATE({relation}, ts, {step}, {size}, {offset})")
            }
            Self::Session { gap } => format!("SESSION({relation}, ts, {}{by})", text(gap)),
            Self::Count { rows, every } => {
                format!("COUNT_WINDOW({relation}, ts, {rows}, {every}{by})")
            }
        }
    }
}

fn window() -> impl Strategy<Value = Window> {
    let offset = || -50i64..50;
    prop_oneof![
        (1i64..40, offset()).prop_map(|(size, offset)| Window::Tumble { size, offset }),
        (1i64..12, 1i64..30, offset()).prop_map(|(slide, size, offset)| Window::Hop {
            slide,
            size,
            offset
        }),
        (1i64..12, 2i64..6, offset()).prop_map(|(step, steps, offset)| Window::Cumulate {
            step,
            steps,
            offset
        }),
        (1i64..12).prop_map(|gap| Window::Session { gap }),
        (1usize..8, 1usize..10).prop_map(|(rows, every)| Window::Count { rows, every }),
    ]
}

const AGGREGATES: &[&str] = &[
    "count(*)",
    "count(host)",
    "sum(bytes)",
    "sum(value)",
    "avg(value)",
    "min(value)",
    "max(bytes)",
    "max(host)",
    "stddev(bytes)",
    "var_pop(value)",
    "median(bytes)",
    "count(DISTINCT service)",
    "count(DISTINCT bytes % 7)",
    "sum(bytes) FILTER (WHERE value > 0)",
    "count(*) FILTER (WHERE host IS NULL)",
    "bool_or(bytes > 100)",
    "bit_xor(bytes)",
    "corr(bytes, value)",
    "first_value(bytes ORDER BY ts, bytes)",
    "last_value(value ORDER BY ts DESC, value)",
    "array_agg(bytes ORDER BY ts, bytes)",
    "sum(bytes) - min(bytes) * 2",
];

const CONDITIONS: &[&str] = &[
    "bytes > 0",
    "host IS NOT NULL AND value < 5",
    "service <> 's1'",
    "value IS NULL OR bytes % 2 = 0",
];

#[derive(Clone, Debug)]
struct Query {
    window: Window,
    keys: Vec<&'static str>,
    aggregates: Vec<&'static str>,
    condition: Option<&'static str>,
    having: Option<&'static str>,
}

impl Query {
    fn sql(&self) -> String {
        let Self { window, keys, aggregates, condition, having } = self;
        let mut columns = vec!["window_start".to_owned(), "window_end".to_owned()];
        columns.extend(keys.iter().enumerate().map(|(i, key)| format!("{key} AS k{i}")));
        columns.extend(aggregates.iter().enumerate().map(|(i, call)| format!("{call} AS a{i}")));
        let mut relation = "samples".to_owned();
        let mut filter = String::new();
        if let Some(condition) = condition {
            // Above windows whose bounds depend on rows a condition would have to leave the bounds alone.
            match window.is_keyed() {
                true => relation = format!("(SELECT * FROM samples WHERE {condition})"),
                false => filter = format!("WHERE {condition}"),
            }
        }
        let by: Vec<&str> = keys.iter().copied().chain(["window_start", "window_end"]).collect();
        let having = having.map_or(String::new(), |having| format!("HAVING {having}"));
        format!(
            "SELECT {} FROM {} {filter} GROUP BY {} {having}",
            columns.join(", "),
            window.call(&relation, keys),
            by.join(", ")
        )
    }
}

fn query() -> impl Strategy<Value = Query> {
    let keys = |keyed: bool| match keyed {
        true => subsequence(vec!["host", "service"], 0..=2),
        false => subsequence(vec!["host", "service", "bytes % 3", "upper(service)"], 0..=3),
    };
    window().prop_flat_map(move |window| {
        let keys = keys(window.is_keyed());
        let aggregates = subsequence(AGGREGATES.to_vec(), 1..=5);
        let condition = prop::option::of(select(CONDITIONS));
        let having = prop::option::of(select(vec!["count(*) > 1", "max(bytes) > 0"]));
        (Just(window), keys, aggregates, condition, having).prop_map(
            |(window, keys, aggregates, condition, having)| Query {
                window,
                keys,
                aggregates,
                condition,
                having,
            },
        )
    })
}

/// A query, and when it answers. Windows of so many rows give final results only.
fn emitted() -> impl Strategy<Value = (Query, Emission)> {
    query().prop_flat_map(|query| {
        let emission = Emission::any(matches!(query.window, Window::Count { .. }));
        (Just(query), emission)
    })
}

/// Compares a query's results, summed up if they are changes, with those of a batch over `counted`.
fn check(
    (feed, create): (Feed, &str),
    (sql, clause): (&str, &str),
    is_changelog: bool,
    (rows, counted): (&RecordBatch, RecordBatch),
) -> Result<(), TestCaseError> {
    let oracle = Batch::new();
    oracle.table("samples", counted).unwrap();
    let expected = oracle.query(sql).unwrap();
    let streaming = format!("{sql} {clause}");
    let wrong = |what: String| TestCaseError::fail(format!("{create}; {streaming}: {what}"));
    let found = run(feed, create, &streaming, "samples", rows);
    let found = found.map_err(|error| wrong(error.to_string()))?;
    let found = if is_changelog { summed_up(&found).map_err(wrong)? } else { found };
    match difference(&cells(&found), &cells(&expected)) {
        Some(difference) => Err(wrong(difference)),
        None => Ok(()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_windowed_query_over_any_rows_equals_the_batch(
        rows in prop::collection::vec(row(), 0..60),
        (query, emission) in emitted(),
        workers in select(vec![1usize, 2, 4]),
        batch_rows in select(vec![1usize, 7, 8192]),
        seed in any::<u64>(),
    ) {
        let rows = batch_of(&rows, matches!(query.window, Window::Count { .. }));
        let late = shuffled(&rows, 10 * SECOND, seed);
        let feed = Feed { workers, batch_rows };
        let (source, sql, clause) = (emission.source(), query.sql(), emission.clause());
        check((feed, &source), (&sql, &clause), emission.is_changelog(), (&late, rows))?;
    }

    #[test]
    fn any_query_over_retained_rows_equals_the_batch(
        rows in prop::collection::vec(row(), 0..60),
        query in retained(),
        workers in select(vec![1usize, 2, 4]),
        batch_rows in select(vec![1usize, 7, 8192]),
        seed in any::<u64>(),
    ) {
        let rows = batch_of(&rows, true);
        let late = shuffled(&rows, 10 * SECOND, seed);
        let left = match query.retain {
            None => rows,
            Some(quarters) => left_over(&rows, quarters * SECOND / 4),
        };
        let feed = Feed { workers, batch_rows };
        check((feed, CREATE_SAMPLES), (&query.sql(), &query.clause()), true, (&late, left))?;
    }
}

/// The rows that are in at the end: those less than so long before the last watermark.
fn left_over(rows: &RecordBatch, retain_ns: i64) -> RecordBatch {
    let times = rows.column(0).as_primitive::<TimestampNanosecondType>();
    let end = times.values().last().map_or(0, |latest| latest - 10 * SECOND);
    let is_left = times.iter().map(|time| time.map(|time| time + retain_ns > end)).collect();
    filter_record_batch(rows, &is_left).unwrap()
}
