//! Proves that options are refused by name at every edge of their range, and that spellings of a value agree.

use std::time::Duration;

use super::*;

fn specs() -> Vec<OptionSpec> {
    vec![
        OptionSpec::new("alpha", OptionKind::number_above(0.0, 1.0), 0.5, "Open below."),
        OptionSpec::new("limit", OptionKind::number(0.0..10.0), 0.0, "Open above."),
        OptionSpec::new("rows", OptionKind::Integer(1, 9), 3, "Rows."),
        OptionSpec::new("wait", OptionKind::Interval(0, 1_000), Duration::ZERO, "Wait."),
        OptionSpec::new("season", OptionKind::RowsOrInterval(9, 1_000), 0, "Season."),
        OptionSpec::new("side", OptionKind::Choice(&["up", "down"]), "up", "Side."),
        OptionSpec::new("strict", OptionKind::Boolean, false, "Strict."),
        OptionSpec::new("features", OptionKind::Text, "", "Columns."),
    ]
}

fn read(options: &Options) -> crate::error::Result<OptionReader> {
    OptionReader::new("test", options, &specs())
}

#[test]
fn defaults_fill_the_gaps() {
    let reader = read(&Options::new()).unwrap();
    assert_eq!(reader.number("alpha").to_bits(), 0.5_f64.to_bits());
    assert_eq!((reader.count("rows"), reader.interval_ns("wait")), (3, 0));
    assert_eq!(reader.text("side"), "up");
    assert!(!reader.boolean("strict"));
    assert_eq!(reader.rows_or_interval("season"), RowsOrInterval::Rows(0));
    assert_eq!(reader.settled().count(), 8);
}

#[test]
fn spellings_of_one_value_agree() {
    let reader = read(&Options::new().with("ALPHA", 1).with("rows", 4.0).with("side", "DOWN"));
    let reader = reader.unwrap();
    assert_eq!(reader.number("alpha").to_bits(), 1.0_f64.to_bits());
    assert_eq!((reader.integer("rows"), reader.text("side")), (4, "down"));
    let season = Options::new().with("season", Duration::from_nanos(7));
    assert_eq!(read(&season).unwrap().rows_or_interval("season"), RowsOrInterval::Interval(7));
}

#[test]
fn edges_and_odd_numbers_are_refused_by_name() {
    let refused: &[(&str, OptionValue)] = &[
        ("alpha", 0.0.into()),
        ("alpha", (-0.0).into()),
        ("alpha", 1.1.into()),
        ("alpha", f64::NAN.into()),
        ("alpha", f64::INFINITY.into()),
        ("alpha", "0.5".into()),
        ("limit", 10.0.into()),
        ("limit", (-1).into()),
        ("rows", 0.into()),
        ("rows", 10.into()),
        ("rows", 1.5.into()),
        ("rows", f64::NAN.into()),
        ("wait", OptionValue::Interval(-1)),
        ("wait", Duration::MAX.into()),
        ("wait", 5.into()),
        ("season", 10.into()),
        ("season", OptionValue::Interval(1_001)),
        ("side", "both".into()),
        ("strict", 1.into()),
        ("features", 1.into()),
    ];
    for (name, value) in refused {
        let error = read(&Options::new().with(name, value.clone())).unwrap_err();
        let start = format!("option \"{name}\" of test is ");
        assert!(error.to_string().starts_with(&start), "{name} = {value}: {error}");
        assert!(error.hint().unwrap().contains("the default is"));
    }
    for (name, value) in [("alpha", 1.0), ("limit", 0.0), ("limit", -0.0), ("rows", 9.0)] {
        read(&Options::new().with(name, value)).unwrap();
    }
}

#[test]
fn values_print_as_sql() {
    let options = Options::new()
        .with("a", "it's")
        .with("b", Duration::from_secs(300))
        .with("c", Duration::from_millis(1))
        .with("d", true)
        .with("e", 1.0);
    let text =
        "a = 'it''s', b = INTERVAL '5 minutes', c = INTERVAL '1 millisecond', d = TRUE, e = 1.0";
    assert_eq!(options.to_string(), text);
}
