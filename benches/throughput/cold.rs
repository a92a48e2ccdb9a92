//! How long a host with default features waits for its first release build, and who changes a detector for the next one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::BoxResult;

/// What is written instead of what in a detector, so that its code is another.
const CHANGE: (&str, &str) = ("change * change", "change * (change + 1e-300)");

/// Builds the library into an empty folder. Sources of crates are fetched beforehand.
pub(crate) fn report() -> BoxResult<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let folder = tempfile::tempdir()?;
    let cargo = |arguments: &[&str], incremental: &str| -> BoxResult<f64> {
        let begin = Instant::now();
        // The one that runs this, or the one that is found: either knows its toolchain.
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(program)
            .args(arguments)
            .current_dir(root)
            .env("CARGO_TARGET_DIR", folder.path())
            .env("CARGO_INCREMENTAL", incremental)
            .status()?;
        if status.success() {
            Ok(begin.elapsed().as_secs_f64())
        } else {
            Err("cargo failed".into())
        }
    };
    cargo(&["fetch"], "0")?;
    let build = ["build", "--release", "-p", "driftline"];
    println!("figure: cold_release_build_seconds = {:.0} s", cargo(&build, "0")?);
    // Makes what the next build starts from.
    cargo(&build, "1")?;
    let _changed = Changed::new(&Path::new(root).join("operators/src/detectors/ewma.rs"))?;
    println!("figure: rebuild_after_detector_seconds = {:.0} s", cargo(&build, "1")?);
    println!("figure: rebuild_without_incremental_seconds = {:.0} s", cargo(&build, "0")?);
    Ok(())
}

/// A source file that is put back in the end.
struct Changed {
    path: PathBuf,
    original: String,
}

impl Changed {
    fn new(path: &Path) -> BoxResult<Self> {
        let original = fs::read_to_string(path)?;
        let changed = original.replacen(CHANGE.0, CHANGE.1, 1);
        if changed == original {
            return Err(format!("{} has no \"{}\" any more", path.display(), CHANGE.0).into());
        }
        fs::write(path, changed)?;
        Ok(Self { path: path.to_owned(), original })
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, &self.original) {
            println!("{} stays changed: {error}", self.path.display());
        }
    }
}
