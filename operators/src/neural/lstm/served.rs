//! A network of LSTM layers as the inference service scores it.

use std::sync::Mutex;

use super::on_device::OnDevice;
use super::{LstmInput, LstmShape, Scorer, Weights};
use crate::inference::{Compute, Network};
use crate::neural::gpu;
use crate::sync::lock;

/// One version of a network, over sequences of so many steps.
///
/// A row holds the symbols of a sequence, as whole numbers, or its vectors, one after the other. Outputs are before
/// softmax, and those of a GPU lie within [`TOLERANCE`](super::TOLERANCE) of those of the CPU.
#[derive(Debug)]
pub struct ServedLstm {
    weights: Weights,
    steps: usize,
    /// Made when the first rows are to be scored on the CPU.
    scorer: Mutex<Option<Scorer>>,
    /// Brought to the GPU with the first rows.
    on_gpu: Mutex<Option<OnDevice>>,
}

impl ServedLstm {
    /// Makes weights ready to be served.
    #[must_use]
    pub fn new(weights: Weights, steps: usize) -> Self {
        Self { weights, steps: steps.max(1), scorer: Mutex::default(), on_gpu: Mutex::default() }
    }

    /// The shape of the network.
    #[must_use]
    pub fn shape(&self) -> LstmShape {
        self.weights.shape()
    }

    /// Bytes held on the CPU, estimated.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.weights.heap_bytes() + lock(&self.scorer).as_ref().map_or(0, Scorer::heap_bytes)
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
        match on {
            Compute::Cpu => {
                let mut scorer = lock(&self.scorer);
                let scorer = scorer.get_or_insert_with(|| Scorer::new(&self.weights));
                match self.shape().input {
                    LstmInput::Symbols(_) => {
                        let symbols: Vec<u32> = rows.iter().map(|x| *x as u32).collect();
                        scorer.score_symbols(&symbols, self.steps, out);
                    }
                    LstmInput::Values(_) => scorer.score_values(rows, self.steps, out),
                }
                Ok(())
            }
            Compute::Gpu => {
                let mut on_gpu = lock(&self.on_gpu);
                let network = match &mut *on_gpu {
                    Some(network) => network,
                    empty => empty.insert(OnDevice::new(&self.weights, gpu::device()?)),
                };
                network.score(rows, self.steps, out)
            }
        }
    }
}
