//! House rules that no compiler checks: how files open, how long they are, where clocks and other crates are met.

use std::collections::BTreeSet;
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
        let inside = path.strip_prefix(Path::new(ROOT).join(folder)).unwrap();
        let is_test = place.ends_with("tests.rs") || inside.iter().any(|part| part == "tests");
        if is_test || may.iter().any(|allowed| place.contains(allowed)) {
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
            // Threads of a simulation are told from others there.
            &["operators/src/sync/turns"],
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

/// Words in the examples of doc comments, and of the README.
fn words_of_examples() -> BTreeSet<String> {
    let mut texts: Vec<String> = ["src", "operators/src", "queries/src"]
        .iter()
        .flat_map(|folder| files(folder, "rs"))
        .map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let docs = text.lines().map(|line| {
                let line = line.trim_start();
                line.strip_prefix("///")
                    .or_else(|| line.strip_prefix("//!"))
                    .unwrap_or("")
                    .to_owned()
            });
            docs.collect::<Vec<_>>().join("\n")
        })
        .collect();
    texts.push(std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap());
    // Every second part between fences is code.
    let examples = texts.iter().flat_map(|text| text.split("```").skip(1).step_by(2));
    let words = examples.flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.map(str::to_owned).collect()
}

/// What `pub use` statements of a file bring out by name.
fn brought_out(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(ROOT).join(file)).unwrap();
    let statements = text.split("pub use ").skip(1).filter_map(|rest| rest.split(';').next());
    let names = statements.flat_map(|statement| {
        let list = statement.rsplit_once("::{").map_or(statement, |(_, list)| list);
        list.split(',').map(|name| name.trim_matches(|c: char| c.is_whitespace() || c == '}'))
    });
    let names = names.map(|name| name.rsplit("::").next().unwrap_or(name));
    names.filter(|name| !name.is_empty() && *name != "*").map(str::to_owned).collect()
}

#[test]
fn every_public_name_is_in_an_example_that_runs() {
    let words = words_of_examples();
    for file in ["src/lib.rs", "operators/src/detectors/mod.rs", "operators/src/evaluate/mod.rs"] {
        let names = brought_out(file);
        assert!(names.len() > 5, "{file}: {names:?}");
        let missing: Vec<_> = names.iter().filter(|name| !words.contains(*name)).collect();
        assert!(missing.is_empty(), "{file}: no doc example shows {missing:?}");
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
            for head in ["-- Question:", "-- Signal:", "-- Columns:", "-- Output:", "-- Window:"] {
                assert!(text.contains(head), "{name} has no line {head}");
            }
        }
    }
}
