//! Log lines: whatever they are, and whatever format they are said to have, each gets a key, or the format is refused.

use std::sync::Arc;

use driftline::arrow::array::{
    Array, ArrayRef, RecordBatch, StringArray, TimestampNanosecondArray,
};
use driftline::logs::{LOGHUB_FORMATS, LogKeyParser, LogKeys};
use driftline::{Engine, Error, ErrorKind};

/// Most lines of one input.
const LINES_MAX: usize = 2_000;

/// The first byte chooses the parser, and whether words that take turns keep lines apart, the second what a line is made up of: a system's format, none, or the first line as
/// one of its own. The rest is lines. The number of keys that were given.
pub fn run(data: &[u8]) -> usize {
    let [parser, format, text @ ..] = data else { return 0 };
    let text = String::from_utf8_lossy(text);
    let mut lines = text.split('\n');
    let parsers = [LogKeyParser::Signature, LogKeyParser::Spell, LogKeyParser::Drain];
    let keys = LogKeys::of("logs", "line").parser(parsers[usize::from(*parser) % parsers.len()]);
    let keys = match usize::from(*parser) / parsers.len() % 2 {
        0 => keys,
        _ => keys.split_values_max(4).split_lines_min(3),
    };
    let keys = match usize::from(*format) {
        0 => keys,
        1 => keys.format(lines.next().unwrap_or_default()),
        2 => keys.masks([lines.next().unwrap_or_default()]),
        3 => keys.protected([lines.next().unwrap_or_default()]),
        4 => keys.delimiters(lines.next().unwrap_or_default()),
        system => keys.format(LOGHUB_FORMATS[system % LOGHUB_FORMATS.len()].name),
    };
    let engine = Engine::builder().workers(1).build().expect("an engine starts");
    let created =
        engine.execute("CREATE SOURCE logs (ts TIMESTAMP, line TEXT, WATERMARK FOR ts AS ts)");
    created.expect("the source is right");
    let query = format!("SELECT log_key, template, parameters FROM {keys}");
    let results = match engine.subscribe(&query) {
        Ok(results) => results,
        Err(error) => return expected(&error),
    };
    let lines: Vec<&str> = lines.take(LINES_MAX).collect();
    let times = TimestampNanosecondArray::from_iter_values(0..lines.len() as i64);
    let columns: [ArrayRef; 2] = [Arc::new(times), Arc::new(StringArray::from(lines))];
    let source = engine.source("logs").expect("it was created");
    let rows = RecordBatch::try_new(source.schema(), columns.to_vec()).expect("columns fit");
    let count = rows.num_rows();
    if let Err(error) = source.push(rows).and_then(|()| engine.shutdown()) {
        return expected(&error);
    }
    let mut keyed = 0;
    for batch in results {
        match batch {
            Ok(batch) => keyed += batch.num_rows() - batch.column(0).null_count(),
            Err(error) => return expected(&error),
        }
    }
    assert_eq!(keyed, count, "every line has a key: {query}");
    keyed
}

/// An error that lines or options may cause.
fn expected(error: &Error) -> usize {
    assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
    0
}
