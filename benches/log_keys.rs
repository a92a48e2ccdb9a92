//! Log keys: grouping accuracy on Loghub's sixteen samples, and lines per second beside drain3.
//!
//! ```text
//! cargo bench --bench log_keys
//! ```
//!
//! The data is found through `DRIFTLINE_DATA` (default `../shared/data`). A line counts as grouped rightly if its group
//! is, line for line, one of the truth. Spell and Drain run with their published settings of each system, the default
//! parser with the same settings on all. `as streamed` takes the keys as the lines got them; `with merges` counts a key
//! that was later merged as the one it was merged into, as the published figures do by comparing final templates.
//!
//! Spell and Drain run once more with `split_values_max => 4`: up to four words that take turns in a place keep lines apart
//! (SP-08), and Spell without its pre-filters (SP-04), over the samples and over the lines made up for speed.
//!
//! Speed is lines per second of processor time, on one thread, over synthetic lines like those of HDFS, blocks, sizes and
//! addresses drawn anew for each. drain3 (`pip install drain3`) parses the first of them in the same run, with the same
//! masks as Drain.

// A bench prints and reads the environment.
#![allow(clippy::disallowed_methods)]

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use driftline_operators::evaluate::{grouping_accuracy, grouping_pairs};
use driftline_operators::logs::{
    ChangeKind, LOGHUB_FORMATS, LogKeyOptions, LoghubFormat, ParsedLine,
};
use driftline_operators::options::Options;
use serde_json::Value;
use timing::processor_time;

#[allow(dead_code)]
#[path = "common/timing.rs"]
mod timing;

type BoxResult<T> = Result<T, Box<dyn Error>>;

/// Grouping accuracy as published: Spell, Drain, Brain.
const PUBLISHED: [(&str, f64, f64, f64); 16] = [
    ("HDFS", 1.0, 0.9975, 0.9975),
    ("Hadoop", 0.7775, 0.9475, 0.949),
    ("Spark", 0.905, 0.92, 0.9975),
    ("Zookeeper", 0.9635, 0.9665, 0.9875),
    ("BGL", 0.7865, 0.9625, 0.986),
    ("HPC", 0.654, 0.887, 0.945),
    ("Thunderbird", 0.8435, 0.955, 0.971),
    ("Windows", 0.9885, 0.997, 0.997),
    ("Linux", 0.605, 0.69, 0.996),
    ("Android", 0.9185, 0.911, 0.9605),
    ("HealthApp", 0.639, 0.78, 1.0),
    ("Apache", 1.0, 1.0, 1.0),
    ("Proxifier", 0.5265, 0.5265, 1.0),
    ("OpenSSH", 0.554, 0.7875, 1.0),
    ("OpenStack", 0.764, 0.7325, 1.0),
    ("Mac", 0.7565, 0.7865, 0.942),
];

const SPEED_LINES: usize = 1_000_000;
const PEER_LINES: usize = 200_000;

/// Lines without anything in common; templates come and go.
const RANDOM_LINES: usize = 10_000_000;

/// Words in a place that keep lines apart, where any do.
const SPLIT_VALUES: i64 = 4;

/// Passes over a sample that are timed.
const SAMPLE_PASSES: usize = 5;
/// Lines made up that plain Spell is timed over.
const PLAIN_LINES: usize = 100_000;

fn main() -> BoxResult<()> {
    accuracy()?;
    split()?;
    prefilters()?;
    speed()?;
    bounds()
}

/// The folder of Loghub's samples, or nothing, said loudly.
fn samples() -> Option<PathBuf> {
    let root = std::env::var("DRIFTLINE_DATA").unwrap_or_else(|_| "../shared/data".into());
    let folder = Path::new(&root).join("loghub_2k");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SKIPPED: no folder {}; set DRIFTLINE_DATA", folder.display());
    assert!(std::env::var("CI").is_err(), "data is missing");
    None
}

fn accuracy() -> BoxResult<()> {
    let Some(folder) = samples() else { return Ok(()) };
    println!(
        "Grouping accuracy, 2,000 lines each            Spell               Drain       Brain     default parser"
    );
    println!(
        "system         headers cut    published   here   published   here   published   as streamed   with merges   pair F1"
    );
    let mut sums = [0.0; 8];
    for (format, published) in LOGHUB_FORMATS.iter().zip(PUBLISHED) {
        assert_eq!(format.name, published.0);
        let system = System::load(&folder, format)?;
        let cut = system.headers_cut(format)?;
        let spell = system.grouped(&system.options("spell"))?;
        let drain = system.grouped(&system.options("drain"))?;
        let default = system.grouped(&system.options("signature").with("masks", ""))?;
        let row = [
            published.1,
            spell.merged,
            published.2,
            drain.merged,
            published.3,
            default.streamed,
            default.merged,
            default.pairs,
        ];
        print_row(format.name, Some(cut), &row);
        row.iter().zip(&mut sums).for_each(|(value, sum)| *sum += value / 16.0);
    }
    print_row("mean", None, &sums);
    println!();
    println!("figure: loghub_ga_spell_published = {:.4}", sums[1]);
    println!("figure: loghub_ga_drain_published = {:.4}", sums[3]);
    println!("figure: loghub_ga_default = {:.4}", sums[6]);
    println!("figure: loghub_ga_default_streamed = {:.4}", sums[5]);
    Ok(())
}

/// What it does to the accuracy that words which take turns keep lines apart.
fn split() -> BoxResult<()> {
    let Some(folder) = samples() else { return Ok(()) };
    println!(
        "\nThe same with split_values_max => {SPLIT_VALUES}     Spell: streamed   with merges     Drain: streamed   with merges"
    );
    let line = |row: &[f64]| {
        let pair = |off: usize| format!("{:.4} -> {:.4}", row[off], row[off + 2]);
        [0, 1, 4, 5].map(pair).join("  ")
    };
    let mut sums = [0.0; 8];
    for format in &LOGHUB_FORMATS {
        let system = System::load(&folder, format)?;
        let mut row = Vec::new();
        for parser in ["spell", "drain"] {
            for most in [0, SPLIT_VALUES] {
                let options = system.options(parser).with("split_values_max", most);
                let found = system.grouped(&options)?;
                row.extend([found.streamed, found.merged]);
            }
        }
        println!("{:<14} {}", format.name, line(&row));
        row.iter().zip(&mut sums).for_each(|(value, sum)| *sum += value / 16.0);
    }
    println!("{:<14} {}", "mean", line(&sums));
    println!("figure: loghub_ga_spell_split = {:.4}", sums[3]);
    println!("figure: loghub_ga_drain_split = {:.4}", sums[7]);
    Ok(())
}

/// Lines per second of Spell with its pre-filters over those without, on the same lines.
fn prefilters() -> BoxResult<()> {
    let made_up: Vec<String> = hdfs_lines(PLAIN_LINES);
    let mut sets: Vec<(&str, Options, Vec<String>)> = Vec::new();
    let spell = |system: &str| Options::new().with("parser", "spell").with("format", system);
    if let Some(folder) = samples() {
        for format in &LOGHUB_FORMATS {
            sets.push((format.name, spell(format.name), System::load(&folder, format)?.lines));
        }
    }
    println!(
        "\nSpell with and without pre-filters, lines/s of one thread: {SAMPLE_PASSES} passes over each sample"
    );
    let seconds = |options: &Options, lines: &[String], passes: usize| -> BoxResult<f64> {
        let mut line = ParsedLine::default();
        let begin = processor_time().as_secs_f64();
        for _ in 0..passes {
            let mut reader = LogKeyOptions::new(options)?.reader()?;
            for text in lines {
                reader.read(text, &mut line);
            }
        }
        Ok(processor_time().as_secs_f64() - begin)
    };
    let mut all = [0.0; 2];
    for (name, options, lines) in &sets {
        let mut row = [0.0; 2];
        for (sum, prefilters) in row.iter_mut().zip([true, false]) {
            *sum = seconds(&options.clone().with("prefilters", prefilters), lines, SAMPLE_PASSES)?;
        }
        let rate = |seconds: f64| (lines.len() * SAMPLE_PASSES) as f64 / seconds;
        println!(
            "{name:<14} {:>12.0} {:>12.0}  {:.2} times",
            rate(row[0]),
            rate(row[1]),
            row[1] / row[0]
        );
        all.iter_mut().zip(row).for_each(|(sum, seconds)| *sum += seconds);
    }
    if !sets.is_empty() {
        println!("figure: spell_prefilter_speedup = {:.2}", all[1] / all[0]);
    }
    let options = spell("HDFS");
    let fast = seconds(&options, &made_up, 1)?;
    let plain = seconds(&options.with("prefilters", false), &made_up, 1)?;
    println!("figure: spell_prefilter_speedup_hdfs_like = {:.2}", plain / fast);
    Ok(())
}

fn print_row(name: &str, cut: Option<f64>, row: &[f64; 8]) {
    let cut = cut.map_or(String::new(), |share| format!("{share:.4}"));
    let [a, b, c, d, e, f, g, h] = row;
    println!(
        "{name:<14} {cut:>11} {a:>12.4} {b:>6.4} {c:>11.4} {d:>6.4} {e:>11.4} {f:>13.4} {g:>13.4} {h:>9.4}"
    );
}

/// One system's sample with its truth.
struct System {
    name: &'static str,
    lines: Vec<String>,
    contents: Vec<String>,
    events: Vec<String>,
}

struct Grouped {
    streamed: f64,
    merged: f64,
    pairs: f64,
}

impl System {
    fn load(folder: &Path, format: &LoghubFormat) -> BoxResult<Self> {
        let name = format.name;
        let base = folder.join(name).join(format!("{name}_2k.log"));
        let read = |path: &Path| -> BoxResult<String> {
            Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
        };
        let lines: Vec<String> = read(&base)?.lines().map(str::to_owned).collect();
        let mut rows = csv(&read(&base.with_extension("log_structured.csv"))?).into_iter();
        let head = rows.next().ok_or("an empty table")?;
        let column = |name: &str| head.iter().position(|h| h == name).ok_or("a column is missing");
        let (content, event) = (column("Content")?, column("EventId")?);
        let (contents, events): (Vec<_>, Vec<_>) =
            rows.map(|row| (row[content].clone(), row[event].clone())).unzip();
        assert_eq!(lines.len(), events.len(), "{name}");
        Ok(Self { name, lines, contents, events })
    }

    /// The share of lines of which the format leaves just the message.
    fn headers_cut(&self, format: &LoghubFormat) -> BoxResult<f64> {
        let header = format.header()?;
        let right = self.lines.iter().zip(&self.contents);
        let right = right.filter(|(line, content)| {
            header.content(line).is_some_and(|found| found.trim() == content.trim())
        });
        Ok(right.count() as f64 / self.lines.len() as f64)
    }

    /// A parser with the published settings of the system.
    fn options(&self, parser: &str) -> Options {
        Options::new().with("parser", parser).with("format", self.name)
    }

    fn grouped(&self, options: &Options) -> BoxResult<Grouped> {
        let mut reader = LogKeyOptions::new(options)?.reader()?;
        let mut line = ParsedLine::default();
        let mut keys = Vec::new();
        for text in &self.lines {
            reader.read(text, &mut line);
            keys.push(line.key);
        }
        let mut into: HashMap<u64, u64> = HashMap::new();
        for change in reader.parser_mut().take_changes() {
            if let ChangeKind::Merged { into: older } = change.kind {
                into.insert(change.key, older);
            }
        }
        let last = |mut key: u64| {
            while let Some(&older) = into.get(&key) {
                key = older;
            }
            key
        };
        let merged: Vec<u64> = keys.iter().map(|&key| last(key)).collect();
        Ok(Grouped {
            streamed: grouping_accuracy(&self.events, &keys),
            merged: grouping_accuracy(&self.events, &merged),
            pairs: grouping_pairs(&self.events, &merged).f1(),
        })
    }
}

/// A table of comma-separated values with quotes.
fn csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            other => field.push(other),
        }
    }
    if !field.is_empty() || !row.is_empty() {
        row.push(field);
        rows.push(row);
    }
    rows
}

fn speed() -> BoxResult<()> {
    let lines = hdfs_lines(SPEED_LINES);
    let bytes: usize = lines.iter().map(String::len).sum();
    println!(
        "\nSpeed: {SPEED_LINES} HDFS-like lines of {} bytes on average, one thread",
        bytes / SPEED_LINES
    );
    let mut per_second = HashMap::new();
    for (parser, format) in
        [("signature", ""), ("signature", "HDFS"), ("spell", "HDFS"), ("drain", "HDFS")]
    {
        // With a format, lines carry a header that is cut off first.
        let header = "081109 203615 148 INFO dfs.DataNode$PacketResponder: ";
        let mut options = Options::new().with("parser", parser).with("format", format);
        if parser == "signature" {
            options.set("masks", "");
        }
        let texts: Vec<String> = match format {
            "" => lines.clone(),
            _ => lines.iter().map(|line| format!("{header}{line}")).collect(),
        };
        let mut reader = LogKeyOptions::new(&options)?.reader()?;
        let mut line = ParsedLine::default();
        let (mut keys, mut parameters) = (0, 0);
        let begin = processor_time().as_secs_f64();
        for text in &texts {
            reader.read(text, &mut line);
            keys = keys.max(line.key);
            parameters += line.parameters.len();
        }
        let rate = SPEED_LINES as f64 / (processor_time().as_secs_f64() - begin);
        let with = if format.is_empty() { "message only" } else { "header cut" };
        println!(
            "  {parser:<10} {with:<13} {rate:>12.0} lines/s, {keys} keys, {parameters} parameters"
        );
        per_second.insert((parser, format), rate);
    }
    println!("figure: lines_per_core = {:.0}", per_second[&("signature", "")]);
    println!("figure: lines_per_core_spell = {:.0}", per_second[&("spell", "HDFS")]);
    match drain3(&lines[..PEER_LINES])? {
        Some((rate, clusters, version)) => {
            println!(
                "  drain3 {version:<6} message only {rate:>12.0} lines/s, {clusters} clusters"
            );
            println!("figure: speedup_over_drain3 = {:.1}", per_second[&("signature", "")] / rate);
        }
        None => println!("SKIPPED: drain3 is not there; pip install drain3"),
    }
    Ok(())
}

/// drain3 over the lines: lines per second, clusters found, and its version.
fn drain3(lines: &[String]) -> BoxResult<Option<(f64, u64, String)>> {
    let file = std::env::temp_dir().join(format!("driftline-log-keys-{}.log", std::process::id()));
    fs::write(&file, lines.join("\n"))?;
    let script = [env!("CARGO_MANIFEST_DIR"), "/peers/log_keys.py"].concat();
    let output = Command::new("python3").arg(script).arg(&file).output();
    fs::remove_file(&file)?;
    let Ok(output) = output else { return Ok(None) };
    if !output.status.success() {
        println!("{}", String::from_utf8_lossy(&output.stderr));
        return Ok(None);
    }
    let said: Value = serde_json::from_slice(&output.stdout)?;
    let number = |name: &str| said[name].as_f64().ok_or("the peer said no number");
    let version = said["version"].as_str().unwrap_or("").to_owned();
    Ok(Some((number("lines_per_second")?, number("clusters")? as u64, version)))
}

/// What the default parser holds while random lines pass.
fn bounds() -> BoxResult<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut reader = LogKeyOptions::new(&Options::new())?.reader()?;
    let mut line = ParsedLine::default();
    let mut text = String::new();
    let (mut early, mut late) = (0, 0);
    let begin = processor_time().as_secs_f64();
    for index in 0..RANDOM_LINES {
        text.clear();
        for _ in 0..3 + draw(6) {
            for _ in 0..3 + draw(6) {
                text.push(char::from(b'g' + draw(20) as u8));
            }
            text.push(' ');
        }
        reader.read(&text, &mut line);
        reader.parser_mut().take_changes();
        if index % 1000 == 0 {
            let held = if index < RANDOM_LINES / 10 { &mut early } else { &mut late };
            *held = reader.parser().bytes().max(*held);
        }
    }
    let rate = RANDOM_LINES as f64 / (processor_time().as_secs_f64() - begin);
    println!("\nBounds: {RANDOM_LINES} random lines, {rate:.0} lines/s");
    println!("  most bytes held in the first tenth {early}, after it {late}");
    println!("figure: random_lines_state_bytes = {late}");
    Ok(())
}

/// Lines of the kinds and frequencies of HDFS's sample, from a fixed seed.
fn hdfs_lines(count: usize) -> Vec<String> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut lines = Vec::with_capacity(count);
    for _ in 0..count {
        let sign = if draw(2) == 0 { "-" } else { "" };
        let block = format!("blk_{sign}{}", draw(9_000_000_000_000_000_000));
        let mut host = || format!("10.25{}.{}.{}", draw(2), draw(256), draw(256));
        let (one, two) = (host(), host());
        let (port, size) = (draw(65_536), draw(67_108_865));
        lines.push(match draw(1000) {
            0..157 => format!("BLOCK* NameSystem.addStoredBlock: blockMap updated: {one}:50010 is added to {block} size {size}"),
            157..312 => format!("PacketResponder {} for block {block} terminating", draw(3)),
            312..458 => format!("Received block {block} of size {size} from /{one}"),
            458..604 => format!("Receiving block {block} src: /{one}:{port} dest: /{two}:50010"),
            604..735 => format!("Deleting block {block} file /mnt/hadoop/dfs/data/current/subdir{}/{block}", draw(64)),
            735..847 => format!("BLOCK* NameSystem.delete: {block} is added to invalidSet of {one}:50010"),
            847..905 => format!("BLOCK* NameSystem.allocateBlock: /user/root/rand{}/_temporary/_task_200811101024_{}_m_{}_0/part-{}. {block}", draw(9), draw(20), draw(2000), draw(2000)),
            905..945 => format!("{one}:50010 Served block {block} to /{two}"),
            945..985 => format!("{one}:50010:Got exception while serving {block} to /{two}:"),
            985..995 => format!("Verification succeeded for {block}"),
            995..998 => format!("BLOCK* ask {one}:50010 to delete  {block}"),
            _ => format!("{one}:50010 Starting thread to transfer block {block} to {two}:50010"),
        });
    }
    lines
}
