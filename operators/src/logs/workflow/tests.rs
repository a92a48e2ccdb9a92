//! Proofs about workflows: the golden matrix, graphs of synthetic tasks equal to the truth by both methods, interleaved
//! tasks taken apart, diagnosis, and drawings.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::StringArray;
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;

use super::*;
use crate::time::EventTime;

fn run(keys: &str) -> Vec<Entry> {
    keys.split_whitespace().map(Entry::new).collect()
}

fn runs(all: &[&str]) -> Vec<Vec<Entry>> {
    all.iter().map(|keys| run(keys)).collect()
}

/// Transitions as `from kind to`, without begin and end.
fn graph(workflow: &Workflow) -> BTreeSet<String> {
    workflow
        .transitions()
        .filter(|(_, _, edge)| edge.from.is_some() && edge.to.is_some())
        .map(|(from, to, edge)| format!("{from} {} {to}", edge.kind.as_str()))
        .collect()
}

fn set(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

#[test]
fn the_matrix_is_the_papers() {
    let found = CoOccurrence::of(&runs(&["1 2 3 1 2 4"]), 3);
    // f(1) = f(2) = 2; 1 is followed by 2 at once both times, by 3 once and by 4 once at a distance of 2.
    let golden = [
        (1, "1", "2", 1.0),
        (1, "2", "3", 0.5),
        (1, "2", "4", 0.5),
        (1, "3", "1", 1.0),
        (1, "2", "1", 0.0),
        (2, "1", "2", 0.5),
        (2, "1", "3", 0.25),
        (2, "1", "4", 0.25),
        (2, "2", "1", 0.25),
        (2, "3", "2", 0.5),
        (3, "1", "1", 1.0 / 6.0),
        (3, "3", "4", 1.0 / 3.0),
        (1, "4", "1", 0.0),
        (1, "9", "1", 0.0),
    ];
    for (distance, i, j, expected) in golden {
        let found = found.probability(distance, i, j);
        assert!((found - expected).abs() < 1e-12, "p_{distance}({i}, {j}) = {found}");
    }
    for distance in 1..=3 {
        for i in found.keys() {
            let row: f64 = found.keys().iter().map(|j| found.probability(distance, i, j)).sum();
            assert!(row <= 1.0 + 1e-12, "row {i} at {distance} adds up to {row}");
        }
    }
}

/// The truth of each synthetic task, and runs of it.
/// A name, runs, and the edges that they must give.
type Synthetic = (&'static str, Vec<Vec<Entry>>, BTreeSet<String>);

fn synthetic() -> Vec<Synthetic> {
    vec![
        ("sequence", runs(&["a b c d"; 4]), set(&["a sequence b", "b sequence c", "c sequence d"])),
        (
            "branch",
            runs(&["a b d", "a c d", "a b d", "a c d"]),
            set(&["a branch b", "a branch c", "b sequence d", "c sequence d"]),
        ),
        (
            "fork",
            runs(&["a b c d", "a c b d", "a b c d", "a c b d"]),
            set(&["a fork b", "a fork c", "b join d", "c join d"]),
        ),
        (
            "fork of sequences",
            runs(&["a b c x d", "a b x c d", "a x b c d", "a b c x d", "a x b c d"]),
            set(&["a fork b", "a fork x", "b sequence c", "c join d", "x join d"]),
        ),
        (
            "loop",
            runs(&["a b c d", "a b c b c d", "a b c d", "a b c b c d"]),
            set(&["a sequence b", "b sequence c", "c loop b", "c sequence d"]),
        ),
    ]
}

#[test]
fn graphs_of_synthetic_runs_are_the_truth() {
    for (name, runs, truth) in synthetic() {
        assert_eq!(graph(&Workflow::of_runs(&runs)), truth, "{name}");
    }
}

/// A model that knows exactly what followed each history in runs.
fn exact_model(
    runs: &[Vec<Entry>],
    history: usize,
) -> impl FnMut(&[Option<String>]) -> Vec<(Option<String>, f64)> {
    let mut followed: std::collections::BTreeMap<Vec<Option<String>>, Vec<Option<String>>> =
        std::collections::BTreeMap::new();
    for run in runs {
        let mut padded = vec![None; history];
        padded.extend(run.iter().map(|entry| Some(entry.key.clone())));
        padded.push(None);
        for at in history..padded.len() {
            let before = padded[at - history..at].to_vec();
            followed.entry(before).or_default().push(padded[at].clone());
        }
    }
    move |history| {
        let all = followed.get(history).cloned().unwrap_or_default();
        let distinct: BTreeSet<&Option<String>> = all.iter().collect();
        let share = |key: &Option<String>| {
            all.iter().filter(|k| *k == key).count() as f64 / all.len() as f64
        };
        distinct.into_iter().map(|key| (key.clone(), share(key))).collect()
    }
}

#[test]
fn walks_of_predictions_find_the_truth() {
    let settings = WalkSettings { history: 4, ..WalkSettings::default() };
    for (name, runs, truth) in synthetic() {
        let walk = Walk::new(&settings, exact_model(&runs, 4));
        assert!(walk.left_out < 0.2, "{name}: {walk:?}");
        assert_eq!(graph(&walk.workflow()), truth, "{name}");
    }
}

#[test]
fn walks_end_whatever_is_predicted() {
    // Always everything, never the end.
    let keys = ["a", "b", "c"].map(|key| (Some(key.to_owned()), 1.0 / 3.0));
    let walk = Walk::new(&WalkSettings::default(), |_| keys.to_vec());
    assert!(walk.paths.is_empty());
    assert!(walk.left_out > 0.99, "{}", walk.left_out);
    let nothing = Walk::new(&WalkSettings::default(), |_| vec![(None, f64::NAN)]);
    assert!(nothing.paths.is_empty());
}

/// Runs of two tasks; in three of twenty rounds both run at once and their entries mix as they come.
fn interleaved(a: &str, b: &str, rounds: usize) -> Vec<Entry> {
    let mut state = 7_u64;
    let mut below = |bound: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let mut log = Vec::new();
    for _ in 0..rounds {
        let kind = below(20);
        let (mut left, mut right) = (run(a), run(b));
        if kind >= 3 {
            if kind % 2 == 0 { left.clear() } else { right.clear() }
        }
        while !(left.is_empty() && right.is_empty()) {
            let from = if right.is_empty() || (!left.is_empty() && below(2) == 0) {
                &mut left
            } else {
                &mut right
            };
            log.push(from.remove(0));
        }
    }
    log
}

#[test]
fn interleaved_tasks_are_separated() {
    let log = interleaved("a1 a2 a3 a4", "b1 b2 b3", 600);
    let matrix = CoOccurrence::of(std::slice::from_ref(&log), 1);
    assert!(matrix.probability(1, "a1", "a2") < 0.9, "successors alone do not tell");
    let tasks = Tasks::of(std::slice::from_ref(&log), &TaskSettings::default());
    let mut found = tasks.keys.clone();
    found.sort();
    let keys = |of: &str| of.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(found, [keys("a1 a2 a3 a4"), keys("b1 b2 b3")]);
    let apart = tasks.separate(&log);
    let of_a = tasks.keys.iter().position(|keys| keys[0] == "a1").unwrap();
    let workflow = Workflow::of_runs(&Tasks::runs(&apart[of_a]));
    assert_eq!(graph(&workflow), set(&["a1 sequence a2", "a2 sequence a3", "a3 sequence a4"]));
}

#[test]
fn choices_belong_to_their_task() {
    let (mut log, mut state) = (Vec::new(), 1_u32);
    for _ in 0..400 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        log.extend(run(["a1 a2 a4", "b1 b2", "a1 a3 a4", "b1 b2"][(state >> 30) as usize]));
    }
    let tasks = Tasks::of(&[log], &TaskSettings::default());
    let mut found = tasks.keys;
    found.sort();
    let keys = |of: &str| of.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(found, [keys("a1 a2 a3 a4"), keys("b1 b2")]);
}

#[test]
fn what_is_rare_does_not_come_along_with_what_nearly_always_follows() {
    // DL-18: both tasks end in `clean`, b always, a when it fails, which is seldom, and each time in another way.
    let log = |round: u32| match round % 150 {
        50 => "a1 clean fail1",
        90 => "a1 clean fail2",
        130 => "a1 clean fail3",
        even if even % 2 == 0 => "a1 a2 a3",
        _ => "b1 clean b2",
    };
    let logs: Vec<Vec<Entry>> = (0..600).map(|round| run(log(round))).collect();
    let mut found = Tasks::of(&logs, &TaskSettings::default()).keys;
    found.sort();
    let keys = |of: &str| of.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(found, ["a1 a2 a3", "b1 b2 clean", "fail1", "fail2", "fail3"].map(keys));
}

/// A VM's creation, as the slides draw it: 44, 51, 23, 52, 53, 32, 18, 56, with usual times.
fn creation(build_seconds: i64) -> Vec<Entry> {
    let keys = ["44", "51", "23", "52", "53", "32", "18", "56"];
    let delays = [0, 1, 1, 2, build_seconds, 1, 1, 1];
    let mut now = 1_000;
    keys.iter()
        .zip(delays)
        .map(|(key, delay)| {
            now += delay;
            Entry::at(*key, EventTime(now * 1_000_000_000))
        })
        .collect()
}

#[test]
fn the_creation_of_a_machine_is_drawn_in_its_order() {
    let workflow = Workflow::of_runs(&[creation(19), creation(20), creation(21)]);
    let order: Vec<&str> = workflow.nodes.iter().map(|node| node.key.as_str()).collect();
    assert_eq!(order, ["44", "51", "23", "52", "53", "32", "18", "56"]);
    let edge = workflow.edge(workflow.node("52"), workflow.node("53")).unwrap();
    assert_eq!(
        (edge.kind, edge.count, edge.probability, edge.seconds),
        (EdgeKind::Sequence, 3.0, 1.0, 20.0)
    );
    assert!((edge.deviation - (2.0_f64 / 3.0).sqrt()).abs() < 1e-9);

    let mermaid = workflow.to_mermaid(|key| format!("key <{key}> \"x\""));
    assert!(mermaid.starts_with("flowchart TD\n    n0[\"key (44) 'x'\"]\n"), "{mermaid}");
    assert!(mermaid.contains("    n3 -->|\"100 %, 20.00 s\"| n4\n"), "{mermaid}");
    assert!(mermaid.contains("    begin(( )) -->|\"100 %\"| n0\n"), "{mermaid}");
    let dot = workflow.to_dot(|key| format!("key \"{key}\""));
    assert!(dot.contains("    n3 -> n4 [label=\"100 %, 20.00 s\"];\n"), "{dot}");
    assert!(dot.contains("n0 [shape=box, label=\"key \\\"44\\\"\"];"), "{dot}");
}

#[test]
fn diagnosis_names_the_slow_transition() {
    let workflow = Workflow::of_runs(&[creation(19), creation(20), creation(21)]);
    assert_eq!(workflow.diagnose(&creation(21), 3.0, true), []);
    let found = workflow.diagnose(&creation(301), 3.0, true);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].from.as_str(), found[0].to.as_str(), found[0].place), ("52", "53", 4));
    assert_eq!(
        found[0].to_string(),
        "because of 52 -> 53: took 301.00 s, usually 20.00 s, give or take 1.00 s"
    );
}

/// Workflows as the rows of a relation.
fn rows(workflows: &[Workflow]) -> RecordBatch {
    RecordBatch::try_new(Arc::new(Schema::new(workflow_fields())), workflow_columns(workflows))
        .unwrap()
}

#[test]
fn rows_of_a_workflow_are_as_good_as_the_workflow() {
    for (name, runs, truth) in synthetic() {
        let workflow = Workflow::of_runs(&runs);
        let back = Workflow::from_batch(&rows(&[workflow.clone(), Workflow::default()])).unwrap();
        assert_eq!(back.len(), 1, "{name}: a workflow without transitions has no rows");
        assert_eq!(graph(&back[0]), truth, "{name}");
        let label = |key: &str| key.to_owned();
        assert_eq!(back[0].to_mermaid(label), workflow.to_mermaid(label), "{name}");
        for odd in ["a b c d", "a x c d", "d c b a", "a c b d", "b"] {
            let diagnoses = |of: &Workflow| of.diagnose(&run(odd), 3.0, true);
            assert_eq!(diagnoses(&back[0]), diagnoses(&workflow), "{name}: {odd}");
        }
    }
    let timed = Workflow::of_runs(&[creation(19), creation(20), creation(21)]);
    let back = &Workflow::from_batch(&rows(std::slice::from_ref(&timed))).unwrap()[0];
    assert_eq!(back.nodes, timed.nodes);
    assert_eq!(back.diagnose(&creation(301), 3.0, true), timed.diagnose(&creation(301), 3.0, true));
}

#[test]
fn rows_that_are_none_of_a_workflow_are_refused() {
    let good = rows(&[Workflow::of_runs(&runs(&["a b"]))]);
    let refused = |rows: &RecordBatch| Workflow::from_batch(rows).unwrap_err().to_string();
    for missing in 0..good.num_columns() {
        let kept: Vec<usize> = (0..good.num_columns()).filter(|index| *index != missing).collect();
        let name = good.schema().field(missing).name().clone();
        let problem = format!("a workflow has no column \"{name}\"");
        assert_eq!(refused(&good.project(&kept).unwrap()), problem);
    }
    let mut columns = good.columns().to_vec();
    columns[3] = Arc::new(StringArray::from(vec!["jump"; good.num_rows()]));
    let odd = RecordBatch::try_new(good.schema(), columns).unwrap();
    assert_eq!(refused(&odd), "a workflow has a transition of kind \"jump\"");
}

#[test]
fn predictions_take_their_times_from_runs() {
    let runs = [creation(19), creation(20), creation(21)];
    let untimed: Vec<Vec<Entry>> =
        runs.iter().map(|run| run.iter().map(|entry| Entry::new(&entry.key)).collect()).collect();
    let workflow = Workflow::of_runs(&untimed);
    assert!(workflow.edges.iter().all(|edge| edge.seconds.is_nan()));
    let mut stray = creation(20);
    stray.insert(3, Entry::new("stranger"));
    let timed = workflow.timed_by(&[runs.to_vec(), vec![stray]].concat());
    let edge = timed.edge(timed.node("52"), timed.node("53")).unwrap();
    assert_eq!((edge.seconds, edge.count), (20.0, 3.0));
}

#[test]
fn diagnosis_names_what_should_not_follow() {
    let workflow = Workflow::of_runs(&runs(&["a b c d", "a c b d", "a b c d", "a c b d"]));
    assert_eq!(workflow.diagnose(&run("a c b d"), 3.0, true), []);
    let first = |session: &str| workflow.diagnose(&run(session), 3.0, true)[0].to_string();
    assert_eq!(first("a b x c d"), "because of b -> x: x is not part of the workflow");
    assert_eq!(first("b c d"), "because of (begin) -> b: expected a (100 %)");
    // One side is missing: what was forked is not joined.
    assert_eq!(workflow.diagnose(&run("a b"), 3.0, false), []);
    assert_eq!(first("a b"), "because of b -> (end): expected d (100 %)");
}

#[test]
fn loops_side_by_side_and_long_runs_stay_bounded() {
    let long: Vec<Entry> = (0..5_000).map(|i| Entry::new((i % 7).to_string())).collect();
    let workflow = Workflow::of_runs(std::slice::from_ref(&long));
    assert_eq!(workflow.nodes.len(), 7);
    assert!(
        workflow
            .edge(workflow.node("6"), workflow.node("0"))
            .is_some_and(|edge| edge.kind == EdgeKind::Loop)
    );
    assert!(workflow.diagnose(&long, 3.0, false).is_empty());
    assert_eq!(Workflow::of_runs(&[]), Workflow::default());
    assert_eq!(Workflow::default().diagnose(&run("a"), 3.0, false).len(), 1);
}
