//! `PARTITION BY` inside the parentheses of a window in FROM, for which sqlparser has no grammar.
//!
//! `SESSION(t, ts, INTERVAL '1 minute' PARTITION BY a, b)`, and Flink's
//! `SESSION(TABLE t PARTITION BY (a, b), DESCRIPTOR(ts), INTERVAL '1' MINUTE)`, become
//! `SESSION(t, ts, INTERVAL '1 minute', partition_by => (a, b))`, with each token's place kept. The word EVERY before the
//! second number of `COUNT_WINDOW(t, 10, EVERY 5)` is left out.

use sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::cursor::{is_token, is_word};

/// Name of the argument.
pub(crate) const PARTITION_BY: &str = "partition_by";

const WINDOWS: [&str; 5] = ["TUMBLE", "HOP", "CUMULATE", "SESSION", "COUNT_WINDOW"];

/// Rewrites the windows among tokens. It recurses as deep as parentheses nest, which has been bounded.
pub(super) fn rewrite(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let mut kept = Vec::with_capacity(tokens.len());
    let mut rest = tokens;
    while let [first, tail @ ..] = rest {
        kept.push(first.clone());
        rest = tail;
        if !WINDOWS.iter().any(|name| is(first, name)) || !is_token(tail.first(), &Token::LParen) {
            continue;
        }
        let inside = tail.get(1..).unwrap_or_default();
        let (arguments, after) = inside.split_at(closing(inside));
        kept.extend(tail.first().cloned());
        kept.extend(call(arguments));
        rest = after;
    }
    kept
}

/// Rewrites the arguments of one call.
fn call(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let (mut depth, mut commas, mut clause) = (0_usize, 0, None);
    let mut every = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::Comma if depth == 0 => commas += 1,
            _ if depth > 0 => {}
            _ if is(token, "PARTITION") && tokens.get(i + 1).is_some_and(|t| is(t, "BY")) => {
                clause = clause.or(Some((i, commas == 0)));
            }
            _ if is(token, "EVERY") => {
                let before = i.checked_sub(1).and_then(|before| tokens.get(before));
                let number = tokens.get(i + 1).map(|next| &next.token);
                if is_token(before, &Token::Comma) && matches!(number, Some(Token::Number(..))) {
                    every.push(i);
                }
            }
            _ => {}
        }
    }
    let without_every = |from: usize, to: usize| -> Vec<TokenWithSpan> {
        (from..to).filter(|i| !every.contains(i)).filter_map(|i| tokens.get(i).cloned()).collect()
    };
    let Some((start, is_first_argument)) = clause else {
        return rewrite(&without_every(0, tokens.len()));
    };
    let columns = tokens.get(start + 2..).unwrap_or_default();
    let (inner, length) = if is_token(columns.first(), &Token::LParen) {
        let close = closing(columns.get(1..).unwrap_or_default());
        (columns.get(1..=close).unwrap_or_default(), close + 2)
    } else if is_first_argument {
        let comma = columns.iter().position(|token| token.token == Token::Comma);
        let length = comma.unwrap_or(columns.len());
        (columns.get(..length).unwrap_or_default(), length)
    } else {
        (columns, columns.len())
    };
    let end = tokens.len().min(start + 2 + length);
    let mut kept = rewrite(&without_every(0, start));
    kept.extend(rewrite(&without_every(end, tokens.len())));
    let place = tokens.get(start).map_or(Span::empty(), |token| token.span);
    let word = Token::make_word(PARTITION_BY, None);
    let mut push = |token: Token| kept.push(TokenWithSpan::new(token, place));
    push(Token::Comma);
    push(word);
    push(Token::RArrow);
    push(Token::LParen);
    kept.extend_from_slice(inner);
    kept.push(TokenWithSpan::new(Token::RParen, place));
    kept
}

/// Index of the parenthesis that closes the one before the tokens, or their number.
fn closing(tokens: &[TokenWithSpan]) -> usize {
    let mut depth = 1_usize;
    for (i, token) in tokens.iter().enumerate() {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    tokens.len()
}

fn is(token: &TokenWithSpan, name: &str) -> bool {
    matches!(&token.token, Token::Word(word) if is_word(word, name))
}

#[cfg(test)]
mod tests {
    use sqlparser::dialect::GenericDialect;
    use sqlparser::tokenizer::Tokenizer;

    use super::*;

    fn rewritten(sql: &str) -> String {
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().unwrap();
        let dense: Vec<_> =
            tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).collect();
        rewrite(&dense).iter().map(|t| t.token.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn clauses_become_an_argument() {
        for (sql, expected) in [
            ("SESSION(t, ts, 5)", "SESSION ( t , ts , 5 )"),
            (
                "SESSION(t, ts, 5 PARTITION BY a, b.c) x",
                "SESSION ( t , ts , 5 , partition_by => ( a , b . c ) ) x",
            ),
            ("session(t PARTITION BY a, ts, 5)", "session ( t , ts , 5 , partition_by => ( a ) )"),
            (
                "Session(t partition by (a, b), ts, 5)",
                "Session ( t , ts , 5 , partition_by => ( a , b ) )",
            ),
            (
                "COUNT_WINDOW((SELECT * FROM SESSION(t, 1 PARTITION BY k)), 9, EVERY 5 PARTITION BY k)",
                "COUNT_WINDOW ( ( SELECT * FROM SESSION ( t , 1 , partition_by => ( k ) ) ) , 9 , 5 , \
                 partition_by => ( k ) )",
            ),
            ("f(x PARTITION BY a)", "f ( x PARTITION BY a )"),
            ("SESSION(t, every, 5", "SESSION ( t , every , 5"),
            ("SESSION(t PARTITION BY", "SESSION ( t , partition_by => ( )"),
            ("SESSION(t PARTITION BY (", "SESSION ( t , partition_by => ( )"),
        ] {
            assert_eq!(rewritten(sql), expected, "{sql}");
        }
    }
}
