//! How long a host with default features waits for its first release build.

use std::process::Command;
use std::time::Instant;

use crate::BoxResult;

/// Builds the quickstart into an empty folder. Sources of crates are fetched beforehand.
pub(crate) fn report() -> BoxResult<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let folder = tempfile::tempdir()?;
    let cargo = |arguments: &[&str]| -> BoxResult<f64> {
        let begin = Instant::now();
        // The one that runs this, or the one that is found: either knows its toolchain.
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(program)
            .args(arguments)
            .current_dir(root)
            .env("CARGO_TARGET_DIR", folder.path())
            .status()?;
        if status.success() {
            Ok(begin.elapsed().as_secs_f64())
        } else {
            Err("cargo failed".into())
        }
    };
    cargo(&["fetch"])?;
    let build = ["build", "--release", "-p", "driftline"];
    let seconds = cargo(&build)?;
    println!("figure: cold_release_build_seconds = {seconds:.0} s");
    // A detector's source counts as changed when its time does.
    let detector = std::path::Path::new(root).join("operators/src/detectors/ewma.rs");
    std::fs::File::options()
        .append(true)
        .open(&detector)?
        .set_modified(std::time::SystemTime::now())?;
    println!("figure: rebuild_after_detector_seconds = {:.0} s", cargo(&build)?);
    Ok(())
}
