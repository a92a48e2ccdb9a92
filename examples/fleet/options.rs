//! The command line, read by hand.

use std::path::PathBuf;

use crate::simulator::SLOTS_PER_DAY;

pub const HELP: &str = "\
usage: fleet                                  simulate a fleet and watch it
       fleet --replay FILE --time COLUMN --key COLUMN [--slot '5 minutes']
                                              watch a recorded one; its numbers are the metrics

  --report OUT.html     write what was seen as one page with drawings
  --workers N           worker threads (default: one for each core)
  --training N          slots of which models are learned (default: two fifths of the run; 864 when replaying)
  --eps X               how near slots of one state are, in deviations; 0 takes it from the data
                        (default 1.5; 0 when replaying)
  --evolve-min N        slots that a model takes in at once, at least (default 48)

of the simulation:
  --components N        how many there are (default 300)
  --days D              how long it runs, in event time (default 5)
  --seed S              other faults at other times (default 1)";

pub enum Command {
    Help,
    Run(Options),
}

pub struct Options {
    pub report: Option<PathBuf>,
    pub workers: Option<usize>,
    pub training: Option<i64>,
    pub eps: Option<f64>,
    pub evolve_min: i64,
    pub components: usize,
    pub days: i64,
    pub seed: u64,
    pub replay: Option<Replay>,
}

pub struct Replay {
    pub path: PathBuf,
    pub time: String,
    pub key: String,
    pub slot: String,
}

impl Options {
    /// Slots of which models are learned.
    pub fn training(&self) -> i64 {
        let default = if self.replay.is_some() { 864 } else { self.days * SLOTS_PER_DAY * 2 / 5 };
        self.training.unwrap_or(default)
    }

    /// Of the simulation it is known; the paper leaves it open.
    pub fn eps(&self) -> f64 {
        self.eps.unwrap_or(if self.replay.is_some() { 0.0 } else { 1.5 })
    }

    /// The paper takes 488 slots of 864.
    pub fn steady_threshold(&self) -> i64 {
        self.training() * 488 / 864
    }
}

pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let (mut path, mut time, mut key) = (None, None, None);
    let mut slot = "5 minutes".to_owned();
    let mut options = Options {
        report: None,
        workers: None,
        training: None,
        eps: None,
        evolve_min: 48,
        components: 300,
        days: 5,
        seed: 1,
        replay: None,
    };
    while let Some(name) = arguments.next() {
        if name == "--help" || name == "-h" {
            return Ok(Command::Help);
        }
        let given = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let whole = |least: u64, most: u64| match given.parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(format!("{name} needs a whole number from {least} to {most}")),
        };
        match name.as_str() {
            "--report" => options.report = Some(PathBuf::from(&given)),
            "--workers" => options.workers = Some(whole(1, 1024)? as usize),
            "--training" => options.training = Some(whole(50, 100_000)? as i64),
            "--eps" => {
                let eps = given.parse().ok().filter(|eps| (0.0..1e6).contains(eps));
                options.eps = Some(eps.ok_or("--eps needs a number from 0")?);
            }
            "--evolve-min" => options.evolve_min = whole(1, 100_000)? as i64,
            "--components" => options.components = whole(1, 100_000)? as usize,
            "--days" => options.days = whole(1, 365)? as i64,
            "--seed" => options.seed = whole(0, u64::MAX)?,
            "--replay" => path = Some(PathBuf::from(&given)),
            "--time" => time = Some(given),
            "--key" => key = Some(given),
            "--slot" => slot = given,
            _ => return Err(format!("there is no option {name}")),
        }
    }
    if let Some(path) = path {
        let time = time.ok_or("--replay needs --time COLUMN")?;
        let key = key.ok_or("--replay needs --key COLUMN")?;
        options.replay = Some(Replay { path, time, key, slot });
    }
    Ok(Command::Run(options))
}
