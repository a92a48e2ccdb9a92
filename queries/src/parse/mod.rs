//! Text to statements.
//!
//! A text is cut into tokens once. Heads that only this engine knows are read from the tokens by hand; SELECTs, types
//! and expressions are handed to sqlparser, with the tokens' places kept.

mod asof;
mod bounds;
mod cursor;
mod emit;
mod explain;
mod interval;
mod objects;
mod options;
mod partition;
mod source;
mod sqlparser_seam;
mod table;
mod text;

#[cfg(test)]
mod tests;

use cursor::Cursor;
use text::Text;

use crate::error::{Result, SqlError};
use crate::statement::{Query, Statement};

pub(crate) use cursor::fold;
pub(crate) use interval::interval_ns;
pub(crate) use partition::PARTITION_BY;
pub(crate) use text::position;

/// A statement and the text that it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The statement's own text, without the semicolon.
    pub text: String,
    /// What it says.
    pub statement: Statement,
}

/// Parses statements separated by semicolons.
///
/// # Errors
/// The first error of the text, with its place.
pub fn parse_statements(sql: &str) -> Result<Vec<Statement>> {
    Ok(parse_script(sql)?.into_iter().map(|parsed| parsed.statement).collect())
}

/// Parses statements separated by semicolons, and keeps the text of each.
///
/// # Errors
/// The first error of the text, with its place.
pub fn parse_script(sql: &str) -> Result<Vec<Parsed>> {
    crate::stack::with_room(|| parse_with_room(sql))
}

fn parse_with_room(sql: &str) -> Result<Vec<Parsed>> {
    let text = Text::new(sql)?;
    let mut parsed = Vec::new();
    for range in text.statements() {
        bounds::check(&text, range.clone())?;
        let mut cursor = Cursor::new(&text, range.clone());
        let statement = objects::statement(&mut cursor)?;
        cursor.expect_end()?;
        parsed.push(Parsed { text: text.slice(range).to_owned(), statement });
    }
    Ok(parsed)
}

/// Parses exactly one SELECT.
pub(crate) fn parse_query(sql: &str) -> Result<Query> {
    let mut statements = parse_statements(sql)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(Statement::Query(query)), true) => Ok(query),
        _ => Err(SqlError::query("text is not one SELECT").hint("give exactly one query")),
    }
}
