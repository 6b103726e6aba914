//! Ordinary kernels, as the CUDA compiler writes them, with every check on and under several schedules.

mod support;

use ptx_emulator::exec::{Checks, Launch};
use support::{Program, line, numbers};

const TEXT: &str = include_str!("kernels/basics.ptx");
const SEEDS: [u64; 3] = [0, 1, 99];

#[test]
fn saxpy_with_a_tail() {
    for seed in SEEDS {
        let program = Program::with_seed(TEXT, seed);
        let (xs, ys) = (numbers(1000, 1), numbers(1000, 2));
        let (x, y) = (program.upload(&xs), program.upload(&ys));
        let counters = program.run("saxpy", line(8, 128), &[1000.into(), 2.5.into(), x.into(), y.into()]);
        for (i, got) in program.download::<f32>(y, 1000).into_iter().enumerate() {
            assert_eq!(got, 2.5f32.mul_add(xs[i], ys[i]));
        }
        assert_eq!(counters.global_stores.bytes, 4000);
        assert_eq!((counters.global_loads.requests, counters.global_loads.sectors), (64, 250));
        assert_eq!(counters.divergent_branches, 1);
        assert_eq!(counters.blocks, 8);
    }
}

#[test]
fn tiled_matmul_with_edges() {
    let (m, n, k) = (37, 50, 45);
    for seed in SEEDS {
        let program = Program::with_seed(TEXT, seed);
        let (a, b) = (numbers(m * k, 3), numbers(k * n, 4));
        let (da, db, dc) = (program.upload(&a), program.upload(&b), program.empty::<f32>(m * n));
        let launch = Launch { grid: [4, 3, 1], block: [16, 16, 1], ..Launch::default() };
        let sizes = [(m as i32).into(), (n as i32).into(), (k as i32).into()];
        let counters =
            program.run("matmul", launch, &[&sizes[..], &[da.into(), db.into(), dc.into()]].concat());
        let c = program.download::<f32>(dc, m * n);
        for i in 0..m {
            for j in 0..n {
                let expected: f32 = (0..k).fold(0.0, |sum, l| a[i * k + l].mul_add(b[l * n + j], sum));
                assert_eq!(c[i * n + j], expected, "{i} {j}");
            }
        }
        assert_eq!(counters.barriers, 12 * 8 * 2 * 3);
        assert!(counters.by_kind["shared load"] > 0 && counters.warp_instructions > 0);
    }
}

#[test]
fn sums_by_shuffles_and_by_the_last_block() {
    for seed in SEEDS {
        let program = Program::with_seed(TEXT, seed);
        let x: Vec<f32> = (0..5000).map(|i| (i % 17) as f32).collect();
        let total: f32 = x.iter().sum();
        let (dx, sums) = (program.upload(&x), program.empty::<f32>(6));
        program.run("reduce", line(6, 256), &[5000.into(), dx.into(), sums.into()]);
        assert_eq!(program.download::<f32>(sums, 6).iter().sum::<f32>(), total);

        let (parts, result) = (program.empty::<f32>(40), program.empty::<f32>(1));
        program.run("last_block", line(40, 32), &[5000.into(), dx.into(), parts.into(), result.into()]);
        assert_eq!(program.download::<f32>(result, 1), [total]);
    }
}

#[test]
fn histogram_by_atomics() {
    for seed in SEEDS {
        let program = Program::with_seed(TEXT, seed);
        let x: Vec<u8> = (0..10_000u32).map(|i| (i * i % 251) as u8).collect();
        let mut expected = [0u32; 256];
        x.iter().for_each(|&byte| expected[byte as usize] += 1);
        let (dx, counts) = (program.upload(&x), program.upload(&[0u32; 256]));
        let counters = program.run("histogram", line(5, 256), &[10_000.into(), dx.into(), counts.into()]);
        assert_eq!(program.download::<u32>(counts, 256), expected);
        assert_eq!(counters.global_atomics, 40);
        assert!(counters.shared_atomics > 300);
    }
}

#[test]
fn lanes_that_loop_for_different_times() {
    for seed in SEEDS {
        let program = Program::with_seed(TEXT, seed);
        let steps = program.empty::<i32>(500);
        let counters = program.run("collatz", line(4, 128), &[500.into(), 120.into(), steps.into()]);
        for (i, got) in program.download::<i32>(steps, 500).into_iter().enumerate() {
            let (mut value, mut count) = (i as u64 + 1, 0);
            while value != 1 && count >= 0 {
                if count == 120 {
                    count = -2;
                } else {
                    value = if value % 2 == 0 { value / 2 } else { 3 * value + 1 };
                }
                count += 1;
            }
            assert_eq!(got, count, "{}", i + 1);
        }
        assert!(counters.divergent_branches > 100);
    }
}

#[test]
fn warp_instructions() {
    let program = Program::new(TEXT);
    let x: Vec<u32> = (0..32).map(|i| i * 7 % 32).collect();
    let (dx, out) = (program.upload(&x), program.empty::<u32>(256));
    program.run("warps", line(1, 32), &[dx.into(), out.into()]);
    let out = program.download::<u32>(out, 256);
    let mask = |holds: &dyn Fn(u32) -> bool| (0..32).fold(0, |m, i| m | u32::from(holds(x[i])) << i);
    for lane in 0..32 {
        let got = &out[lane * 8..lane * 8 + 8];
        assert_eq!(got[0], mask(&|value| value & 1 == 1));
        assert_eq!(got[1], 3);
        assert_eq!(got[2], mask(&|value| value % 4 == x[lane] % 4));
        assert_eq!(got[3], (0..32).sum::<u32>());
        assert_eq!(got[4], if lane % 8 >= 3 { x[lane - 3] } else { x[lane] });
        assert_eq!(got[5], x[lane ^ if lane < 16 { 1 } else { 2 }]);
        assert_eq!(got[6], 31 ^ 0x8000_0000);
        assert_eq!(got[7], 32);
    }
}

#[test]
fn switches_and_local_memory() {
    let program = Program::new(TEXT);
    let x: Vec<i32> = (0..100).map(|i| i * 3 % 8).collect();
    let (dx, out) = (program.upload(&x), program.empty::<i32>(100));
    program.run("choices", line(1, 128), &[100.into(), dx.into(), out.into()]);
    for (x, got) in x.iter().zip(program.download::<i32>(out, 100)) {
        let table = |j: i32| x * j + j;
        let expected = match x {
            0 => 7,
            1 => table(3) * 3,
            2 => 32,
            3 => -103,
            4 => table(20 & 7),
            5 => 200,
            _ => table(x & 7) - 1,
        };
        assert_eq!(got, expected, "{x}");
    }
}

#[test]
fn double_precision_and_long_integers() {
    let program = Program::new(TEXT);
    let x: Vec<f64> = (0..50).map(|i| (i as f64 - 20.0) * 1.37).collect();
    let k: Vec<i64> = (0..50).map(|i| (i - 25) * 12_345_678_901).collect();
    let (dx, dk) = (program.upload(&x), program.upload(&k));
    let (out, quotients) = (program.empty::<f64>(50), program.empty::<i64>(50));
    program.run("wide", line(1, 64), &[50.into(), dx.into(), dk.into(), out.into(), quotients.into()]);
    for (i, got) in program.download::<f64>(out, 50).into_iter().enumerate() {
        assert_eq!(got, x[i].abs().sqrt().mul_add(3.0, x[i] / 7.0), "{i}");
    }
    for (i, got) in program.download::<i64>(quotients, 50).into_iter().enumerate() {
        assert_eq!(got, k[i] / 37 + k[i] % 11 - (k[i] >> 3), "{i}");
    }
}

#[test]
fn the_same_bits_without_checks() {
    let results: Vec<Vec<f32>> = [Checks::ALL, Checks::NONE]
        .into_iter()
        .map(|checks| {
            let mut program = Program::new(TEXT);
            program.settings.checks = checks;
            program.settings.count_memory = checks == Checks::ALL;
            let (a, b, c) = (
                program.upload(&numbers(900, 5)),
                program.upload(&numbers(900, 6)),
                program.empty::<f32>(900),
            );
            let launch = Launch { grid: [2, 2, 1], block: [16, 16, 1], ..Launch::default() };
            program.run("matmul", launch, &[30.into(), 30.into(), 30.into(), a.into(), b.into(), c.into()]);
            program.download(c, 900)
        })
        .collect();
    assert_eq!(results[0], results[1]);
}
