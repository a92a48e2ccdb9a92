//! Sequences of a batch that begin alike, gone through together up to where they part.

/// Sequences of one batch, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sequences<'a> {
    /// Of symbols.
    Symbols(&'a [u32]),
    /// Of vectors of so many numbers.
    Values(&'a [f32], usize),
}

impl Sequences<'_> {
    fn rows(self, steps: usize) -> usize {
        match self {
            Self::Symbols(symbols) => symbols.len() / steps,
            Self::Values(values, width) => values.len() / (steps * width),
        }
    }
}

/// The tree of what the sequences of a batch begin with, one step at a time. Sequences of values share nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefixes {
    /// Sequences in the order of their symbols.
    order: Vec<u32>,
    /// How many first symbols a sequence shares with the one before it in `order`.
    shared: Vec<u32>,
    /// The node of the latest step that each sequence of `order` is at.
    node: Vec<u32>,
    /// Nodes of the latest step: the node before it, and the symbol, or the row of the values, that leads here.
    pub(super) nodes: Vec<(u32, u32)>,
}

impl Prefixes {
    /// Begins with a batch; the first step's nodes all come from node 0.
    pub(super) fn start(&mut self, sequences: Sequences<'_>, steps: usize) {
        let rows = sequences.rows(steps);
        self.order.clear();
        self.order.extend(0..rows as u32);
        self.shared.clear();
        if let Sequences::Symbols(symbols) = sequences {
            let sequence = |row: u32| &symbols[row as usize * steps..][..steps];
            self.order.sort_unstable_by(|a, b| sequence(*a).cmp(sequence(*b)));
            self.shared.extend(self.order.iter().take(1).map(|_| 0));
            self.shared.extend(self.order.windows(2).map(|pair| {
                let (a, b) = (sequence(pair[0]), sequence(pair[1]));
                a.iter().zip(b).take_while(|(a, b)| a == b).count() as u32
            }));
        }
        self.node.clear();
        self.node.resize(rows, 0);
    }

    /// Finds the nodes of the next step.
    pub(super) fn advance(&mut self, sequences: Sequences<'_>, steps: usize, step: usize) {
        self.nodes.clear();
        for position in 0..self.order.len() {
            let before = self.node[position];
            let row = self.order[position] as usize * steps + step;
            match sequences {
                Sequences::Symbols(symbols) => {
                    if position == 0 || self.shared[position] as usize <= step {
                        self.nodes.push((before, symbols[row]));
                    }
                }
                Sequences::Values(..) => self.nodes.push((before, row as u32)),
            }
            self.node[position] = self.nodes.len() as u32 - 1;
        }
    }

    /// Each sequence with the node of its latest step.
    pub(super) fn reached(&self) -> impl Iterator<Item = (usize, usize)> {
        self.order.iter().zip(&self.node).map(|(row, node)| (*row as usize, *node as usize))
    }
}
