//! ASD: twelve servers, 19 metrics, labelled anomalies with the metrics that caused them.

use std::time::Instant;

use driftline::evaluate::{Segment, detection_delays, segments, vus_buffer};

use super::BoxResult;
use super::baseline::{Baseline, baselines};
use super::data::{Component, folder, load_asd};
use super::detector::{KIND, Verdicts, run};
use super::fleet::DAY_SLOTS;
use super::judge::{self, MARGIN_ROWS, Marks, RAISED_MAX, Said, judge, mean, mean_f1};

/// Metrics that an alert names.
const NAMED: usize = 3;

/// The static rule of DI-24 fires when one metric has been above its training maximum for so many slots.
const RULE_SLOTS: usize = 3;

const SLOT_MINUTES: usize = 5;

/// Slots to train on: the length of which `choose` (`cargo bench --bench drift_insight choose`) found most injected
/// faults in training parts.
const TRAINING: usize = 7 * DAY_SLOTS;

/// What the detector trains on unasked.
const TRAINING_DEFAULT: usize = 3 * DAY_SLOTS;

pub(crate) fn report() -> BoxResult<()> {
    let Some(folder) = folder("asd") else { return Ok(()) };
    let servers = load_asd(&folder)?;
    let rows: usize = servers.iter().map(|server| server.rows.len()).sum();
    let runs: usize = servers.iter().map(|server| segments(&server.labels).len()).sum();
    println!("== ASD: {} servers, {rows} rows, {runs} labelled runs ==", servers.len());
    let begin = Instant::now();
    let ours = run(&servers, TRAINING, "")?;
    println!(
        "{KIND}: training = {TRAINING}, on the last rows of the training part, all else by default, evolving through the test part; {:.1} s\n",
        begin.elapsed().as_secs_f64()
    );
    let unscored: usize = ours
        .iter()
        .map(|verdicts| verdicts.said.scores.iter().filter(|s| s.is_nan()).count())
        .sum();
    if unscored > 0 {
        println!("{unscored} test rows had no score, because their server was not found steady\n");
    }
    let others: Vec<Vec<Baseline>> =
        servers.iter().enumerate().map(|(i, server)| baselines(server, i as u64)).collect();

    let lines = judged(&servers, &ours, &others);
    let unasked = judged(&servers, &run(&servers, TRAINING_DEFAULT, "")?, &[]);
    let mut shown = lines.clone();
    shown.extend(unasked.into_iter().map(|(_, marks)| ("(ours, trained on 864)", marks)));
    judge::print(&shown);
    explain_columns();
    by_server(&servers, &lines);
    let causes = causes(&servers, &ours, &others);
    lead(&servers, &ours);
    figures(&lines, causes);
    Ok(())
}

type Lines = Vec<(&'static str, Vec<Marks>)>;

/// Marks of every method, ours first.
fn judged(servers: &[Component], ours: &[Verdicts], others: &[Vec<Baseline>]) -> Lines {
    let marks = |server: &Component, said: &Said| {
        let first: Vec<f64> = server.test().iter().map(|row| row[0]).collect();
        judge(&server.labels, said, vus_buffer(&first))
    };
    let mine = servers.iter().zip(ours).map(|(server, ours)| marks(server, &ours.said)).collect();
    let mut lines = vec![(KIND, mine)];
    for method in 0..others.first().map_or(0, Vec::len) {
        let all = servers.iter().zip(others).map(|(server, all)| marks(server, &all[method].said));
        lines.push((others[0][method].name, all.collect()));
    }
    lines
}

fn explain_columns() {
    println!(
        "\nAll marks are of the test part, means over the servers. best: the threshold with the best F1 on each server, \
         found with the labels, for\nevery method alike; for events among thresholds that raise at most {:.0} % of the rows. \
         own: ours as shipped, without labels; the\nbaselines' is their highest score in training. clean: farther than {MARGIN_ROWS} slots \
         from every labelled row. VUS-PR: border = period of m1.\n",
        100.0 * RAISED_MAX
    );
}

fn by_server(servers: &[Component], lines: &Lines) {
    let names: Vec<String> = lines.iter().map(|(name, _)| format!("{name:>14}")).collect();
    println!("{:<8} {}   (AUC-PR, best event F1)", "server", names.join(" "));
    for (place, server) in servers.iter().enumerate() {
        let cells: Vec<String> = lines
            .iter()
            .map(|(_, marks)| {
                format!("{:>7.3} {:>6.3}", marks[place].auc_pr, marks[place].best_events.f1())
            })
            .collect();
        println!("{:<8} {}", server.name, cells.join(" "));
    }
}

// ---- causes ----

/// How well the metrics that a method names agree with those that caused the anomaly.
#[derive(Clone, Copy)]
struct Named {
    /// Share of labelled runs of which at least one named metric is a cause.
    hit: f64,
    /// Share of named metrics that are causes.
    right: f64,
}

fn causes(servers: &[Component], ours: &[Verdicts], others: &[Vec<Baseline>]) -> Named {
    println!(
        "\ncauses: the {NAMED} metrics with the largest part in the highest score of each labelled run\n{:<22} {:>12} {:>12}",
        "method", "one is right", "share right"
    );
    let show =
        |name: &str, named: Named| println!("{name:<22} {:>12.3} {:>12.3}", named.hit, named.right);
    let all = |of: &dyn Fn(usize) -> (Vec<f64>, Vec<Vec<f64>>)| {
        let found: Vec<Named> = servers
            .iter()
            .enumerate()
            .flat_map(|(place, server)| {
                let (scores, shares) = of(place);
                let named =
                    |(run, causes): &(Segment, Vec<usize>)| named(&scores, &shares, *run, causes);
                server.causes.iter().map(named).collect::<Vec<_>>()
            })
            .collect();
        average(&found)
    };
    let mine = all(&|place| (ours[place].said.scores.clone(), ours[place].shares.clone()));
    show(KIND, mine);
    for method in (0..others[0].len()).filter(|method| !others[0][*method].shares.is_empty()) {
        let other = |place: usize| &others[place][method];
        show(
            others[0][method].name,
            all(&|place| (other(place).said.scores.clone(), other(place).shares.clone())),
        );
    }
    let chances: Vec<Named> = servers
        .iter()
        .flat_map(|server| server.causes.iter().map(|(_, causes)| chance(server, causes.len())))
        .collect();
    show("chance", average(&chances));
    mine
}

fn named(scores: &[f64], shares: &[Vec<f64>], run: Segment, causes: &[usize]) -> Named {
    let score = |row: &usize| if scores[*row].is_nan() { f64::NEG_INFINITY } else { scores[*row] };
    let peak = (run.first..=run.last)
        .max_by(|a, b| score(a).total_cmp(&score(b)))
        .expect("a run has a row");
    let mut metrics: Vec<usize> = (0..shares[peak].len()).collect();
    metrics.sort_by(|a, b| shares[peak][*b].total_cmp(&shares[peak][*a]));
    metrics.truncate(NAMED);
    // A metric without any part in the score is not named.
    metrics.retain(|metric| shares[peak][*metric] > 0.0);
    let right = metrics.iter().filter(|metric| causes.contains(metric)).count();
    Named { hit: f64::from(u8::from(right > 0)), right: right as f64 / NAMED as f64 }
}

/// What naming metrics at random would get.
fn chance(server: &Component, causes: usize) -> Named {
    let metrics = server.rows[0].len();
    let miss: f64 = (0..NAMED)
        .map(|drawn| (metrics - causes).saturating_sub(drawn) as f64 / (metrics - drawn) as f64)
        .product();
    Named { hit: 1.0 - miss, right: causes as f64 / metrics as f64 }
}

fn average(all: &[Named]) -> Named {
    let mean = |of: fn(&Named) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
    Named { hit: mean(|named| named.hit), right: mean(|named| named.right) }
}

// ---- lead time ----

/// Rows at which any metric has been above its training maximum for [`RULE_SLOTS`] slots.
fn rule(server: &Component) -> Vec<bool> {
    let metrics = server.rows[0].len();
    let highest: Vec<f64> = (0..metrics)
        .map(|metric| server.train().iter().map(|row| row[metric]).fold(f64::MIN, f64::max))
        .collect();
    let mut above = vec![0; metrics];
    let fires = |row: &Vec<f64>| {
        for metric in 0..metrics {
            above[metric] = if row[metric] > highest[metric] { above[metric] + 1 } else { 0 };
        }
        above.iter().any(|slots| *slots >= RULE_SLOTS)
    };
    server.test().iter().map(fires).collect()
}

fn lead(servers: &[Component], ours: &[Verdicts]) {
    let (mut by_us, mut by_rule, mut runs) = (0, 0, 0);
    let mut minutes: Vec<i64> = Vec::new();
    let mut delays: Vec<usize> = Vec::new();
    for (server, verdicts) in servers.iter().zip(ours) {
        let mine = detection_delays(&server.labels, &verdicts.said.raised);
        let theirs = detection_delays(&server.labels, &rule(server));
        runs += mine.len();
        by_us += mine.iter().flatten().count();
        by_rule += theirs.iter().flatten().count();
        delays.extend(mine.iter().flatten());
        for (mine, theirs) in mine.iter().zip(&theirs) {
            if let (Some(mine), Some(theirs)) = (mine, theirs) {
                minutes.push((*theirs as i64 - *mine as i64) * SLOT_MINUTES as i64);
            }
        }
    }
    minutes.sort_unstable();
    delays.sort_unstable();
    let rule_alarms: usize = servers
        .iter()
        .map(|server| {
            let said = Said { scores: vec![0.0; server.labels.len()], raised: rule(server) };
            judge(&server.labels, &said, 0).clean.alarms
        })
        .sum();
    println!(
        "\nlead time against \"any metric above its training maximum for {RULE_SLOTS} slots\", inside the labelled runs:\n\
         of {runs} runs {by_us} were found by {KIND} as shipped (median delay {} min), {by_rule} by the rule, {} by both; \
         the rule raised {rule_alarms} alarms on clean stretches",
        delays.get(delays.len() / 2).map_or(0, |delay| delay * SLOT_MINUTES),
        minutes.len()
    );
    if let Some(median) = minutes.get(minutes.len() / 2) {
        let earlier = minutes.iter().filter(|lead| **lead > 0).count();
        let later = minutes.iter().filter(|lead| **lead < 0).count();
        println!(
            "where both fired: median lead {median} min, {earlier} earlier, {later} later, from {} to {} min",
            minutes[0],
            minutes[minutes.len() - 1]
        );
        println!("figure: asd_lead_median = {median} minutes");
    }
    println!("figure: asd_runs_found = {by_us} of {runs}");
    println!("figure: asd_runs_found_by_rule = {by_rule} of {runs}");
}

// ---- figures ----

fn figures(lines: &Lines, causes: Named) {
    let best = |of: &dyn Fn(&Vec<Marks>) -> f64| {
        lines[1..].iter().map(|(_, marks)| of(marks)).fold(f64::MIN, f64::max)
    };
    let auc = |marks: &Vec<Marks>| mean(marks).auc_pr;
    let vus = |marks: &Vec<Marks>| mean(marks).vus_pr;
    let events = |marks: &Vec<Marks>| mean_f1(marks, |marks| marks.best_events);
    let own = |marks: &Vec<Marks>| mean_f1(marks, |marks| marks.own_events);
    let mine = &lines[0].1;
    println!("figure: asd_auc_pr = {:.3} area", auc(mine));
    println!("figure: asd_auc_pr_best_baseline = {:.3} area", best(&auc));
    println!("figure: asd_vus_pr = {:.3} area", vus(mine));
    println!("figure: asd_vus_pr_best_baseline = {:.3} area", best(&vus));
    println!("figure: asd_event_f1 = {:.3} F1, best threshold", events(mine));
    println!("figure: asd_event_f1_best_baseline = {:.3} F1, best threshold", best(&events));
    println!("figure: asd_event_f1_as_shipped = {:.3} F1, own threshold", own(mine));
    println!("figure: asd_event_f1_as_shipped_best_baseline = {:.3} F1, own threshold", best(&own));
    println!("figure: asd_cause_top3 = {:.3} share of runs", causes.hit);
    println!("figure: asd_cause_top3_right = {:.3} share of named metrics", causes.right);
    let clean = mean(mine).clean;
    let days = clean.rows as f64 * SLOT_MINUTES as f64 / (24.0 * 60.0);
    println!("figure: asd_clean_alarm_rate = {:.5} share of clean slots", clean.share_raised());
    println!(
        "figure: asd_clean_alarms_per_server_day = {:.3} alarms\n",
        clean.alarms as f64 / days
    );
}
