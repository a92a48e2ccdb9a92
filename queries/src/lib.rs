//! The SQL front of Driftline: statements, planning and expression evaluation.
//!
//! DataFusion's planner lives here and nowhere else. The `driftline` crate is the one to depend on; this one has no
//! stable interface of its own.
//!
//! ```text
//! parse_statements(sql) -> Result<Vec<Statement>>            text to statements
//! parse_script(sql)     -> Result<Vec<Parsed>>               the same, with the text of each
//! Planner::new(functions: Functions) -> Planner
//!   .plan_query(&Query, &dyn Catalog) -> Result<Plan>        statement to dataflow nodes
//!   .evaluate_rows(&InsertValues, SchemaRef) -> Result<RecordBatch>
//!   .function_names() -> Vec<String>
//! Functions::new()                                           the built-in functions
//!   .register_scalar(ScalarFunction) -> Result<()>
//!   .register_aggregate(AggregateFunction) -> Result<()>
//! trait Catalog { relation(&self, name) -> Option<Relation>; relation_names(&self) -> Vec<String> }
//! Plan::explain(&self) -> Vec<String>
//! shipped() -> &'static [ShippedQuery]
//! ```

mod catalog;
mod error;
mod functions;
mod lower;
mod parse;
mod physical;
pub mod plan;
mod planner;
mod shipped;
mod stack;
mod statement;

pub use catalog::{Catalog, Relation, RelationKind, TableRows, late_schema};
pub use error::{Position, Result, SqlError, SqlErrorKind};
pub use functions::{
    Accumulator, AggregateFunction, ArgumentTypes, BoxError, Functions, ScalarFunction,
};
pub use parse::{Parsed, parse_script, parse_statements};
pub use plan::{JoinProgram, Node, Plan, Retained, Scan, ScanStream, TimeColumn};
pub use planner::Planner;
pub use shipped::{ShippedQuery, Signal, shipped};
pub use statement::{
    Analyze, CreateDetector, CreateSink, CreateSource, CreateTable, CreateView, DropObject, Emit,
    Explain, ExplainFormat, InsertSelect, InsertValues, ModelFile, Name, ObjectKind, OptionEntry,
    Query, Show, Statement, Watermark,
};
