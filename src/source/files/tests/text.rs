//! CSV and NDJSON as the world writes them.

use arrow::array::Array;
use arrow::datatypes::{Int64Type, TimestampMillisecondType};

use super::*;
use crate::error::ErrorKind;

#[test]
fn line_ends_marks_and_quotes_do_not_matter() {
    let folder = TempDir::new().unwrap();
    for (name, content) in [
        ("plain.csv", "ts,host,cpu\n1,a,0.5\n2,b,1\n"),
        ("crlf.csv", "ts,host,cpu\r\n1,a,0.5\r\n2,b,1\r\n"),
        ("no_last_feed.csv", "ts,host,cpu\n1,a,0.5\n2,b,1"),
        ("mark.csv", "\u{feff}ts,host,cpu\n1,a,0.5\n2,b,1\n"),
        ("quoted.csv", "\"ts\",\"host\",\"cpu\"\n\"1\",\"a\",\"0.5\"\n2,b,\"1\"\n"),
        ("blank_lines.csv", "\nts,host,cpu\n\n1,a,0.5\n\r\n2,b,1\n\n"),
        ("other_order.csv", "CPU,extra,Host,TS\n0.5,x,a,1\n1,,b,2\n"),
        ("padded.csv", "ts, host, cpu\n 1,a, 0.5\n2 ,b,1 \n"),
        ("tabs.tsv", "ts\thost\tcpu\n1\ta\t0.5\n2\tb\t1\n"),
        (
            "plain.ndjson",
            "{\"ts\":1,\"host\":\"a\",\"cpu\":0.5}\n{\"cpu\":1,\"host\":\"b\",\"ts\":2}\n",
        ),
        (
            "spaced.jsonl",
            "\r\n { \"TS\" : \"1\" , \"host\":\"\\u0061\", \"cpu\":\"0.5\", \"x\":{\"y\":[1]} }\r\n\n{\"ts\":2,\"host\":\"b\",\"cpu\":1}",
        ),
    ] {
        assert_eq!(rows_of(&put(&folder, name, content)), ["1 a 0.5", "2 b 1"], "{name}");
        let zipped = put(&folder, &format!("{name}.gz"), gzip(content));
        assert_eq!(rows_of(&zipped), ["1 a 0.5", "2 b 1"], "{name}.gz");
        // Gzip is told by the bytes, whatever the name says.
        let unnamed = put(&folder, &format!("hidden_{name}"), gzip(content));
        assert_eq!(rows_of(&unnamed), ["1 a 0.5", "2 b 1"], "hidden {name}");
    }
}

#[test]
fn nulls_and_empty_texts_are_told_apart() {
    let folder = TempDir::new().unwrap();
    let path = put(&folder, "a.csv", "ts,host,cpu\n1,,\n2,\"\",NA\n3,NA,4\n4,\"NA\",5\n");
    let mut options = options();
    options.csv.null_text = "NA".to_owned();
    let mut reader = open(&path, options);
    let rows = read_all(&mut reader);
    assert_eq!(shown(&rows), ["1 null null", "2  null", "3 null 4", "4 NA 5"]);
    let path = put(
        &folder,
        "a.ndjson",
        "{\"ts\":1,\"host\":null}\n{\"ts\":2,\"host\":\"\",\"cpu\":null}\n",
    );
    assert_eq!(rows_of(&path), ["1 null null", "2  null"]);
}

#[test]
fn quoted_fields_span_lines() {
    let folder = TempDir::new().unwrap();
    let path = put(&folder, "a.csv", "ts,host,cpu\n1,\"a\nb, \"\"c\"\"\",1\n2,d,2\nx,e,3\n");
    let mut reader = open(&path, options());
    assert_eq!(shown(&read_all(&mut reader)), ["1 a\nb, \"c\" 1", "2 d 2"]);
    assert_eq!(reader.malformed_examples()[0].line, 5);
}

#[test]
fn malformed_lines_are_counted_one_by_one() {
    let folder = TempDir::new().unwrap();
    let content =
        b"ts,host,cpu\n1,a,1\n2,b\n3,c,3,4\nnever,d,4\n5,e,high\n6,\xff,6\n,g,7\n8,\"h,8\n9,i,9\n";
    let path = put(&folder, "a.csv", content);
    let mut reader = open(&path, options());
    assert_eq!(shown(&read_all(&mut reader)), ["1 a 1", "9 i 9"]);
    assert_eq!(reader.malformed_rows(), 7);
    let lines: Vec<_> = reader.malformed_examples().iter().map(|row| row.line).collect();
    assert_eq!(lines, [3, 4, 5, 6, 7, 8, 9]);
    let reasons = reader.malformed_examples();
    assert!(reasons[0].reason.contains("2 fields instead of 3"), "{}", reasons[0]);
    assert!(reasons[2].reason.contains("\"never\""), "{}", reasons[2]);
    assert!(reasons[4].reason.contains("UTF-8"), "{}", reasons[4]);
    assert!(reasons[6].reason.contains("quote"), "{}", reasons[6]);

    let path = put(
        &folder,
        "a.ndjson",
        "{\"ts\":1}\n{\"ts\":2\n[3]\n{\"ts\":4} x\n{\"ts\":5,\"cpu\":{}}\n{\"host\":\"f\"}\nnull\n{\"ts\":8}\n",
    );
    let mut reader = open(&path, options());
    assert_eq!(shown(&read_all(&mut reader)), ["1 null null", "8 null null"]);
    let lines: Vec<_> = reader.malformed_examples().iter().map(|row| row.line).collect();
    assert_eq!(lines, [2, 3, 4, 5, 6, 7]);
}

#[test]
fn refusing_malformed_rows_names_the_line() {
    let folder = TempDir::new().unwrap();
    let path = put(&folder, "a.csv", "ts,host,cpu\n1,a,1\n2,b\n");
    let mut reader =
        open(&path, FileReadOptions { malformed: MalformedPolicy::Refuse, ..options() });
    let error = reader.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("line 3") && error.to_string().contains("a.csv"), "{error}");
    assert!(reader.next().is_none());
}

#[test]
fn a_file_of_nothing_but_malformed_rows_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = put(&folder, "a.csv", format!("ts,host,cpu\n{}", "yesterday,a,1\n".repeat(200)));
    let error = open(&path, options()).next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("yesterday"), "{error}");
}

#[test]
fn records_without_end_are_skipped_in_bounded_memory() {
    let folder = TempDir::new().unwrap();
    let long = "x".repeat(3 << 20);
    let path = put(
        &folder,
        "a.csv",
        format!("ts,host,cpu\n1,{long},1\n2,b,2\n3,\"{}\n", "y,z,1\n".repeat(300_000)),
    );
    let mut reader = open(&path, options());
    assert_eq!(shown(&read_all(&mut reader))[0], "2 b 2");
    let lines: Vec<_> = reader.malformed_examples().iter().map(|row| row.line).collect();
    assert_eq!(lines[..2], [2, 4]);
}

#[test]
fn files_without_rows_yield_none() {
    let folder = TempDir::new().unwrap();
    for (name, content) in [
        ("a.csv", ""),
        ("b.csv", "ts,host,cpu\n"),
        ("c.csv", "ts,host,cpu"),
        ("d.ndjson", ""),
        ("e.ndjson", "\n\n"),
    ] {
        assert!(rows_of(&put(&folder, name, content)).is_empty(), "{name}");
    }
}

#[test]
fn columns_are_matched_mapped_or_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let path = put(&folder, "a.csv", "time,CPU Usage\n1,2\n");
    let error = FileReader::open(&path, schema(), options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.message().contains("\"ts\""), "{error}");
    assert!(error.hint().unwrap().contains("\"CPU Usage\""), "{error}");
    let mut options = options();
    options.columns.insert("ts".to_owned(), "time".to_owned());
    options.columns.insert("cpu".to_owned(), "cpu usage".to_owned());
    assert_eq!(shown(&read_all(&mut open(&path, options.clone()))), ["1 null 2"]);
    options.columns.insert("host".to_owned(), "machine".to_owned());
    let error = FileReader::open(&path, schema(), options).unwrap_err();
    assert!(error.message().contains("\"machine\""), "{error}");
    let twice = put(&folder, "b.csv", "ts,Ts,tS,ts\n1,2,3,4\n");
    assert!(FileReader::open(&twice, schema(), self::options()).is_err());
}

#[test]
fn without_a_header_columns_are_matched_by_position() {
    let folder = TempDir::new().unwrap();
    let path = put(&folder, "a.csv", "1;a;0.5\n2;b;1\n");
    let mut options = options();
    options.csv = CsvOptions { header: false, delimiter: Some(b';'), ..CsvOptions::default() };
    assert_eq!(shown(&read_all(&mut open(&path, options.clone()))), ["1 a 0.5", "2 b 1"]);
    options.columns.insert("cpu".to_owned(), "column_1".to_owned());
    options.columns.insert("ts".to_owned(), "column_1".to_owned());
    assert_eq!(shown(&read_all(&mut open(&path, options))), ["1 null 1", "2 null 2"]);
}

#[test]
fn values_are_cast_without_loss() {
    let folder = TempDir::new().unwrap();
    let path = put(
        &folder,
        "a.csv",
        "n,at,ok,name\n1.0,2014-02-14T14:30:00+01:00,yes,007\n1.5,1,no,x\n,5.5,true,y\n",
    );
    let schema = Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
        Field::new("ok", DataType::Boolean, true),
        Field::new("name", DataType::Utf8View, false),
    ]));
    let mut reader = FileReader::open(&path, schema, options()).unwrap();
    let rows = read_all(&mut reader);
    assert_eq!(
        rows.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(),
        [Some(1), None]
    );
    let times = rows.column(1).as_primitive::<TimestampMillisecondType>();
    assert_eq!(times.values()[..], [1_392_384_600_000, 5_500]);
    assert!(rows.column(2).as_boolean().value(0) && rows.column(2).as_boolean().value(1));
    assert_eq!(rows.column(3).as_string_view().value(0), "007");
    assert_eq!((reader.malformed_rows(), reader.malformed_examples()[0].line), (1, 3));
}

#[test]
fn nested_columns_come_from_json_text() {
    let folder = TempDir::new().unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new(
        "detail",
        DataType::Struct(vec![Field::new("a", DataType::Int64, false)].into()),
        true,
    )]));
    let csv =
        "detail\n\"{\"\"a\"\":1}\"\nnull\n\"{\"\"b\"\":1}\"\n\"1},{\"\n\"{\"\"a\"\":\"\"x\"\"}\"\n";
    let json = "{\"detail\":{\"a\":1}}\n{\"detail\":null}\n{\"detail\":{\"b\":1}}\n{\"detail\":[]}\n{\"detail\":{\"a\":\"x\"}}\n";
    for path in [put(&folder, "a.csv", csv), put(&folder, "a.ndjson", json)] {
        let mut reader = FileReader::open(&path, schema.clone(), options()).unwrap();
        let rows = read_all(&mut reader);
        assert_eq!((rows.num_rows(), reader.malformed_rows()), (2, 3), "{path:?}");
        assert_eq!(rows.column(0).as_struct().column(0).as_primitive::<Int64Type>().value(0), 1);
        assert!(rows.column(0).is_null(1));
    }
}

#[test]
fn schemas_are_inferred_with_timestamps() {
    let folder = TempDir::new().unwrap();
    let csv = "ts,epoch_ms,n,x,ok,name,none\n2014-02-14 14:30:00,1392388200000,1,1,true,a,\n2014-02-14 14:35:00,1392388500000,2,2.5,FALSE,7,\n";
    let inferred = infer_schema(put(&folder, "a.csv", csv), &options()).unwrap();
    let types: Vec<_> = inferred.fields().iter().map(|field| field.data_type().clone()).collect();
    let timestamp = DataType::Timestamp(TimeUnit::Nanosecond, None);
    assert_eq!(
        types,
        [
            timestamp.clone(),
            timestamp.clone(),
            DataType::Int64,
            DataType::Float64,
            DataType::Boolean,
            DataType::Utf8,
            DataType::Utf8,
        ]
    );
    let json = "{\"@timestamp\":\"2014-02-14T14:30:00Z\",\"port\":\"80\",\"n\":1}\n{\"n\":null,\"tags\":{\"a\":[1]}}\n";
    let inferred = infer_schema(put(&folder, "a.ndjson", json), &options()).unwrap();
    assert_eq!(inferred.field(0).data_type(), &timestamp);
    assert_eq!(inferred.field(1).data_type(), &DataType::Utf8);
    assert_eq!(inferred.field(2).data_type(), &DataType::Int64);
    assert!(matches!(inferred.field(3).data_type(), DataType::Struct(_)));
    assert_eq!(
        infer_schema(put(&folder, "b.csv", ""), &options()).unwrap_err().kind(),
        ErrorKind::Data
    );
}
