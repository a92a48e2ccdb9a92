//! The prefix tree over the constant tokens of templates (SP-04).

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::logs::words::{UNKNOWN, Word};

/// The place of a template in its parser.
pub(super) type Slot = u32;

/// Finds templates whose constant tokens stand in a line in their order, without a look at the others.
#[derive(Clone, Debug)]
pub(super) struct PrefixTree {
    nodes: Vec<Node>,
    free: Vec<u32>,
    children: HashMap<(u32, Word), u32, FixedState>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Templates at or below it.
    templates: u32,
    /// Templates that end here, ordered by key; they differ in their wildcards alone.
    ends: Vec<(u64, Slot)>,
}

const ROOT: u32 = 0;

impl PrefixTree {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
            free: Vec::new(),
            children: HashMap::with_hasher(FixedState::with_seed(5)),
        }
    }

    pub(super) fn insert(&mut self, constants: &[Word], key: u64, slot: Slot) {
        let mut at = ROOT;
        for &word in constants {
            let next = match self.children.get(&(at, word)) {
                Some(&child) => child,
                None => {
                    let child = self.free.pop().unwrap_or_else(|| {
                        self.nodes.push(Node::default());
                        self.nodes.len() as u32 - 1
                    });
                    self.children.insert((at, word), child);
                    child
                }
            };
            self.nodes[next as usize].templates += 1;
            at = next;
        }
        let ends = &mut self.nodes[at as usize].ends;
        let place = ends.partition_point(|&(other, _)| other < key);
        ends.insert(place, (key, slot));
    }

    pub(super) fn remove(&mut self, constants: &[Word], key: u64) {
        let (mut at, mut gone) = (ROOT, Vec::new());
        for &word in constants {
            let Some(&child) = self.children.get(&(at, word)) else { return };
            let node = &mut self.nodes[child as usize];
            node.templates -= 1;
            if node.templates == 0 {
                self.children.remove(&(at, word));
                gone.push(child);
            }
            at = child;
        }
        self.nodes[at as usize].ends.retain(|&(other, _)| other != key);
        self.free.extend(gone);
    }

    /// Templates with just these constants, ordered by key.
    pub(super) fn ends(&self, constants: &[Word]) -> &[(u64, Slot)] {
        let step = |at: u32, word: &Word| self.children.get(&(at, *word)).copied();
        match constants.iter().try_fold(ROOT, step) {
            Some(at) => &self.nodes[at as usize].ends,
            None => &[],
        }
    }

    /// Walks down by each token of the line that leads on, and skips the others. The first template met that has at
    /// least `least` constants is the answer.
    pub(super) fn walk(&self, line: &[Word], least: usize) -> Option<Slot> {
        let (mut at, mut depth) = (ROOT, 0);
        for &word in line {
            if word == UNKNOWN {
                continue;
            }
            if let Some(&child) = self.children.get(&(at, word)) {
                (at, depth) = (child, depth + 1);
                if depth >= least
                    && let Some(&(_, slot)) = self.nodes[at as usize].ends.first()
                {
                    return Some(slot);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_skips_what_leads_nowhere_and_stops_at_enough_constants() {
        let mut tree = PrefixTree::new();
        tree.insert(&[2, 3], 1, 10);
        tree.insert(&[2, 3, 4, 5], 2, 20);
        assert_eq!(tree.walk(&[2, 9, 0, 3], 2), Some(10));
        assert_eq!(tree.walk(&[2, 9, 3, 4, 5], 3), Some(20));
        assert_eq!(tree.walk(&[3, 2], 1), None);
        tree.remove(&[2, 3], 1);
        assert_eq!(tree.walk(&[2, 3], 1), None);
        assert_eq!(tree.walk(&[2, 3, 4, 5], 1), Some(20));
        tree.remove(&[2, 3, 4, 5], 2);
        assert!(tree.children.is_empty());
        // Nodes are used again.
        let nodes = tree.nodes.len();
        tree.insert(&[7, 8, 9], 3, 30);
        assert_eq!(tree.nodes.len(), nodes);
        assert_eq!(tree.ends(&[7, 8, 9]), [(3, 30)]);
    }
}
