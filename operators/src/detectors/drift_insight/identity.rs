//! States keep their numbers when a model is built again (DI-21): without that every rebuild would look like a storm of
//! transitions.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::dbscan::NOISE;

/// Gives the clusters of a new clustering the states that their points had before.
///
/// `before` are the states of the points that both clusterings share, the first of `labels`. The pair of a cluster and a
/// state that share most points is matched first, then the next among those left; ties go to the lower cluster, then to
/// the lower state. Clusters that are left get numbers from `next` on, which were never in use.
pub(super) fn keep_states(labels: &mut [i32], before: &[i32], next: &mut i32) {
    let mut shared: BTreeMap<(i32, i32), usize> = BTreeMap::new();
    for (cluster, state) in labels.iter().zip(before) {
        if *cluster != NOISE && *state != NOISE {
            *shared.entry((*cluster, *state)).or_default() += 1;
        }
    }
    let mut pairs: Vec<((i32, i32), usize)> = shared.into_iter().collect();
    pairs.sort_by_key(|(_, points)| Reverse(*points));
    let mut states: BTreeMap<i32, i32> = BTreeMap::new();
    let mut taken: Vec<i32> = Vec::new();
    for ((cluster, state), _) in pairs {
        if !states.contains_key(&cluster) && !taken.contains(&state) {
            states.insert(cluster, state);
            taken.push(state);
        }
    }
    for label in labels.iter_mut().filter(|label| **label != NOISE) {
        *label = *states.entry(*label).or_insert_with(|| {
            let state = *next;
            *next = next.saturating_add(1);
            state
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn di_21_unchanged_clusters_keep_their_states() {
        let mut labels = vec![0, 0, 1, -1, 2, 1];
        let before = [4, 4, 0, -1, 7, 0];
        let mut next = 8;
        keep_states(&mut labels, &before, &mut next);
        assert_eq!((labels.as_slice(), next), (&before[..], 8));
    }

    #[test]
    fn di_21_the_largest_overlap_wins_and_new_clusters_get_new_states() {
        // Cluster 0 takes most of state 3; cluster 1 has the rest of it and must be new; cluster 2 was not there.
        let mut labels = vec![0, 0, 0, 1, 1, 0, 2, 2];
        let before = [3, 3, 3, 3, 3, 5];
        let mut next = 6;
        keep_states(&mut labels, &before, &mut next);
        assert_eq!((labels, next), (vec![3, 3, 3, 6, 6, 3, 7, 7], 8));
    }

    #[test]
    fn di_21_the_first_clustering_is_numbered_by_discovery() {
        let mut labels = vec![-1, 0, 1, 0, 2];
        let mut next = 0;
        keep_states(&mut labels, &[], &mut next);
        assert_eq!((labels, next), (vec![-1, 0, 1, 0, 2], 3));
    }
}
