//! `mma.sync`, `ldmatrix` and `cp.async`: fragments lane by lane against the PTX manual's tables, and a
//! whole matrix product.

mod support;

use ptx_emulator::exec::Launch;
use ptx_emulator::fault::Kind;
use support::{Program, line, numbers};

const TEXT: &str = include_str!("kernels/tensor.ptx");

fn bf16(value: f32) -> u16 {
    (value.to_bits() >> 16) as u16
}

/// Of small values with few bits.
fn f16(value: f32) -> u16 {
    if value == 0.0 {
        return 0;
    }
    let bits = value.to_bits();
    let exponent = (bits >> 23 & 0xff) as i32 - 127 + 15;
    assert!((1..31).contains(&exponent) && bits & 0x1fff == 0);
    (bits >> 16 & 0x8000) as u16 | (exponent as u16) << 10 | (bits >> 13 & 0x3ff) as u16
}

fn gemm(name: &str, seed: u64, convert: fn(f32) -> u16) -> Result<(), Kind> {
    let (m, n, k) = (64, 96, 128);
    let program = Program::with_seed(TEXT, seed);
    let (a, b) = (numbers(m * k, 7), numbers(n * k, 8));
    let halves = |list: &[f32]| list.iter().map(|&value| convert(value)).collect::<Vec<u16>>();
    let (da, db, dd) =
        (program.upload(&halves(&a)), program.upload(&halves(&b)), program.empty::<f32>(m * n));
    let launch = Launch { grid: [n as u32 / 32, m as u32 / 32, 1], block: [128, 1, 1], ..Launch::default() };
    let sizes = [(m as i32).into(), (n as i32).into(), (k as i32).into()];
    let arguments = [&sizes[..], &[da.into(), db.into(), dd.into()]].concat();
    let counters = program.try_run(name, launch, &arguments).map_err(|fault| fault.kind)?;
    let d = program.download::<f32>(dd, m * n);
    for i in 0..m {
        for j in 0..n {
            // Multiples of 2^-14 below 128: every sum is exact.
            let expected: f32 = (0..k).map(|l| a[i * k + l] * b[j * k + l]).sum();
            assert_eq!(d[i * n + j], expected, "{i} {j}");
        }
    }
    let matrix: u64 = counters.matrix.values().map(|matrix| matrix.products).sum();
    assert_eq!(matrix, (m * n * k) as u64);
    assert_eq!(counters.async_copies.bytes, 6 * 4 * 2 * 32 * 32 * 2);
    assert_eq!(counters.matrix_loads, 6 * 4 * 4 * 2 * 2);
    // Rows of 80 bytes: no two rows of a matrix share banks, but a quarter of a warp that copies two rows
    // of 64 bytes meets itself in four.
    assert_eq!(counters.bank_conflicts, 4 * counters.async_copies.bytes / (32 * 16));
    Ok(())
}

#[test]
fn gemm_of_tensor_cores() {
    for seed in [0, 5, 6] {
        gemm("gemm_bf16", seed, bf16).unwrap();
        gemm("gemm_f16", seed, f16).unwrap();
    }
}

#[test]
fn gemm_that_waits_one_group_late() {
    for seed in [0, 5, 6] {
        assert_eq!(gemm("gemm_late", seed, bf16), Err(Kind::AsyncTooEarly));
    }
}

#[test]
fn gemm_that_fills_a_stage_in_use() {
    for seed in [0, 5, 6] {
        let found = gemm("gemm_unsynced", seed, bf16);
        assert!(matches!(found, Err(Kind::SharedRace | Kind::AsyncTooEarly)), "{found:?}");
    }
}

/// Where the manual puts an element: lane, word, element in the word.
type Place = (usize, usize, usize);

/// Figures "MMA .m16n8k16 fragment layout": a_i of a lane, for 16-bit elements.
fn place_a_16bit(row: usize, column: usize) -> Place {
    // groupID for ai where i in {0,1,4,5}, groupID + 8 otherwise; column + 8 for i >= 4.
    let i = (column & 1) + if row >= 8 { 2 } else { 0 } + if column >= 8 { 4 } else { 0 };
    (row % 8 * 4 + column % 8 / 2, i / 2, i % 2)
}

fn place_b_16bit(row: usize, column: usize) -> Place {
    let i = (row & 1) + if row >= 8 { 2 } else { 0 };
    (column * 4 + row % 8 / 2, i / 2, i % 2)
}

fn place_a_tf32(row: usize, column: usize) -> Place {
    let i = if row >= 8 { 1 } else { 0 } + if column >= 4 { 2 } else { 0 };
    (row % 8 * 4 + column % 4, i, 0)
}

fn place_b_tf32(row: usize, column: usize) -> Place {
    (column * 4 + row % 4, row / 4, 0)
}

fn place_a_bytes(row: usize, column: usize) -> Place {
    let i = (column & 3) + if row >= 8 { 4 } else { 0 } + if column >= 16 { 8 } else { 0 };
    (row % 8 * 4 + column % 16 / 4, i / 4, i % 4)
}

fn place_b_bytes(row: usize, column: usize) -> Place {
    let i = (row & 3) + if row >= 16 { 4 } else { 0 };
    (column * 4 + row % 16 / 4, i / 4, i % 4)
}

/// c_i: groupID for i < 2, groupID + 8 otherwise; column 2 * threadID_in_group + (i & 1).
fn place_c(row: usize, column: usize) -> (usize, usize) {
    (row % 8 * 4 + column / 2, (column & 1) + if row >= 8 { 2 } else { 0 })
}

struct Shape {
    kernel: &'static str,
    depth: usize,
    /// Bits of an element.
    width: usize,
    a: fn(usize, usize) -> Place,
    b: fn(usize, usize) -> Place,
    encode: fn(f32) -> u32,
    integers: bool,
    halves: bool,
}

/// Every product of one element of A with one of B, alone: so every place is seen by itself.
fn one_by_one(shape: &Shape) {
    let program = Program::new(TEXT);
    for k in 0..shape.depth {
        for (i, j) in (0..16).map(|i| (i, (i * 3 + k) % 8)) {
            let mut words = vec![0u32; 32 * 16];
            let mut put = |(lane, word, element): Place, offset: usize, value: f32| {
                words[lane * 16 + offset + word] |= (shape.encode)(value) << (element * shape.width);
            };
            put((shape.a)(i, k), 0, 3.0);
            put((shape.b)(k, j), 4, 5.0);
            let (din, dout) = (program.upload(&words), program.empty::<u32>(128));
            program.run(shape.kernel, line(1, 32), &[din.into(), dout.into()]);
            let out = program.download::<u32>(dout, 128);
            let (lane, value) = place_c(i, j);
            let mut expected = vec![0u32; 128];
            if shape.halves {
                expected[lane * 4 + value / 2] = u32::from(f16(15.0)) << (value % 2 * 16);
            } else {
                expected[lane * 4 + value] = if shape.integers { 15 } else { 15f32.to_bits() };
            }
            assert_eq!(out, expected, "{} {i} {j} {k}", shape.kernel);
            program.memory.free(din);
            program.memory.free(dout);
        }
    }
}

#[test]
fn fragments_are_where_the_manual_says() {
    let half = |value: f32| u32::from(f16(value));
    let brain = |value: f32| u32::from(bf16(value));
    let halves = |kernel, depth, encode| Shape {
        kernel,
        depth,
        width: 16,
        a: place_a_16bit,
        b: place_b_16bit,
        encode,
        integers: false,
        halves: kernel == "k16_f16_f16",
    };
    let tf32 = |kernel, depth| Shape {
        kernel,
        depth,
        width: 0,
        a: place_a_tf32,
        b: place_b_tf32,
        encode: f32::to_bits,
        integers: false,
        halves: false,
    };
    for shape in [
        halves("k8_f16", 8, half),
        halves("k8_bf16", 8, brain),
        halves("k16_f16", 16, half),
        halves("k16_bf16", 16, brain),
        halves("k16_f16_f16", 16, half),
        tf32("k8_tf32", 8),
        tf32("k4_tf32", 4),
        Shape {
            kernel: "k32_s8",
            depth: 32,
            width: 8,
            a: place_a_bytes,
            b: place_b_bytes,
            encode: |value| value as u32,
            integers: true,
            halves: false,
        },
    ] {
        one_by_one(&shape);
    }
}

#[test]
fn accumulators_are_added_and_low_bits_of_tf32_ignored() {
    let program = Program::new(TEXT);
    let mut words = vec![0u32; 32 * 16];
    for lane in 0..32 {
        for i in 0..4 {
            words[lane * 16 + 8 + i] = ((lane * 4 + i) as f32).to_bits();
        }
    }
    // a(0, 0) and b(0, 0), with bits that don't count.
    words[0] = 1.0f32.to_bits() | 0x1fff;
    words[4] = 2.0f32.to_bits() | 0x1fff;
    let (din, dout) = (program.upload(&words), program.empty::<u32>(128));
    program.run("k8_tf32", line(1, 32), &[din.into(), dout.into()]);
    for (i, got) in program.download::<f32>(dout, 128).into_iter().enumerate() {
        assert_eq!(got, i as f32 + if i == 0 { 2.0 } else { 0.0 });
    }
}

#[test]
fn matrices_as_they_lie_and_transposed() {
    let program = Program::new(TEXT);
    let values: Vec<u16> = (0..256).map(|i| i as u16 * 7 + 1).collect();
    let (din, dout) = (program.upload(&values), program.empty::<u32>(256));
    program.run("matrices", line(1, 32), &[din.into(), dout.into()]);
    let out = program.download::<u32>(dout, 256);
    for lane in 0..32 {
        for matrix in 0..4 {
            let at = |row: usize, column: usize| u32::from(values[matrix * 64 + row * 8 + column]);
            let (major, minor) = (lane / 4, lane % 4 * 2);
            let plain = at(major, minor) | at(major, minor + 1) << 16;
            let turned = at(minor, major) | at(minor + 1, major) << 16;
            assert_eq!(out[lane * 8 + matrix], plain);
            assert_eq!(out[lane * 8 + 4 + matrix], turned);
        }
    }
}
