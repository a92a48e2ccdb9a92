//! How well lines were grouped: what log parsers are measured by.

use std::collections::HashMap;
use std::hash::Hash;

use super::{PrecisionRecall, ratio, real};

/// The share of lines that are in a group which is, line for line, a group of the truth.
///
/// One stray line voids all lines of its group, and of the group it belongs to.
///
/// # Examples
/// ```
/// use driftline_operators::evaluate::grouping_accuracy;
///
/// assert_eq!(grouping_accuracy(&["a", "a", "b", "b"], &[1, 1, 2, 3]), 0.5);
/// ```
///
/// # Panics
/// If there are not as many lines in both.
#[must_use]
pub fn grouping_accuracy<T: Eq + Hash, P: Eq + Hash>(truth: &[T], found: &[P]) -> f64 {
    assert_eq!(truth.len(), found.len(), "a group of the truth for each line");
    let (sizes, found_sizes) = (counts(truth.iter()), counts(found.iter()));
    let both = counts(truth.iter().zip(found));
    let exact =
        both.iter().filter(|((t, f), count)| sizes[t] == **count && found_sizes[f] == **count);
    ratio(exact.map(|(_, count)| count).sum(), truth.len())
}

/// Precision and recall of pairs of lines in one group, which one stray line does not void.
///
/// # Examples
/// ```
/// use driftline_operators::evaluate::grouping_pairs;
///
/// let pairs = grouping_pairs(&["a", "a", "b", "b"], &[1, 1, 2, 3]);
/// assert_eq!((pairs.precision, pairs.recall), (1.0, 0.5));
/// ```
///
/// # Panics
/// If there are not as many lines in both.
#[must_use]
pub fn grouping_pairs<T: Eq + Hash, P: Eq + Hash>(truth: &[T], found: &[P]) -> PrecisionRecall {
    assert_eq!(truth.len(), found.len(), "a group of the truth for each line");
    let both = pairs(&counts(truth.iter().zip(found)));
    let share = |whole: f64| if whole == 0.0 { 0.0 } else { both / whole };
    let (precision, recall) =
        (share(pairs(&counts(found.iter()))), share(pairs(&counts(truth.iter()))));
    PrecisionRecall { precision, recall }
}

/// How many pairs there are within groups of these sizes.
fn pairs<K>(counts: &HashMap<K, usize>) -> f64 {
    counts.values().map(|&count| real(count) * (real(count) - 1.0) / 2.0).sum()
}

fn counts<K: Eq + Hash>(keys: impl Iterator<Item = K>) -> HashMap<K, usize> {
    let mut counts = HashMap::new();
    for key in keys {
        *counts.entry(key).or_insert(0) += 1;
    }
    counts
}
