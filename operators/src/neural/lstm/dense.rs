//! Learning on in the dense layer alone, so that a few new sequences are learned and all others stay as they were.
//!
//! A step raises one output after one sequence. Of all changes of the layer that do so, it takes the one that changes
//! the output least, in the mean square, after the sequences that are replayed: the gradient of the output, in the
//! metric of the second moments of replayed states. With x the state and a 1 for the bias, S the mean of x x' over what
//! is replayed, and r the rise, the weights of the output change by r S⁻¹x / (x' S⁻¹x).
//!
//! Layers below stay, so that nothing has to be taken through them again; optimizers that begin anew would move every
//! weight by a full step, whether it matters or not.

use super::Weights;
use crate::error::{OperatorError, Result};

/// The share of the mean second moment that every direction has at least: directions that replay never took are free,
/// but not infinitely so.
const RIDGE: f64 = 1e-3;

/// A dense layer that learns.
#[derive(Clone, Debug)]
pub struct DenseLearner {
    /// Numbers of a state, and the bias.
    width: usize,
    outputs: usize,
    /// Weights and bias of each output, one output after the other.
    columns: Vec<f64>,
    /// The Cholesky factor of the second moments: its lower triangle, row by row.
    factor: Vec<f64>,
}

impl DenseLearner {
    /// For the dense layer of `weights`, with the states of replayed sequences, one after the other, and how much each
    /// counts.
    ///
    /// # Errors
    /// If states and counts are not equally many, or not finite numbers.
    pub fn new(weights: &Weights, states: &[f32], counts: &[f64]) -> Result<Self> {
        let (hidden, outputs) = (weights.shape().hidden, weights.shape().outputs);
        let width = hidden + 1;
        let total: f64 = counts.iter().sum();
        if states.len() != counts.len() * hidden || !total.is_finite() {
            return Err(problem("was given other counts than states"));
        }
        let [dense, bias] = weights.dense();
        let mut columns = vec![0.0; outputs * width];
        for (output, column) in columns.chunks_exact_mut(width).enumerate() {
            for (unit, weight) in column[..hidden].iter_mut().enumerate() {
                *weight = f64::from(dense.row(unit)[output]);
            }
            column[hidden] = f64::from(bias.values[output]);
        }
        let mut moments = vec![0.0; width * width];
        let mut x = vec![1.0; width];
        for (state, count) in states.chunks_exact(hidden).zip(counts) {
            x.iter_mut().zip(state).for_each(|(x, state)| *x = f64::from(*state));
            for (row, a) in moments.chunks_exact_mut(width).zip(&x) {
                let scaled = a * count / total;
                row.iter_mut().zip(&x).for_each(|(moment, b)| *moment += scaled * b);
            }
        }
        let mean = (0..width).map(|i| moments[i * width + i]).sum::<f64>() / width as f64;
        let ridge = if mean > 0.0 { RIDGE * mean } else { 1.0 };
        (0..width).for_each(|i| moments[i * width + i] += ridge);
        let factor = cholesky(moments, width).ok_or_else(|| problem("was given no numbers"))?;
        Ok(Self { width, outputs, columns, factor })
    }

    /// Outputs after a state, before softmax, into `out`.
    pub fn outputs(&self, state: &[f32], out: &mut Vec<f64>) {
        out.clear();
        out.extend(self.columns.chunks_exact(self.width).map(|column| {
            let products = column.iter().zip(state).map(|(weight, x)| weight * f64::from(*x));
            products.sum::<f64>() + column[self.width - 1]
        }));
    }

    /// Raises an output after a state by so much.
    pub fn raise(&mut self, state: &[f32], output: usize, by: f64) {
        let width = self.width;
        let mut x: Vec<f64> = state.iter().map(|x| f64::from(*x)).chain([1.0]).collect();
        if x.len() != width || output >= self.outputs {
            return;
        }
        let entered = x.clone();
        // Forward, then backward substitution.
        for row in 0..width {
            let known: f64 = (0..row).map(|i| self.factor[row * width + i] * x[i]).sum();
            x[row] = (x[row] - known) / self.factor[row * width + row];
        }
        for row in (0..width).rev() {
            let known: f64 = (row + 1..width).map(|i| self.factor[i * width + row] * x[i]).sum();
            x[row] = (x[row] - known) / self.factor[row * width + row];
        }
        let reach: f64 = x.iter().zip(&entered).map(|(a, b)| a * b).sum();
        let share = by / reach;
        if share.is_finite() {
            let column = &mut self.columns[output * width..(output + 1) * width];
            column.iter_mut().zip(&x).for_each(|(weight, x)| *weight += share * x);
        }
    }

    /// Moves the bias of an output.
    pub fn shift(&mut self, output: usize, by: f64) {
        if output < self.outputs {
            self.columns[(output + 1) * self.width - 1] += by;
        }
    }

    /// Writes what was learned into the weights that it was made from.
    ///
    /// # Errors
    /// If numbers have ceased to be finite.
    pub fn write(&self, weights: &mut Weights) -> Result<()> {
        let is_sound = self.columns.iter().all(|weight| (*weight as f32).is_finite());
        let (width, outputs) = (self.width, self.outputs);
        match weights.dense_mut() {
            Some([dense, bias])
                if is_sound && dense.columns == outputs && dense.rows + 1 == width =>
            {
                for (output, column) in self.columns.chunks_exact(width).enumerate() {
                    for (unit, weight) in column[..width - 1].iter().enumerate() {
                        dense.values[unit * outputs + output] = *weight as f32;
                    }
                    bias.values[output] = column[width - 1] as f32;
                }
                Ok(())
            }
            _ => Err(problem("came to numbers that are not finite")),
        }
    }
}

fn problem(what: &str) -> OperatorError {
    OperatorError::evaluation("learning in the dense layer", format!("it {what}"))
}

/// The lower triangle L of a symmetric positive definite matrix L L'; `None` if it is not.
fn cholesky(mut matrix: Vec<f64>, width: usize) -> Option<Vec<f64>> {
    for row in 0..width {
        for column in 0..=row {
            let known: f64 =
                (0..column).map(|i| matrix[row * width + i] * matrix[column * width + i]).sum();
            let rest = matrix[row * width + column] - known;
            matrix[row * width + column] = if row == column {
                if !(rest > 0.0 && rest.is_finite()) {
                    return None;
                }
                rest.sqrt()
            } else {
                rest / matrix[column * width + column]
            };
        }
    }
    Some(matrix)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{histories, symbols_shape};
    use super::super::{Scorer, Weights};
    use super::*;

    /// DL-13: what is raised is raised by just so much, in the weights as well, and the rest moves least.
    #[test]
    fn one_output_rises_and_replay_hardly_moves() {
        let weights = Weights::random(symbols_shape(9, 2, 16), 3);
        let replay = histories(300, 5, 9, 4);
        let mut scorer = Scorer::new(&weights);
        let mut states = Vec::new();
        scorer.states_of_symbols(&replay, 5, &mut states);
        let mut learner = DenseLearner::new(&weights, &states, &[1.0; 300]).unwrap();
        let (mut by_scorer, mut outputs) = (Vec::new(), Vec::new());
        scorer.score_symbols(&replay, 5, &mut by_scorer);
        for (state, scored) in states.chunks(16).zip(by_scorer.chunks(8)) {
            learner.outputs(state, &mut outputs);
            assert!(outputs.iter().zip(scored).all(|(a, b)| (a - f64::from(*b)).abs() < 1e-4));
        }
        let fresh = [8, 8, 0, 8, 8];
        let mut state = Vec::new();
        scorer.states_of_symbols(&fresh, 5, &mut state);
        learner.raise(&state, 3, 2.0);
        let mut learned = weights.clone();
        learner.write(&mut learned).unwrap();
        let scored = |weights: &Weights, symbols: &[u32]| {
            let mut out = Vec::new();
            Scorer::new(weights).score_symbols(symbols, 5, &mut out);
            out
        };
        let (before, after) = (scored(&weights, &fresh), scored(&learned, &fresh));
        for (output, (before, after)) in before.iter().zip(&after).enumerate() {
            let rise = if output == 3 { 2.0 } else { 0.0 };
            assert!((after - before - rise).abs() < 1e-4, "output {output}: {before} to {after}");
        }
        let squares =
            |changes: &mut dyn Iterator<Item = f32>| -> f32 { changes.map(|x| x * x).sum() };
        let ours = scored(&learned, &replay);
        let ours = squares(&mut ours.iter().zip(&by_scorer).map(|(a, b)| a - b));
        // The plain gradient that raises the output as much moves the rest further.
        let reach: f32 = state.iter().map(|x| x * x).sum::<f32>() + 1.0;
        let plain = states.chunks(16).map(|other| {
            let product: f32 = other.iter().zip(&state).map(|(a, b)| a * b).sum();
            2.0 * (product + 1.0) / reach
        });
        let plain = squares(&mut plain.into_iter());
        assert!(ours < 0.9 * plain, "{ours} against {plain}");
    }

    #[test]
    fn what_does_not_fit_is_refused_or_left_alone() {
        let weights = Weights::random(symbols_shape(4, 1, 3), 3);
        assert!(DenseLearner::new(&weights, &[0.5; 6], &[1.0; 3]).is_err());
        assert!(DenseLearner::new(&weights, &[f32::NAN; 3], &[1.0]).is_err());
        let mut learner = DenseLearner::new(&weights, &[], &[]).unwrap();
        learner.raise(&[0.5; 2], 0, 1.0);
        learner.raise(&[0.5; 3], 9, 1.0);
        let mut same = weights.clone();
        learner.write(&mut same).unwrap();
        assert_eq!(same, weights);
        learner.raise(&[0.5; 3], 0, f64::INFINITY);
        learner.shift(1, f64::NAN);
        assert!(learner.write(&mut same).is_err());
    }
}
