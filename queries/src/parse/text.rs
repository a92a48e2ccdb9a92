//! A text of SQL as tokens, each with its place in lines and in bytes.

use std::ops::Range;

use sqlparser::dialect::GenericDialect;
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

use crate::error::{Position, Result, SqlError};

/// Longest text, in bytes.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// A text and its tokens, white space and comments left out.
#[derive(Debug)]
pub(super) struct Text<'a> {
    sql: &'a str,
    pub(super) tokens: Vec<TokenWithSpan>,
    bytes: Vec<Range<usize>>,
    end: Position,
}

impl<'a> Text<'a> {
    pub(super) fn new(sql: &'a str) -> Result<Self> {
        if sql.len() > TEXT_BYTES_MAX {
            return Err(SqlError::query(format!(
                "text has {} bytes, over the limit of {TEXT_BYTES_MAX}",
                sql.len()
            ))
            .hint("split it into several calls"));
        }
        let tokens = Tokenizer::new(&GenericDialect {}, sql)
            .tokenize_with_location()
            .map_err(|e| SqlError::query(lower_first(&e.message)).at(position(e.location)))?;
        let mut place = Place { sql, byte: 0, line: 1, column: 1 };
        let mut kept = Vec::with_capacity(tokens.len());
        let mut bytes = Vec::with_capacity(tokens.len());
        for token in tokens {
            if matches!(token.token, Token::Whitespace(_) | Token::EOF) {
                continue;
            }
            let start = place.advance(token.span.start);
            let end = place.advance(token.span.end);
            bytes.push(start..end);
            kept.push(token);
        }
        let end = place.advance_to_end();
        Ok(Self { sql, tokens: kept, bytes, end })
    }

    /// Ranges of the tokens of each statement; empty statements are left out.
    pub(super) fn statements(&self) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        let mut start = 0;
        for (i, token) in self.tokens.iter().enumerate() {
            if token.token == Token::SemiColon {
                ranges.push(start..i);
                start = i + 1;
            }
        }
        ranges.push(start..self.tokens.len());
        ranges.retain(|range| !range.is_empty());
        ranges
    }

    /// The text from the first to the last token of a range.
    pub(super) fn slice(&self, range: Range<usize>) -> &'a str {
        let (Some(first), Some(last)) =
            (self.bytes.get(range.start), self.bytes.get(range.end.saturating_sub(1)))
        else {
            return "";
        };
        self.sql.get(first.start..last.end).unwrap_or_default()
    }

    /// Where a token stands, or where the text ends.
    pub(super) fn position(&self, index: usize) -> Position {
        self.tokens.get(index).and_then(|token| position(token.span)).unwrap_or(self.end)
    }
}

/// A place in a span or location, unless it is the empty one.
pub(crate) fn position(place: impl Into<PlaceOf>) -> Option<Position> {
    let PlaceOf(location) = place.into();
    (location.line > 0).then_some(Position { line: location.line, column: location.column })
}

/// Where something starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlaceOf(Location);

impl From<Location> for PlaceOf {
    fn from(location: Location) -> Self {
        Self(location)
    }
}

impl From<Span> for PlaceOf {
    fn from(span: Span) -> Self {
        Self(span.start)
    }
}

/// Starts a message in lower case.
pub(super) fn lower_first(message: &str) -> String {
    let mut letters = message.chars();
    let first = letters.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// Walks a text once, so that all places are found in time linear in its length.
struct Place<'a> {
    sql: &'a str,
    byte: usize,
    line: u64,
    column: u64,
}

impl Place<'_> {
    fn advance(&mut self, to: Location) -> usize {
        while (self.line, self.column) < (to.line, to.column) && self.step() {}
        self.byte
    }

    fn advance_to_end(&mut self) -> Position {
        while self.step() {}
        Position { line: self.line, column: self.column }
    }

    fn step(&mut self) -> bool {
        let Some(letter) = self.sql.get(self.byte..).and_then(|rest| rest.chars().next()) else {
            return false;
        };
        self.byte += letter.len_utf8();
        if letter == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        true
    }
}
