//! The n-gram model with backoff: the baseline of the paper (DL-07), which needs no network.
//!
//! The probability of a key after a history is that of Witten and Bell (1991): the share of the key among what followed
//! the history in training, mixed with its probability after the history without its first symbol, by as much as new
//! keys followed. After a history that training never saw it is that of the shorter history; in the end every
//! output is equally likely.

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

/// What followed histories of every length up to a greatest.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ngram {
    history: usize,
    /// Outputs that followed, with their weight, ordered by output; under histories of 0 symbols up to `history`.
    followed: HashMap<Box<[u32]>, Vec<(u32, f64)>>,
}

/// One history of a saved model.
pub(super) type SavedHistory = (Vec<u32>, Vec<(u32, f64)>);

/// A model as it is saved: histories in order, so that equal models have equal bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedNgram {
    history: usize,
    followed: Vec<SavedHistory>,
}

impl Ngram {
    pub(super) fn new(history: usize) -> Self {
        Self { history, followed: HashMap::new() }
    }

    /// Learns that `output` followed `history` so often.
    pub(super) fn learn(&mut self, history: &[u32], output: u32, weight: f64) {
        for length in 0..=self.history.min(history.len()) {
            let suffix = &history[history.len() - length..];
            let followed = match self.followed.get_mut(suffix) {
                Some(followed) => followed,
                None => self.followed.entry(suffix.into()).or_default(),
            };
            match followed.binary_search_by_key(&output, |(output, _)| *output) {
                Ok(place) => followed[place].1 += weight,
                Err(place) => followed.insert(place, (output, weight)),
            }
        }
    }

    /// The probability of each of so many outputs, into `out`.
    pub(super) fn probabilities(&self, history: &[u32], outputs: usize, out: &mut Vec<f32>) {
        let mut found = vec![1.0 / outputs.max(1) as f64; outputs];
        for length in 0..=self.history.min(history.len()) {
            let Some(followed) = self.followed.get(&history[history.len() - length..]) else {
                break;
            };
            let total: f64 = followed.iter().map(|(_, weight)| weight).sum();
            let distinct = followed.len() as f64;
            let shorter = distinct / (total + distinct);
            found.iter_mut().for_each(|p| *p *= shorter);
            for (output, weight) in followed {
                if let Some(p) = found.get_mut(*output as usize) {
                    *p += weight / (total + distinct);
                }
            }
        }
        out.extend(found.iter().map(|p| *p as f32));
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let all = self.followed.iter();
        all.map(|(history, followed)| {
            size_of_val(&**history) + followed.capacity() * size_of::<(u32, f64)>() + 48
        })
        .sum()
    }

    pub(super) fn save(&self) -> SavedNgram {
        let mut followed: Vec<SavedHistory> = self
            .followed
            .iter()
            .map(|(history, followed)| (history.to_vec(), followed.clone()))
            .collect();
        followed.sort_by(|a, b| a.0.cmp(&b.0));
        SavedNgram { history: self.history, followed }
    }

    /// The model that was saved, if it can be one.
    pub(super) fn restore(saved: SavedNgram) -> Option<Self> {
        let is_sound = saved.followed.iter().all(|(history, followed)| {
            history.len() <= saved.history
                && followed.windows(2).all(|pair| pair[0].0 < pair[1].0)
                && followed.iter().all(|(_, weight)| weight.is_finite() && *weight >= 0.0)
        });
        is_sound.then(|| Self {
            history: saved.history,
            followed: saved.followed.into_iter().map(|(h, f)| (h.into(), f)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_back_off_by_witten_and_bell() {
        let mut model = Ngram::new(2);
        model.learn(&[7, 8], 0, 3.0);
        model.learn(&[7, 8], 1, 1.0);
        model.learn(&[9, 8], 2, 2.0);
        let p = |history: &[u32]| {
            let mut out = Vec::new();
            model.probabilities(history, 4, &mut out);
            let total: f32 = out.iter().sum();
            assert!((total - 1.0).abs() < 1e-6, "{out:?}");
            out.iter().map(|p| f64::from(*p)).collect::<Vec<_>>()
        };
        // Nothing known of the history: 6 keys seen, 3 of them distinct.
        let base = [3.0, 1.0, 2.0, 0.0].map(|seen: f64| (seen + 3.0 * 0.25) / 9.0);
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close(&p(&[1, 1]), &base), "{:?}", p(&[1, 1]));
        let after_8: Vec<f64> =
            [3.0, 1.0, 2.0, 0.0].iter().zip(base).map(|(seen, b)| (seen + 3.0 * b) / 9.0).collect();
        assert!(close(&p(&[1, 8]), &after_8), "{:?}", p(&[1, 8]));
        let after_78: Vec<f64> = [3.0, 1.0, 0.0, 0.0]
            .iter()
            .zip(&after_8)
            .map(|(seen, b)| (seen + 2.0 * b) / 6.0)
            .collect();
        assert!(close(&p(&[7, 8]), &after_78), "{:?}", p(&[7, 8]));
    }

    #[test]
    fn a_model_comes_back_as_it_was() {
        let mut model = Ngram::new(2);
        model.learn(&[7, 8], 0, 3.0);
        model.learn(&[8, 8], 1, 1.0);
        assert_eq!(Ngram::restore(model.save()), Some(model));
    }
}
