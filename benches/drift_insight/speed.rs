//! How long a slot of a large fleet takes on one core, rebuilds included, and how much memory a component needs.

use std::time::Instant;

use driftline::arrow::array::{Array, AsArray, RecordBatch};
use driftline::arrow::datatypes::{Int64Type, UInt64Type};
use driftline::{Engine, EventTime, Source, Subscription};

use super::BoxResult;
use super::detector::{KIND, SETTLE_ROWS, statements};
use super::fleet::{DAY_SLOTS, Fleet, SLOT_NS, Size};
use crate::memory::resident_bytes;
use crate::timing::processor_time;

/// The fleet of DI-23.
const FLEET: Size = Size { components: 2_500, metrics: 12, slots: WARM_UP + MEASURED };

/// Three days, as in the paper.
pub(crate) const TRAINING: usize = 3 * DAY_SLOTS;

/// Slots before the measured ones: the first models are built, and count.
pub(crate) const WARM_UP: usize = TRAINING + SETTLE_ROWS;

/// Sixteen hours: every component is built again at least twice.
pub(crate) const MEASURED: usize = 2 * DAY_SLOTS / 3;

/// The fleet whose memory is stated.
const LARGE_FLEET: usize = 20_000;

/// What driving a fleet through an engine came to.
pub(crate) struct Driven {
    /// Processor time of the warm-up, first models included, and of the measured slots.
    pub(crate) training_seconds: f64,
    pub(crate) busy_seconds: f64,
    /// Each measured slot on the clock.
    pub(crate) slot_seconds: Vec<f64>,
    /// Models built after the first one of each component.
    pub(crate) rebuilds: u64,
    pub(crate) alarms: usize,
    /// By component, one per slot after training.
    pub(crate) states: Vec<Vec<Option<i64>>>,
    state_bytes: u64,
    resident_bytes: f64,
}

impl Driven {
    /// Seconds of one core per slot, all threads together: it is what other programs on the machine disturb least.
    pub(crate) fn seconds_per_slot(&self) -> f64 {
        self.busy_seconds / self.slot_seconds.len() as f64
    }
}

pub(crate) fn report() -> BoxResult<()> {
    let Size { components, metrics, .. } = FLEET;
    println!(
        "== speed: {components} components x {metrics} metrics, {TRAINING} slots of training, {MEASURED} measured, one worker =="
    );
    let mut driven = drive(&Fleet::generate(FLEET))?;
    let wall = driven.slot_seconds.iter().sum::<f64>() / MEASURED as f64;
    let average = driven.seconds_per_slot();
    driven.slot_seconds.sort_by(f64::total_cmp);
    let place = |share: f64| 1e3 * driven.slot_seconds[((MEASURED - 1) as f64 * share) as usize];
    println!(
        "warm-up {:.1} s of processor time; a slot {:.1} ms on the clock, {:.1} ms of processor time; least {:.1}, median {:.1}, most {:.1} ms on the clock",
        driven.training_seconds,
        1e3 * wall,
        1e3 * average,
        place(0.0),
        place(0.5),
        place(1.0)
    );
    let values = (components * metrics) as f64;
    println!(
        "{} rebuilds in {MEASURED} slots, one in {:.1} slots of a component, all of them in the average; {:.2} M metric values/s; {} alarms",
        driven.rebuilds,
        (components * MEASURED) as f64 / driven.rebuilds.max(1) as f64,
        values / average / 1e6,
        driven.alarms
    );
    let bytes = driven.state_bytes as f64 / components as f64;
    println!(
        "{bytes:.0} bytes a component by the detector's own count; the process grew by {:.0} bytes a component",
        driven.resident_bytes / components as f64
    );
    println!("figure: slot_ms_2500x12 = {:.2} ms", 1e3 * average);
    println!("figure: bytes_per_component = {bytes:.0} bytes");
    println!("figure: fleet_mb_20000 = {:.0} MB\n", bytes * LARGE_FLEET as f64 / 1e6);
    Ok(())
}

/// The memory of the large fleet, held rather than reckoned; takes minutes and some 6 GB, so that it runs only if asked.
pub(crate) fn large() -> BoxResult<()> {
    let size = Size { components: LARGE_FLEET, slots: WARM_UP + 2, ..FLEET };
    println!(
        "== memory: {} components x {} metrics, {TRAINING} slots of training ==",
        size.components, size.metrics
    );
    let driven = drive(&Fleet::generate(size))?;
    println!("warm-up {:.1} s of processor time", driven.training_seconds);
    println!("figure: fleet_mb_20000_held = {:.0} MB", driven.state_bytes as f64 / 1e6);
    println!("figure: fleet_process_mb_20000_held = {:.0} MB\n", driven.resident_bytes / 1e6);
    Ok(())
}

/// Pushes a fleet slot by slot through one worker; each slot waits for the answers to the one before.
pub(crate) fn drive(fleet: &Fleet) -> BoxResult<Driven> {
    let Size { components, metrics, slots } = fleet.size;
    let batches = (0..slots).map(|slot| fleet.batch(slot)).collect::<BoxResult<Vec<_>>>()?;
    let resident = resident_bytes();
    let engine = Engine::builder().workers(1).build()?;
    engine.execute(&statements(metrics, TRAINING, "", "WATERMARK FOR ts"))?;
    let mut results =
        engine.subscribe("SELECT component, is_anomaly, model_version, detail FROM drift")?;
    let source = engine.source("metrics")?;
    let mut answers =
        Answers { versions: vec![0; components], states: vec![Vec::new(); components], alarms: 0 };
    let mut clock = ProcessorClock::start();
    for (slot, batch) in batches[..WARM_UP].iter().enumerate() {
        step(&source, &mut results, slot, batch, &mut answers)?;
    }
    let training_seconds = clock.lap();
    let first: u64 = answers.versions.iter().sum();
    answers.alarms = 0;
    answers.states.iter_mut().for_each(Vec::clear);
    let mut slot_seconds = Vec::new();
    for (slot, batch) in batches.iter().enumerate().skip(WARM_UP) {
        let begin = Instant::now();
        step(&source, &mut results, slot, batch, &mut answers)?;
        slot_seconds.push(begin.elapsed().as_secs_f64());
    }
    let busy_seconds = clock.lap();
    let state_bytes = engine.metrics().detector("drift").map_or(0, |metrics| metrics.state_bytes);
    let resident_bytes = resident_bytes().zip(resident).map_or(f64::NAN, |(a, b)| a - b);
    drop(results);
    engine.shutdown()?;
    Ok(Driven {
        training_seconds,
        slot_seconds,
        busy_seconds,
        rebuilds: answers.versions.iter().sum::<u64>() - first,
        alarms: answers.alarms,
        states: answers.states,
        state_bytes,
        resident_bytes,
    })
}

/// What has been answered so far, by component.
struct Answers {
    versions: Vec<u64>,
    states: Vec<Vec<Option<i64>>>,
    alarms: usize,
}

fn step(
    source: &Source,
    results: &mut Subscription,
    slot: usize,
    batch: &RecordBatch,
    answers: &mut Answers,
) -> BoxResult<()> {
    source.push(batch.clone())?;
    source.watermark(EventTime(slot as i64 * SLOT_NS + 1))?;
    let mut waiting = batch.num_rows();
    while waiting > 0 {
        let rows = results.next().ok_or("the results ended early")??;
        waiting -= rows.num_rows();
        answers.read(&rows)?;
    }
    Ok(())
}

impl Answers {
    fn read(&mut self, rows: &RecordBatch) -> BoxResult<()> {
        let names = rows.column(0).as_string::<i32>();
        let alarms = rows.column(1).as_boolean();
        let versions = rows.column(2).as_primitive::<UInt64Type>();
        let states = rows.column(3).as_struct().column_by_name("state");
        let states = states.ok_or_else(|| format!("{KIND} states no state"))?;
        let states = states.as_primitive::<Int64Type>();
        for row in 0..rows.num_rows() {
            let place: usize = names.value(row).trim_start_matches("component-").parse()?;
            self.alarms += usize::from(alarms.is_valid(row) && alarms.value(row));
            self.versions[place] = versions.value(row);
            self.states[place].push(states.is_valid(row).then(|| states.value(row)));
        }
        Ok(())
    }
}

/// Seconds of processor time from lap to lap.
struct ProcessorClock {
    last: f64,
}

impl ProcessorClock {
    fn start() -> Self {
        let mut clock = Self { last: 0.0 };
        clock.lap();
        clock
    }

    fn lap(&mut self) -> f64 {
        let now = processor_time().as_secs_f64();
        now - std::mem::replace(&mut self.last, now)
    }
}
