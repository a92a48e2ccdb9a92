//! One detector's dealings with the service: rows handed over, kept while the queue is full, outputs taken.

use std::sync::Arc;
use std::task::{Poll, Waker};

use super::{InferenceService, Network, ServiceError, Ticket};

/// Asks a service for the outputs of some rows at a time, without ever waiting.
///
/// # Examples
/// What [`Detector::poll`](crate::detector::Detector::poll) does, with a service whose thread runs later:
/// ```
/// use std::sync::Arc;
/// use std::task::{Poll, Waker};
/// use std::time::Duration;
/// use driftline_operators::inference::{Asking, Compute, InferenceService, Network, ServiceSettings};
///
/// #[derive(Debug)]
/// struct Halve;
///
/// impl Network for Halve {
///     fn inputs(&self) -> usize {
///         1
///     }
///     fn outputs(&self) -> usize {
///         1
///     }
///     fn score(&self, _on: Compute, rows: &[f32], out: &mut Vec<f32>) -> Result<(), String> {
///         out.extend(rows.iter().map(|x| x / 2.0));
///         Ok(())
///     }
/// }
///
/// let service = Arc::new(InferenceService::new(ServiceSettings::default()));
/// let network: Arc<dyn Network> = Arc::new(Halve);
/// let mut asking = Asking::new(Arc::clone(&service));
/// asking.start(&network, vec![3.0, 5.0]);
/// assert_eq!(asking.poll(Waker::noop()), Poll::Pending);
/// service.close();
/// service.run(&Compute::Cpu, &|| Duration::ZERO);
/// assert_eq!(asking.poll(Waker::noop()), Poll::Ready(Ok(vec![1.5, 2.5])));
/// assert!(asking.is_idle());
/// ```
#[derive(Debug)]
pub struct Asking {
    service: Arc<InferenceService>,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    /// Not taken yet.
    Kept(Arc<dyn Network>, Vec<f32>),
    Asked(Ticket),
}

impl Asking {
    /// Nothing has been asked.
    #[must_use]
    pub fn new(service: Arc<InferenceService>) -> Self {
        Self { service, state: State::Idle }
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &InferenceService {
        &self.service
    }

    /// Whether nothing is being asked.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Begins to ask; [`Asking::poll`] hands the rows over. What was asked before is forgotten.
    pub fn start(&mut self, network: &Arc<dyn Network>, rows: Vec<f32>) {
        self.state = State::Kept(Arc::clone(network), rows);
    }

    /// The outputs, once they are there; until then `waker` is woken when it is worth while to ask again.
    ///
    /// # Errors
    /// If the rows cannot be scored.
    pub fn poll(&mut self, waker: &Waker) -> Poll<Result<Vec<f32>, ServiceError>> {
        match std::mem::take(&mut self.state) {
            State::Idle => Poll::Ready(Ok(Vec::new())),
            State::Kept(network, rows) => match self.service.submit(&network, rows, waker) {
                Ok(ticket) => {
                    self.state = State::Asked(ticket);
                    Poll::Pending
                }
                Err((ServiceError::Full, rows)) => {
                    self.state = State::Kept(network, rows);
                    Poll::Pending
                }
                Err((error, _)) => Poll::Ready(Err(error)),
            },
            State::Asked(ticket) => match ticket.take() {
                Some(outputs) => Poll::Ready(outputs),
                None => {
                    self.state = State::Asked(ticket);
                    Poll::Pending
                }
            },
        }
    }
}
