//! The SQL front of Driftline: statements, planning and expression evaluation.
//!
//! DataFusion's planner lives here and nowhere else. The `driftline` crate is the one to depend on; this one has no
//! stable interface of its own.

pub mod plan;
