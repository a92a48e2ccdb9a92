//! What the planner must know about relations; the engine answers.

use arrow::datatypes::SchemaRef;

use crate::plan::TimeColumn;

/// The relations of an engine, by name.
pub trait Catalog {
    /// The relation of that name, exactly as spelled: unquoted names have been folded to lower case.
    fn relation(&self, name: &str) -> Option<Relation>;

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
