//! What a checkpoint consists of: one manifest that names its parts.
//!
//! The form is described byte by byte in ARCHITECTURE.md.

use driftline_operators::state::OperatorId;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::error::{Error, ErrorKind, Result};

/// The version that this code writes. It reads the one before as well, in which detectors held all their models in a note.
const VERSION: u16 = 3;
const MAGIC: &[u8; 6] = b"DRIFT\0";
/// No engine counts epochs, batches or checkpoints so far.
const COUNT_MAX: u64 = 1 << 62;
/// Magic, version and checksum.
const HEAD_BYTES: usize = 6 + 2 + 16;

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// Counts up from 1.
    pub(super) id: u64,
    /// The last epoch in it.
    pub(super) epoch: u64,
    /// The number of the next batch.
    pub(super) next_sequence: u64,
    pub(super) sources: Vec<SourceRecord>,
    pub(super) queries: Vec<QueryState>,
    pub(super) sinks: Vec<SinkRecord>,
}

/// What a sink has to publish.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SinkRecord {
    pub(super) name: String,
    /// Final names of files in its folder, which are staged until the checkpoint is durable.
    pub(super) files: Vec<String>,
}

/// Where a source stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SourceRecord {
    pub(crate) name: String,
    /// Columns and event time as they were declared.
    pub(crate) declared: String,
    /// Rows pushed, whatever became of them.
    pub(crate) rows: u64,
    pub(crate) batches: u64,
    pub(crate) rows_late: u64,
    pub(crate) rows_malformed: u64,
    /// Rows of its files that could not be read.
    pub(crate) rows_unreadable: u64,
    /// The latest event time of a row.
    pub(crate) latest: i64,
    /// The watermark that the host has given.
    pub(crate) by_host: i64,
    /// The watermark last told to the workers.
    pub(crate) announced: i64,
    pub(crate) while_open: i64,
    /// For how long nothing had been pushed, if the source was idle.
    pub(crate) silent_ns: u64,
    pub(crate) idle: bool,
    pub(crate) closed: bool,
}

/// What a query holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct QueryState {
    /// What it is known by when the host starts it again.
    pub(super) name: String,
    /// What must be as it was for its state to fit.
    pub(super) plan: String,
    pub(super) operators: Vec<OperatorRecord>,
    /// Batches that its reader had taken.
    pub(super) taken: u64,
    /// Results that it had not taken.
    pub(super) unread: Vec<PartRef>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct OperatorRecord {
    pub(super) id: OperatorId,
    /// One for each worker that wrote it.
    pub(super) workers: Vec<WorkerRecord>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct WorkerRecord {
    pub(super) note: Note,
    /// Tables by name.
    pub(super) tables: Vec<(String, Vec<PartRef>)>,
}

/// A small value is here, a large one is a part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Note {
    Here(Vec<u8>),
    Part(PartRef),
}

/// A part, by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct PartRef {
    pub(super) hash: u128,
    pub(super) bytes: u64,
}

/// 128 bits of a content: XXH3 of 64 bits, with seed 0 above that with seed 1.
fn fingerprint(bytes: &[u8]) -> u128 {
    let (high, low) = (XxHash3_64::oneshot(bytes), XxHash3_64::oneshot_with_seed(1, bytes));
    u128::from(high) << 64 | u128::from(low)
}

impl PartRef {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { hash: fingerprint(bytes), bytes: bytes.len() as u64 }
    }

    pub(super) fn name(&self) -> String {
        format!("{PARTS}{:032x}-{}", self.hash, self.bytes)
    }
}

/// What names of parts begin with.
pub(super) const PARTS: &str = "parts/";

/// What names of manifests begin with; twenty digits follow, so that their order is that of their ids.
pub(super) const MANIFESTS: &str = "manifest-";

pub(super) fn manifest_name(id: u64) -> String {
    format!("{MANIFESTS}{id:020}")
}

impl Manifest {
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let content = postcard::to_stdvec(self).map_err(|error| {
            Error::internal("a checkpoint cannot be written").with_source(error)
        })?;
        let mut bytes = Vec::with_capacity(HEAD_BYTES + content.len());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(fingerprint(&content).to_le_bytes());
        bytes.extend(content);
        Ok(bytes)
    }

    /// Refuses what is not whole: a store puts blobs whole or not at all, so that one that is not was damaged, and to go on
    /// from an older one without a word would do again what others have seen.
    pub(super) fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self> {
        let refuse = |problem: String| {
            let error =
                Error::new(ErrorKind::Incompatible, format!("checkpoint \"{name}\" {problem}"));
            Err(error.with_hint(
                "restore the store from a copy, or remove it to go on from the checkpoint before",
            ))
        };
        let Some((head, content)) = bytes.split_at_checked(HEAD_BYTES) else {
            return refuse("is cut short".into());
        };
        if !head.starts_with(MAGIC) {
            return refuse("is no manifest".into());
        }
        let version = u16::from_le_bytes([head[6], head[7]]);
        if ![VERSION, VERSION - 1].contains(&version) {
            let text = format!(
                "checkpoint \"{name}\" is of version {version}, this Driftline reads versions {} and {VERSION}",
                VERSION - 1
            );
            return Err(Error::new(ErrorKind::Incompatible, text).with_hint(
                "go on with the Driftline that wrote it, or begin with an empty store",
            ));
        }
        if head[8..] != fingerprint(content).to_le_bytes() {
            return refuse("is cut short or damaged".into());
        }
        match postcard::take_from_bytes::<Self>(content) {
            Ok((manifest, [])) if manifest.is_called(name) => Ok(manifest),
            _ => refuse("holds something else".into()),
        }
    }

    /// Whether it is the one of that name, and counts what can be counted on.
    fn is_called(&self, name: &str) -> bool {
        let counts = [self.id, self.epoch, self.next_sequence];
        manifest_name(self.id) == name && counts.into_iter().all(|count| count < COUNT_MAX)
    }

    /// Bytes of all parts that it names.
    pub(super) fn bytes(&self) -> u64 {
        self.parts().fold(0, |sum, part| sum.saturating_add(part.bytes))
    }

    /// All parts that it names.
    pub(super) fn parts(&self) -> impl Iterator<Item = PartRef> {
        let of_worker = |worker: &WorkerRecord| {
            let note = match &worker.note {
                Note::Part(part) => Some(*part),
                Note::Here(_) => None,
            };
            let tables = worker.tables.iter().flat_map(|(_, parts)| parts.iter().copied());
            tables.chain(note).collect::<Vec<_>>()
        };
        self.queries.iter().flat_map(move |query| {
            let workers = query.operators.iter().flat_map(|operator| &operator.workers);
            workers.flat_map(of_worker).chain(query.unread.iter().copied()).collect::<Vec<_>>()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_but_the_whole_is_refused() {
        let part = PartRef::of(b"rows");
        let worker =
            WorkerRecord { note: Note::Part(part), tables: vec![("rows".into(), vec![part])] };
        let id = OperatorId { part: 1, state: "panes".into() };
        let query = QueryState {
            name: "detector a".into(),
            plan: "plan".into(),
            operators: vec![OperatorRecord { id, workers: vec![worker] }],
            taken: 7,
            unread: vec![part],
        };
        let source = SourceRecord { name: "s".into(), ..SourceRecord::default() };
        let manifest = Manifest {
            id: 3,
            epoch: 70,
            next_sequence: 9,
            sources: vec![source],
            queries: vec![query],
            sinks: vec![SinkRecord { name: "out".into(), files: vec!["a-1.csv".into()] }],
        };
        assert_eq!(manifest.parts().count(), 3);
        let bytes = manifest.to_bytes().unwrap();
        let name = manifest_name(3);
        assert_eq!(Manifest::from_bytes(&name, &bytes).unwrap(), manifest);
        assert!(Manifest::from_bytes(&manifest_name(4), &bytes).is_err(), "it is another one");
        for cut in 0..bytes.len() {
            Manifest::from_bytes(&name, &bytes[..cut]).unwrap_err();
        }
        // Of two versions that have one form it does not matter which it says it is.
        for place in (0..bytes.len()).filter(|place| *place != MAGIC.len()) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            let error = Manifest::from_bytes(&name, &damaged).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Incompatible);
        }
        let of_version = |version: u16| {
            let mut other = bytes.clone();
            other[6..8].copy_from_slice(&version.to_le_bytes());
            Manifest::from_bytes(&name, &other)
        };
        assert_eq!(of_version(2).unwrap(), manifest, "the one before has the same form");
        for version in [1, 4] {
            assert!(
                of_version(version).unwrap_err().to_string().contains("reads versions 2 and 3")
            );
        }
        assert!(manifest_name(9) < manifest_name(10));
    }
}
