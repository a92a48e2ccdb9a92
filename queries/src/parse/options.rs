//! `WITH (name = value, ...)`.

use driftline_operators::options::OptionValue;
use sqlparser::tokenizer::Token;

use super::cursor::{Cursor, is_word};
use super::interval::interval_ns;
use super::sqlparser_seam::expression;
use crate::error::{Result, SqlError};
use crate::statement::{Name, OptionEntry};

const HINT: &str = "options are text, numbers, TRUE or FALSE, or INTERVAL '...'";

/// Reads a WITH clause, if there is one.
pub(super) fn with_clause(cursor: &mut Cursor<'_, '_>) -> Result<Vec<OptionEntry>> {
    let mut entries: Vec<OptionEntry> = Vec::new();
    // `WITH name AS (...)` starts a query instead.
    if !(cursor.is_words(&["WITH"]) && cursor.peek(1) == Some(&Token::LParen)) {
        return Ok(entries);
    }
    cursor.advance();
    cursor.advance();
    loop {
        let entry = entry(cursor)?;
        if entries.iter().any(|other| other.name.text == entry.name.text) {
            return Err(SqlError::query(format!("option \"{}\" is given twice", entry.name.text))
                .at(entry.name.position)
                .hint("give each option once"));
        }
        entries.push(entry);
        if !cursor.accept_token(&Token::Comma) {
            cursor.expect_token(&Token::RParen)?;
            return Ok(entries);
        }
    }
}

fn entry(cursor: &mut Cursor<'_, '_>) -> Result<OptionEntry> {
    let name = match cursor.peek(0) {
        Some(Token::SingleQuotedString(text)) => {
            let name = Name { text: text.to_lowercase(), position: cursor.position() };
            cursor.advance();
            name
        }
        _ => cursor.name("the name of an option")?,
    };
    cursor.expect_token(&Token::Eq)?;
    let position = cursor.position();
    Ok(OptionEntry { name, value: value(cursor)?, position })
}

fn value(cursor: &mut Cursor<'_, '_>) -> Result<OptionValue> {
    let position = cursor.position();
    if cursor.is_words(&["INTERVAL"]) {
        let end = cursor.find(|token| matches!(token, Token::Comma | Token::RParen));
        let interval = expression(cursor.text, cursor.at..end)?;
        cursor.at = end;
        return Ok(OptionValue::Interval(interval_ns(&interval)?));
    }
    let is_negative = cursor.accept_token(&Token::Minus);
    if !is_negative {
        cursor.accept_token(&Token::Plus);
    }
    let value = match cursor.peek(0) {
        Some(Token::Number(digits, _)) => number(digits, is_negative),
        _ if is_negative => None,
        Some(Token::SingleQuotedString(text)) => Some(OptionValue::Text(text.clone())),
        Some(Token::Word(word)) if is_word(word, "TRUE") => Some(OptionValue::Boolean(true)),
        Some(Token::Word(word)) if is_word(word, "FALSE") => Some(OptionValue::Boolean(false)),
        Some(Token::Word(word)) => Some(OptionValue::Text(word.value.clone())),
        _ => None,
    };
    let Some(value) = value else {
        return Err(cursor.expected("the value of an option").hint(HINT));
    };
    cursor.advance();
    match cursor.peek(0) {
        Some(Token::Comma | Token::RParen) => Ok(value),
        _ => Err(cursor.expected("\",\" or \")\"").at(position).hint(HINT)),
    }
}

fn number(digits: &str, is_negative: bool) -> Option<OptionValue> {
    let spelled = if is_negative { format!("-{digits}") } else { digits.to_owned() };
    if let Ok(whole) = spelled.parse::<i64>() {
        return Some(OptionValue::Integer(whole));
    }
    spelled.parse::<f64>().ok().filter(|x| x.is_finite()).map(OptionValue::Number)
}
