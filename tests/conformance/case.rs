//! Reads `.slt` files, in the format of sqllogictest; `tests/slt/README.md` says what its records mean here.

use std::path::Path;

use sqllogictest::{DefaultColumnType, QueryExpect, Record};

use super::generate::Pattern;
use super::windows::interval;

/// One file.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) name: String,
    pub(crate) sources: Vec<Source>,
    /// CREATE VIEW statements, in order.
    pub(crate) views: Vec<String>,
    pub(crate) cases: Vec<Case>,
}

#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) create: String,
    /// How far below the latest row seen the watermark is: disorder and allowed lateness.
    pub(crate) behind_ns: i64,
    /// How far out of order rows may come.
    pub(crate) disorder_ns: i64,
    pub(crate) fill: Fill,
}

#[derive(Debug)]
pub(crate) enum Fill {
    Nothing,
    /// `VALUES ..`
    Inline(String),
    Generated {
        pattern: Pattern,
        seed: u64,
        rows: usize,
        seconds: i64,
    },
}

/// Queries with one label: all of them have the same answer.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) label: String,
    pub(crate) queries: Vec<Query>,
    /// The batch form, where it is not the first query with its windows spelled out.
    pub(crate) batch: Option<String>,
    /// The rows of the answer, where they stand in the file.
    pub(crate) expected: Option<Vec<String>>,
}

impl Case {
    /// Whether rows are retained for its answer.
    pub(crate) fn is_retained(&self) -> bool {
        self.queries.iter().any(Query::is_retained)
    }
}

#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) sql: String,
    pub(crate) line: u32,
    pub(crate) conditions: Vec<Condition>,
}

impl Query {
    /// Whether it has no window and retains rows.
    pub(crate) fn is_retained(&self) -> bool {
        let mut conditions = self.conditions.iter();
        conditions
            .any(|condition| matches!(condition, Condition::OnlyIf(label) if label == "retain"))
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Condition {
    OnlyIf(String),
    SkipIf(String),
}

impl Script {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}.slt: {error}"))?;
        Self::parse(&name, &text)
    }

    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut script = Self {
            name: name.to_owned(),
            sources: Vec::new(),
            views: Vec::new(),
            cases: Vec::new(),
        };
        let records =
            sqllogictest::parse_with_name::<DefaultColumnType>(text, format!("{name}.slt"))
                .map_err(|error| error.to_string())?;
        for record in records {
            match record {
                Record::Statement { loc, sql, expected, .. } => {
                    script
                        .statement(&sql, &expected)
                        .map_err(|error| format!("{name}.slt:{}: {error}", loc.line()))?
                }
                Record::Query { loc, conditions, connection, sql, expected, .. } => {
                    let conditions = conditions.into_iter().map(|condition| match condition {
                        sqllogictest::Condition::OnlyIf { label } => Condition::OnlyIf(label),
                        sqllogictest::Condition::SkipIf { label } => Condition::SkipIf(label),
                    });
                    let query = Query { sql, line: loc.line(), conditions: conditions.collect() };
                    let is_batch = connection == sqllogictest::Connection::Named("batch".into());
                    script
                        .query(query, is_batch, expected)
                        .map_err(|error| format!("{name}.slt:{}: {error}", loc.line()))?;
                }
                Record::Comment(_)
                | Record::Newline
                | Record::Condition(_)
                | Record::Connection(_) => {}
                other => return Err(format!("{name}.slt: no such record here: {other:?}")),
            }
        }
        match script.cases.iter().find(|case| case.queries.is_empty()) {
            Some(case) => Err(format!("{name}.slt: case {} has no query", case.label)),
            None => Ok(script),
        }
    }

    fn statement(
        &mut self,
        sql: &str,
        expected: &sqllogictest::StatementExpect,
    ) -> Result<(), String> {
        let words: Vec<&str> = sql.split(|c: char| c.is_whitespace() || c == '(').collect();
        match words.as_slice() {
            ["CREATE", "SOURCE", name, ..] => {
                let disorder_ns = interval_after(sql, "WATERMARK FOR").unwrap_or(0);
                let lateness = interval_after(sql, "allowed_lateness").unwrap_or(0);
                self.sources.push(Source {
                    name: (*name).to_owned(),
                    create: sql.to_owned(),
                    behind_ns: disorder_ns + lateness,
                    disorder_ns,
                    fill: Fill::Nothing,
                });
                Ok(())
            }
            ["CREATE", "VIEW", ..] => {
                self.views.push(sql.to_owned());
                Ok(())
            }
            ["INSERT", "INTO", name, ..] => {
                let source = self.sources.iter_mut().find(|source| source.name == *name);
                let source = source.ok_or_else(|| format!("no source {name}"))?;
                source.fill = match sql.find("VALUES") {
                    Some(start) => Fill::Inline(sql[start..].to_owned()),
                    None => generated(sql, expected)?,
                };
                Ok(())
            }
            _ => Err("CREATE SOURCE, CREATE VIEW or INSERT INTO comes here".into()),
        }
    }

    fn query(
        &mut self,
        query: Query,
        is_batch: bool,
        expected: QueryExpect<DefaultColumnType>,
    ) -> Result<(), String> {
        let QueryExpect::Results { label: Some(label), results, .. } = expected else {
            return Err("a query has a sort mode and a label: query T rowsort some_label".into());
        };
        let case = match self.cases.iter().position(|case| case.label == label) {
            Some(index) => &mut self.cases[index],
            None => {
                self.cases.push(Case { label, queries: Vec::new(), batch: None, expected: None });
                self.cases.last_mut().expect("one was pushed")
            }
        };
        if !results.is_empty() {
            case.expected = Some(results);
        }
        match is_batch {
            true => case.batch = Some(query.sql),
            false => case.queries.push(query),
        }
        Ok(())
    }
}

/// `INSERT INTO s SELECT * FROM even(seed => 7, seconds => 60)`, with the number of rows as the statement's count.
fn generated(sql: &str, expected: &sqllogictest::StatementExpect) -> Result<Fill, String> {
    let sqllogictest::StatementExpect::Count(rows) = expected else {
        return Err("rows are generated by `statement count ROWS`".into());
    };
    let call = sql.split("FROM").nth(1).ok_or("FROM a generator comes here")?.trim();
    let (name, arguments) = call.split_once('(').ok_or("a generator is a call")?;
    let pattern = Pattern::named(name).ok_or_else(|| format!("no generator {name}"))?;
    let argument = |name: &str| -> Result<i64, String> {
        let value = arguments.split(name).nth(1).and_then(|rest| rest.split("=>").nth(1));
        let digits = value.map(|text| text.split([',', ')']).next().unwrap_or("").trim());
        let number = digits.and_then(|text| text.parse().ok());
        number.ok_or_else(|| format!("a generator takes {name} => NUMBER"))
    };
    let (seed, seconds) = (argument("seed")? as u64, argument("seconds")?);
    Ok(Fill::Generated { pattern, seed, rows: *rows as usize, seconds })
}

/// The interval that comes after `word`, if one does.
fn interval_after(sql: &str, word: &str) -> Option<i64> {
    let rest = &sql[sql.find(word)? + word.len()..];
    interval(&rest[rest.find("INTERVAL '")?..])
}
