//! Proves that what a sink writes is read back the same, in every format, and that no failure passes in silence.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray, TimestampNanosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type};
use tempfile::TempDir;

use super::*;
use crate::source::files::with::{WithOptions, WithValue};
use crate::source::files::{CsvOptions, FileReadOptions, FileReader};

fn batch() -> RecordBatch {
    let expected: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.5), None, Some(1e-9)]));
    let label: ArrayRef = Arc::new(StringArray::from(vec![Some("a \"b\",\nc"), None, Some("")]));
    let detail = StructArray::from(vec![
        (Arc::new(Field::new("expected", DataType::Float64, true)), expected),
        (Arc::new(Field::new("label", DataType::Utf8, true)), label),
    ]);
    let top = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
    ]);
    RecordBatch::try_from_iter_with_nullable(vec![
        (
            "ts",
            Arc::new(TimestampNanosecondArray::from(vec![1_392_388_200_000_000_000, 5, -1]))
                as ArrayRef,
            false,
        ),
        ("host", Arc::new(StringArray::from(vec![Some("a, b"), Some(""), None])), true),
        ("score", Arc::new(Float64Array::from(vec![Some(0.1), None, Some(-3e300)])), true),
        ("count", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(7), None])), true),
        ("is_anomaly", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])), true),
        ("detail", Arc::new(detail), true),
        ("top", Arc::new(top), true),
    ])
    .unwrap()
}

fn read(path: &Path, schema: &SchemaRef) -> RecordBatch {
    let reader = FileReader::open(path, schema.clone(), FileReadOptions::default()).unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    concat_batches(schema, &batches).unwrap()
}

fn write(path: &Path, options: &FileWriteOptions, batches: &[RecordBatch]) {
    let mut sink = FileSink::create(path, batches[0].schema(), options).unwrap();
    for batch in batches {
        sink.write(batch).unwrap();
    }
    sink.flush().unwrap();
    let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
    assert_eq!(sink.finish().unwrap(), rows);
}

#[test]
fn every_format_is_read_back_as_written() {
    let folder = TempDir::new().unwrap();
    let mut names =
        vec!["a.csv", "a.tsv", "a.csv.gz", "a.ndjson", "a.jsonl.gz", "a.arrow", "a.arrows"];
    if cfg!(feature = "parquet") {
        names.push("a.parquet");
    }
    for name in names {
        let path = folder.path().join(name);
        write(&path, &FileWriteOptions::default(), &[batch(), batch()]);
        let expected = concat_batches(&batch().schema(), &[batch(), batch()]).unwrap();
        assert_eq!(read(&path, &batch().schema()), expected, "{name}");
        assert!(!folder.path().join(format!("{name}.partial")).exists());
    }
}

#[test]
fn a_null_text_is_told_from_the_same_text() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.csv");
    let csv = CsvOptions { null_text: "NA".to_owned(), ..CsvOptions::default() };
    let hosts: ArrayRef = Arc::new(StringArray::from(vec![Some("NA"), None, Some("x")]));
    let batch = RecordBatch::try_from_iter_with_nullable(vec![("host", hosts, true)]).unwrap();
    write(
        &path,
        &FileWriteOptions { csv: csv.clone(), ..Default::default() },
        std::slice::from_ref(&batch),
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "host\n\"NA\"\nNA\nx\n");
    let options = FileReadOptions { csv, ..FileReadOptions::default() };
    let mut reader = FileReader::open(&path, batch.schema(), options).unwrap();
    assert_eq!(reader.next().unwrap().unwrap(), batch);
}

#[test]
fn the_path_holds_the_old_file_until_the_sink_is_finished() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.ndjson");
    fs::write(&path, "old").unwrap();
    let mut sink = FileSink::create(&path, batch().schema(), &FileWriteOptions::default()).unwrap();
    sink.write(&batch()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    let rival = FileSink::create(&path, batch().schema(), &FileWriteOptions::default());
    assert_eq!(rival.unwrap_err().kind(), ErrorKind::Unavailable);
    drop(sink);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert!(
        fs::read_to_string(folder.path().join("a.ndjson.partial")).unwrap().contains("is_anomaly")
    );
}

#[test]
fn appended_rows_are_seen_at_once_and_follow_the_old_ones() {
    let folder = TempDir::new().unwrap();
    let options = FileWriteOptions { mode: WriteMode::Append, ..Default::default() };
    for name in ["a.csv", "a.ndjson"] {
        let path = folder.path().join(name);
        write(&path, &options, &[batch()]);
        let mut sink = FileSink::create(&path, batch().schema(), &options).unwrap();
        sink.write(&batch()).unwrap();
        assert_eq!(read(&path, &batch().schema()).num_rows(), 6, "{name}");
        sink.finish().unwrap();
    }
}

#[test]
fn appending_mends_a_torn_last_line_and_refuses_other_columns() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.csv");
    let options = FileWriteOptions { mode: WriteMode::Append, ..Default::default() };
    let counts: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let batch = RecordBatch::try_from_iter(vec![("n", counts)]).unwrap();
    fs::write(&path, "n\n5\n6").unwrap();
    write(&path, &options, std::slice::from_ref(&batch));
    assert_eq!(fs::read_to_string(&path).unwrap(), "n\n5\n6\n1\n");
    fs::write(&path, "m\n5\n").unwrap();
    let error = FileSink::create(&path, batch.schema(), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
}

#[test]
fn failures_name_the_path_and_the_remedy() {
    let folder = TempDir::new().unwrap();
    let open = |path: PathBuf, options: FileWriteOptions| {
        FileSink::create(path, batch().schema(), &options).unwrap_err()
    };
    let error = open(folder.path().join("no/a.csv"), FileWriteOptions::default());
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("a.csv"), "{error}");
    let error = open(
        folder.path().to_owned(),
        FileWriteOptions { format: Some(FileFormat::Csv), ..Default::default() },
    );
    assert_eq!(error.kind(), ErrorKind::Settings);
    let error = open(folder.path().join("a.dat"), FileWriteOptions::default());
    assert_eq!(error.kind(), ErrorKind::Settings);
    let append = FileWriteOptions { mode: WriteMode::Append, ..Default::default() };
    for name in ["a.parquet", "a.arrow", "a.csv.gz"] {
        let error = open(folder.path().join(name), append.clone());
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}");
    }
    let path = folder.path().join("a.csv");
    let mut sink = FileSink::create(&path, batch().schema(), &FileWriteOptions::default()).unwrap();
    let error = sink.write(&batch().project(&[0]).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    sink.write(&batch()).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_unavailable_and_names_the_path() {
    let full = Path::new("/dev/full");
    let options = FileWriteOptions {
        format: Some(FileFormat::Ndjson),
        mode: WriteMode::Append,
        ..Default::default()
    };
    let mut sink = FileSink::create(full, batch().schema(), &options).unwrap();
    let error = sink.write(&batch()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("/dev/full") && error.hint().is_some(), "{error}");
    assert_eq!(sink.write(&batch()).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(sink.finish().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn options_are_read_from_the_statement() {
    let text = |text: &str| WithValue::Text(text.to_owned());
    let with: WithOptions = [
        ("path".to_owned(), text("out.csv.gz")),
        ("delimiter".to_owned(), text(";")),
        ("header".to_owned(), WithValue::Bool(false)),
    ]
    .into();
    let (path, options) = sink_options(&with).unwrap();
    assert_eq!(path, PathBuf::from("out.csv.gz"));
    assert_eq!((options.csv.delimiter, options.csv.header), (Some(b';'), false));
    let error = sink_options(&[("pth".to_owned(), text("x"))].into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Settings);
    let with = [("path".to_owned(), text("a.csv")), ("mode".to_owned(), text("grow"))].into();
    assert!(sink_options(&with).unwrap_err().hint().unwrap().contains("append"));
}
