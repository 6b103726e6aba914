//! Random valid programs: straight-line code, branches, loops, barriers, memory that is good or nearly so.

use crate::mutate::Draw;

const HEAD: &str = ".version 8.0\n.target sm_90\n.address_size 64\n\
    .global .align 8 .b8 there[64];\n.const .align 4 .u32 fixed[4] = {1, 2, 3, 4};\n\
    .func (.reg .b32 %o) twice(.reg .b32 %i) { add.u32 %o, %i, %i; ret; }\n";

/// `D`, `A`, `B`, `C` stand for words, `L` for longs, `P` and `Q` for predicates, `N` for a number.
const STRAIGHT: [&str; 44] = [
    "mov.u32 D, A",
    "mov.u32 D, N",
    "add.u32 D, A, B",
    "sub.s32 D, A, N",
    "mul.lo.s32 D, A, B",
    "mul.hi.u32 D, A, B",
    "mad.lo.u32 D, A, B, C",
    "div.u32 D, A, B",
    "rem.s32 D, A, B",
    "min.s32 D, A, B",
    "and.b32 D, A, B",
    "xor.b32 D, A, N",
    "shl.b32 D, A, B",
    "shr.s32 D, A, N",
    "popc.b32 D, A",
    "bfe.u32 D, A, B, C",
    "prmt.b32 D, A, B, C",
    "lop3.b32 D, A, B, C, 0x96",
    "mul.wide.u32 L, A, B",
    "add.s64 L, L, L",
    "cvt.u32.u64 D, L",
    "cvt.rn.f32.s32 D, A",
    "cvt.rzi.s32.f32 D, A",
    "add.f32 D, A, B",
    "fma.rn.f32 D, A, B, C",
    "max.f32 D, A, B",
    "rcp.approx.f32 D, A",
    "add.f16x2 D, A, B",
    "setp.lt.u32 P, A, B",
    "setp.ne.and.s32 P, A, N, Q",
    "setp.gtu.f32 P, A, B",
    "and.pred P, Q, Q",
    "not.pred P, Q",
    "selp.b32 D, A, B, Q",
    "set.eq.u32.u32 D, A, B",
    "mov.b64 L, {A, B}",
    "mov.b64 {D, %w7}, L",
    "add.cc.u32 D, A, B",
    "addc.u32 D, A, B",
    "call (D), twice, (A)",
    "ld.param.u32 D, [n]",
    "ld.const.u32 D, [fixed+4]",
    "mov.u32 D, %laneid",
    "cvt.u16.u32 %h1, A",
];

/// Memory and other lanes. `I` is an index inside of the thread's own part, `J` of any thread's.
const OUTER: [&str; 18] = [
    "ld.global.u32 D, [%own+I]",
    "st.global.u32 [%own+I], A",
    "ld.global.v2.u32 {D, %w7}, [%own+I]",
    "st.global.u8 [%own+I], A",
    "ld.u32 D, [%own+I]",
    "st.shared.u32 [%mine+I], A",
    "ld.shared.u32 D, [%mine+I]",
    "st.local.u32 [here+I], A",
    "ld.local.u32 D, [here+I]",
    "red.global.add.u32 [%sum], A",
    "red.shared.max.s32 [%mine+I], A",
    "bar.sync 0",
    "shfl.sync.bfly.b32 D, A, 1, 31, 0xffffffff",
    "vote.sync.ballot.b32 D, Q, 0xffffffff",
    "bar.warp.sync 0xffffffff",
    "membar.gl",
    "cp.async.ca.shared.global [%mine], [%own], 8",
    "cp.async.wait_all",
];

/// Now and then wrong: other threads' memory, wild addresses.
const WILD: [&str; 5] = [
    "ld.shared.u32 D, [J]",
    "st.shared.u32 [J], A",
    "ld.const.u32 D, [fixed+J]",
    "st.global.u32 [there], A",
    "ld.global.u32 D, [L]",
];

struct Writer {
    draw: Draw,
    text: String,
    labels: usize,
}

impl Writer {
    fn instruction(&mut self) {
        let kind = self.draw.below(40);
        let template = if kind == 0 {
            self.draw.of(&WILD)
        } else if kind < 14 {
            self.draw.of(&OUTER)
        } else {
            self.draw.of(&STRAIGHT)
        };
        let guard = if self.draw.below(8) == 0 && !template.contains("sync") { "@%p1 " } else { "" };
        let mut line = format!("    {guard}");
        let letters: Vec<char> = template.chars().collect();
        for (at, &letter) in letters.iter().enumerate() {
            let alone = at > 0
                && !letters[at - 1].is_ascii_alphanumeric()
                && letters.get(at + 1).is_none_or(|next| !next.is_ascii_alphanumeric());
            line += &match letter {
                'D' | 'A' | 'B' | 'C' if alone => format!("%w{}", self.draw.below(7)),
                'L' if alone => format!("%l{}", self.draw.below(4)),
                'P' | 'Q' if alone => format!("%p{}", self.draw.below(3)),
                'N' if alone => self.draw.of(&["0", "1", "7", "31", "32", "-1", "0x80000000"]).to_owned(),
                'I' if alone => self.draw.of(&["0", "8", "16"]).to_owned(),
                'J' if alone => self.draw.of(&["0", "4", "60", "128", "4092"]).to_owned(),
                other => other.to_string(),
            };
        }
        self.text += &line;
        self.text += ";\n";
    }

    fn label(&mut self) -> String {
        self.labels += 1;
        format!("L{}", self.labels)
    }

    fn block(&mut self, depth: usize) {
        for _ in 0..1 + self.draw.below(6) {
            match self.draw.below(if depth == 0 { 1 } else { 8 }) {
                6 => self.choice(depth - 1),
                7 => self.repeat(depth - 1),
                _ => self.instruction(),
            }
        }
    }

    fn choice(&mut self, depth: usize) {
        let (other, end) = (self.label(), self.label());
        let predicate = self.draw.below(3);
        let sign = self.draw.of(&["", "!"]);
        self.text += &format!("    @{sign}%p{predicate} bra {other};\n");
        self.block(depth);
        self.text += &format!("    bra {end};\n{other}:\n");
        self.block(depth);
        self.text += &format!("{end}:\n");
    }

    fn repeat(&mut self, depth: usize) {
        let (start, counter) = (self.label(), self.labels);
        let times = 1 + self.draw.below(4);
        self.text += &format!("    .reg .b32 %c{counter};\n    .reg .pred %q{counter};\n");
        self.text += &format!("    mov.u32 %c{counter}, 0;\n{start}:\n");
        self.block(depth);
        self.text += &format!("    add.u32 %c{counter}, %c{counter}, 1;\n");
        self.text +=
            &format!("    setp.lt.u32 %q{counter}, %c{counter}, {times};\n    @%q{counter} bra {start};\n");
    }
}

/// A program, from its seed alone.
pub fn program(seed: u64) -> String {
    let mut writer = Writer { draw: Draw::new(seed), text: HEAD.to_owned(), labels: 0 };
    writer.text += ".visible .entry k(.param .u64 in, .param .u64 sums, .param .u32 n) {\n\
        .reg .pred %p<3>;\n.reg .b16 %h<2>;\n.reg .b32 %t, %mine, %w<8>;\n.reg .b64 %in, %own, %sum, %l<4>;\n\
        .shared .align 8 .b8 s[3072];\n.local .align 8 .b8 here[32];\n\
        mov.u32 %t, %tid.x;\nmad.lo.u32 %w0, %ctaid.x, %ntid.x, %t;\n\
        ld.param.u64 %in, [in];\nld.param.u64 %sum, [sums];\nmad.wide.u32 %own, %w0, 32, %in;\n\
        mov.u32 %mine, s;\nmad.lo.u32 %mine, %t, 32, %mine;\n\
        st.shared.v2.u64 [%mine], {%in, %in};\nst.shared.v2.u64 [%mine+16], {%in, %in};\n\
        st.local.u64 [here], 5;\nst.local.u64 [here+8], 6;\nst.local.u64 [here+16], 7;\nst.local.u64 [here+24], 8;\n";
    for i in 1..8 {
        writer.text += &format!("mad.lo.u32 %w{i}, %t, {i}, {};\n", i * 1000);
    }
    for i in 0..4 {
        writer.text += &format!("mov.u64 %l{i}, {i};\n");
    }
    for i in 0..3 {
        writer.text += &format!("setp.gt.u32 %p{i}, %t, {};\n", [3, 8, 30][i]);
    }
    for _ in 0..2 + writer.draw.below(3) {
        writer.block(2);
    }
    for i in 0..7 {
        let at = if i < 4 { "st.global.u32 [%own+0]" } else { "st.global.u32 [%own+4]" };
        writer.text += &format!("    xor.b32 %w7, %w7, %w{i};\n    {at}, %w7;\n");
    }
    writer.text + "    ret;\n}\n"
}
