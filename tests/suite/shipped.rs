//! Shipped queries against DataFusion: the same SQL run once, in one batch, with windows spelled without a stream.

use std::sync::Arc;

use driftline::arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use driftline::arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use driftline::{Engine, shipped};

use super::oracle::{Window, batch};
use super::support::{Feed, SECOND, Seeded, assert_same, run};

/// Rows for a shipped query's source, whatever its columns are: one every second or so, and now and then a long silence.
fn rows_for(schema: &SchemaRef, seed: u64, count: usize) -> RecordBatch {
    let mut random = Seeded(seed);
    let mut time = 0;
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.data_type() {
            DataType::Timestamp(TimeUnit::Nanosecond, None) => {
                Arc::new(TimestampNanosecondArray::from_iter_values((0..count).map(|_| {
                    time += random.below(2 * SECOND as u64) as i64;
                    if random.below(200) == 0 {
                        time += 1200 * SECOND;
                    }
                    time
                })))
            }
            DataType::Utf8 => {
                let words = ["ERROR", "WARN", "INFO", "took 12 ms", "took 7 ms", "cart"];
                Arc::new(StringArray::from_iter((0..count).map(|_| {
                    let is_null = field.is_nullable() && random.below(9) == 0;
                    (!is_null).then(|| words[random.below(6) as usize])
                })))
            }
            DataType::Float64 => Arc::new(Float64Array::from_iter((0..count).map(|_| {
                let is_null = field.is_nullable() && random.below(9) == 0;
                (!is_null).then(|| random.unit() * 100.0)
            }))),
            DataType::Int64 => Arc::new(Int64Array::from_iter((0..count).map(|_| {
                let is_null = field.is_nullable() && random.below(9) == 0;
                (!is_null).then(|| random.below(24) as i64)
            }))),
            other => panic!("no generator for columns of type {other}"),
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

const WINDOWS: [&str; 4] = ["TUMBLE(", "HOP(", "CUMULATE(", "SESSION("];

/// A shipped query with each window in FROM as a batch subquery; a window within another comes after its name.
fn in_a_batch(query: &str) -> String {
    let last =
        |text: &str| WINDOWS.iter().filter_map(|name| Some((text.rfind(name)?, *name))).max();
    let mut text = query.to_owned();
    while let Some((start, name)) = last(&text) {
        let inside = start + name.len();
        let (args, length) = arguments(&text[inside..]);
        let (relation, time) = (args[0].as_str(), args[1].as_str());
        let spans: Vec<i64> = args[2..].iter().map(|arg| span(arg)).collect();
        let windowed = match name {
            "SESSION(" => session(relation, time, spans[0], &args[2]),
            "CUMULATE(" => {
                let [step, size] = spans[..] else { panic!("{args:?}") };
                Window { slide: size, size, step, offset: 0 }.in_a_batch(relation, time)
            }
            _ => {
                let (slide, size) = (spans[0], spans[spans.len() - 1]);
                Window { slide, size, step: size, offset: 0 }.in_a_batch(relation, time)
            }
        };
        text.replace_range(start..inside + length, &windowed);
    }
    assert_ne!(text, query, "a shipped query has a window");
    text
}

/// The arguments of a call up to its closing parenthesis, and the length of all that.
fn arguments(text: &str) -> (Vec<String>, usize) {
    let (mut args, mut depth) = (vec![String::new()], 0);
    for (place, letter) in text.char_indices() {
        match letter {
            ')' if depth == 0 => {
                return (args.iter().map(|arg| arg.trim().to_owned()).collect(), place + 1);
            }
            ',' if depth == 0 => {
                args.push(String::new());
                continue;
            }
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        args.last_mut().unwrap().push(letter);
    }
    panic!("{text} does not close");
}

fn span(arg: &str) -> i64 {
    let inside = arg.split('\'').nth(1).unwrap_or_else(|| panic!("{arg} is no interval"));
    let (count, unit) = inside.split_once(' ').unwrap();
    let seconds = match unit.trim_end_matches('s') {
        "second" => 1,
        "minute" => 60,
        "hour" => 3600,
        "day" => 86_400,
        other => panic!("no unit {other}"),
    };
    count.parse::<i64>().unwrap() * seconds * SECOND
}

/// Gaps and islands: a row that comes the gap or more after the one before it begins the next session of its key. Rows of
/// equal time are peers, and so in one session.
fn session(relation: &str, time: &str, gap: i64, last_arg: &str) -> String {
    let keys = last_arg.split_once("PARTITION BY ").map(|(_, keys)| keys).unwrap();
    let gap = Window::interval(gap);
    let over = format!("PARTITION BY {keys} ORDER BY {time}");
    let first = format!(
        "SELECT *, CASE WHEN lag({time}) OVER ({over}) + {gap} > {time} THEN 0 ELSE 1 END AS is_first FROM {relation}"
    );
    let numbered = format!("SELECT *, sum(is_first) OVER ({over}) AS session FROM ({first})");
    format!(
        "(SELECT *, min({time}) OVER (PARTITION BY {keys}, session) AS window_start,
                 max({time}) OVER (PARTITION BY {keys}, session) + {gap} AS window_end FROM ({numbered}))"
    )
}

#[test]
fn every_shipped_query_equals_the_batch() {
    for query in shipped() {
        let source = query.source_sql();
        let name = source.split("CREATE SOURCE ").nth(1).unwrap().split([' ', '(']).next().unwrap();
        let engine = Engine::builder().workers(1).build().unwrap();
        engine.execute(source).unwrap();
        let rows = rows_for(&engine.source(name).unwrap().schema(), 7, 3000);
        let expected = batch(name, &rows, &in_a_batch(query.query_sql()));
        let found: usize = expected.iter().map(RecordBatch::num_rows).sum();
        assert!(found > 2, "{} finds {found} rows", query.name);
        for workers in [1, 2, 4] {
            for batch_rows in [7, 8192] {
                let feed = Feed { workers, batch_rows };
                let found = run(feed, source, query.query_sql(), name, &rows).unwrap();
                assert_same(&found, &expected, &format!("{}, {feed:?}", query.name));
            }
        }
    }
}

#[test]
fn shipped_queries_are_found_by_name() {
    use driftline::ShippedQuery;
    assert!(shipped().len() >= 14);
    for query in shipped() {
        assert_eq!(ShippedQuery::named(query.name), Some(query));
    }
    assert_eq!(ShippedQuery::named("metrics/none"), None);
}
