//! Feedback: anomalies of a detector that were none, as rows that name them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use driftline_operators::detector::FeedbackTaken;

use crate::error::{Error, ErrorKind, Result};

/// What became of feedback; see [`Engine::feedback`](crate::Engine::feedback).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedbackReport {
    /// Rows that were given.
    pub rows: u64,
    /// Rows among them that named no anomaly that is still remembered.
    pub unknown: u64,
    /// Anomalies that were taken back and learned from.
    pub anomalies: u64,
    /// Anomalies that were taken back, now or before, but are not learned from yet, because most of those like them were
    /// not: such as a key that training never saw, where it is called normal in one session and stays raised in others.
    pub waiting: u64,
}

impl FeedbackReport {
    /// From what all workers say of the same rows.
    pub(super) fn of(rows: usize, taken: &[FeedbackTaken]) -> Self {
        let is_known = |row: &usize| taken.iter().any(|one| one.found.get(*row) == Some(&true));
        let known = (0..rows).filter(is_known).count();
        Self {
            rows: rows as u64,
            unknown: (rows - known) as u64,
            anomalies: taken.iter().map(|one| one.anomalies).sum(),
            waiting: taken.iter().map(|one| one.waiting).sum(),
        }
    }

    /// As the one row that the statement answers.
    pub(super) fn rows(self) -> Result<RecordBatch> {
        let columns = [
            ("rows", self.rows),
            ("unknown", self.unknown),
            ("anomalies", self.anomalies),
            ("waiting", self.waiting),
        ];
        let columns = columns.map(|(name, count)| {
            (name, Arc::new(Int64Array::from(vec![count as i64])) as ArrayRef)
        });
        RecordBatch::try_from_iter(columns).map_err(|error| Error::internal(error.to_string()))
    }
}

/// The columns with NULL allowed in all of them.
pub(super) fn all_nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<Field>>()))
}

/// The columns of feedback out of `rows`, which may have others: missing ones are NULL.
pub(super) fn conform(
    detector: &str,
    schema: &SchemaRef,
    rows: &RecordBatch,
) -> Result<RecordBatch> {
    let refused = |problem: String, hint: String| {
        let message = format!("feedback for detector \"{detector}\" {problem}");
        Error::new(ErrorKind::Query, message).with_hint(hint)
    };
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let name = field.name();
        let column = match rows.column_by_name(name) {
            Some(column) if column.data_type() == field.data_type() => Arc::clone(column),
            Some(column) => converted(column, field.data_type()).map_err(|_| {
                let (found, wanted) = (column.data_type(), field.data_type());
                let problem = format!("has a column \"{name}\" of {found}, which is no {wanted}");
                refused(problem, "give the column as the detector's rows have it".into())
            })?,
            None if field.is_nullable() => new_null_array(field.data_type(), rows.num_rows()),
            None => {
                let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                let hint = format!("its columns are {}", names.join(", "));
                return Err(refused(format!("lacks the column \"{name}\""), hint));
            }
        };
        if !field.is_nullable()
            && let Some(row) = (0..column.len()).find(|row| column.is_null(*row))
        {
            let problem = format!("has NULL as \"{name}\" in row {}", row + 1);
            return Err(refused(problem, "leave such rows out: NULL names no anomaly".into()));
        }
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| Error::internal(error.to_string()))
}

fn converted(column: &ArrayRef, wanted: &DataType) -> arrow::error::Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, wanted, &options)
}
