//! Proves that what a stream cannot answer is refused, with message, place and hint; and that nothing panics.

use super::*;
use crate::error::SqlErrorKind;

const WINDOW: &str =
    "FROM TUMBLE(metrics, ts, INTERVAL '1 minute') GROUP BY window_start, window_end";

#[test]
fn refusals_name_the_thing_the_place_and_the_remedy() {
    use SqlErrorKind::{Query as Wrong, Unsupported as Not};
    for (sql, kind, message, column) in [
        (
            "SELECT component, avg(cpu) FROM metrics GROUP BY component",
            Not,
            "aggregate without a window is not supported",
            1,
        ),
        ("SELECT count(*) FROM metrics", Not, "aggregate without a window is not supported", 1),
        (
            "SELECT * FROM metrics JOIN untimed ON true",
            Not,
            "join with \"untimed\" is not bounded in time",
            28,
        ),
        (
            "SELECT * FROM metrics, untimed",
            Not,
            "a join by comma is not supported in a streaming query",
            24,
        ),
        (
            "SELECT cpu FROM metrics EXCEPT SELECT cpu FROM untimed",
            Not,
            "EXCEPT is not supported in a streaming query",
            1,
        ),
        (
            "SELECT cpu FROM metrics UNION SELECT cpu FROM untimed",
            Not,
            "DISTINCT without an event time is not supported",
            1,
        ),
        (
            "SELECT * FROM metrics ORDER BY ts",
            Not,
            "ORDER BY is not supported in a streaming query",
            32,
        ),
        ("SELECT * FROM metrics LIMIT 5", Not, "LIMIT is not supported in a streaming query", 29),
        (
            "SELECT DISTINCT component FROM metrics",
            Not,
            "DISTINCT without an event time is not supported",
            1,
        ),
        (
            "SELECT row_number() OVER (PARTITION BY window_end ORDER BY abs(n)) AS n FROM \
             (SELECT window_end, count(*) AS n FROM metrics GROUP BY tumble(INTERVAL '1 minute'))",
            Not,
            "expression in ORDER BY of \"row_number\" is not supported",
            8,
        ),
        (
            "SELECT * FROM metrics WHERE cpu IN (SELECT cpu FROM untimed)",
            Not,
            "a subquery in an expression is not supported in a streaming query",
            29,
        ),
        (
            "SELECT * FROM metrics WHERE EXISTS (SELECT 1 FROM untimed)",
            Not,
            "a subquery in an expression is not supported in a streaming query",
            37,
        ),
        (
            "SELECT (SELECT 1) FROM metrics",
            Not,
            "a subquery in an expression is not supported in a streaming query",
            9,
        ),
        (
            "SELECT component, count(*) FROM metrics GROUP BY ROLLUP (component)",
            Not,
            "GROUPING SETS, CUBE or ROLLUP is not supported in a streaming query",
            58,
        ),
        (
            "SELECT * FROM SESSION(metrics, ts, INTERVAL '1 minute' PARTITION BY component)",
            Not,
            "rows of SESSION that are not grouped are not supported",
            1,
        ),
        (
            "SELECT component, count(*) FROM SESSION(metrics, ts, INTERVAL '1 minute') GROUP BY component, window_end",
            Wrong,
            "group key \"component\" does not partition SESSION",
            8,
        ),
        (
            "SELECT count(*) FROM SESSION(metrics, ts, INTERVAL '1 minute' PARTITION BY component) GROUP BY window_end",
            Wrong,
            "column \"component\" partitions SESSION and is not in GROUP BY",
            76,
        ),
        (
            "SELECT count(*) FROM SESSION(metrics, ts, INTERVAL '1 minute' PARTITION BY component) WHERE cpu > 1 GROUP BY component, window_end",
            Not,
            "condition on the rows of SESSION is not supported above it",
            1,
        ),
        (
            "SELECT count(*) FROM SESSION(metrics, ts, INTERVAL '1 minute' PARTITION BY upper(component)) GROUP BY component, window_end",
            Wrong,
            "PARTITION BY of a window is not a column",
            76,
        ),
        (
            "SELECT count(*) FROM SESSION(metrics, ts, INTERVAL '1 minute', INTERVAL '1 minute') GROUP BY window_end",
            Wrong,
            "window has too many arguments",
            73,
        ),
        (
            "SELECT count(*) FROM SESSION(metrics, ts, INTERVAL '0 seconds') GROUP BY window_end",
            Wrong,
            "option \"gap\" of window is 0 ns, outside 1 ns to 400 days",
            52,
        ),
        (
            "SELECT count(*) FROM SESSION(zoned, INTERVAL '1500 milliseconds') GROUP BY window_end",
            Wrong,
            "window is finer than its event-time column",
            22,
        ),
        (
            "SELECT count(*) FROM TUMBLE((SELECT window_start, count(*) AS n FROM metrics GROUP BY session(INTERVAL '1 minute')), \
             window_start, INTERVAL '1 hour') GROUP BY window_end",
            Wrong,
            "relation under the window has no event time",
            118,
        ),
        (
            "SELECT count(*) FROM TUMBLE(metrics PARTITION BY component, ts, INTERVAL '1 minute') GROUP BY window_end",
            Wrong,
            "window takes no PARTITION BY",
            50,
        ),
        (
            "SELECT count(*) FROM COUNT_WINDOW(metrics, 10) GROUP BY window_end",
            Wrong,
            "aggregate over a window is not grouped by the window",
            1,
        ),
        (
            "SELECT * FROM COUNT_WINDOW(metrics, 10)",
            Not,
            "rows of COUNT_WINDOW that are not grouped are not supported",
            1,
        ),
        (
            "SELECT count(*) FROM COUNT_WINDOW(metrics, ts, INTERVAL '1 minute') GROUP BY window_start, window_end",
            Wrong,
            "expected a number of rows",
            57,
        ),
        (
            "SELECT count(*) FROM COUNT_WINDOW(metrics, 0) GROUP BY window_start, window_end",
            Wrong,
            "option \"rows\" of window is 0, outside 1 to 1073741824",
            44,
        ),
        (
            "SELECT count(*) FROM COUNT_WINDOW(metrics, 10, 2.5) GROUP BY window_start, window_end",
            Wrong,
            "expected a number of rows",
            48,
        ),
        (
            "SELECT count(*) FROM COUNT_WINDOW(metrics) GROUP BY window_start, window_end",
            Wrong,
            "window has no rows",
            22,
        ),
        (
            "SELECT count(*) FROM CUMULATE(metrics, ts, INTERVAL '7 minutes', INTERVAL '1 hour') GROUP BY window_end",
            Wrong,
            "option \"size\" of window is not a whole number of steps",
            53,
        ),
        (
            "SELECT count(*) FROM CUMULATE(metrics, ts, INTERVAL '1 minute', INTERVAL '1 hour') GROUP BY window_start",
            Wrong,
            "aggregate over a window is not grouped by the window",
            1,
        ),
        (
            "SELECT count(*) FROM CUMULATE(metrics, ts, INTERVAL '1 hour') GROUP BY window_end",
            Wrong,
            "window has no size",
            22,
        ),
        (
            "SELECT count(*) FROM CUMULATE(zoned, INTERVAL '500 milliseconds', INTERVAL '1 minute') GROUP BY window_end",
            Wrong,
            "window is finer than its event-time column",
            22,
        ),
        (
            "SELECT count(*) FROM TUMBLE(untimed, ts, INTERVAL '1 minute') GROUP BY window_end",
            Wrong,
            "relation under the window has no event time",
            38,
        ),
        (
            "SELECT count(*) FROM TUMBLE(LATE(metrics), INTERVAL '1 minute') GROUP BY window_end",
            Wrong,
            "relation under the window has no event time",
            22,
        ),
        (
            "SELECT count(*) FROM TUMBLE(metrics, cpu, INTERVAL '1 minute') GROUP BY window_end",
            Wrong,
            "column \"cpu\" is not the event time",
            38,
        ),
        (
            "SELECT count(*) FROM TUMBLE(metrics, tz, INTERVAL '1 minute') GROUP BY window_end",
            Wrong,
            "column \"tz\" not found",
            38,
        ),
        (
            "SELECT count(*) FROM TUMBLE(metrics, ts) GROUP BY window_end",
            Wrong,
            "window has no size",
            22,
        ),
        (
            "SELECT count(*) FROM TUMBLE(metrics, ts, 5) GROUP BY window_end",
            Wrong,
            "expected an INTERVAL",
            42,
        ),
        (
            "SELECT count(*) FROM HOP(metrics, ts, INTERVAL '1 minute') GROUP BY window_end",
            Wrong,
            "window has no size",
            22,
        ),
        (
            "SELECT count(*) FROM TUMBLE(metrics, ts, INTERVAL '1 minute', INTERVAL '0 s', ts) GROUP BY window_end",
            Wrong,
            "window has too many arguments",
            79,
        ),
        (
            "SELECT count(*) FROM TUMBLE(zoned, INTERVAL '1500 milliseconds') GROUP BY window_end",
            Wrong,
            "window is finer than its event-time column",
            22,
        ),
        (
            "SELECT component, avg(cpu) FROM TUMBLE(metrics, ts, INTERVAL '1 minute') GROUP BY component",
            Wrong,
            "aggregate over a window is not grouped by the window",
            1,
        ),
        (
            "SELECT tumble(interval '1 minute') FROM metrics",
            Wrong,
            "window \"tumble(INTERVAL '1 minute')\" is not in GROUP BY",
            8,
        ),
        (
            "SELECT count(*) FROM metrics GROUP BY tumble(interval '1 minute'), hop(interval '1 minute', interval '1 hour')",
            Wrong,
            "query groups by two windows",
            68,
        ),
        (
            "SELECT count(*) FROM TUMBLE(metrics, ts, INTERVAL '1 minute') GROUP BY tumble(interval '1 hour')",
            Wrong,
            "query has a window in FROM and one in GROUP BY",
            22,
        ),
        (
            "SELECT now() FROM metrics",
            Not,
            "function \"now\" is not supported in a streaming query",
            8,
        ),
        (
            "SELECT * FROM metrics WHERE random() < 0.5",
            Not,
            "function \"random\" is not supported in a streaming query",
            29,
        ),
        (
            "SELECT uuid() FROM metrics",
            Not,
            "function \"uuid\" is not supported in a streaming query",
            8,
        ),
        (
            "SELECT * FROM metrics WHERE ts > CURRENT_TIMESTAMP",
            Not,
            "function \"current_timestamp\" is not supported in a streaming query",
            34,
        ),
        (
            "SELECT current_date FROM metrics",
            Not,
            "function \"current_date\" is not supported in a streaming query",
            8,
        ),
        (
            "SELECT unnest([1, 2]) FROM metrics",
            Not,
            "function \"unnest\" is not supported in a streaming query",
            8,
        ),
        ("SELECT 1", Not, "SELECT without FROM is not supported in a streaming query", 1),
        (
            "SELECT * FROM (VALUES (1)) AS t",
            Not,
            "VALUES as a relation is not supported in a streaming query",
            23,
        ),
        (
            "WITH RECURSIVE r AS (SELECT 1) SELECT * FROM r",
            Not,
            "recursive queries is not supported in a streaming query",
            1,
        ),
        (
            "SELECT * FROM metrics TABLESAMPLE (10)",
            Not,
            "this form of FROM is not supported in a streaming query",
            15,
        ),
        ("SELECT * FROM out", Wrong, "sink \"out\" cannot be read", 15),
        ("SELECT * FROM metricz", Wrong, "relation \"metricz\" not found", 15),
        ("SELECT * FROM a.metrics", Wrong, "relation \"a.metrics\" not found", 15),
        ("SELECT * FROM a.b.metrics", Not, "relation \"a.b.metrics\" has three parts", 15),
        ("SELECT cpy FROM metrics", Wrong, "column \"cpy\" not found", 8),
        ("SELECT nope(cpu) FROM metrics", Wrong, "function \"nope\" not found", 8),
        ("SELECT * FROM nope(1)", Wrong, "table function \"nope\" not found", 15),
        ("SELECT * FROM LATE(busy)", Wrong, "LATE takes the name of one source", 15),
        (
            "SELECT abs(component, 1) FROM metrics",
            Wrong,
            "function \"abs\" does not take (TEXT, Int64)",
            8,
        ),
        ("SELECT * FROM broken", Wrong, "in view \"broken\": column \"nothing\" not found", 15),
        ("SELECT $1 FROM metrics", Not, "a parameter is not supported in a streaming query", 8),
    ] {
        let error = try_plan(sql).map(|plan| panic!("{sql}\n{plan}")).unwrap_err();
        assert_eq!((error.message(), error.kind()), (message, kind), "{sql}");
        assert_eq!(error.position().map(|p| (p.line, p.column)), Some((1, column)), "{sql}");
        assert!(error.hint_text().is_some() || message.starts_with("in view"), "{sql} has no hint");
    }
}

#[test]
fn hints_suggest_the_nearest_name() {
    let hint = |sql: &str| try_plan(sql).unwrap_err().hint_text().unwrap().to_owned();
    assert_eq!(hint("SELECT cpy FROM metrics"), "did you mean \"cpu\"?");
    assert_eq!(hint("SELECT * FROM metricz"), "did you mean \"metrics\"?");
    assert_eq!(hint("SELECT m.cpu FROM metrics"), "did you mean \"metrics.cpu\"?");
    assert_eq!(hint("SELECT quite_other FROM zoned"), "columns are \"k\", \"ts\", \"x\"");
    assert!(hint("SELECT * FROM TUMBLE(untimed, INTERVAL '1 s')").contains("WATERMARK FOR"));
    assert!(hint("SELECT window_end FROM metrics").contains("TUMBLE"));
}

#[test]
fn aggregates_that_depend_on_arrival_are_refused() {
    for call in [
        "first_value(cpu)",
        "last_value(cpu)",
        "nth_value(cpu, 2)",
        "array_agg(cpu)",
        "array_agg(DISTINCT cpu)",
        "string_agg(component, ',')",
        "string_agg(component, ',' ORDER BY ts)",
        "any_value(cpu)",
        "nth_value(cpu, 2 ORDER BY ts)",
    ] {
        let error = try_plan(&format!("SELECT {call} {WINDOW}"))
            .map(|plan| panic!("{call}\n{plan}"))
            .unwrap_err();
        assert_eq!(error.kind(), SqlErrorKind::Unsupported, "{call}");
        assert_eq!(error.position().map(|p| p.column), Some(8), "{call}");
    }
    plan(&format!("SELECT first_value(cpu ORDER BY ts), array_agg(cpu ORDER BY ts) {WINDOW}"));
}

#[test]
fn bounds_do_not_mix_with_columns_under_an_aggregate() {
    for sql in [
        "SELECT max(cpu) FROM TUMBLE(metrics, ts, INTERVAL '1 minute') WHERE ts < window_end - INTERVAL '5 seconds' GROUP BY window_end",
        "SELECT max(window_end - ts) FROM TUMBLE(metrics, ts, INTERVAL '1 minute') GROUP BY window_end",
        "SELECT count(*) FROM TUMBLE(metrics, ts, INTERVAL '1 minute') GROUP BY window_end, window_end - ts",
    ] {
        let error = try_plan(sql).map(|plan| panic!("{sql}\n{plan}")).unwrap_err();
        assert_eq!(error.kind(), SqlErrorKind::Unsupported, "{sql}");
        assert!(error.hint_text().is_some());
    }
}

#[test]
fn expressions_that_would_grow_exponentially_are_refused() {
    for call in ["coalesce(@, 1)", "ifnull(@, 1)", "greatest(@, 1)", "(@ BETWEEN 1 AND 2)::int"] {
        let nested = |levels: usize| {
            let call = (0..levels).fold("cpu".to_owned(), |inner, _| call.replace('@', &inner));
            try_plan(&format!("SELECT {call} AS x FROM metrics"))
        };
        assert!(nested(8).is_ok(), "{call}");
        assert!(nested(9).unwrap_err().message().starts_with("expression nests more than 8"));
    }
}

#[test]
fn views_that_read_each_other_end() {
    let error = try_plan("SELECT * FROM ring").unwrap_err();
    assert!(error.message().contains("nests more than 16 views"), "{error}");
}

#[test]
fn no_text_panics() {
    let corpus: Vec<Vec<String>> = CORPUS
        .iter()
        .map(|sql| sql.split_inclusive([' ', '(', ')', ',', '.']).map(str::to_owned).collect())
        .collect();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let planner = Planner::new(Functions::new());
    let shelf = Shelf::of(SETUP);
    let mut accepted = 0;
    for round in 0..4_000 {
        let mut words = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(3) {
            let (i, j) = (random.below(words.len()), random.below(words.len()));
            match random.below(4) {
                0 => words.swap(i, j),
                1 => drop(words.remove(i)),
                2 => words.insert(i, GARBAGE[random.below(GARBAGE.len())].to_owned()),
                _ => {
                    let other = &corpus[random.below(corpus.len())];
                    words.insert(i, other[random.below(other.len())].clone());
                }
            }
            if words.is_empty() {
                words.push("SELECT ".to_owned());
            }
        }
        let mut sql: String = words.concat();
        if round % 7 == 0 {
            let cut = random.below(sql.len() + 1);
            sql.truncate(sql.floor_char_boundary(cut));
        }
        for statement in crate::parse_statements(&sql).unwrap_or_default() {
            let query = match statement {
                Statement::Query(query) => query,
                Statement::CreateDetector(detector) => detector.query,
                Statement::InsertValues(insert) => {
                    let schema = shelf.relation("metrics").unwrap().schema;
                    let _ = planner.evaluate_rows(&insert, schema);
                    continue;
                }
                _ => continue,
            };
            accepted += usize::from(planner.plan_query(&query, &shelf).is_ok());
        }
    }
    assert!(accepted > 100, "too few of the shuffled queries mean anything: {accepted}");
}

const CORPUS: [&str; 16] = [
    "SELECT component , avg(cpu) AS cpu FROM TUMBLE(metrics , ts , INTERVAL '5 minutes') GROUP BY component , window_start , window_end",
    "SELECT * FROM metrics WHERE cpu > 0.5 AND component LIKE 'a%' OR memory IS NULL",
    "SELECT tumble(interval '1 minute') AS w , w.start , count(*) FROM metrics GROUP BY w , component HAVING count(*) > 2",
    "SELECT window_end , max(c) FROM TUMBLE((SELECT window_end , count(*) AS c FROM HOP(metrics , ts , INTERVAL '1 minute' , INTERVAL '2 minutes') GROUP BY window_end) , window_end , INTERVAL '1 hour') GROUP BY window_end",
    "WITH a AS (SELECT cpu + 1 AS x , ts FROM metrics) SELECT x , CASE WHEN x > 1 THEN 'a' ELSE 'b' END FROM a",
    "CREATE SOURCE s (a TEXT NOT NULL , ts TIMESTAMP(3) , WATERMARK FOR ts AS ts - INTERVAL '10 seconds' IDLE TIMEOUT INTERVAL '1 minute') WITH (x = 1)",
    "CREATE DETECTOR d USING mad PARTITION BY component WITH (eps = 0.5) AS SELECT component , ts , cpu FROM metrics EMIT ON WINDOW CLOSE",
    "INSERT INTO metrics (ts , component) VALUES ('2026-01-01' , 'a') , (TIMESTAMP '2026-01-01' , upper('x'))",
    "SELECT sum(requests) FILTER (WHERE cpu > 1) , approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY cpu) , count(DISTINCT component) FROM TABLE(TUMBLE(TABLE metrics , DESCRIPTOR(ts) , INTERVAL '5' MINUTE)) GROUP BY window_end",
    "SELECT date_trunc('hour' , ts) , substring(component FROM 1 FOR 2) , [cpu , memory] [1] , extract(minute FROM ts) FROM busy",
    "SELECT component , sum(cpu) FROM SESSION(TABLE metrics PARTITION BY (component) , DESCRIPTOR(ts) , INTERVAL '5' MINUTE) GROUP BY component , window_start , window_end",
    "SELECT max(cpu) , component FROM COUNT_WINDOW(metrics , 10 , EVERY 5 PARTITION BY component) GROUP BY component , window_start , window_end",
    "SELECT count(*) , session(INTERVAL '1 minute') AS w FROM metrics WHERE cpu > 1 GROUP BY w , upper(component) HAVING min(memory) < cumulate(1)",
    "EXPLAIN SELECT LATE.cpu FROM LATE(metrics) AS LATE WHERE NOT cpu BETWEEN 1 AND 2",
    "SELECT lag(cpu , 2 , 0) OVER w , avg(cpu) OVER (PARTITION BY component ORDER BY ts RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) , sum(requests) OVER (ORDER BY ts ROWS 3 PRECEDING) FROM metrics WINDOW w AS (PARTITION BY component ORDER BY ts) QUALIFY row_number() OVER (ORDER BY ts) = 1",
    "SELECT first_value(cpu ORDER BY ts DESC) , stddev(cpu) / avg(memory) FROM metrics GROUP BY hop(ts , INTERVAL '1 minute' , INTERVAL '1 hour')",
];

const GARBAGE: [&str; 30] = [
    "(",
    ")",
    ",",
    ";",
    "'",
    "\"",
    "--",
    "/*",
    " = ",
    " 1e999 ",
    " 99999999999999999999 ",
    " '\u{1F600}' ",
    " \u{0} ",
    " $$ ",
    " @x ",
    " NULL ",
    " INTERVAL ",
    " INTERVAL '1 month' ",
    " :: INT ",
    " - ",
    " SELECT ",
    " FROM ",
    " GROUP BY ",
    " OVER () ",
    " * ",
    " TABLE ",
    " EMIT ON ",
    " window_start ",
    " X'zz' ",
    " INTERVAL '9223372036854775807 seconds' ",
];

/// A small generator, so that a failing round can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}
