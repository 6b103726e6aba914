//! Fault injection: hardware that breaks during a launch, another program that takes memory.

use std::sync::atomic::{AtomicU64, Ordering};

use super::device::Device;
use super::status::{Result, Status};
use crate::config::{Fail, Take};

/// Counts towards the injected faults.
#[derive(Default)]
pub struct FaultInjection {
    /// Launches so far of the kernel that is to fail.
    launches: AtomicU64,
    /// Allocations so far.
    allocations: AtomicU64,
}

impl FaultInjection {
    /// Fails the launch that the settings name.
    pub fn at_launch(&self, kernel: &str, fail: Option<&Fail>) -> Result {
        let Some(fail) = fail.filter(|fail| fail.kernel == kernel) else {
            return Ok(());
        };
        let number = self.launches.fetch_add(1, Ordering::Relaxed) + 1;
        if number != fail.number {
            return Ok(());
        }
        eprintln!("ptx-emulator: launch {number} of {kernel} fails, as PTX_EMULATOR_FAIL asks");
        Err(Status::LAUNCH_FAILED)
    }

    /// Takes memory before the allocation that the settings name: as much as they say, or what is left.
    pub fn at_allocation(&self, device: &Device, take: Option<&Take>) {
        let Some(take) = take else {
            return;
        };
        let number = self.allocations.fetch_add(1, Ordering::Relaxed) + 1;
        if number == take.number {
            let free = device.memory.capacity() - device.memory.used();
            let bytes = take.bytes.min(free);
            // It is never freed.
            let _taken = device.memory.allocate(bytes);
            eprintln!(
                "ptx-emulator: {bytes} bytes are taken before allocation {number}, as PTX_EMULATOR_OOM asks"
            );
        }
    }
}
