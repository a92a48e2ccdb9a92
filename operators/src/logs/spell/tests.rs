//! What Spell promises beyond other parsers.

use super::*;

fn keys(settings: &SpellSettings, lines: &[&str]) -> (Vec<u64>, Spell) {
    let mut spell = Spell::new(settings).unwrap();
    let mut line = ParsedLine::default();
    let mut parse = |text: &&str| {
        spell.parse(text, &mut line);
        line.key
    };
    (lines.iter().map(&mut parse).collect(), spell)
}

#[test]
fn words_in_another_order_are_another_template() {
    // SP-05: all words of the first stand in the second, but not in their order.
    let lines = ["open file then close socket", "close socket then open file"];
    let settings = SpellSettings { tau: 0.7, ..SpellSettings::default() };
    assert_eq!(keys(&settings, &lines).0, [1, 2]);
}

/// SP-03: of templates that share equally much, the shorter one, though it is younger; and none below `tau`.
#[test]
fn a_line_goes_to_the_shorter_of_equal_templates() {
    let lines = ["c d p q r s t", "a b u v", "a x c y"];
    let settings = SpellSettings { tau: 0.25, ..SpellSettings::default() };
    assert_eq!(keys(&settings, &lines).0, [1, 2, 2]);
    let settings = SpellSettings { tau: 0.5, ..SpellSettings::default() };
    assert_eq!(keys(&settings, &lines).0, [1, 2, 3]);
}

#[test]
fn gaps_become_one_wildcard_and_equal_templates_one() {
    // SP-07 and SP-08.
    let settings = SpellSettings { tau: 0.5, ..SpellSettings::default() };
    let lines = ["job a b of run done", "job c d of run done", "job of run done"];
    let (found, spell) = keys(&settings, &lines);
    assert_eq!(found, [1, 1, 1]);
    assert_eq!(&*spell.templates()[0].text, "job <*> of run done");

    let lines = ["a b c d x y", "a b c d p q r s", "a b c d z"];
    let settings = SpellSettings { tau: 0.6, ..SpellSettings::default() };
    let (found, spell) = keys(&settings, &lines);
    assert_eq!(found, [1, 2, 1]);
    assert_eq!(&*spell.templates()[0].text, "a b c d <*>");
}

/// The same parser without tree and loop.
fn plain(settings: &SpellSettings, lines: &[&str]) -> Vec<Vec<String>> {
    let mut aligner = Aligner::default();
    let mut words = Words::new();
    let mut templates: Vec<Vec<Word>> = Vec::new();
    let mut tokenizer = Tokenizer::new(&settings.masks, &settings.delimiters, 128).unwrap();
    let mut groups: Vec<Vec<String>> = Vec::new();
    for line in lines {
        tokenizer.read(line);
        let tokens: Vec<Word> =
            (0..tokenizer.len()).map(|i| words.number(tokenizer.text(i))).collect();
        let mut best: Option<(usize, usize, usize)> = None;
        for (index, template) in templates.iter().enumerate() {
            let length = aligner.length(&tokens, template);
            let wins = best.is_none_or(|(most, size, _)| {
                length > most || (length == most && template.len() < size)
            });
            if length as f64 >= settings.tau * tokens.len() as f64 && wins {
                best = Some((length, template.len(), index));
            }
        }
        match best {
            Some((_, _, index)) => {
                templates[index] = aligner.refine(&tokens, &templates[index]);
                groups[index].push((*line).into());
            }
            None => {
                templates.push(tokens);
                groups.push(vec![(*line).into()]);
            }
        }
    }
    groups
}

/// SP-04, SP-05: the loop takes a template whose constants all stand in the line, though another shares more with it.
#[test]
fn without_prefilters_the_template_that_shares_most_wins() {
    let lines = ["a b c", "a b x y z w v c", "a b x y c"];
    for (prefilters, expected) in [(true, [1, 2, 1]), (false, [1, 2, 2])] {
        let settings = SpellSettings { prefilters, ..SpellSettings::default() };
        assert_eq!(keys(&settings, &lines).0, expected);
    }
}

#[test]
fn tree_loop_and_index_are_faster_not_other() {
    // SP-04 and SP-06, on lines whose templates are well apart.
    let mut lines = Vec::new();
    for i in 0..200 {
        lines.push(format!("Received block blk_{i} of size {} from host", i * 7));
        lines.push(format!("session opened for user u{i} by root"));
        lines.push(format!("Verification succeeded for blk_{i}"));
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let settings = SpellSettings { tau: 0.6, ..SpellSettings::default() };
    for prefilters in [true, false] {
        let (found, _) = keys(&SpellSettings { prefilters, ..settings.clone() }, &lines);
        let mut groups: Vec<Vec<String>> = vec![Vec::new(); 3];
        for (line, key) in lines.iter().zip(found) {
            groups[key as usize - 1].push((*line).into());
        }
        assert_eq!(groups, plain(&settings, &lines));
    }
}
