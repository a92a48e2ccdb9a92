//! Reading files into a source, on a thread of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Source;
use super::files::{FileReadOptions, FileReader};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::clock::{Alarm, Clock};

/// Files that a source reads once the engine is told to start.
#[derive(Clone, Debug)]
pub(crate) struct FilePlan {
    pub(crate) path: PathBuf,
    pub(crate) options: FileReadOptions,
}

/// Pushes all rows of the files, each when its pace says, then closes the source. A ring of `stop` ends a wait early.
///
/// An engine that goes on from a checkpoint passes over the rows that are in it. For this the files must be those that
/// they were, in the order of their names, and nothing else may have pushed into the source; files may have grown at the
/// end of the last one, or been added behind it.
pub(crate) fn read_files(
    source: &Source,
    plan: &FilePlan,
    clock: &dyn Clock,
    stop: &Arc<Alarm>,
) -> Result<()> {
    let mut reader = FileReader::open(&plan.path, source.schema(), plan.options.clone())?;
    skip_known(&mut reader, source, &plan.path)?;
    let begin = clock.now();
    let unreadable = &source.object.counters.rows_unreadable;
    loop {
        let next = reader.next_paced();
        unreadable.store(reader.malformed_rows(), Ordering::Relaxed);
        let Some(next) = next else { break };
        let paced = next?;
        let due = begin.saturating_add(paced.due);
        while clock.now() < due && !source.core.ingress.is_stopped() {
            clock.wait(stop, Some(due));
        }
        source.push(paced.batch)?;
    }
    source.close()
}

/// Passes over the rows that are in the checkpoint which the engine goes on from.
fn skip_known(reader: &mut FileReader, source: &Source, path: &Path) -> Result<()> {
    let known = source.resume_at();
    reader.skip_rows(known)?;
    let found = reader.rows_read();
    if found < known {
        let text = format!(
            "source \"{}\" has read {known} rows by the checkpoint, and its files \"{}\" hold {found}",
            source.name(),
            path.display()
        );
        return Err(Error::new(ErrorKind::Incompatible, text).with_hint(
            "put the files back as they were, or begin with an empty checkpoint store",
        ));
    }
    Ok(())
}
