//! Proves what the parser takes, what it refuses, and where it points.

use arrow::datatypes::{DataType, TimeUnit};
use driftline_operators::options::OptionValue;

use crate::error::{Position, SqlError, SqlErrorKind};
use crate::statement::{Emit, ModelFile, Name, ObjectKind, Query, Show, Statement};
use crate::{parse_script, parse_statements};

const SECOND: i64 = 1_000_000_000;

fn one(sql: &str) -> Statement {
    let mut statements = parse_statements(sql).unwrap_or_else(|e| panic!("{sql}\n{e}"));
    assert_eq!(statements.len(), 1);
    statements.remove(0)
}

fn error(sql: &str) -> SqlError {
    parse_statements(sql).map(|s| panic!("{sql} is taken for {s:?}")).unwrap_err()
}

/// Asserts message and place; returns the hint.
fn refused(sql: &str, message: &str, (line, column): (u64, u64)) -> String {
    let error = error(sql);
    assert_eq!(error.message(), message, "{sql}");
    assert_eq!(error.position(), Some(Position { line, column }), "{sql}");
    error.hint_text().unwrap_or_default().to_owned()
}

#[test]
fn sources_have_columns_a_watermark_and_options() {
    let Statement::CreateSource(source) = one(
        "CREATE SOURCE IF NOT EXISTS Metrics (component TEXT NOT NULL, \"Ts\" TIMESTAMP(6) WITH TIME ZONE, cpu DOUBLE, n BIGINT,
          ok BOOLEAN, price DECIMAL(10, 2), tags TEXT[], d DATE,
          WATERMARK FOR \"Ts\" AS \"Ts\" - INTERVAL '10' SECOND IDLE TIMEOUT INTERVAL '1 minute')
         WITH (allowed_lateness = INTERVAL '5 seconds', 'Format' = 'json', rate = -1.5, limit_rows = 10, strict = TRUE, mode = fast)",
    ) else {
        panic!("not a source")
    };
    assert_eq!(source.name.text, "metrics");
    assert!(source.if_not_exists);
    let kinds: Vec<(&str, &DataType, bool)> = source
        .columns
        .iter()
        .map(|column| (column.name().as_str(), column.data_type(), column.is_nullable()))
        .collect();
    assert_eq!(kinds[0], ("component", &DataType::Utf8, false));
    let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    assert_eq!(kinds[1], ("Ts", &zoned, true));
    assert_eq!(kinds[2], ("cpu", &DataType::Float64, true));
    assert_eq!(kinds[3], ("n", &DataType::Int64, true));
    assert_eq!(kinds[4], ("ok", &DataType::Boolean, true));
    assert_eq!(kinds[5], ("price", &DataType::Decimal128(10, 2), true));
    assert!(matches!(kinds[6].1, DataType::List(_)));
    assert_eq!(kinds[7].1, &DataType::Date32);
    let watermark = source.watermark.unwrap();
    assert_eq!(watermark.column.text, "Ts");
    assert_eq!(watermark.delay_ns, Some(10 * SECOND));
    assert_eq!(watermark.idle_timeout_ns, Some(60 * SECOND));
    let options: Vec<(&str, &OptionValue)> =
        source.options.iter().map(|entry| (entry.name.text.as_str(), &entry.value)).collect();
    assert_eq!(options[0], ("allowed_lateness", &OptionValue::Interval(5 * SECOND)));
    assert_eq!(options[1], ("format", &OptionValue::Text("json".into())));
    assert_eq!(options[2], ("rate", &OptionValue::Number(-1.5)));
    assert_eq!(options[3], ("limit_rows", &OptionValue::Integer(10)));
    assert_eq!(options[4], ("strict", &OptionValue::Boolean(true)));
    assert_eq!(options[5], ("mode", &OptionValue::Text("fast".into())));
}

#[test]
fn watermarks_have_three_forms() {
    let delay = |clause: &str| {
        let sql = format!("CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts {clause})");
        match one(&sql) {
            Statement::CreateSource(source) => source.watermark.unwrap().delay_ns,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(delay(""), None);
    assert_eq!(delay("IDLE TIMEOUT INTERVAL 5 MINUTE"), None);
    assert_eq!(delay("AS ts"), Some(0));
    assert_eq!(delay("AS ts - INTERVAL '1 day'"), Some(86_400 * SECOND));
}

#[test]
fn watermarks_of_other_forms_are_refused_at_their_place() {
    let hint = refused(
        "CREATE SOURCE s (ts TIMESTAMP,\n WATERMARK FOR ts AS ts + INTERVAL '1 second')",
        "expected IDLE TIMEOUT, \",\" or \")\", found \"+\"",
        (2, 25),
    );
    assert!(hint.contains("WATERMARK FOR ts AS ts - INTERVAL"), "{hint}");
    refused(
        "CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS ts - 5)",
        "expected INTERVAL, found \"5\"",
        (1, 57),
    );
    refused(
        "CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR t AS t)",
        "column \"t\" not found in the source",
        (1, 46),
    );
    refused(
        "CREATE SOURCE s (ts TEXT, WATERMARK FOR ts)",
        "event-time column \"ts\" is a Utf8",
        (1, 41),
    );
    refused(
        "CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS other)",
        "watermark for \"ts\" is computed from \"other\"",
        (1, 52),
    );
    refused(
        "CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 month')",
        "interval '1 month' has months, whose length varies",
        (1, 66),
    );
    refused(
        "CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '-1 second')",
        "interval is -1000000000 ns, outside 0 ns to 400 days",
        (1, 57),
    );
    refused(
        "CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts, WATERMARK FOR ts)",
        "source has two watermarks",
        (1, 50),
    );
}

#[test]
fn sources_with_mistakes_are_refused_at_their_place() {
    refused("CREATE SOURCE s (a TEXT, a TEXT)", "column \"a\" is there twice", (1, 26));
    refused("CREATE SOURCE s (a FANCY)", "type FANCY is not supported", (1, 20));
    refused("CREATE SOURCE s (a TIMESTAMP(4))", "type TIMESTAMP(4) is not supported", (1, 20));
    refused("CREATE SOURCE s ()", "expected a column or WATERMARK FOR, found \")\"", (1, 18));
    refused("CREATE SOURCE s", "expected \"(\", found the end of the statement", (1, 16));
    refused("CREATE SOURCE a.s (x TEXT)", "the name of a source has a schema", (1, 16));
    refused(
        "CREATE SOURCE s (a TEXT, PRIMARY KEY (a))",
        "sources and tables have no constraints",
        (1, 26),
    );
    refused(
        "CREATE SOURCE s (a TEXT DEFAULT 'x')",
        "column option \"DEFAULT 'x'\" is not supported",
        (1, 33),
    );
    refused("CREATE SOURCE s (a TEXT) WITH (x = 1, X = 2)", "option \"x\" is given twice", (1, 39));
    refused(
        "CREATE SOURCE s (a TEXT) WITH (x = (1))",
        "expected the value of an option, found \"(\"",
        (1, 36),
    );
}

#[test]
fn detectors_have_kind_partition_options_and_query() {
    let Statement::CreateDetector(detector) = one(
        "CREATE DETECTOR drift USING Drift_Insight PARTITION BY component, zone WITH (eps = 0.5, min_points = 10) AS
         SELECT component, window_end, avg(cpu) AS cpu
         FROM TUMBLE(metrics, ts, INTERVAL '5 minutes') GROUP BY component, window_start, window_end EMIT ON WINDOW CLOSE;",
    ) else {
        panic!("not a detector")
    };
    assert_eq!(detector.name.text, "drift");
    assert_eq!(detector.kind.text, "drift_insight");
    let partition: Vec<&str> = detector.partition_by.iter().map(|c| c.text.as_str()).collect();
    assert_eq!(partition, ["component", "zone"]);
    assert_eq!(detector.options.len(), 2);
    assert!(detector.query.text().starts_with("SELECT component"));
    assert!(detector.query.text().ends_with("window_start, window_end"));
    assert_eq!(Query::parse(detector.query.text()).unwrap().text(), detector.query.text());
    refused("CREATE DETECTOR d AS SELECT 1", "expected USING, found \"AS\"", (1, 19));
    refused(
        "CREATE DETECTOR d USING mad PARTITION BY a, a AS SELECT * FROM t",
        "column \"a\" is there twice",
        (1, 45),
    );
}

#[test]
fn the_other_statements_parse() {
    assert!(matches!(one("CREATE OR REPLACE VIEW v AS SELECT * FROM t"),
        Statement::CreateView(view) if view.or_replace && view.query.text() == "SELECT * FROM t"));
    assert!(matches!(one("CREATE SINK s WITH (path = 'x.parquet')"),
        Statement::CreateSink(sink) if sink.query.is_none() && sink.options.len() == 1));
    assert!(matches!(one("CREATE SINK s AS SELECT * FROM t"),
        Statement::CreateSink(sink) if sink.query.is_some()));
    for (word, kind) in [
        ("SOURCE", ObjectKind::Source),
        ("view", ObjectKind::View),
        ("Detector", ObjectKind::Detector),
        ("SINK", ObjectKind::Sink),
    ] {
        assert!(matches!(one(&format!("DROP {word} IF EXISTS \"A b\"")),
            Statement::Drop(drop) if drop.kind == kind && drop.if_exists && drop.name.text == "A b"));
    }
    assert!(matches!(one("INSERT INTO s (a, b) VALUES (1, 'x'), (2, NULL)"),
        Statement::InsertValues(insert) if insert.row_count() == 2 && insert.columns.len() == 2));
    assert!(matches!(one("INSERT INTO s SELECT * FROM t"), Statement::InsertSelect(_)));
    assert!(matches!(
        one("INSERT INTO s WITH x AS (SELECT * FROM t) SELECT * FROM x"),
        Statement::InsertSelect(_)
    ));
    assert_eq!(one("show detector kinds"), Statement::Show(Show::Kinds));
    assert_eq!(one("SHOW FUNCTIONS"), Statement::Show(Show::Functions));
    assert!(matches!(one("EXPLAIN SELECT * FROM t"),
        Statement::Explain(inner) if matches!(*inner.statement, Statement::Query(_))));
    assert!(matches!(one("EXPLAIN CREATE DETECTOR d USING mad AS SELECT * FROM t"),
        Statement::Explain(inner) if matches!(*inner.statement, Statement::CreateDetector(_))));
    let script =
        parse_script("-- a comment; with a semicolon\nSELECT 'a;b' FROM t ;; SHOW VIEWS; ")
            .unwrap();
    assert_eq!(script.len(), 2);
    assert_eq!(script[0].text, "SELECT 'a;b' FROM t");
    assert_eq!(script[1].text, "SHOW VIEWS");
    assert!(parse_statements(" -- nothing\n ").unwrap().is_empty());
}

/// Asserts place and a part of the message; returns the hint.
fn refused_like(sql: &str, part: &str, (line, column): (u64, u64)) -> String {
    let error = error(sql);
    assert!(error.message().contains(part), "{sql}: {error}");
    assert_eq!(error.position(), Some(Position { line, column }), "{sql}: {error}");
    error.hint_text().unwrap_or_default().to_owned()
}

#[test]
fn emit_is_cut_only_where_it_is_a_clause() {
    let text = |sql: &str| match one(sql) {
        Statement::Query(query) => query.text().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(text("SELECT * FROM t EMIT ON WINDOW CLOSE"), "SELECT * FROM t");
    assert_eq!(text("SELECT emit FROM t"), "SELECT emit FROM t");
    assert_eq!(text("SELECT * FROM t AS emit"), "SELECT * FROM t AS emit");
    assert_eq!(text("SELECT * FROM t EMIT ON UPDATE"), "SELECT * FROM t EMIT ON UPDATE");
    for (sql, place) in [
        ("SELECT * FROM t\nEMIT CHANGES", (2, 6)),
        ("SELECT * FROM t EMIT ON WINDOW", (1, 25)),
        ("SELECT * FROM t EMIT ON WINDOW CLOSE WITH LOVE", (1, 43)),
    ] {
        assert!(refused_like(sql, "expected ", place).contains("EMIT ON UPDATE"), "{sql}");
    }
}

#[test]
fn every_form_of_emit_is_read_and_written() {
    const MINUTE: i64 = 60_000_000_000;
    let update = |every_ns, retain_ns| Emit::Update { every_ns, retain_ns };
    for (clause, expected) in [
        ("ON WINDOW CLOSE", Emit::default()),
        ("ON WINDOW CLOSE WITH DELAY INTERVAL '1' MINUTE", Emit::WindowClose { delay_ns: MINUTE }),
        ("on window close with corrections", Emit::Corrections { for_ns: 0 }),
        (
            "ON WINDOW CLOSE WITH CORRECTIONS FOR INTERVAL '60 seconds'",
            Emit::Corrections { for_ns: MINUTE },
        ),
        ("ON UPDATE", update(None, None)),
        ("EVERY INTERVAL 1 MINUTE", update(Some(MINUTE), None)),
        ("ON UPDATE EVERY INTERVAL '1 minute'", update(Some(MINUTE), None)),
        ("ON UPDATE RETAIN INTERVAL '1 hour'", update(None, Some(60 * MINUTE))),
        (
            "ON UPDATE EVERY INTERVAL '1' MINUTE RETAIN INTERVAL '1 hour'",
            update(Some(MINUTE), Some(60 * MINUTE)),
        ),
        (
            "ON UPDATE RETAIN INTERVAL '1 hour' EVERY INTERVAL '1 minute'",
            update(Some(MINUTE), Some(60 * MINUTE)),
        ),
    ] {
        let query = Query::parse(&format!("SELECT a FROM t EMIT {clause}")).unwrap();
        assert_eq!(query.emit(), expected, "{clause}");
        assert_eq!(Query::parse(query.text()).unwrap().emit(), expected, "{clause}");
        for statement in ["INSERT INTO s SELECT a FROM t", "CREATE SINK s AS SELECT a FROM t"] {
            one(&format!("{statement} EMIT {clause}"));
        }
    }
    for (clause, problem, column) in [
        ("ON UPDATE EVERY INTERVAL '0 seconds'", "interval is 0 ns", 38),
        ("ON UPDATE RETAIN INTERVAL '401 days'", "outside 1 ns to 400 days", 39),
        ("ON UPDATE EVERY 5", "expected INTERVAL", 38),
        ("ON UPDATE EVERY INTERVAL '1 month'", "has months", 47),
        ("ON WINDOW CLOSE WITH DELAY INTERVAL '1 minute' FOR", "expected", 69),
        (
            "EVERY INTERVAL '1 minute' EVERY INTERVAL '1 minute'",
            "expected the end of the EMIT clause",
            48,
        ),
    ] {
        refused_like(&format!("SELECT a FROM t EMIT {clause}"), problem, (1, column));
    }
}

#[test]
fn emit_stands_at_the_end_of_a_query_that_runs() {
    let hint = refused_like(
        "CREATE VIEW v AS SELECT a FROM t EMIT ON UPDATE",
        "a view has no EMIT",
        (1, 34),
    );
    assert!(hint.contains("the query that reads the view"));
    let detector = "CREATE DETECTOR d USING mad AS SELECT a FROM t EMIT EVERY INTERVAL '1 minute'";
    refused_like(detector, "a detector has no EMIT", (1, 48));
    for (sql, column) in [
        ("SELECT a FROM (SELECT a FROM t EMIT ON UPDATE)", 32),
        ("WITH w AS (SELECT a FROM t EMIT ON WINDOW CLOSE) SELECT a FROM w", 28),
    ] {
        assert!(
            refused_like(sql, "EMIT in a subquery", (1, column)).contains("the end of the query")
        );
    }
}

#[test]
fn explanations_have_a_form_and_running_queries_a_name() {
    use crate::statement::{Analyze, Explain, ExplainFormat};
    let form = |sql: &str| match one(sql) {
        Statement::Explain(Explain { format, .. }) => format,
        other => panic!("{other:?}"),
    };
    assert_eq!(form("EXPLAIN (SELECT * FROM t)"), ExplainFormat::Text);
    assert_eq!(form("explain (format mermaid) SELECT * FROM t"), ExplainFormat::Mermaid);
    assert_eq!(form("EXPLAIN (FORMAT DOT) INSERT INTO s SELECT * FROM t"), ExplainFormat::Dot);
    let named = |sql: &str| match one(sql) {
        Statement::Analyze(Analyze { query, format }) => (query.text, format),
        other => panic!("{other:?}"),
    };
    let text = |name: &str| (name.to_owned(), ExplainFormat::Text);
    assert_eq!(named("EXPLAIN ANALYZE DETECTOR Odd"), text("detector \"odd\""));
    assert_eq!(named("EXPLAIN ANALYZE QUERY 'subscription 3'"), text("subscription 3"));
    assert_eq!(named("EXPLAIN ANALYZE (FORMAT DOT) QUERY 3"), ("3".into(), ExplainFormat::Dot));
    refused(
        "EXPLAIN ANALYZE QUERY three",
        "expected the name of a query, found \"three\"",
        (1, 23),
    );
    refused("EXPLAIN (FORMAT) SELECT 1", "expected a format, found \")\"", (1, 16));
}

#[test]
fn tables_have_columns_or_a_file() {
    let table = |sql: &str| match one(sql) {
        Statement::CreateTable(create) => create,
        other => panic!("{other:?}"),
    };
    let declared = table("CREATE TABLE IF NOT EXISTS t (host TEXT NOT NULL, n BIGINT)");
    assert_eq!((declared.columns.len(), declared.options.len()), (2, 0));
    assert!(declared.if_not_exists && !declared.columns[0].is_nullable());
    let read = table("CREATE OR REPLACE TABLE t WITH (path = 'a.csv')");
    assert!(read.or_replace && read.columns.is_empty() && read.options.len() == 1);
    assert_eq!(one("SHOW TABLES"), Statement::Show(Show::Tables));
    assert!(matches!(one("DROP TABLE t"), Statement::Drop(drop) if drop.kind == ObjectKind::Table));
    refused("CREATE TABLE t", "table \"t\" has neither columns nor a file", (1, 14));
    refused("CREATE TABLE t (a INT, a INT)", "column \"a\" is there twice", (1, 24));
}

#[test]
fn models_go_to_files_and_come_from_them() {
    let name = Name { text: "d".into(), position: Position { line: 1, column: 17 } };
    let file = |path: &str| ModelFile { name: name.clone(), path: path.to_owned() };
    assert_eq!(
        parse_statements("EXPORT DETECTOR d TO 'a b.models'; ").unwrap(),
        [Statement::ExportDetector(file("a b.models"))]
    );
    assert_eq!(
        parse_statements("import detector D from '/x'").unwrap(),
        [Statement::ImportDetector(file("/x"))]
    );
    refused("EXPORT DETECTOR d 'x'", "expected TO, found \"'x'\"", (1, 19));
    refused("IMPORT DETECTOR d FROM x", "expected a path, found \"x\"", (1, 24));
}

#[test]
fn feedback_names_anomalies_by_columns() {
    let found = parse_statements(
        "ALTER DETECTOR d FEEDBACK (block, TS) VALUES ('a', NULL), ('b', '2008-11-09')",
    );
    let [Statement::Feedback(feedback)] = &found.unwrap()[..] else { panic!("it is feedback") };
    let columns: Vec<&str> = feedback.columns.iter().map(|name| name.text.as_str()).collect();
    assert_eq!((feedback.target.text.as_str(), feedback.row_count()), ("d", 2));
    assert_eq!(columns, ["block", "ts"]);
    refused("ALTER DETECTOR d RETRAIN", "expected FEEDBACK, found \"RETRAIN\"", (1, 18));
    refused(
        "ALTER DETECTOR d FEEDBACK (a, a) VALUES (1, 2)",
        "column \"a\" is there twice",
        (1, 31),
    );
    let message = "expected VALUES, found \"SELECT\"";
    refused("ALTER DETECTOR d FEEDBACK SELECT * FROM e", message, (1, 27));
}

#[test]
fn what_is_not_there_is_unsupported() {
    for (sql, message) in [
        ("CREATE MATERIALIZED VIEW v AS SELECT 1", "materialized views are not supported"),
        ("ALTER SOURCE s ADD COLUMN a INT", "statement ALTER is not supported"),
        ("ALTER DETECTOR d FEEDBACK VALUES (1) LIMIT 1", "VALUES stands alone in FEEDBACK"),
        ("EXPORT MODEL d", "statement EXPORT is not supported"),
        ("CREATE TABLE t AS SELECT 1", "a table is not made from a query"),
        ("CREATE TABLE t (ts TIMESTAMP, WATERMARK FOR ts)", "a table has no watermark"),
        ("EXPLAIN SHOW SOURCES", "statement has no plan to explain"),
        ("CREATE OR REPLACE SINK s", "OR REPLACE is for views and tables"),
        ("DROP SOURCE s CASCADE", "DROP has no CASCADE"),
    ] {
        let error = error(sql);
        assert_eq!(error.kind(), SqlErrorKind::Unsupported, "{sql}");
        assert_eq!(error.message(), message);
        assert!(error.position().is_some() && error.hint_text().is_some(), "{sql}");
    }
}

#[test]
fn syntax_errors_point_at_the_token() {
    refused("SELECT *\nFORM t", "expected the end of the statement, found \"FORM\"", (2, 1));
    refused("SELECT * FROM", "expected identifier, found the end of the statement", (1, 14));
    refused("SELECT (1 FROM t", "expected ), found \"FROM\"", (1, 11));
    refused("SELECT * FROM t; SELEKT 1", "expected a statement, found \"SELEKT\"", (1, 18));
    refused("SELECT 'abc", "unterminated string literal", (1, 8));
    refused(
        "SELECT * FROM t WHERE a = 'ü' AND ; ",
        "expected an expression, found the end of the statement",
        (1, 35),
    );
}

#[test]
fn too_much_is_an_error_and_not_a_crash() {
    let chain = format!("SELECT {} FROM t", vec!["1"; 100_000].join("+"));
    assert_eq!(error(&chain).message(), "expression has more than 1000 terms");
    let ors = format!("SELECT * FROM t WHERE {}", vec!["a = 1"; 50_000].join(" OR "));
    assert!(error(&ors).message().starts_with("expression has more than"));
    let nots = format!("SELECT {} a FROM t", "NOT ".repeat(1_000));
    error(&nots);
    let parens = format!("SELECT {}1{} FROM t", "(".repeat(5_000), ")".repeat(5_000));
    assert!(error(&parens).message().contains("levels deep"));
    let froms = format!("SELECT * FROM {}t{}", "(".repeat(23), ")".repeat(23));
    assert!(parse_statements(&froms).is_ok());
    let calls = format!("SELECT {}1{} FROM t", "f(".repeat(23), ")".repeat(23));
    assert!(parse_statements(&calls).is_ok());
    let cases = format!("SELECT {} 1 FROM t", "CASE WHEN 1 THEN 2 END + ".repeat(10_000));
    assert!(error(&cases).message().starts_with("expression has more than"));
    let nested = format!("SELECT {}", "(1+1+1+1+".repeat(300));
    assert!(error(&nested).message().contains("levels deep"));
    let types = format!("CREATE SOURCE s (a {}INT{})", "ARRAY<".repeat(400), ">".repeat(400));
    assert!(error(&types).message().contains("levels deep"));
    let explains = "EXPLAIN ".repeat(100_000);
    assert!(error(&explains).message().starts_with("expression has more than"));
    let unions = vec!["SELECT a, b FROM t"; 5_000].join(" UNION ");
    assert!(error(&unions).message().starts_with("expression has more than"));
    let long = " ".repeat((1 << 20) + 1);
    assert_eq!(error(&long).message(), "text has 1048577 bytes, over the limit of 1048576");
    let list = format!("SELECT * FROM t WHERE a IN ({})", vec!["1"; 50_000].join(","));
    assert!(parse_statements(&list).is_ok());
    let many = "SHOW VIEWS;".repeat(50_000);
    assert_eq!(parse_statements(&many).unwrap().len(), 50_000);
}
