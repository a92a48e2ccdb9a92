//! libFuzzer's entry to log keys.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../src/log_lines.rs"]
mod log_lines;

fuzz_target!(|data: &[u8]| {
    log_lines::run(data);
});
