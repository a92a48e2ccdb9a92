//! Windows: which rows belong together, and what becomes of them.

mod aggregate;
mod blocks;
mod cells;
mod column;
mod count;
mod counted;
#[cfg(test)]
pub(crate) mod fixture;
mod fold;
mod groups;
mod number;
mod panes;
mod session;
mod sessions;
mod spec;
mod updates;

pub use aggregate::WindowedAggregate;
pub use column::TimeType;
pub use count::{CountSpec, WINDOW_ROWS_MAX};
pub use counted::CountedWindows;
pub use fold::SessionFold;
pub use number::Numbering;
pub(crate) use panes::PANE_COLUMNS;
pub use panes::{Panes, Partials};
pub use session::SessionSpec;
pub use sessions::Sessions;
pub use spec::{WINDOWS_PER_ROW_MAX, Window, WindowSpec};
pub use updates::{Answering, Update, UpdatingWindows};

/// Keys are looked through for those without an open window when more than this many are known. Each keeps its text until
/// then, on every worker that has seen it; one that comes back costs as much as a new one.
pub(crate) const KEYS_BEFORE_RENUMBERING: usize = 1 << 11;
