//! Every check: a kernel that breaks the rule is found, with its place, and one that keeps it isn't.

mod support;

use ptx_emulator::exec::{Checks, Launch};
use ptx_emulator::fault::{Fault, Kind};
use support::{Argument, Program, line};

const TEXT: &str = include_str!("kernels/checks.ptx");
const SEEDS: [u64; 4] = [0, 1, 2, 3];

/// Runs a kernel whose first parameter says whether it's bad.
fn run(
    kind: Kind,
    seed: u64,
    bad: bool,
    name: &str,
    launch: Launch,
    rest: impl Fn(&Program) -> Vec<Argument>,
) -> Result<(), Box<Fault>> {
    let mut program = Program::with_seed(TEXT, seed);
    // A race may show first as a read of what the other warp hasn't written yet.
    program.settings.checks.uninitialised = kind != Kind::SharedRace;
    let mut arguments = vec![Argument::Int(bad.into())];
    arguments.extend(rest(&program));
    program.try_run(name, launch, &arguments).map(drop)
}

/// The finding of the bad kernel, the same kind under every seed; the good one has none.
fn found(kind: Kind, name: &str, launch: Launch, rest: impl Fn(&Program) -> Vec<Argument>) -> Box<Fault> {
    let mut last = None;
    for seed in SEEDS {
        if let Err(fault) = run(kind, seed, false, name, launch.clone(), &rest) {
            panic!("{name} is good, but {fault:#?}");
        }
        let fault = run(kind, seed, true, name, launch.clone(), &rest).expect_err(name);
        assert_eq!(fault.kind, kind, "{name}: {fault:#?}");
        assert_eq!(fault.place.kernel, name);
        let (file, line) = fault.place.source.clone().unwrap();
        assert!(file.ends_with("checks.cu") && line > 0, "{file} {line}");
        assert!(fault.place.ptx_line > 0);
        last = Some(fault);
    }
    last.unwrap()
}

fn out(count: usize) -> impl Fn(&Program) -> Vec<Argument> {
    move |program| vec![program.empty::<i32>(count).into()]
}

#[test]
fn out_of_bounds() {
    let fault = found(Kind::OutOfBounds, "bounds", line(2, 64), |program| {
        vec![100.into(), program.empty::<f32>(100).into()]
    });
    assert_eq!((fault.place.block, fault.place.thread), ([1, 0, 0], [36, 0, 0]));
    assert!(fault.address.is_some());
}

#[test]
fn shared_out_of_bounds() {
    let launch = Launch { dynamic_shared: 256, ..line(1, 64) };
    let fault = found(Kind::OutOfBounds, "shared_bounds", launch, out(64));
    assert_eq!((fault.place.thread, fault.address), ([63, 0, 0], Some(256)));
}

#[test]
fn misaligned() {
    found(Kind::Misaligned, "alignment", line(1, 32), |program| {
        vec![program.upload(&[0u8; 256]).into(), program.empty::<i32>(32).into()]
    });
}

#[test]
fn use_after_free() {
    let program = Program::new(TEXT);
    let (x, out) = (program.upload(&[1.0f32; 64]), program.empty::<f32>(32));
    let arguments = [64.into(), x.into(), out.into()];
    program.run("read_all", line(1, 32), &arguments);
    program.memory.free(x);
    let fault = program.try_run("read_all", line(1, 32), &arguments).unwrap_err();
    assert_eq!((fault.kind, fault.address), (Kind::UseAfterFree, Some(x)));
}

#[test]
fn uninitialised_global_memory() {
    let program = Program::new(TEXT);
    let (x, out) = (program.empty::<f32>(64), program.empty::<f32>(32));
    program.memory.write(x, &[0; 4 * 63]).unwrap();
    let arguments = |n: i32| [n.into(), x.into(), out.into()];
    program.run("read_all", line(1, 32), &arguments(63));
    let fault = program.try_run("read_all", line(1, 32), &arguments(64)).unwrap_err();
    assert_eq!((fault.kind, fault.address), (Kind::Uninitialised, Some(x + 63 * 4)));
    assert_eq!(fault.place.thread, [31, 0, 0]);
}

#[test]
fn uninitialised_shared_memory() {
    let fault = found(Kind::Uninitialised, "shared_unwritten", line(1, 64), out(64));
    assert_eq!((fault.place.thread, fault.address), ([0, 0, 0], Some(252)));
}

#[test]
fn uninitialised_local_memory() {
    found(Kind::Uninitialised, "local_unwritten", line(1, 32), |program| {
        vec![7.into(), program.empty::<i32>(32).into()]
    });
}

#[test]
fn uninitialised_registers() {
    let fault = found(Kind::Uninitialised, "register_unwritten", line(1, 32), out(32));
    assert_eq!(fault.place.thread, [0, 0, 0]);
}

#[test]
fn races_on_shared_memory() {
    let fault = found(Kind::SharedRace, "missing_barrier", line(1, 128), out(128));
    let other = fault.other.unwrap();
    assert_ne!(other.thread[0] / 32, fault.place.thread[0] / 32);
    assert!(other.source.is_some());
    found(Kind::SharedRace, "write_after_read", line(1, 64), out(64));
    found(Kind::SharedRace, "missing_syncwarp", line(1, 32), out(32));
    found(Kind::SharedRace, "shared_sum", line(1, 64), out(64));
    found(Kind::SharedRace, "named_barriers", line(1, 128), out(128));
}

#[test]
fn races_between_blocks() {
    let fault =
        found(Kind::GlobalRace, "global_race", line(8, 32), |program| vec![program.upload(&[0]).into()]);
    assert_ne!(fault.other.unwrap().block, fault.place.block);
    found(Kind::GlobalRace, "block_overlap", line(8, 32), out(256));
}

#[test]
fn asynchronous_copies() {
    let arrays =
        |program: &Program| vec![program.upload(&[5i32; 64]).into(), program.empty::<i32>(64).into()];
    found(Kind::AsyncTooEarly, "async_early", line(1, 32), arrays);
    for seed in SEEDS {
        run(Kind::AsyncTooEarly, seed, false, "async_no_barrier", line(1, 64), arrays).unwrap();
        let fault =
            run(Kind::AsyncTooEarly, seed, true, "async_no_barrier", line(1, 64), arrays).unwrap_err();
        // Whether the other warp has waited by then decides which of the two it is.
        assert!(
            matches!(fault.kind, Kind::SharedRace | Kind::AsyncTooEarly | Kind::Uninitialised),
            "{fault:#?}"
        );
    }
}

#[test]
fn asynchronous_copies_fill_with_zeros() {
    let program = Program::new(TEXT);
    let values: Vec<f32> = (1..=50).map(|i| i as f32).collect();
    let (x, out) = (program.upload(&values), program.empty::<f32>(128));
    let counters = program.run("zero_fill", line(1, 32), &[50.into(), x.into(), out.into()]);
    let expected: Vec<f32> = (1..=128).map(|i| if i <= 50 { i as f32 } else { 0.0 }).collect();
    assert_eq!(program.download::<f32>(out, 128), expected);
    assert_eq!(counters.async_copies.bytes, 200);
}

#[test]
fn barriers_in_divergent_code() {
    found(Kind::DivergentBarrier, "divergent_barrier", line(1, 64), out(64));
    found(Kind::DivergentBarrier, "lonely_barrier", line(1, 64), out(64));
    found(Kind::DivergentBarrier, "partial_shuffle", line(1, 32), out(32));
}

#[test]
fn launches_that_never_end() {
    for seed in SEEDS {
        let mut program = Program::with_seed(TEXT, seed);
        program.settings.limit = 100_000;
        let flag = program.upload(&[1]);
        program.run("endless", line(2, 64), &[0.into(), flag.into()]);
        let fault = program.try_run("endless", line(2, 64), &[1.into(), flag.into()]).unwrap_err();
        assert_eq!(fault.kind, Kind::Endless);
    }
}

#[test]
fn traps() {
    let fault = found(Kind::Trap, "give_up", line(1, 32), out(32));
    assert_eq!(fault.place.thread, [5, 0, 0]);
}

#[test]
fn checks_can_be_switched_off() {
    type Switch = fn(&mut Checks);
    let cases: [(&str, Switch, u32); 6] = [
        ("shared_unwritten", |checks| checks.uninitialised = false, 64),
        ("register_unwritten", |checks| checks.uninitialised = false, 32),
        ("missing_barrier", |checks| (checks.shared_races, checks.uninitialised) = (false, false), 128),
        ("missing_syncwarp", |checks| checks.shared_races = false, 32),
        ("block_overlap", |checks| checks.global_races = false, 32),
        ("divergent_barrier", |checks| (checks.barriers, checks.uninitialised) = (false, false), 64),
    ];
    for (name, switch, threads) in cases {
        let mut program = Program::new(TEXT);
        switch(&mut program.settings.checks);
        let out = program.empty::<i32>(256);
        let result = program.try_run(
            name,
            line(if name == "block_overlap" { 8 } else { 1 }, threads),
            &[1.into(), out.into()],
        );
        assert!(result.is_ok(), "{name}: {result:#?}");
    }
    let mut program = Program::new(TEXT);
    program.settings.checks.out_of_bounds = false;
    let x = program.empty::<f32>(100);
    program.run("bounds", line(2, 64), &[1.into(), 100.into(), x.into()]);
}
