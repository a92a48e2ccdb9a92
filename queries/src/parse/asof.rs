//! ASOF joins, for which DataFusion has no plan: they become ordinary joins with a mark around the comparison of times.
//!
//! Snowflake's `ASOF [LEFT] JOIN b MATCH_CONDITION (a.ts >= b.ts) [ON c]` becomes
//! `[LEFT] JOIN b ON "asof match"(a.ts >= b.ts) [AND c]`. DuckDB's `ASOF [LEFT] JOIN b ON c`, where the comparison is
//! among the conditions, becomes `[LEFT] JOIN b ON "asof match"(true) AND c`. Each token keeps its place.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::cursor::{is_token, is_word};
use crate::functions::ASOF;

/// Rewrites the ASOF joins among tokens.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| is(Some(token), "ASOF")) {
        return tokens;
    }
    let mut kept = Vec::with_capacity(tokens.len() + 8);
    // How deep in parentheses there are joins whose condition is still to come.
    let (mut open, mut depth) = (Vec::new(), 0_usize);
    // The depth of a MATCH_CONDITION that is being read.
    let mut matching = None;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let next = tokens.get(at + 1);
        at += 1;
        let push = |kept: &mut Vec<TokenWithSpan>, tokens: &[Token]| {
            kept.extend(tokens.iter().map(|t| TokenWithSpan::new(t.clone(), token.span)));
        };
        let word = |word: &str| Token::make_word(word, None);
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen => {
                depth = depth.saturating_sub(1);
                if matching == Some(depth) {
                    matching = None;
                    kept.push(token.clone());
                    if is(next, "ON") {
                        push(&mut kept, &[word("AND")]);
                        at += 1;
                    }
                    continue;
                }
                open.retain(|opened| *opened <= depth);
            }
            _ if is(Some(token), "ASOF") && joins(&tokens, at) && !is_name(kept.last()) => {
                open.push(depth);
                continue;
            }
            _ if open.last() != Some(&depth) => {}
            _ if is(Some(token), "MATCH_CONDITION") && is_token(next, &Token::LParen) => {
                open.pop();
                matching = Some(depth);
                push(&mut kept, &[word("ON"), Token::make_word(ASOF, Some('"'))]);
                continue;
            }
            _ if is(Some(token), "ON") => {
                open.pop();
                let mark = Token::make_word(ASOF, Some('"'));
                let truth = [Token::LParen, word("TRUE"), Token::RParen, word("AND")];
                push(&mut kept, &[word("ON"), mark]);
                push(&mut kept, &truth);
                continue;
            }
            _ if is(Some(token), "USING") => {
                // Its columns would be equal, and none is left to be compared: the parser refuses USING here.
                open.pop();
                push(&mut kept, &[word("ON"), Token::make_word(ASOF, Some('"'))]);
            }
            _ => {}
        }
        kept.push(token.clone());
    }
    kept
}

/// Whether what follows a token is a name.
fn is_name(before: Option<&TokenWithSpan>) -> bool {
    let Some(token) = before else { return true };
    ["FROM", "JOIN", "AS"].iter().any(|word| is(before, word))
        || matches!(token.token, Token::Comma | Token::Period | Token::LParen)
}

/// Whether `[LEFT [OUTER] | INNER] JOIN` begins at a token.
fn joins(tokens: &[TokenWithSpan], at: usize) -> bool {
    let at = match tokens.get(at) {
        token if is(token, "LEFT") && is(tokens.get(at + 1), "OUTER") => at + 2,
        token if is(token, "LEFT") || is(token, "INNER") => at + 1,
        _ => at,
    };
    is(tokens.get(at), "JOIN")
}

fn is(token: Option<&TokenWithSpan>, name: &str) -> bool {
    matches!(token.map(|t| &t.token), Some(Token::Word(word)) if is_word(word, name))
}

#[cfg(test)]
mod tests {
    use sqlparser::dialect::GenericDialect;
    use sqlparser::tokenizer::Tokenizer;

    use super::*;

    fn rewritten(sql: &str) -> String {
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().unwrap();
        let dense: Vec<_> = tokens
            .into_iter()
            .filter(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF))
            .collect();
        rewrite(dense).iter().map(|t| t.token.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn asof_joins_become_joins_with_a_mark() {
        for (sql, expected) in [
            (
                "a ASOF JOIN b MATCH_CONDITION (a.t >= (b.t)) ON a.k = b.k",
                "a JOIN b ON \"asof match\" ( a . t >= ( b . t ) ) AND a . k = b . k",
            ),
            (
                "a asof left join (SELECT * FROM c JOIN d ON x) b match_condition (a.t > b.t) WHERE y",
                "a left join ( SELECT * FROM c JOIN d ON x ) b ON \"asof match\" ( a . t > b . t ) WHERE y",
            ),
            (
                "a ASOF JOIN b ON a.k = b.k AND a.t >= b.t JOIN c ON d",
                "a JOIN b ON \"asof match\" ( TRUE ) AND a . k = b . k AND a . t >= b . t JOIN c ON d",
            ),
            (
                "(SELECT a ASOF JOIN (SELECT c ASOF JOIN d ON e) ON f)",
                "( SELECT a JOIN ( SELECT c JOIN d ON \"asof match\" ( TRUE ) AND e ) ON \"asof match\" ( TRUE ) AND f )",
            ),
            ("FROM asof JOIN b ON c", "FROM asof JOIN b ON c"),
            ("a ASOF JOIN b USING (k)", "a JOIN b ON \"asof match\" USING ( k )"),
            ("SELECT asof FROM asof JOIN_", "SELECT asof FROM asof JOIN_"),
            ("a ASOF JOIN b MATCH_CONDITION (", "a JOIN b ON \"asof match\" ("),
            ("JOIN b MATCH_CONDITION (c)", "JOIN b MATCH_CONDITION ( c )"),
        ] {
            assert_eq!(rewritten(sql), expected, "{sql}");
        }
    }
}
