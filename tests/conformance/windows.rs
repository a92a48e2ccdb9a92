//! Window calls for a batch: what makes each row appear once for each window that holds it.

use std::collections::BTreeMap;

use driftline::arrow::array::{Array, AsArray, RecordBatch, TimestampNanosecondArray, UInt32Array};
use driftline::arrow::compute::{cast, take_record_batch};
use driftline::arrow::datatypes::{DataType, TimeUnit, TimestampNanosecondType};
use driftline::arrow::util::display::array_value_to_string;

/// A call such as `HOP(samples, ts, INTERVAL '2 seconds', INTERVAL '6 seconds')` in a FROM.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) name: &'a str,
    /// The call's place in the text.
    pub(crate) range: std::ops::Range<usize>,
    /// A name, or a query in parentheses.
    pub(crate) relation: &'a str,
    /// The time column; the other relation of an ASOF_JOIN.
    pub(crate) time: &'a str,
    pub(crate) numbers: Vec<&'a str>,
    keys: Vec<&'a str>,
}

const NAMES: [&str; 6] =
    ["TUMBLE(", "HOP(", "CUMULATE(", "SESSION(", "COUNT_WINDOW(", "ASOF_JOIN("];

/// Where a list at the top level of `text` has its separators.
fn pieces(text: &str, separator: char) -> Vec<&str> {
    let (mut depth, mut quoted, mut start) = (0, false, 0);
    let mut pieces = Vec::new();
    for (index, c) in text.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            c if c == separator && depth == 0 && !quoted => {
                pieces.push(text[start..index].trim());
                start = index + 1;
            }
            _ => {}
        }
    }
    pieces.push(text[start..].trim());
    pieces
}

/// The last window call in `sql`: none comes within it.
pub(crate) fn last_call(sql: &str) -> Option<Call<'_>> {
    let (start, name) = NAMES
        .iter()
        .filter_map(|name| {
            let found = sql.rmatch_indices(*name).find(|(start, _)| {
                !sql[..*start].ends_with(|c: char| c.is_alphanumeric() || c == '_')
            });
            found.map(|(start, _)| (start, *name))
        })
        .max()?;
    let inner = &sql[start + name.len()..];
    let (mut depth, mut quoted) = (1, false);
    let length = inner.find(|c: char| {
        match c {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    let range = start..start + name.len() + length + 1;
    let inner = &inner[..length];
    // PARTITION BY stands behind the last number.
    let mut arguments = pieces(inner, ',');
    let mut keys = Vec::new();
    let place = arguments.iter().skip(2).position(|piece| piece.contains(" PARTITION BY "));
    if let Some(place) = place.map(|place| place + 2) {
        let (number, first) = arguments[place].split_once(" PARTITION BY ")?;
        keys = std::iter::once(first).chain(arguments.drain(place + 1..)).map(str::trim).collect();
        arguments[place] = number.trim();
    }
    let (relation, time) = (*arguments.first()?, *arguments.get(1)?);
    let name = &name[..name.len() - 1];
    Some(Call { name, range, relation, time, numbers: arguments[2..].to_vec(), keys })
}

impl Call<'_> {
    /// The subquery that does the same in a batch: every row once for each start and each length that could hold it, and
    /// then those that do. `None` for windows whose bounds depend on rows.
    pub(crate) fn as_subquery(&self) -> Option<String> {
        let numbers: Vec<i64> =
            self.numbers.iter().map(|text| interval(text)).collect::<Option<_>>()?;
        let (slide, step, size, offset) = match (self.name, numbers.as_slice()) {
            ("TUMBLE", [size, offset @ ..]) => (*size, *size, *size, offset),
            ("HOP", [slide, size, offset @ ..]) => (*slide, *size, *size, offset),
            ("CUMULATE", [step, size, offset @ ..]) => (*size, *step, *size, offset),
            _ => return None,
        };
        let offset = offset.first().copied().unwrap_or(0);
        let text = |ns: i64| format!("INTERVAL '{} milliseconds'", ns / 1_000_000);
        let (slide_text, offset_text) = (text(slide), text(offset));
        let Self { relation, time, .. } = self;
        let mut copies = Vec::new();
        for back in 0..=size / slide {
            let start = format!(
                "date_bin({slide_text}, {time}, TIMESTAMP '1970-01-01T00:00:00' + {offset_text}) - {}",
                text(back * slide)
            );
            for length in (1..=size / step).map(|steps| text(steps * step)) {
                copies.push(format!(
                    "SELECT *, {start} AS window_start, {start} + {length} AS window_end FROM {relation}"
                ));
            }
        }
        Some(format!("(SELECT * FROM ({}) WHERE {time} < window_end)", copies.join(" UNION ALL ")))
    }

    /// The rows of a session or a counted window, one key and one row after the other: slow, and obviously right.
    pub(crate) fn assign(&self, rows: &RecordBatch) -> Result<RecordBatch, String> {
        let column = |name: &str| {
            rows.column_by_name(name).ok_or_else(|| format!("no column {name} below {self:?}"))
        };
        let time_type = column(self.time)?.data_type();
        let nanoseconds = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let times = cast(column(self.time)?, &nanoseconds).map_err(|error| error.to_string())?;
        let times = times.as_primitive::<TimestampNanosecondType>();
        let mut by_key: BTreeMap<Vec<String>, Vec<u32>> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            let mut key = Vec::new();
            for name in &self.keys {
                let values = column(name)?;
                let text = array_value_to_string(values, row).map_err(|error| error.to_string())?;
                key.push(format!("{}{text}", values.is_null(row)));
            }
            by_key.entry(key).or_default().push(row as u32);
        }
        let time = |row: u32| times.value(row as usize);
        // A row's number, and the bounds of a window that holds it.
        let mut assigned: Vec<(u32, i64, i64)> = Vec::new();
        for own in by_key.values_mut() {
            own.sort_by_key(|row| time(*row));
            let mut add = |window: &[u32], end_after: i64| {
                let (start, end) = (time(window[0]), time(window[window.len() - 1]) + end_after);
                assigned.extend(window.iter().map(|row| (*row, start, end)));
            };
            match (self.name, self.numbers.as_slice()) {
                ("SESSION", [gap]) => {
                    let gap = interval(gap).ok_or("a gap is an interval")?;
                    own.chunk_by(|a, b| time(*b) - time(*a) < gap).for_each(|w| add(w, gap));
                }
                ("COUNT_WINDOW", [count, every @ ..]) => {
                    let number = |text: &str| text.parse::<usize>().map_err(|e| e.to_string());
                    let count = number(count)?;
                    let every = every.first().map_or(Ok(count), |text| number(text))?;
                    for start in (0..own.len()).step_by(every) {
                        own.get(start..start + count).into_iter().for_each(|window| add(window, 0));
                    }
                }
                _ => return Err(format!("cannot assign rows by {self:?}")),
            }
        }
        let indices: UInt32Array = assigned.iter().map(|row| row.0).collect();
        let taken = take_record_batch(rows, &indices).map_err(|error| error.to_string())?;
        let bound = |of: fn(&(u32, i64, i64)) -> i64| {
            let times = TimestampNanosecondArray::from_iter_values(assigned.iter().map(of));
            cast(&times, time_type).map_err(|error| error.to_string())
        };
        let schema = taken.schema();
        let own = schema.fields().iter().map(|field| field.name().as_str());
        let columns = own
            .zip(taken.columns().iter().cloned())
            .chain([("window_start", bound(|row| row.1)?), ("window_end", bound(|row| row.2)?)]);
        RecordBatch::try_from_iter(columns).map_err(|error| error.to_string())
    }
}

/// The length of `INTERVAL 'N unit'`, at the beginning of `text`, in nanoseconds.
pub(crate) fn interval(text: &str) -> Option<i64> {
    let second = 1_000_000_000;
    let inner = text.trim().strip_prefix("INTERVAL '")?.split('\'').next()?;
    let (number, unit) = inner.trim().split_once(' ')?;
    let unit = match unit.trim_end_matches('s') {
        "millisecond" => second / 1000,
        "second" => second,
        "minute" => 60 * second,
        "hour" => 3600 * second,
        "day" => 86_400 * second,
        _ => return None,
    };
    Some(number.parse::<i64>().ok()? * unit)
}
