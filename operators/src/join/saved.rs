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

/// Reads what [`save_held`] wrote, as far as it falls to this worker.
pub(super) fn load_held(
    saved: &StateReader<'_>,
    side: Side,
) -> Result<Vec<(RecordBatch, Vec<bool>)>> {
    let cut = |mut rows: RecordBatch| {
        let partners = rows.remove_column(rows.num_columns() - 1);
        let partners = partners.as_boolean().values().iter().collect();
        (rows, partners)
    };
    Ok(saved.rows(table(side))?.into_iter().map(cut).collect())
}
