//! The GPU, as far as this build and this machine have one.

use burn::tensor::Device;

use crate::inference::Adapter;

/// The GPU that networks are scored on: one of hardware if there is one, else one that software imitates.
///
/// # Errors
/// If there is none, or the crate was built without the feature `wgpu`; in words.
pub fn adapter() -> Result<Adapter, String> {
    chosen().map(|(adapter, _)| adapter)
}

/// The same, as burn knows it. It is opened when the first tensor is made on it, which may panic.
pub(super) fn device() -> Result<Device, String> {
    chosen().map(|(_, device)| device)
}

#[cfg(feature = "wgpu")]
fn chosen() -> Result<(Adapter, Device), String> {
    use std::panic::catch_unwind;

    use burn::tensor::{DeviceKind, DeviceType};

    // Drivers that are there and broken have been seen to panic here.
    let found =
        catch_unwind(|| Device::enumerate(DeviceType::Wgpu).into_iter().collect::<Vec<_>>())
            .map_err(|_| "the graphics drivers failed when asked for adapters".to_owned())?;
    let imitated = Device::wgpu(DeviceKind::Cpu);
    let is_hardware = |device: &&Device| **device != imitated;
    match found.iter().find(is_hardware) {
        Some(device) => Ok((Adapter::Hardware, device.clone())),
        None if found.is_empty() => Err("no adapter was found, not even one of software".into()),
        None => Ok((Adapter::Software, imitated)),
    }
}

#[cfg(not(feature = "wgpu"))]
fn chosen() -> Result<(Adapter, Device), String> {
    Err("the crate was built without the feature \"wgpu\"".into())
}
