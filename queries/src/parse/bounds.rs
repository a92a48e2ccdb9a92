//! Bounds on nesting, checked on the tokens before anything recursive sees them.
//!
//! Parsers build `1+1+1...` in a loop, as a tree as deep as the text is long; whoever walks or drops that tree
//! recurses. No token adds more than one level, so counting tokens on the way down bounds the depth of any tree.

use std::ops::Range;

use sqlparser::tokenizer::Token;

use super::text::Text;
use crate::error::{Result, SqlError};

/// Most parentheses, brackets and CASEs within each other; types of nested calls are looked up over and over.
const NESTING_MAX: usize = 24;
/// Most operators and keywords in one expression, commas aside; planning takes time quadratic in them.
const TERMS_MAX: usize = 1_000;
/// Most calls within each other that have a syntax of their own. Where the parser fails on one, it tries it as an
/// ordinary call as well, and so what is within twice: time doubles with each.
const RETRIED_MAX: usize = 8;
/// Their names.
const RETRIED: [&str; 17] = [
    "ARRAY",
    "CAST",
    "CEIL",
    "CONVERT",
    "EXISTS",
    "EXTRACT",
    "FLOOR",
    "MAP",
    "OVERLAY",
    "POSITION",
    "SAFE_CAST",
    "STRUCT",
    "SUBSTR",
    "SUBSTRING",
    "TRIM",
    "TRY_CAST",
    "TRY_CONVERT",
];
/// Most types within types.
const TYPE_NESTING_MAX: usize = 16;

/// What has been counted since the bracket opened.
#[derive(Default)]
struct Level {
    current: usize,
    most: usize,
    /// What is open in the current item and may be tried twice.
    retried: usize,
    is_retried: bool,
    is_case: bool,
}

impl Level {
    fn next_item(&mut self) {
        self.most = self.most.max(self.current);
        self.current = 0;
        self.retried = 0;
    }
}

/// Refuses a statement that nests too deep.
pub(super) fn check(text: &Text<'_>, range: Range<usize>) -> Result<()> {
    let mut levels = vec![Level::default()];
    let mut set_operators = 0;
    let mut types = 0;
    for i in range {
        let Some(token) = text.tokens.get(i) else { break };
        let word = match &token.token {
            Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
            _ => String::new(),
        };
        let in_case = levels.last().is_some_and(|level| level.is_case);
        match (&token.token, word.as_str()) {
            (Token::LParen | Token::LBracket | Token::LBrace, _) => {
                let is_retried = is_retried(text, i);
                if let Some(level) = levels.last_mut() {
                    level.retried += usize::from(is_retried);
                }
                levels.push(Level { is_retried, ..Level::default() });
            }
            (_, "CASE") => levels.push(Level { is_case: true, ..Level::default() }),
            (Token::RParen | Token::RBracket | Token::RBrace, _) => close(&mut levels),
            (_, "END") if in_case => close(&mut levels),
            (Token::Comma, _) => next_item(&mut levels),
            (_, "WHEN" | "THEN" | "ELSE") if in_case => next_item(&mut levels),
            (Token::Number(..) | Token::SingleQuotedString(_), _) => {}
            _ => {
                set_operators += usize::from(matches!(
                    word.as_str(),
                    "UNION" | "INTERSECT" | "EXCEPT" | "MINUS"
                ));
                types += usize::from(token.token == Token::Lt && is_type(text, i));
                if let Some(level) = levels.last_mut() {
                    level.current += 1;
                    level.retried += usize::from(word == "INTERVAL" && !has_literal(text, i));
                }
            }
        }
        let terms = levels.last().map_or(0, |level| level.current);
        let retried: usize = levels.iter().map(|level| level.retried).sum();
        let problem = if levels.len() > NESTING_MAX {
            format!("statement nests more than {NESTING_MAX} levels deep")
        } else if retried > RETRIED_MAX {
            format!("statement nests more than {RETRIED_MAX} calls such as CAST or SUBSTRING")
        } else if terms > TERMS_MAX || set_operators > TERMS_MAX {
            format!("expression has more than {TERMS_MAX} terms")
        } else if types > TYPE_NESTING_MAX {
            format!("type nests more than {TYPE_NESTING_MAX} levels deep")
        } else {
            continue;
        };
        return Err(SqlError::query(problem)
            .at(text.position(i))
            .hint("split the query with views, or use IN (...) in place of many ORs"));
    }
    Ok(())
}

fn next_item(levels: &mut [Level]) {
    if let Some(level) = levels.last_mut() {
        level.next_item();
    }
}

/// What a closed bracket held counts on in the expression around it.
fn close(levels: &mut Vec<Level>) {
    if levels.len() > 1
        && let Some(mut inner) = levels.pop()
        && let Some(outer) = levels.last_mut()
    {
        inner.next_item();
        outer.current += inner.most + 1;
        outer.retried -= usize::from(inner.is_retried);
    }
}

/// Whether the bracket opens a call that the parser may try twice.
fn is_retried(text: &Text<'_>, bracket: usize) -> bool {
    let before = bracket.checked_sub(1).and_then(|i| text.tokens.get(i));
    matches!(before.map(|t| &t.token), Some(Token::Word(word)) if word.quote_style.is_none()
        && RETRIED.contains(&word.value.to_ascii_uppercase().as_str()))
}

/// Whether a literal follows, which ends what there is to try.
fn has_literal(text: &Text<'_>, word: usize) -> bool {
    let after = text.tokens.get(word + 1).map(|t| &t.token);
    matches!(after, Some(Token::SingleQuotedString(_) | Token::Number(..)))
}

fn is_type(text: &Text<'_>, lt: usize) -> bool {
    let before = lt.checked_sub(1).and_then(|i| text.tokens.get(i));
    matches!(before.map(|t| &t.token), Some(Token::Word(word)) if matches!(
        word.value.to_ascii_uppercase().as_str(),
        "ARRAY" | "STRUCT" | "MAP"
    ))
}
