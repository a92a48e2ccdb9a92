//! Random trees that halve a work space. Their shape is shared by all keys; each key has masses of its own.
//!
//! A tree of depth `d` is two implicit binary heaps: `2^d - 1` halvings, and `2^(d+1) - 1` masses. Node `i` has the
//! children `2i + 1` and `2i + 2`.

/// Rows descend no further into nodes that hold at most this share of the window.
const SMALL_SHARE: f64 = 0.1;
/// Stands for the row that an empty node might have held.
const UNSEEN_MASS: f64 = 0.5;

/// One halving of a node.
#[derive(Clone, Copy, Debug)]
struct Halving {
    feature: usize,
    at: f64,
}

/// How many trees, how deep, over how many rows, and from which seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) trees: usize,
    pub(super) depth: usize,
    pub(super) window: usize,
    pub(super) seed: u64,
}

/// The halvings of all trees, one tree after the other.
#[derive(Debug)]
pub(super) struct Forest {
    trees: usize,
    depth: usize,
    halvings: Vec<Halving>,
    window: usize,
    /// Logarithms of masses, by number of rows: the innermost loop has no time to compute them.
    mass_bits: Vec<f64>,
}

impl Forest {
    /// Grows trees over `[0, 1]` in each feature, whose work space reaches beyond on both sides by a random length.
    pub(super) fn grow(features: usize, shape: Shape) -> Self {
        let Shape { trees, depth, window, seed } = shape;
        let mut random = SplitMix(seed);
        let mut halvings = Vec::with_capacity(trees * ((1 << depth) - 1));
        for _ in 0..trees {
            let ranges: Vec<(f64, f64)> = (0..features)
                .map(|_| {
                    let centre = random.unit();
                    let reach = 2.0 * centre.max(1.0 - centre);
                    (centre - reach, centre + reach)
                })
                .collect();
            let mut level = vec![ranges];
            for _ in 0..depth {
                level = level
                    .into_iter()
                    .flat_map(|ranges| {
                        let feature = random.below(features);
                        let (low, high) = ranges[feature];
                        let at = f64::midpoint(low, high);
                        halvings.push(Halving { feature, at });
                        let (mut left, mut right) = (ranges.clone(), ranges);
                        left[feature].1 = at;
                        right[feature].0 = at;
                        [left, right]
                    })
                    .collect();
            }
        }
        let mass_bits = (0..=window).map(|rows| (rows as f64 + UNSEEN_MASS).log2()).collect();
        Self { trees, depth, halvings, window, mass_bits }
    }

    /// Number of masses of one key.
    pub(super) fn nodes(&self) -> usize {
        self.trees * self.nodes_per_tree()
    }

    fn nodes_per_tree(&self) -> usize {
        (1 << (self.depth + 1)) - 1
    }

    fn by_tree(&self) -> impl Iterator<Item = &[Halving]> {
        self.halvings.chunks_exact((1 << self.depth) - 1)
    }

    /// Adds a row to the masses of the nodes that it passes.
    pub(super) fn count(&self, masses: &mut [u16], place: impl Fn(usize) -> f64) {
        let masses = masses.chunks_exact_mut(self.nodes_per_tree());
        for (halvings, masses) in self.by_tree().zip(masses) {
            let mut node = 0;
            masses[node] += 1;
            while let Some(halving) = halvings.get(node) {
                node = child(node, *halving, &place);
                masses[node] += 1;
            }
        }
    }

    /// Mean of the trees' bits; see the formula of the kind. `contribute` gets the part of each halving that took more
    /// than half of the mass away.
    pub(super) fn rarity(
        &self,
        masses: &[u16],
        own: u16,
        place: impl Fn(usize) -> f64,
        mut contribute: impl FnMut(usize, f64),
    ) -> f64 {
        let (window, trees) = (self.window as f64, self.trees as f64);
        let small = SMALL_SHARE * window;
        let mut bits = 0.0;
        let masses = masses.chunks_exact(self.nodes_per_tree());
        for (halvings, masses) in self.by_tree().zip(masses) {
            let rows_of = |node: usize| masses[node].saturating_sub(own);
            let (mut node, mut rows, mut cells) = (0, rows_of(0), 1.0);
            while f64::from(rows) > small
                && let Some(halving) = halvings.get(node)
            {
                node = child(node, *halving, &place);
                let inner = rows_of(node);
                if 2 * u32::from(inner) < u32::from(rows) {
                    let [outer, inner] =
                        [rows, inner].map(|rows| self.mass_bits[usize::from(rows)]);
                    contribute(halving.feature, (outer - 1.0 - inner).max(0.0) / trees);
                }
                (rows, cells) = (inner, cells * 2.0);
            }
            let density = (f64::from(rows) + UNSEEN_MASS) * cells / window;
            bits += (1.0 + density.recip()).log2();
        }
        bits / trees
    }
}

fn child(node: usize, halving: Halving, place: impl Fn(usize) -> f64) -> usize {
    2 * node + if place(halving.feature) < halving.at { 1 } else { 2 }
}

/// Vigna's `SplitMix64`: enough for shapes of trees, and the same everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("below a usize")
    }
}
