//! What holds for every parser, and what tells them apart.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{ChangeKind, LineReader, LogKeyOptions, ParsedLine, WILDCARD, read_parameter};
use crate::options::Options;

const PARSERS: [&str; 3] = ["signature", "spell", "drain"];

pub(super) fn reader(options: &Options) -> LineReader {
    LogKeyOptions::new(options).unwrap().reader().unwrap()
}

fn parser(name: &str) -> LineReader {
    reader(&Options::new().with("parser", name))
}

/// Keys, templates and parameters of lines.
pub(super) fn parse(reader: &mut LineReader, lines: &[&str]) -> Vec<(u64, String, Vec<String>)> {
    let mut line = ParsedLine::default();
    let mut parse = |text: &&str| {
        let message = reader.read(text, &mut line);
        let texts = line.parameters.iter().map(|span| span.of(line.text(message)).to_owned());
        (line.key, line.template.to_string(), texts.collect())
    };
    lines.iter().map(&mut parse).collect()
}

/// A line has as many parameters as its template has wildcards, each of them a part of its text.
pub(super) fn check_parameters(line: &ParsedLine, message: &str) -> Result<(), TestCaseError> {
    let (wildcards, inside) = (line.template.matches(WILDCARD).count(), line.text(message));
    prop_assert_eq!(wildcards, line.parameters.len(), "{} {:?}", line.template, message);
    for span in &line.parameters {
        prop_assert!(inside.get(span.start as usize..span.end as usize).is_some());
    }
    Ok(())
}

/// Lines of a service, drawn from a fixed seed: known shapes, names, numbers, and some noise.
fn service_lines(count: usize, seed: u64) -> Vec<String> {
    let mut state = seed.max(1);
    let mut draw = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let names = ["root", "news", "cyrus", "mail", "guest"];
    let verbs = ["Started", "Stopped", "Paused", "Resumed"];
    let line = |_| match draw(7) {
        0 => format!("session opened for user {} by (uid={})", names[draw(5) as usize], draw(3)),
        1 => format!("Took {}.{} seconds to deallocate network", draw(9), draw(99)),
        2 => format!("VM {} (Lifecycle Event)", verbs[draw(4) as usize]),
        3 => format!(
            "blk_{} src: /10.0.0.{}:{} size={}",
            draw(99_999),
            draw(255),
            draw(9999),
            draw(9)
        ),
        4 => format!("{{\"level\":\"info\",\"took\":{},\"msg\":\"done\"}}", draw(100)),
        5 => format!("{} {} {}", draw(3), names[draw(5) as usize], verbs[draw(4) as usize]),
        _ => "restart.".to_owned(),
    };
    (0..count).map(line).collect()
}

#[test]
fn the_keys_and_values_of_the_slides_come_out() {
    // SP-10. The elapsed time, element 0, comes from the lines' times, which parsers do not see.
    let lines = [
        "Deletion of file1 complete",
        "Took 0.61 seconds to deallocate network",
        "VM Stopped (Lifecycle Event)",
        "Deletion of file2 complete",
        "Took 1.1 seconds to deallocate network",
    ];
    for name in PARSERS {
        let parsed = parse(&mut parser(name), &lines);
        let keys: Vec<u64> = parsed.iter().map(|line| line.0).collect();
        assert_eq!(keys, [1, 2, 3, 1, 2], "{name}");
        assert_eq!(parsed[3].1, "Deletion of <*> complete");
        assert_eq!(parsed[3].2, ["file2"]);
        assert_eq!(parsed[4].1, "Took <*> seconds to deallocate network");
        assert_eq!(parsed[4].2, ["1.1"]);
        assert!(parsed[2].2.is_empty());
    }
}

#[test]
fn a_number_of_a_line_is_typed() {
    let line = "Took 1.1 seconds to deallocate network";
    let mut reader = parser("signature");
    let mut parsed = ParsedLine::default();
    reader.read(line, &mut parsed);
    let value = read_parameter(line, parsed.parameters[0]);
    assert_eq!((value.number, value.unit), (Some(1.1), Some("s")));
}

#[test]
fn ids_are_stable_while_templates_change_and_every_change_is_told() {
    let mut reader = parser("signature");
    let lines = ["user root in", "user news in", "user cyrus in", "user root in", "user x in"];
    let parsed = parse(&mut reader, &lines);
    let keys: Vec<u64> = parsed.iter().map(|line| line.0).collect();
    assert_eq!(keys, [1, 2, 1, 1, 1]);
    let changes = reader.parser_mut().take_changes();
    let told: Vec<_> = changes.iter().map(|c| (c.key, c.kind, &*c.template)).collect();
    assert_eq!(
        told,
        [
            (1, ChangeKind::Created, "user root in"),
            (2, ChangeKind::Created, "user news in"),
            (3, ChangeKind::Created, "user cyrus in"),
            (3, ChangeKind::Merged { into: 1 }, "user cyrus in"),
            (1, ChangeKind::Changed, "user <*> in"),
            (2, ChangeKind::Merged { into: 1 }, "user news in"),
        ]
    );
    assert!(reader.parser_mut().take_changes().is_empty());
    let templates = reader.parser().templates();
    assert_eq!((templates.len(), templates[0].lines), (1, 5));
}

#[test]
fn protected_words_keep_lines_apart() {
    // SP-08: the lifecycle of a machine is not one template.
    let lines = ["VM Started (Lifecycle Event)", "VM Paused (Lifecycle Event)"];
    for name in ["spell", "drain"] {
        let options = || Options::new().with("parser", name).with("similarity", 0.4);
        let keys = |parsed: Vec<(u64, String, Vec<String>)>| -> Vec<u64> {
            parsed.into_iter().map(|line| line.0).collect()
        };
        assert_eq!(keys(parse(&mut reader(&options()), &lines)), [1, 1], "{name}");
        let split = options().with("protected", "Started Paused");
        assert_eq!(keys(parse(&mut reader(&split), &lines)), [1, 2], "{name}");
    }
    let mut signature = parser("signature");
    let verbs =
        ["Started", "Paused", "Resumed", "Stopped"].map(|v| format!("VM {v} (Lifecycle Event)"));
    let verbs: Vec<&str> = verbs.iter().map(String::as_str).collect();
    let keys: Vec<u64> = parse(&mut signature, &verbs).iter().map(|line| line.0).collect();
    assert_eq!(keys, [1, 2, 3, 4]);
}

#[test]
fn masks_within_a_word_leave_their_text_as_a_parameter() {
    for name in ["spell", "drain"] {
        let mut reader = reader(&Options::new().with("parser", name).with("format", "HDFS"));
        let line = "081109 203615 148 INFO dfs.DataNode: Received block blk_38 of size 67 from /10.250.6.191";
        let parsed = parse(&mut reader, &[line, line]);
        assert_eq!(parsed[1].1, "Received block <*> of size 67 from /<*>", "{name}");
        assert_eq!(parsed[1].2, ["blk_38", "10.250.6.191"], "{name}");
    }
}

#[test]
fn a_restored_parser_goes_on_as_if_nothing_had_been() {
    let lines = service_lines(3000, 7);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    for name in PARSERS {
        // So few templates that some are dropped on the way.
        let options = || Options::new().with("parser", name).with("templates_max", 12);
        let mut whole = reader(&options());
        let expected = parse(&mut whole, &lines);
        let (before, after) = lines.split_at(1500);
        let mut first = reader(&options());
        let mut found = parse(&mut first, before);
        let mut second = reader(&options());
        parse(&mut second, &["something else"]);
        second.parser_mut().restore(&first.parser().snapshot().unwrap()).unwrap();
        found.extend(parse(&mut second, after));
        assert_eq!(found, expected, "{name}");
        assert_eq!(second.parser().snapshot().unwrap(), whole.parser().snapshot().unwrap());
    }
}

#[test]
fn a_damaged_snapshot_is_refused_and_leaves_the_parser_as_it_was() {
    let lines = service_lines(40, 3);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    for name in PARSERS {
        let mut reader = parser(name);
        parse(&mut reader, &lines);
        let snapshot = reader.parser().snapshot().unwrap();
        for cut in 0..snapshot.len() {
            reader.parser_mut().restore(&snapshot[..cut]).unwrap_err();
        }
        for at in 0..snapshot.len() {
            let mut damaged = snapshot.clone();
            damaged[at] ^= 4;
            reader.parser_mut().restore(&damaged).unwrap_err();
        }
        assert_eq!(reader.parser().snapshot().unwrap(), snapshot);
        for other in PARSERS.iter().filter(|other| **other != name) {
            parser(other).parser_mut().restore(&snapshot).unwrap_err();
        }
    }
}

#[test]
fn memory_stays_bounded_whatever_comes() {
    // SP-11.
    let mut state = 1_u64;
    let mut word = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let letters = (0..6).map(|i| char::from(b'g' + ((state >> (20 + 5 * i)) % 20) as u8));
        letters.collect::<String>()
    };
    for name in PARSERS {
        let mut reader = reader(&Options::new().with("parser", name).with("templates_max", 200));
        let mut line = ParsedLine::default();
        let mut most = [0, 0];
        for i in 0..40_000 {
            let text = format!("{} {} {} {}", word(), word(), word(), word());
            reader.read(&text, &mut line);
            if i % 500 == 0 {
                assert!(reader.parser().templates().len() <= 200);
                reader.parser_mut().take_changes();
                let half = &mut most[i / 20_000];
                *half = reader.parser().bytes().max(*half);
            }
        }
        assert!(most[1] <= most[0] * 5 / 4, "{name}: {most:?}");
    }
}

#[test]
fn long_lines_end_in_one_variable_part() {
    let words = vec!["word"; 500].join(" ");
    let text = format!("first {words}");
    for name in PARSERS {
        let parsed = parse(&mut parser(name), &[&text]);
        let (_, template, parameters) = &parsed[0];
        assert_eq!(template.split(' ').count(), 128, "{name}");
        assert!(template.ends_with(" <*>") && parameters[0].len() == 374 * 5 - 1, "{name}");
    }
}

#[test]
fn the_same_lines_give_the_same_keys_whatever_parser_objects_held_before() {
    let lines = service_lines(500, 11);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    for name in PARSERS {
        let expected = parse(&mut parser(name), &lines);
        assert_eq!(parse(&mut parser(name), &lines), expected, "{name}");
        let mut templates = BTreeMap::new();
        for (key, template, parameters) in expected {
            assert_eq!(template.matches(WILDCARD).count(), parameters.len(), "{name}: {template}");
            templates.insert(key, template);
        }
        assert!(templates.len() < 60, "{name}: {templates:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No text harms a parser, and each line has as many parameters as its template has wildcards.
    #[test]
    fn any_text_is_parsed(
        lines in proptest::collection::vec("([ a-c0-9.:=/\\[\\]()\"',{}\\\\|\t\u{e9}\u{4e16}-]|ab |id=7 |k\u{301} ){0,24}", 1..30),
        name in proptest::sample::select(PARSERS.to_vec()),
        masked in proptest::bool::ANY,
    ) {
        let masks = if masked { "\\d+\n[a-b]+" } else { "" };
        let options = Options::new().with("parser", name).with("masks", masks).with("templates_max", 8);
        let mut reader = reader(&options);
        let mut line = ParsedLine::default();
        for text in &lines {
            let message = reader.read(text, &mut line);
            check_parameters(&line, message)?;
        }
        let copy = reader.parser().snapshot().unwrap();
        reader.parser_mut().restore(&copy).unwrap();
    }
}
