//! Windows scored per second on the processor and on the GPU, by how many come at a time.

use std::time::{Duration, Instant};

use driftline_operators::inference::{Adapter, Compute, Network};
use driftline_operators::neural::adapter;
use driftline_operators::neural::lstm::{LstmInput, LstmShape, ServedLstm, TOLERANCE, Weights};

use super::Asked;
use crate::random::Random;

/// The network of the paper over the keys of HDFS: two layers of 64, windows of ten.
const STEPS: usize = 10;
const SYMBOLS: usize = 32;
const SIZES: [usize; 6] = [1, 8, 64, 512, 4_096, 16_384];

/// Each size is scored again and again for so long.
const LONG_ENOUGH: Duration = Duration::from_secs(2);

pub(crate) fn report(_: Asked) {
    let shape =
        LstmShape { input: LstmInput::Symbols(SYMBOLS), layers: 2, hidden: 64, outputs: SYMBOLS };
    let network = ServedLstm::new(Weights::random(shape, 1), STEPS);
    let mut random = Random(7);
    let windows = SIZES[SIZES.len() - 1];
    let rows: Vec<f32> = (0..windows * STEPS).map(|_| random.below(SYMBOLS) as f32).collect();
    let mut expected = Vec::new();
    network.score(Compute::Cpu, &rows, &mut expected).expect("the processor is there");
    let gpu = match adapter() {
        Ok(Adapter::Hardware) => Some("a GPU"),
        Ok(Adapter::Software) => Some("a GPU that software imitates on the same cores"),
        Err(problem) => {
            println!(
                "SKIPPED: {problem}, so that nothing is scored on a GPU. Run with --features wgpu on a machine with Vulkan, Metal or DirectX"
            );
            None
        }
    };
    let places = [(Compute::Cpu, "cpu", Some("one core")), (Compute::Gpu, "gpu", gpu)];
    for (on, name, what) in places {
        let Some(what) = what else { continue };
        for size in SIZES {
            let rows = &rows[..size * STEPS];
            // The first pass brings the weights there and compiles kernels.
            let mut out = Vec::new();
            network.score(on, rows, &mut out).expect("the device works");
            let is_near = |(found, expected): (&f32, &f32)| (found - expected).abs() <= TOLERANCE;
            assert!(out.iter().zip(&expected).all(is_near), "{what} is off, {size} at a time");
            let (started, mut rounds) = (Instant::now(), 0);
            while started.elapsed() < LONG_ENOUGH {
                out.clear();
                network.score(on, rows, &mut out).expect("the device works");
                rounds += 1;
            }
            let rate = f64::from(rounds) * size as f64 / started.elapsed().as_secs_f64();
            println!(
                "figure: windows_per_second_{name}_{size} = {rate:.0} windows/s on {what}, {size} at a time"
            );
        }
    }
}
