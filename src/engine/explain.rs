//! What EXPLAIN answers.

use std::collections::BTreeSet;

use driftline_queries::{Analyze, CreateSink, ExplainFormat, Query, Statement};

use super::core::{Core, Planned};
use super::registry::{Object, Registry};
use super::statements::{at, sink_of, spec_of};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::DetectorStage;
use crate::graph::describe::{Dataflow, Origins, describe};
use crate::graph::render::{render, without_notes};
use crate::runtime::SourceId;

/// Says what a statement would do.
pub(super) fn explain(core: &Core, statement: &Statement, format: ExplainFormat) -> Result<String> {
    let registry = core.registry();
    let mut stage = None;
    let (mut lines, planned) = match statement {
        Statement::Query(query) => planned(core, &registry, query)?,
        Statement::InsertSelect(insert) => {
            sink_of(&registry, &insert.target)?;
            let (plan, planned) = planned(core, &registry, &insert.query)?;
            (headed(format!("Insert into \"{}\"", insert.target.text), plan), planned)
        }
        Statement::CreateSink(CreateSink { name, query: Some(query), .. }) => {
            let (plan, planned) = planned(core, &registry, query)?;
            (headed(format!("Insert into \"{}\"", name.text), plan), planned)
        }
        Statement::CreateView(create) => planned(core, &registry, &create.query)?,
        Statement::CreateDetector(create) => {
            let (plan, planned) = planned(core, &registry, &create.query)?;
            let spec = spec_of(create);
            let detector = core.detector_stage(&create.name.text, &spec, &planned.plan)?;
            let scored_by =
                detector.plan.placement().map(|at| ("scored_by".into(), at.note.clone()));
            let options = detector.plan.describe().into_iter().chain(scored_by);
            let mut below: Vec<String> =
                options.map(|(name, value)| format!("{name} = {value}")).collect();
            below.extend(plan);
            let head = format!("Detect \"{}\" {spec}", create.name.text);
            stage = Some(detector);
            (headed(head, below), planned)
        }
        _ => {
            return Err(Error::new(ErrorKind::Unsupported, "this statement has no plan").with_hint(
                "EXPLAIN takes a SELECT, an INSERT of one, CREATE VIEW, CREATE DETECTOR, or CREATE SINK with a query",
            ));
        }
    };
    let dataflow = dataflow(core, &registry, &planned, stage.as_ref());
    let drawn = render(&dataflow, format, &without_notes);
    if format != ExplainFormat::Text {
        return Ok(drawn);
    }
    lines.extend([String::new(), drawn]);
    Ok(lines.join("\n"))
}

/// Says what a running query has done.
pub(super) fn analyze(core: &Core, analyze: &Analyze) -> Result<String> {
    let name = &analyze.query;
    let analysis = core.analyze(&name.text).map_err(|error| at(error, name))?;
    Ok(match analyze.format {
        ExplainFormat::Text => analysis.to_string(),
        ExplainFormat::Mermaid => analysis.mermaid(),
        ExplainFormat::Dot => analysis.dot(),
    })
}

/// A query's plan in lines, and the plan itself.
fn planned(core: &Core, registry: &Registry, query: &Query) -> Result<(Vec<String>, Planned)> {
    let planned = core.plan(registry, query)?;
    Ok((planned.plan.explain(), planned))
}

fn headed(head: String, lines: Vec<String>) -> Vec<String> {
    let below = lines.into_iter().map(|line| format!("  {line}"));
    std::iter::once(head).chain(below).collect()
}

/// The dataflow that a plan becomes.
pub(super) fn dataflow(
    core: &Core,
    registry: &Registry,
    planned: &Planned,
    stage: Option<&DetectorStage>,
) -> Dataflow {
    let leaves: Vec<Origins> =
        planned.leaves.iter().map(|leaf| origins(registry, &leaf.sources)).collect();
    describe(&planned.plan, stage, &leaves, core.ingress.settings())
}

/// The sources with these numbers, and how far their watermarks stay behind their rows.
fn origins(registry: &Registry, sources: &BTreeSet<SourceId>) -> Origins {
    let of_object = |object: &Object| match object {
        Object::Source(source) if sources.contains(&source.id) => {
            let behind =
                source.spec.time.as_ref().and_then(|time| {
                    time.delay_ns.map(|delay| delay.saturating_add(time.lateness_ns))
                });
            Some((source.spec.name.clone(), behind))
        }
        _ => None,
    };
    Origins(registry.objects.values().filter_map(of_object).collect())
}
