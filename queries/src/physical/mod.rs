//! Expressions and aggregates as the dataflow calls them: compiled once, evaluated batch by batch, without async.

mod accumulator;
mod compile;
mod fused;
mod groups;
mod literal;
mod transform;

#[cfg(test)]
mod tests;

pub(crate) use compile::constant;
pub(crate) use groups::GroupProgram;
pub(crate) use transform::Program;
