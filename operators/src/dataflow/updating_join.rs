//! Joins of rows that enter and leave: changes of the result once per epoch.
//!
//! Both sides are arranged by key, and a row that enters or leaves meets the rows of its key on the other side. An outer
//! join adds the rows whose key the other side has none of; keys that are null never meet.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use differential_dataflow::VecCollection;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::implementations::ValSpine;

use super::bytes::{Codec, give_changes};
use super::retain::{Held, HeldRow, Retention, retain};
use super::{BatchStream, QueryContext};
use crate::error::Result;
use crate::join::JoinKind;
use crate::time::{Epoch, Watermarks};

/// A join of rows that enter and leave, as a dataflow builds it.
#[derive(Clone, Debug)]
pub struct UpdatingJoinStage {
    /// The left input.
    pub left: JoinSide,
    /// The right input.
    pub right: JoinSide,
    /// What becomes of rows that meet none.
    pub kind: JoinKind,
    /// Columns of the changes: those of the left, those of the right, and the change.
    pub schema: SchemaRef,
    /// The watermarks of the sources at the bottom of both sides.
    pub watermarks: Watermarks,
    /// Shared state of the query.
    pub context: QueryContext,
}

/// One input of a join.
#[derive(Clone, Debug)]
pub struct JoinSide {
    /// Its columns.
    pub schema: SchemaRef,
    /// Indexes of the columns that must agree, of the same types and in the same order on both sides.
    pub keys: Vec<usize>,
    /// For how long its rows stay.
    pub retention: Retention,
}

/// A row and the key that it can be met by.
type Row = (Option<Vec<u8>>, Vec<u8>);

impl Held for Row {
    fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, Vec::len) + self.1.len()
    }
}

impl HeldRow for Row {
    fn parts(&self) -> (Option<&[u8]>, i64, &[u8]) {
        (self.0.as_deref(), 0, &self.1)
    }

    fn of_parts(key: Option<Vec<u8>>, _number: i64, row: Vec<u8>) -> Self {
        (key, row)
    }
}

/// A row of the result: at least one of its sides.
type Pair = (Option<Vec<u8>>, Option<Vec<u8>>);

impl Held for Pair {
    fn bytes(&self) -> usize {
        [&self.0, &self.1].into_iter().flatten().map(Vec::len).sum()
    }
}

type Rows<'scope, D> = VecCollection<'scope, Epoch, D, isize>;
type ByKey<'scope> = Arranged<'scope, TraceAgent<ValSpine<Vec<u8>, Vec<u8>, Epoch, isize>>>;

/// Joins two streams.
///
/// # Errors
/// If a column's type cannot be compared.
pub fn updating_join<'scope>(
    left: BatchStream<'scope>,
    right: BatchStream<'scope>,
    stage: UpdatingJoinStage,
) -> Result<BatchStream<'scope>> {
    let UpdatingJoinStage { left: left_side, right: right_side, kind, schema, watermarks, context } =
        stage;
    let codecs = (row_codec(&left_side.schema)?, row_codec(&right_side.schema)?);
    let left = enter(left, left_side, "left", context.clone())?;
    let right = enter(right, right_side, "right", context.clone())?;
    let by_key: (ByKey<'scope>, ByKey<'scope>) =
        (with_key(left.clone()).arrange_by_key(), with_key(right.clone()).arrange_by_key());
    let mut pairs: Rows<'scope, Pair> = by_key
        .0
        .clone()
        .join_core(by_key.1.clone(), |_key, a, b| Some((Some(a.clone()), Some(b.clone()))));
    if matches!(kind, JoinKind::Left | JoinKind::Full) {
        let lone = unmatched(by_key.0.clone(), by_key.1.clone());
        let lone = lone.concat(without_key(left));
        pairs = pairs.concat(lone.map(|row| (Some(row), None)));
    }
    if matches!(kind, JoinKind::Right | JoinKind::Full) {
        let lone = unmatched(by_key.1, by_key.0);
        let lone = lone.concat(without_key(right));
        pairs = pairs.concat(lone.map(|row| (None, Some(row))));
    }
    let decode = move |rows: &[&Pair]| -> Result<Vec<ArrayRef>> {
        let mut columns = side_columns(&codecs.0, rows.iter().map(|row| row.0.as_deref()))?;
        columns.extend(side_columns(&codecs.1, rows.iter().map(|row| row.1.as_deref()))?);
        Ok(columns)
    };
    Ok(give_changes(pairs, schema, watermarks, context, decode))
}

/// Finds out whether the rows of a side can be joined.
///
/// # Errors
/// As for [`updating_join`].
pub fn check_side(schema: &SchemaRef) -> Result<()> {
    row_codec(schema).map(|_| ())
}

fn row_codec(schema: &SchemaRef) -> Result<Codec> {
    Codec::new(schema.fields().iter().map(|field| field.data_type()))
}

/// The rows of a side that have not left yet.
fn enter<'scope>(
    stream: BatchStream<'scope>,
    side: JoinSide,
    name: &str,
    context: QueryContext,
) -> Result<Rows<'scope, Row>> {
    let JoinSide { schema, keys: indexes, retention } = side;
    let rows_codec = row_codec(&schema)?;
    let keys_codec = Codec::new(indexes.iter().map(|index| schema.field(*index).data_type()))?;
    let (time, time_index) = (retention.time.clone(), retention.time_index);
    let encode = move |rows: &RecordBatch, encoded: &mut Vec<(i64, Row)>| {
        let times = time.read(rows.column(time_index));
        let keys: Vec<ArrayRef> = indexes.iter().map(|index| rows.column(*index).clone()).collect();
        let made = keys_codec.encode(&keys, rows.num_rows())?;
        let rows = rows_codec.encode(rows.columns(), rows.num_rows())?;
        let nulls: Vec<_> = keys.iter().filter_map(Array::logical_nulls).collect();
        for (place, ((key, row), &time)) in made.into_iter().zip(rows).zip(&*times).enumerate() {
            let is_null = nulls.iter().any(|nulls| nulls.is_null(place));
            encoded.push((time, ((!is_null).then_some(key), row)));
        }
        Ok(())
    };
    retain(stream, retention, name, context, encode)
}

fn with_key<'scope>(rows: Rows<'scope, Row>) -> Rows<'scope, (Vec<u8>, Vec<u8>)> {
    rows.flat_map(|(key, row)| key.map(|key| (key, row)))
}

fn without_key<'scope>(rows: Rows<'scope, Row>) -> Rows<'scope, Vec<u8>> {
    rows.flat_map(|(key, row)| key.is_none().then_some(row))
}

/// The rows of one side whose key the other has none of. All is computed where the key lives: each worker takes back only
/// what it has given itself.
fn unmatched<'scope>(by_key: ByKey<'scope>, other: ByKey<'scope>) -> Rows<'scope, Vec<u8>> {
    let keys = other.as_collection(|key, _row| key.clone()).distinct().arrange_by_self();
    let matched = by_key.clone().join_core(keys, |_key, row, ()| Some(row.clone()));
    by_key.as_collection(|_key, row| row.clone()).concat(matched.negate())
}

/// The columns of one side of the result; null where the side is missing.
fn side_columns<'a>(
    codec: &Codec,
    rows: impl Iterator<Item = Option<&'a [u8]>> + Clone,
) -> Result<Vec<ArrayRef>> {
    let columns = codec.decode(rows.clone().flatten())?;
    let mut there = 0;
    let places = rows.map(|row| {
        there += u32::from(row.is_some());
        row.is_some().then(|| there - 1)
    });
    let places: arrow::array::UInt32Array = places.collect();
    if places.null_count() == 0 {
        return Ok(columns);
    }
    let placed = columns.iter().map(|column| arrow::compute::take(column, &places, None));
    Ok(placed.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests;
