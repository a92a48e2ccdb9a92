//! Scoring on the CPU: a batch of sequences, step by step, with as little arithmetic as the answer needs.
//!
//! * A one-hot input costs no product: it is a row of the input weights, to which the bias has been added beforehand.
//! * Sequences of a batch that begin alike share their steps up to where they part. Windows of logs share two thirds.
//! * Input and recurrent weights of a layer are one matrix, and products go over packed panels of it.
//!
//! The result is that of the plain definition, and a row's result does not depend on the rows beside it, to the bit.

#![expect(
    clippy::inline_always,
    reason = "loops get wide instructions only inside the function that asks for them"
)]

use pulp::Simd;

use super::prefixes::{Prefixes, Sequences};
use super::product::{Instructions, Kernel, Packed, sigmoid, tanh};
use super::{LstmInput, LstmShape, Matrix, Weights};

/// Sequences that go through the layers together; bounds the room for states.
const BATCH: usize = 8_192;
/// Rows whose gates are held at once: a multiple of the rows that pass over a panel together.
const TILE: usize = 96;

/// Scores sequences by one set of weights.
#[derive(Clone, Debug)]
pub struct Scorer {
    shape: LstmShape,
    instructions: Instructions,
    layers: Vec<Layer>,
    dense: Packed,
    dense_bias: Vec<f32>,
    scratch: Scratch,
}

#[derive(Clone, Debug)]
struct Layer {
    /// For symbols: a row of gates for each, bias included. Else the bias alone.
    gates: Matrix,
    /// Recurrent weights, below input weights where the input is not a symbol.
    weights: Packed,
    /// Length of an input row before the state.
    input: usize,
}

/// Room that is used again with each batch.
#[derive(Clone, Debug, Default)]
struct Scratch {
    prefixes: Prefixes,
    before: States,
    after: States,
    inputs: Vec<f32>,
    gates: Vec<f32>,
    below: Vec<f32>,
    logits: Vec<f32>,
}

/// Outputs and cells of all layers, one layer after the other, each with a row for each node.
#[derive(Clone, Debug, Default)]
struct States {
    rows: usize,
    outputs: Vec<f32>,
    cells: Vec<f32>,
}

impl States {
    fn reset(&mut self, rows: usize, shape: &LstmShape) {
        let wanted = shape.layers * rows * shape.hidden;
        self.rows = rows;
        self.outputs.clear();
        self.outputs.resize(wanted, 0.0);
        self.cells.clear();
        self.cells.resize(wanted, 0.0);
    }
}

impl Scorer {
    /// Makes weights ready for scoring.
    #[must_use]
    pub fn new(weights: &Weights) -> Self {
        Self::with_instructions(weights, Instructions::Widest)
    }

    /// The same with a choice of instructions; results differ within [`TOLERANCE`](super::TOLERANCE).
    #[must_use]
    pub fn with_instructions(weights: &Weights, instructions: Instructions) -> Self {
        let shape = weights.shape();
        let layers = (0..shape.layers).map(|index| {
            let [input, recurrent, bias] = weights.layer(index);
            match (index, shape.input) {
                (0, LstmInput::Symbols(_)) => {
                    let mut gates = input.clone();
                    for row in gates.values.chunks_exact_mut(gates.columns) {
                        row.iter_mut().zip(&bias.values).for_each(|(gate, bias)| *gate += bias);
                    }
                    Layer { gates, weights: Packed::new(&[recurrent]), input: 0 }
                }
                _ => Layer {
                    gates: bias.clone(),
                    weights: Packed::new(&[input, recurrent]),
                    input: input.rows,
                },
            }
        });
        let [dense, dense_bias] = weights.dense();
        Self {
            shape,
            instructions,
            layers: layers.collect(),
            dense: Packed::new(&[dense]),
            dense_bias: dense_bias.values.clone(),
            scratch: Scratch::default(),
        }
    }

    /// The shape of the network.
    #[must_use]
    pub fn shape(&self) -> LstmShape {
        self.shape
    }

    /// Bytes held, estimated.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let floats = |values: &Vec<f32>| values.capacity() * size_of::<f32>();
        let layers = self.layers.iter();
        layers.map(|layer| floats(&layer.gates.values) + layer.weights.heap_bytes()).sum::<usize>()
            + self.dense.heap_bytes()
            + [&self.scratch.before, &self.scratch.after]
                .iter()
                .map(|states| floats(&states.outputs) + floats(&states.cells))
                .sum::<usize>()
            + floats(&self.scratch.logits)
    }

    /// Appends the outputs (before softmax) of sequences of `steps` symbols each, one sequence after the other, to
    /// `out`. A symbol that the network does not have counts as its last one.
    ///
    /// # Panics
    /// If the network does not read symbols, `steps` is 0, or `symbols` is no whole number of sequences.
    pub fn score_symbols(&mut self, symbols: &[u32], steps: usize, out: &mut Vec<f32>) {
        assert!(matches!(self.shape.input, LstmInput::Symbols(_)), "the network reads symbols");
        assert!(steps > 0 && symbols.len().is_multiple_of(steps), "whole sequences");
        for symbols in symbols.chunks(BATCH * steps) {
            self.batch(Sequences::Symbols(symbols), steps, out);
        }
    }

    /// Appends the outputs of sequences of `steps` vectors each to `out`.
    ///
    /// # Panics
    /// If the network does not read values, `steps` is 0, or `values` is no whole number of sequences.
    pub fn score_values(&mut self, values: &[f32], steps: usize, out: &mut Vec<f32>) {
        let LstmInput::Values(width) = self.shape.input else { panic!("the network reads values") };
        assert!(steps > 0 && values.len().is_multiple_of(steps * width), "whole sequences");
        for values in values.chunks(BATCH * steps * width) {
            self.batch(Sequences::Values(values, width), steps, out);
        }
    }

    /// Appends what the dense layer reads after sequences of `steps` symbols each: the outputs of the last layer.
    ///
    /// # Panics
    /// As [`Scorer::score_symbols`].
    pub fn states_of_symbols(&mut self, symbols: &[u32], steps: usize, out: &mut Vec<f32>) {
        assert!(matches!(self.shape.input, LstmInput::Symbols(_)), "the network reads symbols");
        assert!(steps > 0 && symbols.len().is_multiple_of(steps), "whole sequences");
        for symbols in symbols.chunks(BATCH * steps) {
            self.pass(Sequences::Symbols(symbols), steps);
            self.append_states(out);
        }
    }

    /// The same after sequences of `steps` vectors each.
    ///
    /// # Panics
    /// As [`Scorer::score_values`].
    pub fn states_of_values(&mut self, values: &[f32], steps: usize, out: &mut Vec<f32>) {
        let LstmInput::Values(width) = self.shape.input else { panic!("the network reads values") };
        assert!(steps > 0 && values.len().is_multiple_of(steps * width), "whole sequences");
        for values in values.chunks(BATCH * steps * width) {
            self.pass(Sequences::Values(values, width), steps);
            self.append_states(out);
        }
    }

    fn append_states(&self, out: &mut Vec<f32>) {
        let Self { shape, scratch, .. } = self;
        let (first, width) = (out.len(), shape.hidden);
        out.resize(first + scratch.prefixes.reached().count() * width, 0.0);
        let top = (shape.layers - 1) * scratch.before.rows;
        for (row, node) in scratch.prefixes.reached() {
            out[first + row * width..][..width]
                .copy_from_slice(&scratch.before.outputs[(top + node) * width..][..width]);
        }
    }

    fn batch(&mut self, sequences: Sequences<'_>, steps: usize, out: &mut Vec<f32>) {
        self.pass(sequences, steps);
        let Self { shape, instructions, dense, dense_bias, scratch, .. } = self;
        instructions.run(DenseKernel { shape, dense, dense_bias, scratch });
        let (first, width, stride) = (out.len(), shape.outputs, dense.stride());
        out.resize(first + scratch.prefixes.reached().count() * width, 0.0);
        for (row, node) in scratch.prefixes.reached() {
            out[first + row * width..][..width]
                .copy_from_slice(&scratch.logits[node * stride..][..width]);
        }
    }

    /// Takes sequences through all layers.
    fn pass(&mut self, sequences: Sequences<'_>, steps: usize) {
        let Self { shape, instructions, layers, scratch, .. } = self;
        scratch.prefixes.start(sequences, steps);
        scratch.before.reset(1, shape);
        for step in 0..steps {
            scratch.prefixes.advance(sequences, steps, step);
            let kernel = StepKernel { shape, layers, sequences, scratch };
            instructions.run(kernel);
            std::mem::swap(&mut scratch.before, &mut scratch.after);
        }
    }
}

/// One step of all layers.
struct StepKernel<'a> {
    shape: &'a LstmShape,
    layers: &'a [Layer],
    sequences: Sequences<'a>,
    scratch: &'a mut Scratch,
}

impl Kernel for StepKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { shape, layers, sequences, scratch } = self;
        let Scratch { prefixes, before, after, inputs, gates, below, .. } = scratch;
        let nodes = &prefixes.nodes;
        let hidden = shape.hidden;
        after.reset(nodes.len(), shape);
        for (tile, nodes) in nodes.chunks(TILE).enumerate() {
            for (index, layer) in layers.iter().enumerate() {
                let (depth, stride) = (layer.weights.depth, layer.weights.stride());
                inputs.resize(nodes.len() * depth, 0.0);
                gates.resize(nodes.len() * stride, 0.0);
                let last = layer.gates.rows - 1;
                for (row, (parent, what)) in nodes.iter().enumerate() {
                    let what = *what as usize;
                    let (input, state) =
                        inputs[row * depth..(row + 1) * depth].split_at_mut(layer.input);
                    let start = match (index, sequences) {
                        (0, Sequences::Symbols(_)) => layer.gates.row(what.min(last)),
                        (0, Sequences::Values(values, _)) => {
                            input.copy_from_slice(&values[what * layer.input..][..layer.input]);
                            layer.gates.row(0)
                        }
                        _ => {
                            input.copy_from_slice(&below[row * hidden..][..hidden]);
                            layer.gates.row(0)
                        }
                    };
                    gates[row * stride..][..4 * hidden].copy_from_slice(start);
                    let parent = (index * before.rows + *parent as usize) * hidden;
                    state.copy_from_slice(&before.outputs[parent..][..hidden]);
                }
                layer.weights.add_product(simd, inputs, gates);
                below.resize(nodes.len() * hidden, 0.0);
                for (row, (parent, _)) in nodes.iter().enumerate() {
                    let parent = (index * before.rows + *parent as usize) * hidden;
                    let node = (index * after.rows + tile * TILE + row) * hidden;
                    let output = &mut after.outputs[node..][..hidden];
                    cells::<S>(
                        &gates[row * stride..][..4 * hidden],
                        &before.cells[parent..][..hidden],
                        &mut after.cells[node..][..hidden],
                        output,
                    );
                    below[row * hidden..][..hidden].copy_from_slice(output);
                }
            }
        }
    }
}

/// New cells and outputs of one row, from its gates.
#[inline(always)]
fn cells<S: Simd>(gates: &[f32], before: &[f32], after: &mut [f32], output: &mut [f32]) {
    let hidden = before.len();
    let (enter, rest) = gates.split_at(hidden);
    let (forget, rest) = rest.split_at(hidden);
    let (leave, candidate) = rest.split_at(hidden);
    let (after, output) = (&mut after[..hidden], &mut output[..hidden]);
    let candidate = &candidate[..hidden];
    for unit in 0..hidden {
        let kept = sigmoid::<S>(forget[unit]) * before[unit];
        let cell = kept + sigmoid::<S>(enter[unit]) * tanh::<S>(candidate[unit]);
        after[unit] = cell;
        output[unit] = sigmoid::<S>(leave[unit]) * tanh::<S>(cell);
    }
}

/// The dense layer over the states of the last step.
struct DenseKernel<'a> {
    shape: &'a LstmShape,
    dense: &'a Packed,
    dense_bias: &'a [f32],
    scratch: &'a mut Scratch,
}

impl Kernel for DenseKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { shape, dense, dense_bias, scratch } = self;
        let Scratch { before, logits, .. } = scratch;
        let (rows, stride) = (before.rows, dense.stride());
        logits.resize(rows * stride, 0.0);
        for row in logits.chunks_exact_mut(stride) {
            row[..shape.outputs].copy_from_slice(dense_bias);
        }
        let top = (shape.layers - 1) * rows * shape.hidden;
        dense.add_product(simd, &before.outputs[top..][..rows * shape.hidden], logits);
    }
}
