//! Broken files are errors that name the path: never a panic, never rows that were not there.

use arrow::array::{Float64Array, StringArray, TimestampNanosecondArray};

use std::io::{Seek, SeekFrom};

use super::*;
use crate::error::ErrorKind;
use crate::sink::files::{FileSink, FileWriteOptions};

fn sample() -> RecordBatch {
    RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(TimestampNanosecondArray::from_iter_values(
                (0..64).map(|n| n * 1_000_000_000),
            )),
            Arc::new(
                (0..64).map(|n| (n % 3 > 0).then(|| format!("host {n}"))).collect::<StringArray>(),
            ),
            Arc::new(Float64Array::from_iter_values((0..64).map(f64::from))),
        ],
    )
    .unwrap()
}

fn written(folder: &TempDir, name: &str) -> (PathBuf, Vec<u8>) {
    let path = folder.path().join(name);
    let mut sink = FileSink::create(&path, schema(), &FileWriteOptions::default()).unwrap();
    sink.write(&sample()).unwrap();
    sink.write(&sample()).unwrap();
    sink.finish().unwrap();
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

fn read_or_fail(path: &Path) -> Result<usize> {
    let reader = FileReader::open(path, schema(), options())?;
    reader.map(|batch| batch.map(|batch| batch.num_rows())).sum()
}

#[test]
fn a_truncated_gzip_yields_its_rows_and_then_an_error() {
    let folder = TempDir::new().unwrap();
    let content = format!(
        "ts,host,cpu\n{}",
        (0..5000).map(|n| format!("{n},a,{}", n * 7919 % 1009)).collect::<Vec<_>>().join("\n")
    );
    let mut bytes = gzip(&content);
    bytes.truncate(bytes.len() - 100);
    let path = put(&folder, "a.csv.gz", bytes);
    let results: Vec<_> = open(&path, options()).collect();
    let error = results.last().unwrap().as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(
        error.message().contains("truncated gzip") && error.message().contains("a.csv.gz"),
        "{error}"
    );
    assert!(results[0].as_ref().unwrap().num_rows() > 1000);
}

#[test]
fn files_of_another_kind_are_recognised() {
    let folder = TempDir::new().unwrap();
    for (name, content, problem) in [
        ("a.csv", &b"\xff\xfet\0s\0"[..], "UTF-16"),
        ("b.csv", b"PAR1xxxx", "parquet"),
        ("c.csv", b"ARROW1\0\0", "arrow"),
        ("d.csv", b"ts,ho\xffst,cpu\n1,a,1\n", "UTF-8"),
        ("e.ndjson", b" [{\"ts\":1}]", "JSON array"),
        ("f.arrow", b"ts,host,cpu\n1,a,1\n", "arrow"),
        ("g.arrow", b"", "arrow"),
        ("h.arrow", b"ARROW1\0\0", "arrow"),
        ("i.csv", b"a,b\n1,2\n", "ts"),
    ] {
        let path = put(&folder, name, content);
        let error = read_or_fail(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{name}: {error}");
        assert!(error.message().contains(name) && error.message().contains(problem), "{error}");
    }
}

#[test]
fn types_that_cannot_be_read_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let (path, _) = written(&folder, "a.arrow");
    let schema = Arc::new(Schema::new(vec![
        Field::new("cpu", DataType::new_list(DataType::Utf8, true), true),
        Field::new("host", DataType::Duration(TimeUnit::Second), true),
    ]));
    let error = FileReader::open(&path, schema, options()).unwrap().next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.hint().is_some(), "{error}");
}

/// Cuts a file at every length and flips bytes all over it: each attempt ends in rows or in an error.
fn damage_everywhere(name: &str, format: &str) {
    let folder = TempDir::new().unwrap();
    let (path, bytes) = written(&folder, name);
    assert_eq!(read_or_fail(&path).unwrap(), 128);
    // In place: a file that is replaced by truncation ten thousand times would wait for the disk each time.
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let mut put_byte = |at: usize, byte: u8| {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    for (at, byte) in bytes.iter().enumerate() {
        for mask in [0x80, 0xff] {
            put_byte(at, byte ^ mask);
            if let Err(error) = read_or_fail(&path) {
                assert_eq!(error.kind(), ErrorKind::Data, "flipped at {at}: {error}");
            }
        }
        put_byte(at, *byte);
    }
    for length in (0..bytes.len()).rev().step_by(7) {
        file.set_len(length as u64).unwrap();
        if let Err(error) = read_or_fail(&path) {
            assert_eq!(error.kind(), ErrorKind::Data, "cut at {length}: {error}");
            assert!(error.message().contains(name), "{error}");
        } else {
            assert!(format == "stream", "{name} was read whole when cut at {length}");
        }
    }
}

#[test]
fn damaged_arrow_files_never_panic() {
    damage_everywhere("a.arrow", "file");
}

#[test]
fn damaged_arrow_streams_never_panic() {
    damage_everywhere("a.arrows", "stream");
}

#[cfg(feature = "parquet")]
#[test]
fn damaged_parquet_files_never_panic() {
    damage_everywhere("a.parquet", "file");
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_without_its_feature_is_unsupported() {
    let folder = TempDir::new().unwrap();
    let path = put(&folder, "a.parquet", "PAR1");
    assert_eq!(read_or_fail(&path).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[cfg(unix)]
#[test]
fn unreadable_files_are_unavailable() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let path = put(&folder, "a.csv", "ts,host,cpu\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything.
    if fs::read(&path).is_err() {
        let error = read_or_fail(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("permission"), "{error}");
    }
}
