//! The EMIT clause at the end of a query.

use driftline_operators::time::SPAN_NS_MAX;
use sqlparser::tokenizer::Token;

use super::cursor::{Cursor, is_word};
use super::interval::interval_ns;
use super::sqlparser_seam::expression;
use crate::error::{Result, SqlError};
use crate::statement::{Emit, Query};

const GRAMMAR: &str = "write EMIT ON WINDOW CLOSE [WITH DELAY INTERVAL '..'], \
    EMIT ON WINDOW CLOSE WITH CORRECTIONS [FOR INTERVAL '..'], \
    EMIT ON UPDATE [EVERY INTERVAL '..'] [RETAIN INTERVAL '..'], or EMIT EVERY INTERVAL '..'";

/// Where the EMIT clause of a query begins, or the end, and what it says; sqlparser would take EMIT for an alias.
pub(super) fn clause(cursor: &Cursor<'_, '_>) -> Result<(usize, Emit)> {
    let mut ahead = cursor.clone();
    let mut depth = 0_usize;
    while let Some(token) = ahead.peek(0) {
        match token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ if is_clause(&ahead) => break,
            _ => {}
        }
        ahead.advance();
    }
    if ahead.is_end() {
        return Ok((ahead.end, Emit::default()));
    }
    let start = ahead.at;
    if depth > 0 {
        return Err(SqlError::unsupported("EMIT in a subquery is not supported")
            .at(ahead.position())
            .hint("write the clause at the end of the query: it says when the query answers"));
    }
    ahead.advance();
    let emit = read(&mut ahead)?;
    match ahead.is_end() {
        true => Ok((start, emit)),
        false => Err(ahead.expected("the end of the EMIT clause").hint(GRAMMAR)),
    }
}

/// Refuses a clause where nothing answers. One that says what holds anyway may stand anywhere.
pub(super) fn refuse(query: &Query, what: &str, hint: &str) -> Result<()> {
    if query.emit == Emit::default() {
        return Ok(());
    }
    Err(SqlError::unsupported(format!("{what} has no EMIT clause")).at(query.emit_at).hint(hint))
}

/// Whether the next word is EMIT and not a name.
fn is_clause(cursor: &Cursor<'_, '_>) -> bool {
    let is = |token: Option<&Token>, names: &[&str]| matches!(token, Some(Token::Word(word)) if names.iter().any(|name| is_word(word, name)));
    let follows = ["ON", "AFTER", "CHANGES", "FINAL", "EVERY", "WITH", "UPDATE"];
    if !is(cursor.peek(0), &["EMIT"]) || !is(cursor.peek(1), &follows) {
        return false;
    }
    let before = cursor.at.checked_sub(1).and_then(|at| cursor.text.tokens.get(at));
    let before = before.map(|token| &token.token);
    !is(before, &["SELECT", "FROM", "JOIN", "AS", "BY", "AND", "OR"])
        && !matches!(before, Some(Token::Comma | Token::Period | Token::Eq))
}

fn read(cursor: &mut Cursor<'_, '_>) -> Result<Emit> {
    if cursor.accept(&["ON", "WINDOW", "CLOSE"]) {
        if cursor.accept(&["WITH", "DELAY"]) {
            return Ok(Emit::WindowClose { delay_ns: length(cursor)? });
        }
        if cursor.accept(&["WITH", "CORRECTIONS"]) {
            let for_ns = if cursor.accept(&["FOR"]) { length(cursor)? } else { 0 };
            return Ok(Emit::Corrections { for_ns });
        }
        if cursor.accept(&["WITH"]) {
            return Err(cursor.expected("DELAY or CORRECTIONS").hint(GRAMMAR));
        }
        return Ok(Emit::default());
    }
    if cursor.accept(&["ON", "UPDATE"]) || cursor.is_words(&["EVERY"]) {
        let (mut every_ns, mut retain_ns) = (None, None);
        loop {
            if every_ns.is_none() && cursor.accept(&["EVERY"]) {
                every_ns = Some(length(cursor)?);
            } else if retain_ns.is_none() && cursor.accept(&["RETAIN"]) {
                retain_ns = Some(length(cursor)?);
            } else {
                return Ok(Emit::Update { every_ns, retain_ns });
            }
        }
    }
    cursor.accept(&["ON"]);
    Err(cursor.expected("WINDOW CLOSE, UPDATE or EVERY").hint(GRAMMAR))
}

/// Reads an interval that ends before another word of the clause.
fn length(cursor: &mut Cursor<'_, '_>) -> Result<i64> {
    if !cursor.is_words(&["INTERVAL"]) {
        return Err(cursor.expected("INTERVAL").hint(GRAMMAR));
    }
    let place = cursor.position();
    let end = cursor.find(|token| {
        let ends = ["EVERY", "RETAIN", "WITH", "FOR"];
        matches!(token, Token::Word(word) if ends.iter().any(|end| is_word(word, end)))
    });
    let expr = expression(cursor.text, cursor.at..end).map_err(|e| e.hint(GRAMMAR))?;
    cursor.at = end;
    let ns = interval_ns(&expr).map_err(|error| error.at(place))?;
    if (1..=SPAN_NS_MAX).contains(&ns) {
        return Ok(ns);
    }
    Err(SqlError::query(format!("interval is {ns} ns, outside 1 ns to 400 days"))
        .at(place)
        .hint(GRAMMAR))
}
