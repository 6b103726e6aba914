//! Every reader of bytes that come from elsewhere, on random inputs: none may panic, hang or take memory
//! without bounds. What it returns doesn't matter.
//!
//! Inputs follow from a seed: real files, changed (`mutate`), with the checksums of zip and PNG made right again, and
//! pickles from a grammar. Coverage doesn't guide it: that takes a C++ compiler and a second build of all
//! dependencies, and this runs wherever `cargo test` does.
//!
//! | variable | |
//! |---|---|
//! | `PBE_FUZZ_SECONDS` | how long each reader is tried; 1 where it isn't set |
//! | `PBE_FUZZ_SEED` | where the seeds begin; 0 where it isn't set |
//!
//! A failure names the seed, with which `PBE_FUZZ_SEED` repeats it as the first. Memory is limited from outside, by
//! `ulimit -v`; the input that broke the limit is still in the folder that is printed.

mod images;
mod models;
mod mutate;
mod runs;
mod settings;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mutate::Random;

/// Seconds that a reader may take for one input, on a machine that does other things too.
const LONGEST: Duration = Duration::from_secs(20);

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Calls `read` with one seed after the other, each with a folder for its files.
fn fuzz(name: &'static str, read: impl Fn(&mut Random, &Path)) {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    let folder = tempfile::Builder::new().prefix(&format!("pbe-fuzz-{name}-")).tempdir_in(parent).unwrap();
    let first = setting("PBE_FUZZ_SEED", 0);
    println!("{name}: from seed {first}, in {}", folder.path().display());
    let clock = Instant::now();
    let end = Duration::from_secs(setting("PBE_FUZZ_SECONDS", 1));
    let (seed, done) = (Arc::new(AtomicU64::new(first)), Arc::new(AtomicU64::new(0)));
    watch(name, Arc::clone(&seed), &done);
    while clock.elapsed() < end {
        let number = seed.load(Ordering::Relaxed);
        let mut random = Random::new(number);
        if catch_unwind(AssertUnwindSafe(|| read(&mut random, folder.path()))).is_err() {
            let kept = folder.keep();
            panic!(
                "{name} panics on seed {number}: PBE_FUZZ_SEED={number} repeats it, the files are in {}",
                kept.display()
            );
        }
        seed.store(number + 1, Ordering::Relaxed);
    }
    drop(done);
    println!("{name}: {} inputs", seed.load(Ordering::Relaxed) - first);
}

/// Ends the process if a seed takes too long; stops when `done` is dropped.
fn watch(name: &'static str, seed: Arc<AtomicU64>, done: &Arc<AtomicU64>) {
    let done = Arc::downgrade(done);
    std::thread::spawn(move || {
        let mut last = (seed.load(Ordering::Relaxed), Instant::now());
        while done.strong_count() > 0 {
            std::thread::sleep(Duration::from_millis(200));
            let now = seed.load(Ordering::Relaxed);
            if now != last.0 {
                last = (now, Instant::now());
            } else if last.1.elapsed() > LONGEST && done.strong_count() > 0 {
                eprintln!("{name} doesn't end on seed {now}");
                std::process::abort();
            }
        }
    });
}
