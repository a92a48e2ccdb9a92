//! What the planner makes of OVER, and what it refuses.

use driftline_operators::time::SPAN_NS_MAX;

use super::*;
use crate::error::SqlErrorKind;

const SECOND: i64 = 1_000_000_000;

#[test]
fn calls_of_one_window_are_one_step() {
    let plan = plan(
        "SELECT component, cpu - lag(cpu) OVER w AS difference, avg(cpu) OVER (PARTITION BY component ORDER BY ts ROWS 9 PRECEDING) AS mean \
         FROM metrics WINDOW w AS (PARTITION BY component ORDER BY ts)",
    );
    let lines: Vec<String> = plan.explain().iter().map(|line| line.trim().to_owned()).collect();
    assert_eq!(
        lines,
        [
            "Transform component, cpu - lag AS difference, avg AS mean",
            "Over lag(cpu), avg(cpu) ROWS BETWEEN 9 PRECEDING AND CURRENT ROW ORDER BY ts PARTITION BY component",
            "Scan metrics, event time ts",
        ]
    );
    assert_eq!(names(&plan), ["component", "difference", "mean"]);
}

#[test]
fn other_windows_are_other_steps() {
    let plan = plan(
        "SELECT ts, sum(cpu) OVER (PARTITION BY component ORDER BY ts) AS a, sum(cpu) OVER (ORDER BY ts) AS b FROM metrics",
    );
    assert_eq!(plan.to_string().matches("Over sum(cpu)").count(), 2, "{plan}");
    assert_eq!(plan.time, Some(TimeColumn { index: 0, lag_ns: 0 }));
}

#[test]
fn event_time_survives_what_has_a_known_delay() {
    let time = |frame: &str| {
        plan(&format!("SELECT ts, sum(cpu) OVER (ORDER BY ts {frame}) AS s FROM metrics")).time
    };
    let lag = |lag_ns| Some(TimeColumn { index: 0, lag_ns });
    assert_eq!(time(""), lag(0));
    assert_eq!(time("ROWS BETWEEN 9 PRECEDING AND 2 PRECEDING"), lag(0));
    let after = "RANGE BETWEEN CURRENT ROW AND INTERVAL '5 seconds' FOLLOWING";
    assert_eq!(time(after), lag(5 * SECOND));
    assert_eq!(time("ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING"), None);
    assert_eq!(plan("SELECT ts, lead(cpu) OVER (ORDER BY ts) AS l FROM metrics").time, None);
    assert_eq!(plan("SELECT ts, lag(cpu, -1) OVER (ORDER BY ts) AS l FROM metrics").time, None);
    let twice = plan(&format!(
        "SELECT ts, max(s) OVER (ORDER BY ts {after}) AS m FROM \
         (SELECT ts, sum(cpu) OVER (PARTITION BY component ORDER BY ts {after}) AS s FROM metrics)"
    ));
    assert_eq!(twice.time, lag(10 * SECOND));
    let window = plan(&format!(
        "SELECT window_end, max(s) AS m FROM TUMBLE((SELECT ts, sum(cpu) OVER (ORDER BY ts {after}) AS s FROM metrics), \
         ts, INTERVAL '1 minute') GROUP BY window_start, window_end"
    ));
    assert_eq!(window.time, lag(5 * SECOND));
}

#[test]
fn keys_and_arguments_may_be_computed() {
    let plan = plan(
        "SELECT sum(cpu * 2) FILTER (WHERE memory > 1) OVER (PARTITION BY upper(component) ORDER BY ts) AS s FROM metrics",
    );
    let text = plan.to_string();
    assert!(text.contains("PARTITION BY argument_"), "{text}");
    assert!(text.contains("memory > "), "{text}");
    assert_eq!(names(&plan), ["s"]);
}

#[test]
fn numbers_of_a_windows_results_stay_as_they_are() {
    let results = "(SELECT component, window_start, window_end, count(*) AS n FROM metrics \
                    GROUP BY component, tumble(interval '1 minute'))";
    let number = |over: &str| {
        plan(&format!("SELECT row_number() OVER ({over}) AS place FROM {results}")).to_string()
    };
    assert!(number("PARTITION BY window_end ORDER BY n DESC").contains("NumberRows"));
    assert!(number("PARTITION BY component ORDER BY window_end").contains("Over row_number()"));
    // Rows of one time leave an OVER together, so that they can be numbered by anything.
    let text = plan(&format!(
        "SELECT row_number() OVER (PARTITION BY window_end ORDER BY more) AS place FROM \
         (SELECT window_end, n - lag(n) OVER (PARTITION BY component ORDER BY window_end) AS more FROM {results})"
    ));
    assert!(text.to_string().contains("NumberRows"), "{text}");
}

#[test]
fn frames_that_a_stream_cannot_answer_are_refused() {
    let over = |text: &str| format!("SELECT avg(cpu) OVER ({text}) AS mean FROM metrics");
    let by_time = |frame: &str| over(&format!("PARTITION BY component ORDER BY ts {frame}"));
    let cases = [
        (over(""), "\"avg\" OVER without ORDER BY", "ORDER BY ts"),
        (over("PARTITION BY component"), "\"avg\" OVER without ORDER BY", "ORDER BY ts"),
        (over("ORDER BY cpu"), "\"avg\" OVER rows that are not ordered by event time", "ORDER BY ts"),
        (over("ORDER BY ts DESC"), "\"avg\" OVER rows from the last to the first", "last_value"),
        (by_time("GROUPS 2 PRECEDING"), "\"avg\" with GROUPS", "RANGE"),
        (
            by_time("ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING"),
            "\"avg\" with UNBOUNDED FOLLOWING",
            "CURRENT ROW",
        ),
        (by_time("RANGE INTERVAL '1 month' PRECEDING"), "\"avg\" with a frame of months", "days"),
        (
            by_time("RANGE INTERVAL '1000 days' PRECEDING"),
            "\"avg\" has a frame bound that is no distance",
            "400 days",
        ),
        (
            over("ORDER BY ts, cpu"),
            "\"avg\" with RANGE and more than one ORDER BY column",
            "ROWS BETWEEN",
        ),
        (
            "SELECT lead(cpu) OVER (ORDER BY ts) AS l, sum(l) OVER (ORDER BY ts) FROM \
             (SELECT ts, cpu, lead(cpu) OVER (ORDER BY ts) AS l FROM metrics)"
                .to_owned(),
            "OVER rows that are not ordered by event time",
            "FOLLOWING",
        ),
        (
            "SELECT median(cpu) OVER (ORDER BY ts) FROM metrics".to_owned(),
            "\"median\" over a frame without a start",
            "RANGE INTERVAL",
        ),
        (
            "SELECT count(DISTINCT cpu) OVER (ORDER BY ts) FROM metrics".to_owned(),
            "\"count\" over a frame without a start",
            "RANGE INTERVAL",
        ),
        (
            "SELECT ntile(4) OVER (ORDER BY ts) FROM metrics".to_owned(),
            "\"ntile\" OVER a stream",
            "no end",
        ),
        (
            "SELECT lag(cpu) IGNORE NULLS OVER (ORDER BY ts) FROM metrics".to_owned(),
            "\"lag\" with IGNORE NULLS",
            "IS NOT NULL",
        ),
        (
            "SELECT lag(cpu, requests) OVER (ORDER BY ts) FROM metrics".to_owned(),
            "\"lag\" with an offset or default that is not constant",
            "coalesce",
        ),
        (
            "SELECT nth_value(cpu, 5000) OVER (ORDER BY ts) FROM metrics".to_owned(),
            "\"nth_value\" of row 5000 of a frame without a start",
            "1000",
        ),
        (
            "SELECT array_agg(cpu ORDER BY cpu) OVER (ORDER BY ts ROWS 3 PRECEDING) FROM metrics".to_owned(),
            "\"array_agg\" with an order of its own",
            "leave the other",
        ),
        (
            "SELECT cpu FROM (SELECT *, row_number() OVER (PARTITION BY component ORDER BY ts DESC) AS n FROM metrics) WHERE n = 1"
                .to_owned(),
            "\"row_number\" OVER rows from the last to the first",
            "window_end",
        ),
        (
            "SELECT row_number() OVER (PARTITION BY window_end ORDER BY cpu) AS n FROM TUMBLE(metrics, ts, INTERVAL '1 minute')"
                .to_owned(),
            "\"row_number\" OVER rows that are not ordered by event time",
            "window",
        ),
        (
            "SELECT row_number() OVER (PARTITION BY window_end) AS n FROM metrics GROUP BY tumble(INTERVAL '1 minute')"
                .to_owned(),
            "\"row_number\" OVER without ORDER BY",
            "ORDER BY",
        ),
        (
            "SELECT sum(cpu) OVER (ORDER BY ts) FROM untimed".to_owned(),
            "\"sum\" OVER rows that are not ordered by event time",
            "WATERMARK",
        ),
    ];
    for (sql, message, hint) in cases {
        let error = try_plan(&sql).map(|plan| panic!("{sql}\n{plan}")).unwrap_err();
        assert!(error.message().contains(message), "{sql}\n{error}");
        let found = error.hint_text().unwrap_or_default();
        assert!(found.contains(hint), "{sql}\n{error}\n{found}");
        assert!(error.position().is_some(), "{sql}");
        let is_known = matches!(error.kind(), SqlErrorKind::Query | SqlErrorKind::Unsupported);
        assert!(is_known, "{sql}");
    }
    for sql in [
        by_time("ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE TIES"),
        by_time("ROWS -1 PRECEDING"),
        by_time("RANGE 5 PRECEDING"),
        by_time("RANGE INTERVAL '-5 seconds' PRECEDING"),
        over("w ORDER BY ts"),
        over("ORDER BY count(*)"),
        "SELECT avg(cpu) OVER w FROM metrics".to_owned(),
        "SELECT cpu FROM metrics WHERE lag(cpu) OVER (ORDER BY ts) > 1".to_owned(),
        "SELECT cpu FROM metrics QUALIFY cpu > 1".to_owned(),
        "SELECT no_such(cpu) OVER (ORDER BY ts) FROM metrics".to_owned(),
    ] {
        let error = try_plan(&sql).map(|plan| panic!("{sql}\n{plan}")).unwrap_err();
        assert!(error.position().is_some(), "{sql}\n{error}");
    }
    let longest = SPAN_NS_MAX / SECOND;
    plan(&by_time(&format!("RANGE INTERVAL '{longest} seconds' PRECEDING")));
}
