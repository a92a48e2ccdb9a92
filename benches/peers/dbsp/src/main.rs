//! Runs the queries on dbsp: incremental circuits over Z-sets, 40,000 rows a step.
//!
//! Its answers are changes, at each step those of all windows that the step's rows are in; what is compared is their sum.
//! Rows hold the columns that a query reads and are put together before the clock starts, which runs from the first step
//! to the last one's output. State is in memory, and no window is ever forgotten: what a waterline would clear is there
//! at the end.

use std::collections::HashMap;
use std::hash::Hash;

use dbsp::algebra::{F64, UnimplementedSemigroup};
use dbsp::operator::{Fold, Max, Min};
use dbsp::typed_batch::{IndexedZSetReader, SpineSnapshot};
use dbsp::utils::{Tup2, Tup3, Tup4, Tup5, Tup6};
use dbsp::{
    DBData, DBSPHandle, OrdZSet, OutputHandle, RootCircuit, Runtime, Stream, ZSetHandle, ZWeight,
};
use peers_common::{BoxResult, Clock, Job, Lap, cannot, measure, report, rows, write_lines};

/// The allocator that it is shipped with.
#[global_allocator]
static ALLOCATOR: dbsp::mimalloc::MiMalloc = dbsp::mimalloc::MiMalloc;

const STEP_ROWS: usize = 40_000;
const TEN: i64 = 10_000;
const TWO: i64 = 2_000;
const NOTES: &str = "changes, summed up; nothing is forgotten";

type Rows<T> = Stream<RootCircuit, OrdZSet<T>>;
type Answers<T> = OutputHandle<SpineSnapshot<OrdZSet<T>>>;

fn main() -> BoxResult<()> {
    let job = Job::from_args()?;
    match job.query.as_str() {
        "q0" | "q1" | "q7" => whole_bids(&job),
        "q2" | "q5" | "q11" | "q12" => parts_of_bids(&job),
        "q8" => q8(&job),
        query if query.starts_with("tumble_") => tumble(&job),
        other => {
            cannot(&format!("there is no query {other}"));
            Ok(())
        }
    }
}

/// Rows for each step.
fn steps<T: Clone>(rows: &[T]) -> Vec<Vec<Tup2<T, ZWeight>>> {
    let step = |rows: &[T]| rows.iter().map(|row| Tup2(row.clone(), 1)).collect();
    rows.chunks(STEP_ROWS).map(step).collect()
}

/// Adds changes up. A row that came twice is there twice.
fn summed<T: DBData + Hash>(changes: Vec<OrdZSet<T>>) -> Vec<T> {
    let mut weights: HashMap<T, ZWeight> = HashMap::new();
    for batch in changes {
        for (row, (), weight) in batch.iter() {
            *weights.entry(row).or_default() += weight;
        }
    }
    let times = weights.into_iter().filter(|(_, weight)| *weight > 0);
    times.flat_map(|(row, weight)| std::iter::repeat_n(row, weight as usize)).collect()
}

/// Takes steps; `feed` gives the rows of the step with a number.
fn run<T: DBData + Hash>(
    mut circuit: DBSPHandle,
    answers: &Answers<T>,
    count: usize,
    mut feed: impl FnMut(usize),
) -> BoxResult<(Lap, Vec<T>)> {
    let mut changes = Vec::with_capacity(count);
    let clock = Clock::start();
    for number in 0..count {
        feed(number);
        circuit.transaction()?;
        changes.push(answers.concat().consolidate());
    }
    let lap = clock.stop();
    circuit.kill().map_err(|_| "a worker panicked")?;
    Ok((lap, summed(changes)))
}

/// Measures a circuit with one input.
fn one_input<T: DBData, R: DBData + Hash>(
    job: &Job,
    rows: &[T],
    plan: impl Fn(&Rows<T>) -> Rows<R> + Clone + Send + 'static,
    line: impl Fn(R) -> String,
) -> BoxResult<()> {
    let round = || {
        let plan = plan.clone();
        let (circuit, (input, answers)) = Runtime::init_circuit(job.workers, move |circuit| {
            let (rows, input): (Rows<T>, ZSetHandle<T>) = circuit.add_input_zset();
            Ok((input, plan(&rows).accumulate_output()))
        })?;
        let mut steps = steps(rows);
        run(circuit, &answers, steps.len(), |number| input.append(&mut steps[number]))
    };
    let write = |job: &Job, results: Vec<R>| write_lines(job, results.into_iter().map(&line));
    let (results, laps) = measure(job, round, Vec::len, write)?;
    report(rows.len(), results, &laps, NOTES);
    Ok(())
}

type BidRow = Tup5<i64, i64, i64, i64, String>;

fn whole_bids(job: &Job) -> BoxResult<()> {
    let rows: Vec<BidRow> = rows::bids(job)?
        .into_iter()
        .map(|bid| Tup5(bid.auction, bid.bidder, bid.price, bid.date_time, bid.extra))
        .collect();
    let five = |Tup5(a, b, c, d, e): BidRow| format!("{a}\t{b}\t{c}\t{d}\t{e}");
    match job.query.as_str() {
        "q0" => one_input(job, &rows, |bids| bids.map(Clone::clone), five),
        "q1" => {
            let plan = |bids: &Rows<BidRow>| {
                bids.map(|Tup5(auction, bidder, price, time, extra)| {
                    let price = F64::new(0.908 * *price as f64);
                    Tup5(*auction, *bidder, price, *time, extra.clone())
                })
            };
            let line = |Tup5(a, b, c, d, e): Tup5<i64, i64, F64, i64, String>| {
                format!("{a}\t{b}\t{:?}\t{d}\t{e}", c.into_inner())
            };
            one_input(job, &rows, plan, line)
        }
        _ => {
            let plan = |bids: &Rows<BidRow>| {
                let priced = bids.map_index(|bid| (start(bid.3, TEN), bid.2));
                let most =
                    priced.aggregate(Max).map_index(|(window, most)| (Tup2(*window, *most), ()));
                bids.map_index(|bid| (Tup2(start(bid.3, TEN), bid.2), bid.clone()))
                    .join(&most, |_, bid, ()| bid.clone())
            };
            let line = |Tup5(auction, bidder, price, time, extra): BidRow| {
                format!("{auction}\t{price}\t{bidder}\t{time}\t{extra}")
            };
            one_input(job, &rows, plan, line)
        }
    }
}

/// The start of the window of a time.
fn start(time: i64, size: i64) -> i64 {
    time.div_euclid(size) * size
}

fn parts_of_bids(job: &Job) -> BoxResult<()> {
    let bids = rows::bids(job)?;
    let pairs = |of: fn(&rows::Bid) -> (i64, i64)| -> Vec<Tup2<i64, i64>> {
        bids.iter().map(of).map(|(a, b)| Tup2(a, b)).collect()
    };
    match job.query.as_str() {
        "q2" => {
            let plan = |bids: &Rows<Tup2<i64, i64>>| bids.filter(|bid| bid.0 % 123 == 0);
            let line = |Tup2(a, b): Tup2<i64, i64>| format!("{a}\t{b}");
            one_input(job, &pairs(|bid| (bid.auction, bid.price)), plan, line)
        }
        "q5" => {
            let plan = |bids: &Rows<Tup2<i64, i64>>| {
                let counts = bids
                    .flat_map_index(|Tup2(auction, time)| {
                        let (auction, pane) = (*auction, start(*time, TWO));
                        (1..=5).map(move |past| (Tup2(auction, pane + past * TWO), ()))
                    })
                    .weighted_count();
                let by_window =
                    counts.map_index(|(Tup2(auction, end), count)| (*end, Tup2(*count, *auction)));
                let most =
                    by_window.map_index(|(end, Tup2(count, _))| (*end, *count)).aggregate(Max);
                // Changes of counts that are not the most stay out of the join.
                let best = most.map_index(|(end, most)| (Tup2(*end, *most), ()));
                by_window
                    .map_index(|(end, Tup2(count, auction))| (Tup2(*end, *count), *auction))
                    .join(&best, |Tup2(end, count), auction, ()| Tup3(*auction, *count, *end))
            };
            let line = |Tup3(a, b, c): Tup3<i64, i64, i64>| format!("{a}\t{b}\t{c}");
            one_input(job, &pairs(|bid| (bid.auction, bid.date_time)), plan, line)
        }
        "q11" => {
            // There are no session windows: a bidder's sessions are worked out anew from all of its rows when one comes.
            let plan = |bids: &Rows<Tup2<i64, i64>>| {
                let sessions =
                    Fold::<i64, Vec<Tup3<i64, i64, i64>>, UnimplementedSemigroup<_>, _, _>::new(
                        Vec::new(),
                        |sessions: &mut Vec<Tup3<i64, i64, i64>>, time: &i64, weight: ZWeight| {
                            match sessions.last_mut() {
                                Some(Tup3(count, _, last)) if *time < *last + TEN => {
                                    *count += weight;
                                    *last = *time;
                                }
                                _ => sessions.push(Tup3(weight, *time, *time)),
                            }
                        },
                    );
                bids.map_index(|Tup2(bidder, time)| (*bidder, *time)).aggregate(sessions).flat_map(
                    |(bidder, sessions)| {
                        let bidder = *bidder;
                        let rows = sessions.clone().into_iter();
                        rows.map(move |Tup3(count, first, last)| {
                            Tup4(bidder, count, first, last + TEN)
                        })
                    },
                )
            };
            let line = |Tup4(a, b, c, d): Tup4<i64, i64, i64, i64>| format!("{a}\t{b}\t{c}\t{d}");
            one_input(job, &pairs(|bid| (bid.bidder, bid.date_time)), plan, line)
        }
        _ => {
            let plan = |bids: &Rows<Tup2<i64, i64>>| {
                bids.map_index(|Tup2(bidder, time)| (Tup2(*bidder, start(*time, TEN)), ()))
                    .weighted_count()
                    .map(|(Tup2(bidder, start), count)| Tup3(*bidder, *count, *start))
            };
            let line = |Tup3(a, b, c): Tup3<i64, i64, i64>| format!("{a}\t{b}\t{c}\t{}", c + TEN);
            one_input(job, &pairs(|bid| (bid.bidder, bid.date_time)), plan, line)
        }
    }
}

type PersonRow = Tup3<i64, String, i64>;

fn q8(job: &Job) -> BoxResult<()> {
    let people: Vec<PersonRow> = rows::people(job)?
        .into_iter()
        .map(|person| Tup3(person.id, person.name, person.date_time))
        .collect();
    let sales: Vec<Tup2<i64, i64>> =
        rows::auctions(job)?.into_iter().map(|sale| Tup2(sale.seller, sale.date_time)).collect();
    let events = people.len() + sales.len();
    let round = || {
        let (circuit, (came, sold, answers)) = Runtime::init_circuit(job.workers, |circuit| {
            let (people, came): (Rows<PersonRow>, ZSetHandle<PersonRow>) = circuit.add_input_zset();
            let (sales, sold): (Rows<Tup2<i64, i64>>, ZSetHandle<_>) = circuit.add_input_zset();
            let people = people
                .map(|Tup3(id, name, time)| Tup3(*id, start(*time, TEN), name.clone()))
                .distinct()
                .map_index(|Tup3(id, start, name)| (Tup2(*id, *start), name.clone()));
            let sellers = sales
                .map(|Tup2(seller, time)| Tup2(*seller, start(*time, TEN)))
                .distinct()
                .map_index(|seller| (seller.clone(), ()));
            let both =
                people.join(&sellers, |Tup2(id, start), name, ()| Tup3(*id, name.clone(), *start));
            Ok((came, sold, both.accumulate_output()))
        })?;
        // Both inputs advance together: a step has the same share of either.
        let count = events.div_ceil(STEP_ROWS);
        let mut came_steps = shares(&people, count);
        let mut sold_steps = shares(&sales, count);
        run(circuit, &answers, count, |number| {
            came.append(&mut came_steps[number]);
            sold.append(&mut sold_steps[number]);
        })
    };
    let write = |job: &Job, results: Vec<Tup3<i64, String, i64>>| {
        write_lines(job, results.into_iter().map(|Tup3(a, b, c)| format!("{a}\t{b}\t{c}")))
    };
    let (results, laps) = measure(job, round, Vec::len, write)?;
    report(events, results, &laps, NOTES);
    Ok(())
}

/// Rows in `count` steps of about one size.
fn shares<T: Clone>(rows: &[T], count: usize) -> Vec<Vec<Tup2<T, ZWeight>>> {
    let end = |number: usize| rows.len() * number / count;
    let step = |number| rows[end(number)..end(number + 1)].iter().map(|row| Tup2(row.clone(), 1));
    (0..count).map(|number| step(number).collect()).collect()
}

fn tumble(job: &Job) -> BoxResult<()> {
    let rows: Vec<Tup3<i64, String, F64>> = rows::load(job, job.keys().ok_or("no keys")?)?
        .into_iter()
        .map(|row| Tup3(row.ts.div_euclid(1_000_000), row.host, F64::new(row.value)))
        .collect();
    let plan = |rows: &Rows<Tup3<i64, String, F64>>| {
        let values = rows
            .map_index(|Tup3(time, host, value)| (Tup2(start(*time, TEN), host.clone()), *value));
        // Sums are linear, so that they need no rows; what is least and most is looked up among them.
        let sums = values.aggregate_linear(|value| Tup3(1i64, *value, *value * *value));
        let least = values.aggregate(Min);
        let most = values.aggregate(Max);
        sums.join_index(&least, |key, sums, least| Some((key.clone(), Tup2(sums.clone(), *least))))
            .join(&most, |Tup2(start, host), Tup2(Tup3(count, sum, squares), least), most| {
                Tup6(host.clone(), *start, *count, Tup2(*sum, *squares), *least, *most)
            })
    };
    let line = |Tup6(host, start, count, Tup2(sum, squares), least, most): TumbleRow| {
        let (sum, squares) = (sum.into_inner(), squares.into_inner());
        let deviation = match count {
            1 => String::new(),
            count => {
                let rest = (squares - sum * sum / count as f64).max(0.0);
                format!("{:?}", (rest / (count - 1) as f64).sqrt())
            }
        };
        let (mean, least, most) = (sum / count as f64, least.into_inner(), most.into_inner());
        format!("{host}\t{start}\t{count}\t{mean:?}\t{deviation}\t{least:?}\t{most:?}")
    };
    one_input(job, &rows, plan, line)
}

type TumbleRow = Tup6<String, i64, i64, Tup2<F64, F64>, F64, F64>;
