//! Timestamps as files spell them, turned into nanoseconds since 1970-01-01T00:00:00Z.
//!
//! Accepted are `2014-02-14 14:30:00` with `T` or a space, `-` or `/` in the date, seconds and a fraction (after `.`
//! or `,`) where they are given, and `Z`, `UTC` or an offset such as `+01:00`; a date alone, which means midnight;
//! `20140214T143000Z`; the web servers' `14/Feb/2014:14:30:00 +0000`; and numbers since the epoch, with a fraction
//! where it is given. A time without a zone is UTC. Everything else is `None`, times beyond the years 1677 to 2262
//! among it.

use arrow::datatypes::TimeUnit;

const SECOND_NS: i128 = 1_000_000_000;

/// Parses one timestamp; `unit` says what a bare number means, by default its magnitude does.
pub(super) fn parse_timestamp(text: &str, unit: Option<TimeUnit>) -> Option<i64> {
    let text = text.trim();
    parse_calendar(text).or_else(|| parse_epoch(text, unit))
}

/// Parses a timestamp that is written as a calendar date, not as a number.
pub(super) fn parse_calendar(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let cursor = Cursor(bytes);
    match bytes {
        [_, _, _, _, b'-' | b'/', ..] => year_first(cursor),
        [_, _, b'/', _, _, _, b'/', ..] => web_server(cursor),
        [_, _, _, _, _, _, _, _, b'T', ..] => compact(cursor),
        _ => None,
    }
}

/// Turns a whole number of units since the epoch into nanoseconds.
pub(super) fn epoch_to_ns(value: i64, unit: Option<TimeUnit>) -> Option<i64> {
    let unit = unit.unwrap_or_else(|| unit_by_magnitude(value.unsigned_abs()));
    value.checked_mul(i64::try_from(unit_ns(unit)).ok()?)
}

/// Turns a fractional number of units since the epoch into nanoseconds; NaN and infinity are `None`.
pub(super) fn epoch_float_to_ns(value: f64, unit: Option<TimeUnit>) -> Option<i64> {
    // Far below 2^63, where the conversions to and from i64 are exact enough and cannot saturate.
    if value.is_nan() || value.abs() >= 9.2e18 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and fraction are within i64")]
    let (whole, fraction) = (value.trunc() as i64, value.fract());
    let unit = unit.unwrap_or_else(|| unit_by_magnitude(whole.unsigned_abs()));
    let unit_ns = i64::try_from(unit_ns(unit)).ok()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "below 1e9")]
    let fraction_ns = (fraction * unit_ns as f64).round() as i64;
    whole.checked_mul(unit_ns)?.checked_add(fraction_ns)
}

fn unit_by_magnitude(value: u64) -> TimeUnit {
    match value {
        0..100_000_000_000 => TimeUnit::Second,
        100_000_000_000..100_000_000_000_000 => TimeUnit::Millisecond,
        100_000_000_000_000..100_000_000_000_000_000 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

/// How many nanoseconds a unit has.
pub(super) fn unit_ns(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => SECOND_NS,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

/// `1392388200` or `1392388200.123456789`, exact to the nanosecond.
fn parse_epoch(text: &str, unit: Option<TimeUnit>) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return parse_scientific(text, unit);
    }
    let Ok(value) = whole.parse::<i64>() else { return parse_scientific(text, unit) };
    let unit = unit.unwrap_or_else(|| unit_by_magnitude(value.unsigned_abs()));
    let mut part = 0_i128;
    let mut scale = unit_ns(unit);
    for digit in fraction.bytes() {
        scale /= 10;
        part += i128::from(digit - b'0') * scale;
    }
    let sign = if whole.starts_with('-') { -1 } else { 1 };
    i64::try_from(i128::from(value) * unit_ns(unit) + sign * part).ok()
}

fn parse_scientific(text: &str, unit: Option<TimeUnit>) -> Option<i64> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        return None;
    }
    epoch_float_to_ns(text.parse().ok()?, unit)
}

fn year_first(mut c: Cursor<'_>) -> Option<i64> {
    let year = c.number(4)?;
    let separator = c.next()?;
    let month = c.number(2)?;
    c.expect(separator)?;
    let days = days_since_epoch(year, month, c.number(2)?)?;
    if c.is_done() {
        return total_ns(days, 0, 0);
    }
    if !(c.eat(b'T') || c.eat(b't') || c.eat(b' ')) {
        return None;
    }
    let (seconds, fraction_ns) = time_of_day(&mut c)?;
    total_ns(days, seconds - zone_seconds(&mut c)?, fraction_ns)
}

fn compact(mut c: Cursor<'_>) -> Option<i64> {
    let days = days_since_epoch(c.number(4)?, c.number(2)?, c.number(2)?)?;
    c.expect(b'T')?;
    let seconds = clock_seconds(c.number(2)?, c.number(2)?, c.number(2)?)?;
    let fraction_ns = c.fraction_ns()?;
    total_ns(days, seconds - zone_seconds(&mut c)?, fraction_ns)
}

fn web_server(mut c: Cursor<'_>) -> Option<i64> {
    const MONTHS: [&[u8; 3]; 12] = [
        b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov",
        b"dec",
    ];
    let day = c.number(2)?;
    c.expect(b'/')?;
    let name = c.take(3)?.to_ascii_lowercase();
    let month = MONTHS.iter().position(|month| month[..] == name[..])?;
    c.expect(b'/')?;
    let year = c.number(4)?;
    c.expect(b':')?;
    let days = days_since_epoch(year, i64::try_from(month).ok()? + 1, day)?;
    let (seconds, fraction_ns) = time_of_day(&mut c)?;
    total_ns(days, seconds - zone_seconds(&mut c)?, fraction_ns)
}

/// `14:30`, `14:30:00` or `14:30:00.123`: seconds of the day and nanoseconds.
fn time_of_day(c: &mut Cursor<'_>) -> Option<(i64, i64)> {
    let hour = c.number(2)?;
    c.expect(b':')?;
    let minute = c.number(2)?;
    if !c.eat(b':') {
        return Some((clock_seconds(hour, minute, 0)?, 0));
    }
    let seconds = clock_seconds(hour, minute, c.number(2)?)?;
    Some((seconds, c.fraction_ns()?))
}

/// The rest of the text as a zone: nothing, `Z`, `UTC`, `GMT`, `+01:00`, `+0100` or `+01`, in seconds east of UTC.
fn zone_seconds(c: &mut Cursor<'_>) -> Option<i64> {
    while c.eat(b' ') {}
    if c.is_done() || [&b"Z"[..], b"z", b"UTC", b"GMT"].contains(&c.0) {
        return Some(0);
    }
    let sign = match c.next()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let hours = c.number(2)?;
    c.eat(b':');
    let minutes = if c.is_done() { 0 } else { c.number(2)? };
    (c.is_done() && hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// A second of 60 is a leap second and counts as the first of the next minute.
fn clock_seconds(hour: i64, minute: i64, second: i64) -> Option<i64> {
    (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3_600 + minute * 60 + second)
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar.
fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1..=days_of_month).contains(&day) {
        return None;
    }
    // Years are counted from March, so that the leap day is a year's last; eras of 400 years repeat.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

fn total_ns(days: i64, seconds: i64, fraction_ns: i64) -> Option<i64> {
    let seconds = i128::from(days) * 86_400 + i128::from(seconds);
    i64::try_from(seconds * SECOND_NS + i128::from(fraction_ns)).ok()
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(head)
    }

    fn next(&mut self) -> Option<u8> {
        self.take(1).map(|head| head[0])
    }

    fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.0.first() == Some(&byte);
        if is_next {
            self.0 = &self.0[1..];
        }
        is_next
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.eat(byte).then_some(())
    }

    /// Exactly so many digits.
    fn number(&mut self, digits: usize) -> Option<i64> {
        self.take(digits)?.iter().try_fold(0, |value, byte| {
            byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'))
        })
    }

    /// A fraction of a second where one follows; digits beyond the ninth are dropped.
    fn fraction_ns(&mut self) -> Option<i64> {
        if !(self.eat(b'.') || self.eat(b',')) {
            return Some(0);
        }
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (mut value, mut scale) = (0, 1_000_000_000);
        for digit in self.take(digits)? {
            scale /= 10;
            value += i64::from(digit - b'0') * scale;
        }
        (digits > 0).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_392_388_200_000_000_000;

    #[test]
    fn common_spellings_mean_the_same_instant() {
        for text in [
            "2014-02-14 14:30:00",
            "2014-02-14T14:30:00",
            "2014-02-14T14:30:00Z",
            "2014-02-14T14:30:00.000Z",
            "2014-02-14 14:30:00,000",
            "2014-02-14 14:30:00 UTC",
            "2014-02-14 14:30",
            "2014/02/14 14:30:00",
            "2014-02-14T15:30:00+01:00",
            "2014-02-14T13:30:00-0100",
            "2014-02-14 15:30:00 +01",
            "20140214T143000Z",
            "14/Feb/2014:14:30:00 +0000",
            " 2014-02-14 14:30:00 ",
            "1392388200",
            "1392388200000",
            "1392388200000000",
            "1392388200000000000",
            "1392388200.0",
            "1.3923882e9",
        ] {
            assert_eq!(parse_timestamp(text, None), Some(NOON), "{text}");
        }
    }

    #[test]
    fn fractions_are_exact() {
        assert_eq!(
            parse_timestamp("2014-02-14 14:30:00.123456789", None),
            Some(NOON + 123_456_789)
        );
        assert_eq!(parse_timestamp("1392388200.123456789", None), Some(NOON + 123_456_789));
        assert_eq!(parse_timestamp("-0.5", None), Some(-500_000_000));
        assert_eq!(parse_timestamp("5", Some(TimeUnit::Millisecond)), Some(5_000_000));
        assert_eq!(epoch_float_to_ns(1.5, None), Some(1_500_000_000));
        assert_eq!(epoch_float_to_ns(f64::NAN, None), None);
        assert_eq!(epoch_float_to_ns(f64::INFINITY, None), None);
    }

    #[test]
    fn calendar_edges_hold() {
        assert_eq!(parse_timestamp("1970-01-01", None), Some(0));
        assert_eq!(parse_timestamp("1969-12-31 23:59:59", None), Some(-1_000_000_000));
        assert_eq!(parse_timestamp("2016-02-29", None), Some(16_860 * 86_400_000_000_000));
        assert_eq!(
            parse_timestamp("2016-12-31T23:59:60Z", None),
            parse_timestamp("2017-01-01", None)
        );
        for text in [
            "",
            "-",
            "2015-02-29",
            "2014-13-01",
            "2014-00-10",
            "2014-02-14 24:00:00",
            "2014-02-14 1",
            "2014-02-14 14:30:00.",
            "2014-02-14 14:30:00 mars",
            "2014-02-14 14:30:00+1",
            "9999-01-01",
            "nan",
            "inf",
            "tomorrow",
            "2014-02/14",
            "+5x",
            "12:00",
        ] {
            assert_eq!(parse_timestamp(text, None), None, "{text}");
        }
    }
}
