//! libFuzzer's entry to the import of models.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../src/model_import.rs"]
mod model_import;

fuzz_target!(|data: &[u8]| {
    model_import::run(data);
});
