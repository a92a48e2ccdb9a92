//! Spell: templates as longest common subsequences, learned line by line (Du and Li, ICDM 2016; SP-01 to SP-11).
//!
//! A line is looked for in three steps, each slower than the one before:
//!
//! 1. **Prefix tree** (SP-04): the line's constant tokens are walked down; a template with at least `tau` times as many
//!    constants as the line has is the answer.
//! 2. **Simple loop** (SP-05): a template of at least half the line's length whose constants all stand in the line, in
//!    order. The oldest wins.
//! 3. **Longest common subsequence** (SP-03): the template that shares the longest one with the line, if it is at least
//!    `tau` times the line's length; of equals the shorter template, then the older. An inverted index leaves out
//!    templates that share fewer tokens than that (SP-06).
//!
//! The first two may take a template that says less of the line than another. Without them and the index
//! ([`prefilters`](SpellSettings::prefilters)) every template is compared, as Spell is defined. On Loghub's sixteen samples
//! with the published settings, 293 of 32,000 lines are then grouped otherwise, 158 of them in one sample.
//!
//! A match that says not all of the line is refined (SP-07): a gap of either becomes a wildcard, adjacent ones become
//! one. Templates that have become equal are merged into the older (SP-08).

pub(super) mod align;
mod state;
mod tree;

use std::sync::Arc;

use self::align::{Aligner, is_subsequence, runs};
use self::tree::{PrefixTree, Slot};
use super::json;
use super::line::{ChangeKind, LogParser, ParsedLine, Span, Template, TemplateChange};
use super::mask::Tokenizer;
use super::words::{UNKNOWN, WILD, Word, Words};
use crate::error::Result;

/// Settings of [`Spell`].
#[derive(Clone, Debug)]
pub struct SpellSettings {
    /// What share of a line's tokens a template must hold in common with it, above 0 up to 1.
    pub tau: f64,
    /// Regular expressions whose matches are variable.
    pub masks: Vec<String>,
    /// Characters that end a token, beside white space.
    pub delimiters: String,
    /// Words that never become variable.
    pub protected: Vec<String>,
    /// Whether prefix tree, simple loop and inverted index come before the longest common subsequence; else it is worked
    /// out with every template.
    pub prefilters: bool,
    /// Most tokens of a line; what comes after is one variable part.
    pub tokens_max: usize,
    /// Most templates; beyond it the least recently used go.
    pub templates_max: usize,
}

impl Default for SpellSettings {
    fn default() -> Self {
        Self {
            tau: 0.5,
            masks: Vec::new(),
            delimiters: "=:,".into(),
            protected: Vec::new(),
            prefilters: true,
            tokens_max: 128,
            templates_max: 10_000,
        }
    }
}

/// The parser; see the head of this file.
///
/// # Examples
/// ```
/// use driftline_operators::logs::{LogParser, ParsedLine, Spell, SpellSettings};
///
/// let mut spell = Spell::new(&SpellSettings::default())?;
/// let mut line = ParsedLine::default();
/// spell.parse("Deletion of file1 complete", &mut line);
/// spell.parse("Deletion of file2 complete", &mut line);
/// assert_eq!((line.key, &*line.template), (1, "Deletion of <*> complete"));
/// assert_eq!(line.parameters[0].of("Deletion of file2 complete"), "file2");
/// # Ok::<(), driftline_operators::error::OperatorError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Spell {
    settings: SpellSettings,
    tokenizer: Tokenizer,
    words: Words,
    protected: Vec<Word>,
    entries: Vec<Option<Entry>>,
    free: Vec<Slot>,
    live: usize,
    tree: PrefixTree,
    /// By word: templates that hold it, unordered.
    index: Vec<Vec<Slot>>,
    next_key: u64,
    clock: u64,
    changes: Vec<TemplateChange>,
    line: Line,
    aligner: Aligner,
    runs: Vec<(usize, usize)>,
}

/// The tokens of the line at hand.
#[derive(Clone, Debug, Default)]
struct Line {
    tokens: Vec<Word>,
    constants: Vec<Word>,
    protected: Vec<Word>,
    /// By slot: how many of the line's tokens the template holds.
    shared: Vec<u32>,
    touched: Vec<Slot>,
}

/// A template.
#[derive(Clone, Debug)]
struct Entry {
    key: u64,
    tokens: Vec<Word>,
    constants: Vec<Word>,
    text: Arc<str>,
    lines: u64,
    used: u64,
}

impl Spell {
    /// A parser without templates.
    ///
    /// # Errors
    /// If a mask is no regular expression.
    pub fn new(settings: &SpellSettings) -> Result<Self> {
        let mut words = Words::new();
        let protected = settings.protected.iter().map(|word| words.number(word)).collect();
        Ok(Self {
            tokenizer: Tokenizer::new(&settings.masks, &settings.delimiters, settings.tokens_max)?,
            settings: settings.clone(),
            words,
            protected,
            entries: Vec::new(),
            free: Vec::new(),
            live: 0,
            tree: PrefixTree::new(),
            index: Vec::new(),
            next_key: 1,
            clock: 0,
            changes: Vec::new(),
            line: Line::default(),
            aligner: Aligner::default(),
            runs: Vec::new(),
        })
    }

    fn read(&mut self, text: &str) {
        self.tokenizer.read(text);
        let line = &mut self.line;
        line.tokens.clear();
        line.tokens
            .extend((0..self.tokenizer.len()).map(|i| self.words.find(self.tokenizer.text(i))));
        line.constants.clear();
        line.constants.extend(line.tokens.iter().copied().filter(|&word| word != WILD));
        line.protected.clear();
        let kept = line.constants.iter().copied().filter(|word| self.protected.contains(word));
        line.protected.extend(kept);
    }

    fn find(&mut self) -> Option<Slot> {
        let share = |count: usize| (self.settings.tau * count as f64).ceil() as usize;
        let constants = &self.line.constants;
        if self.settings.prefilters
            && !constants.is_empty()
            && let Some(slot) = self.tree.walk(constants, share(constants.len()).max(1))
            && self.keeps_protected(slot)
        {
            return Some(slot);
        }
        let least = share(self.line.tokens.len());
        let found = if self.settings.prefilters {
            self.count_shared();
            self.loop_through().or_else(|| self.longest(least))
        } else {
            self.share_all();
            self.longest(least)
        };
        for &slot in &self.line.touched {
            self.line.shared[slot as usize] = 0;
        }
        self.line.touched.clear();
        found
    }

    /// Which templates hold how many of the line's tokens.
    fn count_shared(&mut self) {
        let line = &mut self.line;
        line.shared.resize(self.entries.len(), 0);
        for &word in line.tokens.iter().filter(|&&word| word != UNKNOWN) {
            for &slot in self.index.get(word as usize).map_or(&[][..], Vec::as_slice) {
                let shared = &mut line.shared[slot as usize];
                if *shared == 0 {
                    line.touched.push(slot);
                }
                *shared += 1;
            }
        }
        self.order_touched();
    }

    /// As if every template held all of the line's tokens, so that none is left out.
    fn share_all(&mut self) {
        let line = &mut self.line;
        line.shared.clear();
        line.shared.resize(self.entries.len(), line.tokens.len() as u32);
        let slots = 0..self.entries.len() as Slot;
        line.touched.extend(slots.filter(|&slot| self.entries[slot as usize].is_some()));
        self.order_touched();
    }

    /// The oldest first.
    fn order_touched(&mut self) {
        let entries = &self.entries;
        let key = |&slot: &Slot| entries[slot as usize].as_ref().map(|entry| entry.key);
        self.line.touched.sort_unstable_by_key(key);
    }

    fn loop_through(&self) -> Option<Slot> {
        let line = &self.line;
        let fits = |&slot: &Slot| {
            let Some(entry) = &self.entries[slot as usize] else { return false };
            2 * entry.tokens.len() >= line.constants.len()
                && (!entry.constants.is_empty() || line.constants.is_empty())
                && line.shared[slot as usize] as usize >= entry.constants.len()
                && is_subsequence(&entry.constants, &line.constants)
                && self.keeps_protected(slot)
        };
        line.touched.iter().copied().find(fits)
    }

    fn longest(&mut self, least: usize) -> Option<Slot> {
        let mut best: Option<(usize, usize, Slot)> = None;
        for place in 0..self.line.touched.len() {
            let slot = self.line.touched[place];
            let shared = self.line.shared[slot as usize] as usize;
            if shared < least.max(1) || best.is_some_and(|(length, ..)| shared < length) {
                continue;
            }
            let Some(entry) = &self.entries[slot as usize] else { continue };
            let length = self.aligner.length(&self.line.tokens, &entry.tokens);
            let size = entry.tokens.len();
            let wins = best.is_none_or(|(most, shortest, _)| {
                length > most || (length == most && size < shortest)
            });
            if length >= least && wins && self.keeps_protected(slot) {
                best = Some((length, size, slot));
            }
        }
        best.map(|(_, _, slot)| slot)
    }

    /// Whether no protected word would become variable.
    fn keeps_protected(&self, slot: Slot) -> bool {
        if self.protected.is_empty() {
            return true;
        }
        let Some(entry) = &self.entries[slot as usize] else { return false };
        let of_entry = entry.constants.iter().filter(|word| self.protected.contains(word));
        of_entry.eq(&self.line.protected)
    }

    /// Adds the line as a template of its own.
    fn create(&mut self) -> Slot {
        for i in 0..self.line.tokens.len() {
            let text = self.tokenizer.text(i);
            let word = self.words.number(text);
            // A gap in the masked line is one wildcard, as in a refined template.
            self.line.tokens[i] = word;
        }
        let mut tokens = self.line.tokens.clone();
        tokens.dedup_by(|next, before| *next == WILD && *before == WILD);
        let key = self.next_key;
        self.next_key += 1;
        let slot = self.add(key, tokens, 0, self.clock);
        self.tell(slot, ChangeKind::Created);
        slot
    }

    fn add(&mut self, key: u64, tokens: Vec<Word>, lines: u64, used: u64) -> Slot {
        let text = Arc::from(self.words.join(&tokens));
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() as Slot - 1
        });
        self.live += 1;
        self.entries[slot as usize] =
            Some(Entry { key, tokens: Vec::new(), constants: Vec::new(), text, lines, used });
        self.place(slot, tokens);
        slot
    }

    /// Gives a template its tokens, in the tree and in the index.
    fn place(&mut self, slot: Slot, tokens: Vec<Word>) {
        self.index.resize(self.words.len(), Vec::new());
        let Some(entry) = &mut self.entries[slot as usize] else { return };
        if !entry.tokens.is_empty() {
            self.tree.remove(&entry.constants, entry.key);
            for &word in &entry.tokens {
                self.index[word as usize].retain(|&other| other != slot);
            }
        }
        entry.constants = tokens.iter().copied().filter(|&word| word != WILD).collect();
        entry.tokens = tokens;
        if !entry.tokens.is_empty() {
            self.tree.insert(&entry.constants, entry.key, slot);
            for &word in &entry.tokens {
                let slots = &mut self.index[word as usize];
                if slots.last() != Some(&slot) {
                    slots.push(slot);
                }
            }
        }
    }

    /// Makes a template say all of the line, and merges it with one that is equal now. The answer is where it lives.
    fn refine(&mut self, slot: Slot) -> Slot {
        let Some(entry) = &self.entries[slot as usize] else { return slot };
        let tokens = self.aligner.refine(&self.line.tokens, &entry.tokens);
        let constants: Vec<Word> = tokens.iter().copied().filter(|&word| word != WILD).collect();
        let equal = self.tree.ends(&constants).iter().copied().find(|&(_, other)| {
            other != slot
                && self.entries[other as usize].as_ref().is_some_and(|e| e.tokens == tokens)
        });
        let Some((_, other)) = equal else {
            let text = Arc::from(self.words.join(&tokens));
            self.place(slot, tokens);
            if let Some(entry) = &mut self.entries[slot as usize] {
                entry.text = text;
            }
            self.tell(slot, ChangeKind::Changed);
            return slot;
        };
        let key = |slot: Slot| self.entries[slot as usize].as_ref().map_or(u64::MAX, |e| e.key);
        let (older, younger) = if key(slot) < key(other) { (slot, other) } else { (other, slot) };
        let into = key(older);
        self.tell(younger, ChangeKind::Merged { into });
        let lines = self.drop_entry(younger).map_or(0, |entry| entry.lines);
        if let Some(entry) = &mut self.entries[older as usize] {
            entry.lines += lines;
            entry.text = Arc::from(self.words.join(&tokens));
        }
        if older == slot {
            self.place(older, tokens);
            self.tell(older, ChangeKind::Changed);
        }
        older
    }

    /// The texts of the template's wildcards, given the runs of tokens that they stand for.
    fn write_parameters(&self, slot: Slot, out: &mut Vec<Span>) {
        let Some(entry) = &self.entries[slot as usize] else { return };
        let (mut runs, mut at) = (self.runs.iter(), 0);
        for &word in &entry.tokens {
            if word == WILD {
                let Some(&(first, end)) = runs.next() else { return };
                out.push(self.tokenizer.source_of(first, end));
                at = end;
            } else {
                if self.words.is_partly_wild(word) {
                    out.extend(self.tokenizer.masked_in(at));
                }
                at += 1;
            }
        }
    }

    fn drop_entry(&mut self, slot: Slot) -> Option<Entry> {
        self.place(slot, Vec::new());
        let entry = self.entries[slot as usize].take();
        if entry.is_some() {
            self.free.push(slot);
            self.live -= 1;
        }
        entry
    }

    fn tell(&mut self, slot: Slot, kind: ChangeKind) {
        if let Some(entry) = &self.entries[slot as usize] {
            let template = entry.text.clone();
            self.changes.push(TemplateChange { key: entry.key, kind, template });
        }
    }

    /// Drops the least recently used eighth, once there are too many; words that no template holds go with them.
    fn make_room(&mut self) {
        if self.live < self.settings.templates_max.max(1) {
            return;
        }
        let mut by_use: Vec<(u64, Slot)> = (0..self.entries.len() as Slot)
            .filter_map(|slot| Some((self.entries[slot as usize].as_ref()?.used, slot)))
            .collect();
        by_use.sort_unstable();
        by_use.truncate((self.live / 8).max(1));
        for (_, slot) in by_use {
            self.tell(slot, ChangeKind::Removed);
            self.drop_entry(slot);
        }
    }

    /// Numbers words afresh once most of them are of templates that have changed or gone.
    fn tidy_words(&mut self) {
        let held: usize = self.entries.iter().flatten().map(|entry| entry.tokens.len()).sum();
        if self.words.len() > 4096.max(4 * held) {
            let state = self.state();
            self.take_up(state);
        }
    }
}

impl LogParser for Spell {
    fn parse(&mut self, message: &str, line: &mut ParsedLine) {
        json::flatten(message, &mut line.flattened);
        let text = if line.flattened.is_empty() { message } else { line.flattened.as_str() };
        self.clock += 1;
        self.read(text);
        let mut slot = match self.find() {
            Some(slot) => slot,
            None => {
                self.make_room();
                self.tidy_words();
                self.create()
            }
        };
        let says_all = self.entries[slot as usize]
            .as_ref()
            .is_some_and(|entry| runs(&entry.tokens, &self.line.tokens, &mut self.runs));
        if !says_all {
            slot = self.refine(slot);
            if let Some(entry) = &self.entries[slot as usize] {
                runs(&entry.tokens, &self.line.tokens, &mut self.runs);
            }
        }
        line.parameters.clear();
        self.write_parameters(slot, &mut line.parameters);
        if let Some(entry) = &mut self.entries[slot as usize] {
            entry.lines += 1;
            entry.used = self.clock;
            line.key = entry.key;
            line.template = entry.text.clone();
        }
    }

    fn take_changes(&mut self) -> Vec<TemplateChange> {
        std::mem::take(&mut self.changes)
    }

    fn templates(&self) -> Vec<Template> {
        let template = |e: &Entry| Template { key: e.key, text: e.text.clone(), lines: e.lines };
        Template::in_order(self.entries.iter().flatten().map(template))
    }

    fn bytes(&self) -> usize {
        let of_entry = |entry: &Entry| 160 + entry.tokens.len() * 40 + entry.text.len();
        self.words.bytes() + self.entries.iter().flatten().map(of_entry).sum::<usize>()
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        state::seal(&self.state())
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<()> {
        let state = state::open(snapshot)?;
        self.take_up(state);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
