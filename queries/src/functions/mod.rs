//! Functions that the host adds to SQL, and those that are there from the start.

mod aggregate;
mod asof;
mod registry;
mod scalar;

pub use aggregate::{Accumulator, AggregateFunction};
pub(crate) use asof::{ASOF, asof, inside_asof};
pub use registry::Functions;
pub use scalar::{ArgumentTypes, BoxError, ScalarFunction};
