//! Whatever the loader accepts has a case: covered opcodes are changed by one modifier or type, with all the
//! words that lowering knows, and what is still accepted must be covered as well.

use std::collections::BTreeSet;

/// Sources of lowering, with the opcodes each is for.
const SOURCES: [(&str, &str); 9] = [
    ("mov cvta isspacep createpolicy", include_str!("../../src/ptx/lower/moves.rs")),
    ("cvt", include_str!("../../src/ptx/lower/convert.rs")),
    (
        "add sub mul mad div min max neg abs fma rcp sqrt rsqrt sin cos ex2 lg2 tanh copysign testp",
        include_str!("../../src/ptx/lower/float.rs"),
    ),
    (
        "add sub mul mad div rem min max neg abs sad addc subc madc mul24 mad24 and or xor not cnot shl shr \
         shf lop3 prmt popc clz bfind brev bfe bfi dp4a dp2a",
        include_str!("../../src/ptx/lower/integer.rs"),
    ),
    ("setp set selp slct", include_str!("../../src/ptx/lower/compare.rs")),
    ("ld ldu st atom red prefetch prefetchu cp", include_str!("../../src/ptx/lower/memory.rs")),
    ("ldmatrix mma", include_str!("../../src/ptx/lower/matrix.rs")),
    ("shfl vote match redux elect activemask", include_str!("../../src/ptx/lower/warp.rs")),
    ("", include_str!("../../src/ptx/lower/parts.rs")),
];

/// Opcodes that move no values, and the tests that run them.
const ELSEWHERE: [(&str, &str); 12] = [
    ("bra", "programs"),
    ("brx", "programs"),
    ("call", "programs"),
    ("ret", "programs"),
    ("exit", "programs"),
    ("trap", "checks"),
    // Their reductions are here.
    ("bar", "programs, checks"),
    ("barrier", "programs, checks"),
    ("membar", "programs"),
    ("fence", "programs"),
    ("nanosleep", "programs"),
    ("createpolicy", "here, by its effect: none"),
];

/// Modifiers of accesses that change no value; one case of each is enough.
const TRANSPARENT: &str =
    "nc ca cg cs cv lu wb wt volatile relaxed acquire release acq_rel mmio weak cta gpu sys noftz";

/// Forms of an opcode that are changed: `set` has thousands, and a word that lowering newly takes shows next
/// to most of them.
const MANY: usize = 150;

const TYPES: &str = "b8 u8 s8 b16 u16 s16 b32 u32 s32 b64 u64 s64 f16 f16x2 bf16 bf16x2 tf32 f32 f64 pred";

fn named(list: &str, word: &str) -> bool {
    list.split(' ').any(|other| other == word)
}

/// Everything between quotes.
fn literals(source: &str) -> impl Iterator<Item = &str> {
    source.split('"').skip(1).step_by(2)
}

fn name(opcode: &str) -> &str {
    opcode.split('.').next().unwrap_or_default()
}

/// Words that may be modifiers or types of an opcode.
fn words(opcode: &str) -> BTreeSet<&'static str> {
    let sources = SOURCES.iter().filter(|(names, _)| names.is_empty() || named(names, opcode));
    let parts = sources.flat_map(|(_, source)| literals(source)).flat_map(|text| text.split(' '));
    let plain = |word: &&str| {
        !word.is_empty()
            && word.len() < 16
            && word.chars().all(|letter| letter.is_ascii_alphanumeric() || "_:".contains(letter))
    };
    parts.filter(plain).collect()
}

/// One spelling for all orders of modifiers; types stay in order.
fn canonical(opcode: &str) -> String {
    let memory = named(SOURCES[5].0, name(opcode));
    let hint = |part: &&str| {
        memory
            && (named(TRANSPARENT, part) && !opcode.starts_with("cp.")
                || part.contains("L1::")
                || part.contains("L2::"))
    };
    let (types, mut others): (Vec<&str>, Vec<&str>) =
        opcode.split('.').skip(1).filter(|part| !hint(part)).partition(|part| named(TYPES, part));
    others.sort_unstable();
    [&[name(opcode)], &others[..], &types[..]].concat().join(".")
}

/// Operands that suit any type: `_` takes every result, immediates are of every size.
fn operands(opcode: &str) -> Vec<String> {
    let (int, float) = ("1", "0f3f800000");
    let list = |first: &str, value: &str, count: usize, last: &str| {
        let mut parts = vec![first; usize::from(!first.is_empty())];
        parts.extend(vec![value; count]);
        parts.extend((!last.is_empty()).then_some(last));
        parts.join(", ")
    };
    let vector = |item: &str, count: usize| format!("{{{}}}", vec![item; count].join(", "));
    let vectors = |item: &str| [item.to_owned(), vector(item, 2), vector(item, 4)];
    match name(opcode) {
        "ld" | "ldu" => vectors("_").iter().map(|dst| format!("{dst}, [%l]")).collect(),
        "st" => [int, float].iter().flat_map(|v| vectors(v)).map(|v| format!("[%l], {v}")).collect(),
        "atom" | "red" => {
            let dst = if name(opcode) == "atom" { "_, " } else { "" };
            let rests = [list("", int, 1, ""), list("", int, 2, ""), list("", float, 1, "")];
            rests.iter().map(|rest| format!("{dst}[%l], {rest}")).collect()
        }
        "prefetch" | "prefetchu" => vec!["[%l]".to_owned()],
        "cp" => ["[%r], [%l], 16", "[%r], [%l], 4", "", "0"].map(str::to_owned).to_vec(),
        "ldmatrix" => vectors("_").iter().map(|dst| format!("{dst}, [%l]")).collect(),
        "mma" => {
            let mut all = Vec::new();
            for (d, a, b) in [(2, 1, 1), (2, 2, 1), (2, 4, 2), (4, 1, 1), (4, 2, 1), (4, 4, 2)] {
                let [d, a, b, c] = [vector("_", d), vector(float, a), vector(float, b), vector(float, d)];
                all.push(format!("{d}, {a}, {b}, {c}"));
            }
            all
        }
        "cvta" | "isspacep" => vec!["_, %l".to_owned()],
        other => {
            let results: &[&str] = match other {
                "shfl" | "match" | "elect" | "setp" => &["_", "_|_"],
                _ => &["_"],
            };
            let mut all = Vec::new();
            for dst in results {
                for &count in sources(other) {
                    all.extend([list(dst, int, count, ""), list(dst, float, count, "")]);
                    if count > 1 {
                        all.push(list(dst, float, count - 1, int));
                        all.push(list(dst, int, count - 1, float));
                    }
                }
            }
            all
        }
    }
}

/// How many operands an opcode reads.
fn sources(name: &str) -> &'static [usize] {
    match name {
        "activemask" => &[0],
        "mov" | "neg" | "abs" | "not" | "cnot" | "popc" | "clz" | "brev" | "bfind" | "sqrt" | "rcp"
        | "rsqrt" => &[1],
        "sin" | "cos" | "ex2" | "lg2" | "tanh" | "testp" | "elect" | "createpolicy" => &[1],
        "cvt" => &[1, 2, 3],
        "setp" | "set" => &[2, 3],
        "mad" | "madc" | "mad24" | "fma" | "sad" | "bfe" | "prmt" | "shf" | "dp4a" | "dp2a" => &[3],
        "selp" | "slct" => &[3],
        "shfl" | "lop3" | "bfi" => &[4],
        _ => &[2],
    }
}

/// Does any choice of operands make it a good instruction?
fn accepted(opcode: &str) -> bool {
    for operands in operands(opcode) {
        let text = format!(
            ".version 8.3\n.target sm_90a\n.address_size 64\n.entry k() {{\n.reg .b32 %r;\n.reg .b64 %l;\n\
             {opcode} {operands};\n}}\n"
        );
        match ptx_emulator::ptx::load(&text) {
            Ok(_) => return true,
            // Of the opcode, whatever the operands.
            Err(error) if error.message.starts_with(opcode) && !error.message.contains("predicates") => {
                return false;
            }
            Err(_) => {}
        }
    }
    false
}

/// The opcode with one word more, less or other.
fn neighbours(opcode: &str) -> Vec<String> {
    let parts: Vec<&str> = opcode.split('.').collect();
    let known = words(parts[0]);
    let mut all = Vec::new();
    for at in 1..parts.len() {
        let mut shorter = parts.clone();
        shorter.remove(at);
        all.push(shorter.join("."));
        for word in &known {
            let mut changed = parts.clone();
            changed[at] = word;
            all.push(changed.join("."));
        }
    }
    all.extend(known.iter().map(|word| format!("{opcode}.{word}")));
    all
}

/// Opcodes that lowering accepts and no case covers.
pub fn uncovered(covered: &BTreeSet<&str>) -> Vec<String> {
    let dispatch = include_str!("../../src/ptx/lower/mod.rs");
    let dispatch =
        dispatch.split("fn dispatch").nth(1).and_then(|rest| rest.split("unknown opcode").next()).unwrap();
    let names: BTreeSet<&str> = covered.iter().map(|opcode| name(opcode)).collect();
    let elsewhere = |word: &str| ELSEWHERE.iter().any(|(other, _)| *other == word);
    let mut missing: Vec<String> = literals(dispatch)
        .filter(|word| !word.is_empty() && !names.contains(word) && !elsewhere(word))
        .map(str::to_owned)
        .collect();
    let mut seen: BTreeSet<String> = covered.iter().map(|opcode| canonical(opcode)).collect();
    for family in names.iter().filter(|family| !elsewhere(family)) {
        let forms: Vec<&&str> = covered.iter().filter(|opcode| name(opcode) == *family).collect();
        for opcode in forms.iter().step_by(forms.len().div_ceil(MANY)) {
            for candidate in neighbours(opcode) {
                if seen.insert(canonical(&candidate)) && accepted(&candidate) {
                    missing.push(candidate);
                }
            }
        }
    }
    for word in TRANSPARENT.split(' ') {
        if !covered.iter().any(|opcode| opcode.split('.').any(|part| part == word)) {
            missing.push(format!("an access with .{word}"));
        }
    }
    missing
}

/// Covered opcodes that the search's operands don't suit, but for those that need particular ones.
pub fn rejected<'a>(covered: &BTreeSet<&'a str>) -> Vec<&'a str> {
    let special = |opcode: &str| {
        ["bar", "barrier", "createpolicy"].contains(&name(opcode)) || opcode.contains("cache_hint")
    };
    covered.iter().filter(|opcode| !special(opcode) && !accepted(opcode)).copied().collect()
}
