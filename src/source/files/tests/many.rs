//! Folders, patterns, the order of event time, pace, and resuming.

use std::time::Duration;

use super::*;
use crate::error::ErrorKind;
use crate::source::files::with::{WithOptions, WithValue, source_options};

fn csv(times: impl IntoIterator<Item = i64>, host: &str) -> String {
    let rows = times.into_iter().map(|time| format!("{time},{host},1\n"));
    format!("ts,host,cpu\n{}", rows.collect::<String>())
}

fn by_time(batch_rows: usize) -> FileReadOptions {
    FileReadOptions { order: ReadOrder::EventTime, batch_rows, ..options() }
}

/// `seconds host` of every row.
fn read_pairs(path: &Path, options: FileReadOptions) -> Vec<(i64, String)> {
    let rows = shown(&read_all(&mut open(path, options)));
    let pair = |row: &String| {
        let (time, rest) = row.split_once(' ').unwrap();
        (time.parse().unwrap(), rest.split(' ').next().unwrap().to_owned())
    };
    rows.iter().map(pair).collect()
}

#[test]
fn folders_and_patterns_are_read_by_name() {
    let folder = TempDir::new().unwrap();
    for (name, time) in [("b1.csv", 3), ("a1.csv", 1), ("a2.csv", 2)] {
        put(&folder, name, csv([time], name));
    }
    put(&folder, "notes.txt", "not data");
    put(&folder, ".hidden.csv", "not data");
    put(&folder, "c1.csv.partial", "not data");
    fs::create_dir(folder.path().join("sub.csv")).unwrap();
    let read =
        |path: &Path| read_pairs(path, options()).into_iter().map(|row| row.0).collect::<Vec<_>>();
    assert_eq!(read(folder.path()), [1, 2, 3]);
    assert_eq!(read(&folder.path().join("a*.csv")), [1, 2]);
    assert_eq!(read(&folder.path().join("?1.csv")), [1, 3]);
}

#[test]
fn paths_that_lead_nowhere_are_unavailable() {
    let folder = TempDir::new().unwrap();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for path in [
        folder.path().join("no.csv"),
        empty.clone(),
        folder.path().join("*.csv"),
        empty.join("no/*.csv"),
    ] {
        let error = FileReader::open(&path, schema(), options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains(folder.path().to_str().unwrap()), "{error}");
    }
    let path = put(&folder, "a.dat", "");
    assert_eq!(
        FileReader::open(&path, schema(), options()).unwrap_err().kind(),
        ErrorKind::Settings
    );
}

#[test]
fn interleaved_files_are_merged_by_event_time() {
    let folder = TempDir::new().unwrap();
    put(&folder, "a.csv", csv((0..50).map(|n| n * 2), "a"));
    put(&folder, "b.csv", csv((0..50).map(|n| n * 2 + 1), "b"));
    for batch_rows in [1, 7, 8192] {
        let times: Vec<_> =
            read_pairs(folder.path(), by_time(batch_rows)).into_iter().map(|row| row.0).collect();
        assert!(times.iter().copied().eq(0..100), "{batch_rows}: {times:?}");
    }
}

#[test]
fn order_is_by_time_then_file_then_row_whatever_the_batches() {
    let folder = TempDir::new().unwrap();
    // A fixed scramble with many equal times and some disorder within each file.
    let scramble = |seed: i64| (0..400).map(move |n| n / 8 + (n * 7 + seed) % 11);
    let mut expected = Vec::new();
    for (name, seed) in [("a", 1), ("b", 5), ("c", 3)] {
        put(&folder, &format!("{name}.csv"), csv(scramble(seed), name));
        expected.extend(scramble(seed).map(|time| (time, name.to_owned())));
    }
    expected.sort_by_key(|row| row.0);
    for batch_rows in [1, 5, 64, 8192] {
        assert_eq!(read_pairs(folder.path(), by_time(batch_rows)), expected, "{batch_rows}");
    }
}

#[test]
fn sorted_files_one_after_another_hold_few_rows() {
    let folder = TempDir::new().unwrap();
    for day in 0..5 {
        put(&folder, &format!("{day}.csv"), csv(day * 100..day * 100 + 100, "a"));
    }
    let options = FileReadOptions { rows_in_order_max: 32, ..by_time(16) };
    let times: Vec<_> = read_pairs(folder.path(), options).into_iter().map(|row| row.0).collect();
    assert!(times.into_iter().eq(0..500));
}

#[test]
fn more_disorder_than_fits_is_refused_with_a_hint() {
    let folder = TempDir::new().unwrap();
    let path = put(&folder, "a.csv", csv((0..1000).rev(), "a"));
    let mut reader = open(&path, FileReadOptions { rows_in_order_max: 100, ..by_time(10) });
    let error = reader.find_map(Result::err).unwrap();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.message().contains("rows_in_order_max = 100"), "{error}");
    assert!(error.hint().unwrap().contains("999 s"), "{error}");
    let enough = FileReadOptions { rows_in_order_max: 1000, ..by_time(10) };
    assert_eq!(read_pairs(&path, enough).len(), 1000);
}

#[test]
fn malformed_rows_count_once_in_order_of_event_time() {
    let folder = TempDir::new().unwrap();
    put(&folder, "a.csv", "ts,host,cpu\n2,a,1\nx,a,1\n1,a,1\n3,a,low\n");
    put(&folder, "b.csv", "ts,host,cpu\nx,b,1\n");
    let mut reader = open(folder.path(), by_time(8));
    assert_eq!(shown(&read_all(&mut reader)), ["1 a 1", "2 a 1"]);
    assert_eq!(reader.malformed_rows(), 3);
}

#[test]
fn paced_batches_say_when_they_are_due() {
    let folder = TempDir::new().unwrap();
    let path = put(&folder, "a.csv", csv([100, 100, 160, 150, 220], "a"));
    let options = FileReadOptions { pace: Pace::Times(60.0), ..options() };
    let mut reader = open(&path, options);
    let mut pieces = Vec::new();
    while let Some(piece) = reader.next_paced() {
        let piece = piece.unwrap();
        pieces.push((piece.batch.num_rows(), piece.due));
    }
    let s = Duration::from_secs;
    assert_eq!(pieces, [(2, s(0)), (1, s(1)), (1, s(1)), (1, s(2))]);
    let mut reader = open(&path, self::options());
    assert_eq!(reader.next_paced().unwrap().unwrap().batch.num_rows(), 5);
}

#[test]
fn reading_resumes_after_skipped_rows() {
    let folder = TempDir::new().unwrap();
    put(&folder, "a.csv", csv(0..10, "a"));
    put(&folder, "b.csv", csv(5..15, "b"));
    for options in [by_time(4), FileReadOptions { batch_rows: 4, ..options() }] {
        let whole = read_pairs(folder.path(), options.clone());
        for skipped in [0, 3, 4, 13, 20, 99] {
            let mut reader = open(folder.path(), options.clone());
            reader.skip_rows(skipped).unwrap();
            assert_eq!(reader.rows_read(), skipped.min(20));
            let rest = read_all(&mut reader);
            assert_eq!(
                rest.num_rows(),
                whole.len().saturating_sub(usize::try_from(skipped).unwrap())
            );
            assert_eq!(reader.rows_read(), 20);
        }
    }
}

#[test]
fn options_are_read_from_the_statement() {
    let text = |text: &str| WithValue::Text(text.to_owned());
    let with: WithOptions = [
        ("path".to_owned(), text("a.csv")),
        ("order".to_owned(), text("event_time")),
        ("pace".to_owned(), WithValue::Number(2.5)),
        ("batch_rows".to_owned(), WithValue::Number(100.0)),
        ("columns".to_owned(), text("ts=time, cpu = CPU Usage")),
        ("time_unit".to_owned(), text("ms")),
    ]
    .into();
    let (path, options) = source_options(&with).unwrap();
    assert_eq!(path, PathBuf::from("a.csv"));
    assert_eq!((options.order, options.pace), (ReadOrder::EventTime, Pace::Times(2.5)));
    assert_eq!(options.columns["cpu"], "CPU Usage");
    for (name, value) in [
        ("pace", WithValue::Number(0.0)),
        ("pace", WithValue::Number(f64::NAN)),
        ("pace", WithValue::Number(f64::INFINITY)),
        ("batch_rows", WithValue::Number(0.5)),
        ("batch_rows", WithValue::Number(-1.0)),
        ("order", text("random")),
        ("columns", text("ts")),
        ("delimiter", text("||")),
        ("colour", text("red")),
    ] {
        let with = [("path".to_owned(), text("a.csv")), (name.to_owned(), value)].into();
        let error = source_options(&with).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Settings, "{error}");
        assert!(error.message().contains(name) && error.hint().is_some(), "{error}");
    }
}
