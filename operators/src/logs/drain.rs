//! Drain: templates in the leaves of a tree of fixed depth (He, Zhu, Zheng and Lyu, ICWS 2017).
//!
//! A line goes down by its number of tokens, then by its first tokens: by the token itself where there is such a branch,
//! else by the branch for anything. In the leaf, the template that agrees in the largest share of tokens is taken if the
//! share is at least `similarity`; of equals the one with more wildcards, then the older. Tokens in which a template
//! and its line differ become wildcards. New branches are made for tokens without a digit, up to `children_max`.

mod state;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::json;
use super::line::{ChangeKind, LogParser, ParsedLine, Template, TemplateChange};
use super::mask::Tokenizer;
use super::words::{UNKNOWN, WILD, Word, Words};
use crate::error::Result;

/// Settings of [`Drain`].
#[derive(Clone, Debug)]
pub struct DrainSettings {
    /// What share of its tokens a template must have in common with a line, from 0 to 1.
    pub similarity: f64,
    /// Depth of the tree, its root and its leaves counted; at least 3. A line goes down by `depth - 3` of its tokens.
    pub depth: usize,
    /// Most branches of a node.
    pub children_max: usize,
    /// Regular expressions whose matches are variable.
    pub masks: Vec<String>,
    /// Characters that end a token, beside white space.
    pub delimiters: String,
    /// Words that never become variable.
    pub protected: Vec<String>,
    /// Most tokens of a line; what comes after is one variable part.
    pub tokens_max: usize,
    /// Most templates; beyond it the least recently used go.
    pub templates_max: usize,
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self {
            similarity: 0.4,
            depth: 4,
            children_max: 100,
            masks: Vec::new(),
            delimiters: String::new(),
            protected: Vec::new(),
            tokens_max: 128,
            templates_max: 10_000,
        }
    }
}

/// The parser; see the head of this file.
///
/// # Examples
/// ```
/// use driftline_operators::logs::{Drain, DrainSettings, LogParser, ParsedLine};
///
/// let mut drain = Drain::new(&DrainSettings::default())?;
/// let mut line = ParsedLine::default();
/// drain.parse("Took 0.61 seconds to deallocate network", &mut line);
/// drain.parse("Took 1.1 seconds to deallocate network", &mut line);
/// assert_eq!((line.key, &*line.template), (1, "Took <*> seconds to deallocate network"));
/// # Ok::<(), driftline_operators::error::OperatorError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Drain {
    settings: DrainSettings,
    tokenizer: Tokenizer,
    words: Words,
    protected: Vec<Word>,
    nodes: Vec<Node>,
    /// By node and branch. The first branch of a line is its number of tokens.
    branches: HashMap<(u32, Branch), u32, FixedState>,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    live: usize,
    next_key: u64,
    clock: u64,
    changes: Vec<TemplateChange>,
    line: Vec<Word>,
}

/// How well a template fits: common tokens; of equals more wildcards, then the older key.
type Rank = (usize, usize, Reverse<u64>);

/// What leads from a node to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Branch {
    Tokens(u32),
    Word(Word),
}

#[derive(Clone, Debug, Default)]
struct Node {
    branches: usize,
    /// Templates of a leaf.
    entries: Vec<u32>,
}

/// A template.
#[derive(Clone, Debug)]
struct Entry {
    key: u64,
    tokens: Vec<Word>,
    wildcards: usize,
    /// The branches taken when it was made, and those of templates merged into it.
    paths: Vec<Vec<Word>>,
    text: Arc<str>,
    lines: u64,
    used: u64,
}

const ROOT: u32 = 0;

impl Drain {
    /// A parser without templates.
    ///
    /// # Errors
    /// If a mask is no regular expression.
    pub fn new(settings: &DrainSettings) -> Result<Self> {
        let mut words = Words::new();
        let protected = settings.protected.iter().map(|word| words.number(word)).collect();
        Ok(Self {
            tokenizer: Tokenizer::new(&settings.masks, &settings.delimiters, settings.tokens_max)?,
            settings: settings.clone(),
            words,
            protected,
            nodes: vec![Node::default()],
            branches: HashMap::with_hasher(FixedState::with_seed(9)),
            entries: Vec::new(),
            free: Vec::new(),
            live: 0,
            next_key: 1,
            clock: 0,
            changes: Vec::new(),
            line: Vec::new(),
        })
    }

    /// How many tokens of a line of this many choose its leaf.
    fn steps(&self, tokens: usize) -> usize {
        self.settings.depth.saturating_sub(3).min(tokens)
    }

    fn find(&self) -> Option<u32> {
        let first = Branch::Tokens(self.line.len() as u32);
        let mut at = *self.branches.get(&(ROOT, first))?;
        for &word in &self.line[..self.steps(self.line.len())] {
            let step = |word| self.branches.get(&(at, Branch::Word(word))).copied();
            at = step(word).filter(|_| word != UNKNOWN).or_else(|| step(WILD))?;
        }
        let mut best: Option<(Rank, u32)> = None;
        for &slot in &self.nodes[at as usize].entries {
            let Some(entry) = &self.entries[slot as usize] else { continue };
            let pairs = || entry.tokens.iter().zip(&self.line);
            let agree = |(a, b): &(&Word, &Word)| a == b && **a != WILD && **a != UNKNOWN;
            let same = pairs().filter(agree).count();
            let is_protected = |word: &Word| self.protected.contains(word);
            if pairs().any(|(a, b)| a != b && (is_protected(a) || is_protected(b))) {
                continue;
            }
            let rank = (same, entry.wildcards, Reverse(entry.key));
            if best.is_none_or(|(most, _)| rank > most) {
                best = Some((rank, slot));
            }
        }
        let ((same, ..), slot) = best?;
        let share = same as f64 / self.line.len().max(1) as f64;
        (share >= self.settings.similarity).then_some(slot)
    }

    /// The branches for a new template, which are made where there are none.
    fn path(&mut self) -> Vec<Word> {
        let mut path = Vec::new();
        let mut at = self.branch(ROOT, Branch::Tokens(self.line.len() as u32));
        for i in 0..self.steps(self.line.len()) {
            let word = self.line[i];
            let has = |word| self.branches.contains_key(&(at, Branch::Word(word)));
            let count = self.nodes[at as usize].branches;
            let has_digit = self.words.text(word).bytes().any(|b| b.is_ascii_digit());
            // The last place is kept for the branch of anything.
            let room = count + usize::from(!has(WILD)) < self.settings.children_max;
            let step = if has(word) || (!has_digit && room) { word } else { WILD };
            at = self.branch(at, Branch::Word(step));
            path.push(step);
        }
        path
    }

    fn branch(&mut self, at: u32, branch: Branch) -> u32 {
        if let Some(&child) = self.branches.get(&(at, branch)) {
            return child;
        }
        let child = self.nodes.len() as u32;
        self.nodes.push(Node::default());
        self.nodes[at as usize].branches += 1;
        self.branches.insert((at, branch), child);
        child
    }

    /// The end of a way down, which is made where there is none.
    fn leaf(&mut self, tokens: usize, path: &[Word]) -> u32 {
        let root = self.branch(ROOT, Branch::Tokens(tokens as u32));
        path.iter().fold(root, |at, &step| self.branch(at, Branch::Word(step)))
    }

    fn create(&mut self) -> u32 {
        for i in 0..self.line.len() {
            self.line[i] = self.words.number(self.tokenizer.text(i));
        }
        let path = self.path();
        let key = self.next_key;
        self.next_key += 1;
        let slot = self.add(key, self.line.clone(), vec![path], 0, self.clock);
        self.tell(slot, ChangeKind::Created);
        slot
    }

    fn add(
        &mut self,
        key: u64,
        tokens: Vec<Word>,
        paths: Vec<Vec<Word>>,
        lines: u64,
        used: u64,
    ) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() as u32 - 1
        });
        for path in &paths {
            let leaf = self.leaf(tokens.len(), path);
            self.nodes[leaf as usize].entries.push(slot);
        }
        let text = Arc::from(self.words.join(&tokens));
        let wildcards = tokens.iter().filter(|&&word| word == WILD).count();
        self.entries[slot as usize] =
            Some(Entry { key, tokens, wildcards, paths, text, lines, used });
        self.live += 1;
        slot
    }

    fn tell(&mut self, slot: u32, kind: ChangeKind) {
        if let Some(entry) = &self.entries[slot as usize] {
            let template = entry.text.clone();
            self.changes.push(TemplateChange { key: entry.key, kind, template });
        }
    }

    /// Makes wildcards of tokens in which the template and the line differ, and merges the template with one that is
    /// equal now. The answer is where it lives.
    fn refine(&mut self, slot: u32) -> u32 {
        let Some(entry) = &mut self.entries[slot as usize] else { return slot };
        let mut changed = false;
        for (word, &other) in entry.tokens.iter_mut().zip(&self.line) {
            if *word != WILD && *word != other {
                *word = WILD;
                entry.wildcards += 1;
                changed = true;
            }
        }
        if !changed {
            return slot;
        }
        entry.text = Arc::from(self.words.join(&entry.tokens));
        let (key, tokens) = (entry.key, entry.tokens.clone());
        self.tell(slot, ChangeKind::Changed);
        let equal = |(other, entry): (usize, &Option<Entry>)| {
            let entry = entry.as_ref().filter(|e| e.key != key && e.tokens == tokens)?;
            Some((entry.key, other as u32))
        };
        let Some((other_key, other)) = self.entries.iter().enumerate().find_map(equal) else {
            return slot;
        };
        let (older, younger) = if key < other_key { (slot, other) } else { (other, slot) };
        self.tell(younger, ChangeKind::Merged { into: key.min(other_key) });
        let Some(gone) = self.entries[younger as usize].take() else { return older };
        self.free.push(younger);
        self.live -= 1;
        for path in gone.paths {
            let leaf = self.leaf(tokens.len(), &path) as usize;
            self.nodes[leaf].entries.retain(|&held| held != younger);
            if let Some(entry) = &mut self.entries[older as usize]
                && !entry.paths.contains(&path)
            {
                self.nodes[leaf].entries.push(older);
                entry.paths.push(path);
            }
        }
        if let Some(entry) = &mut self.entries[older as usize] {
            entry.lines += gone.lines;
        }
        older
    }

    /// Drops the least recently used eighth, once there are too many. The tree is grown again from what is left.
    fn make_room(&mut self) {
        if self.live < self.settings.templates_max.max(1) {
            return;
        }
        let mut by_use: Vec<(u64, u32)> = (0..self.entries.len() as u32)
            .filter_map(|slot| Some((self.entries[slot as usize].as_ref()?.used, slot)))
            .collect();
        by_use.sort_unstable();
        by_use.truncate((self.live / 8).max(1));
        for (_, slot) in by_use {
            self.tell(slot, ChangeKind::Removed);
            self.entries[slot as usize] = None;
        }
        let state = self.state();
        self.take_up(state);
    }
}

impl LogParser for Drain {
    fn parse(&mut self, message: &str, line: &mut ParsedLine) {
        json::flatten(message, &mut line.flattened);
        let text = if line.flattened.is_empty() { message } else { line.flattened.as_str() };
        self.clock += 1;
        self.tokenizer.read(text);
        self.line.clear();
        self.line
            .extend((0..self.tokenizer.len()).map(|i| self.words.find(self.tokenizer.text(i))));
        let slot = match self.find() {
            Some(slot) => self.refine(slot),
            None => {
                self.make_room();
                self.create()
            }
        };
        line.parameters.clear();
        let Some(entry) = &mut self.entries[slot as usize] else { return };
        for (index, &word) in entry.tokens.iter().enumerate() {
            if word == WILD {
                line.parameters.push(self.tokenizer.source(index));
            } else if self.words.is_partly_wild(word) {
                line.parameters.extend(self.tokenizer.masked_in(index));
            }
        }
        entry.lines += 1;
        entry.used = self.clock;
        line.key = entry.key;
        line.template = entry.text.clone();
    }

    fn take_changes(&mut self) -> Vec<TemplateChange> {
        std::mem::take(&mut self.changes)
    }

    fn templates(&self) -> Vec<Template> {
        let template = |e: &Entry| Template { key: e.key, text: e.text.clone(), lines: e.lines };
        Template::in_order(self.entries.iter().flatten().map(template))
    }

    fn bytes(&self) -> usize {
        let of_entry = |entry: &Entry| 160 + entry.tokens.len() * 8 + entry.text.len();
        let entries: usize = self.entries.iter().flatten().map(of_entry).sum();
        self.words.bytes() + entries + self.nodes.len() * 64
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
