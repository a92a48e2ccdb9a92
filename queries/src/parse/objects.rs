//! All statements but `CREATE SOURCE`: which they are, and their heads.

use sqlparser::ast::{Expr, SetExpr};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::explain::explain;
use super::options::with_clause;
use super::source::source;
use super::sqlparser_seam::{parse, query};
use super::table::table;
use crate::error::{Result, SqlError};
use crate::statement::{
    CreateDetector, CreateSink, CreateView, DropObject, InsertSelect, InsertValues, ModelFile,
    Name, ObjectKind, Show, Statement,
};

const STATEMENTS_HINT: &str = "statements are SELECT, CREATE, DROP, INSERT INTO, ALTER DETECTOR, SHOW, EXPLAIN, EXPORT and IMPORT";
const FEEDBACK_HINT: &str = "write ALTER DETECTOR name FEEDBACK (columns) VALUES (...), ..., with the anomalies that were none";

/// Reads one statement.
pub(super) fn statement(cursor: &mut Cursor<'_, '_>) -> Result<Statement> {
    let place = cursor.position();
    if cursor.is_words(&["SELECT"])
        || cursor.is_words(&["WITH"])
        || cursor.peek(0) == Some(&Token::LParen)
    {
        return Ok(Statement::Query(query(cursor)?));
    }
    if cursor.accept(&["CREATE"]) {
        return create(cursor);
    }
    if cursor.accept(&["DROP"]) {
        return drop(cursor);
    }
    if cursor.accept(&["INSERT"]) {
        return insert(cursor);
    }
    if cursor.accept(&["ALTER", "DETECTOR"]) {
        return feedback(cursor);
    }
    if cursor.accept(&["SHOW"]) {
        return show(cursor);
    }
    if cursor.accept(&["EXPLAIN"]) {
        return explain(cursor);
    }
    if cursor.accept(&["EXPORT", "DETECTOR"]) {
        return Ok(Statement::ExportDetector(model_file(cursor, "TO")?));
    }
    if cursor.accept(&["IMPORT", "DETECTOR"]) {
        return Ok(Statement::ImportDetector(model_file(cursor, "FROM")?));
    }
    for word in [
        "ALTER",
        "EXPORT",
        "IMPORT",
        "UPDATE",
        "DELETE",
        "MERGE",
        "TRUNCATE",
        "SET",
        "BEGIN",
        "COMMIT",
        "COPY",
        "SUBSCRIBE",
        "DESCRIBE",
        "USE",
        "VALUES",
        "FROM",
        "TABLE",
    ] {
        if cursor.is_words(&[word]) {
            return Err(SqlError::unsupported(format!("statement {word} is not supported"))
                .at(place)
                .hint(STATEMENTS_HINT));
        }
    }
    Err(cursor.expected("a statement").hint(STATEMENTS_HINT))
}

fn create(cursor: &mut Cursor<'_, '_>) -> Result<Statement> {
    let place = cursor.position();
    let or_replace = cursor.accept(&["OR", "REPLACE"]);
    if cursor.accept(&["VIEW"]) {
        return view(cursor, or_replace);
    }
    if cursor.accept(&["TABLE"]) {
        return table(cursor, or_replace);
    }
    let object = cursor.position();
    let hint = "create a SOURCE, TABLE, VIEW, DETECTOR or SINK";
    if cursor.is_words(&["MATERIALIZED", "VIEW"]) {
        return Err(SqlError::unsupported("materialized views are not supported")
            .at(object)
            .hint("use CREATE VIEW, or a sink that keeps the rows"));
    }
    for word in ["STREAM", "FUNCTION", "INDEX", "SCHEMA", "DATABASE", "TEMPORARY", "TEMP"] {
        if cursor.is_words(&[word]) {
            return Err(SqlError::unsupported(format!("CREATE {word} is not supported"))
                .at(object)
                .hint(hint));
        }
    }
    if or_replace {
        return Err(SqlError::unsupported("OR REPLACE is for views and tables")
            .at(place)
            .hint("drop the object first; its state belongs to its definition"));
    }
    if cursor.accept(&["SOURCE"]) {
        return Ok(Statement::CreateSource(source(cursor)?));
    }
    if cursor.accept(&["DETECTOR"]) {
        return detector(cursor);
    }
    if cursor.accept(&["SINK"]) {
        return sink(cursor);
    }
    Err(cursor.expected("what to create").hint(hint))
}

fn view(cursor: &mut Cursor<'_, '_>, or_replace: bool) -> Result<Statement> {
    let if_not_exists = cursor.accept(&["IF", "NOT", "EXISTS"]);
    let name = cursor.relation_name("the name of a view")?;
    if cursor.peek(0) == Some(&Token::LParen) {
        return Err(SqlError::unsupported("a view has no column list")
            .at(cursor.position())
            .hint("name the columns in the SELECT, with AS"));
    }
    cursor.expect(&["AS"])?;
    let query = query(cursor)?;
    super::emit::refuse(&query, "a view", "name the clause in the query that reads the view")?;
    Ok(Statement::CreateView(CreateView { name, or_replace, if_not_exists, query }))
}

fn detector(cursor: &mut Cursor<'_, '_>) -> Result<Statement> {
    let if_not_exists = cursor.accept(&["IF", "NOT", "EXISTS"]);
    let name = cursor.relation_name("the name of a detector")?;
    let hint =
        "write CREATE DETECTOR name USING kind [PARTITION BY ...] [WITH (...)] AS SELECT ...";
    cursor.expect(&["USING"]).map_err(|e| e.hint(hint))?;
    let mut kind = cursor.name("a kind of detector")?;
    kind.text = kind.text.to_lowercase();
    let mut partition_by: Vec<Name> = Vec::new();
    let mut options = with_clause(cursor)?;
    if cursor.accept(&["PARTITION", "BY"]) {
        loop {
            let column = cursor.name("a column")?;
            if partition_by.iter().any(|other| other.text == column.text) {
                return Err(SqlError::query(format!("column \"{}\" is there twice", column.text))
                    .at(column.position)
                    .hint("name each PARTITION BY column once"));
            }
            partition_by.push(column);
            if !cursor.accept_token(&Token::Comma) {
                break;
            }
        }
        if options.is_empty() {
            options = with_clause(cursor)?;
        }
    }
    cursor.expect(&["AS"]).map_err(|e| e.hint(hint))?;
    let query = query(cursor)?;
    let hint = "a detector scores each row once: let the source allow lateness";
    super::emit::refuse(&query, "a detector", hint)?;
    Ok(Statement::CreateDetector(CreateDetector {
        name,
        if_not_exists,
        kind,
        partition_by,
        options,
        query,
    }))
}

fn sink(cursor: &mut Cursor<'_, '_>) -> Result<Statement> {
    let if_not_exists = cursor.accept(&["IF", "NOT", "EXISTS"]);
    let name = cursor.relation_name("the name of a sink")?;
    let options = with_clause(cursor)?;
    let query = if cursor.accept(&["AS"]) { Some(query(cursor)?) } else { None };
    Ok(Statement::CreateSink(CreateSink { name, if_not_exists, options, query }))
}

fn drop(cursor: &mut Cursor<'_, '_>) -> Result<Statement> {
    let kinds = [
        ("SOURCE", ObjectKind::Source),
        ("VIEW", ObjectKind::View),
        ("DETECTOR", ObjectKind::Detector),
        ("SINK", ObjectKind::Sink),
        ("TABLE", ObjectKind::Table),
    ];
    let Some((_, kind)) = kinds.iter().find(|(word, _)| cursor.accept(&[word])) else {
        return Err(cursor
            .expected("what to drop")
            .hint("drop a SOURCE, TABLE, VIEW, DETECTOR or SINK"));
    };
    let if_exists = cursor.accept(&["IF", "EXISTS"]);
    let name = cursor.relation_name("a name")?;
    if cursor.is_words(&["CASCADE"]) {
        return Err(SqlError::unsupported("DROP has no CASCADE")
            .at(cursor.position())
            .hint("drop what reads the object first"));
    }
    Ok(Statement::Drop(DropObject { kind: *kind, name, if_exists }))
}

fn insert(cursor: &mut Cursor<'_, '_>) -> Result<Statement> {
    cursor.expect(&["INTO"])?;
    let target = cursor.relation_name("the name of a sink, source or table")?;
    let columns = column_list(cursor)?;
    if !cursor.is_words(&["VALUES"]) {
        return Ok(Statement::InsertSelect(InsertSelect {
            target,
            columns,
            query: query(cursor)?,
        }));
    }
    let place = cursor.position();
    match values(cursor)? {
        Some(rows) => Ok(Statement::InsertValues(InsertValues { target, columns, rows })),
        None => Err(SqlError::unsupported("VALUES stands alone in INSERT")
            .at(place)
            .hint("write INSERT INTO name VALUES (...), (...)")),
    }
}

fn feedback(cursor: &mut Cursor<'_, '_>) -> Result<Statement> {
    let target = cursor.relation_name("the name of a detector")?;
    cursor.expect(&["FEEDBACK"]).map_err(|error| error.hint(FEEDBACK_HINT))?;
    let columns = column_list(cursor)?;
    if !cursor.is_words(&["VALUES"]) {
        return Err(cursor.expected("VALUES").hint(FEEDBACK_HINT));
    }
    let place = cursor.position();
    match values(cursor)? {
        Some(rows) => Ok(Statement::Feedback(InsertValues { target, columns, rows })),
        None => Err(SqlError::unsupported("VALUES stands alone in FEEDBACK")
            .at(place)
            .hint(FEEDBACK_HINT)),
    }
}

/// The columns in parentheses, if the next parenthesis holds names.
fn column_list(cursor: &mut Cursor<'_, '_>) -> Result<Vec<Name>> {
    let mut columns: Vec<Name> = Vec::new();
    let is_list = cursor.peek(0) == Some(&Token::LParen)
        && !matches!(cursor.peek(1), Some(Token::LParen))
        && !["SELECT", "WITH", "VALUES"].iter().any(|word| {
            matches!(cursor.peek(1), Some(Token::Word(found)) if super::cursor::is_word(found, word))
        });
    if !is_list {
        return Ok(columns);
    }
    cursor.advance();
    loop {
        let column = cursor.name("a column")?;
        if columns.iter().any(|other| other.text == column.text) {
            return Err(SqlError::query(format!("column \"{}\" is there twice", column.text))
                .at(column.position)
                .hint("name each column once"));
        }
        columns.push(column);
        if !cursor.accept_token(&Token::Comma) {
            cursor.expect_token(&Token::RParen)?;
            return Ok(columns);
        }
    }
}

/// The rest of the statement, from VALUES on; `None` if it is more than VALUES.
fn values(cursor: &mut Cursor<'_, '_>) -> Result<Option<Vec<Vec<Expr>>>> {
    let ast = parse(cursor.text, cursor.at..cursor.end, Parser::parse_query)?;
    cursor.at = cursor.end;
    let plain =
        ast.order_by.is_none() && ast.limit_clause.is_none() && ast.pipe_operators.is_empty();
    Ok(match *ast.body {
        SetExpr::Values(values) if plain => {
            Some(values.rows.into_iter().map(|row| row.content).collect())
        }
        _ => None,
    })
}

fn model_file(cursor: &mut Cursor<'_, '_>, word: &str) -> Result<ModelFile> {
    let name = cursor.relation_name("the name of a detector")?;
    cursor.expect(&[word])?;
    let path = match cursor.peek(0) {
        Some(Token::SingleQuotedString(path)) => path.clone(),
        _ => {
            return Err(cursor
                .expected("a path")
                .hint("write the path as a text: 'models.driftline'"));
        }
    };
    cursor.advance();
    Ok(ModelFile { name, path })
}

fn show(cursor: &mut Cursor<'_, '_>) -> Result<Statement> {
    let lists: [(&[&str], Show); 9] = [
        (&["SOURCES"], Show::Sources),
        (&["TABLES"], Show::Tables),
        (&["VIEWS"], Show::Views),
        (&["DETECTORS"], Show::Detectors),
        (&["SINKS"], Show::Sinks),
        (&["QUERIES"], Show::Queries),
        (&["FUNCTIONS"], Show::Functions),
        (&["KINDS"], Show::Kinds),
        (&["DETECTOR", "KINDS"], Show::Kinds),
    ];
    match lists.iter().find(|(words, _)| cursor.accept(words)) {
        Some((_, show)) => Ok(Statement::Show(*show)),
        None => Err(cursor
            .expected("what to show")
            .hint("show SOURCES, TABLES, VIEWS, DETECTORS, SINKS, QUERIES, FUNCTIONS or KINDS")),
    }
}
