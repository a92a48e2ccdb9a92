//! The operators of a query's dataflow, one a file, over streams of Arrow batches.
//!
//! All of them work on what is there and return: none blocks, waits or reads a clock. timely's timestamp is the
//! [`Epoch`]; what rows mean by time is in their columns.

mod assign;
mod closing;
mod context;
mod counted;
mod detect;
mod egress;
mod exchange;
mod lookup;
mod measure;
mod number;
mod range;
mod reorder;
mod sessions;
mod transform;
mod upkeep;
mod windows;

pub use assign::{WindowAssignment, assign_windows};
pub use context::{Counters, QueryContext};
pub use detect::{DetectStage, MAIN, SharedDetector, detect};
pub use egress::{Outbox, Outgoing, collect_into};
pub use lookup::look_up;
pub use measure::{Meter, measure};
pub use number::{NumberStage, number_rows};
pub use reorder::Reorder;
pub use transform::{transform, with_schema};
pub use upkeep::maintain;
pub use windows::{WindowStage, aggregate_windows};

use timely::dataflow::StreamVec;

use crate::batch::Batch;
use crate::time::Epoch;

/// A stream of batches, stamped with epochs.
pub type BatchStream<'scope> = StreamVec<'scope, Epoch, Batch>;
