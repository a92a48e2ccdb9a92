//! Logs end to end: templates travel with models, workflows are drawn and say where a session left them, and verdicts on
//! several logs are merged by time.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use driftline::arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, StringArray, TimestampNanosecondArray,
};
use driftline::arrow::compute::concat_batches;
use driftline::arrow::datatypes::{Float64Type, Int64Type, TimestampNanosecondType};
use driftline::logs::workflow::{EdgeKind, Workflow};
use driftline::{Engine, ErrorKind, EventTime};

use super::support::{
    CREATE_SAMPLES, SECOND, Seeded, assert_same, collect, data, push_all, samples,
};

const MILLISECOND: i64 = SECOND / 1000;

/// Log lines in order of time: when, whose, what.
type Lines = Vec<(i64, String, String)>;

fn batch(lines: &Lines) -> RecordBatch {
    let texts = |of: fn(&(i64, String, String)) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(lines.iter().map(of)))
    };
    let times = TimestampNanosecondArray::from_iter_values(lines.iter().map(|line| line.0));
    RecordBatch::try_from_iter([
        ("ts", Arc::new(times) as ArrayRef),
        ("vm", texts(|line| &line.1)),
        ("line", texts(|line| &line.2)),
    ])
    .unwrap()
}

/// Machines are created, several at a time. Disk and network are made side by side. The 120th spawns slowly, the 130th has
/// no image, and the driver of the 140th panics.
pub(super) fn creations(count: i64, seed: u64) -> RecordBatch {
    let mut random = Seeded(seed);
    let mut lines = Lines::new();
    for i in 0..count {
        let mut now = i * 4 * SECOND;
        let mut say = |delay_ms: i64, line: String| {
            now += (delay_ms + random.below(200) as i64) * MILLISECOND;
            lines.push((now, format!("vm-{i}"), line));
        };
        say(0, format!("claim of {} MB granted for vm-{i}", 512 << (i % 3)));
        if i != 130 {
            say(1_000, format!("image fetched for vm-{i}"));
        }
        let pair = [format!("disk of vm-{i} is ready"), format!("network of vm-{i} is up")];
        for side in [i % 2, (i + 1) % 2] {
            say(500, pair[side as usize].clone());
        }
        if i == 140 {
            say(100, "driver panics without a word".to_owned());
        }
        say(if i == 120 { 15_000 } else { 2_000 }, format!("vm-{i} spawned"));
        say(1_000, format!("vm-{i} stopped by its owner"));
    }
    lines.sort();
    batch(&lines)
}

const LOGS: &str = "CREATE SOURCE logs (ts TIMESTAMP NOT NULL, vm TEXT NOT NULL, line TEXT NOT NULL, WATERMARK FOR ts AS ts);
    CREATE VIEW keyed AS SELECT * FROM LOG_KEYS(logs, line, session => vm)";

/// So that a model is there after some minutes.
pub(super) const SHORT: &str = "training = 60, gap = INTERVAL '1 minute'";

fn deeplog(workers: usize, options: &str) -> Engine {
    let engine = Engine::builder().workers(workers).build().unwrap();
    engine.execute(&deeplog_of(options)).unwrap();
    engine
}

pub(super) fn deeplog_of(options: &str) -> String {
    format!(
        "{LOGS};
         CREATE DETECTOR odd USING deeplog
           WITH (session = 'vm', model = 'ngram', history = 4, swap_after = INTERVAL '10 seconds', {options}) AS
           SELECT ts, vm, line, log_key, template, elapsed FROM keyed"
    )
}

pub(super) const ROWS: &str = "SELECT ts, vm, line, log_key, template, elapsed, score, is_anomaly, phase, detail['explanation'] AS why FROM odd";

/// What a detector over some rows says: rows, sessions, diagnoses, workflows.
fn say(engine: Engine, rows: &RecordBatch) -> [RecordBatch; 4] {
    let queries = [
        ROWS,
        "SELECT * FROM odd.sessions",
        "SELECT * FROM odd.diagnosis",
        "SELECT * FROM odd.workflow",
    ];
    let said = queries.map(|query| engine.subscribe(query).unwrap());
    push_all(&engine, "logs", rows, 64).unwrap();
    engine.shutdown().unwrap();
    said.map(collect)
}

/// The template of each key.
fn templates(rows: &RecordBatch) -> BTreeMap<String, String> {
    let keys = rows.column_by_name("log_key").unwrap().as_primitive::<Int64Type>().values();
    let texts = rows.column_by_name("template").unwrap().as_string::<i32>();
    keys.iter().zip(texts).map(|(key, text)| (key.to_string(), text.unwrap().to_owned())).collect()
}

fn texts(rows: &RecordBatch, column: &str) -> Vec<String> {
    let column = rows.column_by_name(column).unwrap().as_string::<i32>();
    column.iter().map(|text| text.unwrap_or("NULL").to_owned()).collect()
}

/// Transitions between keys, by their templates.
fn graph(workflow: &Workflow, templates: &BTreeMap<String, String>) -> Vec<String> {
    let inner = workflow.transitions().filter(|(_, _, e)| e.from.is_some() && e.to.is_some());
    let mut graph: Vec<String> = inner
        .map(|(from, to, edge)| {
            format!("{} -{}-> {}", templates[from], edge.kind.as_str(), templates[to])
        })
        .collect();
    graph.sort();
    graph
}

const TRUTH: [&str; 6] = [
    "<*> spawned -sequence-> <*> stopped by its owner",
    "claim of <*> granted for <*> -sequence-> image fetched for <*>",
    "disk of <*> is ready -join-> <*> spawned",
    "image fetched for <*> -fork-> disk of <*> is ready",
    "image fetched for <*> -fork-> network of <*> is up",
    "network of <*> is up -join-> <*> spawned",
];

#[test]
fn workflows_are_relations_by_every_method_and_workers_do_not_matter() {
    let rows = creations(150, 3);
    for method in ["sessions", "predictions", "co_occurrence"] {
        let options = format!("{SHORT}, workflow = '{method}'");
        let [judged, sessions, diagnosed, drawn] = say(deeplog(1, &options), &rows);
        let templates = templates(&judged);
        let workflows = Workflow::from_batch(&drawn).unwrap();
        assert_eq!(workflows.len(), 1, "{method}");
        let workflow = &workflows[0];
        assert_eq!(graph(workflow, &templates), TRUTH, "{method}");
        let key = |start: &str| {
            let found = templates.iter().find(|(_, text)| text.starts_with(start));
            found.map(|(key, _)| key.as_str()).unwrap()
        };
        let spawned = workflow.edge(workflow.node(key("disk")), workflow.node(key("<*> spawned")));
        let edge = spawned.unwrap();
        assert_eq!(edge.kind, EdgeKind::Join);
        assert!((2.0..3.3).contains(&edge.seconds) && edge.deviation < 0.7, "{method}: {edge:?}");
        let mermaid = workflow.to_mermaid(|key| templates[key].clone());
        assert!(mermaid.contains("[\"image fetched for (*)\"]"), "{mermaid}");
        assert!(workflow.to_dot(|key| templates[key].clone()).starts_with("digraph workflow {"));

        // What is read back diagnoses as the detector does.
        let why = |vm: &str| {
            let of = texts(&diagnosed, "session").into_iter().zip(texts(&diagnosed, "explanation"));
            of.filter(|(session, _)| session == vm).map(|(_, why)| why).collect::<Vec<_>>()
        };
        assert!(
            why("vm-120").iter().any(|why| {
                why.contains(&format!("-> {}: took 1", key("<*> spawned")))
                    && why.contains("usually 2.")
            }),
            "{method}: {:?}",
            why("vm-120")
        );
        let claim = key("claim");
        assert!(
            why("vm-130").iter().any(|why| {
                why.starts_with(&format!("because of {claim} -> ")) && why.contains("expected ")
            }),
            "{method}: {:?}",
            why("vm-130")
        );
        let panics = format!("{} is not part of the workflow", key("driver"));
        assert!(why("vm-140").iter().any(|why| why.ends_with(&panics)), "{:?}", why("vm-140"));
        let named: std::collections::BTreeSet<String> =
            texts(&diagnosed, "session").into_iter().collect();
        assert!(named.len() <= 6, "{method}: {named:?}");
        let is_anomaly = sessions.column_by_name("is_anomaly").unwrap().as_boolean();
        let odd = texts(&sessions, "session").into_iter().zip(is_anomaly);
        let odd: Vec<String> =
            odd.filter(|(_, odd)| *odd == Some(true)).map(|(vm, _)| vm).collect();
        assert_eq!(odd, ["vm-130", "vm-140"], "slowness is not in the keys");

        for workers in [2, 4] {
            let again = say(deeplog(workers, &options), &rows);
            for (found, expected) in again.iter().zip([&judged, &sessions, &diagnosed, &drawn]) {
                let (found, expected) = ([found.clone()], [expected.clone()]);
                assert_same(&found, &expected, &format!("{method}, {workers} workers"));
            }
        }
    }
    let [_, _, diagnosed, drawn] = say(deeplog(2, &format!("{SHORT}, workflow = 'none'")), &rows);
    assert_eq!((diagnosed.num_rows(), drawn.num_rows()), (0, 0));
}

#[test]
fn predictions_without_begin_or_end_are_refused() {
    let engine = Engine::builder().build().unwrap();
    engine.execute(LOGS).unwrap();
    let error = engine
        .execute(
            "CREATE DETECTOR odd USING deeplog WITH (model = 'ngram', workflow = 'predictions', end = FALSE)
             AS SELECT ts, log_key FROM keyed",
        )
        .unwrap_err();
    assert!(error.to_string().contains("from the begin of a session to its end"), "{error}");
}

#[test]
fn tasks_are_told_apart_where_one_stream_mixes_them() {
    let (mut random, mut lines) = (Seeded(9), Lines::new());
    let tasks = [
        ["backup begins", "snapshot taken", "snapshot copied", "backup done"].as_slice(),
        &["login of root", "shell opened", "shell closed"],
    ];
    for burst in 0..400_i64 {
        // Now and then both run at once, and their lines mix as they come. The 390th copies slowly.
        let both = random.below(20) < 3;
        let one = if burst == 390 { 0 } else { random.below(2) as usize };
        let mut left: Vec<&[&str]> = if both { tasks.to_vec() } else { vec![tasks[one]] };
        let mut now = burst * 100 * SECOND;
        while !left.is_empty() {
            let which = random.below(left.len() as u64) as usize;
            let (line, rest) = left[which].split_first().unwrap();
            let is_slow = burst == 390 && *line == "snapshot copied";
            now += if is_slow { 25 } else { 1 } * SECOND + random.below(50) as i64 * MILLISECOND;
            lines.push((now, String::new(), (*line).to_owned()));
            left[which] = rest;
            left.retain(|lines| !lines.is_empty());
        }
    }
    let rows = batch(&lines);
    for workers in [1, 2] {
        let engine = Engine::builder().workers(workers).build().unwrap();
        engine
            .execute(&format!(
                "{LOGS};
                 CREATE DETECTOR odd USING deeplog
                   WITH (model = 'ngram', training = 300, gap = INTERVAL '30 seconds', workflow = 'co_occurrence',
                         deviations = 20) AS
                   SELECT ts, vm, line, log_key, template, elapsed FROM keyed"
            ))
            .unwrap();
        let [judged, _, diagnosed, drawn] = say(engine, &rows);
        let templates = templates(&judged);
        let mut graphs: Vec<Vec<String>> = Workflow::from_batch(&drawn)
            .unwrap()
            .iter()
            .map(|workflow| graph(workflow, &templates))
            .collect();
        graphs.sort();
        let expected = [
            vec![
                "backup begins -sequence-> snapshot taken",
                "snapshot copied -sequence-> backup done",
                "snapshot taken -sequence-> snapshot copied",
            ],
            vec!["login of root -sequence-> shell opened", "shell opened -sequence-> shell closed"],
        ];
        assert_eq!(graphs, expected);
        let (from, to) = (texts(&diagnosed, "from_key"), texts(&diagnosed, "to_key"));
        assert_eq!(from.len(), 1, "{:?}", texts(&diagnosed, "explanation"));
        let steps = (templates[&from[0]].as_str(), templates[&to[0]].as_str());
        assert_eq!(steps, ("snapshot taken", "snapshot copied"));
    }
}

#[cfg(feature = "neural")]
#[test]
fn how_far_training_has_come_is_a_metric() {
    let engine = Engine::builder().workers(1).build().unwrap();
    engine
        .execute(&format!(
            "{LOGS};
             CREATE DETECTOR odd USING deeplog
               WITH (session = 'vm', training = 60, gap = INTERVAL '1 minute', hidden = 16) AS
               SELECT ts, vm, log_key FROM keyed"
        ))
        .unwrap();
    let state = || engine.metrics().detector("odd").unwrap().training;
    assert_eq!(state(), None, "nothing is trained yet");
    push_all(&engine, "logs", &creations(90, 5), 64).unwrap();
    let found = within_minutes_of(&state);
    assert!(found.epoch > 0 && found.epoch <= found.epochs_max && found.loss > 0.0, "{found:?}");
    engine.shutdown().unwrap();
}

/// What is there in the end.
#[cfg(feature = "neural")]
fn within_minutes_of<T>(state: &dyn Fn() -> Option<T>) -> T {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while std::time::Instant::now() < until {
        if let Some(found) = state() {
            return found;
        }
        std::thread::yield_now();
    }
    panic!("nothing after two minutes")
}

/// Rows before and after a time, which no row has.
fn halves(rows: &RecordBatch, at: usize) -> (RecordBatch, RecordBatch, EventTime) {
    let times = rows.column(0).as_primitive::<TimestampNanosecondType>();
    let cut = (at..rows.num_rows()).find(|row| times.value(*row) > times.value(row - 1)).unwrap();
    let rest = rows.slice(cut, rows.num_rows() - cut);
    (rows.slice(0, cut), rest, EventTime(times.value(cut)))
}

fn joined(parts: [RecordBatch; 2]) -> RecordBatch {
    concat_batches(&parts[0].schema(), &parts).unwrap()
}

/// The rows without the column that says when they hold.
fn undated(drawn: &RecordBatch) -> RecordBatch {
    drawn.project(&(1..drawn.num_columns()).collect::<Vec<_>>()).unwrap()
}

#[test]
fn a_deeplog_detector_goes_on_in_another_engine_with_its_keys() {
    let rows = creations(150, 4);
    // While sessions are gathered, while the model is trained, and when it judges.
    for at in [200, 520, 690] {
        let reference = say(deeplog(1, SHORT), &rows);
        let (first, second, between) = halves(&rows, at);
        for (before, after) in [(1, 4), (2, 1), (4, 2)] {
            let what = format!("at {at}, {before} to {after} workers");
            let old = deeplog(before, SHORT);
            let queries = [ROWS, "SELECT * FROM odd.sessions", "SELECT * FROM odd.diagnosis"];
            let drawn_first = old.subscribe("SELECT * FROM odd.workflow").unwrap();
            let said_first = queries.map(|query| old.subscribe(query).unwrap());
            push_all(&old, "logs", &first, 50).unwrap();
            old.source("logs").unwrap().watermark(between).unwrap();
            let file = old.export_models("odd").unwrap();

            let new = deeplog(after, SHORT);
            let drawn_second = new.subscribe("SELECT * FROM odd.workflow").unwrap();
            let said_second = queries.map(|query| new.subscribe(query).unwrap());
            new.import_models("odd", &file).unwrap();
            push_all(&new, "logs", &second, 50).unwrap();
            new.shutdown().unwrap();
            // What ends with the source is told by the second engine alone.
            drop(old);
            let second = said_second.map(collect);
            for (index, (first, second)) in said_first.into_iter().zip(second).enumerate() {
                let first: Vec<RecordBatch> = first.map_while(Result::ok).collect();
                let schema = second.schema();
                let first = concat_batches(&schema, &first).unwrap();
                let expected = [reference[index].clone()];
                assert_same(&[joined([first, second])], &expected, &format!("{what}, {index}"));
            }
            // A workflow that was drawn before is told again by whoever has it now.
            let told = [undated(&collect(drawn_second))];
            assert_same(&told, &[undated(&reference[3])], &format!("{what}, workflow"));
            drop(drawn_first);
        }
    }
}

/// Lines made of samples, as in `log_keys.rs`: users and services that vary by name.
const LINES: &str = "CREATE VIEW lines AS
    SELECT ts, service,
      CASE WHEN value < 0 THEN 'service ' || service || ' restarted by ' || coalesce(host, 'nobody')
           WHEN value < 40 THEN 'sent ' || cast(bytes AS VARCHAR) || ' bytes to ' || coalesce(host, 'nobody')
           ELSE 'user ' || coalesce(host, 'nobody') || ' logged in' END AS line
    FROM samples";

fn over_keys(workers: usize, keys: &str) -> Engine {
    let engine = Engine::builder().workers(workers).build().unwrap();
    engine
        .execute(&format!(
            "{CREATE_SAMPLES}; {LINES}; CREATE VIEW keyed AS SELECT * FROM {keys};
             CREATE DETECTOR d USING ewma PARTITION BY service WITH (features = 'log_key', warm_up = 20) AS
               SELECT ts, service, log_key, template, elapsed FROM keyed"
        ))
        .unwrap();
    engine
}

#[test]
fn templates_travel_with_the_models_of_any_kind() {
    let rows = samples(31, 900, 900);
    let (first, second, between) = halves(&rows, 500);
    let query = "SELECT ts, service, log_key, template, elapsed, score FROM d";
    for parser in ["signature", "spell", "drain"] {
        let keys = format!("LOG_KEYS(lines, line, session => service, parser => '{parser}')");
        let reference = {
            let engine = over_keys(1, &keys);
            let said = engine.subscribe(query).unwrap();
            push_all(&engine, "samples", &rows, 100).unwrap();
            engine.shutdown().unwrap();
            [collect(said)]
        };
        for (before, after) in [(1, 1), (1, 4), (2, 1), (4, 2)] {
            let old = over_keys(before, &keys);
            let said_first = old.subscribe(query).unwrap();
            push_all(&old, "samples", &first, 100).unwrap();
            old.source("samples").unwrap().watermark(between).unwrap();
            let file = old.export_models("d").unwrap();
            old.shutdown().unwrap();
            let new = over_keys(after, &keys);
            let said_second = new.subscribe(query).unwrap();
            new.import_models("d", &file).unwrap();
            push_all(&new, "samples", &second, 100).unwrap();
            new.shutdown().unwrap();
            let found = [collect(said_first), collect(said_second)];
            assert_same(&found, &reference, &format!("{parser}, {before} to {after} workers"));
        }
    }
}

#[test]
fn templates_of_other_settings_are_refused_by_name() {
    let masked = "LOG_KEYS(lines, line, parser => 'spell', masks => '[0-9]+')";
    let old = over_keys(2, masked);
    push_all(&old, "samples", &samples(32, 300, 300), 100).unwrap();
    old.source("samples").unwrap().watermark(EventTime::LATEST).unwrap();
    let file = old.export_models("d").unwrap();
    let again = over_keys(4, masked);
    again.import_models("d", &file).unwrap();
    let kept = again.export_models("d").unwrap();

    let refused = |engine: &Engine, bytes: &[u8], problem: &str| {
        let error = engine.import_models("d", bytes).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}, not {problem}");
        assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    };
    let others = [
        (
            "LOG_KEYS(lines, line, parser => 'drain', masks => '[0-9]+')",
            "parser = 'spell', not 'drain'",
        ),
        ("LOG_KEYS(lines, line, parser => 'spell')", "masks = '[0-9]+', not ''"),
        (
            "LOG_KEYS(lines, line, parser => 'spell', masks => '[0-9]+', tau => 0.7)",
            "tau = 0.5, not 0.7",
        ),
        (
            "LOG_KEYS(lines, line, parser => 'spell', masks => '[0-9]+', session => service)",
            "session = (), not (service Utf8)",
        ),
        (
            "(SELECT ts, service, 1 AS log_key, line AS template, 0.0 AS elapsed FROM lines)",
            "holds the templates of 1 LOG_KEYS, and the detector's query has 0",
        ),
    ];
    for (keys, problem) in others {
        refused(&over_keys(1, keys), &file, problem);
    }
    refused(&again, &file[..file.len() - 1], "cut short or damaged");
    refused(&again, &[&[1], &file[1..]].concat(), "is of version 1, this is version 2");
    for at in (1..file.len()).step_by(97) {
        let mut damaged = file.clone();
        damaged[at] ^= 16;
        refused(&again, &damaged, "");
    }
    assert!(again.export_models("d").unwrap() == kept, "a refused file changes nothing");
}

#[test]
fn verdicts_on_several_logs_are_merged_by_time() {
    // DL-21, after the VAST case: a firewall and an intrusion detection system, each with a model of its own.
    let (mut firewall, mut ids) = (Lines::new(), Lines::new());
    for i in 0..200_i64 {
        let (start, host) = (i * 10 * SECOND, format!("10.0.0.{}", i % 40));
        let of = format!("{host}/{i}");
        let mut wall = |second: i64, line: &str| {
            firewall.push((start + second * SECOND, of.clone(), line.replace('H', &host)));
        };
        wall(0, "Built inbound TCP connection for H");
        wall(1, "Access permitted for H");
        if i == 150 || i == 160 {
            wall(2, "Deny inbound UDP due to DNS query from H");
        }
        wall(4, "Teardown TCP connection for H");
        let mut alert = |second: i64, line: &str| {
            ids.push((start + second * SECOND, of.clone(), line.replace('H', &host)));
        };
        alert(0, "session opened by H");
        if i == 150 || i == 170 {
            alert(2, "NMAP scan of port 445 by H");
        }
        alert(3, "session closed by H");
    }
    let (firewall, ids) = (batch(&firewall), batch(&ids));
    let detector = |name: &str| {
        format!(
            "CREATE SOURCE {name} (ts TIMESTAMP NOT NULL, vm TEXT NOT NULL, line TEXT NOT NULL, WATERMARK FOR ts AS ts);
             CREATE VIEW {name}_keys AS SELECT * FROM LOG_KEYS({name}, line, session => vm);
             CREATE DETECTOR {name}_odd USING deeplog
               WITH (session = 'vm', model = 'ngram', training = 80, gap = INTERVAL '30 seconds',
                     swap_after = INTERVAL '10 seconds') AS
               SELECT ts, vm, line, log_key FROM {name}_keys"
        )
    };
    for workers in [1, 2] {
        let engine = Engine::builder().workers(workers).build().unwrap();
        engine.execute(&detector("firewall")).unwrap();
        engine.execute(&detector("ids")).unwrap();
        engine
            .execute(
                "CREATE VIEW verdicts AS
                   SELECT ts, 'firewall' AS origin, vm, line FROM firewall_odd WHERE is_anomaly
                   UNION ALL SELECT ts, 'ids' AS origin, vm, line FROM ids_odd WHERE is_anomaly",
            )
            .unwrap();
        let merged = engine
            .subscribe(
                "SELECT window_start, count(*) AS verdicts, count(DISTINCT origin) AS origins, min(vm) AS whose
                 FROM TUMBLE(verdicts, ts, INTERVAL '10 seconds') GROUP BY window_start, window_end",
            )
            .unwrap();
        let longest = firewall.num_rows().max(ids.num_rows());
        for start in (0..longest).step_by(50) {
            for (name, rows) in [("firewall", &firewall), ("ids", &ids)] {
                if start < rows.num_rows() {
                    let part = rows.slice(start, 50.min(rows.num_rows() - start));
                    engine.source(name).unwrap().push(part).unwrap();
                }
            }
        }
        engine.shutdown().unwrap();
        let merged = collect(merged);
        let times = merged.column(0).as_primitive::<TimestampNanosecondType>().values();
        let origins = merged.column(2).as_primitive::<Int64Type>().values();
        let mut found: Vec<(i64, i64, String)> = times
            .iter()
            .zip(origins)
            .zip(texts(&merged, "whose"))
            .map(|((time, origins), vm)| (time / SECOND, *origins, vm))
            .collect();
        found.sort();
        let whose = |i: i64| format!("10.0.0.{}/{i}", i % 40);
        let expected = [(1500, 2, whose(150)), (1600, 1, whose(160)), (1700, 1, whose(170))];
        assert_eq!(found, expected, "{workers} workers");
    }
}

/// Begins and ends of the requests of real OpenStack machines, as lines of a log.
fn rally() -> Option<RecordBatch> {
    let path = data("rally_openstack")?.join("boot_delete_spans.csv.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    let mut lines = Lines::new();
    for row in text.lines().skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        let [iteration, _, _, name, begin, end] = cells.as_slice() else { panic!("{row}") };
        for (seconds, word) in [(begin, "requested"), (end, "returned")] {
            let ns = (seconds.parse::<f64>().unwrap() * 1e9) as i64;
            let name = name.trim_start_matches("nova.").replace('_', " ");
            lines.push((ns, (*iteration).to_owned(), format!("{name} {word} in run {iteration}")));
        }
    }
    lines.sort();
    Some(batch(&lines))
}

#[test]
fn slow_builds_of_real_machines_are_named() {
    // DL-11, DL-20: two builds took 301 s, in the minutes when nova's services had been restarted.
    let Some(rows) = rally() else { return };
    let [judged, _, diagnosed, drawn] =
        say(deeplog(2, "training = 150, gap = INTERVAL '10 minutes'"), &rows);
    let templates = templates(&judged);
    let workflow = &Workflow::from_batch(&drawn).unwrap()[0];
    let expected = [
        "boot server requested in run <*> -sequence-> boot server returned in run <*>",
        "boot server returned in run <*> -sequence-> force delete server requested in run <*>",
        "force delete server requested in run <*> -sequence-> force delete server returned in run <*>",
    ];
    assert_eq!(graph(workflow, &templates), expected);
    let severity = diagnosed.column_by_name("severity").unwrap().as_primitive::<Float64Type>();
    let seconds = diagnosed.column_by_name("seconds").unwrap().as_primitive::<Float64Type>();
    let (runs, whys) = (texts(&diagnosed, "session"), texts(&diagnosed, "explanation"));
    let from = texts(&diagnosed, "from_key");
    let mut slow: Vec<usize> = (0..runs.len()).filter(|row| seconds.is_valid(*row)).collect();
    slow.sort_by(|a, b| severity.value(*b).total_cmp(&severity.value(*a)));
    for row in slow.iter().take(5) {
        println!("run {}: {} ({:.1} deviations)", runs[*row], whys[*row], severity.value(*row));
    }
    let mut worst: Vec<&str> = slow[..2].iter().map(|row| runs[*row].as_str()).collect();
    worst.sort_unstable();
    assert_eq!(worst, ["249", "500"]);
    for row in &slow[..2] {
        assert_eq!(templates[&from[*row]], "boot server requested in run <*>");
        assert!(seconds.value(*row) > 300.0 && severity.value(*row) > 20.0, "{}", whys[*row]);
    }
    assert!(severity.value(slow[2]) < severity.value(slow[1]) / 3.0, "they stand out");
    println!("{} of {} runs had a slow transition", slow.len(), 750);
}
