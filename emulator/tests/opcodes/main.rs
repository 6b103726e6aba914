//! Every instruction against values computed elsewhere: `make.py` writes them, by exact integer and
//! fraction arithmetic and the PTX manual's tables.

mod cases;
mod run;
#[path = "../support/mod.rs"]
mod support;

use cases::Cases;

fn check(text: &str) {
    let wrong = run::run(&Cases::parse(text));
    let shown: Vec<&str> = wrong.iter().take(40).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), shown.join("\n"));
}

#[test]
fn integers() {
    check(include_str!("integer.txt"));
}

#[test]
fn floats() {
    check(include_str!("float.txt"));
}

#[test]
fn approximations() {
    check(include_str!("approximation.txt"));
}

#[test]
fn conversions() {
    check(include_str!("convert.txt"));
}

#[test]
fn comparisons() {
    check(include_str!("compare.txt"));
}
