//! The page is drawn without an engine: what a detector would tell is made up from the simulator's own rows.

use std::collections::BTreeMap;

use super::Report;
use crate::record::{Alarm, Discovery, Known, Record, StateOfModel};
use crate::simulator::{BEGIN_MS, Fleet, METRICS, SLOT_MS, Setup};
use crate::summary::Summary;

/// States by nearness to the first slot that looked like it: crude, and enough to draw.
fn states(values: &[f32], width: usize) -> Vec<i64> {
    let mut centers: Vec<&[f32]> = Vec::new();
    let distance = |a: &[f32], b: &[f32]| -> f32 {
        a.iter().zip(b).map(|(a, b)| ((a - b) / (a.abs() + b.abs() + 1.0)).powi(2)).sum()
    };
    values
        .chunks(width)
        .map(|slot| {
            let near = centers.iter().position(|center| distance(center, slot) < 0.12);
            near.map_or_else(
                || {
                    centers.push(slot);
                    if centers.len() > 4 { -1 } else { centers.len() as i64 - 1 }
                },
                |state| if state > 3 { -1 } else { state as i64 },
            )
        })
        .collect()
}

fn made_up() -> (Record, Vec<Known>, i64) {
    let setup = Setup { components: 60, days: 4, training: 480, steady_threshold: 271, seed: 7 };
    let fleet = Fleet::new(&setup);
    let (names, incidents) = (fleet.names(), fleet.incidents().to_vec());
    let mut record = Record::new(&METRICS.map(str::to_owned));
    for (slot, samples) in fleet.enumerate() {
        let end_ms = BEGIN_MS + (slot as i64 + 1) * SLOT_MS;
        let mut sums: BTreeMap<usize, [(f64, f64); METRICS.len()]> = BTreeMap::new();
        for sample in &samples {
            let sums = sums.entry(sample.component).or_insert([(0.0, 0.0); METRICS.len()]);
            for (sum, value) in sums.iter_mut().zip(sample.values) {
                if !value.is_nan() {
                    *sum = (sum.0 + 1.0, sum.1 + value);
                }
            }
        }
        for (component, sums) in sums {
            let component = record.components.entry(names[component].clone()).or_default();
            component.times.push(end_ms);
            component.values.extend(sums.map(|(count, sum)| (sum / count) as f32));
            record.slots += 1;
            record.last_ms = end_ms;
            record.first_ms.get_or_insert(end_ms);
        }
    }
    let mut converged: BTreeMap<i64, i64> = BTreeMap::new();
    for (name, component) in &mut record.components {
        record.steady.insert(name.clone(), 1);
        let states = states(&component.values, METRICS.len());
        component.states = component.times.iter().copied().zip(states.iter().copied()).collect();
        let training = &states[..setup.training as usize];
        let last = training.iter().copied().max().unwrap_or(0);
        let slot = training.iter().position(|state| *state == last).unwrap_or(0) as i64;
        component.discovered = Some(Discovery {
            states: last + 1,
            converged_slot: Some(slot),
            is_steady: slot < setup.steady_threshold,
            model_version: 3,
        });
        component.discovery.clone_from(&component.discovered);
        *converged.entry(slot).or_default() += 1;
        for state in 0..=last {
            let count = training.iter().filter(|other| **other == state).count() as i64;
            component.occupancy.insert((state, count), 1);
        }
        for from in -1..=last {
            for to in -1..=last {
                let count = training.windows(2).filter(|pair| *pair == [from, to]).count() as i64;
                if count > 0 {
                    component.transitions.insert((from, to, count), 1);
                }
            }
        }
        component.models = (0..6)
            .map(|version| StateOfModel {
                time_ms: BEGIN_MS + (setup.training + version * 100) * SLOT_MS,
                state: 0,
                metric: "memory".into(),
                mean: 55.0 + version as f64,
                sd: 1.0,
            })
            .collect();
    }
    let mut running = 0;
    for (slot, count) in converged {
        running += count;
        record.convergence.insert((slot, count, running), 1);
    }
    let mut known = Vec::new();
    for incident in &incidents {
        let name = &names[incident.component];
        let ms = |slot: i64| BEGIN_MS + (slot + 1) * SLOT_MS;
        for slot in incident.begins + 2..incident.ends {
            record.alarms.push(Alarm {
                component: name.clone(),
                time_ms: ms(slot),
                window: "0 0 0 -1 -1".into(),
                explanation: "a state <never> seen".into(),
                attribution: vec![("cpu_system".into(), 0.7), ("net_rx".into(), 0.3)],
            });
        }
        record.over_threshold.push((name.clone(), ms(incident.breaks)));
        known.push(Known {
            component: name.clone(),
            fault: incident.fault.text().to_owned(),
            begins_ms: ms(incident.begins),
            ends_ms: ms(incident.ends),
        });
    }
    (record, known, setup.steady_threshold)
}

#[test]
fn the_page_holds_every_drawing() {
    let (record, known, steady_threshold) = made_up();
    let summary = Summary::new(&record, &known, SLOT_MS);
    assert_eq!(summary.found(), known.len());
    let report = Report {
        record: &record,
        summary: &summary,
        slot_ms: SLOT_MS,
        steady_threshold,
        seconds: 1.0,
        sql: "SELECT a < b",
    };
    let page = report.page();
    // Alarms, convergence, leads, three of the case, six examples, evolution.
    assert_eq!(page.matches("<svg").count(), 13);
    assert!(!page.contains("NaN") && !page.contains("<never>"));
    if let Ok(path) = std::env::var("FLEET_TEST_REPORT") {
        std::fs::write(path, page).expect("the path can be written");
    }
}

#[test]
fn the_same_seed_gives_the_same_rows() {
    let setup = Setup { components: 12, days: 2, training: 288, steady_threshold: 160, seed: 3 };
    let sum = || -> f64 {
        let samples = Fleet::new(&setup).flatten();
        samples.flat_map(|sample| sample.values).filter(|value| !value.is_nan()).sum()
    };
    assert_eq!(sum().to_bits(), sum().to_bits());
}
