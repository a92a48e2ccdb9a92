//! What of a Drain parser survives a restart: its templates as text, each with its way down the tree.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Drain, Node, Word, Words};
use crate::error::Result;
use crate::model::snapshot;

const KIND: &str = "log parser drain";

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    next_key: u64,
    clock: u64,
    /// Ordered by key, which is the order of their making.
    templates: Vec<Kept>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    key: u64,
    tokens: Vec<String>,
    paths: Vec<Vec<String>>,
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
        && state.templates.iter().all(|kept| {
            let fits = |path: &Vec<String>| path.len() <= kept.tokens.len();
            kept.used <= state.clock && !kept.tokens.is_empty() && kept.paths.iter().all(fits)
        });
    if fits {
        Ok(state)
    } else {
        Err(snapshot::problem(KIND, "holds templates that do not fit together"))
    }
}

impl Drain {
    pub(super) fn state(&self) -> State {
        let texts = |words: &[Word]| -> Vec<String> {
            words.iter().map(|&word| self.words.text(word).into()).collect()
        };
        let mut templates: Vec<Kept> = self
            .entries
            .iter()
            .flatten()
            .map(|entry| Kept {
                key: entry.key,
                tokens: texts(&entry.tokens),
                paths: entry.paths.iter().map(|path| texts(path)).collect(),
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
        self.nodes = vec![Node::default()];
        self.branches.clear();
        self.entries.clear();
        self.free.clear();
        self.live = 0;
        self.next_key = state.next_key;
        self.clock = state.clock;
        for kept in state.templates {
            let mut numbers = |texts: &[String]| -> Vec<Word> {
                texts.iter().map(|text| self.words.number(text)).collect()
            };
            let tokens = numbers(&kept.tokens);
            let paths = kept.paths.iter().map(|path| numbers(path)).collect();
            self.add(kept.key, tokens, paths, kept.lines, kept.used);
        }
    }
}
