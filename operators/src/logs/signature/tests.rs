//! What the signature parser promises beyond other parsers.

use super::*;

fn parse(parser: &mut Signature, lines: &[&str]) -> Vec<(u64, Vec<String>)> {
    let mut line = ParsedLine::default();
    let mut parse = |text: &&str| {
        parser.parse(text, &mut line);
        (line.key, line.parameters.iter().map(|span| span.of(text).to_owned()).collect())
    };
    lines.iter().map(&mut parse).collect()
}

fn keys(lines: &[&str]) -> Vec<u64> {
    let mut parser = Signature::new(&SignatureSettings::default());
    parse(&mut parser, lines).into_iter().map(|line| line.0).collect()
}

#[test]
fn a_place_is_variable_after_enough_different_words() {
    assert_eq!(keys(&["a host x up", "a host y up", "a host z up", "a host w up"]), [1, 2, 1, 1]);
    // After an equals sign it takes one more.
    assert_eq!(keys(&["a host=x b", "a host=y b", "a host=z b", "a host=w b"]), [1, 2, 3, 1]);
}

#[test]
fn a_name_where_others_have_numbers_is_of_their_template() {
    assert_eq!(keys(&["synced to 10.0.0.1 now", "synced to gateway now"]), [1, 1]);
    assert_eq!(keys(&["synced to gateway now", "synced to 10.0.0.1 now"]), [1, 1]);
}

#[test]
fn a_word_glued_to_a_variable_part_is_part_of_it() {
    let mut parser = Signature::new(&SignatureSettings::default());
    let lines = ["synced to 10.0.0.1, stratum 3", "synced to LOCAL(0), stratum 10"];
    let parsed = parse(&mut parser, &lines);
    assert_eq!(parsed[0], (1, vec!["10.0.0.1".into(), "3".into()]));
    assert_eq!(parsed[1], (1, vec!["LOCAL(0".into(), "10".into()]));
}

#[test]
fn the_first_word_and_half_of_a_template_stay_constant() {
    let names = ["sshd", "crond", "ntpd", "httpd", "named"];
    let lines = names.map(|name| format!("{name} startup complete"));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(keys(&lines), [1, 2, 3, 4, 5]);
    assert_eq!(keys(&["set x", "set y", "set z", "set w"]), [1, 2, 3, 4]);
}

#[test]
fn forgotten_signatures_are_worked_out_again_to_the_same_keys() {
    let settings = SignatureSettings { signatures_max: 8, ..SignatureSettings::default() };
    let mut parser = Signature::new(&settings);
    let lines: Vec<String> = (0..40)
        .map(|i| format!("{} began x", ["alpha", "beta", "gamma", "delta", "eta"][i % 5]))
        .collect();
    let mixed: Vec<String> =
        (0..40).map(|i| format!("user {} came in", char::from(b'a' + (i % 26) as u8))).collect();
    let all: Vec<&str> = lines.iter().chain(&mixed).chain(&lines).map(String::as_str).collect();
    let found = parse(&mut parser, &all);
    assert!(parser.live <= 8);
    for i in 0..40 {
        assert_eq!(found[i].0, found[80 + i].0);
    }
}
