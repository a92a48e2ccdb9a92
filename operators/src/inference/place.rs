//! Where a network is computed: what settings and options ask for, and what there is.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::InferenceService;
use crate::error::{OperatorError, Result};

/// The device that networks are scored on, as settings and options name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// A GPU if there is one of hardware and the crate is built with the feature `wgpu`, else the processor.
    #[default]
    Auto,
    /// The processor: workers score themselves.
    Cpu,
    /// A GPU, one that software imitates included. Where there is none at all the processor serves, and every launch of
    /// it is counted as a fallback.
    Gpu,
}

impl DeviceChoice {
    /// The words of the option `device`. The first stands for the engine's setting.
    pub const WORDS: &'static [&'static str] = &["engine", "auto", "cpu", "gpu"];

    /// The choice of a word; `None` for the engine's setting.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            "gpu" => Some(Self::Gpu),
            _ => None,
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        })
    }
}

/// What kind of GPU there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// A device of its own.
    Hardware,
    /// A renderer on the processor, such as Mesa's.
    Software,
}

/// Where a detector's network is scored.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The service to ask; `None` where the worker scores by itself.
    pub service: Option<Arc<InferenceService>>,
    /// The same in words, for EXPLAIN.
    pub note: String,
}

/// Finds detectors a place for their networks.
pub trait Inference: fmt::Debug + Send + Sync {
    /// The place of a network whose detector asks for `choice`; without one the engine's setting counts. `owner` is
    /// named in errors.
    ///
    /// # Errors
    /// If the device cannot be had in this build.
    fn place(&self, owner: &str, choice: Option<DeviceChoice>) -> Result<Placement>;
}

/// Leaves all scoring to the workers, as where there is no engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnWorkers;

impl Inference for OnWorkers {
    fn place(&self, owner: &str, choice: Option<DeviceChoice>) -> Result<Placement> {
        match choice {
            Some(DeviceChoice::Gpu) => Err(OperatorError::Option {
                owner: owner.into(),
                option: "device".into(),
                problem: "is 'gpu', and there is no engine to share one".into(),
                hint: "set device = 'cpu'".into(),
            }),
            _ => Ok(Placement { service: None, note: "the workers".into() }),
        }
    }
}
