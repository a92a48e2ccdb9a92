//! Windows: which rows belong together, and what becomes of them.

mod column;
mod groups;
mod panes;
mod spec;

pub use column::TimeType;
pub use panes::{Panes, WindowedAggregate};
pub use spec::{WINDOWS_PER_ROW_MAX, WindowSpec};
