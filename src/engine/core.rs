//! What all handles of an engine share, and what they ask of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use driftline_operators::dataflow::{MAIN, QueryShared};
use driftline_operators::detector::{DetectorKind, DetectorRequest};
use driftline_operators::detectors::DetectorSpec;
use driftline_operators::inference::Device;
use driftline_operators::key::KeyShare;
use driftline_operators::logs::LogKeyPlan;
use driftline_operators::model::SavedModels;
use driftline_operators::options::nearest_name;
use driftline_operators::sync::lock;
use driftline_operators::sync::turns::Handle;
use driftline_queries::{Functions, Plan, Planner, Query, Scan, ScanStream};

use super::explain;
use super::feedback::{self, FeedbackReport};
use super::registry::{
    DetectorObject, Identity, Lookups, Object, QueryRecord, Registry, SourceObject,
};
use crate::analysis::Analysis;
use crate::checkpoint::{Checkpoint, Checkpoints, Coordinator, QueryToSave, ToSave, no_store, run};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{self, DetectorStage, Leaf, QuerySpec, Upstream};
use crate::runtime::background::Background;
use crate::runtime::barrier::Reader;
use crate::runtime::clock::{Clock, Steady};
use crate::runtime::inference::Services;
use crate::runtime::ingress::Ingress;
use crate::runtime::output::{Delivery, OutputPort};
use crate::runtime::threads::{self, Threads};
use crate::runtime::{Message, QueryId, SourceId};
use crate::settings::Settings;
use crate::sink::{InsertEnd, SinkObject, StagedFiles};
use crate::source::{FilePlan, Source, SourceDefinition, read_files};
use crate::table::TableObject;

/// The shared heart of an engine.
pub(crate) struct Core {
    pub(crate) ingress: Arc<Ingress>,
    pub(crate) planner: Planner,
    pub(crate) kinds: BTreeMap<String, Arc<dyn DetectorKind>>,
    clock: Arc<dyn Clock>,
    background: Arc<Background>,
    checkpoints: Option<Coordinator>,
    /// The thread that takes checkpoints by the clock.
    schedule: Mutex<Option<Handle<()>>>,
    pub(super) inference: Arc<Services>,
    threads: Threads,
    registry: Mutex<Registry>,
    readers: Mutex<Readers>,
    files: Mutex<Vec<Handle<Result<()>>>>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

/// Threads that read queries: callbacks and sinks.
struct Readers {
    running: Vec<Reading>,
    /// What the first of those that have ended failed with.
    first_error: Result<()>,
}

struct Reading {
    handle: Handle<Result<()>>,
    /// Whether it writes to a sink, so that no code of the host's runs in it.
    writes: bool,
}

impl Default for Readers {
    fn default() -> Self {
        Self { running: Vec::new(), first_error: Ok(()) }
    }
}

impl Readers {
    /// Lets go of those that have ended.
    fn reap(&mut self) {
        let (ended, running): (Vec<_>, Vec<_>) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|reading| reading.handle.is_finished());
        self.running = running;
        for result in ended.into_iter().map(|reading| join(reading.handle)) {
            if self.first_error.is_ok() {
                self.first_error = result;
            }
        }
    }
}

/// A query that has been planned, and what it stands on.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) reads: BTreeSet<String>,
    pub(super) leaves: Vec<Leaf>,
}

impl Planned {
    /// The sources at the bottom.
    fn sources(&self) -> BTreeSet<SourceId> {
        self.leaves.iter().flat_map(|leaf| leaf.sources.iter().copied()).collect()
    }
}

impl Core {
    pub(super) fn start(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        functions: Functions,
        kinds: BTreeMap<String, Arc<dyn DetectorKind>>,
        device: Option<Arc<dyn Device>>,
        checkpoints: Option<Checkpoints>,
    ) -> Result<Self> {
        let checkpoints = checkpoints.map(Coordinator::open).transpose()?;
        let start = checkpoints.as_ref().map(Coordinator::start).unwrap_or_default();
        let clock: Arc<dyn Clock> = Arc::new(Steady::new(clock));
        let (ingress, threads) = Threads::start(settings, Arc::clone(&clock), start)?;
        Ok(Self {
            ingress,
            planner: Planner::new(functions),
            kinds,
            clock,
            background: Arc::new(Background::new(
                settings.background_threads,
                settings.background_tasks_max,
            )),
            checkpoints,
            schedule: Mutex::default(),
            inference: Arc::new(Services::new(settings, device)),
            threads,
            registry: Mutex::default(),
            readers: Mutex::default(),
            files: Mutex::default(),
        })
    }

    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }

    fn objects_max(&self) -> usize {
        self.ingress.settings().objects_max
    }

    // ---- sources ----

    pub(super) fn create_source(
        &self,
        definition: SourceDefinition,
        files: Option<FilePlan>,
    ) -> Result<Arc<SourceObject>> {
        self.ingress.check()?;
        let mut registry = self.registry();
        registry.check_room(definition.name(), self.objects_max())?;
        let spec = Arc::new(definition.into_spec()?);
        let counters = Arc::default();
        let restored = self.checkpoints.as_ref().map_or(Ok(None), |checkpoints| {
            checkpoints.restored_source(&spec.name, &spec.declared())
        })?;
        let resume_at = restored.as_ref().map_or(0, |record| record.rows);
        let had_ended = restored.as_ref().is_some_and(|record| record.closed);
        let id =
            self.ingress.add_source(Arc::clone(&spec), Arc::clone(&counters), restored.as_ref());
        let name = spec.name.clone();
        let files = Mutex::new(files);
        let failure = OnceLock::new();
        let object =
            Arc::new(SourceObject { id, spec, counters, resume_at, had_ended, failure, files });
        registry.objects.insert(name, Object::Source(Arc::clone(&object)));
        Ok(object)
    }

    pub(super) fn source_object(&self, name: &str) -> Result<Arc<SourceObject>> {
        self.ingress.check()?;
        let registry = self.registry();
        if let Some(Object::Source(source)) = registry.get(name) {
            return Ok(Arc::clone(source));
        }
        let sources = registry.objects.iter().filter(|(_, o)| matches!(o, Object::Source(_)));
        let names: Vec<&str> = sources.map(|(name, _)| name.as_str()).collect();
        Err(missing("source", name, &names))
    }

    /// Starts to read the files of sources that have some.
    pub(super) fn start_files(self: &Arc<Self>) -> Result<()> {
        let sources: Vec<Arc<SourceObject>> = self
            .registry()
            .objects
            .values()
            .filter_map(|object| match object {
                Object::Source(source) => Some(Arc::clone(source)),
                _ => None,
            })
            .collect();
        for object in sources {
            let Some(plan) = lock(&object.files).take().filter(|_| !object.had_ended) else {
                continue;
            };
            // Not by its name, which may hold what a thread's name may not.
            let name = format!("driftline-read-{}", object.id.0);
            let source = Source::new(Arc::clone(self), Arc::clone(&object));
            let core = Arc::clone(self);
            let stop = self.ingress.new_alarm();
            let handle = threads::spawn(name, move || {
                read_files(&source, &plan, &*core.clock, &stop).inspect_err(|error| {
                    // Under the lock, so that no checkpoint holds an end that is none.
                    let registry = core.registry();
                    let _ = object.failure.set(error.clone());
                    drop(registry);
                    // What was read still counts; the error comes out of shutdown.
                    let _ = source.close();
                })
            })?;
            lock(&self.files).push(handle);
        }
        Ok(())
    }

    // ---- tables ----

    /// Puts a table under a name. Queries that run keep the table that they have.
    pub(super) fn put_table(&self, name: &str, table: TableObject, or_replace: bool) -> Result<()> {
        self.ingress.check()?;
        let mut registry = self.registry();
        if !(or_replace && matches!(registry.get(name), Some(Object::Table(_)))) {
            registry.check_room(name, self.objects_max())?;
        }
        registry.objects.insert(name.to_owned(), Object::Table(table));
        Ok(())
    }

    /// Adds rows to a table, for the queries that start from now on.
    pub(super) fn append_to_table(&self, name: &str, rows: RecordBatch) -> Result<()> {
        self.ingress.check()?;
        let bytes_max = self.ingress.settings().table_bytes_max;
        match self.registry().objects.get_mut(name) {
            Some(Object::Table(table)) => table.append(name, rows, bytes_max),
            _ => Err(missing("table", name, &[])),
        }
    }

    // ---- queries ----

    /// Plans a query against the objects as they are.
    pub(super) fn plan(&self, registry: &Registry, query: &Query) -> Result<Planned> {
        let lookups = Lookups::new(registry);
        let plan = self.planner.plan_query(query, &lookups)?;
        let reads = lookups.into_seen();
        let leaves = plan.scans().into_iter().map(|scan| Self::leaf(registry, scan));
        let leaves = leaves.collect::<Result<_>>()?;
        Ok(Planned { plan, reads, leaves })
    }

    /// Where the rows of a scan come from.
    fn leaf(registry: &Registry, scan: &Scan) -> Result<Leaf> {
        let (upstream, sources) = match (registry.get(&scan.relation), &scan.stream) {
            (Some(Object::Source(source)), ScanStream::Rows) => {
                (Upstream::Source, BTreeSet::from([source.id]))
            }
            (Some(Object::Source(source)), ScanStream::Late) => {
                (Upstream::Late, BTreeSet::from([source.id]))
            }
            (
                Some(Object::Detector(detector)),
                stream @ (ScanStream::Rows | ScanStream::Side(_)),
            ) => {
                let running = registry.queries.get(&detector.query);
                if let Some(error) = running.and_then(|query| query.context.failure()) {
                    return Err(Error::from(error)
                        .with_hint(format!("detector \"{}\" has failed: drop it", scan.relation)));
                }
                let relation = match stream {
                    ScanStream::Side(name) => {
                        let position = detector.side.iter().position(|side| side.name == *name);
                        MAIN + 1 + position.unwrap_or(usize::MAX / 2) as u32
                    }
                    _ => MAIN,
                };
                (Upstream::Query(detector.query, relation), detector.sources.clone())
            }
            _ => {
                return Err(Error::internal(format!("plan reads \"{}\"", scan.relation)));
            }
        };
        Ok(Leaf { upstream, sources, late_ns: scan.late_ns })
    }

    /// Starts a query whose results go to a port.
    pub(super) fn start_query(&self, query: &Query) -> Result<(Arc<QueryRecord>, SchemaRef)> {
        let (record, schema, _) = self.start_query_into(query, None)?;
        Ok((record, schema))
    }

    /// Starts a query whose results a sink will read, if one is given; its number among the INSERTs of that sink.
    fn start_query_into(
        &self,
        query: &Query,
        sink: Option<&SinkObject>,
    ) -> Result<(Arc<QueryRecord>, SchemaRef, u32)> {
        self.ingress.check()?;
        let mut registry = self.registry();
        registry.check_count(self.objects_max())?;
        let planned = self.plan(&registry, query)?;
        graph::check(&planned.plan, None, self.ingress.settings())?;
        let settings = self.ingress.settings();
        let threads = self.threads.workers();
        let port = Arc::new(OutputPort::new(settings.subscription_bytes_max, threads));
        let schema = planned.plan.schema.clone();
        // Before the query starts: a checkpoint that holds the query has to know of its rows.
        let barrier = registry.barrier;
        let insert = sink.map_or(Ok(0), |sink| sink.attach(&schema, barrier))?;
        let record = self.install(&mut registry, planned, query, None, sink, Some(port));
        let record = record.inspect_err(|_| {
            // Nothing was written, so that there is nothing to report.
            let _ = sink.map(|sink| sink.detach(insert, InsertEnd::NeverBegan, None));
        })?;
        Ok((record, schema, insert))
    }

    pub(super) fn create_detector(
        &self,
        name: &str,
        spec: DetectorSpec,
        query: &Query,
    ) -> Result<()> {
        self.ingress.check()?;
        let mut registry = self.registry();
        registry.check_room(name, self.objects_max())?;
        let planned = self.plan(&registry, query)?;
        let stage = self.detector_stage(name, &spec, &planned.plan)?;
        let (schema, side) = (stage.plan.output_schema(), stage.plan.relations());
        let plan = Arc::clone(&stage.plan);
        let (time, window_bounds) = (stage.time, planned.plan.window_bounds.clone());
        let sources = planned.sources();
        let log_keys: Vec<LogKeyPlan> = planned.plan.log_keys().into_iter().cloned().collect();
        let named = Some((name, stage));
        let record = self.install(&mut registry, planned, query, named, None, None)?;
        let object = DetectorObject {
            query: record.id,
            sources,
            spec,
            text: query.text().to_owned(),
            schema,
            time,
            window_bounds,
            side,
            plan,
            log_keys: log_keys.into(),
        };
        registry.objects.insert(name.to_owned(), Object::Detector(object));
        Ok(())
    }

    /// Settles a detector over the results of a plan.
    pub(super) fn detector_stage(
        &self,
        name: &str,
        spec: &DetectorSpec,
        plan: &Plan,
    ) -> Result<DetectorStage> {
        let Some(kind) = self.kinds.get(&spec.kind) else {
            let names: Vec<&str> = self.kinds.keys().map(String::as_str).collect();
            return Err(missing("detector kind", &spec.kind, &names));
        };
        let Some(time) = plan.time else {
            return Err(Error::new(
                ErrorKind::Query,
                format!("detector \"{name}\" reads rows without event time"),
            )
            .with_hint("select the source's event-time column, or window_end of a window"));
        };
        let partition_by = spec.partition_columns(&plan.schema)?;
        let plan_of_detector = kind.plan(&DetectorRequest {
            name,
            schema: plan.schema.clone(),
            time: time.index,
            partition_by: partition_by.clone(),
            window_bounds: plan.window_bounds.clone(),
            options: &spec.options,
            models_max: self.ingress.settings().models_max,
            executor: self.background.clone(),
            inference: self.inference.clone(),
        })?;
        let stage = DetectorStage { plan: plan_of_detector, partition_by, time };
        graph::check(plan, Some(&stage), self.ingress.settings())?;
        Ok(stage)
    }

    /// The models of a detector as one file; see [`Engine::export_models`](crate::Engine::export_models).
    pub(super) fn export_models(&self, name: &str) -> Result<Vec<u8>> {
        self.ingress.drain()?;
        let (query, kind) = self.detector_query(name)?;
        let parts = self.ingress.ask_all(|reply| Message::Export { query, reply })?;
        let mut saved = SavedModels::default();
        for part in parts {
            saved.models.push(part.models);
            // Lines are parsed on the first worker alone.
            saved.log_keys.extend(part.log_keys);
        }
        Ok(saved.to_bytes(&kind)?)
    }

    /// Replaces the models of a detector by those of a file.
    pub(super) fn import_models(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.ingress.drain()?;
        let (query, kind) = self.detector_query(name)?;
        let models = Arc::new(SavedModels::from_bytes(&kind, bytes)?);
        // A worker must not take up its share when another cannot: the first looks at all of them, and changes nothing
        // if one does not fit.
        let (stage, log_keys) = {
            let registry = self.registry();
            let Some(Object::Detector(object)) = registry.get(name) else {
                return Err(Error::closed("detector"));
            };
            (Arc::clone(&object.plan), Arc::clone(&object.log_keys))
        };
        stage.detector().adopt(&models.models, KeyShare::ALL)?;
        models.check_log_keys(&kind, log_keys.len())?;
        for (plan, bytes) in log_keys.iter().zip(&models.log_keys) {
            plan.stage()?.restore(bytes)?;
        }
        self.ingress.ask_all(|reply| Message::Import {
            query,
            models: Arc::clone(&models),
            reply,
        })?;
        Ok(())
    }

    /// The columns of feedback for a detector.
    pub(super) fn feedback_schema(&self, name: &str) -> Result<SchemaRef> {
        let (_, kind) = self.detector_query(name)?;
        let registry = self.registry();
        let Some(Object::Detector(object)) = registry.get(name) else {
            return Err(Error::closed("detector"));
        };
        object.plan.feedback_schema().ok_or_else(|| {
            let message =
                format!("detector \"{name}\" is of kind \"{kind}\", which takes no feedback");
            let hint = "drop it and create it with other options, or choose another kind";
            Error::new(ErrorKind::Unsupported, message).with_hint(hint)
        })
    }

    /// Takes anomalies back; see [`Engine::feedback`](crate::Engine::feedback).
    pub(super) fn feedback(&self, name: &str, rows: &RecordBatch) -> Result<FeedbackReport> {
        let rows = feedback::conform(name, &self.feedback_schema(name)?, rows)?;
        self.ingress.drain()?;
        let (query, _) = self.detector_query(name)?;
        let taken =
            self.ingress.ask_all(|reply| Message::Feedback { query, rows: rows.clone(), reply })?;
        Ok(FeedbackReport::of(rows.num_rows(), &taken))
    }

    fn detector_query(&self, name: &str) -> Result<(QueryId, String)> {
        let registry = self.registry();
        if let Some(Object::Detector(detector)) = registry.get(name) {
            return Ok((detector.query, detector.spec.kind.clone()));
        }
        let detectors = registry.objects.iter().filter(|(_, o)| matches!(o, Object::Detector(_)));
        let names: Vec<&str> = detectors.map(|(name, _)| name.as_str()).collect();
        Err(missing("detector", name, &names))
    }

    fn install(
        &self,
        registry: &mut Registry,
        planned: Planned,
        query: &Query,
        detector: Option<(&str, DetectorStage)>,
        sink: Option<&SinkObject>,
        port: Option<Arc<OutputPort>>,
    ) -> Result<Arc<QueryRecord>> {
        let writes = sink.map(|sink| sink.name.clone());
        let named = detector.as_ref().map(|(name, stage)| (*name, stage));
        let dataflow = explain::dataflow(self, registry, &planned, named.map(|(_, stage)| stage));
        let identity = identity(registry, &planned.plan, query, named, writes.as_deref());
        let restored = self.checkpoints.as_ref().map_or(Ok(None), |checkpoints| {
            checkpoints.restored_query(&identity.name, &identity.plan)
        })?;
        if let (Some(port), Some(restored)) = (&port, &restored) {
            port.refill(restored.unread.clone(), restored.epoch, restored.taken);
        }
        let id = self.ingress.new_query_id();
        let context = QueryShared::default();
        let name = match (&detector, &writes) {
            (Some((name, _)), _) => format!("detector \"{name}\""),
            (None, Some(sink)) => format!("insert {} into \"{sink}\"", id.0),
            (None, None) => format!("subscription {}", id.0),
        };
        let record = Arc::new(QueryRecord {
            id,
            name,
            text: query.text().to_owned(),
            reads: planned.reads,
            writes,
            context: context.clone(),
            identity,
            dataflow,
            port: port.clone(),
            publishes: sink.is_some_and(|sink| sink.staged().is_some()),
            reader_error: OnceLock::new(),
        });
        self.ingress.install(Arc::new(QuerySpec {
            id,
            plan: planned.plan,
            detector: detector.map(|(_, stage)| stage),
            leaves: planned.leaves,
            port,
            context,
            saved: restored.map(|restored| restored.operators),
        }))?;
        registry.queries.insert(id, Arc::clone(&record));
        Ok(record)
    }

    /// Takes a checkpoint.
    pub(super) fn checkpoint(&self) -> Result<Checkpoint> {
        let coordinator = self.checkpoints.as_ref().ok_or_else(no_store)?;
        let taken = coordinator.take(&self.ingress, |id| {
            let mut registry = self.registry();
            registry.barrier = id;
            Ok((to_save(&registry)?, registry))
        });
        taken.inspect_err(|error| coordinator.note_failure(error))
    }

    /// Publishes what is left in sinks that publish with checkpoints, once all sources and queries have ended.
    fn take_last_checkpoint(&self) -> Result<()> {
        let Some(coordinator) = &self.checkpoints else { return Ok(()) };
        let to_save = to_save(&self.registry())?;
        if to_save.sinks.is_empty() {
            return Ok(());
        }
        let taken = coordinator.take_last(&self.ingress, to_save);
        taken.map(|_| ()).inspect_err(|error| coordinator.note_failure(error))
    }

    /// Starts to take checkpoints by the clock, if that is wanted.
    pub(super) fn start_checkpoints(core: &Arc<Self>) -> Result<()> {
        if core.checkpoints.as_ref().and_then(Coordinator::every).is_none() {
            return Ok(());
        }
        let (alarm, own) = (core.ingress.new_alarm(), Arc::clone(core));
        let handle = threads::spawn("driftline-checkpoints".into(), move || {
            if let Some(coordinator) = &own.checkpoints {
                run(coordinator, &own.ingress, &alarm, || own.checkpoint());
            }
        })?;
        *lock(&core.schedule) = Some(handle);
        Ok(())
    }

    /// Waits for the thread that takes checkpoints.
    fn end_checkpoints(&self) {
        self.checkpoints.iter().for_each(Coordinator::end);
        if let Some(schedule) = lock(&self.schedule).take() {
            // It catches nothing and has nothing to say.
            let _ = schedule.join();
        }
    }

    /// What takes checkpoints, if something does.
    pub(super) fn coordinator(&self) -> Option<&Coordinator> {
        self.checkpoints.as_ref()
    }

    /// What a running query has done so far. It is called by its name, its number, or the name of its detector.
    pub(super) fn analyze(&self, query: &str) -> Result<Analysis> {
        let registry = self.registry();
        let name = match query.trim().parse::<u64>() {
            Ok(number) => registry.queries.get(&QueryId(number)).map(|query| query.name.clone()),
            Err(_) => None,
        };
        let name = name.unwrap_or_else(|| query.to_owned());
        let of_detector = format!("detector \"{name}\"");
        let mut queries = registry.queries.values();
        match queries.find(|query| query.name == name || query.name == of_detector) {
            Some(record) => {
                let is_placed = registry.objects.values().any(|object| match object {
                    Object::Detector(detector) if detector.query == record.id => detector
                        .plan
                        .placement()
                        .is_some_and(|placement| placement.service.is_some()),
                    _ => false,
                });
                let inference = if is_placed { self.inference.metrics() } else { None };
                let (dataflow, meters) = (record.dataflow.clone(), record.context.meters());
                Ok(Analysis::new(&record.name, dataflow, &meters, inference))
            }
            None => {
                let names: Vec<&str> = registry.queries.values().map(|q| q.name.as_str()).collect();
                Err(missing("query", query, &names))
            }
        }
    }

    /// Ends a query and frees its state.
    pub(crate) fn cancel(&self, record: &QueryRecord) {
        self.registry().queries.remove(&record.id);
        record.context.cancel();
        self.ingress.cancel(record.id);
        if let Some(port) = &record.port {
            port.abandon();
        }
    }

    // ---- readers ----

    /// Runs a reader of a query on a thread of its own. Its error ends the query and comes out of shutdown.
    pub(crate) fn start_reader(
        self: &Arc<Self>,
        record: &Arc<QueryRecord>,
        body: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (core, read) = (Arc::clone(self), Arc::clone(record));
        let spawned = threads::spawn(format!("driftline-{}", record.id.0), move || {
            let result = body();
            if let Err(error) = &result {
                let _ = read.reader_error.set(error.clone());
            }
            core.cancel(&read);
            result
        });
        // Without its reader the query would hold up all others.
        let handle = spawned.inspect_err(|_| self.cancel(record))?;
        let mut readers = lock(&self.readers);
        readers.running.push(Reading { handle, writes: record.writes.is_some() });
        readers.reap();
        Ok(())
    }

    /// Starts a query that flows into a sink.
    pub(super) fn start_insert(
        self: &Arc<Self>,
        sink: &Arc<SinkObject>,
        query: &Query,
    ) -> Result<()> {
        let (record, _, insert) = self.start_query_into(query, Some(sink))?;
        let (attached, sink, read) = (Arc::clone(sink), Arc::clone(sink), Arc::clone(&record));
        let started = self.start_reader(&record, move || {
            let port = read.port.as_ref().expect("a query into a sink has a port");
            let mut deliveries = std::iter::from_fn(|| port.next_delivery());
            let written = deliveries.try_for_each(|delivery| match delivery? {
                Delivery::Rows(rows, _) => sink.write(insert, &rows),
                Delivery::Mark(checkpoint) => sink.mark(insert, checkpoint),
            });
            let was_cancelled = read.context.is_over();
            let end = match written.is_ok() && !was_cancelled {
                true => InsertEnd::Complete,
                false => InsertEnd::CutShort,
            };
            let settled = sink.detach(insert, end, written.as_ref().err());
            written.and(settled)
        });
        started.inspect_err(|_| {
            // Nothing was written, so that there is nothing to report.
            let _ = attached.detach(insert, InsertEnd::NeverBegan, None);
        })
    }

    // ---- the end ----

    pub(super) fn shutdown(&self) -> Result<()> {
        let mut first = Ok(());
        self.ingress.lift_bounds();
        let files = std::mem::take(&mut *lock(&self.files));
        first = files.into_iter().map(join).fold(first, Result::and);
        first = first.and(self.ingress.finish());
        if first.is_err() {
            self.ingress.stop();
            self.ingress.abandon_readers();
        }
        let readers = std::mem::take(&mut *lock(&self.readers));
        first = first.and(readers.first_error);
        // A callback may shut its own engine down; its thread ends once the callback returns.
        let own = std::thread::current().id();
        let others = readers.running.into_iter().map(|reading| reading.handle);
        let others = others.filter(|handle| handle.thread().id() != own);
        first = others.map(join).fold(first, Result::and);
        if first.is_ok() {
            first = self.take_last_checkpoint();
        }
        self.end_checkpoints();
        self.threads.join();
        self.background.end();
        self.inference.end();
        first
    }

    /// Stops where it is: workers end, readers get an error, nobody waits for callbacks. Sinks let go of their files, so
    /// that another engine can write them.
    pub(super) fn abandon(&self) {
        self.ingress.stop();
        self.ingress.abandon_readers();
        self.end_checkpoints();
        let readers = std::mem::take(&mut *lock(&self.readers));
        // Their errors say that the engine was dropped.
        let writing = readers.running.into_iter().filter(|reading| reading.writes);
        writing.for_each(|reading| drop(join(reading.handle)));
        self.threads.join();
        self.background.end();
        self.inference.end();
    }
}

/// What a checkpoint of these objects holds. A sink that has failed has rows that are nowhere, and a source whose files
/// could not be read has rows that nobody has seen: a checkpoint would lose them, and the one before does not.
fn to_save(registry: &Registry) -> Result<ToSave> {
    let mut sinks = Vec::new();
    for (name, object) in &registry.objects {
        let found = match object {
            Object::Sink(sink) => sink.staged().map_or(Ok(()), StagedFiles::check),
            Object::Source(source) => source.failure.get().map_or(Ok(()), |e| Err(e.clone())),
            _ => continue,
        };
        found.map_err(|error| {
            let kind = object.kind();
            let text = format!("no checkpoint can be taken, {kind} \"{name}\" has failed: {error}");
            Error::new(ErrorKind::Unavailable, text).with_source(error).with_hint(format!(
                "build the engine again: it goes on from the checkpoint before; DROP {} gives the rows up",
                kind.to_uppercase()
            ))
        })?;
        if let Object::Sink(sink) = object
            && sink.staged().is_some()
        {
            sinks.push(Arc::clone(sink));
        }
    }
    let queries = registry.queries.values().map(|record| QueryToSave {
        id: record.id,
        name: record.identity.name.clone(),
        plan: record.identity.plan.clone(),
        reader: record.port.clone().map(|port| match record.publishes {
            true => Reader::Sink(port),
            false => Reader::Port(port),
        }),
    });
    Ok(ToSave { queries: queries.collect(), sinks })
}

/// What a query is known by, so that a restarted host finds its state again.
fn identity(
    registry: &Registry,
    plan: &Plan,
    query: &Query,
    detector: Option<(&str, &DetectorStage)>,
    writes: Option<&str>,
) -> Identity {
    let mut lines = Vec::new();
    let name = match (detector, writes) {
        (Some((name, stage)), _) => {
            // Another machine may have another device to score a network on.
            let is_placed = stage.plan.placement().is_some();
            let described = stage.plan.describe().into_iter();
            let described = described.filter(|(name, _)| !(is_placed && name == "device"));
            lines.extend(described.map(|(name, value)| format!("{name} = {value}")));
            format!("detector \"{name}\"")
        }
        (None, Some(sink)) => format!("insert into \"{sink}\": {}", query.text()),
        (None, None) => format!("subscription: {}", query.text()),
    };
    lines.extend(plan.explain());
    // The same query may run more than once; then their order tells them apart.
    let is_taken = |name: &str| registry.queries.values().any(|other| other.identity.name == name);
    let numbered = (2..).map(|number| format!("{name} (number {number})"));
    let name = std::iter::once(name.clone()).chain(numbered).find(|name| !is_taken(name));
    Identity { name: name.expect("numbers do not end"), plan: lines.join("\n") }
}

/// An error about a name that nothing has.
pub(super) fn missing(kind: &str, name: &str, known: &[&str]) -> Error {
    let error = Error::new(ErrorKind::Query, format!("{kind} \"{name}\" does not exist"));
    match nearest_name(name, known.iter().copied()) {
        Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
        None if known.is_empty() => error.with_hint(format!("there is no {kind} yet")),
        None => error.with_hint(format!("there are: {}", known.join(", "))),
    }
}

fn join(handle: Handle<Result<()>>) -> Result<()> {
    handle.join().unwrap_or_else(|panic| {
        let text = threads::panic_text(&*panic).to_owned();
        Err(Error::internal(format!("a thread of the engine panicked: {text}")))
    })
}
