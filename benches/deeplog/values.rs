//! Values through the detector (DL-09 to DL-12) on real requests: durations of OpenStack calls, in which services were
//! killed.
//!
//! Requests are those of rally, a session each; its rows are the calls, with their duration, when they ended. The
//! detector learns from the first 240 requests, before any fault, and judges the rest. Values alone are looked at: of
//! rows whose key was normal. A request counts as faulty if it failed. Which are slow but did not fail nobody says: those
//! raised are printed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use driftline::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use driftline::arrow::datatypes::Float64Type;
use driftline_operators::detector::{Answers, DetectorKind, DetectorRequest};
use driftline_operators::detectors::{DeepLog, DeepLogKind, DetectorBuilder};
use driftline_operators::time::EventTime;
use flate2::read::GzDecoder;

use super::Asked;
use super::data::folder;

/// Requests that are learned from: the first fault is at the 248th.
const LEARNED: u32 = 240;
/// A boot that takes so many seconds ran into its timeout.
const TIMED_OUT: f64 = 300.0;

struct Call {
    request: u32,
    name: String,
    ended: f64,
    seconds: f64,
}

/// Calls in the order in which they ended.
fn calls(file: &Path) -> Vec<Call> {
    let packed = std::fs::File::open(file).expect("the file can be read");
    let mut text = String::new();
    GzDecoder::new(packed).read_to_string(&mut text).expect("the file is whole");
    let mut calls: Vec<Call> = text
        .lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            let number = |place: usize| cells[place].parse::<f64>().expect("it is a number");
            let request = cells[0].parse().expect("it is a number");
            let (began, ended) = (number(4), number(5));
            Call { request, name: cells[3].to_owned(), ended, seconds: ended - began }
        })
        .collect();
    calls.sort_by(|a, b| a.ended.total_cmp(&b.ended));
    calls
}

/// Requests that failed.
fn failed(file: &Path) -> BTreeSet<u32> {
    let text = std::fs::read_to_string(file).expect("the file can be read");
    let rows = text.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let odd = rows.filter(|cells| cells[3] != "0");
    odd.map(|cells| cells[0].parse().expect("it is a number")).collect()
}

fn batch(calls: &[Call]) -> RecordBatch {
    let times = calls.iter().map(|call| (call.ended * 1e3) as i64);
    let requests = calls.iter().map(|call| call.request.to_string());
    let columns: [(&str, ArrayRef); 4] = [
        ("ts", Arc::new(TimestampMillisecondArray::from_iter_values(times))),
        ("request", Arc::new(StringArray::from_iter_values(requests))),
        ("log_key", Arc::new(StringArray::from_iter_values(calls.iter().map(|c| &c.name)))),
        ("seconds", Arc::new(Float64Array::from_iter_values(calls.iter().map(|c| c.seconds)))),
    ];
    RecordBatch::try_from_iter(columns).expect("the columns are equally long")
}

/// For each call that was judged by its values, whether it was raised for them.
fn judged(rows: &RecordBatch, confidence: f64) -> Vec<Option<bool>> {
    let spec = DeepLog::new()
        .session("request")
        .ngram()
        .training(i64::from(LEARNED))
        .values("seconds")
        .option("confidence", confidence)
        .option("gap", Duration::from_secs(60))
        .option("swap_after", Duration::ZERO)
        .build();
    let request = DetectorRequest::from_spec("slow", &spec, rows.schema(), 0, 1)
        .expect("the columns are there");
    let plan = DeepLogKind.plan(&request).expect("the options are right");
    let (mut detector, mut answers) = (plan.detector(), Answers::default());
    detector.process(rows, &mut answers).expect("the rows are right");
    detector.advance(EventTime::MAX, &mut answers).expect("sessions can end");
    let mut found = Vec::new();
    for rows in &answers.rows {
        let detail = rows["detail"].as_struct();
        let number = |name: &str| {
            detail.column_by_name(name).expect("values are judged").as_primitive::<Float64Type>()
        };
        let (errors, bounds) = (number("value_error"), number("value_bound"));
        found.extend(
            (0..rows.num_rows())
                .map(|row| errors.is_valid(row).then(|| errors.value(row) > bounds.value(row))),
        );
    }
    found
}

pub(crate) fn report(_: Asked) {
    let Some(folder) = folder("rally_openstack") else { return };
    println!(
        "values: durations of OpenStack calls through the detector, which learns from {LEARNED} requests"
    );
    for name in ["boot_delete", "image_create_delete"] {
        let calls = calls(&folder.join(format!("{name}_spans.csv.gz")));
        let failed = failed(&folder.join(format!("{name}_iterations.csv")));
        let rows = batch(&calls);
        for confidence in [0.98, 0.99, 0.999] {
            let judged = judged(&rows, confidence);
            // By key, rows of requests that did not fail: raised, and all.
            let mut normal: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
            let (mut faulty, mut found) = (BTreeSet::new(), BTreeSet::new());
            let mut slow = Vec::new();
            for (call, is_raised) in calls.iter().zip(judged) {
                let Some(is_raised) = is_raised else { continue };
                if failed.contains(&call.request) {
                    faulty.insert(call.request);
                    found.extend(is_raised.then_some(call.request));
                } else {
                    let (raised, all) = normal.entry(&call.name).or_default();
                    (*raised, *all) = (*raised + u32::from(is_raised), *all + 1);
                }
                if call.seconds > TIMED_OUT {
                    slow.push((call.request, is_raised));
                }
            }
            let (raised, all) = normal.values().fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1));
            println!(
                "  {name} at {confidence}: {} of {} failed requests raised that were judged; of others {raised} of {all} \
                 calls, {:.1} times what was asked",
                found.len(),
                faulty.len(),
                f64::from(raised) / ((1.0 - confidence) * f64::from(all))
            );
            for (key, (raised, all)) in normal {
                println!("    {key}: {raised} of {all}");
            }
            if name == "boot_delete" {
                let hits = slow.iter().filter(|(_, is_raised)| *is_raised).count();
                println!("figure: values_slow_boots_found_{confidence} = {hits} of {}", slow.len());
            }
            println!(
                "figure: values_false_alarms_{name}_{confidence} = {:.5} of normal calls (asked {:.5})",
                f64::from(raised) / f64::from(all),
                1.0 - confidence
            );
        }
    }
}
