//! Windows whose bounds depend on rows, and windows over windows, against a slow and obviously right assignment of rows
//! to windows in plain Rust, whose groups DataFusion then aggregates in one batch.
//!
//! As in `oracle.rs`, every query runs with 1, 2 and 4 workers, in batches of 1, 7 and 8192 rows, in order and out of
//! order within the source's disorder, and must give the batch's rows each time.

use std::collections::BTreeMap;
use std::sync::Arc;

use driftline::arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt32Array,
};
use driftline::arrow::compute::{cast, concat_batches, take_record_batch};
use driftline::arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use driftline::arrow::util::display::array_value_to_string;
use driftline::{Engine, SourceDefinition};
use proptest::prelude::*;

use super::oracle::{Window, batch};
use super::support::{
    CREATE_SAMPLES, Feed, SECOND, Seeded, assert_same, collect, feeds, push_all, run, samples,
    shuffled,
};

/// A window of any kind.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Aligned(Window),
    /// The gap.
    Session(i64),
    /// Rows, and every how many of them.
    Count(usize, usize),
}

/// A row's number, and the bounds and the number of a window that holds it.
type Assigned = (u32, i64, i64, i64);

impl Kind {
    fn streaming(self, source: &str, time: &str, keys: &[&str]) -> String {
        let partition = match keys {
            [] => String::new(),
            keys => format!(" PARTITION BY {}", keys.join(", ")),
        };
        match self {
            Self::Aligned(window) => window.streaming(source, time),
            Self::Session(gap) => {
                format!("SESSION({source}, {time}, {}{partition})", Window::interval(gap))
            }
            Self::Count(rows, every) => {
                format!("COUNT_WINDOW({source}, {time}, {rows}, {every}{partition})")
            }
        }
    }

    /// Every row once for each window that holds it, with `window_start`, `window_end` and a number that tells windows of
    /// equal bounds apart. Rows of equal time count in the order in which they stand.
    fn assign(self, rows: &RecordBatch, time: &str, keys: &[&str]) -> RecordBatch {
        if let Self::Aligned(window) = self {
            let windowed = window.in_a_batch("input", time);
            let sql = format!("SELECT *, CAST(0 AS BIGINT) AS window_number FROM {windowed} AS w");
            let assigned = batch("input", rows, &sql);
            return match assigned.first() {
                Some(first) => concat_batches(&first.schema(), &assigned).unwrap(),
                None => append(rows, &[]),
            };
        }
        let times = cast(rows.column_by_name(time).unwrap(), &DataType::Int64).unwrap();
        let times = times.as_primitive::<Int64Type>();
        let mut by_key: BTreeMap<Vec<String>, Vec<u32>> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            let text = |key: &&str| {
                let column = rows.column_by_name(key).unwrap();
                let text = array_value_to_string(column, row).unwrap();
                format!("{}{text}", column.is_null(row))
            };
            by_key.entry(keys.iter().map(text).collect()).or_default().push(row as u32);
        }
        let mut assigned: Vec<Assigned> = Vec::new();
        for own in by_key.values_mut() {
            own.sort_by_key(|row| times.value(*row as usize));
            let time = |row: u32| times.value(row as usize);
            let mut number = 0;
            let mut add = |window: &[u32], end_after: i64| {
                let (start, end) = (time(window[0]), time(window[window.len() - 1]) + end_after);
                assigned.extend(window.iter().map(|row| (*row, start, end, number)));
                number += 1;
            };
            match self {
                Self::Session(gap) => {
                    own.chunk_by(|a, b| time(*b) - time(*a) < gap).for_each(|w| add(w, gap));
                }
                Self::Count(rows, every) => {
                    (0..own.len())
                        .step_by(every)
                        .filter_map(|start| own.get(start..start + rows))
                        .for_each(|window| add(window, 0));
                }
                Self::Aligned(_) => unreachable!("handled above"),
            }
        }
        append(rows, &assigned)
    }
}

fn append(rows: &RecordBatch, assigned: &[Assigned]) -> RecordBatch {
    let indices: UInt32Array = assigned.iter().map(|row| row.0).collect();
    let taken = take_record_batch(rows, &indices).unwrap();
    let bound = |of: fn(&Assigned) -> i64| {
        Arc::new(TimestampNanosecondArray::from_iter_values(assigned.iter().map(of))) as ArrayRef
    };
    let numbers: Int64Array = assigned.iter().map(|row| row.3).collect();
    let schema = taken.schema();
    let columns = schema.fields().iter().map(|field| field.name().as_str());
    let columns = columns.zip(taken.columns().iter().cloned());
    let own = [
        ("window_start", bound(|row| row.1)),
        ("window_end", bound(|row| row.2)),
        ("window_number", Arc::new(numbers) as ArrayRef),
    ];
    RecordBatch::try_from_iter(columns.chain(own)).unwrap()
}

/// What a batch makes of a query with `{W}` for the windowed relation.
fn expected(
    query: &str,
    kind: Kind,
    rows: &RecordBatch,
    time: &str,
    keys: &[&str],
) -> Vec<RecordBatch> {
    let assigned = kind.assign(rows, time, keys);
    let query = query.replace("{W}", "assigned").replace("GROUP BY", "GROUP BY window_number,");
    batch("assigned", &assigned, &query)
}

/// Keys and a query that groups by them.
const QUERIES: &[(&[&str], &str)] = &[
    (
        &["service"],
        "SELECT service, window_start, window_end, count(*) AS n, avg(value) FILTER (WHERE NOT isnan(value)) AS mean,
                stddev(bytes) AS deviation, min(bytes) AS least, max(bytes) AS most
         FROM {W} GROUP BY service, window_start, window_end",
    ),
    (
        &["host", "service"],
        "SELECT upper(service) AS name, window_end, host, sum(bytes) / 2 + 1 AS half,
                count(DISTINCT bytes % 5) AS kinds, first_value(bytes ORDER BY ts, bytes) AS opening
         FROM {W} GROUP BY host, service, window_start, window_end HAVING count(*) > 1",
    ),
    (
        &[],
        "SELECT window_start, window_end, median(bytes) AS middle,
                count(*) FILTER (WHERE bytes > 5000) AS large
         FROM {W} WHERE window_start > TIMESTAMP '1969-12-31T23:59:50' GROUP BY window_start, window_end",
    ),
    (
        &["service"],
        "SELECT service, window_start FROM {W} WHERE service <> 'service-1'
         GROUP BY service, window_start, window_end",
    ),
];

fn check(kind: Kind, rows: &RecordBatch) {
    let late_by_ten = shuffled(rows, 10 * SECOND, 98);
    for (keys, query) in QUERIES {
        let streaming = query.replace("{W}", &kind.streaming("samples", "ts", keys));
        for (order, rows) in [("in order", rows), ("shuffled", &late_by_ten)] {
            let expected = expected(query, kind, rows, "ts", keys);
            assert!(expected.iter().any(|batch| batch.num_rows() > 0), "{streaming}");
            for feed in feeds(rows.num_rows()) {
                let found = run(feed, CREATE_SAMPLES, &streaming, "samples", rows)
                    .unwrap_or_else(|error| panic!("{streaming}: {error}"));
                assert_same(&found, &expected, &format!("{feed:?}, {order}, {streaming}"));
            }
        }
    }
}

#[test]
fn sessions_equal_the_reference() {
    for gap in [SECOND / 4, SECOND] {
        check(Kind::Session(gap), &samples(21, 300, 100));
    }
}

#[test]
fn windows_of_rows_equal_the_reference() {
    for (rows, every) in [(5, 5), (6, 4), (2, 3), (3, 1)] {
        check(Kind::Count(rows, every), &samples(22, 300, 100));
    }
}

#[test]
fn many_sessions_and_windows_of_rows_equal_the_reference() {
    let rows = shuffled(&samples(23, 40_000, 3600), 10 * SECOND, 4);
    for kind in [Kind::Session(SECOND / 2), Kind::Count(100, 30)] {
        for (keys, query) in &QUERIES[..2] {
            let streaming = query.replace("{W}", &kind.streaming("samples", "ts", keys));
            let expected = expected(query, kind, &rows, "ts", keys);
            for workers in [1, 2, 4] {
                for batch_rows in [7, 8192] {
                    let feed = Feed { workers, batch_rows };
                    let found = run(feed, CREATE_SAMPLES, &streaming, "samples", &rows).unwrap();
                    assert_same(&found, &expected, &format!("{feed:?}, {streaming}"));
                }
            }
        }
    }
}

#[test]
fn conditions_of_the_group_by_form_come_before_its_windows() {
    let rows = samples(24, 300, 100);
    let kept = batch("samples", &rows, "SELECT * FROM samples WHERE bytes > 4000 ORDER BY ts");
    let kept = concat_batches(&rows.schema(), &kept).unwrap();
    for (kind, call) in [
        (Kind::Session(SECOND), "session(INTERVAL '1 second')"),
        (Kind::Count(4, 3), "count_window(4, 3)"),
    ] {
        let select = "SELECT service, window_start, window_end, sum(bytes) AS total";
        let by = "GROUP BY service, window_start, window_end";
        let expected =
            expected(&format!("{select} FROM {{W}} {by}"), kind, &kept, "ts", &["service"]);
        let query = format!("{select} FROM samples WHERE bytes > 4000 GROUP BY service, {call}");
        for feed in feeds(rows.num_rows()) {
            let found = run(feed, CREATE_SAMPLES, &query, "samples", &rows).unwrap();
            assert_same(&found, &expected, &format!("{feed:?}, {query}"));
        }
    }
}

#[test]
fn a_window_of_any_kind_over_a_view_with_a_window_of_any_kind_equals_the_reference() {
    let aligned = |slide: i64, size: i64, step: i64| {
        let [slide, size, step] = [slide, size, step].map(|quarters| quarters * SECOND / 4);
        Kind::Aligned(Window { slide, size, step, offset: SECOND / 4 })
    };
    let inner_kinds = [
        aligned(4, 4, 4),
        aligned(3, 5, 5),
        aligned(6, 6, 2),
        Kind::Session(SECOND / 2),
        Kind::Count(3, 2),
    ];
    let outer_kinds = [
        aligned(20, 20, 20),
        aligned(12, 20, 20),
        aligned(24, 24, 8),
        Kind::Session(2 * SECOND),
        Kind::Count(4, 1),
    ];
    let rows = shuffled(&samples(25, 300, 60), 10 * SECOND, 6);
    let inner_query = "SELECT service, window_end AS at, count(*) AS n, sum(bytes) AS total
                       FROM {W} GROUP BY service, window_start, window_end";
    let outer_query =
        "SELECT service, window_start, window_end, count(*) AS m, sum(n) AS n, max(total) AS most
                       FROM {W} GROUP BY service, window_start, window_end";
    for inner in inner_kinds {
        let ordered = format!("{inner_query} ORDER BY window_end, service");
        let made = expected(&ordered, inner, &rows, "ts", &["service"]);
        let made = concat_batches(&made[0].schema(), &made).unwrap();
        let view = inner_query.replace("{W}", &inner.streaming("samples", "ts", &["service"]));
        let ddl = format!("{CREATE_SAMPLES}; CREATE VIEW made AS {view}");
        for outer in outer_kinds {
            let expected = expected(outer_query, outer, &made, "at", &["service"]);
            assert!(expected.iter().any(|batch| batch.num_rows() > 0), "{inner:?} {outer:?}");
            let streaming =
                outer_query.replace("{W}", &outer.streaming("made", "at", &["service"]));
            for (workers, batch_rows) in [(1, 7), (2, 8192), (4, 1)] {
                let feed = Feed { workers, batch_rows };
                let found = run(feed, &ddl, &streaming, "samples", &rows).unwrap();
                assert_same(&found, &expected, &format!("{inner:?}, {outer:?}, {feed:?}"));
            }
        }
    }
}

/// Rows whose times tie, stand still and leap.
fn bursts(seed: u64, count: usize) -> RecordBatch {
    let mut random = Seeded(seed);
    let mut time = -20 * SECOND;
    let (mut times, mut hosts, mut services, mut bytes) = (vec![], vec![], vec![], vec![]);
    for _ in 0..count {
        time += match random.below(10) {
            0..4 => 0,
            4..9 => random.below(4) as i64 * SECOND / 4,
            _ => random.below(12) as i64 * SECOND,
        };
        times.push(time);
        hosts.push((random.below(4) > 0).then(|| format!("host-{}", random.below(2))));
        services.push(format!("service-{}", random.below(3)));
        bytes.push((random.below(8) > 0).then(|| random.below(10_000) as i64));
    }
    let values = driftline::arrow::array::Float64Array::from(vec![1.5; count]);
    RecordBatch::try_from_iter_with_nullable([
        ("ts", Arc::new(TimestampNanosecondArray::from(times)) as ArrayRef, false),
        ("host", Arc::new(StringArray::from(hosts)), true),
        ("service", Arc::new(StringArray::from(services)), false),
        ("value", Arc::new(values), true),
        ("bytes", Arc::new(Int64Array::from(bytes)), true),
    ])
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_session_and_any_number_of_rows_equal_the_reference(
        kind in prop_oneof![
            (1i64..20).prop_map(|quarters| Kind::Session(quarters * SECOND / 4)),
            (1usize..12, 1usize..15).prop_map(|(rows, every)| Kind::Count(rows, every)),
        ],
        seed in any::<u64>(),
        count in 0usize..200,
        query in 0..QUERIES.len(),
        workers in prop::sample::select(vec![1usize, 2, 4]),
        batch_rows in prop::sample::select(vec![1usize, 7, 8192]),
    ) {
        let rows = shuffled(&bursts(seed, count), 10 * SECOND, seed);
        let (keys, query) = QUERIES[query];
        let expected = expected(query, kind, &rows, "ts", keys);
        let streaming = query.replace("{W}", &kind.streaming("samples", "ts", keys));
        let feed = Feed { workers, batch_rows };
        let found = run(feed, CREATE_SAMPLES, &streaming, "samples", &rows).unwrap();
        assert_same(&found, &expected, &streaming);
    }
}

#[test]
fn the_top_rows_of_each_window_equal_the_batch() {
    let rows = samples(26, 400, 100);
    let select = "SELECT service, host, window_start, window_end, n, place FROM
        (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY n DESC, service, host) AS place FROM
           (SELECT service, host, window_start, window_end, count(*) AS n
            FROM {W} GROUP BY service, host, window_start, window_end))
        WHERE place <= 3";
    let keys: &[&str] = &["service", "host"];
    let size = 10 * SECOND;
    for kind in [
        Kind::Aligned(Window { slide: size, size, step: size, offset: 0 }),
        Kind::Aligned(Window { slide: size / 2, size, step: size, offset: 0 }),
        Kind::Aligned(Window { slide: size, size, step: size / 2, offset: 0 }),
        Kind::Session(4 * SECOND),
        Kind::Count(3, 2),
    ] {
        let query = select.replace("{W}", &kind.streaming("samples", "ts", keys));
        let expected = expected(select, kind, &rows, "ts", keys);
        for feed in feeds(rows.num_rows()) {
            let found = run(feed, CREATE_SAMPLES, &query, "samples", &rows).unwrap();
            assert_same(&found, &expected, &format!("{feed:?}, {query}"));
        }
    }
}

#[test]
fn a_row_within_the_lateness_bridges_two_sessions() {
    let engine = Engine::builder().workers(2).build().unwrap();
    engine.execute(CREATE_SAMPLES).unwrap();
    let query = "SELECT service, window_start, window_end, count(*) AS n FROM samples
                 GROUP BY service, session(INTERVAL '4 seconds')";
    let results = engine.subscribe(query).unwrap();
    let row = |second: i64| {
        let rows = samples(1, 1, 10);
        let mut columns = rows.columns().to_vec();
        columns[0] = Arc::new(TimestampNanosecondArray::from(vec![second * SECOND]));
        columns[2] = Arc::new(StringArray::from(vec!["a"]));
        RecordBatch::try_new(rows.schema(), columns).unwrap()
    };
    // 3 and 9 are two sessions until 6 comes, in time. 13 moves their end to 17, where the next one begins.
    for second in [3, 9, 12, 6, 17, 13] {
        push_all(&engine, "samples", &row(second), 1).unwrap();
    }
    engine.shutdown().unwrap();
    let found = collect(results);
    let text: Vec<String> = (0..found.num_rows())
        .map(|row| {
            let cell = |i: usize| array_value_to_string(found.column(i), row).unwrap();
            format!("{} {} {}", &cell(1)[17..], &cell(2)[17..], cell(3))
        })
        .collect();
    assert_eq!(text, ["03 17 5", "17 21 1"]);
}

#[test]
fn windows_before_1970_and_of_zoned_columns_start_where_the_offset_says() {
    // Midnight in Berlin, in summer, is 22:00 UTC the day before. Both days lie before 1970.
    let zone = DataType::Timestamp(TimeUnit::Second, Some("Europe/Berlin".into()));
    let schema = Arc::new(Schema::new(vec![Field::new("ts", zone.clone(), false)]));
    let day = 86_400;
    let times = [-30 * day - 2 * 3600, -29 * day - 2 * 3600 - 1, -29 * day - 2 * 3600];
    for (call, expected) in [
        ("tumble(ts, INTERVAL '1 day', INTERVAL '-2 hours')", vec![(0, 1, 2), (1, 2, 1)]),
        (
            "hop(ts, INTERVAL '1 day', INTERVAL '2 days', INTERVAL '22 hours')",
            vec![(-1, 1, 2), (0, 2, 3), (1, 3, 1)],
        ),
        (
            "cumulate(ts, INTERVAL '1 day', INTERVAL '2 days', INTERVAL '-2 hours')",
            vec![(0, 1, 2), (0, 2, 3)],
        ),
    ] {
        let engine = Engine::builder().workers(2).build().unwrap();
        let definition = SourceDefinition::new("zoned", Arc::clone(&schema)).event_time("ts");
        let source = engine.create_source(definition).unwrap();
        let query =
            format!("SELECT window_start, window_end, count(*) AS n FROM zoned GROUP BY {call}");
        let results = engine.subscribe(&query).unwrap();
        let column = TimestampSecondArray::from(times.to_vec()).with_timezone("Europe/Berlin");
        source.push(RecordBatch::try_new(schema.clone(), vec![Arc::new(column)]).unwrap()).unwrap();
        engine.shutdown().unwrap();
        let found = collect(results);
        assert_eq!(*found.column(0).data_type(), zone);
        let number = |i: usize, row: usize| {
            cast(found.column(i), &DataType::Int64).unwrap().as_primitive::<Int64Type>().value(row)
        };
        let days = |seconds: i64| (seconds + 30 * day + 2 * 3600) / day;
        let mut found: Vec<(i64, i64, i64)> = (0..found.num_rows())
            .map(|row| (days(number(0, row)), days(number(1, row)), number(2, row)))
            .collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{call}");
    }
}

#[test]
fn explain_shows_every_kind_of_window() {
    let engine = Engine::builder().build().unwrap();
    engine.execute(CREATE_SAMPLES).unwrap();
    for (call, shown) in [
        (
            "cumulate(INTERVAL '1 hour', INTERVAL '1 day')",
            "cumulate(INTERVAL '1 hour', INTERVAL '1 day') on ts",
        ),
        ("session(INTERVAL '5 minutes')", "session(INTERVAL '5 minutes') on ts"),
        ("count_window(10, 5)", "count_window(10, 5) on ts"),
    ] {
        let query = format!("SELECT service, count(*) AS n FROM samples GROUP BY service, {call}");
        let plan = engine.explain(&query).unwrap();
        let plan = format!("{plan:?}");
        assert!(plan.contains(&format!("AggregateWindows {shown}")), "{plan}");
    }
}
