//! libFuzzer's entry to the file sources.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../src/file_source.rs"]
mod file_source;

fuzz_target!(|data: &[u8]| {
    file_source::run(data);
});
