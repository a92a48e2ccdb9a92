//! The scorer, burn and the definition agree.

use burn::tensor::Device;

use super::super::network::{Network, numbers};
use super::super::prefixes::Sequences;
use super::*;

fn assert_close(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let apart = (f64::from(*found) - expected).abs();
        assert!(apart < f64::from(TOLERANCE) / 2.0, "{what}: {found} for {expected}");
    }
}

#[test]
fn symbols_are_scored_as_defined() {
    for (layers, hidden, rows) in [(1, 5, 1), (2, 16, 61), (3, 24, 200)] {
        let shape = symbols_shape(9, layers, hidden);
        let weights = Weights::random(shape, 7);
        let symbols = histories(rows, 6, 9, 3);
        let expected: Vec<f64> = symbols
            .chunks(6)
            .flat_map(|h| {
                let inputs: Vec<_> = h.iter().map(|symbol| one_hot(*symbol, 9)).collect();
                definition(&weights, &inputs)
            })
            .collect();
        for instructions in [Instructions::Plain, Instructions::Widest] {
            let mut found = Vec::new();
            let mut scorer = Scorer::with_instructions(&weights, instructions);
            scorer.score_symbols(&symbols, 6, &mut found);
            assert_close(&found, &expected, &format!("{shape} by {instructions:?}"));
        }
        let device = Device::flex();
        let (outputs, prefixes) =
            Network::new(&weights, &device).forward(Sequences::Symbols(&symbols), 6, &device);
        let by_node = numbers(outputs);
        let width = shape.outputs;
        for (row, node) in prefixes.reached() {
            let found = &by_node[node * width..][..width];
            assert_close(found, &expected[row * width..][..width], &format!("{shape} by burn"));
        }
    }
}

#[test]
fn values_are_scored_as_defined() {
    let shape = LstmShape { input: LstmInput::Values(3), layers: 2, hidden: 10, outputs: 3 };
    let weights = Weights::random(shape, 5);
    let mut random = Random::new(1);
    let values: Vec<f32> = (0..70 * 4 * 3).map(|_| random.uniform(3.0)).collect();
    let expected: Vec<f64> = values
        .chunks(4 * 3)
        .flat_map(|sequence| {
            let steps: Vec<Vec<f64>> =
                sequence.chunks(3).map(|s| s.iter().map(|x| f64::from(*x)).collect()).collect();
            definition(&weights, &steps)
        })
        .collect();
    let mut found = Vec::new();
    Scorer::new(&weights).score_values(&values, 4, &mut found);
    assert_close(&found, &expected, "the scorer");
    let device = Device::flex();
    let (outputs, _) =
        Network::new(&weights, &device).forward(Sequences::Values(&values, 3), 4, &device);
    assert_close(&numbers(outputs), &expected, "burn");
}

#[test]
fn a_row_does_not_depend_on_the_rows_beside_it() {
    let weights = Weights::random(symbols_shape(12, 2, 32), 11);
    let symbols = histories(5_000, 10, 12, 9);
    let (mut all, mut alone) = (Vec::new(), Vec::new());
    let mut scorer = Scorer::new(&weights);
    scorer.score_symbols(&symbols, 10, &mut all);
    for row in (0..5_000).step_by(97) {
        alone.clear();
        scorer.score_symbols(&symbols[row * 10..][..10], 10, &mut alone);
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&alone), bits(&all[row * 11..][..11]), "row {row}");
    }
}

#[test]
fn symbols_beyond_the_last_count_as_the_last() {
    let weights = Weights::random(symbols_shape(4, 1, 8), 2);
    let (mut known, mut beyond) = (Vec::new(), Vec::new());
    Scorer::new(&weights).score_symbols(&[1, 3], 2, &mut known);
    Scorer::new(&weights).score_symbols(&[1, u32::MAX], 2, &mut beyond);
    assert_eq!(known, beyond);
}
