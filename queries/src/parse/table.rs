//! `CREATE [OR REPLACE] TABLE [IF NOT EXISTS] name [(columns)] [WITH (...)]`.

use arrow::datatypes::FieldRef;
use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::options::with_clause;
use super::source::column;
use crate::error::{Result, SqlError};
use crate::statement::{CreateTable, Statement};

const HINT: &str = "write CREATE TABLE name WITH (path = 'file.csv'), or CREATE TABLE name (columns) and INSERT INTO it";

/// Reads what follows `CREATE TABLE`.
pub(super) fn table(cursor: &mut Cursor<'_, '_>, or_replace: bool) -> Result<Statement> {
    let if_not_exists = cursor.accept(&["IF", "NOT", "EXISTS"]);
    let name = cursor.relation_name("the name of a table")?;
    let mut columns: Vec<FieldRef> = Vec::new();
    if cursor.accept_token(&Token::LParen) {
        loop {
            let place = cursor.position();
            if cursor.is_words(&["WATERMARK", "FOR"]) {
                return Err(SqlError::unsupported("a table has no watermark").at(place).hint(
                    "a table does not change while a query runs; CREATE SOURCE makes a stream",
                ));
            }
            let column = column(cursor)?;
            if columns.iter().any(|other| other.name() == column.name()) {
                let message = format!("column \"{}\" is there twice", column.name());
                return Err(SqlError::query(message)
                    .at(place)
                    .hint("give each column a name of its own"));
            }
            columns.push(column);
            if !cursor.accept_token(&Token::Comma) {
                break;
            }
        }
        cursor.expect_token(&Token::RParen)?;
    }
    if cursor.is_words(&["AS"]) {
        return Err(SqlError::unsupported("a table is not made from a query")
            .at(cursor.position())
            .hint(HINT));
    }
    let options = with_clause(cursor)?;
    if columns.is_empty() && options.is_empty() {
        let message = format!("table \"{}\" has neither columns nor a file", name.text);
        return Err(SqlError::query(message).at(name.position).hint(HINT));
    }
    Ok(Statement::CreateTable(CreateTable { name, or_replace, if_not_exists, columns, options }))
}
