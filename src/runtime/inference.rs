//! The thread that scores networks, and the device that it asks.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use driftline_operators::error::{OperatorError, Result};
use driftline_operators::inference::{
    Adapter, Compute, Device, DeviceChoice, Inference, InferenceService, Placement,
};

use driftline_operators::sync::lock;
use driftline_operators::sync::turns::Handle;

use super::{clock, threads};
use crate::metrics::InferenceMetrics;
use crate::settings::Settings;

/// The inference service of one engine. Its thread starts when the first detector is placed on it.
pub(crate) struct Services {
    settings: Settings,
    /// The host's own device, which stands in for the GPU.
    device: Option<Arc<dyn Device>>,
    /// What kind of GPU there is, once somebody wanted to know.
    adapter: OnceLock<Result<Adapter, String>>,
    running: Mutex<State>,
}

#[derive(Default)]
enum State {
    #[default]
    NotStarted,
    Running(Arc<InferenceService>, Handle<()>),
    /// The service that has ended, for its counts.
    Ended(Option<Arc<InferenceService>>),
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Services {
    pub(crate) fn new(settings: &Settings, device: Option<Arc<dyn Device>>) -> Self {
        Self {
            settings: settings.clone(),
            device,
            adapter: OnceLock::new(),
            running: Mutex::default(),
        }
    }

    /// Lets what is queued be scored, and ends the thread.
    pub(crate) fn end(&self) {
        // Nobody starts it again meanwhile.
        let state = std::mem::replace(&mut *self.lock(), State::Ended(None));
        let ended = match state {
            State::NotStarted => None,
            State::Running(service, thread) => {
                service.close();
                // The loop answers everything however it ends.
                drop(thread.join());
                Some(service)
            }
            State::Ended(service) => service,
        };
        *self.lock() = State::Ended(ended);
    }

    /// Counts and levels; none before a detector was placed on the service.
    pub(crate) fn metrics(&self) -> Option<InferenceMetrics> {
        let state = self.lock();
        let (State::Running(service, _) | State::Ended(Some(service))) = &*state else {
            return None;
        };
        Some(InferenceMetrics::new(self.device_name(), service.statistics()))
    }

    fn device_name(&self) -> String {
        match &self.device {
            Some(device) => format!("{device:?}"),
            None => match self.adapter() {
                Ok(Adapter::Hardware) => "gpu".into(),
                Ok(Adapter::Software) => "gpu, imitated by software".into(),
                Err(_) => "none".into(),
            },
        }
    }

    fn adapter(&self) -> &Result<Adapter, String> {
        self.adapter.get_or_init(|| {
            #[cfg(feature = "wgpu")]
            let found = driftline_operators::neural::adapter();
            #[cfg(not(feature = "wgpu"))]
            let found = Err("the crate was built without the feature \"wgpu\"".to_owned());
            found
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.running)
    }

    fn service(&self, owner: &str) -> Result<Arc<InferenceService>> {
        let refused = |problem: &str, hint: &str| OperatorError::Option {
            owner: owner.into(),
            option: "device".into(),
            problem: problem.into(),
            hint: hint.into(),
        };
        let mut state = self.lock();
        match &*state {
            State::Running(service, _) => return Ok(Arc::clone(service)),
            State::Ended(_) => {
                return Err(refused("has ended with its engine", "build another engine"));
            }
            State::NotStarted => {}
        }
        let service = Arc::new(InferenceService::new(self.settings.service()));
        let device: Arc<dyn Device> = match &self.device {
            Some(device) => Arc::clone(device),
            None => Arc::new(Compute::Gpu),
        };
        let (serving, started) = (Arc::clone(&service), clock::now());
        let thread = threads::spawn("driftline-inference".into(), move || {
            let now = || clock::now().saturating_duration_since(started);
            serving.run(&*device, &now);
        });
        let thread = thread.map_err(|error| {
            refused(&format!("has no thread: {error}"), "free some threads, or set device = 'cpu'")
        })?;
        *state = State::Running(Arc::clone(&service), thread);
        Ok(service)
    }
}

impl Inference for Services {
    fn place(&self, owner: &str, choice: Option<DeviceChoice>) -> Result<Placement> {
        let by_workers =
            |why: &str| Ok(Placement { service: None, note: format!("the workers{why}") });
        let choice = choice.unwrap_or(self.settings.device);
        let note = match (choice, &self.device) {
            (DeviceChoice::Cpu, _) => return by_workers(""),
            (_, Some(_)) => format!("the inference service on {}", self.device_name()),
            (DeviceChoice::Auto, None) => match self.adapter() {
                Ok(Adapter::Hardware) => "the inference service on a GPU".into(),
                Ok(Adapter::Software) => return by_workers(": there is a GPU of software only"),
                Err(problem) => return by_workers(&format!(": {problem}")),
            },
            (DeviceChoice::Gpu, None) if !cfg!(feature = "wgpu") => {
                return Err(OperatorError::Option {
                    owner: owner.into(),
                    option: "device".into(),
                    problem: "is 'gpu', which needs the feature \"wgpu\" of the crate".into(),
                    hint: "build with the feature \"wgpu\", or set device = 'cpu'".into(),
                });
            }
            (DeviceChoice::Gpu, None) => match self.adapter() {
                Ok(Adapter::Hardware) => "the inference service on a GPU".into(),
                Ok(Adapter::Software) => "the inference service on a GPU of software".into(),
                Err(problem) => {
                    format!("the inference service, which falls back to the CPU: {problem}")
                }
            },
        };
        Ok(Placement { service: Some(self.service(owner)?), note })
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.end();
    }
}
