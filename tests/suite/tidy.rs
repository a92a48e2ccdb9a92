//! House rules that no compiler checks: how files open, how long they are, where clocks and other crates are met.

use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(ROOT).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    let folders = ["src", "operators/src", "queries/src", "tests", "benches", "examples"];
    let all = folders.iter().flat_map(|folder| files(folder, "rs"));
    all.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// Lines of the files under `folder`, tests left out, that hold one of `words`, but for files that `may` hold them.
fn offenders(folder: &str, words: &[&str], may: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in files(folder, "rs") {
        let place = path.display().to_string();
        if may.iter().any(|allowed| place.contains(allowed)) || place.ends_with("tests.rs") {
            continue;
        }
        for (index, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let code = line.trim_start();
            if !code.starts_with("//") && words.iter().any(|word| code.contains(word)) {
                found.push(format!("{place}:{}: {code}", index + 1));
            }
        }
    }
    found
}

#[test]
fn every_file_says_first_what_it_is() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{} does not open with //!", path.display());
    }
}

#[test]
fn no_file_is_a_monument() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 800, "{} has {lines} lines; split it", path.display());
    }
}

#[test]
fn storeys_and_rooms_keep_to_themselves() {
    let rules: [(&str, &[&str], &[&str]); 5] = [
        (
            "operators/src",
            &["datafusion", "sqlparser", "std::thread", "std::fs", "std::net", "Instant::now"],
            &[],
        ),
        ("operators/src", &["timely::"], &["operators/src/dataflow"]),
        (
            "queries/src",
            &["timely", "std::thread", "std::fs", "Instant::now"],
            &["sqlparser_seam", "planner/mod.rs"],
        ),
        ("src", &["datafusion", "sqlparser"], &[]),
        ("src", &["timely::"], &["src/runtime", "src/graph"]),
    ];
    for (folder, words, may) in rules {
        let found = offenders(folder, words, may);
        assert!(found.is_empty(), "{folder} must not name {words:?}:\n{}", found.join("\n"));
    }
}

#[test]
fn nothing_is_left_for_later_without_a_name() {
    for folder in ["src", "operators/src", "queries/src"] {
        let found =
            offenders(folder, &["todo!(", "unimplemented!(", "TODO", "FIXME", "dbg!("], &[]);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = std::fs::read_to_string(Path::new(ROOT).join(name)).unwrap();
        for part in text.split("](").skip(1) {
            let target = part.split([')', '#']).next().unwrap();
            if !target.is_empty() && !target.contains("://") {
                assert!(
                    Path::new(ROOT).join(target).exists(),
                    "{name} links to {target}, which is not there"
                );
            }
        }
    }
}

#[test]
fn every_shipped_query_is_listed_and_says_what_it_asks() {
    let shipped: Vec<&str> = driftline::shipped().iter().map(|query| query.name).collect();
    for folder in ["metrics", "logs", "traces"] {
        for path in files(&format!("queries/{folder}"), "sql") {
            let name = format!("{folder}/{}", path.file_stem().unwrap().display());
            assert!(shipped.contains(&name.as_str()), "{name} is not among shipped()");
            let text = std::fs::read_to_string(&path).unwrap();
            for head in ["-- Question:", "-- Signal:", "-- Output:", "-- Window:"] {
                assert!(text.contains(head), "{name} has no line {head}");
            }
        }
    }
}
