//! Files of models: whatever the bytes, they are taken up or refused, and the detector lives on.

use std::sync::Arc;

use driftline::arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use driftline::detectors::builtin_kinds;
use driftline::{Engine, Error, ErrorKind};

/// Sums at the end of a whole, and of each part.
const SUM_BYTES: usize = 8;

/// An engine with a detector of the kind with this number, and the detector's name.
pub fn engine(kind: usize) -> Engine {
    let kinds = builtin_kinds();
    let kind = kinds[kind % kinds.len()].name();
    let with = match kind {
        "drift_insight" => "PARTITION BY host WITH (training = 120, steady_threshold = 120)",
        // One model for all, of keys instead of numbers, and without a network, which not every build has.
        "deeplog" => "WITH (session = 'host', key = 'host', model = 'ngram', training = 20)",
        _ => "PARTITION BY host",
    };
    let engine = Engine::builder().workers(1).build().expect("an engine starts");
    let created = engine.execute(&format!(
        "CREATE SOURCE load (ts TIMESTAMP, host TEXT, value DOUBLE, WATERMARK FOR ts AS ts);
         CREATE DETECTOR d USING {kind} {with} AS SELECT ts, host, value FROM load"
    ));
    created.expect("the detector is right");
    engine
}

/// Lets rows flow, from second `from` on.
pub fn feed(engine: &Engine, from: i64, rows: i64) -> driftline::Result<()> {
    let seconds = from..from + rows;
    let times =
        TimestampNanosecondArray::from_iter_values(seconds.clone().map(|s| s * 1_000_000_000));
    let hosts = StringArray::from_iter_values(seconds.clone().map(|s| format!("h{}", s % 2)));
    let values = Float64Array::from_iter_values(seconds.map(|s| (s * 7 % 23) as f64));
    let columns: [ArrayRef; 3] = [Arc::new(times), Arc::new(hosts), Arc::new(values)];
    let source = engine.source("load")?;
    let rows = RecordBatch::try_new(source.schema(), columns.to_vec()).expect("columns fit");
    source.push(rows)
}

/// The first byte chooses the kind, and whether sums are put right, so that what they guard is reached. The number of
/// files that were taken up.
pub fn run(data: &[u8]) -> usize {
    let [choice, file @ ..] = data else { return 0 };
    let mut file = file.to_vec();
    let is_mended = choice & 0x80 != 0;
    if is_mended {
        mend(&mut file);
    }
    let engine = engine(usize::from(choice & 0x7f));
    let taken = match engine.import_models("d", &file) {
        Ok(()) => 1,
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
            0
        }
    };
    // A sum that was put right vouches for a model that no engine has written: such a one may be worth nothing, but must
    // not bring the engine down.
    let fed = feed(&engine, 10_000, 40).and_then(|()| engine.shutdown());
    let is_internal = |error: &Error| error.kind() == ErrorKind::Internal;
    assert!(!fed.as_ref().is_err_and(is_internal), "{fed:?}");
    taken
}

/// Puts the sums of a file and of its parts right, as far as it can be read.
fn mend(file: &mut [u8]) {
    let Some(end) = file.len().checked_sub(SUM_BYTES) else { return };
    let mut at = 1;
    let parts = after_text(file, &mut at).and_then(|()| number(file, &mut at)).unwrap_or(0);
    for _ in 0..parts {
        let Some(length) = number(file, &mut at) else { break };
        let Some(part) = at.checked_add(length).and_then(|to| file.get_mut(at..to)) else { break };
        seal(part);
        at += length;
        if at >= end {
            break;
        }
    }
    seal(file);
}

/// Writes the sum of what comes before it.
fn seal(whole: &mut [u8]) {
    let Some(end) = whole.len().checked_sub(SUM_BYTES) else { return };
    let sum = whole[..end].iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    whole[end..].copy_from_slice(&sum.to_le_bytes());
}

/// Goes on behind a text.
fn after_text(file: &[u8], at: &mut usize) -> Option<()> {
    let length = number(file, at)?;
    *at = at.checked_add(length)?;
    Some(())
}

/// A number of variable length.
fn number(file: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let byte = *file.get(*at)?;
        *at += 1;
        value |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
