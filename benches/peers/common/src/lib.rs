//! What the runners share: arguments, clocks and reports, and with the feature `rows` the rows as structs.
//!
//! A runner is called once for each query, as `RUNNER --data FOLDER --query q5 --workers 1 --rounds 3 --results FILE`.
//! Its first round is not measured: its results go to `FILE.arrow` or `FILE.tsv`, where `run` compares them with the
//! reference. What it prints last is one line of JSON.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

#[cfg(feature = "rows")]
pub mod rows;

pub type BoxResult<T> = Result<T, Box<dyn Error>>;

/// What a runner is asked to do.
#[derive(Debug)]
pub struct Job {
    pub data: PathBuf,
    pub query: String,
    pub workers: usize,
    /// Measured rounds, after one that is not.
    pub rounds: usize,
    /// Without ending.
    pub results: PathBuf,
}

impl Job {
    /// # Errors
    /// When an argument is missing or no number.
    pub fn from_args() -> BoxResult<Job> {
        let words: Vec<String> = std::env::args().collect();
        let value = |name: &str| {
            let place = words.iter().position(|word| word == name);
            let value = place.and_then(|place| words.get(place + 1));
            value.cloned().ok_or_else(|| format!("{name} VALUE is missing"))
        };
        Ok(Job {
            data: value("--data")?.into(),
            query: value("--query")?,
            workers: value("--workers")?.parse()?,
            rounds: value("--rounds")?.parse()?,
            results: value("--results")?.into(),
        })
    }

    /// The number of keys of `tumble_1e5` and its like, as the file of its rows spells it.
    pub fn keys(&self) -> Option<&str> {
        self.query.strip_prefix("tumble_")
    }

    /// A file for results as text: one row a line, columns between tabs, times in milliseconds since 1970.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn text_results(&self) -> BoxResult<BufWriter<File>> {
        Ok(BufWriter::new(File::create(self.results.with_extension("tsv"))?))
    }
}

/// Time that passed, and processor time of all threads of this process.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    begin: Instant,
    busy: f64,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { begin: Instant::now(), busy: busy_seconds() }
    }

    pub fn stop(self) -> Lap {
        Lap { seconds: self.begin.elapsed().as_secs_f64(), busy: busy_seconds() - self.busy }
    }
}

fn busy_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[derive(Clone, Copy, Debug)]
pub struct Lap {
    pub seconds: f64,
    pub busy: f64,
}

/// Prints what was measured.
pub fn report(events: usize, rows: usize, laps: &[Lap], notes: &str) {
    let list = |of: fn(&Lap) -> f64| {
        laps.iter().map(|lap| format!("{:.6}", of(lap))).collect::<Vec<_>>().join(",")
    };
    println!(
        "{{\"events\":{events},\"rows\":{rows},\"seconds\":[{}],\"cpu\":[{}],\"notes\":{notes:?}}}",
        list(|lap| lap.seconds),
        list(|lap| lap.busy),
    );
}

/// Prints why the engine cannot run the query.
pub fn cannot(reason: &str) {
    println!("{{\"cannot\":{reason:?}}}");
}

/// Measures `round` as often as the job says, after once that is not measured; the first's results are kept.
///
/// A round prepares what it needs, runs between `Clock::start` and `stop`, and gives what came out.
///
/// # Errors
/// Those of a round, and when results differ in number between rounds.
pub fn measure<R>(
    job: &Job,
    mut round: impl FnMut() -> BoxResult<(Lap, R)>,
    rows_of: impl Fn(&R) -> usize,
    write: impl FnOnce(&Job, R) -> BoxResult<()>,
) -> BoxResult<(usize, Vec<Lap>)> {
    let (_, first) = round()?;
    let rows = rows_of(&first);
    write(job, first)?;
    let mut laps = Vec::new();
    for _ in 0..job.rounds {
        let (lap, results) = round()?;
        if rows_of(&results) != rows {
            return Err(format!("{} rows after {rows} the round before", rows_of(&results)).into());
        }
        laps.push(lap);
    }
    Ok((rows, laps))
}

/// Writes rows as lines of text.
///
/// # Errors
/// When they cannot be written.
pub fn write_lines(job: &Job, lines: impl Iterator<Item = String>) -> BoxResult<()> {
    let mut file = job.text_results()?;
    for line in lines {
        writeln!(file, "{line}")?;
    }
    Ok(file.flush()?)
}
