//! Random texts and random programs: an error, a finding or a result, never a crash or a hang.

mod grammar;
mod mutate;
#[path = "../support/mod.rs"]
mod support;

use std::sync::{Mutex, PoisonError};

use proptest::prelude::*;
use ptx_emulator::exec::{self, Checks, Launch, Settings};
use ptx_emulator::fault::{Fault, Kind};
use ptx_emulator::ir::{Kernel, Module};
use ptx_emulator::memory::{GlobalMemory, Shadows};
use ptx_emulator::ptx;

/// Words of PTX, so that random texts get past the first line.
const WORDS: [&str; 40] = [
    ".version 8.0",
    ".target sm_80",
    ".address_size 64",
    ".visible",
    ".entry",
    ".func",
    ".param",
    ".reg",
    ".shared",
    ".local",
    ".global",
    ".const",
    ".align",
    ".b32",
    ".u64",
    ".f32",
    ".pred",
    "%r1",
    "%r<9>",
    "k",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    ",",
    ";",
    "@",
    "!",
    "=",
    "|",
    "+",
    "-",
    "0x7fffffffffffffff",
    "18446744073709551615",
    "0f3f800000",
    "\"",
    "bra L;",
    "L:",
];

/// Bytes that a kernel may touch through each of its pointers.
const BUFFER: usize = 8192;

/// Runs a kernel with small random arguments: pointers to good memory where they have 8 bytes.
fn run(
    kernel: &Kernel,
    module: &Module,
    settings: &Settings,
    threads: u32,
) -> Option<Result<Vec<u8>, Box<Fault>>> {
    let variables: usize = module.variables.iter().map(|variable| variable.bytes.len()).sum();
    if variables > 1 << 20 || kernel.param_bytes > 4096 {
        return None;
    }
    // One memory at a time: a second one would begin elsewhere, and programs compute with addresses.
    static MEMORY: Mutex<()> = Mutex::new(());
    let _alone = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let memory = GlobalMemory::new(1 << 24, Shadows::ALL).unwrap();
    let variables = module.variables.iter().map(|variable| {
        let at = memory.allocate(variable.bytes.len().max(1) as u64).unwrap();
        memory.write(at, &variable.bytes).unwrap();
        at
    });
    let variables: Vec<u64> = variables.collect();
    let buffers: Vec<u64> = (0..4).map(|_| memory.allocate(BUFFER as u64).unwrap()).collect();
    for (number, &at) in buffers.iter().enumerate() {
        let bytes: Vec<u8> = (0..BUFFER).map(|i| (i * 7 + number) as u8 & 0x3f).collect();
        memory.write(at, &bytes).unwrap();
    }
    let mut params = vec![0; kernel.param_bytes as usize];
    for (number, param) in kernel.params.iter().enumerate() {
        let at = param.offset as usize;
        match param.size {
            8 => params[at..at + 8].copy_from_slice(&buffers[number % 4].to_le_bytes()),
            size => params[at..at + size as usize].fill((number + 3) as u8),
        }
    }
    let block = kernel.required_threads.unwrap_or([threads, 1, 1]);
    let launch =
        Launch { grid: [2, 1, 1], block, dynamic_shared: 256, params, variables, ..Launch::default() };
    Some(exec::launch(kernel, &launch, &memory, settings).map(|_| {
        let mut bytes = vec![0; BUFFER];
        memory.read(buffers[0], &mut bytes).unwrap();
        bytes
    }))
}

fn settings(seed: u64, checks: Checks) -> Settings {
    Settings { seed, checks, threads: 1, limit: 3000, ..Settings::default() }
}

/// Loads a text, and runs whatever kernels it has.
fn try_text(text: &str, seed: u64) {
    if let Ok(module) = ptx::load(text) {
        for kernel in module.kernels.iter().take(3) {
            let _ = run(kernel, &module, &settings(seed, Checks::ALL), 32);
        }
    }
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        try_text(&String::from_utf8_lossy(&bytes), 1);
    }

    #[test]
    fn random_words(words in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..60)) {
        let text = format!(".version 8.0\n.target sm_80\n.address_size 64\n{}", words.join(" "));
        try_text(&text, 1);
    }
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn mutated_kernels(seed: u64) {
        try_text(&mutate::kernel(seed), seed);
    }
}

proptest! {
    #![proptest_config(cases(600))]

    /// Where all checks find nothing, the result doesn't depend on the order of warps, nor on the checks.
    #[test]
    fn random_programs(seed: u64) {
        let text = grammar::program(seed);
        let module = ptx::load(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        let threads = [32, 64, 7, 96][(seed % 4) as usize];
        let under = |order, checks| run(&module.kernels[0], &module, &settings(order, checks), threads).unwrap();
        if let Ok(first) = under(0, Checks::ALL) {
            for (order, checks) in [(seed | 1, Checks::ALL), (0, Checks::NONE), (seed | 1, Checks::NONE)] {
                let other = under(order, checks);
                // Whether fences and atomics put one block before another depends on which came first.
                let raced = other.as_ref().is_err_and(|fault| fault.kind == Kind::GlobalRace);
                prop_assert!(raced || other.as_ref().is_ok_and(|other| *other == first), "{order} {checks:?}: {other:?}\n{text}");
            }
        }
    }
}

#[test]
fn many_random_programs_run_to_their_end() {
    let ends = |seed| {
        let module = ptx::load(&grammar::program(seed)).unwrap();
        run(&module.kernels[0], &module, &settings(0, Checks::ALL), 64).unwrap().is_ok()
    };
    let ended = (0..100).filter(|&seed| ends(seed)).count();
    assert!((20..100).contains(&ended), "{ended} of 100");
}

#[test]
fn mutated_kernels_are_of_all_sorts() {
    let (mut loaded, mut ended) = (0, 0);
    for seed in 0..100 {
        let Ok(module) = ptx::load(&mutate::kernel(seed)) else { continue };
        loaded += 1;
        let run = |kernel| run(kernel, &module, &settings(0, Checks::ALL), 32).is_some_and(|run| run.is_ok());
        ended += usize::from(module.kernels.first().is_some_and(|kernel| run(kernel)));
    }
    assert!(
        (10..90).contains(&loaded) && (1..loaded).contains(&ended),
        "{loaded} loaded, {ended} to their end"
    );
}

#[test]
fn hostile_texts() {
    let head = ".version 8.0\n.target sm_80\n.address_size 64\n";
    let kernel = |body: &str| format!("{head}.entry k(.param .u64 p) {{\n.reg .b32 %r<9>;\n{body}\n}}");
    let texts = [
        format!("{head}{}", "{".repeat(100_000)),
        kernel(&"{".repeat(100_000)),
        kernel(&format!("mov.b32 %r1, {};", "{".repeat(100_000))),
        kernel(&format!("mov.b32 %r1, {}1;", "(".repeat(100_000))),
        kernel(&format!("mov.b32 %r1, {}1;", "-".repeat(100_000))),
        kernel(&format!("add{}.u32 %r1, 1, 1;", ".sat".repeat(100_000))),
        kernel(".reg .b32 %x<4000000000>;"),
        kernel(".reg .b32 %x<18446744073709551615>;\nmov.u32 %x7, 0;"),
        kernel(".shared .b8 s[18446744073709551615];\nmov.u32 %r1, s;"),
        kernel(".shared .b8 s[65536][65536][65536][65536];\nmov.u32 %r1, s;"),
        kernel(".local .align 4294967296 .b8 s[4];\nmov.u32 %r1, s;"),
        kernel(&"L: bra L;\n".repeat(10)),
        kernel("L: bra L;"),
        kernel("ld.param.u32 %r1, [p+9223372036854775807];"),
        kernel("ld.param.u32 %r1, [p+-9223372036854775808];"),
        format!("{head}.global .b8 a[4294967296];\n"),
        format!("{head}.global .u32 a[2] = {}1{};\n", "{".repeat(10_000), "}".repeat(10_000)),
        format!("{head}.func f() {{ call f; ret; }}\n.entry k() {{ call f; ret; }}"),
        format!("{head}.file 4294967295 \"x\"\n.entry k() {{ .loc 4294967295 4294967295 1\n ret; }}"),
        format!("{head}.entry k(.param .align 1073741824 .b8 p[1073741824]) {{ ret; }}"),
    ];
    for text in texts {
        try_text(&text, 1);
    }
}

#[test]
fn calls_that_double_at_every_level_are_an_error() {
    for body in ["ret;", ""] {
        let mut text = format!(".version 8.0\n.target sm_80\n.address_size 64\n.func f0() {{ {body} }}\n");
        for level in 1..60 {
            text += &format!(".func f{level}() {{ call f{0}; call f{0}; {body} }}\n", level - 1);
        }
        text += ".entry k() { call f59; ret; }\n";
        assert!(ptx::load(&text).is_err());
    }
}
