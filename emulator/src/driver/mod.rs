//! The driver's C functions.
//!
//! | file | |
//! |---|---|
//! | `abi` | what crosses the C boundary; [`abi::guard`] frames every function |
//! | `status` | result codes |
//! | `state`, `table` | the driver as a whole; live objects by handle |
//! | `model`, `device` | the emulated device |
//! | `context`, `stream`, `event` | |
//! | `memory`, `pool`, `host`, `copy`, `fill`, `pointer` | memory |
//! | `module`, `function`, `launch`, `occupancy` | kernels |
//! | `work` | work given to a stream |
//! | `capture`, `graph` | streams that record, and the graphs that come of it |
//! | `fault_injection` | launches that fail and memory that is taken, as the settings ask |
//! | `process` | functions by name |
//! | `unsupported` | all other functions |
//!
//! Everything is done at once, in the call that asks for it, so streams are always idle. A launch that
//! fails says so itself (as with `CUDA_LAUNCH_BLOCKING=1`) and every later call in its context does too.

pub mod abi;
pub mod capture;
pub mod context;
pub mod copy;
pub mod device;
pub mod event;
pub mod fault_injection;
pub mod fill;
pub mod function;
pub mod graph;
pub mod host;
pub mod launch;
pub mod memory;
pub mod model;
pub mod module;
pub mod occupancy;
pub mod pointer;
pub mod pool;
pub mod process;
pub mod state;
pub mod status;
pub mod stream;
pub mod table;
pub mod unsupported;
pub mod work;
