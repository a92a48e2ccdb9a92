//! Runs the queries on renoir: rows are structs, batches have a fixed size, and a watermark follows each second of rows.
//!
//! The clock runs while the job is executed. Rows are cloned for each round before it starts, because a source gives its
//! rows away.

use std::sync::{Arc, Mutex};

use peers_common::rows::{Bid, Load};
use peers_common::{BoxResult, Clock, Job, Lap, cannot, measure, report, rows, write_lines};
use renoir::Stream;
use renoir::operator::sink::StreamOutput;
use renoir::operator::{Operator, StreamElement};
use renoir::prelude::*;

mod windows;

use windows::{Aligned, Sessions};

const SECOND_MS: i64 = 1_000;
const SECOND_NS: i64 = 1_000_000_000;
const BATCH_ROWS: usize = 8192;
const NOTES: &str = "windows written by its traits: its own begin at a key's first row";

fn main() -> BoxResult<()> {
    let job = Job::from_args()?;
    match job.query.as_str() {
        "q8" => q8(&job),
        query if query.starts_with("tumble_") => tumble(&job),
        "q0" | "q1" | "q2" | "q5" | "q7" | "q11" | "q12" => bids(&job),
        other => {
            cannot(&format!("there is no query {other}"));
            Ok(())
        }
    }
}

/// Rows of a part for each worker, batch by batch in turn.
type Parts<T> = Arc<Mutex<Vec<Vec<T>>>>;

fn parts<T: Clone>(rows: &[T], workers: usize) -> Parts<T> {
    let mut parts = vec![Vec::with_capacity(rows.len() / workers + BATCH_ROWS); workers];
    for (number, batch) in rows.chunks(BATCH_ROWS).enumerate() {
        parts[number % workers].extend_from_slice(batch);
    }
    Arc::new(Mutex::new(parts))
}

fn source<T: Clone + Send + 'static>(
    env: &StreamContext,
    parts: &Parts<T>,
) -> Stream<impl Operator<Out = T> + 'static + use<T>> {
    let parts = Arc::clone(parts);
    env.stream_par_iter(move |worker: u64, _: u64| {
        let rows = std::mem::take(&mut parts.lock().expect("nobody panics")[worker as usize]);
        rows.into_iter()
    })
    .batch_mode(BatchMode::fixed(BATCH_ROWS))
}

/// Adds times, and each second of rows a watermark that lies `disorder` below the latest.
fn timed<T: Clone + Send + 'static>(
    stream: Stream<impl Operator<Out = T> + 'static>,
    time: impl Fn(&T) -> i64 + Clone + Send + 'static,
    second: i64,
    disorder: i64,
) -> Stream<impl Operator<Out = T> + 'static> {
    let (mut latest, mut next) = (i64::MIN, i64::MIN);
    stream.add_timestamps(
        move |row| time(row),
        move |_, time| {
            latest = latest.max(*time);
            (latest >= next).then(|| {
                next = latest + second;
                latest - disorder
            })
        },
    )
}

fn context(job: &Job) -> BoxResult<StreamContext> {
    Ok(StreamContext::new(RuntimeConfig::local(job.workers as u64)?))
}

fn execute<T>(env: StreamContext, output: StreamOutput<Vec<T>>) -> BoxResult<(Lap, Vec<T>)> {
    let clock = Clock::start();
    env.execute_blocking();
    let lap = clock.stop();
    Ok((lap, output.get().ok_or("no output")?))
}

/// Runs what `plan` makes of the rows, round by round.
fn run<T, R>(
    job: &Job,
    rows: Vec<T>,
    notes: &str,
    plan: impl Fn(&StreamContext, &Parts<T>) -> StreamOutput<Vec<R>>,
    line: impl Fn(R) -> String,
) -> BoxResult<()>
where
    T: Clone,
{
    let round = || {
        let env = context(job)?;
        let output = plan(&env, &parts(&rows, job.workers));
        execute(env, output)
    };
    let write = |job: &Job, results: Vec<R>| write_lines(job, results.into_iter().map(&line));
    let (results, laps) = measure(job, round, Vec::len, write)?;
    report(rows.len(), results, &laps, notes);
    Ok(())
}

type Price = (i64, i64, i64, i64, String);

fn bids(job: &Job) -> BoxResult<()> {
    let rows = rows::bids(job)?;
    let five = |(a, b, c, d, e): Price| format!("{a}\t{b}\t{c}\t{d}\t{e}");
    let stamped = |env: &StreamContext, parts: &Parts<Bid>| {
        timed(source(env, parts), |bid| bid.date_time, SECOND_MS, 4 * SECOND_MS)
    };
    match job.query.as_str() {
        "q0" => {
            let row = |bid: Bid| (bid.auction, bid.bidder, bid.price, bid.date_time, bid.extra);
            run(job, rows, "", |env, parts| source(env, parts).map(row).collect_vec(), five)
        }
        "q1" => {
            let row = |bid: Bid| {
                (bid.auction, bid.bidder, 0.908 * bid.price as f64, bid.date_time, bid.extra)
            };
            let line = |(a, b, c, d, e)| format!("{a}\t{b}\t{c:?}\t{d}\t{e}");
            run(job, rows, "", |env, parts| source(env, parts).map(row).collect_vec(), line)
        }
        "q2" => {
            let plan = |env: &StreamContext, parts: &Parts<Bid>| {
                let some = source(env, parts).filter(|bid| bid.auction % 123 == 0);
                some.map(|bid| (bid.auction, bid.price)).collect_vec()
            };
            run(job, rows, "", plan, |(a, b): (i64, i64)| format!("{a}\t{b}"))
        }
        "q5" => {
            let plan = |env: &StreamContext, parts: &Parts<Bid>| {
                let counts = stamped(env, parts)
                    .map(|bid| bid.auction)
                    .group_by(|auction| *auction)
                    .window(Aligned::sliding(10 * SECOND_MS, 2 * SECOND_MS))
                    .fold(0i64, |count, _: &i64| *count += 1)
                    .rich_map_custom(|mut input| match input.next() {
                        // The time of a result is the end of its window.
                        StreamElement::Timestamped((auction, count), end) => {
                            StreamElement::Timestamped((auction, count, end), end)
                        }
                        StreamElement::Item(_) => panic!("rows have timestamps"),
                        StreamElement::Watermark(time) => StreamElement::Watermark(time),
                        StreamElement::FlushBatch => StreamElement::FlushBatch,
                        StreamElement::FlushAndRestart => StreamElement::FlushAndRestart,
                        StreamElement::Terminate => StreamElement::Terminate,
                    });
                let most = counts
                    .group_by(|(_, _, end): &(i64, i64, i64)| *end)
                    .window(Aligned::tumbling(1))
                    .fold(
                        (0i64, Vec::new()),
                        |(most, auctions): &mut (i64, Vec<i64>),
                         (auction, count, _): &(i64, i64, i64)| {
                            if *count > *most {
                                *most = *count;
                                auctions.clear();
                            }
                            if *count == *most {
                                auctions.push(*auction);
                            }
                        },
                    );
                most.unkey()
                    .flat_map(|(end, (most, auctions))| {
                        auctions.into_iter().map(move |auction| (auction, most, end))
                    })
                    .collect_vec()
            };
            run(job, rows, NOTES, plan, |(a, b, c): (i64, i64, i64)| format!("{a}\t{b}\t{c}"))
        }
        "q7" => {
            let best = |(most, bids): &mut (i64, Vec<Price>), bid: &Price| {
                if bid.1 > *most {
                    *most = bid.1;
                    bids.clear();
                }
                if bid.1 == *most {
                    bids.push(bid.clone());
                }
            };
            let plan = |env: &StreamContext, parts: &Parts<Bid>| {
                // The best of each worker, and then of all; the second windows hold the results of one first window each.
                stamped(env, parts)
                    .map(|bid| (bid.auction, bid.price, bid.bidder, bid.date_time, bid.extra))
                    .key_by(|_| ())
                    .window(Aligned::tumbling(10 * SECOND_MS))
                    .fold((i64::MIN, Vec::new()), best)
                    .drop_key()
                    .window_all(Aligned::tumbling(10 * SECOND_MS))
                    .fold((i64::MIN, Vec::new()), move |all, (_, bids): &(i64, Vec<Price>)| {
                        bids.iter().for_each(|bid| best(all, bid));
                    })
                    .drop_key()
                    .flat_map(|(_, bids)| bids)
                    .collect_vec()
            };
            run(job, rows, NOTES, plan, five)
        }
        "q11" => {
            let plan = |env: &StreamContext, parts: &Parts<Bid>| {
                stamped(env, parts)
                    .map(|bid| (bid.bidder, bid.date_time))
                    .group_by(|(bidder, _)| *bidder)
                    .map(|(_, (_, time))| time)
                    .reorder()
                    .window(Sessions { gap: 10 * SECOND_MS })
                    .fold((0i64, i64::MAX, i64::MIN), |(count, first, last), time: &i64| {
                        *count += 1;
                        *first = (*first).min(*time);
                        *last = (*last).max(*time);
                    })
                    .unkey()
                    .collect_vec()
            };
            let line = |(bidder, (count, first, last)): (i64, (i64, i64, i64))| {
                format!("{bidder}\t{count}\t{first}\t{}", last + 10 * SECOND_MS)
            };
            run(job, rows, NOTES, plan, line)
        }
        _ => {
            let plan = |env: &StreamContext, parts: &Parts<Bid>| {
                stamped(env, parts)
                    .map(|bid| (bid.bidder, bid.date_time))
                    .group_by(|(bidder, _)| *bidder)
                    .window(Aligned::tumbling(10 * SECOND_MS))
                    .fold((0i64, 0i64), |(count, start), (_, time): &(i64, i64)| {
                        *count += 1;
                        *start = time.div_euclid(10 * SECOND_MS) * 10 * SECOND_MS;
                    })
                    .unkey()
                    .collect_vec()
            };
            let line = |(bidder, (count, start)): (i64, (i64, i64))| {
                format!("{bidder}\t{count}\t{start}\t{}", start + 10 * SECOND_MS)
            };
            run(job, rows, NOTES, plan, line)
        }
    }
}

/// Both sides meet in one window for each key: who came, and whether an auction was opened.
fn q8(job: &Job) -> BoxResult<()> {
    let (people, auctions) = (rows::people(job)?, rows::auctions(job)?);
    let events = people.len() + auctions.len();
    let round = || {
        let env = context(job)?;
        let came = timed(
            source(&env, &parts(&people, job.workers)),
            |person| person.date_time,
            SECOND_MS,
            4 * SECOND_MS,
        )
        .map(|person| (person.id, person.date_time, Some(person.name)));
        let sold = timed(
            source(&env, &parts(&auctions, job.workers)),
            |auction| auction.date_time,
            SECOND_MS,
            4 * SECOND_MS,
        )
        .map(|auction| (auction.seller, auction.date_time, None));
        let output = came
            .group_by(|(id, ..)| *id)
            .merge(sold.group_by(|(id, ..)| *id))
            .window(Aligned::tumbling(10 * SECOND_MS))
            .fold(
                (None, false, 0),
                |(name, sold, start): &mut (Option<String>, bool, i64),
                 (_, time, person): &(i64, i64, Option<String>)| {
                    *start = time.div_euclid(10 * SECOND_MS) * 10 * SECOND_MS;
                    match person {
                        Some(_) => name.clone_from(person),
                        None => *sold = true,
                    }
                },
            )
            .unkey()
            .filter_map(|(id, (name, sold, start))| {
                name.filter(|_| sold).map(|name| (id, name, start))
            })
            .collect_vec();
        execute(env, output)
    };
    let write = |job: &Job, results: Vec<(i64, String, i64)>| {
        write_lines(job, results.into_iter().map(|(a, b, c)| format!("{a}\t{b}\t{c}")))
    };
    let (results, laps) = measure(job, round, Vec::len, write)?;
    report(events, results, &laps, NOTES);
    Ok(())
}

/// Five aggregates; mean and deviation after Welford.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Five {
    start: i64,
    count: i64,
    mean: f64,
    squares: f64,
    least: f64,
    most: f64,
}

impl Five {
    fn add(&mut self, row: &Load) {
        self.start = row.ts.div_euclid(10 * SECOND_NS) * 10 * SECOND_NS;
        self.count += 1;
        let delta = row.value - self.mean;
        self.mean += delta / self.count as f64;
        self.squares += delta * (row.value - self.mean);
        self.least = self.least.min(row.value);
        self.most = self.most.max(row.value);
    }
}

fn tumble(job: &Job) -> BoxResult<()> {
    let rows = rows::load(job, job.keys().ok_or("no keys")?)?;
    let none = Five {
        start: 0,
        count: 0,
        mean: 0.0,
        squares: 0.0,
        least: f64::INFINITY,
        most: f64::NEG_INFINITY,
    };
    let plan = |env: &StreamContext, parts: &Parts<Load>| {
        timed(source(env, parts), |row| row.ts, SECOND_NS, 2 * SECOND_NS)
            .group_by(|row| row.host.clone())
            .window(Aligned::tumbling(10 * SECOND_NS))
            .fold(none.clone(), |five: &mut Five, row: &Load| five.add(row))
            .unkey()
            .collect_vec()
    };
    let line = |(host, five): (String, Five)| {
        let deviation = match five.count {
            1 => String::new(),
            count => format!("{:?}", (five.squares / (count - 1) as f64).sqrt()),
        };
        let Five { start, count, mean, least, most, .. } = five;
        let start = start / 1_000_000;
        format!("{host}\t{start}\t{count}\t{mean:?}\t{deviation}\t{least:?}\t{most:?}")
    };
    run(job, rows, NOTES, plan, line)
}
