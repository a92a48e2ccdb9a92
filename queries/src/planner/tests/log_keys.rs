//! Proves what LOG_KEYS and LOG_TEMPLATES plan to, and what they refuse.

use super::*;

fn fields(plan: &Plan) -> Vec<(&str, &DataType)> {
    plan.schema.fields().iter().map(|field| (field.name().as_str(), field.data_type())).collect()
}

#[test]
fn keys_are_columns_beside_those_of_the_lines() {
    let plan = plan(
        "SELECT component, ts, log_key, template, elapsed, parameters[1]['number'] AS first
         FROM LOG_KEYS(metrics, component, session => (component), parser => 'spell', tau => 0.7) AS k
         WHERE k.log_key > 1 AND cpu > 0",
    );
    let text = plan.explain();
    assert!(text[0].starts_with("Transform component, ts, log_key"), "{text:#?}");
    let rest: Vec<&str> = text[1..].iter().map(|line| line.trim()).collect();
    let node = "LogKeys of component WITH parser = 'spell', tau = 0.7";
    assert_eq!(rest, [node, "Scan metrics, event time ts"]);
    let time = plan.time.unwrap();
    assert_eq!((time.index, time.lag_ns), (1, 0));
    let found = fields(&plan);
    assert_eq!(found[2], ("log_key", &DataType::Int64));
    assert_eq!(found[4], ("elapsed", &DataType::Float64));
    assert_eq!(found[5], ("first", &DataType::Float64));
}

#[test]
fn changes_of_templates_are_a_relation_with_the_time_of_the_line() {
    let plan = plan("SELECT * FROM LOG_TEMPLATES(busy, component, format => hdfs)");
    let names: Vec<&str> = fields(&plan).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["at", "log_key", "change", "merged_into", "template"]);
    assert_eq!(plan.time.unwrap().index, 0);
}

#[test]
fn keys_can_be_counted_in_windows_and_read_from_a_query() {
    for sql in [
        "SELECT log_key, count(*) AS n FROM TUMBLE(LOG_KEYS(metrics, component), ts, INTERVAL '1 minute')
         GROUP BY log_key, window_start, window_end",
        "SELECT log_key FROM LOG_KEYS((SELECT ts, upper(component) AS line FROM metrics), line)",
        "SELECT log_key FROM (SELECT * FROM LOG_KEYS(busy, component)) WHERE log_key = 3",
    ] {
        assert!(plan(sql).explain().iter().any(|line| line.contains("LogKeys of")), "{sql}");
    }
}

#[test]
fn refusals_stand_at_the_argument() {
    for (sql, message, column) in [
        ("SELECT * FROM LOG_KEYS(metrics)", "LOG_KEYS has no message", 15),
        ("SELECT * FROM LOG_KEYS()", "LOG_KEYS has no relation", 15),
        ("SELECT * FROM LOG_KEYS(metrics, component, ts)", "LOG_KEYS has too many arguments", 44),
        (
            "SELECT * FROM LOG_KEYS(metrics, cpu)",
            "LOG_KEYS reads messages from \"cpu\", which is Float64",
            33,
        ),
        (
            "SELECT * FROM LOG_KEYS(metrics, upper(component))",
            "message of LOG_KEYS is not a column",
            33,
        ),
        (
            "SELECT * FROM LOG_KEYS(untimed, component)",
            "relation under LOG_KEYS has no event time",
            15,
        ),
        (
            "SELECT * FROM LOG_KEYS(metrics, component, parser => 'magic')",
            "option \"parser\" of LOG_KEYS is 'magic', outside its range",
            54,
        ),
        (
            "SELECT * FROM LOG_KEYS(metrics, component, tua => 1)",
            "option \"tua\" of LOG_KEYS is unknown",
            51,
        ),
        (
            "SELECT * FROM LOG_KEYS(metrics, component, tau => 1, tau => 1)",
            "option \"tau\" is given twice",
            61,
        ),
        (
            "SELECT * FROM LOG_KEYS(metrics, component, tau => cpu + 1)",
            "option \"tau\" is not a constant",
            51,
        ),
        (
            "SELECT * FROM LOG_KEYS(LOG_KEYS(metrics, component), component)",
            "LOG_KEYS would write column \"log_key\" twice",
            54,
        ),
    ] {
        let error = try_plan(sql).unwrap_err();
        assert_eq!(error.message(), message, "{sql}");
        assert_eq!(error.position().map(|p| p.column), Some(column), "{sql}");
        assert!(error.hint_text().is_some(), "{sql}");
    }
}
