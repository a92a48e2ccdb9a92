//! When a line was written: the time in it, else the time at which it came.

use std::time::{SystemTime, UNIX_EPOCH};

use driftline::arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;

/// How far into a line a time is looked for.
const LOOKED_AT: usize = 120;
/// Characters of a date, a gap and a time: `2017-05-16 00:00:00`.
const TIME_LENGTH: usize = 19;

pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Gives each line a time.
pub struct Stamps {
    /// Lines that were there before, and carry no time, are taken to have come one after the other until now.
    backlog: u64,
    next_ns: i64,
    step_ns: i64,
}

impl Stamps {
    pub fn new(now_ns: i64, backlog: u64, step_ms: i64) -> Self {
        let step_ns = step_ms * 1_000_000;
        let before = step_ns.saturating_mul(i64::try_from(backlog).unwrap_or(i64::MAX));
        Self { backlog, next_ns: now_ns.saturating_sub(before), step_ns }
    }

    pub fn next(&mut self, line: &str, now_ns: i64) -> i64 {
        if let Some(written) = time_of(line) {
            return written;
        }
        if self.backlog > 0 {
            self.backlog -= 1;
            let at = self.next_ns;
            self.next_ns += self.step_ns;
            return at;
        }
        // A clock that is set back does not take lines with it.
        self.next_ns = self.next_ns.max(now_ns);
        self.next_ns
    }
}

/// The first time that looks like `2017-05-16 00:00:00.008` or `2017-05-16T00:00:00,008`, in UTC.
pub fn time_of(line: &str) -> Option<i64> {
    let bytes = line.as_bytes();
    let last = bytes.len().min(LOOKED_AT).checked_sub(TIME_LENGTH)?;
    let looks = |from: usize| {
        bytes[from..from + TIME_LENGTH].iter().zip(b"dddd-dd-dd dd:dd:dd").all(|(found, shape)| {
            match shape {
                b'd' => found.is_ascii_digit(),
                b' ' => matches!(found, b' ' | b'T'),
                other => found == other,
            }
        })
    };
    let from = (0..=last).find(|from| looks(*from))?;
    let seconds = line.get(from..from + TIME_LENGTH)?;
    let fraction: String = match bytes.get(from + TIME_LENGTH) {
        Some(b'.' | b',') => line[from + TIME_LENGTH + 1..]
            .chars()
            .take_while(char::is_ascii_digit)
            .take(9)
            .collect(),
        _ => String::new(),
    };
    let text =
        if fraction.is_empty() { seconds.to_owned() } else { format!("{seconds}.{fraction}") };
    string_to_timestamp_nanos(&text).ok()
}
