//! What of this example is not the engine's: files that grow, are rotated and cut, times in lines, and drawings.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use driftline::logs::workflow::{Entry, Workflow};

use crate::layout;
use crate::options::{self, Command};
use crate::stamp::{Stamps, time_of};
use crate::tail::Tail;

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_file_is_followed_across_growth_rotation_and_truncation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.log");
    append(&path, "one\ntwo\nthr");
    let mut tail = Tail::open(&path, true).unwrap();
    assert_eq!(tail.lines_before().unwrap(), 2);
    assert_eq!(tail.read(1).unwrap(), ["one"]);
    assert_eq!(tail.read(9).unwrap(), ["two"]);
    assert!(tail.read(9).unwrap().is_empty(), "a part of a line is not given");
    append(&path, "ee\r\nfour\n");
    assert_eq!(tail.read(9).unwrap(), ["three", "four"]);

    // Rotated: what is left of the old file comes first.
    append(&path, "five\nsi");
    fs::rename(&path, folder.path().join("app.log.1")).unwrap();
    assert_eq!(tail.read(9).unwrap(), ["five"]);
    assert!(tail.read(9).unwrap().is_empty(), "there is no file of that name for a moment");
    append(&path, "seven\n");
    assert_eq!(tail.read(9).unwrap(), ["si", "seven"]);

    // Cut: from its start again.
    File::create(&path).unwrap();
    assert!(tail.read(9).unwrap().is_empty());
    append(&path, "8\n");
    assert_eq!(tail.read(9).unwrap(), ["8"]);
    append(&path, "the last one");
    assert!(tail.read(9).unwrap().is_empty());
    assert_eq!(tail.rest().as_deref(), Some("the last one"));

    let mut later = Tail::open(&path, false).unwrap();
    assert_eq!(later.lines_before().unwrap(), 0);
    assert!(later.read(9).unwrap().is_empty());
    assert!(Tail::open(&folder.path().join("none"), true).is_err());
}

#[test]
fn lines_have_the_time_that_is_in_them_or_when_they_came() {
    let second = 1_000_000_000;
    let at = time_of("nova.log 2017-05-16 00:00:01.008 25746 INFO").unwrap();
    assert_eq!(at, 1_494_892_801 * second + 8_000_000);
    assert_eq!(time_of("[2017-05-16T00:00:01,5] x"), Some(1_494_892_801 * second + 500_000_000));
    assert_eq!(time_of("2017-99-16 00:00:01"), None);
    assert_eq!(time_of("no time at all, whatever is said"), None);
    let mut stamps = Stamps::new(100 * second, 2, 500);
    let times = [0, 0, 101, 100].map(|now| stamps.next("x", now * second));
    assert_eq!(times, [99 * second, 99 * second + second / 2, 101 * second, 101 * second]);
}

#[test]
fn a_workflow_is_drawn_with_all_its_usual_keys() {
    let run = |keys: &str| keys.split(' ').map(Entry::new).collect::<Vec<_>>();
    let mut runs = vec![run("claim disk net spawn"), run("claim net disk spawn")];
    runs = (0..100).map(|i| runs[i % 2].clone()).collect();
    runs.push(run("claim fail"));
    let (drawing, left_out) = layout::draw(&Workflow::of_runs(&runs), |key| format!("<{key}>"));
    for key in ["claim", "disk", "net", "spawn"] {
        assert!(drawing.contains(&format!("&lt;{key}&gt;")), "{drawing}");
    }
    assert!(!drawing.contains("fail"));
    assert_eq!(left_out, 2, "to the failure, and from it to the end");
}

#[test]
fn the_command_line_is_read_or_refused() {
    let parsed = |words: &str| options::parse(words.split(' ').map(str::to_owned));
    let Ok(Command::Run(options)) = parsed("a.log --from-start --until-idle 2 --report x.mmd")
    else {
        panic!("it is right");
    };
    assert!(options.from_start && options.until_idle.is_some_and(|idle| idle.as_secs() == 2));
    for wrong in
        ["--from-start", "a.log b.log", "a.log --report x.png", "a.log --gap 0", "a.log --x 1"]
    {
        assert!(parsed(wrong).is_err(), "{wrong}");
    }
    assert!(matches!(parsed("--help"), Ok(Command::Help)));
}
