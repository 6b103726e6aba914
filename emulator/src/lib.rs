//! A CUDA driver without a GPU: a library with the driver's ABI that executes PTX on the CPU, checks
//! it for what a GPU would never tell, and counts what decides its speed.
//!
//! | folder | |
//! |---|---|
//! | `ptx/` | PTX text in, [`ir::Module`] out; whatever it doesn't know is an error naming it |
//! | `ir` | decoded instructions over register files |
//! | `exec/` | blocks, warps, instructions; the checks and the counters |
//! | `memory` | device memory: allocations, bounds, what has been written |
//! | `driver/` | the driver's C functions |
//! | `config`, `report` | settings from the environment; findings and counters as JSON |
//! | `patches` | PTX text with mistakes put into it, to test tests |

pub mod config;
pub mod driver;
pub mod exec;
pub mod fault;
pub mod ir;
pub mod memory;
pub mod patches;
pub mod ptx;
pub mod report;
