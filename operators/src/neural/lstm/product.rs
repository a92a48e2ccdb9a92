//! Small matrix products with the widest instructions that the processor has.
//!
//! Weights are packed into panels of [`WIDTH`] columns, so that a panel of a 128-row matrix stays in the first cache
//! while many rows of input pass over it. Each sum is formed in the order of the rows of the weights, whatever stands
//! beside it: a result depends on its own row alone.

#![expect(
    clippy::inline_always,
    reason = "loops get wide instructions only inside the function that asks for them"
)]

use pulp::{Arch, Scalar, Simd, WithSimd};

/// Columns of a panel.
pub(super) const WIDTH: usize = 16;
/// Rows of input that pass over a panel together.
const TOGETHER: usize = 12;

/// Weights in panels.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    /// Rows of the weights, which is the length of an input row.
    pub(super) depth: usize,
    /// Columns, without padding.
    pub(super) columns: usize,
    panels: Vec<[f32; WIDTH]>,
}

impl Packed {
    /// Packs matrices of equal width, one above the other.
    pub(super) fn new(parts: &[&super::Matrix]) -> Self {
        let depth = parts.iter().map(|part| part.rows).sum();
        let columns = parts.first().map_or(0, |part| part.columns);
        let mut panels = Vec::with_capacity(columns.div_ceil(WIDTH) * depth);
        for start in (0..columns).step_by(WIDTH) {
            let end = (start + WIDTH).min(columns);
            for part in parts {
                for row in 0..part.rows {
                    let mut packed = [0.0; WIDTH];
                    packed[..end - start].copy_from_slice(&part.row(row)[start..end]);
                    panels.push(packed);
                }
            }
        }
        Self { depth, columns, panels }
    }

    /// Columns with padding: the length of an output row.
    pub(super) fn stride(&self) -> usize {
        self.columns.div_ceil(WIDTH) * WIDTH
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.panels.capacity() * size_of::<[f32; WIDTH]>()
    }

    /// Adds the product of `input` (rows of `depth` numbers) and the weights to `output` (rows of `stride` numbers).
    #[inline(always)]
    pub(super) fn add_product<S: Simd>(&self, simd: S, input: &[f32], output: &mut [f32]) {
        let stride = self.stride();
        for (panel, weights) in self.panels.chunks_exact(self.depth).enumerate() {
            let column = panel * WIDTH;
            let mut rows = input.chunks_exact(TOGETHER * self.depth);
            let mut outputs = output.chunks_exact_mut(TOGETHER * stride);
            for (input, output) in rows.by_ref().zip(outputs.by_ref()) {
                together::<S, TOGETHER>(simd, input, weights, output, stride, column);
            }
            // A single row at a time would wait for each sum, so that the rest goes by fours first.
            let mut rows = rows.remainder().chunks_exact(4 * self.depth);
            let mut outputs = outputs.into_remainder().chunks_exact_mut(4 * stride);
            for (input, output) in rows.by_ref().zip(outputs.by_ref()) {
                together::<S, 4>(simd, input, weights, output, stride, column);
            }
            let rest = rows.remainder().chunks_exact(self.depth);
            for (input, output) in rest.zip(outputs.into_remainder().chunks_exact_mut(stride)) {
                together::<S, 1>(simd, input, weights, output, stride, column);
            }
        }
    }
}

/// The product of `ROWS` rows and one panel.
#[inline(always)]
fn together<S: Simd, const ROWS: usize>(
    simd: S,
    input: &[f32],
    weights: &[[f32; WIDTH]],
    output: &mut [f32],
    stride: usize,
    column: usize,
) {
    let depth = weights.len();
    let inputs: [&[f32]; ROWS] = std::array::from_fn(|row| &input[row * depth..][..depth]);
    for vector in 0..WIDTH / S::F32_LANES {
        let at = column + vector * S::F32_LANES;
        let mut sums = [simd.splat_f32s(0.0); ROWS];
        for row in 0..ROWS {
            let (before, _) = S::as_simd_f32s(&output[row * stride + at..][..S::F32_LANES]);
            sums[row] = before[0];
        }
        for k in 0..depth {
            let (weights, _) = S::as_simd_f32s(&weights[k]);
            let weights = weights[vector];
            for row in 0..ROWS {
                let factor = simd.splat_f32s(inputs[row][k]);
                sums[row] = simd.mul_add_e_f32s(factor, weights, sums[row]);
            }
        }
        for row in 0..ROWS {
            let place = &mut output[row * stride + at..][..S::F32_LANES];
            let (after, _) = S::as_mut_simd_f32s(place);
            after[0] = sums[row];
        }
    }
}

/// A loop that is compiled once for plain instructions and once for each set of wide ones.
pub(super) trait Kernel {
    /// What it gives.
    type Output;
    /// Runs it. Everything inside must be inlined to profit.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

struct Dispatched<K>(K);

impl<K: Kernel> WithSimd for Dispatched<K> {
    type Output = K::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> K::Output {
        self.0.run(simd)
    }
}

/// Which instructions to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instructions {
    /// The widest that the processor has.
    #[default]
    Widest,
    /// Those that every processor of the architecture has.
    Plain,
}

impl Instructions {
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Self::Widest => Arch::new().dispatch(Dispatched(kernel)),
            Self::Plain => kernel.run(Scalar),
        }
    }
}

/// The hyperbolic tangent within 4e-7: a quotient of polynomials, which loops over arrays turn into wide instructions.
#[inline(always)]
pub(super) fn tanh<S: Simd>(x: f32) -> f32 {
    #[inline(always)]
    fn step<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
        // Fused where that is one instruction.
        if S::IS_SCALAR { a * b + c } else { a.mul_add(b, c) }
    }
    // Beyond this the quotient is 1 within the precision of a float.
    let x = x.clamp(-7.905_311, 7.905_311);
    let square = x * x;
    let mut upper = -2.760_768_5e-16;
    for coefficient in [
        2.000_188e-13,
        -8.604_672e-11,
        5.122_297e-8,
        1.485_722_4e-5,
        6.372_619_4e-4,
        4.893_524_6e-3,
    ] {
        upper = step::<S>(upper, square, coefficient);
    }
    let mut lower = 1.198_258_4e-6;
    for coefficient in [1.185_347_1e-4, 2.268_434_6e-3, 4.893_525_3e-3] {
        lower = step::<S>(lower, square, coefficient);
    }
    x * upper / lower
}

/// The logistic function, by way of [`tanh`].
#[inline(always)]
pub(super) fn sigmoid<S: Simd>(x: f32) -> f32 {
    0.5 * tanh::<S>(0.5 * x) + 0.5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tanh_is_close_and_saturates() {
        for i in -2_000..=2_000_i16 {
            let x = f32::from(i) / 100.0;
            let (found, expected) = (tanh::<Scalar>(x), f64::from(x).tanh());
            assert!((f64::from(found) - expected).abs() < 4e-7, "tanh({x}) = {found}");
        }
        for x in [f32::INFINITY, 1e30] {
            assert!((tanh::<Scalar>(x) - 1.0).abs() < 4e-7);
            assert!((tanh::<Scalar>(-x) + 1.0).abs() < 4e-7);
        }
    }
}
