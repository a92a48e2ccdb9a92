//! What the planner must know about relations; the engine answers.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::plan::TimeColumn;

/// The relations of an engine, by name.
pub trait Catalog {
    /// The relation of that name, exactly as spelled: unquoted names have been folded to lower case.
    fn relation(&self, name: &str) -> Option<Relation>;

    /// The relation `name` that the detector `owner` keeps beside its main one, spelled `owner.name`.
    fn side_relation(&self, _owner: &str, _name: &str) -> Option<Relation> {
        None
    }

    /// How far below the watermark of its rows a source holds its own back: its allowed lateness.
    fn allowed_lateness_ns(&self, _source: &str) -> i64 {
        0
    }

    /// Names of all relations, for hints.
    fn relation_names(&self) -> Vec<String>;
}

/// One relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// What it is.
    pub kind: RelationKind,
    /// Its columns; not read for a view.
    pub schema: SchemaRef,
    /// Its event-time column; not read for a view.
    pub time: Option<TimeColumn>,
    /// Indexes of columns that carry window bounds; not read for a view.
    pub window_bounds: Vec<usize>,
}

/// What a relation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// A source.
    Source,
    /// A view, with the text of its query.
    View(String),
    /// A detector.
    Detector,
    /// A sink, which cannot be read.
    Sink,
    /// A table, with its rows as they stand now.
    Table(TableRows),
}

/// The rows of a table at one moment. Two are equal if they are of the same moment.
#[derive(Clone, Debug)]
pub struct TableRows(Arc<(SchemaRef, Vec<RecordBatch>)>);

impl TableRows {
    /// Batches, all of this schema.
    #[must_use]
    pub fn new(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self(Arc::new((schema, batches)))
    }

    /// Their columns.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0.0)
    }

    /// The rows, as they were put in.
    #[must_use]
    pub fn batches(&self) -> &[RecordBatch] {
        &self.0.1
    }
}

impl PartialEq for TableRows {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for TableRows {}

/// Columns of `LATE(source)`: those of the source, all nullable, and `reason`, which says why the source could not take
/// the row.
#[must_use]
pub fn late_schema(source: &Schema) -> SchemaRef {
    let nullable = |field: &FieldRef| Arc::new(field.as_ref().clone().with_nullable(true));
    let mut fields: Vec<FieldRef> = source.fields().iter().map(nullable).collect();
    fields.push(Arc::new(Field::new("reason", DataType::Utf8, false)));
    Arc::new(Schema::new(fields))
}
