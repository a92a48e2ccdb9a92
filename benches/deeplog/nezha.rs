//! Value models (DL-09, DL-10) on durations of a microservice shop, into which faults were injected.
//!
//! **A stand-in.** Spec row DL-09 asks for the durations in Nezha's log files. Those are of its Train-Ticket days, which are not
//! among the data here; its two OnlineBoutique days have spans, and no logs. So each span is taken as a log entry: what was
//! called, in which service, is its key, and its duration the vector of its values.
//!
//! For each service two keys are judged, the most frequent in training: its answer to a call, and its caller's view of that
//! call. Models learn from the day's one minute of phase `normal`; services with too few entries there have none. Then all
//! other minutes come, the first forty entries of a key of each. An entry is *calm* if no fault was on when it ended, nor in
//! the two minutes before; a fault lasts three minutes. So labels say where a share is counted, and choose nothing. Beside
//! stands what needs no model: durations above a quantile of those of training, the one of the same confidence.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use driftline::arrow::array::{ArrayRef, AsArray, StringArray};
use driftline::arrow::compute::cast;
use driftline::arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use driftline_operators::detectors::deeplog::{ValueModel, ValueSettings};
use flate2::read::GzDecoder;
use serde_json::Value;

use super::Asked;
use super::data::folder;

const DAY: &str = "2022-08-23";
const SECOND: i64 = 1_000_000;
/// How long a fault lasts, and how long after it an entry is not calm.
const FAULT: i64 = 180 * SECOND;
const AFTER: i64 = 120 * SECOND;
/// Entries of a key of a minute that are judged.
const OF_MINUTE_MAX: usize = 40;
/// Entries of a key, the latest, that are learned from: as many as the detector takes.
const LEARNED_MAX: usize = 1_000;
/// Faults that make entries slow.
const KINDS: [&str; 2] = ["network_delay", "cpu_contention"];

/// Where and what a span is: a service and its operation.
type Place = (String, String);

struct Span {
    minute: String,
    is_training: bool,
    place: Place,
    /// What users ask the shop for.
    is_root: bool,
    /// Where the call came from, if from another service.
    caller: Option<Place>,
    /// Microseconds since 1970.
    ended: i64,
    seconds: f64,
}

/// A fault, and when it was injected.
struct Fault {
    service: String,
    kind: String,
    begin: i64,
}

/// `checkoutservice-578fcf4766-9csqn` is a pod of `checkoutservice`.
fn service(pod: &str) -> String {
    pod.split('-').next().unwrap_or(pod).to_owned()
}

fn json(file: &Path) -> Value {
    let text = std::fs::read_to_string(file).expect("the file can be read");
    serde_json::from_str(&text).expect("the file is JSON")
}

fn spans(day: &Path) -> Vec<Span> {
    let meta = json(&day.join("spans_meta.json"));
    let names = |of: &str, name: fn(&str) -> String| -> Vec<String> {
        let all = meta[of].as_array().expect("it is a list");
        all.iter().map(|text| name(text.as_str().expect("it is a text"))).collect()
    };
    let (services, operations) = (names("pods", service), names("operations", str::to_owned));
    let base = meta["start_base_us"].as_i64().expect("it is a number");
    let packed = File::open(day.join("spans.csv.gz")).expect("the file can be read");
    let mut spans: Vec<Span> = Vec::new();
    // Of the trace at hand: the place of each span.
    let (mut trace, mut places) = (String::new(), BTreeMap::<i64, Place>::new());
    for line in BufReader::new(GzDecoder::new(packed)).lines().skip(1) {
        let line = line.expect("the file is whole");
        let cells: Vec<&str> = line.split(',').collect();
        let [minute, phase, of, span, parent, pod, operation, start, duration] = cells.as_slice()
        else {
            panic!("{line}")
        };
        let number = |text: &str| text.parse::<i64>().expect("it is a number");
        let this = [*minute, *phase, *of].join(" ");
        if this != trace {
            (trace, places) = (this, BTreeMap::new());
        }
        let place = (
            services[number(pod) as usize].clone(),
            operations[number(operation) as usize].clone(),
        );
        places.insert(number(span), place.clone());
        spans.push(Span {
            minute: (*minute).to_owned(),
            is_training: *phase == "normal",
            is_root: *parent == "-1",
            caller: places.get(&number(parent)).filter(|caller| caller.0 != place.0).cloned(),
            place,
            ended: base + number(start) + number(duration),
            seconds: number(duration) as f64 / 1e6,
        });
    }
    spans.sort_by_key(|span| span.ended);
    spans
}

fn faults(day: &Path) -> Vec<Fault> {
    let hours = json(&day.join("fault_list.json"));
    let all = hours.as_object().expect("it is by hour").values();
    let all = all.flat_map(|hour| hour.as_array().expect("it is a list"));
    all.map(|fault| {
        let text = |name: &str| fault[name].as_str().expect("it is a text");
        let time: ArrayRef = Arc::new(StringArray::from(vec![text("inject_time")]));
        let time =
            cast(&time, &DataType::Timestamp(TimeUnit::Microsecond, None)).expect("it is a time");
        Fault {
            service: service(text("inject_pod")),
            kind: text("inject_type").to_owned(),
            begin: time.as_primitive::<TimestampMicrosecondType>().value(0),
        }
    })
    .collect()
}

/// The keys that are judged, and the service whose answers each is about.
fn keys(spans: &[Span]) -> BTreeMap<Place, String> {
    let mut counts: BTreeMap<(String, bool), BTreeMap<Place, usize>> = BTreeMap::new();
    for span in spans.iter().filter(|span| span.is_training) {
        let mut count = |is_view: bool, place: &Place| {
            let of = counts.entry((span.place.0.clone(), is_view)).or_default();
            *of.entry(place.clone()).or_default() += 1;
        };
        match &span.caller {
            Some(caller) => {
                count(false, &span.place);
                count(true, caller);
            }
            None if span.is_root => count(false, &span.place),
            None => {}
        }
    }
    let most = |((service, _), places): ((String, bool), BTreeMap<Place, usize>)| {
        let (place, _) = places.into_iter().max_by_key(|(_, count)| *count)?;
        Some((place, service))
    };
    counts.into_iter().filter_map(most).collect()
}

/// Entries raised, and all.
#[derive(Clone, Copy, Debug, Default)]
struct Share(u32, u32);

impl Share {
    fn count(&mut self, is_raised: bool) {
        *self = Self(self.0 + u32::from(is_raised), self.1 + 1);
    }

    fn of(self) -> f64 {
        f64::from(self.0) / f64::from(self.1)
    }
}

/// Shares by where an entry was: calm, or at a kind of fault in the service or elsewhere.
type Shares = BTreeMap<String, Share>;

fn print(what: &str, shares: &Shares) {
    let one = |(place, share): (&String, &Share)| {
        format!("{place} {:.4} ({} of {})", share.of(), share.0, share.1)
    };
    println!("    {what}: {}", shares.iter().map(one).collect::<Vec<_>>().join("; "));
}

pub(crate) fn report(_: Asked) {
    let Some(folder) = folder("nezha") else { return };
    let day = folder.join(DAY);
    let (spans, faults) = (spans(&day), faults(&day));
    let keys = keys(&spans);
    let name = |place: &Place| format!("{} {}", place.0, place.1);
    let mut training: BTreeMap<String, Vec<Vec<f64>>> = BTreeMap::new();
    let mut judged: Vec<&Span> = Vec::new();
    let mut taken: BTreeMap<(&str, &Place), usize> = BTreeMap::new();
    for span in spans.iter().filter(|span| keys.contains_key(&span.place)) {
        if span.is_training {
            training.entry(name(&span.place)).or_default().push(vec![span.seconds]);
            continue;
        }
        let taken = taken.entry((&span.minute, &span.place)).or_default();
        *taken += 1;
        if *taken <= OF_MINUTE_MAX {
            judged.push(span);
        }
    }
    for vectors in training.values_mut() {
        vectors.drain(..vectors.len().saturating_sub(LEARNED_MAX));
    }
    println!(
        "nezha: durations of OnlineBoutique's calls, {} keys, learned from {} entries of one normal minute; {} entries judged",
        keys.len(),
        training.values().map(Vec::len).sum::<usize>(),
        judged.len()
    );
    for confidence in [0.98, 0.99, 0.999] {
        let settings = ValueSettings { confidence, ..ValueSettings::default() };
        let mut model = ValueModel::train(&training, &settings).expect("there is enough to learn");
        let modelled: BTreeSet<String> = model.keys().map(str::to_owned).collect();
        if confidence == 0.98 {
            for (place, of) in &keys {
                let has = if modelled.contains(&name(place)) { "" } else { ", too few" };
                let entries = training.get(&name(place)).map_or(0, Vec::len);
                println!("    answers of {of}: {} ({entries} learned{has})", name(place));
            }
        }
        let quantiles: BTreeMap<&str, f64> = training
            .iter()
            .map(|(key, vectors)| {
                let mut seconds: Vec<f64> = vectors.iter().map(|vector| vector[0]).collect();
                seconds.sort_by(f64::total_cmp);
                let place = (confidence * seconds.len() as f64).ceil() as usize;
                (key.as_str(), seconds[place.clamp(1, seconds.len()) - 1])
            })
            .collect();
        let (mut by_model, mut by_quantile) = (Shares::new(), Shares::new());
        let mut covered = BTreeSet::new();
        for span in &judged {
            let key = name(&span.place);
            let Some(judgement) = model.judge(&key, &[span.seconds]) else { continue };
            let since = |fault: &&Fault| span.ended - fault.begin;
            let on = faults.iter().find(|fault| (0..FAULT).contains(&since(fault)));
            let place = match on {
                Some(fault) if KINDS.contains(&fault.kind.as_str()) => {
                    let is_there = keys[&span.place] == fault.service;
                    if is_there {
                        covered.insert(fault.begin);
                    }
                    format!("{} {}", fault.kind, if is_there { "at it" } else { "elsewhere" })
                }
                Some(_) => continue,
                None if faults.iter().any(|f| (0..FAULT + AFTER).contains(&since(&f))) => continue,
                None => "calm".to_owned(),
            };
            by_model.entry(place.clone()).or_default().count(judgement.is_anomaly);
            by_quantile.entry(place).or_default().count(span.seconds > quantiles[key.as_str()]);
        }
        let slow = faults.iter().filter(|fault| KINDS.contains(&fault.kind.as_str())).count();
        println!(
            "  at {confidence}: entries of {} of {slow} such faults' services judged",
            covered.len()
        );
        print("value models", &by_model);
        print("quantile of training", &by_quantile);
        for (method, shares) in [("model", &by_model), ("quantile", &by_quantile)] {
            let share = |place: &str| shares.get(place).copied().unwrap_or_default().of();
            println!(
                "figure: nezha_false_alarms_{method}_{confidence} = {:.5} of calm entries (asked {:.5})",
                share("calm"),
                1.0 - confidence
            );
            for kind in KINDS {
                println!(
                    "figure: nezha_{kind}_{method}_{confidence} = {:.4} of entries at it, {:.4} elsewhere",
                    share(&format!("{kind} at it")),
                    share(&format!("{kind} elsewhere"))
                );
            }
        }
    }
}
