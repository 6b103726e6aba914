//! `kernels/classifier.cu`, the classifier's end in one launch.
//!
//! Equivalent, so not here: the barrier in front of the divergence's terms. Every thread has read all of the
//! logarithms' by then, with a barrier of theirs behind.

use pbe::device::Precision;

use super::mutation::Caught::*;
use super::mutation::Mistake::*;
use super::mutation::{Mutation, survive_none};

#[test]
fn head_linear() {
    survive_none(Precision::Bf16, "Linear", LINEAR);
}

#[test]
fn head_pixels() {
    survive_none(Precision::Bf16, "GlobalAvgPoolDgrad", PIXELS);
}

#[test]
fn classifier_loss() {
    survive_none(Precision::Bf16, "CrossEntropy", LOSS);
}

#[test]
fn head_score() {
    survive_none(Precision::Bf16, "CosineSimilarity", SCORE);
}

pub const LINEAR: &[Mutation] = &[
    Mutation {
        mistake: MissingBarrier,
        kernel: "classifier_forward",
        what: "products of features that other warps have yet to make",
        edits: &[("bar.sync 0;", 1, "")],
        caught: Either("SharedRace", "Uninitialised"),
    },
    Mutation {
        mistake: WrongLane,
        kernel: "classifier_forward",
        what: "half of a warp's sums are missing",
        edits: &[("shfl.sync.bfly.b32 %r278|%p216, %r274, %r276, %r275, %r277;", 0, "mov.b32 %r278, 0;")],
        caught: Row("Linear"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "classifier_loss",
        what: "what is handed on has no zeros in the last vector",
        edits: &[("and.b32 %r137, %r801, -8;", 0, "mov.b32 %r137, %r201;")],
        caught: FindingIn("conv_dgrad_bf16_128x16", "Uninitialised"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "classifier_forward",
        what: "a four's first two weights swapped",
        edits: &[(
            "ld.global.v4.f32 {%f572, %f573, %f574, %f575}, [%rd105];",
            0,
            "ld.global.v4.f32 {%f573, %f572, %f574, %f575}, [%rd105];",
        )],
        caught: Row("Linear"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "classifier_forward",
        what: "the first weight for the second, of channels that are no fours",
        edits: &[("ld.global.f32 %f932, [%rd35+4];", 0, "ld.global.f32 %f932, [%rd35];")],
        caught: Row("Linear"),
    },
];

/// Down to the pixels.
pub const PIXELS: &[Mutation] = &[
    Mutation {
        mistake: LostWrite,
        kernel: "classifier_loss",
        what: "fours of a pixel in the middle not stored",
        edits: &[("st.global.v4.f32 [%rd319], {%f637, %f638, %f639, %f640};", 0, "")],
        caught: Row("GlobalAvgPoolDgrad"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "classifier_loss",
        what: "the first of channels that are no fours not stored",
        edits: &[("st.global.f32 [%rd70], %f770;", 0, "")],
        caught: Row("GlobalAvgPoolDgrad"),
    },
];

pub const LOSS: &[Mutation] = &[
    Mutation {
        mistake: SwappedIndex,
        kernel: "classifier_loss",
        what: "the gradient pulls to the first class",
        edits: &[("setp.eq.s32 %p281, %r1032, %r2;", 0, "setp.eq.s32 %p281, %r1032, 0;")],
        caught: Row("CrossEntropy"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "classifier_loss",
        what: "the divergence times the temperature, not its square",
        edits: &[("mul.f64 %fd606, %fd605, %fd28;", 0, "mov.f64 %fd606, %fd605;")],
        caught: Row("CrossEntropy"),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "classifier_loss",
        what: "exponentials over those of another temperature, which are still being added",
        edits: &[("bar.sync 0;", 7, "")],
        caught: Finding("SharedRace"),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "classifier_loss",
        what: "back through gradients that other threads have yet to make",
        edits: &[("bar.sync 0;", 19, "")],
        caught: Finding("SharedRace"),
    },
];

pub const SCORE: &[Mutation] = &[Mutation {
    mistake: MissingBarrier,
    kernel: "classifier_forward",
    what: "squares added before they are there",
    edits: &[("bar.sync 0;", 8, "")],
    caught: Finding("SharedRace"),
}];
