//! The sums for a batch norm in the epilogue of `conv_fprop_bf16_sums`.

use pbe::device::Precision;

use super::mutation::Caught::*;
use super::mutation::Mistake::*;
use super::mutation::{Mutation, survive_none};

#[test]
fn tensor_sums() {
    survive_none(Precision::Bf16, "NormStatistics", MUTATIONS);
}

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_sums",
        what: "sums in the place of the squares'",
        edits: &[("shl.b32 %r838, %r91, 1;", 0, "mov.u32 %r838, 0;")],
        caught: Row("NormStatistics"),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "conv_fprop_bf16_sums_narrow",
        what: "sums over what other threads still read of the tile",
        edits: &[("bar.sync 0;", 3, "")],
        caught: Finding("SharedRace"),
    },
    Mutation {
        mistake: MissingBarrier,
        kernel: "conv_fprop_bf16_sums_narrow",
        what: "threads' sums added before they are there",
        edits: &[("bar.sync 0;", 4, "")],
        caught: Finding("SharedRace"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_fprop_bf16_sums_narrow",
        what: "sums in the place of the squares'",
        edits: &[("shl.b32 %r548, %r93, 1;", 0, "mov.u32 %r548, 0;")],
        caught: Row("NormStatistics"),
    },
    Mutation {
        mistake: LostWrite,
        kernel: "conv_fprop_bf16_sums_narrow",
        what: "no squares",
        edits: &[("setp.gt.u32 %p141, %r3, 31;", 0, "setp.gt.u32 %p141, %r3, 15;")],
        caught: FindingIn("norm_statistics", "Uninitialised"),
    },
];
