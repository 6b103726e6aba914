//! The driver as a whole, from `cuInit` on: the device and the tables of live objects.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use super::abi::{Handle, Ordinal, export};
use super::capture::{Captures, Graph, GraphExec};
use super::context::Context;
use super::device::Device;
use super::event::Event;
use super::fault_injection::FaultInjection;
use super::host::HostMemory;
use super::model::Model;
use super::module::{Function, Module};
use super::pool::Pool;
use super::status::{Result, Status};
use super::stream::Stream;
use super::table::Table;
use crate::config::Config;
use crate::report;

/// Version of the emulated driver: CUDA 12.8.
pub const VERSION: i32 = 12080;
/// The newest PTX that such a driver reads.
pub const PTX_VERSION: (u32, u32) = (8, 7);

/// Everything the driver knows.
pub struct Driver {
    /// The settings.
    pub config: Config,
    /// The device.
    pub device: Device,
    /// Live contexts.
    pub contexts: Table<Context>,
    /// Live modules.
    pub modules: Table<Module>,
    /// Functions of live modules.
    pub functions: Table<Function>,
    /// Live streams, without the default ones.
    pub streams: Table<Stream>,
    /// Live events.
    pub events: Table<Event>,
    /// Live graphs.
    pub graphs: Table<Graph>,
    /// Live executable graphs.
    pub execs: Table<GraphExec>,
    /// Live memory pools.
    pub pools: Table<Pool>,
    /// Captures that have not ended.
    pub captures: Captures,
    /// Launches that fail and memory that is taken.
    pub faults: FaultInjection,
    /// Pinned memory.
    pub host: HostMemory,
    /// Numbers of streams and contexts.
    pub serial: AtomicU64,
}

static DRIVER: OnceLock<Result<Driver>> = OnceLock::new();

/// The driver, if `cuInit` has been called.
pub fn driver() -> Result<&'static Driver> {
    match DRIVER.get() {
        Some(Ok(driver)) => Ok(driver),
        Some(Err(status)) => Err(*status),
        None => Err(Status::NOT_INITIALIZED),
    }
}

impl Driver {
    fn new() -> Result<Driver> {
        let config = Config::from_environment().map_err(|error| {
            eprintln!("ptx-emulator: {error}");
            Status::INVALID_VALUE
        })?;
        if config.devices == 0 {
            return Err(Status::NO_DEVICE);
        }
        let model = Model::of(config.capability).ok_or(Status::INVALID_VALUE)?;
        let pools = Table::new(8);
        let device = Device::new(model, &config, pools.add(Pool::new))?;
        report::begin(&config).map_err(|error| {
            eprintln!("ptx-emulator: PTX_EMULATOR_LAUNCHES: {error}");
            Status::INVALID_VALUE
        })?;
        Ok(Driver {
            config,
            device,
            contexts: Table::new(1),
            modules: Table::new(2),
            functions: Table::new(3),
            streams: Table::new(4),
            events: Table::new(5),
            graphs: Table::new(6),
            execs: Table::new(7),
            pools,
            captures: Captures::default(),
            faults: FaultInjection::default(),
            host: HostMemory::default(),
            serial: AtomicU64::new(1),
        })
    }

    /// The device of an ordinal.
    pub fn device(&self, ordinal: Ordinal) -> Result<&Device> {
        if ordinal == 0 { Ok(&self.device) } else { Err(Status::INVALID_DEVICE) }
    }

    /// Ends all objects of a context.
    pub fn forget_context(&self, context: Handle) {
        self.captures.forget_context(context);
        self.execs.retain(|exec| exec.context != context);
        self.streams.retain(|stream| stream.context != context);
        self.events.retain(|event| event.context != context);
        self.functions.retain(|function| function.context != context);
        self.modules.retain(|module| module.context != context);
        self.device.free_all_of(context);
    }
}

export! {
    /// Reads the settings and makes the device.
    fn cuInit(flags: u32) {
        if flags != 0 {
            return Err(Status::INVALID_VALUE);
        }
        DRIVER.get_or_init(Driver::new).as_ref().map(|_| ()).map_err(|&status| status)
    }
}
