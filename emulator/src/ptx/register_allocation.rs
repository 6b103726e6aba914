//! Register allocation. PTX compilers never reuse a virtual register. Here a physical register is reused as soon as
//! the life of the virtual one ends, so that a warp's register files stay in cache.

use crate::ir::register_uses::{self, Use};
use crate::ir::{File, Instr, Op, Reg};

use super::flow::Block;
use super::lower::Draft;

/// The number of virtual registers of a file; the first `preloaded` hold constants, special registers and addresses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// All of them.
    pub total: usize,
    /// Filled before the start, never written.
    pub preloaded: usize,
}

/// Physical registers needed after [`assign`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Needed {
    /// Registers of each file, in the order of [`index`].
    pub regs: [u32; 3],
    /// 32-bit registers alive at once, at most.
    pub alive: u32,
}

/// Index of a file in arrays of three.
pub fn index(file: File) -> usize {
    match file {
        File::B32 => 0,
        File::B64 => 1,
        File::Predicates => 2,
    }
}

/// One bit a register, over all files.
#[derive(Clone, PartialEq)]
struct Set(Vec<u64>);

impl Set {
    fn new(size: usize) -> Set {
        Set(vec![0; size.div_ceil(64)])
    }

    fn insert(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn contains(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    fn each(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(index, &word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 64 + bit)
        })
    }
}

/// Positions of the registers of all files in one numbering.
#[derive(Clone, Copy)]
struct Numbering([usize; 3], usize);

impl Numbering {
    fn new(counts: &[Count; 3]) -> Numbering {
        let b64 = counts[0].total;
        let predicates = b64 + counts[1].total;
        Numbering([0, b64, predicates], predicates + counts[2].total)
    }

    fn of(&self, file: File, reg: Reg) -> usize {
        self.0[index(file)] + usize::from(reg)
    }
}

/// Registers alive at the start and the end of each block.
struct Alive {
    entry: Vec<Set>,
    exit: Vec<Set>,
}

fn alive(code: &mut [Draft], blocks: &[Block], numbers: Numbering) -> Alive {
    let size = numbers.1;
    let mut reads = vec![Set::new(size); blocks.len()];
    let mut kills = vec![Set::new(size); blocks.len()];
    for (at, block) in blocks.iter().enumerate() {
        for draft in &mut code[block.start..block.end] {
            let guarded = draft.instr.guard.is_some();
            register_uses::visit(&mut draft.instr, &mut |file, reg, how| {
                let number = numbers.of(file, *reg);
                match how {
                    Use::Read if !kills[at].contains(number) => reads[at].insert(number),
                    // Under a guard some lanes keep the old value.
                    Use::Write if !guarded => kills[at].insert(number),
                    _ => {}
                }
            });
        }
    }
    let mut exit = vec![Set::new(size); blocks.len()];
    let mut entry = reads;
    let mut previous = vec![Vec::new(); blocks.len()];
    for (at, block) in blocks.iter().enumerate() {
        block.next.iter().for_each(|&next| previous[next].push(at));
    }
    let mut waiting: Vec<usize> = (0..blocks.len()).collect();
    let mut queued = vec![true; blocks.len()];
    while let Some(at) = waiting.pop() {
        queued[at] = false;
        let mut changed = false;
        for &next in &blocks[at].next {
            for word in 0..exit[at].0.len() {
                exit[at].0[word] |= entry[next].0[word];
            }
        }
        for word in 0..exit[at].0.len() {
            let now = entry[at].0[word] | (exit[at].0[word] & !kills[at].0[word]);
            changed |= now != entry[at].0[word];
            entry[at].0[word] = now;
        }
        if changed {
            for &before in &previous[at] {
                if !std::mem::replace(&mut queued[before], true) {
                    waiting.push(before);
                }
            }
        }
    }
    Alive { entry, exit }
}

/// Guards the b32 and b64 registers that some path reads before it writes them: a predicate notes which lanes
/// have written, and reads are checked against it. Returns the new code and how many
/// predicates were added; branch targets are moved along.
pub fn guard_unwritten(
    mut code: Vec<Draft>,
    blocks: &[Block],
    counts: &[Count; 3],
) -> (Vec<Draft>, Vec<usize>, usize) {
    let numbers = Numbering::new(counts);
    let unwritten = match blocks.first() {
        Some(_) => alive(&mut code, blocks, numbers).entry.swap_remove(0),
        None => Set::new(numbers.1),
    };
    let mut marks = std::collections::HashMap::new();
    for number in unwritten.each() {
        let preloaded =
            (0..3).any(|file| number >= numbers.0[file] && number < numbers.0[file] + counts[file].preloaded);
        if number < numbers.0[2] && !preloaded {
            let predicate = counts[2].total + marks.len();
            marks.insert(number, predicate as Reg);
        }
    }
    let mut moved = Vec::with_capacity(code.len() + 1);
    let mut out = Vec::with_capacity(code.len());
    for mut draft in code {
        moved.push(out.len());
        if !marks.is_empty() {
            let mut checks = Vec::new();
            register_uses::visit(&mut draft.instr, &mut |file, reg, how| {
                if let Some(&reg) = marks.get(&numbers.of(file, *reg)).filter(|_| file != File::Predicates) {
                    checks.push(match how {
                        Use::Read => Op::RequireWritten { reg },
                        Use::Write => Op::MarkWritten { reg },
                    });
                }
            });
            let (guard, line) = (draft.instr.guard, draft.line);
            out.extend(checks.into_iter().map(|op| Draft { instr: Instr { guard, op }, line }));
        }
        out.push(draft);
    }
    moved.push(out.len());
    (out, moved, marks.len())
}

/// Gives every virtual register a physical one and rewrites the code.
pub fn assign(code: &mut [Draft], blocks: &[Block], counts: &[Count; 3]) -> Needed {
    let numbers = Numbering::new(counts);
    let spans = spans(code, blocks, numbers);
    let mut regs = vec![0 as Reg; numbers.1];
    let mut needed = Needed::default();
    let mut steps: Vec<(usize, i64)> = Vec::new();
    for (file, count) in counts.iter().enumerate() {
        let first = numbers.0[file];
        for (reg, slot) in regs[first..first + count.preloaded].iter_mut().enumerate() {
            *slot = reg as Reg;
        }
        let range = first + count.preloaded..first + count.total;
        let mut order: Vec<usize> = range.filter(|&number| spans[number].0 <= spans[number].1).collect();
        order.sort_unstable_by_key(|&number| (spans[number], number));
        needed.regs[file] = scan(&order, &spans, count.preloaded, &mut regs);
        for &number in order.iter().filter(|_| file < 2) {
            steps.push((spans[number].0, file as i64 + 1));
            steps.push((spans[number].1 + 1, -(file as i64 + 1)));
        }
    }
    steps.sort_unstable();
    let mut now = 0;
    for (_, step) in steps {
        now += step;
        needed.alive = needed.alive.max(now as u32);
    }
    for draft in code {
        register_uses::visit(&mut draft.instr, &mut |file, reg, _| *reg = regs[numbers.of(file, *reg)]);
    }
    needed
}

/// First and last moment of each register's life: instruction i reads at moment 2i and writes at 2i + 1.
/// Empty (first > last) for registers that no instruction touches.
fn spans(code: &mut [Draft], blocks: &[Block], numbers: Numbering) -> Vec<(usize, usize)> {
    let alive = alive(code, blocks, numbers);
    let mut spans = vec![(usize::MAX, 0); numbers.1];
    let mut extend = |number: usize, moment: usize| {
        let span: &mut (usize, usize) = &mut spans[number];
        *span = (span.0.min(moment), span.1.max(moment));
    };
    for (at, block) in blocks.iter().enumerate() {
        alive.entry[at].each().for_each(|number| extend(number, 2 * block.start));
        alive.exit[at].each().for_each(|number| extend(number, 2 * block.end - 1));
    }
    for (at, draft) in code.iter_mut().enumerate() {
        let keeps = usize::from(register_uses::keeps_sources(&draft.instr.op));
        register_uses::visit(&mut draft.instr, &mut |file, reg, how| {
            let moment = if how == Use::Read { 2 * at + keeps } else { 2 * at + 1 };
            extend(numbers.of(file, *reg), moment);
        });
    }
    spans
}

/// Linear scan over lives in order of their start; returns the number of physical registers used.
fn scan(order: &[usize], spans: &[(usize, usize)], first: usize, regs: &mut [Reg]) -> u32 {
    let mut ending = std::collections::BinaryHeap::new();
    let mut free = Vec::new();
    let mut used = first;
    for &number in order {
        let (start, end) = spans[number];
        while let Some(&std::cmp::Reverse((last, reg))) = ending.peek() {
            if last >= start {
                break;
            }
            ending.pop();
            free.push(reg);
        }
        let reg = free.pop().unwrap_or_else(|| {
            used += 1;
            (used - 1) as Reg
        });
        regs[number] = reg;
        ending.push(std::cmp::Reverse((end, reg)));
    }
    used as u32
}
