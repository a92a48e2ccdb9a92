//! Networks: their weights, how they are trained, and how they are scored on the CPU or on a GPU.
//!
//! burn appears here and nowhere else, and no burn type leaves this module. Training goes through burn's autodiff.
//! Scoring on the CPU does not: a recurrent network over one-hot input is small matrices and table look-ups, for which
//! [`lstm::Scorer`] has loops of its own, equal to burn's forward pass within [`lstm::TOLERANCE`].

mod gpu;
pub mod lstm;

pub use gpu::adapter;
