//! What each statement does, one small function a statement.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use driftline_operators::detectors::DetectorSpec;
use driftline_operators::options::{OptionValue, Options};
use driftline_queries::{
    CreateDetector, CreateSink, CreateSource, CreateTable, CreateView, DropObject, Explain,
    InsertSelect, InsertValues, ModelFile, Name, ObjectKind, OptionEntry, Parsed, Statement,
};

use super::core::{Core, missing};
use super::registry::{Object, Registry, ViewObject};
use super::show;
use super::{explain, feedback};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::ingress::Wait;
use crate::sink::files::sink_options;
use crate::sink::{SinkObject, StagedFiles, takes_none};
use crate::source::files::failure::{read_failed, write_failed};
use crate::source::files::with::{WithOptions, WithValue, source_options, table_options};
use crate::source::{FilePlan, SourceDefinition};
use crate::table::TableObject;

/// Executes one statement; some answer with a batch.
pub(super) fn execute(core: &Arc<Core>, parsed: Parsed) -> Result<Option<RecordBatch>> {
    match parsed.statement {
        Statement::CreateSource(create) => create_source(core, create).map(|()| None),
        Statement::CreateTable(create) => create_table(core, create).map(|()| None),
        Statement::CreateView(create) => create_view(core, create).map(|()| None),
        Statement::CreateDetector(create) => create_detector(core, create).map(|()| None),
        Statement::CreateSink(create) => create_sink(core, create).map(|()| None),
        Statement::Drop(drop) => drop_object(core, &drop).map(|()| None),
        Statement::InsertSelect(insert) => insert_select(core, &insert).map(|()| None),
        Statement::InsertValues(insert) => insert_values(core, &insert).map(|()| None),
        Statement::Feedback(feedback) => take_back(core, &feedback).map(Some),
        Statement::Show(what) => show::show(core, what).map(Some),
        Statement::Explain(Explain { statement, format }) => {
            let text = explain::explain(core, &statement, format)?;
            show::text_batch("plan", text.lines()).map(Some)
        }
        Statement::Analyze(analyze) => {
            show::text_batch("analysis", explain::analyze(core, &analyze)?.lines()).map(Some)
        }
        Statement::ExportDetector(file) => export(core, &file).map(|()| None),
        Statement::ImportDetector(file) => import(core, &file).map(|()| None),
        Statement::Query(_) => Err(Error::new(
            ErrorKind::Unsupported,
            "a SELECT over a stream has no end, so that it cannot be executed",
        )
        .with_hint("use Engine::subscribe, or INSERT INTO a sink")),
    }
}

fn create_source(core: &Core, create: CreateSource) -> Result<()> {
    if create.if_not_exists && has(&core.registry(), &create.name) {
        return Ok(());
    }
    let schema = Arc::new(Schema::new(create.columns));
    let mut definition = SourceDefinition::new(&create.name.text, schema);
    let mut file_options = Vec::new();
    for entry in create.options {
        if entry.name.text != "allowed_lateness" {
            file_options.push(entry);
            continue;
        }
        let OptionValue::Interval(ns) = entry.value else {
            return Err(at(
                Error::new(ErrorKind::Settings, "option \"allowed_lateness\" is not an interval")
                    .with_hint("write allowed_lateness = INTERVAL '5 seconds'"),
                &entry.name,
            ));
        };
        definition = definition.allowed_lateness(duration(ns));
    }
    let time_column = create.watermark.as_ref().map(|w| w.column.text.clone());
    if let Some(watermark) = create.watermark {
        definition = definition.event_time(&watermark.column.text);
        if let Some(ns) = watermark.delay_ns {
            definition = definition.disorder(duration(ns));
        }
        if let Some(ns) = watermark.idle_timeout_ns {
            definition = definition.idle_timeout(duration(ns));
        }
    }
    let files = match file_options.is_empty() {
        true => None,
        false => {
            let (path, mut options) = source_options(&with_options(file_options)?)?;
            options.time_column = options.time_column.or(time_column);
            Some(FilePlan { path, options })
        }
    };
    core.create_source(definition, files).map(|_| ()).map_err(|error| at(error, &create.name))
}

fn create_table(core: &Core, create: CreateTable) -> Result<()> {
    let name = &create.name;
    if create.if_not_exists && has(&core.registry(), name) {
        return Ok(());
    }
    let bytes_max = core.ingress.settings().table_bytes_max;
    let columns = (!create.columns.is_empty()).then(|| Arc::new(Schema::new(create.columns)));
    // Read before the registry is locked: a file may be large, and queries go on meanwhile.
    let table = match (create.options.is_empty(), columns) {
        (true, Some(columns)) => TableObject::empty(columns),
        (_, columns) => {
            let (path, options) = table_options(&with_options(create.options)?)?;
            TableObject::read(&name.text, &path, options, columns, bytes_max)?
        }
    };
    core.put_table(&name.text, table, create.or_replace).map_err(|error| at(error, name))
}

fn create_view(core: &Core, create: CreateView) -> Result<()> {
    let mut registry = core.registry();
    let name = &create.name;
    if create.if_not_exists && has(&registry, name) {
        return Ok(());
    }
    let replaces = create.or_replace && matches!(registry.get(&name.text), Some(Object::View(_)));
    if !replaces {
        registry
            .check_room(&name.text, core.ingress.settings().objects_max)
            .map_err(|error| at(error, name))?;
    }
    let planned = core.plan(&registry, &create.query)?;
    if planned.reads.contains(&name.text) {
        let message = format!("view \"{}\" reads itself", name.text);
        return Err(at(Error::new(ErrorKind::Query, message), name));
    }
    let view = ViewObject {
        text: create.query.text().to_owned(),
        schema: planned.plan.schema,
        reads: planned.reads,
    };
    registry.objects.insert(name.text.clone(), Object::View(view));
    Ok(())
}

pub(super) fn spec_of(create: &CreateDetector) -> DetectorSpec {
    let mut options = Options::new();
    for entry in &create.options {
        options.set(&entry.name.text, entry.value.clone());
    }
    DetectorSpec {
        kind: create.kind.text.clone(),
        options,
        partition_by: create.partition_by.iter().map(|name| name.text.clone()).collect(),
    }
}

fn create_detector(core: &Core, create: CreateDetector) -> Result<()> {
    if create.if_not_exists && has(&core.registry(), &create.name) {
        return Ok(());
    }
    core.create_detector(&create.name.text, spec_of(&create), &create.query)
}

fn create_sink(core: &Arc<Core>, create: CreateSink) -> Result<()> {
    let sink = {
        let mut registry = core.registry();
        if create.if_not_exists && has(&registry, &create.name) {
            return Ok(());
        }
        registry
            .check_room(&create.name.text, core.ingress.settings().objects_max)
            .map_err(|error| at(error, &create.name))?;
        let (path, options) = sink_options(&with_options(create.options)?)?;
        let name = create.name.text.clone();
        let sink = Arc::new(SinkObject::new(name.clone(), path, options)?);
        prepare_staged(core, &mut registry, &sink).map_err(|error| at(error, &create.name))?;
        registry.objects.insert(name, Object::Sink(Arc::clone(&sink)));
        sink
    };
    let Some(query) = create.query else { return Ok(()) };
    core.start_insert(&sink, &query).inspect_err(|_| {
        core.registry().objects.remove(&create.name.text);
    })
}

/// Puts the folder of a sink that publishes with checkpoints into the state of the one that the engine goes on from.
fn prepare_staged(core: &Core, registry: &mut Registry, sink: &SinkObject) -> Result<()> {
    let Some(files) = sink.staged() else { return Ok(()) };
    let coordinator = core.coordinator().ok_or_else(|| takes_none(&sink.name))?;
    let path = std::path::absolute(&sink.path).map_err(|error| write_failed(&sink.path, error))?;
    let is_there = |object: &Object| {
        let Object::Sink(other) = object else { return false };
        other.staged().is_some() && std::path::absolute(&other.path).is_ok_and(|it| it == path)
    };
    if let Some((other, _)) = registry.objects.iter().find(|(_, object)| is_there(object)) {
        let message = format!("sink \"{other}\" publishes under this path already");
        return Err(Error::new(ErrorKind::Settings, message)
            .with_hint("insert into that one, or choose another path"));
    }
    if !registry.recovered.contains(&path) {
        coordinator.restore_sink(&sink.name, files)?;
        registry.recovered.insert(path);
    }
    Ok(())
}

fn drop_object(core: &Core, drop: &DropObject) -> Result<()> {
    let mut registry = core.registry();
    let (name, kind) = (&drop.name, kind_text(drop.kind));
    let Some(object) = registry.get(&name.text).filter(|object| object.kind() == kind).cloned()
    else {
        if drop.if_exists && !registry.objects.contains_key(&name.text) {
            return Ok(());
        }
        let of_kind = registry.objects.iter().filter(|(_, object)| object.kind() == kind);
        let names: Vec<&str> = of_kind.map(|(name, _)| name.as_str()).collect();
        return Err(at(missing(kind, &name.text, &names), name));
    };
    let dependents = registry.dependents(&name.text);
    if !dependents.is_empty() {
        let message = format!("{kind} \"{}\" is used by {}", name.text, dependents.join(", "));
        return Err(at(Error::new(ErrorKind::Query, message).with_hint("drop these first"), name));
    }
    if let Object::Sink(sink) = &object
        && sink.staged().is_some_and(StagedFiles::holds_rows)
    {
        let message = format!("sink \"{}\" has rows that no checkpoint has published", name.text);
        let error = Error::new(ErrorKind::Unavailable, message);
        return Err(at(error.with_hint("take one first, with Engine::checkpoint"), name));
    }
    registry.objects.remove(&name.text);
    match object {
        Object::Source(source) => core.ingress.remove_source(source.id),
        Object::Detector(detector) => {
            let record = registry.queries.get(&detector.query).cloned();
            // Cancelling takes the registry's lock itself.
            std::mem::drop(registry);
            if let Some(record) = record {
                core.cancel(&record);
            }
        }
        Object::View(_) | Object::Sink(_) | Object::Table(_) => {}
    }
    Ok(())
}

fn kind_text(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Source => "source",
        ObjectKind::View => "view",
        ObjectKind::Detector => "detector",
        ObjectKind::Sink => "sink",
        ObjectKind::Table => "table",
    }
}

pub(super) fn sink_of(registry: &Registry, name: &Name) -> Result<Arc<SinkObject>> {
    match registry.get(&name.text) {
        Some(Object::Sink(sink)) => Ok(Arc::clone(sink)),
        Some(object) => {
            let message = format!("{} \"{}\" cannot be inserted into", object.kind(), name.text);
            let hint = "a SELECT flows into a sink; rows of VALUES go into a source or a table";
            Err(at(Error::new(ErrorKind::Query, message).with_hint(hint), name))
        }
        None => {
            let sinks = registry.objects.iter().filter(|(_, o)| matches!(o, Object::Sink(_)));
            let names: Vec<&str> = sinks.map(|(name, _)| name.as_str()).collect();
            Err(at(missing("sink", &name.text, &names), name))
        }
    }
}

fn insert_select(core: &Arc<Core>, insert: &InsertSelect) -> Result<()> {
    if let Some(column) = insert.columns.first() {
        let error = Error::new(ErrorKind::Unsupported, "a sink takes its columns from the SELECT")
            .with_hint("leave the column list out, and name columns with AS");
        return Err(at(error, column));
    }
    let sink = sink_of(&core.registry(), &insert.target)?;
    core.start_insert(&sink, &insert.query).map_err(|error| at(error, &insert.target))
}

fn insert_values(core: &Core, insert: &InsertValues) -> Result<()> {
    let table = match core.registry().get(&insert.target.text) {
        Some(Object::Table(table)) => Some(table.clone()),
        _ => None,
    };
    if let Some(table) = table {
        let rows = core.planner.evaluate_rows(insert, table.schema())?;
        return core.append_to_table(&insert.target.text, rows).map_err(|e| at(e, &insert.target));
    }
    let source = core.source_object(&insert.target.text).map_err(|e| at(e, &insert.target))?;
    let rows = core.planner.evaluate_rows(insert, source.spec.schema.clone())?;
    let rows = source.spec.conform(&rows)?;
    core.ingress.push(source.id, rows, Wait::Yes).map(|_| ())
}

fn take_back(core: &Core, feedback: &InsertValues) -> Result<RecordBatch> {
    let name = &feedback.target;
    let schema = core.feedback_schema(&name.text).map_err(|error| at(error, name))?;
    // What must not be NULL is said where all feedback is looked at.
    let rows = core.planner.evaluate_rows(feedback, feedback::all_nullable(&schema))?;
    core.feedback(&name.text, &rows).map_err(|error| at(error, name))?.rows()
}

fn export(core: &Core, file: &ModelFile) -> Result<()> {
    let models = core.export_models(&file.name.text).map_err(|error| at(error, &file.name))?;
    // Under another name first, so that a file of the name is whole whenever it is there.
    let path = Path::new(&file.path);
    let part = path.with_extension("part");
    std::fs::write(&part, models)
        .and_then(|()| std::fs::rename(&part, path))
        .map_err(|error| write_failed(path, error))
}

fn import(core: &Core, file: &ModelFile) -> Result<()> {
    let path = Path::new(&file.path);
    let models = std::fs::read(path).map_err(|error| read_failed(path, error))?;
    core.import_models(&file.name.text, &models).map_err(|error| at(error, &file.name))
}

fn has(registry: &Registry, name: &Name) -> bool {
    registry.objects.contains_key(&name.text)
}

/// The error with the place of a name, unless it has a place already.
pub(super) fn at(error: Error, name: &Name) -> Error {
    match error.position() {
        Some(_) => error,
        None => error.with_position(name.position.line, name.position.column),
    }
}

fn duration(ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}

fn with_options(entries: Vec<OptionEntry>) -> Result<WithOptions> {
    let mut options = BTreeMap::new();
    for entry in entries {
        let value = match entry.value {
            OptionValue::Text(text) => WithValue::Text(text),
            OptionValue::Number(number) => WithValue::Number(number),
            OptionValue::Integer(number) => WithValue::Number(number as f64),
            OptionValue::Boolean(value) => WithValue::Bool(value),
            OptionValue::Interval(_) => {
                let message = format!("option \"{}\" is an interval", entry.name.text);
                let error = Error::new(ErrorKind::Settings, message)
                    .with_hint("give a text, a number or a truth value");
                return Err(at(error, &entry.name));
            }
        };
        options.insert(entry.name.text, value);
    }
    Ok(options)
}
