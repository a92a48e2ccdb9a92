//! The fuzz targets of `fuzz/`, driven without libFuzzer: seeds, mutated word by word and byte by byte.
//!
//! Two seconds for each target by default; `DRIFTLINE_FUZZ_SECONDS` says how long.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::support::{Seeded, within_minutes};

mod bytes;
mod words;

#[path = "../../fuzz/src/checkpoint_reader.rs"]
mod checkpoint_reader;
#[path = "../../fuzz/src/file_source.rs"]
mod file_source;
#[path = "../../fuzz/src/log_lines.rs"]
mod log_lines;
#[path = "../../fuzz/src/model_import.rs"]
mod model_import;
#[path = "../../fuzz/src/sql_front.rs"]
mod sql_front;

/// What one input may take, in a build without optimization on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Calls a target with its seeds and then with what is made of them; the sum of its answers, and how many inputs there
/// were.
fn drive(
    target: fn(&[u8]) -> usize,
    seeds: &[Vec<u8>],
    mut mutated: impl FnMut(&mut Seeded) -> Vec<u8>,
    shown: fn(&[u8]) -> String,
) -> (usize, u64) {
    let seconds = std::env::var("DRIFTLINE_FUZZ_SECONDS").map_or(2, |text| text.parse().unwrap());
    let seed = std::env::var("DRIFTLINE_FUZZ_SEED").map_or(1, |text| text.parse().unwrap());
    let (to_target, inputs) = mpsc::channel::<Vec<u8>>();
    let (answer, answers) = mpsc::channel();
    std::thread::spawn(move || {
        for input in inputs {
            let ran = catch_unwind(AssertUnwindSafe(|| target(&input)));
            let _ = answer.send(ran.map_err(|_| ()));
        }
    });
    let mut random = Seeded(seed);
    let begin = Instant::now();
    let (mut rounds, mut made, mut slowest) = (0u64, 0, Duration::ZERO);
    let mut failures: Vec<String> = Vec::new();
    while begin.elapsed() < Duration::from_secs(seconds) && failures.len() < 20
        || rounds < seeds.len() as u64
    {
        let input = match seeds.get(rounds as usize) {
            Some(seed) => seed.clone(),
            None => mutated(&mut random),
        };
        let start = Instant::now();
        to_target.send(input.clone()).unwrap();
        match answers.recv_timeout(PATIENCE) {
            Ok(Ok(count)) => made += count,
            Ok(Err(())) => failures.push(format!("panics: {}", shown(&input))),
            Err(_) => {
                failures.push(format!("hangs: {}", shown(&input)));
                break;
            }
        }
        if start.elapsed() > slowest {
            slowest = start.elapsed();
            if slowest > Duration::from_secs(2) {
                println!("{slowest:?}: {}", shown(&input));
            }
        }
        rounds += 1;
    }
    println!("{rounds} inputs, answers in all {made}, the slowest took {slowest:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    (made, rounds)
}

#[test]
fn any_text_is_planned_or_refused_and_soon() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/sql_front");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<String> =
        files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let texts: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.clone().into_bytes()).collect();
    let shown = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    let (plans, texts) =
        drive(sql_front::run, &texts, |random| words::mutated(&seeds, random), shown);
    assert!(plans > 10, "only {plans} of {texts} texts are queries");
}

#[test]
fn any_file_is_read_or_refused_and_soon() {
    let seeds = bytes::files();
    let (rows, files) =
        drive(file_source::run, &seeds, |random| bytes::mutated(&seeds, random), bytes::shown);
    assert!(rows > 100, "only {rows} rows of {files} files are read");
}

#[test]
fn any_lines_get_keys_or_their_format_is_refused_and_soon() {
    let seeds = bytes::lines();
    let (keys, inputs) =
        drive(log_lines::run, &seeds, |random| bytes::mutated(&seeds, random), bytes::shown);
    assert!(keys > 100, "only {keys} keys are given to {inputs} inputs");
}

#[test]
fn any_models_are_taken_up_or_refused_and_the_engine_lives_on() {
    let seeds = bytes::models();
    let (taken, files) =
        drive(model_import::run, &seeds, |random| bytes::mutated(&seeds, random), bytes::shown);
    assert!(taken >= seeds.len(), "only {taken} of {files} files are taken up");
}

#[test]
fn any_checkpoint_is_gone_on_from_or_refused_and_soon() {
    let seeds = checkpoint_reader::seeds();
    // To go on from each as it is takes one of its blobs.
    let wholes: Vec<_> = seeds.iter().filter(|seed| seed[1] == 0).cloned().collect();
    let mutated = |random: &mut Seeded| bytes::mutated(&seeds, random);
    let (whole, inputs) = drive(checkpoint_reader::run, &wholes, mutated, bytes::shown);
    assert!(whole >= wholes.len(), "only {whole} of {inputs} checkpoints are gone on from");
}

/// Found by the test above: an operator that could not take its state up left a query that never ended, and with it an engine
/// that waited for it.
#[test]
fn state_of_something_else_fails_its_query_and_holds_nothing_up() {
    let of_detector = |seed: &Vec<u8>| {
        let kind = seed.windows(13).rposition(|text| text == b"robust_zscore");
        kind.filter(|_| seed[1] == checkpoint_reader::MENDED).map(|at| (seed.clone(), at))
    };
    let seeds = checkpoint_reader::seeds();
    let (mut seed, at) = seeds.iter().find_map(of_detector).unwrap();
    assert_eq!(checkpoint_reader::run(&seed), 1);
    let told = seed.windows(13).filter(|text| *text == b"robust_zscore").count();
    assert!(told > 1, "the plan names the kind, and the models do");
    seed[at] = b'R';
    let gone_on = within_minutes(move || checkpoint_reader::run(&seed));
    assert_eq!(gone_on, 0, "models of another kind are refused");
}

/// Found by a test above: the planner panicked.
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
