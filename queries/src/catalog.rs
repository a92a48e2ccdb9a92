//! What the planner must know about relations; the engine answers.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

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
}

/// Columns of `LATE(source)`: those of the source, all nullable, and `reason`, which says why the source could not take
/// the row.
#[must_use]
pub fn late_schema(source: &Schema) -> SchemaRef {
    let nullable = |field: &FieldRef| Arc::new(field.as_ref().clone().with_nullable(true));
    let mut fields: Vec<FieldRef> = source.fields().iter().map(nullable).collect();
    fields.push(Arc::new(Field::new("reason", DataType::Utf8, false)));
    Arc::new(Schema::new(fields))
}
