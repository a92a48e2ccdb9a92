//! Rows that wait, as tables of a checkpoint.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};

use super::Side;
use super::held::Held;
use crate::error::Result;
use crate::state::{StateReader, StateWriter};

/// The column that says whether a row has found a partner, behind those of the rows.
const HAS_PARTNER: &str = "has_partner";

fn table(side: Side) -> &'static str {
    match side {
        Side::Left => "left",
        Side::Right => "right",
    }
}

/// Writes what a side holds; its rows are split over workers by `keys`.
pub(super) fn save_held(
    held: &Held,
    side: Side,
    keys: &[usize],
    out: &mut StateWriter,
) -> Result<()> {
    for (rows, partners) in held.saved()? {
        let (schema, mut columns, _) = rows.into_parts();
        let field = Arc::new(Field::new(HAS_PARTNER, DataType::Boolean, false));
        let fields: Vec<_> = schema.fields().iter().cloned().chain([field]).collect();
        columns.push(Arc::new(BooleanArray::from(partners)));
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        out.keyed(table(side), rows, keys)?;
    }
    Ok(())
}

/// Rows of which every worker holds the same.
fn whole_table(side: Side) -> &'static str {
    match side {
        Side::Left => "left_whole",
        Side::Right => "right_whole",
    }
}

/// Writes what a side holds, where every worker holds the same.
pub(super) fn save_whole(held: &Held, side: Side, out: &mut StateWriter) -> Result<()> {
    for (rows, _) in held.saved()? {
        out.unkeyed(whole_table(side), rows);
    }
    Ok(())
}

/// Reads what [`save_held`] wrote, as far as it falls to this worker.
pub(super) fn load_held(
    saved: &StateReader<'_>,
    side: Side,
) -> Result<Vec<(RecordBatch, Vec<bool>)>> {
    Ok(saved.rows(table(side))?.into_iter().map(cut).collect())
}

/// Reads what [`save_whole`] wrote; of checkpoints from before there was one, what [`save_held`] wrote on all workers.
pub(super) fn load_whole(
    saved: &StateReader<'_>,
    side: Side,
) -> Result<Vec<(RecordBatch, Vec<bool>)>> {
    let whole = saved.of_fullest(whole_table(side)).into_iter();
    let whole = whole.map(|rows| (rows.clone(), vec![false; rows.num_rows()]));
    let split = saved.for_one_worker().rows(table(side))?.into_iter().map(cut);
    Ok(whole.chain(split).collect())
}

/// Takes off what [`save_held`] adds.
fn cut(mut rows: RecordBatch) -> (RecordBatch, Vec<bool>) {
    let partners = rows.remove_column(rows.num_columns() - 1);
    let partners = partners.as_boolean().values().iter().collect();
    (rows, partners)
}
