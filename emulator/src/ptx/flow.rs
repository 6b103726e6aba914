//! Basic blocks and where diverged lanes meet again.

use crate::ir::{NO_PC, Op, Pc};

use super::lower::Draft;

/// A run of instructions that is entered at its first one only.
#[derive(Debug, Clone)]
pub struct Block {
    /// First instruction.
    pub start: usize,
    /// One after the last.
    pub end: usize,
    /// Blocks that may follow; the exit is not among them.
    pub next: Vec<usize>,
    /// May a thread end here?
    pub exits: bool,
}

/// Cuts the code into blocks, in order. Branch targets must be resolved and inside the code.
pub fn blocks(code: &[Draft]) -> Vec<Block> {
    let mut starts = vec![false; code.len() + 1];
    starts[0] = true;
    for (at, draft) in code.iter().enumerate() {
        match &draft.instr.op {
            Op::Bra { target, .. } => starts[*target as usize] = true,
            Op::BraIndexed(branch) => branch.targets.iter().for_each(|&pc| starts[pc as usize] = true),
            Op::Exit | Op::Trap => {}
            _ => continue,
        }
        starts[at + 1] = true;
    }
    let bounds: Vec<usize> = (0..code.len()).filter(|&at| starts[at]).collect();
    let mut block_of = vec![0; code.len()];
    for (index, &start) in bounds.iter().enumerate() {
        let end = bounds.get(index + 1).copied().unwrap_or(code.len());
        block_of[start..end].fill(index);
    }
    (0..bounds.len()).map(|index| block(code, &bounds, &block_of, index)).collect()
}

fn block(code: &[Draft], bounds: &[usize], block_of: &[usize], index: usize) -> Block {
    let start = bounds[index];
    let end = bounds.get(index + 1).copied().unwrap_or(code.len());
    let last = &code[end - 1].instr;
    let mut next = Vec::new();
    let mut exits = false;
    let falls = match &last.op {
        Op::Bra { target, .. } => {
            next.push(block_of[*target as usize]);
            last.guard.is_some()
        }
        Op::BraIndexed(branch) => {
            next.extend(branch.targets.iter().map(|&pc| block_of[pc as usize]));
            last.guard.is_some()
        }
        Op::Exit | Op::Trap => {
            exits = true;
            last.guard.is_some()
        }
        _ => true,
    };
    if falls {
        if end < code.len() { next.push(block_of[end]) } else { exits = true }
    }
    next.sort_unstable();
    next.dedup();
    Block { start, end, next, exits }
}

/// Sets the reconvergence point of every branch: the start of its block's immediate post-dominator.
pub fn reconverge(code: &mut [Draft], blocks: &[Block]) {
    let meets = post_dominators(blocks);
    for (index, block) in blocks.iter().enumerate() {
        let pc = meets[index].map_or(NO_PC, |meet| blocks[meet].start as Pc);
        match &mut code[block.end - 1].instr.op {
            Op::Bra { reconverge, .. } => *reconverge = pc,
            Op::BraIndexed(branch) => branch.reconverge = pc,
            _ => {}
        }
    }
}

/// The immediate post-dominator of every block; None where that is the exit, or where no path leads to
/// it. The algorithm is that of Cooper, Harvey and Kennedy ("A simple, fast dominance algorithm") on the
/// reversed graph.
fn post_dominators(blocks: &[Block]) -> Vec<Option<usize>> {
    let exit = blocks.len();
    let order = reverse_post_order(blocks);
    let mut rank = vec![usize::MAX; exit + 1];
    for (position, &block) in order.iter().enumerate() {
        rank[block] = position;
    }
    let mut parent = vec![usize::MAX; exit + 1];
    parent[exit] = exit;
    let mut changed = true;
    while changed {
        changed = false;
        for &block in &order[1..] {
            let mut meet = usize::MAX;
            let followers = blocks[block].next.iter().copied().chain(blocks[block].exits.then_some(exit));
            for next in followers.filter(|&next| parent[next] != usize::MAX) {
                meet = if meet == usize::MAX { next } else { common(&parent, &rank, meet, next) };
            }
            changed |= std::mem::replace(&mut parent[block], meet) != meet;
        }
    }
    parent[..exit].iter().map(|&meet| (meet < exit).then_some(meet)).collect()
}

fn common(parent: &[usize], rank: &[usize], mut a: usize, mut b: usize) -> usize {
    while a != b {
        while rank[a] > rank[b] {
            a = parent[a];
        }
        while rank[b] > rank[a] {
            b = parent[b];
        }
    }
    a
}

/// Blocks that reach the exit, the exit first, each before those that only come to the exit through it
/// (reverse post-order of the reversed graph).
fn reverse_post_order(blocks: &[Block]) -> Vec<usize> {
    let exit = blocks.len();
    let mut before = vec![Vec::new(); exit + 1];
    for (index, block) in blocks.iter().enumerate() {
        block.next.iter().for_each(|&next| before[next].push(index));
        if block.exits {
            before[exit].push(index);
        }
    }
    let mut seen = vec![false; exit + 1];
    seen[exit] = true;
    let mut order = Vec::with_capacity(exit + 1);
    let mut stack = vec![(exit, 0)];
    while let Some((block, tried)) = stack.pop() {
        match before[block].get(tried) {
            Some(&previous) => {
                stack.push((block, tried + 1));
                if !std::mem::replace(&mut seen[previous], true) {
                    stack.push((previous, 0));
                }
            }
            None => order.push(block),
        }
    }
    order.reverse();
    order
}
