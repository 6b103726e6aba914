//! `kernels/augment.cu`, `kernels/pgd.cu`.
//!
//! Equivalent, so not here: the last barrier of `pgd_start`, and of `pgd_step_l2`. It keeps a sum from being
//! written over by the next, and there is none.

use pbe::device::Precision;

use super::mutation::Caught::*;
use super::mutation::Mistake::*;
use super::mutation::{Mutation, survive_none};

#[test]
fn gather() {
    survive_none(Precision::F32, "LoadImages", GATHER);
}

#[test]
fn patches() {
    survive_none(Precision::F32, "RandomErasing", PATCHES);
}

#[test]
fn pgd() {
    survive_none(Precision::F32, "Pgd", PGD);
}

pub const GATHER: &[Mutation] = &[
    Mutation {
        mistake: OffByOne,
        kernel: "load_images",
        what: "mirrored about another column",
        edits: &[("not.b32 %r129, %r5;", 0, "neg.s32 %r129, %r5;")],
        caught: Row("LoadImages"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "load_images",
        what: "columns behind the last are the next row's",
        edits: &[("or.pred %p35, %p34, %p33;", 0, "mov.pred %p35, %p33;")],
        caught: Row("LoadImages"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "load_images",
        what: "an element too many",
        edits: &[("setp.le.u32 %p1, %r39, %r2;", 0, "setp.lt.u32 %p1, %r39, %r2;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "load_images",
        what: "only the first of four elements",
        edits: &[
            ("setp.ge.u32 %p58, %r147, %r39;", 0, "setp.ge.u32 %p58, %r147, 0;"),
            ("setp.ge.u32 %p14, %r89, %r39;", 0, "setp.ge.u32 %p14, %r89, 0;"),
        ],
        caught: Row("LoadImages"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "load_images",
        what: "a round of Philox with another key",
        edits: &[("add.s64 %rd86, %rd12, 1401181199;", 0, "add.s64 %rd86, %rd12, 1401181198;")],
        caught: Row("LoadImages, bits"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "load_images",
        what: "grey images have one channel",
        edits: &[("min.u32 %r110, %r12, %r109;", 0, "mov.u32 %r110, %r12;")],
        caught: Row("LoadImages"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "load_images",
        what: "image of the batch for image of the set",
        edits: &[("min.u32 %r69, %r45, %r68;", 0, "min.u32 %r69, %r44, %r68;")],
        caught: Row("LoadImages"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "load_images",
        what: "two of four elements swapped",
        edits: &[(
            "st.global.v4.f32 [%rd2], {%f44, %f43, %f42, %f41};",
            0,
            "st.global.v4.f32 [%rd2], {%f43, %f44, %f42, %f41};",
        )],
        caught: Row("LoadImages"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "load_images",
        what: "the second of a tail not stored",
        edits: &[("st.global.f32 [%rd2+4], %f43;", 0, "")],
        caught: Row("LoadImages"),
    },
];

pub const PATCHES: &[Mutation] = &[
    Mutation {
        mistake: MissingBarrier,
        kernel: "random_erasing",
        what: "pixels painted before the patches are drawn",
        edits: &[("bar.sync 0;", 0, "")],
        caught: Either("SharedRace", "Uninitialised"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "random_erasing",
        what: "a row too many",
        edits: &[("setp.lt.s32 %p5, %r40, %r22;", 0, "setp.le.s32  %p5, %r40, %r22;")],
        caught: Row("RandomErasing, bits"),
    },
    Mutation {
        mistake: WrongLane,
        kernel: "random_erasing",
        what: "a patch in the colour of another",
        edits: &[("mov.u32 %r154, 2;", 0, "mov.u32  %r154, 1;")],
        caught: Row("RandomErasing, bits"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "random_erasing",
        what: "columns placed by the rows' draw",
        edits: &[("and.b32 %r106, %r5, 65535;", 0, "shr.u32  %r106, %r5, 16;")],
        caught: Row("RandomErasing, bits"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "random_erasing",
        what: "three channels of a grey image",
        edits: &[("setp.lt.u32 %p36, %r57, 3;", 0, "setp.lt.u32  %p36, %r57, 1;")],
        caught: Row("RandomErasing, bits"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "random_erasing",
        what: "a noise that is the same in every epoch",
        edits: &[("mul.wide.u32 %rd12, %r123, -845247145;", 0, "mov.u64  %rd12, 0;")],
        caught: Row("RandomErasing, bits"),
    },
];

pub const PGD: &[Mutation] = &[
    Mutation {
        mistake: MissingBarrier,
        kernel: "pgd_start",
        what: "no barrier before the first halves are added",
        edits: &[("bar.sync 0;", 1, "")],
        caught: Either("SharedRace", "Uninitialised"),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "pgd_start",
        what: "no barrier between steps inside a warp",
        edits: &[("bar.sync 0;", 4, "")],
        caught: Either("SharedRace", "Uninitialised"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "pgd_start",
        what: "short offsets made long",
        edits: &[("setp.leu.f64 %p17, %fd4, %fd5;", 0, "setp.ltu.f64 %p17, %fd4, 0d0000000000000000;")],
        caught: Row("PgdStart"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "pgd_start",
        what: "a word of a draw for its neighbour",
        edits: &[("cvt.rn.f32.u32 %f64, %r85;", 0, "cvt.rn.f32.u32 %f64, %r84;")],
        caught: Row("PgdStart L∞, bits"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "pgd_start",
        what: "four elements too many",
        edits: &[("setp.ge.u32 %p18, %r121, %r40;", 0, "setp.gt.u32 %p18, %r121, %r40;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "pgd_step_linf",
        what: "the sign of zero is one",
        edits: &[("setp.gt.f32 %p33, %f191, 0f00000000;", 0, "setp.ge.f32 %p33, %f191, 0f00000000;")],
        caught: Row("PgdStep"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "pgd_step_linf",
        what: "leaves the ball upwards",
        edits: &[("min.f32 %f145, %f144, %f1;", 0, "mov.f32 %f145, %f144;")],
        caught: Row("PgdStep"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "pgd_step_linf",
        what: "the first image's budget for all",
        edits: &[("mul.wide.u32 %rd12, %r9, 4;", 0, "mov.u64 %rd12, 0;")],
        caught: Row("PgdStep"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "pgd_step_linf",
        what: "pixels above one",
        edits: &[("cvt.sat.f32.f32 %f200, %f146;", 0, "max.f32 %f200, %f146, 0f00000000;")],
        caught: Row("PgdStep"),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "pgd_step_l2",
        what: "no barrier before the first halves are added",
        edits: &[("bar.sync 0;", 1, "")],
        caught: Either("SharedRace", "Uninitialised"),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "pgd_step_l2",
        what: "the second sum begins while the first is read",
        edits: &[("bar.sync 0;", 9, "")],
        caught: Either("SharedRace", "Uninitialised"),
    },
    Mutation {
        mistake: WrongLane,
        kernel: "pgd_step_l2",
        what: "adds a sum that another warp is making",
        edits: &[("ld.shared.f64 %fd13, [%r5+512];", 0, "ld.shared.f64 %fd13, [%r5+256];")],
        caught: Finding("SharedRace"),
    },
    Mutation {
        mistake: WrongLane,
        kernel: "pgd_step_l2",
        what: "the last two sums are one",
        edits: &[(
            "ld.shared.f64 %fd30, [_ZZ9block_sumdE6values+8];",
            0,
            "ld.shared.f64 %fd30, [_ZZ9block_sumdE6values];",
        )],
        caught: Row("PgdStep"),
    },
    Mutation {
        mistake: DivergentBarrier,
        kernel: "pgd_step_l2",
        what: "threads without elements go round the last barrier",
        edits: &[("bar.sync 0;", 18, "@!%p1 bar.sync 0;")],
        caught: Finding("DivergentBarrier"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "pgd_step_l2",
        what: "length of the first 128 elements",
        edits: &[("setp.lt.u32 %p2, %r17, %r12;", 0, "setp.lt.u32 %p2, %r17, 0;")],
        caught: Row("PgdStep"),
    },
    Mutation {
        mistake: Accumulator,
        kernel: "pgd_step_l2",
        what: "sums of threads without elements begin with nothing",
        edits: &[("mov.f64 %fd62, 0d0000000000000000;", 1, "")],
        caught: Finding("Uninitialised"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "pgd_step_l2",
        what: "a gradient of zero divided by its length",
        edits: &[("@%p10 bra $L__BB2_19;", 0, "")],
        caught: Row("PgdStep"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "pgd_step_l2",
        what: "a faint gradient divided by its length",
        edits: &[("setp.ltu.f32 %p10, %f3, 0f00800000;", 0, "setp.leu.f32 %p10, %f3, 0f00000000;")],
        caught: Row("PgdStep"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "pgd_start",
        what: "a tail of three taken for four",
        edits: &[("setp.lt.u32 %p25, %r20, 4;", 0, "setp.lt.u32 %p25, %r20, 3;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "pgd_step_linf",
        what: "leaves the ball upwards, in fours",
        edits: &[("min.f32 %f88, %f87, %f1;", 0, "mov.f32 %f88, %f87;")],
        caught: Row("PgdStep"),
    },
];
