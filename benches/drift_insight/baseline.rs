//! The baselines of the specification: chance, largest and mean deviation, and what principal components cannot say.

use driftline::evaluate::random_scores;

use super::data::Component;
use super::judge::Said;

/// Added to each standard deviation, so that a metric that was constant in training says much, but not everything.
const DEVIATION_FLOOR: f64 = 1e-3;

/// Share of the variance that the principal components keep.
const VARIANCE_KEPT: f64 = 0.9;

/// A method's name, what it says of the test part, and what each metric adds to the scores.
pub(crate) struct Baseline {
    pub(crate) name: &'static str,
    pub(crate) said: Said,
    /// Per row of the test part; empty where metrics play no part.
    pub(crate) shares: Vec<Vec<f64>>,
}

/// All baselines over one component. Each one's own threshold is its highest score on the training part.
pub(crate) fn baselines(component: &Component, seed: u64) -> Vec<Baseline> {
    let scaler = Scaler::fit(component.train());
    let deviations: Vec<Vec<f64>> = component.rows.iter().map(|row| scaler.apply(row)).collect();
    let components = principal(&deviations[..component.train_rows]);
    let sizes: Vec<Vec<f64>> =
        deviations.iter().map(|row| row.iter().map(|z| z.abs()).collect()).collect();
    let residuals: Vec<Vec<f64>> =
        deviations.iter().map(|row| residual(row, &components)).collect();
    let largest = |row: &Vec<f64>| row.iter().copied().fold(0.0, f64::max);
    let sum = |row: &Vec<f64>| row.iter().sum::<f64>();
    let scored = |rows: &[Vec<f64>], score: &dyn Fn(&Vec<f64>) -> f64| -> Vec<f64> {
        rows.iter().map(score).collect()
    };
    let width = component.rows[0].len() as f64;
    let methods = [
        ("random", random_scores(component.rows.len(), seed), Vec::new()),
        ("max|z|", scored(&sizes, &largest), sizes.clone()),
        ("mean|z|", scored(&sizes, &|row| sum(row) / width), sizes.clone()),
        ("PCA 90 %", scored(&residuals, &sum), residuals.clone()),
    ];
    methods.map(|(name, scores, shares)| split(component.train_rows, name, &scores, &shares)).into()
}

fn split(train_rows: usize, name: &'static str, scores: &[f64], shares: &[Vec<f64>]) -> Baseline {
    let (train, test) = scores.split_at(train_rows);
    let threshold = train.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let raised = test.iter().map(|score| *score > threshold).collect();
    let shares = shares.get(train_rows..).unwrap_or_default().to_vec();
    Baseline { name, said: Said { scores: test.to_vec(), raised }, shares }
}

/// Means and standard deviations of the training part.
struct Scaler(Vec<(f64, f64)>);

impl Scaler {
    fn fit(rows: &[Vec<f64>]) -> Self {
        let metric = |metric: usize| {
            let present = || rows.iter().map(|row| row[metric]).filter(|x| !x.is_nan());
            let count = present().count().max(1) as f64;
            let mean = present().sum::<f64>() / count;
            let variance = present().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            (mean, variance.sqrt())
        };
        Self((0..rows[0].len()).map(metric).collect())
    }

    /// A missing value deviates by nothing.
    fn apply(&self, row: &[f64]) -> Vec<f64> {
        let z = |(x, (mean, deviation)): (&f64, &(f64, f64))| {
            if x.is_nan() { 0.0 } else { (x - mean) / (deviation + DEVIATION_FLOOR) }
        };
        row.iter().zip(&self.0).map(z).collect()
    }
}

/// The fewest directions that hold [`VARIANCE_KEPT`] of the variance, by falling variance.
fn principal(rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let width = rows[0].len();
    let mut covariance = vec![vec![0.0; width]; width];
    for row in rows {
        for i in 0..width {
            for j in 0..width {
                covariance[i][j] += row[i] * row[j] / rows.len() as f64;
            }
        }
    }
    let mut found = eigen(covariance);
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let all: f64 = found.iter().map(|(variance, _)| variance).sum();
    let mut kept = 0.0;
    let mut components = Vec::new();
    for (variance, component) in found {
        if kept >= VARIANCE_KEPT * all {
            break;
        }
        kept += variance;
        components.push(component);
    }
    components
}

/// Squared differences between a row and its projection onto the components, metric by metric.
fn residual(row: &[f64], components: &[Vec<f64>]) -> Vec<f64> {
    let mut left = row.to_vec();
    for component in components {
        let along: f64 = row.iter().zip(component).map(|(x, c)| x * c).sum();
        left.iter_mut().zip(component).for_each(|(x, c)| *x -= along * c);
    }
    left.iter().map(|x| x * x).collect()
}

/// Eigenvalues and eigenvectors of a symmetric matrix, by Jacobi's rotations.
fn eigen(mut matrix: Vec<Vec<f64>>) -> Vec<(f64, Vec<f64>)> {
    const SWEEPS_MAX: usize = 100;
    let width = matrix.len();
    let mut vectors: Vec<Vec<f64>> =
        (0..width).map(|i| (0..width).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for _ in 0..SWEEPS_MAX {
        let off: f64 = (0..width)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| matrix[i][j].powi(2))
            .sum();
        if off < 1e-20 {
            break;
        }
        for i in 0..width {
            for j in i + 1..width {
                rotate(&mut matrix, &mut vectors, i, j);
            }
        }
    }
    (0..width).map(|i| (matrix[i][i], vectors.iter().map(|row| row[i]).collect())).collect()
}

/// One rotation in the plane of `i` and `j`, after which their entry is 0.
fn rotate(matrix: &mut [Vec<f64>], vectors: &mut [Vec<f64>], i: usize, j: usize) {
    if matrix[i][j].abs() < 1e-300 {
        return;
    }
    let half = (matrix[j][j] - matrix[i][i]) / (2.0 * matrix[i][j]);
    let tangent = half.signum() / (half.abs() + half.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    let turn = |a: f64, b: f64| (cosine * a - sine * b, sine * a + cosine * b);
    for row in &mut *matrix {
        (row[i], row[j]) = turn(row[i], row[j]);
    }
    let Ok([upper, lower]) = matrix.get_disjoint_mut([i, j]) else { return };
    for (a, b) in upper.iter_mut().zip(lower) {
        (*a, *b) = turn(*a, *b);
    }
    for row in vectors {
        (row[i], row[j]) = turn(row[i], row[j]);
    }
}
