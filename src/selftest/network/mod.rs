//! Small networks through everything the engine does: training, scoring and attack, with the memory plan, the folded
//! norms and the slices of real runs.

mod cases;
mod outputs;
mod run;
#[cfg(test)]
mod tests;

use super::report::SelftestReport;
use crate::device::cpu::CpuDevice;
use crate::device::reference::ReferenceDevice;
use crate::device::{Device, Norm, Precision};
use crate::error::Result;
use crate::model::NetworkKind;
pub(super) use cases::{NetworkCase, network_cases};
use outputs::unequal_bits;
use run::NetworkTest;

/// Allowed difference of f32 devices, relative in the Euclidean norm.
const AGREEMENT: f64 = 1e-4;
/// Share of pixels whose first step may have the other sign: their gradients are close to zero.
const SIGNS: f64 = 1e-3;

/// What is compared, and the allowed difference: in f32; in bf16 against a reference that rounds as the device does,
/// and against the CPU, which doesn't round. None: not compared, since the difference grows through many steps.
///
/// A sum that differs in its last bit may be rounded to the other neighbour in bf16, so that right devices differ
/// by chance. Against f64 two to four times as much is allowed as the reference differed from itself with weights
/// moved by up to four of their last bits, forty times (the widest network four times, ResNet-50 and the VGGs three
/// times), in the worst of the networks: 1.5e-2, 1.1e-2, 2.3e-2, 9.8e-3, 2.5e-3, 1.3e-3, 1e-3, 4e-4, 3.6e-3 and
/// 4.5e-2. Against the CPU it is some two to seven times what the emulator gave, which is what the reference that
/// rounds gives (ResNet-50's losses 2.3e-2, VGG-11's signs 7.0e-2).
const ROWS: [(&str, f64, [Option<f64>; 2]); 11] = [
    ("network: first gradients", AGREEMENT, [Some(0.05), Some(0.2)]),
    ("network: ten SGD losses", AGREEMENT, [Some(0.03), Some(0.08)]),
    ("network: weights after them", AGREEMENT, [Some(0.06), None]),
    ("network: weight average", AGREEMENT, [Some(0.03), None]),
    ("network: logits", AGREEMENT, [Some(6e-3), Some(0.02)]),
    ("network: features", AGREEMENT, [Some(4e-3), Some(0.02)]),
    ("network: cosine scores", AGREEMENT, [Some(4e-3), Some(0.01)]),
    ("network: ranking, order", 0.0, [Some(1e-3), Some(5e-3)]),
    ("network: activation gradients", AGREEMENT, [Some(0.05), Some(0.2)]),
    ("network: PGD signs, share", SIGNS, [Some(0.01), Some(0.15)]),
    (PGD_7, 10.0 * SIGNS, [Some(0.1), None]),
];
const PGD_7: &str = "network: PGD-7, share";
/// What has to have the bits of the CPU, and the device's own bits in a second run.
const EXACT: [(&str, &str); 2] =
    [("network: random start, bits", "cpu"), ("network: repeated, bits", "itself")];

/// Adds the empty rows.
pub(super) fn add_rows(report: &mut SelftestReport, precision: Precision) {
    for (column, against) in ["f64", "cpu"].into_iter().enumerate() {
        for (name, plain, rounded) in ROWS {
            let tolerance = if precision == Precision::F32 { Some(plain) } else { rounded[column] };
            tolerance.into_iter().for_each(|tolerance| report.expect(name, against, tolerance));
        }
    }
    EXACT.iter().for_each(|(name, against)| report.expect(name, against, 0.0));
}

/// Whether the report has any of the rows.
pub(super) fn is_wanted(report: &SelftestReport) -> bool {
    ROWS.iter().map(|(name, ..)| name).chain(EXACT.iter().map(|(name, _)| name)).any(|name| report.has(name))
}

/// Adds the results of `case` on `device`.
pub(super) fn test(
    report: &mut SelftestReport,
    device: &dyn Device,
    cpu: &CpuDevice,
    case: &NetworkCase,
) -> Result<()> {
    let label = case.label();
    let network = NetworkTest::new(case)?;
    // Every device gets the same trained weights, so that the rest is comparable.
    let on_cpu = network.run(cpu, None)?;
    let trained = on_cpu.weights.as_slice();
    let reference = network.run(&ReferenceDevice::like(device), Some(trained))?;
    let found =
        network.run(device, Some(trained)).and_then(|found| Ok((network.run_again(device, trained)?, found)));
    let (again, found) = match found {
        Ok(found) => found,
        Err(error) => {
            report.failed("network: logits", "f64", &label, &error);
            return Ok(());
        }
    };
    // Weights moved by four of their last bits change 43 % of the pixels of this one's examples in bf16.
    let chance = device.precision() == Precision::Bf16 && case.network == NetworkKind::Vgg11Bn;
    for (against, expected) in [("f64", &reference), ("cpu", &on_cpu)] {
        let errors = found.errors(expected, case.norm);
        for (name, error) in errors.into_iter().filter(|(name, _)| !(chance && *name == PGD_7)) {
            report.add(name, against, error, &label, "");
        }
    }
    if case.norm == Norm::Linf {
        let bits = unequal_bits(&found.starts, &on_cpu.starts);
        report.add("network: random start, bits", "cpu", bits, &label, "");
    }
    report.add("network: repeated, bits", "itself", found.unequal_bits(&again), &label, "");
    Ok(())
}
