//! The fuzz targets of `fuzz/`, driven without libFuzzer: seeds, mutated word by word and byte by byte.
//!
//! Two seconds by default; `DRIFTLINE_FUZZ_SECONDS` says how long.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::support::Seeded;

#[path = "../../fuzz/src/sql_front.rs"]
mod sql_front;

/// What one text may take, in a build without optimization on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

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
fn mutated(seeds: &[String], random: &mut Seeded) -> Vec<u8> {
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

#[test]
fn any_text_is_planned_or_refused_and_soon() {
    let seconds = std::env::var("DRIFTLINE_FUZZ_SECONDS").map_or(2, |text| text.parse().unwrap());
    let seed = std::env::var("DRIFTLINE_FUZZ_SEED").map_or(1, |text| text.parse().unwrap());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/sql_front");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<String> =
        files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let (to_target, texts) = mpsc::channel::<Vec<u8>>();
    let (answer, answers) = mpsc::channel();
    std::thread::spawn(move || {
        for text in texts {
            let ran = catch_unwind(AssertUnwindSafe(|| sql_front::run(&text)));
            let _ = answer.send(ran.map_err(|_| ()));
        }
    });
    let mut random = Seeded(seed);
    let begin = Instant::now();
    let (mut rounds, mut plans, mut slowest) = (0u64, 0, Duration::ZERO);
    let mut failures: Vec<String> = Vec::new();
    while begin.elapsed() < Duration::from_secs(seconds) && failures.len() < 20 {
        let text = match seeds.get(rounds as usize) {
            Some(seed) => seed.clone().into_bytes(),
            None => mutated(&seeds, &mut random),
        };
        let start = Instant::now();
        to_target.send(text.clone()).unwrap();
        match answers.recv_timeout(PATIENCE) {
            Ok(Ok(made)) => plans += made,
            Ok(Err(())) => failures.push(format!("panics: {}", String::from_utf8_lossy(&text))),
            Err(_) => {
                failures.push(format!("hangs: {}", String::from_utf8_lossy(&text)));
                break;
            }
        }
        if start.elapsed() > slowest {
            slowest = start.elapsed();
            if slowest > Duration::from_secs(2) {
                println!("{slowest:?}: {}", String::from_utf8_lossy(&text));
            }
        }
        rounds += 1;
    }
    println!("{rounds} texts, {plans} plans, the slowest took {slowest:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(plans > 10, "only {plans} of {rounds} texts are queries");
}

/// Found by the test above: the planner panicked.
#[test]
fn group_keys_may_repeat() {
    for keys in [
        "component, component, window_end",
        "window_end, 1, metrics.component, upper(component), 1, window_end",
    ] {
        let text = format!(
            "SELECT component, sum(cpu) AS cpu FROM TUMBLE(metrics, ts, INTERVAL '5 minutes') AS metrics GROUP BY {keys}"
        );
        assert_eq!(sql_front::run(text.as_bytes()), 1, "{text}");
    }
}

/// Found likewise: the parser tries some words in two ways, and so what is within them twice.
#[test]
fn what_is_nested_and_broken_is_refused_soon() {
    let openers = [
        "substring(",
        "cast(",
        "try_cast(",
        "extract(",
        "ceil(",
        "floor(",
        "position(",
        "overlay(",
        "trim(",
        "exists(",
        "array(",
        "struct(",
        "map(",
        "convert(",
        "interval ",
        "interval + ",
        "interval (",
        "not ",
        "case when ",
        "case ",
        "(",
        "((",
        "[",
        "abs(",
        "a -> ",
        "-",
        "x in (",
        "x between ",
        "x::",
        "{fn abs(",
        "array[",
        "date ",
        "timestamp ",
        "a.b.",
        "(select ",
        "left(",
        "row(",
        "(a, b) -> ",
    ];
    let mut slow = Vec::new();
    for opener in openers {
        for (start, end) in [
            ("SELECT ", " FROM metrics"),
            ("SELECT * FROM ", ""),
            ("SELECT * FROM metrics WHERE ", ""),
        ] {
            let begin = Instant::now();
            for times in [4, 8, 12, 16, 20, 23, 200] {
                let text = format!("{start}{}cpu cpu cpu{end}", opener.repeat(times));
                sql_front::run(text.as_bytes());
                if begin.elapsed() > Duration::from_secs(4) {
                    slow.push(format!("{times} times {opener:?} after {start:?}"));
                    break;
                }
            }
        }
    }
    assert!(slow.is_empty(), "{}", slow.join("\n"));
    // Beside each other there may be many.
    let casts = ["CAST(substring(component FROM 1) AS BIGINT)"; 30].join(" + ");
    assert_eq!(sql_front::run(format!("SELECT {casts} AS n FROM metrics").as_bytes()), 1);
}
