//! Log keys and the symbols that models know them by.

use hashbrown::HashMap;

/// Stands before the first entry of a session.
pub(super) const BEGIN: u32 = 0;
/// Stands for every key that was not there in training.
pub(super) const UNKNOWN: u32 = 1;
/// Stands after the last entry of a session.
pub(super) const END: u32 = 2;
/// The output that predicts the end.
pub(super) const END_OUTPUT: u32 = 0;
/// The symbol of the first key.
pub(super) const FIRST: u32 = 3;
/// What the end of a session is called where keys are named.
pub(super) const END_NAME: &str = "(end)";

/// The keys seen in training, and those added since by feedback. Symbols never change: a new key gets the next one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Vocabulary {
    names: Vec<String>,
    symbols: HashMap<String, u32>,
}

impl Vocabulary {
    /// Keys in the order of their symbols. A name that is there twice counts once.
    pub(super) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let mut vocabulary = Self::default();
        for name in names {
            vocabulary.add(&name);
        }
        vocabulary
    }

    /// The symbol of a key, a new one if need be.
    pub(super) fn add(&mut self, name: &str) -> u32 {
        if let Some(symbol) = self.symbols.get(name) {
            return *symbol;
        }
        let symbol = FIRST + self.names.len() as u32;
        self.names.push(name.to_owned());
        self.symbols.insert(name.to_owned(), symbol);
        symbol
    }

    /// The symbol of a key, [`UNKNOWN`] for one that is not there.
    pub(super) fn symbol(&self, name: &str) -> u32 {
        self.symbols.get(name).copied().unwrap_or(UNKNOWN)
    }

    /// The key of a symbol.
    pub(super) fn name(&self, symbol: u32) -> &str {
        match symbol {
            END => END_NAME,
            _ => {
                let place = symbol.checked_sub(FIRST).map(|place| place as usize);
                place.and_then(|place| self.names.get(place)).map_or("(unknown)", String::as_str)
            }
        }
    }

    /// Keys in the order of their symbols.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Symbols in use, those that stand for no key among them: the width of a network's input.
    pub(super) fn symbols(&self) -> usize {
        FIRST as usize + self.names.len()
    }

    /// What can follow: the end, and every key. The output of a symbol is [`output_of`] it.
    pub(super) fn outputs(&self) -> usize {
        1 + self.names.len()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.names.iter().map(|name| 2 * (name.len() + size_of::<String>()) + 16).sum()
    }
}

/// The output that predicts a symbol; `None` for symbols that are never predicted.
pub(super) fn output_of(symbol: u32) -> Option<u32> {
    symbol.checked_sub(END)
}

/// The symbol that an output predicts.
pub(super) fn symbol_of(output: u32) -> u32 {
    output + END
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_symbols() {
        let mut vocabulary = Vocabulary::new(["a", "b", "a"].map(str::to_owned));
        assert_eq!((vocabulary.symbol("a"), vocabulary.symbol("b")), (3, 4));
        assert_eq!(vocabulary.symbol("c"), UNKNOWN);
        assert_eq!(vocabulary.add("c"), 5);
        assert_eq!((vocabulary.symbols(), vocabulary.outputs()), (6, 4));
        assert_eq!((vocabulary.name(5), vocabulary.name(END)), ("c", "(end)"));
        assert_eq!((vocabulary.name(UNKNOWN), vocabulary.name(99)), ("(unknown)", "(unknown)"));
        assert_eq!(output_of(END), Some(END_OUTPUT));
        assert_eq!(output_of(BEGIN), None);
        assert_eq!(symbol_of(output_of(5).unwrap()), 5);
    }
}
