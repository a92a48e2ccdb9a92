//! A network of LSTM layers as the inference service scores it.

use std::sync::{Mutex, PoisonError};

use burn::tensor::Device;

use super::network::{Network as OnDevice, numbers};
use super::{LstmInput, LstmShape, Scorer, Weights};
use crate::neural::service::{Compute, Network};

/// Sequences of one pass on a GPU.
const BATCH: usize = 4_096;

/// One version of a network, over sequences of so many steps.
///
/// A row holds the symbols of a sequence, as whole numbers, or its vectors, one after the other. Outputs are before
/// softmax, and those of a GPU lie within [`TOLERANCE`](super::TOLERANCE) of those of the CPU.
#[derive(Debug)]
pub struct ServedLstm {
    weights: Weights,
    steps: usize,
    scorer: Mutex<Scorer>,
}

impl ServedLstm {
    /// Makes weights ready to be served.
    #[must_use]
    pub fn new(weights: Weights, steps: usize) -> Self {
        Self { scorer: Mutex::new(Scorer::new(&weights)), weights, steps: steps.max(1) }
    }

    /// The shape of the network.
    #[must_use]
    pub fn shape(&self) -> LstmShape {
        self.weights.shape()
    }

    /// Scores by burn.
    fn by_burn(&self, device: &Device, rows: &[f32], out: &mut Vec<f32>) {
        let outputs = self.outputs();
        let network = OnDevice::new(&self.weights, device);
        for rows in rows.chunks(BATCH * self.inputs()) {
            let symbols: Vec<u32> = rows.iter().map(|x| *x as u32).collect();
            let sequences = network.sequences(&symbols, rows);
            let (found, prefixes) = network.forward(sequences, self.steps, device);
            let found = numbers(found);
            let first = out.len();
            out.resize(first + rows.len() / self.inputs() * outputs, 0.0);
            for (row, node) in prefixes.reached() {
                out[first + row * outputs..][..outputs]
                    .copy_from_slice(&found[node * outputs..][..outputs]);
            }
        }
    }
}

impl Network for ServedLstm {
    fn inputs(&self) -> usize {
        match self.shape().input {
            LstmInput::Symbols(_) => self.steps,
            LstmInput::Values(width) => self.steps * width,
        }
    }

    fn outputs(&self) -> usize {
        self.shape().outputs
    }

    fn score(&self, on: Compute, rows: &[f32], out: &mut Vec<f32>) -> Result<(), String> {
        match (on, self.shape().input) {
            (Compute::Cpu, LstmInput::Symbols(_)) => {
                let symbols: Vec<u32> = rows.iter().map(|x| *x as u32).collect();
                let mut scorer = self.scorer.lock().unwrap_or_else(PoisonError::into_inner);
                scorer.score_symbols(&symbols, self.steps, out);
            }
            (Compute::Cpu, LstmInput::Values(_)) => {
                let mut scorer = self.scorer.lock().unwrap_or_else(PoisonError::into_inner);
                scorer.score_values(rows, self.steps, out);
            }
            (Compute::Gpu, _) => self.by_burn(&gpu()?, rows, out),
        }
        Ok(())
    }
}

/// The GPU that wgpu prefers; software renderers count.
#[cfg(feature = "wgpu")]
fn gpu() -> Result<Device, String> {
    Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice))
}

#[cfg(not(feature = "wgpu"))]
fn gpu() -> Result<Device, String> {
    Err("the crate was built without the feature \"wgpu\"".into())
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::super::TOLERANCE;
    use super::super::tests::{histories, symbols_shape};
    use super::*;

    #[test]
    fn every_device_gives_the_same_outputs() {
        let network = ServedLstm::new(Weights::random(symbols_shape(9, 2, 16), 3), 5);
        let rows: Vec<f32> = histories(300, 5, 9, 4).into_iter().map(|s| s as f32).collect();
        let (mut cpu, mut burn) = (Vec::new(), Vec::new());
        network.score(Compute::Cpu, &rows, &mut cpu).unwrap();
        network.by_burn(&Device::flex(), &rows, &mut burn);
        let close = |found: &[f32]| {
            found.len() == cpu.len()
                && found.iter().zip(&cpu).all(|(a, b)| (a - b).abs() < TOLERANCE)
        };
        assert!(close(&burn), "burn on the CPU");
        let mut gpu = Vec::new();
        let scored =
            catch_unwind(AssertUnwindSafe(|| network.score(Compute::Gpu, &rows, &mut gpu)));
        match scored {
            Ok(Ok(())) => assert!(close(&gpu), "the GPU"),
            Ok(Err(problem)) => assert!(!cfg!(feature = "wgpu"), "{problem}"),
            Err(_) => assert!(std::env::var("CI").is_err(), "no adapter, not even one of software"),
        }
    }
}
