//! The outer form of every snapshot: what it is of, which version, and whether it is whole.
//!
//! ```text
//!   +---------+--------------+-----------------+----------------------+
//!   | version | kind         | content         | checksum             |
//!   | 1 byte  | length, text | postcard        | 8 bytes, FNV-1a, LE  |
//!   +---------+--------------+-----------------+----------------------+
//! ```
//!
//! The checksum covers everything before it. It finds accidents, not intent: whoever can write snapshots can write
//! valid ones.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{OperatorError, Result};

/// The version of most forms that this code writes, and the only one of them that it reads.
pub(crate) const VERSION: u8 = 1;

const CHECKSUM_BYTES: usize = 8;

/// Seals a value under the tag of its kind.
pub(crate) fn seal(kind: &str, content: &impl Serialize) -> Result<Vec<u8>> {
    seal_as(VERSION, kind, content)
}

/// The same for a form that has versions of its own.
pub(crate) fn seal_as(version: u8, kind: &str, content: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = vec![version];
    append(kind, &mut bytes, &kind)?;
    append(kind, &mut bytes, content)?;
    bytes.extend(checksum(&bytes).to_le_bytes());
    Ok(bytes)
}

/// Opens what [`seal`] closed, if it is whole and of this kind.
pub(crate) fn open<T: DeserializeOwned>(kind: &str, bytes: &[u8]) -> Result<T> {
    open_as(VERSION, kind, bytes)
}

/// Opens what [`seal_as`] closed, if it is whole and of this version and kind.
pub(crate) fn open_as<T: DeserializeOwned>(version: u8, kind: &str, bytes: &[u8]) -> Result<T> {
    match bytes.first() {
        None => return Err(problem(kind, "is empty")),
        Some(found) if *found == version => {}
        Some(other) => {
            return Err(problem(kind, format!("is of version {other}, this is version {version}")));
        }
    }
    let (covered, sum) = bytes
        .split_last_chunk::<CHECKSUM_BYTES>()
        .filter(|(covered, _)| !covered.is_empty())
        .ok_or_else(|| problem(kind, "is cut short"))?;
    if checksum(covered) != u64::from_le_bytes(*sum) {
        return Err(problem(kind, "is cut short or damaged"));
    }
    let unreadable = |_| problem(kind, "holds something else");
    let (found, content) =
        postcard::take_from_bytes::<String>(&covered[1..]).map_err(unreadable)?;
    if found != kind {
        return Err(problem(kind, format!("is of \"{found}\"")));
    }
    read(kind, content)
}

/// Appends a value without tag or checksum, for parts of a sealed whole.
pub(crate) fn append(kind: &str, out: &mut Vec<u8>, value: &impl Serialize) -> Result<()> {
    let start = std::mem::take(out);
    *out = postcard::to_extend(value, start)
        .map_err(|error| problem(kind, format!("cannot be written: {error}")))?;
    Ok(())
}

/// Reads what [`append`] wrote; all bytes must be used up.
pub(crate) fn read<T: DeserializeOwned>(kind: &str, bytes: &[u8]) -> Result<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(problem(kind, "is longer than its content")),
        Err(_) => Err(problem(kind, "holds something else")),
    }
}

/// An error about a snapshot.
pub(crate) fn problem(owner: &str, problem: impl Into<String>) -> OperatorError {
    OperatorError::Snapshot { owner: owner.into(), problem: problem.into() }
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_come_back_exactly() {
        let values = vec![0.1, -0.0, f64::MIN_POSITIVE, f64::MAX, f64::INFINITY];
        let back: Vec<f64> = open("a", &seal("a", &values).unwrap()).unwrap();
        let bits = |v: &[f64]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(&values));
    }

    #[test]
    fn anything_but_the_whole_is_refused() {
        let bytes = seal("a", &vec![1_u64, 2, 3]).unwrap();
        let refused = |bytes: &[u8]| open::<Vec<u64>>("a", bytes).unwrap_err().to_string();
        for cut in 0..bytes.len() {
            refused(&bytes[..cut]);
        }
        for i in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[i] ^= 1;
            refused(&damaged);
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(refused(&longer), "snapshot of a is cut short or damaged");
        let other = seal("b", &vec![1_u64]).unwrap();
        assert_eq!(refused(&other), "snapshot of a is of \"b\"");
    }
}
