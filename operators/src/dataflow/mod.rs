//! The operators of a query's dataflow, one a file, over streams of Arrow batches.
//!
//! All of them work on what is there and return: none blocks, waits or reads a clock. timely's timestamp is the
//! [`Epoch`]; what rows mean by time is in their columns.

mod arriving;
mod assign;
mod bytes;
mod changes;
mod closing;
mod context;
mod counted;
mod detect;
mod distinct;
mod egress;
mod exchange;
mod folding;
mod join;
mod log_keys;
mod lookup;
mod measure;
mod number;
mod over;
mod range;
mod reorder;
mod retain;
mod sessions;
mod transform;
mod update_groups;
mod update_top;
mod updates;
mod updating_join;
mod upkeep;
mod windows;

pub use arriving::Arriving;
pub use assign::{WindowAssignment, assign_windows};
pub use changes::{append_additions, transform_changes};
pub use context::{Counters, QueryContext, QueryShared};
pub use detect::{DetectStage, MAIN, SharedDetector, detect};
pub use distinct::{DistinctStage, distinct_rows};
pub use egress::{Outbox, Outgoing, collect_into};
pub use exchange::Route;
pub use folding::FOLDED_GROUPS_MAX;
pub use join::{JoinStage, join};
pub use log_keys::{LogKeyStage, SharedLogKeys, log_keys};
pub use lookup::look_up;
pub use measure::{Meter, measure};
pub use number::{NumberStage, number_rows};
pub use over::{OverStage, over_frames};
pub use reorder::{Keyed, Reorder};
pub use retain::Retention;
pub use transform::{transform, with_schema};
pub use update_groups::{GroupStage, check_groups, update_groups};
pub use update_top::{TopStage, check_top, update_top};
pub use updates::update_windows;
pub use updating_join::{JoinSide, UpdatingJoinStage, check_side, updating_join};
pub use upkeep::maintain;
pub use windows::{WindowStage, aggregate_windows};

use timely::dataflow::StreamVec;

use crate::batch::Batch;
use crate::time::Epoch;

/// A stream of batches, stamped with epochs.
pub type BatchStream<'scope> = StreamVec<'scope, Epoch, Batch>;
