//! Texts made of seeds, word by word.

use crate::suite::support::Seeded;

const GARBAGE: &[&str] = &[
    "(",
    ")",
    "((((((((",
    "))))))))",
    ",",
    ";",
    "'",
    "\"",
    "--",
    "/*",
    "*/",
    "=",
    "<>",
    "::",
    "->",
    "[",
    "]",
    "{",
    "}",
    ".",
    "..",
    "1e999",
    "99999999999999999999",
    "-9223372036854775808",
    "0.0000000001",
    "'\u{1F600}'",
    "\u{0}",
    "\u{FEFF}",
    "$$",
    "$1",
    "@x",
    "?",
    "NULL",
    "TRUE",
    "INTERVAL",
    "INTERVAL '1 month'",
    "INTERVAL '0 seconds'",
    "INTERVAL '-1 second'",
    "INTERVAL '9223372036854775807 seconds'",
    "INTERVAL '400 days'",
    "INTERVAL '1 nanosecond'",
    "TIMESTAMP '1600-01-01'",
    "TIMESTAMP '9999-12-31'",
    ":: INT",
    ":: TEXT",
    ":: TIMESTAMP(9)",
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "HAVING",
    "ORDER BY ts",
    "LIMIT 5",
    "DISTINCT",
    "UNION",
    "UNION ALL",
    "EXCEPT",
    "OVER ()",
    "OVER (PARTITION BY component ORDER BY ts)",
    "ROWS BETWEEN",
    "UNBOUNDED PRECEDING",
    "CURRENT ROW",
    "JOIN traces t ON",
    "LEFT JOIN",
    "FULL OUTER JOIN",
    "ASOF JOIN",
    "USING (component)",
    "MATCH_CONDITION (a.ts >= b.ts)",
    "EMIT ON UPDATE",
    "EMIT ON WINDOW CLOSE",
    "EMIT EVERY INTERVAL '1 second'",
    "WITH DELAY",
    "RETAIN",
    "AS",
    "ts",
    "component",
    "window_start",
    "window_end",
    "cpu",
    "*",
    "TABLE",
    "DESCRIPTOR(ts)",
    "LATE(metrics)",
    "TUMBLE(metrics,",
    "HOP(",
    "SESSION(",
    "COUNT_WINDOW(",
    "tumble(INTERVAL '1 minute')",
    "count(*)",
    "max(cpu)",
    "metrics",
    "traces",
    "minutes",
    "ring",
    "broken",
    "X'zz'",
    "E'\\x'",
    "CASE WHEN",
    "END",
    "NOT",
    "-",
    "+",
    "/ 0",
    "% 0",
    "IN (SELECT 1)",
    "EXISTS (SELECT 1)",
    "CAST(",
    "TRY_CAST(",
];

/// A text made of seeds.
pub(super) fn mutated(seeds: &[String], random: &mut Seeded) -> Vec<u8> {
    let pick = |random: &mut Seeded, n: usize| random.below(n as u64) as usize;
    let words = |text: &str| -> Vec<String> {
        text.split_inclusive([' ', '(', ')', ',', '.', '\'']).map(str::to_owned).collect()
    };
    let mut text = words(&seeds[pick(random, seeds.len())]);
    for _ in 0..=pick(random, 3) {
        if text.is_empty() {
            break;
        }
        let (i, j) = (pick(random, text.len()), pick(random, text.len()));
        let (low, high) = (i.min(j), i.max(j));
        match pick(random, 8) {
            0 => text.swap(i, j),
            1 => drop(text.remove(i)),
            2 | 3 => text.insert(i, format!(" {} ", GARBAGE[pick(random, GARBAGE.len())])),
            4 => text[i] = format!(" {} ", GARBAGE[pick(random, GARBAGE.len())]),
            // A stretch of another seed.
            5 => {
                let other = words(&seeds[pick(random, seeds.len())]);
                let start = pick(random, other.len());
                let end = start + pick(random, other.len() - start + 1);
                text.splice(i..i, other[start..end].iter().cloned());
            }
            // A stretch again and again: nesting, long lists.
            6 => {
                let again: Vec<String> = text[low..high].to_vec();
                let times = if again.len() < 4 { 1 << pick(random, 8) } else { 2 };
                let again = std::iter::repeat_n(again, times).flatten();
                text.splice(low..low, again.collect::<Vec<_>>());
            }
            _ => drop(text.drain(low..high)),
        }
    }
    let mut bytes = text.concat().into_bytes();
    if pick(random, 8) == 0 && !bytes.is_empty() {
        let place = pick(random, bytes.len());
        match pick(random, 3) {
            0 => bytes.truncate(place),
            1 => bytes[place] ^= 1 << pick(random, 8),
            _ => bytes.insert(place, random.next() as u8),
        }
    }
    bytes
}
