//! Models of keys as they are kept: a snapshot for a file of models, and pieces by key for a checkpoint.
//!
//! A snapshot is ordered by key and says in what order keys were used. In pieces each key stands for itself, with the time
//! and the number of its latest use, so that a key without a row leaves its piece as it was, whatever others do.

use std::sync::Arc;

use arrow::array::{AsArray, BinaryBuilder, LargeBinaryBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use super::{Keyed, KeyedDetector, Plan};
use crate::detector::{DetectorStatistics, Pieces};
use crate::detectors::decide::Decider;
use crate::error::Result;
use crate::key::KeyShare;
use crate::keyed::{Entry, KeyTable};
use crate::model::snapshot;
use crate::time::EventTime;

/// Keys in one batch of pieces.
const BATCH_KEYS: usize = 1 << 16;

/// The content of a snapshot; entries are ordered by key.
#[derive(Serialize, Deserialize)]
pub(super) struct Saved {
    columns: Vec<Vec<String>>,
    pub(super) statistics: DetectorStatistics,
    entries: Vec<SavedEntry>,
    /// Positions in `entries`, the least recently used first.
    by_use: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
struct SavedEntry {
    key: Option<Vec<u8>>,
    time: EventTime,
    decider: Decider,
    last: Vec<f64>,
    model: Vec<u8>,
}

/// What belongs to no key.
#[derive(Serialize, Deserialize)]
struct SavedRest {
    columns: Vec<Vec<String>>,
}

/// The piece of one key.
#[derive(Serialize, Deserialize)]
struct Piece {
    time: EventTime,
    used: u64,
    decider: Decider,
    last: Vec<f64>,
    model: Vec<u8>,
}

impl KeyedDetector {
    /// What a snapshot holds.
    pub(super) fn saved(&self) -> Result<Saved> {
        let sorted = self.table.sorted();
        let mut entries = Vec::with_capacity(sorted.len());
        for entry in &sorted {
            let mut model = Vec::new();
            entry.value.model.snapshot(&mut model)?;
            entries.push(SavedEntry {
                key: entry.key.as_ref().map(|key| key.to_vec()),
                time: entry.time,
                decider: entry.value.decider.clone(),
                last: entry.value.last.clone(),
                model,
            });
        }
        let position = |key: &Option<Box<[u8]>>| {
            let found = sorted.binary_search_by(|entry| entry.key.cmp(key));
            found.expect("both lists hold the same keys") as u64
        };
        Ok(Saved {
            columns: self.plan.saved_columns(),
            statistics: DetectorStatistics { rebuild_ns: 0, ..self.judge.statistics },
            by_use: self.table.by_use().map(|entry| position(&entry.key)).collect(),
            entries,
        })
    }

    /// A piece for each key, in their order of use.
    pub(super) fn by_key(&self) -> Result<Pieces> {
        let rest = SavedRest { columns: self.plan.saved_columns() };
        let rest = snapshot::seal(&self.plan.apart(), &rest)?;
        let schema = Arc::new(Schema::new(vec![
            Field::new("key", DataType::Binary, true),
            Field::new("model", DataType::LargeBinary, false),
        ]));
        let (mut of_keys, mut entries) = (Vec::new(), self.table.by_use().peekable());
        let mut bytes = Vec::new();
        while entries.peek().is_some() {
            let (mut keys, mut models) = (BinaryBuilder::new(), LargeBinaryBuilder::new());
            for entry in entries.by_ref().take(BATCH_KEYS) {
                keys.append_option(entry.key.as_deref());
                bytes.clear();
                self.plan.append_piece(entry, &mut bytes)?;
                models.append_value(&bytes);
            }
            let columns = vec![Arc::new(keys.finish()) as _, Arc::new(models.finish()) as _];
            of_keys.push(RecordBatch::try_new(Arc::clone(&schema), columns)?);
        }
        Ok(Pieces { rest, of_keys })
    }
}

impl Plan {
    /// What a snapshot must agree with, beside the kind.
    fn saved_columns(&self) -> Vec<Vec<String>> {
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        vec![owned(self.columns.key_names()), owned(self.columns.feature_names())]
    }

    /// What marks a rest whose keys are apart from it.
    fn apart(&self) -> String {
        format!("{} without its keys", self.kind)
    }

    /// Whether a rest has its keys apart from it.
    pub(super) fn is_apart(&self, rest: &[u8]) -> bool {
        snapshot::open::<SavedRest>(&self.apart(), rest).is_ok()
    }

    fn append_piece(&self, entry: &Entry<Keyed>, out: &mut Vec<u8>) -> Result<()> {
        let Keyed { model, decider, last, .. } = &entry.value;
        let mut bytes = Vec::new();
        model.snapshot(&mut bytes)?;
        let (decider, last) = (decider.clone(), last.clone());
        let piece = Piece { time: entry.time, used: entry.used, decider, last, model: bytes };
        snapshot::append(&self.kind, out, &piece)
    }

    /// The models of snapshots whose keys fall to `share`, in their order of use.
    pub(super) fn table_of(
        &self,
        snapshots: Vec<Saved>,
        share: KeyShare,
    ) -> Result<KeyTable<Keyed>> {
        let refuse = |problem: &str| Err(snapshot::problem(&self.kind, problem));
        let mut by_use = Vec::new();
        for saved in snapshots {
            self.check_columns(&saved.columns)?;
            let mut entries: Vec<_> = saved.entries.into_iter().map(Some).collect();
            for position in &saved.by_use {
                let position = usize::try_from(*position).unwrap_or(usize::MAX);
                let Some(entry) = entries.get_mut(position).and_then(Option::take) else {
                    return refuse("names a key that it does not hold");
                };
                by_use.push(entry);
            }
        }
        // Keys of several workers are used in turn; within one snapshot the order stays as it was.
        by_use.retain(|entry| share.owns(entry.key.as_deref(), self.columns.is_keyed()));
        if by_use.windows(2).any(|pair| pair[0].time > pair[1].time) {
            by_use.sort_by_key(|entry| entry.time);
        }
        self.table_by_use((0..).zip(by_use))
    }

    /// The models of pieces whose keys fall to `share`, in their order of use.
    pub(super) fn table_of_pieces(
        &self,
        rests: &[Vec<u8>],
        of_keys: &[RecordBatch],
        share: KeyShare,
    ) -> Result<KeyTable<Keyed>> {
        let refuse = || snapshot::problem(&self.kind, "holds something else");
        for rest in rests {
            let rest: SavedRest = snapshot::open(&self.apart(), rest)?;
            self.check_columns(&rest.columns)?;
        }
        let mut by_use = Vec::new();
        for rows in of_keys {
            let column = |at: usize| rows.columns().get(at).ok_or_else(refuse);
            let keys = column(0)?.as_binary_opt::<i32>().ok_or_else(refuse)?;
            let models = column(1)?.as_binary_opt::<i64>().ok_or_else(refuse)?;
            for (key, piece) in keys.iter().zip(models) {
                let Piece { time, used, decider, last, model } =
                    snapshot::read(&self.kind, piece.ok_or_else(refuse)?)?;
                let key = key.map(<[u8]>::to_vec);
                by_use.push((used, SavedEntry { key, time, decider, last, model }));
            }
        }
        by_use.retain(|(_, entry)| share.owns(entry.key.as_deref(), self.columns.is_keyed()));
        // Workers number uses each for itself.
        by_use.sort_by(|(used, a), (other, b)| {
            (a.time, *used, &a.key).cmp(&(b.time, *other, &b.key))
        });
        self.table_by_use(by_use.into_iter())
    }

    fn check_columns(&self, columns: &[Vec<String>]) -> Result<()> {
        match columns == self.saved_columns() {
            true => Ok(()),
            false => Err(snapshot::problem(&self.kind, "was taken over other keys or features")),
        }
    }

    /// A table of entries with the numbers of their latest uses, the least recently used first.
    fn table_by_use(
        &self,
        by_use: impl Iterator<Item = (u64, SavedEntry)>,
    ) -> Result<KeyTable<Keyed>> {
        let refuse = || snapshot::problem(&self.kind, "holds a key that cannot be");
        let width = self.columns.feature_names().len();
        let mut table = KeyTable::new();
        for (used, entry) in by_use {
            let key = entry.key.as_deref();
            let last_fits = entry.last.is_empty() || entry.last.len() == width;
            if !entry.decider.is_sound() || !last_fits || table.peek(key).is_some() {
                return Err(refuse());
            }
            let model = self.factory.restore(&entry.model)?;
            let mut keyed = Keyed::new(model, entry.decider, entry.last);
            let last = keyed.last.capacity() * size_of::<f64>();
            keyed.counted.bytes = keyed.model.bytes() + keyed.decider.bytes() + last;
            keyed.counted.is_ready = keyed.model.phase().scores();
            table.insert_used(key, entry.time, keyed, used);
        }
        Ok(table)
    }
}
