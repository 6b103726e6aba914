//! The attack's step in the epilogue of `conv_dgrad_pgd_bf16_128x16`.

use pbe::device::Precision;

use super::mutation::Caught::*;
use super::mutation::Mistake::*;
use super::mutation::{Mutation, survive_none};

#[test]
fn tensor_step() {
    survive_none(Precision::Bf16, "PgdStep", MUTATIONS);
}

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        mistake: SwappedIndex,
        kernel: "conv_dgrad_pgd_bf16_128x16",
        what: "every image has the first one's radius",
        edits: &[("div.u32 %r1498, %r1693, %r1497;", 0, "mov.u32 %r1498, 0;")],
        caught: Row("PgdStep"),
    },
    Mutation {
        mistake: LostGuard,
        kernel: "conv_dgrad_pgd_bf16_128x16",
        what: "a zero gradient moves the image",
        edits: &[("setp.gt.f32 %p189, %f409, 0f00000000;", 0, "setp.ge.f32 %p189, %f409, 0f00000000;")],
        caught: Row("PgdStep"),
    },
    Mutation {
        mistake: MissingTail,
        kernel: "conv_dgrad_pgd_bf16_128x16",
        what: "an octet's second channel stays where it is",
        edits: &[("setp.ge.u32 %p192, %r1500, %r756;", 0, "setp.ge.u32 %p192, %r1500, 0;")],
        caught: Row("PgdStep"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "conv_dgrad_pgd_bf16_128x16",
        what: "behind a single channel the next pixel's moves",
        edits: &[("setp.ge.u32 %p192, %r1500, %r756;", 0, "setp.gt.u32 %p192, %r1500, %r756;")],
        caught: Row("PgdStep"),
    },
];
