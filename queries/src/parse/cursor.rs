//! Reads a statement's tokens one after another.

use std::ops::Range;

use sqlparser::ast::Ident;
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::text::Text;
use crate::error::{Position, Result, SqlError};
use crate::statement::Name;

/// A place in the tokens of one statement.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'t, 'a> {
    pub(super) text: &'t Text<'a>,
    pub(super) at: usize,
    pub(super) end: usize,
}

impl<'t, 'a> Cursor<'t, 'a> {
    pub(super) fn new(text: &'t Text<'a>, range: Range<usize>) -> Self {
        Self { text, at: range.start, end: range.end }
    }

    /// The token `ahead` tokens from here.
    pub(super) fn peek(&self, ahead: usize) -> Option<&'t Token> {
        let index = self.at.checked_add(ahead).filter(|index| *index < self.end)?;
        self.text.tokens.get(index).map(|token| &token.token)
    }

    pub(super) fn is_end(&self) -> bool {
        self.at >= self.end
    }

    /// Where the next token stands, or where the statement ends.
    pub(super) fn position(&self) -> Position {
        self.text.position(self.at)
    }

    pub(super) fn advance(&mut self) {
        self.at = (self.at + 1).min(self.end);
    }

    /// Whether the words ahead are these, unquoted and in any case.
    pub(super) fn is_words(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(
            |(i, word)| matches!(self.peek(i), Some(Token::Word(found)) if is_word(found, word)),
        )
    }

    /// Takes the words if they are next.
    pub(super) fn accept(&mut self, words: &[&str]) -> bool {
        let found = self.is_words(words);
        if found {
            self.at += words.len();
        }
        found
    }

    /// Takes the token if it is next.
    pub(super) fn accept_token(&mut self, token: &Token) -> bool {
        let found = self.peek(0) == Some(token);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn expect(&mut self, words: &[&str]) -> Result<()> {
        for word in words {
            if !self.accept(&[word]) {
                return Err(self.expected(word));
            }
        }
        Ok(())
    }

    pub(super) fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.accept_token(token) { Ok(()) } else { Err(self.expected(&format!("\"{token}\""))) }
    }

    pub(super) fn expect_end(&self) -> Result<()> {
        if self.is_end() { Ok(()) } else { Err(self.expected("the end of the statement")) }
    }

    /// What stands here instead of what should.
    pub(super) fn expected(&self, what: &str) -> SqlError {
        let found = self.peek(0).map_or_else(
            || "the end of the statement".to_owned(),
            |token| format!("\"{}\"", shorten(&token.to_string())),
        );
        SqlError::query(format!("expected {what}, found {found}")).at(self.position())
    }

    /// Takes a name.
    pub(super) fn name(&mut self, what: &str) -> Result<Name> {
        let position = self.position();
        match self.peek(0) {
            Some(Token::Word(word)) if is_plain_or_quoted(word) => {
                self.advance();
                Ok(Name { text: fold(&word.value, word.quote_style), position })
            }
            _ => Err(self.expected(what)),
        }
    }

    /// Takes the name of a relation, which has no parts.
    pub(super) fn relation_name(&mut self, what: &str) -> Result<Name> {
        let name = self.name(what)?;
        if self.peek(0) == Some(&Token::Period) {
            return Err(SqlError::unsupported(format!("{what} has a schema"))
                .at(self.position())
                .hint("names have one part; quote a name that has a dot"));
        }
        Ok(name)
    }

    /// Index of the first token from here that is not inside brackets and that `stop` accepts.
    pub(super) fn find(&self, stop: impl Fn(&Token) -> bool) -> usize {
        let mut depth = 0_usize;
        let mut ahead = 0;
        while let Some(token) = self.peek(ahead) {
            if depth == 0 && stop(token) {
                break;
            }
            match token {
                Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
                Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
                _ => {}
            }
            ahead += 1;
        }
        self.at + ahead
    }
}

/// Whether the token is there and is this one.
pub(super) fn is_token(token: Option<&TokenWithSpan>, expected: &Token) -> bool {
    token.is_some_and(|token| token.token == *expected)
}

/// Whether an unquoted word is this one, in any case.
pub(super) fn is_word(found: &Word, word: &str) -> bool {
    found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word)
}

fn is_plain_or_quoted(word: &Word) -> bool {
    !word.value.is_empty()
}

/// An unquoted name is folded to lower case.
pub(crate) fn fold(value: &str, quote: Option<char>) -> String {
    if quote.is_some() { value.to_owned() } else { value.to_lowercase() }
}

impl From<&Ident> for Name {
    fn from(ident: &Ident) -> Self {
        let position = super::position(ident.span).unwrap_or(Position { line: 1, column: 1 });
        Self { text: fold(&ident.value, ident.quote_style), position }
    }
}

/// Enough of a token to recognise it.
pub(super) fn shorten(text: &str) -> String {
    const CHARACTERS_MAX: usize = 40;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((byte, _)) => format!("{}...", &text[..byte]),
        None => text.to_owned(),
    }
}
