//! What `kernels/conv_bf16.cu` and `norm_dgrad` hand on to the next convolution.
//!
//! Equivalent, so not here: the bytes of a mask's last word that have no channels aren't zeroed (nothing but zeros is there in the
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
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_narrow",
        what: "an octet's last bit of the mask in the place of the one before",
        edits: &[("shl.b32 %r1158, %r1157, 7;", 0, "shl.b32 %r1158, %r1157, 6;")],
        caught: Row("Conv, mask bits"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_narrow",
        what: "all bytes of a pixel's mask go to its first",
        edits: &[("add.s64 %rd8, %rd125, %rd126;", 0, "mov.u64 %rd8, %rd125;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_fprop_bf16_narrow",
        what: "no shift in front of the next convolution",
        edits: &[("fma.rn.f32 %f536, %f392, %f536, %f391;", 0, "mul.rn.f32 %f536, %f392, %f536;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "conv_fprop_bf16_narrow",
        what: "a ReLU where there is none",
        edits: &[("setp.eq.s32 %p170, %r1280, 0;", 0, "setp.eq.s32 %p170, %r1280, 7;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "conv_fprop_bf16_narrow",
        what: "channels that fill up a vector are no numbers",
        edits: &[("mov.u32 %r1422, 0;", 0, "mov.u32 %r1422, 2143289344;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: Unaligned,
        kernel: "conv_fprop_bf16_narrow",
        what: "pixels of the operand follow each other without filled up vectors",
        edits: &[("mul.lo.s32 %r1166, %r60, %r63;", 0, "mul.lo.s32 %r1166, %r60, %r483;")],
        caught: Finding("Misaligned"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "conv_dgrad_bf16_low",
        what: "nothing is handed on",
        edits: &[("st.global.v4.u32 [%rd136], {%r1241, %r1240, %r1239, %r1238};", 0, "")],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_dgrad_bf16_low",
        what: "the second channel in the first one's place",
        edits: &[("mov.b32 %r1241, {%rs52, %rs53};", 0, "mov.b32 %r1241, {%rs53, %rs52};")],
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
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_narrow",
        what: "both channels of a rounded residual are its first",
        edits: &[("and.b32 %r1093, %r1327, -65536;", 0, "shl.b32 %r1093, %r1327, 16;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: Unaligned,
        kernel: "conv_fprop_bf16_narrow",
        what: "a rounded residual without filled up vectors",
        edits: &[("mul.lo.s32 %r1048, %r60, %r63;", 0, "mul.lo.s32 %r1048, %r60, %r483;")],
        caught: Finding("Misaligned"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_low",
        what: "halves of an octet of a rounded result swapped",
        edits: &[(
            "st.global.v4.u32 [%rd130], {%r1060, %r1059, %r1058, %r1057};",
            0,
            "st.global.v4.u32 [%rd130], {%r1058, %r1057, %r1060, %r1059};",
        )],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "conv_dgrad_bf16_narrow",
        what: "a rounded residual left out",
        edits: &[("add.f32 %f552, %f552, %f409;", 0, "")],
        caught: Row("ConvDgrad"),
    },
];
