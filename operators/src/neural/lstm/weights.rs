//! Shape and weights of a network, and their bytes.
//!
//! The bytes are a [sealed snapshot](crate::model) under the word `lstm weights`: a version byte, the word, the
//! names of inputs, shape and matrices in postcard's form with exact floats, and a checksum.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::model::snapshot;

const OWNER: &str = "lstm weights";
/// The widest layer, and the most inputs and outputs: a bound on what a file may ask for.
const WIDTH_MAX: usize = 1 << 20;
/// The most layers.
const LAYERS_MAX: usize = 16;

/// What the first layer reads in each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LstmInput {
    /// One of so many symbols, as if one-hot: a row of the layer's input weights.
    Symbols(usize),
    /// So many numbers.
    Values(usize),
}

impl LstmInput {
    /// Rows of the first layer's input weights.
    #[must_use]
    pub fn width(self) -> usize {
        match self {
            Self::Symbols(width) | Self::Values(width) => width,
        }
    }
}

/// The shape of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LstmShape {
    /// What the first layer reads.
    pub input: LstmInput,
    /// Stacked LSTM layers, at least 1.
    pub layers: usize,
    /// Units of each layer (alpha in the paper).
    pub hidden: usize,
    /// Numbers that come out: logits, or a predicted vector.
    pub outputs: usize,
}

impl LstmShape {
    /// Rows and columns of every matrix: for each layer input weights, recurrent weights and bias, then weights and
    /// bias of the dense layer.
    #[must_use]
    pub fn matrices(&self) -> Vec<(usize, usize)> {
        let gates = 4 * self.hidden;
        let mut sizes = Vec::with_capacity(3 * self.layers + 2);
        for layer in 0..self.layers {
            let input = if layer == 0 { self.input.width() } else { self.hidden };
            sizes.extend([(input, gates), (self.hidden, gates), (1, gates)]);
        }
        sizes.extend([(self.hidden, self.outputs), (1, self.outputs)]);
        sizes
    }

    fn is_sound(&self) -> bool {
        let is_width = |width: usize| (1..=WIDTH_MAX).contains(&width);
        (1..=LAYERS_MAX).contains(&self.layers)
            && [self.input.width(), self.hidden, self.outputs].into_iter().all(is_width)
    }
}

/// A matrix, row by row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// `rows * columns` values.
    pub values: Vec<f32>,
}

impl Matrix {
    /// One row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }
}

/// The weights of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    shape: LstmShape,
    matrices: Vec<Matrix>,
}

impl Weights {
    /// Random weights, uniform within one over the root of the layer's width, as is usual; biases of forget gates at
    /// 1, so that a new network remembers. The same seed gives the same weights.
    #[must_use]
    pub fn random(shape: LstmShape, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let reach = 1.0 / (shape.hidden.max(1) as f32).sqrt();
        let mut matrices: Vec<Matrix> = shape
            .matrices()
            .into_iter()
            .map(|(rows, columns)| Matrix {
                rows,
                columns,
                values: (0..rows * columns).map(|_| random.uniform(reach)).collect(),
            })
            .collect();
        for layer in 0..shape.layers {
            let bias = &mut matrices[3 * layer + 2].values;
            bias[shape.hidden..2 * shape.hidden].fill(1.0);
        }
        Self { shape, matrices }
    }

    /// Weights of the given matrices, in the order of [`LstmShape::matrices`].
    ///
    /// # Errors
    /// If they are not of that shape, or hold what is not a finite number.
    pub fn new(shape: LstmShape, matrices: Vec<Matrix>) -> Result<Self> {
        let weights = Self { shape, matrices };
        weights.check()?;
        Ok(weights)
    }

    /// The shape.
    #[must_use]
    pub fn shape(&self) -> LstmShape {
        self.shape
    }

    /// All matrices, in the order of [`LstmShape::matrices`].
    #[must_use]
    pub fn matrices(&self) -> &[Matrix] {
        &self.matrices
    }

    /// The same, to change them.
    #[cfg(test)]
    pub(super) fn matrices_mut(&mut self) -> &mut [Matrix] {
        &mut self.matrices
    }

    /// Input weights, recurrent weights and bias of a layer.
    #[must_use]
    pub fn layer(&self, layer: usize) -> [&Matrix; 3] {
        let [input, recurrent, bias] = [0, 1, 2].map(|part| &self.matrices[3 * layer + part]);
        [input, recurrent, bias]
    }

    /// Weights and bias of the dense layer.
    #[must_use]
    pub fn dense(&self) -> [&Matrix; 2] {
        let last = self.matrices.len() - 1;
        [&self.matrices[last - 1], &self.matrices[last]]
    }

    /// The same, to change their values.
    pub(super) fn dense_mut(&mut self) -> Option<[&mut Matrix; 2]> {
        match &mut self.matrices[..] {
            [.., weights, bias] => Some([weights, bias]),
            _ => None,
        }
    }

    /// Adds symbols at the end of input and output (DL-14): a new input behaves like `like`, and a new output gets the
    /// mean weights and bias of those that were there, so that nothing has to be trained anew.
    pub fn grow(&mut self, symbols: usize, like: usize) {
        let LstmInput::Symbols(inputs) = self.shape.input else { return };
        let copied = self.matrices[0].row(like.min(inputs - 1)).to_vec();
        for _ in 0..symbols {
            self.matrices[0].values.extend_from_slice(&copied);
        }
        self.matrices[0].rows += symbols;
        let dense = self.matrices.len() - 2;
        for matrix in &mut self.matrices[dense..] {
            let (columns, wider) = (matrix.columns, matrix.columns + symbols);
            let mut values = Vec::with_capacity(matrix.rows * wider);
            for row in matrix.values.chunks_exact(columns) {
                values.extend_from_slice(row);
                let mean = row.iter().sum::<f32>() / columns as f32;
                values.resize(values.len() + symbols, mean);
            }
            (matrix.columns, matrix.values) = (wider, values);
        }
        self.shape.input = LstmInput::Symbols(inputs + symbols);
        self.shape.outputs += symbols;
    }

    /// Bytes held, estimated.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.matrices.iter().map(|matrix| matrix.values.capacity() * size_of::<f32>()).sum()
    }

    /// The weights with the names of what they read, such as a vocabulary, as bytes.
    ///
    /// # Errors
    /// If they cannot be written, which would be a bug.
    pub fn to_bytes(&self, names: &[String]) -> Result<Vec<u8>> {
        snapshot::seal(OWNER, &(names, self))
    }

    /// What [`Weights::to_bytes`] wrote.
    ///
    /// # Errors
    /// If the bytes are cut short, damaged, of another version or of something else, or if matrices and shape do not
    /// agree; and, where `expected` is given, if the network is of another shape. The error says which.
    pub fn from_bytes(bytes: &[u8], expected: Option<LstmShape>) -> Result<(Self, Vec<String>)> {
        let (names, weights): (Vec<String>, Self) = snapshot::open(OWNER, bytes)?;
        weights.check()?;
        match expected {
            Some(shape) if shape != weights.shape => {
                let problem = format!("are of shape {}, not {}", weights.shape, shape);
                Err(snapshot::problem(OWNER, problem))
            }
            _ => Ok((weights, names)),
        }
    }

    /// Whether everything fits together.
    pub(crate) fn check(&self) -> Result<()> {
        let fits = |(matrix, (rows, columns)): (&Matrix, (usize, usize))| {
            (matrix.rows, matrix.columns) == (rows, columns)
                && matrix.values.len() == rows * columns
                && matrix.values.iter().all(|value| value.is_finite())
        };
        let is_sound = self.shape.is_sound() && {
            let sizes = self.shape.matrices();
            sizes.len() == self.matrices.len() && self.matrices.iter().zip(sizes).all(fits)
        };
        match is_sound {
            true => Ok(()),
            false => Err(snapshot::problem(OWNER, "hold matrices that do not fit their shape")),
        }
    }
}

impl std::fmt::Display for LstmShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let input = match self.input {
            LstmInput::Symbols(width) => format!("{width} symbols"),
            LstmInput::Values(width) => format!("{width} values"),
        };
        let Self { layers, hidden, outputs, .. } = self;
        write!(f, "({input}, {layers} layers of {hidden}, {outputs} outputs)")
    }
}

/// Seeded random numbers (SplitMix64), for weights and the order of examples.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is above 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A number between `-reach` and `reach`.
    pub(crate) fn uniform(&mut self, reach: f32) -> f32 {
        let unit = (self.next() >> 40) as f32 / (1_u64 << 24) as f32;
        (2.0 * unit - 1.0) * reach
    }

    /// Another order of the items.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
