//! Words of templates as numbers, so that parsers compare numbers instead of text.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::line::WILDCARD;

/// A word of some template.
pub(super) type Word = u32;

/// A word that no template holds. It is equal to nothing, not even to itself.
pub(super) const UNKNOWN: Word = 0;

/// A variable part.
pub(super) const WILD: Word = 1;

/// The words of all templates. Words of lines are only looked up, so that lines alone do not make it grow.
#[derive(Clone, Debug)]
pub(super) struct Words {
    numbers: HashMap<Box<str>, Word, FixedState>,
    texts: Vec<Box<str>>,
    /// Whether a word holds a wildcard and more.
    partly_wild: Vec<bool>,
    bytes: usize,
}

impl Words {
    pub(super) fn new() -> Self {
        let mut words = Self {
            numbers: HashMap::with_hasher(FixedState::with_seed(1)),
            texts: vec!["".into()],
            partly_wild: vec![false],
            bytes: 0,
        };
        words.number(WILDCARD);
        words
    }

    pub(super) fn find(&self, text: &str) -> Word {
        self.numbers.get(text).copied().unwrap_or(UNKNOWN)
    }

    /// The number of a word, which gets one if it has none.
    pub(super) fn number(&mut self, text: &str) -> Word {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = self.texts.len() as Word;
        self.texts.push(text.into());
        self.partly_wild.push(text.len() > WILDCARD.len() && text.contains(WILDCARD));
        self.numbers.insert(text.into(), number);
        self.bytes += 2 * text.len() + 48;
        number
    }

    pub(super) fn text(&self, word: Word) -> &str {
        &self.texts[word as usize]
    }

    /// Whether a word of a template holds a wildcard and more.
    pub(super) fn is_partly_wild(&self, word: Word) -> bool {
        self.partly_wild[word as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Words with a blank between each two, as templates are written.
    pub(super) fn join(&self, words: &[Word]) -> String {
        let texts: Vec<&str> = words.iter().map(|&word| self.text(word)).collect();
        texts.join(" ")
    }
}
