//! `kernels/conv_bf16.cu` and the machinery of `kernels/tensor.cuh` in it.
//!
//! Equivalent, so not here: a copy too many behind the last stage, which nothing reads; a wrong place in
//! shared memory that is wrong for writer and reader alike (it costs bank conflicts, `tests/counters.rs`); the
//! barrier of a warp in front of its first rows, for one of all warps is right before it.

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
        what: "a warp's sums read before all lanes have stored theirs",
        edits: &[("bar.warp.sync -1;", 2, "")],
        caught: OneOf(&["SharedRace", "Uninitialised"]),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "conv_fprop_bf16",
        what: "a warp's next rows stored over those that are still read",
        edits: &[("bar.warp.sync -1;", 3, "")],
        caught: Finding("SharedRace"),
    },
    Mutation {
        mistake: WrongStage,
        kernel: "conv_fprop_bf16",
        what: "reads two of the three stages in turn",
        edits: &[("setp.eq.s32 %p80, %r1494, 3;", 0, "setp.eq.s32 %p80, %r1494, 2;")],
        caught: Row("Conv"),
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
        edits: &[("xor.b32 %r1080, %r20, %r2;", 0, "mov.u32 %r1080, %r2;")],
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
        what: "outside the image is what lies beside it",
        edits: &[("selp.b32 %r1193, 16, 0, %p71;", 0, "mov.u32 %r1193, 16;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_narrow",
        what: "another channel's bias",
        edits: &[("ld.global.u32 %r1384, [%rd4+4];", 0, "ld.global.u32 %r1384, [%rd4];")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "conv_fprop_bf16_narrow",
        what: "k behind whole stages left out",
        edits: &[
            ("mad.lo.s32 %r659, %r657, %r486, 31;", 0, "mul.lo.s32 %r659, %r657, %r486;"),
            ("mad.lo.s32 %r1290, %r1291, %r486, 31;", 0, "mul.lo.s32 %r1290, %r1291, %r486;"),
            ("mad.lo.s32 %r1293, %r1294, %r486, 31;", 0, "mul.lo.s32 %r1293, %r1294, %r486;"),
        ],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "conv_fprop_bf16_narrow",
        what: "more rows of the filter than the tile has",
        edits: &[("setp.gt.u32 %p63, %r2, 63;", 0, "setp.gt.u32 %p63, %r2, 67;")],
        caught: OneOf(&["OutOfBounds", "SharedRace"]),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_dgrad_bf16",
        what: "reads gradients forwards, as fprop reads",
        edits: &[("neg.s32 %r1261, %r940;", 0, "mov.u32 %r1261, %r940;")],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_dgrad_bf16",
        what: "what is added before the mask changes places with what is added behind the scale",
        edits: &[
            (
                "ld.param.u64 %rd18, [conv_dgrad_bf16_param_2];",
                0,
                "ld.param.u64 %rd18, [conv_dgrad_bf16_param_6];",
            ),
            (
                "ld.param.u64 %rd22, [conv_dgrad_bf16_param_6];",
                0,
                "ld.param.u64 %rd22, [conv_dgrad_bf16_param_2];",
            ),
        ],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_dgrad_bf16_low",
        what: "the same of rounded summands",
        edits: &[
            (
                "ld.param.u64 %rd13, [conv_dgrad_bf16_low_param_3];",
                0,
                "ld.param.u64 %rd13, [conv_dgrad_bf16_low_param_7];",
            ),
            (
                "ld.param.u64 %rd17, [conv_dgrad_bf16_low_param_7];",
                0,
                "ld.param.u64 %rd17, [conv_dgrad_bf16_low_param_3];",
            ),
        ],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_dgrad_bf16",
        what: "a bit of the mask for two channels",
        edits: &[("and.b32 %r1798, %r2261, 2;", 0, "and.b32 %r1798, %r2261, 1;")],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_dgrad_bf16",
        what: "every other byte of the mask",
        edits: &[("shr.u32 %r1689, %r63, 3;", 0, "shr.u32 %r1689, %r63, 4;")],
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
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_narrow",
        what: "halves of an octet swapped",
        edits: &[("setp.ne.s32 %p109, %r58, 0;", 0, "setp.eq.s32 %p109, %r58, 0;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: MissingWait,
        kernel: "conv_fprop_bf16_low",
        what: "waits for one stage less",
        edits: &[("cp.async.wait_group 2;", 0, "cp.async.wait_group 3;")],
        caught: Finding("AsyncTooEarly"),
    },
    Mutation {
        mistake: WrongStage,
        kernel: "conv_fprop_bf16_low",
        what: "reads three of the four stages in turn",
        edits: &[("setp.eq.s32 %p65, %r900, 4;", 0, "setp.eq.s32 %p65, %r900, 3;")],
        caught: OneOf(&["SharedRace", "AsyncTooEarly"]),
    },
    Mutation {
        mistake: WrongSwizzle,
        kernel: "conv_fprop_bf16_low",
        what: "the first half of k twice",
        edits: &[("xor.b32 %r835, %r767, 32;", 0, "mov.u32 %r835, %r767;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_low",
        what: "rows outside the image for columns",
        edits: &[("prmt.b32 %r557, %r556, %r545, 4180;", 0, "prmt.b32 %r557, %r545, %r556, 4180;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "conv_fprop_bf16_low",
        what: "below the image is the next one",
        edits: &[("or.b32 %r544, %r543, %r540;", 0, "mov.u32 %r544, %r540;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: WrongLane,
        kernel: "conv_dgrad_bf16_low",
        what: "half an octet from another lane's row",
        edits: &[("mad.lo.s32 %r1184, %r993, 40, %r997;", 0, "mad.lo.s32 %r1184, %r993, 32, %r997;")],
        caught: Finding("Uninitialised"),
    },
];
