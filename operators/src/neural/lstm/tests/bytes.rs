//! Weights come back exactly, and whatever is not them is refused by name.

use super::*;

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("key {i}")).collect()
}

#[test]
fn weights_come_back_exactly() {
    let weights = Weights::random(symbols_shape(6, 2, 8), 9);
    let bytes = weights.to_bytes(&names(6)).unwrap();
    let back = Weights::from_bytes(&bytes, Some(weights.shape())).unwrap();
    assert_eq!(back, (weights, names(6)));
}

#[test]
fn what_is_not_the_whole_is_refused_by_name() {
    let weights = Weights::random(symbols_shape(6, 1, 4), 9);
    let bytes = weights.to_bytes(&names(6)).unwrap();
    let problem = |bytes: &[u8], expected| {
        Weights::from_bytes(bytes, expected).expect_err("it is not whole").to_string()
    };
    for cut in 0..bytes.len() {
        assert!(
            problem(&bytes[..cut], None).starts_with("snapshot of lstm weights "),
            "cut at {cut}"
        );
    }
    let mut other = bytes.clone();
    other[0] += 1;
    assert!(problem(&other, None).contains("is of version 2, this is version 1"));
    let wider = symbols_shape(6, 1, 8);
    assert_eq!(
        problem(&bytes, Some(wider)),
        "snapshot of lstm weights are of shape (6 symbols, 1 layers of 4, 5 outputs), not (6 symbols, 1 layers of 8, 5 \
         outputs)"
    );
    let mut damaged = weights.clone();
    damaged.matrices_mut()[0].values[0] = f32::NAN;
    let bytes = damaged.to_bytes(&[]).unwrap();
    assert!(problem(&bytes, None).contains("do not fit their shape"));
}

#[test]
fn a_grown_network_answers_as_before_and_gives_new_outputs_the_mean() {
    let weights = Weights::random(symbols_shape(6, 2, 8), 9);
    let mut grown = weights.clone();
    grown.grow(2, 1);
    assert_eq!(grown.shape(), LstmShape { outputs: 7, ..symbols_shape(8, 2, 8) });
    grown.check().unwrap();
    let symbols = histories(20, 4, 6, 1);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    Scorer::new(&weights).score_symbols(&symbols, 4, &mut before);
    Scorer::new(&grown).score_symbols(&symbols, 4, &mut after);
    for (before, after) in before.chunks(5).zip(after.chunks(7)) {
        assert_eq!(before, &after[..5]);
        let mean = before.iter().sum::<f32>() / 5.0;
        assert!((after[5] - mean).abs() < 1e-4 && (after[6] - mean).abs() < 1e-4);
    }
    let (mut as_one, mut as_new) = (Vec::new(), Vec::new());
    Scorer::new(&grown).score_symbols(&[0, 1], 2, &mut as_one);
    Scorer::new(&grown).score_symbols(&[0, 7], 2, &mut as_new);
    assert_eq!(as_one, as_new, "a new symbol behaves like the one that it was told to be like");
}
