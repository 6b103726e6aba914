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
        edits: &[("shfl.sync.bfly.b32 %r531|%p115, %r529, %r530, %r523, %r524;", 0, "mov.u32 %r531, %r529;")],
        caught: Row("Conv, mask bits"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_narrow",
        what: "both halves of a mask's word go to one place",
        edits: &[("shr.u32 %r502, %r501, 4;", 0, "shr.u32 %r502, %r501, 5;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_fprop_bf16_narrow",
        what: "no shift in front of the next convolution",
        edits: &[("fma.rn.f32 %f240, %f195, %f240, %f196;", 0, "mul.rn.f32 %f240, %f195, %f240;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "conv_fprop_bf16_narrow",
        what: "a ReLU where there is none",
        edits: &[("setp.ne.s32 %p121, %r540, 0;", 0, "setp.ne.s32 %p121, %r540, 7;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "conv_fprop_bf16_narrow",
        what: "channels that fill up a vector are no numbers",
        edits: &[("mov.u32 %r576, 0;", 0, "mov.u32 %r576, 32704;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: Unaligned,
        kernel: "conv_fprop_bf16_narrow",
        what: "pixels of the operand follow each other without filled up vectors",
        edits: &[("mul.lo.s32 %r537, %r80, %r74;", 0, "mul.lo.s32 %r537, %r80, %r90;")],
        caught: Finding("Misaligned"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "conv_dgrad_bf16",
        what: "nothing is handed on",
        edits: &[("st.global.u32 [%rd111], %r827;", 0, "")],
        caught: FindingIn("conv_wgrad_bf16", "Uninitialised"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_dgrad_bf16",
        what: "the second channel in the first one's place",
        edits: &[("shl.b32 %r855, %r825, 16;", 0, "mov.b32 %r855, %r825;")],
        caught: Row("ConvWgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "norm_dgrad",
        what: "pixels of the operand follow each other without filled up vectors",
        edits: &[("mul.lo.s32 %r19, %r18, %r11;", 0, "mul.lo.s32 %r19, %r18, %r10;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "norm_dgrad",
        what: "nothing is handed on",
        edits: &[("st.global.u16 [%rd48], %rs1;", 0, "")],
        caught: FindingIn("conv_dgrad_bf16_narrow", "Uninitialised"),
    },
];
