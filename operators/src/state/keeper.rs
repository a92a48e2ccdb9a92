//! The operators of one query on one worker that have something to keep.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{SavedState, StateReader, StateWriter, Stateful, problem};
use crate::error::{OperatorError, Result};
use crate::key::KeyShare;

/// Names an operator within its query, the same on every worker and whenever the query is planned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OperatorId {
    /// The part of the query, in the order of wiring.
    pub part: u32,
    /// What the operator calls its state.
    pub state: String,
}

/// What one operator held on all workers that wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedOperator {
    /// The operator.
    pub id: OperatorId,
    /// Its state on each of them.
    pub states: Vec<SavedState>,
}

/// Stateful operators of one query, as its worker reaches them between two steps of the dataflow.
#[derive(Clone, Default)]
pub struct Registered(Rc<RefCell<Vec<Operator>>>);

/// One of them.
type Operator = (OperatorId, Rc<RefCell<dyn Stateful>>);

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<OperatorId> = self.0.borrow().iter().map(|(id, _)| id.clone()).collect();
        f.debug_tuple("Registered").field(&ids).finish()
    }
}

impl Registered {
    /// Takes the state of all operators down.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn save(&self) -> Result<Vec<(OperatorId, SavedState)>> {
        let operators = self.0.borrow();
        let save = |(id, operator): &Operator| {
            let mut writer = StateWriter::default();
            operator.borrow_mut().save(&mut writer)?;
            Ok((id.clone(), writer.finish()))
        };
        operators.iter().map(save).collect()
    }
}

/// Where the operators of one part register, and what they take up.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    registered: Registered,
    saved: Option<Arc<Vec<SavedOperator>>>,
    share: KeyShare,
    part: u32,
}

impl Keeper {
    pub(crate) fn new(
        registered: Registered,
        saved: Option<Arc<Vec<SavedOperator>>>,
        share: KeyShare,
    ) -> Self {
        Self { registered, saved, share, part: 0 }
    }

    pub(crate) fn of_part(&self, part: usize) -> Self {
        Self { part: part as u32, ..self.clone() }
    }

    /// Whether the query goes on from a checkpoint.
    pub(crate) fn is_restored(&self) -> bool {
        self.saved.is_some()
    }

    fn id(&self, state: &str) -> OperatorId {
        OperatorId { part: self.part, state: state.to_owned() }
    }

    /// Lets an operator take up what there is for it.
    pub(crate) fn load(&self, state: &str, operator: &RefCell<dyn Stateful>) -> Result<()> {
        let id = self.id(state);
        let saved = self.saved.iter().flat_map(|saved| saved.iter()).find(|saved| saved.id == id);
        let Some(saved) = saved else { return Ok(()) };
        let reader = StateReader::new(&saved.states, self.share);
        // Sums vouch for what a part holds. Where they were made for something else, columns may be of other types and places
        // lead nowhere; an operator that trips over it fails its query, and no other.
        let loaded = catch_unwind(AssertUnwindSafe(|| operator.borrow_mut().load(&reader)));
        loaded.unwrap_or_else(|_| Err(problem("holds something else"))).map_err(|error| {
            OperatorError::Snapshot {
                owner: format!("\"{state}\" in part {} of the query", self.part),
                problem: format!("cannot be taken up: {error}"),
            }
        })
    }

    /// Registers an operator.
    pub(crate) fn register(&self, state: &str, operator: Rc<RefCell<dyn Stateful>>) -> Result<()> {
        let (id, mut registered) = (self.id(state), self.registered.0.borrow_mut());
        if registered.iter().any(|(known, _)| *known == id) {
            return Err(problem(format!("is registered twice as \"{state}\"")));
        }
        registered.push((id, operator));
        Ok(())
    }
}
