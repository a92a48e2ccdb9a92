//! When the states of a component have all been seen: its convergence, by two readings of the paper.

use super::dbscan::NOISE;
use super::distance::Points;

/// The slot in which the last cluster appears (MCT, DI-07), 0 if there is but one; `None` if all is noise. Labels are
/// numbered by discovery.
pub(super) fn last_cluster_slot(labels: &[i32]) -> Option<usize> {
    // The largest number is the last cluster's (MCN, DI-06): noise does not count.
    let last = labels.iter().copied().max().filter(|last| *last != NOISE)?;
    if last == 0 {
        return Some(0);
    }
    labels.iter().position(|label| *label == last)
}

/// The slot from which on the clustering of all slots so far always has as many clusters as that of the whole (DI-09);
/// `None` if all is noise.
///
/// Points are added one after the other, at the radius of the whole. A point that has become a core point remains one,
/// and clusters are what joins core points, so that their number is kept by joining sets: after every slot, at the cost
/// of two rows of distances per point.
pub(super) fn settled_slot(
    points: &Points,
    squared_radius: f32,
    min_points: usize,
) -> Option<usize> {
    let mut clusters = Clusters::new(points.len());
    let mut neighbours = vec![0_usize; points.len()];
    let mut squares = vec![0.0; points.len()];
    let mut grown = Vec::new();
    let (mut count, mut since) = (0, 0);
    for i in 0..points.len() {
        let squares = &mut squares[..=i];
        points.squares(i, squares);
        for (j, square) in squares.iter().enumerate() {
            if *square <= squared_radius {
                neighbours[j] += 1;
                // The point itself gets its whole number here, the others one more.
                if j < i {
                    neighbours[i] += 1;
                    if neighbours[j] == min_points {
                        grown.push(j);
                    }
                }
            }
        }
        if neighbours[i] >= min_points {
            grown.push(i);
        }
        for core in grown.drain(..) {
            clusters.add(core);
            points.squares(core, squares);
            for (j, square) in squares.iter().enumerate() {
                if *square <= squared_radius {
                    clusters.join(core, j);
                }
            }
        }
        if clusters.count != count {
            (count, since) = (clusters.count, i);
        }
    }
    (count > 0).then_some(since)
}

/// Disjoint sets of core points.
struct Clusters {
    /// Each core point's parent; a root is its own. Points that are no core points have none.
    parents: Vec<Option<usize>>,
    count: usize,
}

impl Clusters {
    fn new(len: usize) -> Self {
        Self { parents: vec![None; len], count: 0 }
    }

    fn add(&mut self, core: usize) {
        self.parents[core] = Some(core);
        self.count += 1;
    }

    fn root(&mut self, mut point: usize) -> Option<usize> {
        let mut parent = self.parents[point]?;
        while parent != point {
            // Halves the path on the way.
            let above = self.parents[parent]?;
            self.parents[point] = Some(above);
            (point, parent) = (parent, above);
        }
        Some(point)
    }

    fn join(&mut self, a: usize, b: usize) {
        if let (Some(a), Some(b)) = (self.root(a), self.root(b))
            && a != b
        {
            self.parents[a.max(b)] = Some(a.min(b));
            self.count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::dbscan::tests::{cores, grid, textbook};
    use super::super::dbscan::{cluster, tests};
    use super::*;

    #[test]
    fn di_06_di_07_cases_by_hand() {
        let cases: [(&[i32], Option<usize>); 6] = [
            (&[0, 0, 1, 0, 2, 1, 2], Some(4)),
            (&[0, 0, 0], Some(0)),
            (&[-1, -1, 0, 0], Some(0)),
            (&[-1, 0, -1, 1], Some(3)),
            (&[-1, -1], None),
            (&[], None),
        ];
        for (labels, expected) in cases {
            assert_eq!(last_cluster_slot(labels), expected, "{labels:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn di_09_the_settled_slot_equals_a_clustering_of_every_prefix(
            rows in grid(2, 60),
            radius in 0.1_f32..1.2,
            min_points in 1_usize..6,
        ) {
            let points = Points::from_rows(&rows);
            let squared = radius * radius;
            let clusters = |len: usize| {
                textbook(&rows[..len], squared, min_points).into_iter().max().map_or(0, |top| top + 1)
            };
            let whole = clusters(rows.len());
            let slow = (1..=rows.len()).rev().take_while(|len| clusters(*len) == whole).last();
            let slow = slow.map(|len| len - 1).filter(|_| whole > 0);
            prop_assert_eq!(settled_slot(&points, squared, min_points), slow);
        }
    }

    #[test]
    fn di_09_is_not_before_di_07_where_clusters_appear_one_by_one() {
        for first in [3, 40, 90] {
            let level = |i: u8| if i < first { 0.0 } else { 5.0 };
            let rows: Vec<Vec<f32>> = (0..120_u8)
                .map(|i| vec![level(i) + f32::from(i % 7) * 0.05, f32::from(i % 5) * 0.05])
                .collect();
            let points = Points::from_rows(&rows);
            let labels = cluster(&points, 0.25, &cores(&points, 0.25, 4)).labels;
            let last = last_cluster_slot(&labels);
            assert!(settled_slot(&points, 0.25, 4) >= last && last.is_some());
            assert_eq!(labels, tests::textbook(&rows, 0.25, 4));
        }
    }
}
