//! `kernels/optimizer.cu`.

use pbe::device::Precision;

use super::mutation::Caught::*;
use super::mutation::Mistake::*;
use super::mutation::{Mutation, survive_none};

#[test]
fn sgd() {
    survive_none(Precision::F32, "Sgd", SGD);
}

#[test]
fn adam() {
    survive_none(Precision::F32, "Adam", ADAM);
}

#[test]
fn moving_average() {
    survive_none(Precision::F32, "MovingAverage", MOVING_AVERAGE);
}

#[test]
fn copy() {
    survive_none(Precision::F32, "Copy", COPY);
}

#[test]
fn sgd_with_filters() {
    survive_none(Precision::Bf16, "Sgd", SGD_FILTERS);
    survive_none(Precision::Bf16, "MovingAverage", FILTERS_AVERAGE);
    survive_none(Precision::Bf16, "Conv", FILTERS);
}

pub const SGD: &[Mutation] = &[
    Mutation {
        mistake: LostWrite,
        kernel: "sgd",
        what: "the momentum isn't kept",
        edits: &[("st.global.f32 [%rd10], %f5;", 0, "")],
        caught: Row("Sgd"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "sgd",
        what: "Nesterov's momentum for the other",
        edits: &[("setp.eq.s32 %p2, %r6, 0;", 0, "setp.ne.s32 %p2, %r6, 0;")],
        caught: Row("Sgd"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "sgd",
        what: "a weight too many",
        edits: &[("setp.ge.u32 %p1, %r1, %r2;", 0, "setp.gt.u32 %p1, %r1, %r2;")],
        caught: Row("Sgd"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "sgd",
        what: "decays the gradient, not the weight",
        edits: &[("mul.rn.f32 %f9, %f8, %f2;", 0, "ld.global.f32 %f10, [%rd12]; mul.rn.f32 %f9, %f8, %f10;")],
        caught: Row("Sgd"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "sgd",
        what: "another of the run's scalars for the learning rate",
        edits: &[("ld.global.f32 %f1, [%rd6];", 0, "ld.global.f32 %f1, [%rd6+4];")],
        caught: Row("Sgd"),
    },
];

pub const ADAM: &[Mutation] = &[
    Mutation {
        mistake: LostGuard,
        kernel: "adam",
        what: "a weight too many",
        edits: &[("setp.ge.u32 %p1, %r1, %r2;", 0, "setp.gt.u32 %p1, %r1, %r2;")],
        caught: Row("Adam"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "adam",
        what: "the second moment isn't kept",
        edits: &[("st.global.f32 [%rd13], %f15;", 0, "")],
        caught: Row("Adam"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "adam",
        what: "the second moment of the gradient, not of its square",
        edits: &[("mul.rn.f32 %f14, %f13, %f6;", 0, "mov.f32 %f14, %f13;")],
        caught: Row("Adam"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "adam",
        what: "the second moment's bias not corrected",
        edits: &[("mul.rn.f32 %f18, %f16, %f17;", 0, "mov.f32 %f18, %f16;")],
        caught: Row("Adam"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "adam",
        what: "the gradient before",
        edits: &[("ld.global.f32 %f6, [%rd9];", 0, "ld.global.f32 %f6, [%rd9+-4];")],
        caught: Finding("OutOfBounds"),
    },
];

pub const MOVING_AVERAGE: &[Mutation] = &[
    Mutation {
        mistake: WrongFormula,
        kernel: "moving_average",
        what: "shares swapped",
        edits: &[("sub.f32 %f5, %f4, %f1;", 0, "mov.f32 %f5, %f1;")],
        caught: Row("MovingAverage"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "moving_average",
        what: "weights of the element before",
        edits: &[("ld.global.f32 %f6, [%rd8];", 0, "ld.global.f32 %f6, [%rd8+-4];")],
        caught: Finding("OutOfBounds"),
    },
];

pub const COPY: &[Mutation] = &[
    Mutation {
        mistake: LostGuard,
        kernel: "copy",
        what: "an element too many",
        edits: &[("setp.ge.u32 %p1, %r1, %r2;", 0, "setp.gt.u32 %p1, %r1, %r2;")],
        caught: Row("Copy"),
    },
    Mutation {
        mistake: Race,
        kernel: "copy",
        what: "blocks write to the same place",
        edits: &[("add.s64 %rd7, %rd6, %rd4;", 0, "mul.wide.u32 %rd7, %r5, 4; add.s64 %rd7, %rd6, %rd7;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: Unaligned,
        kernel: "copy",
        what: "eight bytes at once",
        edits: &[("st.global.f32 [%rd7], %f1;", 0, "st.global.v2.f32 [%rd7], {%f1, %f1};")],
        caught: Finding("Misaligned"),
    },
];

/// What `sgd_with_filters` does to weights.
pub const SGD_FILTERS: &[Mutation] = &[
    Mutation {
        mistake: LostGuard,
        kernel: "sgd_with_filters",
        what: "weights that aren't trained are",
        edits: &[
            ("setp.ge.u32 %p59, %r231, %r76;", 0, "setp.ge.u32 %p59, %r231, -1;"),
            ("setp.ge.u32 %p61, %r73, %r76;", 0, "setp.ge.u32 %p61, %r73, -1;"),
        ],
        caught: Row("Sgd"),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "sgd_with_filters",
        what: "a tile is read before it is there",
        edits: &[("bar.sync 0;", 0, "")],
        caught: Either("SharedRace", "Uninitialised"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "sgd_with_filters",
        what: "the first block of a part belongs to the one before",
        edits: &[("setp.le.u32 %p2, %r80, %r1;", 0, "setp.lt.u32 %p2, %r80, %r1;")],
        caught: Row("Sgd"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "sgd_with_filters",
        what: "fours of the momentum not stored",
        edits: &[("st.global.v4.f32 [%rd11], {%f35, %f263, %f262, %f261};", 0, "")],
        caught: Row("Sgd"),
    },
];

/// To the average.
pub const FILTERS_AVERAGE: &[Mutation] = &[
    Mutation {
        mistake: WrongFormula,
        kernel: "sgd_with_filters",
        what: "the average of the weights before the step",
        edits: &[(
            "mul.rn.f32 %f205, %f73, %f277;",
            0,
            "sub.f32 %f205, %f277, %f202; mul.rn.f32 %f205, %f73, %f205;",
        )],
        caught: Row("MovingAverage"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "sgd_with_filters",
        what: "fours of the average not stored",
        edits: &[("st.global.v4.f32 [%rd12], {%f267, %f266, %f265, %f264};", 0, "")],
        caught: Row("MovingAverage"),
    },
];

/// To the filters. Equivalent, so not here: dgrad's channels compared to those there are instead of whole vectors of them
/// (both are asked of the first of a vector).
pub const FILTERS: &[Mutation] = &[
    Mutation {
        mistake: SwappedIndex,
        kernel: "sgd_with_filters",
        what: "two out channels of a filter are the first",
        edits: &[("ld.shared.u16 %rs8, [%r213+16];", 0, "ld.shared.u16 %rs8, [%r213];")],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "sgd_with_filters",
        what: "channels that fill up a vector are no numbers",
        edits: &[
            ("mov.u32 %r236, 0;", 0, "mov.u32 %r236, 32704;"),
            ("mov.u32 %r238, 0;", 0, "mov.u32 %r238, 32704;"),
        ],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "sgd_with_filters",
        what: "taps of a strided filter's phases are where those of stride 1 are",
        edits: &[("mad.lo.s32 %r225, %r224, %r193, %r220;", 0, "mov.u32 %r225, %r220;")],
        caught: Row("ConvDgrad"),
    },
];
