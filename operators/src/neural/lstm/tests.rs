//! Proofs about the network: the scorer and burn give what the definition says, gradients are those of finite
//! differences, weights equal repetitions, and bytes are refused by name.

mod bytes;
mod gpu;
mod learning;
mod outputs;

use super::*;
use crate::neural::lstm::weights::Random;

/// The definition, in 64 bits and one sequence at a time: what everything else is compared with.
pub(super) fn definition(weights: &Weights, inputs: &[Vec<f64>]) -> Vec<f64> {
    let shape = weights.shape();
    let hidden = shape.hidden;
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let product = |x: &[f64], matrix: &Matrix, column: usize| -> f64 {
        x.iter().enumerate().map(|(k, x)| x * f64::from(matrix.row(k)[column])).sum()
    };
    let mut outputs = vec![vec![0.0; hidden]; shape.layers];
    let mut cells = outputs.clone();
    for input in inputs {
        let mut x = input.clone();
        for layer in 0..shape.layers {
            let [entering, recurrent, bias] = weights.layer(layer);
            let gates: Vec<f64> = (0..4 * hidden)
                .map(|gate| {
                    f64::from(bias.values[gate])
                        + product(&x, entering, gate)
                        + product(&outputs[layer], recurrent, gate)
                })
                .collect();
            for unit in 0..hidden {
                let [enter, forget, leave] = [0, 1, 2].map(|g| sigmoid(gates[g * hidden + unit]));
                let candidate = gates[3 * hidden + unit].tanh();
                cells[layer][unit] = forget * cells[layer][unit] + enter * candidate;
                outputs[layer][unit] = leave * cells[layer][unit].tanh();
            }
            x.clone_from(&outputs[layer]);
        }
    }
    let [dense, bias] = weights.dense();
    let top = &outputs[shape.layers - 1];
    (0..shape.outputs).map(|o| f64::from(bias.values[o]) + product(top, dense, o)).collect()
}

pub(super) fn one_hot(symbol: u32, width: usize) -> Vec<f64> {
    (0..width).map(|i| f64::from(u8::from(i == symbol as usize))).collect()
}

pub(super) fn symbols_shape(symbols: usize, layers: usize, hidden: usize) -> LstmShape {
    LstmShape { input: LstmInput::Symbols(symbols), layers, hidden, outputs: symbols - 1 }
}

/// Sequences many of which begin alike.
pub(super) fn histories(rows: usize, steps: usize, symbols: usize, seed: u64) -> Vec<u32> {
    let mut random = Random::new(seed);
    let mut out = Vec::new();
    for _ in 0..rows {
        let same = random.below(steps + 1);
        for step in 0..steps {
            let symbol = if step < same { step % symbols } else { random.below(symbols) };
            out.push(symbol as u32);
        }
    }
    out
}
