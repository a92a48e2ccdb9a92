//! What a network learns from: sequences with the outputs that followed them, each distinct sequence once.

use std::collections::BTreeMap;

/// Sequences of equal length and what followed each.
///
/// Symbols that occurred many times in front of the same sequence are one entry with a weight, which gives the gradient
/// of the repeated ones at a fraction of their cost (DL-03).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examples {
    /// Steps of a sequence.
    pub steps: usize,
    /// Symbols of all sequences, one sequence after the other; empty for networks that read values.
    pub symbols: Vec<u32>,
    /// Values of all sequences, step after step; empty for networks that read symbols.
    pub values: Vec<f32>,
    /// What followed.
    pub targets: Targets,
}

/// What followed each sequence.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// Outputs with their weights, one list for each sequence: cross-entropy (DL-03).
    Outputs(Vec<Vec<(u32, f32)>>),
    /// The next vector of each, one after the other: mean squared error (DL-09).
    Vectors(Vec<f32>),
}

impl Default for Targets {
    fn default() -> Self {
        Self::Outputs(Vec::new())
    }
}

impl Examples {
    /// Gathers weighted pairs of a history and the output that followed: equal histories become one sequence, and
    /// sequences are ordered by their symbols.
    pub fn gather<'a>(
        steps: usize,
        pairs: impl IntoIterator<Item = (&'a [u32], u32, f32)>,
    ) -> Self {
        let mut gathered: BTreeMap<&[u32], BTreeMap<u32, f32>> = BTreeMap::new();
        for (history, output, weight) in pairs {
            if history.len() == steps {
                *gathered.entry(history).or_default().entry(output).or_default() += weight;
            }
        }
        let symbols = gathered.keys().flat_map(|history| history.iter().copied()).collect();
        let followed = gathered.into_values().map(|outputs| outputs.into_iter().collect());
        Self { steps, symbols, values: Vec::new(), targets: Targets::Outputs(followed.collect()) }
    }

    /// The same with each weight raised to a power: below 1, what is rare counts for more.
    #[must_use]
    pub fn tempered(mut self, power: f64) -> Self {
        if let Targets::Outputs(followed) = &mut self.targets {
            for (_, weight) in followed.iter_mut().flatten() {
                *weight = f64::from(*weight).powf(power) as f32;
            }
        }
        self
    }

    /// Number of sequences; for vectors of `outputs` numbers.
    #[must_use]
    pub fn len(&self, outputs: usize) -> usize {
        match &self.targets {
            Targets::Outputs(followed) => followed.len(),
            Targets::Vectors(vectors) => vectors.len() / outputs.max(1),
        }
    }

    /// Symbols of one sequence.
    #[must_use]
    pub fn history(&self, sequence: usize) -> &[u32] {
        &self.symbols[sequence * self.steps..(sequence + 1) * self.steps]
    }

    /// The weight of all sequences; for vectors of `outputs` numbers.
    #[must_use]
    pub fn weight(&self, outputs: usize) -> f64 {
        match &self.targets {
            Targets::Outputs(followed) => {
                followed.iter().flatten().map(|(_, weight)| f64::from(*weight)).sum()
            }
            Targets::Vectors(_) => self.len(outputs) as f64,
        }
    }
}
