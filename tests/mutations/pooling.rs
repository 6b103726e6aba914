//! `kernels/head.cu`: pooling.

use super::mutation::Caught::*;
use super::mutation::Mistake::*;
use super::mutation::{Mutation, survive_none};

#[test]
fn pooling() {
    survive_none("Pool", MUTATIONS);
}

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        mistake: MissingTail,
        kernel: "pool",
        what: "pixels behind whole fours left out",
        edits: &[("setp.eq.s32 %p5, %r48, 0;", 0, "setp.eq.s32 %p5, %r48, %r48;")],
        caught: Row("Pool"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "pool",
        what: "a pixel too many",
        edits: &[("setp.ne.s32 %p6, %r48, 0;", 0, "setp.ne.s32 %p6, %r48, -1;")],
        caught: Row("Pool"),
    },
    Mutation {
        mistake: WrongFormula,
        kernel: "pool",
        what: "divided by the channels",
        edits: &[("cvt.rn.f32.u32 %f20, %r25;", 0, "cvt.rn.f32.u32 %f20, %r26;")],
        caught: Row("Pool"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "pool",
        what: "pixels as far apart as they are many",
        edits: &[("mul.lo.s32 %r47, %r46, %r26;", 0, "mul.lo.s32 %r47, %r46, %r25;")],
        caught: Finding("OutOfBounds"),
    },
    Mutation {
        mistake: Race,
        kernel: "pool",
        what: "blocks write the same means",
        edits: &[("mul.wide.u32 %rd28, %r1, 4;", 0, "mul.wide.u32 %rd28, %r30, 4;")],
        caught: Finding("GlobalRace"),
    },
    Mutation {
        mistake: SwappedIndex,
        kernel: "pool_dgrad",
        what: "the first image's gradient",
        edits: &[("mad.lo.s32 %r11, %r9, %r3, %r10;", 0, "mov.u32 %r11, %r10;")],
        caught: Row("PoolDgrad"),
    },
    Mutation {
        mistake: OffByOne,
        kernel: "pool_dgrad",
        what: "an element too many",
        edits: &[("setp.ge.u32 %p1, %r1, %r4;", 0, "setp.gt.u32 %p1, %r1, %r4;")],
        caught: Row("PoolDgrad"),
    },
];
