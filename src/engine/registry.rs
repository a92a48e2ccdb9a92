//! What an engine holds by name: sources, tables, views, detectors and sinks, and the queries that run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use arrow::datatypes::SchemaRef;
use driftline_operators::dataflow::QueryShared;
use driftline_operators::detector::{DetectorPlan, SideRelation};
use driftline_operators::detectors::DetectorSpec;
use driftline_operators::logs::LogKeyPlan;
use driftline_queries::{Catalog, Relation, RelationKind, TimeColumn};

use crate::error::{Error, ErrorKind, Result};
use crate::graph::describe::Dataflow;
use crate::runtime::output::OutputPort;
use crate::runtime::source_state::{SourceCounters, SourceSpec};
use crate::runtime::{QueryId, SourceId};
use crate::sink::SinkObject;
use crate::source::FilePlan;
use crate::table::TableObject;

/// The objects and queries of one engine.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) objects: BTreeMap<String, Object>,
    pub(crate) queries: BTreeMap<QueryId, Arc<QueryRecord>>,
    /// The last checkpoint that was begun.
    pub(crate) barrier: u64,
    /// Paths of sinks whose folders are in the state of the checkpoint that the engine went on from, or later.
    pub(crate) recovered: BTreeSet<PathBuf>,
}

/// Something with a name.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    Source(Arc<SourceObject>),
    View(ViewObject),
    Detector(DetectorObject),
    Sink(Arc<SinkObject>),
    Table(TableObject),
}

/// A source.
#[derive(Debug)]
pub(crate) struct SourceObject {
    pub(crate) id: SourceId,
    pub(crate) spec: Arc<SourceSpec>,
    pub(crate) counters: Arc<SourceCounters>,
    /// Rows that the checkpoint holds which the engine goes on from.
    pub(crate) resume_at: u64,
    /// It had ended by then.
    pub(crate) had_ended: bool,
    /// Why its files could not be read to their end.
    pub(crate) failure: OnceLock<Error>,
    /// Files that it reads once the engine is told to start; taken by then.
    pub(crate) files: Mutex<Option<FilePlan>>,
}

/// A view.
#[derive(Clone, Debug)]
pub(crate) struct ViewObject {
    pub(crate) text: String,
    pub(crate) schema: SchemaRef,
    pub(crate) reads: BTreeSet<String>,
}

/// A detector, which is a query with a name.
#[derive(Clone, Debug)]
pub(crate) struct DetectorObject {
    pub(crate) query: QueryId,
    /// The sources at the bottom.
    pub(crate) sources: BTreeSet<SourceId>,
    pub(crate) spec: DetectorSpec,
    pub(crate) text: String,
    pub(crate) schema: SchemaRef,
    pub(crate) time: TimeColumn,
    pub(crate) window_bounds: Vec<usize>,
    /// Relations beside the main one.
    pub(crate) side: Vec<SideRelation>,
    pub(crate) plan: Arc<dyn DetectorPlan>,
    /// Each `LOG_KEYS` of its query.
    pub(crate) log_keys: Arc<[LogKeyPlan]>,
}

/// What a query is known by when a host starts it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) name: String,
    /// What must be as it was for its state to fit.
    pub(crate) plan: String,
}

/// A query that runs.
#[derive(Debug)]
pub(crate) struct QueryRecord {
    pub(crate) id: QueryId,
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) reads: BTreeSet<String>,
    pub(crate) writes: Option<String>,
    pub(crate) context: QueryShared,
    pub(crate) identity: Identity,
    /// What it became.
    pub(crate) dataflow: Dataflow,
    pub(crate) port: Option<Arc<OutputPort>>,
    /// Whether its reader publishes what it takes with checkpoints.
    pub(crate) publishes: bool,
    /// What its reader, a callback or a sink, failed with.
    pub(crate) reader_error: OnceLock<Error>,
}

impl Object {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::View(_) => "view",
            Self::Detector(_) => "detector",
            Self::Sink(_) => "sink",
            Self::Table(_) => "table",
        }
    }

    fn relation(&self) -> Relation {
        match self {
            Self::Source(source) => Relation {
                kind: RelationKind::Source,
                schema: source.spec.schema.clone(),
                time: source.spec.time.as_ref().map(|t| TimeColumn { index: t.index, lag_ns: 0 }),
                window_bounds: Vec::new(),
            },
            Self::View(view) => Relation {
                kind: RelationKind::View(view.text.clone()),
                schema: view.schema.clone(),
                time: None,
                window_bounds: Vec::new(),
            },
            Self::Detector(detector) => Relation {
                kind: RelationKind::Detector,
                schema: detector.schema.clone(),
                time: Some(detector.time),
                window_bounds: detector.window_bounds.clone(),
            },
            Self::Table(table) => Relation {
                kind: RelationKind::Table(table.rows()),
                schema: table.schema(),
                time: None,
                window_bounds: Vec::new(),
            },
            Self::Sink(_) => Relation {
                kind: RelationKind::Sink,
                schema: Arc::new(arrow::datatypes::Schema::empty()),
                time: None,
                window_bounds: Vec::new(),
            },
        }
    }
}

impl Registry {
    /// The object of that name, if it is of the kind that `pick` takes.
    pub(crate) fn get(&self, name: &str) -> Option<&Object> {
        self.objects.get(name)
    }

    /// Refuses a name that is taken, and one object more than the bound.
    pub(crate) fn check_room(&self, name: &str, objects_max: usize) -> Result<()> {
        if let Some(object) = self.objects.get(name) {
            let message = format!("{} \"{name}\" exists already", object.kind());
            return Err(Error::new(ErrorKind::Query, message)
                .with_hint("choose another name, or DROP it first"));
        }
        self.check_count(objects_max)
    }

    /// Refuses one object more than the bound.
    pub(crate) fn check_count(&self, objects_max: usize) -> Result<()> {
        if self.objects.len() + self.queries.len() >= objects_max {
            return Err(Error::new(
                ErrorKind::Settings,
                format!("engine holds {objects_max} objects and queries already"),
            )
            .with_hint("drop some, or raise the setting \"objects_max\""));
        }
        Ok(())
    }

    /// Names of what reads or writes `name`: views, detectors and queries.
    pub(crate) fn dependents(&self, name: &str) -> Vec<String> {
        let views = self.objects.iter().filter_map(|(view, object)| match object {
            Object::View(object) if object.reads.contains(name) => Some(format!("view \"{view}\"")),
            _ => None,
        });
        let queries = self.queries.values().filter_map(|query| {
            let uses = query.reads.contains(name) || query.writes.as_deref() == Some(name);
            uses.then(|| query.name.clone())
        });
        views.chain(queries).collect()
    }
}

/// The catalog as the planner sees it, noting what it looks up.
#[derive(Debug)]
pub(crate) struct Lookups<'a> {
    registry: &'a Registry,
    seen: std::cell::RefCell<BTreeSet<String>>,
}

impl<'a> Lookups<'a> {
    pub(crate) fn new(registry: &'a Registry) -> Self {
        Self { registry, seen: std::cell::RefCell::default() }
    }

    /// The relations that were looked up and found.
    pub(crate) fn into_seen(self) -> BTreeSet<String> {
        self.seen.into_inner()
    }
}

impl Catalog for Lookups<'_> {
    fn relation(&self, name: &str) -> Option<Relation> {
        let object = self.registry.objects.get(name)?;
        self.seen.borrow_mut().insert(name.to_owned());
        Some(object.relation())
    }

    fn side_relation(&self, owner: &str, name: &str) -> Option<Relation> {
        let Object::Detector(detector) = self.registry.objects.get(owner)? else { return None };
        let side = detector.side.iter().find(|side| side.name == name)?;
        self.seen.borrow_mut().insert(owner.to_owned());
        Some(Relation {
            kind: RelationKind::Detector,
            schema: side.schema.clone(),
            // The time of a side row is that of the row that gave rise to it.
            time: side.time.map(|index| TimeColumn { index, ..detector.time }),
            window_bounds: Vec::new(),
        })
    }

    fn allowed_lateness_ns(&self, source: &str) -> i64 {
        match self.registry.objects.get(source) {
            Some(Object::Source(source)) => source.spec.time.as_ref().map_or(0, |t| t.lateness_ns),
            _ => 0,
        }
    }

    fn relation_names(&self) -> Vec<String> {
        let of_object = |(name, object): (&String, &Object)| {
            let side = match object {
                Object::Detector(detector) => detector.side.as_slice(),
                _ => &[],
            };
            let side: Vec<String> = side.iter().map(|s| format!("{name}.{}", s.name)).collect();
            std::iter::once(name.clone()).chain(side)
        };
        self.registry.objects.iter().flat_map(of_object).collect()
    }
}
