//! `kernels/linear.cu`: the linear layer.

use pbe::device::Precision;

use super::mutation::Caught::*;
use super::mutation::Mistake::*;
use super::mutation::{Mutation, survive_none};

#[test]
fn linear() {
    survive_none(Precision::F32, "Linear", MUTATIONS);
}

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        mistake: MissingTail,
        kernel: "linear",
        what: "inputs behind whole fours left out",
        edits: &[("setp.eq.s32 %p5, %r31, 0;", 0, "setp.eq.s32 %p5, %r31, %r31;")],
        caught: Row("Linear"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "linear",
        what: "rows of the weights as long as the output",
        edits: &[("mul.lo.s32 %r22, %r2, %r14;", 0, "mul.lo.s32 %r22, %r2, %r15;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: Unaligned,
        kernel: "linear",
        what: "two inputs loaded at once",
        edits: &[("ld.global.f32 %f15, [%rd15+4];", 0, "ld.global.v2.f32 {%f15, %f18}, [%rd15+4];")],
        caught: Finding("Misaligned"),
    },
    Mutation {
        mistake: Accumulator,
        kernel: "linear",
        what: "sums begin with nothing",
        edits: &[
            ("mov.f32 %f31, 0f00000000;", 3, ""),
            ("mov.f32 %f31, 0f00000000;", 2, ""),
            ("mov.f32 %f31, 0f00000000;", 1, ""),
        ],
        caught: Finding("Uninitialised"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "linear",
        what: "an output too many",
        edits: &[("setp.ge.u32 %p1, %r1, %r16;", 0, "setp.gt.u32 %p1, %r1, %r16;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "linear_dgrad",
        what: "weights not transposed, behind whole fours",
        edits: &[("add.s32 %r42, %r42, %r21;", 0, "add.s32 %r42, %r42, 1;")],
        caught: Row("LinearDgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "linear_dgrad",
        what: "another image's gradient",
        edits: &[("mul.lo.s32 %r30, %r27, %r22;", 0, "mov.u32 %r30, 0;")],
        caught: Row("LinearDgrad"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "linear_dgrad",
        what: "a class too many",
        edits: &[("setp.ne.s32 %p6, %r44, 0;", 0, "setp.ne.s32 %p6, %r44, -1;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "linear_wgrad",
        what: "biases among the weights",
        edits: &[("setp.lt.u32 %p12, %r2, %r19;", 0, "setp.le.u32 %p12, %r2, %r19;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "linear_wgrad",
        what: "images behind whole fours left out",
        edits: &[("and.b32 %r47, %r18, 3;", 0, "and.b32 %r47, %r18, 0;")],
        caught: Row("LinearWgrad"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "linear_wgrad",
        what: "no gradient of the biases",
        edits: &[("st.global.f32 [%rd37], %f42;", 0, "")],
        caught: Row("LinearWgrad"),
    },
    Mutation {
        mistake: Race,
        kernel: "linear_wgrad",
        what: "blocks write the same rows",
        edits: &[("mad.lo.s32 %r42, %r3, %r19, %r2;", 0, "mov.u32 %r42, %r2;")],
        caught: Finding("GlobalRace"),
    },
];
