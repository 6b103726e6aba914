//! `kernels/conv_bf16.cu` and the machinery of `kernels/mma.cuh` in it.
//!
//! Equivalent, so not here: a copy too many behind the last stage, which nothing reads; a wrong place in
//! shared memory that is wrong for writer and reader alike (it costs bank conflicts, `tests/cli/counters.rs`); the
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
        kernel: "conv_fprop_bf16_128x64",
        what: "waits for one stage less",
        edits: &[("cp.async.wait_group 1;", 0, "cp.async.wait_group 2;")],
        caught: Finding("AsyncTooEarly"),
    },
    Mutation {
        mistake: MissingWait,
        kernel: "conv_fprop_bf16_128x64",
        what: "the first stage's copies aren't a group of their own",
        edits: &[("cp.async.commit_group;", 1, "")],
        caught: Finding("AsyncTooEarly"),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "conv_fprop_bf16_128x64",
        what: "no barrier behind the wait",
        edits: &[("bar.sync 0;", 1, "")],
        caught: OneOf(&["SharedRace", "AsyncTooEarly", "Uninitialised"]),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "conv_fprop_bf16_128x64",
        what: "sums stored over operands that are still read",
        edits: &[("bar.sync 0;", 2, "")],
        caught: OneOf(&["SharedRace", "AsyncTooEarly", "Uninitialised"]),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "conv_fprop_bf16_128x64",
        what: "a warp's sums read before all lanes have stored theirs",
        edits: &[("bar.warp.sync -1;", 2, "")],
        caught: OneOf(&["SharedRace", "Uninitialised"]),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "conv_fprop_bf16_128x64",
        what: "a warp's next rows stored over those that are still read",
        edits: &[("bar.warp.sync -1;", 3, "")],
        caught: Finding("SharedRace"),
    },
    Mutation {
        mistake: WrongStage,
        kernel: "conv_fprop_bf16_128x64",
        what: "reads two of the three stages in turn",
        edits: &[("setp.eq.s32 %p82, %r1671, 3;", 0, "setp.eq.s32 %p82, %r1671, 2;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: WrongStage,
        kernel: "conv_fprop_bf16_128x64",
        what: "fills the stage that is read",
        edits: &[("shl.b32 %r1393, %r2384, 13;", 0, "shl.b32 %r1393, %r2383, 13;")],
        caught: OneOf(&["SharedRace", "AsyncTooEarly"]),
    },
    Mutation {
        mistake: WrongFragment,
        kernel: "conv_fprop_bf16_128x64",
        what: "halves of k of a filter swapped",
        edits: &[(
            "{%r1417,%r1418,%r1419,%r1420}, {%r1437,%r1438}",
            0,
            "{%r1417,%r1418,%r1419,%r1420}, {%r1438,%r1437}",
        )],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: WrongFragment,
        kernel: "conv_fprop_bf16_128x64",
        what: "quarters of the pixels' fragment by columns",
        edits: &[("{%r1417,%r1418,%r1419,%r1420}, [%r1421]", 0, "{%r1417,%r1419,%r1418,%r1420}, [%r1421]")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: WrongSwizzle,
        kernel: "conv_fprop_bf16_128x64",
        what: "copies go where they are not looked for",
        edits: &[("xor.b32 %r1257, %r20, %r2;", 0, "mov.u32 %r1257, %r2;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: Accumulator,
        kernel: "conv_fprop_bf16_128x64",
        what: "sums begin with one",
        edits: &[("mov.f32 %f1729, 0f00000000;", 1, "mov.f32 %f1729, 0f3F800000;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "conv_fprop_bf16_128x64",
        what: "outside the image is what lies beside it",
        edits: &[("selp.b32 %r1370, 16, 0, %p73;", 0, "mov.u32 %r1370, 16;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_128x16",
        what: "another channel's bias",
        edits: &[("ld.global.u32 %r1510, [%rd4+4];", 0, "ld.global.u32 %r1510, [%rd4];")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "conv_fprop_bf16_128x16",
        what: "k behind whole stages left out",
        edits: &[
            ("mad.lo.s32 %r750, %r748, %r577, 31;", 0, "mul.lo.s32 %r750, %r748, %r577;"),
            ("mad.lo.s32 %r1416, %r1417, %r577, 31;", 0, "mul.lo.s32 %r1416, %r1417, %r577;"),
            ("mad.lo.s32 %r1419, %r1420, %r577, 31;", 0, "mul.lo.s32 %r1419, %r1420, %r577;"),
        ],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "conv_fprop_bf16_128x16",
        what: "more rows of the filter than the tile has",
        edits: &[("setp.gt.u32 %p64, %r2, 63;", 0, "setp.gt.u32 %p64, %r2, 67;")],
        caught: OneOf(&["OutOfBounds", "SharedRace"]),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_dgrad_bf16_128x64",
        what: "reads gradients forwards, as fprop reads",
        edits: &[
            ("neg.s32 %r1642, %r1412;", 0, "mov.u32 %r1642, %r1412;"),
            ("neg.s32 %r1683, %r1412;", 0, "mov.u32 %r1683, %r1412;"),
            ("neg.s32 %r1733, %r1412;", 0, "mov.u32 %r1733, %r1412;"),
        ],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_dgrad_bf16_128x64",
        what: "what is added before the mask changes places with what is added behind the scale",
        edits: &[
            (
                "ld.param.u64 %rd26, [conv_dgrad_bf16_param_2];",
                0,
                "ld.param.u64 %rd26, [conv_dgrad_bf16_param_6];",
            ),
            (
                "ld.param.u64 %rd30, [conv_dgrad_bf16_param_6];",
                0,
                "ld.param.u64 %rd30, [conv_dgrad_bf16_param_2];",
            ),
        ],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_dgrad_bf16_64x64",
        what: "the same of rounded summands",
        edits: &[
            (
                "ld.param.u64 %rd17, [conv_dgrad_bf16_low_param_3];",
                0,
                "ld.param.u64 %rd17, [conv_dgrad_bf16_low_param_7];",
            ),
            (
                "ld.param.u64 %rd21, [conv_dgrad_bf16_low_param_7];",
                0,
                "ld.param.u64 %rd21, [conv_dgrad_bf16_low_param_3];",
            ),
        ],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_dgrad_bf16_128x64",
        what: "a bit of the mask for two channels",
        edits: &[("shl.b32 %r2378, %r2925, 30;", 0, "shl.b32 %r2378, %r2925, 31;")],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_dgrad_bf16_128x64",
        what: "every other byte of the mask",
        edits: &[("shr.u32 %r2162, %r64, 3;", 0, "shr.u32 %r2162, %r64, 4;")],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_dgrad_bf16_128x64",
        what: "a phase's pixels stored without its column",
        edits: &[("mad.lo.s32 %r2095, %r2094, %r1414, %r2;", 0, "mul.lo.s32 %r2095, %r2094, %r1414;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "conv_dgrad_bf16_128x16",
        what: "taps of the phase before",
        edits: &[("min.u32 %r789, %r788, %r780;", 0, "mov.u32 %r789, 0;")],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "conv_dgrad_bf16_128x16",
        what: "a channel isn't scaled",
        edits: &[("mul.f32 %f291, %f289, %f290;", 0, "mov.f32 %f291, %f290;")],
        caught: Row("ConvDgrad"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_128x16",
        what: "halves of an octet swapped",
        edits: &[("@%p112 bra $L__BB2_63;", 0, "@!%p112 bra $L__BB2_63;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: MissingWait,
        kernel: "conv_fprop_bf16_64x64",
        what: "waits for one stage less",
        edits: &[("cp.async.wait_group 2;", 0, "cp.async.wait_group 3;")],
        caught: Finding("AsyncTooEarly"),
    },
    Mutation {
        mistake: WrongStage,
        kernel: "conv_fprop_bf16_64x64",
        what: "reads three of the four stages in turn",
        edits: &[("setp.eq.s32 %p66, %r991, 4;", 0, "setp.eq.s32 %p66, %r991, 3;")],
        caught: OneOf(&["SharedRace", "AsyncTooEarly"]),
    },
    Mutation {
        mistake: WrongSwizzle,
        kernel: "conv_fprop_bf16_64x64",
        what: "the first half of k twice",
        edits: &[("xor.b32 %r926, %r858, 32;", 0, "mov.u32 %r926, %r858;")],
        caught: Row("Conv"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_64x64",
        what: "rows outside the image for columns",
        edits: &[("prmt.b32 %r648, %r647, %r636, 4180;", 0, "prmt.b32 %r648, %r636, %r647, 4180;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: LostZero,
        kernel: "conv_fprop_bf16_64x64",
        what: "below the image is the next one",
        edits: &[("or.b32 %r635, %r634, %r631;", 0, "mov.u32 %r635, %r631;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: WrongLane,
        kernel: "conv_dgrad_bf16_64x64",
        what: "half an octet from another lane's row",
        edits: &[("mad.lo.s32 %r1412, %r1224, 40, %r1409;", 0, "mad.lo.s32 %r1412, %r1224, 32, %r1409;")],
        caught: Finding("Uninitialised"),
    },
];
