//! The network on a burn device, with gradients where they are asked for.

use burn::tensor::activation::{sigmoid, tanh};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::prefixes::{Prefixes, Sequences};
use super::{LstmInput, LstmShape, Matrix, Weights};
use crate::error::Result;

/// A network whose parameters are tensors.
#[derive(Clone, Debug)]
pub(super) struct Network {
    shape: LstmShape,
    /// In the order of [`LstmShape::matrices`].
    pub(super) parameters: Vec<Tensor<2>>,
}

impl Network {
    pub(super) fn new(weights: &Weights, device: &Device) -> Self {
        let tensor = |matrix: &Matrix| {
            let data = TensorData::new(matrix.values.clone(), [matrix.rows, matrix.columns]);
            Tensor::from_data(data, device)
        };
        Self { shape: weights.shape(), parameters: weights.matrices().iter().map(tensor).collect() }
    }

    /// The same network, whose parameters collect gradients.
    pub(super) fn tracked(&self) -> Self {
        let tracked = |tensor: &Tensor<2>| tensor.clone().autodiff().require_grad();
        Self { shape: self.shape, parameters: self.parameters.iter().map(tracked).collect() }
    }

    /// The parameters as weights.
    pub(super) fn weights(&self) -> Result<Weights> {
        let matrix = |tensor: &Tensor<2>| {
            let [rows, columns] = tensor.dims();
            Matrix { rows, columns, values: numbers(tensor.clone()) }
        };
        Weights::new(self.shape, self.parameters.iter().map(matrix).collect())
    }

    /// Outputs for each node that the sequences reach, and which these are.
    pub(super) fn forward(
        &self,
        sequences: Sequences<'_>,
        steps: usize,
        device: &Device,
    ) -> (Tensor<2>, Prefixes) {
        let LstmShape { layers, hidden, .. } = self.shape;
        let mut prefixes = Prefixes::default();
        prefixes.start(sequences, steps);
        let zeros = || Tensor::<2>::zeros([1, hidden], device);
        let mut states: Vec<[Tensor<2>; 2]> = (0..layers).map(|_| [zeros(), zeros()]).collect();
        for step in 0..steps {
            prefixes.advance(sequences, steps, step);
            let nodes = &prefixes.nodes;
            let parents = indexes(nodes.iter().map(|(parent, _)| *parent), device);
            let mut below = None;
            for (layer, state) in states.iter_mut().enumerate() {
                let [input, recurrent, bias] = [0, 1, 2].map(|i| &self.parameters[3 * layer + i]);
                let entered = match (below.take(), sequences) {
                    (Some(below), _) => Tensor::matmul(below, input.clone()),
                    (None, Sequences::Symbols(_)) => {
                        let last = self.shape.input.width() as u32 - 1;
                        let symbols = nodes.iter().map(|(_, symbol)| (*symbol).min(last));
                        input.clone().select(0, indexes(symbols, device))
                    }
                    (None, Sequences::Values(values, width)) => {
                        let rows = nodes.iter().map(|(_, row)| *row as usize * width);
                        let chosen: Vec<f32> =
                            rows.flat_map(|at| values[at..at + width].iter().copied()).collect();
                        let chosen = TensorData::new(chosen, [nodes.len(), width]);
                        Tensor::<2>::from_data(chosen, device).matmul(input.clone())
                    }
                };
                let [output, cell] = state.clone().map(|s| s.select(0, parents.clone()));
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
        let [weights, bias] = [0, 1].map(|i| &self.parameters[3 * layers + i]);
        let [top, _] = states.swap_remove(layers - 1);
        (top.matmul(weights.clone()) + bias.clone(), prefixes)
    }

    /// What the shape reads, with the numbers of `examples`.
    pub(super) fn sequences<'a>(&self, symbols: &'a [u32], values: &'a [f32]) -> Sequences<'a> {
        match self.shape.input {
            LstmInput::Symbols(_) => Sequences::Symbols(symbols),
            LstmInput::Values(width) => Sequences::Values(values, width),
        }
    }
}

/// The numbers of a tensor, row by row.
pub(super) fn numbers(tensor: Tensor<2>) -> Vec<f32> {
    let data = tensor.into_data();
    data.as_slice::<f32>().map(<[f32]>::to_vec).unwrap_or_default()
}

fn indexes(values: impl Iterator<Item = u32>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.map(|value| value as i32).collect();
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}
