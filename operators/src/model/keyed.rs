//! The detector with one small model per key: a plan from columns and options, and the loop over rows.

mod judge;
mod saved;
mod together;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_row::RowConverter;

use super::columns::Columns;
use super::output::output_schema;
use super::side::{self, SideWriter};
use super::slots::Slots;
use super::snapshot;
use super::{Model, ModelFactory, Rebuilds, Reports};
use crate::detector::{
    Answers, Detector, DetectorPlan, DetectorRequest, DetectorStatistics, Pieces, SideRelation,
};
use crate::detectors::decide::{Decider, DecisionSettings, Rule};
use crate::error::Result;
use crate::key::KeyShare;
use crate::keyed::{Found, Grouped, Key, KeyTable};
use crate::options::{OptionKind, OptionReader, OptionSpec};
use crate::time::{EventTime, SPAN_NS_MAX};
use judge::Judge;
use saved::Saved;
use together::{Findings, ROWS_TOGETHER};

/// What happens to a key that comes when the models are at their bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhenFull {
    /// The model that was not used for longest makes room.
    Evict,
    /// The row is not scored.
    Refuse,
}

/// A settled detector with one model per key.
#[derive(Clone, Debug)]
pub struct KeyedPlan(Arc<Plan>);

#[derive(Debug)]
struct Plan {
    kind: String,
    columns: Columns,
    schema: SchemaRef,
    decision: DecisionSettings,
    factory: Arc<dyn ModelFactory>,
    extras: Vec<(&'static str, DataType)>,
    relations: Vec<SideRelation>,
    models_max: usize,
    when_full: WhenFull,
    slots: Slots,
    /// 0 for never.
    expire_after_ns: i64,
    settled: Vec<(String, String)>,
}

impl KeyedPlan {
    /// The options that all keyed kinds share, with the kind's own default threshold. A kind lists its own after them.
    #[must_use]
    pub fn options(threshold: f64) -> Vec<OptionSpec> {
        let mut options = DecisionSettings::options(threshold);
        options.extend([
            OptionSpec::new(
                "features",
                OptionKind::Text,
                "",
                "Columns to read, separated by commas; by default all numeric ones that are not key, time or bound.",
            ),
            OptionSpec::new(
                "expire_after",
                OptionKind::Interval(0, SPAN_NS_MAX),
                Duration::ZERO,
                "A key that shows no row for longer than this is forgotten; 0 keeps it.",
            ),
            OptionSpec::new(
                "when_full",
                OptionKind::Choice(&["evict", "refuse"]),
                "evict",
                "What a new key does when there are as many models as allowed: take the place of the one unused for \
                 longest, or go unscored.",
            ),
        ]);
        options.extend(Slots::options());
        options
    }

    /// Settles a detector of the named kind. `factory` is told the names of the features.
    ///
    /// # Errors
    /// If the columns do not fit.
    pub fn new(
        kind: &str,
        request: &DetectorRequest<'_>,
        reader: &OptionReader,
        factory: impl FnOnce(&[&str]) -> Arc<dyn ModelFactory>,
    ) -> Result<Self> {
        let owner = format!("detector \"{}\"", request.name);
        let columns = Columns::settle(&owner, request, reader.text("features"))?;
        let factory = factory(&columns.feature_names());
        let extras = factory.extra_fields();
        let schema = output_schema(&owner, request.name, &request.schema, &columns, &extras)?;
        let relations = side::settle(&owner, &columns, &factory.relations())?;
        let mut settled = vec![
            ("kind".to_owned(), kind.to_owned()),
            ("time".to_owned(), columns.time_name().to_owned()),
            ("partition_by".to_owned(), columns.key_names().join(", ")),
            ("models_max".to_owned(), request.models_max.max(1).to_string()),
        ];
        settled.extend(reader.settled().map(|(name, value)| match name {
            "features" => (name.to_owned(), columns.feature_names().join(", ")),
            _ => (name.to_owned(), value.to_string()),
        }));
        if !relations.is_empty() {
            let names: Vec<&str> = relations.iter().map(|side| side.name.as_str()).collect();
            settled.push(("relations".to_owned(), names.join(", ")));
        }
        Ok(Self(Arc::new(Plan {
            kind: kind.to_owned(),
            schema,
            decision: DecisionSettings::read(reader),
            factory,
            extras,
            relations,
            models_max: request.models_max.clamp(1, u32::MAX as usize - 1),
            when_full: match reader.text("when_full") {
                "refuse" => WhenFull::Refuse,
                _ => WhenFull::Evict,
            },
            slots: Slots::read(reader),
            expire_after_ns: reader.interval_ns("expire_after"),
            settled,
            columns,
        })))
    }
}

impl DetectorPlan for KeyedPlan {
    fn output_schema(&self) -> SchemaRef {
        self.0.schema.clone()
    }

    fn relations(&self) -> Vec<SideRelation> {
        self.0.relations.clone()
    }

    fn describe(&self) -> Vec<(String, String)> {
        self.0.settled.clone()
    }

    fn detector(&self) -> Box<dyn Detector> {
        Box::new(KeyedDetector::new(self.clone()))
    }
}

/// One key's model and what the decision remembers of it.
#[derive(Debug)]
struct Keyed {
    model: Box<dyn Model>,
    decider: Decider,
    /// Values of the latest row, where gaps are filled in with them.
    last: Vec<f64>,
    /// What the detector's totals hold of this model.
    counted: Counted,
}

/// A model's part of the totals.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    bytes: usize,
    is_ready: bool,
    rebuilds: Rebuilds,
}

impl Keyed {
    fn new(model: Box<dyn Model>, decider: Decider, last: Vec<f64>) -> Self {
        // Whatever a restored model has done was counted before.
        let counted = Counted { rebuilds: model.rebuilds(), ..Counted::default() };
        Self { model, decider, last, counted }
    }
}

impl Plan {
    fn keyed(&self) -> Keyed {
        Keyed::new(self.factory.model(), Decider::new(), Vec::new())
    }

    fn is_expired(&self, last: EventTime, now: EventTime) -> bool {
        self.expire_after_ns > 0 && now.0.saturating_sub(last.0) > self.expire_after_ns
    }
}

/// The detector of a [`KeyedPlan`] on one worker.
pub struct KeyedDetector {
    plan: Arc<Plan>,
    /// Made when the first batch comes, for keys that need one.
    converter: Option<RowConverter>,
    table: KeyTable<Keyed>,
    judge: Judge,
    /// Reports of models that were brought here or have left, with their keys, until they are written.
    standing: Vec<(Option<Box<[u8]>>, Reports)>,
    features: Vec<f64>,
    times: Vec<i64>,
    found: Found,
    grouped: Grouped,
}

impl fmt::Debug for KeyedDetector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statistics = self.statistics();
        f.debug_struct("KeyedDetector")
            .field("kind", &self.plan.kind)
            .field("statistics", &statistics)
            .finish_non_exhaustive()
    }
}

impl KeyedDetector {
    /// A detector without models.
    #[must_use]
    pub fn new(plan: KeyedPlan) -> Self {
        let plan = plan.0;
        Self {
            judge: Judge::new(plan.columns.feature_names().len(), plan.extras.len()),
            converter: None,
            table: KeyTable::new(),
            standing: Vec::new(),
            features: Vec::new(),
            times: Vec::new(),
            found: Found::default(),
            grouped: Grouped::default(),
            plan,
        }
    }

    /// Makes the row's key the most recently used, with a model; whether there is room for one. `ahead` is the row's place
    /// among those that were looked up.
    fn make_room(&mut self, ahead: usize, key: Key<'_>, time: EventTime) -> bool {
        if let Some(entry) = self.table.touch_found(&self.found, ahead, key) {
            if self.plan.is_expired(entry.time, time) {
                let expired = std::mem::replace(&mut entry.value, self.plan.keyed());
                let key = entry.key.clone();
                self.leave(key, &expired);
                self.judge.statistics.expired += 1;
            }
            return true;
        }
        self.expire(time);
        if self.table.len() >= self.plan.models_max {
            if self.plan.when_full == WhenFull::Refuse {
                return false;
            }
            self.drop_oldest();
            self.judge.statistics.evicted += 1;
        }
        self.table.insert(key, time, self.plan.keyed());
        true
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.table.oldest() else { return };
        let key = oldest.key.clone();
        if let Some(dropped) = self.table.drop_oldest() {
            self.leave(key, &dropped);
        }
    }

    /// Takes a model out of the totals; what it has in counted relations leaves them with it.
    fn leave(&mut self, key: Option<Box<[u8]>>, keyed: &Keyed) {
        self.judge.discount(&keyed.counted);
        let mut reports = Reports::default();
        keyed.model.report_standing(-1, &mut reports);
        if !reports.is_empty() {
            self.standing.push((key, reports));
        }
    }

    /// Drops keys that have shown no row for too long. Rows come in order of time, so the longest unused are the
    /// ones with the earliest times.
    fn expire(&mut self, now: EventTime) {
        while self.table.oldest().is_some_and(|oldest| self.plan.is_expired(oldest.time, now)) {
            self.drop_oldest();
            self.judge.statistics.expired += 1;
        }
    }
}

impl Detector for KeyedDetector {
    fn process(&mut self, rows: &RecordBatch, out: &mut Answers) -> Result<()> {
        let plan = self.plan.clone();
        let columns = &plan.columns;
        columns.check(rows)?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        if self.converter.is_none() {
            self.converter = columns.key_converter()?;
        }
        let mut findings = Findings::default();
        for begin in (0..rows.num_rows()).step_by(ROWS_TOGETHER) {
            let together = ROWS_TOGETHER.min(rows.num_rows() - begin);
            self.judge_together(&plan, &rows.slice(begin, together), &mut findings, out)?;
        }
        Ok(())
    }

    fn advance(&mut self, watermark: EventTime, out: &mut Answers) -> Result<()> {
        // The end of the input is not a time at which keys were silent.
        if watermark != EventTime::MAX {
            self.expire(watermark);
        }
        self.write_standing(out)
    }

    fn statistics(&self) -> DetectorStatistics {
        let (bytes, ready) = self.judge.models;
        DetectorStatistics {
            models: self.table.len() as u64,
            ready,
            bytes: (bytes + self.table.bytes()) as u64,
            ..self.judge.statistics
        }
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        snapshot::seal(&self.plan.kind, &self.saved()?)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<()> {
        let saved: Saved = snapshot::open(&self.plan.kind, snapshot)?;
        let statistics = saved.statistics;
        let table = self.plan.table_of(vec![saved], KeyShare::ALL)?;
        (self.table, self.judge.statistics) = (table, statistics);
        self.bound();
        Ok(())
    }

    fn adopt(&mut self, snapshots: &[Vec<u8>], share: KeyShare) -> Result<()> {
        let saved = snapshots.iter().map(|bytes| snapshot::open(&self.plan.kind, bytes));
        let table = self.plan.table_of(saved.collect::<Result<_>>()?, share)?;
        self.take_up(table);
        Ok(())
    }

    fn pieces(&self) -> Result<Pieces> {
        match self.plan.columns.is_keyed() {
            true => self.by_key(),
            false => Ok(Pieces { rest: self.snapshot()?, of_keys: Vec::new() }),
        }
    }

    fn go_on_from(
        &mut self,
        rests: &[Vec<u8>],
        of_keys: &[RecordBatch],
        share: KeyShare,
    ) -> Result<()> {
        // Without keys there is one piece, and so there was in older checkpoints.
        if !rests.iter().all(|rest| self.plan.is_apart(rest)) {
            return self.go_on(rests, share);
        }
        let table = self.plan.table_of_pieces(rests, of_keys, share)?;
        self.take_up(table);
        Ok(())
    }
}

impl KeyedDetector {
    /// Goes on with the models of a table.
    fn take_up(&mut self, table: KeyTable<Keyed>) {
        self.report_standing(-1);
        self.table = table;
        self.bound();
        self.report_standing(1);
    }

    /// After a restore: drops what is beyond the bound, and adds the totals up anew.
    fn bound(&mut self) {
        while self.table.len() > self.plan.models_max {
            self.table.drop_oldest();
            self.judge.statistics.evicted += 1;
        }
        self.judge.models = self.table.by_use().fold((0, 0), |(bytes, ready), entry| {
            let counted = &entry.value.counted;
            (bytes + counted.bytes, ready + u64::from(counted.is_ready))
        });
    }

    /// Notes all that the models have in counted relations as entering or leaving; see [`Detector::advance`].
    fn report_standing(&mut self, change: i64) {
        for entry in self.table.sorted() {
            let mut reports = Reports::default();
            entry.value.model.report_standing(change, &mut reports);
            if !reports.is_empty() {
                self.standing.push((entry.key.clone(), reports));
            }
        }
    }

    /// Writes what [`KeyedDetector::report_standing`] noted.
    fn write_standing(&mut self, out: &mut Answers) -> Result<()> {
        if self.standing.is_empty() {
            return Ok(());
        }
        let columns = &self.plan.columns;
        if self.converter.is_none() {
            self.converter = columns.key_converter()?;
        }
        let mut standing = std::mem::take(&mut self.standing);
        let mut side = SideWriter::new(columns, &self.plan.relations);
        for (row, (_, reports)) in standing.iter_mut().enumerate() {
            side.push(row, reports);
        }
        let keys: Vec<Key<'_>> = standing.iter().map(|(key, _)| key.as_deref()).collect();
        let keys = columns.key_arrays(&keys, self.converter.as_ref())?;
        side.finish(&self.plan.relations, &keys, None, out)
    }
}
