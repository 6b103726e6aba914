//! Self-test: every op of a device over a grid of shapes, and whole networks on it, against the f64
//! reference and the CPU engine. The same for a user's GPU, for an emulator, and for the CPU.
//!
//! | file | |
//! |---|---|
//! | `case` | a few ops and the memory they work on |
//! | `grid/` | the cases, as data |
//! | `compare` | where memory differs, and which op wrote there |
//! | `network` | a small network through every job of the engine |
//! | `report` | what was found, as rows of a table |

pub mod case;
pub mod compare;
pub mod grid;
mod network;
pub mod report;

use crate::device::cpu::CpuDevice;
use crate::device::reference::ReferenceDevice;
use crate::device::{Device, Norm, Op, Precision};
use crate::error::{Error, Result};
use case::Case;
pub use grid::Depth;
pub use report::{Report, Row};

/// The largest error allowed of an op, |value − reference| / (1 + |reference|). The convolutions sum
/// up to thousands of products of numbers up to 4 (and Winograd transforms them before), which is
/// why theirs is the largest.
pub const TOLERANCES: [(&str, f64); 28] = [
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

/// Tests `device`: all of it, or the rows whose name contains `only`. `progress` hears what is done
/// next, and how many cases and networks there are.
///
/// # Errors
/// No row has `only` in its name, or something keeps the test itself from running (the CPU engine or
/// the reference fails). What the device does wrong, its errors among it, is in the report.
pub fn run(
    device: &dyn Device,
    depth: Depth,
    only: &str,
    progress: &mut dyn FnMut(&str, usize),
) -> Result<Report> {
    let cpu = CpuDevice::new(None)?;
    let mut report = announced(device, only)?;
    let wanted = |report: &Report, case: &Case| case.ops.iter().any(|op| tells(report, &op.name()));
    let plans = if network::is_wanted(&report) { network::plans(depth) } else { Vec::new() };
    let mut total = plans.len();
    grid::visit(depth, device.precision(), &mut |_, case| {
        total += usize::from(wanted(&report, &case));
        Ok(())
    })?;
    grid::visit(depth, device.precision(), &mut |label, case| {
        if !wanted(&report, &case) {
            return Ok(());
        }
        progress(label, total);
        one(&mut report, device, &cpu, label, &case)
    })?;
    for plan in plans {
        progress(&plan.label(), total);
        network::test(&mut report, device, &cpu, &plan)?;
    }
    Ok(report)
}

/// A report that awaits the rows whose name contains `only`.
fn announced(device: &dyn Device, only: &str) -> Result<Report> {
    let mut report = Report::new(device.describe(), only);
    for (op, tolerance) in TOLERANCES {
        report.expect(op, "f64", tolerance);
        report.expect(op, "cpu", tolerance);
    }
    for (name, _) in EXACT {
        report.expect(name, "cpu", 0.0);
    }
    network::announce(&mut report, device.precision());
    if report.rows.is_empty() {
        let ops = TOLERANCES.map(|(op, _)| op).join(", ");
        return Err(Error::input(format!(
            "--only {only}: no row has that in its name; there are {ops}, network"
        )));
    }
    Ok(report)
}

/// Whether an op's results go to any row.
fn tells(report: &Report, op: &str) -> bool {
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
/// Those of them that are words an op writes beside its floats.
const WORDS: [&str; 2] = ["Conv, mask bits", "MaxPool, argmax"];

fn one(report: &mut Report, device: &dyn Device, cpu: &CpuDevice, label: &str, case: &Case) -> Result<()> {
    let reference = case.run(&ReferenceDevice(device.precision()))?;
    let beside = case.run(cpu)?;
    let found = match case.run(device) {
        Ok(found) => found,
        Err(error) => {
            for op in case.setup.iter().chain(&case.ops).filter(|op| !matches!(op, Op::LoadFilter { .. })) {
                report.failed(&op.name(), "f64", label, &error);
            }
            return Ok(());
        }
    };
    let setup = case.setup.len();
    // The CPU doesn't round operands: it's the twin of a device that does where rounding changes nothing.
    let twins = device.precision() == Precision::F32 || case.operands_are_short();
    for (against, expected) in [("f64", &reference), ("cpu", &beside)] {
        if against == "cpu" && !twins {
            continue;
        }
        for difference in compare::floats(case, &found, expected).into_iter().skip(setup) {
            report.add(&difference.op, against, difference.error, label, &difference.place);
        }
    }
    for (row, name) in EXACT {
        let words = WORDS.contains(&row);
        let applies = |op: &Op| op.name() == name && (words || exact(op));
        if !(words || case.ops.iter().all(exact)) {
            continue;
        }
        let differences =
            if words { compare::words(case, &found, &beside) } else { compare::bits(case, &found, &beside) };
        let ops = case.setup.iter().chain(&case.ops);
        for (_, difference) in ops.zip(differences).filter(|(op, _)| applies(op)) {
            report.add(row, "cpu", difference.error, label, &difference.place);
        }
    }
    Ok(())
}

/// Ops without rounding of their own, or with draws that every device has to make alike.
fn exact(op: &Op) -> bool {
    matches!(
        op,
        Op::LoadImages { .. }
            | Op::RandomErasing { .. }
            | Op::Copy { .. }
            | Op::PgdStart { norm: Norm::Linf, .. }
    )
}
