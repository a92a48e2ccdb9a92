//! Lines of one template, told apart by words that take turns in it (SP-08).
//!
//! A parser that finds templates by what lines have in common makes one of `VM Started (Lifecycle Event)` and `VM Paused
//! (Lifecycle Event)`. This one stands behind such a parser, and gives lines of one template keys of their own as long as
//! one of few words stands in a variable place:
//!
//! * A place in which at most [`values_max`](SplitSettings::values_max) different words have stood tells lines apart,
//!   **from the first line on**. Keys that were given are not taken back: two can be told to be one from now on, but one
//!   cannot be told to have been two.
//! * The first word too many makes the place variable for good. Keys that differed in it alone are merged into the oldest.
//! * A place is settled once [`lines_min`](SplitSettings::lines_min) lines have come since its latest new word: of lines to
//!   come, with a confidence of 95 %, fewer than 3 in `lines_min` have one more (the rule of three). From then on its
//!   words keep their keys, and all other words share the key of the template in which the place is variable.
//!
//! A word is one token without a digit. Whatever a mask has found, or what is more or less than a token, is variable. All
//! places together tell at most one key more than `values_max` apart; beyond that, the place with the most words becomes
//! variable. Templates that the parser finds to be one are no longer told apart.

mod carry;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::carry::{Carried, carried};
use super::line::{ChangeKind, LogParser, ParsedLine, Span, Template, TemplateChange, WILDCARD};
use crate::error::Result;
use crate::model::snapshot;

const KIND: &str = "log parser split";

/// The longest word that tells lines apart, in bytes.
const WORD_BYTES_MAX: usize = 64;

/// When lines are told apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct SplitSettings {
    /// Most different words of a place that tells lines apart, from 2 to 100.
    pub(super) values_max: usize,
    /// Lines since its latest new word after which a place is settled.
    pub(super) lines_min: u64,
    /// Most keys; beyond it the templates that have been silent for longest are no longer told apart.
    pub(super) templates_max: usize,
}

/// A parser, and what its templates are told apart by; see the head of this file.
#[derive(Debug)]
pub(super) struct Split {
    settings: SplitSettings,
    parser: Box<dyn LogParser>,
    /// By the parser's key.
    families: BTreeMap<u64, Family>,
    /// Keys of all families.
    keys: usize,
    next_key: u64,
    clock: u64,
    changes: Vec<TemplateChange>,
    words: Vec<Option<u8>>,
}

/// A template of the parser, and the keys that its lines have.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Family {
    /// The parser's template.
    text: Box<str>,
    /// One for each wildcard of the template; none where it is variable for good.
    places: Vec<Option<Place>>,
    /// Ordered by key.
    parts: Vec<Part>,
    /// Whether its lines are never told apart: it is of templates that the parser has found to be one, and what was
    /// constant in either may not have been so in the other; or a line spelled `<*>` out, so that places do not count.
    is_one: bool,
    used: u64,
}

/// A place that tells lines apart.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Place {
    words: Vec<Box<str>>,
    /// Lines since the latest new word.
    calm: u64,
}

/// A key, and the words that its lines have.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Part {
    key: u64,
    /// For each place the number of its word; none where lines of this key have any.
    words: Vec<Option<u8>>,
    #[serde(skip)]
    text: Arc<str>,
    lines: u64,
}

/// What a text in a place says.
enum Said {
    Word(u8),
    /// One more than the words of a settled place.
    Other,
    /// The place is variable.
    TooMany,
}

impl Split {
    pub(super) fn new(parser: Box<dyn LogParser>, settings: SplitSettings) -> Self {
        Self {
            settings,
            parser,
            families: BTreeMap::new(),
            keys: 0,
            next_key: 1,
            clock: 0,
            changes: Vec::new(),
            words: Vec::new(),
        }
    }

    /// Does to families what the parser did to its templates.
    fn follow(&mut self, change: TemplateChange) {
        match change.kind {
            ChangeKind::Created => {
                self.families.insert(change.key, Family::new(&change.template, self.clock));
            }
            ChangeKind::Changed => {
                let Some(family) = self.families.get_mut(&change.key) else { return };
                family.change(&change.template, &mut self.changes);
            }
            ChangeKind::Merged { into } => {
                let Some(gone) = self.families.remove(&change.key) else { return };
                let Some(family) = self.families.get_mut(&into) else { return };
                let before = family.parts.len() + gone.parts.len();
                family.take_in(gone, &mut self.changes);
                self.keys -= before - family.parts.len();
            }
            ChangeKind::Removed => {
                let Some(gone) = self.families.remove(&change.key) else { return };
                self.keys -= gone.parts.len();
                self.changes.extend(gone.parts.into_iter().map(|part| part.told(change.kind)));
            }
        }
    }

    /// Once there are too many keys, no longer tells lines of templates apart that have been silent for longest. A new
    /// template has no key yet.
    fn make_room(&mut self, is_new: bool) {
        let most = self.settings.templates_max.max(1);
        if self.keys < most || self.keys + usize::from(is_new) == self.families.len() {
            return;
        }
        let of = |(&key, family): (&u64, &Family)| (family.used, key);
        let mut by_use: Vec<(u64, u64)> =
            self.families.iter().filter(|(_, family)| family.parts.len() > 1).map(of).collect();
        by_use.sort_unstable();
        for (_, key) in by_use {
            if self.keys <= most - (most / 8).max(1) {
                break;
            }
            let Some(family) = self.families.get_mut(&key) else { continue };
            let before = family.parts.len();
            family.places.fill(None);
            family.unite(&mut self.changes);
            self.keys -= before - family.parts.len();
        }
    }
}

impl Family {
    fn new(text: &str, used: u64) -> Self {
        // What is variable in a template's first line was found by a mask.
        let places = vec![None; text.matches(WILDCARD).count()];
        Self { text: text.into(), places, parts: Vec::new(), is_one: false, used }
    }

    /// Which words a line has in the places that tell lines apart. The answer is whether places became variable by it.
    fn read<'a>(
        &mut self,
        texts: impl Iterator<Item = &'a str>,
        settings: &SplitSettings,
        words: &mut Vec<Option<u8>>,
    ) -> bool {
        words.clear();
        words.resize(self.places.len(), None);
        let mut is_less = false;
        for ((index, place), text) in self.places.iter_mut().enumerate().zip(texts) {
            let Some(told) = place else { continue };
            match told.read(text, settings) {
                Said::Word(word) => words[index] = Some(word),
                Said::Other => {}
                Said::TooMany => {
                    *place = None;
                    is_less = true;
                }
            }
        }
        is_less
    }

    /// Makes one of keys that no longer differ.
    fn unite(&mut self, changes: &mut Vec<TemplateChange>) {
        let mut kept: Vec<Part> = Vec::new();
        for mut part in std::mem::take(&mut self.parts) {
            let of_variable = part.words.iter_mut().zip(&self.places).filter(|(_, p)| p.is_none());
            of_variable.for_each(|(word, _)| *word = None);
            match kept.iter_mut().find(|older| older.words == part.words) {
                Some(older) => {
                    older.lines += part.lines;
                    changes.push(part.told(ChangeKind::Merged { into: older.key }));
                }
                None => kept.push(part),
            }
        }
        for part in &mut kept {
            let text = self.text_of(&part.words);
            if part.text != text {
                part.text = text;
                changes.push(part.told(ChangeKind::Changed));
            }
        }
        self.parts = kept;
    }

    /// The template with words in the places that have one.
    fn text_of(&self, words: &[Option<u8>]) -> Arc<str> {
        let mut pieces = self.text.split(WILDCARD);
        let mut text = pieces.next().unwrap_or_default().to_owned();
        for (index, piece) in pieces.enumerate() {
            let word = words.get(index).copied().flatten().and_then(|word| {
                Some(&**self.places[index].as_ref()?.words.get(usize::from(word))?)
            });
            text.push_str(word.unwrap_or(WILDCARD));
            text.push_str(piece);
        }
        text.into()
    }

    /// The parser's template has another text now. What was a word in it may be a place.
    fn change(&mut self, text: &str, changes: &mut Vec<TemplateChange>) {
        let carried = carried(&self.text, text);
        let is_told = !self.is_one;
        let mut places = std::mem::take(&mut self.places);
        for part in &mut self.parts {
            let word = |from: &Carried| match from {
                Carried::Place(place) => part.words[*place],
                Carried::Word(_) => Some(0),
                Carried::Nothing => None,
            };
            part.words = carried.iter().map(word).collect();
        }
        let place = |from: Carried| match from {
            Carried::Place(place) => places[place].take(),
            Carried::Word(word) if is_told && is_word(&word) => {
                Some(Place { words: vec![word], calm: 0 })
            }
            Carried::Word(_) | Carried::Nothing => None,
        };
        self.places = carried.into_iter().map(place).collect();
        self.text = text.into();
        self.unite(changes);
    }

    /// The parser's templates are one.
    fn take_in(&mut self, gone: Self, changes: &mut Vec<TemplateChange>) {
        self.is_one = true;
        self.places.fill(None);
        self.parts.extend(gone.parts);
        self.parts.sort_unstable_by_key(|part| part.key);
        self.parts.iter_mut().for_each(|part| part.words = vec![None; self.places.len()]);
        self.unite(changes);
    }

    /// The place that becomes variable where there are too many keys: one that is not settled, of the most words, and the
    /// last of these.
    fn least_telling(&self, settings: &SplitSettings) -> Option<usize> {
        let places = self.places.iter().enumerate();
        let told = places.filter_map(|(index, place)| Some((index, place.as_ref()?)));
        told.max_by_key(|(index, place)| (!place.is_settled(settings), place.words.len(), *index))
            .map(|(index, _)| index)
    }

    fn bytes(&self) -> usize {
        let of_places = self.places.iter().flatten().flat_map(|place| &place.words);
        let of_places = of_places.map(|word| 16 + word.len());
        let of_parts = self.parts.iter().map(|part| 80 + 2 * part.words.len() + part.text.len());
        160 + self.text.len() + 32 * self.places.len() + of_places.chain(of_parts).sum::<usize>()
    }
}

impl Place {
    fn is_settled(&self, settings: &SplitSettings) -> bool {
        self.calm >= settings.lines_min
    }

    fn read(&mut self, text: &str, settings: &SplitSettings) -> Said {
        if let Some(word) = self.words.iter().position(|word| **word == *text) {
            self.calm += 1;
            return Said::Word(word as u8);
        }
        if self.is_settled(settings) {
            return Said::Other;
        }
        if self.words.len() >= settings.values_max || !is_word(text) {
            return Said::TooMany;
        }
        self.calm = 0;
        self.words.push(text.into());
        Said::Word(self.words.len() as u8 - 1)
    }
}

impl Part {
    fn told(&self, kind: ChangeKind) -> TemplateChange {
        TemplateChange { key: self.key, kind, template: self.text.clone() }
    }
}

/// Whether a text may say what happened, rather than to whom or how much.
fn is_word(text: &str) -> bool {
    text.len() <= WORD_BYTES_MAX
        && text.chars().any(char::is_alphabetic)
        && !text.chars().any(|c| c.is_numeric() || c.is_whitespace())
        && !text.contains(WILDCARD)
}

impl LogParser for Split {
    fn parse(&mut self, message: &str, line: &mut ParsedLine) {
        self.clock += 1;
        self.parser.parse(message, line);
        for change in self.parser.take_changes() {
            self.follow(change);
        }
        let family = self.families.get(&line.key);
        self.make_room(family.is_some_and(|family| family.parts.is_empty()));
        let Self { settings, families, keys, next_key, changes, words, .. } = self;
        let Some(family) = families.get_mut(&line.key) else { return };
        family.used = self.clock;
        let text = line.text(message);
        let texts = line.parameters.iter().map(|span| span.of(text));
        let before = family.parts.len();
        if texts.len() != family.places.len() && !family.is_one {
            family.is_one = true;
            family.places.fill(None);
            family.unite(changes);
        }
        if family.read(texts, settings, words) {
            family.unite(changes);
        }
        *keys -= before - family.parts.len();
        let part = loop {
            if let Some(part) = family.parts.iter().position(|part| part.words == *words) {
                break part;
            }
            let count = family.parts.len();
            let has_room = count <= settings.values_max && *keys < settings.templates_max.max(1);
            if count > 0
                && !has_room
                && let Some(place) = family.least_telling(settings)
            {
                family.places[place] = None;
                words[place] = None;
                family.unite(changes);
                *keys -= count - family.parts.len();
                continue;
            }
            let text = family.text_of(words);
            let part = Part { key: *next_key, words: words.clone(), text, lines: 0 };
            changes.push(part.told(ChangeKind::Created));
            family.parts.push(part);
            *next_key += 1;
            *keys += 1;
        };
        let part = &mut family.parts[part];
        part.lines += 1;
        line.key = part.key;
        line.template = part.text.clone();
        let mut told = part.words.iter().map(Option::is_some);
        line.parameters.retain(|_: &Span| !told.next().unwrap_or(false));
    }

    fn take_changes(&mut self) -> Vec<TemplateChange> {
        std::mem::take(&mut self.changes)
    }

    fn templates(&self) -> Vec<Template> {
        let parts = self.families.values().flat_map(|family| &family.parts);
        let template = |p: &Part| Template { key: p.key, text: p.text.clone(), lines: p.lines };
        Template::in_order(parts.map(template))
    }

    fn bytes(&self) -> usize {
        self.parser.bytes() + self.families.values().map(Family::bytes).sum::<usize>()
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        let parser = self.parser.snapshot()?;
        snapshot::seal(KIND, &(self.next_key, self.clock, &self.families, parser))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<()> {
        let state: (u64, u64, BTreeMap<u64, Family>, Vec<u8>) = snapshot::open(KIND, snapshot)?;
        let (next_key, clock, mut families, parser) = state;
        let before = self.parser.snapshot()?;
        self.parser.restore(&parser)?;
        if !fits(&families, &self.parser.templates(), next_key, clock) {
            self.parser.restore(&before)?;
            return Err(snapshot::problem(KIND, "holds templates that do not fit together"));
        }
        for family in families.values_mut() {
            let texts: Vec<_> = family.parts.iter().map(|p| family.text_of(&p.words)).collect();
            family.parts.iter_mut().zip(texts).for_each(|(part, text)| part.text = text);
        }
        self.keys = families.values().map(|family| family.parts.len()).sum();
        (self.next_key, self.clock, self.families) = (next_key, clock, families);
        self.changes.clear();
        Ok(())
    }
}

/// Whether families from outside are of these templates, and whole.
fn fits(families: &BTreeMap<u64, Family>, of: &[Template], next_key: u64, clock: u64) -> bool {
    let mut keys = BTreeSet::new();
    let mut is_whole = |family: &Family| {
        let names = |(word, place): (&Option<u8>, &Option<Place>)| {
            word.is_none_or(|word| {
                place.as_ref().is_some_and(|place| usize::from(word) < place.words.len())
            })
        };
        family.places.len() == family.text.matches(WILDCARD).count()
            && !family.parts.is_empty()
            && family.used <= clock
            && family.parts.is_sorted_by_key(|part| part.key)
            && family.parts.iter().all(|part| {
                part.words.len() == family.places.len()
                    && part.words.iter().zip(&family.places).all(names)
                    && (1..next_key).contains(&part.key)
                    && keys.insert(part.key)
            })
    };
    families.len() == of.len()
        && families.iter().zip(of).all(|((key, family), template)| {
            *key == template.key && *family.text == *template.text && is_whole(family)
        })
}

#[cfg(test)]
mod tests;
