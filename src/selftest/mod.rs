//! Self-test of a device: every op over a grid of shapes, and whole networks, against the f64 reference and the
//! CPU device. It is the same for a GPU, for the emulator and for the CPU.
//!
//! | file | |
//! |---|---|
//! | `case` | a few ops and the memory they work on |
//! | `cases/` | the cases of each op, as data |
//! | `compare` | where memory differs, and which op wrote there |
//! | `network/` | small networks through everything the engine does |
//! | `report` | the results, as rows of a table |

pub mod case;
pub mod cases;
pub mod compare;
mod network;
pub mod report;

use crate::device::cpu::CpuDevice;
use crate::device::ops;
use crate::device::reference::ReferenceDevice;
use crate::device::{Device, Norm, Op, Precision};
use crate::error::{Error, Result};
use case::Case;
pub use cases::Depth;
pub use report::{SelftestReport, SelftestRow};

/// The largest allowed error of each op, |value − reference| / (1 + |reference|). That of the convolutions is the
/// largest: they sum thousands of products of numbers up to 4, on the CPU after a Winograd transform.
pub const TOLERANCES: [(&str, f64); 30] = [
    ("Conv", 1e-3),
    ("ConvDgrad", 1e-3),
    ("ConvWgrad", 1e-3),
    ("BatchNormAffine", 1e-6),
    ("BatchNormStats", 1e-5),
    ("BatchNormDgrad", 2e-5),
    ("Upsample", 1e-6),
    ("UpsampleDgrad", 2e-6),
    ("ScaledTanh", 1e-6),
    ("ScaledTanhDgrad", 1e-6),
    ("Add", 1e-6),
    ("MaxPool", 1e-6),
    ("MaxPoolDgrad", 1e-6),
    ("GlobalAvgPool", 1e-6),
    ("GlobalAvgPoolDgrad", 1e-6),
    ("AdaptiveAvgPool", 1e-6),
    ("AdaptiveAvgPoolDgrad", 2e-6),
    ("Linear", 2e-5),
    ("LinearDgrad", 2e-5),
    ("LinearWgrad", 2e-5),
    ("CrossEntropy", 1e-5),
    ("CosineSimilarity", 1e-6),
    ("LoadImages", 1e-7),
    ("RandomErasing", 1e-7),
    ("PgdStart", 1e-6),
    ("PgdStep", 1e-6),
    ("Sgd", 1e-6),
    ("Adam", 1e-6),
    ("MovingAverage", 1e-6),
    ("Copy", 0.0),
];

/// Tests `device`: all rows, or those whose name contains `only`. With `fail_fast` it ends after the first case
/// that fails. `progress` gets the label of the next case and the number of cases and networks.
///
/// # Errors
/// No row has `only` in its name, or the reference or the CPU device fails. Errors of the tested device are in the
/// report.
pub fn run(
    device: &dyn Device,
    depth: Depth,
    only: &str,
    fail_fast: bool,
    progress: &mut dyn FnMut(&str, usize),
) -> Result<SelftestReport> {
    let cpu = CpuDevice::new(None)?;
    let mut report = empty_report(device, only)?;
    let wanted = |report: &SelftestReport, case: &Case| case.ops.iter().any(|op| has_row(report, op.name()));
    let networks = if network::is_wanted(&report) { network::network_cases(depth) } else { Vec::new() };
    let mut total = networks.len();
    cases::visit(depth, device.precision(), &mut |_, case| {
        total += usize::from(wanted(&report, &case));
        Ok(())
    })?;
    let ended = |report: &SelftestReport| fail_fast && report.misses();
    cases::visit(depth, device.precision(), &mut |label, case| {
        if ended(&report) || !wanted(&report, &case) {
            return Ok(());
        }
        progress(label, total);
        test_case(&mut report, device, &cpu, label, &case)
    })?;
    for case in networks {
        if ended(&report) {
            break;
        }
        progress(&case.label(), total);
        network::test(&mut report, device, &cpu, &case)?;
    }
    if ended(&report) {
        report.rows.retain(|row| row.cases > 0);
    }
    Ok(report)
}

/// A report with the empty rows whose name contains `only`.
fn empty_report(device: &dyn Device, only: &str) -> Result<SelftestReport> {
    let mut report = SelftestReport::new(device.describe(), only);
    for (op, tolerance) in TOLERANCES {
        report.expect(op, "f64", tolerance);
        report.expect(op, "cpu", tolerance);
    }
    for (name, _) in EXACT {
        report.expect(name, "cpu", 0.0);
    }
    network::add_rows(&mut report, device.precision());
    if report.rows.is_empty() {
        let ops = TOLERANCES.map(|(op, _)| op).join(", ");
        return Err(Error::input(format!(
            "--only {only}: no row has that in its name; there are {ops}, network"
        )));
    }
    Ok(report)
}

/// Whether an op's results go to any row.
fn has_row(report: &SelftestReport, op: &str) -> bool {
    report.has(op) || EXACT.iter().any(|(row, name)| *name == op && report.has(row))
}

/// Rows of what has to be the CPU's to the bit: the draws of Philox, masks, argmax, copies.
const EXACT: [(&str, &str); 6] = [
    ("LoadImages, bits", "LoadImages"),
    ("RandomErasing, bits", "RandomErasing"),
    ("PgdStart L∞, bits", "PgdStart"),
    ("Copy, bits", "Copy"),
    ("Conv, mask bits", "Conv"),
    ("MaxPool, argmax", "MaxPool"),
];
/// Those of them that are words which an op writes beside its floats.
const WORDS: [&str; 2] = ["Conv, mask bits", "MaxPool, argmax"];

fn test_case(
    report: &mut SelftestReport,
    device: &dyn Device,
    cpu: &CpuDevice,
    label: &str,
    case: &Case,
) -> Result<()> {
    let reference = case.run(&ReferenceDevice::like(device))?;
    let on_cpu = case.run(cpu)?;
    let found = match case.run(device) {
        Ok(found) => found,
        Err(error) => {
            for op in case.setup.iter().chain(&case.ops).filter(|op| !matches!(op, Op::LoadFilter(_))) {
                report.failed(op.name(), "f64", label, &error);
            }
            return Ok(());
        }
    };
    let setup = case.setup.len();
    // The CPU doesn't round operands. A device that does is comparable only if rounding changes nothing.
    let comparable = device.precision() == Precision::F32 || case.operands_are_bf16();
    for (against, expected) in [("f64", &reference), ("cpu", &on_cpu)] {
        if against == "cpu" && !comparable {
            continue;
        }
        for difference in compare::floats(case, &found, expected).into_iter().skip(setup) {
            report.add(difference.op, against, difference.error, label, &difference.place);
        }
    }
    for (row, name) in EXACT {
        let words = WORDS.contains(&row);
        let applies = |op: &Op| op.name() == name && (words || exact(op));
        if !(words || case.ops.iter().all(exact)) {
            continue;
        }
        let differences =
            if words { compare::words(case, &found, &on_cpu) } else { compare::bits(case, &found, &on_cpu) };
        let ops = case.setup.iter().chain(&case.ops);
        for (_, difference) in ops.zip(differences).filter(|(op, _)| applies(op)) {
            report.add(row, "cpu", difference.error, label, &difference.place);
        }
    }
    Ok(())
}

/// Ops that don't round, or whose random draws have to be the same on every device.
fn exact(op: &Op) -> bool {
    matches!(
        op,
        Op::LoadImages(_)
            | Op::RandomErasing(_)
            | Op::Copy(_)
            | Op::PgdStart(ops::PgdStart { norm: Norm::Linf, .. })
    )
}
