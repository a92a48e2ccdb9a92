//! Proofs about what options say of an entry and a session: each test and verdict by its own score and bound (DL-04,
//! DL-05), with what was expected beside it (DL-08), whatever was predicted before (DL-23).

use arrow::datatypes::Int64Type;

use super::*;
use crate::options::OptionValue;

/// All that is said of a stream in which `s80` runs ahead and `s90` is cut short.
fn said(options: &[(&str, OptionValue)]) -> [RecordBatch; 2] {
    let mut all = sessions(100, 5);
    all[80] = session("open close disk net write close");
    all[90] = session("open disk");
    let mut spec = spec();
    spec.options.set("combined", false);
    for (name, value) in options {
        spec.options.set(name, value.clone());
    }
    let (mut detector, mut answers) = (plan(&spec).detector(), Answers::default());
    detector.process(&batch(&log(&all)), &mut answers).unwrap();
    detector.advance(END, &mut answers).unwrap();
    let one = |parts: Vec<&RecordBatch>| {
        arrow::compute::concat_batches(&parts[0].schema(), parts).unwrap()
    };
    let ended = answers.side.iter().filter(|(relation, _)| *relation == 0);
    [one(answers.rows.iter().collect()), one(ended.map(|(_, rows)| rows).collect())]
}

fn number(rows: &RecordBatch, name: &str, row: usize) -> f64 {
    rows[name].as_primitive::<Float64Type>().value(row)
}

/// Sessions that are raised.
fn raised(sessions: &RecordBatch) -> Vec<String> {
    let names = sessions["session"].as_string::<i32>();
    let is_odd = sessions["is_anomaly"].as_boolean();
    (0..sessions.num_rows())
        .filter(|row| is_odd.is_valid(*row) && is_odd.value(*row))
        .map(|row| names.value(row).to_owned())
        .collect()
}

/// DL-05: every verdict has a score of its own, and raises what is above the bound.
#[test]
fn verdicts_are_by_any_entry_their_number_or_their_surprise() {
    let verdict = |word: &str, threshold: f64| {
        said(&[("verdict", word.into()), ("threshold", threshold.into())])
    };
    let score_of = |sessions: &RecordBatch, column: &str| {
        let is_odd = sessions["is_anomaly"].as_boolean();
        for row in (0..sessions.num_rows()).filter(|row| is_odd.is_valid(*row)) {
            let score = number(sessions, "score", row);
            let expected = match column {
                "abnormal" => sessions[column].as_primitive::<Int64Type>().value(row) as f64,
                _ => number(sessions, column, row),
            };
            assert_eq!(score, expected, "{column} of row {row}");
            assert_eq!(score > number(sessions, "threshold", row), is_odd.value(row), "row {row}");
        }
    };
    let [_, any] = verdict("any", 0.0);
    score_of(&any, "abnormal");
    assert_eq!(raised(&any), ["s80", "s90"]);
    // Running ahead makes several entries abnormal, the end of the other session is one.
    let [_, few] = verdict("count", 1.0);
    score_of(&few, "abnormal");
    assert_eq!(raised(&few), ["s80"]);
    for (word, column) in [("surprise_max", "surprise_max"), ("surprise_mean", "surprise_mean")] {
        let [_, sessions] = verdict(word, 0.0);
        score_of(&sessions, column);
        assert!(raised(&sessions).contains(&"s80".to_owned()), "{word}: {:?}", raised(&sessions));
        let [_, lax] = verdict(word, 1e5);
        assert!(raised(&lax).is_empty(), "{word}: {:?}", raised(&lax));
    }
}

/// DL-04, DL-08: by rank or by surprise, an entry says how probable its key was, and what else was expected.
#[test]
fn entries_tell_their_rank_their_probability_and_what_was_expected() {
    for test in ["top", "surprise"] {
        let [rows, _] = said(&[("test", test.into())]);
        let detail = rows["detail"].as_struct().clone();
        let of = |name: &str| detail.column_by_name(name).unwrap().clone();
        let (ranks, expected) = (of("rank"), of("expected"));
        let (ranks, expected) = (ranks.as_primitive::<Int64Type>(), expected.as_string::<i32>());
        let (probabilities, surprises) = (of("probability"), of("surprise"));
        let probabilities = probabilities.as_primitive::<Float64Type>();
        let surprises = surprises.as_primitive::<Float64Type>();
        let is_odd = rows["is_anomaly"].as_boolean();
        let mut judged = 0;
        for row in (0..rows.num_rows()).filter(|row| ranks.is_valid(*row)) {
            judged += 1;
            let (rank, surprise) = (ranks.value(row), surprises.value(row));
            assert!((probabilities.value(row) - (-surprise).exp()).abs() < 1e-9, "row {row}");
            let score = if test == "top" { rank as f64 } else { surprise };
            assert_eq!(number(&rows, "score", row), score, "row {row} by {test}");
            assert_eq!(score > number(&rows, "threshold", row), is_odd.value(row), "row {row}");
            assert_eq!(expected.is_valid(row), is_odd.value(row), "row {row}");
        }
        assert!(judged > 100, "{judged} rows have a rank");
        // The second entry of s80, which stands in the row itself: what follows `open` is one of two.
        let (names, keys) =
            (rows["session"].as_string::<i32>(), rows["log_key"].as_string::<i32>());
        let ahead = (0..rows.num_rows())
            .find(|row| names.value(*row) == "s80" && keys.value(*row) == "close")
            .unwrap();
        assert!(is_odd.value(ahead) && ranks.value(ahead) > 2, "{test}");
        let told = expected.value(ahead);
        assert!(told.contains("disk (0.") && told.contains("net (0."), "{told}");
    }
}

/// DL-23: a history that has come before is not scored again, and a cache that is too small changes nothing.
#[test]
fn histories_are_scored_once_and_the_cache_does_not_show() {
    let small = KeySettings { cache_bytes: 0, ..ngram() };
    let (mut large, mut small) = (trained(&ngram()), trained(&small));
    let mut asked = sessions(50, 3);
    // More histories than the small cache has room for.
    let mut state = 1;
    let keys = ["open", "disk", "net", "write", "close"];
    asked.extend((0..60).map(|_| {
        (0..20).map(|_| keys[xorshift(&mut state) % keys.len()].to_owned()).collect::<Vec<_>>()
    }));
    let first = large.judge(&asked);
    assert_eq!(small.judge(&asked), first);
    let scored = (large.scored(), small.scored());
    assert_eq!(large.judge(&asked), first);
    assert_eq!(small.judge(&asked), first);
    assert_eq!(large.scored(), scored.0, "all of them were known");
    assert!(small.scored() > scored.1, "not all of them had room");
}
