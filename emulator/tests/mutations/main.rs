//! Mistakes put into this folder's kernels, one at a time: each is noticed under every schedule, by the
//! finding that is meant for it or, where no rule is broken, by other values. They are the kinds that
//! kernels with asynchronous copies, matrix instructions, shuffles and atomics can have; mistakes in
//! ordinary kernels are in pbe's `tests/mutations`.
//!
//! What goes unnoticed, and is no mistake here: a memory fence less. Memory is seen by all threads in the
//! order in which it is written.

mod ordinary;
#[path = "../support/mod.rs"]
mod support;
mod tensor;

use ptx_emulator::exec::Launch;
use ptx_emulator::fault::{Fault, Kind};
use ptx_emulator::patches::{Patch, apply};
use support::{Argument, Program};

const SEEDS: [u64; 3] = [0, 5, 6];

/// What has to notice.
#[derive(Clone, Copy)]
enum Caught {
    /// One of these findings: which of them may depend on the schedule.
    Finding(&'static [Kind]),
    /// The result, which is another.
    Value,
}
use Caught::{Finding, Value};

/// What is wrong, and the patches that make it so: what to find, which of its occurrences (0 where there
/// is one), and what to put there.
type Mutation = (&'static str, &'static [(&'static str, usize, &'static str)], Caught);

/// A kernel with arguments.
struct Subject {
    text: &'static str,
    kernel: &'static str,
    launch: Launch,
    /// Uploads what the kernel reads; the last is the result's address and its words.
    prepare: fn(&Program) -> (Vec<Argument>, u64, usize),
}

impl Subject {
    fn run(&self, text: &str, seed: u64) -> Result<Vec<u32>, Box<Fault>> {
        let mut program = Program::with_seed(text, seed);
        program.settings.limit = 2_000_000;
        let (arguments, result, words) = (self.prepare)(&program);
        program.try_run(self.kernel, self.launch.clone(), &arguments)?;
        Ok(program.download(result, words))
    }

    fn patched(&self, patches: &[(&str, usize, &str)]) -> String {
        let patch = |&(find, number, replace): &(&str, usize, &str)| Patch {
            kernel: self.kernel.to_string(),
            find: find.to_string(),
            replace: replace.to_string(),
            occurrence: (number > 0).then_some(number),
        };
        let patches: Vec<Patch> = patches.iter().map(patch).collect();
        let (text, done) = apply(self.text, &patches).unwrap();
        assert_eq!(done.len(), patches.len());
        text
    }

    fn survive_none(&self, mutations: &[Mutation]) {
        let right = self.run(self.text, 0).unwrap();
        for seed in SEEDS {
            assert_eq!(self.run(self.text, seed).unwrap(), right, "{}, seed {seed}", self.kernel);
            for (what, patches, caught) in mutations {
                let result = self.run(&self.patched(patches), seed);
                match (result, caught) {
                    (Ok(values), Value) => assert_ne!(values, right, "survives: {what}, seed {seed}"),
                    (Ok(_), Finding(kinds)) => panic!("{what}, seed {seed}: no {kinds:?}"),
                    (Err(fault), Value) => panic!("{what}, seed {seed}: {fault:#?}"),
                    (Err(fault), Finding(kinds)) => {
                        assert!(kinds.contains(&fault.kind), "{what}, seed {seed}: {fault:#?}");
                        assert_eq!(fault.place.kernel, self.kernel);
                        assert!(fault.place.source.is_some_and(|(_, line)| line > 0), "{what}");
                    }
                }
            }
        }
    }
}
