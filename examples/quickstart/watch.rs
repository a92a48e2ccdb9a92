//! Watching this machine: samples go in, windows and a detector look at them, a burst of load shows up.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use driftline::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, RecordBatch, TimestampMillisecondArray,
};
use driftline::arrow::datatypes::Float64Type;
use driftline::detectors::Anomaly;
use driftline::{Engine, Source};
use sysinfo::{Disks, Networks, Pid, ProcessesToUpdate, System};

use crate::BoxResult;
use crate::options::Watch;

const SAMPLES_PER_SECOND: u32 = 4;
const BURST_SECONDS: u64 = 8;
const AFTER_SECONDS: u64 = 6;

/// One-second windows over the samples, and a detector over all their columns at once.
const PIPELINE: &str = "
CREATE SOURCE machine (
  ts TIMESTAMP(3), cpu DOUBLE, own_cpu DOUBLE, memory DOUBLE, disk_kb DOUBLE, network_kb DOUBLE, processes DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '100 milliseconds' IDLE TIMEOUT INTERVAL '2 seconds'
);
CREATE DETECTOR odd USING robust_zscore
WITH (features = 'cpu, own_cpu, memory, disk, network, processes',
      warm_up = 16, threshold = 8, learn_anomalies = false, scale_floor = 1.0) AS
SELECT
  window_end,
  avg(cpu) AS cpu,
  avg(own_cpu) AS own_cpu,
  avg(memory) AS memory,
  avg(disk_kb) AS disk_kb,
  avg(network_kb) AS network_kb,
  -- Bursts of a disk span powers of ten; a burst of a tenth of a second is no news.
  log10(1 + avg(disk_kb)) AS disk,
  log10(1 + avg(network_kb)) AS network,
  avg(processes) AS processes
FROM TUMBLE(machine, ts, INTERVAL '1 second')
GROUP BY window_start, window_end";

pub fn run(options: &Watch) -> BoxResult<()> {
    let mut builder = Engine::builder();
    if let Some(workers) = options.workers {
        builder = builder.workers(workers);
    }
    let engine = builder.build()?;
    engine.execute(PIPELINE)?;
    println!("{}\n", PIPELINE.trim());

    let anomalies = Arc::new(Mutex::new(Vec::new()));
    let found = Arc::clone(&anomalies);
    let (send, windows) = mpsc::channel();
    let table = engine.subscribe_with("odd", move |rows| {
        // Errors cannot happen here: the rows are a detector's own.
        found
            .lock()
            .expect("no other holder panics")
            .extend(Anomaly::from_batch(&rows).into_iter().flatten());
        // The main thread may have stopped listening at the end.
        let _ = send.send(rows);
    })?;

    let total = options.learn_seconds + BURST_SECONDS + AFTER_SECONDS;
    println!(
        "learning for {} s, then a burst of load for {BURST_SECONDS} s",
        options.learn_seconds
    );
    println!(
        "{:>4}  {:>6} {:>8} {:>7} {:>9} {:>8} {:>6}  {:>7}  state",
        "s", "cpu %", "own cpu", "mem %", "disk kB/s", "net kB/s", "procs", "score"
    );
    let stop = Arc::new(AtomicBool::new(false));
    let sampler = {
        let (source, stop) = (engine.source("machine")?, Arc::clone(&stop));
        thread::spawn(move || sample(&source, &stop))
    };
    let begin = Instant::now();
    let mut burst = None;
    let mut second = 0;
    while begin.elapsed() < Duration::from_secs(total) {
        if burst.is_none() && begin.elapsed() >= Duration::from_secs(options.learn_seconds) {
            println!("      ---- burst of load begins ----");
            burst = Some(Burst::start());
        }
        if burst.as_ref().is_some_and(Burst::is_over) {
            burst = Some(Burst::default());
        }
        if let Ok(rows) = windows.recv_timeout(Duration::from_millis(100)) {
            for row in 0..rows.num_rows() {
                second += 1;
                print_row(second, &rows, row);
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    sampler
        .join()
        .map_err(|_| "the sampling thread panicked")?
        .map_err(|error| error.to_string())?;
    engine.shutdown()?;
    table.join()?;
    report(&anomalies.lock().map_err(|_| "the callback panicked")?);
    Ok(())
}

/// Takes samples until told to stop.
fn sample(source: &Source, stop: &AtomicBool) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (mut system, mut disks) = (System::new()?, Disks::new_with_refreshed_list()?);
    let mut networks = Networks::new_with_refreshed_list()?;
    let own = Pid::from_u32(std::process::id());
    let period = Duration::from_secs(1) / SAMPLES_PER_SECOND;
    let mut due = Instant::now();
    let mut is_first = true;
    while !stop.load(Ordering::Relaxed) {
        system.refresh_cpu_usage();
        system.refresh_memory();
        system.refresh_processes(ProcessesToUpdate::All, true);
        disks.refresh(true);
        networks.refresh(true);
        let per_second = |bytes: u64| bytes as f64 * f64::from(SAMPLES_PER_SECOND) / 1024.0;
        let disk = disks.iter().map(|disk| {
            let usage = disk.usage();
            usage.read_bytes + usage.written_bytes
        });
        let network = networks.values().map(|n| n.received() + n.transmitted());
        let memory = 100.0 * system.used_memory() as f64 / system.total_memory().max(1) as f64;
        let values = [
            f64::from(system.global_cpu_usage()),
            system.process(own).map_or(0.0, |process| f64::from(process.cpu_usage())),
            memory,
            per_second(disk.sum()),
            per_second(network.sum()),
            system.processes().len() as f64,
        ];
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(TimestampMillisecondArray::from(vec![now.as_millis() as i64]))];
        columns.extend(values.map(|value| Arc::new(Float64Array::from(vec![value])) as ArrayRef));
        // The first reading covers all time since boot, and is no sample.
        if !is_first {
            let batch = RecordBatch::try_new(source.schema(), columns);
            source.push(batch.expect("columns are the source's"))?;
        }
        is_first = false;
        due += period;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(source.close()?)
}

/// Threads that keep every core busy, until they are told to stop or dropped.
#[derive(Default)]
struct Burst {
    stop: Arc<AtomicBool>,
    begin: Option<Instant>,
}

impl Burst {
    fn start() -> Self {
        let burst = Self { stop: Arc::default(), begin: Some(Instant::now()) };
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let stop = Arc::clone(&burst.stop);
            thread::spawn(move || {
                let mut n = 1u64;
                while !stop.load(Ordering::Relaxed) {
                    n = std::hint::black_box(
                        n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1),
                    );
                }
            });
        }
        burst
    }

    fn is_over(&self) -> bool {
        self.begin.is_some_and(|begin| begin.elapsed() >= Duration::from_secs(BURST_SECONDS))
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn print_row(second: u64, rows: &RecordBatch, row: usize) {
    let number = |name: &str| {
        let column = rows.column_by_name(name).expect("a column of the pipeline");
        let column = column.as_primitive::<Float64Type>();
        column.is_valid(row).then(|| column.value(row))
    };
    let value = |name: &str| number(name).unwrap_or(f64::NAN);
    let is_anomaly = rows.column_by_name("is_anomaly").expect("a detector's column").as_boolean();
    let state = match (number("score"), is_anomaly.is_valid(row) && is_anomaly.value(row)) {
        (None, _) => "learning",
        (Some(_), false) => "normal",
        (Some(_), true) => "ANOMALY",
    };
    println!(
        "{second:>4}  {:>6.1} {:>8.1} {:>7.1} {:>9.0} {:>8.0} {:>6.0}  {:>7}  {state}",
        value("cpu"),
        value("own_cpu"),
        value("memory"),
        value("disk_kb"),
        value("network_kb"),
        value("processes"),
        number("score").map_or("-".to_owned(), |score| format!("{score:.1}")),
    );
}

fn report(anomalies: &[Anomaly]) {
    println!();
    let Some(worst) = anomalies.iter().max_by(|a, b| a.score.total_cmp(&b.score)) else {
        println!("nothing stood out: the machine was as busy before the burst as during it");
        return;
    };
    println!("{} anomalous seconds; the clearest of them:", anomalies.len());
    println!("  {worst}");
    println!("  what explains it:");
    for (feature, share) in worst.attribution.iter().filter(|(_, share)| *share >= 0.01) {
        let bar = "#".repeat((share * 40.0).round() as usize);
        println!("    {feature:<12} {:>3.0} %  {bar}", share * 100.0);
    }
}
