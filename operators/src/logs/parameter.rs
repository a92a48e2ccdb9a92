//! Variable parts as values: numbers with their units, and text (SP-10).

use super::line::Span;

/// The value of one variable part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameter<'a> {
    /// As it stands in the line.
    pub text: &'a str,
    /// The number it is, in seconds, bytes or the unit given; none if it is no number.
    pub number: Option<f64>,
    /// What the number counts: `s`, `B` or `%`; none if no unit stands with it.
    pub unit: Option<&'static str>,
}

/// Reads a variable part of a line.
///
/// A number may have a sign, a fraction and an exponent, and a unit right after it or as the next word: lengths of
/// time become seconds, sizes become bytes (`KB` and `KiB` are 1,024 bytes), so that `950 ms` and `1.2 seconds` can be
/// compared.
///
/// # Examples
/// ```
/// use driftline_operators::logs::{Parameter, Span, read_parameter};
///
/// let line = "Took 950 ms to send 1.5KB to 10.0.0.1";
/// let read = |start, end| read_parameter(line, Span { start, end });
/// assert_eq!(read(5, 8), Parameter { text: "950", number: Some(0.95), unit: Some("s") });
/// assert_eq!(read(20, 25), Parameter { text: "1.5KB", number: Some(1536.0), unit: Some("B") });
/// assert_eq!(read(29, 37), Parameter { text: "10.0.0.1", number: None, unit: None });
/// ```
#[must_use]
pub fn read_parameter(line: &str, span: Span) -> Parameter<'_> {
    let text = span.of(line).trim();
    let none = Parameter { text, number: None, unit: None };
    let digits = number_length(text.as_bytes());
    if digits == 0 {
        return none;
    }
    let (number, rest) = text.split_at(digits);
    let Ok(number) = number.parse::<f64>() else { return none };
    if !number.is_finite() {
        return none;
    }
    let rest = rest.trim_start();
    let word = if rest.is_empty() {
        let after = line.get(span.end as usize..).unwrap_or("").trim_start_matches(' ');
        after.split(|c: char| !c.is_alphabetic() && c != '%').next().unwrap_or("")
    } else {
        rest
    };
    match unit(word) {
        Some((factor, divisor, unit)) => {
            let number = Some(number * factor / divisor).filter(|number| number.is_finite());
            Parameter { text, number, unit: number.and(Some(unit)) }
        }
        None if rest.is_empty() => Parameter { text, number: Some(number), unit: None },
        None => none,
    }
}

/// The length of the number that a text begins with.
fn number_length(text: &[u8]) -> usize {
    let digits = |from: usize| text[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut at = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let whole = digits(at);
    at += whole;
    let mut fraction = 0;
    if text.get(at) == Some(&b'.') {
        fraction = digits(at + 1);
        if fraction > 0 {
            at += 1 + fraction;
        }
    }
    if whole + fraction == 0 {
        return 0;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'-' | b'+')));
        let exponent = digits((at + 1 + sign).min(text.len()));
        if exponent > 0 {
            at += 1 + sign + exponent;
        }
    }
    at
}

/// What one of a unit is, in seconds or bytes: a factor and a divisor, so that 950 ms are 0.95 s to the last digit.
fn unit(word: &str) -> Option<(f64, f64, &'static str)> {
    const KILO: f64 = 1024.0;
    Some(match word {
        "ns" | "nanoseconds" => (1.0, 1e9, "s"),
        "us" | "µs" | "microseconds" => (1.0, 1e6, "s"),
        "ms" | "msec" | "msecs" | "millis" | "milliseconds" | "millisecond" => (1.0, 1e3, "s"),
        "s" | "sec" | "secs" | "second" | "seconds" => (1.0, 1.0, "s"),
        "m" | "min" | "mins" | "minute" | "minutes" => (60.0, 1.0, "s"),
        "h" | "hour" | "hours" => (3600.0, 1.0, "s"),
        "B" | "byte" | "bytes" => (1.0, 1.0, "B"),
        "kB" | "KB" | "KiB" => (KILO, 1.0, "B"),
        "MB" | "MiB" => (KILO * KILO, 1.0, "B"),
        "GB" | "GiB" => (KILO * KILO * KILO, 1.0, "B"),
        "TB" | "TiB" => (KILO * KILO * KILO * KILO, 1.0, "B"),
        "%" | "percent" => (1.0, 1.0, "%"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<f64>, Option<&'static str>) {
        let parameter = read_parameter(text, Span::new(0, text.len()));
        (parameter.number, parameter.unit)
    }

    #[test]
    fn numbers_are_read_with_their_units_and_nothing_else_is() {
        for (text, number, unit) in [
            ("0.61", Some(0.61), None),
            ("-3", Some(-3.0), None),
            ("+2e3", Some(2000.0), None),
            ("5 s", Some(5.0), Some("s")),
            ("00:01", None, None),
            ("1190 bytes (1.16 KB", None, None),
            ("93.0 B", Some(93.0), Some("B")),
            ("12%", Some(12.0), Some("%")),
            ("0x1f", None, None),
            ("1e999", None, None),
            ("1e308 TB", None, None),
            ("node-7", None, None),
            ("-", None, None),
            (".5", Some(0.5), None),
            ("7.", None, None),
            ("1e", None, None),
            ("", None, None),
            ("é", None, None),
        ] {
            assert_eq!(read(text), (number, unit), "{text}");
        }
    }

    #[test]
    fn the_unit_may_be_the_next_word() {
        let line = "Took 0.61 seconds to deallocate";
        let parameter = read_parameter(line, Span::new(5, 9));
        assert_eq!((parameter.number, parameter.unit), (Some(0.61), Some("s")));
        // A span that is not of the line is nothing, not a panic.
        assert_eq!(read_parameter("é", Span::new(1, 9)).number, None);
    }
}
