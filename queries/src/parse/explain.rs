//! `EXPLAIN [ANALYZE] [(FORMAT ...)] ...`.

use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::objects::statement;
use crate::error::{Result, SqlError};
use crate::statement::{Analyze, CreateSink, Explain, ExplainFormat, Name, Statement};

const ANALYZE_HINT: &str = "write EXPLAIN ANALYZE DETECTOR name, or EXPLAIN ANALYZE QUERY 'subscription 1' with a name that \
                            SHOW QUERIES lists";

/// Reads what follows `EXPLAIN`.
pub(super) fn explain(cursor: &mut Cursor<'_, '_>) -> Result<Statement> {
    let place = cursor.position();
    if cursor.is_words(&["VERBOSE"]) {
        return Err(SqlError::unsupported("EXPLAIN has no VERBOSE")
            .at(place)
            .hint("leave it away: EXPLAIN shows all that it knows"));
    }
    let is_analyze = cursor.accept(&["ANALYZE"]);
    let format = format(cursor)?;
    if is_analyze {
        return Ok(Statement::Analyze(Analyze { query: running(cursor)?, format }));
    }
    let place = cursor.position();
    if cursor.is_words(&["EXPLAIN"]) {
        return Err(cursor.expected("a statement to explain"));
    }
    let inner = statement(cursor)?;
    match inner {
        Statement::Query(_)
        | Statement::CreateDetector(_)
        | Statement::InsertSelect(_)
        | Statement::CreateView(_)
        | Statement::CreateSink(CreateSink { query: Some(_), .. }) => {
            Ok(Statement::Explain(Explain { statement: Box::new(inner), format }))
        }
        _ => Err(SqlError::unsupported("statement has no plan to explain").at(place).hint(
            "explain a SELECT, a CREATE VIEW, DETECTOR or SINK with a query, or an INSERT of a SELECT",
        )),
    }
}

/// Reads `(FORMAT form)`, if it is there.
fn format(cursor: &mut Cursor<'_, '_>) -> Result<ExplainFormat> {
    let is_option = cursor.peek(0) == Some(&Token::LParen)
        && matches!(cursor.peek(1), Some(Token::Word(word)) if super::cursor::is_word(word, "FORMAT"));
    if !is_option {
        return Ok(ExplainFormat::default());
    }
    cursor.advance();
    cursor.advance();
    let forms = [
        ("TEXT", ExplainFormat::Text),
        ("MERMAID", ExplainFormat::Mermaid),
        ("DOT", ExplainFormat::Dot),
    ];
    let Some((_, form)) = forms.iter().find(|(word, _)| cursor.accept(&[word])) else {
        return Err(cursor.expected("a format").hint("formats are TEXT, MERMAID and DOT"));
    };
    cursor.expect_token(&Token::RParen)?;
    Ok(*form)
}

/// Reads which query is meant.
fn running(cursor: &mut Cursor<'_, '_>) -> Result<Name> {
    if cursor.accept(&["DETECTOR"]) {
        let name = cursor.relation_name("the name of a detector")?;
        return Ok(Name { text: format!("detector \"{}\"", name.text), ..name });
    }
    let place = cursor.position();
    if !cursor.accept(&["QUERY"]) {
        return Err(SqlError::unsupported("EXPLAIN ANALYZE looks at a query that runs")
            .at(place)
            .hint(ANALYZE_HINT));
    }
    let position = cursor.position();
    let text = match cursor.peek(0) {
        Some(Token::SingleQuotedString(text)) => text.clone(),
        Some(Token::Number(digits, _)) => digits.clone(),
        _ => return Err(cursor.expected("the name of a query").hint(ANALYZE_HINT)),
    };
    cursor.advance();
    Ok(Name { text, position })
}
