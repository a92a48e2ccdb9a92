//! The network behind the key model, where the crate is built with the feature `neural`; else its absence.

#[cfg(not(feature = "neural"))]
mod disabled;
#[cfg(feature = "neural")]
mod enabled;

#[cfg(not(feature = "neural"))]
pub(super) use disabled::Network;
#[cfg(feature = "neural")]
pub(super) use enabled::Network;

/// Pairs of a history and the output that followed, with their weight.
pub(super) type Pairs = Vec<(Vec<u32>, u32, f64)>;

/// How the network of a key model is built and trained (DL-02, DL-03).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NetworkSettings {
    /// Stacked LSTM layers (L in the paper).
    pub layers: usize,
    /// Units of each layer (alpha in the paper).
    pub hidden: usize,
    /// Adam's first step.
    pub learning_rate: f64,
    /// Distinct histories of a mini-batch.
    pub batch: usize,
    /// The most passes over the histories.
    pub epochs: usize,
    /// Passes without a better loss on what was held out, after which training stops.
    pub patience: usize,
    /// Seed of weights and of the order of histories.
    pub seed: u64,
    /// A history that so many times had the same key after it counts as that number to this power: 1 to count each time
    /// (the paper), 0 to count it once. Below 1 rare but normal paths are learned as well.
    pub repeats_power: f64,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self {
            layers: 2,
            hidden: 64,
            learning_rate: 0.003,
            batch: 512,
            epochs: 100,
            patience: 15,
            seed: 1,
            repeats_power: 0.25,
        }
    }
}

/// What follows a history, of which feedback says that it is normal.
pub(super) type Fresh = Vec<(Vec<u32>, u32)>;

/// How far the training of a key model has come, after each pass over its histories.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingProgress {
    /// Passes done.
    pub epoch: usize,
    /// The most passes.
    pub epochs_max: usize,
    /// Mean cross-entropy in nats over the histories of training, while they were learned from.
    pub loss: f64,
    /// The same over the sessions held out, after the pass; NaN without any.
    pub held_out_loss: f64,
}

/// Told of each pass; may end the training, whose best weights so far are then taken.
pub type Watch<'a> = &'a mut dyn FnMut(&TrainingProgress) -> std::ops::ControlFlow<()>;
