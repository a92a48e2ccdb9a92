//! Hands tokens to sqlparser, and turns its errors into ours.

use std::ops::Range;

use sqlparser::ast;
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::cursor::{Cursor, is_token, is_word};
use super::text::{Text, lower_first};
use super::{asof, emit, partition};
use crate::error::{Position, Result, SqlError};
use crate::statement::{Emit, Query};

/// Deepest recursion of sqlparser itself.
const RECURSION_MAX: usize = 64;

/// Reads the rest of the statement as one query.
pub(super) fn query(cursor: &mut Cursor<'_, '_>) -> Result<Query> {
    let text = cursor.text;
    let (clause, emit) = emit::clause(cursor)?;
    check_commas(text, cursor.at..clause)?;
    let ast = parse(text, cursor.at..clause, Parser::parse_query)?;
    let emit_at = (clause < cursor.end).then(|| text.position(clause));
    let end = if emit == Emit::default() { clause } else { cursor.end };
    let text = text.slice(cursor.at..end).to_owned();
    cursor.at = cursor.end;
    Ok(Query { ast, text, emit, emit_at })
}

/// Refuses a comma before FROM, which sqlparser passes over.
fn check_commas(text: &Text<'_>, range: Range<usize>) -> Result<()> {
    let tokens = text.tokens.get(range).unwrap_or_default();
    let stray = tokens.windows(2).find(|pair| {
        is_token(pair.first(), &Token::Comma)
            && matches!(pair.last().map(|t| &t.token), Some(Token::Word(word)) if is_word(word, "FROM"))
    });
    match stray.and_then(|pair| pair.last()) {
        None => Ok(()),
        Some(from) => Err(SqlError::query("expected a column, found \"FROM\"")
            .at(super::text::position(from.span))
            .hint("leave the comma before it away")),
    }
}

/// Reads a range of tokens with one of sqlparser's own methods, to its end.
pub(super) fn parse<T>(
    text: &Text<'_>,
    range: Range<usize>,
    read: impl FnOnce(&mut Parser<'static>) -> Result<T, ParserError>,
) -> Result<T> {
    let end = text.position(range.end);
    let tokens = drop_table_keyword(text.tokens.get(range).unwrap_or_default());
    let tokens = asof::rewrite(partition::rewrite(&tokens));
    let mut parser = Parser::new(&GenericDialect {})
        .with_recursion_limit(RECURSION_MAX)
        .with_tokens_with_locations(tokens);
    let parsed = read(&mut parser).map_err(|error| convert(&error, end))?;
    let rest = parser.peek_token();
    if rest.token == Token::EOF {
        Ok(parsed)
    } else {
        let found = super::cursor::shorten(&rest.token.to_string());
        Err(SqlError::query(format!("expected the end of the statement, found \"{found}\""))
            .at(super::text::position(rest.span)))
    }
}

/// sqlparser has no grammar for `TABLE t` as an argument; without TABLE it means the same.
fn drop_table_keyword(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let word = |i: usize| match tokens.get(i).map(|t| &t.token) {
        Some(Token::Word(word)) => Some(word),
        _ => None,
    };
    let starts_argument = |i: usize| {
        let before = i.checked_sub(1).and_then(|b| tokens.get(b)).map(|t| &t.token);
        match before {
            Some(Token::Comma | Token::RArrow) => true,
            Some(Token::LParen) => i.checked_sub(2).is_some_and(|b| word(b).is_some()),
            _ => false,
        }
    };
    let mut kept = Vec::with_capacity(tokens.len());
    for (i, token) in tokens.iter().enumerate() {
        let is_table = matches!(&token.token, Token::Word(found) if is_word(found, "TABLE"));
        if !(is_table && starts_argument(i) && word(i + 1).is_some()) {
            kept.push(token.clone());
        }
    }
    kept
}

/// sqlparser keeps the place only in the text of its messages.
fn convert(error: &ParserError, end: Position) -> SqlError {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        ParserError::RecursionLimitExceeded => {
            return SqlError::query(format!(
                "statement nests more than {RECURSION_MAX} levels deep"
            ))
            .hint("split the query with views");
        }
    };
    let (message, position) = match message.rsplit_once(" at Line: ") {
        Some((message, place)) => (message, read_place(place)),
        None => (message.as_str(), None),
    };
    let message = match message.strip_prefix("Expected: ").map(|rest| rest.rsplit_once(", found: "))
    {
        Some(Some((expected, "EOF"))) => {
            format!("expected {expected}, found the end of the statement")
        }
        Some(Some((expected, found))) => {
            format!("expected {expected}, found \"{}\"", super::cursor::shorten(found))
        }
        _ => lower_first(message.trim_end_matches('.')),
    };
    SqlError::query(message).at(position).at(end)
}

fn read_place(place: &str) -> Option<Position> {
    let (line, column) = place.split_once(", Column: ")?;
    Some(Position { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
}

/// Reads one expression from a range of tokens.
pub(super) fn expression(text: &Text<'_>, range: Range<usize>) -> Result<ast::Expr> {
    parse(text, range, Parser::parse_expr)
}
