//! Log lines to log keys: which template a line is of, and what varies in it.
//!
//! | Parser | Templates are | For |
//! |---|---|---|
//! | [`Signature`] | what is left of a line without parts that vary by their looks or were seen to vary | unknown logs; the default |
//! | [`Spell`] | longest common subsequences | logs whose masks and threshold are known |
//! | [`Drain`] | lines of equal length that agree in a share of their tokens | the same |
//!
//! All of them read a message at a time, give each template a stable number, report what becomes of templates, hold at
//! most so many of them, and can be written to a snapshot. [`LogKeyOptions`] makes one of options.
//!
//! [`Spell`] and [`Drain`] can be told to keep lines apart in which few words take turns (SP-08): see
//! [`LogKeys::split_values_max`]. [`Signature`] keeps the first two words of a place apart by itself, and verbs for good.
//!
//! # Where the default's rules come from
//!
//! The rules of [`Signature`] and their two numbers (3 and 4 different words) are the same for every log. They were
//! chosen on Loghub's sixteen samples of 2,000 lines: first by what the masks of published settings have in common
//! (numbers, addresses, paths, dotted names), then by looking at what the parser got wrong there. So the grouping
//! accuracy that `cargo bench --bench log_keys` prints for it is not one on unseen logs.

mod builder;
mod drain;
mod formats;
mod header;
mod json;
mod line;
mod mask;
mod options;
mod parameter;
mod signature;
mod spell;
mod split;
mod stage;
#[cfg(test)]
mod tests;
mod words;
pub mod workflow;

pub use builder::{LogKeyParser, LogKeys};
pub use drain::{Drain, DrainSettings};
pub use formats::{LOGHUB_FORMATS, LoghubFormat};
pub use header::HeaderFormat;
pub use line::{ChangeKind, LogParser, ParsedLine, Span, Template, TemplateChange, WILDCARD};
pub use options::{LineReader, LogKeyOptions};
pub use parameter::{Parameter, read_parameter};
pub use signature::{Signature, SignatureSettings};
pub use spell::{Spell, SpellSettings};
pub use stage::{
    KeyedLines, LOG_KEY_COLUMNS, LogKeyOutput, LogKeyPlan, LogKeyState, TEMPLATE_COLUMNS,
};
