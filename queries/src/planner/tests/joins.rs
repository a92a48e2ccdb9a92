//! Proves what joins become, what is known of their results, and which are refused.

use super::*;
use crate::error::SqlErrorKind;
use crate::plan::{JoinProgram, Node};

const MINUTE: i64 = 60_000_000_000;

/// The join at or right below the top of a plan.
fn join(plan: &Plan) -> (&JoinProgram, &[TimeColumn; 2]) {
    match &plan.node {
        Node::Join { join, times, .. } => (join, times),
        node => node.inputs().first().map(|input| join(input)).expect("the plan has a join"),
    }
}

/// Bounds of a join in nanoseconds, and how many key columns it has.
fn bounds(sql: &str) -> (i64, i64, usize) {
    let plan = plan(sql);
    match join(&plan).0 {
        JoinProgram::Pairs(spec) => (spec.lower_ns, spec.upper_ns, spec.keys[0].len()),
        JoinProgram::AsOf(spec) => {
            (spec.lower_ns, spec.upper_ns.unwrap_or(i64::MAX), spec.keys[0].len())
        }
    }
}

#[test]
fn a_join_says_what_it_compares() {
    let plan = plan(
        "SELECT a.component, a.ts, b.cpu FROM metrics a LEFT JOIN metrics b ON a.component = b.component
         AND a.ts BETWEEN b.ts - INTERVAL '1 minute' AND b.ts AND a.cpu < b.cpu AND b.memory > 1",
    );
    assert_eq!(
        plan.explain(),
        [
            "Transform component, ts, cpu",
            "  Join LEFT ON a.component = b.component AND a.ts BETWEEN b.ts - INTERVAL '1 minute' AND b.ts AND a.cpu < b.cpu",
            "    Scan metrics, event time ts",
            "    Transform * WHERE memory > 1",
            "      Scan metrics, event time ts",
        ]
    );
    assert_eq!(names(&plan), ["component", "ts", "cpu"]);
    assert!(plan.schema.field(2).is_nullable());
}

#[test]
fn times_are_compared_in_many_ways() {
    let on = |condition: &str| {
        bounds(&format!("SELECT a.ts FROM metrics a JOIN metrics b ON {condition}"))
    };
    assert_eq!(on("a.ts = b.ts"), (0, 0, 1));
    assert_eq!(on("a.ts = b.ts + INTERVAL '1 minute'"), (MINUTE, MINUTE, 1));
    assert_eq!(on("b.ts > a.ts AND b.ts <= a.ts + INTERVAL '1' MINUTE"), (-MINUTE, -1, 0));
    assert_eq!(
        on(
            "a.ts + INTERVAL '2 minutes' >= b.ts - INTERVAL '1 minute' AND b.ts > a.ts AND a.cpu = b.cpu"
        ),
        (-3 * MINUTE, -1, 1)
    );
    assert_eq!(
        on("INTERVAL '1 day' + a.ts > b.ts AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour'"),
        (-60 * MINUTE, 0, 0)
    );
    // The closest of several bounds, and of several times.
    let windows = "SELECT a.component FROM TUMBLE(metrics, ts, INTERVAL '1 minute') a
                   JOIN TUMBLE(metrics, ts, INTERVAL '1 minute') b ON a.window_start = b.window_start
                   AND a.window_end = b.window_end AND a.ts BETWEEN b.ts - INTERVAL '9 minutes' AND b.ts";
    assert_eq!(bounds(windows), (0, 0, 2));
    let where_ = "SELECT a.ts FROM metrics a JOIN metrics b ON a.cpu = b.cpu WHERE a.ts BETWEEN b.ts AND b.ts + INTERVAL '1 minute'";
    assert_eq!(bounds(where_), (0, MINUTE, 1));
    // Columns of other units and, where it is UTC, of another zone.
    let units = "SELECT a.ts FROM metrics a JOIN zoned b ON a.ts >= b.ts AND a.ts < b.ts + INTERVAL '1 minute'";
    assert_eq!(bounds(units), (0, MINUTE - 1, 0));
}

#[test]
fn asof_joins_look_back() {
    let keys = "a.component = b.component";
    for sql in [
        format!(
            "SELECT a.ts FROM metrics a ASOF JOIN metrics b MATCH_CONDITION (a.ts >= b.ts) ON {keys}"
        ),
        format!("SELECT a.ts FROM metrics a ASOF JOIN metrics b ON {keys} AND a.ts >= b.ts"),
        format!(
            "SELECT a.ts FROM metrics a ASOF LEFT OUTER JOIN metrics b MATCH_CONDITION (b.ts <= a.ts) ON {keys}"
        ),
    ] {
        assert_eq!(bounds(&sql), (0, i64::MAX, 1), "{sql}");
    }
    let near = "SELECT a.ts FROM metrics a ASOF JOIN metrics b MATCH_CONDITION (a.ts > b.ts) ON a.ts < b.ts + INTERVAL '1 minute'";
    assert_eq!(bounds(near), (1, MINUTE - 1, 0));
    let plan = plan(
        "SELECT a.ts, b.ts AS before FROM metrics a ASOF LEFT JOIN metrics b MATCH_CONDITION (a.ts >= b.ts) ON a.cpu = b.cpu",
    );
    assert_eq!(plan.explain()[1].trim(), "Join ASOF LEFT ON a.cpu = b.cpu AND a.ts >= b.ts");
    assert_eq!(plan.time, Some(TimeColumn { index: 0, lag_ns: 0 }));
}

#[test]
fn results_lie_back_by_what_a_row_may_wait() {
    let time = |columns: &str, kind: &str| {
        plan(&format!(
            "SELECT {columns} FROM metrics a {kind} metrics b
             ON a.ts BETWEEN b.ts - INTERVAL '1 minute' AND b.ts + INTERVAL '2 minutes'"
        ))
        .time
    };
    let at = |lag_ns| Some(TimeColumn { index: 0, lag_ns });
    // A right row matches left rows that are up to a minute older, a left row right rows up to two minutes older.
    for (columns, kind, expected) in [
        ("a.ts", "JOIN", at(MINUTE)),
        ("b.ts", "JOIN", at(2 * MINUTE)),
        ("a.ts", "LEFT JOIN", at(MINUTE)),
        ("b.ts", "LEFT JOIN", None),
        ("b.ts", "RIGHT JOIN", at(2 * MINUTE)),
        ("a.ts", "FULL JOIN", None),
        ("a.cpu", "JOIN", None),
    ] {
        assert_eq!(time(columns, kind), expected, "{columns} {kind}");
    }
    // What lies back on the way in lies back on the way out.
    let windows = plan(
        "SELECT a.window_start FROM (SELECT window_start, count(*) AS n FROM metrics GROUP BY tumble(INTERVAL '1 hour')) a
         JOIN metrics b ON a.window_start = b.ts",
    );
    assert_eq!(windows.time, at(60 * MINUTE));
}

#[test]
fn groups_and_distinct_rows_end_with_their_event_time() {
    let window = "SELECT component, window_start, window_end, count(*) AS n FROM metrics
                  GROUP BY component, tumble(INTERVAL '1 minute')";
    let cascade = plan(&format!(
        "SELECT max(n), window_end FROM ({window}) GROUP BY window_start, window_end"
    ));
    let unit = 1_000_000;
    assert_eq!(cascade.time, Some(TimeColumn { index: 1, lag_ns: unit }));
    let numbered = format!(
        "SELECT ROW_NUMBER() OVER (PARTITION BY window_end ORDER BY n) AS place FROM (
           SELECT window_end, n, count(*) AS same FROM ({window}) GROUP BY window_end, n)"
    );
    assert!(plan(&numbered).explain().iter().any(|line| line.contains("NumberRows")));
    let distinct = plan("SELECT DISTINCT component, ts FROM metrics");
    assert_eq!(distinct.explain()[0], "Distinct until ts is past");
    assert_eq!(distinct.time, Some(TimeColumn { index: 1, lag_ns: 0 }));
    let union = plan("SELECT ts FROM metrics UNION SELECT ts FROM metrics");
    assert_eq!(union.explain()[0], "Distinct until ts is past");
}

#[test]
fn rows_of_windows_can_be_numbered_after_an_inner_join() {
    let numbered = |kind: &str| {
        let window = "(SELECT window_end, component, count(*) AS n FROM metrics GROUP BY component, tumble(INTERVAL '1 minute'))";
        try_plan(&format!(
            "SELECT *, ROW_NUMBER() OVER (PARTITION BY window_end ORDER BY n) AS place FROM (
               SELECT a.window_end, a.n FROM {window} a {kind} {window} b ON a.window_end = b.window_end)"
        ))
    };
    assert!(numbered("JOIN").is_ok());
    let error = numbered("LEFT JOIN").unwrap_err();
    assert!(error.message().contains("row_number"), "{error}");
}

#[test]
fn joins_that_would_hold_rows_for_ever_are_refused() {
    use SqlErrorKind::{Query as Wrong, Unsupported as Not};
    for (tail, kind, message, hint) in [
        (
            "JOIN metrics b ON a.cpu = b.cpu",
            Not,
            "join with \"b\" is not bounded in time",
            "a.ts BETWEEN b.ts - INTERVAL",
        ),
        (
            "JOIN metrics b ON a.ts >= b.ts",
            Not,
            "join with \"b\" is not bounded in time",
            "BETWEEN",
        ),
        (
            "JOIN metrics b ON a.ts BETWEEN b.ts - INTERVAL '1 month' AND b.ts",
            Not,
            "join with \"b\" is not bounded in time",
            "BETWEEN",
        ),
        (
            "LEFT JOIN metrics b ON a.cpu = b.cpu WHERE a.ts = b.ts",
            Not,
            "join with \"b\" is not bounded in time",
            "ON",
        ),
        (
            "JOIN untimed b ON a.ts = b.ts",
            Not,
            "join with \"b\" is not bounded in time",
            "both sides need an event time",
        ),
        (
            "JOIN metrics b ON a.ts = date_trunc('hour', b.ts)",
            Not,
            "join with \"b\" is not bounded in time",
            "BETWEEN",
        ),
        (
            "CROSS JOIN metrics b",
            Not,
            "CROSS JOIN is not supported in a streaming query",
            "ON a.k = b.k",
        ),
        (
            "NATURAL JOIN metrics b",
            Not,
            "NATURAL JOIN is not supported in a streaming query",
            "USING",
        ),
        (
            "JOIN metrics b",
            Not,
            "JOIN without ON is not supported in a streaming query",
            "ON a.k = b.k",
        ),
        (
            "LEFT SEMI JOIN metrics b ON a.ts = b.ts",
            Not,
            "a semi or anti join is not supported in a streaming query",
            "IS NOT NULL",
        ),
        (
            "JOIN LATERAL (SELECT * FROM metrics) b ON a.ts = b.ts",
            Not,
            "LATERAL is not supported in a streaming query",
            "stands alone",
        ),
        (
            "JOIN metrics b ON a.ts = b.ts AND a.cpu IN (SELECT cpu FROM metrics)",
            Not,
            "a subquery in an expression is not supported in a streaming query",
            "FROM",
        ),
        (
            "ASOF JOIN metrics b MATCH_CONDITION (a.ts <= b.ts) ON a.cpu = b.cpu",
            Wrong,
            "ASOF JOIN does not look back in event time",
            "a.ts >= b.ts",
        ),
        (
            "ASOF JOIN metrics b ON a.cpu = b.cpu",
            Wrong,
            "ASOF JOIN does not look back in event time",
            "a.ts >= b.ts",
        ),
        (
            "ASOF JOIN metrics b MATCH_CONDITION (a.ts >= b.ts) ON a.cpu < b.cpu",
            Wrong,
            "ASOF JOIN has a condition that is neither an equality nor on both times",
            "subquery",
        ),
        (
            "ASOF JOIN metrics b MATCH_CONDITION (a.ts >= b.ts) ON a.cpu = b.cpu OR true",
            Wrong,
            "conditions of ASOF JOIN are not joined by AND",
            "MATCH_CONDITION",
        ),
    ] {
        let sql = format!("SELECT a.cpu FROM metrics a {tail}");
        let error = try_plan(&sql).unwrap_err();
        assert_eq!((error.message(), error.kind()), (message, kind), "{sql}");
        let found = error.hint_text().unwrap_or_default();
        assert!(found.contains(hint), "{sql}: {found}");
        assert!(error.position().is_some(), "{sql}");
    }
    for sql in [
        "SELECT count(*) FROM metrics a JOIN metrics b ON a.ts = b.ts GROUP BY tumble(INTERVAL '1 minute')",
        "SELECT DISTINCT ON (component) component, ts FROM metrics",
        "SELECT ts FROM metrics UNION BY NAME SELECT ts FROM metrics",
        "SELECT cpu FROM metrics UNION SELECT cpu FROM metrics",
        "SELECT \"asof match\"(cpu) FROM metrics",
        "SELECT * FROM metrics a ASOF JOIN metrics b USING (ts)",
    ] {
        let error = try_plan(sql).unwrap_err();
        assert!(error.position().is_some(), "{sql}: {error}");
    }
    let many = " JOIN metrics USING (ts)".repeat(17);
    assert!(try_plan(&format!("SELECT 1 FROM metrics {many}")).is_err());
}

#[test]
fn views_that_double_are_refused_soon() {
    let source = "CREATE SOURCE v0 (k TEXT, ts TIMESTAMP, WATERMARK FOR ts)";
    let view = |n: usize| {
        let before = n - 1;
        format!(
            "; CREATE VIEW v{n} AS SELECT a.k, a.ts FROM v{before} a JOIN v{before} b ON a.k = b.k AND a.ts = b.ts"
        )
    };
    let shelf = Shelf::of(&(1..=14).fold(source.to_owned(), |sql, n| sql + &view(n)));
    let plan = |name: &str| {
        let query = Query::parse(&format!("SELECT k FROM {name}")).unwrap();
        Planner::new(Functions::new()).plan_query(&query, &shelf)
    };
    assert_eq!(plan("v4").unwrap().scans().len(), 16);
    let error = plan("v14").unwrap_err();
    assert!(error.message().contains("reads more than 1024 relations"), "{error}");
}
