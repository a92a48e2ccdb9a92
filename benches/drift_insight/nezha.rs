//! Nezha: ten pods of a shop, 19 metrics a minute, faults of three minutes injected into one pod at a time.

use std::collections::BTreeMap;
use std::time::Instant;

use driftline::evaluate::{Segment, event_wise, segments, vus_buffer};

use super::BoxResult;
use super::baseline::{Baseline, baselines};
use super::data::{Component, FAULT_MINUTES, Fault, Nezha, TOLERANCE_MINUTES, folder, load_nezha};
use super::detector::{KIND, SETTLE_ROWS, Verdicts, run};
use super::judge::{self, Marks, Said, judge};

/// Clean windows as long as a labelled fault, to compare hit rates with.
const WINDOW_ROWS: usize = (FAULT_MINUTES + TOLERANCE_MINUTES) as usize;

pub(crate) fn report() -> BoxResult<()> {
    let Some(folder) = folder("nezha") else { return Ok(()) };
    let Nezha { pods, metrics, faults } = load_nezha(&folder)?;
    println!(
        "== Nezha: {} pods, {} metrics, {} minutes of training, {} of test with {} faults ==",
        pods.len(),
        metrics.len(),
        pods[0].train_rows,
        pods[0].labels.len(),
        faults.len()
    );
    let begin = Instant::now();
    let ours = run(&pods, pods[0].train_rows - SETTLE_ROWS, "")?;
    println!(
        "{KIND}: trained on the fault-free end of the first day, tested on the second; a fault counts for {FAULT_MINUTES} min \
         and {TOLERANCE_MINUTES} min of\ntolerance in its own pod, an alarm in any other pod is false; {:.1} s\n",
        begin.elapsed().as_secs_f64()
    );
    let others: Vec<Vec<Baseline>> =
        pods.iter().enumerate().map(|(i, pod)| baselines(pod, i as u64)).collect();
    let labels = joined(pods.iter().map(|pod| pod.labels.as_slice()), false);
    let first: Vec<f64> = pods[0].test().iter().map(|row| row[0]).collect();
    let marks = |said: &[&Said]| vec![judge(&labels, &pooled(said), vus_buffer(&first))];
    let mine: Vec<&Said> = ours.iter().map(|verdicts| &verdicts.said).collect();
    let mut lines = vec![(KIND, marks(&mine))];
    for method in 0..others[0].len() {
        let said: Vec<&Said> = others.iter().map(|all| &all[method].said).collect();
        lines.push((others[0][method].name, marks(&said)));
    }
    judge::print(&lines);
    println!("\nOne threshold for all pods, whose test parts are put one after the other.");

    anywhere(&pods, &mine);
    by_kind(&pods, &faults, &ours);
    windows(&pods, &lines[0].1[0], &ours, &others);
    let best =
        lines[1..].iter().map(|(_, marks)| marks[0].best_events.f1()).fold(f64::MIN, f64::max);
    let mine = &lines[0].1[0];
    println!("figure: nezha_auc_pr = {:.3} area", mine.auc_pr);
    println!("figure: nezha_event_f1 = {:.3} F1, best threshold", mine.best_events.f1());
    println!("figure: nezha_event_f1_best_baseline = {best:.3} F1, best threshold");
    println!("figure: nezha_event_f1_as_shipped = {:.3} F1, own threshold", mine.own_events.f1());
    println!(
        "figure: nezha_clean_alarm_rate = {:.5} share of clean slots\n",
        mine.clean.share_raised()
    );
    Ok(())
}

/// The rows of all pods one after the other, with one row between them so that no run reaches from one into the next.
fn joined<'a, T: Copy + 'a>(parts: impl Iterator<Item = &'a [T]>, between: T) -> Vec<T> {
    parts.flat_map(|part| part.iter().copied().chain([between])).collect()
}

fn pooled(said: &[&Said]) -> Said {
    Said {
        scores: joined(said.iter().map(|said| said.scores.as_slice()), f64::NAN),
        raised: joined(said.iter().map(|said| said.raised.as_slice()), false),
    }
}

/// A fault slows its callers down, too: time alone, an alarm in any pod.
fn anywhere(pods: &[Component], said: &[&Said]) {
    let any = |flags: &dyn Fn(usize) -> Vec<bool>| {
        let mut all = vec![false; pods[0].labels.len()];
        for pod in 0..pods.len() {
            flags(pod).iter().enumerate().for_each(|(row, flag)| all[row] |= flag);
        }
        all
    };
    let labels = any(&|pod| pods[pod].labels.clone());
    let found = event_wise(&labels, &any(&|pod| said[pod].raised.clone()));
    println!(
        "an alarm in any pod, as shipped: events P {:.3} R {:.3} F1 {:.3}",
        found.precision,
        found.recall,
        found.f1()
    );
}

/// Faults found, as shipped, by kind of fault.
fn by_kind(pods: &[Component], faults: &[Fault], ours: &[Verdicts]) {
    let mut kinds: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for fault in faults {
        let Some(pod) = pods.iter().position(|pod| pod.name == fault.service) else { continue };
        let times = &pods[pod].times[pods[pod].train_rows..];
        let first = times.partition_point(|time| *time < fault.begin);
        let last = (first + WINDOW_ROWS).min(times.len());
        let (found, all) = kinds.entry(&fault.kind).or_default();
        *found += usize::from(ours[pod].said.raised[first..last].contains(&true));
        *all += 1;
    }
    let texts: Vec<String> =
        kinds.iter().map(|(kind, (found, all))| format!("{kind} {found} of {all}")).collect();
    println!("faults found as shipped: {}", texts.join(", "));
}

/// Share of labelled faults and of clean windows of the same length that hold an alarm, each method as shipped.
fn windows(pods: &[Component], marks: &Marks, ours: &[Verdicts], others: &[Vec<Baseline>]) {
    println!(
        "\nwindows of {WINDOW_ROWS} min that hold an alarm, own thresholds: of faults, of clean minutes ({} of them)",
        marks.clean.rows
    );
    let show = |name: &str, of: &dyn Fn(usize) -> Vec<bool>| {
        let (mut found, mut faults, mut raised, mut clean) = (0, 0, 0, 0);
        for (place, pod) in pods.iter().enumerate() {
            let alarms = of(place);
            let holds = |run: &Segment| alarms[run.first..=run.last].contains(&true);
            let runs = segments(&pod.labels);
            faults += runs.len();
            found += runs.iter().filter(|run| holds(run)).count();
            let free = clean_windows(&pod.labels);
            clean += free.len();
            raised += free.iter().filter(|run| holds(run)).count();
        }
        println!(
            "{name:<22} {:>6.3} {:>6.3}",
            found as f64 / faults as f64,
            raised as f64 / clean as f64
        );
    };
    show(KIND, &|pod| ours[pod].said.raised.clone());
    for (method, said) in others[0].iter().enumerate() {
        show(said.name, &|pod| others[pod][method].said.raised.clone());
    }
}

fn clean_windows(labels: &[bool]) -> Vec<Segment> {
    let window = |first: usize| Segment { first, last: first + WINDOW_ROWS - 1 };
    let is_clean = |run: &Segment| {
        let from = run.first.saturating_sub(judge::MARGIN_ROWS);
        let to = (run.last + judge::MARGIN_ROWS).min(labels.len() - 1);
        !labels[from..=to].contains(&true)
    };
    (0..labels.len() / WINDOW_ROWS).map(|n| window(n * WINDOW_ROWS)).filter(is_clean).collect()
}
