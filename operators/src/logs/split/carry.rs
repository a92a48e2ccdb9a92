//! What becomes of a template's places when the template changes.

use crate::logs::line::WILDCARD;
use crate::logs::spell::align::runs;
use crate::logs::words::{WILD, Word, Words};

/// What stood where a changed template has a wildcard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// Just this wildcard, counted from 0.
    Place(usize),
    /// Just this word.
    Word(Box<str>),
    /// More or less than that.
    Nothing,
}

/// For each wildcard of a changed template, what stood in its place before.
pub(super) fn carried(before: &str, after: &str) -> Vec<Carried> {
    let mut words = Words::new();
    let mut read = |text: &str| -> Vec<Word> { text.split(' ').map(|w| words.number(w)).collect() };
    let (before, after) = (read(before), read(after));
    let wildcards = |word: Word| words.text(word).matches(WILDCARD).count();
    let mut stood = Vec::new();
    let is_in_place = before.len() == after.len()
        && after.iter().zip(&before).all(|(&new, &old)| new == WILD || new == old);
    if is_in_place {
        let places = after.iter().enumerate().filter(|(_, word)| **word == WILD);
        stood.extend(places.map(|(place, _)| (place, place + 1)));
    } else if !runs(&after, &before, &mut stood) {
        stood.clear();
    }
    let mut stood = stood.into_iter();
    let mut carried = Vec::new();
    for &word in &after {
        if word != WILD {
            // A mask has found what varies within a word.
            carried.extend(std::iter::repeat_n(Carried::Nothing, wildcards(word)));
            continue;
        }
        carried.push(match stood.next() {
            Some((first, end)) if end == first + 1 => match before[first] {
                WILD => Carried::Place(before[..first].iter().map(|&word| wildcards(word)).sum()),
                old if words.is_partly_wild(old) => Carried::Nothing,
                old => Carried::Word(words.text(old).into()),
            },
            _ => Carried::Nothing,
        });
    }
    carried
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_words_are_found_again() {
        let word = |word: &str| Carried::Word(word.into());
        let cases = [
            ("a b c", "a <*> c", vec![word("b")]),
            ("a <*> c", "a <*> <*>", vec![Carried::Place(0), word("c")]),
            (
                "x=<*> <*> c d",
                "x=<*> <*> <*> d",
                vec![Carried::Nothing, Carried::Place(1), word("c")],
            ),
            // Wildcards that have swallowed their neighbours, or stand for nothing.
            ("a <*> c d", "a <*> d", vec![Carried::Nothing]),
            ("a b", "a <*> b", vec![Carried::Nothing]),
            ("a <*> c d", "a <*> c <*>", vec![Carried::Place(0), word("d")]),
            ("q a/<*> c", "q <*> c", vec![Carried::Nothing]),
            // Unlike any change of a parser.
            ("a b", "c <*>", vec![Carried::Nothing]),
        ];
        for (before, after, expected) in cases {
            assert_eq!(carried(before, after), expected, "{before} -> {after}");
        }
    }
}
