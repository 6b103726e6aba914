//! `kernels/conv_bf16.cu` and the machinery of `kernels/tensor.cuh` in it.
//!
//! Equivalent, so not here: a copy too many behind the last stage, which nothing reads; a wrong place in
//! shared memory that is wrong for writer and reader alike (it costs bank conflicts, `tests/counters.rs`).

use pbe::device::Precision;

use super::mutation::Caught::*;
use super::mutation::Mistake::*;
use super::mutation::{Mutation, survive_none};

#[test]
fn tensor() {
    survive_none(Precision::Bf16, "Conv", MUTATIONS);
}

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        mistake: MissingWait,
        kernel: "conv_fprop_bf16",
        what: "waits for one stage less",
        edits: &[("cp.async.wait_group 1;", 0, "cp.async.wait_group 2;")],
        caught: Finding("AsyncTooEarly"),
    },
    Mutation {
        mistake: MissingWait,
        kernel: "conv_fprop_bf16",
        what: "the first stage's copies aren't a group of their own",
        edits: &[("cp.async.commit_group;", 1, "")],
        caught: Finding("AsyncTooEarly"),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "conv_fprop_bf16",
        what: "no barrier behind the wait",
        edits: &[("bar.sync 0;", 1, "")],
        caught: OneOf(&["SharedRace", "AsyncTooEarly", "Uninitialised"]),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "conv_fprop_bf16",
        what: "sums stored over operands that are still read",
        edits: &[("bar.sync 0;", 2, "")],
        caught: OneOf(&["SharedRace", "AsyncTooEarly", "Uninitialised"]),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "conv_fprop_bf16",
        what: "sums read before they are stored",
        edits: &[("bar.sync 0;", 3, "")],
        caught: OneOf(&["SharedRace", "Uninitialised"]),
    },
    Mutation {
        mistake: WrongStage,
        kernel: "conv_fprop_bf16",
        what: "reads two of the three stages in turn",
        edits: &[("setp.eq.s32 %p80, %r1494, 3;", 0, "setp.eq.s32 %p80, %r1494, 2;")],
        caught: OneOf(&["SharedRace", "AsyncTooEarly"]),
    },
    Mutation {
        mistake: WrongStage,
        kernel: "conv_fprop_bf16",
        what: "fills the stage that is read",
        edits: &[("shl.b32 %r1216, %r2132, 13;", 0, "shl.b32 %r1216, %r2131, 13;")],
        caught: OneOf(&["SharedRace", "AsyncTooEarly"]),
    },
    Mutation {
        mistake: WrongFragment,
        kernel: "conv_fprop_bf16",
        what: "halves of k of a filter swapped",
        edits: &[(
            "{%r1240,%r1241,%r1242,%r1243}, {%r1260,%r1261}",
            0,
            "{%r1240,%r1241,%r1242,%r1243}, {%r1261,%r1260}",
        )],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: WrongFragment,
        kernel: "conv_fprop_bf16",
        what: "quarters of the pixels' fragment by columns",
        edits: &[("{%r1240,%r1241,%r1242,%r1243}, [%r1244]", 0, "{%r1240,%r1242,%r1241,%r1243}, [%r1244]")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: WrongSwizzle,
        kernel: "conv_fprop_bf16",
        what: "copies go where they are not looked for",
        edits: &[("xor.b32 %r368, %r367, %r354;", 0, "mov.u32 %r368, %r354;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: Accumulator,
        kernel: "conv_fprop_bf16",
        what: "sums begin with one",
        edits: &[("mov.f32 %f1281, 0f00000000;", 1, "mov.f32 %f1281, 0f3F800000;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "conv_fprop_bf16",
        what: "outside the image is its first pixel",
        edits: &[("selp.b32 %r1193, 16, 0, %p71;", 0, "mov.u32 %r1193, 16;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_narrow",
        what: "another channel's bias",
        edits: &[("ld.global.f32 %f241, [%rd2+4];", 0, "ld.global.f32 %f241, [%rd2];")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "conv_fprop_bf16_narrow",
        what: "k behind whole stages left out",
        edits: &[("add.s32 %r164, %r22, 31;", 0, "add.s32 %r164, %r22, 0;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "conv_fprop_bf16_narrow",
        what: "more rows of the filter than the tile has",
        edits: &[("setp.gt.u32 %p60, %r332, 63;", 0, "setp.gt.u32 %p60, %r332, 67;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_dgrad_bf16",
        what: "reads gradients forwards, as fprop reads",
        edits: &[("sub.s32 %r360, %r20, %r845;", 0, "add.s32 %r360, %r20, %r845;")],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_dgrad_bf16",
        what: "what is added before the mask changes places with what is added behind the scale",
        edits: &[
            ("setp.eq.s64 %p96, %rd9, 0;", 0, "setp.eq.s64 %p96, %rd13, 0;"),
            ("cvta.to.global.u64 %rd102, %rd9;", 0, "cvta.to.global.u64 %rd102, %rd13;"),
            ("setp.eq.s64 %p104, %rd13, 0;", 0, "setp.eq.s64 %p104, %rd9, 0;"),
            ("cvta.to.global.u64 %rd114, %rd13;", 0, "cvta.to.global.u64 %rd114, %rd9;"),
        ],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_dgrad_bf16",
        what: "a bit of the mask for two channels",
        edits: &[("and.b32 %r822, %r820, 2;", 0, "and.b32 %r822, %r820, 1;")],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_dgrad_bf16",
        what: "every other word of the mask",
        edits: &[("shr.u32 %r76, %r791, 5;", 0, "shr.u32 %r76, %r791, 6;")],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_dgrad_bf16",
        what: "a phase's pixels stored without its column",
        edits: &[("mad.lo.s32 %r1623, %r1622, %r942, %r2;", 0, "mul.lo.s32 %r1623, %r1622, %r942;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_dgrad_bf16_narrow",
        what: "taps of the phase before",
        edits: &[("min.u32 %r545, %r544, %r536;", 0, "mov.u32 %r545, 0;")],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "conv_dgrad_bf16_narrow",
        what: "a channel isn't scaled",
        edits: &[("mul.f32 %f545, %f545, %f400;", 0, "")],
        caught: Row("ConvDgrad"),
    },
];
