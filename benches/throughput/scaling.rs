//! What a second worker brings.

use super::data::{CREATE, Load, SECOND, stream};
use crate::BoxResult;
use crate::timing::{Took, median};

const ROWS: usize = 8_000_000;
const ROUNDS: usize = 5;

/// Each has more than a hundred keys.
const QUERIES: [(&str, &str); 4] = [
    (
        "tumble_1e4",
        "SELECT host, window_end, count(*) AS n, avg(value) AS mean, stddev(value) AS deviation, min(value) AS least,
            max(value) AS most FROM TUMBLE(load, ts, INTERVAL '10 seconds') GROUP BY host, window_start, window_end",
    ),
    (
        "hop",
        "SELECT host, window_end, count(*) AS n, avg(value) AS mean FROM HOP(load, ts, INTERVAL '1 second', INTERVAL '10 seconds')
            GROUP BY host, window_start, window_end",
    ),
    (
        "session",
        "SELECT host, window_end, count(*) AS n FROM SESSION(load, ts, INTERVAL '5 seconds' PARTITION BY host)
            GROUP BY host, window_start, window_end",
    ),
    (
        "over",
        "SELECT host, ts, avg(value) OVER (PARTITION BY host ORDER BY ts ROWS BETWEEN 9 PRECEDING AND CURRENT ROW) AS mean
            FROM load",
    ),
];

pub(crate) fn report() -> BoxResult<()> {
    let batches =
        Load { rows: ROWS, keys: 10_000, span_ns: 100 * SECOND, moves_on: false }.batches()?;
    let cores = std::thread::available_parallelism()?;
    println!(
        "one worker and two: {ROWS} rows, 10,000 keys, on {cores} cores, one of which also pushes and reads"
    );
    let mut least = f64::MAX;
    // One query alone may be asked for.
    let named: Vec<String> = std::env::args().skip(1).collect();
    let is_named = |name: &str| named.iter().any(|other| other == name);
    let any = QUERIES.iter().any(|(name, _)| is_named(name));
    for (name, query) in QUERIES.into_iter().filter(|(name, _)| !any || is_named(name)) {
        let batches = if name == "over" { &batches[..batches.len() / 8] } else { &batches };
        let (mut one, mut two) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            one.push(stream(CREATE, query, 1, batches)?.1);
            two.push(stream(CREATE, query, 2, batches)?.1);
        }
        let per_row = |took: &[Took], of: fn(&Took) -> f64| {
            let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
            median(&took.iter().map(of).collect::<Vec<_>>()) * 1e9 / rows as f64
        };
        for (workers, took) in [(1, &one), (2, &two)] {
            println!(
                "{name}, {workers} workers: {:.1} ns a row by the clock, {:.1} ns of processor time",
                per_row(took, |took| took.seconds),
                per_row(took, |took| took.busy)
            );
        }
        let seconds = |took: &Took| took.seconds;
        let ratio = per_row(&one, seconds) / per_row(&two, seconds);
        println!("figure: scaling_two_workers_{name} = {ratio:.2} ratio");
        least = least.min(ratio);
    }
    println!("figure: scaling_two_workers = {least:.2} ratio");
    Ok(())
}
