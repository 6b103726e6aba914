//! Every instruction against values computed elsewhere: `make.py` writes them, by exact integer and
//! fraction arithmetic and the PTX manual's tables.

mod cases;
mod coverage;
mod run;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;

use cases::Cases;

const FILES: [&str; 9] = [
    include_str!("integer.txt"),
    include_str!("float.txt"),
    include_str!("approximation.txt"),
    include_str!("convert.txt"),
    include_str!("compare.txt"),
    include_str!("across.txt"),
    include_str!("matrix.txt"),
    include_str!("memory.txt"),
    include_str!("atomic.txt"),
];

fn check(text: &str) {
    let wrong = run::run(&Cases::parse(text));
    let shown: Vec<&str> = wrong.iter().take(40).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), shown.join("\n"));
}

#[test]
fn integers() {
    check(FILES[0]);
}

#[test]
fn floats() {
    check(FILES[1]);
}

#[test]
fn approximations() {
    check(FILES[2]);
}

#[test]
fn conversions() {
    check(FILES[3]);
}

#[test]
fn comparisons() {
    check(FILES[4]);
}

#[test]
fn across_lanes() {
    check(FILES[5]);
}

#[test]
fn matrices() {
    check(FILES[6]);
}

#[test]
fn memory() {
    check(FILES[7]);
}

#[test]
fn atomics() {
    check(FILES[8]);
}

#[test]
fn every_accepted_opcode_has_a_case() {
    let files: Vec<Cases> = FILES.iter().map(|text| Cases::parse(text)).collect();
    let opcodes = files.iter().flat_map(|file| &file.cases).flat_map(|case| &case.opcodes);
    let covered: BTreeSet<&str> = opcodes.map(String::as_str).collect();
    // Else the operands that the search tries would not suit these, and it would see nothing near them.
    let rejected = coverage::rejected(&covered);
    assert!(rejected.is_empty(), "{rejected:?}");
    let missing = coverage::uncovered(&covered);
    let shown: Vec<&str> = missing.iter().take(1000).map(String::as_str).collect();
    assert!(missing.is_empty(), "{} of {} not covered:\n{}", missing.len(), covered.len(), shown.join("\n"));
}
