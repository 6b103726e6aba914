//! The sums for a batch norm in the epilogue of `conv_fprop_stats_bf16_128x64`.

use pbe::device::Precision;

use super::mutation::Caught::*;
use super::mutation::Mistake::*;
use super::mutation::{Mutation, survive_none};

#[test]
fn tensor_sums() {
    survive_none(Precision::Bf16, "BatchNormStats", MUTATIONS);
}

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_stats_bf16_128x64",
        what: "squares are the sums again",
        edits: &[("mul.lo.s32 %r2499, %r1081, 1040;", 0, "mov.u32 %r2499, 0;")],
        caught: Row("BatchNormStats"),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "conv_fprop_stats_bf16_128x16",
        what: "sums over what other threads still read of the tile",
        edits: &[("bar.sync 0;", 3, "")],
        caught: Finding("SharedRace"),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "conv_fprop_stats_bf16_128x16",
        what: "threads' sums added before they are there",
        edits: &[("bar.sync 0;", 4, "")],
        caught: Finding("SharedRace"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_stats_bf16_128x16",
        what: "four columns' sums for an octet's",
        edits: &[("and.b32 %r1478, %r1750, 7;", 0, "and.b32 %r1478, %r1750, 3;")],
        caught: Row("BatchNormStats"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "conv_fprop_stats_bf16_128x16",
        what: "no squares",
        edits: &[("setp.gt.u32 %p322, %r1519, 31;", 0, "setp.gt.u32 %p322, %r1519, 15;")],
        caught: FindingIn("norm_stats", "Uninitialised"),
    },
    Mutation {
        mistake: WrongLane,
        kernel: "conv_fprop_stats_bf16_64x64",
        what: "sums of the warps beside as well",
        edits: &[("add.s32 %r1659, %r1659, 2;", 0, "add.s32 %r1659, %r1659, 1;")],
        caught: Row("BatchNormStats"),
    },
    Mutation {
        mistake: WrongLane,
        kernel: "conv_fprop_stats_bf16_64x64",
        what: "sums of every lane's octet",
        edits: &[("and.b32 %r583, %r1417, 3;", 0, "and.b32 %r583, %r1417, 1;")],
        caught: Row("BatchNormStats"),
    },
];
