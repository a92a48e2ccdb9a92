//! The command line, read by hand: it is short.

use std::path::PathBuf;

pub const HELP: &str = "\
usage: quickstart                     watch this machine for about 45 seconds
       quickstart --replay FILE --time COLUMN --value COLUMN [--key COLUMN]
                  [--detector KIND] [--plot OUT.svg]

  --seconds N      how long to learn before the burst, when watching (default 24)
  --workers N      worker threads (default: one for each core)
  --replay FILE    read a recorded series: CSV, NDJSON, Parquet or Arrow IPC, .gz too
  --time COLUMN    its timestamps        --value COLUMN   its measurements
  --key COLUMN     one model for each value of this column
  --detector KIND  what may stand after USING in SQL (default robust_zscore)
  --plot OUT.svg   draw series, bounds and anomalies";

pub enum Command {
    Help,
    Watch(Watch),
    Replay(Replay),
}

pub struct Watch {
    pub learn_seconds: u64,
    pub workers: Option<usize>,
}

pub struct Replay {
    pub path: PathBuf,
    pub time: String,
    pub value: String,
    pub key: Option<String>,
    pub detector: String,
    pub plot: Option<PathBuf>,
    pub workers: Option<usize>,
}

pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut arguments = arguments.peekable();
    let (mut path, mut time, mut value, mut key, mut plot) = (None, None, None, None, None);
    let (mut detector, mut learn_seconds, mut workers) = ("robust_zscore".to_owned(), 24, None);
    while let Some(name) = arguments.next() {
        if name == "--help" || name == "-h" {
            return Ok(Command::Help);
        }
        let given = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let whole = || given.parse::<u64>().map_err(|_| format!("{name} needs a whole number"));
        match name.as_str() {
            "--replay" => path = Some(PathBuf::from(given)),
            "--time" => time = Some(given),
            "--value" => value = Some(given),
            "--key" => key = Some(given),
            "--detector" => detector = given,
            "--plot" => plot = Some(PathBuf::from(given)),
            "--seconds" => learn_seconds = whole()?,
            "--workers" => workers = Some(whole()? as usize),
            _ => return Err(format!("there is no option {name}")),
        }
    }
    let Some(path) = path else { return Ok(Command::Watch(Watch { learn_seconds, workers })) };
    let time = time.ok_or("--replay needs --time COLUMN")?;
    let value = value.ok_or("--replay needs --value COLUMN")?;
    Ok(Command::Replay(Replay { path, time, value, key, detector, plot, workers }))
}
