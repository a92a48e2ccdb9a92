//! Signatures: the engine's own parser, for logs of which nothing is known.
//!
//! A line's [signature](scan) is its words in order, with a mark for each part that is variable by its looks. Lines of
//! equal signature have one key, which is found in one look-up. What varies without showing it (the name of a user) is
//! learned: a word becomes variable
//!
//! * once [`values_min`](SignatureSettings::values_min) different words have stood in its place, all else being equal
//!   ([`assigned_values_min`](SignatureSettings::assigned_values_min) after `=`, where a few fixed words are more usual); or
//! * when a line differs from a template only in that one of them has a variable part there; or
//! * when it is glued to a variable part (`LOCAL(0)`), and without it the line is known.
//!
//! A template keeps at least half of its parts constant, two at least, and its first. Words that say what happened (`on`,
//! `failed`, `Started`, `Pausing`) do not become variable, nor do those the settings name.
//!
//! What turns out to be one template goes on under its oldest key; the others are reported as merged into it. Keys of
//! earlier lines are not taken back.

pub(super) mod scan;
mod state;
mod templates;

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use self::scan::Scanner;
use self::templates::{Part as TemplatePart, Templates};
use super::json;
use super::line::{LogParser, ParsedLine, Template, TemplateChange};
use crate::error::Result;

/// Settings of [`Signature`].
#[derive(Clone, Debug)]
pub struct SignatureSettings {
    /// After how many different words a place is variable; at least 2.
    pub values_min: usize,
    /// The same for a place right after `=`.
    pub assigned_values_min: usize,
    /// Words that never become variable, beside those that say what happened.
    pub protected: Vec<String>,
    /// Most parts of a line; what comes after is one variable part.
    pub tokens_max: usize,
    /// Most templates; beyond it the least recently used go.
    pub templates_max: usize,
    /// Most signatures remembered; beyond it the least recently used go, and are worked out again when they come.
    pub signatures_max: usize,
}

impl Default for SignatureSettings {
    fn default() -> Self {
        Self {
            values_min: 3,
            assigned_values_min: 4,
            protected: Vec::new(),
            tokens_max: 128,
            templates_max: 10_000,
            signatures_max: 50_000,
        }
    }
}

/// The parser; see the head of this file.
///
/// # Examples
/// ```
/// use driftline_operators::logs::{LogParser, ParsedLine, Signature, SignatureSettings};
///
/// let mut parser = Signature::new(&SignatureSettings::default());
/// let mut line = ParsedLine::default();
/// for user in ["root", "news", "cyrus"] {
///     parser.parse(&format!("session opened for user {user} by (uid=0)"), &mut line);
/// }
/// assert_eq!((line.key, &*line.template), (1, "session opened for user <*> by (uid=<*>)"));
/// ```
#[derive(Clone, Debug)]
pub struct Signature {
    settings: SignatureSettings,
    scanner: Scanner,
    /// Places in `known`, by the hash of their bytes.
    by_bytes: HashTable<u32>,
    known: Vec<Option<Known>>,
    free: Vec<u32>,
    live: usize,
    known_bytes: usize,
    templates: Templates,
    clock: u64,
}

/// What a signature takes beside its bytes.
const KNOWN_BYTES: usize = 80;

/// A signature that has been worked out.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    bytes: Box<[u8]>,
    template: u32,
    /// A part that counts to its neighbour before it, in the template's count.
    folded: Option<u16>,
    used: u64,
}

impl Signature {
    /// A parser without templates.
    #[must_use]
    pub fn new(settings: &SignatureSettings) -> Self {
        Self {
            settings: settings.clone(),
            scanner: Scanner::default(),
            by_bytes: HashTable::new(),
            known: Vec::new(),
            free: Vec::new(),
            live: 0,
            known_bytes: 0,
            templates: Templates::new(settings),
            clock: 0,
        }
    }

    fn find(&self, hash: u64) -> Option<u32> {
        let bytes = self.scanner.signature.as_slice();
        let is_it = |&slot: &u32| {
            self.known[slot as usize].as_ref().is_some_and(|known| *known.bytes == *bytes)
        };
        self.by_bytes.find(hash, is_it).copied()
    }

    /// Works a signature out: finds its template or makes it one.
    fn learn(&mut self, hash: u64, text: &str) -> u32 {
        self.make_room();
        let (parts, tail) = Templates::read(&self.scanner, text);
        let mut folded = None;
        let template = match self.templates.find_equal_but_variable(&parts) {
            Some(template) => template,
            None => match self.without_glued(&parts) {
                Some((template, part)) => {
                    folded = Some(part);
                    template
                }
                None => self.templates.add(parts, tail, self.clock),
            },
        };
        // Templates that were merged lead to the one that goes on.
        for (from, to) in self.templates.take_moves() {
            for known in self.known.iter_mut().flatten().filter(|known| known.template == from) {
                known.template = to;
            }
        }
        let bytes = self.scanner.signature.clone().into_boxed_slice();
        self.remember(hash, Known { bytes, template, folded, used: self.clock })
    }

    /// The template of the line without a word that is glued to a variable part. Returns the part to be folded into the
    /// one before it.
    fn without_glued(&self, parts: &[TemplatePart]) -> Option<(u32, u16)> {
        for place in 1..parts.len() {
            if parts[place].is_variable {
                continue;
            }
            let glued_after = parts
                .get(place + 1)
                .is_some_and(|next| next.is_variable && next.is_glued && !next.is_value);
            let here = &parts[place];
            let glued_before = parts[place - 1].is_variable && here.is_glued && !here.is_value;
            if !(glued_after || glued_before) {
                continue;
            }
            let mut rest = parts.to_vec();
            rest.remove(place);
            if let Some(template) = self.templates.find_equal(&rest) {
                let fold = if glued_after { place + 1 } else { place };
                return Some((template, fold as u16));
            }
        }
        None
    }

    fn remember(&mut self, hash: u64, known: Known) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.known.push(None);
            self.known.len() as u32 - 1
        });
        self.known_bytes += known.bytes.len() + KNOWN_BYTES;
        self.known[slot as usize] = Some(known);
        self.live += 1;
        let all = &self.known;
        let rehash = |&slot: &u32| {
            all[slot as usize].as_ref().map_or(0, |known| XxHash3_64::oneshot(&known.bytes))
        };
        self.by_bytes.insert_unique(hash, slot, rehash);
        slot
    }

    /// Drops the least recently used eighth of signatures or templates, once there are too many.
    fn make_room(&mut self) {
        if self.templates.len() >= self.settings.templates_max.max(1) {
            self.templates.drop_least_used((self.templates.len() / 8).max(1));
            let templates = std::mem::take(&mut self.templates);
            self.forget(|known| !templates.holds(known.template));
            self.templates = templates;
        }
        if self.live >= self.settings.signatures_max.max(1) {
            let mut uses: Vec<u64> = self.known.iter().flatten().map(|known| known.used).collect();
            let oldest = (uses.len() / 8).max(1) - 1;
            let (_, &mut bound, _) = uses.select_nth_unstable(oldest);
            self.forget(|known| known.used <= bound);
        }
    }

    fn forget(&mut self, is_gone: impl Fn(&Known) -> bool) {
        for (slot, known) in self.known.iter_mut().enumerate() {
            if let Some(gone) = known.take_if(|known| is_gone(known)) {
                self.known_bytes -= gone.bytes.len() + KNOWN_BYTES;
                self.free.push(slot as u32);
                self.live -= 1;
            }
        }
        let known = &self.known;
        self.by_bytes.retain(|&mut slot| known[slot as usize].is_some());
    }
}

impl LogParser for Signature {
    fn parse(&mut self, message: &str, line: &mut ParsedLine) {
        json::flatten(message, &mut line.flattened);
        let text = if line.flattened.is_empty() { message } else { line.flattened.as_str() };
        self.clock += 1;
        self.scanner.scan(text, self.settings.tokens_max.max(1));
        let hash = XxHash3_64::oneshot(&self.scanner.signature);
        let slot = match self.find(hash) {
            Some(slot) => slot,
            None => self.learn(hash, text),
        };
        line.parameters.clear();
        let Some(known) = &mut self.known[slot as usize] else { return };
        known.used = self.clock;
        let Some(template) = self.templates.touch(known.template, self.clock) else { return };
        line.key = template.key;
        line.template = template.text.clone();
        let mut place = 0;
        for (index, part) in self.scanner.parts.iter().enumerate() {
            if known.folded == Some(index as u16) {
                if let Some(last) = line.parameters.last_mut() {
                    last.end = part.span.end;
                }
                continue;
            }
            if template.is_variable(place) {
                line.parameters.push(part.span);
            }
            place += 1;
        }
    }

    fn take_changes(&mut self) -> Vec<TemplateChange> {
        self.templates.take_changes()
    }

    fn templates(&self) -> Vec<Template> {
        self.templates.list()
    }

    fn bytes(&self) -> usize {
        self.known_bytes + self.templates.bytes()
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        state::seal(self)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<()> {
        *self = state::open(self, snapshot)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
