//! Keys as bytes, and their hashes.

use std::hash::{BuildHasher, Hasher};

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, StringArray};
use arrow::datatypes::{DataType, Fields, Int64Type, UInt64Type};
use arrow_row::{RowConverter, Rows, SortField};
use foldhash::fast::FixedState;

use crate::error::Result;

/// Turns key columns into bytes.
#[derive(Debug)]
pub(crate) enum KeyEncoder {
    None,
    Text,
    Rows(Box<RowConverter>),
}

impl KeyEncoder {
    /// An encoder of keys with these columns.
    pub(crate) fn new(fields: &Fields) -> Result<Self> {
        if fields.is_empty() {
            return Ok(Self::None);
        }
        if fields.len() == 1 && *fields[0].data_type() == DataType::Utf8 {
            return Ok(Self::Text);
        }
        let fields = fields.iter().map(|f| SortField::new(f.data_type().clone())).collect();
        Ok(Self::Rows(Box::new(RowConverter::new(fields)?)))
    }

    /// The keys of some rows.
    pub(crate) fn encode(&self, columns: &[ArrayRef]) -> Result<EncodedKeys> {
        Ok(match self {
            Self::None => EncodedKeys::None,
            Self::Text => EncodedKeys::Text(columns[0].as_string::<i32>().clone()),
            Self::Rows(converter) => match integers(columns) {
                Some(keys) => EncodedKeys::Integers(keys),
                None => EncodedKeys::Rows(converter.convert_columns(columns)?),
            },
        })
    }
}

/// A number of 64 bits in Arrow's row format: a one, as it is not null, and the bytes by which it is ordered.
type Integer = [u8; 9];

/// Keys that are one column of such numbers, as [`RowConverter`] would write them: most keys that are no texts are.
fn integers(columns: &[ArrayRef]) -> Option<Vec<Integer>> {
    let [column] = columns else { return None };
    if column.null_count() > 0 {
        return None;
    }
    match column.data_type() {
        DataType::Int64 => Some(encoded::<Int64Type>(column, |x| (x ^ i64::MIN).to_be_bytes())),
        DataType::UInt64 => Some(encoded::<UInt64Type>(column, u64::to_be_bytes)),
        _ => None,
    }
}

fn encoded<T: ArrowPrimitiveType>(
    column: &ArrayRef,
    bytes: impl Fn(T::Native) -> [u8; 8],
) -> Vec<Integer> {
    let encode = |value: &T::Native| {
        let mut integer = [1; 9];
        integer[1..].copy_from_slice(&bytes(*value));
        integer
    };
    column.as_primitive::<T>().values().iter().map(encode).collect()
}

/// Keys of some rows as bytes.
pub(crate) enum EncodedKeys {
    None,
    Text(StringArray),
    Integers(Vec<Integer>),
    Rows(Rows),
}

impl EncodedKeys {
    /// The key of a row; `None` for a null text.
    #[inline]
    pub(crate) fn bytes(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::None => Some(&[]),
            Self::Text(array) if array.is_null(row) => None,
            Self::Text(array) => Some(array.value(row).as_bytes()),
            Self::Integers(integers) => Some(&integers[row]),
            Self::Rows(rows) => Some(rows.row(row).data()),
        }
    }
}

/// Hashes with fixed seeds, so that two runs number keys alike.
pub(crate) fn fixed_hasher() -> FixedState {
    FixedState::with_seed(0x243f_6a88_85a3_08d3)
}

/// The hash of a key's bytes; that of a slice would also go over its length. `None` is the NULL of a single text key.
pub(crate) fn hash_key(hasher: &FixedState, key: Option<&[u8]>) -> u64 {
    let Some(key) = key else { return 0 };
    let mut hasher = hasher.build_hasher();
    hasher.write(key);
    hasher.finish()
}
