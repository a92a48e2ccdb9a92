//! What SHOW answers, and where metrics come from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, StringArray};
use arrow::record_batch::RecordBatch;
use driftline_operators::detector::TrainingState;
use driftline_queries::Show;

use super::core::Core;
use super::registry::Object;
use crate::checkpoint::Coordinator;
use crate::error::{Error, Result};
use crate::metrics::{Metrics, QueryMetrics, SourceMetrics};
use crate::runtime::QueryId;
use crate::runtime::source_state::columns_text;

/// Answers SHOW.
pub(super) fn show(core: &Core, what: Show) -> Result<RecordBatch> {
    let registry = core.registry();
    let objects = registry.objects.iter();
    match what {
        Show::Sources => {
            let rows = objects.filter_map(|(name, object)| match object {
                Object::Source(source) => {
                    let time = source.spec.time.as_ref();
                    let time = time.map(|t| source.spec.schema.field(t.index).name().clone());
                    let columns = columns_text(&source.spec.schema);
                    Some([name.clone(), columns, time.unwrap_or_default()])
                }
                _ => None,
            });
            table(["name", "columns", "event_time"], rows)
        }
        Show::Tables => {
            let rows = objects.filter_map(|(name, object)| match object {
                Object::Table(table) => {
                    let columns = columns_text(&table.schema());
                    Some([name.clone(), columns, table.len().to_string(), table.from.clone()])
                }
                _ => None,
            });
            table(["name", "columns", "rows", "path"], rows)
        }
        Show::Views => {
            let rows = objects.filter_map(|(name, object)| match object {
                Object::View(view) => Some([name.clone(), view.text.clone()]),
                _ => None,
            });
            table(["name", "query"], rows)
        }
        Show::Detectors => {
            let rows = objects.filter_map(|(name, object)| match object {
                Object::Detector(detector) => {
                    Some([name.clone(), detector.spec.to_string(), detector.text.clone()])
                }
                _ => None,
            });
            table(["name", "detector", "query"], rows)
        }
        Show::Sinks => {
            let rows = objects.filter_map(|(name, object)| match object {
                Object::Sink(sink) => Some([name.clone(), sink.path.display().to_string()]),
                _ => None,
            });
            table(["name", "path"], rows)
        }
        Show::Queries => {
            let rows = registry.queries.values().map(|query| {
                let state = match (query.context.failure(), query.reader_error.get()) {
                    (Some(error), _) => Error::from(error).to_string(),
                    (None, Some(error)) => error.to_string(),
                    (None, None) => "running".to_owned(),
                };
                [query.name.clone(), query.text.clone(), state]
            });
            table(["name", "query", "state"], rows)
        }
        Show::Functions => {
            table(["name"], core.planner.function_names().into_iter().map(|name| [name]))
        }
        Show::Kinds => {
            let rows = core.kinds.values().map(|kind| {
                let options = kind.options();
                let options = options.iter().map(|option| option.name).collect::<Vec<_>>();
                [kind.name().to_owned(), kind.summary().to_owned(), options.join(", ")]
            });
            table(["name", "finds", "options"], rows)
        }
    }
}

/// A batch of one text column.
pub(super) fn text_batch<'a>(
    column: &'static str,
    lines: impl Iterator<Item = &'a str>,
) -> Result<RecordBatch> {
    table([column], lines.map(|line| [line.to_owned()]))
}

fn table<const N: usize>(
    names: [&'static str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> Result<RecordBatch> {
    let rows: Vec<[String; N]> = rows.collect();
    let columns = names.iter().enumerate().map(|(index, name)| {
        let values = rows.iter().map(|row| row[index].as_str());
        (*name, Arc::new(StringArray::from_iter_values(values)) as ArrayRef)
    });
    RecordBatch::try_from_iter(columns)
        .map_err(|error| Error::internal("an answer could not be built").with_source(error))
}

impl Core {
    /// Counts and levels as of now.
    pub(super) fn metrics(&self) -> Metrics {
        let registry = self.registry();
        let (ingress_bytes, epochs_in_flight, epoch) = self.ingress.levels();
        let sources = registry.objects.iter().filter_map(|(name, object)| match object {
            Object::Source(source) => {
                let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
                Some(SourceMetrics {
                    name: name.clone(),
                    rows: read(&source.counters.rows),
                    batches: read(&source.counters.batches),
                    rows_late: read(&source.counters.rows_late),
                    rows_malformed: source.counters.malformed(),
                    watermark: self.ingress.watermark(source.id),
                })
            }
            _ => None,
        });
        let sources = sources.collect();
        let training: BTreeMap<QueryId, TrainingState> = registry
            .objects
            .values()
            .filter_map(|object| match object {
                Object::Detector(detector) => Some((detector.query, detector.plan.training()?)),
                _ => None,
            })
            .collect();
        let queries = registry.queries.values().map(|query| {
            let counters = query.context.counters();
            let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            QueryMetrics {
                name: query.name.clone(),
                rows_in: read(&counters.rows_in),
                rows_out: read(&counters.rows_out),
                rows_failed: read(&counters.rows_failed),
                rows_refused: read(&counters.rows_refused),
                windows_closed: read(&counters.windows_closed),
                models: read(&counters.models),
                models_ready: read(&counters.models_ready),
                rebuilds: read(&counters.rebuilds),
                rebuild_millis: read(&counters.rebuild_ns) as f64 / 1e6,
                training: training.get(&query.id).copied(),
                models_evicted: read(&counters.models_evicted),
                keys: read(&counters.keys),
                keys_evicted: read(&counters.keys_evicted),
                anomalies: read(&counters.anomalies),
                state_bytes: read(&counters.state_bytes),
                waiting_bytes: query.port.as_ref().map_or(0, |port| port.bytes() as u64),
                first_row_error: query.context.first_row_error().map(str::to_owned),
            }
        });
        let queries = queries.collect();
        let (memory_bytes, pushes_refused) = self.ingress.memory_use();
        Metrics {
            epoch,
            memory_bytes,
            pushes_refused,
            epochs_in_flight: epochs_in_flight as u64,
            ingress_bytes: ingress_bytes as u64,
            checkpoints: self.coordinator().map(Coordinator::metrics),
            inference: self.inference.metrics(),
            traffic: self.ingress.traffic().metrics(),
            sources,
            queries,
        }
    }
}
