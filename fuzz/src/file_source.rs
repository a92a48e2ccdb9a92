//! Files of every format: whatever the bytes, reading them ends, with rows or with an error.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use driftline::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use driftline::{
    Error, ErrorKind, FileReadOptions, FileReader, MalformedPolicy, ReadOrder, infer_schema,
};

/// Names that the first byte chooses among; they tell the format.
pub const NAMES: [&str; 8] = [
    "rows.csv",
    "rows.tsv",
    "rows.ndjson",
    "rows.parquet",
    "rows.arrow",
    "rows.arrows",
    "rows.csv.gz",
    "rows.ndjson.gz",
];

/// Most rows that are read of one file: gzip makes much of little.
const ROWS_MAX: usize = 50_000;

static DECLARED: LazyLock<SchemaRef> = LazyLock::new(|| {
    let ts = Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true);
    let tags = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
    Arc::new(Schema::new(vec![
        ts,
        Field::new("host", DataType::Utf8, true),
        Field::new("cpu", DataType::Float64, true),
        Field::new("bytes", DataType::Int64, true),
        Field::new("ok", DataType::Boolean, true),
        Field::new("tags", tags, true),
    ]))
});

/// Reads the bytes after the first as a file, with the columns that are declared and with those that it suggests; the
/// number of rows that were read.
pub fn run(data: &[u8]) -> usize {
    let [choice, content @ ..] = data else { return 0 };
    let name = NAMES[usize::from(*choice) % NAMES.len()];
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let path = folder.path().join(name);
    std::fs::write(&path, content).expect("a temporary file can be written");
    let options = FileReadOptions {
        batch_rows: if choice & 0x10 == 0 { 3 } else { 8192 },
        order: if choice & 0x20 == 0 { ReadOrder::AsTheyLie } else { ReadOrder::EventTime },
        malformed: match choice & 0x40 {
            0 => MalformedPolicy::Skip,
            _ => MalformedPolicy::Refuse,
        },
        ..FileReadOptions::default()
    };
    let declared = read(&path, &DECLARED, &options);
    let inferred = infer_schema(&path, &options).map_err(expected);
    declared + inferred.map_or(0, |schema| read(&path, &schema, &options))
}

fn read(path: &Path, schema: &SchemaRef, options: &FileReadOptions) -> usize {
    let reader = FileReader::open(path, Arc::clone(schema), options.clone()).map_err(expected);
    let mut rows = 0;
    for batch in reader.into_iter().flatten() {
        match batch.map_err(expected) {
            Ok(batch) => {
                assert_eq!(batch.schema(), *schema, "a batch has the columns that were asked for");
                rows += batch.num_rows();
            }
            Err(()) => break,
        }
        if rows > ROWS_MAX {
            break;
        }
    }
    rows
}

/// An error that a file may cause.
fn expected(error: Error) {
    assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
}
