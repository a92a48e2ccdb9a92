//! `CREATE SOURCE name (columns, WATERMARK FOR ...) WITH (...)`.

use arrow::datatypes::{DataType, FieldRef};
use driftline_operators::time::SPAN_NS_MAX;
use sqlparser::ast::{ColumnDef, ColumnOption, Spanned};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::interval::interval_ns;
use super::options::with_clause;
use super::sqlparser_seam::{expression, parse};
use super::text::position;
use crate::error::{Result, SqlError};
use crate::statement::{CreateSource, Name, Watermark};

const WATERMARK_HINT: &str = "write WATERMARK FOR ts AS ts - INTERVAL '10 seconds', or WATERMARK FOR ts where the host \
                              moves the watermark";

/// Reads what follows `CREATE SOURCE`.
pub(super) fn source(cursor: &mut Cursor<'_, '_>) -> Result<CreateSource> {
    let if_not_exists = cursor.accept(&["IF", "NOT", "EXISTS"]);
    let name = cursor.relation_name("the name of a source")?;
    cursor.expect_token(&Token::LParen)?;
    let mut columns: Vec<FieldRef> = Vec::new();
    let mut watermark = None;
    loop {
        let place = cursor.position();
        if cursor.is_words(&["WATERMARK", "FOR"]) {
            if watermark.is_some() {
                return Err(SqlError::query("source has two watermarks")
                    .at(place)
                    .hint("a source has one event-time column"));
            }
            watermark = Some(watermark_clause(cursor)?);
        } else {
            let column = column(cursor)?;
            if columns.iter().any(|other| other.name() == column.name()) {
                return Err(SqlError::query(format!(
                    "column \"{}\" is there twice",
                    column.name()
                ))
                .at(place)
                .hint("give each column a name of its own"));
            }
            columns.push(column);
        }
        if !cursor.accept_token(&Token::Comma) {
            break;
        }
    }
    cursor.expect_token(&Token::RParen)?;
    if columns.is_empty() {
        return Err(SqlError::query(format!("source \"{}\" has no columns", name.text))
            .at(name.position)
            .hint("write a name and a type for each column"));
    }
    if let Some(watermark) = &watermark {
        check_time_column(&watermark.column, &columns)?;
    }
    let options = with_clause(cursor)?;
    Ok(CreateSource { name, if_not_exists, columns, watermark, options })
}

/// Reads one column: its name, its type, and NOT NULL.
pub(super) fn column(cursor: &mut Cursor<'_, '_>) -> Result<FieldRef> {
    let is_end = |token: &Token| matches!(token, Token::Comma | Token::RParen);
    let start = cursor.at;
    let end = cursor.find(is_end);
    if start == end {
        return Err(cursor.expected("a column or WATERMARK FOR"));
    }
    for constraint in ["PRIMARY", "CONSTRAINT", "UNIQUE", "FOREIGN", "CHECK"] {
        // A column may have such a name; a constraint never goes on with one type and nothing else.
        if cursor.is_words(&[constraint])
            && (cursor.is_words(&[constraint, "KEY"]) || cursor.peek(1) == Some(&Token::LParen))
        {
            return Err(SqlError::unsupported("sources and tables have no constraints")
                .at(cursor.position())
                .hint("only NOT NULL is kept, behind the type of a column"));
        }
    }
    let definition = parse(cursor.text, start..end, Parser::parse_column_def)?;
    cursor.at = end;
    let not_null = check_options(&definition)?;
    let place = cursor.text.position(start);
    let name = Name::from(&definition.name).text;
    if name.is_empty() {
        return Err(SqlError::query("column has an empty name").at(place));
    }
    let field = crate::planner::field_of_type(&definition.data_type)
        .map_err(|error| error.at(cursor.text.position(start + 1)))?;
    Ok(field.as_ref().clone().with_name(name).with_nullable(!not_null).into())
}

fn check_options(definition: &ColumnDef) -> Result<bool> {
    let mut not_null = false;
    for option in &definition.options {
        match option.option {
            ColumnOption::NotNull => not_null = true,
            ColumnOption::Null => {}
            _ => {
                return Err(SqlError::unsupported(format!(
                    "column option \"{}\" is not supported",
                    option.option
                ))
                .at(position(option.span()))
                .at(position(definition.name.span))
                .hint("only NOT NULL is kept, behind the type of a column"));
            }
        }
    }
    Ok(not_null)
}

fn watermark_clause(cursor: &mut Cursor<'_, '_>) -> Result<Watermark> {
    cursor.expect(&["WATERMARK", "FOR"])?;
    let column = cursor.name("the event-time column").map_err(|e| e.hint(WATERMARK_HINT))?;
    let mut delay_ns = None;
    if cursor.accept(&["AS"]) {
        let place = cursor.position();
        let again = cursor.name("the event-time column").map_err(|e| e.hint(WATERMARK_HINT))?;
        if again.text != column.text {
            return Err(SqlError::query(format!(
                "watermark for \"{}\" is computed from \"{}\"",
                column.text, again.text
            ))
            .at(place)
            .hint(WATERMARK_HINT));
        }
        delay_ns = Some(if cursor.accept_token(&Token::Minus) { length(cursor, 0)? } else { 0 });
    }
    let idle_timeout_ns =
        if cursor.accept(&["IDLE", "TIMEOUT"]) { Some(length(cursor, 1)?) } else { None };
    match cursor.peek(0) {
        Some(Token::Comma | Token::RParen) => Ok(Watermark { column, delay_ns, idle_timeout_ns }),
        _ => Err(cursor.expected("IDLE TIMEOUT, \",\" or \")\"").hint(WATERMARK_HINT)),
    }
}

/// Reads an interval that ends before IDLE, a comma or the closing parenthesis.
fn length(cursor: &mut Cursor<'_, '_>, least_ns: i64) -> Result<i64> {
    if !cursor.is_words(&["INTERVAL"]) {
        return Err(cursor.expected("INTERVAL").hint(WATERMARK_HINT));
    }
    let place = cursor.position();
    let end = cursor.find(|token| match token {
        Token::Word(word) => super::cursor::is_word(word, "IDLE"),
        token => matches!(token, Token::Comma | Token::RParen),
    });
    let expr = expression(cursor.text, cursor.at..end).map_err(|e| e.hint(WATERMARK_HINT))?;
    cursor.at = end;
    let ns = interval_ns(&expr)?;
    if !(least_ns..=SPAN_NS_MAX).contains(&ns) {
        return Err(SqlError::query(format!(
            "interval is {ns} ns, outside {least_ns} ns to 400 days"
        ))
        .at(place)
        .hint(WATERMARK_HINT));
    }
    Ok(ns)
}

fn check_time_column(name: &Name, columns: &[FieldRef]) -> Result<()> {
    let Some(column) = columns.iter().find(|column| *column.name() == name.text) else {
        return Err(SqlError::query(format!("column \"{}\" not found in the source", name.text))
            .at(name.position)
            .hint("WATERMARK FOR names a column of the source"));
    };
    if matches!(column.data_type(), DataType::Timestamp(..)) {
        return Ok(());
    }
    Err(SqlError::query(format!("event-time column \"{}\" is a {}", name.text, column.data_type()))
        .at(name.position)
        .hint("give it the type TIMESTAMP"))
}
