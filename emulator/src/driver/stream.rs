//! Streams. All work is done when it is given, so they only have an identity, and can be captured.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::abi::{Handle, Host, Ordinal, Out, export};
use super::context::Context;
use super::state::driver;
use super::status::{Result, Status};
use super::work::{Callback, Work, submit};

/// Priorities go from this.
pub const LEAST_PRIORITY: i32 = 0;
/// To this.
pub const GREATEST_PRIORITY: i32 = -5;
/// Flag of a stream that does not wait for the legacy one.
const NON_BLOCKING: u32 = 1;
/// `CU_STREAM_LEGACY`.
const LEGACY: Handle = 1;
/// `CU_STREAM_PER_THREAD`.
const PER_THREAD: Handle = 2;

/// A stream.
pub struct Stream {
    /// Its own; the default streams have their context's with a low bit set.
    pub handle: Handle,
    /// Its context.
    pub context: Handle,
    /// As created.
    pub flags: u32,
    priority: i32,
    serial: u64,
}

impl Stream {
    /// The legacy default stream of a context.
    pub fn legacy(context: Handle) -> Stream {
        Stream { handle: context | LEGACY, context, flags: 0, priority: 0, serial: LEGACY as u64 }
    }

    /// The default stream of threads.
    pub fn per_thread(context: Handle) -> Stream {
        Stream { handle: context | PER_THREAD, context, flags: 0, priority: 0, serial: PER_THREAD as u64 }
    }

    /// The stream that waits for all others?
    pub fn is_legacy(&self) -> bool {
        self.handle & 3 == LEGACY
    }

    /// Does it wait for the legacy stream?
    pub fn is_blocking(&self) -> bool {
        self.flags & NON_BLOCKING == 0
    }

    /// The stream of a handle, and its context, which no fault has ended.
    pub fn of(handle: Handle) -> Result<(Arc<Context>, Arc<Stream>)> {
        let current = Context::healthy()?;
        match handle {
            0 | LEGACY => {
                let stream = current.legacy.clone();
                Ok((current, stream))
            }
            PER_THREAD => {
                let stream = current.per_thread.clone();
                Ok((current, stream))
            }
            _ => {
                let driver = driver()?;
                let stream = driver.streams.get(handle)?;
                let context =
                    driver.contexts.get(stream.context).map_err(|_| Status::CONTEXT_IS_DESTROYED)?;
                context.check()?;
                Ok((context, stream))
            }
        }
    }
}

fn create(stream: Out<Handle>, flags: u32, priority: i32) -> Result {
    let context = Context::healthy()?;
    if flags & !NON_BLOCKING != 0 || !stream.wanted() {
        return Err(Status::INVALID_VALUE);
    }
    let driver = driver()?;
    let serial = driver.serial.fetch_add(1, Ordering::Relaxed) + PER_THREAD as u64;
    let priority = priority.clamp(GREATEST_PRIORITY, LEAST_PRIORITY);
    let context = context.handle;
    stream.set(driver.streams.add(|handle| Stream { handle, context, flags, priority, serial }).handle)
}

/// A call that waits for a stream. Everything has been done already, but a captured stream can't be waited for.
fn wait(stream: Handle) -> Result {
    let (context, stream) = Stream::of(stream)?;
    let captures = &driver()?.captures;
    captures.forbid_on(&stream)?;
    if stream.is_legacy() {
        captures.forbid_implicit(context.handle)?;
    }
    Ok(())
}

export! {
    /// A stream.
    fn cuStreamCreate(stream: Out<Handle>, flags: u32) {
        create(stream, flags, LEAST_PRIORITY)
    }

    /// A stream; the priority, cut to the range, is only remembered.
    fn cuStreamCreateWithPriority(stream: Out<Handle>, flags: u32, priority: i32) {
        create(stream, flags, priority)
    }

    /// Ends a stream.
    fn cuStreamDestroy_v2(stream: Handle) {
        Context::current()?;
        let driver = driver()?;
        driver.captures.abandon(&*driver.streams.remove(stream)?);
        Ok(())
    }

    /// Waits.
    fn cuStreamSynchronize(stream: Handle) {
        wait(stream)
    }

    /// Always done.
    fn cuStreamQuery(stream: Handle) {
        wait(stream)
    }

    /// Its priority.
    fn cuStreamGetPriority(stream: Handle, priority: Out<i32>) {
        priority.set(Stream::of(stream)?.1.priority)
    }

    /// Its flags.
    fn cuStreamGetFlags(stream: Handle, flags: Out<u32>) {
        flags.set(Stream::of(stream)?.1.flags)
    }

    /// Its number.
    fn cuStreamGetId(stream: Handle, serial: Out<u64>) {
        serial.set(Stream::of(stream)?.1.serial)
    }

    /// Its context.
    fn cuStreamGetCtx(stream: Handle, context: Out<Handle>) {
        context.set(Stream::of(stream)?.1.context)
    }

    /// Its device.
    fn cuStreamGetDevice(stream: Handle, device: Out<Ordinal>) {
        Stream::of(stream)?;
        device.set(0)
    }

    /// Nothing to attach: managed memory is one memory here.
    fn cuStreamAttachMemAsync(stream: Handle, address: u64, _bytes: usize, flags: u32) {
        Stream::of(stream)?;
        let known = driver()?.device.allocation(address).is_some();
        if known && matches!(flags, 1 | 2 | 4) { Ok(()) } else { Err(Status::INVALID_VALUE) }
    }

    /// Calls a function of the program.
    fn cuLaunchHostFunc(stream: Handle, function: Option<Callback>, argument: Host) {
        let (context, stream) = Stream::of(stream)?;
        let function = function.ok_or(Status::INVALID_VALUE)?;
        submit(&context, &stream, Work::Call(function, argument as usize))
    }

    /// Calls a function of the program with the stream and its state.
    fn cuStreamAddCallback(
        stream: Handle,
        function: Option<extern "C" fn(Handle, u32, Host)>,
        argument: Host,
        flags: u32,
    ) {
        let (context, real) = Stream::of(stream)?;
        let function = function.ok_or(Status::INVALID_VALUE)?;
        if flags != 0 {
            return Err(Status::INVALID_VALUE);
        }
        driver()?.captures.forbid_on(&real)?;
        function(stream, context.check().err().map_or(0, |status| status.0), argument);
        Ok(())
    }
}
