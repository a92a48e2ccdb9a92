//! DL-18 on real logs: keys of nova's log gathered into tasks by how often they come near each other, the making of a
//! machine apart from its deletion.
//!
//! Which texts tell of which was settled by reading them, before any task was looked at; theta is the default. What was
//! found there, on 25,659 lines of 1,162 machines:
//!
//! * Logs of a request each: the five steps of making a machine that name their request are one task, the six of deleting
//!   it another. Three keys of a failed network are with deletion: the clean-up that follows is the same.
//! * One log of all lines, in which up to tens of machines are made at once: nothing is mixed up, but next to nothing is
//!   gathered either. Between two steps of one machine come more entries of others than the 16 that are looked at.
//! * Logs of a machine each: **a miss**. A machine of this log is deleted right after it was made, so that deletion follows
//!   making as surely as one step of it follows another, and both are one task. The order of entries does not tell them
//!   apart, and times are not in these lines.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

use driftline::arrow::array::{
    ArrayRef, AsArray, RecordBatch, StringArray, TimestampNanosecondArray,
};
use driftline::arrow::datatypes::{Int64Type, TimestampNanosecondType};
use driftline::logs::workflow::{Entry, TaskSettings, Tasks, Workflow};

use super::support::{Feed, SECOND, data, run};

/// What is said while a machine is made.
const MAKING: [&str; 6] = [
    "Claim successful on node",
    "Creating image",
    "Successfully plugged vif",
    "Instance spawned successfully",
    "seconds to spawn the instance",
    "seconds to build instance",
];

/// What is said while it is deleted.
const DELETING: [&str; 8] = [
    "Terminating instance",
    "Successfully unplugged vif",
    "Instance destroyed successfully",
    "Deleting instance files",
    "Deletion of ",
    "seconds to destroy the instance",
    "seconds to deallocate network",
    "Deleted allocation for instance",
];

/// Those of them whose lines name their request.
const NAMED_MAKING: [&str; 5] = [MAKING[0], MAKING[1], MAKING[2], MAKING[4], MAKING[5]];
const NAMED_DELETING: [&str; 6] =
    [DELETING[0], DELETING[1], DELETING[3], DELETING[4], DELETING[5], DELETING[7]];

/// A line of nova's log with its key.
struct Line {
    text: String,
    key: String,
}

impl Line {
    /// The identifier after a word, such as a request's after `req-`.
    fn identifier(&self, before: &str) -> Option<&str> {
        let (_, after) = self.text.split_once(before)?;
        after.get(..36).filter(|id| id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-'))
    }
}

fn raw() -> Option<RecordBatch> {
    let path = data("openstack_raw_kalaki")?.join("openstack-nova-sample.log.gz");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_end(&mut bytes)
        .unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    // The lines have no times.
    let times = (0..lines.len() as i64).map(|i| i * SECOND);
    let columns: [(&str, ArrayRef); 2] = [
        ("ts", Arc::new(TimestampNanosecondArray::from_iter_values(times))),
        ("line", Arc::new(StringArray::from_iter_values(lines))),
    ];
    Some(RecordBatch::try_from_iter(columns).unwrap())
}

/// Lines in their order, and the last template of each key.
fn parsed(workers: usize, rows: &RecordBatch) -> (Vec<Line>, BTreeMap<String, String>) {
    let ddl =
        "CREATE SOURCE logs (ts TIMESTAMP NOT NULL, line TEXT NOT NULL, WATERMARK FOR ts AS ts)";
    let query = "SELECT ts, line, log_key, template FROM LOG_KEYS(logs, line)";
    let found = run(Feed { workers, batch_rows: 4096 }, ddl, query, "logs", rows).unwrap();
    let mut all = Vec::new();
    for batch in &found {
        let times = batch.column(0).as_primitive::<TimestampNanosecondType>().values();
        let texts = batch.column(1).as_string::<i32>();
        let keys = batch.column(2).as_primitive::<Int64Type>().values();
        let templates = batch.column(3).as_string::<i32>();
        for row in 0..batch.num_rows() {
            let line = Line { text: texts.value(row).into(), key: keys[row].to_string() };
            all.push((times[row], line, templates.value(row).to_owned()));
        }
    }
    all.sort_by_key(|(time, ..)| *time);
    let templates =
        all.iter().map(|(_, line, template)| (line.key.clone(), template.clone())).collect();
    (all.into_iter().map(|(_, line, _)| line).collect(), templates)
}

/// Logs of the lines that have one identifier each; lines without are left out.
fn logs<'a>(lines: &'a [Line], of: impl Fn(&'a Line) -> Option<&'a str>) -> Vec<Vec<Entry>> {
    let mut logs: BTreeMap<&str, Vec<Entry>> = BTreeMap::new();
    for line in lines {
        if let Some(id) = of(line) {
            logs.entry(id).or_default().push(Entry::new(&line.key));
        }
    }
    logs.into_values().collect()
}

/// For each text, the tasks that keys of such a template are in; keys of single lines are left out.
fn places(
    tasks: &Tasks,
    texts: &[&'static str],
    templates: &BTreeMap<String, String>,
    counts: &BTreeMap<&str, usize>,
) -> BTreeMap<&'static str, BTreeSet<usize>> {
    let task = |key: &String| tasks.keys.iter().position(|keys| keys.contains(key));
    let of = |text: &&'static str| {
        let keys = templates
            .iter()
            .filter(|(key, template)| template.contains(*text) && counts[key.as_str()] > 1);
        (*text, keys.filter_map(|(key, _)| task(key)).collect())
    };
    texts.iter().map(of).collect()
}

#[test]
fn making_a_machine_and_deleting_it_are_two_tasks() {
    let Some(rows) = raw() else { return };
    let (lines, templates) = parsed(1, &rows);
    for workers in [2, 4] {
        let (again, same) = parsed(workers, &rows);
        assert!(again.iter().zip(&lines).all(|(a, b)| a.text == b.text && a.key == b.key));
        assert_eq!(same, templates);
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    lines.iter().for_each(|line| *counts.entry(&line.key).or_default() += 1);
    let gathered = |logs: &[Vec<Entry>]| {
        let tasks = Tasks::of(logs, &TaskSettings::default());
        let making = places(&tasks, &MAKING, &templates, &counts);
        let deleting = places(&tasks, &DELETING, &templates, &counts);
        println!("{} logs: making {making:?}, deleting {deleting:?}", logs.len());
        (tasks, making, deleting)
    };
    let all = |places: &BTreeMap<&str, BTreeSet<usize>>| -> BTreeSet<usize> {
        places.values().flatten().copied().collect()
    };

    let of_requests = logs(&lines, |line| line.identifier("req-"));
    let (tasks, making, deleting) = gathered(&of_requests);
    for place in [making["Creating image"].first(), deleting["Terminating instance"].first()] {
        let texts = tasks.keys[*place.unwrap()].iter().map(|key| templates[key].as_str());
        println!("one task: {:#?}", texts.collect::<Vec<_>>());
    }
    assert!(all(&making).is_disjoint(&all(&deleting)));
    let together = |places: &BTreeMap<&str, BTreeSet<usize>>, texts: &[&str]| -> BTreeSet<usize> {
        let tasks = texts.iter().map(|text| places[text].clone());
        tasks.reduce(|all, one| &all & &one).unwrap()
    };
    assert_eq!(together(&making, &NAMED_MAKING).len(), 1);
    assert_eq!(together(&deleting, &NAMED_DELETING).len(), 1);

    let of_all = [lines.iter().map(|line| Entry::new(&line.key)).collect::<Vec<_>>()];
    let (_, making_mixed, deleting_mixed) = gathered(&of_all);
    assert!(all(&making_mixed).is_disjoint(&all(&deleting_mixed)));

    let of_machines = logs(&lines, |line| line.identifier("[instance: "));
    let (_, making_each, deleting_each) = gathered(&of_machines);
    assert!(!all(&making_each).is_disjoint(&all(&deleting_each)), "what order cannot part");

    // The workflow of the task in which machines are made: what comes next, nine times in ten at least.
    let task = *making["Creating image"].first().unwrap();
    let runs: Vec<Vec<Entry>> =
        of_requests.iter().map(|log| tasks.separate(log).swap_remove(task)).collect();
    let runs: Vec<Vec<Entry>> = runs.into_iter().filter(|run| !run.is_empty()).collect();
    let workflow = Workflow::of_runs(&runs);
    let text = |key: &str| MAKING.into_iter().find(|text| templates[key].contains(text));
    let usual = workflow
        .transitions()
        .filter(|(_, _, edge)| edge.probability > 0.9 && edge.from.is_some() && edge.to.is_some());
    let usual: BTreeSet<_> = usual.map(|(from, to, _)| (text(from), text(to))).collect();
    let [claim, image, plugged, _, spawned, built] = MAKING.map(Some);
    let expected = [(claim, image), (image, plugged), (plugged, spawned), (spawned, built)];
    assert_eq!(usual, expected.into());
}
