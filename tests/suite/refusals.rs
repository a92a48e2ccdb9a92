//! What is refused, word for word: message, place and hint, against `tests/golden/refusals.slt`.
//!
//! `DRIFTLINE_GOLDEN=write cargo test --workspace --all-features --test integration -- suite::refusals` writes the file anew.

use std::fmt::Write as _;
use std::path::Path;

use driftline::Engine;
use sqllogictest::{DefaultColumnType, ExpectedError, Record, StatementExpect};

#[test]
fn refusals_say_what_where_and_how_to_mend_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/refusals.slt");
    let text = std::fs::read_to_string(&path).unwrap();
    let records = sqllogictest::parse::<DefaultColumnType>(&text).unwrap();
    let engine = Engine::builder().workers(1).build().unwrap();
    let (mut refusals, mut wrong, mut written) = (0, Vec::new(), String::new());
    for mut record in records {
        if let Record::Statement { sql, expected, loc, .. } = &mut record {
            let found = said(&engine, sql);
            let matches = match (&*expected, &found) {
                (StatementExpect::Ok, None) => true,
                (StatementExpect::Error(expected), Some(found)) => {
                    refusals += 1;
                    expected.is_match(found, None)
                        && matches!(expected, ExpectedError::Multiline(_))
                }
                _ => false,
            };
            if !matches {
                wrong.push(format!("{loc}: {sql}\n   found {found:?}\nexpected {expected:?}"));
            }
            if let (StatementExpect::Error(expected), Some(found)) = (expected, found) {
                *expected = ExpectedError::Multiline(found);
            }
        }
        writeln!(written, "{record}").unwrap();
    }
    assert!(refusals >= 20, "{refusals} refusals");
    if std::env::var("DRIFTLINE_GOLDEN").as_deref() == Ok("write") {
        // One blank line between records, two after a message, as the format wants them.
        while written.contains("\n\n\n\n") {
            written = written.replace("\n\n\n\n", "\n\n\n");
        }
        std::fs::write(&path, written.trim_end().to_owned() + "\n\n\n").unwrap();
    } else {
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    }
}

/// What the engine says to a statement, or to a query that would run.
fn said(engine: &Engine, sql: &str) -> Option<String> {
    let is_query = ["SELECT", "WITH"].iter().any(|word| sql.starts_with(word));
    let error = match is_query {
        true => engine.subscribe(sql).err()?,
        false => engine.execute(sql).err()?,
    };
    Some(format!("{:?}: {error}", error.kind()))
}
