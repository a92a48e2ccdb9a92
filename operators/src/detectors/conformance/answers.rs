//! What the output says: the same however rows are cut, honest while warming up, high where anomalous.

use std::time::Duration;

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::Float64Type;

use super::fixture::*;
use crate::detector::Answers;
use crate::detectors::Anomaly;
use crate::model::Phase;

#[test]
fn the_same_rows_give_the_same_answers_however_they_are_cut() {
    for_every_kind(|kind| {
        let rows = telemetry("a", 1_500);
        let whole = Setup::default().run(kind, &rows);
        assert_eq!(whole, Setup::default().run(kind, &rows));
        for piece in [1, 7, 8_192] {
            let mut detector = Setup::default().detector(kind);
            assert_eq!(process(&mut *detector, &rows.batch(), piece), whole, "cut by {piece}");
        }
    });
}

#[test]
fn keys_do_not_see_each_other() {
    for_each_kind(|kind| {
        let parts: Vec<Rows> = ["a", "b", "c"].map(|key| telemetry(key, 900)).into();
        let together = Setup::default().run(kind, &interleave(&parts));
        for part in parts {
            let key = part.key[0].clone();
            let keys = together.texts("component");
            let mask: BooleanArray = keys.iter().map(|k| Some(*k == key)).collect();
            let own = filter_record_batch(&together, &mask).unwrap();
            assert_eq!(own, Setup::default().run(kind, &part), "key {key:?}");
        }
    });
}

#[test]
fn keys_of_any_type_get_a_model_each() {
    for_each_kind(|kind| {
        let mut parts: Vec<Rows> = ["a", "b"].map(|key| telemetry(key, 400)).into();
        parts[1].key.fill(None);
        let rows = interleave(&parts);
        for partition_by in [vec![0], vec![0, 0], vec![]] {
            let models = if partition_by.is_empty() { 1 } else { 2 };
            let setup = Setup { partition_by, ..Setup::default() };
            let mut detector = setup.detector(kind);
            process(&mut *detector, &rows.batch(), 100);
            assert_eq!(detector.statistics().models, models);
        }
    });
}

#[test]
fn nothing_is_said_while_warming_up_and_phases_only_move_on() {
    for_every_kind(|kind| {
        let out = Setup::default().run(kind, &telemetry("a", 2_000));
        let phases = out.texts("phase");
        let (scores, flags, versions) = (out.scores(), out.flags(), out.counts("model_version"));
        let phase_of = |word: &str| {
            [Phase::WarmingUp, Phase::Training, Phase::Detecting, Phase::Retraining]
                .into_iter()
                .find(|phase| phase.as_str() == word)
                .unwrap()
        };
        let mut last = Phase::WarmingUp;
        for row in 0..out.num_rows() {
            let phase = phase_of(phases[row].as_deref().unwrap());
            assert!(last.may_become(phase), "{last:?} to {phase:?} in row {row}");
            assert_eq!(phase.scores(), scores[row].is_some(), "row {row}");
            assert_eq!(phase.scores(), flags[row].is_some(), "row {row}");
            assert!(row == 0 || versions[row - 1] <= versions[row]);
            last = phase;
        }
        assert_eq!(phases[0].as_deref(), Some("warming_up"));
        assert_eq!(last, Phase::Detecting);
    });
}

#[test]
fn spikes_score_high_and_distinct_rows_score_distinct() {
    for_each_kind(|kind| {
        let out = Setup::default().run(kind, &telemetry("a", 3_000));
        let scores = out.scores();
        let area = area_under_curve(&scores, is_spike);
        assert!(area > 0.95, "area under the curve is {area}");
        let mut bits: Vec<u64> = scores.iter().flatten().map(|score| score.to_bits()).collect();
        let scored = bits.len();
        bits.sort_unstable();
        bits.dedup();
        assert!(bits.len() * 10 > scored * 9, "{} distinct scores of {scored}", bits.len());

        let flags = out.flags();
        let (spikes, normal): (Vec<usize>, Vec<usize>) = (0..3_000).partition(|i| is_spike(*i));
        let raised = |rows: &[usize]| rows.iter().filter(|i| flags[**i] == Some(true)).count();
        let (hits, misses, spikes) = (raised(&spikes), raised(&normal), spikes.len());
        assert!(hits * 10 >= spikes * 8, "{hits} of {spikes} spikes raised");
        assert!(misses * 100 < 3_000, "{misses} normal rows raised");
    });
}

#[test]
fn a_constant_series_raises_nothing_and_its_smallest_change_is_not_infinite() {
    for_each_kind(|kind| {
        for level in [0.0, 1.0, -273.15, 1e12] {
            let mut rows = Rows::default();
            for second in 0..1_200 {
                rows.push("a", second, level, level);
            }
            let out = Setup::default().run(kind, &rows);
            assert!(out.flags().iter().all(|flag| *flag != Some(true)), "constant {level}");
            rows.push("a", 1_200, level * (1.0 + 1e-9) + 1e-9, level);
            let out = Setup::default().run(kind, &rows);
            assert_eq!(out.flags()[1_200], Some(false), "a change too small at {level}");
            assert!(out.scores().iter().flatten().all(|score| score.is_finite()));
        }
    });
}

#[test]
fn odd_values_do_no_lasting_harm() {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 1e-310, -0.0];
    for_each_kind(|kind| {
        // Once among the first rows, once when all is learned.
        for at in [3, 800] {
            let mut rows = telemetry("a", 2_600);
            for (i, value) in odd.into_iter().enumerate() {
                rows.cpu[at + i] = Some(value);
                rows.memory[at + i + 2] = Some(value);
            }
            rows.cpu[at + odd.len() + 4] = None;
            rows.cpu[2_599] = Some(120.0);
            rows.memory[2_599] = Some(400.0);
            let out = Setup::default().run(kind, &rows);
            assert!(out.scores().iter().flatten().all(|score| score.is_finite() && *score >= 0.0));
            assert_eq!(out.flags()[2_599], Some(true), "the last row, odd values at {at}");
            let normal = (2_000..2_599).filter(|i| !is_spike(*i));
            let flags = out.flags();
            let raised = normal.filter(|i| flags[*i] == Some(true)).count();
            assert!(raised < 30, "{raised} normal rows raised, odd values at {at}");
        }
    });
}

#[test]
fn rows_without_values_are_counted_and_nothing_else() {
    for_each_kind(|kind| {
        let full = telemetry("a", 1_000);
        let mut gaps = full.clone();
        for row in [2, 900, 901] {
            gaps.cpu[row] = None;
            gaps.memory[row] = Some(f64::INFINITY);
        }
        let mut detector = Setup::default().detector(kind);
        let out = process(&mut *detector, &gaps.batch(), 64);
        assert_eq!(detector.statistics().missing, 3);
        for row in [2, 900, 901] {
            assert_eq!((out.scores()[row], out.flags()[row]), (None, None));
            assert_eq!(out.texts("phase")[row], out.texts("phase")[row - 1]);
            assert!(out.detail("attribution").is_null(row));
        }
        let samples = out.counts("samples");
        assert_eq!((samples[900], samples[901]), (samples[902], samples[902]));
        let confidence = out.numbers("confidence");
        assert!(confidence[902] < confidence[899]);
    });
}

#[test]
fn empty_batches_say_nothing() {
    for_every_kind(|kind| {
        let mut detector = Setup::default().detector(kind);
        let mut out = Answers::default();
        detector.process(&Rows::default().batch(), &mut out).unwrap();
        assert!(out.rows.is_empty());
        assert_eq!(detector.statistics().models, 0);
    });
}

#[test]
fn details_agree_with_the_score() {
    for_each_kind(|kind| {
        let rows = telemetry("a", 2_000);
        let setup = Setup::default();
        let out = setup.run(kind, &rows);
        assert_eq!(out.schema(), setup.plan(kind).unwrap().output_schema());
        for (i, column) in rows.batch().columns().iter().enumerate() {
            assert_eq!(out.column(i), column);
        }
        let (scores, thresholds) = (out.scores(), out.numbers("threshold"));
        let (severities, flags) = (out.numbers("severity"), out.flags());
        let (probability, confidence) = (out.numbers("probability"), out.numbers("confidence"));
        let attribution = out.detail("attribution");
        let attribution = attribution.as_list::<i32>();
        let explanations = out.texts("explanation");
        for row in 0..out.num_rows() {
            assert_eq!(explanations[row].is_some(), flags[row] == Some(true), "row {row}");
            assert!((0.0..=1.0).contains(&confidence[row].unwrap()));
            let Some(score) = scores[row] else {
                assert!(severities[row].is_none() && attribution.is_null(row));
                continue;
            };
            assert!((severities[row].unwrap() - score / thresholds[row].unwrap()).abs() < 1e-9);
            assert!((0.0..1.0).contains(&probability[row].unwrap_or(0.0)));
            let shares = attribution.value(row);
            let shares = shares.as_struct().column(1).as_primitive::<Float64Type>().clone();
            assert!((shares.values().iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
        assert!(confidence[1_999] > confidence[10]);
        let (features, directions) = (out.texts("feature"), out.texts("direction"));
        let spikes = (0..2_000).filter(|i| is_spike(*i) && flags[*i] == Some(true));
        for row in spikes {
            assert_eq!(features[row].as_deref(), Some("cpu"), "row {row}");
            assert_eq!(directions[row].as_deref(), Some("up"));
        }
    });
}

#[test]
fn records_hold_what_the_columns_say() {
    for_each_kind(|kind| {
        let out = Setup::default().run(kind, &telemetry("a", 2_000));
        let anomalies = Anomaly::from_batch(&out).unwrap();
        let flags = out.flags();
        let rows: Vec<usize> = (0..2_000).filter(|i| flags[*i] == Some(true)).collect();
        assert!(!anomalies.is_empty());
        assert_eq!(anomalies.len(), rows.len());
        for (anomaly, row) in anomalies.iter().zip(rows) {
            assert_eq!(anomaly.time.0, i64::try_from(row).unwrap() * 1_000_000_000);
            assert_eq!(anomaly.key, [("component".to_owned(), "a".to_owned())]);
            assert_eq!(Some(anomaly.score), out.scores()[row]);
            assert!(anomaly.to_string().starts_with("test [component=a]: "));
        }
    });
}

#[test]
fn suppression_is_named_and_the_score_stays() {
    for_each_kind(|kind| {
        let rows = telemetry("a", 2_000);
        let free = Setup::default().run(kind, &rows);
        let hour = std::time::Duration::from_secs(3_600);
        for (setup, rule, most) in [
            (Setup::with("min_deviation", 1e6), "min_deviation", 0),
            (Setup::with("min_deviation_relative", 1e6), "min_deviation_relative", 0),
            (Setup::with("direction", "down"), "direction", usize::MAX),
            (Setup::with("hold_off", hour), "hold_off", 1),
        ] {
            let out = setup.run(kind, &rows);
            let raised = |out: &arrow::record_batch::RecordBatch| {
                out.flags().iter().filter(|flag| **flag == Some(true)).count()
            };
            assert!(raised(&out) <= most && raised(&out) < raised(&free), "{rule}");
            let (rules, flags) = (out.texts("suppressed_by"), out.flags());
            let severities = out.numbers("severity");
            let named = (0..2_000).filter(|i| rules[*i].as_deref() == Some(rule));
            let named: Vec<usize> = named.collect();
            assert!(!named.is_empty(), "{rule}");
            assert!(named.iter().all(|i| flags[*i] == Some(false)), "{rule}");
            assert!(named.iter().all(|i| severities[*i] > Some(1.0)), "{rule}");
        }
    });
}

#[test]
fn drift_is_always_learned() {
    for_each_kind(|kind| {
        let mut rows = telemetry("a", 600);
        let shifted = telemetry("b", 3_000);
        for i in 0..3_000 {
            let second = i64::try_from(600 + i).unwrap();
            rows.push("a", second, shifted.cpu[i].unwrap() + 500.0, shifted.memory[i].unwrap());
        }
        let flags = Setup::default().run(kind, &rows).flags();
        assert_eq!(flags[600], Some(true), "the shift itself");
        let late = (2_600..3_600).filter(|i| flags[*i] == Some(true) && !is_spike(*i - 600));
        let late = late.count();
        assert!(late < 20, "{late} rows still raised long after the shift");
    });
}

#[test]
fn joined_outputs_share_one_schema() {
    for_every_kind(|kind| {
        let mut detector = Setup::default().detector(kind);
        let mut out = Answers::default();
        for key in ["a", "b"] {
            detector.process(&telemetry(key, 10).batch(), &mut out).unwrap();
        }
        assert_eq!(concat_batches(out.rows[0].schema_ref(), &out.rows).unwrap().num_rows(), 20);
    });
}

/// Rows at every second but those of `gap`, and the same with rows in the gap that `fill` makes.
fn with_gap(gap: std::ops::Range<usize>, fill: impl Fn(&mut Rows, usize)) -> (Rows, Rows) {
    let full = telemetry("a", 1_600);
    let mut filled = full.clone();
    for row in gap.clone() {
        fill(&mut filled, row);
    }
    let kept: Vec<usize> = (0..1_600).filter(|row| !gap.contains(row)).collect();
    (select(&full, &kept), filled)
}

#[test]
fn x_05_missing_slots_count_as_rows_that_the_policy_makes() {
    let gap = 1_200..1_207;
    for_each_kind(|kind| {
        for policy in ["mark", "hold", "interpolate"] {
            let (gappy, filled) = with_gap(gap.clone(), |rows, row| {
                let (last, next) = (gap.start - 1, gap.end);
                let share = (row - last) as f64 / (next - last) as f64;
                let value = |column: &[Option<f64>]| match policy {
                    "mark" => None,
                    "hold" => column[last],
                    _ => {
                        let (last, next) = (column[last].unwrap(), column[next].unwrap());
                        Some(last + (next - last) * share)
                    }
                };
                rows.cpu[row] = value(&rows.cpu);
                rows.memory[row] = value(&rows.memory);
            });
            // Rows that were made must be learned here as there, whatever they score.
            let plain = || Setup::with("learn_anomalies", true);
            let setup = || {
                let mut setup = plain();
                setup.options.set("slot", Duration::from_secs(1));
                setup.options.set("missing", policy);
                setup
            };
            let mut detector = setup().detector(kind);
            let found = process(&mut *detector, &gappy.batch(), 64);
            assert_eq!(detector.statistics().filled, 7);
            let expected = setup().run(kind, &filled);
            let after = |out: &arrow::record_batch::RecordBatch, from: usize| {
                let scores = out.scores()[from..].to_vec();
                (scores, out.counts("samples")[from..].to_vec())
            };
            assert_eq!(after(&found, gap.start), after(&expected, gap.end), "{policy}");
            let confidence = found.numbers("confidence");
            assert!(confidence[gap.start] < confidence[gap.start - 1], "{policy}");
            let unaware = plain().run(kind, &gappy);
            assert_eq!(unaware.numbers("confidence")[gap.start - 1], confidence[gap.start - 1]);
            assert!(unaware.numbers("confidence")[gap.start] > confidence[gap.start]);
        }
    });
}

#[test]
fn x_05_a_restored_detector_fills_the_same_gap() {
    for_each_kind(|kind| {
        let (gappy, _) = with_gap(1_200..1_207, |_, _| {});
        let mut setup = Setup::with("slot", Duration::from_secs(1));
        setup.options.set("missing", "hold");
        let whole = setup.run(kind, &gappy);
        let batch = gappy.batch();
        let mut first = setup.detector(kind);
        process(&mut *first, &batch.slice(0, 1_200), 100);
        let mut second = setup.detector(kind);
        second.restore(&first.snapshot().unwrap()).unwrap();
        let rest = process(&mut *second, &batch.slice(1_200, batch.num_rows() - 1_200), 100);
        assert_eq!(rest, whole.slice(1_200, rest.num_rows()));
    });
}
