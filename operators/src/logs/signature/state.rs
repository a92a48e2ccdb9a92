//! What of a signature parser survives a restart: all of it but the scratch space.

use serde::{Deserialize, Serialize};

use super::{Known, Signature, Templates};
use crate::error::Result;
use crate::model::snapshot;

const KIND: &str = "log parser signature";

#[derive(Debug, Serialize)]
struct Written<'a> {
    clock: u64,
    templates: &'a Templates,
    known: Vec<&'a Known>,
}

#[derive(Debug, Deserialize)]
struct Read {
    clock: u64,
    templates: Templates,
    known: Vec<Known>,
}

pub(super) fn seal(parser: &Signature) -> Result<Vec<u8>> {
    let known = parser.known.iter().flatten().collect();
    snapshot::seal(KIND, &Written { clock: parser.clock, templates: &parser.templates, known })
}

/// A parser of the same settings, with what the snapshot holds.
pub(super) fn open(parser: &Signature, bytes: &[u8]) -> Result<Signature> {
    let mut read: Read = snapshot::open(KIND, bytes)?;
    let misfit = || snapshot::problem(KIND, "holds templates that do not fit together");
    if !read.templates.complete(&parser.settings, read.clock) {
        return Err(misfit());
    }
    let mut new = Signature::new(&parser.settings);
    new.clock = read.clock;
    for known in read.known {
        let parts = known.bytes.split(|&byte| byte == super::scan::END).count() - 1;
        let folds = usize::from(known.folded.is_some());
        let fits = read.templates.parts(known.template) + folds == parts
            && read.templates.holds(known.template)
            && known.folded.is_none_or(|fold| fold > 0 && usize::from(fold) < parts)
            && known.used <= new.clock;
        if !fits {
            return Err(misfit());
        }
        let hash = twox_hash::XxHash3_64::oneshot(&known.bytes);
        new.remember(hash, known);
    }
    new.templates = read.templates;
    Ok(new)
}
