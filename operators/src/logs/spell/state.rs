//! What of a Spell parser survives a restart: its templates as text. Tree, index and numbers of words follow from them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::tree::PrefixTree;
use super::{Spell, Word, Words};
use crate::error::Result;
use crate::model::snapshot;

const KIND: &str = "log parser spell";

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    next_key: u64,
    clock: u64,
    /// Ordered by key.
    templates: Vec<Kept>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    key: u64,
    tokens: Vec<String>,
    lines: u64,
    used: u64,
}

pub(super) fn seal(state: &State) -> Result<Vec<u8>> {
    snapshot::seal(KIND, state)
}

/// Opens and checks.
pub(super) fn open(bytes: &[u8]) -> Result<State> {
    let state: State = snapshot::open(KIND, bytes)?;
    let keys: BTreeSet<u64> = state.templates.iter().map(|kept| kept.key).collect();
    let fits = keys.len() == state.templates.len()
        && keys.first().is_none_or(|&first| first > 0)
        && keys.last().is_none_or(|&last| last < state.next_key)
        && state.next_key > 0
        && state.templates.iter().all(|kept| kept.used <= state.clock);
    if fits {
        Ok(state)
    } else {
        Err(snapshot::problem(KIND, "holds templates that do not fit together"))
    }
}

impl Spell {
    pub(super) fn state(&self) -> State {
        let mut templates: Vec<Kept> = self
            .entries
            .iter()
            .flatten()
            .map(|entry| Kept {
                key: entry.key,
                tokens: entry.tokens.iter().map(|&word| self.words.text(word).into()).collect(),
                lines: entry.lines,
                used: entry.used,
            })
            .collect();
        templates.sort_unstable_by_key(|kept| kept.key);
        State { next_key: self.next_key, clock: self.clock, templates }
    }

    pub(super) fn take_up(&mut self, state: State) {
        self.words = Words::new();
        let protected = &self.settings.protected;
        self.protected = protected.iter().map(|word| self.words.number(word)).collect();
        self.entries.clear();
        self.free.clear();
        self.live = 0;
        self.tree = PrefixTree::new();
        self.index.clear();
        self.line = super::Line::default();
        self.next_key = state.next_key;
        self.clock = state.clock;
        for kept in state.templates {
            let tokens: Vec<Word> =
                kept.tokens.iter().map(|text| self.words.number(text)).collect();
            self.add(kept.key, tokens, kept.lines, kept.used);
        }
        // Words of the line at hand are looked up again by their new numbers.
        for i in 0..self.tokenizer.len() {
            let word = self.words.find(self.tokenizer.text(i));
            self.line.tokens.push(word);
        }
    }
}
