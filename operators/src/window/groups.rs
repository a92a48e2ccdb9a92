//! From a key's number to its group within one pane.

use hashbrown::HashMap;

use crate::key::KeyId;

/// Stands for the group of a row that found no room.
pub(super) const REFUSED: usize = usize::MAX;

const ABSENT: u32 = u32::MAX;

/// Maps key numbers to groups, which count from 0 in order of first sight.
///
/// Where most keys recur in every pane, a plain array indexed by the key's number is fastest; where a pane sees few
/// of many keys, the array would mostly be holes, and a hash map is smaller. The map starts sparse and turns dense
/// once an eighth of the numbers it has met are its own.
#[derive(Debug, Default)]
pub(super) struct GroupMap {
    index: Index,
    ids: Vec<KeyId>,
    /// Groups ever opened; stays when `ids` are taken.
    opened: usize,
}

#[derive(Debug)]
enum Index {
    Sparse(HashMap<KeyId, u32, foldhash::fast::FixedState>),
    Dense(Vec<u32>),
}

impl Default for Index {
    fn default() -> Self {
        // Never iterated, so that the seeds do not matter to any answer.
        Self::Sparse(HashMap::with_hasher(foldhash::fast::FixedState::with_seed(1)))
    }
}

impl GroupMap {
    /// Writes each key's group to `groups`, opening at most `room` new ones, and tells how many rows found no room.
    pub(super) fn assign(
        &mut self,
        ids: impl Iterator<Item = KeyId>,
        room: usize,
        groups: &mut Vec<usize>,
    ) -> usize {
        groups.clear();
        let mut refused = 0;
        let limit = self.ids.len().saturating_add(room);
        let mut ids = ids;
        // Most keys are known, and those of a full pane all: that loop is worth its own.
        let mut first_unknown = None;
        if let Index::Dense(dense) = &self.index {
            for id in ids.by_ref() {
                match dense.get(id as usize) {
                    Some(&group) if group != ABSENT => groups.push(group as usize),
                    _ => {
                        first_unknown = Some(id);
                        break;
                    }
                }
            }
        }
        for id in first_unknown.into_iter().chain(ids) {
            let known = match &self.index {
                Index::Dense(dense) => dense.get(id as usize).copied().unwrap_or(ABSENT),
                Index::Sparse(sparse) => sparse.get(&id).copied().unwrap_or(ABSENT),
            };
            if known != ABSENT {
                groups.push(known as usize);
            } else if self.ids.len() < limit {
                groups.push(self.open(id));
            } else {
                groups.push(REFUSED);
                refused += 1;
            }
        }
        refused
    }

    fn open(&mut self, id: KeyId) -> usize {
        let group = self.ids.len();
        self.ids.push(id);
        self.opened += 1;
        match &mut self.index {
            Index::Dense(dense) => {
                if dense.len() <= id as usize {
                    dense.resize(id as usize + 1, ABSENT);
                }
                dense[id as usize] = group as u32;
            }
            Index::Sparse(sparse) => {
                sparse.insert(id, group as u32);
                let highest = id as usize + 1;
                if group >= 16 && highest / 8 <= group {
                    let mut dense = vec![ABSENT; highest];
                    for (group, id) in self.ids.iter().enumerate() {
                        if dense.len() <= *id as usize {
                            dense.resize(*id as usize + 1, ABSENT);
                        }
                        dense[*id as usize] = group as u32;
                    }
                    self.index = Index::Dense(dense);
                }
            }
        }
        group
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// How many groups were ever opened, whether or not their ids were taken.
    pub(super) fn opened(&self) -> usize {
        self.opened
    }

    /// The key of each group.
    pub(super) fn ids(&self) -> &[KeyId] {
        &self.ids
    }

    /// Takes the key of each group; the map is empty afterwards.
    pub(super) fn take_ids(&mut self) -> Vec<KeyId> {
        self.index = Index::default();
        std::mem::take(&mut self.ids)
    }

    /// Renames the keys.
    pub(super) fn renumber(&mut self, rename: impl Fn(KeyId) -> KeyId) {
        let ids: Vec<KeyId> = self.take_ids().into_iter().map(rename).collect();
        self.opened -= ids.len();
        for id in ids {
            self.open(id);
        }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let index = match &self.index {
            Index::Dense(dense) => dense.capacity() * 4,
            Index::Sparse(sparse) => sparse.capacity() * 9,
        };
        index + self.ids.capacity() * 4
    }
}
