//! The same algorithm with numpy and scikit-learn, as a child process over the same fleet.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::BoxResult;
use super::fleet::{Fleet, Size};
use super::speed::{MEASURED, TRAINING, WARM_UP, drive};

const FLEET: Size = Size { components: 100, metrics: 12, slots: WARM_UP + MEASURED };

pub(crate) fn report() -> BoxResult<()> {
    let Size { components, metrics, .. } = FLEET;
    println!(
        "== beside scikit-learn: {components} components x {metrics} metrics, {TRAINING} slots of training, {MEASURED} scored =="
    );
    let fleet = Fleet::generate(FLEET);
    let ours = drive(&fleet)?;
    let each = (components * MEASURED) as f64;
    let mine = ours.seconds_per_slot() / components as f64;
    println!(
        "driftline: training {:.2} s, then {:.1} us per component and slot; {} rebuilds, {} alarms",
        ours.training_seconds,
        1e6 * mine,
        ours.rebuilds,
        ours.alarms
    );
    let Some(theirs) = scikit_learn(&fleet)? else {
        println!();
        return Ok(());
    };
    let number = |name: &str| theirs[name].as_f64().unwrap_or(f64::NAN);
    let other = number("scoring_seconds") / each;
    println!(
        "{}: training {:.2} s, then {:.1} us per component and slot; {} rebuilds, {} alarms",
        theirs["versions"].as_str().unwrap_or("scikit-learn"),
        number("training_seconds"),
        1e6 * other,
        theirs["rebuilds"],
        theirs["alarms"]
    );
    let (same, compared) = agreement(&ours.states, &theirs["states"]);
    println!(
        "both give {:.2} % of {compared} slots the same state; processor time of one core each, rebuilds included",
        100.0 * same as f64 / compared.max(1) as f64
    );
    println!("figure: speedup_over_sklearn = {:.1} times", other / mine);
    println!(
        "figure: training_speedup_over_sklearn = {:.1} times\n",
        number("training_seconds") / ours.training_seconds
    );
    Ok(())
}

/// Slots to which both give the same state, and slots for which ours gives one.
fn agreement(ours: &[Vec<Option<i64>>], theirs: &Value) -> (usize, usize) {
    let pairs = ours.iter().enumerate().flat_map(|(component, states)| {
        states
            .iter()
            .enumerate()
            .filter_map(move |(slot, state)| Some(((*state)?, theirs[component][slot].as_i64())))
    });
    pairs.fold((0, 0), |(same, all), (mine, other)| {
        (same + usize::from(Some(mine) == other), all + 1)
    })
}

/// What the script said, or none, said loudly, where scikit-learn is not installed.
fn scikit_learn(fleet: &Fleet) -> BoxResult<Option<Value>> {
    let probe = Command::new("python3").args(["-c", "import numpy, sklearn"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!(
            "SKIPPED: scikit-learn is not there, so nothing is compared. To compare: pip install scikit-learn"
        );
        return Ok(None);
    }
    let Size { components, metrics, .. } = fleet.size;
    let file = TemporaryFile::write(&fleet.values)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/drift_insight.py");
    let sizes = [components, metrics, TRAINING, WARM_UP, MEASURED].map(|size| size.to_string());
    let output = Command::new("python3")
        .arg(script)
        .arg(&file.0)
        .args(sizes)
        .envs(
            ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"].map(|name| (name, "1")),
        )
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(Some(serde_json::from_slice(&output.stdout)?))
}

/// A file that goes away with its owner.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn write(values: &[f64]) -> BoxResult<Self> {
        let name = format!("driftline-drift-insight-{}.f64", std::process::id());
        let file = Self(std::env::temp_dir().join(name));
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(&file.0, bytes)?;
        Ok(file)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // A file that stays in the folder for temporary files does no harm.
        let _ = std::fs::remove_file(&self.0);
    }
}
