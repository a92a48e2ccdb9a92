//! What kinds accept: every option within its range and nothing else, and the same from builders as from SQL.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema};

use super::fixture::*;
use crate::detector::DetectorRequest;
use crate::detectors::{
    DetectorBuilder, DetectorSpec, Direction, DriftInsight, Ewma, HalfSpaceTrees, HoltWinters,
    RobustZScore, builtin_kinds,
};
use crate::error::OperatorError;
use crate::options::{OptionKind, OptionValue, Options};

/// Values outside an option's range.
fn outside(kind: &OptionKind) -> Vec<OptionValue> {
    let beyond =
        |least: i64, most: i64| [least.checked_sub(1), most.checked_add(1)].into_iter().flatten();
    match kind {
        OptionKind::Number(least, most) => {
            let mut values = vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
            values.extend(match least {
                Bound::Included(least) => Some(least.next_down()),
                Bound::Excluded(least) => Some(*least),
                Bound::Unbounded => None,
            });
            values.extend(match most {
                Bound::Included(most) => Some(most.next_up()),
                Bound::Excluded(most) => Some(*most),
                Bound::Unbounded => None,
            });
            values.into_iter().map(OptionValue::Number).collect()
        }
        OptionKind::Integer(least, most) => beyond(*least, *most)
            .map(OptionValue::Integer)
            .chain([OptionValue::Number(f64::NAN), OptionValue::Number(0.5)])
            .collect(),
        OptionKind::Interval(least, most) => beyond(*least, *most)
            .map(OptionValue::Interval)
            .chain([OptionValue::Number(f64::NAN)])
            .collect(),
        OptionKind::RowsOrInterval(rows, ns) => beyond(0, *rows)
            .map(OptionValue::Integer)
            .chain(beyond(0, *ns).map(OptionValue::Interval))
            .chain([OptionValue::Number(f64::NAN)])
            .collect(),
        OptionKind::Choice(_) => vec!["sideways".into(), 1.into()],
        OptionKind::Boolean => vec!["yes".into(), f64::NAN.into()],
        OptionKind::Text => vec![1.into()],
    }
}

/// The least and the largest values that an option takes.
fn ends(kind: &OptionKind) -> Vec<OptionValue> {
    let number = |bound: &Bound<f64>, inwards: fn(f64) -> f64| match bound {
        Bound::Included(end) => Some(*end),
        Bound::Excluded(end) => Some(inwards(*end)),
        Bound::Unbounded => None,
    };
    match kind {
        OptionKind::Number(least, most) => {
            let least = number(least, f64::next_up).unwrap_or(f64::MIN);
            let most = number(most, f64::next_down).unwrap_or(f64::MAX);
            vec![OptionValue::Number(least), OptionValue::Number(most)]
        }
        OptionKind::Integer(least, most) => {
            vec![OptionValue::Integer(*least), OptionValue::Integer(*most)]
        }
        OptionKind::Interval(least, most) => {
            vec![OptionValue::Interval(*least), OptionValue::Interval(*most)]
        }
        OptionKind::RowsOrInterval(rows, ns) => vec![
            OptionValue::Integer(0),
            OptionValue::Integer(1),
            OptionValue::Integer(*rows),
            OptionValue::Interval(0),
            OptionValue::Interval(1),
            OptionValue::Interval(*ns),
        ],
        OptionKind::Choice(words) => words.iter().map(|word| (*word).into()).collect(),
        OptionKind::Boolean => vec![true.into(), false.into()],
        OptionKind::Text => vec!["".into(), ",".into(), "\0".into()],
    }
}

#[test]
fn every_option_works_at_its_ends() {
    for_every_kind(|kind| {
        let mut rows = telemetry("a", 400);
        // Values at the ends as well, and two that are missing.
        let ends_of_values = [f64::MAX, f64::MIN, f64::MIN_POSITIVE, -0.0, f64::INFINITY];
        rows.cpu.extend(ends_of_values.map(Some).into_iter().chain([None, Some(f64::NAN)]));
        let extra = rows.cpu.len() - rows.key.len();
        rows.key.extend(vec![None; extra]);
        rows.memory.extend(vec![Some(1.0); extra]);
        rows.second.extend((400..).take(extra));
        for spec in kind.options() {
            for value in ends(&spec.kind) {
                let setup = Setup::with(spec.name, value.clone());
                // Some ends need another option beside them, and are refused without it.
                let Ok(plan) = setup.plan(kind) else { continue };
                let out = process(&mut *plan.detector(), &rows.batch(), 64);
                assert_eq!(out.num_rows(), rows.key.len(), "{} = {value}", spec.name);
                for score in out.scores().into_iter().flatten() {
                    assert!(score >= 0.0, "{} = {value}: score {score}", spec.name);
                }
            }
        }
    });
}

#[test]
fn every_option_is_refused_out_of_range_by_name() {
    for_every_kind(|kind| {
        for spec in kind.options() {
            assert!(!spec.doc.is_empty() && !spec.kind.range_text().is_empty());
            for value in outside(&spec.kind) {
                let refused = Setup::with(spec.name, value.clone()).plan(kind).unwrap_err();
                let OperatorError::Option { option, owner, .. } = &refused else {
                    panic!("{} = {value} gave {refused}", spec.name);
                };
                assert_eq!(option, spec.name);
                assert_eq!(*owner, format!("detector kind \"{}\"", kind.name()));
            }
        }
    });
}

#[test]
fn every_default_is_what_no_option_means() {
    for_every_kind(|kind| {
        let rows = telemetry("a", 600);
        let mut options = Options::new();
        for spec in kind.options() {
            options.set(spec.name, spec.default);
        }
        let setup = Setup { options, ..Setup::default() };
        assert_eq!(setup.run(kind, &rows), Setup::default().run(kind, &rows));
        let described = setup.plan(kind).unwrap().describe();
        for spec in kind.options() {
            assert!(described.iter().any(|(name, _)| name == spec.name), "{}", spec.name);
        }
    });
}

#[test]
fn unknown_options_are_refused_with_a_hint() {
    for_every_kind(|kind| {
        let error = Setup::with("treshold", 1.0).plan(kind).unwrap_err();
        let name = kind.name();
        let expected = format!("option \"treshold\" of detector kind \"{name}\" is unknown");
        assert_eq!(error.to_string(), expected);
        assert!(error.hint().unwrap().starts_with("did you mean \"threshold\"?"));
    });
}

#[test]
fn columns_that_do_not_fit_are_refused_with_a_hint() {
    for_each_kind(|kind| {
        let error = Setup::with("features", "cpu, memmory").plan(kind).unwrap_err();
        assert_eq!(error.to_string(), "detector \"test\" has no feature column \"memmory\"");
        let hint = "did you mean \"memory\"? columns that can serve: cpu, memory";
        assert_eq!(error.hint(), Some(hint));
        Setup::with("features", "component").plan(kind).unwrap_err();
        Setup::with("features", "cpu, cpu").plan(kind).unwrap_err();

        let plan = |fields: Vec<Field>, time, partition_by| {
            let request = DetectorRequest {
                name: "test",
                schema: Arc::new(Schema::new(fields)),
                time,
                partition_by,
                window_bounds: Vec::new(),
                options: &Options::new(),
                models_max: 10,
                executor: Arc::new(crate::background::Lazy),
                inference: Arc::new(crate::inference::OnWorkers),
            };
            kind.plan(&request).map(|_| ()).unwrap_err().to_string()
        };
        let field = |i: usize| schema().field(i).clone();
        let nothing = plan(vec![field(0), field(1)], 1, vec![0]);
        assert_eq!(nothing, "detector \"test\" has no numeric column to read");
        let untimed = plan(vec![field(2), field(3)], 0, vec![]);
        assert_eq!(untimed, "detector \"test\" needs an event time, but \"cpu\" is Float64");
        let taken = Field::new("score", DataType::Float64, true);
        let taken = plan(vec![field(1), field(2), taken], 0, vec![]);
        let expected = "would write column \"score\", which its input already has";
        assert_eq!(taken, format!("detector \"test\" {expected}"));
    });
}

#[test]
fn integers_booleans_and_decimals_are_features() {
    use arrow::array::{
        ArrayRef, BooleanArray, Decimal128Array, Int64Array, TimestampSecondArray, UInt8Array,
    };
    let columns: [(&str, ArrayRef); 5] = [
        ("ts", Arc::new(TimestampSecondArray::from(vec![1, 2]))),
        ("count", Arc::new(Int64Array::from(vec![Some(-1), None]))),
        ("small", Arc::new(UInt8Array::from(vec![1, 2]))),
        ("up", Arc::new(BooleanArray::from(vec![true, false]))),
        ("cost", Arc::new(Decimal128Array::from(vec![1, 2]))),
    ];
    let batch = arrow::record_batch::RecordBatch::try_from_iter(columns).unwrap();
    for_each_kind(|kind| {
        let request = DetectorRequest {
            name: "test",
            schema: batch.schema(),
            time: 0,
            partition_by: Vec::new(),
            window_bounds: Vec::new(),
            options: &Options::new(),
            models_max: 10,
            executor: Arc::new(crate::background::Lazy),
            inference: Arc::new(crate::inference::OnWorkers),
        };
        let plan = kind.plan(&request).unwrap();
        let features = ("features".to_owned(), "count, small, up, cost".to_owned());
        assert!(plan.describe().contains(&features));
        assert_eq!(process(&mut *plan.detector(), &batch, 9).num_rows(), 2);
    });
}

#[test]
fn kinds_have_names_of_their_own() {
    let kinds = builtin_kinds();
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(names, sorted);
    assert!(kinds.iter().all(|kind| !kind.summary().is_empty()));
}

#[test]
fn builders_make_what_sql_makes() {
    let spec = |kind: &str, options: Options| DetectorSpec {
        kind: kind.into(),
        options,
        partition_by: vec!["component".into()],
    };
    let minute = Duration::from_secs(60);
    let pairs = [
        (
            RobustZScore::new()
                .threshold(5.0)
                .history(288)
                .partition_by(["component"])
                .direction(Direction::Up)
                .build(),
            spec(
                "robust_zscore",
                Options::new().with("threshold", 5.0).with("history", 288).with("direction", "up"),
            ),
        ),
        (
            Ewma::new().alpha(0.1).hold_off(minute).partition_by(["component"]).build(),
            spec("ewma", Options::new().with("alpha", 0.1).with("hold_off", minute)),
        ),
        (
            HoltWinters::new().season(minute, 6).partition_by(["component"]).build(),
            spec("holt_winters", Options::new().with("season", minute).with("season_slots", 6)),
        ),
        (
            HalfSpaceTrees::new().trees(10).features(["cpu"]).partition_by(["component"]).build(),
            spec("half_space_trees", Options::new().with("trees", 10).with("features", "cpu")),
        ),
        (
            DriftInsight::new()
                .training(300)
                .exclude_anomalies()
                .partition_by(["component"])
                .build(),
            spec(
                "drift_insight",
                Options::new().with("training", 300).with("learn_anomalies", false),
            ),
        ),
    ];
    let rows = telemetry("a", 800);
    for (built, written) in pairs {
        assert_eq!(built, written);
        let out = run_spec(&built, &rows);
        assert_eq!(out, run_spec(&written, &rows));
        assert!(out.flags().contains(&Some(true)), "{built}");
    }
    let lost = DetectorSpec { partition_by: vec!["pod".into()], ..DetectorSpec::new("ewma") };
    let error = lost.partition_columns(&schema()).unwrap_err();
    let text = "detector kind \"ewma\" is partitioned by \"pod\", which its input does not have";
    assert_eq!(error.to_string(), text);
}
