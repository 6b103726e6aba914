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
        kernel: "conv_fprop_bf16_128x16",
        what: "an octet's last bit of the mask in the place of the one before",
        edits: &[("shl.b32 %r1270, %r1269, 7;", 0, "shl.b32 %r1270, %r1269, 6;")],
        caught: Row("Conv, mask bits"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_128x16",
        what: "all bytes of a pixel's mask go to its first",
        edits: &[("add.s64 %rd10, %rd133, %rd134;", 0, "mov.u64 %rd10, %rd133;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_fprop_bf16_128x16",
        what: "no shift in front of the next convolution",
        edits: &[("fma.rn.f32 %f752, %f416, %f752, %f415;", 0, "mul.rn.f32 %f752, %f416, %f752;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "conv_fprop_bf16_128x16",
        what: "a ReLU where there is none",
        edits: &[("setp.eq.s32 %p202, %r1407, 0;", 0, "setp.eq.s32 %p202, %r1407, 7;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "conv_fprop_bf16_128x16",
        what: "channels that fill up a vector are no numbers",
        edits: &[("mov.u32 %r1564, 0;", 0, "mov.u32 %r1564, 2143289344;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: Unaligned,
        kernel: "conv_fprop_bf16_128x16",
        what: "pixels of the operand follow each other without filled up vectors",
        edits: &[("mul.lo.s32 %r1275, %r60, %r62;", 0, "mul.lo.s32 %r1275, %r60, %r574;")],
        caught: Finding("Misaligned"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "conv_dgrad_bf16_64x64",
        what: "nothing is handed on",
        edits: &[("st.global.v4.u32 [%rd147], {%r1509, %r1508, %r1507, %r1506};", 0, "")],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_dgrad_bf16_64x64",
        what: "the second channel in the first one's place",
        edits: &[("mov.b32 %r1509, {%rs79, %rs80};", 0, "mov.b32 %r1509, {%rs80, %rs79};")],
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
        caught: FindingIn("conv_dgrad_bf16_128x16", "Uninitialised"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_128x16",
        what: "both channels of a rounded residual are its first",
        edits: &[("and.b32 %r1189, %r1453, -65536;", 0, "shl.b32 %r1189, %r1453, 16;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: Unaligned,
        kernel: "conv_fprop_bf16_128x16",
        what: "a rounded residual without filled up vectors",
        edits: &[("mul.lo.s32 %r1143, %r60, %r62;", 0, "mul.lo.s32 %r1143, %r60, %r574;")],
        caught: Finding("Misaligned"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_64x64",
        what: "halves of an octet of a rounded result swapped",
        edits: &[(
            "st.global.v4.u32 [%rd143], {%r1175, %r1174, %r1173, %r1172};",
            0,
            "st.global.v4.u32 [%rd143], {%r1173, %r1172, %r1175, %r1174};",
        )],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "conv_dgrad_bf16_128x16",
        what: "a rounded residual left out",
        edits: &[("add.f32 %f346, %f337, %f345;", 0, "mov.f32 %f346, %f345;")],
        caught: Row("ConvDgrad"),
    },
];
