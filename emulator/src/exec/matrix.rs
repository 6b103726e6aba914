//! `ldmatrix` and `mma.sync`.
//!
//! **Fragments** (the PTX manual's figures, in one formula). With `group = lane / 4`, `place = lane % 4`
//! and `per` elements in a word (1 tf32, 2 halves, 4 bytes):
//! - A, word `r`, element `e`: row `group + 8 (r & 1)` (m = 16; for m = 8 just `group`, one word), column
//!   `place · per + e + 4 per (r >> 1)`
//! - B, word `r`, element `e`: row `place · per + e + 4 per · r`, column `group`
//! - C and D, value `i`: row `group + 8 (i >> 1)`, column `2 place + (i & 1)`; f16 has two values a word.
//!
//! **Accumulation.** Products of f16, bf16 and tf32 are exact in f32; they are added to C one after the
//! other, k ascending, each sum rounded to nearest in f32 (a fused multiply-add). f16 results are
//! rounded once, at the end. Real tensor cores add several products at once with truncation: other last
//! bits. Integers are exact and wrap, or clamp with `.satfinite`.

use super::context::{Outcome, RawFault};
use super::global::AccessKind;
use super::memory::{Machine, Request};
use super::value::NAN32;
use super::value::format::F16;
use super::vector_registers::each;
use super::warp::{LANES, Registers, Warp};
use crate::fault::Kind;
use crate::ir::{Address, Mma, Reg, Round, SHARED_WINDOW, Space, Type};

/// Largest m, n, k.
const M: usize = 16;
const N: usize = 8;
const K: usize = 32;

/// All lanes of a whole warp are needed.
pub fn require_whole(mask: u32, what: &str) -> Outcome {
    match mask {
        u32::MAX => Ok(()),
        _ => {
            let detail = format!("{what} with the lanes {mask:#010x} only");
            Err(RawFault::new(Kind::DivergentBarrier, mask.trailing_zeros(), detail))
        }
    }
}

impl Machine<'_, '_> {
    /// `ldmatrix`: lane `8 m + r` gives the address of row `r` (16 bytes) of matrix `m`; lane `l` gets
    /// elements `2 (l % 4)` and the next of row `l / 4`, or of that column if `transposed`.
    #[inline(never)]
    pub fn load_matrix(
        &mut self,
        warp: &mut Warp,
        space: Space,
        mask: u32,
        (count, transposed): (u8, bool),
        dst: &[Reg; 4],
        address: &Address,
    ) -> Outcome {
        require_whole(mask, "ldmatrix")?;
        let mut addresses = warp.registers.addresses(address);
        if space == Space::Generic {
            addresses = addresses.map(|address| address.wrapping_sub(SHARED_WINDOW));
        }
        let count = usize::from(count);
        let request = Request::new(u32::MAX >> (32 - 8 * count.clamp(1, 4)), addresses, 16);
        self.stats.counters.matrix_loads += 1;
        self.prepare(warp, Space::Shared, &request, AccessKind::Read, false)?;
        let data = self.shared.data();
        for (matrix, &row) in dst.iter().enumerate().take(count) {
            let element = |r: usize, c: usize| {
                let at = addresses[matrix * 8 + r] as usize + c * 2;
                u32::from(u16::from_le_bytes([data[at], data[at + 1]]))
            };
            let values: [u32; LANES] = std::array::from_fn(|lane| {
                let (major, minor) = (lane / 4, lane % 4 * 2);
                match transposed {
                    false => element(major, minor) | element(major, minor + 1) << 16,
                    true => element(minor, major) | element(minor + 1, major) << 16,
                }
            });
            warp.registers.set_b32(row, u32::MAX, &values);
        }
        Ok(())
    }
}

/// Elements of a matrix type in a word.
fn per_word(ty: Type) -> usize {
    4 / ty.size() as usize
}

/// f32 of an f16, vectorisable: the exponent is moved by a multiplication, which is exact.
#[inline(always)]
pub fn f16_to_f32(bits: u32) -> f32 {
    let size = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    let special = if bits & 0x7c00 == 0x7c00 { (bits & 0x7fff) << 13 | 0x7f80_0000 } else { size.to_bits() };
    f32::from_bits(special | (bits & 0x8000) << 16)
}

#[inline(always)]
fn element(ty: Type, word: u32, index: usize) -> f32 {
    match ty {
        Type::F16 => f16_to_f32(word >> (16 * index) & 0xffff),
        Type::Bf16 => f32::from_bits((word >> (16 * index)) << 16),
        // The hardware ignores the low 13 bits.
        _ => f32::from_bits(word & 0xffff_e000),
    }
}

#[inline(always)]
fn byte(ty: Type, word: u32, index: usize) -> i32 {
    let value = word >> (8 * index) & 0xff;
    if ty == Type::S8 { i32::from(value as u8 as i8) } else { value as i32 }
}

/// Column by column of A (`[k][row]`), row by row of B (`[k][column]`).
struct Operands<T> {
    a: [[T; M]; K],
    b: [[T; N]; K],
}

/// Puts the elements `e` of a word of all lanes where they belong: for A along its rows, for B along its
/// columns. `values` is by lane, `first` the least row of A or column of B, `k` that of place 0.
#[inline(always)]
fn scatter<T: Copy, const S: usize>(
    target: &mut [[T; S]; K],
    values: &[T; LANES],
    first: usize,
    k: usize,
    per: usize,
) {
    for place in 0..4 {
        let line = &mut target[(k + place * per) % K];
        for group in 0..8 {
            line[(first + group) % S] = values[group * 4 + place];
        }
    }
}

#[inline(always)]
fn operands<T: Copy + Default>(
    registers: &Registers,
    mma: &Mma,
    decode: impl Fn(Type, u32, usize) -> T,
) -> Operands<T> {
    let mut result = Operands { a: [[T::default(); M]; K], b: [[T::default(); N]; K] };
    let per = per_word(mma.a_type);
    for (r, &row) in mma.a.iter().enumerate() {
        let words = registers.b32(row);
        for e in 0..per {
            let values = each(|lane| decode(mma.a_type, words[lane], e));
            scatter(&mut result.a, &values, 8 * (r & 1), e + 4 * per * (r >> 1), per);
        }
    }
    for (r, &row) in mma.b.iter().enumerate() {
        let words = registers.b32(row);
        for e in 0..per {
            let values = each(|lane| decode(mma.b_type, words[lane], e));
            scatter(&mut result.b, &values, 0, e + 4 * per * r, per);
        }
    }
    result
}

/// Row and column of value `i` of C or D in a lane.
#[inline(always)]
fn place(lane: usize, i: usize) -> (usize, usize) {
    ((lane / 4 + 8 * (i >> 1)) % M, lane % 4 * 2 + (i & 1))
}

/// `mma.sync` of floats. Inlined into code with wide vectors and fused multiply-add.
#[inline(always)]
pub fn multiply_floats(registers: &mut Registers, mma: &Mma) {
    let operands = operands(registers, mma, element);
    let mut sum = [[0.0f32; N]; M];
    for (r, &row) in mma.c.iter().enumerate() {
        for (lane, &word) in registers.b32(row).iter().enumerate() {
            if mma.c_type == Type::F16 {
                for half in 0..2 {
                    let (i, j) = place(lane, 2 * r + half);
                    sum[i][j] = f16_to_f32(word >> (16 * half) & 0xffff);
                }
            } else {
                let (i, j) = place(lane, r);
                sum[i][j] = f32::from_bits(word);
            }
        }
    }
    let depth = usize::from(mma.shape.2).min(K);
    for k in 0..depth {
        for (i, sums) in sum.iter_mut().enumerate() {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = operands.a[k][i].mul_add(operands.b[k][j], *sum);
            }
        }
    }
    let rounded = |(i, j): (usize, usize)| F16.encode(f64::from(sum[i][j]), Round::Near);
    for (r, &row) in mma.d.iter().enumerate() {
        let values: [u32; LANES] = each(|lane| {
            if mma.d_type == Type::F16 {
                return rounded(place(lane, 2 * r)) | rounded(place(lane, 2 * r + 1)) << 16;
            }
            let (i, j) = place(lane, r);
            if sum[i][j].is_nan() { NAN32 } else { sum[i][j].to_bits() }
        });
        registers.b32[usize::from(row)].0 = values;
    }
}

/// `mma.sync` of integers.
#[inline(never)]
pub fn multiply_integers(registers: &mut Registers, mma: &Mma) {
    let operands = operands(registers, mma, byte);
    let mut results = Vec::with_capacity(mma.d.len());
    for (r, &row) in mma.c.iter().enumerate() {
        let c = *registers.b32(row);
        let values: [u32; LANES] = std::array::from_fn(|lane| {
            let (i, j) = place(lane, r);
            let products = operands.a.iter().zip(&operands.b).map(|(a, b)| i64::from(a[i] * b[j]));
            let sum = i64::from(c[lane] as i32) + products.sum::<i64>();
            if mma.saturate { sum.clamp(i32::MIN.into(), i32::MAX.into()) as u32 } else { sum as u32 }
        });
        results.push(values);
    }
    for (&row, values) in mma.d.iter().zip(&results) {
        registers.set_b32(row, u32::MAX, values);
    }
}
