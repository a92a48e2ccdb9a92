//! Parameters of the clustering from the data: how many neighbours make a core point, and within what radius (DI-04).
//!
//! For each point the distance to its `min_points`-th nearest point, itself the first, says how lonely it is. Sorted,
//! these distances are a curve that is low and flat for points inside of clusters and steep for those outside; eps is
//! where it bends, the point farthest below the chord from its first to its last point.

use super::distance::Points;

/// The least eps, per square root of a metric.
const RADIUS_FLOOR: f32 = 0.05;
/// The largest eps, as a share of the points whose distances are below it.
const RADIUS_CEILING: f64 = 0.99;
/// Up to so many neighbours a list kept in order is faster than a selection.
const LIST_MAX: usize = 64;

/// How many points within eps make a core point: more than metrics, at least 4, and not above 5 % of the points.
pub(super) fn min_points(metrics: usize, len: usize) -> usize {
    (metrics + 1).max(4).min((len / 20).max(2))
}

/// Squared distances of all points to their `k`-th nearest, themselves counted.
pub(super) fn squared_distances(points: &Points, k: usize) -> Vec<f32> {
    let k = k.clamp(1, points.len().max(1));
    let mut squares = vec![0.0; points.len()];
    let mut nearest = vec![0.0; k.min(LIST_MAX)];
    let of_point = |i: usize| {
        points.squares(i, &mut squares);
        if k > LIST_MAX {
            *squares.select_nth_unstable_by(k - 1, f32::total_cmp).1
        } else {
            kth_smallest(&squares, &mut nearest)
        }
    };
    (0..points.len()).map(of_point).collect()
}

/// The largest of the `nearest.len()` smallest values.
fn kth_smallest(values: &[f32], nearest: &mut [f32]) -> f32 {
    nearest.fill(f32::INFINITY);
    let last = nearest.len() - 1;
    for value in values {
        if *value < nearest[last] {
            let mut at = last;
            while at > 0 && nearest[at - 1] > *value {
                nearest[at] = nearest[at - 1];
                at -= 1;
            }
            nearest[at] = *value;
        }
    }
    nearest[last]
}

/// Eps for points with these squared distances to their `min_points`-th nearest.
pub(super) fn radius(squared_distances: &[f32], metrics: usize) -> f32 {
    let mut curve: Vec<f32> = squared_distances.iter().map(|square| square.sqrt()).collect();
    curve.sort_unstable_by(f32::total_cmp);
    let floor = RADIUS_FLOOR * (metrics as f32).sqrt();
    let (Some(first), Some(last)) = (curve.first(), curve.last()) else { return floor };
    let (rise, run) = (last - first, (curve.len() - 1).max(1) as f32);
    // The chord's height above the curve is largest where the distance to the chord is.
    let below = |i: usize| first + rise * (i as f32 / run) - curve[i];
    let deeper = |best: usize, i: usize| if below(i) > below(best) { i } else { best };
    let knee = curve[(0..curve.len()).fold(0, deeper)];
    let ceiling = curve[((curve.len() - 1) as f64 * RADIUS_CEILING) as usize];
    knee.min(ceiling).max(floor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::dbscan::tests::grid;
    use super::super::dbscan::{self, NOISE};
    use super::super::fixture::Noise;
    use super::*;

    #[test]
    fn di_04_min_points_follow_metrics_and_length() {
        let cases =
            [((1, 864), 4), ((12, 864), 13), ((19, 8_640), 20), ((100, 864), 43), ((3, 20), 2)];
        for ((metrics, len), expected) in cases {
            assert_eq!(min_points(metrics, len), expected, "{metrics} metrics, {len} points");
        }
    }

    #[test]
    fn di_04_the_knee_separates_blobs_from_what_lies_between() {
        let mut noise = Noise(11);
        let centres = [(-5.0, 0.0), (5.0, 1.0), (0.0, 9.0)];
        let mut rows: Vec<Vec<f32>> = Vec::new();
        for i in 0..600 {
            let (x, y) = centres[i % 3];
            rows.push(vec![x + 0.3 * noise.normal() as f32, y + 0.3 * noise.normal() as f32]);
        }
        for i in 0..6_u8 {
            rows.push(vec![f32::from(i) * 3.0 - 8.0, -8.0]);
        }
        let points = Points::from_rows(&rows);
        let distances = squared_distances(&points, 4);
        let eps = radius(&distances, 2);
        let is_core: Vec<bool> = distances.iter().map(|square| *square <= eps * eps).collect();
        let labels = dbscan::cluster(&points, eps * eps, &is_core).labels;
        assert!((0.05..2.0).contains(&eps), "eps {eps}");
        assert_eq!(labels.iter().max(), Some(&2), "three blobs");
        assert!(labels[600..].iter().all(|label| *label == NOISE));
        let lost = labels[..600].iter().filter(|label| **label == NOISE).count();
        assert!(lost < 30, "{lost} points of the blobs are noise");
        for (i, label) in labels[..600].iter().enumerate() {
            assert!(*label == NOISE || *label as usize == i % 3, "point {i}");
        }
    }

    #[test]
    fn equal_points_have_the_least_radius() {
        let points = Points::from_rows(&vec![vec![0.0, 0.0]; 50]);
        let eps = radius(&squared_distances(&points, 4), 4);
        assert!((eps - 0.1).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn the_list_and_the_selection_agree(rows in grid(2, 150), k in 1_usize..140) {
            let points = Points::from_rows(&rows);
            let mut squares = vec![0.0; points.len()];
            let k = k.min(points.len());
            for (i, distance) in squared_distances(&points, k).into_iter().enumerate() {
                points.squares(i, &mut squares);
                squares.sort_unstable_by(f32::total_cmp);
                prop_assert_eq!(distance, squares[k - 1]);
            }
        }
    }
}
