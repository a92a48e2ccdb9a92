//! Tokens of a message, after masks have replaced what is known to vary (SP-01).

use regex::Regex;

use super::line::{Span, WILDCARD};
use crate::error::{OperatorError, Result};

/// Replaces what matches by `<*>`, mask after mask, then cuts at white space and delimiters. There is always a token.
#[derive(Clone, Debug)]
pub(super) struct Tokenizer {
    masks: Vec<Regex>,
    delimiters: String,
    tokens_max: usize,
    masked: String,
    scratch: String,
    /// What masks have replaced, in order.
    regions: Vec<Region>,
    tokens: Vec<Token>,
}

/// A longer token is no word that somebody wrote: it is variable.
const TOKEN_BYTES_MAX: usize = 256;

/// Marks a token that is too long until there is a wildcard for it to name.
const TOO_LONG: Span = Span { start: u32::MAX, end: u32::MAX };

/// A replaced stretch: where `<*>` stands now, and what stood there.
#[derive(Clone, Copy, Debug)]
struct Region {
    masked: Span,
    source: Span,
}

/// A token: its text in the masked message, and where it comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    text: Span,
    pub(super) source: Span,
}

impl Tokenizer {
    pub(super) fn new(masks: &[String], delimiters: &str, tokens_max: usize) -> Result<Self> {
        let masks = masks.iter().map(|mask| compile(mask)).collect::<Result<_>>()?;
        Ok(Self {
            masks,
            delimiters: delimiters.into(),
            tokens_max: tokens_max.max(1),
            masked: String::new(),
            scratch: String::new(),
            regions: Vec::new(),
            tokens: Vec::new(),
        })
    }

    /// Reads a message. What comes after the last allowed token becomes one more variable part with it.
    pub(super) fn read(&mut self, message: &str) {
        self.masked.clear();
        self.masked.push_str(message);
        self.regions.clear();
        for index in 0..self.masks.len() {
            self.apply(index, message.len());
        }
        self.tokens.clear();
        let is_cut = |c: char| c.is_whitespace() || self.delimiters.contains(c);
        let (mut at, mut tail_needed) = (0, false);
        while at < self.masked.len() {
            let rest = &self.masked[at..];
            let length = rest.find(is_cut).unwrap_or(rest.len());
            if length > 0 {
                let start = self.source_start(at);
                if self.tokens.len() + 1 == self.tokens_max && !rest[length..].trim().is_empty() {
                    let source = Span::new(start, message.len());
                    let end = self.masked.len();
                    self.masked.push_str(WILDCARD);
                    let text = Span::new(end, self.masked.len());
                    self.tokens.push(Token { text, source });
                    break;
                }
                let source = Span::new(start, self.source_end(at + length, message.len()));
                let text = if length <= TOKEN_BYTES_MAX {
                    Span::new(at, at + length)
                } else {
                    tail_needed = true;
                    TOO_LONG
                };
                self.tokens.push(Token { text, source });
            }
            at += length;
            at += self.masked[at..].chars().next().map_or(0, char::len_utf8);
        }
        if tail_needed {
            let end = self.masked.len();
            self.masked.push_str(WILDCARD);
            let text = Span::new(end, self.masked.len());
            self.tokens.iter_mut().filter(|t| t.text == TOO_LONG).for_each(|t| t.text = text);
        }
        if self.tokens.is_empty() {
            // A line of nothing is one variable part, so that all such lines share a template.
            let end = self.masked.len();
            self.masked.push_str(WILDCARD);
            let text = Span::new(end, self.masked.len());
            self.tokens.push(Token { text, source: Span::new(0, message.len()) });
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn text(&self, index: usize) -> &str {
        self.tokens[index].text.of(&self.masked)
    }

    pub(super) fn source(&self, index: usize) -> Span {
        self.tokens[index].source
    }

    /// What masks have replaced within a token that is more than that: `/<*>` holds an address.
    pub(super) fn masked_in(&self, index: usize) -> impl Iterator<Item = Span> {
        let text = self.tokens[index].text;
        let first = self.regions.partition_point(|region| region.masked.start < text.start);
        let regions = self.regions[first..].iter();
        regions.take_while(move |region| region.masked.end <= text.end).map(|region| region.source)
    }

    /// From the first token of a run to its last; for an empty run, the place where it would be.
    pub(super) fn source_of(&self, first: usize, end: usize) -> Span {
        if first < end {
            let (first, last) = (self.tokens[first].source, self.tokens[end - 1].source);
            return Span { start: first.start, end: last.end.max(first.start) };
        }
        let at = match first.checked_sub(1) {
            Some(before) => self.tokens[before].source.end,
            None => self.tokens.first().map_or(0, |token| token.source.start),
        };
        Span { start: at, end: at }
    }

    fn apply(&mut self, index: usize, message_bytes: usize) {
        let mask = &self.masks[index];
        let mut matches = mask.find_iter(&self.masked).filter(|found| !found.is_empty()).peekable();
        if matches.peek().is_none() {
            return;
        }
        self.scratch.clear();
        let (mut regions, mut before, mut copied) = (Vec::new(), 0, 0);
        let keep = |upto: usize, copied: usize, at: usize, before: &mut usize| {
            let mut kept = Vec::new();
            while let Some(region) = self.regions.get(*before) {
                if region.masked.end as usize > upto {
                    break;
                }
                if region.masked.start as usize >= copied {
                    let moved = |offset: u32| at + (offset as usize - copied);
                    let masked = Span::new(moved(region.masked.start), moved(region.masked.end));
                    kept.push(Region { masked, source: region.source });
                }
                *before += 1;
            }
            kept
        };
        for found in matches {
            regions.extend(keep(found.start(), copied, self.scratch.len(), &mut before));
            self.scratch.push_str(&self.masked[copied..found.start()]);
            let start = self.scratch.len();
            self.scratch.push_str(WILDCARD);
            let source = Span::new(
                self.source_start(found.start()),
                self.source_end(found.end(), message_bytes),
            );
            regions.push(Region { masked: Span::new(start, self.scratch.len()), source });
            copied = found.end();
        }
        regions.extend(keep(self.masked.len(), copied, self.scratch.len(), &mut before));
        self.scratch.push_str(&self.masked[copied..]);
        std::mem::swap(&mut self.masked, &mut self.scratch);
        self.regions = regions;
    }

    /// Where a token that begins at `at` in the masked message begins in the message.
    fn source_start(&self, at: usize) -> usize {
        match self.region_before(at) {
            Some(region) if at < region.masked.end as usize => region.source.start as usize,
            Some(region) => region.source.end as usize + (at - region.masked.end as usize),
            None => at,
        }
    }

    /// Where a token that ends at `at` in the masked message ends in the message.
    fn source_end(&self, at: usize, message_bytes: usize) -> usize {
        let end = match self.region_before(at.saturating_sub(1)) {
            Some(region) if at <= region.masked.end as usize => region.source.end as usize,
            Some(region) => region.source.end as usize + (at - region.masked.end as usize),
            None => at,
        };
        end.min(message_bytes)
    }

    /// The last region that begins at or before `at`.
    fn region_before(&self, at: usize) -> Option<&Region> {
        let end = self.regions.partition_point(|region| region.masked.start as usize <= at);
        self.regions[..end].last()
    }
}

/// Compiles a mask.
pub(super) fn compile(mask: &str) -> Result<Regex> {
    Regex::new(mask).map_err(|error| OperatorError::Option {
        owner: "LOG_KEYS".into(),
        option: "masks".into(),
        problem: format!("holds '{mask}', which is no regular expression: {error}"),
        hint: "one regular expression a line; look-around and back-references are not known".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(masks: &[&str], message: &str) -> Vec<(String, String)> {
        let masks: Vec<String> = masks.iter().map(|&mask| mask.into()).collect();
        let mut tokenizer = Tokenizer::new(&masks, "=:,", 128).unwrap();
        tokenizer.read(message);
        let token = |i| (tokenizer.text(i).to_owned(), tokenizer.source(i).of(message).to_owned());
        (0..tokenizer.len()).map(token).collect()
    }

    #[test]
    fn tokens_know_where_they_come_from_whatever_masks_did() {
        let found = tokens(
            &[r"blk_-?\d+", r"(\d+\.){3}\d+(:\d+)?", r"\d+"],
            "Served block blk_-12 to /10.250.19.102:54106 size=42, ok",
        );
        let expected = [
            ("Served", "Served"),
            ("block", "block"),
            ("<*>", "blk_-12"),
            ("to", "to"),
            ("/<*>", "/10.250.19.102:54106"),
            ("size", "size"),
            ("<*>", "42"),
            ("ok", "ok"),
        ];
        let expected: Vec<_> = expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_mask_may_take_what_an_earlier_one_left() {
        let found = tokens(&[r"\d+", r"id-<\*>"], "see id-7 é id-8.");
        let texts: Vec<&str> = found.iter().map(|(text, _)| text.as_str()).collect();
        let sources: Vec<&str> = found.iter().map(|(_, source)| source.as_str()).collect();
        assert_eq!(texts, ["see", "<*>", "é", "<*>."]);
        assert_eq!(sources, ["see", "id-7", "é", "id-8."]);
    }

    #[test]
    fn a_mask_that_cuts_a_replaced_stretch_apart_harms_nobody() {
        for mask in [r"a<", r">b", r"\*", r"<", r""] {
            tokens(&["x+", mask], "axxxb é xx axb");
        }
    }

    #[test]
    fn what_lies_beyond_the_bound_is_one_part() {
        let mut tokenizer = Tokenizer::new(&[], "", 3).unwrap();
        for (message, expected) in [("a b c", ["a", "b", "c"]), ("a b c d e", ["a", "b", "<*>"])] {
            tokenizer.read(message);
            let texts: Vec<&str> = (0..tokenizer.len()).map(|i| tokenizer.text(i)).collect();
            assert_eq!(texts, expected);
        }
        assert_eq!(tokenizer.source(2).of("a b c d e"), "c d e");
    }
}
