//! Proves what becomes of a plan by its EMIT clause, and which clauses are refused.

use super::*;
use crate::error::SqlErrorKind;

const WINDOW: &str = "SELECT component, count(*) AS n FROM TUMBLE(metrics, ts, INTERVAL '1 minute')
                      GROUP BY component, window_start, window_end";
const GROUPS: &str = "SELECT component, count(*) AS n FROM metrics GROUP BY component";

#[test]
fn a_delay_is_a_lag_of_the_scan() {
    let plan = plan(&format!("{WINDOW} EMIT ON WINDOW CLOSE WITH DELAY INTERVAL '5 seconds'"));
    let lines = plan.explain();
    assert_eq!(
        lines.last().unwrap().trim(),
        "Scan metrics, event time ts, rows up to INTERVAL '5 seconds' late"
    );
    assert_eq!(plan.scans()[0].late_ns, 5_000_000_000);
    assert_eq!(names(&plan), ["component", "n"]);
    let windows = "SELECT window_end, count(*) AS n FROM TUMBLE(metrics, ts, INTERVAL '1 minute')
                   GROUP BY window_start, window_end EMIT ON WINDOW CLOSE WITH DELAY INTERVAL '5 seconds'";
    let time = super::plan(windows).time.unwrap();
    assert_eq!(time.lag_ns, 5_000_000_000);
}

#[test]
fn the_outermost_window_gives_changes_and_what_is_above_changes_them() {
    let update = plan(&format!("{WINDOW} HAVING count(*) > 1 EMIT ON UPDATE"));
    assert_eq!(names(&update), ["component", "n", "_diff"]);
    assert_eq!((update.time, update.window_bounds.len()), (None, 0));
    let lines = update.explain();
    assert!(lines[0].starts_with("TransformChanges component, "), "{update}");
    assert!(
        lines[1].starts_with("  UpdateWindows tumble(INTERVAL '1 minute') on ts on update: "),
        "{update}"
    );
    let nested = "SELECT window_end, max(n) AS most FROM
           TUMBLE((SELECT window_end, count(*) AS n FROM TUMBLE(metrics, ts, INTERVAL '1 minute')
                   GROUP BY window_start, window_end), window_end, INTERVAL '1 hour')
         GROUP BY window_start, window_end EMIT EVERY INTERVAL '10 minutes'";
    let text = plan(nested).to_string();
    assert!(
        text.contains(
            "UpdateWindows tumble(INTERVAL '1 hour') on window_end every INTERVAL '10 minutes'"
        ),
        "{text}"
    );
    assert!(text.contains("AggregateWindows tumble(INTERVAL '1 minute')"), "{text}");
    let both = format!("{WINDOW} UNION ALL SELECT component, requests FROM metrics EMIT ON UPDATE");
    let text = plan(&both).to_string();
    assert!(text.contains("UpdateWindows") && text.contains("Additions"), "{text}");
}

#[test]
fn retained_rows_are_grouped_in_any_depth() {
    let retain = "EMIT ON UPDATE EVERY INTERVAL '1 minute' RETAIN INTERVAL '1 hour'";
    let groups = plan(&format!("{GROUPS} {retain}"));
    assert_eq!(names(&groups), ["component", "n", "_diff"]);
    let text = groups.to_string();
    let spelled = "UpdateGroups retain INTERVAL '1 hour' on ts every INTERVAL '1 minute': count(1) BY component";
    assert!(text.contains(spelled), "{text}");
    let distinct = plan(&format!("SELECT DISTINCT component FROM metrics WHERE cpu > 1 {retain}"));
    assert!(
        distinct.to_string().contains(
            "UpdateGroups retain INTERVAL '1 hour' on ts every INTERVAL '1 minute': BY component"
        ),
        "{distinct}"
    );
    assert_eq!(names(&distinct), ["component", "_diff"]);
    let nested = plan(&format!("SELECT max(n) AS most FROM ({GROUPS}) {retain}"));
    assert_eq!(nested.to_string().matches("UpdateGroups").count(), 2, "{nested}");
    assert_eq!(nested.to_string().matches("retain").count(), 1, "{nested}");
}

#[test]
fn joins_without_a_bound_retain_both_sides() {
    let retain = "EMIT ON UPDATE EVERY INTERVAL '1 minute' RETAIN INTERVAL '1 hour'";
    let joined = plan(&format!(
        "SELECT a.component, b.cpu FROM metrics a JOIN busy b ON a.requests = b.cpu AND a.component = b.component
         AND a.memory < b.cpu WHERE a.memory > 1 {retain}"
    ));
    assert_eq!(names(&joined), ["component", "cpu", "_diff"]);
    assert_eq!((joined.time, joined.window_bounds.len()), (None, 0));
    let lines = joined.explain();
    assert!(lines[0].starts_with("TransformChanges component, cpu WHERE memory < cpu"), "{joined}");
    let spelled =
        "  UpdateJoin retain INTERVAL '1 hour' on ts and at every INTERVAL '1 minute': INNER ON ";
    assert!(lines[1].starts_with(spelled), "{joined}");
    assert!(lines[2].contains("WHERE memory > 1"), "{joined}");
    let grouped = plan(&format!(
        "SELECT component, count(*) AS n FROM metrics LEFT JOIN busy USING (component) GROUP BY component {retain}"
    ));
    let text = grouped.to_string();
    assert!(text.contains("UpdateGroups: ") && text.contains("LEFT ON "), "{text}");
    // What is bounded stays as it is, also by WHERE and below an aggregate.
    let bounded =
        "SELECT a.component, count(*) AS n FROM metrics a JOIN busy b ON a.component = b.component
                   JOIN metrics c ON c.ts = b.at WHERE a.ts = b.at GROUP BY a.component";
    let text = plan(&format!("{bounded} {retain}")).to_string();
    assert_eq!(
        (text.matches("UpdateJoin").count(), text.matches(" Join ").count()),
        (0, 2),
        "{text}"
    );
}

#[test]
fn joins_that_cannot_be_retained_are_refused() {
    let try_join = |tail: &str| {
        let sql = format!(
            "SELECT a.component FROM metrics a {tail} EMIT ON UPDATE RETAIN INTERVAL '1 hour'"
        );
        let error = try_plan(&sql).map(|plan| panic!("{sql}: {plan}")).unwrap_err();
        assert!(error.position().is_some() && error.hint_text().is_some(), "{sql}: {error}");
        error.message().to_owned()
    };
    let more = "outer join of retained rows on more than equalities is not supported";
    assert_eq!(try_join("LEFT JOIN busy b ON a.component = b.component AND a.cpu < b.cpu"), more);
    assert_eq!(try_join("FULL JOIN busy b ON a.component = b.component AND b.cpu > 1"), more);
    assert_eq!(
        try_join("JOIN busy b ON a.cpu < b.cpu"),
        "join of retained rows without an equality is not supported"
    );
    assert_eq!(
        try_join("JOIN busy b ON a.cpu = b.cpu JOIN metrics c ON a.cpu = c.cpu"),
        "join over results that change is not supported"
    );
    assert_eq!(
        try_join("JOIN (SELECT cpu, count(*) AS n FROM metrics GROUP BY cpu) b ON a.cpu = b.cpu"),
        "join over results that change is not supported"
    );
    assert_eq!(
        try_join("JOIN untimed b ON a.component = b.component"),
        "RETAIN needs rows with event time on both sides of a join"
    );
    assert_eq!(
        try_join("JOIN busy b ON a.ts = b.at"),
        "RETAIN needs an aggregate or a join without a window"
    );
    let endless = try_plan("SELECT a.cpu FROM metrics a JOIN busy b ON a.cpu = b.cpu").unwrap_err();
    assert!(endless.hint_text().unwrap().contains("EMIT ON UPDATE RETAIN INTERVAL"), "{endless}");
}

#[test]
fn first_rows_of_retained_rows_are_an_operator_of_their_own() {
    let retain = "EMIT ON UPDATE RETAIN INTERVAL '1 hour'";
    let numbered = |order: &str, from: &str| {
        format!(
            "(SELECT *, row_number() OVER (PARTITION BY component ORDER BY {order}) AS place FROM {from})"
        )
    };
    let by_cpu = numbered("cpu DESC, ts", "metrics");
    for (filter, rows) in [
        ("place <= 3", 3),
        ("place < 3 AND cpu > 1", 2),
        ("4 >= place AND place <= 9", 4),
        ("place = 1", 1),
        ("place BETWEEN 2 AND 5", 5),
        ("place <= 0", 0),
    ] {
        let top = plan(&format!("SELECT component, cpu FROM {by_cpu} WHERE {filter} {retain}"));
        assert_eq!(names(&top), ["component", "cpu", "_diff"]);
        assert_eq!((top.time, top.window_bounds.len()), (None, 0));
        let spelled = format!(
            "UpdateTop retain INTERVAL '1 hour' on ts: first {rows} ORDER BY cpu DESC, ts PARTITION BY component"
        );
        assert!(top.to_string().contains(&spelled), "{filter}: {top}");
    }
    // Through names and other conditions, and by QUALIFY.
    let deep = "SELECT component FROM (SELECT component, best AS b FROM
                  (SELECT component, row_number() OVER (ORDER BY cpu) AS best FROM metrics) AS x WHERE best > 1) WHERE b <= 7";
    let text = plan(&format!("{deep} {retain}")).to_string();
    assert!(text.contains("on ts: first 7 ORDER BY cpu\n"), "{text}");
    let qualified =
        "SELECT ts FROM metrics QUALIFY row_number() OVER (PARTITION BY cpu ORDER BY ts DESC) < 3";
    let text = plan(&format!("{qualified} {retain}")).to_string();
    assert!(text.contains("first 2 ORDER BY ts DESC PARTITION BY cpu"), "{text}");
    // What changes below has no retention of its own.
    let groups =
        "(SELECT component, count(*) AS cpu, max(ts) AS ts FROM metrics GROUP BY component)";
    let text =
        plan(&format!("SELECT cpu FROM {} WHERE place = 1 {retain}", numbered("cpu", groups)))
            .to_string();
    assert!(text.contains("UpdateTop: first 1"), "{text}");
    assert_eq!(text.matches("retain").count(), 1, "{text}");
    let above = format!(
        "SELECT component, sum(cpu) AS cpu FROM {by_cpu} WHERE place <= 3 GROUP BY component {retain}"
    );
    let text = plan(&above).to_string();
    assert!(text.contains("UpdateGroups: ") && text.contains("UpdateTop retain"), "{text}");
    // The first row in the order of event time is known for good.
    let first = numbered("ts", "metrics");
    let text = plan(&format!(
        "SELECT component, count(*) AS n FROM {first} WHERE place = 1 GROUP BY component {retain}"
    ));
    assert!(text.to_string().contains("Over row_number()"), "{text}");
}

#[test]
fn first_rows_that_cannot_be_kept_are_refused() {
    let refused = |filter: &str, order: &str, from: &str, retain: &str| {
        let sql = format!(
            "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY component ORDER BY {order}) AS place FROM {from}) \
             WHERE {filter} EMIT ON UPDATE {retain}"
        );
        let error = try_plan(&sql).map(|plan| panic!("{sql}: {plan}")).unwrap_err();
        assert!(error.position().is_some(), "{sql}: {error}");
        (error.message().to_owned(), error.hint_text().unwrap_or_default().to_owned())
    };
    let retain = "RETAIN INTERVAL '1 hour'";
    let (message, hint) = refused("place <= 10001", "cpu", "metrics", retain);
    assert_eq!(
        message,
        "\"row_number\" that keeps more than 10000 rows of each key is not supported"
    );
    assert_eq!(hint, "keep fewer, or group by the key");
    let unordered = "window function \"row_number\" OVER rows that are not ordered by event time is not supported in a \
                     streaming query";
    for (filter, retain) in
        [("place > 2", retain), ("cpu <= 3", retain), ("place <= 2.5", retain), ("place <= 3", "")]
    {
        let (message, hint) = refused(filter, "cpu", "metrics", retain);
        assert_eq!(message, unordered, "{filter}");
        assert!(hint.contains("WHERE place <= 10") && hint.contains("RETAIN"), "{hint}");
    }
    let (message, _) = refused("place = 1", "abs(cpu)", "metrics", retain);
    assert_eq!(message, "expression in ORDER BY of \"row_number\" is not supported");
    let (message, _) = refused("place = 1", "cpu", "untimed", retain);
    assert_eq!(message, "RETAIN needs rows with event time");
}

#[test]
fn clauses_that_make_no_sense_are_refused_where_they_stand() {
    use SqlErrorKind::{Query as Wrong, Unsupported as Not};
    let plain = "SELECT component FROM metrics";
    let counted =
        "SELECT count(*) AS n FROM COUNT_WINDOW(metrics, 5) GROUP BY window_start, window_end";
    let numbered = "SELECT * FROM (SELECT n, row_number() OVER (PARTITION BY window_end ORDER BY n) AS place FROM
        (SELECT window_end, count(*) AS n FROM TUMBLE(metrics, INTERVAL '1 minute') GROUP BY window_end))";
    for (query, clause, kind, message) in [
        (
            plain,
            "ON WINDOW CLOSE WITH DELAY INTERVAL '1 minute'",
            Wrong,
            "WITH DELAY needs a window",
        ),
        (
            plain,
            "ON WINDOW CLOSE WITH CORRECTIONS",
            Wrong,
            "WITH CORRECTIONS needs an aggregate over a window",
        ),
        (plain, "EVERY INTERVAL '1 minute'", Wrong, "EVERY needs an aggregate"),
        (
            plain,
            "ON UPDATE RETAIN INTERVAL '1 minute'",
            Wrong,
            "RETAIN needs an aggregate or a join without a window",
        ),
        (
            WINDOW,
            "ON UPDATE RETAIN INTERVAL '1 minute'",
            Wrong,
            "RETAIN needs an aggregate or a join without a window",
        ),
        (counted, "ON UPDATE", Not, "COUNT_WINDOW whose results change is not supported"),
        (
            counted,
            "ON WINDOW CLOSE WITH CORRECTIONS",
            Not,
            "COUNT_WINDOW whose results change is not supported",
        ),
        (
            numbered,
            "ON UPDATE",
            Not,
            "a step over results that change is not supported, but for filters and projections",
        ),
        ("SELECT cpu AS _diff FROM metrics", "ON UPDATE", Wrong, "column \"_diff\" is there twice"),
    ] {
        let sql = format!("{query}\nEMIT {clause}");
        let error = try_plan(&sql).map(|plan| panic!("{sql}: {plan}")).unwrap_err();
        assert_eq!((error.kind(), error.message()), (kind, message), "{sql}");
        let lines = query.lines().count() as u64;
        assert_eq!(error.position().map(|p| (p.line, p.column)), Some((lines + 1, 1)), "{sql}");
        assert!(error.hint_text().is_some(), "{sql}");
    }
    let endless = try_plan(&format!("{GROUPS} EMIT ON UPDATE")).unwrap_err();
    assert_eq!(endless.message(), "aggregate without a window keeps its rows for ever");
    assert!(endless.hint_text().unwrap().contains("RETAIN INTERVAL"));
    let untimed = "SELECT component, count(*) FROM untimed GROUP BY component";
    let untimed =
        try_plan(&format!("{untimed} EMIT ON UPDATE RETAIN INTERVAL '1 hour'")).unwrap_err();
    assert_eq!(untimed.message(), "RETAIN needs rows with event time");
}
