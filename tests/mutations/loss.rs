//! `kernels/loss.cu`.

use pbe::device::Precision;

use super::mutation::Caught::*;
use super::mutation::Mistake::*;
use super::mutation::{Mutation, survive_none};

#[test]
fn cross_entropy() {
    survive_none(Precision::F32, "CrossEntropy", CROSS_ENTROPY);
}

#[test]
fn cosine() {
    survive_none(Precision::F32, "CosineSimilarity", COSINE);
}

pub const CROSS_ENTROPY: &[Mutation] = &[
    Mutation {
        mistake: MissingTail,
        kernel: "cross_entropy",
        what: "the largest logit may be behind whole fours",
        edits: &[("setp.eq.s32 %p5, %r471, 0;", 0, "setp.eq.s32 %p5, %r471, %r471;")],
        caught: Row("CrossEntropy"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "cross_entropy",
        what: "the last class for the label's",
        edits: &[("mul.wide.u32 %rd49, %r3, 4;", 0, "mul.wide.u32 %rd49, %r2, 4;")],
        caught: Row("CrossEntropy"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "cross_entropy",
        what: "the gradient takes the class behind the label",
        edits: &[("setp.eq.s32 %p36, %r481, %r3;", 0, "setp.gt.u32 %p36, %r481, %r3;")],
        caught: Row("CrossEntropy"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "cross_entropy",
        what: "an odd class has no gradient",
        edits: &[("setp.eq.b32 %p43, %r252, 1;", 0, "setp.eq.b32 %p43, %r252, 2;")],
        caught: Row("CrossEntropy"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "cross_entropy",
        what: "the gradient isn't that of the mean",
        edits: &[("div.rn.f64 %fd322, %fd320, %fd321;", 0, "mov.f64 %fd322, %fd320;")],
        caught: Row("CrossEntropy"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "cross_entropy",
        what: "divergence times T, not its square",
        edits: &[("mul.f64 %fd865, %fd805, %fd864;", 0, "mul.f64 %fd865, %fd111, %fd864;")],
        caught: Row("CrossEntropy"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "cross_entropy",
        what: "the gradient has no part of the teacher's",
        edits: &[("st.global.f32 [%rd129], %f106;", 0, "")],
        caught: Row("CrossEntropy"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "cross_entropy",
        what: "an image too many",
        edits: &[("setp.ge.u32 %p1, %r1, %r136;", 0, "setp.gt.u32 %p1, %r1, %r136;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "cross_entropy",
        what: "a teacher where there is none",
        edits: &[("setp.eq.s64 %p52, %rd113, 0;", 0, "setp.eq.s64 %p52, %rd113, -1;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: Accumulator,
        kernel: "cross_entropy",
        what: "the divergence begins with nothing",
        edits: &[
            ("mov.f64 %fd864, 0d0000000000000000;", 2, ""),
            ("mov.f64 %fd864, 0d0000000000000000;", 1, ""),
        ],
        caught: Finding("Uninitialised"),
    },
];

pub const COSINE: &[Mutation] = &[
    Mutation {
        mistake: MissingTail,
        kernel: "cosine_similarity",
        what: "classes behind whole fours left out",
        edits: &[("setp.eq.s32 %p5, %r24, 0;", 0, "setp.eq.s32 %p5, %r24, %r24;")],
        caught: Row("CosineSimilarity"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "cosine_similarity",
        what: "both lengths are the first row's",
        edits: &[("fma.rn.f64 %fd69, %fd51, %fd51, %fd69;", 0, "fma.rn.f64 %fd69, %fd50, %fd50, %fd69;")],
        caught: Row("CosineSimilarity"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "cosine_similarity",
        what: "zero divided by zero",
        edits: &[("@%p7 bra $L__BB1_10;", 0, "")],
        caught: Row("CosineSimilarity"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "cosine_similarity",
        what: "lengths squared",
        edits: &[("sqrt.rn.f64 %fd52, %fd69;", 0, "mov.f64 %fd52, %fd69;")],
        caught: Row("CosineSimilarity"),
    },
    Mutation {
        mistake: Unaligned,
        kernel: "cosine_similarity",
        what: "two logits loaded at once",
        edits: &[("ld.global.f32 %f5, [%rd15+4];", 0, "ld.global.v2.f32 {%f5, %f7}, [%rd15+4];")],
        caught: Finding("Misaligned"),
    },
];
