//! The longest common subsequence of two token sequences, and what it makes of them (SP-03, SP-05, SP-07).

use crate::logs::words::{UNKNOWN, WILD, Word};

/// Tables that are reused from line to line.
#[derive(Clone, Debug, Default)]
pub(super) struct Aligner {
    lengths: Vec<u16>,
    row: Vec<u16>,
}

fn equal(left: Word, right: Word) -> bool {
    left == right && left != UNKNOWN
}

impl Aligner {
    /// How long the longest common subsequence is.
    pub(super) fn length(&mut self, left: &[Word], right: &[Word]) -> usize {
        self.row.clear();
        self.row.resize(right.len() + 1, 0);
        for &a in left {
            let mut diagonal = 0;
            for (j, &b) in right.iter().enumerate() {
                let above = self.row[j + 1];
                let here = if equal(a, b) { diagonal + 1 } else { above.max(self.row[j]) };
                self.row[j + 1] = here;
                diagonal = above;
            }
        }
        usize::from(self.row[right.len()])
    }

    /// The template of both: their longest common subsequence, and one wildcard wherever either has more.
    pub(super) fn refine(&mut self, left: &[Word], right: &[Word]) -> Vec<Word> {
        let width = right.len() + 1;
        self.lengths.clear();
        self.lengths.resize((left.len() + 1) * width, 0);
        for (i, &a) in left.iter().enumerate() {
            for (j, &b) in right.iter().enumerate() {
                let at = (i + 1) * width + j + 1;
                self.lengths[at] = if equal(a, b) {
                    self.lengths[at - width - 1] + 1
                } else {
                    self.lengths[at - width].max(self.lengths[at - 1])
                };
            }
        }
        let mut template = Vec::new();
        let (mut i, mut j) = (left.len(), right.len());
        let gap = |template: &mut Vec<Word>| {
            if template.last() != Some(&WILD) {
                template.push(WILD);
            }
        };
        while i > 0 && j > 0 {
            let at = i * width + j;
            if self.lengths[at] == self.lengths[at - width] {
                i -= 1;
                gap(&mut template);
            } else if self.lengths[at] == self.lengths[at - 1] {
                j -= 1;
                gap(&mut template);
            } else {
                i -= 1;
                j -= 1;
                if left[i] == WILD { gap(&mut template) } else { template.push(left[i]) }
            }
        }
        if i + j > 0 {
            gap(&mut template);
        }
        template.reverse();
        template
    }
}

/// Whether all of `constants` stand in `line`, in their order.
pub(super) fn is_subsequence(constants: &[Word], line: &[Word]) -> bool {
    let mut line = line.iter();
    constants.iter().all(|&word| line.any(|&other| equal(word, other)))
}

/// The runs of a line's tokens that the template's wildcards stand for, if the template says all of the line. A
/// wildcard may stand for nothing.
pub(in crate::logs) fn runs(
    template: &[Word],
    line: &[Word],
    out: &mut Vec<(usize, usize)>,
) -> bool {
    out.clear();
    let (mut t, mut l) = (0, 0);
    // The last wildcard: its place, its run in `out`, and how far it reaches. It gives way first.
    let mut last: Option<(usize, usize, usize)> = None;
    loop {
        if t < template.len() && template[t] == WILD {
            last = Some((t, out.len(), l));
            out.push((l, l));
            t += 1;
        } else if t < template.len() && l < line.len() && equal(template[t], line[l]) {
            t += 1;
            l += 1;
        } else if t == template.len() && l == line.len() {
            return true;
        } else if let Some((place, run, reach)) = last.filter(|(_, _, reach)| *reach < line.len()) {
            out.truncate(run + 1);
            out[run].1 = reach + 1;
            last = Some((place, run, reach + 1));
            (t, l) = (place + 1, reach + 1);
        } else {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const W: Word = WILD;

    #[test]
    fn a_gap_of_either_becomes_one_wildcard() {
        let mut aligner = Aligner::default();
        for (left, right, expected) in [
            (vec![2, 3, 4], vec![2, 5, 4], vec![2, W, 4]),
            (vec![2, 3, 4], vec![2, 4], vec![2, W, 4]),
            (vec![2, 4], vec![2, 3, 3, 4, 5], vec![2, W, 4, W]),
            (vec![2, W, W, 4], vec![2, W, 4], vec![2, W, 4]),
            (vec![0, 2], vec![0, 2], vec![W, 2]),
            (vec![], vec![2], vec![W]),
        ] {
            assert_eq!(aligner.refine(&left, &right), expected, "{left:?} {right:?}");
        }
    }

    #[test]
    fn order_counts() {
        assert!(is_subsequence(&[2, 3], &[9, 2, 9, 3]));
        assert!(!is_subsequence(&[3, 2], &[9, 2, 9, 3]));
        assert!(!is_subsequence(&[0], &[0]));
    }

    proptest! {
        /// The template of two lines says both, and its constants are a longest common subsequence.
        #[test]
        fn a_refined_template_says_both(
            left in proptest::collection::vec(2_u32..6, 0..12),
            right in proptest::collection::vec(2_u32..6, 0..12),
        ) {
            let mut aligner = Aligner::default();
            let template = aligner.refine(&left, &right);
            let constants: Vec<Word> = template.iter().copied().filter(|&w| w != WILD).collect();
            prop_assert_eq!(constants.len(), aligner.length(&left, &right));
            prop_assert!(template.windows(2).all(|pair| pair != [WILD, WILD]));
            let mut out = Vec::new();
            for line in [&left, &right] {
                prop_assert!(is_subsequence(&constants, line));
                prop_assert!(runs(&template, line, &mut out));
                prop_assert_eq!(out.len(), template.iter().filter(|&&w| w == WILD).count());
                let said: usize = out.iter().map(|(start, end)| end - start).sum();
                prop_assert_eq!(said + constants.len(), line.len());
            }
        }
    }
}
