//! What `kernels/conv_bf16.cu` and `norm_dgrad` hand on to the next convolution.
//!
//! Equivalent, so not here: the mask's half word without channels isn't zeroed (nothing but zeros is there in the
//! self-test, and nobody looks at those bits).

use pbe::device::Precision;

use super::mutation::Caught::*;
use super::mutation::Mistake::*;
use super::mutation::{Mutation, survive_none};

#[test]
fn tensor_next() {
    survive_none(Precision::Bf16, "Conv", MUTATIONS);
}

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        mistake: WrongLane,
        kernel: "conv_fprop_bf16_narrow",
        what: "four lanes' bits of the mask are missing",
        edits: &[("shfl.sync.bfly.b32 %r527|%p123, %r525, %r526, %r519, %r520;", 0, "mov.u32 %r527, %r525;")],
        caught: Row("Conv, mask bits"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_narrow",
        what: "both halves of a mask's word go to one place",
        edits: &[("shr.u32 %r486, %r485, 4;", 0, "shr.u32 %r486, %r485, 5;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_fprop_bf16_narrow",
        what: "no shift in front of the next convolution",
        edits: &[("fma.rn.f32 %f246, %f203, %f246, %f204;", 0, "mul.rn.f32 %f246, %f203, %f246;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "conv_fprop_bf16_narrow",
        what: "a ReLU where there is none",
        edits: &[("setp.ne.s32 %p129, %r538, 0;", 0, "setp.ne.s32 %p129, %r538, 7;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "conv_fprop_bf16_narrow",
        what: "channels that fill up a vector are no numbers",
        edits: &[("mov.u32 %r579, 0;", 0, "mov.u32 %r579, 32704;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: Unaligned,
        kernel: "conv_fprop_bf16_narrow",
        what: "pixels of the operand follow each other without filled up vectors",
        edits: &[("mul.lo.s32 %r534, %r82, %r76;", 0, "mul.lo.s32 %r534, %r82, %r96;")],
        caught: Finding("Misaligned"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "conv_dgrad_bf16",
        what: "nothing is handed on",
        edits: &[("st.global.u32 [%rd127], %r835;", 0, "")],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_dgrad_bf16",
        what: "the second channel in the first one's place",
        edits: &[("shl.b32 %r863, %r833, 16;", 0, "mov.b32 %r863, %r833;")],
        caught: Row("ConvWgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "norm_dgrad",
        what: "pixels of the operand follow each other without filled up vectors",
        edits: &[("mul.lo.s32 %r105, %r253, %r18;", 0, "mul.lo.s32 %r105, %r253, %r16;")],
        caught: Finding("Misaligned"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "norm_dgrad",
        what: "nothing is handed on",
        edits: &[("st.global.v2.u32 [%rd206], {%r212, %r211};", 0, "")],
        caught: FindingIn("conv_dgrad_bf16_narrow", "Uninitialised"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_narrow",
        what: "both channels of a rounded residual are its first",
        edits: &[("and.b32 %r504, %r502, -65536;", 0, "shl.b32 %r504, %r502, 16;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: Unaligned,
        kernel: "conv_fprop_bf16_narrow",
        what: "a rounded residual without filled up vectors",
        edits: &[("mul.lo.s32 %r1197, %r355, %r483;", 0, "mul.lo.s32 %r1197, %r355, %r483;")],
        caught: Finding("Misaligned"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16",
        what: "the second channel of a rounded result in the first one's place",
        edits: &[("shl.b32 %r841, %r791, 16;", 0, "mov.b32 %r841, %r791;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "conv_dgrad_bf16_narrow",
        what: "a rounded residual left out",
        edits: &[("add.f32 %f552, %f552, %f401;", 0, "")],
        caught: Row("ConvDgrad"),
    },
];
