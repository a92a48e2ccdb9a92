//! The rows of the mixed load: hosts that come and go, times that are late or missing, lines whose kinds change.

use std::sync::Arc;

use driftline::arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};

use super::SOURCES;

const SECOND: i64 = 1_000_000_000;
/// Each push of a source covers two seconds of event time.
const PUSH_SECONDS: i64 = 2;
/// Rows of a source for each second of event time.
const ROWS_PER_SECOND: usize = 30;
pub(crate) const ROWS_PER_PUSH: usize = PUSH_SECONDS as usize * ROWS_PER_SECOND;
/// Hosts that speak at a time. Every so many seconds one falls silent and another begins.
const HOSTS: usize = 30;
const HOST_EVERY: usize = 8;
const HOSTS_EVER: usize = 200;

/// The rows of a push: the same whenever it is made.
pub(crate) fn rows(source: usize, step: usize) -> RecordBatch {
    let rows = step * ROWS_PER_PUSH..(step + 1) * ROWS_PER_PUSH;
    let mixed = |row: usize| ((row * 3 + source) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
    let second = |row: usize| (row / ROWS_PER_SECOND) as i64;
    let time = |row: usize| match mixed(row) % 1000 {
        // No time at all, or one that is long past.
        0..5 => None,
        5..15 => Some((second(row) - 3_600) * SECOND),
        mixed => Some(second(row) * SECOND - mixed as i64 % 4_000 * SECOND / 1_000),
    };
    let host = |row: usize| {
        let first = second(row) as usize / HOST_EVERY;
        format!("host-{}", (first + mixed(row) as usize / 1000 % HOSTS) % HOSTS_EVER)
    };
    let wave = |row: usize, length: f64| {
        let phase = second(row) as f64 / length * std::f64::consts::TAU;
        50.0 + 30.0 * phase.sin() + mixed(row) as f64 % 97.0 / 10.0
    };
    let times: TimestampNanosecondArray = rows.clone().map(time).collect();
    let hosts = StringArray::from_iter_values(rows.clone().map(host));
    let mut columns = vec![
        ("ts", Arc::new(times) as ArrayRef, true),
        ("host", Arc::new(hosts) as ArrayRef, true),
    ];
    let numbers = |length: f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(rows.clone().map(|row| wave(row, length))))
    };
    match SOURCES[source] {
        "load" => {
            columns.push(("cpu", numbers(40.0), true));
            columns.push(("mem", numbers(300.0), true));
        }
        "calls" => {
            let callers = rows.clone().map(|row| format!("caller-{}", mixed(row) % 7));
            let bytes = rows.clone().map(|row| (mixed(row) % 5_000) as i64);
            columns.push(("caller", Arc::new(StringArray::from_iter_values(callers)), true));
            columns.push(("bytes", Arc::new(Int64Array::from_iter_values(bytes)), true));
        }
        _ => {
            let lines = rows.clone().map(|row| line(second(row), mixed(row)));
            columns.push(("line", Arc::new(StringArray::from_iter_values(lines)), true));
        }
    }
    RecordBatch::try_from_iter_with_nullable(columns).expect("the columns are of one length")
}

/// A log line: some words vary, and some kinds are there for a while only.
fn line(second: i64, mixed: u64) -> String {
    let (user, age) = (mixed % 37, second / 300 % 20);
    match mixed % 5 {
        0 => format!("session {mixed} opened for user u{user}"),
        1 => format!("sent {} bytes to 10.0.0.{user}", mixed % 9973),
        2 => format!("release r{age} of part {} came up in {} ms", mixed % 3, mixed % 97),
        3 => format!("worker {user} left after release r{age}"),
        _ => "heartbeat".to_owned(),
    }
}
