//! Templates of signatures: which places are variable, and when two templates are one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use super::SignatureSettings;
use super::scan::Scanner;
use crate::logs::line::{ChangeKind, Template, TemplateChange, WILDCARD};

/// The longest stretch of punctuation before a part that its template shows, in bytes.
const GAP_MAX: usize = 64;

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// Punctuation and space before it, in the line that the template was made of.
    gap: Box<str>,
    /// Its word, if it is constant.
    word: Box<str>,
    pub(super) is_variable: bool,
    pub(super) is_value: bool,
    pub(super) is_glued: bool,
}

impl Part {
    /// Whether the places agree: both variable, or the same word.
    fn is_same(&self, other: &Self) -> bool {
        self.is_variable == other.is_variable && (self.is_variable || self.word == other.word)
    }

    fn hash(&self) -> u64 {
        if self.is_variable { 0 } else { XxHash3_64::oneshot(self.word.as_bytes()) }
    }
}

/// A template.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) key: u64,
    parts: Vec<Part>,
    /// What comes after the last part.
    tail: Box<str>,
    #[serde(skip)]
    pub(super) text: Arc<str>,
    lines: u64,
    pub(super) used: u64,
}

impl Entry {
    pub(super) fn is_variable(&self, place: usize) -> bool {
        self.parts.get(place).is_some_and(|part| part.is_variable)
    }

    fn write_text(&mut self) {
        let mut text = String::new();
        for part in &self.parts {
            text.push_str(&part.gap);
            text.push_str(if part.is_variable { WILDCARD } else { &part.word });
        }
        text.push_str(&self.tail);
        self.text = text.trim().into();
    }
}

/// Words seen in one place, all else being equal: the word's hash, and the template with it.
type Values = Vec<(u64, u32)>;

/// All templates of a parser, in slots.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Templates {
    #[serde(skip)]
    limits: Limits,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    next_key: u64,
    /// By the hash of a template's parts without one of them.
    patterns: BTreeMap<u64, Values>,
    patterns_max: usize,
    /// By number of parts and first word.
    #[serde(skip)]
    buckets: HashMap<(usize, u64), Vec<u32>, FixedState>,
    #[serde(skip)]
    changes: Vec<TemplateChange>,
    /// Slots that were merged away since the last call of `take_moves`, and where to.
    #[serde(skip)]
    moves: Vec<(u32, u32)>,
}

#[derive(Clone, Debug, Default)]
struct Limits {
    values_min: usize,
    assigned_values_min: usize,
    templates_max: usize,
    protected: Vec<String>,
}

impl Templates {
    pub(super) fn new(settings: &SignatureSettings) -> Self {
        let mut templates = Self { next_key: 1, ..Self::default() };
        templates.set_limits(settings);
        templates
    }

    fn set_limits(&mut self, settings: &SignatureSettings) {
        self.limits = Limits {
            values_min: settings.values_min.max(2),
            assigned_values_min: settings.assigned_values_min.max(2),
            templates_max: settings.templates_max.max(1),
            protected: settings.protected.iter().map(|word| word.to_lowercase()).collect(),
        };
        self.patterns_max = self.patterns_max.max(16 * self.limits.templates_max + 1024);
    }

    /// After reading a snapshot: brings back what is not in it; false if the rest does not fit together.
    pub(super) fn complete(&mut self, settings: &SignatureSettings, clock: u64) -> bool {
        self.set_limits(settings);
        let mut keys = Vec::new();
        for (slot, entry) in self.entries.iter_mut().enumerate() {
            match entry {
                Some(entry) if entry.used > clock => return false,
                Some(entry) => {
                    keys.push(entry.key);
                    entry.write_text();
                    self.buckets.entry(bucket(&entry.parts)).or_default().push(slot as u32);
                }
                None if !self.free.contains(&(slot as u32)) => return false,
                None => {}
            }
        }
        let live = keys.len();
        keys.sort_unstable();
        keys.dedup();
        let slots = self.entries.len() as u32;
        keys.len() == live
            && live + self.free.len() == self.entries.len()
            && self.free.iter().all(|&slot| slot < slots)
            && keys.first().is_none_or(|&first| first > 0)
            && keys.last().is_none_or(|&last| last < self.next_key)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(super) fn holds(&self, slot: u32) -> bool {
        self.get(slot).is_some()
    }

    /// How many parts the template has.
    pub(super) fn parts(&self, slot: u32) -> usize {
        self.get(slot).map_or(0, |entry| entry.parts.len())
    }

    fn get(&self, slot: u32) -> Option<&Entry> {
        self.entries.get(slot as usize).and_then(Option::as_ref)
    }

    /// Counts a line, and gives its template.
    pub(super) fn touch(&mut self, slot: u32, clock: u64) -> Option<&Entry> {
        let entry = self.entries.get_mut(slot as usize)?.as_mut()?;
        entry.lines += 1;
        entry.used = clock;
        Some(entry)
    }

    /// The parts of the scanned line as a template would have them, and what comes after the last.
    pub(super) fn read(scanner: &Scanner, text: &str) -> (Vec<Part>, Box<str>) {
        let mut end = 0;
        let mut parts = Vec::with_capacity(scanner.parts.len());
        for part in &scanner.parts {
            let (start, before) = (part.span.start as usize, end);
            let gap = if start < before { " " } else { text.get(before..start).unwrap_or(" ") };
            end = end.max(part.span.end as usize);
            parts.push(Part {
                gap: short(gap),
                word: if part.is_variable { "".into() } else { part.span.of(text).into() },
                is_variable: part.is_variable,
                is_value: part.is_value,
                is_glued: part.is_glued,
            });
        }
        (parts, short(text.get(end..).unwrap_or("")))
    }

    /// The template of just these parts.
    pub(super) fn find_equal(&self, parts: &[Part]) -> Option<u32> {
        let is_it = |slot: &&u32| {
            let entry = self.get(**slot);
            entry.is_some_and(|e| e.parts.iter().zip(parts).all(|(a, b)| a.is_same(b)))
        };
        self.buckets.get(&bucket(parts))?.iter().find(is_it).copied()
    }

    /// The oldest template that differs from these parts at most in being variable where they are not.
    pub(super) fn find_equal_but_variable(&self, parts: &[Part]) -> Option<u32> {
        let says = |entry: &Entry| {
            let mut differs = false;
            let fits = entry.parts.iter().zip(parts).all(|(template, line)| {
                let same = template.is_same(line);
                differs |= !same;
                same || (template.is_variable && !self.is_protected(&line.word))
            });
            fits && (!differs || is_constant_enough(entry.parts.iter().map(|p| p.is_variable)))
        };
        let slots = self.buckets.get(&bucket(parts))?;
        let found = slots.iter().filter(|slot| self.get(**slot).is_some_and(says));
        found.min_by_key(|slot| self.get(**slot).map(|entry| entry.key)).copied()
    }

    /// Adds a template, and merges it with those that it turns out to be one with. The answer is where it lives.
    pub(super) fn add(&mut self, parts: Vec<Part>, tail: Box<str>, clock: u64) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() as u32 - 1
        });
        self.buckets.entry(bucket(&parts)).or_default().push(slot);
        let text = Arc::from("");
        let mut entry = Entry { key: self.next_key, parts, tail, text, lines: 0, used: clock };
        entry.write_text();
        self.next_key += 1;
        self.entries[slot as usize] = Some(entry);
        self.tell(slot, ChangeKind::Created);
        if self.patterns.len() > self.patterns_max {
            self.count_afresh();
        }
        self.settle(slot)
    }

    /// Merges and generalises until nothing more follows. Each step merges a template or makes a place variable.
    fn settle(&mut self, mut slot: u32) -> u32 {
        while let Some(next) = self.absorb(slot).or_else(|| self.generalise(slot)) {
            slot = next;
        }
        slot
    }

    /// Merges with a template that differs only in places where one of both is variable.
    fn absorb(&mut self, slot: u32) -> Option<u32> {
        let entry = self.get(slot)?;
        let is_one = |other: &Entry| {
            let pairs = || entry.parts.iter().zip(&other.parts);
            let may_differ = |a: &Part, b: &Part| {
                let word = if a.is_variable { &b.word } else { &a.word };
                a.is_variable != b.is_variable && !self.is_protected(word)
            };
            pairs().all(|(a, b)| a.is_same(b) || may_differ(a, b))
                && is_constant_enough(pairs().map(|(a, b)| a.is_variable || b.is_variable))
        };
        let slots = self.buckets.get(&bucket(&entry.parts))?;
        let found = |other: &&u32| **other != slot && self.get(**other).is_some_and(is_one);
        let other = slots.iter().find(found).copied()?;
        Some(self.merge(slot, other))
    }

    /// Counts the template's words in their places. Where there are enough different ones, the place becomes variable.
    fn generalise(&mut self, slot: u32) -> Option<u32> {
        let parts = &self.get(slot)?.parts;
        let variable = |index: usize| parts[index].is_variable;
        let hashes: Vec<u64> = parts.iter().map(Part::hash).collect();
        let places: Vec<(usize, usize)> = (1..parts.len())
            .filter(|&place| !variable(place) && !self.is_protected(&parts[place].word))
            .filter(|&place| {
                is_constant_enough((0..parts.len()).map(|i| i == place || variable(i)))
            })
            .map(|place| (place, self.values_min(&parts[place])))
            .collect();
        for (place, values_min) in places {
            let mut without = hashes.clone();
            without[place] = 0;
            let pattern = hash_of(&without, place);
            let values = self.patterns.entry(pattern).or_default();
            match values.iter_mut().find(|(word, _)| *word == hashes[place]) {
                Some((_, held)) => *held = slot,
                None => values.push((hashes[place], slot)),
            }
            if values.len() < values_min {
                continue;
            }
            let values = self.patterns.remove(&pattern).unwrap_or_default();
            let mut into = slot;
            for (_, other) in values {
                if other != into && self.differ_only_at(into, other, place) {
                    into = self.merge(into, other);
                }
            }
            self.make_variable(into, place);
            return Some(into);
        }
        None
    }

    fn values_min(&self, part: &Part) -> usize {
        if part.is_value { self.limits.assigned_values_min } else { self.limits.values_min }
    }

    fn differ_only_at(&self, slot: u32, other: u32, place: usize) -> bool {
        let (Some(a), Some(b)) = (self.get(slot), self.get(other)) else { return false };
        a.parts.len() == b.parts.len()
            && a.parts
                .iter()
                .zip(&b.parts)
                .enumerate()
                .all(|(i, (a, b))| i == place || a.is_same(b))
    }

    fn make_variable(&mut self, slot: u32, place: usize) {
        let Some(Some(entry)) = self.entries.get_mut(slot as usize) else { return };
        if !entry.parts[place].is_variable {
            entry.parts[place].is_variable = true;
            entry.parts[place].word = "".into();
            entry.write_text();
            self.tell(slot, ChangeKind::Changed);
        }
    }

    /// Two templates of as many parts become one, variable where they differ. The older goes on.
    fn merge(&mut self, one: u32, two: u32) -> u32 {
        let key = |slot: u32| self.get(slot).map_or(u64::MAX, |entry| entry.key);
        let (older, younger) = if key(one) < key(two) { (one, two) } else { (two, one) };
        let into = key(older);
        self.tell(younger, ChangeKind::Merged { into });
        let Some(gone) = self.take(younger) else { return older };
        self.moves.push((younger, older));
        let Some(Some(entry)) = self.entries.get_mut(older as usize) else { return older };
        entry.lines += gone.lines;
        entry.used = entry.used.max(gone.used);
        let mut changed = false;
        for (part, other) in entry.parts.iter_mut().zip(&gone.parts) {
            if !part.is_same(other) && !part.is_variable {
                part.is_variable = true;
                part.word = "".into();
                changed = true;
            }
        }
        if changed {
            entry.write_text();
            self.tell(older, ChangeKind::Changed);
        }
        older
    }

    fn take(&mut self, slot: u32) -> Option<Entry> {
        let entry = self.entries.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        let place = bucket(&entry.parts);
        if let Some(slots) = self.buckets.get_mut(&place) {
            slots.retain(|&other| other != slot);
            if slots.is_empty() {
                self.buckets.remove(&place);
            }
        }
        Some(entry)
    }

    fn tell(&mut self, slot: u32, kind: ChangeKind) {
        if let Some(entry) = self.get(slot) {
            let change = TemplateChange { key: entry.key, kind, template: entry.text.clone() };
            self.changes.push(change);
        }
    }

    /// Drops the least recently used.
    pub(super) fn drop_least_used(&mut self, count: usize) {
        let used = |slot: u32| self.get(slot).map(|entry| (entry.used, slot));
        let mut uses: Vec<(u64, u32)> = (0..self.entries.len() as u32).filter_map(used).collect();
        uses.sort_unstable();
        uses.truncate(count);
        for (_, slot) in uses {
            self.tell(slot, ChangeKind::Removed);
            self.take(slot);
        }
        self.count_afresh();
    }

    /// Forgets the words counted for templates that are gone.
    fn count_afresh(&mut self) {
        let entries = &self.entries;
        self.patterns.retain(|_, values| {
            values.retain(|&(_, slot)| entries.get(slot as usize).is_some_and(Option::is_some));
            !values.is_empty()
        });
        self.patterns_max = self.patterns_max.max(2 * self.patterns.len());
    }

    /// Whether the word says what happened, or is protected by the settings.
    fn is_protected(&self, word: &str) -> bool {
        const WORDS: [&str; 12] = [
            "on",
            "off",
            "up",
            "down",
            "true",
            "false",
            "success",
            "failure",
            "succeeded",
            "failed",
            "error",
            "ok",
        ];
        let lower = word.to_lowercase();
        WORDS.contains(&lower.as_str())
            || (lower.len() > 4 && (lower.ends_with("ed") || lower.ends_with("ing")))
            || self.limits.protected.contains(&lower)
    }

    pub(super) fn take_changes(&mut self) -> Vec<TemplateChange> {
        std::mem::take(&mut self.changes)
    }

    pub(super) fn take_moves(&mut self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.moves)
    }

    pub(super) fn list(&self) -> Vec<Template> {
        let template = |e: &Entry| Template { key: e.key, text: e.text.clone(), lines: e.lines };
        Template::in_order(self.entries.iter().flatten().map(template))
    }

    pub(super) fn bytes(&self) -> usize {
        let of_entry = |entry: &Entry| 200 + entry.parts.len() * 56 + 3 * entry.text.len();
        self.entries.iter().flatten().map(of_entry).sum::<usize>() + self.patterns.len() * 72
    }
}

fn bucket(parts: &[Part]) -> (usize, u64) {
    (parts.len(), parts.first().map_or(0, Part::hash))
}

/// Whether a template with variable parts as given says enough: at least half of it is constant, two parts at least,
/// and the first.
fn is_constant_enough(variable: impl Iterator<Item = bool>) -> bool {
    let (mut parts, mut constants, mut first) = (0, 0, false);
    for is_variable in variable {
        first |= parts == 0 && !is_variable;
        parts += 1;
        constants += usize::from(!is_variable);
    }
    first && constants >= 2 && 2 * constants >= parts
}

fn hash_of(hashes: &[u64], place: usize) -> u64 {
    let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
    XxHash3_64::oneshot_with_seed(place as u64, &bytes)
}

fn short(gap: &str) -> Box<str> {
    let mut end = gap.len().min(GAP_MAX);
    while !gap.is_char_boundary(end) {
        end -= 1;
    }
    // A template has as many wildcards as parameters.
    gap[..end].replace(WILDCARD, "*").into()
}
