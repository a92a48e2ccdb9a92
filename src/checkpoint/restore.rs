//! A checkpoint that an engine goes on from: found when it is built, taken up object by object.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arrow::record_batch::RecordBatch;
use driftline_operators::state::SavedOperator;
use driftline_operators::sync::lock;
use driftline_operators::time::Epoch;

use super::Checkpoint;
use super::manifest::{MANIFESTS, Manifest, QueryState, SinkRecord, SourceRecord};
use super::parts::{read_batches, read_state};
use super::retry::Retrying;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::ingress::Start;

/// What is left to be taken up.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) checkpoint: Checkpoint,
    pub(super) next_sequence: u64,
    sources: Mutex<BTreeMap<String, SourceRecord>>,
    queries: Mutex<BTreeMap<String, QueryState>>,
    sinks: Mutex<BTreeMap<String, Vec<String>>>,
    /// Whether a later checkpoint has been taken: what was not taken up before is not in it.
    is_past: AtomicBool,
}

/// What a query goes on from.
#[derive(Debug)]
pub(crate) struct RestoredQuery {
    pub(crate) operators: Arc<Vec<SavedOperator>>,
    /// What its reader had not taken, and the epoch in which it was.
    pub(crate) taken: u64,
    pub(crate) unread: Vec<RecordBatch>,
    pub(crate) epoch: Epoch,
}

/// The manifests of a store, the newest first.
pub(super) fn manifests(store: &Retrying) -> Result<Vec<Manifest>> {
    let mut names = store.list()?;
    names.retain(|name| name.starts_with(MANIFESTS));
    names.sort_unstable_by(|a, b| b.cmp(a));
    let read = |name: &String| {
        let bytes = store.get(name)?.unwrap_or_default();
        Manifest::from_bytes(name, &bytes)
    };
    names.iter().map(read).collect()
}

impl Restored {
    pub(super) fn new(manifest: &Manifest) -> Self {
        let Manifest { id, epoch, next_sequence, sources, queries, sinks } = manifest.clone();
        let bytes = manifest.bytes();
        let checkpoint = Checkpoint {
            id,
            epoch,
            bytes,
            bytes_written: 0,
            stall: std::time::Duration::ZERO,
            took: std::time::Duration::ZERO,
        };
        let sources = sources.into_iter().map(|source| (source.name.clone(), source)).collect();
        let queries = queries.into_iter().map(|query| (query.name.clone(), query)).collect();
        let sinks = sinks.into_iter().map(|sink| (sink.name, sink.files)).collect();
        Self {
            checkpoint,
            next_sequence,
            sources: Mutex::new(sources),
            queries: Mutex::new(queries),
            sinks: Mutex::new(sinks),
            is_past: AtomicBool::new(false),
        }
    }

    /// A later checkpoint has been taken. Whoever is created from now on begins anew: rows have gone by meanwhile, and parts
    /// may have been removed.
    pub(super) fn pass(&self) {
        self.is_past.store(true, Ordering::Release);
    }

    fn is_past(&self) -> bool {
        self.is_past.load(Ordering::Acquire)
    }

    pub(super) fn start(&self) -> Start {
        Start { epoch: self.checkpoint.epoch + 1, sequence: self.next_sequence }
    }

    /// Where a source stood; refused if it was declared otherwise. Nullable columns may have been added at the end.
    pub(super) fn source(&self, name: &str, declared: &str) -> Result<Option<SourceRecord>> {
        let mut sources = lock(&self.sources);
        let Some(record) = sources.get(name).filter(|_| !self.is_past()) else { return Ok(None) };
        if let Some((before, now)) = source_difference(&record.declared, declared) {
            let id = self.checkpoint.id;
            let text =
                format!("checkpoint {id} holds source \"{name}\" with {before}, not with {now}");
            return Err(Error::new(ErrorKind::Incompatible, text).with_hint(
                "declare it as it was; nullable columns may be added after the others",
            ));
        }
        Ok(sources.remove(name))
    }

    /// What a query held; refused if it was another one.
    pub(super) fn query(
        &self,
        store: &Retrying,
        name: &str,
        plan: &str,
    ) -> Result<Option<RestoredQuery>> {
        let mut queries = lock(&self.queries);
        let Some(state) = queries.get(name).filter(|_| !self.is_past()) else { return Ok(None) };
        if state.plan != plan {
            let different = |(a, b): &(&str, &str)| a != b;
            let (before, now) = padded(&state.plan, plan).find(different).unwrap_or_default();
            let id = self.checkpoint.id;
            let (before, now) = (said(before), said(now));
            let text = format!("checkpoint {id} holds {name} with {before}, not with {now}");
            return Err(Error::new(ErrorKind::Incompatible, text)
                .with_hint("write it as it was, or give it another name so that it begins anew"));
        }
        let mut operators = Vec::new();
        for operator in &state.operators {
            let states = operator.workers.iter().map(|worker| read_state(store, worker));
            let states = states.collect::<Result<_>>()?;
            operators.push(SavedOperator { id: operator.id.clone(), states });
        }
        let mut unread = Vec::new();
        for part in &state.unread {
            unread.extend(read_batches(store, part)?);
        }
        let found = RestoredQuery {
            operators: Arc::new(operators),
            taken: state.taken,
            unread,
            epoch: self.checkpoint.epoch,
        };
        queries.remove(name);
        Ok(Some(found))
    }

    /// Lets a sink publish its files; it has them for as long as it could not.
    pub(super) fn sink(
        &self,
        name: &str,
        publish: impl FnOnce(u64, &[String]) -> Result<()>,
    ) -> Result<()> {
        let mut sinks = lock(&self.sinks);
        publish(self.checkpoint.id, sinks.get(name).map_or(&[], Vec::as_slice))?;
        sinks.remove(name);
        Ok(())
    }

    /// What sinks have to publish that have not been created again.
    pub(super) fn sinks_left(&self) -> Vec<SinkRecord> {
        let sinks = lock(&self.sinks);
        let record = |(name, files): (&String, &Vec<String>)| SinkRecord {
            name: name.clone(),
            files: files.clone(),
        };
        sinks.iter().map(record).collect()
    }

    /// What has not been taken up.
    pub(super) fn left(&self) -> Vec<String> {
        let sources = lock(&self.sources);
        let queries = lock(&self.queries);
        let sources = sources.keys().map(|name| format!("source \"{name}\""));
        sources.chain(queries.keys().cloned()).collect()
    }
}

/// The lines of two texts side by side; empty where one has ended.
fn padded<'a>(a: &'a str, b: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let (mut a, mut b) = (a.lines(), b.lines());
    std::iter::from_fn(move || match (a.next(), b.next()) {
        (None, None) => None,
        (a, b) => Some((a.unwrap_or_default(), b.unwrap_or_default())),
    })
}

fn said(line: &str) -> String {
    match line.trim() {
        "" => "nothing there".into(),
        line => format!("\"{line}\""),
    }
}

fn source_difference(before: &str, now: &str) -> Option<(String, String)> {
    let split = |text: &str| -> (Vec<String>, Option<String>) {
        let (times, columns): (Vec<_>, Vec<_>) =
            text.lines().map(str::to_owned).partition(|line| line.starts_with("WATERMARK FOR "));
        (columns, times.into_iter().next())
    };
    let ((before, before_time), (now, now_time)) = (split(before), split(now));
    for (index, column) in before.iter().enumerate() {
        let found = now.get(index).map_or("", String::as_str);
        if column != found {
            return Some((said(column), said(found)));
        }
    }
    let added = now[before.len()..].iter().find(|column| column.ends_with(" NOT NULL"));
    if let Some(added) = added {
        return Some((said(""), said(added)));
    }
    let text = |time: Option<String>| said(&time.unwrap_or_default());
    (before_time != now_time).then(|| (text(before_time), text(now_time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_sources_are_named() {
        let before = "a Int64\nb Utf8 NOT NULL\nWATERMARK FOR a Some(5) 0\n";
        assert_eq!(source_difference(before, before), None);
        let added = "a Int64\nb Utf8 NOT NULL\nc Utf8\nWATERMARK FOR a Some(5) 0\n";
        assert_eq!(source_difference(before, added), None);
        for (now, expected) in [
            ("a Int64\nb Utf8\n", "\"b Utf8\""),
            ("a Int64\n", "nothing there"),
            (
                "a Int64\nb Utf8 NOT NULL\nc Utf8 NOT NULL\nWATERMARK FOR a Some(5) 0\n",
                "\"c Utf8 NOT NULL\"",
            ),
            (
                "a Int64\nb Utf8 NOT NULL\nWATERMARK FOR a Some(6) 0\n",
                "\"WATERMARK FOR a Some(6) 0\"",
            ),
        ] {
            assert_eq!(source_difference(before, now).unwrap().1, expected);
        }
    }
}
