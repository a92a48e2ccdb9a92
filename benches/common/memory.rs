//! Memory of this process, where the system tells it (Linux). Shared by benches.

/// Bytes that are resident.
pub(crate) fn resident_bytes() -> Option<f64> {
    status("VmRSS:")
}

/// The most bytes that were resident so far.
pub(crate) fn peak_bytes() -> Option<f64> {
    status("VmHWM:")
}

fn status(name: &str) -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
}
