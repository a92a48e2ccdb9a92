//! Scoring by networks on a device that all workers of an engine share: the service, and who is placed on it.
//!
//! It needs no network of our own: a host's detector may bring one, and a host may bring the device.
//! The module `neural`, which needs the feature of that name, has those that come with the engine.

mod asking;
mod place;
mod service;

pub use asking::Asking;
pub use place::{Adapter, DeviceChoice, Inference, OnWorkers, Placement};
pub use service::{
    Compute, Device, InferenceService, Network, ServiceError, ServiceSettings, ServiceStatistics,
    Ticket,
};
