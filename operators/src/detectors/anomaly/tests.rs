//! Proves that records hold what the output columns say, also where columns were lost on the way.

use std::sync::Arc;

use arrow::array::{BooleanArray, Float64Array, TimestampSecondArray};

use super::*;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
        .unwrap()
}

fn minimal() -> Vec<(&'static str, ArrayRef)> {
    let flags = BooleanArray::from(vec![None, Some(false), Some(true)]);
    vec![
        ("at", Arc::new(TimestampSecondArray::from(vec![1, 2, 3])) as ArrayRef),
        ("score", Arc::new(Float64Array::from(vec![None, Some(0.5), Some(7.0)]))),
        ("is_anomaly", Arc::new(flags)),
    ]
}

#[test]
fn only_score_flag_and_time_are_needed() {
    let anomalies = Anomaly::from_batch(&batch(minimal())).unwrap();
    assert_eq!(anomalies.len(), 1);
    assert_eq!(anomalies[0].time, EventTime(3_000_000_000));
    assert_eq!((anomalies[0].severity, anomalies[0].samples), (None, None));
    assert_eq!(anomalies[0].to_string(), "anomaly: score 7");
}

#[test]
fn other_batches_are_refused() {
    for lost in ["at", "score", "is_anomaly"] {
        let columns = minimal().into_iter().filter(|(name, _)| *name != lost).collect();
        let error = Anomaly::from_batch(&batch(columns)).unwrap_err();
        assert!(error.to_string().starts_with("batch of anomalies has no "), "{error}");
    }
    let mut columns = minimal();
    columns[2].1 = columns[1].1.clone();
    let error = Anomaly::from_batch(&batch(columns)).unwrap_err();
    assert_eq!(error.to_string(), "batch of anomalies holds an is_anomaly that is not BOOLEAN");
}
