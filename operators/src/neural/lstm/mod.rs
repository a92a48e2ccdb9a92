//! Stacked LSTM layers under one dense layer: shape, weights, scoring and training.
//!
//! ```text
//!   step 1        step 2              last step
//!   input ──┐     input ──┐           input ──┐
//!         layer 1 ─────> layer 1 ─ .. ─> layer 1
//!           │              │               │
//!         layer 2 ─────> layer 2 ─ .. ─> layer 2 ──> dense layer ──> outputs
//! ```
//!
//! Every sequence starts from a state of zeros. A cell's gates are input, forget, output and candidate, in this order
//! of columns; its state is `c' = f c + i g` and its output `h' = o tanh(c')` (Hochreiter and Schmidhuber 1997, with
//! the forget gate of Gers et al. 2000), which is the cell of DeepLog (DL-03).

mod dense;
mod examples;
mod network;
mod on_device;
mod prefixes;
mod product;
mod scorer;
mod served;
#[cfg(test)]
mod tests;
mod train;
mod weights;

pub use dense::DenseLearner;
pub use examples::{Examples, Targets};
pub use product::Instructions;
pub use scorer::Scorer;
pub use served::ServedLstm;
pub use train::{Progress, Stopped, Trained, Training, train};
pub use weights::{LstmInput, LstmShape, Matrix, Weights};

/// How far an output of [`Scorer`], or of burn on any device, may lie from another's: outputs are before softmax.
pub const TOLERANCE: f32 = 2e-4;
