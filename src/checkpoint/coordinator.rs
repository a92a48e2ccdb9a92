//! Takes checkpoints: asks the workers, writes what they give, lets sinks publish, and removes what is no longer needed.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use driftline_operators::state::{OperatorId, SavedState};

use super::manifest::{Manifest, OperatorRecord, PartRef, QueryState, SourceRecord, manifest_name};
use super::parts::{Writer, sweep};
use super::restore::{Restored, RestoredQuery, manifests};
use super::retry::Retrying;
use super::{Checkpoint, Checkpoints};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::CheckpointMetrics;
use crate::runtime::QueryId;
use crate::runtime::barrier::{Barrier, Reader};
use crate::runtime::ingress::{Ingress, Start};

/// A query as a checkpoint sees it.
#[derive(Clone, Debug)]
pub(crate) struct QueryToSave {
    pub(crate) id: QueryId,
    /// What it is known by when the host starts it again.
    pub(crate) name: String,
    /// What must be as it was for its state to fit.
    pub(crate) plan: String,
    pub(crate) reader: Option<Reader>,
}

/// Takes the checkpoints of one engine.
#[derive(Debug)]
pub(crate) struct Coordinator {
    store: Retrying,
    every: Option<Duration>,
    keep: usize,
    restored: Option<Restored>,
    /// Held while a checkpoint is taken: one after the other.
    progress: Mutex<Progress>,
    figures: Mutex<CheckpointMetrics>,
}

#[derive(Debug)]
struct Progress {
    next_id: u64,
    known: HashSet<PartRef>,
    /// Checkpoints that are kept, the oldest first, and their parts.
    kept: VecDeque<(u64, BTreeSet<PartRef>)>,
}

impl Coordinator {
    /// Finds the newest checkpoint of a store, if there is one.
    pub(crate) fn open(checkpoints: Checkpoints) -> Result<Self> {
        let Checkpoints { store, every, keep } = checkpoints;
        let store = Retrying::new(store);
        let mut manifests = manifests(&store)?;
        manifests.sort_unstable_by_key(|manifest| manifest.id);
        let present: HashSet<String> = store.list()?.into_iter().collect();
        let mut known = HashSet::new();
        let mut kept = VecDeque::new();
        for manifest in &manifests {
            let parts: BTreeSet<PartRef> = manifest.parts().collect();
            known.extend(parts.iter().filter(|part| present.contains(&part.name())));
            kept.push_back((manifest.id, parts));
        }
        let next_id = manifests.last().map_or(1, |manifest| manifest.id + 1);
        Ok(Self {
            store,
            every,
            keep,
            restored: manifests.last().map(Restored::new),
            progress: Mutex::new(Progress { next_id, known, kept }),
            figures: Mutex::default(),
        })
    }

    /// Where the engine begins to count.
    pub(crate) fn start(&self) -> Start {
        self.restored.as_ref().map(Restored::start).unwrap_or_default()
    }

    /// How often one is taken without being asked for.
    pub(crate) fn every(&self) -> Option<Duration> {
        self.every
    }

    /// The checkpoint that the engine goes on from.
    pub(crate) fn restored(&self) -> Option<&Checkpoint> {
        self.restored.as_ref().map(|restored| &restored.checkpoint)
    }

    /// What has been done so far.
    pub(crate) fn metrics(&self) -> CheckpointMetrics {
        lock(&self.figures).clone()
    }

    /// Counts one that could not be taken.
    pub(crate) fn note_failure(&self, error: &Error) {
        let mut figures = lock(&self.figures);
        figures.failed += 1;
        figures.last_error = Some(error.to_string());
    }

    /// What the checkpoint that the engine goes on from holds and nobody has taken up.
    pub(crate) fn left(&self) -> Vec<String> {
        self.restored.as_ref().map(Restored::left).unwrap_or_default()
    }

    pub(crate) fn restored_source(
        &self,
        name: &str,
        declared: &str,
    ) -> Result<Option<SourceRecord>> {
        self.restored.as_ref().map_or(Ok(None), |restored| restored.source(name, declared))
    }

    pub(crate) fn restored_query(&self, name: &str, plan: &str) -> Result<Option<RestoredQuery>> {
        let restored = self.restored.as_ref();
        restored.map_or(Ok(None), |restored| restored.query(&self.store, name, plan))
    }

    /// Cuts waits for the store short: the engine ends.
    pub(crate) fn end(&self) {
        self.store.end();
    }

    /// Takes a checkpoint. `queries` gives those that run, while none can start or end.
    pub(crate) fn take<G>(
        &self,
        ingress: &Ingress,
        queries: impl FnOnce() -> (Vec<QueryToSave>, G),
    ) -> Result<Checkpoint> {
        let mut progress = lock(&self.progress);
        let progress = &mut *progress;
        let id = progress.next_id;
        let begun = ingress.clock().now();
        let (queries, guard) = queries();
        let readers = queries.iter().filter_map(|query| Some((query.id, query.reader.clone()?)));
        let workers = ingress.workers();
        let (reply, answers) = crossbeam_channel::bounded(workers);
        let barrier = Arc::new(Barrier::new(id, workers, readers.collect(), reply));
        let standing = ingress.set_up(&barrier)?;
        drop(guard);
        let states = ingress.collect(&answers)?;
        let passed = barrier.take_passed();
        // The number is used up, whatever becomes of it: sinks have staged under it.
        progress.next_id += 1;
        let mut by_query: BTreeMap<QueryId, BTreeMap<OperatorId, Vec<SavedState>>> =
            BTreeMap::new();
        for (query, operators) in states.into_iter().flatten() {
            let of_query = by_query.entry(query).or_default();
            for (operator, state) in operators {
                of_query.entry(operator).or_default().push(state);
            }
        }
        let mut writer = Writer::new(&self.store, &mut progress.known);
        let (mut saved, mut unread) = (Vec::new(), passed.unread);
        for query in &queries {
            // A query that has ended holds nothing; what its reader has not taken is kept all the same.
            let mut operators = Vec::new();
            for (id, states) in by_query.remove(&query.id).unwrap_or_default() {
                let workers = states.into_iter().map(|state| writer.state(state));
                operators.push(OperatorRecord { id, workers: workers.collect::<Result<_>>()? });
            }
            let unread = unread.remove(&query.id).unwrap_or_default();
            let unread = unread.iter().map(|rows| writer.batch(rows)).collect::<Result<_>>()?;
            let (name, plan) = (query.name.clone(), query.plan.clone());
            saved.push(QueryState { name, plan, operators, unread, sink: Vec::new() });
        }
        let (bytes, bytes_written) = (writer.bytes, writer.bytes_written);
        let manifest = Manifest {
            id,
            epoch: standing.epoch,
            next_sequence: standing.next_sequence,
            sources: standing.sources,
            queries: saved,
        };
        self.store.put(&manifest_name(id), &manifest.to_bytes()?)?;
        let checkpoint = Checkpoint {
            id,
            epoch: standing.epoch,
            bytes,
            bytes_written,
            stall: passed.at.saturating_sub(standing.at),
            took: ingress.clock().now().saturating_sub(begun),
        };
        progress.kept.push_back((id, manifest.parts().collect()));
        let mut figures = lock(&self.figures);
        figures.taken += 1;
        figures.bytes_written += bytes_written;
        figures.last_millis = checkpoint.took.as_secs_f64() * 1e3;
        figures.last_stall_millis = checkpoint.stall.as_secs_f64() * 1e3;
        drop(figures);
        self.prune(progress)?;
        Ok(checkpoint)
    }

    /// Removes checkpoints beyond those that are kept, and parts that none names.
    fn prune(&self, progress: &mut Progress) -> Result<()> {
        if progress.kept.len() <= self.keep {
            return Ok(());
        }
        while progress.kept.len() > self.keep {
            let Some((id, _)) = progress.kept.front() else { break };
            self.store.remove(&manifest_name(*id))?;
            progress.kept.pop_front();
        }
        let kept = progress.kept.iter().flat_map(|(_, parts)| parts.iter().copied()).collect();
        sweep(&self.store, &kept, &mut progress.known)
    }
}

/// What a checkpoint of an engine without a store is answered.
pub(crate) fn no_store() -> Error {
    Error::new(ErrorKind::Settings, "the engine takes no checkpoints")
        .with_hint("build it with .checkpoints(Checkpoints::in_folder(path)?)")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
