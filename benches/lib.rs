//! Nothing but the benchmarks: `cargo bench -p pbe-benches`.
