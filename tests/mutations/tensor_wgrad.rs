//! `kernels/conv_wgrad_bf16.cu`, and the operands in bf16 of `kernels/conv_operands.cu`.

use pbe::device::Precision;

use super::mutation::Caught::*;
use super::mutation::Mistake::*;
use super::mutation::{Mutation, survive_none};

#[test]
fn tensor_wgrad() {
    survive_none(Precision::Bf16, "Conv", MUTATIONS);
}

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        mistake: MissingTail,
        kernel: "conv_wgrad_bf16_narrow",
        what: "the last part as long as the others",
        edits: &[
            ("min.u32 %r119, %r118, %r110;", 0, "mov.u32 %r119, %r118;"),
            ("min.u32 %r329, %r328, %r501;", 0, "mov.u32 %r329, %r328;"),
        ],
        caught: OneOf(&["OutOfBounds", "Uninitialised"]),
    },
    Mutation {
        mistake: Race,
        kernel: "conv_wgrad_bf16_narrow",
        what: "all parts in one place",
        edits: &[("mad.lo.s32 %r470, %r96, %r116, %r101;", 0, "mov.u32 %r470, %r101;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: WrongFragment,
        kernel: "conv_wgrad_bf16",
        what: "inputs not transposed",
        edits: &[(
            "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%r344,",
            0,
            "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r344,",
        )],
        caught: Row("ConvWgrad"),
    },
    Mutation {
        mistake: WrongSwizzle,
        kernel: "conv_wgrad_bf16",
        what: "looks for gradients where they don't go",
        edits: &[("xor.b32 %r290, %r286, %r289;", 0, "mov.u32 %r290, %r289;")],
        caught: Row("ConvWgrad"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_wgrad_bf16_narrow",
        what: "no carry from columns to rows of pixels",
        edits: &[("setp.ge.u32 %p68, %r367, %r497;", 0, "setp.ge.u32 %p68, %r367, -1;")],
        caught: Row("ConvWgrad"),
    },
    Mutation {
        mistake: MissingWait,
        kernel: "conv_wgrad_bf16_narrow",
        what: "doesn't wait",
        edits: &[("cp.async.wait_group 1;", 0, "")],
        caught: Finding("AsyncTooEarly"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "load_filter_bf16",
        what: "taps not sorted by phase",
        edits: &[("mad.lo.s32 %r57, %r50, %r24, %r52;", 0, "")],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "load_filter_bf16",
        what: "channels behind the last are what lies behind the weights",
        edits: &[("or.pred %p5, %p4, %p3;", 0, "mov.pred %p5, 0;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_input_bf16",
        what: "negative values pass the ReLU",
        edits: &[("setp.ne.s32 %p5, %r3, 0;", 0, "mov.pred %p5, 0;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_input_bf16",
        what: "rounded towards zero",
        edits: &[("cvt.rn.bf16.f32 %rs1, %f11;", 0, "cvt.rz.bf16.f32 %rs1, %f11;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: WrongSwizzle,
        kernel: "conv_wgrad_bf16",
        what: "the next 16 rows two vectors on, whatever the permutation",
        edits: &[("xor.b32 %r353, %r348, 32;", 0, "add.s32 %r353, %r348, 32;")],
        caught: Finding("Uninitialised"),
    },
];
