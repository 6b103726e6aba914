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
        kernel: "conv_wgrad_bf16_64x16",
        what: "the last part as long as the others",
        edits: &[("ld.param.u32 %r115, [conv_wgrad_bf16_narrow_param_13];", 0, "mov.u32 %r115, -1;")],
        caught: OneOf(&["OutOfBounds", "Uninitialised"]),
    },
    Mutation {
        mistake: Race,
        kernel: "conv_wgrad_bf16_64x16",
        what: "all parts in one place",
        edits: &[("mad.lo.s32 %r485, %r96, %r121, %r101;", 0, "mov.u32 %r485, %r101;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: WrongFragment,
        kernel: "conv_wgrad_bf16_64x64",
        what: "inputs not transposed",
        edits: &[(
            "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%r356,",
            0,
            "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r356,",
        )],
        caught: Row("ConvWgrad"),
    },
    Mutation {
        mistake: WrongSwizzle,
        kernel: "conv_wgrad_bf16_64x64",
        what: "looks for gradients where they don't go",
        edits: &[("xor.b32 %r300, %r296, %r299;", 0, "mov.u32 %r300, %r299;")],
        caught: Row("ConvWgrad"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_wgrad_bf16_64x16",
        what: "no carry from columns to rows of pixels",
        edits: &[("setp.ge.u32 %p68, %r372, %r108;", 0, "setp.ge.u32 %p68, %r372, -1;")],
        caught: Row("ConvWgrad"),
    },
    Mutation {
        mistake: MissingWait,
        kernel: "conv_wgrad_bf16_64x16",
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
        edits: &[
            ("setp.eq.s32 %p31, %r4, 0;", 0, "mov.pred %p31, 1;"),
            ("setp.eq.s32 %p7, %r4, 0;", 0, "mov.pred %p7, 1;"),
        ],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_input_bf16",
        what: "rounded towards zero",
        edits: &[("cvt.rn.bf16.f32 %rs1, %f244;", 0, "cvt.rz.bf16.f32 %rs1, %f244;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: WrongSwizzle,
        kernel: "conv_wgrad_bf16_64x64",
        what: "the next 16 rows two vectors on, whatever the permutation",
        edits: &[("xor.b32 %r365, %r360, 32;", 0, "add.s32 %r365, %r360, 32;")],
        caught: Finding("Uninitialised"),
    },
];
