//! Density-based clusters (DBSCAN): regions in which every point has enough neighbours (DI-03).
//!
//! Ester, Kriegel, Sander and Xu, "A density-based algorithm for discovering clusters in large spatial databases with
//! noise", 1996. Points are visited in time order, so that clusters are numbered by their earliest core point and a
//! border point joins the first cluster that reaches it: labels are a function of the points.

use super::distance::Points;

/// The state of a point that no cluster reaches.
pub(super) const NOISE: i32 = -1;

/// A clustering of points.
#[derive(Debug)]
pub(super) struct Clustering {
    /// Per point 0, 1, 2 ... by discovery, or [`NOISE`].
    pub(super) labels: Vec<i32>,
    /// Per point the squared distance to the nearest other core point.
    pub(super) nearest: Vec<f32>,
}

/// Clusters points. `squared_radius` is the square of eps; a core point has enough points, itself among them, within eps.
pub(super) fn cluster(points: &Points, squared_radius: f32, is_core: &[bool]) -> Clustering {
    let mut labels = vec![NOISE; points.len()];
    let mut nearest = vec![f32::INFINITY; points.len()];
    let mut squares = vec![0.0; points.len()];
    let mut open = Vec::new();
    // Points without a cluster so far: soon few, so that most rows are not looked through.
    let mut free: Vec<usize> = (0..points.len()).collect();
    let mut clusters = 0;
    for first in 0..points.len() {
        if !is_core[first] || labels[first] != NOISE {
            continue;
        }
        labels[first] = clusters;
        open.push(first);
        while let Some(core) = open.pop() {
            points.squares(core, &mut squares);
            squares[core] = f32::INFINITY;
            for (least, square) in nearest.iter_mut().zip(&squares) {
                *least = least.min(*square);
            }
            free.retain(|&i| {
                let is_free = labels[i] == NOISE;
                if is_free && squares[i] <= squared_radius {
                    labels[i] = clusters;
                    if is_core[i] {
                        open.push(i);
                    }
                    return false;
                }
                is_free
            });
        }
        clusters += 1;
    }
    Clustering { labels, nearest }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn square(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + (b - a) * (b - a))
    }

    /// The textbook's algorithm, word by word: scan in time order, expand each cluster through a queue.
    pub(in super::super) fn textbook(
        rows: &[Vec<f32>],
        squared_radius: f32,
        min_points: usize,
    ) -> Vec<i32> {
        let near = |p: usize| -> Vec<usize> {
            (0..rows.len()).filter(|q| square(&rows[p], &rows[*q]) <= squared_radius).collect()
        };
        let mut labels: Vec<Option<i32>> = vec![None; rows.len()];
        let mut cluster = -1;
        for p in 0..rows.len() {
            if labels[p].is_some() {
                continue;
            }
            let neighbours = near(p);
            if neighbours.len() < min_points {
                labels[p] = Some(NOISE);
                continue;
            }
            cluster += 1;
            labels[p] = Some(cluster);
            let mut seeds: VecDeque<usize> = neighbours.into();
            while let Some(q) = seeds.pop_front() {
                if labels[q] == Some(NOISE) {
                    labels[q] = Some(cluster);
                }
                if labels[q].is_some() {
                    continue;
                }
                labels[q] = Some(cluster);
                let further = near(q);
                if further.len() >= min_points {
                    seeds.extend(further);
                }
            }
        }
        labels.into_iter().flatten().collect()
    }

    /// Core flags by counting.
    pub(in super::super) fn cores(
        points: &Points,
        squared_radius: f32,
        min_points: usize,
    ) -> Vec<bool> {
        let mut squares = vec![0.0; points.len()];
        let is_core = |i: usize| {
            points.squares(i, &mut squares);
            squares.iter().filter(|square| **square <= squared_radius).count() >= min_points
        };
        (0..points.len()).map(is_core).collect()
    }

    /// Points on a coarse grid, so that distances tie and points coincide.
    pub(in super::super) fn grid(
        metrics: usize,
        most: usize,
    ) -> impl Strategy<Value = Vec<Vec<f32>>> {
        let coordinate = (-12_i8..12).prop_map(|x| f32::from(x) / 4.0);
        prop::collection::vec(prop::collection::vec(coordinate, metrics), 1..most)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn di_03_labels_equal_the_textbook(
            rows in (1_usize..4).prop_flat_map(|metrics| grid(metrics, 120)),
            radius in 0.05_f32..1.5,
            min_points in 1_usize..8,
        ) {
            let points = Points::from_rows(&rows);
            let squared = radius * radius;
            let labels = cluster(&points, squared, &cores(&points, squared, min_points)).labels;
            prop_assert_eq!(labels, textbook(&rows, squared, min_points));
        }
    }

    #[test]
    fn di_03_a_border_point_joins_the_first_cluster_that_reaches_it() {
        // Two dense ends of a line and one point between them, as far from the one as from the other.
        let rows: Vec<Vec<f32>> = [1.0, 0.0, 0.125, 0.25, 2.0, 1.875, 1.75].map(|x| vec![x]).into();
        let points = Points::from_rows(&rows);
        let is_core = [false, true, true, true, true, true, true];
        assert_eq!(cluster(&points, 0.5, &is_core).labels, [NOISE, 0, 0, 0, 1, 1, 1]);
        assert_eq!(cluster(&points, 0.5625, &is_core).labels, [0, 0, 0, 0, 1, 1, 1]);
    }
}
