//! Room on the stack for planning.
//!
//! Parsing and planning recurse into a statement. Their depth is bounded, and a host's thread may have little stack all
//! the same, above all in a build without optimization: an overflow would end the host.

/// Planning starts on a new stack where less than this is left.
const LEFT_MIN: usize = 16 << 20;
/// The size of the new stack.
const SIZE: usize = 64 << 20;

/// Runs `f` with enough stack for the deepest statement that the bounds let through.
pub(crate) fn with_room<T>(f: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(LEFT_MIN, SIZE, f)
}
