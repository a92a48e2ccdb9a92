//! Keys keep their numbers, their bytes and their owners.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, StringArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow_row::{RowConverter, SortField};

use super::encoder::EncodedKeys;
use super::interner::is_same;
use super::*;

fn text(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

#[test]
fn equal_keys_share_a_number_and_come_back() {
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1, 1, 2, 1]));
    let names = text(&[Some("a"), None, Some("a"), Some("a")]);
    let cases: [(Fields, Vec<ArrayRef>, [KeyId; 4]); 3] = [
        (Fields::empty(), vec![], [0, 0, 0, 0]),
        (vec![Field::new("k", DataType::Utf8, true)].into(), vec![names.clone()], [0, 1, 0, 0]),
        (
            vec![Field::new("k", DataType::Utf8, true), Field::new("n", DataType::Int64, true)]
                .into(),
            vec![names, number],
            [0, 1, 2, 0],
        ),
    ];
    for (fields, columns, expected) in cases {
        let mut interner = KeyInterner::new(&fields).unwrap();
        let mut ids = Vec::new();
        interner.intern(&columns, 4, &mut ids).unwrap();
        assert_eq!(ids, expected);
        let back = interner.columns(&ids).unwrap();
        assert_eq!(back, columns);
    }
}

#[test]
fn a_dictionary_comes_back_as_one_or_is_refused() {
    let keys = |index: DataType| -> (Fields, ArrayRef) {
        let kind = DataType::Dictionary(Box::new(index), Box::new(DataType::Utf8));
        let column = cast(&text(&[Some("a"), None, Some("b"), Some("a")]), &kind).unwrap();
        (vec![Field::new("k", kind, true)].into(), column)
    };
    let (fields, column) = keys(DataType::UInt32);
    let mut interner = KeyInterner::new(&fields).unwrap();
    let mut ids = Vec::new();
    interner.intern(std::slice::from_ref(&column), 4, &mut ids).unwrap();
    assert_eq!(ids, [0, 1, 2, 0]);
    let back = interner.columns(&ids).unwrap();
    assert_eq!(back[0].data_type(), column.data_type());
    let texts = |column: &ArrayRef| cast(column, &DataType::Utf8).unwrap();
    assert_eq!(&texts(&back[0]), &texts(&column));
    // A window may hold more keys than so small an index can tell apart.
    let error = KeyInterner::new(&keys(DataType::Int8).0).unwrap_err();
    assert!(error.hint().unwrap().contains("arrow_cast(k, 'Utf8')"), "{error}");
}

#[test]
fn keys_of_one_hash_are_told_apart() {
    let fields: Fields = vec![Field::new("k", DataType::Utf8, true)].into();
    let mut interner = KeyInterner::new(&fields).unwrap();
    let hash = hash_key(&interner.hasher, Some(b"a"));
    assert_eq!(interner.likely(hash, b"a"), 0);
    // What has the same hash is taken for the same, until a look at the bytes says otherwise.
    assert_eq!(interner.likely(hash, b"b"), 0);
    assert_eq!((interner.number(hash, b"b"), interner.number(hash, b"a")), (1, 0));
    assert_eq!((interner.number(hash, b"b"), interner.len()), (1, 2));
    for (one, other) in [
        ("12345678", "12345679"),
        ("1234567x9", "1234567y9"),
        ("0123456789abcdef", "0123456789abcdeg"),
        ("0123456789abcdefg", "0123456789abcdefh"),
        ("12345678", "123456789"),
        ("1234567", "1234568"),
        ("", "1"),
    ] {
        assert!(is_same(one.as_bytes(), one.to_owned().as_bytes()), "{one}");
        assert!(!is_same(one.as_bytes(), other.as_bytes()), "{one} {other}");
    }
}

#[test]
fn a_null_text_is_not_an_empty_text() {
    let fields: Fields = vec![Field::new("k", DataType::Utf8, true)].into();
    let mut interner = KeyInterner::new(&fields).unwrap();
    let mut ids = Vec::new();
    let keys = text(&[Some(""), None, Some(""), None]);
    interner.intern(std::slice::from_ref(&keys), 4, &mut ids).unwrap();
    assert_eq!(ids, [0, 1, 0, 1]);
    let keys = text(&[None, Some("")]);
    let mut other = KeyInterner::new(&fields).unwrap();
    other.intern(&[keys], 2, &mut ids).unwrap();
    assert_eq!(ids, [0, 1]);
}

#[test]
fn retaining_renumbers_and_forgets() {
    let fields: Fields = vec![Field::new("k", DataType::Utf8, true)].into();
    let mut interner = KeyInterner::new(&fields).unwrap();
    let mut ids = Vec::new();
    let keys = text(&[Some("a"), None, Some("c"), Some("d")]);
    interner.intern(&[keys], 4, &mut ids).unwrap();
    interner.retain(&[1, 3]);
    let keys = text(&[Some("d"), Some("a"), None]);
    interner.intern(std::slice::from_ref(&keys), 3, &mut ids).unwrap();
    assert_eq!(ids, [1, 2, 0]);
    assert_eq!(interner.columns(&ids).unwrap(), [keys]);
}

#[test]
fn a_split_keeps_every_row_and_all_rows_of_a_key_together() {
    let field = Field::new("k", DataType::Int64, false);
    let schema = Arc::new(Schema::new(vec![field]));
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values((0..1000).map(|i| i % 37)));
    let rows = RecordBatch::try_new(schema.clone(), vec![column]).unwrap();
    let mut splitter = KeySplitter::new(&schema, vec![0], 4).unwrap();
    let parts = splitter.split(&rows).unwrap();
    assert!(parts.len() > 1);
    let mut owner = std::collections::BTreeMap::new();
    let mut total = 0;
    for (worker, part) in parts {
        total += part.num_rows();
        for key in part.column(0).as_primitive::<arrow::datatypes::Int64Type>().values() {
            assert_eq!(*owner.entry(*key).or_insert(worker), worker);
        }
    }
    assert_eq!((total, owner.len()), (1000, 37));
}

#[test]
fn integers_are_written_as_arrows_row_format_writes_them() {
    let signed = vec![i64::MIN, -1, 0, 1, 255, 256, i64::MAX];
    let unsigned = vec![0, 1, 255, 1 << 63, u64::MAX];
    let columns: [ArrayRef; 2] =
        [Arc::new(Int64Array::from(signed)), Arc::new(UInt64Array::from(unsigned))];
    for column in columns {
        let fields: Fields = vec![Field::new("k", column.data_type().clone(), true)].into();
        let converter =
            RowConverter::new(vec![SortField::new(column.data_type().clone())]).unwrap();
        // A slice begins and ends within its buffers.
        for column in [column.clone(), column.slice(1, column.len() - 2)] {
            let expected = converter.convert_columns(std::slice::from_ref(&column)).unwrap();
            let keys = KeyEncoder::new(&fields).unwrap().encode(&[column]).unwrap();
            assert!(matches!(keys, EncodedKeys::Integers(_)));
            for row in 0..expected.num_rows() {
                assert_eq!(keys.bytes(row), Some(expected.row(row).data()));
            }
        }
    }
}

#[test]
fn a_number_is_the_same_key_whether_or_not_another_row_has_none() {
    let fields: Fields = vec![Field::new("k", DataType::Int64, true)].into();
    let mut interner = KeyInterner::new(&fields).unwrap();
    let mut ids = Vec::new();
    let full: ArrayRef = Arc::new(Int64Array::from(vec![7, -7, 7]));
    interner.intern(&[full], 3, &mut ids).unwrap();
    assert_eq!(ids, [0, 1, 0]);
    let gappy: ArrayRef = Arc::new(Int64Array::from(vec![Some(-7), None, Some(7), None]));
    interner.intern(std::slice::from_ref(&gappy), 4, &mut ids).unwrap();
    assert_eq!(ids, [1, 2, 0, 2]);
    assert_eq!(interner.columns(&ids).unwrap(), [gappy]);
}

#[test]
fn texts_of_a_slice_are_its_own() {
    let fields: Fields = vec![Field::new("k", DataType::Utf8, false)].into();
    let keys = text(&[Some("left out"), Some("a"), Some(""), Some("a"), Some("out")]).slice(1, 3);
    let mut interner = KeyInterner::new(&fields).unwrap();
    let mut ids = Vec::new();
    interner.intern(std::slice::from_ref(&keys), 3, &mut ids).unwrap();
    assert_eq!(ids, [0, 1, 0]);
    assert_eq!(interner.columns(&ids).unwrap(), [keys]);
}
