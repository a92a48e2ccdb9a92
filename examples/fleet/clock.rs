//! Times as a reader wants them. Event time only: this program never looks at a clock to decide anything.

use driftline::arrow::temporal_conversions::timestamp_ms_to_datetime;

/// Weekday, day, hour and minute.
pub fn text(ms: i64) -> String {
    timestamp_ms_to_datetime(ms)
        .map_or_else(|| ms.to_string(), |time| time.format("%a %d %H:%M").to_string())
}

/// Weekday and day alone.
pub fn day(ms: i64) -> String {
    timestamp_ms_to_datetime(ms)
        .map_or_else(|| ms.to_string(), |time| time.format("%a %d").to_string())
}

/// Hour and minute alone.
pub fn hour(ms: i64) -> String {
    timestamp_ms_to_datetime(ms)
        .map_or_else(|| ms.to_string(), |time| time.format("%H:%M").to_string())
}
