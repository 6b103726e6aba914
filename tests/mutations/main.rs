//! Mistakes put into the CUDA source of the program's kernels, one at a time: `pbe selftest --device cuda` on the
//! emulator notices every one, by the finding that is meant for it or by a row that fails.
//!
//! That needs nvcc and takes minutes: `scripts/mutations.sh` runs it. Without nvcc it is only checked that every
//! mutation still fits its kernel, and that there are some of every kind, in every kernel.

#[allow(dead_code)]
#[path = "../cli/emulated.rs"]
mod emulated;
#[allow(dead_code)]
#[path = "../cli/program.rs"]
mod program;
mod run;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Instant;

use table::{MISTAKES, all, names, sources};

#[test]
fn every_mutation_fits_its_kernel() {
    let misfits = all().into_iter().filter_map(|one| one.apply(&mut sources(&one.module)).err());
    let misfits: Vec<String> = misfits.collect();
    assert!(misfits.is_empty(), "\n{}", misfits.join("\n"));
}

#[test]
fn every_kernel_and_every_kind_of_mistake_has_mutations() {
    let all = all();
    let kinds: BTreeSet<&str> = all.iter().map(|one| one.mistake.as_str()).collect();
    assert_eq!(kinds, MISTAKES.iter().map(|(name, _)| *name).collect());
    for entry in std::fs::read_dir("kernels/ptx").unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for kernel in text.split(".entry ").skip(1).filter_map(|rest| Some(rest.split_once('(')?.0)) {
            assert!(all.iter().any(|one| names(&one.kernels, kernel)), "no mutation of {kernel}");
        }
    }
}

/// `PBE_MUTATIONS` has what a mutation's label needs to have in it to be run.
#[test]
#[ignore = "needs nvcc and minutes: scripts/mutations.sh"]
fn every_mutation_is_caught() {
    let start = Instant::now();
    let wanted = std::env::var("PBE_MUTATIONS").unwrap_or_default();
    let all: Vec<_> = all().into_iter().filter(|one| one.label().contains(&wanted)).collect();
    // The longest first; for each module and precision one without a mistake.
    let mut queue: Vec<_> = all.iter().map(|one| (one, true)).collect();
    let modules: BTreeMap<_, _> =
        all.iter().map(|one| ((&one.module, one.precision.to_string()), one)).collect();
    queue.extend(modules.into_values().map(|one| (one, false)));
    queue.sort_by_key(|(one, _)| std::fs::metadata(format!("kernels/ptx/{}.ptx", one.module)).unwrap().len());
    let (queue, escaped) = (Mutex::new(queue), Mutex::new(vec![]));
    let workers = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().pop();
                    let Some((one, mutated)) = next else { break };
                    let seen = if mutated { run::escapes(one) } else { run::unchanged_fails(one) };
                    if let Some(seen) = seen {
                        println!("{seen}");
                        escaped.lock().unwrap().push(seen);
                    }
                }
            });
        }
    });
    println!("{} mutations, {workers} workers, {:.0} s", all.len(), start.elapsed().as_secs_f64());
    let escaped = escaped.into_inner().unwrap();
    assert!(escaped.is_empty(), "{} of {}:\n{}", escaped.len(), all.len(), escaped.join("\n"));
}
