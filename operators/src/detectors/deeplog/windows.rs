//! The histories that predictions are made from (DL-01).

use super::vocabulary::{BEGIN, END};

/// How sessions are cut into histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framing {
    /// Symbols of a history (h in the paper).
    pub(super) history: usize,
    /// Whether a session is preceded by so many begin markers, so that its first entries are predicted as well. Without
    /// them a session of up to `history` entries is not looked at.
    pub(super) begin: bool,
    /// Whether the end of a session is predicted like a key.
    pub(super) end: bool,
}

impl Framing {
    /// Each history of a session with the symbol that followed.
    pub(super) fn pairs(self, session: &[u32], mut each: impl FnMut(&[u32], u32)) {
        let mut padded = Vec::with_capacity(session.len() + self.history + 1);
        if self.begin {
            padded.resize(self.history, BEGIN);
        }
        padded.extend_from_slice(session);
        if self.end {
            padded.push(END);
        }
        for at in self.history..padded.len() {
            each(&padded[at - self.history..at], padded[at]);
        }
    }
}

/// The latest symbols of an open session.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Window {
    symbols: Vec<u32>,
}

impl Window {
    pub(super) fn new(framing: Framing) -> Self {
        let symbols = if framing.begin { vec![BEGIN; framing.history] } else { Vec::new() };
        Self { symbols }
    }

    /// A window that was saved.
    pub(super) fn of(symbols: Vec<u32>) -> Self {
        Self { symbols }
    }

    /// The history for the next prediction, once there are enough symbols.
    pub(super) fn history(&self, framing: Framing) -> Option<&[u32]> {
        (self.symbols.len() == framing.history).then_some(self.symbols.as_slice())
    }

    pub(super) fn push(&mut self, framing: Framing, symbol: u32) {
        if self.symbols.len() >= framing.history {
            self.symbols.rotate_left(1);
            self.symbols.truncate(framing.history - 1);
        }
        self.symbols.push(symbol);
    }

    pub(super) fn into_symbols(self) -> Vec<u32> {
        self.symbols
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(framing: Framing, session: &[u32]) -> Vec<(Vec<u32>, u32)> {
        let mut found = Vec::new();
        framing.pairs(session, |history, next| found.push((history.to_vec(), next)));
        found
    }

    #[test]
    fn begin_and_end_are_framed_as_told() {
        let plain = Framing { history: 2, begin: false, end: false };
        assert_eq!(pairs(plain, &[3, 4, 5]), [(vec![3, 4], 5)]);
        assert_eq!(pairs(plain, &[3, 4]), []);
        let whole = Framing { begin: true, end: true, ..plain };
        assert_eq!(
            pairs(whole, &[3, 4]),
            [(vec![BEGIN, BEGIN], 3), (vec![BEGIN, 3], 4), (vec![3, 4], END)]
        );
    }

    #[test]
    fn an_open_window_gives_the_same_histories() {
        for (begin, history) in [(true, 3), (false, 3), (true, 1), (false, 1)] {
            let framing = Framing { history, begin, end: false };
            let session = [3, 4, 5, 6, 3, 3, 7];
            let mut window = Window::new(framing);
            let mut found = Vec::new();
            for symbol in session {
                if let Some(history) = window.history(framing) {
                    found.push((history.to_vec(), symbol));
                }
                window.push(framing, symbol);
            }
            assert_eq!(found, pairs(framing, &session));
        }
    }
}
