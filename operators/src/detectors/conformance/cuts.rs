//! How rows are cut into batches does not show: rows of large batches are judged key by key, those of small ones in turn.

use std::time::Duration;

use arrow::record_batch::RecordBatch;

use super::fixture::*;
use crate::detector::{DetectorKind, DetectorStatistics};
use crate::options::Options;

/// Rows of eight keys, some of which come late, some leave for a while, and one has no name.
fn fleet() -> Rows {
    let mut parts: Vec<Rows> = (0..8_usize)
        .map(|key| {
            let name = format!("key {key}");
            let rows = telemetry(&name, 420);
            let is_there = |row: &usize| match key {
                0 | 1 => true,
                2 | 3 => row / 100 != 2,
                4 => *row >= 150,
                _ => row.is_multiple_of(key),
            };
            select(&rows, &(0..420).filter(is_there).collect::<Vec<_>>())
        })
        .collect();
    parts[7].key.fill(None);
    interleave(&parts)
}

/// Answers, models and counts, the times that work took left out.
fn outcome(
    setup: &Setup,
    kind: &dyn DetectorKind,
    rows: &RecordBatch,
    piece: usize,
) -> (RecordBatch, Vec<u8>, DetectorStatistics) {
    let mut detector = setup.detector(kind);
    let answers = process(&mut *detector, rows, piece);
    let statistics = DetectorStatistics { bytes: 0, rebuild_ns: 0, ..detector.statistics() };
    (answers, detector.snapshot().unwrap(), statistics)
}

#[test]
fn keys_that_come_and_go_give_the_same_answers_and_models() {
    let rows = fleet().batch();
    let set = |models_max, options| Setup { options, models_max, ..Setup::default() };
    let expiring = || Options::new().with("expire_after", Duration::from_secs(40));
    let filling = || {
        let options = Options::new().with("slot", Duration::from_secs(1));
        options.with("missing", "hold").with("learn_anomalies", true)
    };
    for_each_kind(|kind| {
        let setups = [
            ("plain", set(1_000, Options::new())),
            ("expiring", set(1_000, expiring())),
            ("filling gaps", set(1_000, filling())),
            ("just room enough", set(8, expiring())),
            ("evicting", set(5, expiring())),
            ("refusing", set(5, Options::new().with("when_full", "refuse"))),
        ];
        for (name, setup) in setups {
            let single = outcome(&setup, kind, &rows, 1);
            for piece in [2, 37, 500, usize::MAX] {
                let cut = outcome(&setup, kind, &rows, piece);
                assert_eq!(cut.0, single.0, "answers, {name}, cut by {piece}");
                assert_eq!(cut.2, single.2, "counts, {name}, cut by {piece}");
                assert!(cut.1 == single.1, "models, {name}, cut by {piece}");
            }
            let counts = single.2;
            let expected = match name {
                "expiring" | "just room enough" => counts.expired > 0 && counts.evicted == 0,
                "filling gaps" => counts.filled > 100,
                "evicting" => counts.evicted > 10,
                "refusing" => counts.refused > 100,
                _ => counts.rows == rows.num_rows() as u64,
            };
            assert!(expected, "{name}: {counts:?}");
        }
    });
}

#[test]
fn more_rows_than_are_judged_together_come_back_in_their_order() {
    let kinds = crate::detectors::builtin_kinds();
    let ewma = kinds.iter().find(|kind| kind.name() == "ewma").unwrap();
    let parts: Vec<Rows> = (0..70).map(|key| telemetry(&format!("key {key}"), 1_000)).collect();
    let rows = interleave(&parts).batch();
    let setup = Setup::default();
    let whole = outcome(&setup, &**ewma, &rows, usize::MAX);
    assert_eq!(whole.0.columns()[..rows.num_columns()], *rows.columns());
    let cut = outcome(&setup, &**ewma, &rows, 60);
    assert_eq!((whole.0, whole.2), (cut.0, cut.2));
    assert!(whole.1 == cut.1, "models differ");
}
