//! A network kept on a device for scoring: its weights are there once, and batches come in a few sizes only, so that the
//! device compiles its kernels once as well.

use burn::tensor::activation::{sigmoid, tanh};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::network::Network;
use super::{LstmInput, LstmShape, Weights};

/// Sizes of a batch; smaller ones are filled up.
const SIZES: [usize; 3] = [64, 512, 4_096];

/// What the first layer reads, step after step.
enum Entering {
    Symbols(Tensor<1, Int>),
    Values(Tensor<2>),
}

/// Weights on a device.
#[derive(Clone, Debug)]
pub(super) struct OnDevice {
    network: Network,
    shape: LstmShape,
    device: Device,
}

impl OnDevice {
    /// Brings weights to a device.
    pub(super) fn new(weights: &Weights, device: Device) -> Self {
        Self { network: Network::new(weights, &device), shape: weights.shape(), device }
    }

    /// Appends the outputs of rows, each of which holds `steps` symbols or vectors.
    pub(super) fn score(
        &self,
        rows: &[f32],
        steps: usize,
        out: &mut Vec<f32>,
    ) -> Result<(), String> {
        let width = match self.shape.input {
            LstmInput::Symbols(_) => 1,
            LstmInput::Values(width) => width,
        };
        let most = SIZES[SIZES.len() - 1];
        for rows in rows.chunks(most * steps * width) {
            let count = rows.len() / (steps * width);
            let size = SIZES.into_iter().find(|size| count <= *size).unwrap_or(most);
            // Step after step, where rows were one after the other; what fills up is zeros.
            let mut by_step = vec![0.0; steps * size * width];
            for (row, values) in rows.chunks_exact(steps * width).enumerate() {
                for (step, values) in values.chunks_exact(width).enumerate() {
                    by_step[(step * size + row) * width..][..width].copy_from_slice(values);
                }
            }
            let outputs = self.forward(by_step, size, steps, width);
            let data = outputs.try_into_data().map_err(|error| format!("{error:?}"))?;
            let found = data.as_slice::<f32>().map_err(|error| format!("{error:?}"))?;
            out.extend_from_slice(&found[..count * self.shape.outputs]);
        }
        Ok(())
    }

    /// Outputs of `size` rows.
    fn forward(&self, by_step: Vec<f32>, size: usize, steps: usize, width: usize) -> Tensor<2> {
        let LstmShape { layers, hidden, input, .. } = self.shape;
        let Self { network, device, .. } = self;
        let entering = match input {
            LstmInput::Symbols(inputs) => {
                let last = inputs as f32 - 1.0;
                let all: Vec<i32> = by_step.iter().map(|symbol| symbol.min(last) as i32).collect();
                let all = TensorData::new(all, [steps * size]);
                Entering::Symbols(Tensor::from_data(all, device))
            }
            LstmInput::Values(_) => {
                let all = TensorData::new(by_step, [steps * size, width]);
                Entering::Values(Tensor::from_data(all, device))
            }
        };
        let zeros = || Tensor::<2>::zeros([size, hidden], device);
        let mut states: Vec<[Tensor<2>; 2]> = (0..layers).map(|_| [zeros(), zeros()]).collect();
        for step in 0..steps {
            let mut below: Option<Tensor<2>> = None;
            for (layer, state) in states.iter_mut().enumerate() {
                let [input, recurrent, bias] =
                    [0, 1, 2].map(|part| &network.parameters[3 * layer + part]);
                let entered = match (below.take(), &entering) {
                    (Some(below), _) => below.matmul(input.clone()),
                    (None, Entering::Symbols(symbols)) => {
                        input.clone().select(0, symbols.clone().narrow(0, step * size, size))
                    }
                    (None, Entering::Values(values)) => {
                        values.clone().narrow(0, step * size, size).matmul(input.clone())
                    }
                };
                let [output, cell] = state.clone();
                let gates = entered + output.matmul(recurrent.clone()) + bias.clone();
                let open = sigmoid(gates.clone().narrow(1, 0, 3 * hidden));
                let candidate = tanh(gates.narrow(1, 3 * hidden, hidden));
                let [enter, forget, leave] =
                    [0, 1, 2].map(|gate| open.clone().narrow(1, gate * hidden, hidden));
                let cell = forget * cell + enter * candidate;
                let output = leave * tanh(cell.clone());
                below = Some(output.clone());
                *state = [output, cell];
            }
        }
        let [weights, bias] = [0, 1].map(|part| &network.parameters[3 * layers + part]);
        let [top, _] = states.swap_remove(layers - 1);
        top.matmul(weights.clone()) + bias.clone()
    }
}
