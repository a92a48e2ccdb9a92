//! Parts of the engine by themselves, by divan: numbers of keys, splitting by key, rows that wait in a join, lines of a log.
//!
//! ```text
//! cargo bench --bench parts
//! cargo bench --bench parts -- join
//! ```
//!
//! Items are rows or lines. Whole queries are in `throughput`: what a part takes here has its caches to itself.

use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use driftline::arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampNanosecondArray};
use driftline_operators::join::{Join, JoinKind, JoinSpec, Joining, Side};
use driftline_operators::key::{KeyInterner, KeySplitter};
use driftline_operators::logs::{
    Drain, DrainSettings, LogParser, ParsedLine, Signature, SignatureSettings, Spell, SpellSettings,
};
use driftline_operators::time::EventTime;
use random::Random;

#[allow(dead_code)]
#[path = "common/random.rs"]
mod random;

const ROWS: usize = 8_192;
/// So many different batches, one after the other.
const BATCHES: usize = 16;
const SECOND: i64 = 1_000_000_000;

fn main() {
    divan::main();
}

/// Rows of texts and times, a second of them in each batch.
fn batches(keys: usize) -> Vec<RecordBatch> {
    let mut random = Random(1);
    let batch = |number: usize| {
        let hosts: StringArray =
            (0..ROWS).map(|_| Some(format!("host-{}", random.below(keys)))).collect();
        let start = number as i64 * SECOND;
        let times = (0..ROWS).map(|row| start + row as i64 * SECOND / ROWS as i64);
        let times = TimestampNanosecondArray::from_iter_values(times);
        let columns = [("host", Arc::new(hosts) as ArrayRef), ("ts", Arc::new(times))];
        RecordBatch::try_from_iter(columns).expect("columns are of one length")
    };
    (0..BATCHES).map(batch).collect()
}

#[divan::bench(args = [1_000, 100_000, 1_000_000])]
fn key_numbers(bencher: Bencher<'_, '_>, keys: usize) {
    let batches = batches(keys);
    let fields = batches[0].schema().fields().iter().take(1).cloned().collect();
    let mut interner = KeyInterner::new(&fields).expect("text may be a key");
    let (mut next, mut ids) = (0, Vec::new());
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        next = (next + 1) % BATCHES;
        interner.intern(&batches[next].columns()[..1], ROWS, &mut ids).expect("kernels work");
        ids.last().copied()
    });
}

#[divan::bench(args = [2, 8, 64])]
fn key_split(bencher: Bencher<'_, '_>, workers: usize) {
    let batches = batches(10_000);
    let schema = batches[0].schema();
    let mut splitter = KeySplitter::new(&schema, vec![0], workers).expect("text may be a key");
    let mut next = 0;
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        next = (next + 1) % BATCHES;
        splitter.split(&batches[next]).expect("kernels work")
    });
}

/// Rows of sixteen seconds wait; so many then look for partners.
#[divan::bench(args = [0, 1, 8_192])]
fn join_rows(bencher: Bencher<'_, '_>, probes: usize) {
    let batches = batches(10_000);
    let schema = batches[0].schema();
    let both = schema.fields().iter().chain(schema.fields()).cloned().collect::<Vec<_>>();
    let spec = JoinSpec {
        kind: JoinKind::Inner,
        keys: [vec![0], vec![0]],
        times: [1, 1],
        lower_ns: 0,
        upper_ns: 10 * SECOND,
        residual: None,
        whole: None,
        schema: Arc::new(driftline::arrow::datatypes::Schema::new(both)),
    };
    let join = || Join::new(spec.clone(), [&schema, &schema], usize::MAX).expect("keys are equal");
    let counter = ItemsCount::new(BATCHES * ROWS);
    bencher.counter(counter).with_inputs(join).bench_local_values(|mut join| {
        let mut accept = |_: &RecordBatch| Vec::new();
        let complete = [EventTime::MIN; 2];
        for rows in &batches {
            join.add(1, Side::Left, rows);
        }
        join.close(1, complete, &mut accept).expect("kernels work");
        join.add(2, Side::Right, &batches[0].slice(0, probes));
        let found = join.close(2, complete, &mut accept).expect("kernels work");
        (join, found)
    });
}

#[divan::bench(args = ["signature", "spell", "drain"])]
fn log_line(bencher: Bencher<'_, '_>, parser: &str) {
    const VERBS: [&str; 8] =
        ["received", "sent", "dropped", "queued", "opened", "closed", "retried", "refused"];
    let mut random = Random(2);
    let lines: Vec<String> = (0..1_000)
        .map(|_| {
            let verb = VERBS[random.below(VERBS.len())];
            let (block, bytes, host) =
                (random.below(1_000_000), random.below(65_536), random.below(200));
            format!("{verb} block blk_{block} of size {bytes} from 10.0.0.{host} in {bytes} ms")
        })
        .collect();
    let mut parser: Box<dyn LogParser> = match parser {
        "spell" => Box::new(Spell::new(&SpellSettings::default()).expect("defaults are sound")),
        "drain" => Box::new(Drain::new(&DrainSettings::default()).expect("defaults are sound")),
        _ => Box::new(Signature::new(&SignatureSettings::default())),
    };
    let mut parsed = ParsedLine::default();
    bencher.counter(ItemsCount::new(lines.len())).bench_local(|| {
        for line in &lines {
            parser.parse(line, &mut parsed);
        }
        parser.take_changes()
    });
}
