//! Reading files into a source, on a thread of their own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Source;
use super::files::{FileReadOptions, FileReader};
use crate::error::Result;
use crate::runtime::clock::{Alarm, Clock};

/// Files that a source reads once the engine is told to start.
#[derive(Clone, Debug)]
pub(crate) struct FilePlan {
    pub(crate) path: PathBuf,
    pub(crate) options: FileReadOptions,
}

/// Pushes all rows of the files, each when its pace says, then closes the source. A ring of `stop` ends a wait early.
pub(crate) fn read_files(
    source: &Source,
    plan: &FilePlan,
    clock: &dyn Clock,
    stop: &Arc<Alarm>,
) -> Result<()> {
    let mut reader = FileReader::open(&plan.path, source.schema(), plan.options.clone())?;
    let begin = clock.now();
    let mut malformed = 0;
    loop {
        let next = reader.next_paced();
        let counted = reader.malformed_rows();
        source.object.counters.rows_malformed.fetch_add(counted - malformed, Ordering::Relaxed);
        malformed = counted;
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
