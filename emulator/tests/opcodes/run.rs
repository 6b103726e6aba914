//! A kernel for each instruction, one lane for each tuple of operands.

use ptx_emulator::exec::Launch;

use crate::cases::{Case, Cases, Inputs, Kind};
use crate::support::{Argument, Program, line};

/// Kernels in one module.
const CHUNK: usize = 200;
/// Bytes of memory that a lane has of its own in each space.
const OWN: usize = 64;
/// What a result holds where the lane took no part.
const UNTOUCHED: u64 = 0x5a5a_5a5a_5a5a_5a5a;

/// Content of the constant variable and of the parameter that cases may read.
pub fn block() -> [u8; 64] {
    std::array::from_fn(|i| (0x81 + 37 * i) as u8)
}

fn register(kind: Kind) -> &'static str {
    match kind {
        Kind::Half => ".b16",
        Kind::Word => ".b32",
        Kind::Long => ".b64",
        Kind::Predicate => ".pred",
    }
}

/// Registers that every kernel declares.
const REGISTERS: &str = "    .reg .pred %g, %p<8>;
    .reg .b16 %h<8>;
    .reg .b32 %tid, %t, %v, %w<10>;
    .reg .b64 %in, %out, %own, %m, %s, %l<8>;
";

fn addresses(code: &str) -> String {
    let mut text = String::new();
    let uses = |name: &str| {
        code.match_indices(name)
            .any(|(at, _)| !code[at + 2..].starts_with(|next: char| next.is_alphanumeric()))
    };
    if uses("%m") {
        text += "    ld.param.u64 %m, [scratch];\n    mad.wide.u32 %m, %tid, 64, %m;\n";
    }
    if uses("%t") || uses("%s") {
        text +=
            "    .shared .align 64 .b8 own[16384];\n    mov.u32 %t, own;\n    mad.lo.u32 %t, %tid, 64, %t;\n";
        text += "    cvt.u64.u32 %s, %t;\n    cvta.shared.u64 %s, %s;\n";
    }
    if uses("%v") {
        text += "    .local .align 64 .b8 here[64];\n    mov.u32 %v, here;\n";
    }
    text
}

/// The kernel of one opcode. With `some`, only odd lanes execute it.
fn kernel(name: &str, case: &Case, opcode: &str, inputs: &Inputs, some: bool) -> String {
    let count = inputs[0].1.len();
    let guard = if some { "@%g " } else { "" };
    let code = case.code.replace("OP", opcode);
    // With all lanes of a warp the text is taken as it is.
    let code = if case.whole { code } else { code.replace('@', guard) };
    let code = code.replace('$', "%");
    let mut text = format!(
        ".visible .entry {name}(.param .u64 in, .param .u64 out, .param .u64 scratch, \
         .param .align 16 .b8 block[64])\n{{\n{REGISTERS}"
    );
    for (i, (kind, _)) in inputs.iter().enumerate() {
        text += &format!("    .reg {} %a{i};\n", register(*kind));
    }
    for (i, kind) in case.kinds.iter().enumerate() {
        text += &format!("    .reg {} %d{i};\n", register(*kind));
    }
    text += "    mov.u32 %tid, %tid.x;\n    ld.param.u64 %in, [in];\n    ld.param.u64 %out, [out];\n";
    text += "    mad.wide.u32 %in, %tid, 8, %in;\n    mad.wide.u32 %out, %tid, 8, %out;\n";
    for (i, (kind, _)) in inputs.iter().enumerate() {
        let at = i * count * 8;
        text += &match kind {
            Kind::Half => format!("    ld.global.u16 %a{i}, [%in+{at}];\n"),
            Kind::Word => format!("    ld.global.u32 %a{i}, [%in+{at}];\n"),
            Kind::Long => format!("    ld.global.u64 %a{i}, [%in+{at}];\n"),
            Kind::Predicate => {
                format!("    ld.global.u32 %w9, [%in+{at}];\n    setp.ne.u32 %a{i}, %w9, 0;\n")
            }
        };
    }
    if some {
        text += "    and.b32 %w9, %tid, 1;\n    setp.ne.u32 %g, %w9, 0;\n";
        for (i, kind) in case.kinds.iter().enumerate() {
            let value = UNTOUCHED & kind.mask();
            text += &match kind {
                Kind::Predicate => format!("    setp.ne.u32 %d{i}, 0, 0;\n"),
                kind => format!("    mov{} %d{i}, {value:#x};\n", register(*kind)),
            };
        }
    }
    text += &addresses(&code);
    text += &format!("    {code};\n");
    for (i, kind) in case.kinds.iter().enumerate() {
        let at = i * count * 8;
        text += &match kind {
            Kind::Half => format!("    st.global.u16 [%out+{at}], %d{i};\n"),
            Kind::Word => format!("    st.global.u32 [%out+{at}], %d{i};\n"),
            Kind::Long => format!("    st.global.u64 [%out+{at}], %d{i};\n"),
            Kind::Predicate => {
                format!("    selp.u32 %w9, 1, 0, %d{i};\n    st.global.u32 [%out+{at}], %w9;\n")
            }
        };
    }
    text + "    ret;\n}\n"
}

/// What stands before the kernels.
pub fn header() -> String {
    let bytes: Vec<String> = block().iter().map(u8::to_string).collect();
    format!(
        ".version 8.3\n.target sm_90a\n.address_size 64\n.const .align 16 .b8 table[64] = {{{}}};\n",
        bytes.join(", ")
    )
}

struct Job<'a> {
    case: &'a Case,
    opcode: &'a str,
    some: bool,
}

/// Runs every opcode of a file of cases, with all lanes and with half of them; what was wrong.
pub fn run(cases: &Cases) -> Vec<String> {
    let mut jobs = Vec::new();
    for case in &cases.cases {
        for opcode in &case.opcodes {
            jobs.push(Job { case, opcode, some: false });
            if !case.whole {
                jobs.push(Job { case, opcode, some: true });
            }
        }
    }
    assert!(!jobs.is_empty());
    jobs.chunks(CHUNK).flat_map(|chunk| run_chunk(cases, chunk)).collect()
}

fn run_chunk(cases: &Cases, jobs: &[Job]) -> Vec<String> {
    let (mut text, mut wrong, mut loaded) = (header(), Vec::new(), Vec::new());
    for (number, job) in jobs.iter().enumerate() {
        let inputs = &cases.inputs[&job.case.inputs];
        let kernel = kernel(&format!("k{number}"), job.case, job.opcode, inputs, job.some);
        match ptx_emulator::ptx::load(&format!("{}{kernel}", header())) {
            Ok(_) => {
                text += &kernel;
                loaded.push((number, job));
            }
            Err(error) => wrong.push(format!("{}: {error}", job.opcode)),
        }
    }
    let program = Program::new(&text);
    for (number, job) in loaded {
        let inputs = &cases.inputs[&job.case.inputs];
        let count = inputs[0].1.len();
        let values: Vec<u64> = inputs.iter().flat_map(|(_, values)| values.iter().copied()).collect();
        let (given, scratch) = (program.upload(&values), program.upload(&vec![0u8; count * OWN]));
        let out = program.upload(&vec![0u64; count * job.case.kinds.len()]);
        let arguments = [given.into(), out.into(), scratch.into(), Argument::Block(block())];
        let launch: Launch = line(1, count as u32);
        let guarded = if job.some { " with odd lanes only" } else { "" };
        if let Err(fault) = program.try_run(&format!("k{number}"), launch, &arguments) {
            wrong.push(format!("{}{guarded}: {fault:?}", job.opcode));
            continue;
        }
        let got = program.download::<u64>(out, count * job.case.kinds.len());
        wrong.extend(judge(job, inputs, count, &got).map(|what| format!("{}{guarded}: {what}", job.opcode)));
        assert!([given, scratch, out].into_iter().all(|at| program.memory.free(at)));
    }
    wrong
}

/// The first wrong result.
fn judge(job: &Job, inputs: &Inputs, count: usize, got: &[u64]) -> Option<String> {
    for (result, (kind, expected)) in job.case.kinds.iter().zip(&job.case.results).enumerate() {
        for tuple in 0..count {
            let bits = got[result * count + tuple] & kind.mask();
            let verdict = if job.some && tuple % 2 == 0 {
                let kept = if *kind == Kind::Predicate { 0 } else { UNTOUCHED & kind.mask() };
                if bits == kept {
                    Ok(())
                } else {
                    Err("a lane that takes no part to keep its value".to_owned())
                }
            } else {
                expected.judge(tuple, bits)
            };
            if let Err(wanted) = verdict {
                let operands: Vec<String> =
                    inputs.iter().map(|(_, values)| format!("{:x}", values[tuple])).collect();
                let operands = operands.join(", ");
                return Some(format!("result {result} of ({operands}) is {bits:x}; expected {wanted}"));
            }
        }
    }
    None
}
