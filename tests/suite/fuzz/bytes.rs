//! Inputs that are not words: files, log lines and models, and what becomes of them byte by byte.

use std::sync::Arc;

use driftline::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use driftline::detectors::builtin_kinds;
use driftline::{EventTime, FileSink, FileWriteOptions};

use super::{file_source, model_import};
use crate::suite::support::Seeded;

/// Bytes that mean something somewhere.
const STRETCHES: [&[u8]; 24] = [
    b"\"",
    b"\"\"",
    b",",
    b"\n",
    b"\r\n",
    b"\r",
    b"\t",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b"\\u0000",
    b"null",
    b"-9223372036854775808",
    b"1e999",
    b"NaN",
    b"2024-13-45T99:99:99Z",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x80",
    b"\x7f\xff\xff\xff",
    b"\xef\xbb\xbf",
    b"<*> <Content>",
];

const CSV: &str = "ts,host,cpu,bytes,ok,tags
2024-01-01 00:00:00,\"a \"\"quoted\"\" host\",0.5,1,true,\"[\"\"x\"\",null]\"
2024-01-01T00:00:01.250Z,b,-1e3,,false,
1704067202,,NaN,9223372036854775807,TRUE,[]
";

const NDJSON: &str = r#"{"ts":"2024-01-01T00:00:00","host":"a","cpu":0.5,"bytes":1,"ok":true,"tags":["x",null]}
{"ts":1704067201000,"host":null,"cpu":1e-7,"bytes":-3,"ok":false,"nested":{"deep":[1,2,{"er":"\u00e9"}]}}

{"host":"c"}
"#;

/// Files of every format, each behind the byte that chooses its name.
pub(super) fn files() -> Vec<Vec<u8>> {
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from_iter_values(
        (0..20).map(|row| 1_704_067_200_000 + row * 1_000),
    ));
    let hosts: ArrayRef = Arc::new(StringArray::from_iter(
        (0..20).map(|row| (row % 7 > 0).then(|| format!("h{row}"))),
    ));
    let cpu: ArrayRef =
        Arc::new(Float64Array::from_iter_values((0..20).map(|row| f64::from(row) / 7.0)));
    let bytes: ArrayRef =
        Arc::new(Int64Array::from_iter((0..20).map(|row| (row % 3 > 0).then_some(row))));
    let ok: ArrayRef = Arc::new(BooleanArray::from_iter((0..20).map(|row| Some(row % 2 == 0))));
    let columns = [("ts", times), ("host", hosts), ("cpu", cpu), ("bytes", bytes), ("ok", ok)];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (choice, name) in file_source::NAMES.into_iter().enumerate() {
        let path = folder.path().join(name);
        let mut sink =
            FileSink::create(&path, rows.schema(), &FileWriteOptions::default()).unwrap();
        sink.write(&rows).unwrap();
        sink.finish().unwrap();
        let file = std::fs::read(path).unwrap();
        let texts = [CSV, NDJSON].map(str::as_bytes);
        let text = texts.into_iter().zip(["rows.csv", "rows.ndjson"]).find(|(_, of)| *of == name);
        for content in [Some(file.as_slice()), text.map(|(text, _)| text)].into_iter().flatten() {
            // In small batches and large ones, in both orders, skipping and refusing.
            for how in [0x00, 0x10, 0x20, 0x40] {
                files.push([&[choice as u8 | how], content].concat());
            }
        }
    }
    files
}

/// Lines of known and unknown systems, behind the bytes that choose parser and format.
pub(super) fn lines() -> Vec<Vec<u8>> {
    let hdfs = "081109 203615 148 INFO dfs.DataNode$PacketResponder: PacketResponder 1 for block blk_38 terminating
081109 203807 222 INFO dfs.DataNode$PacketResponder: PacketResponder 0 for block blk_-6952295868487656571 terminating
081109 204005 35 INFO dfs.FSNamesystem: BLOCK* NameSystem.addStoredBlock: blockMap updated: 10.251.73.220:50010 size 67108864";
    let plain = "user=ann logged in from 10.0.0.1:22\nuser=bob logged in from fe80::1%eth0\ntook 1.5e3ms (0xDEADBEEF)\n\n\t \n\u{1F600} {}=[]";
    let mut seeds = Vec::new();
    for parser in 0..3 {
        for format in [0, 4, 5, 6, 16, 20] {
            for text in [hdfs, plain] {
                seeds.push([&[parser, format], text.as_bytes()].concat());
            }
        }
        for (format, first) in [
            (1, "<Date> <Time> <Pid> <Level> <Component>: <Content>\n"),
            (1, "\\[<Time>\\] <Content>\n"),
            (2, "blk_-?\\d+\n"),
            (3, "INFO logged\n"),
        ] {
            seeds.push([&[parser, format], first.as_bytes(), hdfs.as_bytes()].concat());
        }
    }
    seeds
}

/// What detectors of every kind have learned, behind the byte that chooses the kind and whether sums are put right.
pub(super) fn models() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for kind in 0..builtin_kinds().len() {
        let engine = model_import::engine(kind);
        model_import::feed(&engine, 0, 400).unwrap();
        engine.source("load").unwrap().watermark(EventTime(900 * 1_000_000_000)).unwrap();
        let models = engine.export_models("d").unwrap();
        engine.shutdown().unwrap();
        seeds.push([&[kind as u8], models.as_slice()].concat());
        seeds.push([&[kind as u8 | 0x80], models.as_slice()].concat());
    }
    seeds
}

/// One of the seeds with some bytes changed.
pub(super) fn mutated(seeds: &[Vec<u8>], random: &mut Seeded) -> Vec<u8> {
    let pick = |random: &mut Seeded, n: usize| random.below(n as u64) as usize;
    let mut bytes = seeds[pick(random, seeds.len())].clone();
    for _ in 0..=pick(random, 4) {
        if bytes.is_empty() {
            break;
        }
        let (i, j) = (pick(random, bytes.len()), pick(random, bytes.len()));
        let (low, high) = (i.min(j), i.max(j).min(i.min(j) + 200));
        let stretch = STRETCHES[pick(random, STRETCHES.len())];
        match pick(random, 10) {
            0 | 1 => bytes[i] ^= 1 << pick(random, 8),
            2 => bytes[i] = random.next() as u8,
            3 => drop(bytes.splice(i..i, stretch.iter().copied())),
            4 => {
                let end = (i + stretch.len()).min(bytes.len());
                bytes[i..end].copy_from_slice(&stretch[..end - i]);
            }
            5 => drop(bytes.drain(low..high)),
            6 => {
                let again = bytes[low..high].repeat(1 << pick(random, 6));
                drop(bytes.splice(low..low, again));
            }
            7 => bytes.truncate(i),
            8 => {
                let other = &seeds[pick(random, seeds.len())];
                let from = pick(random, other.len());
                drop(bytes.splice(i..i, other[from..].iter().copied().take(300)));
            }
            _ => {
                let end = (i + 8).min(bytes.len());
                let number = [0, 1, u64::MAX, i64::MAX as u64, 1 << 31, 1 << 32][pick(random, 6)];
                bytes[i..end].copy_from_slice(&number.to_le_bytes()[..end - i]);
            }
        }
    }
    bytes
}

/// An input, so that it can be made again.
pub(super) fn shown(bytes: &[u8]) -> String {
    format!("{} bytes, b\"{}\"", bytes.len(), bytes.escape_ascii())
}
