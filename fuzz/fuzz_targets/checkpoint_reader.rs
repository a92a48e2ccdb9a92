//! libFuzzer's entry to checkpoints.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../src/checkpoint_reader.rs"]
mod checkpoint_reader;

fuzz_target!(|data: &[u8]| {
    checkpoint_reader::run(data);
});
