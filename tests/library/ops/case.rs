//! Checks of a case: the CPU against the f64 reference and itself.

use pbe::device::cpu::CpuDevice;
use pbe::device::reference::ReferenceDevice;
use pbe::selftest::case::{Case, RegionValues};
use pbe::selftest::compare;

/// Asserts that the CPU agrees with the reference to `tolerance` (absolute and relative) and with
/// itself, to the bit, for any number of threads. All memory is returned.
#[track_caller]
pub fn check(case: &Case, tolerance: f64) -> RegionValues {
    let expected = case.run(&ReferenceDevice::default()).unwrap();
    let mut results = [1, 2, 3].map(|threads| case.run(&CpuDevice::new(Some(threads)).unwrap()).unwrap());
    for difference in compare::floats(case, &results[0], &expected) {
        assert!(difference.error <= tolerance, "{difference:?}");
    }
    for other in &results[1..] {
        for difference in compare::bits(case, other, &results[0]) {
            assert!(difference.error == 0.0, "depends on the threads: {difference:?}");
        }
    }
    std::mem::take(&mut results[0])
}

/// What a CPU device says to the ops.
pub fn refusal(case: &Case) -> String {
    match case.run(&CpuDevice::new(Some(2)).unwrap()) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}
