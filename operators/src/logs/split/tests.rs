//! What is promised of lines told apart by words that take turns.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::logs::LineReader;
use crate::logs::tests::{check_parameters, parse, reader};
use crate::options::Options;

const PARSERS: [&str; 2] = ["spell", "drain"];

fn options(parser: &str) -> Options {
    Options::new().with("parser", parser).with("split_values_max", 3).with("split_lines_min", 5)
}

fn keys(reader: &mut LineReader, lines: &[&str]) -> Vec<u64> {
    parse(reader, lines).into_iter().map(|line| line.0).collect()
}

fn changes(reader: &mut LineReader) -> Vec<(u64, ChangeKind, String)> {
    let changes = reader.parser_mut().take_changes();
    changes.into_iter().map(|c| (c.key, c.kind, c.template.to_string())).collect()
}

fn told(key: u64, kind: ChangeKind, template: &str) -> (u64, ChangeKind, String) {
    (key, kind, template.into())
}

use ChangeKind::{Changed, Created, Merged, Removed};

#[test]
fn words_that_take_turns_tell_lines_apart_from_the_first_line_on() {
    let lines = [
        "job 17 was started by cron",
        "job 18 was paused by cron",
        "job 19 was started by cron",
        "job 20 was stopped by cron",
        "job 21 was paused by cron",
    ];
    for name in PARSERS {
        let mut reader = reader(&options(name));
        let parsed = parse(&mut reader, &lines);
        let keys: Vec<u64> = parsed.iter().map(|line| line.0).collect();
        assert_eq!(keys, [1, 2, 1, 3, 2], "{name}");
        assert_eq!(parsed[2].1, "job <*> was started by cron", "{name}");
        assert_eq!(parsed[4].1, "job <*> was paused by cron", "{name}");
        assert_eq!(parsed[4].2, ["21"], "{name}");
        let expected = [
            told(1, Created, "job 17 was started by cron"),
            told(1, Changed, "job <*> was started by cron"),
            told(2, Created, "job <*> was paused by cron"),
            told(3, Created, "job <*> was stopped by cron"),
        ];
        assert_eq!(changes(&mut reader), expected, "{name}");
    }
}

#[test]
fn a_word_too_many_makes_a_place_variable_for_good() {
    let lines = ["user a in", "user b in", "user c in", "user d in", "user a in", "user e in"];
    for name in PARSERS {
        let mut reader = reader(&options(name));
        assert_eq!(keys(&mut reader, &lines), [1, 2, 3, 1, 1, 1], "{name}");
        let told_later = [
            told(2, Merged { into: 1 }, "user b in"),
            told(3, Merged { into: 1 }, "user c in"),
            told(1, Changed, "user <*> in"),
        ];
        assert_eq!(changes(&mut reader)[3..], told_later, "{name}");
        let templates = reader.parser().templates();
        assert_eq!((templates.len(), templates[0].lines), (1, 6), "{name}");
    }
}

#[test]
fn a_number_where_words_stood_makes_a_place_variable() {
    for name in PARSERS {
        let lines = ["sent to alpha now", "sent to beta now", "sent to 10.0.0.1 now"];
        assert_eq!(keys(&mut reader(&options(name)), &lines), [1, 2, 1], "{name}");
        let masked = options(name).with("masks", r"\d+");
        let lines = ["sent to 7 now", "sent to beta now", "sent to alpha now"];
        assert_eq!(keys(&mut reader(&masked), &lines), [1, 1, 1], "{name}: a mask has spoken");
    }
}

#[test]
fn words_of_a_settled_place_keep_their_keys_whatever_comes() {
    let mut lines = vec!["vm up now"; 1];
    lines.extend(["vm down now"; 6]); // the first is the latest new word, five more settle the place
    lines.extend([
        "vm odd now",
        "vm up now",
        "vm 7 now",
        "vm other now",
        "vm strange now",
        "vm down now",
    ]);
    for name in PARSERS {
        let mut reader = reader(&options(name));
        let parsed = parse(&mut reader, &lines);
        let keys: Vec<u64> = parsed.iter().map(|line| line.0).collect();
        assert_eq!(keys, [1, 2, 2, 2, 2, 2, 2, 3, 1, 3, 3, 3, 2], "{name}");
        assert_eq!(parsed[9].1, "vm <*> now", "{name}");
        assert_eq!(parsed[9].2, ["7"], "{name}");
        assert!(changes(&mut reader).iter().all(|change| change.1 == Created), "{name}");
    }
}

#[test]
fn places_together_tell_at_most_one_key_more_apart_than_a_place() {
    for name in PARSERS {
        let mut reader = reader(&options(name));
        let mut lines = Vec::new();
        for color in ["red", "blue"] {
            for size in ["small", "large", "huge"] {
                lines.push(format!("a {color} box of {size} size came in today"));
            }
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let found = parse(&mut reader, &lines);
        // The fifth combination is one too many; sizes, of which there are more, do not count any longer.
        let keys: Vec<u64> = found.iter().map(|line| line.0).collect();
        assert_eq!(keys, [1, 2, 3, 4, 4, 4], "{name}");
        let templates: Vec<String> =
            reader.parser().templates().iter().map(|t| t.text.to_string()).collect();
        let expected =
            ["a red box of <*> size came in today", "a blue box of <*> size came in today"];
        assert_eq!(templates, expected, "{name}");
    }
}

/// A parser that says what it was told to.
#[derive(Debug)]
struct Scripted(VecDeque<(u64, &'static str, Vec<TemplateChange>)>, Vec<TemplateChange>);

impl LogParser for Scripted {
    fn parse(&mut self, message: &str, line: &mut ParsedLine) {
        let (key, template, changes) = self.0.pop_front().unwrap();
        (line.key, line.template, self.1) = (key, template.into(), changes);
        line.parameters.clear();
        let mut at = 0;
        for (word, text) in template.split(' ').zip(message.split(' ')) {
            if word == WILDCARD {
                line.parameters.push(Span::new(at, at + text.len()));
            }
            at += text.len() + 1;
        }
    }

    fn take_changes(&mut self) -> Vec<TemplateChange> {
        std::mem::take(&mut self.1)
    }

    fn templates(&self) -> Vec<Template> {
        Vec::new()
    }

    fn bytes(&self) -> usize {
        0
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

#[test]
fn templates_that_the_parser_merges_are_one_here() {
    let change =
        |key, kind, template: &str| TemplateChange { key, kind, template: template.into() };
    let script = [
        (1, "a up c", vec![change(1, Created, "a up c")]),
        (1, "a <*> c", vec![change(1, Changed, "a <*> c")]),
        (2, "b x c", vec![change(2, Created, "b x c")]),
        (
            1,
            "<*> <*> c",
            vec![change(2, Merged { into: 1 }, "b x c"), change(1, Changed, "<*> <*> c")],
        ),
    ];
    let settings = SplitSettings { values_max: 3, lines_min: 5, templates_max: 10 };
    let mut split = Split::new(Box::new(Scripted(script.into(), Vec::new())), settings);
    let mut line = ParsedLine::default();
    let keys = ["a up c", "a down c", "b x c", "e x c"].map(|text| {
        split.parse(text, &mut line);
        line.key
    });
    assert_eq!(keys, [1, 2, 3, 1]);
    let changes = split.take_changes().into_iter();
    let changes: Vec<_> = changes.map(|c| (c.key, c.kind, c.template.to_string())).collect();
    let expected = [
        told(1, Created, "a up c"),
        told(2, Created, "a down c"),
        told(3, Created, "b x c"),
        told(2, Merged { into: 1 }, "a down c"),
        told(3, Merged { into: 1 }, "b x c"),
        told(1, Changed, "a <*> c"),
        told(1, Changed, "<*> <*> c"),
    ];
    assert_eq!(changes, expected);
    assert_eq!((split.keys, split.templates()[0].lines), (1, 4));
}

#[test]
fn lines_that_spell_a_wildcard_out_are_not_told_apart() {
    for name in PARSERS {
        let mut reader = reader(&options(name));
        let lines = ["a<*> was up today", "a<*> was down today", "a<*> was odd today"];
        assert_eq!(keys(&mut reader, &lines), [1, 1, 1], "{name}");
    }
}

#[test]
fn beyond_the_bound_the_longest_silent_are_no_longer_told_apart() {
    let mut reader = reader(&options("drain").with("templates_max", 3));
    let lines = ["vm up now", "vm down now", "q w e r", "t z u i o p"];
    assert_eq!(keys(&mut reader, &lines), [1, 2, 3, 4]);
    let found = changes(&mut reader);
    assert!(found.contains(&told(2, Merged { into: 1 }, "vm down now")), "{found:?}");
    assert_eq!(keys(&mut reader, &["other things happen so very often"]), [5]);
    let found = changes(&mut reader);
    assert!(found.contains(&told(1, Removed, "vm <*> now")), "{found:?}");
}

/// Lines with few words in turns, with many words, and with numbers, from a fixed seed.
fn service_lines(count: usize, seed: u64) -> Vec<String> {
    let mut state = seed.max(1);
    let mut draw = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below) as usize
    };
    let names = ["root", "news", "cyrus", "mail", "guest", "ftp"];
    let verbs = ["Started", "Stopped", "Paused"];
    let line = |_| match draw(6) {
        0 => format!("session opened for user {} by (uid={})", names[draw(6)], draw(3)),
        1 => format!("VM {} (Lifecycle Event)", verbs[draw(3)]),
        2 => format!("{} {} {}", draw(3), names[draw(6)], verbs[draw(3)]),
        3 => format!("{{\"level\":\"{}\",\"took\":{}}}", ["info", "warn"][draw(2)], draw(100)),
        4 => format!("{} of {} came", ["one", "two"][draw(2)], names[draw(2)]),
        _ => format!("noise {}{} {}", names[draw(6)], names[draw(6)], draw(9)),
    };
    (0..count).map(line).collect()
}

#[test]
fn a_restored_parser_goes_on_as_if_nothing_had_been() {
    let lines = service_lines(2000, 7);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    for name in PARSERS {
        // So few templates that some are dropped, and some no longer told apart, on the way.
        let options = options(name).with("templates_max", 12);
        let mut whole = reader(&options);
        let expected = parse(&mut whole, &lines);
        for cut in [1, 3, 700, 1999] {
            let (before, after) = lines.split_at(cut);
            let mut first = reader(&options);
            let mut found = parse(&mut first, before);
            let mut second = reader(&options);
            parse(&mut second, &["something else"]);
            second.parser_mut().restore(&first.parser().snapshot().unwrap()).unwrap();
            found.extend(parse(&mut second, after));
            assert_eq!(found, expected, "{name}, {cut}");
            assert_eq!(second.parser().snapshot().unwrap(), whole.parser().snapshot().unwrap());
            assert_eq!(second.parser().templates(), whole.parser().templates());
        }
    }
}

#[test]
fn a_damaged_snapshot_is_refused_and_leaves_the_parser_as_it_was() {
    let lines = service_lines(60, 3);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    for name in PARSERS {
        let mut reader = reader(&options(name));
        parse(&mut reader, &lines);
        let snapshot = reader.parser().snapshot().unwrap();
        for cut in 0..snapshot.len() {
            reader.parser_mut().restore(&snapshot[..cut]).unwrap_err();
        }
        // Whole, but not of one piece: families without the parser's templates, and other keys than there can be.
        let mut empty = self::reader(&Options::new().with("parser", name));
        let (next, clock, families, parser): (u64, u64, BTreeMap<u64, Family>, Vec<u8>) =
            snapshot::open(KIND, &snapshot).unwrap();
        let none = empty.parser_mut().snapshot().unwrap();
        for odd in [(next, clock, none), (1, clock, parser.clone()), (next, 0, parser)] {
            let (next, clock, parser) = odd;
            let odd = snapshot::seal(KIND, &(next, clock, &families, parser)).unwrap();
            let problem = reader.parser_mut().restore(&odd).unwrap_err().to_string();
            assert!(problem.ends_with("holds templates that do not fit together"), "{problem}");
        }
        assert_eq!(reader.parser().snapshot().unwrap(), snapshot);
        empty.parser_mut().restore(&snapshot).unwrap_err();
    }
}

#[test]
fn memory_stays_bounded_whatever_comes() {
    let mut state = 1_u64;
    let mut word = |letters: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let of = (0..letters).map(|i| char::from(b'g' + ((state >> (20 + 5 * i)) % 20) as u8));
        of.collect::<String>()
    };
    for name in PARSERS {
        let mut reader = reader(&options(name).with("templates_max", 200));
        let mut line = ParsedLine::default();
        let mut most = [0, 0];
        for i in 0..20_000 {
            let text = format!("{} {} {} {}", word(2), word(1), word(6), word(1));
            reader.read(&text, &mut line);
            if i % 100 == 0 {
                assert!(reader.parser().templates().len() <= 200);
                reader.parser_mut().take_changes();
                let half = &mut most[i / 10_000];
                *half = reader.parser().bytes().max(*half);
            }
        }
        assert!(most[1] <= most[0] * 5 / 4, "{name}: {most:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No text harms it: each line has as many parameters as its template has wildcards, what is told of changes adds up
    /// to the templates that there are, and no key is given twice.
    #[test]
    fn any_text_is_parsed(
        lines in proptest::collection::vec("([ a-c0-9.:=/\\[\\]()\"',{}\\\\|\t\u{e9}\u{4e16}-]|ab |up |down |id=7 ){0,16}", 1..40),
        name in proptest::sample::select(PARSERS.to_vec()),
        masked in proptest::bool::ANY,
    ) {
        let masks = if masked { "\\d+\n[a-b]+" } else { "" };
        let options = options(name).with("masks", masks).with("templates_max", 8);
        let mut reader = reader(&options);
        let mut line = ParsedLine::default();
        let mut known: BTreeMap<u64, Arc<str>> = BTreeMap::new();
        let mut given = 0;
        for text in &lines {
            let message = reader.read(text, &mut line);
            check_parameters(&line, message)?;
            for change in reader.parser_mut().take_changes() {
                match change.kind {
                    Created => {
                        prop_assert!(change.key > given);
                        given = change.key;
                        known.insert(change.key, change.template);
                    }
                    Changed => {
                        prop_assert!(known.insert(change.key, change.template).is_some());
                    }
                    Merged { into } => {
                        prop_assert!(into < change.key);
                        prop_assert!(known.remove(&change.key).is_some());
                    }
                    Removed => prop_assert!(known.remove(&change.key).is_some()),
                }
            }
            prop_assert_eq!(known.get(&line.key), Some(&line.template));
        }
        let held: BTreeMap<u64, Arc<str>> =
            reader.parser().templates().into_iter().map(|t| (t.key, t.text)).collect();
        prop_assert_eq!(held, known);
        let copy = reader.parser().snapshot().unwrap();
        reader.parser_mut().restore(&copy).unwrap();
    }
}
