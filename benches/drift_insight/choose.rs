//! How long to train, and how sensitive that is to eps, without labels: faults are injected into the end of ASD's training parts.

use std::time::Instant;

use super::BoxResult;
use super::baseline::baselines;
use super::data::{Component, folder, load_asd};
use super::detector::{KIND, run};
use super::fleet::DAY_SLOTS;
use super::judge::{judge, mean, mean_f1};
use crate::random::Random;

/// Lengths to choose from: three days as in the paper, a week, two weeks.
const LENGTHS: [usize; 3] = [3 * DAY_SLOTS, 7 * DAY_SLOTS, 14 * DAY_SLOTS];

/// Factors of eps to look at, beside 1 (DI-04).
const EPS_FACTORS: [f64; 4] = [0.5, 1.5, 2.0, 3.0];

/// The end of each training part that stands for a test part, and faults in it.
const HELD_OUT: usize = 5 * DAY_SLOTS;
const FAULTS: usize = 6;
const FAULT_SLOTS: (usize, usize) = (6, 48);

pub(crate) fn report() -> BoxResult<()> {
    let Some(folder) = folder("asd") else { return Ok(()) };
    let servers: Vec<Component> = load_asd(&folder)?
        .into_iter()
        .enumerate()
        .map(|(place, server)| inject(server, place as u64))
        .collect();
    println!(
        "== training length and eps: {FAULTS} faults injected into the last {HELD_OUT} training slots of each server =="
    );
    let line = |name: &str, marks: &[super::judge::Marks], seconds: f64| {
        println!(
            "{name:<40} AUC-PR {:.3}, best event F1 {:.3}, own event F1 {:.3}, clean raised {:.3} %, {seconds:.1} s",
            mean(marks).auc_pr,
            mean_f1(marks, |marks| marks.best_events),
            mean_f1(marks, |marks| marks.own_events),
            100.0 * mean(marks).clean.share_raised()
        );
    };
    let lengths = LENGTHS.map(|training| (training, 1.0));
    let factors = EPS_FACTORS.map(|factor| (LENGTHS[1], factor));
    for (training, factor) in lengths.into_iter().chain(factors) {
        let begin = Instant::now();
        let ours = run(&servers, training, &format!(", eps_factor = {factor:.2}"))?;
        let seconds = begin.elapsed().as_secs_f64();
        let marks: Vec<_> = servers
            .iter()
            .zip(&ours)
            .map(|(server, verdicts)| judge(&server.labels, &verdicts.said, 0))
            .collect();
        line(&format!("{KIND}, training = {training}, eps x {factor}"), &marks, seconds);
    }
    let all: Vec<_> = servers.iter().map(|server| baselines(server, 0)).collect();
    for method in 0..all[0].len() {
        let pairs = servers.iter().zip(&all);
        let marks: Vec<_> =
            pairs.map(|(server, all)| judge(&server.labels, &all[method].said, 0)).collect();
        line(all[0][method].name, &marks, 0.0);
    }
    println!();
    Ok(())
}

/// The training part alone, its end with faults: stretches in which a random half of the metrics takes the values of
/// another moment of the training part, moved by up to three of their deviations.
fn inject(server: Component, seed: u64) -> Component {
    let mut random = Random(1_000 + seed);
    let mut rows = server.train().to_vec();
    let train_rows = rows.len() - HELD_OUT;
    let metrics = rows[0].len();
    let deviations: Vec<f64> = (0..metrics).map(|metric| deviation(&rows, metric)).collect();
    let mut labels = vec![false; HELD_OUT];
    for fault in 0..FAULTS {
        let (least, most) = FAULT_SLOTS;
        let slots = least + random.below(most - least);
        let room = HELD_OUT / FAULTS;
        let first = fault * room + random.below(room - most);
        let from = random.below(train_rows - slots);
        for metric in 0..metrics {
            if random.below(2) == 0 {
                continue;
            }
            let moved = 3.0 * deviations[metric] * (2.0 * random.unit() - 1.0);
            for slot in 0..slots {
                let row = train_rows + first + slot;
                rows[row][metric] = rows[from + slot][metric] + moved;
            }
        }
        labels[first..first + slots].fill(true);
    }
    let times = server.times[..rows.len()].to_vec();
    Component { rows, times, train_rows, labels, causes: Vec::new(), ..server }
}

fn deviation(rows: &[Vec<f64>], metric: usize) -> f64 {
    let mean = rows.iter().map(|row| row[metric]).sum::<f64>() / rows.len() as f64;
    let squares = rows.iter().map(|row| (row[metric] - mean).powi(2)).sum::<f64>();
    (squares / rows.len() as f64).sqrt()
}
