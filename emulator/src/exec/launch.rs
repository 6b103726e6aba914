//! A launch: blocks spread over threads.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::block::Block;
use super::context::{Context, GlobalRaces, Stats};
use super::plan::Plan;
use super::random::Random;
use super::{Counters, Launch, Settings};
use crate::fault::{Fault, Kind, Place};
use crate::ir::Kernel;
use crate::memory::GlobalMemory;

/// Turns of warps between two looks at whether another thread has found a fault.
const TURNS: u64 = 64;

/// Runs a kernel to its end. The first finding ends it.
///
/// The driver refuses sizes beyond the device's limits before a launch. Here an empty grid or block, one of
/// more than 1024 threads, and parameters shorter than the kernel's are a [`Kind::Trap`].
pub fn launch(
    kernel: &Kernel,
    launch: &Launch,
    memory: &GlobalMemory,
    settings: &Settings,
) -> Result<Counters, Box<Fault>> {
    let plan = Plan::new(kernel);
    let (records, number) = memory.begin_launch();
    let blocks = launch.grid.iter().fold(1u64, |product, &count| product.saturating_mul(count.into()));
    let checks = settings.checks;
    if let Some(reason) = refuse(kernel, launch, &plan) {
        let place = Place { kernel: kernel.name.clone(), ..Place::default() };
        return Err(Box::new(Fault { kind: Kind::Trap, place, address: None, detail: reason, other: None }));
    }
    let races = records.filter(|_| checks.global_races).map(|records| GlobalRaces {
        records,
        epoch: records.epoch(number),
        shift: plan.global_shift,
        released: if plan.fences { (0..blocks).map(|_| AtomicU64::new(0)).collect() } else { Vec::new() },
        moments: AtomicU64::new(0),
    });
    let checked =
        checks.out_of_bounds || checks.use_after_free || memory.keeps_initialised() || races.is_some();
    let context = Context {
        kernel,
        plan: &plan,
        launch,
        settings,
        memory,
        allocations: memory.allocations(),
        reserved: memory.reserved(),
        checked,
        races,
        shared_shift: plan.shared_shift,
        shared_bytes: kernel.shared_bytes.saturating_add(launch.dynamic_shared),
        started: Instant::now(),
        left: AtomicU64::new(settings.limit),
    };
    let mut total = Stats::new(kernel.code.len());
    for part in run_blocks(&context, blocks)? {
        total.add(&part);
    }
    Ok(plan.counters(kernel, total))
}

fn refuse(kernel: &Kernel, launch: &Launch, plan: &Plan) -> Option<String> {
    let threads = launch.block.iter().fold(1u64, |product, &count| product.saturating_mul(count.into()));
    if launch.grid.contains(&0) || threads == 0 || threads > 1024 {
        return Some(format!("grid {:?} of blocks {:?}", launch.grid, launch.block));
    }
    if launch.params.len() < kernel.param_bytes as usize {
        return Some(format!(
            "{} bytes of parameters instead of {}",
            launch.params.len(),
            kernel.param_bytes
        ));
    }
    plan.invalid.clone()
}

impl Stats {
    fn add(&mut self, other: &Stats) {
        self.counters += &other.counters;
        self.hits.iter_mut().zip(&other.hits).for_each(|(own, other)| *own += other);
        self.lanes.iter_mut().zip(&other.lanes).for_each(|(own, other)| *own += other);
    }
}

/// Which block is the `n`-th to run: a bijection, the identity without a seed.
struct Order {
    blocks: u64,
    step: u64,
    offset: u64,
}

impl Order {
    fn new(blocks: u64, seed: u64) -> Order {
        if seed == 0 || blocks < 2 {
            return Order { blocks, step: 1, offset: 0 };
        }
        let mut random = Random::new(seed, 0);
        let mut step = 1 + random.below(blocks - 1);
        while greatest_common_divisor(step, blocks) != 1 {
            step -= 1;
        }
        Order { blocks, step, offset: random.below(blocks) }
    }

    fn block(&self, n: u64) -> u64 {
        let product = u128::from(n) * u128::from(self.step) + u128::from(self.offset);
        (product % u128::from(self.blocks)) as u64
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// State that the emulator's threads share while blocks run.
struct Progress {
    order: Order,
    next: AtomicU64,
    stop: AtomicBool,
    fault: Mutex<Option<Box<Fault>>>,
}

fn run_blocks(context: &Context, blocks: u64) -> Result<Vec<Stats>, Box<Fault>> {
    let progress = Progress {
        order: Order::new(blocks, context.settings.seed),
        next: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        fault: Mutex::new(None),
    };
    let threads = (context.settings.threads.max(1) as u64).min(blocks);
    let stats = if context.launch.cooperative {
        vec![together(context, blocks, &progress)]
    } else if threads == 1 {
        vec![one_by_one(context, blocks, &progress)]
    } else {
        std::thread::scope(|scope| {
            let run = || one_by_one(context, blocks, &progress);
            let running: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
            let mut stats = vec![run()];
            for thread in running {
                stats.push(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            stats
        })
    };
    match progress.fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(fault) => Err(fault),
        None => Ok(stats),
    }
}

impl Progress {
    fn report(&self, fault: Box<Fault>) {
        self.stop.store(true, Ordering::Relaxed);
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
    }
}

/// Takes the next block until there is none.
fn one_by_one(context: &Context, blocks: u64, progress: &Progress) -> Stats {
    let mut stats = Stats::new(context.kernel.code.len());
    let mut block = Block::new(context);
    loop {
        let n = progress.next.fetch_add(1, Ordering::Relaxed);
        if n >= blocks {
            return stats;
        }
        block.start(context, &mut stats, progress.order.block(n));
        loop {
            if progress.stop.load(Ordering::Relaxed) {
                return stats;
            }
            match block.run(context, &mut stats, TURNS) {
                Ok(true) => break,
                Ok(false) => {}
                Err(fault) => {
                    progress.report(fault);
                    return stats;
                }
            }
        }
    }
}

/// All blocks at once, a turn each.
fn together(context: &Context, blocks: u64, progress: &Progress) -> Stats {
    let mut stats = Stats::new(context.kernel.code.len());
    let mut running: Vec<Block> = (0..blocks)
        .map(|n| {
            let mut block = Block::new(context);
            block.start(context, &mut stats, progress.order.block(n));
            block
        })
        .collect();
    while !running.is_empty() {
        let mut index = 0;
        while index < running.len() {
            match running[index].run(context, &mut stats, 1) {
                Ok(true) => drop(running.swap_remove(index)),
                Ok(false) => index += 1,
                Err(fault) => {
                    progress.report(fault);
                    return stats;
                }
            }
        }
    }
    stats
}
