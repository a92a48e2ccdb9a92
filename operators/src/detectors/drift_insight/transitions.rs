//! How often each state and each transition is to be expected in a window, and how odd a window is.

use std::collections::{BTreeMap, VecDeque};

use super::dbscan::NOISE;

/// A transition: the state of one slot and that of the next.
pub(super) type Pair = (i32, i32);

/// The least deviation of a count in a window: what is never seen is, once, three deviations off (DI-16).
const DEVIATION_FLOOR: f64 = 1.0 / 3.0;
/// What a transition that was never seen in training counts, in deviations, in the slot in which it happens.
const UNSEEN: f64 = 4.0;
/// Slots of training in a state from which on it is known where the state leads to.
const SLOTS_KNOWN: u32 = 10;
/// Deviations at which the paper raises an alert.
pub(super) const DEVIATIONS: f64 = 3.0;

/// What training says of the count of one thing in a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Count {
    /// How often it occurs in the whole training batch.
    pub(super) total: u32,
    /// Mean of its count over all sliding windows.
    pub(super) mean: f64,
    /// Deviation of its count over all sliding windows, not below the floor.
    pub(super) sd: f64,
}

impl Count {
    /// For a thing that training does not have.
    const NEVER: Self = Self { total: 0, mean: 0.0, sd: DEVIATION_FLOOR };

    fn new(sums: &Sums, windows: u64, window: usize, all: usize) -> Self {
        let (sum, squares) = (u128::from(sums.sum), u128::from(sums.squares));
        let n = windows as f64;
        // Exact until here: the variance of equal counts is 0, not a rounding error.
        let variance = (u128::from(windows) * squares - sum * sum) as f64 / (n * n);
        let share = f64::from(sums.total) / all.max(1) as f64;
        let binomial = window as f64 * share * (1.0 - share);
        let sd = variance.sqrt().max(binomial.sqrt()).max(DEVIATION_FLOOR);
        Self { total: sums.total, mean: sums.sum as f64 / n, sd }
    }

    /// Deviations between a count and its mean.
    fn z(&self, count: u32) -> f64 {
        (f64::from(count) - self.mean) / self.sd
    }
}

/// Sums of the counts of one thing over all windows of a length, as the window slides. They are integers, so that
/// sliding gives exactly what counting each window anew would.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    total: u32,
    sum: u64,
    squares: u64,
    /// The count in the window at hand, and the window since which it has been this.
    current: u64,
    since: u64,
}

impl Sums {
    /// Changes the count of window `at` and those after it.
    fn change(&mut self, at: u64, count: u64) {
        self.sum += self.current * (at - self.since);
        self.squares += self.current * self.current * (at - self.since);
        (self.current, self.since) = (count, at);
    }
}

/// Slides a window over things; its counts, and the number of windows.
fn slide<T: Copy + Ord>(things: impl Iterator<Item = T>, window: usize) -> (Vec<(T, Sums)>, u64) {
    let mut all: BTreeMap<T, Sums> = BTreeMap::new();
    let mut inside = VecDeque::with_capacity(window);
    // The window at hand; the first one is complete with `window` things.
    let mut at = 0;
    for thing in things {
        if inside.len() == window {
            at += 1;
            if let Some(sums) = inside.pop_front().and_then(|gone| all.get_mut(&gone)) {
                sums.change(at, sums.current - 1);
            }
        }
        inside.push_back(thing);
        let sums = all.entry(thing).or_default();
        sums.total += 1;
        sums.change(at, sums.current + 1);
    }
    let windows = at + 1;
    all.values_mut().for_each(|sums| sums.change(windows, sums.current));
    (all.into_iter().collect(), windows)
}

/// Shares of states and transitions (DI-14) and what a window may hold of them (DI-15 to DI-17).
#[derive(Debug, PartialEq)]
pub(super) struct Habits {
    window: usize,
    /// Ordered by state.
    states: Vec<(i32, Count)>,
    /// Ordered by transition.
    pairs: Vec<(Pair, Count)>,
}

impl Habits {
    /// From the states of a training batch in time order, for windows of so many slots.
    pub(super) fn learn(states: &[i32], window: usize) -> Self {
        let transitions = states.len().saturating_sub(1);
        let (sums, windows) = slide(states.iter().copied(), window);
        let count =
            |(state, sums): (i32, Sums)| (state, Count::new(&sums, windows, window, states.len()));
        let counts = sums.into_iter().map(count).collect();
        let (sums, windows) = slide(states.windows(2).map(|pair| (pair[0], pair[1])), window - 1);
        let count = |(pair, sums): (Pair, Sums)| {
            (pair, Count::new(&sums, windows, window - 1, transitions))
        };
        Self { window, states: counts, pairs: sums.into_iter().map(count).collect() }
    }

    /// States with how often they occur, ordered.
    pub(super) fn states(&self) -> &[(i32, Count)] {
        &self.states
    }

    /// Transitions with how often they occur, ordered.
    pub(super) fn pairs(&self) -> &[(Pair, Count)] {
        &self.pairs
    }

    /// Slots of training in a state.
    pub(super) fn slots_in(&self, state: i32) -> u32 {
        find(&self.states, &state).total
    }

    /// Judges the window that ends with the current slot, given by its states.
    pub(super) fn judge(&self, window: &[i32], rules: Rules) -> Oddity {
        let Some((&current, before)) = window.split_last() else { return Oddity::default() };
        let step = before.last().map(|previous| (*previous, current));
        let mut oddity =
            Oddity { tests: self.states.len() + self.pairs.len(), ..Oddity::default() };

        let counts = counts_of(window.iter().copied());
        for (state, known, count) in side_by_side(&self.states, &counts) {
            let adds =
                if f64::from(count) > known.mean { current == state } else { current != state };
            oddity.occupancy = oddity.occupancy.max(evidence(known.z(count), adds));
        }
        let pairs = counts_of(window.windows(2).map(|pair| (pair[0], pair[1])));
        for (pair, known, count) in side_by_side(&self.pairs, &pairs) {
            let z = known.z(count);
            // A lack grows while the component is elsewhere; once it is back where the transition leads, it shrinks. A
            // return from outside of all states says no more than the way there did.
            let returns = pair.0 == NOISE && pair.1 != NOISE;
            let adds = if z > 0.0 { step == Some(pair) && !returns } else { current != pair.1 };
            oddity.transit = oddity.transit.max(evidence(z, adds));
            // Where a state leads to is known only of a state that training has left often enough.
            let is_new = known.total == 0 && step == Some(pair);
            oddity.is_unseen |= is_new && pair.0 != NOISE && self.slots_in(pair.0) >= SLOTS_KNOWN;
            oddity.note(Excess { pair, count, mean: known.mean, z });
        }
        if rules.bonferroni {
            // The normal distribution's tail falls as exp(-z^2 / 2): so many deviations are as rare in so many tests.
            let wanted = (DEVIATIONS * DEVIATIONS + 2.0 * (oddity.tests.max(1) as f64).ln()).sqrt();
            oddity.occupancy *= DEVIATIONS / wanted;
            oddity.transit *= DEVIATIONS / wanted;
        }
        if rules.unseen_transitions && oddity.is_unseen {
            oddity.transit = oddity.transit.max(UNSEEN);
        }
        oddity
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.states.capacity() * size_of::<(i32, Count)>()
            + self.pairs.capacity() * size_of::<(Pair, Count)>()
    }
}

/// How a deviation is held against the current slot. What the slot itself does not add to is the doing of an earlier
/// slot, which was judged for it: it fades below the three deviations that raise an alert.
fn evidence(z: f64, adds: bool) -> f64 {
    let z = z.abs();
    if adds { z } else { DEVIATIONS * z / (DEVIATIONS + z) }
}

fn find<T: Ord + Copy>(known: &[(T, Count)], thing: &T) -> Count {
    known.binary_search_by(|(other, _)| other.cmp(thing)).map_or(Count::NEVER, |at| known[at].1)
}

/// How often each thing is there, ordered.
fn counts_of<T: Ord + Copy>(things: impl Iterator<Item = T>) -> Vec<(T, u32)> {
    let mut sorted: Vec<T> = things.collect();
    sorted.sort_unstable();
    let mut counts: Vec<(T, u32)> = Vec::new();
    for thing in sorted {
        match counts.last_mut() {
            Some((last, count)) if *last == thing => *count += 1,
            _ => counts.push((thing, 1)),
        }
    }
    counts
}

/// All that training or the window has, with what is known of it and its count in the window.
fn side_by_side<'a, T: Ord + Copy>(
    known: &'a [(T, Count)],
    counts: &'a [(T, u32)],
) -> impl Iterator<Item = (T, Count, u32)> + 'a {
    let mut here = counts.iter().copied().peekable();
    let of_known = known.iter().map(move |(thing, count)| {
        while here.next_if(|(other, _)| other < thing).is_some() {}
        let there = here.next_if(|(other, _)| other == thing).map_or(0, |(_, count)| count);
        (*thing, *count, there)
    });
    let is_known = |thing: &T| known.binary_search_by(|(other, _)| other.cmp(thing)).is_ok();
    let unknown = counts.iter().filter(move |(thing, _)| !is_known(thing));
    of_known.chain(unknown.map(|(thing, count)| (*thing, Count::NEVER, *count)))
}

/// Choices of the user in judging windows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Whether a transition that training never saw is anomalous at once.
    pub(super) unseen_transitions: bool,
    /// Whether deviations shrink with the number of states and transitions that are tested.
    pub(super) bonferroni: bool,
}

/// How odd a window is, in deviations.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Oddity {
    /// By its states.
    pub(super) occupancy: f64,
    /// By its transitions.
    pub(super) transit: f64,
    /// Whether the current slot's transition is one that training never saw.
    is_unseen: bool,
    /// Counts that were compared.
    tests: usize,
    /// Its oddest transitions, the oddest first, whichever slot they are held against.
    pub(super) top: [Option<Excess>; 3],
}

/// A transition whose count is not as expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Excess {
    pub(super) pair: Pair,
    pub(super) count: u32,
    pub(super) mean: f64,
    pub(super) z: f64,
}

impl Oddity {
    /// The odder of both, in deviations.
    pub(super) fn most(&self) -> f64 {
        self.occupancy.max(self.transit)
    }

    /// Keeps a transition if it is among the oddest and at least one deviation off.
    fn note(&mut self, mut excess: Excess) {
        if excess.z.abs() < 1.0 {
            return;
        }
        for place in &mut self.top {
            match place {
                None => {
                    *place = Some(excess);
                    return;
                }
                Some(other) if excess.z.abs() > other.z.abs() => std::mem::swap(other, &mut excess),
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Rules = Rules { unseen_transitions: false, bonferroni: false };
    const STRICT: Rules = Rules { unseen_transitions: true, ..PLAIN };

    /// States whose transitions have these counts, as far as a walk can have them.
    fn walk(blocks: &[(&[i32], usize)]) -> Vec<i32> {
        blocks.iter().flat_map(|(states, times)| states.repeat(*times)).collect()
    }

    fn percent(habits: &Habits, pair: Pair) -> f64 {
        let all: u32 = habits.pairs.iter().map(|(_, count)| count.total).sum();
        (f64::from(find(&habits.pairs, &pair).total) / f64::from(all) * 1e4).round() / 100.0
    }

    #[test]
    fn di_14_shares_of_the_papers_router() {
        // Figure 10: 1,097 transitions among the states 0, 1 and -1.
        let states = walk(&[
            (&[0], 1_040),
            (&[-1, 0], 12),
            (&[1, 0], 9),
            (&[-1, -1, -1, -1, 0], 1),
            (&[1, 1, 1, 1, 0], 1),
            (&[-1, 1, 0], 1),
            (&[1, -1, 0], 1),
        ]);
        let habits = Habits::learn(&states, 10);
        let shares = [
            ((0, 0), 94.71),
            ((0, -1), 1.28),
            ((-1, 0), 1.28),
            ((0, 1), 1.0),
            ((1, 0), 1.0),
            ((1, 1), 0.27),
            ((-1, -1), 0.27),
            ((1, -1), 0.09),
            ((-1, 1), 0.09),
        ];
        for (pair, share) in shares {
            assert_eq!(percent(&habits, pair), share, "{pair:?}");
        }
        assert_eq!(habits.pairs.len(), shares.len());
    }

    #[test]
    fn di_14_shares_of_the_papers_ccdb() {
        // Figure 4: 1,094 slots, 23 of them in state 1, each on its own.
        let mut states = vec![0; 1_048];
        states.extend([1, 0].repeat(23));
        let habits = Habits::learn(&states, 10);
        assert_eq!((habits.slots_in(0), habits.slots_in(1)), (1_071, 23));
        assert_eq!(percent(&habits, (0, 1)), 2.1);
        assert_eq!(percent(&habits, (1, 0)), 2.1);
        assert_eq!(percent(&habits, (0, 0)), 95.79);
    }

    proptest! {
        #[test]
        fn di_15_sliding_sums_equal_counting_every_window(
            states in prop::collection::vec(-1_i32..3, 2..150),
            window in 1_usize..12,
        ) {
            let (sums, windows) = slide(states.iter().copied(), window);
            let all: Vec<&[i32]> = if states.len() < window {
                vec![&states]
            } else {
                states.windows(window).collect()
            };
            prop_assert_eq!(windows, all.len() as u64);
            for (state, sums) in sums {
                let count = |window: &&[i32]| window.iter().filter(|s| **s == state).count() as u64;
                let counts: Vec<u64> = all.iter().map(count).collect();
                prop_assert_eq!(sums.sum, counts.iter().sum::<u64>());
                prop_assert_eq!(sums.squares, counts.iter().map(|c| c * c).sum::<u64>());
                let total = states.iter().filter(|s| **s == state).count();
                prop_assert_eq!(sums.total as usize, total);
            }
        }
    }

    #[test]
    fn di_16_deviations_have_floors() {
        let windows = 1_000;
        let count = |total: u32, sum, squares| {
            let sums = Sums { total, sum, squares, current: 0, since: 0 };
            Count::new(&sums, windows, 9, 1_000)
        };
        let table = [
            // Never seen: once is exactly three deviations, twice is six.
            (Count::NEVER, 1, 3.0),
            (Count::NEVER, 2, 6.0),
            // Always there: the floor again.
            (count(1_000, 9_000, 81_000), 8, -3.0),
            // Rare: one third is above the binomial deviation of 0.0949.
            (count(1, 9, 9), 1, 3.0 * (1.0 - 0.009)),
            // Frequent: the binomial deviation of 1.5 is above the windows' own.
            (count(500, 4_500, 20_250), 6, 1.0),
            // In bursts: the windows' own deviation of 4.5 is above the binomial one.
            (count(500, 4_500, 40_500), 9, 1.0),
        ];
        for (i, (known, seen, z)) in table.into_iter().enumerate() {
            assert!((known.z(seen) - z).abs() < 1e-12, "case {i}: {}", known.z(seen));
        }
    }

    #[test]
    fn di_15_di_16_unseen_transitions() {
        let habits = Habits::learn(&walk(&[(&[0, 0, 0, 1], 100)]), 10);
        let window = [0, 0, 0, 1, 0, 0, 0, 1, 1, 1];
        // 1 to 1 twice: six deviations whatever the switch says.
        assert_eq!(habits.judge(&window, PLAIN).transit, 6.0);
        // Once is exactly at three, or above by the switch; the slot after is not held to it.
        assert_eq!(habits.judge(&window[..9], PLAIN).transit, 3.0);
        assert_eq!(habits.judge(&window[..9], STRICT).transit, UNSEEN);
        let after = habits.judge(&[0, 0, 0, 1, 0, 0, 0, 1, 1, 0], STRICT);
        assert!(after.most() < DEVIATIONS, "{after:?}");
        assert_eq!(after.top[0].map(|top| (top.pair, top.count)), Some(((1, 1), 1)));
        // Nothing is known about where an unknown state leads.
        let back = habits.judge(&[0, 0, 1, 0, 0, 0, 1, 0, -1, 0], STRICT);
        assert!(back.transit <= DEVIATIONS, "{back:?}");
    }

    #[test]
    fn di_15_too_few_transitions_are_odd_as_well() {
        let habits = Habits::learn(&walk(&[(&[0, 1], 200)]), 10);
        let stuck = habits.judge(&[0, 1, 0, 1, 1, 1, 1, 1, 1, 1], PLAIN);
        assert!(stuck.transit > DEVIATIONS, "{stuck:?}");
        let usual = habits.judge(&[1, 0, 1, 0, 1, 0, 1, 0, 1, 0], PLAIN);
        assert!(usual.most() < 2.0, "{usual:?}");
    }

    #[test]
    fn di_17_a_known_state_may_be_held_too_long() {
        let states = walk(&[(&[0; 12], 1), (&[1, 1], 1)]).repeat(40);
        let habits = Habits::learn(&states, 10);
        assert!(habits.judge(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 1], PLAIN).most() < DEVIATIONS);
        let long = habits.judge(&[0, 0, 0, 1, 1, 1, 1, 1, 1, 1], PLAIN);
        assert!(long.occupancy > DEVIATIONS, "{long:?}");
    }

    #[test]
    fn many_tests_weigh_less_by_bonferroni() {
        let habits = Habits::learn(&walk(&[(&[0, 0, 0, 1], 100)]), 10);
        let window = [0, 0, 0, 1, 0, 0, 0, 1, 1, 1];
        let plain = habits.judge(&window, PLAIN).transit;
        let held = habits.judge(&window, Rules { bonferroni: true, ..PLAIN }).transit;
        assert!(held < plain && held > 0.6 * plain);
    }
}
