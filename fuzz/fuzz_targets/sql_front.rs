//! libFuzzer's entry to the SQL front.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../src/sql_front.rs"]
mod sql_front;

fuzz_target!(|data: &[u8]| {
    sql_front::run(data);
});
