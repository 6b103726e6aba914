//! What a stream is given to do: done at once, or recorded while the stream is captured.

use std::ffi::c_void;
use std::sync::Arc;

use super::context::Context;
use super::event::Event;
use super::launch::Prepared;
use super::state::{Driver, driver};
use super::status::{Result, Status};
use super::stream::Stream;
use crate::memory::AccessError;

/// A function of the program that a stream calls.
pub type Callback = extern "C" fn(*mut c_void);

/// One side of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Device memory.
    Device(u64),
    /// Memory of the process.
    Host(usize),
}

impl Place {
    fn offset_by(self, bytes: usize) -> Place {
        match self {
            Place::Device(address) => Place::Device(address.wrapping_add(bytes as u64)),
            Place::Host(address) => Place::Host(address.wrapping_add(bytes)),
        }
    }
}

/// A rectangle of bytes to copy; a plain copy has one row.
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    /// First byte written.
    pub to: Place,
    /// First byte read.
    pub from: Place,
    /// Bytes of a row.
    pub bytes: usize,
    /// Rows.
    pub rows: usize,
    /// From row to row where it is written.
    pub to_pitch: usize,
    /// From row to row where it is read.
    pub from_pitch: usize,
}

/// A rectangle of elements to set.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// First byte.
    pub address: u64,
    /// The element, its low bytes.
    pub element: [u8; 4],
    /// Bytes of an element: 1, 2, 4.
    pub width: usize,
    /// Elements of a row.
    pub count: usize,
    /// Rows.
    pub rows: usize,
    /// Bytes from row to row.
    pub pitch: usize,
}

/// Something to do.
#[derive(Clone)]
pub enum Work {
    /// A kernel.
    Launch(Arc<Prepared>),
    /// A copy.
    Copy(Copy),
    /// A fill.
    Fill(Fill),
    /// A call of the program's function with its argument.
    Call(Callback, usize),
    /// An event's time.
    Record(Arc<Event>),
    /// Nothing but its place in the order: memory of a graph comes or goes, events from outside.
    Empty(Empty),
}

/// What [`Work::Empty`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empty {
    /// The graph's memory at this address is allocated.
    Allocate(u64),
    /// And freed.
    Free(u64),
    /// A wait for an event that is recorded outside.
    Wait,
}

/// Does the work, or records it if the stream is being captured.
pub fn submit(context: &Context, stream: &Stream, work: Work) -> Result {
    let driver = driver()?;
    if stream.is_legacy() {
        driver.captures.forbid_implicit(stream.context)?;
    }
    if driver.captures.record(stream, &work)? {
        return Ok(());
    }
    work.run(driver, context)
}

impl Work {
    /// Does it now.
    pub fn run(&self, driver: &Driver, context: &Context) -> Result {
        context.check()?;
        match self {
            Work::Launch(launch) => {
                let _turn = driver.device.busy();
                launch.run(driver, context)
            }
            Work::Copy(copy) => {
                let _turn = driver.device.busy();
                copy.run(driver).map_err(|error| refused("copy", &error))
            }
            Work::Fill(fill) => {
                let _turn = driver.device.busy();
                fill.run(driver).map_err(|error| refused("memset", &error))
            }
            Work::Call(function, argument) => {
                function(*argument as *mut c_void);
                Ok(())
            }
            Work::Record(event) => {
                event.record();
                Ok(())
            }
            Work::Empty(_) => Ok(()),
        }
    }

    /// The driver's number for this type of graph node.
    pub fn node_type(&self) -> u32 {
        match self {
            Work::Launch(_) => 0,
            Work::Copy(_) => 1,
            Work::Fill(_) => 2,
            Work::Call(..) => 3,
            Work::Empty(Empty::Wait) => 6,
            Work::Record(_) => 7,
            Work::Empty(Empty::Allocate(_)) => 10,
            Work::Empty(Empty::Free(_)) => 11,
        }
    }
}

fn refused(what: &str, error: &AccessError) -> Status {
    eprintln!("ptx-emulator: {what}: {error}");
    Status::INVALID_VALUE
}

impl Copy {
    /// `bytes` bytes that lie side by side.
    pub fn plain(to: Place, from: Place, bytes: usize) -> Copy {
        Copy { to, from, bytes, rows: 1, to_pitch: bytes, from_pitch: bytes }
    }

    fn run(&self, driver: &Driver) -> std::result::Result<(), AccessError> {
        if self.bytes == 0 {
            return Ok(());
        }
        for row in 0..self.rows {
            let to = self.to.offset_by(row.wrapping_mul(self.to_pitch));
            let from = self.from.offset_by(row.wrapping_mul(self.from_pitch));
            copy_row(driver, to, from, self.bytes)?;
        }
        Ok(())
    }
}

fn copy_row(driver: &Driver, to: Place, from: Place, bytes: usize) -> std::result::Result<(), AccessError> {
    let memory = &driver.device.memory;
    match (to, from) {
        (Place::Device(to), Place::Device(from)) => memory.copy(to, from, bytes as u64),
        (Place::Device(to), Place::Host(from)) => {
            memory.check(to, bytes as u64)?;
            // SAFETY: the program guarantees its own memory, as to the real driver; null was refused.
            memory.write(to, unsafe { std::slice::from_raw_parts(from as *const u8, bytes) })
        }
        (Place::Host(to), Place::Device(from)) => {
            memory.check(from, bytes as u64)?;
            // SAFETY: as above. The bytes may be uninitialised for Rust; they are only written.
            memory.read(from, unsafe { std::slice::from_raw_parts_mut(to as *mut u8, bytes) })
        }
        (Place::Host(to), Place::Host(from)) => {
            // SAFETY: as above.
            unsafe { std::ptr::copy(from as *const u8, to as *mut u8, bytes) };
            Ok(())
        }
    }
}

impl Fill {
    fn run(&self, driver: &Driver) -> std::result::Result<(), AccessError> {
        let element = &self.element[..self.width];
        for row in 0..self.rows {
            let address = self.address.wrapping_add(row.wrapping_mul(self.pitch) as u64);
            driver.device.memory.fill(address, element, self.count as u64)?;
        }
        Ok(())
    }
}
