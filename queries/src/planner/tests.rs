//! Proves what the planner makes of queries, and what it refuses.

mod emit;
mod joins;
mod over;
mod refused;
mod windows;

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, TimeUnit};

use crate::catalog::{Catalog, Relation, RelationKind};
use crate::error::Result;
use crate::functions::Functions;
use crate::plan::{Plan, TimeColumn};
use crate::planner::Planner;
use crate::statement::{InsertValues, Query, Statement};

const SETUP: &str = "
CREATE SOURCE metrics (component TEXT NOT NULL, ts TIMESTAMP(3) NOT NULL, cpu DOUBLE, memory DOUBLE, requests BIGINT,
  WATERMARK FOR ts AS ts - INTERVAL '10 seconds');
CREATE SOURCE untimed (component TEXT, ts TIMESTAMP, cpu DOUBLE);
CREATE SOURCE zoned (k TEXT, ts TIMESTAMP(0) WITH TIME ZONE, x DOUBLE, WATERMARK FOR ts);
CREATE VIEW busy AS SELECT component, ts AS at, cpu FROM metrics WHERE cpu > 0.9;
CREATE VIEW busier AS SELECT * FROM busy WHERE cpu > 0.99;
CREATE VIEW broken AS SELECT nothing FROM metrics;
CREATE VIEW ring AS SELECT * FROM ring;
CREATE SINK out";

/// A catalog made of statements.
#[derive(Default)]
pub(crate) struct Shelf(Vec<(String, Relation)>);

impl Shelf {
    pub(crate) fn of(sql: &str) -> Self {
        let mut shelf = Self::default();
        for statement in crate::parse_statements(sql).unwrap() {
            let empty = |kind| Relation {
                kind,
                schema: Arc::new(Schema::empty()),
                time: None,
                window_bounds: vec![],
            };
            let (name, relation) = match statement {
                Statement::CreateSource(source) => {
                    let schema = Arc::new(Schema::new(source.columns));
                    let time = source.watermark.map(|watermark| TimeColumn {
                        index: schema.index_of(&watermark.column.text).unwrap(),
                        lag_ns: 0,
                    });
                    (source.name, Relation { schema, time, ..empty(RelationKind::Source) })
                }
                Statement::CreateView(view) => {
                    (view.name, empty(RelationKind::View(view.query.text().to_owned())))
                }
                Statement::CreateSink(sink) => (sink.name, empty(RelationKind::Sink)),
                other => panic!("{other:?} is no relation"),
            };
            shelf.0.push((name.text, relation));
        }
        shelf
    }
}

impl Catalog for Shelf {
    fn relation(&self, name: &str) -> Option<Relation> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, relation)| relation.clone())
    }

    fn relation_names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }
}

fn try_plan(sql: &str) -> Result<Plan> {
    let planner = Planner::new(Functions::new());
    planner.plan_query(&Query::parse(sql)?, &Shelf::of(SETUP))
}

fn plan(sql: &str) -> Plan {
    try_plan(sql).unwrap_or_else(|e| panic!("{sql}\n{e}\n{:?}", e.hint_text()))
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.schema.fields().iter().map(|field| field.name().as_str()).collect()
}

#[test]
fn a_source_alone_is_a_scan() {
    let plan = plan("SELECT * FROM metrics");
    assert_eq!(plan.explain(), ["Scan metrics, event time ts"]);
    assert_eq!(plan.time, Some(TimeColumn { index: 1, lag_ns: 0 }));
    assert_eq!(plan.scans()[0].relation, "metrics");
}

#[test]
fn filters_and_projections_are_one_step() {
    let plan = plan(
        "SELECT cpu * 100 AS percent, ts AS at FROM metrics AS m WHERE m.cpu > 0.5 AND component = 'a'",
    );
    assert_eq!(
        plan.explain(),
        [
            "Transform cpu * 100 AS percent, ts AS at WHERE cpu > 0.5 AND component = 'a'",
            "  Scan metrics, event time ts"
        ]
    );
    assert_eq!(plan.time, Some(TimeColumn { index: 1, lag_ns: 0 }));
}

#[test]
fn event_time_is_lost_with_its_column() {
    for sql in [
        "SELECT cpu FROM metrics",
        "SELECT ts + INTERVAL '1 second' AS ts FROM metrics",
        "SELECT CAST(ts AS TIMESTAMP(0)) AS ts FROM metrics",
        "SELECT * FROM LATE(metrics)",
    ] {
        assert_eq!(plan(sql).time, None, "{sql}");
    }
}

#[test]
fn views_ctes_and_subqueries_are_inlined() {
    let view = plan("SELECT component FROM busier WHERE cpu < 1");
    assert_eq!(view.explain().len(), 2, "{view}");
    let cte = plan(
        "WITH a AS (SELECT cpu AS x, ts FROM metrics), b AS (SELECT x + 1 AS y, ts FROM a) SELECT * FROM b",
    );
    assert_eq!(cte.explain().len(), 2, "{cte}");
    assert_eq!(names(&cte), ["y", "ts"]);
    assert_eq!(cte.time, Some(TimeColumn { index: 1, lag_ns: 0 }));
    let windowed =
        plan("SELECT count(*) AS n FROM TUMBLE(busy, INTERVAL '1 second') GROUP BY window_end");
    assert_eq!(windowed.scans()[0].relation, "metrics");
    let hidden = plan("WITH metrics AS (SELECT cpu AS only FROM metrics) SELECT * FROM metrics");
    assert_eq!(names(&hidden), ["only"]);
}

#[test]
fn many_functions_are_there() {
    let names = Planner::new(Functions::new()).function_names();
    for name in ["abs", "date_trunc", "regexp_like", "array_length", "stddev", "corr"] {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
    plan(
        "SELECT coalesce(cpu, 0) AS a, CASE WHEN cpu > 1 THEN 'high' ELSE 'low' END AS b, date_trunc('hour', ts) AS c, \
         substring(component FROM 1 FOR 3) AS d, [cpu, memory] AS e, {'x': cpu} AS f, extract(minute FROM ts) AS g, \
         component ~ '^a' AS h, cpu BETWEEN 0 AND 1 AS i, component IN ('a', 'b') AS j, arrow_cast(cpu, 'Float32') AS k, \
         named_struct('p', cpu)['p'] AS l, position('a' IN component) AS m, component LIKE 'a%' AS n, CAST(cpu AS TEXT) AS o \
         FROM metrics",
    );
}

#[test]
fn long_chains_plan_on_a_small_stack() {
    let ors = vec!["cpu = 1.5"; 320].join(" OR ");
    plan(&format!("SELECT * FROM metrics WHERE {ors}"));
    let sum = vec!["cpu"; 480].join("+");
    plan(&format!("SELECT {sum} AS s FROM metrics"));
    let list = vec!["'a'"; 10_000].join(",");
    plan(&format!("SELECT * FROM metrics WHERE component IN ({list})"));
}

#[test]
fn doubling_subqueries_stay_small() {
    let mut sql = "SELECT cpu + 1 AS x FROM metrics".to_owned();
    for _ in 0..20 {
        sql = format!("SELECT x + x AS x FROM ({sql})");
    }
    assert!(plan(&sql).explain().len() > 20);
    let mut sql =
        "SELECT cpu + 1 AS x, window_start, window_end FROM TUMBLE(metrics, INTERVAL '1 minute')"
            .to_owned();
    for _ in 0..12 {
        sql = format!("SELECT x + x AS x, window_start, window_end FROM ({sql})");
    }
    let plan = plan(&format!("SELECT max(x) AS x FROM ({sql}) GROUP BY window_start, window_end"));
    assert!(plan.explain().len() > 12, "{plan}");
}

fn insert(sql: &str) -> InsertValues {
    match crate::parse_statements(sql).unwrap().pop() {
        Some(Statement::InsertValues(insert)) => insert,
        other => panic!("{other:?}"),
    }
}

#[test]
fn constant_rows_become_a_batch() {
    let planner = Planner::new(Functions::new());
    let schema = Shelf::of(SETUP).relation("metrics").unwrap().schema;
    let rows = insert(
        "INSERT INTO metrics (ts, component, cpu) VALUES ('2026-01-01T00:00:00Z', 'a', 1), \
         (TIMESTAMP '2026-01-01 00:00:01', upper('b') || 'c', NULL), (to_timestamp_millis(5), 'd', -2 * 1.5)",
    );
    let batch = planner.evaluate_rows(&rows, Arc::clone(&schema)).unwrap();
    assert_eq!(batch.schema(), schema);
    assert_eq!(batch.num_rows(), 3);
    assert_eq!(batch.column(1).data_type(), &DataType::Timestamp(TimeUnit::Millisecond, None));
    let text = format!("{:?} {:?}", batch.column(0), batch.column(2));
    assert!(text.contains("\"Bc\"") && text.contains("-3.0"), "{text}");
    assert_eq!(batch.column(4).null_count(), 3);
    for (sql, message, place) in [
        (
            "INSERT INTO metrics (ts, component) VALUES (0, 'a'),\n ('x', 'b')",
            "value 'x' does not fit column \"ts\"",
            (2, 3),
        ),
        (
            "INSERT INTO metrics (ts, component) VALUES (0, 'a', 1)",
            "row has 3 values for 2 columns",
            (1, 45),
        ),
        (
            "INSERT INTO metrics (ts, component) VALUES (0, NULL)",
            "column \"component\" takes no null",
            (1, 48),
        ),
        ("INSERT INTO metrics (ts) VALUES (0)", "column \"component\" takes no null", (1, 13)),
        (
            "INSERT INTO metrics (time) VALUES (0)",
            "column \"time\" not found in \"metrics\"",
            (1, 22),
        ),
        (
            "INSERT INTO metrics (ts, component) VALUES (now(), 'a')",
            "function \"now\" is not supported in a streaming query",
            (1, 45),
        ),
        (
            "INSERT INTO metrics (ts, component) VALUES (0, cpu)",
            "column \"cpu\" not found",
            (1, 48),
        ),
        (
            "INSERT INTO metrics (ts, component) VALUES (0, CAST(1 / 0 AS TEXT))",
            "divide by zero error",
            (1, 53),
        ),
    ] {
        let error = planner.evaluate_rows(&insert(sql), Arc::clone(&schema)).unwrap_err();
        assert_eq!(error.message(), message, "{sql}");
        let found = error.position().map(|p| (p.line, p.column));
        assert_eq!(found, Some(place), "{sql}");
    }
}
