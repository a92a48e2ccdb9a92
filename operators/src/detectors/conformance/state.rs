//! What detectors keep: bounded, and after a restore as if there had been no interruption.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, LargeBinaryArray};
use arrow::record_batch::RecordBatch;

use super::fixture::*;
use crate::detector::{Answers, Detector, DetectorKind, Pieces};
use crate::detectors::builtin_kinds;
use crate::key::KeyShare;
use crate::time::EventTime;

#[test]
fn a_restored_detector_goes_on_as_if_uninterrupted() {
    for_every_kind(|kind| {
        let parts: Vec<Rows> = ["a", "b", "c"].map(|key| telemetry(key, 800)).into();
        let batch = interleave(&parts).batch();
        let setup = Setup::default();
        let whole = process(&mut *setup.detector(kind), &batch, 500);
        for cut in [1, 60, 777, 1_900, 2_399] {
            let mut first = setup.detector(kind);
            process(&mut *first, &batch.slice(0, cut), 500);
            let snapshot = first.snapshot().unwrap();
            let mut second = setup.detector(kind);
            second.restore(&snapshot).unwrap();
            assert_eq!(second.snapshot().unwrap(), snapshot, "snapshot at {cut}");
            assert_eq!(second.statistics().rows, first.statistics().rows);
            let rest = batch.slice(cut, batch.num_rows() - cut);
            let out = process(&mut *second, &rest, 500);
            assert_eq!(out, whole.slice(cut, rest.num_rows()), "restored at {cut}");
        }
    });
}

/// What a checkpoint takes of a detector, and gives to `workers` others.
fn from_pieces(setup: &Setup, kind: &dyn DetectorKind, all: &[Pieces], share: KeyShare) -> Boxed {
    let rests: Vec<Vec<u8>> = all.iter().map(|pieces| pieces.rest.clone()).collect();
    let of_keys: Vec<RecordBatch> = all.iter().flat_map(|pieces| pieces.of_keys.clone()).collect();
    let mut detector = setup.detector(kind);
    detector.go_on_from(&rests, &of_keys, share).unwrap();
    detector
}

type Boxed = Box<dyn Detector>;

#[test]
fn a_detector_goes_on_from_its_pieces() {
    for_every_kind(|kind| {
        let parts: Vec<Rows> = ["a", "b", "c"].map(|key| telemetry(key, 800)).into();
        let batch = interleave(&parts).batch();
        let setup = Setup::default();
        let whole = process(&mut *setup.detector(kind), &batch, 500);
        for cut in [1, 777, 2_399] {
            let mut first = setup.detector(kind);
            process(&mut *first, &batch.slice(0, cut), 500);
            let pieces = first.pieces().unwrap();
            let all = std::slice::from_ref(&pieces);
            let mut second = from_pieces(&setup, kind, all, KeyShare::ALL);
            assert_eq!(second.pieces().unwrap().of_keys, pieces.of_keys, "pieces at {cut}");
            let rest = batch.slice(cut, batch.num_rows() - cut);
            let out = process(&mut *second, &rest, 500);
            assert_eq!(out, whole.slice(cut, rest.num_rows()), "went on at {cut}");
        }
    });
}

#[test]
fn pieces_fall_to_other_numbers_of_workers() {
    for_each_kind(|kind| {
        let names: Vec<String> = (0..40).map(|key| format!("key {key}")).collect();
        let parts: Vec<Rows> = names.iter().map(|key| telemetry(key, 30)).collect();
        let setup = Setup::default();
        let mut first = setup.detector(kind);
        process(&mut *first, &interleave(&parts).batch(), 500);
        let whole = [first.pieces().unwrap()];
        let of = |worker| from_pieces(&setup, kind, &whole, KeyShare { worker, workers: 3 });
        let thirds: Vec<Boxed> = (0..3).map(of).collect();
        let models: Vec<u64> = thirds.iter().map(|part| part.statistics().models).collect();
        assert!(models.iter().all(|&models| models > 3), "{models:?}");
        assert_eq!(models.iter().sum::<u64>(), 40);
        let thirds: Vec<Pieces> = thirds.iter().map(|part| part.pieces().unwrap()).collect();
        let again = from_pieces(&setup, kind, &thirds, KeyShare::ALL);
        assert_eq!(again.pieces().unwrap(), whole[0], "in the order of their use");
    });
}

#[test]
fn a_key_without_a_row_leaves_its_piece_as_it_was() {
    for_each_kind(|kind| {
        let parts: Vec<Rows> = ["a", "b", "c"].map(|key| telemetry(key, 400)).into();
        let mut detector = Setup::default().detector(kind);
        process(&mut *detector, &interleave(&parts).batch(), 500);
        let pieces = |detector: &Boxed| -> Vec<(Option<Vec<u8>>, Vec<u8>)> {
            let of_keys = detector.pieces().unwrap().of_keys;
            let rows = of_keys.iter().flat_map(|rows| {
                let (keys, models) = (rows.column(0).as_binary::<i32>(), rows.column(1));
                keys.iter().zip(models.as_binary::<i64>())
            });
            rows.map(|(key, model)| (key.map(<[u8]>::to_vec), model.unwrap().to_vec())).collect()
        };
        let before = pieces(&detector);
        let mut rows = Rows::default();
        rows.push("b", 900, 50.0, 200.0);
        process(&mut *detector, &rows.batch(), 1);
        let after = pieces(&detector);
        assert_eq!((before.len(), after.len()), (3, 3));
        let changed: Vec<_> = after.iter().filter(|piece| !before.contains(piece)).collect();
        assert_eq!(changed.len(), 1);
        assert_eq!(changed[0].0.as_deref(), Some(&b"b"[..]));
        assert_eq!(after[2].0.as_deref(), Some(&b"b"[..]), "it was used last");
    });
}

#[test]
fn pieces_of_other_columns_and_older_checkpoints_are_told_apart() {
    for_each_kind(|kind| {
        let rows = telemetry("a", 40).batch();
        let mut first = Setup::with("features", "cpu").detector(kind);
        process(&mut *first, &rows, 20);
        let Pieces { rest, of_keys } = first.pieces().unwrap();
        let mut other = Setup::with("features", "memory").detector(kind);
        other.go_on_from(std::slice::from_ref(&rest), &of_keys, KeyShare::ALL).unwrap_err();
        let mut damaged = of_keys[0].columns().to_vec();
        damaged[1] = Arc::new(LargeBinaryArray::from_vec(vec![b"x"]));
        let damaged = RecordBatch::try_new(of_keys[0].schema(), damaged).unwrap();
        let mut second = Setup::with("features", "cpu").detector(kind);
        second.go_on_from(std::slice::from_ref(&rest), &[damaged], KeyShare::ALL).unwrap_err();
        // Once all models were in one piece.
        second.go_on_from(&[first.snapshot().unwrap()], &[], KeyShare::ALL).unwrap();
        assert_eq!(second.statistics().models, 1);
    });
}

#[test]
fn a_damaged_snapshot_is_refused_and_changes_nothing() {
    for_every_kind(|kind| {
        // A small model keeps the number of cuts small.
        let setup = Setup { models_max: 2, ..Setup::default() };
        let rows = telemetry("a", 40);
        let mut detector = setup.detector(kind);
        process(&mut *detector, &rows.batch(), 10);
        let good = detector.snapshot().unwrap();
        for cut in 0..good.len() {
            detector.restore(&good[..cut]).unwrap_err();
        }
        for at in (0..good.len()).step_by(7) {
            let mut damaged = good.clone();
            damaged[at] ^= 0x55;
            detector.restore(&damaged).unwrap_err();
        }
        let version = good[0];
        for other in [version - 1, version + 1] {
            let mut of_other = good.clone();
            of_other[0] = other;
            let message = detector.restore(&of_other).unwrap_err().to_string();
            let problem = format!("is of version {other}, this is version {version}");
            assert_eq!(message, format!("snapshot of {} {problem}", kind.name()));
        }
        assert_eq!(detector.snapshot().unwrap(), good);
    });
}

#[test]
fn a_snapshot_of_another_kind_or_of_other_columns_is_refused() {
    for_each_kind(|kind| {
        let rows = telemetry("a", 20).batch();
        let mut detector = Setup::default().detector(kind);
        for other in builtin_kinds().into_iter().filter(|other| reads_features(&**other)) {
            let mut source = Setup::with("features", "cpu").detector(&*other);
            process(&mut *source, &rows, 20);
            detector.restore(&source.snapshot().unwrap()).unwrap_err();
        }
    });
}

#[test]
fn models_stay_within_their_bound() {
    for_each_kind(|kind| {
        let mut rows = Rows::default();
        for i in 0..1_000_i64 {
            rows.push(&format!("key{}", i % 200), i, 1.0, 2.0);
        }
        let setup = Setup { models_max: 20, ..Setup::default() };
        let mut detector = setup.detector(kind);
        process(&mut *detector, &rows.batch(), 64);
        let statistics = detector.statistics();
        assert_eq!((statistics.models, statistics.evicted), (20, 980));
        assert_eq!(statistics.rows, 1_000);
        let again = process(&mut *setup.detector(kind), &rows.batch(), 1);
        assert_eq!(again, process(&mut *setup.detector(kind), &rows.batch(), 1_000));
    });
}

#[test]
fn refused_keys_go_unscored_and_are_counted() {
    for_each_kind(|kind| {
        let parts: Vec<Rows> = ["a", "b"].map(|key| telemetry(key, 600)).into();
        let setup = Setup { models_max: 1, ..Setup::with("when_full", "refuse") };
        let mut detector = setup.detector(kind);
        let out = process(&mut *detector, &interleave(&parts).batch(), 100);
        assert_eq!(detector.statistics().refused, 600);
        let (rules, scores) = (out.texts("suppressed_by"), out.scores());
        for (row, key) in out.texts("component").iter().enumerate() {
            let refused = key.as_deref() == Some("b");
            assert_eq!(rules[row].as_deref() == Some("models_max"), refused);
            assert!(!refused || scores[row].is_none());
        }
    });
}

#[test]
fn silent_keys_expire_with_and_without_a_watermark() {
    for_each_kind(|kind| {
        let mut rows = telemetry("a", 500);
        rows.second.iter_mut().skip(400).for_each(|second| *second += 10_000);
        let batch = rows.batch();
        let setup = Setup::with("expire_after", Duration::from_secs(3_600));
        let mut lazily = setup.detector(kind);
        let out = process(&mut *lazily, &batch, 50);
        assert_eq!(out.counts("samples")[400], 0);
        assert_eq!(lazily.statistics().expired, 1);

        let mut early = setup.detector(kind);
        let first = process(&mut *early, &batch.slice(0, 400), 50);
        let second = |n: i64| EventTime(n * 1_000_000_000);
        early.advance(second(3_999), &mut Answers::default()).unwrap();
        assert_eq!(early.statistics().models, 1);
        early.advance(second(4_000), &mut Answers::default()).unwrap();
        assert_eq!((early.statistics().models, early.statistics().expired), (0, 1));
        let rest = process(&mut *early, &batch.slice(400, 100), 50);
        assert_eq!((first, rest), (out.slice(0, 400), out.slice(400, 100)));
    });
}

#[test]
fn memory_per_key_stays_bounded() {
    for_each_kind(|kind| {
        let mut detector = Setup::default().detector(kind);
        let mut most = 0;
        // It keeps generations of 4,000 rows, of which the second needs room as well.
        let growing = if kind.name() == "tail_surprise" { 5 } else { 2 };
        for round in 0..9_i64 {
            let mut rows = telemetry("a", 1_000);
            rows.second.iter_mut().for_each(|second| *second += round * 1_000);
            // Looked at often: a model that is built anew holds two for a while.
            let (batch, mut bytes) = (rows.batch(), 0);
            for start in (0..1_000).step_by(5) {
                process(&mut *detector, &batch.slice(start, 5), 5);
                bytes = bytes.max(detector.statistics().bytes);
            }
            assert!(bytes > 0 && (round < growing || bytes <= most), "{bytes} above {most}");
            most = most.max(bytes);
        }
        assert!(most < 100_000, "{most} bytes");
    });
}
