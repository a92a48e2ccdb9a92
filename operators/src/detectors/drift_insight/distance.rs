//! Squared Euclidean distances between points in z-scores, in blocks that fit the nearest cache.
//!
//! Coordinates lie by metric, not by point: the inner loop then runs over points, which the compiler turns into vector
//! instructions. No matrix of distances is ever kept, so that memory stays at one row of it whatever the number of points.

use super::scale::Axis;

/// Points whose distances are summed at a time.
pub(super) const BLOCK: usize = 256;

/// Points in time order, by their metrics that are not flat.
#[derive(Debug)]
pub(super) struct Points {
    len: usize,
    columns: Vec<Vec<f32>>,
}

impl Points {
    /// Turns the columns of a batch into z-scores.
    pub(super) fn new<'a>(
        len: usize,
        columns: impl Iterator<Item = &'a [f32]>,
        axes: &[Axis],
    ) -> Self {
        let spread = columns.zip(axes).filter(|(_, axis)| !axis.is_flat());
        let columns = spread
            .map(|(column, axis)| column.iter().map(|value| axis.z(*value)).collect())
            .collect();
        Self { len, columns }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Squared distances of point `i` to the first `out.len()` points.
    pub(super) fn squares(&self, i: usize, out: &mut [f32]) {
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            out.fill(0.0);
            let start = block * BLOCK;
            let columns = self.columns.iter().map(|column| (&column[start..], column[i]));
            add_squares(out, columns, |_, value| value);
        }
    }
}

/// Adds the squared differences between columns and a value each. `z` turns the values of the column that it is told the
/// number of.
///
/// Four columns at a time, so that sums are loaded and stored a fourth as often. The order of additions is the same for
/// all callers, and so are their sums.
pub(super) fn add_squares<'a>(
    sums: &mut [f32],
    mut columns: impl Iterator<Item = (&'a [f32], f32)>,
    z: impl Fn(usize, f32) -> f32,
) {
    let len = sums.len();
    let mut number = 0;
    let square = |number: usize, value: f32, x: f32| {
        let difference = z(number, value) - x;
        difference * difference
    };
    loop {
        match [columns.next(), columns.next(), columns.next(), columns.next()] {
            [Some((one, x1)), Some((two, x2)), Some((three, x3)), Some((four, x4))] => {
                // Slices of one length each: without this the compiler checks every index and uses no vectors.
                let (one, two, three, four) =
                    (&one[..len], &two[..len], &three[..len], &four[..len]);
                for i in 0..len {
                    let low = square(number, one[i], x1) + square(number + 1, two[i], x2);
                    let high = square(number + 2, three[i], x3) + square(number + 3, four[i], x4);
                    sums[i] += low + high;
                }
            }
            rest => {
                for (column, x) in rest.into_iter().flatten() {
                    for (sum, value) in sums.iter_mut().zip(column) {
                        *sum += square(number, *value, x);
                    }
                    number += 1;
                }
                return;
            }
        }
        number += 4;
    }
}

#[cfg(test)]
impl Points {
    /// Points given by rows of coordinates, taken as they are.
    pub(super) fn from_rows(rows: &[Vec<f32>]) -> Self {
        let metrics = rows.first().map_or(0, Vec::len);
        let column = |metric: usize| rows.iter().map(|row| row[metric]).collect();
        Self { len: rows.len(), columns: (0..metrics).map(column).collect() }
    }
}
