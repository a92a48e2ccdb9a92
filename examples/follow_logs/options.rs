//! The command line, read by hand.

use std::path::PathBuf;
use std::time::Duration;

pub const HELP: &str = "\
usage: follow_logs FILE [options]             follow a log file as it grows, until stopped

  --from-start          begin with the lines that are there already
  --until-idle SECONDS  end when the file has not grown for so long (default: never)
  --format FORMAT       how a line is made up, or the name of a Loghub system
                        (default '<Level> <Component> \\[<Request>\\] <Content>', as nova writes it)
  --session REGEX       what tells sessions apart, in round brackets; other lines are left out
                        (default 'instance: ([0-9a-f-]{36})'; '' for one stream of all lines)
  --gap SECONDS         a session that is silent for so long has ended (default 60)
  --training N          sessions that are learned from (default 300)
  --model MODEL         lstm or ngram (default: lstm where it is built in)
  --step MS             lines that were there before, and carry no time, came so far apart (default 100)
  --workers N           worker threads (default: one for each core)
  --report OUT          draw what was seen: .html, .svg, .mmd (Mermaid) or .dot (Graphviz)
  --show N              odd sessions that are printed (default 10)";

pub enum Command {
    Help,
    Run(Options),
}

pub struct Options {
    pub path: PathBuf,
    pub from_start: bool,
    pub until_idle: Option<Duration>,
    pub format: String,
    pub session: String,
    pub gap_seconds: u64,
    pub training: u64,
    pub model: String,
    pub step_ms: i64,
    pub workers: Option<usize>,
    pub report: Option<PathBuf>,
    pub show: usize,
}

pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let model = if cfg!(feature = "neural") { "lstm" } else { "ngram" };
    let mut options = Options {
        path: PathBuf::new(),
        from_start: false,
        until_idle: None,
        format: r"<Level> <Component> \[<Request>\] <Content>".to_owned(),
        session: "instance: ([0-9a-f-]{36})".to_owned(),
        gap_seconds: 60,
        training: 300,
        model: model.to_owned(),
        step_ms: 100,
        workers: None,
        report: None,
        show: 10,
    };
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--from-start" => {
                options.from_start = true;
                continue;
            }
            path if !path.starts_with("--") && options.path.as_os_str().is_empty() => {
                options.path = PathBuf::from(path);
                continue;
            }
            _ => {}
        }
        let given = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let whole = |least: u64, most: u64| match given.parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(format!("{name} needs a whole number from {least} to {most}")),
        };
        match name.as_str() {
            "--until-idle" => options.until_idle = Some(Duration::from_secs(whole(0, 86_400)?)),
            "--format" => options.format = given,
            "--session" => options.session = given,
            "--gap" => options.gap_seconds = whole(1, 86_400)?,
            "--training" => options.training = whole(2, 1_000_000)?,
            "--model" => options.model = given,
            "--step" => options.step_ms = whole(1, 3_600_000)? as i64,
            "--workers" => options.workers = Some(whole(1, 1024)? as usize),
            "--report" => {
                let path = PathBuf::from(&given);
                let known = ["html", "svg", "mmd", "dot"];
                if !path.extension().is_some_and(|end| known.iter().any(|known| end == *known)) {
                    return Err(format!("--report needs a file that ends in one of {known:?}"));
                }
                options.report = Some(path);
            }
            "--show" => options.show = whole(0, 1_000_000)? as usize,
            _ => return Err(format!("there is no option {name}")),
        }
    }
    if options.path.as_os_str().is_empty() {
        return Err("which file is to be followed?".to_owned());
    }
    Ok(Command::Run(options))
}
