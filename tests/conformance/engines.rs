//! The engine of a feed, or several that follow each other.

use std::sync::Arc;

use driftline::arrow::array::RecordBatch;
use driftline::{Checkpoints, Engine, EngineBuilder, MemoryStore, Subscription};

use super::axes::{Feed, Restored};
use super::case::Script;
use super::feed::Step;

/// After which steps engines end, and how many workers the next one has.
pub(super) fn restarts(feed: Feed, steps: usize) -> Vec<(usize, usize, usize)> {
    match feed.restored {
        Restored::Never => Vec::new(),
        Restored::Middle => vec![(0, steps / 2, feed.workers)],
        Restored::Rescaled => vec![(0, steps / 3, 4), (1, 2 * steps / 3, 2)],
    }
}

/// An engine with the queries of some cells, and then the late relation of each source.
pub(super) struct Running {
    pub(super) engine: Engine,
    pub(super) results: Vec<Result<Subscription, String>>,
}

impl Running {
    pub(super) fn start(
        script: &Script,
        queries: &[String],
        workers: usize,
        store: &Arc<MemoryStore>,
    ) -> Result<Self, String> {
        let checkpoints = Checkpoints::new(Arc::clone(store) as Arc<_>);
        let engine = engine(script, Engine::builder().workers(workers).checkpoints(checkpoints))
            .map_err(text)?;
        let mut results: Vec<_> =
            queries.iter().map(|sql| engine.subscribe(sql).map_err(text)).collect();
        for source in &script.sources {
            let schema = engine.source(&source.name).map_err(text)?.schema();
            let columns: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            let sql = format!("SELECT {} FROM LATE({})", columns.join(", "), source.name);
            results.push(engine.subscribe(&sql).map_err(text));
        }
        match engine.not_restored().as_slice() {
            [] => Ok(Self { engine, results }),
            left => Err(format!("left in the checkpoint: {}", left.join(", "))),
        }
    }

    pub(super) fn push(&self, steps: &[Step<'_>]) -> Result<(), String> {
        steps.iter().try_for_each(|step| {
            match step {
                Step::Push(name, rows) => {
                    self.engine.source(name).and_then(|source| source.push(rows.clone()))
                }
                Step::Drain => self.engine.drain(),
            }
            .map_err(text)
        })
    }

    /// Reads what there is to be read.
    pub(super) fn take(&mut self, taken: &mut [Vec<RecordBatch>]) -> Result<(), String> {
        self.engine.drain().map_err(text)?;
        for (taken, results) in taken.iter_mut().zip(&mut self.results) {
            let Ok(results) = results else { continue };
            while let Some(rows) = results.try_next().map_err(text)? {
                taken.push(rows);
            }
        }
        Ok(())
    }

    /// All that was ever read, and the rest.
    pub(super) fn finish(
        self,
        taken: Vec<Vec<RecordBatch>>,
    ) -> Result<Vec<Result<Vec<RecordBatch>, String>>, String> {
        self.engine.shutdown().map_err(text)?;
        let all = taken.into_iter().zip(self.results).map(|(mut taken, results)| {
            for rows in results? {
                taken.push(rows.map_err(text)?);
            }
            Ok(taken)
        });
        Ok(all.collect())
    }
}

pub(super) fn text(error: driftline::Error) -> String {
    error.to_string()
}

pub(super) fn engine(script: &Script, builder: EngineBuilder) -> driftline::Result<Engine> {
    let engine = builder.build()?;
    for create in script.sources.iter().map(|source| &source.create).chain(&script.views) {
        engine.execute(create)?;
    }
    Ok(engine)
}
