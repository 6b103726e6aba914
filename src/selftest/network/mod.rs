//! A small network through every job of the engine: what ops give together, with the memory plan,
//! the folding and the workers of real runs.

mod outcome;
mod plan;
mod setup;
#[cfg(test)]
mod tests;

use super::report::Report;
use crate::device::cpu::CpuDevice;
use crate::device::reference::ReferenceDevice;
use crate::device::{Device, Norm, Precision};
use crate::error::Result;
use outcome::unequal_bits;
pub(super) use plan::{Plan, plans};
use setup::Setup;

/// What f32 engines agree to, in the Euclidean norm relative to the truth's.
const AGREEMENT: f64 = 1e-4;
/// The share of pixels whose first step may go the other way: gradients next to zero.
const SIGNS: f64 = 1e-3;

/// What is looked at against each other engine, and how much may differ: of f32; of bf16, against a reference
/// that rounds as the device does and against the CPU, which doesn't round, none where its difference has grown
/// through many steps.
///
/// A sum that differs in its last bit may be rounded to the other neighbour in bf16, so that right devices differ
/// by chance. Against f64 two to four times as much is allowed as the reference differed from itself with weights
/// moved by up to four of their last bits, forty times (the widest network four times), in the worst of the
/// networks: 1.5e-2, 5e-3, 8e-3, 4e-3, 2.5e-3, 1.3e-3, 1e-3, 4e-4, 3.6e-3 and 3.2e-2. Against the CPU it is some
/// four to seven times what the emulator gave.
const ROWS: [(&str, f64, [Option<f64>; 2]); 10] = [
    ("network: first gradients", AGREEMENT, [Some(0.05), Some(0.2)]),
    ("network: ten SGD losses", AGREEMENT, [Some(0.02), Some(0.02)]),
    ("network: weights after them", AGREEMENT, [Some(0.03), None]),
    ("network: weight average", AGREEMENT, [Some(0.015), None]),
    ("network: logits", AGREEMENT, [Some(6e-3), Some(0.02)]),
    ("network: features", AGREEMENT, [Some(4e-3), Some(0.02)]),
    ("network: cosine scores", AGREEMENT, [Some(4e-3), Some(0.01)]),
    ("network: ranking, order", 0.0, [Some(1e-3), Some(5e-3)]),
    ("network: PGD signs, share", SIGNS, [Some(0.01), Some(0.03)]),
    ("network: PGD-7, share", 10.0 * SIGNS, [Some(0.1), None]),
];
/// What has to be the CPU's to the bit, and the device's own the next time.
const EXACT: [(&str, &str); 2] =
    [("network: random start, bits", "cpu"), ("network: repeated, bits", "itself")];

/// Announces the rows.
pub(super) fn announce(report: &mut Report, precision: Precision) {
    for (column, against) in ["f64", "cpu"].into_iter().enumerate() {
        for (name, plain, rounded) in ROWS {
            let tolerance = if precision == Precision::F32 { Some(plain) } else { rounded[column] };
            tolerance.into_iter().for_each(|tolerance| report.expect(name, against, tolerance));
        }
    }
    EXACT.iter().for_each(|(name, against)| report.expect(name, against, 0.0));
}

/// Whether any of the rows is announced.
pub(super) fn is_wanted(report: &Report) -> bool {
    ROWS.iter().map(|(name, ..)| name).chain(EXACT.iter().map(|(name, _)| name)).any(|name| report.has(name))
}

/// Adds what `plan` gives on `device`.
pub(super) fn test(report: &mut Report, device: &dyn Device, cpu: &CpuDevice, plan: &Plan) -> Result<()> {
    let label = plan.label();
    let setup = Setup::new(plan)?;
    // Every device is then given the same trained weights, so that what follows compares like with like.
    let beside = setup.outcome(cpu, None)?;
    let trained = Some(beside.weights.as_slice());
    let reference = setup.outcome(&ReferenceDevice(device.precision()), trained)?;
    let found = setup.outcome(device, trained).and_then(|found| Ok((setup.outcome(device, trained)?, found)));
    let (again, found) = match found {
        Ok(found) => found,
        Err(error) => {
            report.failed("network: logits", "f64", &label, &error);
            return Ok(());
        }
    };
    for (against, expected) in [("f64", &reference), ("cpu", &beside)] {
        for (name, error) in found.errors(expected, plan.norm) {
            report.add(name, against, error, &label, "");
        }
    }
    if plan.norm == Norm::Linf {
        let bits = unequal_bits(&found.starts, &beside.starts);
        report.add("network: random start, bits", "cpu", bits, &label, "");
    }
    report.add("network: repeated, bits", "itself", found.unequal_bits(&again), &label, "");
    Ok(())
}
