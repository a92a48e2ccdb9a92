//! The parts of a query as they are wired: their numbers, their meters, and which of timely's operators belong to which.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use driftline_operators::dataflow::{Meter, QueryContext, measure};
use driftline_operators::window::TimeType;

use super::Flow;

/// Counts parts while a query is wired on one worker.
///
/// A part gets its number before those below it, and is closed after them. timely numbers operators in the order in which
/// they are made, so that a part owns those made since the last one was closed.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    next: Cell<usize>,
    /// All operators below this number have an owner, or are of another query.
    owned: Cell<usize>,
    owners: RefCell<Vec<(usize, Arc<Meter>)>>,
}

impl Parts {
    /// The number of the next part.
    pub(super) fn next(&self) -> usize {
        self.next.replace(self.next.get() + 1)
    }

    /// Leaves out operators that are there already, but for the query's own inputs.
    pub(super) fn begin(&self, leaves: &[Flow<'_>]) {
        if let Some(leaf) = leaves.first() {
            let made = leaf.stream.scope().worker().peek_identifier();
            self.owned.set(made);
        }
    }

    /// Ends a part: what it gives is measured, and its operators are its own.
    pub(super) fn close<'scope>(
        &self,
        flow: Flow<'scope>,
        context: &QueryContext,
        time: Option<(usize, TimeType)>,
    ) -> Flow<'scope> {
        let stream = measure(flow.stream, context, &flow.watermarks, time);
        self.own(stream.scope().worker().peek_identifier(), context);
        Flow { stream, watermarks: flow.watermarks }
    }

    /// Gives all operators below `end` that have no owner to the context's meter.
    pub(super) fn own(&self, end: usize, context: &QueryContext) {
        let start = self.owned.replace(end);
        if let Some(meter) = context.meter() {
            let own = (start..end).map(|operator| (operator, Arc::clone(meter)));
            self.owners.borrow_mut().extend(own);
        }
    }

    /// The meter of each operator, by timely's number.
    pub(crate) fn into_owners(self) -> Vec<(usize, Arc<Meter>)> {
        self.owners.into_inner()
    }
}
