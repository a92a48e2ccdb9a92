//! The value model on real requests (DL-09 to DL-11): durations of OpenStack calls, in which services were killed.
//!
//! Requests are those of rally, in order. A vector holds the seconds since the request before it began, and its own
//! duration. The model learns from the first part, before any fault, and judges the rest as it comes. A request counts
//! as faulty if it failed. Which requests are slow but did not fail nobody says: those raised are printed.

use std::collections::BTreeMap;
use std::path::Path;

use driftline_operators::detectors::deeplog::{ValueModel, ValueSettings};

use super::Asked;
use super::data::folder;

struct Request {
    iteration: u32,
    vector: Vec<f64>,
    failed: bool,
}

fn requests(file: &Path) -> Vec<Request> {
    let text = std::fs::read_to_string(file).expect("the file can be read");
    let mut before = None;
    let mut found = Vec::new();
    for line in text.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let number = |place: usize| cells[place].parse::<f64>().unwrap_or(f64::NAN);
        let since = before.map_or(0.0, |before| number(1) - before);
        before = Some(number(1));
        found.push(Request {
            iteration: number(0) as u32,
            vector: vec![since, number(2)],
            failed: number(3) > 0.0,
        });
    }
    found
}

pub(crate) fn report(_: Asked) {
    let Some(folder) = folder("rally_openstack") else { return };
    println!("values: seconds between and of OpenStack requests; trained on the first 240");
    for (name, file) in
        [("boot", "boot_delete_iterations.csv"), ("image", "image_create_delete_iterations.csv")]
    {
        let requests = requests(&folder.join(file));
        let (learned, judged) = requests.split_at(240);
        for confidence in [0.98, 0.99, 0.999] {
            let settings = ValueSettings { confidence, ..ValueSettings::default() };
            let vectors = learned.iter().map(|request| request.vector.clone()).collect();
            let vectors = BTreeMap::from([(name.to_owned(), vectors)]);
            let mut model = ValueModel::train(&vectors, &settings).expect("training succeeds");
            let (mut hits, mut faulty, mut others, mut normal) = (0_u32, 0_u32, 0_u32, 0_u32);
            let mut slow = Vec::new();
            for request in judged {
                let Some(found) = model.judge(name, &request.vector) else { continue };
                match request.failed {
                    true => (faulty, hits) = (faulty + 1, hits + u32::from(found.is_anomaly)),
                    false => (normal, others) = (normal + 1, others + u32::from(found.is_anomaly)),
                }
                if request.failed && request.vector[1] > 300.0 {
                    let worst = ["elapsed", "duration"][found.worst.min(1)];
                    slow.push(format!(
                        "{} ({:.0} s, {}, by its {worst})",
                        request.iteration,
                        request.vector[1],
                        if found.is_anomaly { "raised" } else { "missed" }
                    ));
                }
            }
            println!(
                "  {name} at {confidence}: {hits} of {faulty} failed requests raised, {others} of {normal} others; \
                 slow ones: {}",
                if slow.is_empty() { "none".to_owned() } else { slow.join(", ") }
            );
        }
    }
}
