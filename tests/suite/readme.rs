//! README keeps what it says: its commands name things that exist. Its code runs as a doctest of the crate.

use std::path::Path;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_command_names_something_that_exists() {
    let (readme, benches) = (read("README.md"), read("benches/Cargo.toml"));
    let mut commands = 0;
    for (flag, exists) in [
        (
            "--example ",
            (&|name: &str| {
                let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
                examples.join(name).join("main.rs").exists()
                    || examples.join(format!("{name}.rs")).exists()
            }) as &dyn Fn(&str) -> bool,
        ),
        ("--bench ", &|name: &str| benches.contains(&format!("name = \"{name}\""))),
    ] {
        for part in readme.split(flag).skip(1) {
            let name = part.split([' ', '`', '\n', ':']).next().unwrap();
            assert!(exists(name), "README names {flag}{name}, which is not there");
            commands += 1;
        }
    }
    assert!(commands >= 4, "only {commands} commands found");
}

#[test]
fn the_test_command_is_the_one_that_ci_runs() {
    assert!(read("README.md").contains("cargo test --workspace --all-features"));
    assert!(read(".ci/run").contains("\ncargo test --workspace --all-features\n"));
}

#[test]
fn every_kind_of_detector_is_named() {
    let readme = read("README.md");
    for kind in driftline::detectors::builtin_kinds() {
        assert!(
            readme.contains(&format!("`{}`", kind.name())),
            "README does not name {}",
            kind.name()
        );
    }
}

#[test]
fn nothing_is_left_to_fill_in() {
    assert!(!read("README.md").contains("@@"));
}
