//! Windows: which rows belong together, and what becomes of them.

mod spec;

pub use spec::WindowSpec;
