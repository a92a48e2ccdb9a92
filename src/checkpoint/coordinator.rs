//! Takes checkpoints: asks the workers, writes what they give, lets sinks publish, and removes what is no longer needed.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use driftline_operators::state::{OperatorId, SavedState};
use driftline_operators::sync::lock;

use super::manifest::{
    Manifest, OperatorRecord, PartRef, QueryState, SinkRecord, SourceRecord, manifest_name,
};
use super::parts::{Writer, sweep};
use super::restore::{Restored, RestoredQuery, manifests};
use super::retry::Retrying;
use super::{Checkpoint, Checkpoints};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::CheckpointMetrics;
use crate::runtime::QueryId;
use crate::runtime::barrier::{Barrier, Reader, WorkerState};
use crate::runtime::ingress::{Ingress, Standing, Start};
use crate::sink::{SinkObject, StagedFiles};

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

/// What a checkpoint holds besides sources.
#[derive(Debug, Default)]
pub(crate) struct ToSave {
    pub(crate) queries: Vec<QueryToSave>,
    /// Those that publish with checkpoints.
    pub(crate) sinks: Vec<Arc<SinkObject>>,
}

/// What is to be written.
struct Gathered {
    id: u64,
    /// When it was asked for, by the clock.
    begun: Duration,
    stall: Duration,
    standing: Standing,
    to_save: ToSave,
    states: WorkerState,
    unread: BTreeMap<QueryId, (u64, Vec<RecordBatch>)>,
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

impl Progress {
    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }
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

    /// Whether the host is still creating what the checkpoint holds that the engine goes on from: something is left, and no
    /// row has been pushed. One that was taken now would lose what is left.
    pub(crate) fn awaits_set_up(&self, ingress: &Ingress) -> bool {
        let first = self.start().sequence;
        ingress.next_sequence() == first && !self.left().is_empty()
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

    /// Lets a sink put its folder into the state of the checkpoint that the engine goes on from, if there is one.
    pub(crate) fn restore_sink(&self, name: &str, files: &StagedFiles) -> Result<()> {
        match &self.restored {
            Some(restored) => restored.sink(name, |id, named| files.recover(id, named)),
            None => files.recover(0, &[]),
        }
    }

    /// Takes a checkpoint. `begin` is told its number and gives what is in it, while nothing can start or end.
    pub(crate) fn take<G>(
        &self,
        ingress: &Ingress,
        begin: impl FnOnce(u64) -> Result<(ToSave, G)>,
    ) -> Result<Checkpoint> {
        let mut progress = lock(&self.progress);
        // The number is used up, whatever becomes of it: sinks stage under it.
        let id = progress.take_id();
        let begun = ingress.clock().now();
        let (to_save, guard) = begin(id)?;
        let queries = to_save.queries.iter();
        let readers = queries.filter_map(|query| Some((query.id, query.reader.clone()?)));
        let workers = ingress.workers();
        let (reply, answers) = crossbeam_channel::bounded(workers);
        let barrier = Arc::new(Barrier::new(id, workers, readers.collect(), reply));
        let mut standing = ingress.set_up(&barrier)?;
        drop(guard);
        let states = ingress.collect(&answers)?;
        let passed = barrier.take_passed();
        let stall = passed.at.saturating_sub(passed.since.unwrap_or(passed.at));
        for (source, (late, malformed)) in standing.sources.iter_mut().zip(passed.dropped) {
            (source.rows_late, source.rows_malformed) = (late, malformed);
        }
        let states = states.into_iter().flatten();
        self.write(
            &mut progress,
            ingress,
            Gathered {
                id,
                begun,
                stall,
                standing,
                to_save,
                states: states.collect(),
                unread: passed.unread,
            },
        )
    }

    /// Takes the checkpoint of an engine that has finished: its sources have ended, and so have its queries.
    pub(crate) fn take_last(&self, ingress: &Ingress, to_save: ToSave) -> Result<Checkpoint> {
        let mut progress = lock(&self.progress);
        let mut unread = BTreeMap::new();
        for query in &to_save.queries {
            if let Some(Reader::Port(port)) = &query.reader {
                unread.insert(query.id, port.unread());
            }
        }
        let (id, begun) = (progress.take_id(), ingress.clock().now());
        let (stall, standing, states) = (Duration::ZERO, ingress.standing(), Vec::new());
        self.write(
            &mut progress,
            ingress,
            Gathered { id, begun, stall, standing, to_save, states, unread },
        )
    }

    /// Makes a checkpoint durable, lets sinks publish, and removes old ones.
    fn write(
        &self,
        progress: &mut Progress,
        ingress: &Ingress,
        gathered: Gathered,
    ) -> Result<Checkpoint> {
        let Gathered { id, begun, stall, standing, to_save, states, mut unread } = gathered;
        let mut by_query: BTreeMap<QueryId, BTreeMap<OperatorId, Vec<SavedState>>> =
            BTreeMap::new();
        for (query, operators) in states {
            let of_query = by_query.entry(query).or_default();
            for (operator, state) in operators {
                of_query.entry(operator).or_default().push(state);
            }
        }
        let mut writer = Writer::new(&self.store, &mut progress.known);
        let mut queries = Vec::new();
        for query in to_save.queries {
            // A query that has ended holds nothing; what its reader has not taken is kept all the same.
            let mut operators = Vec::new();
            for (id, states) in by_query.remove(&query.id).unwrap_or_default() {
                let workers = states.into_iter().map(|state| writer.state(state));
                operators.push(OperatorRecord { id, workers: workers.collect::<Result<_>>()? });
            }
            let (taken, unread) = unread.remove(&query.id).unwrap_or_default();
            let unread = unread.iter().map(|rows| writer.batch(rows)).collect::<Result<_>>()?;
            queries.push(QueryState {
                name: query.name,
                plan: query.plan,
                operators,
                taken,
                unread,
            });
        }
        writer.finish()?;
        let (bytes, bytes_written) = (writer.bytes, writer.bytes_written);
        let mut sinks = self.restored.as_ref().map(Restored::sinks_left).unwrap_or_default();
        for sink in &to_save.sinks {
            let Some(files) = sink.staged() else { continue };
            let files = files.seal(id, || ingress.is_stopped())?;
            sinks.push(SinkRecord { name: sink.name.clone(), files });
        }
        let manifest = Manifest {
            id,
            epoch: standing.epoch,
            next_sequence: standing.next_sequence,
            sources: standing.sources,
            queries,
            sinks,
        };
        self.store.put(&manifest_name(id), &manifest.to_bytes()?)?;
        self.restored.iter().for_each(Restored::pass);
        progress.kept.push_back((id, manifest.parts().collect()));
        to_save.sinks.iter().filter_map(|sink| sink.staged()).try_for_each(StagedFiles::publish)?;
        let checkpoint = Checkpoint {
            id,
            epoch: manifest.epoch,
            bytes,
            bytes_written,
            stall,
            took: ingress.clock().now().saturating_sub(begun),
        };
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
